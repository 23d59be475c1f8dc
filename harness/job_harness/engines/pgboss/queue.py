"""Opens pg-boss 10 by its SQL: `pgboss@10.4.2` is that version's own statements, on a PostgreSQL provided for it.

The queue says the verbs of the harness in those statements and decides nothing: every rule is
pg-boss's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import psycopg

from job_harness.core.history import DONE, Outcome, done
from job_harness.core.model import Instant, JobId, JobView, Json, Settings
from job_harness.core.port import Capabilities, Claim, EngineClocks, EngineInfo, JobRequest
from job_harness.engines.foreign_queue import OneTableQueue
from job_harness.engines.pgboss.contract import contract_of, policy_suffix, split_policy
from job_harness.engines.pgboss.package import NEWEST_OF_10, SCHEMA, PgBossStatements, check_version
from job_harness.engines.pgboss.translation import (
    PLAIN,
    STRICTLY,
    PgBossKeys,
    json_text,
    result_text,
    send_values,
    turns,
    uuid_of,
    view_of,
)
from job_harness.worlds.postgres.pipeline import UNREAD, PreparedQuery
from job_harness.worlds.wire.database import ForeignDatabase, Row

_TABLES: Final = (f"{SCHEMA}.job", f"{SCHEMA}.archive")
_COLUMNS: Final = (
    "id, name, data, state, priority, retry_limit, retry_count, start_after, started_on, expire_in, singleton_key, "
    "created_on, completed_on, output, dead_letter"
)
_UNION: Final = " UNION ALL ".join(f"SELECT {_COLUMNS} FROM {table}" for table in _TABLES)
_LOOK: Final = PreparedQuery(f"{_UNION} ORDER BY created_on, id".encode(), kept=True)
"""Reads all jobs, archived ones too, oldest first."""


class PgBossDatabase:
    """pg-boss's statements on a database of its own."""

    def __init__(self, package: PgBossStatements, dsn: str | None = None, *, policy: str = "standard") -> None:
        """Let pg-boss's own statements create its schema; every queue will have this policy.

        Raises EnvironmentUnavailable where there is no PostgreSQL, or where its clock cannot be
        made virtual.
        """
        self.database = ForeignDatabase(dsn)
        self._options = json.dumps({"policy": policy})
        self._queues: set[str] = set()
        """Queues that exist: their partitions outlive a reset."""
        statements = dict(package.statements)
        create = statements.pop("create") or ""
        self._statements = {name: _queries(text) for name, text in statements.items() if text}
        self._read: tuple[int, list[Row]] | None = None
        """All jobs, and the database's revision when they were read."""
        self._unread = 0
        """How many statements were run since they were asked for."""
        try:
            self.database.run(create.encode())
            self.database.check()
        except BaseException:
            self.database.close()
            raise

    def has(self, name: str) -> bool:
        """Whether this version of the library has a statement of this name."""
        return name in self._statements

    def run(self, *names: str, parameters: Sequence[Any] = (), now: Instant, look: bool = False) -> list[Row]:
        """Run statements by name, and return what the last one returned; `look`: read all jobs on the same way.

        Raises EnvironmentUnavailable where PostgreSQL went away, and psycopg's errors for what it
        refused.
        """
        queries = [query for name in names for query in self._statements[name]]
        queries[-1] = queries[-1]._replace(values=parameters)
        along = [_LOOK] if look and self._unread < UNREAD else []
        self._unread += 1
        told = self.database.together(*queries, *along, now=now)
        if along:
            self._read = self.database.revision, told[-1]
        return told[len(queries) - 1]

    def rows(self) -> list[Row]:
        """Return all jobs, archived ones too, oldest first; read anew where anything was sent since."""
        self._unread = 0
        if self._read is None or self._read[0] != self.database.revision:
            (rows,) = self.database.together(_LOOK)
            self._read = self.database.revision, rows
        return self._read[1]

    def create_queue(self, name: str, *, now: Instant) -> None:
        """Create a queue and its partition, once."""
        if name not in self._queues:
            self.run("create_queue", parameters=[name, self._options], now=now)
            self._queues.add(name)

    def reset(self) -> None:
        """Delete every job; queues stay."""
        self.database.empty(*_TABLES)


def _queries(script: str) -> list[PreparedQuery]:
    """Return the statements of a script of pg-boss's, each of which is planned once; no semicolon stands within one."""
    return [PreparedQuery(text.encode()) for text in script.split(";") if text.strip()]


NOTHING: Final = Outcome.refused("pg-boss changed no row")
REFUSED: Final = (psycopg.DataError, TypeError, ValueError)
"""What a value that JSON or a column cannot hold raises: nothing was written."""


class PgBossQueue(OneTableQueue):
    """A queue under test over pg-boss 10.

    A claim is told apart by the number of its attempt; pg-boss itself keeps no token, and whether
    it needs one is for the invariants to say.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        cancel=True, retry=True, priorities=True, start_after=True, virtual_time=True, fencing=True
    )

    def __init__(
        self,
        session: PgBossDatabase,
        settings: Settings,
        clocks: EngineClocks,
        jitter: Callable[[], float],
        *,
        keys: PgBossKeys = PLAIN,
    ) -> None:
        self._keys = keys
        self._session = session
        self._settings = settings
        self._clocks = clocks
        self._jitter = jitter
        self._tools: dict[JobId, str] = {}
        self._workers: dict[tuple[JobId, int], str] = {}
        """Who claimed which attempt: pg-boss does not keep it."""
        self._granted: dict[JobId, int] = {}
        """The last attempt that a resume allowed a job, whatever its limit."""
        self._known: dict[JobId, tuple[Row, str | None, int, JobView]] = {}
        """By job, what was read last, and how it was shown."""

    def _run(self, *statements: str, parameters: Sequence[Any] = (), ago: int = 0) -> list[Row]:
        return self._session.run(*statements, parameters=parameters, now=self._clocks.store() - ago, look=True)

    def _count(self, statement: str, parameters: list[Any]) -> Outcome:
        return DONE if self._run(statement, parameters=parameters)[0]["count"] else NOTHING

    def _draw(self) -> None:
        if self._settings.retry_backoff:
            self._session.database.set_chance(self._jitter())

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        known, self._known = self._known, {}
        for row in self._session.rows():
            job = row["data"]["job"]
            worker = self._workers.get((job, row["retry_count"] + 1))
            granted = self._granted.get(job, 0)
            seen = known.get(job)
            if seen is None or seen[0] is not row or seen[1:3] != (worker, granted):
                seen = row, worker, granted, view_of(row, worker=worker, granted=granted, keys=self._keys)
            self._known[job] = seen
        return {job: seen[3] for job, seen in self._known.items()}

    # producers and operators ----------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Send a job to the queue of its tool, created first where it is new."""
        if request.id in self._tools:
            return Outcome.refused("this id exists", request.id)
        try:
            self._session.create_queue(self._keys.queue(request.tool), now=self._clocks.store())
            values = send_values(request, self._settings, self._keys)
            rows = self._run("send", parameters=values, ago=STRICTLY)
        except REFUSED as error:
            return Outcome.refused(f"invalid input: {error}")
        if not rows:
            return Outcome.refused("send answered null", request.id)
        self._tools[request.id] = request.tool
        return done(request.id)

    def cancel(self, job: JobId) -> Outcome:
        """Cancel what is not finished."""
        return self._ask_by_id("cancel", job)

    def retry(self, job: JobId) -> Outcome:
        """Resume what was cancelled, retry what failed: one attempt more than it had."""
        before = self.jobs().get(job)
        outcome = self._ask_by_id("resume", job)
        if not outcome.done and self._session.has("retry"):
            outcome = self._ask_by_id("retry", job)
        if outcome.done and before is not None:
            self._granted[job] = before.attempts + 1
        return outcome

    def _ask_by_id(self, statement: str, job: JobId) -> Outcome:
        tool = self._tools.get(job)
        if tool is None:
            return NOTHING
        try:
            return self._count(statement, [self._keys.queue(tool), [uuid_of(job)]])
        except psycopg.errors.UniqueViolation as error:
            return Outcome.refused(f"the key is held: {error}")

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Outcome:
        """Fetch from the queues in such turns that the order of jobs is that of one queue."""
        queues = list(dict.fromkeys(self._keys.queue(tool) for tool in self._tools.values()))
        seen = self._session.rows() if len(queues) > 1 else []
        claims: list[Claim] = []
        for queue, most in turns(seen, queues, now=self._clocks.store(), strictly=STRICTLY, limit=limit):
            wanted = min(most, limit - len(claims))
            if wanted:
                claims.extend(self._claim(row, worker) for row in self._fetched(queue, wanted))
        return done(claims)

    def _fetched(self, queue: str, most: int) -> list[dict[str, Any]]:
        try:
            return self._run("fetch", parameters=[queue, most])
        except psycopg.errors.UniqueViolation:  # as the library does: a policy keeps what it chose from being active
            return []

    def _claim(self, row: dict[str, Any], worker: str) -> Claim:
        job = row["data"]["job"]
        attempt = row["retryCount"] + 1
        self._workers[job, attempt] = worker
        return Claim(job, attempt, attempt, worker, self._tools[job], self._clocks.store() + self._settings.lease)

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Complete by id, as the library does."""
        try:
            return self._end_claim("complete", claim, lambda: result_text(output))
        except psycopg.DataError as error:
            return Outcome.refused(f"invalid output: {error}")

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Fail by id; pg-boss 10 knows no final failure."""
        self._draw()
        return self._end_claim("fail", claim, lambda: json_text({"message": error}))

    def _end_claim(self, statement: str, claim: Claim, text: Callable[[], str | None]) -> Outcome:
        try:
            return self._count(statement, [self._keys.queue(claim.tool), [uuid_of(claim.job)], text()])
        except (TypeError, ValueError) as error:
            return Outcome.refused(f"JSON cannot hold it: {error}")

    # upkeep ---------------------------------------------------------------------------------------------------------

    def expire(self) -> Outcome:
        """Maintain: fail what is overdue, archive, drop."""
        self._draw()
        before = self.jobs()
        self._run("expire", "archive", "drop")
        after = self.jobs()
        return done([job for job, view in before.items() if after.get(job) != view])


class PgBossEngine:
    """One version of pg-boss. The server is provided when the first queue is opened and lives until `close`."""

    def __init__(self, version: str = NEWEST_OF_10, *, dsn: str | None = None) -> None:
        """Choose a version of pg-boss 10, and a server instead of one started here.

        After a slash stands the policy of its queues: `10.4.2/stately`. Raises UsageError for one
        that is not known.
        """
        self.version, policy = split_policy(version)
        check_version(self.version)
        self.keys = PgBossKeys(policy)
        """How keys are said to it."""
        self.info = EngineInfo(
            f"pgboss@{self.version}{policy_suffix(policy)}",
            replace(PgBossQueue.capabilities, unique=policy.unique, serial_keys=policy.serial),
            contract=contract_of(policy),
            prepare=self._prepare,
            provenance=self._provenance,
            confirm=self._confirm,
        )
        self._dsn = dsn
        self._session: PgBossDatabase | None = None

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> PgBossQueue:
        """Return an empty queue. Raises EnvironmentUnavailable without Node, npm or PostgreSQL."""
        session = self.session()
        session.reset()
        return PgBossQueue(session, settings, clocks, jitter, keys=self.keys)

    def session(self) -> PgBossDatabase:
        """Return the session with PostgreSQL, provided now if there is none yet, or if it went away."""
        if self._session is not None and not self._session.database.alive:
            self.close()
        if self._session is None:
            from job_harness.engines.pgboss.package import load

            self._session = PgBossDatabase(load(self.version), self._dsn, policy=self.keys.policy.name)
        return self._session

    def _prepare(self) -> None:
        self.session()

    def _confirm(self) -> None:
        if self._session is not None:
            self._session.database.confirm()

    def _provenance(self) -> str:
        return "" if self._session is None else str(self._session.database.cluster.provenance)

    def close(self) -> None:
        """Stop what was provided. Never raises."""
        if self._session is not None:
            self._session.database.close()
            self._session = None
