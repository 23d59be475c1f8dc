"""A run that can be put into any state, stepped once, and looked at as a state again.

Two kinds: one sets the queue back to a snapshot, the other runs the path to the state once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import lcm
from typing import Any

from harness.errors import UsageError
from harness.explore.canonical import EPOCH
from harness.explore.positions import FAITHFUL, ActorMemory, Unfaithful, WatchedApplication
from harness.explore.scope import Scope
from harness.explore.script import Move, Path, Script
from harness.explore.state import Actor, Part, Position, State, reborn_after
from harness.faults import ArmedFault
from harness.history.event import Call, Observed
from harness.invariants.memory import freeze
from harness.model.duration import Duration, Instant
from harness.model.job import JobView
from harness.model.settings import Settings
from harness.port import Engine
from harness.run.session import Limits, Session, quiet_limit
from harness.scenario.scenario import Scenario
from harness.sim.actor import Actor as Process
from harness.sim.actor import State as Standing
from harness.sim.choices import TIME_FIRST
from harness.sim.kernel import Kernel

ENDLESS = Limits(steps=1 << 60)
Numbers = dict[Any, int]


class Stepped(UsageError):
    """A verb of the queue suspends: its frame cannot be set back, the run must be done again."""


def start_of(settings: Settings) -> int:
    """Answer the instant at which a search begins: late, and at the beginning of every grid."""
    grid = lcm(settings.poll_interval, settings.cron_period, settings.expire_interval)
    return EPOCH // grid * grid


def overtaking(settings: Settings) -> Duration:
    """Answer by how much time overtakes whoever is ready, at most and at once: until a lease has surely run out."""
    return settings.lease + settings.expire_interval + settings.cron_period


def _beside_rows(value: Any) -> list[Any]:
    """Answer what a snapshot holds beside the jobs that everybody sees."""
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
        if getattr(session.queue, "application", None) is not None:
            session.close()
            raise UsageError(
                f"{self._engine.name} brings processes of its own: they go by what they read, not by replies, "
                "so nobody can tell from outside where they stand, and a search cannot bring them back there",
                hint="Leave out --exhaustive: an application is searched by sampling.",
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

    def root(self) -> State:
        """Answer the state in which everybody has started."""
        return self.capture(None)

    def enter(self, state: State) -> None:
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

    def make(self, move: Move, state: State) -> State:
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
                if self.kernel.actors[name].request is point and self.kernel.actors[name].state is Standing.READY
            }

    def _may_stall(self, wake: Instant) -> bool:
        """Say whether time may pass by everybody who is ready."""
        if self.scope.stalls is None or wake == self.kernel.now:
            return True
        return self.stalls + sum(process.name not in self.stalled for process in self.kernel.ready) <= self.scope.stalls

    def _stall(self) -> None:
        """Note who stalls: whoever is ready while time passes, until he acts."""
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

    def capture(self, before: State | None, move: Move | None = None) -> State:
        """Answer the state that the run is in, sharing with the one before what did not change."""
        kernel, session = self.kernel, self.session
        clocks, recorder = session.clocks, session.recorder
        events = recorder.history.events
        changed = before is None or any(type(event) is Observed for event in events)
        called = before is None or any(type(event) is Call for event in events) or self._amid()
        views = dict(session.board.views) if changed or before is None else before.views
        queue, rows = self._queue(views) if called or before is None else (before.queue, before.rows)
        path: Path = () if before is None or move is None else (*before.path, move)
        return State(
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

    def _queue(self, views: Mapping[str, Any]) -> tuple[Any, tuple[Part, ...]]:
        return None, self._rows(views)

    def _rows(self, value: Any) -> tuple[Part, ...]:
        rows = [self._part(freeze(row, {})) for row in self.session.board.views.values()]
        if beside := _beside_rows(value):
            rows.append(self._part(freeze(beside, {})))
        return tuple(rows)

    def _part(self, value: Any) -> Part:
        return Part(value, self._number(value))

    def _monitors(self, before: State | None, events: list[Any]) -> tuple[Part, ...]:
        monitors = self.session.judge.monitors
        if before is None:
            return tuple([self._part(monitor.snapshot()) for monitor in monitors])
        parts = list(before.monitors)
        seen: set[int] = set()
        for event in events:
            seen.update([self._judged[id(handle.__self__)] for handle in self.session.judge.handles(event)])  # type: ignore[attr-defined]
        for place in seen:
            value = monitors[place].snapshot()
            if value != parts[place].value:
                parts[place] = self._part(value)
        return tuple(parts)

    def _actor(self, place: int, process: Process, before: State | None) -> Actor:
        was = None if before is None or place >= len(before.actors) else before.actors[place]
        position = None if was is None else was.position
        if (
            position is None
            or process.name in self.memory.changed
            or process.state >= Standing.CRASHED
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
        return Actor(position, process.state, process.wake, process.last_tick)

    def _position(self, process: Process) -> Position | None:
        if process.state >= Standing.CRASHED or process.request is None:
            return None
        point = process.request.point
        reborn = reborn_after(process.frames, process.request)
        if reborn is not None:
            return Position((), self._number(("reborn", process.name, reborn)), point, reborn)
        told = tuple(self.memory.told[process.name])
        return Position(told, self._number((process.name, freeze(told, {}), self._progress(process))), point)

    def _progress(self, process: Process) -> Any:
        """Answer how far an actor is in a verb that it is in the middle of."""
        return None


class SnapshotRig(Rig):
    """For queues that can be set back: restores snapshots, and retells only those who moved."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._at: State | None = None
        super().__init__(*arguments, **options)

    def _lost_track(self) -> None:
        self._at = None

    def _path(self, path: Path) -> Path:
        return ()

    def _queue(self, views: Mapping[str, Any]) -> tuple[Any, tuple[Part, ...]]:
        queue: Any = self.session.queue
        snapshot = queue.snapshot()
        return snapshot, self._rows(snapshot)

    def _progress(self, process: Process) -> Any:
        if len(process.frames) > 1 and process.call is not None:
            raise Stepped(f"{process.name} stands in the middle of {process.call.point}")
        return None

    def make(self, move: Move, state: State) -> State:
        made = super().make(move, state)
        self._at = made
        return made

    def enter(self, state: State) -> None:
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

    def _restore_queue(self, state: State) -> None:
        queue: Any = self.session.queue
        queue.restore(state.queue)
        shown = queue.jobs()
        if shown != state.views:
            raise Unfaithful(
                f"the snapshot of {self._engine.name} lies: set back, it shows {shown!r:.300}, "
                f"and when it was taken it showed {dict(state.views)!r:.300}",
                hint="restore must bring back everything that snapshot saw; or declare Capabilities(snapshot=False).",
            )
        queue.changed()

    def _restore_actor(self, process: Process, actor: Actor) -> None:
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
