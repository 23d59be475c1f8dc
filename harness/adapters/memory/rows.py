"""The rows of the model queue and the books kept over them. Knows no verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import PARTNERS, TERMINAL
from harness.model.settings import Settings
from harness.port import Clocks, Schedule


class Planned(NamedTuple):
    """A schedule as the queue keeps it."""

    schedule: Schedule
    since: Instant
    last: Instant
    """The last slot that has its job; at first the one that had begun when the schedule was set."""


class State(NamedTuple):
    """Everything that a queue remembers, as a value: a snapshot."""

    rows: dict[JobId, JobView]
    transactions: dict[str, tuple[JobView, ...]]
    schedules: dict[str, Planned]


class Rows:
    """Jobs are immutable views in a dictionary, oldest first; a transition puts a new view in place."""

    def __init__(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> None:
        self.settings = settings
        self.clocks = clocks
        self.jitter = jitter
        self.rows: dict[JobId, JobView] = {}
        self.live: dict[JobId, None] = {}
        self.apart: dict[JobId, None] = {}
        """Jobs whose rows disagree."""
        self.ended: dict[JobId, None] = {}
        """Terminal jobs, in the order in which they ended."""
        self.transactions: dict[str, tuple[JobView, ...]] = {}
        """What open transactions have written, which nobody else sees."""
        self.schedules: dict[str, Planned] = {}
        self.drawn = 0.0
        """The jitter of the statement under way: one number, which its rows share out."""
        self._touched: dict[JobId, None] = {}

    def now(self, caller: str) -> Instant:
        """Read the clock: the store's, whoever asks."""
        return self.clocks.store()

    def jobs(self) -> dict[JobId, JobView]:
        """Answer the rows themselves; nobody may change them."""
        return self.rows

    def changed(self) -> list[JobId]:
        """Answer and forget what was touched."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def snapshot(self) -> State:
        """Answer the state as a value."""
        return State(dict(self.rows), dict(self.transactions), dict(self.schedules))

    def restore(self, state: State) -> None:
        """Go back to a state."""
        self.rows.clear()
        self.live.clear()
        self.apart.clear()
        self.ended.clear()
        self.transactions = dict(state.transactions)
        self.schedules = dict(state.schedules)
        for row in state.rows.values():
            self.put(row)
        self.ended = dict.fromkeys(sorted(self.ended, key=lambda job: self.rows[job].completed_at or 0))
        self._touched.clear()

    def close(self) -> None:
        """Nothing to give back."""

    def put(self, row: JobView) -> None:
        """Put a row in place."""
        self.rows[row.id] = row
        self._touched[row.id] = None
        if row.status in TERMINAL:
            self.live.pop(row.id, None)
            self.ended[row.id] = None
        else:
            self.live[row.id] = None
            self.ended.pop(row.id, None)
        if row.status is None or row.queue_state not in PARTNERS[row.status]:
            self.apart[row.id] = None
        elif self.apart:
            self.apart.pop(row.id, None)

    def drop(self, job: JobId) -> None:
        """Delete a row."""
        del self.rows[job]
        self.live.pop(job, None)
        self.ended.pop(job, None)
        self.apart.pop(job, None)
        self._touched[job] = None
