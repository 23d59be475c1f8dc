"""One process's way to PostgreSQL: a socket of ours that its driver connects to, and the sessions opened over it.

A line belongs to one session of the child, so that whatever comes over it is its actor's. It outlives a run where
nothing was left open; where its actor died, it is cut.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Final

from psycopg.conninfo import conninfo_to_dict

from harness.errors import EnvironmentUnavailable
from harness.foreign.gating.proxied_session import ProxiedSession
from harness.foreign.gating.wire import (
    CANCEL_REQUEST,
    ENCRYPTION_REQUEST,
    KEY_DATA,
    PROTOCOL,
    READY,
    SSL_REQUEST,
    Frames,
    startup,
    startup_parameters,
)
from harness.postgres.patience import PATIENCE, Deadline
from harness.private import private_folder

if TYPE_CHECKING:
    from harness.postgres.gating import SessionPool
    from harness.postgres.gating.coordinator import SessionCoordinator as Room

PORT: Final = 5432
_CHUNK: Final = 1 << 16


class Line:
    """A listening socket, and the sessions that were opened over it."""

    def __init__(self, name: str, folder: Path, pool: SessionPool) -> None:
        """Listen in `folder`, on behalf of the child's session of this name."""
        self.name = name
        self.sessions: list[ProxiedSession] = []
        self.question = 0
        """The number of the question that is under way; 0: none."""
        self.actor = ""
        self._pool = pool
        self._room: Room | None = None
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
        return not self.question and not any(session.closed or session.pending for session in self.sessions)

    def join(self, room: Room, actor: str) -> None:
        """Let its sessions be this actor's, and their statements gates, from here on."""
        self._room, self.actor = room, actor
        for session in self.sessions:
            self._admit(session)

    def leave(self) -> None:
        """Let statements pass freely from here on."""
        self._room = None
        for session in self.sessions:
            session.room = None

    def _admit(self, session: ProxiedSession) -> None:
        session.actor, session.severed, session.room = self.actor, False, self._room
        if self._room is not None:
            self._room.admit(session)

    def at_gate(self) -> ProxiedSession | None:
        """Answer a session whose driver waits to be let through."""
        return next((session for session in self.sessions if session.pending and not session.closed), None)

    def listen(self, beside: int, seconds: float) -> None:
        """Wait until the driver, or what is read from the descriptor `beside`, has something to say, and take it."""
        live = {session.descriptor: session for session in self.sessions if not session.closed}
        ready, _, _ = select([beside, self._listener.fileno(), *live], [], [], seconds)
        for descriptor in ready:
            if descriptor == self._listener.fileno():
                self._accept()
            elif descriptor != beside:
                live[descriptor].listen()
                if self._room is None:
                    live[descriptor].pass_on()

    def cut(self) -> None:
        """Let nobody connect any more, and let the child hear nothing; sessions end as the room says."""
        for session in self.sessions:
            session.hang_up()
        self._listener.close()
        with suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()

    def end(self) -> None:
        """Cut the line, and leave PostgreSQL too."""
        self.cut()
        for session in self.sessions:
            session.close()

    # opening sessions -----------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(PATIENCE)
        try:
            asked = _opening(client)
            session = None if asked is None else self._opened(client, asked)
        except OSError:  # The driver went away meanwhile.
            client.close()
            return
        if session is None:
            client.close()
            return
        self.sessions = [other for other in self.sessions if not other.closed]
        self.sessions.append(session)
        self._admit(session)

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


def _opening(client: socket.socket) -> dict[str, str] | None:
    """Read what a driver asks for; None: it only wants a statement to be cancelled."""
    while True:
        size, version = struct.unpack("!II", _exactly(client, 8))
        if version in (SSL_REQUEST, ENCRYPTION_REQUEST):
            client.sendall(b"N")
            continue
        body = _exactly(client, size - 8)
        if version == CANCEL_REQUEST:
            return None
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
