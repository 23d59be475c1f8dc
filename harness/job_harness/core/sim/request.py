"""What an actor asks of the kernel when it suspends. A request's name is the point that tapes and scenarios address."""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from job_harness.core.model import Duration
from job_harness.core.sim.outside import Outside

if TYPE_CHECKING:
    from job_harness.core.own_code import CodeLine
    from job_harness.core.sim.lifetime import Lifetime


class VerbCall:
    """Run one verb of the queue; the actor resumes with its outcome."""

    __slots__ = ("arguments", "job", "point", "run", "token", "verb")

    def __init__(
        self,
        verb: str,
        arguments: tuple[Any, ...],
        job: str | None = None,
        token: int | None = None,
        run: Callable[[], Any] | None = None,
    ) -> None:
        """Name the verb and what it is called with; `run` makes it happen where the caller brings its own way to it."""
        self.verb = verb
        self.arguments = arguments
        self.job = job
        self.token = token
        self.run = run
        self.point = verb if job is None else f"{verb} {job}"


class Sleep:
    """Resume after a duration on the actor's own clock."""

    __slots__ = ("duration", "point")

    def __init__(self, duration: Duration, point: str) -> None:
        self.duration = duration
        self.point = point


class Poll:
    """Resume on the first tick of a grid at which something is due; ticks at which nothing is due are skipped."""

    __slots__ = ("due", "interval", "origin", "point")

    def __init__(
        self, interval: Duration, due: Callable[[], int | None], *, origin: int = 0, point: str = "poll"
    ) -> None:
        self.interval = interval
        self.due = due
        self.origin = origin
        self.point = point


class Point:
    """Let others act here; `point` is a name that scenarios can address."""

    __slots__ = ("line", "point")
    part: Lifetime | None = None
    """What of its process can stand still by itself here, while the rest goes on; None: nothing can."""

    def __init__(self, point: str, line: Callable[[], CodeLine | None] | None = None) -> None:
        self.point = point
        self.line = line
        """Returns the user's own line that stands here; no part of the gate's name: a token outlives an edit above."""

    def __await__(self) -> Generator[Point, Any, Any]:
        """Suspend a coroutine: `await Point("update tool_job")`."""
        return (yield self)


class StatementGate(Point):
    """Send a statement to a database, which may abort it in the place of carrying it out."""

    __slots__ = ("aborted",)

    def __init__(self, point: str, line: Callable[[], CodeLine | None] | None = None) -> None:
        super().__init__(point, line)
        self.aborted = False


class Exchange(Point):
    """Send something over a connection, which may break before it is sent, or before the reply comes back."""

    __slots__ = ("happens", "heard")

    def __init__(self, point: str) -> None:
        super().__init__(point)
        self.happens = True
        """Whether it is sent."""
        self.heard = True
        """Whether the reply comes back."""


class Commit(Exchange):
    """Let others see what a transaction wrote, in a database with a read replica that is up to date."""

    __slots__ = ("lag",)

    def __init__(self, point: str) -> None:
        super().__init__(point)
        self.lag: Duration = 0
        """For how long the replica shows nothing of this, nor of what is written later."""


class HostState(StrEnum):
    """How a host outside treats all its callers for a while."""

    DOWN = "down"
    SLOW = "slow"
    LIMITED = "answering 429"
    LATE = "answering too late"


class HostCall(Exchange):
    """Call a host outside of the system."""

    __slots__ = ("host",)

    def __init__(self, point: str, host: str) -> None:
        super().__init__(point)
        self.host = host


class Wait:
    """Resume once an answer from outside is there: a statement that waits for a lock. Time may move meanwhile."""

    __slots__ = ("answered", "outside", "point")

    def __init__(self, point: str, *, outside: Outside, answered: Callable[[], bool]) -> None:
        self.point = point
        self.outside = outside
        self.answered = answered

    def __await__(self) -> Generator[Wait, Any, Any]:
        """Suspend a coroutine."""
        return (yield self)


class Elsewhere:
    """Stand outside the schedule: the actor is at work on its carrier, and comes to its next gate by itself."""

    __slots__ = ("point",)

    def __init__(self, point: str = "at work") -> None:
        self.point = point


Request: TypeAlias = VerbCall | Sleep | Poll | Point | Wait | Elsewhere
Frame: TypeAlias = Generator[Request, Any, Any]
"""A running actor, or a verb it is in the middle of: a generator, or a coroutine that suspends in the same way."""
