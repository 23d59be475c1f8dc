"""One session with PostgreSQL, as a client of its protocol has it: what is sent over a socket, and what it answers.

Must not know: drivers, gates, whose it is.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Any, Final

import psycopg

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import PATIENCE
from job_harness.worlds.postgres.gating.coordinator import READ, WRITE, InFlightStatement
from job_harness.worlds.wire.postgres_messages import (
    CANCEL_REQUEST,
    COPY_IN,
    ERROR,
    NOTICE,
    NOTIFICATION,
    PARAMETER,
    READY,
    TERMINATE,
    Batch,
    Batches,
    Frame,
    Frames,
    fields,
    query,
)

_CHUNK: Final = 1 << 16
_WROTE: Final = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
_RENEW: Final = "DISCARD ALL"
_IDLE: Final = b"I"
_COPYING: Final = b"C"
"""A session takes data of a COPY."""
_AMID: Final = b"P"
"""A session has answered the part of an extended query that was flushed."""
_OPEN: Final = (b"T", b"E")
BROKEN: Final = "the server closed the connection"


class BackendSession:
    """A session with PostgreSQL, its state, and its last answer."""

    def __init__(self, server: socket.socket, *, pid: int) -> None:
        """Take over a socket on which a session was opened; `pid` is PostgreSQL's process behind it."""
        self.pid = pid
        self.status = _IDLE
        """As ReadyForQuery says it; empty while a query is under way."""
        self.answer: list[Frame] = []
        """What it said to the query before, but for ReadyForQuery."""
        self.flight: InFlightStatement | None = None
        """The statement that is under way, or was last."""
        self._server = server
        self._frames = Frames()
        self._skips = False
        """Whether the server ignores everything up to the next Sync, since it refused a message before."""

    @property
    def descriptor(self) -> int:
        """The descriptor on which PostgreSQL answers."""
        return self._server.fileno()

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self.status == _IDLE

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, and no statement under way."""
        return self.status in _OPEN

    @property
    def may_commit(self) -> bool:
        """Whether a transaction is open in which nothing went wrong."""
        return self.status == b"T"

    @property
    def failed(self) -> bool:
        """Whether a transaction is open that can only be undone."""
        return self.status == b"E"

    @property
    def copying(self) -> bool:
        """Whether it waits for data of a COPY."""
        return self.status == _COPYING

    @property
    def under_way(self) -> bool:
        """Whether a statement that waits for others is not answered yet."""
        return self.flight is not None and not self.flight.done

    @property
    def refused(self) -> bool:
        """Whether its last answer is an error."""
        return any(frame.kind == ERROR for frame in self.answer)

    @property
    def whole_answer(self) -> bytes:
        """Its last answer as a driver is to have it."""
        told = b"".join(frame.raw for frame in self.answer)
        return told if self.status in (_COPYING, _AMID) else told + Frame(READY, self.status).raw

    # queries --------------------------------------------------------------------------------------------------------

    def answers(self, batch: Batch) -> int | None:
        """Say what ends the answer to a batch: that many messages, or (None) a ReadyForQuery."""
        return None if batch.ready else 0 if self._skips else batch.answers

    def send(self, raw: bytes, *, answers: int | None = None) -> Generator[int, Any, None]:
        """Send messages and take their answer; raises the error that it is.

        It ends with a ReadyForQuery, after that many `answers`, or where the server asks for data
        to copy.
        """
        self.answer = []
        self.status = b"" if answers != 0 else _AMID
        error: psycopg.Error | None = None
        self._server.setblocking(False)
        left = memoryview(raw)
        while left:
            try:
                left = left[self._server.send(left) :]
            except BlockingIOError:
                yield WRITE
        while not self.status:
            yield READ
            for frame in self._heard(self._received()):
                if frame.kind == READY:
                    self.status, self._skips = frame.body, False
                    continue
                self.answer.append(frame)
                if frame.kind == ERROR:
                    error = _error(frame)
                    self._skips = self._skips or answers is not None
                    self.status = _AMID if answers is not None else self.status
                elif frame.kind == COPY_IN:
                    self.status = _COPYING
                elif answers is not None and frame.completes:
                    answers -= 1
                    self.status = self.status or (_AMID if not answers else b"")
        if error is not None:
            raise error

    def _received(self) -> bytes:
        try:
            data = self._server.recv(_CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            raise psycopg.OperationalError(BROKEN)
        return data

    def _heard(self, data: bytes) -> list[Frame]:
        """Read what it says, but for what it says about its waiting."""
        return [frame for frame in self._frames.take(data) if frame.kind != NOTICE or not self._take_notice(frame)]

    def _take_notice(self, notice: Frame) -> bool:
        """Take what the session says about its waiting; everything else is for the driver."""
        told = fields(notice)
        if told.get("V") != "LOG":
            return False
        words = told.get("M", "")
        if self.flight is not None and ("still waiting" in words or "acquired" in words):
            self.flight.looked = "still waiting" in words
        return True

    def complete(self, steps: Generator[int, Any, None]) -> None:
        """Carry out what never waits for another session, and wait for it."""
        flight = InFlightStatement(steps, actor="", point="", pid=self.pid, descriptor=self.descriptor)
        while not flight.done:
            if not flight.pump(PATIENCE):
                raise EnvironmentUnavailable(
                    f"PostgreSQL did not answer within {PATIENCE:g} real seconds",
                    hint="Another session may hold a lock: look at pg_stat_activity.",
                )

    def at_once(self, sql: str) -> None:
        """Carry out a statement that never waits."""
        self.complete(self.send(query(sql)))

    def aside(self, sql: str) -> None:
        """Carry out something that the driver hears nothing of."""
        answer = self.answer
        self.at_once(sql)
        self.answer = [*answer, *notifications(self.answer)]

    def wrote(self) -> bool:
        """Say whether the transaction wrote or locked a row; if not, its end cannot be observed."""
        answer = self.answer
        self.at_once(_WROTE)
        wrote = any(frame.kind == b"D" and frame.body.endswith(b"t") for frame in self.answer)
        self.answer = answer
        return wrote

    # between queries ------------------------------------------------------------------------------------------------

    def overhear(self) -> tuple[bytes, bool]:
        """Return what it says unasked, such as notifications, and whether it has ended the session."""
        self._server.setblocking(False)
        try:
            data = self._server.recv(_CHUNK)
        except BlockingIOError:
            return b"", False
        except OSError:
            data = b""
        said = self._heard(data)
        ended = not data or any(frame.kind not in (NOTICE, NOTIFICATION, PARAMETER) for frame in said)
        return b"".join(frame.raw for frame in said), ended

    def notifications(self) -> bytes:
        """Return the notifications that have reached it while it is idle: it says them with its next answer."""
        answer, status = self.answer, self.status
        self.at_once("")
        said = notifications(self.answer)
        self.answer, self.status = answer, status
        return b"".join(frame.raw for frame in said)

    def cancel(self, request: bytes) -> None:
        """Let PostgreSQL end the statement that is under way, by the key that is in the request."""
        with socket.socket(self._server.family) as beside, suppress(OSError):
            beside.settimeout(PATIENCE)
            beside.connect(self._server.getpeername())
            beside.sendall(struct.pack("!II", len(request) + 8, CANCEL_REQUEST) + request)
            beside.recv(1)  # PostgreSQL closes once it has sent the signal.

    def renew(self) -> bool:
        """Make the session as new. False: it is in the middle of something."""
        if not self.idle or self.under_way:
            return False
        try:
            self.at_once(_RENEW)
        except (psycopg.Error, OSError, EnvironmentUnavailable):
            return False
        return self.idle and not self.refused

    def leave(self) -> socket.socket:
        """Give its socket away: a statement that still stands at a gate must not reach the next driver's session."""
        left, self._server = self._server, socket.socket()
        self._server.close()
        return left

    def close(self) -> None:
        """Leave it; PostgreSQL ends what it was doing once it notices."""
        self._server.close()


class DriverConnection:
    """The connection of an actor's driver: what it sends before it waits for an answer, and what it is told."""

    def __init__(self, client: socket.socket) -> None:
        self.sent = 0
        """Bytes that the driver was sent."""
        self.heard = 0
        """Bytes that the driver sent."""
        self.batches = Batches()
        self._client = client
        self._frames = Frames()

    @property
    def descriptor(self) -> int:
        """The descriptor on which the driver asks."""
        return self._client.fileno()

    def read(self) -> list[Frame]:
        """Take what the driver sent; it ends with Terminate where the driver has left."""
        try:
            data = self._client.recv(_CHUNK)
        except OSError:
            data = b""
        self.heard += len(data)
        return list(self._frames.take(data)) if data else [Frame(TERMINATE, b"")]

    def say(self, told: bytes) -> bool:
        """Tell the driver something. False: it is gone."""
        try:
            self._client.setblocking(True)
            self._client.sendall(told)
        except OSError:
            return False
        self.sent += len(told)
        return True

    def cut(self) -> None:
        """Let the driver hear nothing any more."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._client.close()


def notifications(reply: Iterable[Frame]) -> list[Frame]:
    """Return the notifications of an answer."""
    return [frame for frame in reply if frame.kind == NOTIFICATION]


def _error(frame: Frame) -> psycopg.Error:
    told = fields(frame)
    try:
        kind: type[psycopg.Error] = psycopg.errors.lookup(told.get("C", ""))
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(told.get("M", ""))
