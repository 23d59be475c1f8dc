"""What was done once in a search and need not be done again: steps of one actor, and what monitors make of them.

A state is a product: queue, actors, schedule, budgets, and what each of thirty monitors remembers.
What one actor does depends on few of these: on where it stands, on the queue, on the clocks, on who
was told to stop. What a monitor then remembers depends on what it remembered and on the events. So
both are kept in tables under exactly that, and a transition whose parts are known is put together
from them, without touching the session: four in five of those of a scope with 2 jobs, a crash and a
cancel.

`StepTable` does not trust a step: what it did is found by comparing the state before with the state after, and a step
that changed more than its actor, the queue, the budgets and the requests to stop is not kept. What a step has read
cannot be seen, so only moves are kept whose reads are known: an actor that acts, and the faults of this package that
strike one actor and move it on. A move of time reads where everybody stands, so it is kept under all but the monitors
and the budgets. A step by which a monitor found something is shown to all of them anew, in order, as in any run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappush
from typing import Any, Final, NamedTuple, TypeAlias

from job_harness.core.faults import kinds
from job_harness.core.history import Call, Event, Observed, Return
from job_harness.core.invariants import Judge, Monitor
from job_harness.core.invariants.memory import Interning, freeze, freeze_apart, freeze_attributes, thaw
from job_harness.core.invariants.property import GIVEN
from job_harness.core.model import Instant
from job_harness.core.sim import FIRST, NEXT, TIME, Actor, Sleeper, State, VerbCall
from job_harness.search.scope.state import NUMBER_OF, ActorState, Component, GlobalState, Move, Vector

NOWHERE, FRONT, END = range(3)
UNREAD: Final = -1
"""In the place of the rows, where an actor stands before no verb: it goes by what it was told, and not by the queue."""

_new: Callable[..., Any] = tuple.__new__
"""Builds a state without the detour through its constructor: there is one for every transition."""

Key: TypeAlias = tuple[Any, ...]
Numbers: TypeAlias = dict[Any, int]
Asked: TypeAlias = tuple[Sequence[str], ...]
Wanted: TypeAlias = tuple[int, int, list[tuple[Any, Event]]]
"""The place of a monitor, the number of what it is shown, and that: each method with its event."""


class KnownStep(NamedTuple):
    """What an actor did, or what befell it."""

    number: int
    place: int
    name: str
    became: ActorState
    queued: int
    """Where it stands among those who are ready."""
    sleeps: tuple[Instant, Actor] | None
    """When it wakes, and who it is, where it fell asleep."""
    queue: tuple[Any, Vector, Mapping[str, Any]] | None
    """The queue's snapshot, its rows and what it shows; None: untouched."""
    changed: bool
    """Whether a job did."""
    stopping: frozenset[str]
    spent: tuple[int, ...]
    """What it took from each budget."""
    asked: Asked
    """What was to be picked from."""
    events: tuple[Event, ...]

    def taken(self, state: GlobalState, monitors: Vector) -> GlobalState:
        """Return the state in which it ends, from one in which it can be taken."""
        place, name = self.place, self.name
        budgets, stalled = state.budgets, state.stalled
        if self.spent:
            budgets = tuple([left - taken for left, taken in zip(budgets, self.spent, strict=True)])
        queue, rows, views = (state.queue, state.rows, state.views) if self.queue is None else self.queue
        fields = (
            state.now,
            state.clocks,
            queue,
            rows,
            views,
            state.now if self.changed else state.last_change,
            monitors,
            (*state.actors[:place], self.became, *state.actors[place + 1 :]),
            self._ready(state.ready),
            state.sleeping if self.sleeps is None else self._asleep(state.sleeping, *self.sleeps),
            budgets,
            self.stopping,
            stalled - {name} if name in stalled else stalled,
            (),
        )
        made: GlobalState = _new(GlobalState, fields)
        return made

    def _ready(self, ready: tuple[str, ...]) -> tuple[str, ...]:
        at = ready.index(self.name)
        others = ready[:at] + ready[at + 1 :]
        if self.queued == NOWHERE:
            return others
        return (*others, self.name) if self.queued == END else (self.name, *others)

    def _asleep(self, sleeping: tuple[Sleeper, ...], wake: Instant, actor: Actor) -> tuple[Sleeper, ...]:
        heap = list(sleeping)
        heappush(heap, (wake, 1 + max([ticket for _, ticket, _ in heap], default=0), actor))
        return tuple(heap)


class Leap(NamedTuple):
    """What a move of time did: it goes by everything but the monitors and the budgets."""

    number: int
    made: GlobalState
    spent: tuple[int, ...]
    asked: Asked
    events: tuple[Event, ...]

    def taken(self, state: GlobalState, monitors: Vector) -> GlobalState:
        """Return the state in which it ends, from one in which it can be taken."""
        budgets = tuple([left - taken for left, taken in zip(state.budgets, self.spent, strict=True)])
        return self.made._replace(monitors=monitors, budgets=budgets, last_change=state.last_change)


class StepTable:
    """Steps by all that they depend on."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take the names of all actors, in their order."""
        self._names = tuple(names)
        self._place_of = {name: place for place, name in enumerate(names)}
        self._steps: dict[Key, KnownStep | Leap] = {}
        self._scenes: dict[Key, int] = {}
        self._scene: tuple[GlobalState | None, int] = None, -1
        self._numbers = 0

    def reserve(self) -> int:
        """Return a number that no step has."""
        self._numbers += 1
        return self._numbers

    def key(self, move: Move, state: GlobalState) -> Key | None:
        """Return what decides what a move from a state does; None where that may be anything."""
        ready = state.ready
        first, fault = move.gates[0], move.gates[-1]
        if not ready:
            return (self.scene(state), first) if first is None else None
        name = ready[0]
        if first is not None:
            if first.kind == TIME:
                return (self.scene(state), first)
            if first.kind == FIRST or first.kind == NEXT:
                name = first.actor
        if fault is not None:
            if fault.kind == FIRST:
                fault = None
            elif (kind := kinds().get(fault.kind)) is None or not kind.strikes_one:
                return None
        place = self._place_of.get(name)
        if place is None:
            return None
        actor = state.actors[place]
        position = actor.position
        if position is None:
            return None
        now = state.now
        tick = actor.last_tick if actor.last_tick >= now else -1
        rows = state.rows.number if type(position.request) is VerbCall else UNREAD
        return (place, fault, move.picks, position.number, tick, rows, state.clocks.number, now, state.stopping)

    def scene(self, state: GlobalState) -> int:
        """Return a number for everything but what monitors remember and what is left of the budgets."""
        if self._scene[0] is state:
            return self._scene[1]
        form = (
            state.now,
            state.clocks.number,
            state.rows.number,
            tuple([actor.number for actor in state.actors]),
            state.ready,
            tuple([entry[2].name for entry in sorted(state.sleeping)]) if len(state.sleeping) > 1 else (),
            state.stalled,
            state.stopping,
        )
        number = self._scenes.setdefault(form, len(self._scenes))
        self._scene = state, number
        return number

    def find(self, key: Key | None) -> KnownStep | Leap | None:
        """Return the step that is kept under a key."""
        return None if key is None else self._steps.get(key)

    def keep(
        self, key: Key, before: GlobalState, after: GlobalState, *, number: int, asked: Asked, events: tuple[Event, ...]
    ) -> None:
        """Keep what led from one state to the next, unless it changed what it may not."""
        spent = tuple([was - left for was, left in zip(before.budgets, after.budgets, strict=True)])
        if len(key) == 2:
            if after.last_change == before.last_change:
                self._steps[key] = Leap(number, after, spent, asked, events)
            return
        place = key[0]
        name = self._names[place]
        others, ready = tuple([one for one in before.ready if one != name]), after.ready
        queued = NOWHERE if ready == others else END if ready == (*others, name) else FRONT
        if queued != NOWHERE and not others and key[1] is not None:
            return  # alone it stands at both ends
        if (queued == FRONT and ready != (name, *others)) or not _struck_one(place, name, before, after):
            return
        if key[5] == UNREAD and after.rows is not before.rows:
            return
        slept = [entry for entry in after.sleeping if entry[2].name == name]
        self._steps[key] = KnownStep(
            number=number,
            place=place,
            name=name,
            became=after.actors[place],
            queued=queued,
            sleeps=(slept[0][0], slept[0][2]) if slept else None,
            queue=None if after.queue is before.queue else (after.queue, after.rows, after.views),
            changed=any(type(event) is Observed for event in events),
            stopping=after.stopping,
            spent=spent if any(spent) else (),
            asked=asked,
            events=events,
        )


def _struck_one(place: int, name: str, before: GlobalState, after: GlobalState) -> bool:
    """Say whether only this actor, the queue, the budgets and the requests to stop are not as they were."""

    def asleep(state: GlobalState) -> list[tuple[Instant, int]]:
        return sorted([entry[:2] for entry in state.sleeping if entry[2].name != name])

    return (
        before.actors[place].standing is State.READY
        and len(before.actors) == len(after.actors)
        and all(
            now is was for at, (now, was) in enumerate(zip(after.actors, before.actors, strict=True)) if at != place
        )
        and before.now == after.now
        and before.clocks.number == after.clocks.number
        and after.stalled == before.stalled - {name}
        and asleep(after) == asleep(before)
        and sum(entry[2].name == name for entry in after.sleeping) <= 1
    )


class Witnesses:
    """The monitors of a session, each of which remembers one thing at a time, and what they make of steps.

    What a monitor remembers is kept attribute by attribute: a step changes few of them. What it
    learns goes by what it remembered and by what it is shown, whatever step that came of: most
    monitors see little of each step.
    """

    def __init__(self, judge: Judge, numbers: Numbers, interning: Interning) -> None:
        """Take them as they stand."""
        self._judge = judge
        self._numbers = numbers
        self._interning = interning
        self._held: list[Vector | None] = [None] * len(judge.monitors)
        self._known: dict[tuple[int, int], Vector | None] = {}
        self._lessons: dict[tuple[int, int, int], Vector] = {}
        self._wanted_of: dict[int, list[Wanted]] = {}
        self._plain = type(judge) is Judge
        """Whether what is found depends on nothing that the judge keeps itself."""

    def remembered(self) -> Vector:
        """Return what all of them remember now."""
        held = [part or self._look(place) for place, part in enumerate(self._held)]
        return self._vector(held)

    def remember(self, before: Vector) -> None:
        """Let all of them remember this, and nothing else."""
        for place in range(len(self._held)):
            self._hold(place, before.parts[place])

    def lose_track(self) -> None:
        """Note that they were shown something by others."""
        self._held = [None] * len(self._held)

    def show(self, before: Vector, events: Sequence[Event], step: int | None = None) -> Vector:
        """Return what they remember after these events; the judge then holds what they found.

        `step` numbers the events, for those that come again; its outcome is kept.
        """
        if not events:
            return before
        if not self._plain:
            return self._aloud(before, events)
        known = self._known.get((before.number, step)) if step is not None else None
        if known is not None:
            return known
        after = self._quietly(before, events, step)
        if after is None:
            return self._aloud(before, events)
        if step is not None:
            self._known[before.number, step] = after
        return after

    def _quietly(self, before: Vector, events: Sequence[Event], step: int | None) -> Vector | None:
        """Show each monitor what it wants to see, alone; None where one found something."""
        parts = list(before.parts)
        lessons = self._lessons
        for place, lesson, seen in self._wanted(events, step):
            key = (place, parts[place].number, lesson)
            after = lessons.get(key)
            if after is None:
                self._hold(place, parts[place])
                monitor = self._judge.monitors[place]
                for watch, event in seen:
                    watch(monitor, event)
                if self._judge.anomalies:
                    self._held[place] = None
                    return None
                after = lessons[key] = self._look(place)
            parts[place] = after
        return self._vector(parts)

    def _aloud(self, before: Vector, events: Sequence[Event]) -> Vector:
        """Show all of it to all of them, in order, as in any run."""
        judge = self._judge
        judge.anomalies.clear()
        judge.endless = False
        self.remember(before)
        for event in events:
            judge.see(event)
        parts = list(before.parts)
        for place, _, _ in self._wanted(events, None):
            parts[place] = self._look(place)
        return self._vector(parts)

    def _wanted(self, events: Sequence[Event], step: int | None) -> list[Wanted]:
        """Return what each monitor wants to see: its place, the number of the lesson, and the events."""
        known = None if step is None else self._wanted_of.get(step)
        if known is not None:
            return known
        seen: dict[int, list[tuple[Any, Event]]] = {}
        told: dict[int, list[int]] = {}
        first = next((event.number for event in events if type(event) is Call), 0)
        for event in events:
            number = -1
            for watch, place in self._judge.watching(event):
                if number < 0:
                    number = self._number(self._content(event, first))
                seen.setdefault(place, []).append((watch, event))
                told.setdefault(place, []).append(number)
        listed = [(place, self._number(tuple(told[place])), wanted) for place, wanted in seen.items()]
        if step is not None:
            self._wanted_of[step] = listed
        return listed

    def _content(self, event: Event, first: int) -> Any:
        """Return what an event says, as a value: calls count from the first of their step."""
        fields: tuple[Any, ...] = event
        if type(event) is Call or type(event) is Return:
            fields = (*event[:6], event.number - first, *event[7:])
        return type(event), tuple([freeze(field, {}, self._interning) for field in fields])

    def _hold(self, place: int, memory: Vector) -> None:
        """Let a monitor remember this: only what it does not remember anyway is made anew."""
        held = self._held[place]
        if held is None or held.number != memory.number:
            recall(self._judge.monitors[place], memory, held)
            self._held[place] = memory

    def _look(self, place: int) -> Vector:
        """Return what a monitor remembers now."""
        memory = self._held[place] = memory_of(
            place, self._judge.monitors[place], self._numbers, self._interning, self._held[place]
        )
        return memory

    def _number(self, value: Any) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    def _vector(self, parts: Sequence[Any]) -> Vector:
        return Vector(tuple(parts), self._number(tuple(map(NUMBER_OF, parts))))


def memory_of(
    place: int, monitor: Monitor, numbers: Numbers, interning: Interning, held: Vector | None = None
) -> Vector:
    """Return what a monitor remembers, attribute by attribute, each with its name; shared with `held` where equal."""
    if type(monitor).snapshot is Monitor.snapshot:
        given = GIVEN | monitor.derived if monitor.derived else GIVEN
        apart = freeze_apart(vars(monitor), leave_out=given, interning=interning)
    else:
        apart = [("", monitor.snapshot())]
    parts: list[Component]
    if held is None or len(held.parts) != len(apart):
        parts = [Component(pair, numbers.setdefault((place, pair), len(numbers))) for pair in apart]
    else:
        changed = [at for at, part in enumerate(held.parts) if part[0] != apart[at]]
        if not changed:
            return held
        parts = list(held.parts)
        for at in changed:
            parts[at] = Component(apart[at], numbers.setdefault((place, apart[at]), len(numbers)))
    form = tuple(map(NUMBER_OF, parts))
    return Vector(tuple(parts), numbers.setdefault(form, len(numbers)))


def recall(monitor: Monitor, memory: Vector, held: Vector | None) -> None:
    """Let a monitor remember this, and nothing else; `held` is what it remembers, where that is known."""
    parts = memory.parts
    if len(parts) == 1 and parts[0].value[0] == "":
        monitor.restore(parts[0].value[1])
        return
    changed: Sequence[Component] = parts
    if held is not None and len(held.parts) == len(parts):
        changed = [part for part, before in zip(parts, held.parts, strict=True) if part.number != before.number]
    attributes = {name: thaw(value, []) for name, value in (part.value for part in changed)}
    if type(monitor).restore is Monitor.restore:
        vars(monitor).update(attributes)
        monitor.derive()
    else:
        remembered = {name: vars(monitor).get(name) for name, _ in (part.value for part in parts)}
        monitor.restore(freeze_attributes(remembered | attributes, leave_out=frozenset()))
