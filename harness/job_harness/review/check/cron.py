"""Cron expressions: whether they are any, and how far apart two runs are at most. cronsim knows what they mean."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from cronsim import CronSim, CronSimError

from job_harness.review.check.facts import Cron, Facts

START: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""A Monday; expressions are judged from here on, so that the answer is the same on every day."""
DAYS: Final = 366
"""Of the year that begins there."""
TWO_DAYS: Final = timedelta(days=2)
DAY_SECONDS: Final = 86_400.0
DEFAULT_PERIOD_SECONDS: Final = 60.0
FIELDS: Final = 5
NICKNAMES: Final = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_MAINTENANCE: Final = re.compile(r"maintenance|reconcile|cleanup|job-maint", re.IGNORECASE)
_PARTS: Final = re.compile(r"[\w*/,\-?#]{1,200}", re.ASCII)


def problem_of(schedule: str, *, seconds: bool = False) -> str | None:
    """Say what is wrong with an expression; None where it is one.

    `seconds` allows for a sixth field, first or last, for `?` as a day, and for nicknames such as `@daily`, as parsers
    in code do.
    """
    parts = schedule.split()
    if not seconds:
        return _problem(parts)
    if schedule.strip() in NICKNAMES:
        return None
    if len(parts) != FIELDS + 1:
        return _problem(_any_day(parts))
    first, last = _problem(_any_day(parts[1:])), _problem(_any_day(parts[:-1]))
    return first if first is not None and last is not None else None


def _any_day(parts: list[str]) -> list[str]:
    """Write `?` for a day as the `*` that cron-parser and croniter take it for."""
    return ["*" if part == "?" and number in (2, 4) else part for number, part in enumerate(parts)]


def repair_of(problem: str) -> str:
    """Say what to write instead of an expression with this problem."""
    if "fields, not five" in problem or "is empty" in problem:
        return "Write five fields, minute first: `* * * * *` is every minute."
    if "none of its months" in problem:
        return "Name a day that one of the months has."
    return "Write each field within its range: minute 0-59, hour 0-23, day 1-31, month 1-12, day of the week 0-7."


def _problem(parts: list[str]) -> str | None:
    if len(parts) != FIELDS:
        return f"has {len(parts)} fields, not five"
    if not all(_PARTS.fullmatch(part) for part in parts):
        return "is no cron expression"
    wrong = _refused(parts)
    if wrong and not _refused([*parts[:3], "*", parts[4]]) and not _refused([*parts[:2], "1", *parts[3:]]):
        return "names a day that none of its months has: it never comes"
    return f"is no cron expression: {wrong}" if wrong else None


def _refused(parts: list[str]) -> str:
    """Say why cronsim takes the fields for no expression; an empty text where it takes them."""
    try:
        CronSim(" ".join(parts), START)
    except CronSimError as error:
        return str(error).lower()
    return ""


def period_seconds(schedule: str) -> float | None:
    """Return the longest time between two runs, a day where that is longer; None where it is no expression."""
    if problem_of(schedule) is not None:
        return None
    minute, hour, *days = schedule.split()
    if not _every_day(days):
        return DAY_SECONDS
    runs = CronSim(f"{minute} {hour} * * *", START)
    before, longest = next(runs), 0.0
    while before - START < TWO_DAYS:
        moment = next(runs)
        before, longest = moment, max(longest, (moment - before).total_seconds())
    return longest


def _every_day(days: list[str]) -> bool:
    """Tell whether the day of the month, the month and the day of the week leave out no day of a year."""
    runs = CronSim(f"0 0 {' '.join(days)}", START)
    return all(next(runs, None) == START + timedelta(days=number) for number in range(1, DAYS + 1))


def is_maintenance(cron: Cron) -> bool:
    """Tell the cron that frees stuck jobs by its path."""
    return _MAINTENANCE.search(cron.path) is not None


def maintenance_period(facts: Facts) -> float:
    """Return how often maintenance runs, in seconds; a minute where nothing tells."""
    found = [period_seconds(cron.schedule) for cron in facts.crons if is_maintenance(cron)]
    known = [period for period in found if period is not None]
    return min(known) if known else DEFAULT_PERIOD_SECONDS
