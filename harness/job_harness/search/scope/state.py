"""A state of a run as a value, and the moves that lead from one to the next.

A state holds whatever can influence what happens next, or what is judged later. It knows neither
queues nor rigs.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from job_harness.core.model import DAY, Duration, Instant, JobId, JobView
from job_harness.core.sim import Drift, Option, Sleep, State

EPOCH: Final[Instant] = 50_000 * DAY
"""Where a search starts its clock: so late that an instant is told from any duration, count or token by its size."""


class Move(NamedTuple):
    """One transition: what is answered at its gates (None: go on as usual), and what is picked on the way."""

    gates: tuple[Option | None, ...]
    picks: tuple[str, ...] = ()


Path: TypeAlias = tuple[Move, ...]
BORING = Move((None,))


class Component(NamedTuple):
    """One thing that changes as a whole, and the number of its value: equal numbers, equal values."""

    value: Any
    number: int


class Vector(NamedTuple):
    """Several components in order, and one number for all of them."""

    parts: tuple[Any, ...]
    """Each a component, or a vector itself."""
    number: int


NUMBER_OF: Final = itemgetter(1)
"""Returns the number of a component or a vector, without a step of the interpreter for each of many."""


class Position(NamedTuple):
    """Everything that an actor was told since it began, and where that has brought it."""

    told: tuple[Any, ...]
    number: int
    request: Any
    """What it stands before."""
    reborn: Duration | None = None
    """How long it sleeps until it begins, where it only just came back."""
    progress: Any = None
    """How far it is in a verb that it is in the middle of: nothing was told to it on the way."""


class ActorState(NamedTuple):
    """How an actor stands in the schedule."""

    position: Position | None
    """None: it crashed or ended."""
    standing: State
    wake: Instant
    last_tick: Instant
    number: int
    """Of what of this can matter. An actor that is ready has no time at which it wakes. Its last tick matters while it
    is now, even if it does not poll at the moment: no actor ticks twice at one instant."""


class ClockState(NamedTuple):
    """How far each clock is from the true time, and the number of all that."""

    store_offset: Duration
    offsets: Mapping[str, Duration]
    drifts: Mapping[str, Drift]
    number: int


class GlobalState(NamedTuple):
    """Everything, as it is between two transitions. Parts that did not change are shared with the state before."""

    now: Instant
    clocks: ClockState
    queue: Any
    rows: Vector
    """The queue's state for comparison: its rows by job, or all of it as one part."""
    views: Mapping[JobId, JobView]
    last_change: Instant
    monitors: Vector
    actors: tuple[ActorState, ...]
    ready: tuple[str, ...]
    sleeping: tuple[tuple[Instant, int, Any], ...]
    budgets: tuple[int, ...]
    """How often an actor stalled, and what is left of each fault."""
    stopping: frozenset[str]
    stalled: frozenset[str]
    """Who is ready and was passed by time."""
    path: Path
    """From the start, for engines that cannot be set back; empty for those that can."""

    @property
    def raw(self) -> tuple[Any, ...]:
        """Return what tells this state from every other, twins and moments told apart."""
        return (
            self.now,
            self.clocks.number,
            self.rows.number,
            self.monitors.number,
            tuple([actor.number for actor in self.actors]),
            self.budgets,
            self.stopping,
            self.stalled,
        )


def reborn_after(frames: list[Any], request: Any) -> Duration | None:
    """Tell how long an actor sleeps until it begins anew after a crash; None where it has begun."""
    if len(frames) == 1 and type(request) is Sleep and request.point == "restarting":
        inner = getattr(frames[0], "gi_yieldfrom", None)
        if inner is None and getattr(frames[0], "gi_code", None) is not None and frames[0].gi_code.co_name == "_reborn":
            return request.duration
    return None
