"""An application's two tables on real pg-boss: `tool_job` as the guide has it, beside pg-boss's own schema.

Version 10 is its own statements over our connection; from 11 on it is the library, in a Node peer,
on one connection with the application's statements. What a version lacks an application does by SQL
of its own, and so does this: `touch` moves `started_on`, `fenced` compares `retry_count` under a
row lock, `final` lowers `retry_limit`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from psycopg.errors import InFailedSqlTransaction

from job_harness.core.model import HOUR, Duration, Instant, JobId, JobView, QueueState, Settings
from job_harness.core.own_code import CodeLine
from job_harness.core.port import Contract, JobRequest
from job_harness.core.sim.user_code import line_calling
from job_harness.engines.pgboss import tool_job
from job_harness.engines.pgboss.contract import DOUBLINGS, effective
from job_harness.engines.pgboss.package import NEWEST_OF_10, SCHEMA
from job_harness.engines.pgboss.queue import PgBossDatabase, PgBossEngine
from job_harness.engines.pgboss.translation import (
    DATA,
    ID,
    KEEP_UNTIL,
    RETRY_LIMIT,
    STRICTLY,
    json_text,
    send_values,
    uuid_of,
)
from job_harness.engines.two_tables import ENGINES, QUEUE, QueueRow, ToolJob, standing, view_of
from job_harness.worlds.wire.database import ForeignDatabase, Row, instant_of

T = TypeVar("T")
LOOK: Final = (
    "SELECT data->>'toolJobId' AS job, (data->>'row')::int AS number, name, state, priority, retry_limit, retry_count, "
    "start_after, started_on, started_on + expire_in AS lease_until, created_on FROM %s ORDER BY created_on, id"
)
_JOBS: Final = LOOK % f"{SCHEMA}.job"
_ARCHIVE: Final = LOOK % f"{SCHEMA}.archive"
_ARCHIVED_AFTER: Final = 12 * HOUR
"""pg-boss archives nothing younger: before, its archive is empty, and its statements for it change nothing."""
_WHERE: Final = "WHERE name = $1 AND id = $2::uuid AND state = 'active'"
_LOCK: Final = f"SELECT id FROM {SCHEMA}.job {_WHERE} AND retry_count = $3 FOR UPDATE".encode()
_TOUCH: Final = f"UPDATE {SCHEMA}.job SET started_on = now() {_WHERE} RETURNING id".encode()
_LAST: Final = f"UPDATE {SCHEMA}.job SET retry_limit = retry_count {_WHERE} RETURNING id".encode()
NEWEST_BY_STATEMENTS: Final = 10
"""The newest version that is driven by its statements."""
_ATTEMPTS: Final = 1000
"""What the tokens of two rows of a job are apart."""


@dataclass(frozen=True, slots=True)
class SentRow:
    """What a row of pg-boss is sent with."""

    id: str
    queue: str
    data: Mapping[str, Any]
    priority: int
    retry_limit: int


class PgBossCalls(Protocol):
    """pg-boss as an application calls it, on one connection with the application's own statements.

    `now` of the database is set before each call.
    """

    strictly: Duration
    """How long after its time a row can be fetched, 0 or a microsecond: rows are sent that much earlier."""
    own_touch: bool
    """Whether the library can extend a claim; else an application does."""
    own_fence: bool
    """Whether the library limits a call to the attempt that was fetched; else an application does."""

    @property
    def database(self) -> ForeignDatabase: ...

    def say(self, text: bytes, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement of the application's, in its transaction where one is open."""

    def read(self, text: str) -> list[Row]:
        """Read rows as they stand, those of the open transaction too."""

    def begin(self) -> None:
        """Open a transaction, which calls and statements join."""

    def end(self, *, well: bool) -> None:
        """Commit it, or roll it back."""

    def send(self, row: SentRow) -> bool: ...

    def fetch(self, queue: str, limit: int) -> list[Row]:
        """Return `id` and `data` of what was fetched, in the order in which it was chosen, and its `retryCount`."""

    def apply_verb(self, verb: str, queue: str, ids: Sequence[str], *, fetched: int | None = None) -> bool:
        """Complete, fail, touch, cancel or delete; with `fetched`, only the attempt that has this retry count."""

    def rows(self) -> list[Row]:
        """Read pg-boss's own table, oldest first."""

    def archived(self, now: Instant) -> list[Row]:
        """Read what it has put aside by now, oldest first."""

    def maintain(self, now: Instant, *, overdue: bool) -> bool:
        """Fail what is overdue, put aside and drop what is old; False where there was nothing to do."""


class StatementsOf10:
    """pg-boss 10: its own statements, over the connection that has the application's."""

    strictly = STRICTLY
    own_touch = own_fence = False

    def __init__(self, session: PgBossDatabase, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        self.database = session.database

    def say(self, text: bytes, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement of the application's."""
        return self.database.run(text, parameters, prepare=True)

    def read(self, text: str) -> list[Row]:
        """Read rows as they stand."""
        return self.say(text.encode())

    def begin(self) -> None:
        """Open a transaction."""
        self.database.run(b"BEGIN")

    def end(self, *, well: bool) -> None:
        """Commit it, or roll it back."""
        self.database.run(b"COMMIT" if well else b"ROLLBACK")

    def _run(self, *names: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._session.run(*names, parameters=parameters, now=self.database.now)

    def send(self, row: SentRow) -> bool:
        """Insert a row; False where one has its id."""
        self._session.create_queue(row.queue, now=self.database.now)
        values = send_values(JobRequest(row.id, tool=row.queue, priority=row.priority), self._settings)
        values[DATA] = json_text(row.data)
        values[ID] = row.id
        values[KEEP_UNTIL] = None  # pg-boss's own 14 days: `retention` is about tool_job
        values[RETRY_LIMIT] = row.retry_limit
        return bool(self._run("send", parameters=values))

    def fetch(self, queue: str, limit: int) -> list[Row]:
        """Fetch a batch. pg-boss returns it in no order; here it is that in which it chose."""
        fetched = self._run("fetch", parameters=[queue, limit])
        return sorted(fetched, key=lambda row: (-row["priority"], row["createdOn"], row["id"]))

    def apply_verb(self, verb: str, queue: str, ids: Sequence[str], *, fetched: int | None = None) -> bool:
        """Say a statement about these ids. Versions before 10.1 have none for delete."""
        more = [None] if verb in ("complete", "fail") else []
        return bool(self._run(verb, parameters=[queue, list(ids), *more])[0]["count"])

    def rows(self) -> list[Row]:
        """Read pg-boss's own table."""
        return self.read(_JOBS)

    def archived(self, now: Instant) -> list[Row]:
        """Read its archive."""
        return self.read(_ARCHIVE) if now > _ARCHIVED_AFTER else []

    def maintain(self, now: Instant, *, overdue: bool) -> bool:
        """Maintain, as the library does: fail what is overdue, archive, drop."""
        if overdue:
            self._run("expire")
        if now > _ARCHIVED_AFTER:
            self._run("archive", "drop")
        return overdue or now > _ARCHIVED_AFTER


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
        return PgBossTables(StatementsOf10(session, settings), settings, now, jitter)

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
        self, calls: PgBossCalls, settings: Settings, now: Callable[[], Instant], jitter: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.now = now
        self._calls = calls
        self._jitter = jitter
        self._workers: dict[tuple[JobId, int, int], str] = {}
        """By job, number of its row and attempt, who fetched it: pg-boss does not keep it."""
        self._views: dict[JobId, JobView] = {}
        self._touched: dict[JobId, None] = {}
        self._queues: dict[JobId, list[str]] = {}
        """By job and number, the queue that a row was sent to."""
        self._read: tuple[dict[JobId, ToolJob], list[QueueRow]] | None = None
        self._seen = False
        """Whether the views are of what stands in the tables."""
        self.within = False
        self.wrote: CodeLine | None = None
        self._failed = False
        """Whether a statement of the open transaction was refused: PostgreSQL takes no other."""

    # statements -----------------------------------------------------------------------------------------------------

    def _write_as_of(self, statement: Callable[..., T], *arguments: Any, ago: Duration = 0, **more: Any) -> T:
        """Say something that may write, at the store's time or so long before it; what it returns is empty or false
        where it changed nothing, and what was read still stands.
        """
        if self._failed:
            raise InFailedSqlTransaction("current transaction is aborted: a statement before this one was refused")
        self.wrote = line_calling(sys._getframe(1), folder=ENGINES)
        self._calls.database.set_now(self.now() - ago)
        try:
            changed = statement(*arguments, **more)
        except Exception:
            self._failed = self.within
            self._read, self._seen = None, False
            raise
        if changed:
            self._read, self._seen = None, False
        return changed

    def _write(self, text: bytes, parameters: list[Any]) -> list[Row]:
        return self._write_as_of(self._calls.say, text, parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo, where the block raises, what its statements did. It may not suspend; an inner one joins the outer."""
        if self.within:
            yield
            return
        self._calls.begin()
        self.within = True
        try:
            yield
            self._calls.end(well=not self._failed)
        except BaseException:
            self._calls.end(well=False)
            self._read, self._seen = None, False
            raise
        finally:
            self.within = self._failed = False

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

    def send(
        self,
        job: JobId,
        *,
        priority: int = 0,
        retry_limit: int | None = None,
        another: bool = False,
        queue: str = QUEUE,
    ) -> bool:
        """Send to pg-boss under an id made of the job's; return False where it has a row under that id.

        With `another`, the id is a new one, as it is where a caller of pg-boss gives none.
        """
        queues = self._queues.setdefault(job, [])
        number = len(queues) if another else 0
        queues[number : number + 1] = [queue]
        user = self.tool_jobs.get(job)
        most = self.settings.max_attempts if user is None else user.max_attempts
        limit = most - 1 if retry_limit is None else retry_limit
        data = {"toolJobId": job, **({"row": number} if number else {})}
        row = SentRow(_id(job, number), queue, data, priority, limit)
        return self._write_as_of(self._calls.send, row, ago=self._calls.strictly)

    def fetch(self, worker: str, limit: int = 1, *, queue: str = QUEUE) -> list[QueueRow]:
        """Fetch up to `limit` due rows of a queue, in the order in which pg-boss chose them."""
        fetched = self._write_as_of(self._calls.fetch, queue, limit)
        keys = [(row["data"]["toolJobId"], row["data"].get("row", 0)) for row in fetched]
        for key, row in zip(keys, fetched, strict=True):
            self._workers[(*key, row["retryCount"] + 1)] = worker
        rows = {(row.job, row.number): row for row in self._rows()[1]} if fetched else {}
        return [rows[key] for key in keys]

    def touch(self, row: QueueRow, *, fenced: bool = False) -> bool:
        """Let the lease begin anew; return whether the row is still `active`."""
        if self._calls.own_touch:
            return self._apply_fenced("touch", row, fenced=fenced)
        with self.transaction():
            return self._held(row, fenced=fenced) and bool(self._write(_TOUCH, [row.queue, _id_of(row)]))

    def complete(self, row: QueueRow, *, fenced: bool = False) -> bool:
        """Complete by id, as the library does: no matter which worker holds it, unless `fenced`."""
        return self._apply_fenced("complete", row, fenced=fenced)

    def fail(self, row: QueueRow, *, final: bool = False, fenced: bool = False) -> bool:
        """Fail by id, as the library does: no matter which worker holds it, if any, unless `fenced`."""
        self._draw()
        if not final:
            return self._apply_fenced("fail", row, fenced=fenced)
        with self.transaction():
            if not self._held(row, fenced=fenced):
                return False
            self._write(_LAST, [row.queue, _id_of(row)])
            return self._apply_fenced("fail", row, fenced=False)

    def cancel(self, job: JobId) -> bool:
        """Cancel what has not ended, every row of the job."""
        return self._every("cancel", job)

    def delete_row(self, job: JobId) -> bool:
        """Delete the queue's rows of a job; return whether there was one. Versions before 10.1 have no statement."""
        return self._every("delete", job)

    def expire(self) -> list[JobId]:
        """Maintain, as the library does. Return what was taken back."""
        now = self.now()
        overdue = [row.job for row in self._rows()[1] if row.lease_until is not None and row.lease_until <= now]
        if overdue:
            self._draw()
        self._write_as_of(self._calls.maintain, now, overdue=bool(overdue))
        return overdue

    def _apply_fenced(self, verb: str, row: QueueRow, *, fenced: bool) -> bool:
        settle = partial(self._write_as_of, self._calls.apply_verb, verb, row.queue, [_id_of(row)])
        if not fenced:
            return settle()
        if self._calls.own_fence:
            return settle(fetched=row.retry_count)
        with self.transaction():
            return self._held(row, fenced=True) and settle()

    def _every(self, verb: str, job: JobId) -> bool:
        """Settle every row of a job, in each of its queues."""
        by_queue: dict[str, list[str]] = {}
        for number, queue in enumerate(self._queues.get(job, [])):
            by_queue.setdefault(queue, []).append(_id(job, number))
        changed = [self._write_as_of(self._calls.apply_verb, verb, queue, ids) for queue, ids in by_queue.items()]
        return any(changed)

    def _held(self, row: QueueRow, *, fenced: bool) -> bool:
        return not fenced or bool(self._write(_LOCK, [row.queue, _id_of(row), row.retry_count]))

    def _draw(self) -> None:
        if self.settings.retry_backoff:
            self._calls.database.set_chance(self._jitter())

    # what the harness sees ------------------------------------------------------------------------------------------

    def jobs(self) -> Mapping[JobId, JobView]:
        """Return both rows of every job as one view; a row that pg-boss archived is still its job's."""
        if not self._seen:
            users, all_rows = self._rows()
            rows = _standing(all_rows)
            archive = _standing([self._row(row) for row in self._calls.archived(self.now())])
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
            users = [tool_job.tool_job_of(row) for row in self._calls.read(tool_job.SELECT)]
            self._read = {user.id: user for user in users}, [self._row(row) for row in self._calls.rows()]
        return self._read

    def _row(self, row: Row) -> QueueRow:
        attempt, number = row["retry_count"] + 1, row["number"] or 0
        seen = QueueRow(
            job=row["job"],
            state=QueueState(row["state"]),
            created_at=(instant_of(row["created_on"]) or 0) + self._calls.strictly,
            start_after=(instant_of(row["start_after"]) or 0) + self._calls.strictly,
            priority=row["priority"],
            retry_count=row["retry_count"],
            token=0 if row["started_on"] is None else number * _ATTEMPTS + attempt,
            retry_limit=row["retry_limit"],
            number=number,
            queue=row["name"],
        )
        if seen.state is not QueueState.ACTIVE:
            return seen
        lease = (instant_of(row["lease_until"]) or 0) + STRICTLY
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
