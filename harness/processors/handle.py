"""A job that was enqueued; whatever is asked of it is read at that moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.history.event import Effect
from harness.model.job import JobId, JobView, Json
from harness.model.lifecycle import Status
from harness.processors.delivery import RESERVED

if TYPE_CHECKING:
    from harness.history.event import History


class JobHandle:
    """Reads one job live. A job past its retention is answered as it last was."""

    __slots__ = ("_history", "_read", "id", "tool")

    def __init__(self, job: JobId, tool: str, *, read: Callable[[JobId], JobView], history: History) -> None:
        self.id = job
        self.tool = tool
        self._read = read
        self._history = history

    @property
    def view(self) -> JobView:
        """Everything that both rows tell."""
        return self._read(self.id)

    @property
    def status(self) -> Status:
        """PENDING, PROCESSING, COMPLETED, FAILED or CANCELLED; equal to the plain text."""
        status = self.view.status
        assert status is not None, "the reference writes both rows at once"
        return status

    @property
    def attempts(self) -> int:
        """How often it was claimed."""
        return self.view.attempts

    @property
    def path(self) -> list[str]:
        """The statuses that it went through so far."""
        self._read(self.id)
        return self._history.path(self.id)

    @property
    def output(self) -> Json:
        """What the attempt that completed it answered, through JSON and back."""
        return self.view.output

    @property
    def error(self) -> str | None:
        """What the last failed attempt left behind."""
        return self.view.error

    @property
    def effects(self) -> list[tuple[str, dict[str, Json]]]:
        """The side effects that its processor declared, each as (name, data), in order."""
        return [
            (event.name, dict(event.data))
            for event in self._history.of_job(self.id)
            if type(event) is Effect and event.name not in RESERVED
        ]

    def __repr__(self) -> str:
        view = self._read(self.id)
        return f"<job {self.id} of {self.tool}: {view.status}, attempts {view.attempts} of {view.max_attempts}>"
