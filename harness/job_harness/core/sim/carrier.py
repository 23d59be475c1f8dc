"""Carries processes on a virtual loop: coroutines and threads come to the kernel's gates, and their time is one.

The order in which a loop wakes what is ready is no choice. Either the kernel drives the loop (a
`Session` with other actors beside it): then a task that comes to a gate stands in the kernel's
schedule like any other actor, and acts when its turn comes. Or the loop drives the kernel (a user's
test, which runs inside): then a task has its turn as it comes. Knows neither queue nor processor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from job_harness.core.model import SECOND, Duration, Instant
from job_harness.core.sim.actor import Actor, State
from job_harness.core.sim.kernel import Kernel
from job_harness.core.sim.lifetime import Lifetime
from job_harness.core.sim.loop import RESOLUTION_SECONDS, VirtualLoop
from job_harness.core.sim.request import Elsewhere, Frame, Point, Request, VerbCall

_AT_WORK = Elsewhere()
_GOING_ON = Point("going on")


class LoopCarrier:
    """The processes of one loop."""

    def __init__(self, kernel: Kernel, loop: VirtualLoop, *, loop_drives: bool = False) -> None:
        """Join a kernel and a loop; `loop_drives` where a test runs the loop, and the kernel acts when that is idle."""
        self.kernel = kernel
        self.loop = loop
        self.scheduled = not loop_drives
        if loop_drives:
            loop.attendant = self
        else:
            kernel.carriers.append(self)
        self._processes: dict[str, CarriedProcess] = {}
        self._afterwards: list[Callable[[], object]] = []
        self._error: Exception | None = None

    def process(
        self, name: str, begin: Callable[[Lifetime], None], *, on_severed: Callable[[], None] = lambda: None
    ) -> CarriedProcess:
        """Start a process: `begin` makes its tasks, in the lifetime that it is given. Told when it was severed."""
        process = self.planned(name, begin, on_severed=on_severed)
        process.start()
        return process

    def planned(
        self, name: str, begin: Callable[[Lifetime], None], *, on_severed: Callable[[], None] = lambda: None
    ) -> CarriedProcess:
        """Return a process that is not started yet."""
        process = self._processes[name] = CarriedProcess(self, name, begin, on_severed)
        return process

    def severed(self, actor: Actor) -> None:
        """Let nothing of a process ever go on."""
        process = self._processes[actor.name]
        process.standing.clear()
        self.loop.lives.sever(process.life)
        process.on_severed()

    def tasks(self, actor: Actor) -> list[Actor]:
        """List the tasks of a process that stand at gates, in the order in which they came."""
        return list(self._processes[actor.name].standing)

    def held(self, actor: Actor) -> None:
        """Let nothing of a process go on until `let_go`."""
        self.loop.lives.pause(self._processes[actor.name].life)

    def let_go(self, actor: Actor) -> None:
        """Let a held process go on."""
        self.loop.lives.resume(self._processes[actor.name].life)

    def close(self) -> None:
        """Sever every process and close the loop, after the verdict."""
        for process in self._processes.values():
            self.loop.lives.sever(process.life)
        self.loop.close()

    # where the kernel drives ----------------------------------------------------------------------------------------

    def next_wake(self) -> Instant | None:
        """Tell when the loop's next timer is due: at an instant at which the loop will let it fire."""
        timer = self.loop.next_timer()
        if timer is None:
            return None
        due = round(timer * SECOND)
        return due if timer < due / SECOND + RESOLUTION_SECONDS else due + 1

    def come_to_rest(self, now: Instant) -> None:
        """Let everything happen on the loop that is due by `now`. Does nothing where the loop itself is asking.

        The clock moves first: where everybody is late, nothing happens at an instant that is over.
        Raises what a process died of and did not catch.
        """
        loop = self.loop
        if loop.is_running():
            return
        loop.jump(max(0.0, now / SECOND - loop.time()))
        while not loop.quiet():
            loop.reach_timer()
            loop.advance(0.0)
            self._do_afterwards()

    def _do_afterwards(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        while self._afterwards:
            self._afterwards.pop(0)()

    def afterwards(self, action: Callable[[], object]) -> None:
        """Do something that may not be done inside a running loop, as soon as this one rests."""
        self._afterwards.append(action)

    def broken(self, error: Exception) -> None:
        """Let the run end with what a process raised: no process of ours should."""
        self._error = error

    # where the loop drives ------------------------------------------------------------------------------------------

    def act(self) -> bool:
        """Let one actor act that stands at a gate. False: no actor does."""
        return bool(self.kernel.ready) and self.kernel.step()

    def next_due(self) -> float | None:
        """Tell, in the loop's seconds, when an actor of the kernel wakes."""
        wake = self.kernel.next_wake()
        return None if wake is None else wake / SECOND


class CarriedProcess:
    """One process on the loop, from its start to its crash; a new activation has a new lifetime."""

    def __init__(
        self, carrier: LoopCarrier, name: str, begin: Callable[[Lifetime], None], on_severed: Callable[[], None]
    ) -> None:
        self.name = name
        self.life = Lifetime(name)
        self.on_severed = on_severed
        self.standing: dict[_Task, None] = {}
        """What stands at gates, in the order in which it came."""
        self._passing: _Task | None = None
        self._carrier = carrier
        self._begin = begin

    @property
    def actor(self) -> Actor:
        """What the kernel knows of it."""
        return self._carrier.kernel.actors[self.name]

    def start(self) -> None:
        """Start it, under the name that it has."""
        self._carrier.kernel.spawn(self.name, self, process=True, carrier=self._carrier)

    def __call__(self) -> Frame:
        """Start it: what the kernel calls, again after a crash. It is stepped further only when a pause is over.

        Then a task that was about to send something sends it, and only after that the process
        learns how late it is.
        """
        if self.life.over:
            self.life = Lifetime(self.name)
        self._begin(self.life)
        while True:
            yield _AT_WORK
            while self._carrier.kernel.rejoin(self.actor):  # it may be paused once more before it goes on
                yield _GOING_ON
            self._carrier.let_go(self.actor)

    async def gate(self, request: Request, *, meanwhile: Callable[[], Any] | None = None) -> Any:
        """Come to a gate, and go on with its reply once the kernel says so; never, where the process dies there.

        Where the kernel drives, `meanwhile` is called outside the loop as the gate is passed; its
        result is the reply.
        """
        kernel = self._carrier.kernel
        if not self._carrier.scheduled and not kernel.interferences:
            if type(request) is not VerbCall:
                kernel.waves_through(self.name, request)
                return None
            task = self._undisturbed(meanwhile)
        else:
            task = _Task(self, meanwhile)
        passage = task.passage
        if self._carrier.scheduled:
            kernel.stand(task, request)
        else:
            kernel.arrive(task, request)
            if passage.passed and not self.life.over:
                return passage.reply
            if task.state is State.SLEEPING:
                self._stall(task)
        passage.waiter = self._carrier.loop.create_future()
        try:
            return await passage.waiter
        except asyncio.CancelledError:
            self.standing.pop(task, None)
            if not passage.passed:
                kernel.leave(task)
            raise

    def _undisturbed(self, meanwhile: Callable[[], Any] | None) -> _Task:
        """Return a task for a gate where nothing can go wrong: the one that was there before, once it has passed."""
        task = self._passing
        if task is None or not task.passage.passed or task.root is not self.actor:
            task = self._passing = _Task(self, meanwhile)
        else:
            task.passage = _Passage(meanwhile)
            self.standing[task] = None
        return task

    async def die(self, *, back_after: Duration) -> NoReturn:
        """Crash here and now; a new activation begins `back_after` later."""
        kernel = self._carrier.kernel
        kernel.crash(self.actor)
        kernel.start_later(self.actor, back_after)
        await asyncio.Future()
        raise AssertionError("a dead process went on")

    def end(self) -> None:
        """End in good order, from inside: whatever it still had running ends with it."""
        self._carrier.kernel.end(self.actor)
        self.standing.clear()
        self._carrier.loop.lives.sever(self.life)

    def pass_by(self, request: Request) -> None:
        """Come to a gate where nothing can be awaited: a crash or a pause takes effect at the next await."""
        if self._carrier.kernel.waves_through(self.name, request):
            return
        task = _Task(self)
        self._carrier.kernel.arrive(task, request)
        if not task.passage.passed and not self.life.over:
            self._stall(task)

    def guard(self, request: Request, callback: Callable[..., object]) -> Callable[..., object]:
        """Wrap a callback of the loop, by which something outside answers this process, in a gate."""

        def answered(*arguments: Any) -> None:
            task = _Task(self, lambda: callback(*arguments))
            self._carrier.kernel.arrive(task, request)
            if not task.passage.passed and task.state is State.SLEEPING and not self.life.over:
                self._stall(task)

        return answered

    def _stall(self, task: _Task) -> None:
        """Let nothing of the process go on, or only of the part that stands still, until the kernel wakes the task."""
        task.stalls = task.part or self.life
        self._carrier.loop.lives.pause(task.stalls)

    def go_on(self, stalled: Lifetime) -> None:
        """End a stall."""
        self._carrier.loop.lives.resume(stalled)


class _Passage:
    """How the code at a gate goes on once that is passed."""

    __slots__ = ("meanwhile", "passed", "reply", "waiter")

    def __init__(self, meanwhile: Callable[[], Any] | None) -> None:
        self.meanwhile = meanwhile
        """What happens as the gate is passed; its result is the reply."""
        self.passed = False
        self.reply: Any = None
        self.waiter: asyncio.Future[Any] | None = None

    def go_on(self, reply: Any) -> None:
        """Give the reply to the code that waits."""
        self.reply = reply if self.meanwhile is None else self.meanwhile()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(self.reply)


class _Task(Actor):
    """What stands at one gate of a carried process. To the kernel it is an actor whose next gate is not known yet."""

    __slots__ = ("passage", "process_", "stalls")

    def __init__(self, process: CarriedProcess, meanwhile: Callable[[], Any] | None = None) -> None:
        root = process.actor
        super().__init__(root.name, root.factory, root.order, process=True)
        self.root = root
        self.carrier = root.carrier
        self.frames = [_Standing(self)]  # type: ignore[list-item]  # it has what the kernel asks of a frame
        self.process_ = process
        self.passage = _Passage(meanwhile)
        self.stalls: Lifetime | None = None
        """What stands still until the gate is passed."""
        self.last_tick = root.last_tick
        process.standing[self] = None

    def pass_on(self, reply: Any) -> None:
        """Let go on what stands here."""
        self.passage.passed = True
        self.process_.standing.pop(self, None)
        self.root.last_tick = max(self.root.last_tick, self.last_tick)
        if self.stalls is not None:
            stalled, self.stalls, self.part = self.stalls, None, None
            self.process_.go_on(stalled)
        self.passage.go_on(reply)


class _Standing:
    """The frame of a task at its gate."""

    __slots__ = ("_task",)

    def __init__(self, task: _Task) -> None:
        self._task = task

    def send(self, reply: Any) -> Request:
        """Hand over the gate's reply."""
        self._task.pass_on(reply)
        return _AT_WORK

    def close(self) -> None:
        """There is nothing to close: its coroutine belongs to the loop."""
