"""What every wire proxy does, whatever its protocol: docs/contracts/wire_proxy.md.

A wire proxy stands between one connection of an actor's client and the server that it speaks to. Nothing of the client
is replaced: what it sends arrives here, waits at a gate of its actor, is released to the server when the kernel says
so, and its reply is handed back. A crash cuts the connection; a client may also ask for what is under way to be
cancelled. PostgreSQL's is `harness.foreign.postgres_proxy.ProxiedSession`, that of Redis
`harness.redis.gating.RedisSession`. Must not know: any protocol.
"""

from __future__ import annotations

from collections.abc import Sized
from enum import StrEnum
from typing import Final, Protocol

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


class WireProxy(Protocol):
    """One connection of one actor's client, on its way to a server."""

    actor: str
    """Whose gates these are."""
    closed: bool
    """Whether neither side hears anything over it any more."""

    @property
    def pending(self) -> Sized:
        """What has arrived whole and stands before its gate."""
        ...

    @property
    def descriptor(self) -> int:
        """What becomes readable when the client sends something."""
        ...

    def arrive(self) -> None:
        """Take what the client sent; what is whole joins `pending`. A client that went away ends the connection."""
        ...

    async def carry_out(self) -> None:
        """Take the first of `pending` through `gate`, `release` and `reply`; a commit has a gate of its own."""
        ...

    async def gate(self, point: str) -> None:
        """Let the actor stand at a point of this name until the kernel lets it go."""
        ...

    async def release(self, raw: bytes, point: str) -> None:
        """Send it to the server, and wait until it is answered; waiting for another actor is a wait of the kernel's."""
        ...

    def reply(self) -> None:
        """Hand the server's reply to the client."""
        ...

    def cut(self) -> None:
        """Let the client hear nothing any more, as when its process is gone; the server is not told."""
        ...

    def cancel(self, request: bytes) -> None:
        """Pass on at once that the client wants what is under way to end; too late, it does nothing."""
        ...
