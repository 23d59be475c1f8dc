"""How single values of a scenario are written: durations, spans, gaps, one or several. Types for the schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from harness.errors import did_you_mean
from harness.model.duration import Duration, format_duration, parse_duration
from harness.scenario.job_plan import Ending, Payload
from harness.scenario.span import Span, parse_span
from harness.scenario.step import Step, parse_step

DURATION = r"^((\d+(\.\d+)?)(us|ms|s|m|h|d))+$"
SPAN = r"^(((\d+(\.\d+)?)(us|ms|s|m|h|d))+|\s*\d+(\.\d+)?\s*x?\s*[a-z_]+\s*)$"
GAP = r"^\S+\.\.\S+$"
NAME = r"^[A-Za-z_][A-Za-z0-9_-]*$"
DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": DURATION,
    "description": "a number with a unit: 250ms, 30s, 10m, 1h30m, 7d",
}
SPAN_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": SPAN,
    "description": "a duration (30s), or a multiple of a setting (0.95 lease)",
}


def several(one: dict[str, Any]) -> dict[str, Any]:
    """Answer the JSON schema of one value, or a list of such values."""
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 1000}]}


def text_of(value: Any, what: str) -> str:
    """Answer the text that this value is.

    Raises ValueError saying what was expected where it is none.
    """
    if not isinstance(value, str):
        hint = f" (put it in quotes: {_quoted(value)})" if type(value) in (int, float, bool) and what == "text" else ""
        raise ValueError(f"expected {what}, got {described(value)}{hint}")  # noqa: TRY004 - pydantic collects ValueError
    return value


def _quoted(value: object) -> str:
    return repr(str(value).lower() if isinstance(value, bool) else str(value))


def described(value: Any) -> str:
    """Name a value and its kind."""
    match value:
        case None:
            return "null"
        case bool():
            return f"{str(value).lower()} (true or false)"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return repr(value) if len(repr(value)) <= 60 else f"{value[:50]!r}..."


def read_duration(value: Any) -> Duration:
    """Read a duration as a scenario writes it.

    Raises ValueError that says what would have been accepted; a bare number names the unit that is missing.
    """
    if type(value) in (int, float):
        raise ValueError(f"the number {value} has no unit: write {value}s, {value}m or {value}ms")
    return parse_duration(text_of(value, "a duration such as 30s or 10m"))


def _positive(value: Any) -> Duration:
    duration = read_duration(value)
    if duration <= 0:
        raise ValueError(f"{value!r} is not accepted: it must be longer than nothing")
    return duration


def _heartbeat(value: Any) -> Duration:
    return 0 if value is None or (type(value) is int and value == 0) else read_duration(value)


def _span(value: Any) -> Span:
    if type(value) in (int, float):
        raise ValueError(f"the number {value} has no unit: write {value}s, or a multiple of a setting: {value} lease")
    return parse_span(text_of(value, "a duration (30s) or a multiple of a setting (0.95 lease)"))


def _gap(value: Any) -> tuple[Duration, Duration]:
    text = text_of(value, "a gap such as 60s..122s")
    low, dots, high = text.partition("..")
    if not dots:
        raise ValueError(f"{text!r} is no gap: write the shortest and the longest wait as 60s..122s")
    shortest, longest = parse_duration(low.strip()), parse_duration(high.strip())
    if shortest > longest:
        raise ValueError(f"{text!r} is an empty gap: the shortest wait comes first")
    return shortest, longest


def _listed(value: Any, one: Callable[[Any], Any]) -> tuple[Any, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("the list is empty; name at least one, or leave the key out")
    if len(values) > 1000:
        raise ValueError(f"a list of {len(values)}; at most 1000 are accepted")
    return tuple(one(item) for item in values)


def _ending(value: Any) -> Ending:
    known = [str(ending) for ending in Ending]
    text = text_of(value, "an outcome")
    if text not in known:
        raise ValueError(f"no such outcome: {text!r}{did_you_mean(text, known)}. There are {', '.join(known)}")
    return Ending(text)


def _payload(value: Any) -> Payload:
    known = [str(payload) for payload in Payload]
    text = text_of(value, "a payload")
    if text not in known:
        raise ValueError(f"no such payload: {text!r}{did_you_mean(text, known)}. There are {', '.join(known)}")
    return Payload(text)


def _step(value: Any) -> Step:
    return parse_step(text_of(value, "a step such as `w1 claims a`"))


def _text(value: Any) -> str:
    return text_of(value, "text")


def gap_text(gap: tuple[Duration, Duration]) -> str:
    """Write a gap."""
    return f"{format_duration(gap[0])}..{format_duration(gap[1])}"


Positive: TypeAlias = Annotated[Duration, BeforeValidator(_positive), WithJsonSchema(DURATION_SCHEMA)]
Length: TypeAlias = Annotated[Duration, BeforeValidator(read_duration), WithJsonSchema(DURATION_SCHEMA)]
Heartbeat: TypeAlias = Annotated[
    Duration,
    BeforeValidator(_heartbeat),
    WithJsonSchema({"anyOf": [DURATION_SCHEMA, {"type": "null"}, {"const": 0}]}),
]
Gap: TypeAlias = Annotated[
    tuple[Duration, Duration], BeforeValidator(_gap), WithJsonSchema({"type": "string", "pattern": GAP})
]
Spans: TypeAlias = Annotated[
    tuple[Span, ...],
    BeforeValidator(lambda value: _listed(value, _span)),
    WithJsonSchema(several(SPAN_SCHEMA)),
]
Endings: TypeAlias = Annotated[
    tuple[Ending, ...],
    BeforeValidator(lambda value: _listed(value, _ending)),
    WithJsonSchema(several({"enum": [str(ending) for ending in Ending]})),
]
PayloadName: TypeAlias = Annotated[
    Payload, BeforeValidator(_payload), WithJsonSchema({"enum": [str(payload) for payload in Payload]})
]
StepLine: TypeAlias = Annotated[Step, BeforeValidator(_step), WithJsonSchema({"type": "string"})]
Text: TypeAlias = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string"})]
Name: TypeAlias = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string", "pattern": NAME})]
