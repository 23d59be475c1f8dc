"""What every wire proxy does, whatever its protocol: docs/contracts/wire_proxy.md.

A wire proxy stands between one connection of an actor's client and the server that it speaks to. Nothing of the client
is replaced: what it sends arrives here, waits at a gate of its actor, is released to the server when the kernel says
so, and its reply is handed back. A crash cuts the connection; a client may also ask for what is under way to be
cancelled. PostgreSQL's is `job_harness.worlds.wire.postgres_proxy.ProxiedSession`, that of Redis
`job_harness.worlds.redis.gating.RedisSession`. The client connects to an endpoint, a `ListeningSocket` of ours with the
connections that were opened over it. Must not know: any protocol.
"""

from __future__ import annotations

import socket
from collections.abc import Sized
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from job_harness.worlds.private import private_folder

if TYPE_CHECKING:
    from job_harness.core.model import Instant

VERSION: Final = 1
"""Of the contract."""


class Moment(StrEnum):
    """What can happen to what a client sends; each is a method of a `WireProxy`."""

    ARRIVE = "arrive"
    GATE = "gate"
    RELEASE = "release"
    REPLY = "reply"
    CUT = "cut"
    CANCEL = "cancel"


class Timekeeper:
    """Sets the clocks at both ends of a connection when something passes over it; this one sets none."""

    def before_request(self, at: Instant) -> datetime:
        """Set the server's clock; return what it shows at the instant `at` of the store."""
        from job_harness.worlds.wire.database import timestamp_of  # psycopg, which Redis does without

        return timestamp_of(at)

    def before_reply(self) -> None:
        """Set the client's clock: what it does with the reply begins now."""


class WireProxy(Protocol):
    """One connection of one actor's client, on its way to a server."""

    actor: str
    """Whose gates these are."""
    timekeeper: Timekeeper
    """Sets the clocks before a request is sent and before its reply is handed back."""
    closed: bool
    """Whether neither side hears anything over it any more."""

    @property
    def pending(self) -> Sized:
        """What has arrived whole and stands before its gate."""

    @property
    def descriptor(self) -> int:
        """What becomes readable when the client sends something."""

    def arrive(self) -> None:
        """Take what the client sent; what is whole joins `pending`. A client that went away ends the connection."""

    async def carry_out(self) -> None:
        """Take the first of `pending` through `gate`, `release` and `reply`; a commit has a gate of its own."""

    async def gate(self, point: str) -> None:
        """Let the actor stand at a point of this name until the kernel lets it go."""

    async def release(self, raw: bytes, point: str) -> None:
        """Send it to the server, and wait until it is answered; waiting for another actor is a wait of the kernel's."""

    def reply(self) -> None:
        """Hand the server's reply to the client."""

    def cut(self) -> None:
        """Let the client hear nothing any more, as when its process is gone; the server is not told."""

    def cancel(self, request: bytes) -> None:
        """Pass on at once that the client wants what is under way to end; too late, it does nothing."""


class ListeningSocket:
    """A socket to which clients connect: a file in a folder of its own, or a port of loopback."""

    def __init__(self, listener: socket.socket, *, path: Path | None = None) -> None:
        """Take a socket that listens; `path` is its file, which goes with it."""
        self._listener = listener
        self._path = path

    @classmethod
    def in_folder(cls, folder: Path, name: str) -> ListeningSocket:
        """Listen at a file of this name in a folder that only this user can enter."""
        private_folder(folder)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / name))
        listener.listen()
        return cls(listener, path=folder / name)

    @classmethod
    def on_loopback(cls) -> ListeningSocket:
        """Listen at a free port of 127.0.0.1."""
        return cls(socket.create_server(("127.0.0.1", 0), backlog=128))

    @property
    def path(self) -> Path:
        """The file; only of a socket that is one."""
        assert self._path is not None
        return self._path

    @property
    def port(self) -> int:
        """The port; only of a socket on loopback."""
        return int(self._listener.getsockname()[1])

    @property
    def descriptor(self) -> int:
        """What becomes readable when a client connects; -1 once it is closed."""
        return self._listener.fileno()

    def accept(self) -> socket.socket:
        """Return the client that connected first."""
        return self._listener.accept()[0]

    def close(self) -> None:
        """Refuse new connections, and remove the file and its folder."""
        self._listener.close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
                self._path.parent.rmdir()


class EndpointConnection(WireProxy, Protocol):
    """A connection as its endpoint holds it."""

    coordinator: Any
    """Where the connections of all actors meet; None: what arrives passes freely."""


Connection = TypeVar("Connection", bound=EndpointConnection)
Meeting = TypeVar("Meeting")


class Endpoint(Generic[Connection, Meeting]):
    """One process's way to a store: where it connects, and the connections that it has opened.

    It belongs to one session of a peer, so whatever comes over it is its actor's.
    """

    def __init__(self, name: str, listener: ListeningSocket) -> None:
        """Stand behind `listener`, on behalf of the peer's session of this name."""
        self.name = name
        self.sessions: list[Connection] = []
        self.turn = 0
        """The number of the peer's turn that is under way; 0: none."""
        self.actor = ""
        self._listener = listener
        self._coordinator: Meeting | None = None

    def leave(self) -> None:
        """Let what arrives pass freely from here on."""
        self._coordinator = None
        for session in self.sessions:
            session.coordinator = None

    def at_gate(self) -> Connection | None:
        """Return a connection whose client waits to be let through."""
        return next((session for session in self.sessions if session.pending and not session.closed), None)
