"""A run that can be put into any state, stepped once, and looked at as a state again.

Two kinds: `SnapshotRig` sets the queue back to a snapshot, `ReplayRig` runs the path to the state once more. Where an
actor stands is everything that it was told since it began; telling it again brings it back there. Frames are no
positions: two with equal variables may have different futures. A rig knows nothing of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from math import lcm
from typing import Any

from harness.errors import UsageError
from harness.exhaust.scope import Scope
from harness.exhaust.state import EPOCH, ActorState, Component, GlobalState, Move, Path, Position, reborn_after
from harness.faults import ArmedFault
from harness.history.event import Call, Observed
from harness.invariants.memory import freeze
from harness.model.duration import Duration, Instant
from harness.model.job import JobView
from harness.model.settings import Settings
from harness.port import Engine
from harness.run.context import RunContext
from harness.run.session import Limits, Session, quiet_limit
from harness.scenario.scenario import Scenario
from harness.sim.actor import Actor, State
from harness.sim.choices import TIME_FIRST, Deviation, Option, Options
from harness.sim.kernel import Kernel
from harness.sim.request import Frame

Factory = Callable[[], Frame]
FAITHFUL = (
    "An actor may go by its replies, world.now and world.told_to_stop only; "
    "and world.anew comes first in its loop, where nothing is left over from before."
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
                f"the actor {name} ended when it was told again what it was told before",
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
            for frame in reversed(frames):
                try:
                    frame.close()
                except BaseException:  # noqa: BLE001 - a severed actor may do anything in its `finally`
                    continue
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
Numbers = dict[Any, int]


class Stepped(UsageError):
    """A verb of the queue suspends: its frame cannot be set back, the run must be done again."""


def start_of(settings: Settings) -> int:
    """Return the instant at which a search begins: late, and at the beginning of every grid."""
    grid = lcm(settings.poll_interval, settings.cron_period, settings.expire_interval)
    return EPOCH // grid * grid


def overtaking(settings: Settings) -> Duration:
    """Return how far time may pass by a ready actor, at most and at once: until a lease has surely run out."""
    return settings.lease + settings.expire_interval + settings.cron_period


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
        self._engine = engine
        self._application = application
        self._numbers = numbers
        self.quiet = quiet_limit(scenario)
        self.overtaking = overtaking(scenario.settings)
        self.start = start_of(scenario.settings)
        self._open()

    def _open(self) -> None:
        self.stalls = 0
        self.stalled: dict[str, Any] = {}
        self.memory = ActorMemory()
        self.script = Script(jitters=self.scope.jitters)
        session = self.session = Session(
            self.scenario,
            engine=self._engine,
            choices=self.script,
            faults=self.scope.faults,
            limits=ENDLESS,
            application=None if self._application is None else self._application(),
        )
        if self._engine.info.processes is not None:
            session.close()
            raise UsageError(
                f"{self._engine.info.name} brings processes of its own: they go by what they read, not by replies, "
                "so it cannot be seen from outside where they stand, and a search cannot bring them back there",
                hint="Use job-harness explore: an application is searched by sampling.",
            )
        session.application = WatchedApplication(session.application, self.memory)
        session.world.memory = self.memory
        self.kernel: Kernel = session.kernel
        self.kernel.every_turn = True
        self.kernel.now = session.clocks.now = self.start
        self.interferences = [one for one in self.kernel.interferences if isinstance(one, ArmedFault)]
        self._judged = {id(monitor): place for place, monitor in enumerate(session.judge.monitors)}
        session.begin()

    def close(self) -> None:
        """Give the queue back."""
        self.session.close()

    # moving ---------------------------------------------------------------------------------------------------------

    def root(self) -> GlobalState:
        """Return the state in which everybody has started."""
        return self.capture(None)

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
        if wake is not None and wake - kernel.now <= self.overtaking and self._may_stall(wake):
            yield Move((TIME_FIRST,))

    def at_rest(self) -> bool:
        """Say whether the run that is entered would be at its rest here."""
        return not self.kernel.ready and self.session.at_rest(self.start, self.quiet)

    def make(self, move: Move, state: GlobalState) -> GlobalState:
        """Make a move from the state that is entered."""
        self.go(move)
        return self.capture(state, move)

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

    def judge_rest(self) -> None:
        """Heal, settle and judge what must hold at rest, from the state that is entered. Enter another one then."""
        session, kernel = self.session, self.kernel
        self.script.load(())
        kernel.step_limit = kernel.steps + self._rest_limit()
        try:
            session.rest()
        finally:
            kernel.step_limit = ENDLESS.steps
            session.judge.endless = False
            kernel.interferences = list(self.interferences)
            kernel.free_order = True
            kernel.choices = self.script
            self._lost_track()

    def _rest_limit(self) -> int:
        return 100_000

    def _lost_track(self) -> None:
        """Note that nothing is where it was."""

    # looking --------------------------------------------------------------------------------------------------------

    def _number(self, value: Any) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    def capture(self, before: GlobalState | None, move: Move | None = None) -> GlobalState:
        """Return the state that the run is in, sharing with the one before what did not change."""
        kernel, session = self.kernel, self.session
        clocks, recorder = session.clocks, session.recorder
        events = recorder.history.events
        changed = before is None or any(type(event) is Observed for event in events)
        called = before is None or any(type(event) is Call for event in events) or self._amid()
        views = dict(session.board.views) if changed or before is None else before.views
        queue, rows = self._queue(views) if called or before is None else (before.queue, before.rows)
        path: Path = () if before is None or move is None else (*before.path, move)
        return GlobalState(
            now=kernel.now,
            store_offset=clocks.store_offset,
            offsets=clocks.offsets(),
            drifts=clocks.drifts(),
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
            call_number=recorder.number,
            path=self._path(path),
        )

    def _path(self, path: Path) -> Path:
        return path

    def _amid(self) -> bool:
        return False

    def _queue(self, views: Mapping[str, Any]) -> tuple[Any, tuple[Component, ...]]:
        return None, self._rows(views)

    def _rows(self, value: Any) -> tuple[Component, ...]:
        rows = [self._part(freeze(row, {})) for row in self.session.board.views.values()]
        if beside := _beside_rows(value):
            rows.append(self._part(freeze(beside, {})))
        return tuple(rows)

    def _part(self, value: Any) -> Component:
        return Component(value, self._number(value))

    def _monitors(self, before: GlobalState | None, events: list[Any]) -> tuple[Component, ...]:
        monitors = self.session.judge.monitors
        if before is None:
            return tuple([self._part(monitor.snapshot()) for monitor in monitors])
        parts = list(before.monitors)
        seen: set[int] = set()
        for event in events:
            seen.update([self._judged[id(monitor)] for monitor in self.session.judge.watchers(event)])
        for place in seen:
            value = monitors[place].snapshot()
            if value != parts[place].value:
                parts[place] = self._part(value)
        return tuple(parts)

    def _actor(self, place: int, process: Actor, before: GlobalState | None) -> ActorState:
        was = None if before is None or place >= len(before.actors) else before.actors[place]
        position = None if was is None else was.position
        if (
            position is None
            or process.name in self.memory.changed
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
        return ActorState(position, process.state, process.wake, process.last_tick)

    def _position(self, process: Actor) -> Position | None:
        if process.state >= State.CRASHED or process.request is None:
            return None
        point = process.request.point
        reborn = reborn_after(process.frames, process.request)
        if reborn is not None:
            return Position((), self._number(("reborn", process.name, reborn)), point, reborn)
        told = tuple(self.memory.told.get(process.name, ()))  # nothing, for the ghost of a session: it only sleeps
        progress = self._progress(process)
        number = self._number((process.name, freeze(told, {}), point, progress))
        return Position(told, number, point, progress=progress)

    def _progress(self, process: Actor) -> Any:
        """Return how far an actor is in a verb that it is in the middle of."""
        return None


class SnapshotRig(Rig):
    """For queues that can be set back: restores snapshots, and retells only those who moved."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._at: GlobalState | None = None
        super().__init__(*arguments, **options)

    def _lost_track(self) -> None:
        self._at = None

    def _path(self, path: Path) -> Path:
        return ()

    def _queue(self, views: Mapping[str, Any]) -> tuple[Any, tuple[Component, ...]]:
        queue: Any = self.session.queue
        snapshot = queue.snapshot()
        return snapshot, self._rows(snapshot)

    def _progress(self, process: Actor) -> Any:
        if len(process.frames) > 1 and process.call is not None:
            raise Stepped(f"{process.name} stands in the middle of {process.call.point}")
        return None

    def make(self, move: Move, state: GlobalState) -> GlobalState:
        made = super().make(move, state)
        self._at = made
        return made

    def enter(self, state: GlobalState) -> None:
        at = self._at
        session, kernel, clocks = self.session, self.kernel, self.session.clocks
        self.memory.changed.clear()
        session.recorder.history.events.clear()
        session.judge.anomalies.clear()
        if at is state:
            return
        self._at = None
        kernel.now = clocks.now = state.now
        clocks.store_offset = state.store_offset
        clocks.restore(state.offsets, state.drifts)
        if at is None or at.queue is not state.queue:
            self._restore_queue(state)
        if at is None or at.views is not state.views:
            session.board.reset(state.views)
        session.recorder.last_change = state.last_change
        session.recorder.number = state.call_number
        for place, monitor in enumerate(session.judge.monitors):
            if at is None or at.monitors[place] is not state.monitors[place]:
                monitor.restore(state.monitors[place].value)
        session.world.stopping.clear()
        session.world.stopping.update(state.stopping)
        self.stalls, *budgets = state.budgets
        for interference, left in zip(self.interferences, budgets, strict=True):
            interference.left = left
        for place, (process, actor) in enumerate(zip(kernel.actors.values(), state.actors, strict=True)):
            if at is None or at.actors[place].position is not actor.position:
                self._restore_actor(process, actor)
            process.state, process.wake, process.last_tick = actor.standing, actor.wake, actor.last_tick
        self.stalled = {name: kernel.actors[name].request for name in state.stalled}
        ready = [kernel.actors[name] for name in state.ready]
        kernel.reschedule(ready, state.sleeping)
        self._at = state

    def _restore_queue(self, state: GlobalState) -> None:
        queue: Any = self.session.queue
        queue.restore(state.queue)
        shown = queue.jobs()
        if shown != state.views:
            raise Unfaithful(
                f"the snapshot of {self._engine.info.name} lies: set back, it shows {shown!r:.300}, "
                f"and when it was taken it showed {dict(state.views)!r:.300}",
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
            process.frames, process.request = self.kernel.reborn(process, position.reborn)
            return
        frame, process.request = self.memory.retell(process.name, process.factory, position.told)
        process.frames = [frame]
        point = getattr(process.request, "point", None)
        if point != position.point:
            raise Unfaithful(
                f"the actor {process.name} stood before {position.point!r}; told again what it was told before, "
                f"it stands before {point!r}",
                hint=FAITHFUL,
            )


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
                seen = freeze(dict(self.session.board.views), {})
                self._amid_verb.setdefault(process.name, []).append(seen)

    def enter(self, state: GlobalState) -> None:
        self.session.close()
        self._open()
        for move in state.path:
            self.go(move)
        # Whatever happened on the way was judged when it happened first.
        self.memory.changed.clear()
        self.session.recorder.history.events.clear()
        self.session.judge.anomalies.clear()
