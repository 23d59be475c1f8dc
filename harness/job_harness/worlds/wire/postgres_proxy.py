"""Between a driver and PostgreSQL: every statement that is sent over a connection of an actor is a gate.

An actor's process connects to a `PostgresEndpoint`, a socket of ours; each connection is a
`ProxiedSession`, which reads PostgreSQL's own protocol, so that nothing of the driver or the
library above it is replaced. The driver gets its replies one by one. A statement outside a
transaction is put into one of its own, so that its commit is a gate too: in between it has its
locks, and its effects are visible to none. It keeps the contract of
`job_harness.worlds.wire.proxy`.

Hides: PostgreSQL's messages (see "Frontend/Backend Protocol" in its manual), sockets, how a session
is opened. Must not know: queues, peers, whose verb it is.
"""

from __future__ import annotations

import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

from job_harness.core.history.outcome import ABORTED
from job_harness.core.own_code import CodeLine
from job_harness.core.sim import Point, StatementGate, Wait
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import PATIENCE, Deadline, ready
from job_harness.worlds.postgres.gating.coordinator import InFlightStatement, SessionCoordinator
from job_harness.worlds.postgres.gating.pool import SessionPool
from job_harness.worlds.postgres.virtual_clock import standing_since
from job_harness.worlds.sql import may_be_put_into_one, point_of, skeleton
from job_harness.worlds.wire.postgres_messages import (
    AUTHENTICATION,
    CANCEL_REQUEST,
    ENCRYPTION_REQUEST,
    ERROR,
    KEY_DATA,
    PASSWORD,
    PROTOCOL,
    READY,
    SSL_REQUEST,
    TERMINATE,
    Batch,
    Frame,
    Frames,
    error_frame,
    fields,
    query,
    startup,
    startup_parameters,
    with_fields,
)
from job_harness.worlds.wire.postgres_session import BROKEN, BackendSession, DriverConnection, notifications
from job_harness.worlds.wire.proxy import Endpoint, ListeningSocket, Timekeeper
from job_harness.worlds.wire.replica import READ_ONLY, Replica

if TYPE_CHECKING:
    from job_harness.core.model import Instant

PORT: Final = 5432
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
_CHUNK: Final = 1 << 16
_NO_GATE: Final = re.compile(
    r"^(begin|start\s+transaction|savepoint|release|set|show|deallocate|discard)\b(?!.*;.*\w)",
    re.IGNORECASE | re.DOTALL,
)
"""What neither waits for another session nor shows one anything."""
_COPY_FROM: Final = re.compile(r"\bcopy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)
"""What begins a COPY for which the driver sends data: nothing may be sent in between."""
_CLEAN: Final = "SELECT pg_advisory_unlock_all()"
_ABORT: Final = f"DO $$ BEGIN RAISE EXCEPTION '{ABORTED}' USING ERRCODE = 'query_canceled'; END $$"


# an actor's connection ------------------------------------------------------------------------------------------------


class ProxiedSession:
    """One connection of one actor's driver: a `WireProxy`. `carry_out` lets the batch through that it sent first."""

    def __init__(self, client: socket.socket, server: socket.socket, *, pid: int) -> None:
        """Stand between two sockets on which a session was opened; `pid` is PostgreSQL's process behind it."""
        self.backend = BackendSession(server, pid=pid)
        self.driver = DriverConnection(client)
        self.actor = ""
        self.severed = False
        self.closed = False
        self.pending: deque[Batch] = deque()
        """What the driver has sent and waits for."""
        self.coordinator: SessionCoordinator | None = None
        """Where statements are released; None: they pass freely."""
        self.timekeeper = Timekeeper()
        self.line: CodeLine | None = None
        """From which line of the user's own what is carried out was sent; None where that is not known."""
        self.endpoint: PostgresEndpoint | None = None
        """Takes up what the process says over other connections while a statement waits for a lock."""
        self.reuse: BackendReuse | None = None
        """Takes over the session with PostgreSQL, as new, once the driver has left it; None: it is ended."""
        self.reads: Replica | None = None
        """The replica that it is a session on; None: it is one on the database itself."""
        self._began_at: int | None = None
        self._statement: StatementGate | None = None
        """The gate that comes next, where it is that of a statement which a fault may abort."""

    # what the coordinator asks ----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """PostgreSQL's process behind it."""
        return self.backend.pid

    @property
    def flight(self) -> InFlightStatement | None:
        """The statement that is under way, or was last."""
        return self.backend.flight

    @flight.setter
    def flight(self, flight: InFlightStatement | None) -> None:
        self.backend.flight = flight

    @property
    def socket(self) -> int:
        """The descriptor on which PostgreSQL answers."""
        return self.backend.descriptor

    @property
    def descriptor(self) -> int:
        """The descriptor on which the driver asks."""
        return self.driver.descriptor

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self.backend.idle

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, and no statement under way."""
        return self.backend.in_transaction

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
        if self.closed or self.backend.under_way or self.pending or not self.driver.batches.empty or not self.idle:
            self.drop()
        else:
            self.backend.at_once(_CLEAN)

    def drop(self) -> None:
        """End it, whatever it is doing; its locks are free afterwards."""
        if self.closed:
            return
        if self.reuse is not None and self.driver.batches.empty and self.backend.renew() and self.reuse.keep(self):
            self.close()
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
        self.backend.close()

    def cut(self) -> None:
        """Let the driver hear nothing any more: its process is gone."""
        self.driver.cut()

    def cancel(self, request: bytes) -> None:
        """Let PostgreSQL end the statement that is under way, as the driver asks over a connection of its own.

        Where none is under way it comes too late, as it may at PostgreSQL itself.
        """
        if self.backend.under_way and not self.closed:
            self.backend.cancel(request)

    # the driver's side ----------------------------------------------------------------------------------------------

    def rewrite(self, sql: str) -> str:
        """Return a statement as it is sent to PostgreSQL."""
        return sql

    def arrive(self) -> None:
        """Take what the driver sent, and what it waits for into `pending`; ends with the driver."""
        for frame in self.driver.read():
            if frame.kind == TERMINATE:
                self.drop()
                return
            batch = self.driver.batches.take(rewritten(frame, self.rewrite))
            if batch is not None:
                self.pending.append(batch)

    def pass_on(self) -> None:
        """Carry out what is pending at once, at no gate."""
        while self.pending and not self.closed:
            batch = self.pending.popleft()
            self._at_once(batch)
            self.reply()

    # gates ----------------------------------------------------------------------------------------------------------

    async def carry_out(self) -> None:
        """Carry out what the driver waits for, at its gate and at that of its commit, and let it have the answer."""
        batch = self.pending.popleft()
        sql = batch.sql
        gated = bool(sql) and _NO_GATE.match(skeleton(sql)) is None
        point = point_of(sql) if sql else "prepare"
        self._statement = StatementGate(point, lambda: self.line) if gated and batch.ready else None
        if gated:
            await self.gate(point)
        alone = gated and self.idle and self._may_stand_alone(batch)
        opens = self.idle
        standing = standing_since(self.timekeeper.before_request(self.transaction_time())) if sql else ""
        past = "" if self.reads is None or self.coordinator is None else self.reads.past(self.coordinator.clock())
        if alone:
            self.backend.at_once(f"BEGIN; {past}{standing}")
        statement, self._statement = self._statement, None
        if statement is not None and statement.aborted:
            await self.release(query(_ABORT), point, sql=sql)
        elif gated:
            await self.release(batch.raw, point, sql=sql, answers=self.backend.answers(batch))
        else:
            self._at_once(batch)
        if alone:
            await self._end_of_its_own(point)
        elif opens and self.backend.may_commit:  # A snapshot is taken before the first statement or not at all.
            self.backend.aside(standing if gated else past + standing)
        self.timekeeper.before_reply()
        self.reply()

    @staticmethod
    def _may_stand_alone(batch: Batch) -> bool:
        """Say whether a batch can be put into a transaction of its own."""
        whole = batch.ready and not batch.leans and _COPY_FROM.search(skeleton(batch.sql)) is None
        return whole and all(map(may_be_put_into_one, batch.statements))

    async def _end_of_its_own(self, point: str) -> None:
        """End the transaction that a statement was put into."""
        if self.backend.failed:
            self.backend.aside("ROLLBACK")
            self.forget_time()
        elif not self._wrote():
            self.backend.aside("COMMIT")
            self.forget_time()
        else:
            answer = self.backend.answer
            await self.gate(f"commit {point}")
            await self.release(query("COMMIT"), f"commit {point}", sql="COMMIT")
            if not self.backend.refused:
                self.backend.answer = [*answer, *notifications(self.backend.answer)]

    def _wrote(self) -> bool:
        """Say whether the transaction wrote or locked a row."""
        return self.backend.wrote()

    async def gate(self, point: str) -> None:
        """Stand before something that is to be sent, until the kernel lets it go; a fault may abort a statement."""
        await (self._statement or Point(point, lambda: self.line))

    async def release(self, raw: bytes, point: str, *, sql: str = "", answers: int | None = None) -> None:
        """Send a batch, and wait until it is answered; a lock that it waits for is waited for in virtual time.

        Its answer ends after that many messages; None: with a ReadyForQuery.
        """
        assert self.coordinator is not None
        flight = self.coordinator.release(self, self._send(raw, answers=answers), point, sql=sql)

        def answered() -> bool:
            if self.endpoint is not None:
                self.endpoint.accept_what_waits()
            return flight.done

        while not flight.done:
            await Wait(point, outside=self.coordinator, answered=answered)
        if isinstance(flight.error, psycopg.errors.DeadlockDetected):
            self.backend.answer = [_without_numbers(frame, str(flight.error)) for frame in self.backend.answer]
        elif flight.error is not None and flight.error.args[:1] == (BROKEN,):
            self.cut()
        if self.severed:
            raise psycopg.OperationalError(f"{self.actor} died: nothing that it still does has an effect")

    def _send(self, raw: bytes, *, answers: int | None) -> Generator[int, Any, None]:
        """Send a batch of the driver's, and take its answer."""
        yield from self.backend.send(raw, answers=answers)
        if self.backend.copying and not (self.pending and self.pending[0].ends_copy):  # else its data is there already
            self.driver.batches.copying = raw[:1]

    def _at_once(self, batch: Batch) -> None:
        self.backend.complete(self._send(batch.raw, answers=self.backend.answers(batch)))

    # what the driver is told ----------------------------------------------------------------------------------------

    def reply(self) -> None:
        """Let the driver have its answer."""
        self._tell(self.backend.whole_answer)

    def _tell(self, told: bytes) -> None:
        if not self.driver.say(told):  # It is gone, and its session with it.
            self.drop()

    def overhear(self) -> bool:
        """Pass on what the server says unasked: notifications, notices, changed parameters. True: there was something.

        A server that ends the session unasked ends it for the driver too.
        """
        if self.closed or self.backend.under_way:
            return False
        said, ended = self.backend.overhear()
        if said:
            self._tell(said)
        if ended:
            self.close()
        return bool(said) or ended

    def nudge(self) -> None:
        """Pass on the notifications that have reached the session: it is idle, and says them with its next answer."""
        if self.closed or not self.idle or self.pending or not self.driver.batches.empty:
            return
        if said := self.backend.notifications():
            self._tell(said)


def rewritten(frame: Frame, rewrite: Callable[[str], str]) -> Frame:
    """Return what a driver sends with the text of its statement written anew."""
    if frame.kind == b"Q":
        sql = frame.body.rstrip(b"\0").decode("utf-8", "replace")
        anew = rewrite(sql)
        return frame if anew == sql else Frame(frame.kind, anew.encode() + b"\0")
    if frame.kind == b"P":
        name, text, rest = frame.body.split(b"\0", 2)
        sql = text.decode("utf-8", "replace")
        anew = rewrite(sql)
        return frame if anew == sql else Frame(frame.kind, b"\0".join((name, anew.encode(), rest)))
    return frame


def _without_numbers(frame: Frame, words: str) -> Frame:
    """Say who waited for whom by name: PostgreSQL's own words name processes and rows, others in each run."""
    if frame.kind != ERROR:
        return frame
    told = fields(frame)
    return with_fields(frame, {code: told[code] for code in "SVC" if code in told} | {"M": words})


# where drivers connect ------------------------------------------------------------------------------------------------


class Backend(NamedTuple):
    """A session with PostgreSQL that no driver has, and what it said when it was opened."""

    server: socket.socket
    greeting: tuple[Frame, ...]


class Backends:
    """Sessions of one database that drivers have left: the next one that asks for the same takes one over.

    A pool that lets its connections go after ten seconds opens dozens in an hour of virtual time,
    and a process of PostgreSQL's costs more to start than all that is said over it. DISCARD ALL
    leaves nothing of the session before.
    """

    MOST: Final = 32

    def __init__(self) -> None:
        self._idle: dict[tuple[tuple[str, str], ...], list[Backend]] = {}

    def take(self, asked: Mapping[str, str]) -> Backend | None:
        """Return a session that was opened with the same parameters, if one is there."""
        found = self.left(asked)
        return found.pop() if found else None

    def left(self, asked: Mapping[str, str]) -> list[Backend]:
        """Return the sessions that drivers have left, of those that were opened with these parameters."""
        return self._idle.setdefault(tuple(sorted(asked.items())), [])

    def clear(self) -> None:
        """Leave all of them."""
        for backend in (each for found in self._idle.values() for each in found):
            backend.server.close()
        self._idle.clear()


class BackendReuse(NamedTuple):
    """Where a session goes once its driver has left it, and what the next driver has to ask for to get it."""

    backends: Backends
    asked: Mapping[str, str]
    greeting: tuple[Frame, ...]

    def keep(self, session: ProxiedSession) -> bool:
        """Hand over a session that is as new. False: there are enough."""
        found = self.backends.left(self.asked)
        if len(found) >= Backends.MOST:
            return False
        found.append(Backend(session.backend.leave(), self.greeting))
        return True


class PostgresEndpoint(Endpoint[ProxiedSession, SessionCoordinator]):
    """One process's way to PostgreSQL. It outlives a run where nothing was left open; where its actor died, it is cut.

    libpq finds its socket in the folder by the name `SOCKET_NAME`.
    """

    def __init__(self, name: str, listener: ListeningSocket, pool: SessionPool) -> None:
        """Stand behind `listener`; the sessions are in the pool's database."""
        super().__init__(name, listener)
        self._pool = pool
        self._given = conninfo_to_dict(pool.url)

    @property
    def url(self) -> str:
        """What the driver connects to."""
        user, database = self._given.get("user", ""), self._given.get("dbname", "")
        folder = str(self._listener.path.parent).replace("/", "%2F")
        return f"postgresql://{user}@/{database}?host={folder}&port={PORT}"

    @property
    def clean(self) -> bool:
        """Whether another run may have it: nothing is under way, and no session was lost."""
        return not self.turn and not any(session.closed or session.pending for session in self.sessions)

    def join(self, coordinator: SessionCoordinator, actor: str) -> None:
        """Let its sessions be this actor's, and their statements gates, from here on."""
        self._coordinator, self.actor = coordinator, actor
        for session in self.sessions:
            self._admit(session)

    def _admit(self, session: ProxiedSession) -> None:
        session.actor, session.severed, session.coordinator = self.actor, False, self._coordinator
        session.endpoint = self
        if self._coordinator is not None:
            self._coordinator.admit(session)

    def listen(self, beside: int, seconds: float) -> None:
        """Wait until the driver, or what is read from the descriptor `beside`, has something to say, and take it."""
        live = {session.descriptor: session for session in self.sessions if not session.closed}
        for descriptor in ready([beside, self._listener.descriptor, *live], seconds=seconds)[0]:
            if descriptor == self._listener.descriptor:
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

    def end(self) -> None:
        """Cut it, and leave PostgreSQL too."""
        self.cut()
        for session in self.sessions:
            session.close()

    # opening sessions -----------------------------------------------------------------------------------------------

    def accept_what_waits(self) -> None:
        """Take up the connections that have reached the socket."""
        while self._listener.descriptor >= 0 and ready([self._listener.descriptor], seconds=0)[0]:
            self._accept()

    def _accept(self) -> None:
        client = self._listener.accept()
        client.settimeout(PATIENCE)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            asked, heard, sent = _opening(client)
            if isinstance(asked, bytes):
                self._cancel(asked)
                client.close()
                return
            session = self._opened(client, asked)
            session.driver.heard += heard
            session.driver.sent += sent
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
        deadline, frames, pid, opened = Deadline(PATIENCE), Frames(), 0, False
        while not opened:
            speaking, _ = ready([client.fileno(), server.fileno()], seconds=deadline.left)
            if not speaking:
                raise self._unreachable("it did not open a session in time")
            if client.fileno() in speaking:
                server.sendall(_some(client))
            if server.fileno() in speaking:
                data = _some(server)
                for frame in frames.take(data):
                    pid = struct.unpack("!I", frame.body[:4])[0] if frame.kind == KEY_DATA else pid
                    opened = opened or frame.kind == READY
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
            hint="Check that it runs and accepts sessions without TLS: gating needs one for each actor.",
        )


class PostgresGates:
    """What a `SessionRouter` needs to give actors sessions with one PostgreSQL."""

    def __init__(self, url: str) -> None:
        """Take the URL of the database."""
        self._pool = SessionPool(url)

    def endpoint(self, name: str, folder: Path) -> PostgresEndpoint:
        """Return a new endpoint that listens in `folder`."""
        return PostgresEndpoint(name, ListeningSocket.in_folder(folder, SOCKET_NAME), self._pool)

    def coordinator(self, clock: Callable[[], Instant]) -> SessionCoordinator:
        """Return where the sessions of one run meet."""
        return SessionCoordinator(self._pool, clock=clock)

    def close(self) -> None:
        """End the sessions that are kept."""
        self._pool.close()


class PasswordEndpoint(PostgresEndpoint):
    """One process's way to PostgreSQL over loopback: a port, a user and a password, as any DATABASE_URL has them.

    What the driver says is checked here, so that no driver needs a way to authenticate but the
    plainest.
    """

    USER: Final = "app"
    PASSWORD: Final = "app"

    def __init__(
        self,
        name: str,
        pool: SessionPool,
        *,
        kind: type[ProxiedSession],
        backends: Backends | None = None,
        called: str = "app",
        replica: Replica | None = None,
        listener: ListeningSocket | None = None,
    ) -> None:
        """Listen as `listener` does, else on a port of loopback; `kind` is what each connection becomes.

        `backends` keeps what drivers leave.

        Drivers ask for the database that is `called` so, or for its `replica`.
        """
        super().__init__(name, listener or ListeningSocket.on_loopback(), pool)
        self.called = called
        self._replica = replica
        self.database = ""
        """The database that it leads to just now."""
        self.refused: list[str] = []
        """What drivers asked for and did not get."""
        self._kind = kind
        self._backends = backends
        self.port = self._listener.port

    @property
    def url(self) -> str:
        """What the driver connects to."""
        return self._url(self.called)

    def _url(self, database: str) -> str:
        return f"postgresql://{self.USER}:{self.PASSWORD}@127.0.0.1:{self.port}/{database}"

    @property
    def environment(self) -> dict[str, str]:
        """What tells libpq and its like the same."""
        told = {"HOST": "127.0.0.1", "PORT": str(self.port), "USER": self.USER}
        told |= {"PASSWORD": self.PASSWORD, "DATABASE": self.called}
        replica = {} if self._replica is None else {self._replica.variable: self._url(Replica.called(self.called))}
        return {"DATABASE_URL": self.url, **replica, **{f"PG{name}": value for name, value in told.items()}}

    @property
    def descriptor(self) -> int:
        """What becomes readable when a driver connects."""
        return self._listener.descriptor

    def accept(self) -> bool:
        """Take one connection, where one waits."""
        if not ready([self._listener.descriptor], seconds=0)[0]:
            return False
        self._accept()
        return True

    def cut(self) -> None:
        """Let the process hear nothing more over the connections that it has; a new one may connect anew."""
        for session in self.sessions:
            session.close()
        self.sessions.clear()

    def end(self) -> None:
        """Stop listening too."""
        self.cut()
        self._listener.close()

    def _opened(self, client: socket.socket, asked: dict[str, str]) -> ProxiedSession:
        name = asked.get("database") or asked.get("user", "")
        reads = self._replica if name == Replica.called(self.called) else None
        if name != self.called and reads is None:
            self.refused.append(f"it opens the database {name!r}, and there is one, {self.called!r}")
            client.sendall(error_frame("3D000", f'database "{name}" does not exist').raw)
            raise OSError("refused")
        heard = self._check_password(client)
        wanted = (asked.get("options", ""), self._pool.options, READ_ONLY if reads else "")
        options = " ".join(part for part in wanted if part)
        own = {"user": str(self._given.get("user") or self.USER), "database": self.database, "options": options}
        backend = self._backend({**asked, **own})
        told = b"".join(frame.raw for frame in backend.greeting)
        client.sendall(told)
        keys = next((frame.body for frame in backend.greeting if frame.kind == KEY_DATA), b"\0\0\0\0")
        session = self._kind(client, backend.server, pid=struct.unpack("!I", keys[:4])[0])
        session.reads = reads
        session.driver.heard, session.driver.sent = heard, len(told) + len(_ASK_PASSWORD)
        if self._backends is not None:
            session.reuse = BackendReuse(self._backends, {**asked, **own}, backend.greeting)
        return session

    def _backend(self, asked: dict[str, str]) -> Backend:
        """Take over a session that a driver has left, or open one."""
        kept = None if self._backends is None else self._backends.take(asked)
        if kept is not None:
            return kept
        server = self._server()
        server.sendall(startup(asked))
        return Backend(server, tuple(self._greeting(server)))

    def _check_password(self, client: socket.socket) -> int:
        """Ask for the password; return how many bytes came."""
        client.sendall(_ASK_PASSWORD)
        kind, size = struct.unpack("!cI", _exactly(client, 5))
        given = _exactly(client, size - 4).rstrip(b"\0").decode("utf-8", "replace")
        if kind != PASSWORD or given != self.PASSWORD:
            client.sendall(error_frame("28P01", f'password authentication failed for user "{self.USER}"').raw)
            raise OSError("refused")
        return int(size) + 1

    def _greeting(self, server: socket.socket) -> list[Frame]:
        """Return what the server says up to its first ReadyForQuery."""
        deadline, frames, said = Deadline(PATIENCE), Frames(), list[Frame]()
        while not said or said[-1].kind != READY:
            if not ready([server.fileno()], seconds=deadline.left)[0]:
                raise self._unreachable("it did not open a session in time")
            said.extend(frames.take(_some(server)))
            if said and said[-1].kind == ERROR:
                raise self._unreachable(fields(said[-1]).get("M", "it refused"))
            if said and said[0].kind == AUTHENTICATION and said[0].body[:4] != b"\0\0\0\0":
                raise self._unreachable("it asks for a password")
        return said


_ASK_PASSWORD: Final = Frame(AUTHENTICATION, b"\0\0\0\3").raw
"""Asks for it in plain text: the way to authenticate that every driver has."""


class Opening(NamedTuple):
    """What a driver said first."""

    asked: dict[str, str] | bytes
    """What it asks for; bytes: process number and key of the session whose statement is to be cancelled."""
    heard: int
    """Bytes that it sent for that."""
    sent: int
    """Bytes that it was sent."""


def _opening(client: socket.socket) -> Opening:
    """Read what a driver asks for; a request to encrypt is declined."""
    heard = sent = 0
    while True:
        size, version = struct.unpack("!II", _exactly(client, 8))
        heard += size
        if version in (SSL_REQUEST, ENCRYPTION_REQUEST):
            client.sendall(b"N")
            sent += 1
            continue
        body = _exactly(client, size - 8)
        if version == CANCEL_REQUEST:
            return Opening(body, heard, sent)
        if version >> 16 != PROTOCOL >> 16:
            raise OSError(f"protocol {version >> 16} is unknown")
        return Opening(startup_parameters(body), heard, sent)


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
