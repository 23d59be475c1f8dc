"""The two tables of an application: `tool_job`, which users see, and the queue's own rows, as pg-boss keeps them.

Every method is one statement: whole, and at one moment; where others may act, the caller says with
a step. The rows are in memory, or wherever a `TableStore` keeps them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Protocol

from job_harness.core.model import (
    TERMINAL,
    Instant,
    JobId,
    JobView,
    Json,
    QueueState,
    Settings,
    Status,
    json_problem,
    retry_delay,
)
from job_harness.core.own_code import PACKAGE, CodeLine
from job_harness.core.port import Contract
from job_harness.core.sim.user_code import line_calling
from job_harness.errors import did_you_mean

ENGINES: Final = f"{PACKAGE}engines{os.sep}"
QUEUE: Final = "tool"
"""The queue that jobs are sent to where an application names none."""


@dataclass(frozen=True, slots=True)
class ToolJob:
    """One row of `tool_job`, as it was when it was read. Times are microseconds on the store's clock."""

    id: JobId
    status: Status
    max_attempts: int
    created_at: Instant
    updated_at: Instant
    tool: str = "tool"
    input: Json = None
    priority: int = 0
    attempts: int = 0
    output: Json = None
    error: str | None = None
    started_at: Instant | None = None
    completed_at: Instant | None = None
    expires_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One row of the queue's table, as it was when it was read."""

    job: JobId
    state: QueueState
    created_at: Instant
    start_after: Instant
    priority: int = 0
    retry_count: int = 0
    token: int = 0
    """How often it was fetched: a safeguard may compare it."""
    worker: str | None = None
    lease_until: Instant | None = None
    retry_limit: int | None = None
    """How often it may be delivered again; None: so that there are as many deliveries as the job may have attempts."""
    number: int = 0
    """Which of the job's rows it is, from 0."""
    queue: str = QUEUE
    """The name of the queue that it was sent to."""

    @property
    def attempt(self) -> int:
        """The number of the delivery, from 1."""
        return self.retry_count + 1


WAITING = (QueueState.CREATED, QueueState.RETRY)


def standing(rows: Iterable[QueueRow]) -> QueueRow | None:
    """Return which of a job's rows is shown: at work, else waiting, else ended; of several the newest."""
    return max(rows, key=lambda row: (row.state is QueueState.ACTIVE, row.state in WAITING, row.number), default=None)


TOOL_JOB_COLUMNS = frozenset(field.name for field in fields(ToolJob)) - {"id", "created_at", "updated_at"}


class TwoTables:
    """Rows are immutable; a statement puts new ones in place."""

    def __init__(self, settings: Settings, now: Callable[[], Instant], jitter: Callable[[], float]) -> None:
        self.settings = settings
        self.now = now
        """Reads the store's clock."""
        self.within = False
        self.tool_jobs: dict[JobId, ToolJob] = {}
        self.queue: dict[JobId, QueueRow] = {}
        """By job, the row that stands for it, which `standing` chooses."""
        self._rows: dict[JobId, dict[int, QueueRow]] = {}
        """By job and number."""
        self._jitter = jitter
        self._views: dict[JobId, JobView] = {}
        self._touched: dict[JobId, None] = {}
        self.wrote: CodeLine | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo, where the block raises, what its statements did. It may not suspend."""
        before = dict(self.tool_jobs), dict(self.queue), {job: dict(rows) for job, rows in self._rows.items()}
        outer, self.within = self.within, True
        try:
            yield
        except BaseException:
            self.tool_jobs, self.queue, self._rows = before
            for job in dict.fromkeys((*self._views, *self.tool_jobs, *self.queue)):
                self._project(job)
            raise
        finally:
            self.within = outer

    # tool_job -------------------------------------------------------------------------------------------------------

    def insert_tool_job(self, job: JobId, **values: Any) -> None:
        """Insert a PENDING row; `values` are further columns. Raises ValueError where the id exists."""
        if job in self.tool_jobs:
            raise ValueError(f"tool_job {job!r} exists")
        now = self.now()
        row = ToolJob(job, Status.PENDING, self.settings.max_attempts, created_at=now, updated_at=now)
        self._put_tool_job(replace(row, **_columns(values)))

    def update_tool_job(self, job: JobId, where: Mapping[str, Any] | None = None, **values: Any) -> bool:
        """Set columns where the row exists and matches `where`; return whether a row was updated.

        A status of PROCESSING stamps `started_at`, a terminal one `completed_at` and `expires_at`,
        unless given.
        """
        row = self.tool_jobs.get(job)
        if row is None or not all(getattr(row, name) == value for name, value in _columns(where or {}).items()):
            return False
        now = self.now()
        columns = _columns(values)
        status = columns.get("status", row.status)
        if "status" in columns and status is Status.PROCESSING:
            columns.setdefault("started_at", now)
        elif "status" in columns and status in TERMINAL:
            columns.setdefault("completed_at", now)
            columns.setdefault("expires_at", now + self.settings.retention)
        self._put_tool_job(replace(row, updated_at=now, **columns))
        return True

    def delete_tool_job(self, job: JobId) -> bool:
        """Delete the row; return whether there was one."""
        found = self.tool_jobs.pop(job, None)
        self._project(job)
        return found is not None

    # the queue ------------------------------------------------------------------------------------------------------

    def send(
        self,
        job: JobId,
        *,
        priority: int = 0,
        retry_limit: int | None = None,
        another: bool = False,
        queue: str = QUEUE,
    ) -> bool:
        """Insert a row into a queue in state `created`; return False where one is there that has not ended.

        `retry_limit` counts retries: one more is delivered. Unless given it follows from the job's `max_attempts`.
        With `another`, the row is inserted whatever rows the job has: a queue that is given no id of its own does so.
        """
        rows = self._rows.get(job, {})
        if not another and any(row.state in (*WAITING, QueueState.ACTIVE) for row in rows.values()):
            return False
        now = self.now()
        number = max(rows, default=-1) + 1 if another else max(rows, default=0)
        token = rows[number].token if number in rows else 0
        fresh = QueueRow(job, QueueState.CREATED, created_at=now, start_after=now, priority=priority, token=token)
        self._put_row(replace(fresh, retry_limit=retry_limit, number=number, queue=queue))
        return True

    def fetch(self, worker: str, limit: int = 1, *, queue: str = QUEUE) -> list[QueueRow]:
        """Take up to `limit` due rows of a queue: the highest priority first, then the oldest; `active` for a lease."""
        now = self.now()
        waiting = [row for row in self._all_rows() if row.queue == queue and row.state in WAITING]
        due = [row for row in waiting if row.start_after <= now]
        due.sort(key=lambda row: (-row.priority, row.created_at, row.job, row.number))
        lease = now + self.settings.lease
        taken = []
        for row in due[:limit]:
            token = max(each.token for each in self._rows[row.job].values()) + 1
            taken.append(replace(row, state=QueueState.ACTIVE, worker=worker, token=token, lease_until=lease))
            self._put_row(taken[-1])
        return taken

    def touch(self, row: QueueRow, *, fenced: bool = False) -> bool:
        """Extend the lease by its full length; return whether the row is still `active`."""
        current = self._active(row, fenced=fenced)
        if current is not None:
            self._put_row(replace(current, lease_until=self.now() + self.settings.lease))
        return current is not None

    def complete(self, row: QueueRow, *, fenced: bool = False) -> bool:
        """Settle as `completed` if it is `active`, whichever worker has it; with `fenced`, only by its latest fetch."""
        current = self._active(row, fenced=fenced)
        if current is not None:
            self._put_row(replace(current, state=QueueState.COMPLETED, worker=None, lease_until=None))
        return current is not None

    def fail(self, row: QueueRow, *, final: bool = False, fenced: bool = False) -> bool:
        """Settle as `retry`, or as `failed` where no retry is left; where it is `active`, as `complete` does."""
        current = self._active(row, fenced=fenced)
        if current is not None:
            self._put_row(self._failed(current, final=final))
        return current is not None

    def cancel(self, job: JobId) -> bool:
        """Settle as `cancelled` what has not ended, every row of the job."""
        rows = [row for row in self._rows.get(job, {}).values() if row.state in (*WAITING, QueueState.ACTIVE)]
        for row in rows:
            self._put_row(replace(row, state=QueueState.CANCELLED, worker=None, lease_until=None))
        return bool(rows)

    def delete_row(self, job: JobId) -> bool:
        """Delete the queue's rows of a job; return whether there was one."""
        found = self.queue.pop(job, None)
        self._rows.pop(job, None)
        self._project(job)
        return found is not None

    def expire(self) -> list[JobId]:
        """Take back every `active` row whose lease ran out: the queue's own upkeep."""
        now = self.now()
        overdue = [row for row in self._all_rows() if row.lease_until is not None and row.lease_until <= now]
        for row in overdue:
            self._put_row(self._failed(row, final=False))
        return [row.job for row in overdue]

    def _active(self, row: QueueRow, *, fenced: bool) -> QueueRow | None:
        current = self._rows.get(row.job, {}).get(row.number)
        if current is None or current.state is not QueueState.ACTIVE or (fenced and current.token != row.token):
            return None
        return current

    def _failed(self, row: QueueRow, *, final: bool) -> QueueRow:
        tool_job = self.tool_jobs.get(row.job)
        most = self.settings.max_attempts if tool_job is None else tool_job.max_attempts
        if row.retry_limit is not None:
            most = row.retry_limit + 1
        ended = replace(row, worker=None, lease_until=None)
        if final or row.attempt >= most:
            return replace(ended, state=QueueState.FAILED)
        delay = retry_delay(self.settings, attempts=row.attempt, jitter=self._jitter())
        return replace(ended, state=QueueState.RETRY, retry_count=row.retry_count + 1, start_after=self.now() + delay)

    # what the harness sees ------------------------------------------------------------------------------------------

    def jobs(self) -> Mapping[JobId, JobView]:
        """Return both rows of every job as one view."""
        return self._views

    def changed(self) -> list[JobId]:
        """Return and forget which jobs were touched."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def _put_tool_job(self, row: ToolJob) -> None:
        self.tool_jobs[row.id] = row
        self._project(row.id)

    def _put_row(self, row: QueueRow) -> None:
        rows = self._rows.setdefault(row.job, {})
        rows[row.number] = row
        self.queue[row.job] = standing(rows.values()) or row
        self._project(row.job)

    def _all_rows(self) -> list[QueueRow]:
        return [row for rows in self._rows.values() for row in rows.values()]

    def _project(self, job: JobId) -> None:
        self._touched[job] = None
        self.wrote = line_calling(sys._getframe(1), folder=ENGINES)
        user, row = self.tool_jobs.get(job), self.queue.get(job)
        if user is None and row is None:
            self._views.pop(job, None)
        else:
            self._views[job] = view_of(job, user, row, self.settings)


def view_of(job: JobId, user: ToolJob | None, row: QueueRow | None, settings: Settings) -> JobView:
    """Return the two rows of a job, either of which may be missing, as an observer sees them."""
    created = user.created_at if user is not None else row.created_at if row is not None else 0
    return JobView(
        id=job,
        tool="tool" if user is None else user.tool,
        status=None if user is None else user.status,
        queue_state=None if row is None else row.state,
        priority=0 if row is None else row.priority,
        attempts=0 if user is None else user.attempts,
        max_attempts=settings.max_attempts if user is None else user.max_attempts,
        token=0 if row is None else row.token,
        worker=None if row is None else row.worker,
        output=None if user is None else user.output,
        error=None if user is None else user.error,
        unique_key=None,
        created_at=created,
        start_after=created if row is None else row.start_after,
        started_at=None if user is None else user.started_at,
        lease_until=None if row is None else row.lease_until,
        completed_at=None if user is None else user.completed_at,
        expires_at=None if user is None else user.expires_at,
    )


def columns_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Take column values as a user wrote them. Raises TypeError for a column that does not exist."""
    for name in values:
        if name not in TOOL_JOB_COLUMNS:
            near = did_you_mean(name, TOOL_JOB_COLUMNS)
            raise TypeError(f"tool_job has no column {name!r}{near}; it has {', '.join(sorted(TOOL_JOB_COLUMNS))}")
    columns = dict(values)
    if "status" in columns:
        columns["status"] = Status(columns["status"])
    return columns


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Take column values. Raises ValueError for what PostgreSQL would refuse."""
    columns = columns_of(values)
    for name in ("input", "output", "error"):
        if name in columns and (problem := json_problem(columns[name])):
            raise ValueError(f"{name}: {problem}")
    return columns


class Tables(Protocol):
    """`tool_job` and the queue. Every method is one statement; `TwoTables` says what each does."""

    settings: Settings
    now: Callable[[], Instant]
    within: bool
    """Whether a transaction is open: a process that suspends now would let others see what it may yet undo."""
    wrote: CodeLine | None
    """The line of the application that wrote last; None where the tables' own upkeep did."""

    @property
    def tool_jobs(self) -> Mapping[JobId, ToolJob]: ...

    @property
    def queue(self) -> Mapping[JobId, QueueRow]: ...

    def transaction(self) -> AbstractContextManager[None]: ...

    def insert_tool_job(self, job: JobId, **values: Any) -> None: ...

    def update_tool_job(self, job: JobId, where: Mapping[str, Any] | None = None, **values: Any) -> bool: ...

    def delete_tool_job(self, job: JobId) -> bool: ...

    def send(
        self,
        job: JobId,
        *,
        priority: int = 0,
        retry_limit: int | None = None,
        another: bool = False,
        queue: str = QUEUE,
    ) -> bool: ...

    def fetch(self, worker: str, limit: int = 1, *, queue: str = QUEUE) -> list[QueueRow]: ...

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
        """Where its database came from; empty if there is none."""

    def open(self, settings: Settings, now: Callable[[], Instant], jitter: Callable[[], float]) -> Tables:
        """Return empty tables. Raises EnvironmentUnavailable where the machine lacks what they need."""

    def confirm(self) -> None:
        """Raise EnvironmentUnavailable where what they are kept in is not there as it was."""

    def close(self) -> None:
        """Give back what was provided. Never raises."""


class InMemory:
    """Two tables in memory, which need nothing."""

    name = "memory"
    contract = Contract()
    provenance = ""

    def open(self, settings: Settings, now: Callable[[], Instant], jitter: Callable[[], float]) -> TwoTables:
        """Return empty tables."""
        return TwoTables(settings, now, jitter)

    def confirm(self) -> None:
        """Memory is there."""

    def close(self) -> None:
        """Nothing to give back."""
