"""Cron expressions: whether they are any, and how far apart two runs are at most."""

from __future__ import annotations

import re
from typing import Final

from harness.lint.facts import Cron, Facts

FIELDS: Final = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
NAMES: Final = {
    name: number
    for names in (["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],)
    for number, name in enumerate(names, start=1)
} | {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_MAINTENANCE: Final = re.compile(r"maintenance|reconcile|cleanup|job-maint", re.IGNORECASE)
DAY_MINUTES: Final = 1440
DEFAULT_PERIOD_SECONDS: Final = 60.0


def problem_of(schedule: str) -> str | None:
    """Say what is wrong with an expression; None where it is one."""
    parts = schedule.split()
    if len(parts) != len(FIELDS):
        return f"has {len(parts)} fields, not five"
    for part, (name, low, high) in zip(parts, FIELDS, strict=True):
        if _numbers(part, low, high) is None:
            return f"has {part!r} as {name}, which is between {low} and {high}"
    return None


def _numbers(part: str, low: int, high: int) -> list[int] | None:
    found: set[int] = set()
    for item in part.lower().split(","):
        span, _, step_text = item.partition("/")
        if step_text and (not step_text.isdigit() or int(step_text) == 0):
            return None
        step = int(step_text) if step_text else 1
        if span == "*":
            first, last = low, high
        else:
            ends = [NAMES.get(end, int(end) if end.isdigit() else -1) for end in span.split("-")]
            if len(ends) > 2 or not all(low <= end <= high for end in ends):
                return None
            first, last = ends[0], ends[-1] if len(ends) == 2 or not step_text else high
        found.update(range(first, last + 1, step))
    return sorted(found) or None


def period_seconds(schedule: str) -> float | None:
    """Answer the longest time between two runs of a day, a day where it runs less often; None where it is none."""
    if problem_of(schedule) is not None:
        return None
    minute, hour, *_ = schedule.split()
    minutes = _numbers(minute, 0, 59) or [0]
    hours = _numbers(hour, 0, 23) or [0]
    moments = [one * 60 + other for one in hours for other in minutes]
    gaps = [later - earlier for earlier, later in zip(moments, [*moments[1:], moments[0] + DAY_MINUTES], strict=True)]
    return max(gaps) * 60.0


def is_maintenance(cron: Cron) -> bool:
    """Tell the cron that frees stuck jobs by its path."""
    return _MAINTENANCE.search(cron.path) is not None


def maintenance_period(facts: Facts) -> float:
    """Answer how often maintenance runs, in seconds; a minute, as in the guide, where nothing tells."""
    found = [period_seconds(cron.schedule) for cron in facts.crons if is_maintenance(cron)]
    known = [period for period in found if period is not None]
    return min(known) if known else DEFAULT_PERIOD_SECONDS
