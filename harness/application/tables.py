"""What an application's statements go to: two tables, in memory or in a database, and the store that opens them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from harness.application.two_tables import QueueRow, ToolJob, TwoTables
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.settings import Settings
from harness.port import Contract


class Tables(Protocol):
    """`tool_job` and the queue. Every method is one statement; `TwoTables` says what each does."""

    settings: Settings
    now: Callable[[], Instant]

    @property
    def tool_jobs(self) -> Mapping[JobId, ToolJob]: ...

    @property
    def queue(self) -> Mapping[JobId, QueueRow]: ...

    def transaction(self) -> AbstractContextManager[None]: ...

    def insert_tool_job(self, job: JobId, **values: Any) -> None: ...

    def update_tool_job(self, job: JobId, where: Mapping[str, Any] | None = None, **values: Any) -> bool: ...

    def delete_tool_job(self, job: JobId) -> bool: ...

    def send(self, job: JobId, *, priority: int = 0, retry_limit: int | None = None) -> bool: ...

    def fetch(self, worker: str, limit: int = 1) -> list[QueueRow]: ...

    def touch(self, row: QueueRow, *, fenced: bool = False) -> bool: ...

    def complete(self, row: QueueRow, *, fenced: bool = False) -> bool: ...

    def fail(self, row: QueueRow, *, final: bool = False, fenced: bool = False) -> bool: ...

    def cancel(self, job: JobId) -> bool: ...

    def delete_row(self, job: JobId) -> bool: ...

    def expire(self) -> list[JobId]: ...

    def jobs(self) -> Mapping[JobId, JobView]: ...

    def changed(self) -> list[JobId]: ...


class TableStore(Protocol):
    """Opens two empty tables for every run."""

    name: str
    contract: Contract

    @property
    def provenance(self) -> str:
        """Where its database came from; empty where there is none."""
        ...

    def open(self, settings: Settings, now: Callable[[], Instant], jitter: Callable[[], float]) -> Tables:
        """Answer empty tables. Raises EnvironmentUnavailable where the machine lacks what they need."""
        ...

    def close(self) -> None:
        """Give back what was provided. Never raises."""
        ...


class InMemory:
    """Two tables in memory, which need nothing."""

    name = "memory"
    contract = Contract()
    provenance = ""

    def open(self, settings: Settings, now: Callable[[], Instant], jitter: Callable[[], float]) -> TwoTables:
        """Answer empty tables."""
        return TwoTables(settings, now, jitter)

    def close(self) -> None:
        """Nothing to give back."""
