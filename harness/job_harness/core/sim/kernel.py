"""The scheduler: steps actors one at a time over virtual time; every undetermined order is a choice.

Boring is first come, first served, and time that moves only when no actor can act. The kernel knows
neither queue nor history: an `Executor` executes calls, interferences (faults) offer options at
gates, carriers bring actors from gate to gate, and the `Agenda` says who acts next unprompted:
sleepers with their times, and those who poll on a grid.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from job_harness.core.model import Duration, Instant
from job_harness.core.sim.actor import CRASHED, POLLING, READY, SLEEPING, Actor, Carrier, State
from job_harness.core.sim.choices import (
    FIRST,
    NEXT,
    OTHERS,
    OTHERS_FIRST,
    TIME,
    TIME_FIRST,
    Boring,
    Choices,
    Option,
    note_pick,
)
from job_harness.core.sim.request import (
    Elsewhere,
    Exchange,
    Frame,
    HostState,
    Point,
    Poll,
    Request,
    Sleep,
    VerbCall,
    Wait,
)
from job_harness.errors import EnvironmentUnavailable, LimitReached, Misdescribed, StepsSpent

if TYPE_CHECKING:
    from job_harness.core.sim.lifetime import Lifetime


class Executor(Protocol):
    """Executes the calls of actors."""

    def begin(self, actor: Actor, call: VerbCall) -> Any:
        """Start a verb. Return its reply, or a frame to be stepped where it suspends."""

    def end(self, actor: Actor, call: VerbCall, result: Any) -> Any:
        """Take what the verb returned; return the actor's reply."""

    def raised(self, actor: Actor, call: VerbCall, error: Exception) -> Any:
        """Take what the verb raised; return the actor's reply."""

    def lost(self, actor: Actor, call: VerbCall) -> Any:
        """Note a call that never arrived; return the actor's reply."""

    def cut(self, actor: Actor, call: VerbCall) -> Any:
        """Note a call that was cut off in the middle of its verb; return the actor's reply."""


class Interference(Protocol):
    """Something that may go wrong at a gate, a limited number of times."""

    id: str
    """The kind of its options."""
    midway: bool
    """Whether it may strike in the middle of a step: whom it strikes then is crashed."""

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
        """Return what may go wrong at this actor's gate; with None, before time moves."""

    def apply(self, kernel: Kernel, actor: Actor | None, option: Option) -> None:
        """Make one of its options happen."""


class KernelHooks:
    """What a kernel asks of who gave it its actors; these do nothing."""

    holds_sessions = False
    """Whether actors hold something outside, a database session, that may outlive them."""

    def set_clocks(self, now: Instant) -> None:
        """Move every clock: time was moved."""

    def note_gate(self, actor: Actor, call: VerbCall) -> None:
        """Observe what a verb did up to a gate within it, before any other actor acts."""

    def drop_session(self, actor: Actor, linger: Duration) -> None:
        """End what a crashed actor held outside, or let it stay this long."""

    def note_overtaken(self, actor: Actor, passed: Duration) -> None:
        """Take note of a ready actor that time passed by, and for how long."""

    def fail_over(self) -> None:
        """Do what the store does when an outage begins that keeps all actors from it."""


class CrashedMidway(BaseException):
    """Raised through the step in which an actor crashed; no `except Exception` of its own holds it up."""


class Deviations:
    """What else than usual may happen at a gate, or before time moves; and lets it happen."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.free_order = True
        """Whether the order of ready actors is open to choice."""
        self.every_turn = False
        """Whether time may move while actors are ready, and any ready actor may be brought to the front."""
        self.struck: Actor | None = None
        """Who stood at the gate at which something last went another way."""

    def options(self) -> list[Option]:
        """List what else may happen at the gate of the actor at the front."""
        kernel = self._kernel
        ready = kernel.ready
        actor = ready[0] if ready else None
        offered: list[Option] = []
        if self.free_order:
            offered.extend([other.first for other in self._rivals(actor)])
            if actor is not None and actor.root is not actor and (len(ready) > 1 or not kernel.carriers):
                offered.append(OTHERS_FIRST)
        if self.every_turn and actor is not None:
            offered.extend([other.next for other in self._rivals(actor)])
            if kernel.next_wake() is not None:
                offered.append(TIME_FIRST)
        for interference in kernel.interferences:
            offered.extend(interference.options(kernel, actor))
        return offered

    def midway(self) -> list[Option]:
        """List what may go wrong in the middle of a step of the actor at the front."""
        kernel = self._kernel
        striking = [each for each in kernel.interferences if each.midway]
        return [option for each in striking for option in each.options(kernel, kernel.ready[0])]

    def _rivals(self, actor: Actor | None) -> list[Actor]:
        """List who else could act now; a process that is carried in the schedule once, however many tasks it has."""
        if not self._kernel.carriers:
            return [other for other in self._kernel.ready if other is not actor and other.root is other]
        rivals: dict[str, Actor] = {}
        for other in self._kernel.ready:
            if actor is None or other.name != actor.name:
                rivals.setdefault(other.name, other)
        return list(rivals.values())

    def _ready_of(self, name: str) -> Actor:
        """Return the ready actor of this name; of a carried process, the task that came first."""
        actor = self._kernel.actors[name]
        if actor.carrier is None:
            return actor
        return next(other for other in self._kernel.ready if other.root is actor)

    def carry_out(self, actor: Actor | None, option: Option) -> None:
        """Let an option happen."""
        kind = option.kind
        self.struck = actor
        if kind == FIRST:
            other = self._ready_of(option.actor)
            self._kernel.ready.remove(other)
            self._kernel.perform(other)
        elif kind == NEXT:
            other = self._ready_of(option.actor)
            self._kernel.ready.remove(other)
            self._kernel.ready.appendleft(other)
        elif kind == TIME:
            self._overtake()
        elif kind == OTHERS:
            assert actor is not None  # only who stands at a gate is offered it
            self._kernel.ready.remove(actor)
            self._kernel.ready.append(actor)
        else:
            next(one for one in self._kernel.interferences if one.id == kind).apply(self._kernel, actor, option)

    def _overtake(self) -> None:
        """Move time to the next thing due although actors are ready: they are slower than the clock."""
        target = self._kernel.next_wake()
        assert target is not None
        passed = target - self._kernel.now
        if passed > 0:
            for actor in self._kernel.ready:
                self._kernel.hooks.note_overtaken(actor, passed)
        self._kernel.move_to(target)


class Kernel:
    """Steps actors until none can act any more."""

    def __init__(
        self, choices: Choices, executor: Executor, *, hooks: KernelHooks | None = None, step_limit: int = 1_000_000
    ) -> None:
        self.choices = choices
        self.hooks = KernelHooks() if hooks is None else hooks
        self.executor = executor
        self.step_limit = step_limit
        self.now: Instant = 0
        self.steps = 0
        self.actors: dict[str, Actor] = {}
        self.interferences: Sequence[Interference] = ()
        self.ready: deque[Actor] = deque()
        self.deviations = Deviations(self)
        self.surprises: list[str] = []
        """Where something outside was picked otherwise than the tape says."""
        self.carriers: list[Carrier] = []
        """Who carries actors that do not step by themselves."""
        self.calls = 0
        """How many verbs were called so far; an application calls none."""
        self.outages: dict[str, Instant] = {}
        """Until when actors cannot reach the store, by name; `EVERYBODY` is all of them."""
        self.hosts = HostTroubles()
        self._agenda = Agenda(self.outages)
        self._blocked: dict[Actor, None] = {}
        self._picks: dict[str, int] = {}
        self._graveyard: list[Frame] = []

    # actors ---------------------------------------------------------------------------------------------------------

    def spawn(
        self, name: str, factory: Callable[[], Frame], *, process: bool = False, carrier: Carrier | None = None
    ) -> Actor:
        """Start an actor; it stands at its first gate, or is at work on its carrier."""
        actor = self.actors.get(name)
        if actor is None:
            actor = Actor(name, factory, len(self.actors), process=process)
            self.actors[name] = actor
        actor.factory = factory
        actor.carrier = carrier
        self.start(actor)
        return actor

    def start(self, actor: Actor) -> None:
        """Start an actor that ended or crashed, as a new activation."""
        actor.frames = [actor.factory()]
        actor.last_tick = -1
        self._continue(actor, None)
        self.come_to_rest()

    def start_later(self, actor: Actor, delay: Duration) -> None:
        """Bring a crashed actor back after a while, as a new activation."""
        actor = actor.root
        actor.frames = [_reborn(delay, actor.factory)]
        actor.last_tick = -1
        self._continue(actor, None)

    def crash(self, actor: Actor, *, linger: Duration = 0) -> None:
        """Sever an actor: it is never resumed, and none of its `finally` blocks run before the verdict.

        What it holds outside, a database session, is dropped after `linger`.
        """
        self._withdraw(actor)
        self._graveyard.extend(actor.frames)
        actor.frames = []
        actor.call = None
        actor.request = None
        actor.state = CRASHED
        if actor.carrier is not None:
            self._sever_process(actor)
        self.hooks.drop_session(actor, linger)
        if self._blocked:
            self._hear()

    def _sever_process(self, actor: Actor) -> None:
        """Take a carried process off the schedule with all of its tasks that stand at gates."""
        root = actor.root
        self._withdraw(root)
        root.state = CRASHED
        self._graveyard.extend(root.frames)
        root.frames = []
        carrier = actor.carrier
        assert carrier is not None
        for task in carrier.tasks(root):
            self._withdraw(task)
            task.state = CRASHED
        carrier.severed(root)

    def pause(self, actor: Actor, duration: Duration, *, part: Lifetime | None = None) -> None:
        """Leave an actor where it stands for a while: a process with all of its tasks, or only this part of it."""
        actor.part = part
        if part is not None:
            part.stands_until = None
        if actor.carrier is not None and actor.carrier.scheduled:
            actor = actor.root
            self.hold(actor)
        else:
            self._withdraw(actor)
        self._sleep_until(actor, self.now + duration)

    def hold(self, actor: Actor) -> None:
        """Take an actor out of the schedule until `unhold`; a carried process with all of its tasks."""
        actor = actor.root
        if not actor.alive:
            return
        self._withdraw(actor)
        actor.state = State.HELD
        if actor.carrier is not None:
            for task in actor.carrier.tasks(actor):
                self._withdraw(task)
                task.state = State.HELD
            actor.carrier.held(actor)

    def unhold(self, actor: Actor) -> None:
        """Put a held actor back."""
        if actor.state is not State.HELD:
            return
        if type(actor.request) is Elsewhere:
            self.perform(actor)
        elif type(actor.request) is Sleep:
            self._sleep_until(actor, max(self.now, actor.wake))
        else:
            self._place(actor)
            if self._blocked:
                self._hear()

    def rejoin(self, process: Actor) -> bool:
        """Put the tasks of a carried process that was held or paused back. True: one of them stands ready to act."""
        assert process.carrier is not None
        tasks = process.carrier.tasks(process)
        for task in tasks:
            self.unhold(task)
        return any(task.state is READY for task in tasks)

    def end(self, process: Actor) -> None:
        """Take a carried process that ended by itself off the schedule."""
        assert process.carrier is not None
        for task in process.carrier.tasks(process):
            self._withdraw(task)
            task.state = State.ENDED
        process.state = State.ENDED
        process.request = None
        self._graveyard.extend(process.frames)
        process.frames = []

    def cut_off(self, whose: str, duration: Duration) -> None:
        """Let an actor, or with `EVERYBODY` all of them, not reach the store for a while.

        A call that is made meanwhile is lost; one that is in the middle of its verb never comes
        back to it, and what it holds outside, a database session, is dropped.
        """
        self.outages[whose] = max(self.now + duration, self.outages.get(whose, 0))
        self._agenda.planned = False
        if whose == EVERYBODY:
            self.hooks.fail_over()
        amid = [actor for actor in self._everyone() if actor.call is not None and whose in (EVERYBODY, actor.name)]
        for actor in amid:
            self._withdraw(actor)
            self._graveyard.extend(actor.frames[1:])
            del actor.frames[1:]
            call, actor.call, actor.repeats = actor.call, None, 0
            self.hooks.drop_session(actor, 0)
            assert call is not None
            self._continue(actor, self.executor.cut(actor, call))
        if self._blocked:
            self._hear()

    def reconnect(self) -> None:
        """End every outage now: what polls may act at its next tick, and not where the outage would have ended."""
        self.outages.clear()
        self.hosts.clear()
        self._agenda.planned = False

    def _everyone(self) -> list[Actor]:
        """List all actors; of those that are carried, the tasks that stand at gates."""
        tasks = [task for actor in self.actors.values() if actor.carrier for task in actor.carrier.tasks(actor)]
        return [*(actor for actor in self.actors.values() if actor.carrier is None), *tasks]

    def _reaches_store(self, actor: Actor) -> bool:
        """Say whether a call of this actor arrives; forget outages that are over."""
        outages = self.outages
        for whose in [whose for whose, until in outages.items() if until <= self.now]:
            del outages[whose]
        return EVERYBODY not in outages and actor.name not in outages

    def summon(self, actor: Actor, *, heard: bool = True, happens: bool = True, times: int = 1) -> None:
        """Take an actor out of the schedule and do what it stands before, whatever the time; as `perform` does it."""
        self._withdraw(actor)
        self.perform(actor, heard=heard, happens=happens, times=times)
        self.come_to_rest()

    def sever(self, frame: Frame) -> None:
        """Keep a frame that never runs again until the frames of crashed actors are closed."""
        self._graveyard.append(frame)

    def bury(self) -> None:
        """Close the frames of all actors, after the verdict. What they raise is of no interest any more."""
        frames = [*self._graveyard, *(frame for actor in self.actors.values() for frame in actor.frames)]
        self._graveyard.clear()
        close_frames(frames)

    # steps ----------------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Let one actor act, or time move. False: no actor will ever act again unprompted."""
        if not self.ready:
            return self._advance()
        self.steps += 1
        if self.steps > self.step_limit:
            raise StepsSpent(f"still not idle after {self.step_limit} steps; next would be: {self.ready[0].label}")
        # The actor stays at the front while its gate is asked: a fault that strikes looks at who
        # is ready, and an order that puts another actor first leaves this one where it is. Only a
        # choice that goes on as usual takes it away.
        actor = self.ready[0]
        # What always goes on as usual is not asked, and the words of the question are not put together.
        choices = self.choices
        usual = type(choices) is Boring
        option = None if usual else choices.gate(f"{actor.name} {actor.request.point}", self.deviations.options)  # type: ignore[union-attr]
        if option is None:
            self.ready.popleft()
            self.perform(actor)
        else:
            self.deviations.carry_out(actor, option)
        # What a step woke on a loop happens at this very instant: left to the next step, it would
        # meet a clock that another actor has moved meanwhile.
        if self.carriers:
            self.come_to_rest()
        return True

    def come_to_rest(self) -> None:
        """Let everything happen on the carriers that is due by now."""
        for carrier in self.carriers:
            carrier.come_to_rest(self.now)

    def stand(self, actor: Actor, request: Request) -> None:
        """Put a carried actor, which came to a gate by itself, into the schedule: first come, first served."""
        actor.request = request
        self._place(actor)

    def leave(self, actor: Actor) -> None:
        """Take a carried actor away from its gate: it waits there no more, and a call that it stands before is void."""
        self._withdraw(actor)
        self._graveyard.extend(actor.frames)
        actor.frames = []
        actor.call = None
        actor.state = State.ENDED

    def waves_through(self, name: str, request: Request) -> bool:
        """Whether nothing can go wrong at any gate yet: then one at which nothing is called is counted, and passed."""
        if self.interferences:
            return False
        self.steps += 1
        self.choices.gate(f"{name} {request.point}", _no_options)
        return True

    def arrive(self, actor: Actor, request: Request) -> None:
        """Let a carried actor, which came to a gate by itself, do what it stands before; or deviate.

        Its turn is now: its carrier lets its tasks run in the order in which they wake, which is no
        choice.
        """
        self.steps += 1
        if self.steps > self.step_limit:
            raise StepsSpent(
                f"still not idle after {self.step_limit} steps; next would be: {actor.name} {request.point}"
            )
        actor.request = request
        actor.state = READY
        self.ready.appendleft(actor)
        option = self.choices.gate(f"{actor.name} {request.point}", self.deviations.options)
        if option is None:
            self.ready.popleft()
            self.perform(actor)
        else:
            self.deviations.carry_out(actor, option)

    def pass_by(self, actor: Actor, point: str) -> bool:
        """Let an actor come to a gate in the middle of its own step, where it cannot wait. True: it crashed there.

        The caller then lets nothing of it go on, and ends the step by raising CrashedMidway.
        """
        if not self.interferences:
            return False
        # For as long as the question takes, the actor is made to look as if it stood at a gate:
        # options, labels and faults know actors at gates only. It does not stand at one, since
        # its own code is on the stack and cannot be left there. So only what ends it may strike
        # (`midway`); a pause would take hold at its next wait in any case. The label is the one
        # that a user's test has at this place, so that the tape of a finding plays as a scenario.
        stood, actor.request, state, actor.state = actor.request, Point(point), actor.state, READY
        self.ready.appendleft(actor)
        option = self.choices.gate(actor.label, self.deviations.midway)
        if option is not None:
            self.deviations.carry_out(actor, option)
            return True
        self.ready.popleft()
        actor.request, actor.state = stood, state
        return False

    def perform(self, actor: Actor, *, heard: bool = True, happens: bool = True, times: int = 1) -> None:
        """Do what the actor stands before, up to its next gate. It must not be in the ready queue.

        Without `happens` a call never arrives; without `heard` its reply is lost; `times` delivers
        it more than once.
        """
        request = actor.request
        self._agenda.planned = False
        if type(request) is not VerbCall:
            if isinstance(request, Exchange):
                request.happens, request.heard = happens, heard
            self._continue(actor, None)
        else:
            self.calls += 1
            actor.call = request
            actor.heard = heard
            actor.repeats = times
            if happens and (not self.outages or self._reaches_store(actor)):
                self._deliver(actor, request)
            else:
                actor.call = None
                self._continue(actor, self.executor.lost(actor, request))
        if self._blocked:
            self._hear()

    def _deliver(self, actor: Actor, request: VerbCall) -> None:
        executor = self.executor
        reply: Any = None
        while actor.repeats:
            actor.repeats -= 1
            try:
                result = executor.begin(actor, request)
            except (EnvironmentUnavailable, LimitReached, Misdescribed):
                raise
            except Exception as error:  # noqa: BLE001 - whatever a queue raises is an observation
                reply = executor.raised(actor, request, error)
                continue
            if hasattr(result, "send"):
                actor.frames.append(result)
                self._continue(actor, None)
                return
            reply = executor.end(actor, request, result)
        actor.call = None
        self._continue(actor, reply)

    def _continue(self, actor: Actor, reply: Any) -> None:
        frames = actor.frames
        while True:
            try:
                actor.request = frames[-1].send(reply)
                if actor.call is not None:
                    self.hooks.note_gate(actor, actor.call)
                break
            except StopIteration as stop:
                frames.pop()
                if actor.call is None:
                    actor.request = None
                    actor.state = State.ENDED
                    return
                reply = self.executor.end(actor, actor.call, stop.value)
            except (EnvironmentUnavailable, LimitReached, Misdescribed):
                raise
            except CrashedMidway:
                return  # It crashed in the middle of this step: `crash` has put its frames away.
            except Exception as error:
                if actor.call is None:
                    raise
                frames.pop()
                reply = self.executor.raised(actor, actor.call, error)
            if actor.repeats:
                self._deliver(actor, actor.call)
                return
            actor.call = None
        kind = type(actor.request)
        if kind is VerbCall or kind is Point:  # as `_place` does it: most steps end here
            self._agenda.planned = False
            actor.state = READY
            self.ready.append(actor)
        else:
            self._place(actor)

    def _place(self, actor: Actor) -> None:
        self._agenda.planned = False
        request = actor.request
        kind = type(request)
        if kind is VerbCall:
            actor.state = READY
            self.ready.append(actor)
        elif kind is Sleep:
            self._sleep_until(actor, self.now + request.duration)  # type: ignore[union-attr]
        elif kind is Poll:
            actor.state = POLLING
            self._agenda.polling[actor] = None
        elif kind is Wait:
            actor.state = State.BLOCKED
            self._blocked[actor] = None
        elif kind is Elsewhere:
            actor.state = State.WORKING
        else:
            actor.state = READY
            self.ready.append(actor)

    def _hear(self) -> None:
        """Let those go on whose answers came, in the order in which they began to wait."""
        waiting = list(self._blocked)
        first: Any = waiting[0].request
        for pick in first.outside.come_to_rest():
            self._picks[pick.label] = nth = self._picks.get(pick.label, 0) + 1
            surprise = note_pick(self.choices, pick, nth)
            if surprise:
                self.surprises.append(surprise)
        for actor in waiting:
            request: Any = actor.request
            if request.answered():
                del self._blocked[actor]
                actor.state = READY
                self.ready.append(actor)

    def _sleep_until(self, actor: Actor, wake: Instant) -> None:
        actor.state = SLEEPING
        actor.wake = wake
        self._agenda.sleep(actor, wake)

    def _withdraw(self, actor: Actor) -> None:
        self._agenda.planned = False
        if actor.state is READY:
            self.ready.remove(actor)
        elif actor.state is POLLING:
            del self._agenda.polling[actor]
        elif actor.state is State.BLOCKED:
            del self._blocked[actor]
        elif actor.state is SLEEPING:
            self._agenda.wake(actor)

    @property
    def sleeping(self) -> list[Sleeper]:
        """Who sleeps until when; a search keeps it, and hands it back to `reschedule`."""
        return self._agenda.sleeping

    def reschedule(self, ready: Sequence[Actor], sleeping: Sequence[Sleeper]) -> None:
        """Take over a schedule that stood before. The actors' own states say who polls."""
        self.ready = deque(ready)
        self._agenda.restore(sleeping, (actor for actor in self.actors.values() if actor.state is POLLING))

    def unburied(self) -> list[Frame]:
        """Hand over the frames of crashed actors, for the caller to close."""
        frames, self._graveyard = self._graveyard, []
        return frames

    # time -----------------------------------------------------------------------------------------------------------

    def next_wake(self) -> Instant | None:
        """Say when an actor next acts unprompted: a sleeper wakes, or a poll's tick finds something due."""
        agenda = self._agenda
        wake = agenda.wake_at if agenda.planned else agenda.next(self.now)
        if not self.carriers:
            return wake
        for carrier in self.carriers:
            own = carrier.next_wake()
            if own is not None and (wake is None or own < wake):
                wake = own
        return wake

    def wake_beside(self, carrier: Carrier) -> Instant | None:
        """Say when an actor next acts unprompted that this carrier does not carry."""
        wake = self._agenda.next(self.now)
        for other in self.carriers:
            own = None if other is carrier else other.next_wake()
            if own is not None and (wake is None or own < wake):
                wake = own
        return wake

    def _advance(self, limit: Instant | None = None) -> bool:
        target = self.next_wake()
        if target is None or (limit is not None and target > limit):
            return False
        choices = self.choices
        option = None if type(choices) is Boring else choices.gate("time", self.deviations.options)
        if option is None:
            self.move_to(target)
        else:
            self.steps += 1
            self.deviations.carry_out(None, option)
        return True

    def run_until(self, target: Instant) -> None:
        """Let everything happen that is due until then, in the order of time, and end at that instant."""
        while self.ready or self._advance(target):
            if self.ready:
                self.step()
        if self.now < target:
            self.move_to(target)

    def move_to(self, target: Instant) -> None:
        """Move time; everybody whose time has come becomes ready, in the order of their times."""
        due = self._agenda.take_due(self.now, target)
        self.now = max(self.now, target)
        for actor in due:
            actor.state = READY
            self.ready.append(actor)
        self.hooks.set_clocks(self.now)
        if self.carriers:
            self.come_to_rest()


def _no_options() -> Sequence[Option]:
    return ()


def close_frames(frames: Sequence[Frame]) -> None:
    """Close frames that nothing resumes any more, the innermost first; whatever they raise is of no interest."""
    for frame in reversed(frames):
        try:
            frame.close()
        except BaseException:  # noqa: BLE001 - a severed actor may do anything in its `finally`
            continue


def reborn(actor: Actor, delay: Duration) -> tuple[list[Frame], Request]:
    """Return the frames of an actor that just came back after a crash, and what it stands before."""
    frame = _reborn(delay, actor.factory)
    return [frame], next(frame)


def _reborn(delay: Duration, factory: Callable[[], Frame]) -> Frame:
    yield Sleep(delay, "restarting")
    frame = factory()
    yield from frame if isinstance(frame, Generator) else frame.__await__()


EVERYBODY: Final = "*"
"""In the place of an actor's name: all of them."""
Sleeper: TypeAlias = tuple[Instant, int, Actor]
"""When it wakes, its ticket in the order of falling asleep, and which actor it is."""


class HostTroubles:
    """How hosts outside treat all their callers, and until when."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[HostState, Instant]] = {}

    def begin(self, host: str, state: HostState, *, until: Instant) -> None:
        """Let a host treat its callers so until then."""
        self._of[host] = state, until

    def at(self, now: Instant, host: str) -> tuple[HostState | None, Instant]:
        """Say how a host treats its callers now, and until when; None: as always."""
        state, until = self._of.get(host, (None, 0))
        return (state, until) if until > now else (None, 0)

    def clear(self) -> None:
        """End all troubles now."""
        self._of.clear()


class Agenda:
    """Plans the next wake-up once for each change; an idle poll costs nothing until something is due."""

    __slots__ = ("_outages", "_tickets", "_ticks", "planned", "polling", "sleeping", "wake_at")

    def __init__(self, outages: Mapping[str, Instant]) -> None:
        self._outages = outages
        """Until when actors cannot reach the store: what they poll for they see afterwards."""
        self.sleeping: list[Sleeper] = []
        """A heap; a search keeps it and hands it back to `restore`."""
        self.polling: dict[Actor, None] = {}
        """In the order in which they came; of a carried process several may."""
        self._tickets = 0
        self.planned = False
        """Whether `wake_at` and `_ticks` still tell who wakes next; what polls depend on may have changed.

        The kernel sets it at every step, by itself: a method for it was called twice a step.
        """
        self.wake_at: Instant | None = None
        self._ticks: list[tuple[Instant, Actor]] = []

    def sleep(self, actor: Actor, wake: Instant) -> None:
        """Let an actor sleep until an instant."""
        self.planned = False
        self._tickets += 1
        heapq.heappush(self.sleeping, (wake, self._tickets, actor))

    def wake(self, actor: Actor) -> None:
        """Take a sleeper off, whatever its time."""
        self.planned = False
        self.sleeping = [entry for entry in self.sleeping if entry[2] is not actor]
        heapq.heapify(self.sleeping)

    def restore(self, sleeping: Sequence[Sleeper], polling: Iterable[Actor]) -> None:
        """Take over an agenda that stood before."""
        self.sleeping = list(sleeping)
        self._tickets = max([ticket for _, ticket, _ in self.sleeping], default=0)
        self.polling = dict.fromkeys(polling)
        self.planned = False

    def next(self, now: Instant) -> Instant | None:
        """Say when an actor next acts unprompted: a sleeper wakes, or a poll's tick finds something due."""
        if self.planned:
            return self.wake_at
        wake = self.sleeping[0][0] if self.sleeping else None
        self._ticks = ticks = []
        outages = self._outages
        asked: Callable[[], Instant | None] | None = None
        answer: Instant | None = None
        for actor in self.polling:
            request: Any = actor.request
            if request.due != asked:  # workers of one queue poll for the same: they are asked for once
                asked = request.due
                answer = asked()
            due = answer
            if due is None:
                continue
            if outages:
                due = max(due, outages.get(EVERYBODY, 0), outages.get(actor.root.name, 0))
            after = due if due > now else now
            if after <= actor.last_tick:
                after = actor.last_tick + 1
            tick = after + (request.origin - after) % request.interval
            ticks.append((tick, actor))
            if wake is None or tick < wake:
                wake = tick
        self.wake_at = wake
        self.planned = True
        return wake

    def take_due(self, now: Instant, target: Instant) -> list[Actor]:
        """Take off everybody whose time comes until an instant, in the order of their times."""
        due: list[Sleeper] = []
        if not self.planned:
            self.next(now)
        self.planned = False
        for tick, actor in self._ticks:
            if tick <= target:
                due.append((tick, actor.order, actor))
                actor.last_tick = tick
                del self.polling[actor]
        while self.sleeping and self.sleeping[0][0] <= target:
            wake, ticket, actor = heapq.heappop(self.sleeping)
            due.append((wake, -1_000_000_000 + ticket, actor))
        if len(due) > 1:
            due.sort(key=_by_time)
        return [actor for _, _, actor in due]


def _by_time(entry: Sleeper) -> tuple[Instant, int]:
    return entry[:2]
