"""Durations and times as a test writes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

from job_harness.core.model import LONGEST, SECOND, Duration, parse_duration
from job_harness.errors import UsageError

Length: TypeAlias = str | int | float | timedelta
"""`"15m"`, seconds, or a timedelta."""
Moment: TypeAlias = Length | datetime
"""How long from now, or a time of day with a time zone."""


def read_length(length: Length) -> Duration:
    """Return microseconds. Raises UsageError naming the value and what would have been accepted."""
    duration = _read(length)
    if not 0 <= duration <= LONGEST:
        raise UsageError(f"{length!r} is out of range: a duration is at least 0 and at most ten years")
    return duration


def _read(length: Length) -> Duration:
    match length:
        case bool():
            pass
        case str():
            try:
                return parse_duration(length)
            except ValueError as error:
                raise UsageError(str(error)) from None
        case timedelta():
            return length // timedelta(microseconds=1)
        case int() | float() if length == length and abs(length) != float("inf"):
            return round(length * SECOND)
        case _:
            pass
    raise UsageError(
        f"{length!r} is not a duration", hint='Give text such as "15m", a number of seconds, or a timedelta.'
    )
