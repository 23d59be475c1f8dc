"""From how a user declares a processor's input to examples of it, and to inputs that no one should send.

An input is declared by examples, by a pydantic model or by a JSON schema. Of these the simplest
value is made here, and more are drawn by Hypothesis.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from job_harness.core.model import json_problem
from job_harness.errors import UsageError

MOST_EXAMPLES = 10
"""Drawn from a strategy."""
MOST_KEYS = 8
"""Keys of an example that are damaged one by one."""
_LONG = 1_000_000


def examples_of(declared: Any, examples: Sequence[Any]) -> list[Any]:
    """Return examples: those given, else from a pydantic model, a JSON schema or a Hypothesis strategy.

    Raises UsageError if there is none, or one that JSON cannot hold.
    """
    if isinstance(examples, str | bytes | Mapping):
        raise UsageError(
            f"examples is one {type(examples).__name__}, so each part of it would be an input",
            hint="Set examples = [...], a list of inputs.",
        )
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
        return _of_schema(declared)
    schema = getattr(declared, "model_json_schema", None)
    if isinstance(declared, type) and callable(schema):
        validate: Any = declared.model_validate  # type: ignore[attr-defined]  # it is a model of pydantic
        return _of_schema(schema(), valid=lambda value: validate(value).model_dump(mode="json", by_alias=True))
    if hasattr(declared, "example") and hasattr(declared, "map"):
        return _from_strategy(declared)
    raise UsageError(
        f"input is {declared!r}: neither a pydantic model, nor a JSON schema, nor a Hypothesis strategy",
        hint="Or set examples = [...].",
    )


def _of_schema(schema: dict[str, Any], *, valid: Callable[[Any], Any] = lambda value: value) -> list[Any]:
    """Return the simplest value of a schema, and drawn ones; a model may have rules of its own that some break.

    Raises UsageError if there is none.
    """
    found: list[Any] = []
    refused: UsageError | None = None
    try:
        found.append(valid(_Maker(schema).make(schema, "$", 0)))
    except UsageError as error:
        refused = error
    for value in _drawn_from_schema(schema):
        with contextlib.suppress(ValueError):  # pydantic's ValidationError is one
            if (kept := valid(value)) not in found:
                found.append(kept)
    if not found and refused is not None:
        raise refused
    return found[:MOST_EXAMPLES]


def _drawn_from_schema(schema: dict[str, Any]) -> list[Any]:
    from hypothesis.errors import HypothesisException

    try:
        return _from_strategy(_Strategies(schema).of(schema, 0).filter(lambda value: json_problem(value) is None))
    except (UsageError, HypothesisException, re.error, ValueError, TypeError, LookupError):
        return []  # It says something that is not understood here, or contradicts itself: the simplest value remains.


class _Strategies:
    """Hypothesis strategies for the parts of a JSON schema.

    hypothesis-jsonschema is what this would be, but its last release (0.23.1) stands on internals
    that Hypothesis has changed since: it cannot draw an object with 6.170.
    """

    def __init__(self, root: Any) -> None:
        from hypothesis import strategies

        self._root = root
        self._st = strategies

    def of(self, schema: Any, depth: int) -> Any:
        """Return what draws values of this part; beyond a depth, only the simplest one."""
        if not isinstance(schema, dict) or schema == {} or depth > DEEPEST_DRAWN:
            return self._st.just(_Maker(self._root).make(schema, "$", DEEPEST_DRAWN))
        if "$ref" in schema:
            return self.of(_resolved(self._root, schema["$ref"]), depth + 1)
        if "const" in schema:
            return self._st.just(schema["const"])
        if schema.get("enum"):
            return self._st.sampled_from(schema["enum"])
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self._st.one_of([self.of(each, depth + 1) for each in schema[key]])
        if schema.get("allOf"):
            return self.of(_merged(self._root, schema["allOf"]), depth + 1)
        kinds = schema.get("type", "object" if "properties" in schema else "null")
        return self._st.one_of(
            [self._typed(kind, schema, depth) for kind in (kinds if isinstance(kinds, list) else [kinds])]
        )

    def _typed(self, kind: str, schema: dict[str, Any], depth: int) -> Any:
        st = self._st
        match kind:
            case "object":
                parts = {name: self.of(part, depth + 1) for name, part in schema.get("properties", {}).items()}
                needed = {name: parts.pop(name, st.none()) for name in schema.get("required", [])}
                return st.fixed_dictionaries(needed, optional=parts)
            case "array":
                least, most = schema.get("minItems", 0), schema.get("maxItems")
                unique = repr if schema.get("uniqueItems") else None
                items = self.of(schema.get("items", {}), depth + 1)
                return st.lists(items, min_size=least, max_size=least + 5 if most is None else most, unique_by=unique)
            case "string":
                return self._text(schema)
            case "integer":
                low, high = _bounds(schema)
                step = schema.get("multipleOf", 1)
                scaled = [None if each is None else each // step for each in (low, high)]
                return st.integers(*scaled).map(lambda value: value * step)
            case "number":
                low, high = schema.get("minimum"), schema.get("maximum")
                return st.floats(low, high, allow_nan=False, allow_infinity=False).filter(
                    lambda value: value not in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum"))
                )
            case "boolean":
                return st.booleans()
            case _:
                return st.none()

    def _text(self, schema: dict[str, Any]) -> Any:
        st = self._st
        if "pattern" in schema:
            return st.from_regex(schema["pattern"], alphabet=st.characters(codec="utf-8", exclude_characters="\0"))
        if schema.get("format") in _FORMATS:
            drawn = {"email": st.emails(), "uuid": st.uuids().map(str), "date": st.dates().map(str)}
            return drawn.get(schema["format"], st.just(_FORMATS[schema["format"]]))
        characters = st.characters(codec="utf-8", exclude_characters="\0")
        return st.text(characters, min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))


DEEPEST_DRAWN = 6
"""Levels at which something is drawn; below, it is as simple as can be."""


def _bounds(schema: dict[str, Any]) -> tuple[int | None, int | None]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if (above := schema.get("exclusiveMinimum")) is not None:
        low = max(math.floor(above) + 1, math.ceil(low) if low is not None else math.floor(above) + 1)
    if (below := schema.get("exclusiveMaximum")) is not None:
        high = min(math.ceil(below) - 1, math.floor(high) if high is not None else math.ceil(below) - 1)
    return None if low is None else math.ceil(low), None if high is None else math.floor(high)


def _from_strategy(strategy: Any) -> list[Any]:
    """Return what it draws and JSON can hold: `text()` draws a NUL character now and then, as it happens to go.

    Raises UsageError where nothing is left.
    """
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
    kept = [value for value in found if json_problem(value) is None]
    if not kept:
        raise UsageError(
            f"the strategy of the input draws no JSON: {json_problem(found[0])}",
            hint="A job's input is JSON: let the strategy draw such values, or set examples = [...].",
        )
    return kept


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
            return self.make(_resolved(self._root, schema["$ref"]), where, depth + 1)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self.make(schema[key][0], where, depth + 1)
        if schema.get("allOf"):
            return self.make(_merged(self._root, schema["allOf"]), where, depth + 1)
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
                f"the input schema wants text like {schema['pattern']!r} at {where}, which cannot be generated",
                hint="Give examples = [...] beside it.",
            )
        if "format" in schema:
            return _FORMATS.get(schema["format"], "text")
        text = "text".ljust(schema.get("minLength", 0), "t")
        return text[: schema.get("maxLength", len(text))]


def _resolved(root: Any, reference: str) -> Any:
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = found[part] if part else found
    return found


def _merged(root: Any, parts: list[Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        whole = _resolved(root, part["$ref"]) if "$ref" in part else part
        merged["properties"] = {**merged.get("properties", {}), **whole.get("properties", {})}
        merged["required"] = [*merged.get("required", []), *whole.get("required", [])]
        merged |= {key: value for key, value in whole.items() if key not in ("properties", "required")}
    return merged


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
