"""What PostgreSQL's JSONB can hold, said once for the model queue and the monitors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

DEEPEST = 500


def json_problem(value: Any) -> str | None:
    """Say why JSONB cannot hold a value, or None where it can."""
    if _is_plain(value):
        return None
    if type(value) is dict and all(
        _is_plain(key) and _is_plain(item) and type(key) is str for key, item in value.items()
    ):
        return None
    return _problem(value)


def _is_plain(value: Any) -> bool:
    """Say whether a scalar is seen at a glance to be JSON; most outputs of scripted jobs hold nothing else."""
    if type(value) is str:
        return value.isascii() and "\x00" not in value
    return value is None or value is True or value is False or type(value) is int


def _problem(value: Any) -> str | None:
    """Look at a value and all that is in it, without recursion: no depth may hurt the caller."""
    problem = _scalar_problem(value, "$")
    if problem is not _CONTAINER:
        return problem
    levels = [(value, "$", _items(value))]
    above = {id(value)}
    while levels:
        container, where, items = levels[-1]
        for key, item in items:
            if isinstance(container, dict):
                if not isinstance(key, str):
                    return f"key {key!r:.80} at {where}: JSON keys are text"
                if found := _text_problem(key, f"{where} key"):
                    return found
            if item is None or item is True or item is False or type(item) is int:
                continue
            place = f"{where}[{key!r}]" if isinstance(key, int) else f"{where}.{key}"
            problem = _scalar_problem(item, place)
            if problem is _CONTAINER:
                if id(item) in above:
                    return f"a value that contains itself at {place}"
                if len(levels) >= DEEPEST:
                    return f"nested deeper than {DEEPEST} levels"
                above.add(id(item))
                levels.append((item, place, _items(item)))
                break
            if problem is not None:
                return problem
        else:
            levels.pop()
            above.discard(id(container))
    return None


_CONTAINER = "it holds other values"


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items() if isinstance(value, dict) else enumerate(value))


def _scalar_problem(value: Any, where: str) -> str | None:
    """Say why JSONB cannot hold a value; None where it can, and `_CONTAINER` where that depends on what is in it."""
    match value:
        case None | bool() | int():
            return None
        case float():
            return None if math.isfinite(value) else f"{value!r} at {where}: JSON has no such number"
        case str():
            return _text_problem(value, where)
        case list() | tuple() | dict():
            return _CONTAINER
        case _:
            return f"{type(value).__name__} at {where} is not a JSON value"


def _text_problem(text: str, where: str) -> str | None:
    if "\x00" in text:
        return f"NUL character at {where}: PostgreSQL refuses it"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"lone surrogate at {where}: not valid text"
    return None


def json_text(value: Any, *, nan: bool = False) -> str | None:
    """Write a value as JSON, also one with a NUL, which JSONB refuses; None where it is no JSON.

    With `nan`, NaN and infinity pass, as in Python's own JSON.
    """
    try:
        return json.dumps(value, allow_nan=nan)
    except (TypeError, ValueError, RecursionError):
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


def same_json(one: Any, other: Any) -> bool:
    """Say whether two JSON values are the same: `true` is not 1, as it is for Python; 1.0 is 1, as it is elsewhere."""
    if one is other or (one == other and type(one) is type(other) is str):
        return True
    return _spelled(one) == _spelled(other)


def _spelled(value: Any) -> str:
    return canonical(json.loads(canonical(value), parse_float=_whole))


def _whole(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number
