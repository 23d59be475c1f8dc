"""From how a user declares a processor's input to examples of it, and to inputs that no one should send.

An input is declared by examples, by a pydantic model or by a JSON schema, of which the smallest value is made.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from harness.errors import UsageError
from harness.model.json_value import json_problem

MOST_EXAMPLES = 10
"""Drawn from a strategy."""
MOST_KEYS = 8
"""Keys of an example that are damaged one by one."""
_LONG = 1_000_000


def examples_of(declared: Any, examples: Sequence[Any]) -> list[Any]:
    """Return examples: those given, else from a pydantic model, a JSON schema or a Hypothesis strategy.

    Raises UsageError where there is none, or one that JSON cannot hold.
    """
    found = list(examples) or _drawn(declared)
    for number, example in enumerate(found):
        problem = json_problem(example)
        if problem is not None:
            raise UsageError(f"input example {number + 1} is not JSON: {problem}", hint="A job's input is JSON.")
    return [json.loads(json.dumps(example)) for example in found]


def _drawn(declared: Any) -> list[Any]:
    if declared is None:
        raise UsageError(
            "the contract has no input to try the processor on",
            hint="Set examples = [...], or input = a pydantic model, a JSON schema or a Hypothesis strategy.",
        )
    if isinstance(declared, dict):
        return [schema_example(declared)]
    schema = getattr(declared, "model_json_schema", None)
    if isinstance(declared, type) and callable(schema):
        example = schema_example(schema())
        return [declared.model_validate(example).model_dump(mode="json", by_alias=True)]  # type: ignore[attr-defined]
    if hasattr(declared, "example") and hasattr(declared, "map"):
        return _from_strategy(declared)
    raise UsageError(
        f"input is {declared!r}: neither a pydantic model, nor a JSON schema, nor a Hypothesis strategy",
        hint="Or set examples = [...].",
    )


def _from_strategy(strategy: Any) -> list[Any]:
    from hypothesis import HealthCheck, Phase, given, settings

    found: list[Any] = []

    @settings(
        max_examples=MOST_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(value: Any) -> None:
        if value not in found:
            found.append(value)

    draw()
    return found


def hostile_inputs(example: Any) -> list[tuple[str, Any]]:
    """Return invalid inputs, each wrong in one way, with what is wrong: a client will send one some day."""
    found: list[tuple[str, Any]] = [
        ("null", None),
        ("an empty object", {}),
        ("an empty list", []),
        ("text", "text"),
        ("a number", -1),
        ("nested 200 levels deep", _nested(200)),
        ("a million characters", "x" * _LONG),
    ]
    if isinstance(example, dict):
        for key in list(example)[:MOST_KEYS]:
            found += [(f"{what} {key!r}", value) for what, value in _damaged(example, key)]
        found.append(("an extra key", {**copy.deepcopy(example), "unexpected": {"a": [1]}}))
        found.append(("ten thousand extra keys", {**copy.deepcopy(example), **{f"k{n}": n for n in range(10_000)}}))
    return found


def _damaged(example: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    def with_value(value: Any) -> dict[str, Any]:
        return {**copy.deepcopy(example), key: value}

    without = {name: copy.deepcopy(value) for name, value in example.items() if name != key}
    found = [("without", without), ("null as", with_value(None)), ("another type as", with_value(_other(example[key])))]
    if isinstance(example[key], str):
        found += [
            ("an empty text as", with_value("")),
            ("a NUL character in", with_value("a\x00b")),
            ("a lone surrogate in", with_value("a\ud800b")),
            ("a million characters as", with_value("x" * _LONG)),
        ]
    elif isinstance(example[key], int | float) and not isinstance(example[key], bool):
        found += [("a negative", with_value(-1)), ("a huge", with_value(10**30)), ("zero as", with_value(0))]
    return found


def _other(value: Any) -> Any:
    match value:
        case bool() | None:
            return "text"
        case str():
            return {"text": value}
        case int() | float():
            return "text"
        case _:
            return 7


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


DEEPEST = 20
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def schema_example(schema: Any) -> Any:
    """Return a value for a JSON schema. Raises UsageError where it takes a pattern or a rule that is not understood."""
    return _Maker(schema).make(schema, "$", 0)


class _Maker:
    def __init__(self, root: Any) -> None:
        self._root = root

    def make(self, schema: Any, where: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise UsageError(f"the input schema nests without end at {where}", hint="Give examples = [...] instead.")
        if schema is True or schema == {}:
            return None
        if not isinstance(schema, dict):
            raise UsageError(f"the input schema allows nothing at {where}: {schema!r}")
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("examples", "enum"):
            if schema.get(key):
                return schema[key][0]
        if "$ref" in schema:
            return self.make(self._resolve(schema["$ref"]), where, depth + 1)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self.make(schema[key][0], where, depth + 1)
        if schema.get("allOf"):
            merged: dict[str, Any] = {}
            for part in schema["allOf"]:
                whole = self._resolve(part["$ref"]) if "$ref" in part else part
                merged["properties"] = {**merged.get("properties", {}), **whole.get("properties", {})}
                merged["required"] = [*merged.get("required", []), *whole.get("required", [])]
                merged |= {key: value for key, value in whole.items() if key not in ("properties", "required")}
            return self.make(merged, where, depth + 1)
        return self._of_type(schema, where, depth)

    def _of_type(self, schema: dict[str, Any], where: str, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else None)
        match kind[0] if isinstance(kind, list) else kind:
            case "object":
                known = schema.get("properties", {})
                needed = dict.fromkeys([*schema.get("required", []), *known])
                return {name: self.make(known.get(name, {}), f"{where}.{name}", depth + 1) for name in needed}
            case "array":
                return [self.make(schema.get("items", {}), f"{where}[]", depth + 1)] * max(1, schema.get("minItems", 1))
            case "string":
                return self._text(schema, where)
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return True
            case _:
                return None

    def _text(self, schema: dict[str, Any], where: str) -> str:
        if "pattern" in schema:
            raise UsageError(
                f"the input schema wants text like {schema['pattern']!r} at {where}, which is not made up here",
                hint="Give examples = [...] beside it.",
            )
        if "format" in schema:
            return _FORMATS.get(schema["format"], "text")
        text = "text".ljust(schema.get("minLength", 0), "t")
        return text[: schema.get("maxLength", len(text))]

    def _resolve(self, reference: str) -> Any:
        found = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            found = found[part] if part else found
        return found


def _number(schema: dict[str, Any]) -> Any:
    low = schema.get("minimum")
    if low is None and "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + 1
    if low is not None:
        return low
    high = schema.get("maximum")
    if high is None and "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - 1
    return 1 if high is None or high >= 1 else high
