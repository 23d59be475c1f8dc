"""A queue in a file: your own table and the SQL of your verbs, without a line of Python.

`QueueFileEngine` opens one on a real PostgreSQL of its own, with virtual time: a verb is one step, or, with sessions,
each of its statements is a gate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from job_harness.core.history import Event, Return
from job_harness.core.history.answers import DeclaredPart, declared_settings
from job_harness.core.invariants.rows import NoRowPromise, no_row
from job_harness.core.model import Instant, Settings, Status
from job_harness.core.port import Capabilities, EngineClocks, EngineInfo, QueueUnderTest, WrittenSource
from job_harness.core.target import Target
from job_harness.engines.queue_file.document import QueueFile, read_queue_file
from job_harness.engines.queue_file.facts import doubts, sweeps_by_lease
from job_harness.engines.queue_file.statement import QueueFileError, SqlSource
from job_harness.worlds.patience import PATIENCE

if TYPE_CHECKING:
    from job_harness.engines.queue_file.database import QueueDatabase
    from job_harness.engines.queue_file.queue import FileQueue
    from job_harness.engines.queue_file.snapshot import TableSnapshots
    from job_harness.worlds.postgres.gating import SessionPool

FROM_ENVIRONMENT: Final = "env:"
_OPTIONAL: Final = ("heartbeat", "release", "cancel", "retry", "purge")
"""Verbs that a file may have, and that not every run calls."""


def next_sweep(queue: QueueUnderTest) -> Instant | None:
    """Tell that a sweep that goes by something else than leases may find anything whenever a job runs."""
    return 0 if any(view.status is Status.PROCESSING for view in queue.jobs().values()) else None


def _is_asked(verb: str, event: Event) -> bool:
    return type(event) is Return and event.verb == verb and event.answered


class QueueFileEngine:
    """Opens the queue of a file. The server is provided when the first queue is opened, and lives until `close`."""

    def __init__(
        self, path: str, *, dsn: str | None = None, sessions: bool = False, patience_seconds: float = PATIENCE
    ) -> None:
        """Read the file at `path`; `dsn` names a server on which to make a database, instead of one started here.

        With `sessions` every actor has a session, and each statement is a gate; one may take
        `patience_seconds`, in real time, unless it waits for a lock. Raises QueueFileError with
        `file:line` for what is wrong with the file.
        """
        self.file: QueueFile = read_queue_file(path)
        self._dsn = dsn
        self._sessions = sessions
        self._patience = patience_seconds
        self._database: QueueDatabase | None = None
        self._snapshots: TableSnapshots | None = None
        self._pool: SessionPool | None = None
        self._opened: FileQueue | None = None
        """The queue whose tables may have to be set back before they are looked at."""
        columns = self.file.columns
        self.info = EngineInfo(
            str(Target(path, sessions=sessions)),
            self._capabilities(columns),
            contract=replace(self.file.contract(columns), doubts=doubts(self.file)),
            settings=self.file.settings,
            zones=self.file.zones,
            prepare=self._prepare,
            provenance=self._provenance,
            written=self._written,
            next_upkeep=None if self.file.takes_back != "by expire" or sweeps_by_lease(self.file) else next_sweep,
            statements=lambda queue: queue.statements(),
            declared=tuple(self._declared()),
            promises=tuple(no_row(each, partial(self._first_row, each), after_verbs=True) for each in self.file.no_row),
            sessions=partial(QueueFileEngine, path, dsn=dsn, sessions=True, patience_seconds=patience_seconds),
        )

    def _declared(self) -> Iterator[DeclaredPart]:
        for verb in self.file.verbs:
            if verb in _OPTIONAL:  # Why nothing calls a purge is said elsewhere.
                how = "search longer, or leave it out"
                yield DeclaredPart(verb, partial(_is_asked, verb), how, owed=verb != "purge")
        given = [name for name in Settings.names() if f"settings.{name}" in self.file.lines]
        for part in declared_settings(given, self.file.settings):
            lacks = part.name == "settings: retention" and "purge" not in self.file.verbs
            yield replace(part, how="write a `purge`, or leave it out") if lacks else part

    def _capabilities(self, columns: frozenset[str]) -> Capabilities:
        return replace(self.file.capabilities(columns), sessions=self._sessions, snapshot=not self._sessions)

    def _written(self, verb: str, sql: str) -> WrittenSource | None:
        """Show a verb as the file has it; every line of SQL keeps its place below the others."""
        statements = self.file.verbs.get(verb)
        if statements is None:
            return None
        source = statements[0].source
        return WrittenSource(
            f"{source.place()}: {verb}", tuple(line.rstrip() for line in source.text.rstrip().splitlines())
        )

    def _first_row(self, promise: NoRowPromise) -> str:
        if self._opened is not None:
            self._opened.in_place()
        return "" if self._database is None else self._database.first_row(promise)

    def _provenance(self) -> str:
        return "" if self._database is None else str(self._database.foreign.cluster.provenance)

    def _prepare(self) -> None:
        self._ready()

    def _ready(self) -> QueueDatabase:
        """Start what is needed, and try every verb once."""
        if self._database is None:
            from job_harness.engines.queue_file.database import QueueDatabase
            from job_harness.engines.queue_file.rehearsal import rehearse
            from job_harness.engines.queue_file.snapshot import TableSnapshots

            database = QueueDatabase(
                self.file, dsn=self._dsn, schema=self._schema(), patience_ms=int(self._patience * 500)
            )
            try:
                rehearse(database)
                for promise in self.file.no_row:
                    database.first_row(promise)
                self._snapshots = TableSnapshots(database)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def _schema(self) -> Sequence[SqlSource]:
        if self.file.connection is None:
            return self.file.schema
        from job_harness.engines.queue_file.live import copied_schema

        line = self.file.lines["connection"]
        return copied_schema(self._connection(), path=self.file.path, line=line, only=sorted(self.file.tables))

    def _connection(self) -> str:
        given = self.file.connection or ""
        if not given.startswith(FROM_ENVIRONMENT):
            return given
        name = given.removeprefix(FROM_ENVIRONMENT)
        if not os.environ.get(name):
            raise QueueFileError(
                f"{self.file.place('connection')}: the environment variable {name} is not set",
                hint=f"Set {name} to the URL of the database whose tables are to be copied.",
            )
        return os.environ[name]

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> QueueUnderTest:
        """Return an empty queue.

        Raises EnvironmentUnavailable without PostgreSQL, QueueFileError where the file's SQL does
        not work.
        """
        from job_harness.engines.queue_file.queue import FileQueue, GatedTableQueue

        database = self._ready()
        database.empty()
        assert self._snapshots is not None
        self._snapshots.begin()
        about: dict[str, Any] = {
            "settings": settings,
            "clocks": clocks,
            "jitter": jitter,
            "capabilities": self.info.capabilities,
        }
        if self._sessions:
            return GatedTableQueue(database, self._opened_pool(), patience_seconds=self._patience, **about)  # type: ignore[return-value]
        self._opened = FileQueue(database, snapshots=self._snapshots, **about)
        return self._opened

    def _opened_pool(self) -> SessionPool:
        if self._pool is None:
            from job_harness.engines.queue_file.database import SESSION_SETTINGS
            from job_harness.worlds.postgres.gating import SessionPool

            self._pool = SessionPool(self._ready().url, settings=SESSION_SETTINGS)
        return self._pool

    def close(self) -> None:
        """Stop what was started. Never raises."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._database is not None:
            self._database.close()
            self._database = self._snapshots = None
