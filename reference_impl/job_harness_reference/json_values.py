"""What PostgreSQL's JSONB and TEXT can hold: checked before the wire, so that no value breaks its neighbours.

Knows no database. Values travel as JSON text in both directions; a store decodes each row by
itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from job_harness_reference.errors import InvalidJsonError
from job_harness_reference.models import JsonValue

DEPTH_LIMIT: Final = 500
"""Levels of nesting; PostgreSQL's own limit hangs on its stack, Python's on the caller's."""
SIZE_LIMIT: Final = 250_000_000
"""Bytes of JSON text; JSONB ends at 256 MiB."""
DIGIT_LIMIT: Final = 4300
"""Digits of an integer; Python reads no longer ones back."""
ERROR_LIMIT: Final = 1_000_000
"""Characters of an error that are kept."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False)
"""Made once: with options, `json.dumps` makes one for each value, and that takes longer than to encode a small one."""


def encode(value: JsonValue) -> str:
    """Write a value as JSON text that JSONB can hold.

    Raises `InvalidJsonError`, which names the place (`$.pages[3].title`) and the reason.
    """
    _check(value)
    text = _ENCODER.encode(value)
    size = len(text.encode("utf-8"))
    if size > SIZE_LIMIT:
        raise InvalidJsonError(f"$: {size} bytes of JSON; at most {SIZE_LIMIT} can be stored")
    return text


def decode(text: str) -> JsonValue:
    """Read JSON text that came from JSONB. Raises `InvalidJsonError` where Python cannot hold it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidJsonError(f"stored JSON cannot be read: {error}") from error


def decode_or_text(text: str) -> JsonValue:
    """Read JSON text that came from JSONB; what Python cannot hold is given as its text."""
    try:
        return decode(text)
    except InvalidJsonError:
        return text


def through_jsonb(text: str) -> str:
    """Rewrite JSON text as JSONB gives it back, but for the order of keys.

    Numbers lose their exponent and a zero its minus.
    """
    if not any(mark in text for mark in ("e", "E", "-0.0")):
        return text
    return json.dumps(json.loads(text, parse_float=_as_numeric), ensure_ascii=False)


def in_jsonb_order(text: str) -> str:
    """Rewrite JSON text as JSONB gives it back: as `through_jsonb`, and keys in the order of length, then of bytes."""
    if "{" not in text:
        return through_jsonb(text)
    return json.dumps(
        json.loads(text, parse_float=_as_numeric, object_pairs_hook=_in_order_of_keys), ensure_ascii=False
    )


def same_json(one: JsonValue, other: JsonValue) -> bool:
    """Tell whether JSONB calls two values equal: 1, 1.0 and 1e0 are one number, and true is none.

    Raises `InvalidJsonError` where JSONB cannot hold one of them.
    """
    return _comparable(one) == _comparable(other)


def escape_text(text: str) -> str:
    """Make any text fit for a TEXT column: NUL and lone surrogates are escaped, the overlong is cut."""
    if len(text) > ERROR_LIMIT:
        text = f"{text[:ERROR_LIMIT]}... ({len(text)} characters in all)"
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def error_text(text: str) -> str:
    """Make any text fit to be kept as an error: as `escape_text`, and never empty, so that a failure always shows."""
    return escape_text(text) or "(empty error)"


def check_text(text: str, *, what: str) -> str:
    """Pass text on that a TEXT column can hold. Raises `InvalidJsonError`, naming `what`, for any other."""
    reason = _fault_of_text(text)
    if reason is not None:
        raise InvalidJsonError(f"{what} {text[:80]!r}: {reason}")
    return text


def is_storable(text: str) -> bool:
    """Tell whether a TEXT column can hold it; what it cannot hold, no row is found by."""
    return _fault_of_text(text) is None


def _comparable(value: JsonValue) -> object:
    def number(text: str) -> tuple[Decimal]:  # No JSON value becomes a tuple, so that a number equals numbers only.
        return (Decimal(text),)

    return json.loads(encode(value), parse_int=number, parse_float=number)


def _in_order_of_keys(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    if len(pairs) > 1:
        pairs.sort(key=lambda pair: (len(key := pair[0].encode()), key))
    return dict(pairs)


def _as_numeric(text: str) -> int | float:
    if "e" in text or "E" in text:
        text = format(Decimal(text), "f")
    return (float(text) + 0.0) if "." in text else int(text)


def _fault_of_text(text: str) -> str | None:
    if "\x00" in text:
        return "PostgreSQL cannot hold the character NUL (U+0000)"
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return f"a lone surrogate (U+{ord(text[error.start]):04X}) is not text"
    return None


def _fault_of_scalar(value: object) -> str | None:
    match value:
        case None | bool():
            return None
        case str():
            return _fault_of_text(value)
        case int():
            too_long = value.bit_length() > DIGIT_LIMIT * 3.3
            return f"an integer of more than {DIGIT_LIMIT} digits" if too_long else None
        case float():
            return None if math.isfinite(value) else f"{value} is not a JSON number"
        case _:
            return f"a Python {type(value).__name__} is not JSON; use None, bool, int, float, str, list or dict"


def _children(value: object) -> Iterator[tuple[str, object]] | None:
    match value:
        case dict():
            return ((_step(key), child) for key, child in value.items())
        case list() | tuple():
            return ((f"[{index}]", child) for index, child in enumerate(value))
        case _:
            return None


def _step(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidJsonError(f"an object's key must be text, not {type(key).__name__}: {key!r:.80}")
    reason = _fault_of_text(key)
    if reason is not None:
        raise InvalidJsonError(f"key {key[:80]!r}: {reason}")
    return f".{key}"


def _check(value: object) -> None:
    """Walk the value without recursion, so that neither depth nor a cycle can hurt."""
    steps: list[str] = ["$"]
    open_levels: list[Iterator[tuple[str, object]]] = []
    current: object = value
    while True:
        children = _children(current)
        if children is None:
            reason = _fault_of_scalar(current)
            if reason is not None:
                raise InvalidJsonError(f"{''.join(steps)[:400]}: {reason}")
            steps.pop()
        else:
            open_levels.append(children)
            if len(open_levels) > DEPTH_LIMIT:
                raise InvalidJsonError(f"$: nested deeper than {DEPTH_LIMIT} levels, or containing itself")
        while open_levels:
            following = next(open_levels[-1], None)
            if following is not None:
                steps.append(following[0])
                current = following[1]
                break
            open_levels.pop()
            if open_levels:
                steps.pop()
        else:
            return
