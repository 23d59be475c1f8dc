"""What goes over the connections of a system: sessions with its database, requests to it, its calls to the outside.

Each is one `Link` of a process and counts its bytes. Must not know: kernels, who decides what
happens next.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import Final, Protocol

from job_harness.core.model import Instant
from job_harness.core.port import Sent
from job_harness.core.sim import Commit, Exchange
from job_harness.subjects.systems.database import SystemDatabase, on_virtual_time
from job_harness.subjects.systems.http_wire import HttpMessage, HttpReader
from job_harness.worlds.patience import Deadline
from job_harness.worlds.sql import changed_tables, point_of, skeleton
from job_harness.worlds.wire.postgres_messages import Batch
from job_harness.worlds.wire.postgres_proxy import ProxiedSession
from job_harness.worlds.wire.proxy import Timekeeper

_CHUNK: Final = 1 << 16
ACCEPTED_SECONDS: Final = 0.25
"""Real seconds that a process gets to accept a connection, before it is taken to leave it waiting."""
_COMMITS: Final = ("commit", "end")
_ENDS: Final = ("commit", "end", "rollback", "abort", "prepare transaction")
_READING: Final = ("SELECT", "BEGIN", "START", "COMMIT", "ROLLBACK", "SET", "SHOW", "SAVEPOINT", "RELEASE", "FETCH")
"""Statements, by how PostgreSQL calls what was done, that change nothing."""
_DULL: Final = (b"1", b"2", b"3", b"n", b"t", b"T", b"C")
"""Kinds of messages in which PostgreSQL tells no row, and nothing that went wrong."""
_CALLS: Final = re.compile(r"\s*(call|select(\s+\*\s+from)?)\s+(?!pg_)[\w.\"]+\s*\(", re.IGNORECASE)
"""What may write by a function: it is what its transaction wrote, where nothing else in it did."""


class Link(Protocol):
    """One connection between a process and us."""

    key: str
    """The ports of its ends, the process's first."""
    may_wait: bool
    """Whether the process may leave it in the queue of those that it has not accepted."""

    @property
    def sent(self) -> int:
        """Bytes that we sent."""

    @property
    def heard(self) -> int:
        """Bytes that we read."""

    @property
    def descriptor(self) -> int:
        """What becomes readable when the process says something."""

    @property
    def fresh(self) -> bool:
        """Whether it was opened just now, in real time."""

    @property
    def closed(self) -> bool:
        """Whether we hear and say nothing over it any more."""

    def arrive(self) -> None:
        """Take what the process sent."""

    def close(self) -> None:
        """Leave it."""


def key_of(ours: socket.socket) -> str:
    """Name a connection by the ports of its ends, the process's first."""
    return f"{ours.getpeername()[1]}:{ours.getsockname()[1]}"


class Tag(str):
    """How PostgreSQL calls what a statement did: `UPDATE 1`."""

    __slots__ = ()

    @property
    def writes(self) -> bool:
        """Whether something was changed."""
        return not self.startswith(_READING) and not self.endswith(" 0")


class KnownAnswers:
    """What was answered where nothing changed, by what was asked: it holds until something changes."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[bytes, int, Instant]] = {}

    def keep(self, asked: Hashable, answer: bytes, *, change: int, at: Instant) -> None:
        """Keep an answer, after which change it was given (-1: it may be another one the next time), and when."""
        self._known[asked] = answer, change, at

    def since(self, asked: Hashable) -> tuple[int, Instant] | None:
        """Say after which change, and when, it was answered; None: there is no answer that holds."""
        known = self._known.get(asked)
        return None if known is None or known[1] < 0 else known[1:]

    def answer_to(self, asked: Hashable) -> bytes:
        """Return the last answer; empty where there was none."""
        return self._known.get(asked, (b"",))[0]


class DatabaseSession(ProxiedSession):
    """One connection of a process to the database; its reply can be lost."""

    may_wait = False
    fresh = False

    def __init__(self, client: socket.socket, server: socket.socket, *, pid: int) -> None:
        super().__init__(client, server, pid=pid)
        self.key = key_of(client)
        self.wrote: bool | None = None
        """Whether the transaction of its own that its last statement had wrote something; None: it had none."""
        self._unheard = False
        """Whether the reply of what is under way gets lost."""
        self.tags: list[Tag] = []
        """What its statements did, since they were last asked for."""
        self.written: Sent | None = None
        """Name, text and line of what it wrote last in the transaction that is open."""
        self.coarse = False
        """Whether others may act only before a transaction and before its end."""
        self.database: SystemDatabase | None = None
        """The database with its replica, where that may fall behind what is committed here."""
        self._known = KnownAnswers()

    @property
    def sent(self) -> int:
        """Bytes that the driver was sent."""
        return self.driver.sent

    @property
    def heard(self) -> int:
        """Bytes that the driver sent."""
        return self.driver.heard

    def rewrite(self, sql: str) -> str:
        """Return a statement with nothing in it that asks for real time."""
        return on_virtual_time(sql)

    def remember(self, batch: Batch, *, change: int, at: Instant) -> None:
        """Keep the answer of a batch that found and did nothing: it holds until something changes."""
        answer = self.backend.answer
        told = [frame for frame in answer if frame.kind == b"C"]
        dull = all(frame.kind in _DULL for frame in answer)
        if self.closed or not (dull and told and self.idle and batch.ready and not batch.leans):
            return
        if self.reads is not None and self.reads.lags(at):  # It is to be asked again once the replica has caught up.
            return
        if all(frame.body.rstrip(b"\0").endswith(b" 0") for frame in told):
            self._known.keep(batch.raw, self.backend.whole_answer, change=change, at=at)

    def found_nothing(self) -> tuple[int, Instant] | None:
        """Say after which change, and when, what waits here was answered with nothing; None: it was not."""
        if len(self.pending) != 1 or not self.idle or self.closed:
            return None
        return self._known.since(self.pending[0].raw)

    def answer_again(self) -> None:
        """Let the driver have the same answer as before."""
        self._tell(self._known.answer_to(self.pending.popleft().raw))

    async def gate(self, point: str) -> None:
        """Stand before something that is to be sent; the connection may break there, before or after it is."""
        if self.coarse and self.in_transaction and not point.startswith(_ENDS):
            return
        exchange = self._exchange(point)
        await exchange
        if type(exchange) is Commit and exchange.lag and self.database is not None:
            self.database.let_replica_lag(exchange.lag)
        self._unheard = self._unheard or not exchange.heard
        if not exchange.happens:
            self.timekeeper.before_reply()
            self.drop()
            raise ConnectionResetError(f"the connection broke before {point}")

    def _exchange(self, point: str) -> Exchange:
        may_lag = self.database is not None and self.database.replica_may_lag and self.reads is None
        return Commit(point) if may_lag and point.startswith(_COMMITS) else Exchange(point)

    async def release(self, raw: bytes, point: str, *, sql: str = "", answers: int | None = None) -> None:
        """Send a batch; of a transaction that ends, note before whether it wrote: polling in one must not count."""
        if self.wrote is None and self.in_transaction and point in _COMMITS:
            self._wrote()
        await super().release(raw, point, sql=sql, answers=answers)

    def _wrote(self) -> bool:
        self.wrote = super()._wrote()
        return self.wrote

    def holds(self) -> bool:
        """Whether a transaction is open in which something was written, or locked to be."""
        return self.backend.may_commit and self.backend.wrote()

    def reply(self) -> None:
        """Let the driver have its answer, or break the connection in its place."""
        for frame in self.backend.answer:
            if frame.kind == b"C":
                self.tags.append(Tag(frame.body.rstrip(b"\0").decode("utf-8", "replace")))
        if self._unheard:
            self.drop()
        else:
            super().reply()

    def take_tags(self) -> list[Tag]:
        """Take what its statements did."""
        tags, self.tags = self.tags, []
        return tags

    def counts_as(self, sql: str, line: str, tags: Iterable[Tag]) -> Sent:
        """Return what was sent; a COMMIT, or a Sync without a text, is what it lets others see."""
        said = Sent(self.actor, point_of(sql) if sql else "sync", sql, line)
        whole = self.written if self.written is not None and (not sql or said.gate in _COMMITS) else said
        if self.idle:
            self.written = None
        elif (
            any(tag.writes for tag in tags)
            or changed_tables(sql)
            or (self.written is None and _CALLS.match(skeleton(sql)))
        ):
            self.written = said
        return whole


class HttpLink:
    """One HTTP exchange over a connection of its own."""

    def __init__(self, ours: socket.socket, *, answers: str = "") -> None:
        """Read a request of the process, or its response to a request of the method that it `answers`."""
        self.key = key_of(ours)
        self._new = Deadline(ACCEPTED_SECONDS)
        self.sent = 0
        self.heard = 0
        self.may_wait = False
        self.closed = False
        self._socket = ours
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = HttpReader(answers=answers)

    @property
    def fresh(self) -> bool:
        """Whether it was opened just now, in real time."""
        return not self._new.passed

    @property
    def descriptor(self) -> int:
        """What becomes readable when the process says something."""
        return self._socket.fileno()

    @property
    def message(self) -> HttpMessage | None:
        """What the process said, once that is whole."""
        return self._reader.message

    @property
    def problem(self) -> str:
        """Why nothing whole will come."""
        return self._reader.problem

    def say(self, data: bytes) -> None:
        """Send something; a process that is gone hears nothing."""
        with suppress(OSError):
            self._socket.setblocking(True)
            self._socket.sendall(data)
            self.sent += len(data)

    def arrive(self) -> None:
        """Take what the process sent."""
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:  # Half a record of TLS.
            return
        except OSError:
            data = b""
        self.heard += len(data)
        self._reader.take(data)
        if not data:
            self.close()

    def close(self) -> None:
        """Leave it."""
        self.closed = True
        self._socket.close()


class ProcessRequest(HttpLink):
    """A request to a process; `message` is its response."""

    @classmethod
    def sent_over(cls, ours: socket.socket, request: bytes) -> ProcessRequest:
        """Send a request over a connection to a process."""
        made = cls(ours, answers=request.partition(b" ")[0].decode())
        made.may_wait = True
        made.say(request)
        return made

    @property
    def over(self) -> bool:
        """Whether it was answered, or never will be."""
        return self.message is not None or self.closed


class OutsideCall(HttpLink):
    """A call of a process to a host outside; `message` is its request."""

    def __init__(self, ours: socket.socket, timekeeper: Timekeeper) -> None:
        super().__init__(ours)
        self._timekeeper = timekeeper
        self.taken = False
        """Whether it is being seen to."""
        self.job: str | None = None
        """The job whose work it is."""
        self.held_by = ""
        """The host whose trouble holds up the reply, where one does."""

    def hang_up(self) -> None:
        """Break the connection."""
        self._timekeeper.before_reply()
        self.close()

    def answer(self, response: bytes) -> None:
        """Send the response, and leave."""
        self._timekeeper.before_reply()
        self.say(response)
        self.close()
