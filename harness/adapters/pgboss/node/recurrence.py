"""Schedules as pg-boss takes them: a period as cron text, and for which slot of which schedule a job was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from harness.model.duration import DAY, HOUR, MINUTE, Duration, Instant, format_duration
from harness.model.job import JobId
from harness.port import Schedule

WINDOW: Final = MINUTE
"""So long after it began a slot is due (src: timekeeper, shouldSendIt, lately dueOccurrences). Nobody looks further
back, unless a schedule asks for what was `missed` (src: types.d.ts, ScheduleOptions), which none here does."""
_MINUTES: Final = tuple(count * MINUTE for count in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30))
_HOURS: Final = tuple(count * HOUR for count in (1, 2, 3, 4, 6, 8, 12))
PERIODS: Final[tuple[Duration, ...]] = (*_MINUTES, *_HOURS, DAY)
"""What cron text says without a gap at the end of an hour or a day."""


def period_of(period: Duration) -> Duration:
    """Answer the shortest period that cron text can say and that is not shorter; a day for what is longer."""
    return next((said for said in PERIODS if said >= period), DAY)


def cron_text(period: Duration) -> str:
    """Answer the cron text of a period. Raises ValueError for one that cron text cannot say."""
    if period in _MINUTES:
        return f"*/{period // MINUTE} * * * *"
    if period in _HOURS:
        return f"0 */{period // HOUR} * * *"
    if period == DAY:
        return "0 0 * * *"
    said = ", ".join(format_duration(said) for said in PERIODS)
    raise ValueError(f"cron text cannot say every {format_duration(period)}; it can say {said}")


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule and the slot that had begun when it was set; slots are numbered from there."""

    schedule: Schedule
    since: Instant

    def slot(self, at: Instant) -> Instant:
        """Answer the slot in which a job was made at an instant."""
        return self.schedule.latest(at)

    def name(self, slot: Instant) -> JobId:
        """Answer the id of the job of a slot."""
        return f"{self.schedule.name}{(slot - self.since) // self.schedule.period}"


class Plans:
    """The schedules of one run, those that ended too, and the names of the jobs that they made."""

    def __init__(self) -> None:
        self.standing: dict[str, Planned] = {}
        """By name: who stands now."""
        self._known: dict[str, Planned] = {}
        self._names: dict[str, tuple[JobId, Instant]] = {}
        """By the UUID of a job."""
        self._uuids: dict[JobId, str] = {}

    def set(self, schedule: Schedule, now: Instant) -> None:
        """Take over a schedule; one of the same period goes on with its slots."""
        known = self.standing.get(schedule.name)
        kept = known is not None and known.schedule.period == schedule.period
        planned = replace(known, schedule=schedule) if known is not None and kept else None
        self.standing[schedule.name] = self._known[schedule.name] = planned or Planned(schedule, schedule.latest(now))

    def end(self, name: str) -> None:
        """Forget that a schedule stands."""
        self.standing.pop(name, None)

    def named(self, uuid: str, schedule: str, made_at: Instant) -> tuple[JobId, Instant]:
        """Answer the id and the slot of a job that a schedule made; a second job of a slot has a dash."""
        if uuid not in self._names:
            planned = self._known[schedule]
            slot = planned.slot(made_at)
            name = planned.name(slot)
            while name in self._uuids:
                name += "-"
            self._names[uuid] = name, slot
            self._uuids[name] = uuid
        return self._names[uuid]

    def job(self, uuid: str) -> JobId:
        """Answer the id of a job that a schedule made, and that was seen."""
        return self._names[uuid][0]

    def uuid(self, job: JobId) -> str | None:
        """Answer the UUID of a job that a schedule made; None for any other."""
        return self._uuids.get(job)
