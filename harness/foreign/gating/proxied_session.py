"""A session of PostgreSQL between a driver in a child and the server: every statement that is sent over it is a gate.

The driver sees its own protocol, answer by answer. A statement outside a transaction is put into one of its own, so
that its commit is a gate too: in between it has its locks, and nobody sees what it did.
"""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import psycopg

from harness.errors import EnvironmentUnavailable
from harness.foreign.database import timestamp_of
from harness.foreign.gating.wire import (
    ERROR,
    NOTICE,
    READY,
    TERMINATE,
    Batch,
    Batches,
    Frame,
    Frames,
    fields,
    query,
    with_fields,
)
from harness.postgres.gating.connection import may_stand_in_a_transaction, point_of
from harness.postgres.gating.coordinator import READ, WRITE
from harness.postgres.gating.coordinator import InFlightStatement as Flight
from harness.postgres.patience import PATIENCE
from harness.postgres.virtual_clock import standing_since
from harness.sim.request import Point, Wait

if TYPE_CHECKING:
    from harness.postgres.gating.coordinator import SessionCoordinator as Room

_CHUNK: Final = 1 << 16
_NO_GATE: Final = re.compile(
    r"^(begin|start\s+transaction|savepoint|release|set|show|deallocate|discard)\b(?!.*;.*\w)",
    re.IGNORECASE | re.DOTALL,
)
"""What neither waits for anybody nor shows anybody anything."""
_WROTE: Final = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
_CLEAN: Final = "SELECT pg_advisory_unlock_all()"
_IDLE: Final = b"I"
_OPEN: Final = (b"T", b"E")


class ProxiedSession:
    """One connection of one actor's driver. `exchange` carries out the batch that it sent last."""

    def __init__(self, client: socket.socket, server: socket.socket, *, pid: int) -> None:
        """Stand between two sockets on which a session was opened; `pid` is PostgreSQL's process behind it."""
        self.pid = pid
        self.actor = ""
        self.severed = False
        self.flight: Flight | None = None
        self.closed = False
        self.pending: deque[Batch] = deque()
        """What the driver has sent and waits for."""
        self.room: Room | None = None
        """Where statements are released; None: they pass freely."""
        self.clock: Callable[[int], datetime] = timestamp_of
        """Called before a statement is sent, with what the store's clock showed when its transaction began."""
        self.resumes: Callable[[], None] = lambda: None
        """Called before the driver has its answer."""
        self._client = client
        self._server = server
        self._from_client = Frames()
        self._from_server = Frames()
        self._batches = Batches()
        self._status = _IDLE
        self._began_at: int | None = None
        self._reply: list[Frame] = []

    # what a room asks -----------------------------------------------------------------------------------------------

    @property
    def socket(self) -> int:
        """The descriptor on which PostgreSQL answers."""
        return self._server.fileno()

    @property
    def descriptor(self) -> int:
        """The descriptor on which the driver asks."""
        return self._client.fileno()

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self._status == _IDLE

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, and no statement under way."""
        return self._status in _OPEN

    def transaction_time(self) -> int:
        """Answer what the room's clock showed when the transaction began; where none is open, one begins now."""
        if self._began_at is None:
            self._began_at = 0 if self.room is None else self.room.clock()
        return self._began_at

    def forget_time(self) -> None:
        """Take note that the transaction ended."""
        self._began_at = None

    def give_back(self) -> None:
        """Keep it for the next run; one that is in the middle of something is ended."""
        self.forget_time()
        under_way = self.flight is not None and not self.flight.done
        if self.closed or under_way or self.pending or not self._batches.empty or not self.idle:
            self.drop()
        else:
            self._at_once(_CLEAN)

    def drop(self) -> None:
        """End it, whatever it is doing; its locks are free afterwards."""
        if self.closed:
            return
        try:
            if self.room is not None:
                self.room.pool.monitor.end(self.pid)
        finally:
            self.close()

    def close(self) -> None:
        """Leave both sides; PostgreSQL ends what the session was doing once it notices."""
        self.closed = True
        self.hang_up()
        self._server.close()

    def hang_up(self) -> None:
        """Let the driver hear nothing any more: its process is gone."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._client.close()

    # the driver's side ----------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Take what the driver sent, and what it waits for into `pending`; ends with the driver."""
        try:
            data = self._client.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self.drop()
            return
        for frame in self._from_client.take(data):
            if frame.kind == TERMINATE:
                self.drop()
                return
            batch = self._batches.take(frame)
            if batch is not None:
                self.pending.append(batch)

    def pass_on(self) -> None:
        """Carry out what is pending at once, at no gate."""
        while self.pending and not self.closed:
            steps = self._asking(self.pending.popleft().raw)
            self._complete(steps)
            self._deliver()

    # gates ----------------------------------------------------------------------------------------------------------

    async def exchange(self) -> None:
        """Carry out what the driver waits for, at its gate and at that of its commit, and let it have the answer."""
        batch = self.pending.popleft()
        sql = batch.sql
        gated = bool(sql) and _NO_GATE.match(sql) is None
        point = point_of(sql) if sql else "prepare"
        if gated:
            await Point(point)
        alone = gated and self.idle and may_stand_in_a_transaction(sql)
        opens = self.idle
        standing = standing_since(self.clock(self.transaction_time())) if sql else ""
        if alone:
            self._at_once(f"BEGIN; {standing}")
        if gated:
            await self._fly(batch.raw, point)
        else:
            self._complete(self._asking(batch.raw))
        if alone:
            await self._end_of_its_own(point)
        elif opens and self._status == b"T":
            self._aside(standing)
        self.resumes()
        self._deliver()

    async def _end_of_its_own(self, point: str) -> None:
        """End the transaction that a statement was put into."""
        if self._status == b"E":
            self._aside("ROLLBACK")
            self.forget_time()
        elif not self._wrote():
            self._aside("COMMIT")
            self.forget_time()
        else:
            reply = self._reply
            await Point(f"commit {point}")
            await self._fly(query("COMMIT"), f"commit {point}")
            if not any(frame.kind == ERROR for frame in self._reply):
                self._reply = reply

    async def _fly(self, raw: bytes, point: str) -> None:
        assert self.room is not None
        flight = self.room.release(self, self._asking(raw), point)
        while not flight.done:
            await Wait(point, outside=self.room, answered=lambda: flight.done)
        if isinstance(flight.error, psycopg.errors.DeadlockDetected):
            self._reply = [_without_numbers(frame, str(flight.error)) for frame in self._reply]
        elif flight.error is not None and flight.error.args[:1] == (_BROKEN,):
            self.hang_up()
        if self.severed:
            raise psycopg.OperationalError(f"{self.actor} died: nothing that it still does has an effect")

    # the server's side ----------------------------------------------------------------------------------------------

    def _asking(self, raw: bytes) -> Generator[int, Any, None]:
        """Send a batch and take its answer into `_reply`; raises the error that it is."""
        self._reply = []
        self._status = b""
        error: psycopg.Error | None = None
        self._server.setblocking(False)
        left = memoryview(raw)
        while left:
            try:
                left = left[self._server.send(left) :]
            except BlockingIOError:
                yield WRITE
        while not self._status:
            yield READ
            for frame in self._from_server.take(self._received()):
                if frame.kind == READY:
                    self._status = frame.body
                elif frame.kind == NOTICE and self._told(frame):
                    continue
                else:
                    self._reply.append(frame)
                    error = _error(frame) if frame.kind == ERROR else error
        if error is not None:
            raise error

    def _received(self) -> bytes:
        try:
            data = self._server.recv(_CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            raise psycopg.OperationalError(_BROKEN)
        return data

    def _told(self, notice: Frame) -> bool:
        """Take what the session tells of its waiting; everything else is for the driver."""
        told = fields(notice)
        if told.get("V") != "LOG":
            return False
        words = told.get("M", "")
        if self.flight is not None and ("still waiting" in words or "acquired" in words):
            self.flight.looked = "still waiting" in words
        return True

    def _complete(self, steps: Generator[int, Any, None]) -> None:
        """Carry out what waits for nobody, and wait for it."""
        flight = Flight(steps, actor=self.actor, point="", pid=self.pid, descriptor=self.socket)
        while not flight.done:
            if not flight.pump(PATIENCE):
                raise EnvironmentUnavailable(
                    f"PostgreSQL did not answer within {PATIENCE:g} real seconds",
                    hint="Somebody else may hold a lock: look at pg_stat_activity.",
                )

    def _at_once(self, sql: str) -> None:
        self._complete(self._asking(query(sql)))

    def _aside(self, sql: str) -> None:
        """Carry out something that the driver hears nothing of."""
        reply = self._reply
        self._at_once(sql)
        self._reply = reply

    def _wrote(self) -> bool:
        """Say whether the transaction wrote or locked a row; if not, nobody can tell when it ends."""
        reply = self._reply
        self._at_once(_WROTE)
        wrote = any(frame.kind == b"D" and frame.body.endswith(b"t") for frame in self._reply)
        self._reply = reply
        return wrote

    def _deliver(self) -> None:
        """Let the driver have its answer."""
        told = b"".join(frame.raw for frame in self._reply) + Frame(READY, self._status).raw
        try:
            self._client.setblocking(True)
            self._client.sendall(told)
        except OSError:  # It is gone, and its session with it.
            self.drop()


_BROKEN: Final = "the server closed the connection"


def _error(frame: Frame) -> psycopg.Error:
    told = fields(frame)
    try:
        kind: type[psycopg.Error] = psycopg.errors.lookup(told.get("C", ""))
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(told.get("M", ""))


def _without_numbers(frame: Frame, words: str) -> Frame:
    """Say who waited for whom by name: PostgreSQL's own words name processes and rows, others in each run."""
    if frame.kind != ERROR:
        return frame
    told = fields(frame)
    return with_fields(frame, {code: told[code] for code in "SVC" if code in told} | {"M": words})
