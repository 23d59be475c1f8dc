"""Which jobs wait and which are active, and whether limits or serial keys keep one from being claimed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status
from harness.model.settings import Settings


class Standing:
    """The unfinished jobs, as last seen."""

    __slots__ = ("_settings", "active", "waiting")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.waiting: dict[JobId, JobView] = {}
        self.active: dict[JobId, JobView] = {}

    def observe(self, job: JobId, after: JobView | None) -> None:
        """Take over a change."""
        self.waiting.pop(job, None)
        self.active.pop(job, None)
        if after is None:
            return
        if after.status is Status.PENDING:
            self.waiting[job] = after
        elif after.status is Status.PROCESSING:
            self.active[job] = after

    def blocked(self, row: JobView, active: Iterable[JobView] | None = None) -> bool:
        """Say whether a waiting job has to wait for these active ones, by default for all there are."""
        return kept_waiting(row, list(self.active.values() if active is None else active), self._settings)


def kept_waiting(row: JobView, active: Sequence[JobView], settings: Settings) -> bool:
    """Say whether a limit is used up, or a serial key taken, by these active jobs."""
    if row.serial_key is not None and any(other.serial_key == row.serial_key for other in active):
        return True
    limit, tool_limit = settings.concurrency, settings.tool_concurrency
    if limit and len(active) >= limit:
        return True
    return bool(tool_limit) and sum(other.tool == row.tool for other in active) >= tool_limit
