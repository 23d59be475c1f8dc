"""A run that can be put into any state, stepped once, and looked at as a state again.

Two kinds: `SnapshotRig` sets the queue back to a snapshot, `ReplayRig` runs the path to the state
once more. Where an actor stands is everything that it was told since it began; telling it again
brings it back there. Frames are no positions: two with equal variables may have different futures.
A rig knows nothing of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from math import lcm
from typing import Any, NamedTuple

from job_harness.core.faults import ArmedFault
from job_harness.core.history import Call, Event, Observed
from job_harness.core.invariants.memory import Interned, Interning, freeze
from job_harness.core.model import Duration, Instant, JobView, Settings
from job_harness.core.port import Engine
from job_harness.core.run.context import RunContext
from job_harness.core.run.session import Limits, Session, quiet_limit
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim import (
    TIME_FIRST,
    Actor,
    Deviation,
    Frame,
    Kernel,
    Option,
    Options,
    State,
    close_frames,
    reborn,
)
from job_harness.errors import UsageError
from job_harness.search.scope.bounds import Scope
from job_harness.search.scope.memo import Asked, Numbers, StepTable, Witnesses, memory_of
from job_harness.search.scope.state import (
    EPOCH,
    ActorState,
    ClockState,
    Component,
    GlobalState,
    Move,
    Path,
    Position,
    Vector,
    reborn_after,
)

Factory = Callable[[], Frame]
FAITHFUL = (
    "An actor may use only its replies, world.now and world.told_to_stop; "
    "and world.anew must come first in its loop, where it holds no earlier state."
)


class Unfaithful(UsageError):
    """An actor or a queue did not come back to where it stood."""


class ActorMemory:
    """Keeps what actors are told: replies, and what they read of their clocks and of shutdowns."""

    def __init__(self) -> None:
        self.told: dict[str, list[Any]] = {}
        """By actor, since it began or declared to begin anew."""
        self.changed: set[str] = set()
        """Actors that were told something since this was last emptied."""
        self.muted = False
        self._actor = ""
        self._script: tuple[Any, ...] = ()
        self._next = 0

    # what the world asks --------------------------------------------------------------------------------------------

    def read(self, value: Any) -> Any:
        """Keep what the actor at work reads, or return what it read then."""
        if not self.muted:
            if self._actor:
                self.told[self._actor].append(value)
            return value
        if self._next >= len(self._script):
            return value
        self._next += 1
        return self._script[self._next - 1]

    def anew(self, actor: str) -> None:
        """Forget what this actor was told; it may as well have just been started."""
        if not self.muted and actor == self._actor:
            self.told[actor] = [None]

    # telling --------------------------------------------------------------------------------------------------------

    def watched(self, name: str, make: Factory) -> Factory:
        """Return a factory of frames that remember what they are told."""

        def frame() -> Generator[Any, Any, None]:
            inner = make()
            if not self.muted:
                self.told[name] = []
            reply: Any = None
            while True:
                if not self.muted:
                    self.told[name].append(reply)
                    self.changed.add(name)
                self._actor = name
                try:
                    request = inner.send(reply)
                except StopIteration:
                    return
                finally:
                    self._actor = ""
                reply = yield request

        return frame

    def retell(self, name: str, make: Factory, told: tuple[Any, ...]) -> tuple[Frame, Any]:
        """Bring a frame of a watched factory to where it stood; return it, and what it stands before.

        Raises Unfaithful where it ends on the way.
        """
        self.muted = True
        self._script = told
        self._next = 0
        try:
            frame = make()
            request: Any = None
            while self._next < len(told):
                self._next += 1
                request = frame.send(told[self._next - 1])
        except StopIteration:
            raise Unfaithful(
                f"the actor {name} ended when its earlier replies were repeated to it",
                hint=FAITHFUL,
            ) from None
        finally:
            self.muted = False
            self._script = ()
        self.told[name] = list(told)
        return frame, request

    def dismiss(self, frames: list[Frame]) -> None:
        """Close frames that are needed no more; whatever they still do has no effect."""
        self.muted = True
        try:
            close_frames(frames)
        finally:
            self.muted = False


class WatchedApplication:
    """An application whose actors remember what they are told."""

    def __init__(self, inner: Any, memory: ActorMemory) -> None:
        self._inner: Any = inner
        self._memory = memory

    def actors(self, world: RunContext) -> Mapping[str, Factory]:
        """Return the processes."""
        return self._watched(self._inner.actors(world))

    def clients(self, world: RunContext) -> Mapping[str, Factory]:
        """Return the clients."""
        return self._watched(self._inner.clients(world))

    def _watched(self, factories: Mapping[str, Factory]) -> dict[str, Factory]:
        return {name: self._memory.watched(name, make) for name, make in factories.items()}


class Script:
    """Choices from moves, boring once they are used up. What was not boring is its tape, as in any run."""

    def __init__(self, moves: Iterable[Move] = (), *, jitters: int = 1) -> None:
        self.tape: list[Deviation] = []
        self.asked: list[Sequence[str]] = []
        """What was to be picked from in the current move."""
        self._seen: dict[str, int] = {}
        self._jitters = jitters
        self.load(moves)

    def load(self, moves: Iterable[Move]) -> None:
        """Take the answers from these moves next."""
        moves = list(moves)
        self._gates = [gate for move in moves for gate in move.gates]
        self._picks = [pick for move in moves for pick in move.picks]
        self._gate = self._pick = 0
        self.asked.clear()

    def _nth(self, label: str) -> int:
        nth = self._seen[label] = self._seen.get(label, 0) + 1
        return nth

    def gate(self, label: str, options: Options) -> Option | None:
        """Return what stands next in the script."""
        nth = self._nth(label)
        if self._gate >= len(self._gates):
            return None
        option = self._gates[self._gate]
        self._gate += 1
        if option is not None:
            self.tape.append(Deviation(label, nth, option.words))
        return option

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Return what stands next in the script, or the first; the search goes through the others later."""
        nth = self._nth(label)
        self.asked.append(options[: self._jitters])
        option = options[0]
        if self._pick < len(self._picks):
            option = self._picks[self._pick]
            self._pick += 1
        if option != options[0]:
            self.tape.append(Deviation(label, nth, option))
        return option


ENDLESS = Limits(steps=1 << 60)
REST_STEPS = 100_000
"""Within these steps a run that is healed has come to its rest."""


class Stepped(UsageError):
    """A verb of the queue suspends: its frame cannot be set back, the run must be done again."""


def start_of(settings: Settings) -> int:
    """Return the instant at which a search begins: late, and at the beginning of every grid."""
    grid = lcm(settings.poll_interval, settings.cron_period, settings.expire_interval)
    return EPOCH // grid * grid


def overtaking(settings: Settings) -> Duration:
    """Return how far time may pass by a ready actor, at most and at once: until a lease has surely run out."""
    return settings.lease + settings.expire_interval + settings.cron_period


class _Played(NamedTuple):
    """What runs in a scope."""

    engine: Engine
    application: Callable[[], Any] | None


def _beside_rows(value: Any) -> list[Any]:
    """Return what a snapshot holds beside the jobs that everybody sees."""
    if isinstance(value, Mapping):
        return [] if all(type(row) is JobView for row in value.values()) else [value]
    names = getattr(value, "_fields", None) or getattr(value, "__dataclass_fields__", None)
    if names is None:
        return [value]
    held = [getattr(value, name) for name in names]
    return [beside for item in held if item for beside in _beside_rows(item)]


class Rig:
    """Holds a session; `enter`, then step."""

    def __init__(
        self,
        engine: Engine,
        scope: Scope,
        scenario: Scenario,
        *,
        numbers: Numbers,
        application: Callable[[], Any] | None = None,
    ) -> None:
        self.scope = scope
        self.scenario = scenario
        self._played = _Played(engine, application)
        self._numbers = numbers
        self._interning = Interning(numbers)
        self.quiet = quiet_limit(scenario)
        self.start = start_of(scenario.settings)
        self._open()

    def _open(self) -> None:
        self._at: GlobalState | None = None
        self.asked: Asked = ()
        self.stalls = 0
        self.stalled: dict[str, Any] = {}
        self.memory = ActorMemory()
        self.script = Script(jitters=self.scope.jitters)
        engine, application = self._played
        session = self.session = Session(
            self.scenario,
            engine=engine,
            choices=self.script,
            faults=self.scope.faults,
            limits=ENDLESS,
            application=None if application is None else application(),
        )
        if engine.info.processes is not None:
            session.close()
            raise UsageError(
                f"{engine.info.name} brings its own processes, which act on what they read and not on replies, "
                "so a search can neither see where they stand nor return them to that point",
                hint="Use job-harness explore: an application is searched by sampling.",
            )
        session.application = WatchedApplication(session.application, self.memory)
        session.world.memory = self.memory
        self.kernel: Kernel = session.kernel
        self.kernel.deviations.every_turn = True
        self.kernel.now = session.clocks.now = self.start
        self.interferences = [one for one in self.kernel.interferences if isinstance(one, ArmedFault)]
        session.begin()

    def close(self) -> None:
        """Give the queue back."""
        self.session.close()

    # moving ---------------------------------------------------------------------------------------------------------

    def root(self) -> GlobalState:
        """Return the state in which everybody has started."""
        root = self._at = self.capture(None)
        return root

    def enter(self, state: GlobalState) -> None:
        """Be in a state. Raises Unfaithful where that is not possible."""
        raise NotImplementedError

    def moves(self) -> Iterator[Move]:
        """List what may happen next, the boring first."""
        kernel = self.kernel
        if not kernel.ready:
            if kernel.next_wake() is not None:
                yield Move((None,))
                for interference in kernel.interferences:
                    yield from (Move((option,)) for option in interference.options(kernel, None))
            return
        head = kernel.ready[0]
        for actor in kernel.ready:
            yield Move((None,)) if actor is head else Move((actor.first,))
        for actor in kernel.ready:
            before = () if actor is head else (actor.next,)
            for interference in kernel.interferences:
                yield from (Move((*before, option)) for option in interference.options(kernel, actor))
        wake = kernel.next_wake()
        if wake is not None and wake - kernel.now <= overtaking(self.scenario.settings) and self._may_stall(wake):
            yield Move((TIME_FIRST,))

    def outlook(self, state: GlobalState) -> tuple[bool, Sequence[Move]]:
        """Say whether a run would be at its rest in this state, and list what may happen next where it is not."""
        self.enter(state)
        rests = self.at_rest()
        return rests, () if rests else tuple(dict.fromkeys(self.moves()))  # a fault may offer one thing more often

    def at_rest(self) -> bool:
        """Say whether the run that is entered would be at its rest here."""
        return not self.kernel.ready and self.session.quiet.at_rest(self.start, self.quiet)

    def make(self, move: Move, state: GlobalState) -> GlobalState:
        """Make a move from a state; `asked` then says what was to be picked from, and the judge what was found."""
        if self._at is not state:
            self.enter(state)
        self._at = None
        self._forget_events()
        self.go(move)
        self.asked = tuple([tuple(options) for options in self.script.asked])
        made = self._at = self.capture(state, move)
        return made

    def _forget_events(self) -> None:
        """Have nothing seen since, and nothing found."""
        self.memory.changed.clear()
        self.session.recorder.history.events.clear()
        self.session.judge.anomalies.clear()
        self.session.judge.endless = False

    def go(self, move: Move) -> None:
        """Make a move, and do not look."""
        if move.gates == (TIME_FIRST,):
            self._stall()
        self.script.load((move,))
        for _ in move.gates:
            self.kernel.step()
        if self.stalled:
            self.stalled = {
                name: point
                for name, point in self.stalled.items()
                if self.kernel.actors[name].request is point and self.kernel.actors[name].state is State.READY
            }

    def _may_stall(self, wake: Instant) -> bool:
        """Say whether time may pass by everybody who is ready."""
        if self.scope.stalls is None or wake == self.kernel.now:
            return True
        return self.stalls + sum(process.name not in self.stalled for process in self.kernel.ready) <= self.scope.stalls

    def _stall(self) -> None:
        """Note which actors stall: those that are ready while time passes, until they act."""
        if self.scope.stalls is None or self.kernel.next_wake() == self.kernel.now:
            return
        for process in self.kernel.ready:
            if process.name not in self.stalled:
                self.stalled[process.name] = process.request
                self.stalls += 1

    def judge_rest(self, state: GlobalState | None = None) -> None:
        """Heal, settle and judge what must hold at rest, from a state, or from where the run stands."""
        if state is not None and self._at is not state:
            self.enter(state)
        session, kernel = self.session, self.kernel
        self.script.load(())
        kernel.step_limit = kernel.steps + REST_STEPS
        try:
            session.rest()
        finally:
            kernel.step_limit = ENDLESS.steps
            session.judge.endless = False
            kernel.interferences = list(self.interferences)
            kernel.deviations.free_order = True
            kernel.choices = self.script
            self._at = None  # Nothing is where it was.

    # looking --------------------------------------------------------------------------------------------------------

    def _number(self, value: Any) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    def capture(self, before: GlobalState | None, move: Move | None = None) -> GlobalState:
        """Return the state that the run is in, sharing with the one before what did not change."""
        kernel, session = self.kernel, self.session
        recorder = session.recorder
        events = recorder.history.events
        changed = before is None or any(type(event) is Observed for event in events)
        called = before is None or any(type(event) is Call for event in events) or self._amid()
        views = dict(session.job_index.views) if changed or before is None else before.views
        queue, rows = self._queue(views) if called or before is None else (before.queue, before.rows)
        if before is not None and rows.number == before.rows.number:
            queue, rows = before.queue, before.rows
        path: Path = () if before is None or move is None else (*before.path, move)
        return GlobalState(
            now=kernel.now,
            clocks=self._clocks(before),
            queue=queue,
            rows=rows,
            views=views,
            last_change=recorder.last_change,
            monitors=self._monitors(before, events),
            actors=tuple([self._actor(place, process, before) for place, process in enumerate(kernel.actors.values())]),
            ready=tuple([process.name for process in kernel.ready]),
            sleeping=tuple(kernel.sleeping),
            budgets=(self.stalls, *[interference.left for interference in self.interferences]),
            stopping=frozenset(session.world.stopping),
            stalled=frozenset(self.stalled),
            path=self._path(path),
        )

    def _clocks(self, before: GlobalState | None) -> ClockState:
        clocks = self.session.clocks
        offsets, drifts = clocks.offsets(), clocks.drifts()
        if before is not None and (clocks.store_offset, offsets, drifts) == before.clocks[:3]:
            return before.clocks
        form = ("clocks", clocks.store_offset, tuple(offsets.items()), tuple(drifts.items()))
        return ClockState(clocks.store_offset, offsets, drifts, self._number(form))

    def _path(self, path: Path) -> Path:
        return path

    def _amid(self) -> bool:
        return False

    def _queue(self, views: Mapping[str, Any]) -> tuple[Any, Vector]:
        return None, self._rows(views)

    def _rows(self, value: Any) -> Vector:
        rows: list[Any] = [self._row(row) for row in self.session.job_index.views.values()]
        if beside := _beside_rows(value):
            rows.append(self._part(freeze(beside, {})))
        return self._vector(rows)

    def _row(self, row: Any) -> Interned | Component:
        return self._interning.find(row) or self._part(freeze(row, {}))

    def _part(self, value: Any) -> Component:
        return Component(value, self._number(value))

    def _vector(self, parts: Sequence[Any]) -> Vector:
        return Vector(tuple(parts), self._number(tuple([part.number for part in parts])))

    def _monitors(self, before: GlobalState | None, events: list[Event]) -> Vector:
        """Return what the monitors remember, who saw everything as it happened."""
        judge = self.session.judge
        seen = {place for event in events for _, place in judge.watching(event)}
        parts: list[Vector] = []
        for place, monitor in enumerate(judge.monitors):
            was = None if before is None else before.monitors.parts[place]
            if was is None or place in seen:
                was = memory_of(place, monitor, self._numbers, self._interning, was)
            parts.append(was)
        return self._vector(parts)

    def _actor(self, place: int, process: Actor, before: GlobalState | None) -> ActorState:
        was = None if before is None or place >= len(before.actors) else before.actors[place]
        position = None if was is None else was.position
        told = process.name in self.memory.changed
        if (
            was is not None
            and position is not None
            and not told
            and process.request is position.request
            and was.standing is process.state
            and was.wake == process.wake
            and was.last_tick == process.last_tick
            and process.call is None
            and process.state < State.CRASHED
        ):
            return was
        if (
            position is None
            or told
            or process.call is not None
            or process.state >= State.CRASHED
            or position.reborn is not None
            or reborn_after(process.frames, process.request) is not None
        ):
            position = self._position(process)
        if (
            was is not None
            and was.position is position
            and was.standing is process.state
            and was.wake == process.wake
            and was.last_tick == process.last_tick
        ):
            return was
        wake = process.wake if process.state is State.SLEEPING else 0
        tick = process.last_tick if process.last_tick >= self.kernel.now else 0
        stood = -1 if position is None else position.number
        number = self._number(("stands", stood, process.state, wake, tick))
        return ActorState(position, process.state, process.wake, process.last_tick, number)

    def _position(self, process: Actor) -> Position | None:
        if process.state >= State.CRASHED or process.request is None:
            return None
        request = process.request
        reborn = reborn_after(process.frames, request)
        if reborn is not None:
            return Position((), self._number(("reborn", process.name, reborn)), request, reborn)
        told = tuple(self.memory.told.get(process.name, ()))  # nothing, for the ghost of a session: it only sleeps
        progress = self._progress(process)
        number = self._number((process.name, freeze(told, {}), request.point, progress))
        return Position(told, number, request, progress=progress)

    def _progress(self, process: Actor) -> Any:
        """Return how far an actor is in a verb that it is in the middle of."""
        return None


class ParkedFrame:
    """Stands for the frame of an actor that was brought back; it is told everything again once it has to go on."""

    __slots__ = ("_frame", "_retell")

    def __init__(self, retell: Callable[[], Frame]) -> None:
        self._retell = retell
        self._frame: Frame | None = None

    def send(self, reply: Any) -> Any:
        """Go on from where it stood."""
        if self._frame is None:
            self._frame = self._retell()
        return self._frame.send(reply)

    def close(self) -> None:
        """End, if it ever went on."""
        if self._frame is not None:
            self._frame.close()


class SnapshotRig(Rig):
    """For queues that can be set back: restores snapshots, and retells only those who act.

    What was done before is not done again (`search.scope.memo`); the session is entered only for
    what is new.
    """

    def _open(self) -> None:
        super()._open()
        self._witnesses = Witnesses(self.session.judge, self._numbers, self._interning)
        self._steps = StepTable(list(self.kernel.actors))
        self._outlooks: dict[Any, tuple[bool, Sequence[Move]]] = {}
        self._step: int | None = None
        """The number of what is done now, if it may be done again."""
        self.session.recorder.show(_show_later)

    def _path(self, path: Path) -> Path:
        return ()

    def _queue(self, views: Mapping[str, Any]) -> tuple[Any, Vector]:
        queue: Any = self.session.queue
        snapshot = queue.snapshot()
        return snapshot, self._rows(snapshot)

    def _progress(self, process: Actor) -> Any:
        if len(process.frames) > 1 and process.call is not None:
            raise Stepped(f"{process.name} stands in the middle of {process.call.point}")
        return None

    def outlook(self, state: GlobalState) -> tuple[bool, Sequence[Move]]:
        key = (self._steps.scene(state), state.budgets, 0 if state.ready else state.last_change)
        known = self._outlooks.get(key)
        if known is None:
            known = self._outlooks[key] = super().outlook(state)
        return known

    def make(self, move: Move, state: GlobalState) -> GlobalState:
        key = self._steps.key(move, state)
        step = self._steps.find(key)
        if step is not None:
            self._forget_events()
            self.asked = step.asked
            return step.taken(state, self._witnesses.show(state.monitors, step.events, step.number))
        number = self._step = None if key is None else self._steps.reserve()
        made = super().make(move, state)
        if key is not None and number is not None:
            events = tuple(self.session.recorder.history.events)
            self._steps.keep(key, state, made, number=number, asked=self.asked, events=events)
        return made

    def _monitors(self, before: GlobalState | None, events: list[Event]) -> Vector:
        return (
            self._witnesses.remembered()
            if before is None
            else self._witnesses.show(before.monitors, events, self._step)
        )

    def judge_rest(self, state: GlobalState | None = None) -> None:
        assert state is not None
        self._forget_events()
        self._witnesses.remember(state.monitors)
        self.session.recorder.show(self.session.judge.see)
        try:
            super().judge_rest(state)
        finally:
            self.session.recorder.show(_show_later)
            self._witnesses.lose_track()

    def enter(self, state: GlobalState) -> None:
        at = self._at
        self._forget_events()
        if at is state:
            return
        self._at = None
        session, kernel, clocks = self.session, self.kernel, self.session.clocks
        kernel.now = clocks.now = state.now
        if at is None or at.clocks is not state.clocks:
            clocks.store_offset = state.clocks.store_offset
            clocks.restore(state.clocks.offsets, state.clocks.drifts)
        if at is None or at.queue is not state.queue:
            self._restore_queue(state)
        if at is None or at.views is not state.views:
            session.job_index.reset(state.views)
        session.recorder.last_change = state.last_change
        session.world.stopping.clear()
        session.world.stopping.update(state.stopping)
        self.stalls = state.budgets[0]
        for place, interference in enumerate(self.interferences, start=1):
            interference.left = state.budgets[place]
        for place, (process, actor) in enumerate(zip(kernel.actors.values(), state.actors, strict=True)):
            was = None if at is None else at.actors[place]
            if was is actor:
                continue
            if was is None or was.position is not actor.position:
                self._restore_actor(process, actor)
            process.state, process.wake, process.last_tick = actor.standing, actor.wake, actor.last_tick
        self.stalled = {name: kernel.actors[name].request for name in state.stalled}
        kernel.reschedule([kernel.actors[name] for name in state.ready], state.sleeping)
        self._at = state

    def _restore_queue(self, state: GlobalState) -> None:
        queue: Any = self.session.queue
        queue.restore(state.queue)
        shown = queue.jobs()
        if shown != state.views:
            raise Unfaithful(
                f"the snapshot of {self._played.engine.info.name} is wrong: when restored, it shows {shown!r:.300}, "
                f"but when it was taken, it showed {dict(state.views)!r:.300}",
                hint="restore must bring back everything that snapshot saw; or declare Capabilities(snapshot=False).",
            )
        queue.changed()

    def _restore_actor(self, process: Actor, actor: ActorState) -> None:
        self.memory.dismiss([*process.frames, *self.kernel.unburied()])
        position = actor.position
        process.frames = []
        process.request = process.call = None
        if position is None:
            return
        if position.reborn is not None:
            process.frames, process.request = reborn(process, position.reborn)
            return
        parked: Any = ParkedFrame(lambda: self._retold(process, position))
        process.frames, process.request = [parked], position.request

    def _retold(self, process: Actor, position: Position) -> Frame:
        frame, request = self.memory.retell(process.name, process.factory, position.told)
        point, stood = getattr(request, "point", None), position.request.point
        if point != stood:
            raise Unfaithful(
                f"the actor {process.name} stood before {stood!r}; after the same replies, it stands before {point!r}",
                hint=FAITHFUL,
            )
        return frame


def _show_later(event: Event) -> None:
    """Show an event to no monitor yet."""


class ReplayRig(Rig):
    """For queues that cannot be set back: runs the whole path again, on an empty queue."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._amid_verb: dict[str, list[Any]] = {}
        super().__init__(*arguments, **options)

    def _open(self) -> None:
        self._amid_verb.clear()
        super()._open()

    def _amid(self) -> bool:
        return True

    def _progress(self, process: Actor) -> Any:
        return tuple(self._amid_verb.get(process.name, ()))

    def go(self, move: Move) -> None:
        stood = {process.name: process.request for process in self.kernel.actors.values()}
        super().go(move)
        for process in self.kernel.actors.values():
            if len(process.frames) < 2 or process.call is None:
                self._amid_verb.pop(process.name, None)
            elif process.request is not stood.get(process.name):
                seen = freeze(dict(self.session.job_index.views), {})
                self._amid_verb.setdefault(process.name, []).append(seen)

    def enter(self, state: GlobalState) -> None:
        self.session.close()
        self._open()
        for move in state.path:
            self.go(move)
        self._forget_events()  # whatever happened on the way was judged when it happened first
        self._at = state
