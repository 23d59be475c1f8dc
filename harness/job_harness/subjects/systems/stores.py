"""What all processes of a system share: a database, a Redis, an SQS; and how their jobs are read from it.

Must not know: processes, kernels.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import timedelta
from typing import Any, Final

from job_harness.core.invariants.rows import ShownBy
from job_harness.core.model import MILLISECOND, Instant
from job_harness.core.sim import Clocks
from job_harness.subjects.systems.brokers import BROKERS, EPOCH, TakenJobs
from job_harness.subjects.systems.database import SystemDatabase
from job_harness.subjects.systems.document import REDIS, SQS, SystemFile, SystemFileError
from job_harness.subjects.systems.redis_store import StoreCoordinator, SystemRedis
from job_harness.subjects.systems.sqs_store import COLUMNS as SQS_COLUMNS
from job_harness.subjects.systems.sqs_store import SqsMeeting, rows_of
from job_harness.subjects.systems.store_links import StoreMeeting
from job_harness.worlds.redis.client import RedisError
from job_harness.worlds.sqs.service import SqsService

TIMES: Final = frozenset(
    ("created_at", "start_after", "started_at", "lease_until", "completed_at", "expires_at", "slot")
)
"""The columns that a script tells in milliseconds since 1970."""


class SystemStores:
    """The servers, from one run to the next."""

    def __init__(self, file: SystemFile, *, dsn: str | None = None) -> None:
        """Start those that the file names. Raises EnvironmentUnavailable where one cannot be."""
        self.file = file
        self.database = SystemDatabase(dsn, replica=file.replica) if file.database else None
        self.redis: SystemRedis | None = None
        self.sqs: SqsService | None = None
        self.calls = defaultdict[str, list[Any]](list)
        """By call, the bodies that its host got in this run."""
        self._taken: TakenJobs | None = None
        """What is at work in this run, where the queue takes that out of Redis."""
        self._shown: frozenset[str] = frozenset()
        """Columns that a script has shown."""
        try:
            self.redis = SystemRedis(upkeep=file.upkeep) if file.redis else None
            self.sqs = SqsService(file.sqs) if file.sqs else None
        except BaseException:
            self.close()
            raise

    @property
    def provenance(self) -> str:
        """Where the servers came from and why."""
        told = "" if self.database is None else str(self.database.cluster.provenance)
        return "; ".join(
            filter(None, (told, *(each.provenance for each in (self.redis, self.sqs) if each is not None)))
        )

    def renew(self) -> None:
        """Be as before the first run."""
        self.calls.clear()
        if self.database is not None:
            self.database.renew()
        if self.redis is not None:
            self.redis.renew()
        if self.sqs is not None:
            self.sqs.renew()

    def meetings(self, clocks: Clocks) -> dict[str, StoreMeeting]:
        """Return, by store but for the database, where the connections of one run to it meet."""
        made: dict[str, StoreMeeting] = {}
        if self.redis is not None:
            broker = BROKERS.get(self.file.jobs)
            command = broker.takes_away_by if broker is not None else b""
            self._taken = TakenJobs(command) if command else None
            made[REDIS] = StoreCoordinator(self.redis, clocks, self._taken)
        if self.sqs is not None:
            made[SQS] = SqsMeeting(self.sqs, clocks)
        return made

    def set_now(self, instant: Instant) -> None:
        """Move the clocks."""
        if self.database is not None:
            self.database.set_now(instant)
        if self.redis is not None:
            self.redis.set_now(instant)
        if self.sqs is not None:
            self.sqs.set_now(instant / MILLISECOND)

    def next_change(self, after: Instant) -> Instant | None:
        """Tell when time alone changes what is stored, after an instant; a database does not say."""
        redis = None if self.redis is None else self.redis.next_expiry(after)
        sqs = None if self.sqs is None else self.sqs.next_change(after / MILLISECOND)
        ends = (redis, None if sqs is None else -int(-sqs * MILLISECOND // 1))
        return min((at for at in ends if at is not None), default=None)

    def look(self, sql: str) -> list[dict[str, Any]]:
        """Run a SELECT of ours. Raises psycopg's errors for what PostgreSQL refuses."""
        return [] if self.database is None else self.database.rows(sql)

    def read(self, shown: ShownBy) -> list[dict[str, Any]]:
        """Return what a SELECT, a script or calls show. Raises psycopg's errors, and SystemFileError for a script."""
        if shown.key:
            wanted = {"key": shown.key} | ({"value": shown.value} if shown.value else {})
            bodies = [body for body in self.calls[shown.text] if isinstance(body, dict) and shown.key in body]
            last = {str(body[shown.key]): {name: body.get(field) for name, field in wanted.items()} for body in bodies}
            return list(last.values())
        if not shown.script or self.redis is None:
            return self.look(shown.text)
        where = self.file.place("promises")
        try:
            told = self.redis.run_script(shown.text)
        except RedisError as error:
            hint = "It is run as EVAL without keys, and returns an array of JSON texts with `key` and `value`."
            raise SystemFileError(f"{where}: Redis refuses the script: {error}", hint=hint) from None
        return [_row(each, where) for each in (told if isinstance(told, list) else [told])]

    def rows(self) -> list[dict[str, Any]]:
        """Return the jobs as `jobs` of the file shows them. Raises SystemFileError for what is refused."""
        if self.file.jobs == SQS and self.sqs is not None:
            return rows_of(self.sqs.messages())
        if not self.file.jobs_on_redis:
            return self.look(self.file.jobs)
        assert self.redis is not None
        where, broker = self.file.place("jobs"), BROKERS.get(self.file.jobs)
        try:
            told = self.redis.run_script(self.file.jobs if broker is None else broker.script)
            if broker is not None:
                there = broker.read(told, most=self.file.settings.max_attempts)
                return there if self._taken is None else self._taken.rows(there)
        except (ValueError, TypeError, AttributeError) as error:
            raise SystemFileError(
                f"{where}: Redis holds a job that is not as {self.file.jobs} writes it: {error}",
                hint="Does another program write to these keys, or a release of the library that is not supported?",
            ) from None
        except RedisError as error:
            hint = "It is run as EVAL without keys, and returns an array of JSON texts, one for each job."
            raise SystemFileError(f"{where}: Redis refuses the script: {error}", hint=hint) from None
        rows = [_row(each, where) for each in (told if isinstance(told, list) else [told])]
        self._shown = self._shown.union(*rows)
        return rows

    @property
    def columns(self) -> frozenset[str]:
        """What is shown of a job; of a script what it has shown so far."""
        if self.file.jobs == SQS and self.sqs is not None:
            return SQS_COLUMNS | {"max_attempts"} if self.sqs.queues.limits_receives else SQS_COLUMNS
        if not self.file.jobs_on_redis:
            return frozenset(() if self.database is None else self.database.columns(self.file.jobs))
        return BROKERS[self.file.jobs].columns if self.file.jobs in BROKERS else self._shown

    def confirm(self) -> None:
        """Look whether the servers are there as they were. Raises EnvironmentUnavailable where one is not."""
        if self.database is not None:
            self.database.confirm()
        if self.redis is not None:
            self.redis.confirm()

    def close(self) -> None:
        """End the servers. Never raises."""
        for store in (self.database, self.redis):
            if store is not None:
                store.close()


def _row(said: Any, where: str) -> dict[str, Any]:
    """Read a job as a script returned it. Raises SystemFileError if it is not a JSON object."""
    try:
        row = json.loads(said)
    except (TypeError, ValueError):
        row = None
    if not isinstance(row, dict):
        told = repr(said)[:80]
        raise SystemFileError(
            f"{where}: the script returns {told}, which is not a JSON object",
            hint="Return an array of texts: {cjson.encode({id = ..., status = ...}), ...}.",
        )
    return {name: _moment_of(value) if name in TIMES else value for name, value in row.items()}


def _moment_of(value: Any) -> Any:
    """Return the time that milliseconds since 1970 are; anything else as it is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return EPOCH + timedelta(milliseconds=value) if number else value
