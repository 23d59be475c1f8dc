"""Which slots of which schedules have begun and have no job. Filled by observation, and by who sets a schedule."""

from __future__ import annotations

from harness.model.duration import Duration, Instant
from harness.model.job import JobView
from harness.port import Schedule


class Timetable:
    """Tells schedulers when they next have something to look for, so that idle ticks are skipped."""

    __slots__ = ("_filled", "_schedules")

    def __init__(self) -> None:
        self._schedules: dict[str, Schedule] = {}
        self._filled: dict[str, Instant] = {}
        """By schedule, the last slot that has its job."""

    def set(self, schedule: Schedule, now: Instant) -> None:
        """Take over a schedule from now on."""
        self._schedules[schedule.name] = schedule
        self._filled.setdefault(schedule.name, schedule.latest(now))

    def end(self, name: str) -> None:
        """Forget a schedule."""
        self._schedules.pop(name, None)

    def fill(self, view: JobView) -> None:
        """Take over that a slot has its job."""
        if view.schedule is not None and view.slot is not None:
            self._filled[view.schedule] = max(view.slot, self._filled.get(view.schedule, view.slot))

    def next_look(self, seen: Instant, early: Duration) -> Instant | None:
        """Tell when to look next: `early` before the first slot that has no job, or began after the look at `seen`."""
        slots = [
            min(self._filled[name], schedule.latest(seen)) + schedule.period - early
            for name, schedule in self._schedules.items()
        ]
        return min(slots) if slots else None
