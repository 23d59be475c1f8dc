"""Stands where a library expects a pool of psycopg's connections: whatever it takes out is the actor's own session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from psycopg.rows import tuple_row

if TYPE_CHECKING:
    from harness.postgres.gating.connection import GatedConnection
    from harness.postgres.gating.room import Room


class ActorPool:
    """What of `psycopg_pool.AsyncConnectionPool` a queue's code uses, for one actor at a time."""

    def __init__(self, room: Room, actor: str, *, autocommit: bool = True, row_factory: Any = tuple_row) -> None:
        """Hand out the session of `actor`, set up as `kwargs` of a pool would."""
        self._room = room
        self._actor = actor
        self._autocommit = autocommit
        self._row_factory = row_factory

    @asynccontextmanager
    async def connection(self, *_: Any, **__: Any) -> AsyncIterator[GatedConnection]:
        """Lend the session; a transaction that is open at the end is committed, after an error rolled back."""
        connection = await self.getconn()
        try:
            yield connection
        except Exception:
            if not connection.closed and not connection.idle:
                await connection.rollback()
            raise
        if not connection.idle:
            await connection.commit()

    async def getconn(self, *_: Any, **__: Any) -> GatedConnection:
        """Answer the session; nobody has to wait for his own."""
        connection = self._room.connection(self._actor, autocommit=self._autocommit)
        connection.row_factory = self._row_factory
        return connection

    async def putconn(self, connection: GatedConnection) -> None:
        """Take the session back: it stays the actor's."""

    async def open(self, *_: Any, **__: Any) -> None:
        """Do nothing: sessions are opened when they are asked for."""

    async def close(self, *_: Any, **__: Any) -> None:
        """Do nothing: sessions end with the run."""
