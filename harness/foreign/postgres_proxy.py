"""Between a driver and PostgreSQL: every statement that is sent over a connection of an actor is a gate.

An actor's process connects to a `PostgresEndpoint`, a socket of ours; each connection is a `ProxiedSession`, which
reads PostgreSQL's own protocol, so that nothing of the driver or the library above it is replaced. The driver gets its
replies one by one. A statement outside a transaction is put into one of its own, so that its commit is a gate too: in
between it has its locks, and its effects are visible to none. It keeps the contract of `harness.foreign.wire_proxy`.

Hides: PostgreSQL's messages (see "Frontend/Backend Protocol" in its manual), sockets, how a session is opened. Must not
know: queues, peers, whose verb it is.
"""

from __future__ import annotations

import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

from harness.errors import EnvironmentUnavailable, UsageError
from harness.foreign.database import timestamp_of
from harness.postgres.gating.connection import may_stand_in_a_transaction, point_of
from harness.postgres.gating.coordinator import READ, WRITE, InFlightStatement
from harness.postgres.patience import PATIENCE, Deadline
from harness.postgres.virtual_clock import standing_since
from harness.private import private_folder
from harness.sim.request import Point, Wait

if TYPE_CHECKING:
    from harness.postgres.gating import SessionPool
    from harness.postgres.gating.coordinator import SessionCoordinator

PORT: Final = 5432
PROTOCOL: Final = 196608
SSL_REQUEST: Final = 80877103
ENCRYPTION_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102
READY: Final = b"Z"
ERROR: Final = b"E"
NOTICE: Final = b"N"
KEY_DATA: Final = b"K"
TERMINATE: Final = b"X"
_HEAD: Final = 5
_ENDS: Final = (b"S", b"Q", b"F")
"""What a client sends last before it waits for a ReadyForQuery."""
_REFUSED: Final = {b"H": "asks for an answer in the middle of a pipeline (Flush)", b"d": "copies data (COPY)"}
_CHUNK: Final = 1 << 16
_NO_GATE: Final = re.compile(
    r"^(begin|start\s+transaction|savepoint|release|set|show|deallocate|discard)\b(?!.*;.*\w)",
    re.IGNORECASE | re.DOTALL,
)
"""What neither waits for another session nor shows one anything."""
_WROTE: Final = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
_CLEAN: Final = "SELECT pg_advisory_unlock_all()"
_IDLE: Final = b"I"
_OPEN: Final = (b"T", b"E")
_BROKEN: Final = "the server closed the connection"


# an actor's connection ------------------------------------------------------------------------------------------------


class ProxiedSession:
    """One connection of one actor's driver: a `WireProxy`. `carry_out` lets the batch through that it sent first."""

    def __init__(self, client: socket.socket, server: socket.socket, *, pid: int) -> None:
        """Stand between two sockets on which a session was opened; `pid` is PostgreSQL's process behind it."""
        self.pid = pid
        self.actor = ""
        self.severed = False
        self.flight: InFlightStatement | None = None
        self.closed = False
        self.pending: deque[Batch] = deque()
        """What the driver has sent and waits for."""
        self.coordinator: SessionCoordinator | None = None
        """Where statements are released; None: they pass freely."""
        self.clock: Callable[[int], datetime] = timestamp_of
        """Called before a statement is sent, with what the store's clock showed when its transaction began."""
        self.resumes: Callable[[], None] = lambda: None
        """Called before the driver has its answer."""
        self.meanwhile: Callable[[], None] = lambda: None
        """Called while a statement waits for a lock: takes up what the process says over other connections."""
        self._client = client
        self._server = server
        self._from_client = Frames()
        self._from_server = Frames()
        self._batches = Batches()
        self._status = _IDLE
        self._began_at: int | None = None
        self._reply: list[Frame] = []

    # what the coordinator asks ----------------------------------------------------------------------------------------

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
        """Return what the coordinator's clock showed when the transaction began; where none is open, one begins now."""
        if self._began_at is None:
            self._began_at = 0 if self.coordinator is None else self.coordinator.clock()
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
            if self.coordinator is not None:
                self.coordinator.pool.monitor.end(self.pid)
        finally:
            self.close()

    def close(self) -> None:
        """Leave both sides; PostgreSQL ends what the session was doing once it notices."""
        self.closed = True
        self.cut()
        self._server.close()

    def cut(self) -> None:
        """Let the driver hear nothing any more: its process is gone."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._client.close()

    def cancel(self, request: bytes) -> None:
        """Let PostgreSQL end the statement that is under way, as the driver asks over a connection of its own.

        Where none is under way it comes too late, as it may at PostgreSQL itself.
        """
        if self.flight is None or self.flight.done or self.closed:
            return
        with socket.socket(self._server.family) as beside, suppress(OSError):
            beside.settimeout(PATIENCE)
            beside.connect(self._server.getpeername())
            beside.sendall(struct.pack("!II", len(request) + 8, CANCEL_REQUEST) + request)
            beside.recv(1)  # PostgreSQL closes once it has sent the signal.

    # the driver's side ----------------------------------------------------------------------------------------------

    def arrive(self) -> None:
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
            steps = self._sending(self.pending.popleft().raw)
            self._complete(steps)
            self.reply()

    # gates ----------------------------------------------------------------------------------------------------------

    async def carry_out(self) -> None:
        """Carry out what the driver waits for, at its gate and at that of its commit, and let it have the answer."""
        batch = self.pending.popleft()
        sql = batch.sql
        gated = bool(sql) and _NO_GATE.match(sql) is None
        point = point_of(sql) if sql else "prepare"
        if gated:
            await self.gate(point)
        alone = gated and self.idle and may_stand_in_a_transaction(sql)
        opens = self.idle
        standing = standing_since(self.clock(self.transaction_time())) if sql else ""
        if alone:
            self._at_once(f"BEGIN; {standing}")
        if gated:
            await self.release(batch.raw, point)
        else:
            self._complete(self._sending(batch.raw))
        if alone:
            await self._end_of_its_own(point)
        elif opens and self._status == b"T":
            self._aside(standing)
        self.resumes()
        self.reply()

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
            await self.gate(f"commit {point}")
            await self.release(query("COMMIT"), f"commit {point}")
            if not any(frame.kind == ERROR for frame in self._reply):
                self._reply = reply

    async def gate(self, point: str) -> None:
        """Stand before something that is to be sent, until the kernel lets it go."""
        await Point(point)

    async def release(self, raw: bytes, point: str) -> None:
        """Send a batch, and wait until it is answered; a lock that it waits for is waited for in virtual time."""
        assert self.coordinator is not None
        flight = self.coordinator.release(self, self._sending(raw), point)

        def answered() -> bool:
            self.meanwhile()
            return flight.done

        while not flight.done:
            await Wait(point, outside=self.coordinator, answered=answered)
        if isinstance(flight.error, psycopg.errors.DeadlockDetected):
            self._reply = [_without_numbers(frame, str(flight.error)) for frame in self._reply]
        elif flight.error is not None and flight.error.args[:1] == (_BROKEN,):
            self.cut()
        if self.severed:
            raise psycopg.OperationalError(f"{self.actor} died: nothing that it still does has an effect")

    # the server's side ----------------------------------------------------------------------------------------------

    def _sending(self, raw: bytes) -> Generator[int, Any, None]:
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
        """Take what the session says about its waiting; everything else is for the driver."""
        told = fields(notice)
        if told.get("V") != "LOG":
            return False
        words = told.get("M", "")
        if self.flight is not None and ("still waiting" in words or "acquired" in words):
            self.flight.looked = "still waiting" in words
        return True

    def _complete(self, steps: Generator[int, Any, None]) -> None:
        """Carry out what never waits for another session, and wait for it."""
        flight = InFlightStatement(steps, actor=self.actor, point="", pid=self.pid, descriptor=self.socket)
        while not flight.done:
            if not flight.pump(PATIENCE):
                raise EnvironmentUnavailable(
                    f"PostgreSQL did not answer within {PATIENCE:g} real seconds",
                    hint="Another session may hold a lock: look at pg_stat_activity.",
                )

    def _at_once(self, sql: str) -> None:
        self._complete(self._sending(query(sql)))

    def _aside(self, sql: str) -> None:
        """Carry out something that the driver hears nothing of."""
        reply = self._reply
        self._at_once(sql)
        self._reply = reply

    def _wrote(self) -> bool:
        """Say whether the transaction wrote or locked a row; if not, its end cannot be observed."""
        reply = self._reply
        self._at_once(_WROTE)
        wrote = any(frame.kind == b"D" and frame.body.endswith(b"t") for frame in self._reply)
        self._reply = reply
        return wrote

    def reply(self) -> None:
        """Let the driver have its answer."""
        told = b"".join(frame.raw for frame in self._reply) + Frame(READY, self._status).raw
        try:
            self._client.setblocking(True)
            self._client.sendall(told)
        except OSError:  # It is gone, and its session with it.
            self.drop()


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


# where drivers connect ------------------------------------------------------------------------------------------------


class PostgresEndpoint:
    """One process's way to PostgreSQL: a listening socket, and the sessions that were opened over it.

    It belongs to one session of a peer, so whatever comes over it is its actor's. It outlives a run where nothing was
    left open; where its actor died, it is cut.
    """

    def __init__(self, name: str, folder: Path, pool: SessionPool) -> None:
        """Listen in `folder`, on behalf of the peer's session of this name."""
        self.name = name
        self.sessions: list[ProxiedSession] = []
        self.turn = 0
        """The number of the peer's turn that is under way; 0: none."""
        self.actor = ""
        self._pool = pool
        self._coordinator: SessionCoordinator | None = None
        self._given = conninfo_to_dict(pool.url)
        self._path = folder / f".s.PGSQL.{PORT}"
        private_folder(folder)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()

    @property
    def url(self) -> str:
        """What the driver connects to."""
        user, database = self._given.get("user", ""), self._given.get("dbname", "")
        return f"postgresql://{user}@/{database}?host={str(self._path.parent).replace('/', '%2F')}&port={PORT}"

    @property
    def clean(self) -> bool:
        """Whether another run may have it: nothing is under way, and no session was lost."""
        return not self.turn and not any(session.closed or session.pending for session in self.sessions)

    def join(self, coordinator: SessionCoordinator, actor: str) -> None:
        """Let its sessions be this actor's, and their statements gates, from here on."""
        self._coordinator, self.actor = coordinator, actor
        for session in self.sessions:
            self._admit(session)

    def leave(self) -> None:
        """Let statements pass freely from here on."""
        self._coordinator = None
        for session in self.sessions:
            session.coordinator = None

    def _admit(self, session: ProxiedSession) -> None:
        session.actor, session.severed, session.coordinator = self.actor, False, self._coordinator
        session.meanwhile = self._accept_what_waits
        if self._coordinator is not None:
            self._coordinator.admit(session)

    def at_gate(self) -> ProxiedSession | None:
        """Return a session whose driver waits to be let through."""
        return next((session for session in self.sessions if session.pending and not session.closed), None)

    def listen(self, beside: int, seconds: float) -> None:
        """Wait until the driver, or what is read from the descriptor `beside`, has something to say, and take it."""
        live = {session.descriptor: session for session in self.sessions if not session.closed}
        ready, _, _ = select([beside, self._listener.fileno(), *live], [], [], seconds)
        for descriptor in ready:
            if descriptor == self._listener.fileno():
                self._accept()
            elif descriptor != beside:
                live[descriptor].arrive()
                if self._coordinator is None:
                    live[descriptor].pass_on()

    def cut(self) -> None:
        """Refuse new connections and let the process hear nothing; its sessions end as the coordinator says."""
        for session in self.sessions:
            session.cut()
        self._listener.close()
        with suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()

    def end(self) -> None:
        """Cut it, and leave PostgreSQL too."""
        self.cut()
        for session in self.sessions:
            session.close()

    # opening sessions -----------------------------------------------------------------------------------------------

    def _accept_what_waits(self) -> None:
        while self._listener.fileno() >= 0 and select([self._listener], [], [], 0)[0]:
            self._accept()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(PATIENCE)
        try:
            asked = _opening(client)
            if isinstance(asked, bytes):
                self._cancel(asked)
                client.close()
                return
            session = self._opened(client, asked)
        except OSError:  # The driver went away meanwhile.
            client.close()
            return
        self.sessions = [other for other in self.sessions if not other.closed]
        self.sessions.append(session)
        self._admit(session)

    def _cancel(self, request: bytes) -> None:
        """Tell the session with whose process number a request to cancel begins."""
        for session in self.sessions:
            if request[:4] == struct.pack("!I", session.pid):
                session.cancel(request)

    def _opened(self, client: socket.socket, asked: dict[str, str]) -> ProxiedSession:
        options = " ".join(part for part in (asked.get("options", ""), self._pool.options) if part)
        server = self._server()
        server.sendall(startup({**asked, **({"options": options} if options else {})}))
        deadline, frames, pid, ready = Deadline(PATIENCE), Frames(), 0, False
        while not ready:
            speaking, _, _ = select([client, server], [], [], deadline.left)
            if not speaking:
                raise self._unreachable("it did not open a session in time")
            if client in speaking:
                server.sendall(_some(client))
            if server in speaking:
                data = _some(server)
                for frame in frames.take(data):
                    pid = struct.unpack("!I", frame.body[:4])[0] if frame.kind == KEY_DATA else pid
                    ready = ready or frame.kind == READY
                client.sendall(data)
        return ProxiedSession(client, server, pid=pid)

    def _server(self) -> socket.socket:
        host, port = str(self._given.get("host") or "/var/run/postgresql"), self._given.get("port") or PORT
        try:
            if not host.startswith("/"):
                return socket.create_connection((host, int(port)), timeout=PATIENCE)
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{host}/.s.PGSQL.{port}")
        except OSError as error:
            raise self._unreachable(str(error)) from error
        return server

    def _unreachable(self, why: str) -> EnvironmentUnavailable:
        return EnvironmentUnavailable(
            f"no session with PostgreSQL at {self._given.get('host', 'its socket')}: {why}",
            hint="Look whether it runs and takes sessions without TLS: gating needs one for every actor.",
        )


def _opening(client: socket.socket) -> dict[str, str] | bytes:
    """Read what a driver asks for; bytes: process number and key of the session whose statement is to be cancelled."""
    while True:
        size, version = struct.unpack("!II", _exactly(client, 8))
        if version in (SSL_REQUEST, ENCRYPTION_REQUEST):
            client.sendall(b"N")
            continue
        body = _exactly(client, size - 8)
        if version == CANCEL_REQUEST:
            return body
        if version >> 16 != PROTOCOL >> 16:
            raise OSError(f"protocol {version >> 16} is unknown")
        return startup_parameters(body)


def _some(side: socket.socket) -> bytes:
    data = side.recv(_CHUNK)
    if not data:
        raise OSError("closed")
    return data


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += client.recv(size - len(data)) or _closed()
    return data


def _closed() -> bytes:
    raise OSError("closed")


# PostgreSQL's messages ------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """One message of either side."""

    kind: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """The message as it is sent."""
        return self.kind + struct.pack("!I", len(self.body) + 4) + self.body


class Frames:
    """Takes bytes as they come and gives whole messages."""

    def __init__(self) -> None:
        self._unread = b""

    def take(self, data: bytes) -> Iterator[Frame]:
        """Return the messages that are complete with these bytes."""
        self._unread += data
        while len(self._unread) >= _HEAD:
            size = 1 + int(struct.unpack_from("!I", self._unread, 1)[0])
            if len(self._unread) < size:
                return
            yield Frame(self._unread[:1], self._unread[_HEAD:size])
            self._unread = self._unread[size:]


class Batch(NamedTuple):
    """What a client sends before it waits: one statement, or what prepares or closes one."""

    frames: tuple[Frame, ...]
    sql: str
    """The text of the first statement that it executes; empty: it executes none."""

    @property
    def raw(self) -> bytes:
        """All of it as it is sent."""
        return b"".join(frame.raw for frame in self.frames)


class Batches:
    """Puts a client's messages together to batches, and remembers the texts that it prepared."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._texts: dict[bytes, str] = {}
        self._portals: dict[bytes, bytes] = {}
        self._sql = ""

    @property
    def empty(self) -> bool:
        """Whether the client is not in the middle of one."""
        return not self._frames

    def take(self, frame: Frame) -> Batch | None:
        """Return the batch that this message completes.

        Raises UsageError for what a gate has no place for.
        """
        if frame.kind in _REFUSED:
            raise UsageError(
                f"a driver whose statements are gated {_REFUSED[frame.kind]}",
                hint="Take the engine without `-gated`, whose driver speaks to PostgreSQL itself.",
            )
        self._frames.append(frame)
        self._read(frame)
        if frame.kind not in _ENDS:
            return None
        batch = Batch(tuple(self._frames), self._sql)
        self._frames.clear()
        self._sql = ""
        return batch

    def _read(self, frame: Frame) -> None:
        text = ""
        if frame.kind == b"Q":
            text = frame.body.rstrip(b"\0").decode("utf-8", "replace")
        elif frame.kind == b"P":
            name, sql, _ = frame.body.split(b"\0", 2)
            self._texts[name] = sql.decode("utf-8", "replace")
        elif frame.kind == b"B":
            portal, name, _ = frame.body.split(b"\0", 2)
            self._portals[portal] = name
        elif frame.kind == b"E":
            text = self._texts.get(self._portals.get(frame.body.split(b"\0", 1)[0], b""), "a statement")
        self._sql = self._sql or text.strip()


def query(sql: str) -> bytes:
    """Return the simple query of this text."""
    return Frame(b"Q", sql.encode() + b"\0").raw


def startup(parameters: Mapping[str, str]) -> bytes:
    """Return the message that opens a session."""
    pairs = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    body = struct.pack("!I", PROTOCOL) + pairs + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def startup_parameters(body: bytes) -> dict[str, str]:
    """Read what a message that opens a session asks for; its length and version are not in `body`."""
    parts = body.rstrip(b"\0").decode("utf-8", "replace").split("\0")
    return dict(zip(parts[::2], parts[1::2], strict=False))


def fields(frame: Frame) -> dict[str, str]:
    """Read an error or a notice by its field codes: `C` is the SQLSTATE, `M` the message, `V` the severity."""
    parts = frame.body.rstrip(b"\0").decode("utf-8", "replace").split("\0")
    return {part[0]: part[1:] for part in parts if part}


def with_fields(frame: Frame, told: Mapping[str, str]) -> Frame:
    """Return an error or a notice with these fields."""
    return Frame(frame.kind, b"".join(f"{code}{text}\0".encode() for code, text in told.items()) + b"\0")
