"""An application's two tables on pg-boss from 11 on: the library itself in a Node peer, which the application calls.

Each call is given the application's connection as its `db`, so that one transaction holds rows of
both (docs: api/jobs, send, db). Where a release can extend claims, a lease is a heartbeat and
`touch` is the library's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from job_harness.core.model import DAY, HOUR, Duration, Instant, Settings
from job_harness.engines.pgboss import tool_job
from job_harness.engines.pgboss.node.queue import LONGEST_RUN, SHORTEST_HEARTBEAT
from job_harness.engines.pgboss.node.release import NodeJobTables, Release, contract_of
from job_harness.engines.pgboss.package import SCHEMA
from job_harness.engines.pgboss.tables import LOOK, PgBossTables, SentRow
from job_harness.engines.pgboss.translation import STRICTLY, seconds_of
from job_harness.worlds.peers import newest_npm, npm_package
from job_harness.worlds.peers.peer import Peer
from job_harness.worlds.peers.runtime import ForeignRuntime, node_peer, outcome_of
from job_harness.worlds.wire.database import ForeignDatabase, Row, milliseconds_of

PACKAGE: Final = "pg-boss"
_TIMES: Final = frozenset({"created_on", "start_after", "started_on", "lease_until"}) | frozenset(
    {"createdAt", "updatedAt", "startedAt", "completedAt", "expiresAt"}
)
"""Columns that hold a time."""
_KEPT: Final = 7 * DAY
"""pg-boss deletes nothing younger (docs: api/queues, deleteAfterSeconds): before, maintenance has only overdue rows."""
_VERBS: Final = {"delete": "deleteJob"}


class LibraryCalls:
    """The library's calls of one run."""

    def __init__(
        self, runtime: ForeignRuntime, tables: NodeJobTables, settings: Settings, *, fences: bool, strictly: Duration
    ) -> None:
        self.database: ForeignDatabase = runtime.database
        self.strictly = strictly
        self.own_fence = fences
        self.own_touch = tables.heartbeats and settings.lease >= SHORTEST_HEARTBEAT
        self._within = False
        self._peer: Peer = runtime.peer
        self._tables = tables
        self._settings = settings
        lease = {"heartbeatSeconds": seconds_of(settings.lease)} if self.own_touch else {}
        self._made = {"policy": "standard", **lease}
        """What a queue is made with."""
        self._sent = {
            "retryDelay": seconds_of(settings.retry_delay),
            "retryBackoff": settings.retry_backoff,
            "expireInSeconds": LONGEST_RUN if lease else seconds_of(settings.lease),
            **({"retryDelayMax": seconds_of(settings.retry_delay_max)} if settings.retry_backoff else {}),
            **lease,
        }
        """What a row is sent with, beside what is its own."""

    def _ask(self, question: str, **arguments: Any) -> Any:
        """Ask the peer. Raises PostgreSQL's own error for what it refused, ValueError for what the library refused."""
        report = self._peer.ask(question, arguments, now=milliseconds_of(self.database.now))
        outcome = outcome_of(report)
        if "raised" in report:
            raise _error_of(str(report.get("code") or ""))(str(report["raised"]))
        if not outcome.done:
            raise ValueError(outcome.reason)
        return outcome.value

    def say(self, text: bytes, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement of the application's."""
        rows: list[Row] = self._ask("say", text=text.decode(), values=[_as_parameter(value) for value in parameters])
        return rows

    def read(self, text: str) -> list[Row]:
        """Read rows as they stand: as text, for Node would round large numbers and cut times short.

        Our own connection is faster, and sees what the application's sees while that has no
        transaction open.
        """
        asked = f"SELECT row_to_json(looked)::text AS row FROM ({text}) AS looked".encode()
        rows = self.say(asked) if self._within else self.database.run(asked, [], prepare=True)
        return [_row_of(row["row"]) for row in rows]

    def begin(self) -> None:
        """Open a transaction."""
        self.say(b"BEGIN")
        self._within = True

    def end(self, *, well: bool) -> None:
        """Commit it, or roll it back."""
        self._within = False
        self.say(b"COMMIT" if well else b"ROLLBACK")

    def send(self, row: SentRow) -> bool:
        """Send to a queue; False where a row has this id."""
        own = {"id": row.id, "priority": row.priority, "retryLimit": row.retry_limit}
        return bool(
            self._ask("send", queue=row.queue, made=self._made, data=dict(row.data), options={**self._sent, **own})
        )

    def fetch(self, queue: str, limit: int) -> list[Row]:
        """Fetch a batch."""
        rows: list[Row] = self._ask("fetch", queue=queue, made=self._made, limit=limit)
        return rows

    def apply_verb(self, verb: str, queue: str, ids: Sequence[str], *, fetched: int | None = None) -> bool:
        """Call the library about these ids, or about the attempt that was fetched."""
        what: list[Any] = list(ids) if fetched is None else [{"id": each, "retryCount": fetched} for each in ids]
        return bool(self._ask("settle", verb=_VERBS.get(verb, verb), queue=queue, what=what))

    def rows(self) -> list[Row]:
        """Read pg-boss's own table."""
        return self.read(LOOK % self._tables.leased)

    def archived(self, now: Instant) -> list[Row]:
        """There is no archive."""
        return []

    def maintain(self, now: Instant, *, overdue: bool) -> bool:
        """Supervise, as its own timer would."""
        due = overdue or now > _KEPT
        if due:
            self._tables.open_gates()
            self._ask("expire")
        return due


class LibraryStore:
    """Opens both tables in one database. Peer and server are started when first needed, and live until `close`."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None) -> None:
        """Take a release: `latest`, `12`, `12.38.0`; and a server instead of one started here.

        Raises UsageError for a version that is not known.
        """
        number = newest_npm(PACKAGE, version)
        release = Release(number)
        self.name = f"pgboss@{number}"
        self.contract = contract_of(release.major)
        script = Path(__file__).with_name("application.mjs")

        def start() -> Peer:
            packages = npm_package(PACKAGE, number)
            return node_peer(script, name=self.name, packages=packages, oldest=release.oldest_node)

        self._runtime = ForeignRuntime(self.name, start=start, dsn=dsn, asked={"schema": SCHEMA}, then=self._prove)
        self._tables: NodeJobTables | None = None
        self._fences = False
        self._strictly: Duration = 0

    def open(self, settings: Settings, now: Callable[[], Instant], jitter: Callable[[], float]) -> PgBossTables:
        """Return empty tables. Raises EnvironmentUnavailable without Node, npm or PostgreSQL."""
        self._runtime.ready()
        return PgBossTables(self._emptied(settings), settings, now, jitter)

    def _emptied(self, settings: Settings) -> LibraryCalls:
        assert self._tables is not None
        runtime = self._runtime
        self._tables.empty()
        runtime.database.empty(tool_job.TABLE)
        runtime.peer.ask("reset", {"keep": self._tables.keeps_queues})
        return LibraryCalls(runtime, self._tables, settings, fences=self._fences, strictly=self._strictly)

    def _prove(self) -> None:
        """Make `tool_job`, prove that time is ours there too, and see how the release compares times."""
        database: ForeignDatabase = self._runtime.database
        database.run(tool_job.CREATE)
        database.check()
        self._tables = NodeJobTables(database)
        self._fences = bool(self._runtime.peer.ask("fences").get("value"))
        calls = self._emptied(Settings())
        database.set_now(HOUR)
        calls.send(SentRow("00000000-0000-0000-0000-000000000001", "proof", {}, 0, 0))
        self._strictly = 0 if calls.fetch("proof", 1) else STRICTLY

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return self._runtime.provenance

    def confirm(self) -> None:
        """Raise EnvironmentUnavailable where server or peer is not there as it was."""
        self._runtime.confirm()

    def close(self) -> None:
        """Stop what was started. Never raises."""
        self._runtime.close()


def _error_of(code: str) -> type[Exception]:
    """Return psycopg's error of an SQLSTATE, as an application meets it over its own driver."""
    try:
        return psycopg.errors.lookup(code)
    except KeyError:
        return RuntimeError


def _as_parameter(value: Any) -> Any:
    """Return a parameter as a driver in Node is given it: as text, where JSON has no such value."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _row_of(text: str) -> Row:
    row: Mapping[str, Any] = json.loads(text)
    return {
        name: datetime.fromisoformat(value) if name in _TIMES and value is not None else value
        for name, value in row.items()
    }
