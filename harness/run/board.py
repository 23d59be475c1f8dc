"""What is known of all jobs right now, and when the next thing is due. Filled by observation only."""

from __future__ import annotations

import heapq

from harness.invariants.standing import kept_waiting
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import TERMINAL, Status
from harness.model.settings import Settings
from harness.run.timetable import Timetable


class Board:
    """The last view of every job; scans only those that are not terminal."""

    __slots__ = ("_expiring", "_known", "_limited", "_settings", "apart", "live", "timetable", "views")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limited = bool(settings.concurrency or settings.tool_concurrency)
        self.views: dict[JobId, JobView] = {}
        self.live: dict[JobId, JobView] = {}
        self.apart: set[JobId] = set()
        self.timetable = Timetable()
        self._expiring: list[tuple[Instant, JobId]] = []
        self._known: dict[str, Instant | None] = {}
        """What is due next, until a job changes."""

    def put(self, job: JobId, view: JobView | None) -> None:
        """Take over what was observed."""
        self._known.clear()
        self.live.pop(job, None)
        self.apart.discard(job)
        if view is None:
            self.views.pop(job, None)
            return
        self.views[job] = view
        if view.slot is not None:
            self.timetable.fill(view)
        if view.status not in TERMINAL:
            self.live[job] = view
        elif view.expires_at is not None:
            heapq.heappush(self._expiring, (view.expires_at, job))
        if not view.agrees:
            self.apart.add(job)

    def next_claim(self) -> Instant | None:
        """Tell when a job can next be claimed."""
        if "claim" not in self._known:
            waiting = [view for view in self.live.values() if view.status is Status.PENDING]
            if self._limited or any(view.serial_key is not None for view in waiting):
                waiting = self._allowed(waiting)
            self._known["claim"] = min([view.start_after for view in waiting]) if waiting else None
        return self._known["claim"]

    def _allowed(self, waiting: list[JobView]) -> list[JobView]:
        """Leave out what limits and serial keys keep waiting until another job changes."""
        active = [view for view in self.live.values() if view.status is Status.PROCESSING]
        return [view for view in waiting if not kept_waiting(view, active, self._settings)]

    def next_expiry(self) -> Instant | None:
        """Tell when a lease next runs out."""
        if "expiry" not in self._known:
            leases = [view.lease_until for view in self.live.values() if view.lease_until is not None]
            self._known["expiry"] = min(leases) if leases else None
        return self._known["expiry"]

    def next_maintenance(self) -> Instant | None:
        """Tell when the cron next finds something to do."""
        if "maintenance" not in self._known:
            self._known["maintenance"] = self._next_maintenance()
        return self._known["maintenance"]

    def _next_maintenance(self) -> Instant | None:
        if self.apart:
            return 0
        stuck = self._settings.stuck_timeout
        due = [
            view.started_at + stuck
            for view in self.live.values()
            if view.started_at is not None and view.status is Status.PROCESSING
        ]
        while self._expiring and not self._stands(*self._expiring[0]):
            heapq.heappop(self._expiring)
        if self._expiring:
            due.append(self._expiring[0][0])
        return min(due) if due else None

    def _stands(self, expires_at: Instant, job: JobId) -> bool:
        view = self.views.get(job)
        return view is not None and view.expires_at == expires_at and view.status in TERMINAL
