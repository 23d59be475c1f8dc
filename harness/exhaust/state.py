"""A state of a run as a value, and the moves that lead from one to the next.

A state holds whatever can influence what happens next, or what is judged later. It knows neither queues nor rigs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from harness.model.duration import DAY, Duration, Instant
from harness.model.job import JobId, JobView
from harness.sim.actor import State
from harness.sim.choices import Option
from harness.sim.clock import Drift
from harness.sim.request import Sleep

EPOCH: Final[Instant] = 50_000 * DAY
"""Where a search starts its clock: so late that an instant is told from any duration, count or token by its size."""


class Move(NamedTuple):
    """One transition: what is answered at its gates (None: go on as usual), and what is picked on the way."""

    gates: tuple[Option | None, ...]
    picks: tuple[str, ...] = ()


Path: TypeAlias = tuple[Move, ...]
BORING = Move((None,))


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One thing that changes as a whole, and the number of its value: equal numbers, equal values."""

    value: Any
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """Everything that an actor was told since it began, and where that has brought it."""

    told: tuple[Any, ...]
    number: int
    point: str
    reborn: Duration | None = None
    """How long it sleeps until it begins, where it only just came back."""
    progress: Any = None
    """How far it is in a verb that it is in the middle of: nothing was told to it on the way."""


@dataclass(frozen=True, slots=True, eq=False)
class ActorState:
    """How an actor stands in the schedule."""

    position: Position | None
    """None: it crashed or ended."""
    standing: State
    wake: Instant
    last_tick: Instant


@dataclass(frozen=True, slots=True, eq=False)
class GlobalState:
    """Everything, as it is between two transitions. Parts that did not change are shared with the state before."""

    now: Instant
    store_offset: Duration
    offsets: Mapping[str, Duration]
    drifts: Mapping[str, Drift]
    queue: Any
    rows: tuple[Component, ...]
    """The queue's state for comparison: its rows by job, or all of it as one part."""
    views: Mapping[JobId, JobView]
    last_change: Instant
    monitors: tuple[Component, ...]
    actors: tuple[ActorState, ...]
    ready: tuple[str, ...]
    sleeping: tuple[tuple[Instant, int, Any], ...]
    budgets: tuple[int, ...]
    stopping: frozenset[str]
    stalled: frozenset[str]
    """Who is ready and was passed by time."""
    call_number: int
    path: Path
    """From the start, for engines that cannot be set back; empty for those that can."""

    @property
    def raw(self) -> tuple[Any, ...]:
        """Return what tells this state from every other, twins and moments told apart."""
        return (
            self.now,
            self.store_offset,
            tuple(self.offsets.items()),
            tuple(self.drifts.items()),
            tuple([part.number for part in self.rows]),
            tuple([part.number for part in self.monitors]),
            tuple([_of_actor(actor) for actor in self.actors]),
            self.budgets,
            self.stopping,
            self.stalled,
        )


def _of_actor(actor: ActorState) -> tuple[Any, ...]:
    position = actor.position
    return (
        None if position is None else position.number,
        actor.standing,
        actor.wake if actor.standing is State.SLEEPING else 0,
        actor.last_tick if actor.standing is State.POLLING else 0,
    )


def reborn_after(frames: list[Any], request: Any) -> Duration | None:
    """Tell how long an actor sleeps until it begins anew after a crash; None where it has begun."""
    if len(frames) == 1 and type(request) is Sleep and request.point == "restarting":
        inner = getattr(frames[0], "gi_yieldfrom", None)
        if inner is None and getattr(frames[0], "gi_code", None) is not None and frames[0].gi_code.co_name == "_reborn":
            return request.duration
    return None
