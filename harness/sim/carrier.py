"""Carries processes on a virtual loop: coroutines and threads come to the kernel's gates, and their time is one.

The order in which a loop wakes what is ready is no choice. A task that comes to a gate has its turn at once: the kernel
lets it pass, or deviates. Either the kernel drives the loop (a `Session` with other actors beside it), or the loop
drives the kernel (a user's test, which runs inside). Knows neither queue nor processor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from harness.model.duration import SECOND, Instant
from harness.sim.actor import Actor, State
from harness.sim.kernel import Kernel
from harness.sim.lifetime import Lifetime
from harness.sim.loop import VirtualLoop
from harness.sim.request import Elsewhere, Frame, Request

_AT_WORK = Elsewhere()


class LoopCarrier:
    """The processes of one loop."""

    def __init__(self, kernel: Kernel, loop: VirtualLoop, *, loop_drives: bool = False) -> None:
        """Join a kernel and a loop; `loop_drives` where a test runs the loop, and the kernel acts when that is idle."""
        self.kernel = kernel
        self.loop = loop
        if loop_drives:
            loop.attendant = self
        else:
            kernel.carriers.append(self)
        self._processes: dict[str, CarriedProcess] = {}

    def process(
        self, name: str, begin: Callable[[Lifetime], None], *, on_severed: Callable[[], None] = lambda: None
    ) -> CarriedProcess:
        """Start a process: `begin` makes its tasks, in the lifetime that it is given. Told when it was severed."""
        process = self._processes[name] = CarriedProcess(self, name, begin, on_severed)
        process.actor = self.kernel.spawn(name, process.activation, process=True)
        process.actor.carrier = self
        return process

    def severed(self, actor: Actor) -> None:
        """Let nothing of a process ever go on."""
        process = self._processes[actor.name]
        self.loop.sever(process.life)
        process.on_severed()

    # where the kernel drives ----------------------------------------------------------------------------------------

    def next_wake(self) -> Instant | None:
        """Tell when the loop's next timer is due."""
        timer = self.loop.next_timer()
        return None if timer is None else round(timer * SECOND)

    def settle(self, now: Instant) -> None:
        """Let everything happen on the loop that is due by `now`. Does nothing where the loop itself is asking."""
        if not self.loop.is_running():
            self.loop.advance(max(0.0, now / SECOND - self.loop.time()))

    # where the loop drives ------------------------------------------------------------------------------------------

    def act(self) -> bool:
        """Let one actor act that stands at a gate. False: nobody does."""
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
        self.actor: Actor
        self._carrier = carrier
        self._begin = begin

    def activation(self) -> Frame:
        """Start it: what the kernel calls, again after a crash."""
        if self.life.over:
            self.life = Lifetime(self.name)
        self._begin(self.life)
        yield _AT_WORK

    async def gate(self, request: Request) -> Any:
        """Come to a gate, and go on with its reply once the kernel says so; never, where the process dies there."""
        task = _Task(self)
        self._carrier.kernel.arrive(task, request)
        if task.answered and not self.life.over:
            return task.reply
        task.answer = self._carrier.loop.create_future()
        if task.state is State.SLEEPING:
            self._stall(task)
        return await task.answer

    def pass_by(self, request: Request) -> None:
        """Come to a gate where nothing can be awaited: a crash or a pause takes effect at the next await."""
        task = _Task(self)
        self._carrier.kernel.arrive(task, request)
        if not task.answered and not self.life.over:
            self._stall(task)

    def guard(self, request: Request, callback: Callable[..., object]) -> Callable[..., object]:
        """Wrap a callback of the loop, by which something outside answers this process, in a gate."""

        def answered(*arguments: Any) -> None:
            task = _Task(self)
            task.then = lambda: callback(*arguments)
            self._carrier.kernel.arrive(task, request)
            if not task.answered and task.state is State.SLEEPING and not self.life.over:
                self._stall(task)

        return answered

    def _stall(self, task: _Task) -> None:
        """Let nothing of the process go on until the kernel wakes the task at this gate."""
        task.stalls = True
        self._carrier.loop.pause(self.life)

    def go_on(self) -> None:
        """End a stall."""
        self._carrier.loop.resume(self.life)


class _Task(Actor):
    """What stands at one gate of a carried process. To the kernel it is an actor whose next gate is not known yet."""

    __slots__ = ("answer", "answered", "process_", "reply", "stalls", "then")

    def __init__(self, process: CarriedProcess) -> None:
        root = process.actor
        super().__init__(root.name, root.factory, root.order, process=True)
        self.root = root
        self.carrier = root.carrier
        self.frames = [_Standing(self)]  # type: ignore[list-item]  # it has what the kernel asks of a frame
        self.process_ = process
        self.answered = False
        self.reply: Any = None
        self.answer: asyncio.Future[Any] | None = None
        self.then: Callable[[], object] | None = None
        """What happens on the loop once the gate is passed."""
        self.stalls = False

    def pass_on(self, reply: Any) -> None:
        """Let go on what stands here."""
        self.answered, self.reply = True, reply
        if self.stalls:
            self.stalls = False
            self.process_.go_on()
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(reply)
        if self.then is not None:
            self.then()


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
