"""Opens reference queues: `reference` on the memory store, `postgres` on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from harness.adapters.reference.memory_queue import MemoryReferenceQueue
from harness.adapters.reference.queue import ReferenceQueue
from harness.errors import UsageError, did_you_mean
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks

if TYPE_CHECKING:
    from harness.adapters.reference.server import Session

NAMES: Final = ("reference", "postgres")


class ReferenceEngine:
    """The engines `reference` and `postgres`. On PostgreSQL a wrong queue replaces a named statement.

    The server is provided when the first queue is opened and lives until `close`; one queue is open at a time.
    """

    def __init__(
        self,
        name: str = "reference",
        *,
        dsn: str | None = None,
        statements: Mapping[str, str] | None = None,
        stepped: bool = False,
    ) -> None:
        """Choose the store by `name`.

        `dsn` names a server instead of one started here; `statements` replaces SQL by name, with `:name`
        parameters; `stepped` lets others act before each statement, at a point of its name. Raises UsageError
        for an unknown name, and for a DSN or statements where there is no SQL.
        """
        if name not in NAMES:
            raise UsageError(
                f"the reference queue has no engine {name!r}{did_you_mean(name, NAMES)}",
                hint=f"Choose one of {', '.join(NAMES)}.",
            )
        if name == "reference" and (dsn or statements):
            given = "a DSN" if dsn else "SQL statements"
            raise UsageError(f"the engine 'reference' has no use for {given}", hint="Choose the engine 'postgres'.")
        self.name = name
        self.stepped = stepped
        self.statements: Mapping[str, str] | None = statements
        queue = MemoryReferenceQueue if name == "reference" else ReferenceQueue
        self.capabilities: Capabilities = queue.capabilities
        self._dsn = dsn
        self._session: Session | None = None
        self._lender: ReferenceEngine | None = None

    def planted(self, statements: Mapping[str, str]) -> ReferenceEngine:
        """Answer an engine with these statements replaced, on the database of this one.

        Close this one last; both may be used in turn, not at once.
        """
        engine = ReferenceEngine(self.name, dsn=self._dsn, statements=statements, stepped=self.stepped)
        engine._lender = self
        return engine

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> ReferenceQueue:
        """Answer an empty queue. Raises EnvironmentUnavailable where there is no PostgreSQL."""
        if self.name == "reference":
            return MemoryReferenceQueue(settings, clocks, jitter, stepped=self.stepped)
        return self._on_postgres(settings, clocks, jitter)

    def _on_postgres(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> ReferenceQueue:
        from harness.adapters.reference.server import SyncDatabase
        from reference_impl.store.postgres import PostgresStore

        session = self.session()
        session.reset()
        queue = ReferenceQueue(settings, clocks, jitter, tools=session.tools, stepped=self.stepped)
        door = SyncDatabase(session, gated_by=queue.now if self.stepped else None)
        queue.store = PostgresStore(door, now=queue.now, jitter=queue.jitter, statements=self.statements)
        queue.observed = PostgresStore(SyncDatabase(session), now=queue.now, jitter=queue.jitter)
        return queue

    def session(self) -> Session:
        """Answer the session with PostgreSQL, provided now where there is none yet."""
        if self._lender is not None:
            return self._lender.session()
        if self._session is None:
            from harness.adapters.reference.server import Session

            self._session = Session(self._dsn)
        return self._session

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return "" if self._session is None else str(self._session.cluster.provenance)

    def close(self) -> None:
        """Stop what was provided. Never raises."""
        if self._session is not None:
            self._session.close()
            self._session = None


def open_engine(
    name: str, *, dsn: str | None = None, statements: Mapping[str, str] | None = None, stepped: bool = False
) -> ReferenceEngine:
    """Answer the engine of this name, `reference` or `postgres`; see `ReferenceEngine`."""
    return ReferenceEngine(name, dsn=dsn, statements=statements, stepped=stepped)
