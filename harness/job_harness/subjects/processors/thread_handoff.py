"""Plain processors on threads that are handed control one at a time: while one works, the loop waits for it.

`time.sleep`, and every wait that `sim.guest_threads` knows, gives control back and costs virtual time.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import sys
import threading
import weakref
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from job_harness.core.sim.guest_threads import (
    LOCK_SECONDS,
    LOCK_TIMEOUTS,
    TURN_SECONDS,
    ThreadsEnd,
    Waiter,
    sleep_of,
    waits_for_lock,
)
from job_harness.core.sim.lifetime import LIFETIME, Lifetime, Severed
from job_harness.core.sim.loop import VirtualLoop, place_of
from job_harness.core.sim.watchdog import (
    BUSY_SECONDS,
    ControlTaken,
    Repeats,
    TimeSpent,
    raise_in,
    real_seconds,
    take_what_was_raised,
)
from job_harness.errors import Hung

if TYPE_CHECKING:
    from job_harness.subjects.processors.tests_thread import TestsThread

BLOCKED_AFTER_SECONDS = BUSY_SECONDS
"""Real seconds after which a plain processor counts as hanging, and virtual time goes on without it."""
AGAIN_SECONDS = 1.0
"""The same, at an instruction at which one has hung before."""
ENDING_SECONDS = 0.2
"""Real seconds in which the threads that are left have to end, while they wait for something else."""
FIRST_PATIENCE_SECONDS = 0.02


class ThreadHandoff:
    """Hands control from the loop to one thread and waits until it comes back."""

    def __init__(
        self,
        loop: VirtualLoop,
        *,
        blocked_after: float = BLOCKED_AFTER_SECONDS,
        surroundings: TestsThread | None = None,
    ) -> None:
        """Lend each thread what its processor would find of `surroundings`, the thread of the test."""
        self._loop = loop
        self._surroundings = surroundings
        self._blocked_after = blocked_after
        self._turns: dict[int, _Turn] = {}
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """Those of the turns, and those whose turn is over and that have not ended yet."""
        self._if_hangs: dict[_Turn, Callable[[], None]] = {}
        """What is called should a thread count as hanging."""
        self._holder: int | None = None
        self._closed = False
        self._hung_at: set[tuple[CodeType, int]] = set()
        self.blocked: list[str] = []
        """Which threads gave no sign of life in time, and where each was."""

    def __call__(self, function: Callable[[], Any], *, name: str) -> asyncio.Future[Any]:
        """Run the function on a thread of its own. It never raises; the future may be cancelled meanwhile."""
        turn = _Turn(self, self._loop.create_future(), name)
        life, guests = LIFETIME.get(), self._loop.guests

        def run() -> None:
            me = threading.get_ident()
            self._turns[me] = turn
            if guests is not None:
                guests.control(me, turn)
            if life is not None:
                life.employ(me)
            turn.go.wait()
            try:
                with contextlib.nullcontext() if self._surroundings is None else self._surroundings.lend():
                    answer = function()
            except (Severed, ControlTaken):
                with turn.lock:  # Who reads the clock of this thread holds it, and the thread is there until then.
                    turn.dead = True
            finally:
                self._turns.pop(me, None)
                self._if_hangs.pop(turn, None)
                if guests is not None:
                    guests.control(me, None)
                if life is not None:
                    life.employ(me, ends=True)
            if turn.dead:
                turn.stopped.set()  # The loop need not wait for a sign of life.
                return
            with turn.lock:
                turn.answer, turn.ended = answer, True
                late = turn.blocked or turn.adrift or not self.holds()
            turn.stopped.set()
            if late:
                with contextlib.suppress(RuntimeError):  # The loop was closed in between.
                    self._loop.call_soon_threadsafe(turn.deliver)

        thread = turn.thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.add(thread)
        thread.start()
        self._give(turn)
        return turn.future

    def holds(self) -> bool:
        """Whether the calling thread has control: the loop waits for it."""
        return self._holder == threading.get_ident()

    def if_it_hangs(self, call: Callable[[], None]) -> None:
        """Let the loop call this should the calling thread count as hanging."""
        if (turn := self._turns.get(threading.get_ident())) is not None:
            self._if_hangs[turn] = call

    def hanging(self) -> list[str]:
        """Say where the threads are that gave no sign of life."""
        frames = sys._current_frames()
        found = [frames[ident] for ident, turn in self._turns.items() if turn.blocked and ident in frames]
        return [f"{frame.f_code.co_name} at {frame.f_code.co_filename}:{frame.f_lineno}" for frame in found]

    def close(self) -> list[str]:
        """End the threads that sleep, and interrupt those that compute; name what cannot be ended, such as a real wait.

        Such a thread does not keep the process from ending.
        """
        self._closed = True
        for turn in list(self._turns.values()):
            turn.go.set()
        left: list[str] = []
        raised = False
        ending = ThreadsEnd(ENDING_SECONDS, look_seconds=FIRST_PATIENCE_SECONDS)
        for thread in list(self._threads):
            if thread is threading.current_thread():
                continue
            while ending.waits_for(thread):
                if thread.ident in self._turns:
                    raise_in(thread.ident)
                    raised = True
            if thread.is_alive():
                place = place_of(sys._current_frames().get(thread.ident or 0))
                left.append(f"the thread {thread.name!r} cannot be ended: {place}")
        if raised:
            take_what_was_raised()  # What a thread that has ended or never runs again did not catch.
        return left

    def _give(self, turn: _Turn) -> None:
        if self._closed:
            return
        before, self._holder = self._holder, turn.ident
        turn.stopped.clear()
        watched = self._loop.bounds.watched
        watched.waits += 1  # The thread has the bound of this class, and the loop waits for it.
        turn.go.set()
        back = self._comes_back(turn)
        watched.waits -= 1
        self._holder = before
        if back:
            self._back(turn)

    def _comes_back(self, turn: _Turn) -> bool:
        """Wait for it. False: it keeps control, or waits for a lock that another thread has; the loop goes on."""
        # The loop is blocked here, so it must not wait for a thread that waits for it. A thread
        # that slept at one instruction from one look to the next, and whose instruction asks for
        # a lock, while no guest is at work, may be waiting for one that another processor holds
        # across a virtual wait: only if time moves will that one let go. It is set adrift, and
        # said to be. Everything else is a
        # computation or a real wait and has the whole bound, of what it or a child process computes
        # where one does, for a busy machine keeps both waiting; but where the same instruction has
        # hung before, a second is enough, or each retry of a job would cost the full bound again
        # and the report would name one line three times.
        left, place, spent = self._blocked_after, None, LOCK_SECONDS
        slept: object = None
        time: TimeSpent | None = None
        again = left - AGAIN_SECONDS
        while left > 0:
            if turn.stopped.wait(min(LOCK_SECONDS, left)):
                return True
            with turn.lock:
                if turn.ended or turn.dead:  # It is about to say so, and a thread that is gone has no clock.
                    spent = LOCK_SECONDS
                elif time is None:
                    time = TimeSpent(turn.ident)
                    time.look(real_seconds())
                else:
                    spent = time.look(real_seconds())
            left -= spent
            frame = sys._current_frames().get(turn.ident)
            here = None if frame is None else (id(frame), frame.f_lasti)
            sleeps = sleep_of(turn.thread.native_id) if turn.thread is not None else ""
            if frame is not None and here == place:
                if sleeps == slept and waits_for_lock(frame) and self._sets_adrift(turn):
                    return False
                if left < again and (frame.f_code, frame.f_lasti) in self._hung_at:
                    break
            place, slept = here, sleeps
        with turn.lock:
            if turn.ended or turn.stopped.is_set():
                return True
            turn.blocked = True
        self._hangs(turn, sys._current_frames().get(turn.ident))
        return False

    def _hangs(self, turn: _Turn, frame: FrameType | None) -> None:
        if frame is not None:
            self._hung_at.add((frame.f_code, frame.f_lasti))
        self.blocked.append(
            f"{turn.name} has kept control for {self._blocked_after:g} s of real time, at {place_of(frame)}"
            f"{_own_loop(frame)}"
        )
        self._if_hangs.get(turn, _nothing)()

    def _sets_adrift(self, turn: _Turn) -> bool:
        """Let the loop go on without a thread that waits for a lock, until it comes back by itself."""
        guests = self._loop.guests
        if guests is not None and guests.at_work():
            return False
        with turn.lock:
            if turn.ended or turn.stopped.is_set():
                return False
            turn.adrift = True
        if guests is not None:
            guests.adrift[turn] = None if turn.thread is None else turn.thread.native_id
        self._loop.hooks.note_doubt(
            f"{turn.name} waits for a lock at {self._place(turn)}, and time moved on{LOCK_TIMEOUTS}"
        )
        return True

    def _back(self, turn: _Turn) -> None:
        if (guests := self._loop.guests) is not None:
            guests.stirred = True
            guests.adrift.pop(turn, None)
        if turn.dead:
            return
        if turn.ended:
            turn.deliver()
        elif self._loop.bounds.too_many_rounds(*turn.round(self._loop.time())):
            self._loop.break_with(self._spins(turn))
        elif turn.waiter is None or not turn.waiter.locked():
            self._loop.call_soon(self._resume, turn, turn.number)
        elif turn.seconds is not None:
            turn.timer = self._loop.call_later(turn.seconds, turn.wakes, turn, turn.number)

    def _resume(self, turn: _Turn, number: int) -> None:
        if turn.life is not None and turn.life.still and not turn.life.over:
            turn.life.park(asyncio.Handle(self._resume, (turn, number), self._loop, context=turn.context))
            return
        if turn.number != number or turn.ended:
            return
        if (guests := self._loop.guests) is not None and guests.work_beside(None):
            self._loop.call_later(TURN_SECONDS, self._resume, turn, number, context=turn.context)
            return
        turn.number += 1
        if turn.timer is not None:
            turn.timer.cancel()
            turn.timer = None
        self._give(turn)

    def _spins(self, turn: _Turn) -> Hung:
        return Hung(
            f"{turn.name} looped {turn.repeats.count} times at {self._loop.time():g} virtual seconds without time "
            f"moving: {self._place(turn)}",
            hint="Wait for what it waits for, or let time pass: time.sleep(1).",
        )

    def _place(self, turn: _Turn) -> str:
        return place_of(sys._current_frames().get(turn.ident))

    def _wait(self, turn: _Turn, waiter: Waiter, seconds: float | None) -> bool:
        life = LIFETIME.get()
        if self._closed:
            raise Severed
        if turn.blocked:
            return waiter.wait_really(seconds)
        turn.wakes = self._resume
        if life is not None and seconds is not None:
            life.moment()
            if seconds > 0 and self._loop.guard is not None and self.holds():
                turn.wakes = self._loop.guard(life, self._resume)
        turn.life = life
        with turn.lock:
            turn.seconds, turn.waiter, waiter.waits = seconds, waiter, True
            turn.go.clear()
            adrift, turn.adrift = turn.adrift, False
            turn.stopped.set()
        if adrift:
            with contextlib.suppress(RuntimeError):  # The loop was closed in between.
                self._loop.call_soon_threadsafe(self._back, turn, context=turn.context)
        turn.go.wait()
        waiter.waits, turn.waiter = False, None
        if self._closed or (life is not None and life.over):
            raise Severed
        return waiter.take(blocking=False)

    def _released(self, turn: _Turn, number: int) -> None:
        """Let a thread go on that was waiting, for the time of this number, for what was just released."""
        with contextlib.suppress(RuntimeError):  # The loop was closed in between.
            self._loop.call_soon_threadsafe(self._resume, turn, number, context=turn.context)


_LOOPS = ("asyncio.base_events", "trio._core._run", "gevent.hub")


def _own_loop(frame: FrameType | None) -> str:
    """Say so where a thread runs an event loop that it has started itself."""
    while frame is not None:
        if frame.f_globals.get("__name__") in _LOOPS:
            return ", in an event loop of its own, whose time is real: register the coroutine function itself"
        frame = frame.f_back
    return ""


class _Signal:
    """An event for one waiting thread, of a bare lock: waits of `threading` are virtual in a processor's thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # It is set already.
            self._lock.release()

    def clear(self) -> None:
        self._lock.acquire(False)

    def is_set(self) -> bool:
        return not self._lock.locked()

    def wait(self, seconds: float = -1) -> bool:
        """Wait in real time until it is set; it stays set."""
        if not self._lock.acquire(True, seconds):
            return False
        self.set()
        return True


def _nothing() -> None:
    return


class _Turn:
    """One function on its thread."""

    __slots__ = (
        "adrift",
        "answer",
        "blocked",
        "context",
        "dead",
        "ended",
        "future",
        "go",
        "handoff",
        "life",
        "lock",
        "name",
        "number",
        "repeats",
        "seconds",
        "stopped",
        "thread",
        "timer",
        "waiter",
        "wakes",
    )

    def __init__(self, handoff: ThreadHandoff, future: asyncio.Future[Any], name: str) -> None:
        self.handoff = handoff
        self.future = future
        self.name = name
        self.context = contextvars.copy_context()
        """Of the process that runs it: what goes on for this thread dies with that."""
        self.life: Lifetime | None = None
        """What it does its work in, inside of that process; it may stand still by itself."""
        self.thread: threading.Thread | None = None
        self.repeats = Repeats()
        """How often it gave control back and went on at this instant."""
        self.lock = threading.Lock()
        self.go = _Signal()
        self.stopped = _Signal()
        """Set whenever the thread has given control back: it sleeps or has ended."""
        self.seconds: float | None = 0.0
        """For how long it waits; None is until its waiter is released."""
        self.waiter: Waiter | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.wakes: Callable[..., object] = handoff._resume
        """What its timer calls: at a gate, where a search asks for one."""
        self.number = 0
        """Of its waits; what would end an earlier one is late."""
        self.ended = False
        self.dead = False
        """Whether its worker died in it: the loop goes on without it."""
        self.blocked = False
        self.adrift = False
        """Whether the loop goes on without it until it comes back."""
        self.answer: Any = None

    @property
    def ident(self) -> int:
        """The number of its thread; 0: it has not started."""
        return (self.thread and self.thread.ident) or 0

    def wait(self, waiter: Waiter, seconds: float | None) -> bool:
        """Give control back until the waiter is released, or for virtual seconds."""
        return self.handoff._wait(self, waiter, seconds)

    def released(self, waiter: Waiter) -> None:
        """Hear that the waiter was released."""
        number = self.number
        if self.waiter is waiter:
            self.handoff._released(self, number)

    def round(self, now: float) -> tuple[int, float]:
        """Count its rounds at this instant; return them, and for how many real seconds they have gone on."""
        repeats = self.repeats
        if now != repeats.moment:
            repeats.begin(now)
            return 0, 0.0
        repeats.count += 1
        return repeats.count, repeats.seconds

    def deliver(self) -> None:
        """Give the answer to the code that still waits for it."""
        if (guests := self.handoff._loop.guests) is not None:
            guests.adrift.pop(self, None)
        if not self.future.done():
            self.future.set_result(self.answer)
