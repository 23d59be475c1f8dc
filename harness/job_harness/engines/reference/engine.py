"""Opens reference queues: `reference` on the memory store, `postgres` on PostgreSQL, with sessions or without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from job_harness.core.model import Settings
from job_harness.core.port import Contract, EngineClocks, EngineInfo
from job_harness.core.run.stock import StockApplication
from job_harness.core.target import Target
from job_harness.engines.reference.queue import MemoryReferenceQueue, ReferenceQueue, Settlement
from job_harness.errors import UsageError, did_you_mean
from job_harness.worlds.patience import PATIENCE

if TYPE_CHECKING:
    from job_harness.engines.reference.postgres import ReferenceDatabase
    from job_harness.worlds.postgres.gating import SessionPool

NAMES: Final = ("reference", "postgres")


class ReferenceEngine:
    """The engines `reference` and `postgres`. A wrong queue replaces a named statement.

    `postgres` keeps to one session; with `sessions` every actor has its own, and each statement is a gate.
    The server is provided when the first queue is opened and lives until `close`; one queue is open at a time.
    """

    def __init__(
        self,
        name: str = "reference",
        *,
        dsn: str | None = None,
        statements: Mapping[str, str] | None = None,
        settlement: Settlement | None = None,
        stepped: bool = False,
        sessions: bool = False,
        patience_seconds: float = PATIENCE,
        called: str = "",
    ) -> None:
        """Choose the store by `name`; reports call the engine so, unless it is `called` otherwise.

        `dsn` names a server instead of one started here; `statements` replaces SQL by name, with `:name`
        parameters; `stepped` lets others act before each statement, at a point of its name. With `sessions`,
        `settlement` says how complete, expire and rescue are written in several statements, and one may
        take `patience_seconds` of real time unless it waits for a lock. Raises UsageError for an unknown name, and
        for a DSN, statements or a settlement where there is no use for them.
        """
        target = Target.parse(name)
        name, sessions = target.plain, sessions or target.sessions
        _refuse_useless(name, dsn=dsn, statements=statements, settlement=settlement, sessions=sessions)
        self.stepped = stepped
        self.patience_seconds = patience_seconds
        self.statements: Mapping[str, str] | None = statements
        self.settlement = settlement
        self._store = name
        self._sessions = sessions
        self._pool: SessionPool | None = None
        self._dsn = dsn
        self._session: ReferenceDatabase | None = None
        self._lender: ReferenceEngine | None = None
        self.info = self._described(called or str(replace(target, sessions=sessions)))

    def _described(self, name: str) -> EngineInfo:
        """Return what searches and reports may know of it, under this name."""
        in_memory = self._store == "reference"
        application, stepping, contract = None, None, Contract()
        if in_memory and not self.stepped:
            from job_harness.engines.reference.workers import CONTRACT, ReferenceWorkers

            application, stepping, contract = ReferenceWorkers(), StockApplication(), CONTRACT
        queue = MemoryReferenceQueue if in_memory else ReferenceQueue
        return EngineInfo(
            name,
            replace(queue.capabilities, sessions=self._sessions),
            contract=contract,
            application=application,
            stepped=stepping,
            provenance=self._provenance,
            confirm=self._confirm,
            statements=(lambda queue: queue.statements()) if self._sessions else None,
            sessions=None if in_memory else self._with_sessions,
        )

    def _with_sessions(self) -> ReferenceEngine:
        return ReferenceEngine(
            self._store,
            dsn=self._dsn,
            statements=self.statements,
            settlement=self.settlement,
            stepped=self.stepped,
            sessions=True,
            patience_seconds=self.patience_seconds,
        )

    def planted(
        self, statements: Mapping[str, str] | None = None, *, settlement: Settlement | None = None, called: str = ""
    ) -> ReferenceEngine:
        """Return an engine with these statements replaced, or verbs written so, on the database of this one.

        Close this one last; both may be used in turn, not at once.
        """
        engine = ReferenceEngine(
            self._store,
            dsn=self._dsn,
            statements=statements,
            settlement=settlement,
            stepped=self.stepped,
            sessions=self._sessions,
            patience_seconds=self.patience_seconds,
            called=called,
        )
        engine._lender = self
        return engine

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> ReferenceQueue:
        """Return an empty queue. Raises EnvironmentUnavailable where there is no PostgreSQL."""
        if self._store == "reference":
            return MemoryReferenceQueue(settings, clocks, jitter, stepped=self.stepped)
        opened = self._with_gates if self._sessions else self._on_postgres
        return opened(settings, clocks, jitter)

    def _with_gates(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> ReferenceQueue:
        from job_harness.engines.reference.postgres import GatedReferenceQueue
        from job_harness.worlds.postgres.gating import SessionCoordinator

        session = self.session()
        pool = self.pool()
        session.reset()
        return GatedReferenceQueue(
            settings,
            clocks,
            jitter,
            session=session,
            room=SessionCoordinator(pool, clock=clocks.store, patience_seconds=self.patience_seconds),
            statements=self.statements,
            settlement=self.settlement,
        )

    def pool(self) -> SessionPool:
        """Return where actors' sessions come from, opened now where there is nothing yet."""
        if self._lender is not None:
            return self._lender.pool()
        if self._pool is None:
            from job_harness.worlds.postgres.gating import SessionPool
            from job_harness_reference.store.database import SESSION_SETTINGS

            self._pool = SessionPool(self.session().url, settings=SESSION_SETTINGS)
        return self._pool

    def _on_postgres(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> ReferenceQueue:
        from job_harness.engines.reference.postgres import PostgresQueue

        session = self.session()
        session.reset()
        return PostgresQueue(
            settings, clocks, jitter, session=session, stepped=self.stepped, statements=self.statements
        )

    def session(self) -> ReferenceDatabase:
        """Return the session with PostgreSQL, provided now if there is none yet, or if it went away."""
        if self._lender is not None:
            return self._lender.session()
        if self._session is not None and not self._session.alive:
            self.close()
        if self._session is None:
            from job_harness.engines.reference.postgres import ReferenceDatabase

            self._session = ReferenceDatabase(self._dsn)
        return self._session

    def _provenance(self) -> str:
        return "" if self._session is None else str(self._session.cluster.provenance)

    def _confirm(self) -> None:
        session = self._lender._session if self._lender is not None else self._session
        if session is not None:
            session.confirm()

    def close(self) -> None:
        """Stop what was provided. Never raises."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._session is not None:
            self._session.close()
            self._session = None


def _refuse_useless(
    name: str,
    *,
    dsn: str | None,
    statements: Mapping[str, str] | None,
    settlement: Settlement | None,
    sessions: bool,
) -> None:
    """Raise UsageError for a store that there is not, and for what the store has no use for."""
    if name not in NAMES:
        raise UsageError(
            f"the reference queue has no engine {name!r}{did_you_mean(name, NAMES)}",
            hint=f"Choose one of {', '.join(NAMES)}.",
        )
    if name == "reference" and (dsn or statements or sessions):
        given = "a DSN" if dsn else "SQL statements" if statements else "sessions"
        raise UsageError(f"the engine 'reference' has no use for {given}", hint="Choose the engine 'postgres'.")
    if settlement is not None and not sessions:
        raise UsageError(
            f"the engine {name!r} has no use for verbs of several statements", hint="Give every actor a session."
        )
