"""The reference queue with a session for every actor: statements and commits are gates, lock waits are real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from psycopg.rows import dict_row

from harness.adapters.reference.queue import ReferenceQueue
from harness.adapters.reference.server import Session, SyncDatabase
from harness.adapters.reference.settlement import OwnVerbs, Settlement
from harness.adapters.reference.translation import store_time
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks
from harness.postgres.gating import GatedConnection, Room
from reference_impl.store.database import Row
from reference_impl.store.postgres import PostgresStore
from reference_impl.store.statements import Statement


class GatedDatabase:
    """The store's door over an actor's session: a gate before each statement, and one before its commit."""

    def __init__(self, connection: Callable[[], GatedConnection]) -> None:
        """Ask for the session at every statement: one that was lost is replaced."""
        self._connection = connection

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement as a transaction of its own; the store's clock is read when its turn has come."""
        connection = self._connection()
        await connection.gate(statement.name)
        if "now" in parameters:
            parameters = {**parameters, "now": store_time(connection.transaction_time())}
        cursor = connection.cursor(row_factory=dict_row)
        await cursor.execute(statement.text.encode(), parameters, prepare=True)
        return await cursor.fetchall() if cursor.description else []


class GatedReferenceQueue(ReferenceQueue):
    """Sees all jobs from a session of its own; `on_behalf` answers the queue of one actor."""

    capabilities: ClassVar[Capabilities] = replace(ReferenceQueue.capabilities, sessions=True)

    def __init__(
        self,
        settings: Settings,
        clocks: Clocks,
        jitter: Callable[[], float],
        *,
        session: Session,
        room: Room,
        statements: Mapping[str, str] | None = None,
        settlement: Settlement | None = None,
    ) -> None:
        """Look through `session`; give actors their own from `room`, which closes with the queue."""
        super().__init__(settings, clocks, jitter, tools=session.tools, stepped=True)
        self.store = self.observed = PostgresStore(SyncDatabase(session), now=self.now, jitter=self.jitter)
        self._room = room
        self._statements = statements
        self._settlement = settlement
        self._of: dict[str, ReferenceQueue] = {}
        self._seen: dict[JobId, JobView] = {}
        self._revision = -1
        self._news = False

    def on_behalf(self, actor: str) -> ReferenceQueue:
        """Return the queue as this actor's session reaches it; all of them share what claims were issued."""
        queue = self._of.get(actor)
        if queue is None:
            queue = self._of[actor] = self._opened(lambda: self._room.connection(actor))
        return queue

    def _opened(self, connection: Callable[[], GatedConnection]) -> ReferenceQueue:
        about = (self.settings, self._clocks, self._jitter)
        if self._settlement is None:
            queue = ReferenceQueue(*about, tools=self._tools, stepped=True)
        else:
            queue = OwnVerbs(*about, tools=self._tools, connection=connection, settlement=self._settlement)
        door = GatedDatabase(connection)
        queue.store = PostgresStore(door, now=queue.now, jitter=queue.jitter, statements=self._statements)
        queue.observed = self.observed
        queue.share(self)
        return queue

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's session from it; answer what drops it."""
        return self._room.sever(actor)

    def made_at(self) -> Instant:
        """Return the store's clock at the first statement of the transaction that ended last."""
        return self._room.made_at

    def leftovers(self) -> list[str]:
        """Say what actors left open."""
        return self._room.leftovers()

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs where a transaction may have ended since."""
        self._news = self._revision != self._room.revision
        if self._news:
            self._revision = self._room.revision
            self._seen = super().jobs()
        return self._seen

    def changed(self) -> list[JobId] | None:
        """Nothing, as long as no transaction ended; then nobody knows what was touched."""
        return None if self._news else []

    def close(self) -> None:
        """Give all sessions back."""
        self._room.close()
