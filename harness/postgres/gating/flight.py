"""One statement on its way: sent, and answered, or not yet. Knows psycopg's generators and one socket."""

from __future__ import annotations

import select
from collections.abc import Generator
from typing import Any, Final

import psycopg

READ: Final = 1
WRITE: Final = 2


class Flight:
    """Drives a generator of psycopg as far as the socket lets it, and keeps what came of it."""

    __slots__ = (
        "_descriptor",
        "_steps",
        "_wants",
        "actor",
        "blockers",
        "done",
        "error",
        "looked",
        "pid",
        "point",
        "value",
    )

    def __init__(self, steps: Generator[Any, Any, Any], *, actor: str, point: str, pid: int, descriptor: int) -> None:
        """Send what `steps` sends first."""
        self.actor = actor
        self.point = point
        self.pid = pid
        self.blockers: tuple[str, ...] = ()
        """Whom it waits for, where it waits for a lock."""
        self.looked = False
        """Whether its session, since it waits, has looked for a circle of waiting sessions and found none."""
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._steps = steps
        self._descriptor = descriptor
        self._wants = 0
        self._go(None)

    def pump(self, seconds: float = 0.0) -> bool:
        """Take what has come, waiting for at most `seconds`. False: nothing came."""
        if self.done:
            return True
        ready = _readiness(self._descriptor, self._wants, seconds)
        if not ready:
            return False
        self._go(ready)
        return True

    def _go(self, ready: int | None) -> None:
        try:
            self._wants = int(self._steps.send(ready))
        except StopIteration as end:
            self.done = True
            self.value = end.value
        except psycopg.Error as error:
            self.done = True
            self.error = error
        except OSError as error:
            self.done = True
            self.error = psycopg.OperationalError(f"the connection broke: {error}")

    def abandon(self, error: BaseException) -> None:
        """End it without an answer: its session is gone."""
        self.done = True
        self.error = error

    def result(self) -> Any:
        """Answer what the statement answered, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


def _readiness(descriptor: int, wants: int, seconds: float) -> int:
    if hasattr(select, "poll"):  # `select` refuses descriptors from 1024 on
        poll = select.poll()
        poll.register(descriptor, (select.POLLIN if wants & READ else 0) | (select.POLLOUT if wants & WRITE else 0))
        events = poll.poll(seconds * 1000)
        if not events:
            return 0
        bits = events[0][1]
        broken = bits & (select.POLLERR | select.POLLHUP | select.POLLNVAL)
        return (READ if bits & select.POLLIN or broken else 0) | (WRITE if bits & select.POLLOUT else 0)
    reading, writing = [descriptor] if wants & READ else [], [descriptor] if wants & WRITE else []
    readable, writable, _ = select.select(reading, writing, [], seconds)
    return (READ if readable else 0) | (WRITE if writable else 0)
