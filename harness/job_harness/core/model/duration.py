"""Time as whole microseconds, the resolution of PostgreSQL's `timestamptz`, so that boundaries are exact."""

from __future__ import annotations

import re
from typing import TypeAlias

Duration: TypeAlias = int
"""Microseconds."""

Instant: TypeAlias = int
"""Microseconds since the start of the run; the store's timestamps use the same origin."""

MILLISECOND: Duration = 1_000
SECOND: Duration = 1_000_000
MINUTE: Duration = 60 * SECOND
HOUR: Duration = 60 * MINUTE
DAY: Duration = 24 * HOUR

_UNITS = {"us": 1, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h|d)")
LONGEST: Duration = 3650 * DAY


def parse_duration(text: str) -> Duration:
    """Read `90s`, `1h30m`, `250ms` or `7d`.

    Raises ValueError naming the text and what would have been accepted.
    """
    position = 0
    total = 0.0
    for part in _PART.finditer(text):
        if part.start() != position:
            break
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not text or position != len(text):
        raise ValueError(
            f"{text!r} is not a duration: write a number with a unit, such as 30s, 10m, 1h30m, 7d or 250ms"
        )
    if total > LONGEST:
        raise ValueError(f"{text!r} is longer than ten years, the longest duration accepted")
    return round(total)


def format_duration(duration: Duration) -> str:
    """Write a duration the way `parse_duration` reads it, at most two units unless exactness needs more."""
    if duration < 0:
        return "-" + format_duration(-duration)
    if duration == 0:
        return "0s"
    parts: list[str] = []
    rest = duration
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(_format_seconds(rest, alone=not parts))
    return "".join(parts)


def rounded(duration: Duration) -> Duration:
    """Leave out what says little about a length: seconds where there are hours, minutes where there are days."""
    unit = HOUR if duration >= DAY else MINUTE if duration >= HOUR else SECOND
    return duration - duration % unit


def _format_seconds(rest: Duration, *, alone: bool) -> str:
    if alone and rest < MILLISECOND:
        return f"{rest}us"
    if alone and rest < SECOND and rest % MILLISECOND == 0:
        return f"{rest // MILLISECOND}ms"
    whole, fraction = divmod(rest, SECOND)
    return f"{whole}s" if not fraction else f"{whole}.{fraction:06d}".rstrip("0") + "s"
