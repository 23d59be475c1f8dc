"""From how a user declares a processor's input to examples of it, and to inputs that no one should send."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from harness.errors import UsageError
from harness.model.json_value import json_problem
from harness.processors.contract.schema_example import schema_example

MOST_EXAMPLES = 10
"""Drawn from a strategy."""
MOST_KEYS = 8
"""Keys of an example that are damaged one by one."""
_LONG = 1_000_000


def examples_of(declared: Any, examples: Sequence[Any]) -> list[Any]:
    """Answer examples: those given, else from a pydantic model, a JSON schema or a Hypothesis strategy.

    Raises UsageError where there is none, or one that JSON cannot hold.
    """
    found = list(examples) or _drawn(declared)
    for number, example in enumerate(found):
        problem = json_problem(example)
        if problem is not None:
            raise UsageError(f"input example {number + 1} is no JSON: {problem}", hint="A job's input is JSON.")
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
    """Answer inputs that are wrong each in one way, with what is wrong: nobody should send them, somebody will."""
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
