"""An application's two tables on real pg-boss 10: `tool_job` as the guide has it, beside pg-boss's own schema.

The queue is pg-boss's own statements. What version 10 lacks an application does by SQL of its own, and so does this:
`touch` moves `started_on`, `fenced` compares `retry_count` under a row lock, `final` lowers `retry_limit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from psycopg.errors import InFailedSqlTransaction

from harness.adapters.pgboss import tool_job
from harness.adapters.pgboss.contract import DOUBLINGS, effective
from harness.adapters.pgboss.package import NEWEST_OF_10, SCHEMA
from harness.adapters.pgboss.queue import PgBossDatabase, PgBossEngine
from harness.adapters.pgboss.translation import (
    DATA,
    ID,
    KEEP_UNTIL,
    RETRY_LIMIT,
    STRICTLY,
    json_text,
    send_values,
    uuid_of,
)
from harness.application import QueueRow, ToolJob
from harness.application.tables import standing, view_of
from harness.foreign.database import Row, instant_of
from harness.model.duration import HOUR, Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import QueueState
from harness.model.settings import Settings
from harness.port import Contract, JobRequest

QUEUE: Final = "tool"
"""The one queue of pg-boss that all jobs are sent to."""
_LOOK: Final = (
    "SELECT data->>'toolJobId' AS job, (data->>'row')::int AS number, state, priority, retry_limit, retry_count, "
    f"start_after, started_on, expire_in, created_on FROM {SCHEMA}.%s ORDER BY created_on, id"
)
_JOBS: Final = (_LOOK % "job").encode()
_ARCHIVE: Final = (_LOOK % "archive").encode()
_ARCHIVED_AFTER: Final = 12 * HOUR
"""pg-boss archives nothing younger: before, its archive is empty, and its statements for it change nothing."""
_WHERE: Final = "WHERE name = $1 AND id = $2::uuid AND state = 'active'"
_ATTEMPT: Final = "AND retry_count = $3"
_LOCK: Final = f"SELECT id FROM {SCHEMA}.job {_WHERE} {_ATTEMPT} FOR UPDATE".encode()
_TOUCH: Final = f"UPDATE {SCHEMA}.job SET started_on = now() {_WHERE} RETURNING id".encode()
_LAST: Final = f"UPDATE {SCHEMA}.job SET retry_limit = retry_count {_WHERE}".encode()


_ATTEMPTS: Final = 1000
"""What the tokens of two rows of a job are apart."""


class PgBossStore:
    """Opens both tables in one database, which is provided when they are first opened and lives until `close`."""

    contract = Contract(effective=effective, doublings=DOUBLINGS)

    def __init__(self, version: str = NEWEST_OF_10, *, dsn: str | None = None) -> None:
        """Choose a version of pg-boss 10, and a server instead of one started here."""
        self._engine = PgBossEngine(version, dsn=dsn)
        self.name = self._engine.info.name
        self._made: PgBossDatabase | None = None
        """The database in which both tables were made."""

    def open(self, settings: Settings, now: Callable[[], Instant], jitter: Callable[[], float]) -> PgBossTables:
        """Return empty tables. Raises EnvironmentUnavailable without Node, npm or PostgreSQL."""
        session = self._engine.session()
        if self._made is not session:
            session.database.run(tool_job.CREATE)
            session.database.check()
            session.create_queue(QUEUE, now=0)
            self._made = session
        session.reset()
        session.database.empty(tool_job.TABLE)
        return PgBossTables(session, settings, now, jitter)

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return self._engine.info.provenance()

    def confirm(self) -> None:
        """Raise EnvironmentUnavailable where the server is not there as it was."""
        self._engine.info.confirm()

    def close(self) -> None:
        """Stop what was provided. Never raises."""
        self._engine.close()
        self._made = None


class PgBossTables:
    """Every method is one statement, or one transaction. What was read is kept until the next statement that writes."""

    def __init__(
        self, session: PgBossDatabase, settings: Settings, now: Callable[[], Instant], jitter: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.now = now
        self._session = session
        self._jitter = jitter
        self._workers: dict[tuple[JobId, int, int], str] = {}
        """By job, number of its row and attempt, who fetched it: pg-boss does not keep it."""
        self._views: dict[JobId, JobView] = {}
        self._touched: dict[JobId, None] = {}
        self._numbers: dict[JobId, int] = {}
        """By job, the number of the row that was sent last."""
        self._read: tuple[dict[JobId, ToolJob], list[QueueRow]] | None = None
        self._seen = False
        """Whether the views are of what stands in the tables."""
        self._within = False
        self._failed = False
        """Whether a statement of the open transaction was refused: PostgreSQL takes no other."""

    # statements -----------------------------------------------------------------------------------------------------

    def _write(self, text: bytes, parameters: list[Any]) -> list[Row]:
        return self._said(lambda: self._session.database.run(text, parameters, prepare=True))

    def _say(self, name: str, parameters: list[Any] | None = None, *, ago: int = 0) -> list[Row]:
        return self._said(lambda: self._session.run(name, parameters, now=self.now() - ago))

    def _said(self, statement: Callable[[], list[Row]]) -> list[Row]:
        if self._failed:
            raise InFailedSqlTransaction("current transaction is aborted: a statement before this one was refused")
        self._session.database.set_now(self.now())
        self._read = None
        self._seen = False
        try:
            return statement()
        except Exception:
            self._failed = self._within
            raise

    def _count(self, name: str, ids: list[str], *more: Any) -> bool:
        return bool(self._say(name, [QUEUE, ids, *more])[0]["count"])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo, where the block raises, what its statements did. It may not suspend; an inner one joins the outer."""
        if self._within:
            yield
            return
        database = self._session.database
        database.run(b"BEGIN")
        self._within = True
        try:
            yield
            database.run(b"ROLLBACK" if self._failed else b"COMMIT")
        except BaseException:
            database.run(b"ROLLBACK")
            self._read, self._seen = None, False
            raise
        finally:
            self._within = self._failed = False

    # tool_job -------------------------------------------------------------------------------------------------------

    @property
    def tool_jobs(self) -> Mapping[JobId, ToolJob]:
        """Read all of `tool_job`, oldest first."""
        return self._rows()[0]

    def insert_tool_job(self, job: JobId, **values: Any) -> None:
        """Insert a PENDING row. Raises what PostgreSQL raises where it refuses it."""
        self._write(*tool_job.insertion(job, values, self.settings))

    def update_tool_job(self, job: JobId, where: Mapping[str, Any] | None = None, **values: Any) -> bool:
        """Set columns where the row exists and matches `where`; return whether a row was updated."""
        return bool(self._write(*tool_job.update(job, where or {}, values, self.settings)))

    def delete_tool_job(self, job: JobId) -> bool:
        """Delete the row; return whether there was one."""
        return bool(self._write(tool_job.DELETE, [job]))

    # the queue ------------------------------------------------------------------------------------------------------

    @property
    def queue(self) -> Mapping[JobId, QueueRow]:
        """Read pg-boss's own table, oldest first; what it archived is not there any more."""
        return _standing(self._rows()[1])

    def send(self, job: JobId, *, priority: int = 0, retry_limit: int | None = None, another: bool = False) -> bool:
        """Send to pg-boss under an id made of the job's; answer False where it has a row under that id.

        With `another`, the id is a new one, as it is where a caller of pg-boss gives none.
        """
        number = self._numbers.get(job, -1) + 1 if another else 0
        self._numbers[job] = max(number, self._numbers.get(job, 0))
        user = self.tool_jobs.get(job)
        most = self.settings.max_attempts if user is None else user.max_attempts
        values = send_values(JobRequest(job, tool=QUEUE, priority=priority), self.settings)
        values[DATA] = json_text({"toolJobId": job, **({"row": number} if number else {})})
        values[ID] = _id(job, number)
        values[KEEP_UNTIL] = None  # pg-boss's own 14 days: `retention` is about tool_job
        values[RETRY_LIMIT] = most - 1 if retry_limit is None else retry_limit
        return bool(self._say("send", values, ago=STRICTLY))

    def fetch(self, worker: str, limit: int = 1) -> list[QueueRow]:
        """Fetch up to `limit` due rows. pg-boss answers a batch in no order; here it is that in which it chose."""
        fetched = self._say("fetch", [QUEUE, limit])
        fetched.sort(key=lambda row: (-row["priority"], row["createdOn"], row["id"]))
        keys = [(row["data"]["toolJobId"], row["data"].get("row", 0)) for row in fetched]
        for key, row in zip(keys, fetched, strict=True):
            self._workers[(*key, row["retryCount"] + 1)] = worker
        rows = {(row.job, row.number): row for row in self._rows()[1]} if fetched else {}
        return [rows[key] for key in keys]

    def touch(self, row: QueueRow, *, fenced: bool = False) -> bool:
        """Let the lease begin anew; return whether the row is still `active`."""
        with self.transaction():
            return self._held(row, fenced) and bool(self._write(_TOUCH, [QUEUE, _id_of(row)]))

    def complete(self, row: QueueRow, *, fenced: bool = False) -> bool:
        """Complete by id, as the library does: no matter which worker holds it, unless `fenced`."""
        if not fenced:
            return self._count("complete", [_id_of(row)], None)
        with self.transaction():
            return self._held(row, fenced) and self._count("complete", [_id_of(row)], None)

    def fail(self, row: QueueRow, *, final: bool = False, fenced: bool = False) -> bool:
        """Fail by id, as the library does: no matter which worker holds it, if any, unless `fenced`."""
        self._draw()
        if not final and not fenced:
            return self._count("fail", [_id_of(row)], None)
        with self.transaction():
            if not self._held(row, fenced):
                return False
            if final:
                self._write(_LAST, [QUEUE, _id_of(row)])
            return self._count("fail", [_id_of(row)], None)

    def cancel(self, job: JobId) -> bool:
        """Cancel what has not ended, every row of the job."""
        return self._count("cancel", self._ids(job))

    def delete_row(self, job: JobId) -> bool:
        """Delete the queue's rows of a job; return whether there was one. Versions before 10.1 have no statement."""
        return self._count("delete", self._ids(job))

    def expire(self) -> list[JobId]:
        """Maintain, as the library does: fail what is overdue, archive, drop. Return what was taken back.

        A statement that would find nothing to do is not said.
        """
        now = self.now()
        overdue = [row.job for row in self._rows()[1] if row.lease_until is not None and row.lease_until <= now]
        if overdue:
            self._draw()
            self._say("expire")
        if now > _ARCHIVED_AFTER:
            self._say("archive")
            self._say("drop")
        return overdue

    def _ids(self, job: JobId) -> list[str]:
        return [_id(job, number) for number in range(self._numbers.get(job, 0) + 1)]

    def _held(self, row: QueueRow, fenced: bool) -> bool:
        return not fenced or bool(self._write(_LOCK, [QUEUE, _id_of(row), row.retry_count]))

    def _draw(self) -> None:
        if self.settings.retry_backoff:
            self._session.database.set_chance(self._jitter())

    # what the harness sees ------------------------------------------------------------------------------------------

    def jobs(self) -> Mapping[JobId, JobView]:
        """Return both rows of every job as one view; a row that pg-boss archived is still its job's."""
        if not self._seen:
            users, all_rows = self._rows()
            rows = _standing(all_rows)
            archive = _standing(self._queue_rows(_ARCHIVE)) if self.now() > _ARCHIVED_AFTER else {}
            archived = {job: row for job, row in archive.items() if job in users}
            views = {
                job: view_of(job, users.get(job), rows.get(job, archived.get(job)), self.settings)
                for job in dict.fromkeys((*users, *rows))
            }
            for job in dict.fromkeys((*views, *self._views)):
                if views.get(job) != self._views.get(job):
                    self._touched[job] = None
            self._views = views
            self._seen = True
        return self._views

    def changed(self) -> list[JobId]:
        """Return and forget which jobs were touched, as of the last look."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def _rows(self) -> tuple[dict[JobId, ToolJob], list[QueueRow]]:
        if self._read is None:
            users = [tool_job.tool_job_of(row) for row in self._session.database.run(tool_job.SELECT, [], prepare=True)]
            self._read = {user.id: user for user in users}, self._queue_rows(_JOBS)
        return self._read

    def _queue_rows(self, look: bytes) -> list[QueueRow]:
        return [self._row(row) for row in self._session.database.run(look, [], prepare=True)]

    def _row(self, row: Row) -> QueueRow:
        active, started = row["state"] == "active", row["started_on"]
        attempt, number = row["retry_count"] + 1, row["number"] or 0
        seen = QueueRow(
            job=row["job"],
            state=QueueState(row["state"]),
            created_at=(instant_of(row["created_on"]) or 0) + STRICTLY,
            start_after=(instant_of(row["start_after"]) or 0) + STRICTLY,
            priority=row["priority"],
            retry_count=row["retry_count"],
            token=0 if started is None else number * _ATTEMPTS + attempt,
            retry_limit=row["retry_limit"],
            number=number,
        )
        if not active:
            return seen
        lease = (instant_of(started + row["expire_in"]) or 0) + STRICTLY
        return replace(seen, worker=self._workers.get((row["job"], number, attempt)), lease_until=lease)


def _id(job: JobId, number: int) -> str:
    return uuid_of(f"{job}~{number}" if number else job)


def _id_of(row: QueueRow) -> str:
    return _id(row.job, row.number)


def _standing(rows: Iterable[QueueRow]) -> dict[JobId, QueueRow]:
    """Return by job the row that is shown."""
    shown: dict[JobId, QueueRow] = {}
    for row in rows:
        shown[row.job] = standing([row, shown[row.job]]) or row if row.job in shown else row
    return shown


def open_store(version: str = NEWEST_OF_10) -> PgBossStore:
    """Return the store of this version."""
    return PgBossStore(version)
