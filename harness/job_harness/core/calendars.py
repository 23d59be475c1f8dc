"""Calendar schedules: which instants a cron text means in a time zone.

cronsim knows what a text means, zoneinfo what a zone's clocks show; this module keeps both from
everybody else and turns their dates into instants of a run. Where a wall clock shows an hour twice
or skips one, cronsim does as Debian's cron does: a text that names an hour and a minute happens
once in either case, one that says `*` goes by elapsed time; a text of six fields always goes by
elapsed time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from job_harness.core.model import Instant

ORIGIN: Final = datetime(2030, 1, 1, tzinfo=UTC)
"""The date of the instant 0 of every run."""
NICKNAMES: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS: Final = (5, 6)
LONGEST: Final = 200
_MICROSECOND: Final = timedelta(microseconds=1)


def calendar_problem(text: str, zone: str = "UTC") -> str | None:
    """Say what is wrong with a cron text or with its zone; None where nothing is."""
    fields = NICKNAMES.get(text.strip().lower(), text)
    if text.strip().startswith("@") and fields is text:
        return f"there is no {text.strip()!r}; there are {', '.join(NICKNAMES)}"
    if len(fields) > LONGEST or not fields.isascii():
        return f"{text!r:.80} is no cron expression"
    if len(fields.split()) not in FIELDS:
        return f"{text!r} has {len(fields.split())} fields, not five (or six, seconds first)"
    try:
        next(CronSim(fields, ORIGIN))
    except CronSimError as error:
        return f"{text!r} is no cron expression: {str(error).lower()}"
    except StopIteration:
        return f"{text!r} names no day that ever comes"
    return zone_problem(zone)


def zone_problem(zone: str) -> str | None:
    """Say why a time zone is of no use here; None where it is known."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"this machine knows no time zone {zone!r}: write a name such as Europe/Berlin, or install tzdata"
    return None


@lru_cache(maxsize=4096)
def following_slot(text: str, zone: str, after: Instant) -> Instant:
    """Return the first instant after this one that a cron text means in a zone. Both must have been checked."""
    fields = NICKNAMES.get(text.strip().lower(), text)
    moment = (ORIGIN + timedelta(microseconds=after)).astimezone(ZoneInfo(zone))
    return (next(CronSim(fields, moment)).astimezone(UTC) - ORIGIN) // _MICROSECOND


def local_time(zone: str, at: Instant) -> str:
    """Write an instant as the clocks of a zone show it, with their distance from UTC: `2030-10-27 02:00+01:00`."""
    moment = (ORIGIN + timedelta(microseconds=at)).astimezone(ZoneInfo(zone))
    return moment.isoformat(sep=" ", timespec="auto" if moment.second or moment.microsecond else "minutes")


@lru_cache(maxsize=64)
def next_changes(zone: str) -> tuple[Instant, ...]:
    """Return when the clocks of a zone are changed in the year in which runs begin; nothing for an unknown zone."""
    if zone_problem(zone) is not None:
        return ()
    hours = [ORIGIN + timedelta(hours=hour) for hour in range(366 * 24)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    changed = (hour for hour, (before, after) in zip(hours[1:], pairwise(offsets), strict=True) if before != after)
    return tuple((hour - ORIGIN) // _MICROSECOND for hour in changed)


def changes_of_clock(text: str, zone: str, count: int) -> list[str]:
    """Return when a zone's clocks are changed within a day of the first slots of a cron text, as they show it then."""
    found: dict[str, None] = {}
    slot: Instant = -1
    for _ in range(count):
        slot = following_slot(text, zone, slot)
        hour = (ORIGIN + timedelta(microseconds=slot)).replace(minute=0, second=0, microsecond=0)
        around = [hour + timedelta(hours=distance) for distance in range(-24, 25)]
        local = [moment.astimezone(ZoneInfo(zone)) for moment in around]
        changed = (after for before, after in pairwise(local) if before.utcoffset() != after.utcoffset())
        found.update((after.isoformat(sep=" ", timespec="minutes"), None) for after in changed)
    return list(found)
