"""A job as an observer sees it, both rows in one value."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, TypeAlias

from job_harness.core.model.duration import Instant
from job_harness.core.model.lifecycle import PARTNERS, TERMINAL, QueueState, Status

JobId: TypeAlias = str
Json: TypeAlias = Any


def slug_of(name: str) -> str:
    """Return the tool's name of what another library calls so: `shop.tasks.charge_card` is `shop-tasks-charge-card`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class JobView(NamedTuple):
    """Everything that an engine tells about one job; what an engine does not keep is None.

    `status` is None where the user's row is missing, `queue_state` where the queue's row is.
    """

    id: JobId
    tool: str
    status: Status | None
    queue_state: QueueState | None
    priority: int
    attempts: int
    max_attempts: int
    token: int
    worker: str | None
    output: Json
    error: str | None
    unique_key: str | None
    created_at: Instant
    start_after: Instant
    started_at: Instant | None
    lease_until: Instant | None
    completed_at: Instant | None
    expires_at: Instant | None
    input: Json = None
    serial_key: str | None = None
    dead_letter: str | None = None
    """The tool that gets its input as a new job once this one failed for good."""
    dead_of: JobId | None = None
    """The job whose dead letter this is."""
    schedule: str | None = None
    """The schedule that made it, and for which of its slots."""
    slot: Instant | None = None
    depends_on: Any = None
    """The jobs, a tuple of their ids, that have to be COMPLETED before it begins; None: it waits for none."""
    parent: JobId | None = None
    """The job that waits for this one."""
    group: str | None = None
    callback_of: str | None = None
    """The group whose callback it is: it runs once, after the last job of that group has ended."""

    def changed(self, **fields: Any) -> JobView:
        """Return a copy with some fields replaced, as `_replace` does it, in a third of the time."""
        values = list(self)
        for name, value in fields.items():
            values[_PLACES[name]] = value
        return tuple.__new__(JobView, values)

    @property
    def terminal(self) -> bool:
        """Whether only an operator leads out of this status."""
        return self.status in TERMINAL

    @property
    def agrees(self) -> bool:
        """Whether both rows are there and tell the same."""
        return self.status is not None and self.queue_state in PARTNERS[self.status]


_PLACES: Final = {name: place for place, name in enumerate(JobView._fields)}
