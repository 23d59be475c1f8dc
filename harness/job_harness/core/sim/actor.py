"""One process at work: its frames, what it waits for, and whether it is still there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from job_harness.core.model import Instant
from job_harness.core.sim.choices import acts_first, acts_next
from job_harness.core.sim.request import Frame, Point, Request, VerbCall

if TYPE_CHECKING:
    from job_harness.core.own_code import CodeLine
    from job_harness.core.sim.kernel import Kernel
    from job_harness.core.sim.lifetime import Lifetime


class State(IntEnum):
    """Where an actor stands."""

    READY = 0
    SLEEPING = 1
    POLLING = 2
    HELD = 3
    """Taken out of the schedule by a scenario."""
    BLOCKED = 4
    """Waits for an answer that another actor holds up."""
    WORKING = 5
    """At work on its carrier, between two gates."""
    CRASHED = 6
    ENDED = 7


READY: Final = State.READY
SLEEPING: Final = State.SLEEPING
POLLING: Final = State.POLLING
CRASHED: Final = State.CRASHED
"""Those that a step sets and asks for, by themselves: looked up at the enumeration they cost more than the step does
with them, on Python up to 3.11."""


class Carrier(Protocol):
    """Carries actors from gate to gate: a loop of coroutines, a child process."""

    @property
    def scheduled(self) -> bool:
        """Whether its tasks stand in the kernel's schedule; if not, each acts as it comes."""

    def tasks(self, actor: Actor) -> Sequence[Actor]:
        """List the tasks of a process that stand at gates, in the order in which they came."""

    def held(self, actor: Actor) -> None:
        """Let nothing of this process go on until `let_go`."""

    def let_go(self, actor: Actor) -> None:
        """Let a held process go on."""

    def severed(self, actor: Actor) -> None:
        """Let nothing of this process ever go on."""

    def next_wake(self) -> Instant | None:
        """Tell when it next acts by itself."""

    def come_to_rest(self, now: Instant) -> None:
        """Bring its clock to `now`, and let happen what happens until everybody on it waits."""


class Carried:
    """What starts an actor that comes with a carrier of its own; a session hands it the kernel, and steps nothing."""

    def join(self, kernel: Kernel) -> None:
        """Become an actor of this kernel."""
        raise NotImplementedError


class Actor:
    """A process by name. After a crash the same name may come back as a new activation."""

    __slots__ = (
        "call",
        "carrier",
        "factory",
        "first",
        "frames",
        "heard",
        "last_tick",
        "name",
        "next",
        "order",
        "part",
        "process",
        "repeats",
        "request",
        "root",
        "state",
        "wake",
    )

    def __init__(self, name: str, factory: Callable[[], Frame], order: int, *, process: bool) -> None:
        self.name = name
        self.first = acts_first(name)
        self.next = acts_next(name)
        self.factory = factory
        self.order = order
        self.process = process
        """Whether it is a machine's process that can crash or stall; clients and operators only lose messages."""
        self.root: Actor = self
        """The process that this is a task of; itself, where it is one."""
        self.carrier: Carrier | None = None
        """Who carries it between its gates; None: its own generator does."""
        self.frames: list[Frame] = []
        self.request: Request | None = None
        self.state = State.ENDED
        self.wake: Instant = 0
        """When it wakes, where it sleeps."""
        self.part: Lifetime | None = None
        """What alone stands still while it sleeps; None: all of its process."""
        self.last_tick: Instant = -1
        self.call: VerbCall | None = None
        """The verb that the actor is in the middle of."""
        self.heard = True
        """Whether it will hear the reply."""
        self.repeats = 0
        """How often the verb is still to be delivered."""

    @property
    def label(self) -> str:
        """Name the gate at which the actor stands."""
        assert self.request is not None
        return f"{self.name} {self.request.point}"

    @property
    def point(self) -> str:
        """Return what the actor stands before; empty where it stands nowhere any more."""
        return "" if self.request is None else self.request.point

    @property
    def line(self) -> CodeLine | None:
        """The user's own line at which it stands; None where that is not known."""
        request = self.request
        return request.line() if isinstance(request, Point) and request.line is not None else None

    @property
    def alive(self) -> bool:
        """Whether it can still act."""
        return self.state < CRASHED
