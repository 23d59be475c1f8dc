"""The jobs as they were last observed, and when the next thing is due: claims, leases, maintenance, slots of schedules.

Filled by observation only: it must not ask the queue, so that a queue with a wrong idea of "due"
cannot hide behind it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from job_harness.core.invariants.limits import is_claimed, kept_waiting
from job_harness.core.model import (
    COMPLETED,
    MINUTE,
    PENDING,
    PROCESSING,
    TERMINAL,
    Duration,
    Instant,
    JobId,
    JobView,
    Settings,
    Starts,
    Status,
)
from job_harness.core.port import Schedule

GIVEN_UP: Final[Duration] = 10 * MINUTE
"""So long schedulers look again and again for a slot of a calendar that still has no job."""


_START_AFTER, _STARTED_AT, _LEASE_UNTIL = map(JobView._fields.index, ("start_after", "started_at", "lease_until"))


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
        slots = [self._next_of(name, schedule, seen) - early for name, schedule in self._schedules.items()]
        return min(slots) if slots else None

    def _next_of(self, name: str, schedule: Schedule, seen: Instant) -> Instant:
        filled = self._filled[name]
        if not schedule.cron:
            return min(filled, schedule.latest(seen)) + schedule.period
        slot = schedule.following(filled)
        # Half a year of ticks for a slot that never gets its job would be no run any more.
        return slot if seen < slot + GIVEN_UP else schedule.following(seen)


class WaitingLine(Protocol):
    """Where jobs that wait stand in an order of their own."""

    def stand_in_line(self, job: JobId) -> None:
        """Take a job that waits from now on."""


class JobIndex:
    """The last view of every job, and heaps of when each is next due: an entry counts only while the view says so."""

    __slots__ = (
        "_expiring", "_keyed", "_known", "_leases", "_limited", "_paused", "_settings", "_started", "_starts",
        "_waiting", "_waits_for", "apart", "line", "live", "timetable", "views",
    )  # fmt: skip

    def __init__(self, settings: Settings, *, waits_for: Collection[Status] = (COMPLETED,)) -> None:
        """Know no job; `waits_for` are the statuses in which others wait for it no longer."""
        self._settings = settings
        self._waits_for = waits_for
        self._limited = bool(settings.concurrency or settings.tool_concurrency or settings.rate_limit)
        self._starts = Starts(settings.rate_limit, settings.rate_window)
        self.views: dict[JobId, JobView] = {}
        self.live: dict[JobId, JobView] = {}
        self.line: WaitingLine | None = None
        self.apart: set[JobId] = set()
        self.timetable = Timetable()
        self._expiring: list[tuple[Instant, JobId]] = []
        self._waiting: list[tuple[Instant, JobId]] = []
        self._leases: list[tuple[Instant, JobId]] = []
        self._started: list[tuple[Instant, JobId]] = []
        self._keyed: set[JobId] = set()
        """What waits and has a serial key, or depends on other jobs."""
        self._known: dict[str | tuple[str, ...], Instant | None] = {}
        """What is due next, until a job changes; a claim of some tools by these."""
        self._paused: set[str] = set()
        """The tools whose jobs an operator holds back."""

    def reset(self, views: Mapping[JobId, JobView]) -> None:
        """Know these jobs and no others."""
        self.views.clear()
        self.live.clear()
        self.apart.clear()
        for due in (self._expiring, self._waiting, self._leases, self._started):
            due.clear()
        self._starts.claims.clear()
        self._keyed.clear()
        self._known.clear()
        for job, view in views.items():
            self.put(job, view)

    def put(self, job: JobId, view: JobView | None) -> None:
        """Take over what was observed."""
        self._known.clear()
        before = self.live.pop(job, None)
        self.apart.discard(job)
        self._keyed.discard(job)
        if view is None:
            self.views.pop(job, None)
            return
        self.views[job] = view
        if self._settings.rate_limit and is_claimed(view, before):
            self._starts.add(view.tool, view.started_at or 0, job)
        if view.slot is not None:
            self.timetable.fill(view)
        if view.status not in TERMINAL:
            self.live[job] = view
            self._plan(job, view)
        elif view.expires_at is not None:
            heapq.heappush(self._expiring, (view.expires_at, job))
        if not view.agrees:
            self.apart.add(job)

    def next_claim(self) -> Instant | None:
        """Tell when a job can next be claimed."""
        if "claim" not in self._known:
            if self._limited or self._keyed or self._paused:
                self._known["claim"] = self._first_allowed(None)
            else:
                self._known["claim"] = self._first(self._waiting, _START_AFTER, PENDING)
        return self._known["claim"]

    def next_claim_of(self, tools: tuple[str, ...]) -> Instant | None:
        """Tell when a job of these tools can next be claimed."""
        if tools not in self._known:
            self._known[tools] = self._first_allowed(tools)
        return self._known[tools]

    def pause(self, tool: str) -> None:
        """Take over that an operator holds back the jobs of a tool."""
        self._paused.add(tool)
        self._known.clear()

    def unpause(self, tool: str) -> None:
        """Take over that they are let go."""
        self._paused.discard(tool)
        self._known.clear()

    def _first_allowed(self, tools: tuple[str, ...] | None) -> Instant | None:
        """Return the first start time of the jobs of these tools (None: of all) that wait and may be claimed.

        What limits and serial keys keep waiting until another job changes may not; it is asked only
        of what is earlier.
        """
        active = [view for view in self.live.values() if view.status is PROCESSING]
        first: Instant | None = None
        for view in self.live.values():
            if view.status is not PENDING or (first is not None and view.start_after >= first):
                continue
            served = view.tool not in self._paused and (tools is None or view.tool in tools)
            if view.depends_on and not all(self._is_done(other) for other in view.depends_on):
                continue
            if served and not kept_waiting(view, active, self._settings):
                begins = view.start_after
                if self._settings.rate_limit:
                    begins = max(begins, self._starts.free_at(view.tool))
                first = begins if first is None else min(first, begins)
        return first

    def _is_done(self, job: JobId) -> bool:
        view = self.views.get(job)
        return view is not None and view.status in self._waits_for

    def next_expiry(self) -> Instant | None:
        """Tell when a lease next runs out."""
        if not self._leases:
            return None
        if "expiry" not in self._known:
            self._known["expiry"] = self._first(self._leases, _LEASE_UNTIL, None)
        return self._known["expiry"]

    def next_maintenance(self) -> Instant | None:
        """Tell when maintenance next finds something to do."""
        if "maintenance" not in self._known:
            self._known["maintenance"] = self._next_maintenance()
        return self._known["maintenance"]

    def _next_maintenance(self) -> Instant | None:
        if self.apart:
            return 0
        started = self._first(self._started, _STARTED_AT, PROCESSING) if self._started else None
        due = [] if started is None else [started + self._settings.stuck_timeout]
        while self._expiring and not self._stands(*self._expiring[0]):
            heapq.heappop(self._expiring)
        if self._expiring:
            due.append(self._expiring[0][0])
        return min(due) if due else None

    def _plan(self, job: JobId, view: JobView) -> None:
        if view.lease_until is not None:
            heapq.heappush(self._leases, (view.lease_until, job))
        if view.status is PENDING:
            heapq.heappush(self._waiting, (view.start_after, job))
            if self.line is not None:
                self.line.stand_in_line(job)
            if view.serial_key is not None or view.depends_on:
                self._keyed.add(job)
        elif view.status is PROCESSING and view.started_at is not None:
            heapq.heappush(self._started, (view.started_at, job))

    def _first(self, heap: list[tuple[Instant, JobId]], field: int, status: Status | None) -> Instant | None:
        """Return the first time in a heap that this field of a job in a status (None: in any) still says."""
        live = self.live
        while heap:
            when, job = heap[0]
            view = live.get(job)
            if view is not None and view[field] == when and (status is None or status is view.status):
                return when
            heapq.heappop(heap)
        return None

    def _stands(self, expires_at: Instant, job: JobId) -> bool:
        view = self.views.get(job)
        return view is not None and view.expires_at == expires_at and view.status in TERMINAL
