"""What PostgreSQL's JSONB can hold, said once for the model queue and the monitors."""

from __future__ import annotations

import json
import math
from typing import Any

DEEPEST = 500


def json_problem(value: Any) -> str | None:
    """Say why JSONB cannot hold a value, or None where it can."""
    if value is None or value is True or value is False or type(value) is int:
        return None
    return _problem(value, "$", ())


def _problem(value: Any, where: str, above: tuple[int, ...]) -> str | None:
    match value:
        case None | bool() | int():
            return None
        case float():
            return None if math.isfinite(value) else f"{value!r} at {where}: JSON has no such number"
        case str():
            return _text_problem(value, where)
        case list() | tuple() | dict():
            return _nested_problem(value, where, above)
        case _:
            return f"{type(value).__name__} at {where}: no JSON value"


def _text_problem(text: str, where: str) -> str | None:
    if "\x00" in text:
        return f"NUL character at {where}: PostgreSQL refuses it"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"lone surrogate at {where}: no valid text"
    return None


def _nested_problem(value: Any, where: str, above: tuple[int, ...]) -> str | None:
    if id(value) in above:
        return f"a value that contains itself at {where}"
    if len(above) >= DEEPEST:
        return f"nested deeper than {DEEPEST} levels"
    inside = (*above, id(value))
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        if isinstance(value, dict):
            if not isinstance(key, str):
                return f"key {key!r} at {where}: JSON keys are text"
            if found := _text_problem(key, f"{where} key"):
                return found
        if found := _problem(item, f"{where}[{key!r}]" if isinstance(key, int) else f"{where}.{key}", inside):
            return found
    return None


def printable(text: object) -> str:
    """Escape what PostgreSQL's text cannot hold; never raises, never empty."""
    try:
        raw = str(text)
    except Exception as error:  # noqa: BLE001 - a hostile __str__ must not lose the failure
        raw = f"{type(text).__name__} whose text cannot be read ({type(error).__name__})"
    clean = raw.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return clean or "(empty error)"


def canonical(value: Any) -> str:
    """Write a JSON value with one spelling, for comparison and for histories."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
