"""What all connections of processes to stores have in common, and the ones that a process has.

Must not know: any store.
"""

from __future__ import annotations

from collections import deque
from socket import socket
from typing import Any, Protocol, TypeAlias

from job_harness.core.model import Instant
from job_harness.core.port import Sent
from job_harness.subjects.systems.process import SystemProcess
from job_harness.subjects.systems.traffic import DatabaseSession
from job_harness.worlds.wire.proxy import Timekeeper


class StoreMeeting(Protocol):
    """Where all connections to one store meet, for one run."""

    def link(self, ours: socket, process: SystemProcess) -> StoreLink:
        """Take a connection of a process. Raises EnvironmentUnavailable where the store takes none."""


class StoreLink:
    """A connection to a store that is no database: a `Link` whose requests wait at gates; its reply can be lost."""

    sent = heard = 0  # Not counted: the tree of its process says itself when it is at rest.
    may_wait = fresh = False
    key: str
    actor: str
    timekeeper: Timekeeper
    pending: deque[Any]
    """What was asked and is not answered."""
    closed: bool
    wrote: bool
    """Whether something was changed by what was carried out since this was last set."""
    done: tuple[Sent, str] | None
    """What was carried out last, and how the answer begins; None: nothing since this was last taken."""
    fails_over = False
    """Whether it breaks where its store starts anew."""

    @property
    def descriptor(self) -> int:
        """What becomes readable when the process says something."""
        raise NotImplementedError

    def arrive(self) -> None:
        """Take what the process sent."""
        raise NotImplementedError

    async def carry_out(self) -> None:
        """Carry out what was asked first, at its gate, and let the process have the answer."""
        raise NotImplementedError

    def remember(self, asked: Any, *, change: int, at: Instant) -> None:
        """Keep the answer to what changed nothing."""
        raise NotImplementedError

    def found_nothing(self) -> tuple[int, Instant] | None:
        """Say after which change, and when, what waits here was answered in the same way; None: it was not."""
        raise NotImplementedError

    def answer_again(self) -> None:
        """Let the process have the same answer as before."""
        raise NotImplementedError

    def overhear_all(self) -> bool:
        """Pass on what others made it hear. True: there was something."""
        return False

    def close(self) -> None:
        """Leave it."""
        raise NotImplementedError


StoreSession: TypeAlias = DatabaseSession | StoreLink
"""A connection of a process to a store: what is sent over it waits at a gate."""


def links_of(process: SystemProcess) -> list[StoreLink]:
    """Return the connections of a process to stores that are no database."""
    return [link for link in process.links if isinstance(link, StoreLink)]


def talks_of(process: SystemProcess) -> list[StoreSession]:
    """Return its connections to all stores."""
    return [*process.sessions, *links_of(process)]
