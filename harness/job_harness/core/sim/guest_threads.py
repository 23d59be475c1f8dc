"""The threads at work for processors: they hold virtual time while they work, and let it pass while they wait.

A thread that a processor started, and one of a pool while it works on what a processor gave it, is a *guest*. What it
was asked to do is real work: time stands still until the thread has ended, or waits in a way that is seen here:
`time.sleep`, a `threading.Condition` (and so an Event, a queue, a Future, a Timer, a Barrier), `queue.SimpleQueue.get`,
`Thread.join`. Such a wait ends when it is notified or when its virtual time is over, and does not hold time.

Work that is queued in a pool holds time until a thread begins it, except while all threads of the
pool wait.

Where it cannot be known whether a thread still works for a processor, it has a grace in real time,
after which time moves and the report says so: `GRACE_SECONDS` without a sign of life where a timer
of its own woke it (a monitor, a heartbeat), `LOCK_SECONDS` where it waits for a bare lock that
another thread may hold across a virtual wait.

The processor's own thread, to which the loop hands control, is no guest: it has a `Controlled` of
its own. Knows the loop, neither queues nor processors.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import dis
import functools
import math
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final, Protocol

from job_harness.core.sim import machine_calls
from job_harness.core.sim.lifetime import LIFETIME, Lifetime, Severed
from job_harness.core.sim.machine_calls import SECOND_US
from job_harness.core.sim.watchdog import computed_by

GRACE_SECONDS: Final = 0.5
"""Real seconds for which what may still be at work for a processor holds time, from its last sign of life."""
LOCK_SECONDS: Final = 0.1
"""Real seconds for which a thread that waits for a bare lock holds time."""
LOCK_TIMEOUTS: Final = "; a timeout of such a wait is real, too"
"""What is said of a thread that waits for a bare lock."""
LOOK_SECONDS: Final = 0.005
"""Real seconds between two looks at a thread that may have been given its lock, or that is about to end."""
ENDING_SECONDS: Final = 5.0
"""Real seconds in which a thread that was told to end, and that the machine keeps from running, has to end."""
READS_AT_ONCE: Final = 300_000
"""How often a clock is read at one instant before each further read lets `BUSY_WAIT_US` pass: a busy wait."""
BUSY_WAIT_US: Final = 1_000
MOST_DOUBLINGS: Final = 40
"""Of the time between two polls that find nothing."""
TURNS: Final = 64
TURN_SECONDS: Final = 1e-5
"""Virtual seconds for which a thread gives way to those at work, where they take turns: time stands still for those."""
_real_lock = _thread.allocate_lock


class LoopHooks:
    """What a loop on virtual time, and the threads on it, ask of who runs code there; these do nothing."""

    def note_move(self, seconds: float) -> None:
        """Take note of the new time, whenever it moves."""

    def note_doubt(self, text: str) -> None:
        """Take note that time moved although it is not known whether something was outstanding."""

    def note_block(self, what: str) -> None:
        """Take note of a wait on the loop's own thread, which in real life lets no task act."""

    def note_cpu(self, seconds: float) -> None:
        """Take note of code that kept control for this much CPU time; asked for by `VirtualLoop.watch_cpu`."""

    def lend(self, executor: Any, work: Callable[[], Any]) -> Callable[[], Any]:
        """Wrap what a thread of an executor is to do: some of it has to find what another thread has."""
        return work


class TimeHolder(Protocol):
    """The loop whose time guests hold."""

    hooks: LoopHooks

    def time(self) -> float: ...

    def hold(self, name: str) -> object: ...

    def let_go(self, token: object) -> None: ...

    def jump(self, seconds: float) -> None: ...

    def is_in_this_thread(self) -> bool: ...

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any: ...

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any: ...

    def call_ungated(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any: ...


class Controlled(Protocol):
    """A thread whose waits are virtual."""

    def wait(self, waiter: Waiter, seconds: float | None) -> bool:
        """Wait until the waiter is released, or for virtual seconds. True: it was released, and is taken."""

    def released(self, waiter: Waiter) -> None:
        """Hear, in any thread, that the waiter for which this thread waits was released."""


class Waiter:
    """A lock on which one thread waits virtually; any thread may release it."""

    __slots__ = ("_lock", "thread", "waits")

    def __init__(self, thread: Controlled) -> None:
        self._lock = _real_lock()
        self.thread = thread
        self.waits = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, or wait for it."""
        if self._lock.acquire(False):
            return True
        if not blocking or timeout == 0:
            return False
        return self.thread.wait(self, None if timeout < 0 else timeout)

    def release(self) -> None:
        """Give the lock back, and wake who waits for it."""
        with contextlib.suppress(RuntimeError):  # A wait that is over is notified all the same.
            self._lock.release()
        if self.waits:
            self.thread.released(self)

    def take(self, *, blocking: bool) -> bool:
        """Take the lock in real time, at once or whenever it is free."""
        return self._lock.acquire(blocking)

    def locked(self) -> bool:
        """Whether it is taken."""
        return self._lock.locked()

    def wait_really(self, seconds: float | None) -> bool:
        """Wait in real time: the loop no longer takes care of this thread."""
        return self._lock.acquire(True, -1 if seconds is None else seconds)


class GuestThreads:
    """The clocks and the threads of the processors on one loop: their `GuestMachine`."""

    def __init__(self, loop: TimeHolder, *, start_us: int, clocks: bool = True) -> None:
        """Let virtual time 0 be `start_us` since 1970. `clocks=False` leaves the clocks real, and the waits virtual."""
        self.loop = loop
        self.clocks = clocks
        self.over = False
        self._start_us = start_us
        self._base_us: int | None = None
        """The monotonic clock at virtual time 0, set at its first read: no object that was made outside before, such as
        a cache with deadlines, is ahead of it. A whole number of seconds, so that differences are exact."""
        self._threads: dict[int, Controlled] = {}
        self._reads = 0
        self._read_at = -1
        self._ended: dict[threading.Thread, list[Waiter]] = {}
        self._pools: weakref.WeakKeyDictionary[ThreadPoolExecutor, _Pool] = weakref.WeakKeyDictionary()
        self._adopted: weakref.WeakKeyDictionary[threading.Thread, Guest] = weakref.WeakKeyDictionary()
        self.hosts: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """The threads that have been guests; one of a pool is none while it waits for work, nor while it ends."""
        self.foreign: frozenset[str] = frozenset()
        """The packages whose code threads run that are no guests: a processor may await them."""
        self._working: dict[Guest, None] = {}
        self.adrift: dict[object, int | None] = {}
        """The threads that wait for a bare lock, and for which the loop does not wait, with their native ids."""
        self.stirred = False
        """Whether a thread has gone on since the loop last looked: it may have given such a lock back."""
        self.polls = IdlePolls(loop)
        self.guests = 0
        """How many there were so far."""
        self.by_turns = False
        """Whether at most one thread works at a time: then which of two comes first is no choice of the machine's."""
        self.is_process = False
        """Whether they are of a process that has started by itself, and that ends them."""
        machine_calls.replace()

    # clocks ---------------------------------------------------------------------------------------------------------

    def time_us(self) -> int:
        """Tell the time of day, in microseconds since 1970."""
        return self._start_us + self._passed()

    def monotonic_us(self) -> int:
        """Tell a time that never moves backwards, in microseconds."""
        if self._base_us is None:
            self._base_us = math.ceil(machine_calls.real_monotonic()) * SECOND_US
        return self._base_us + self._passed()

    def _passed(self) -> int:
        passed = round(self.loop.time() * SECOND_US)
        if passed != self._read_at:
            self._read_at, self._reads = passed, 0
        self._reads += 1
        if self._reads > READS_AT_ONCE:
            self.sleep(BUSY_WAIT_US / SECOND_US)
            self._read_at = passed = round(self.loop.time() * SECOND_US)
        return passed

    # waits ----------------------------------------------------------------------------------------------------------

    def control(self, ident: int, thread: Controlled | None) -> Controlled | None:
        """Let a thread's waits be virtual from here on, None for no more; return what did so before."""
        before = self._threads.get(ident)
        if thread is None:
            self._threads.pop(ident, None)
        else:
            self._threads[ident] = thread
        return before

    def bury(self) -> None:
        """Let the calling thread, of a lifetime that is over, wait until its loop is closed; no `finally` runs before.

        Returns at once where the thread is not under control.
        """
        thread = self._threads.get(_thread.get_ident())
        if thread is not None:
            grave = Waiter(thread)
            grave.acquire()
            grave.acquire()

    def waiter(self) -> Waiter | None:
        """Return a lock on which the calling thread can wait virtually; None where it is not under control."""
        thread = self._threads.get(_thread.get_ident())
        if thread is not None:
            return Waiter(thread)
        return Waiter(_LoopThread(self)) if self.loop.is_in_this_thread() else None

    def passed(self) -> float:
        """Tell how much virtual time has passed, in seconds."""
        return self.loop.time()

    def sleep(self, seconds: float, /) -> bool:
        """Let virtual time pass for the calling thread. False: it is not under control."""
        waiter = self.waiter()
        if waiter is None:
            return False
        if not seconds >= 0:
            raise ValueError("sleep length must be non-negative")
        waiter.take(blocking=False)
        if isinstance(waiter.thread, _LoopThread):
            waiter.thread.what = f"time.sleep({seconds:g})"
        waiter.thread.wait(waiter, seconds)
        return True

    def join(self, thread: threading.Thread, seconds: float | None) -> bool:
        """Wait virtually until a guest has ended, or a thread of a pool all that it was given."""
        if (pool := next((each for each in list(self._pools.values()) if each.has(thread)), None)) is not None:
            return self._join_in_pool(thread, pool, seconds)
        waiting = self._ended.get(thread)
        waiter = None if waiting is None else self.waiter()
        if waiting is None or waiter is None or not thread.is_alive():
            return False
        waiter.take(blocking=False)
        waiting.append(waiter)
        if thread in self._ended:  # Otherwise it ended just now, and nothing will release the waiter.
            waiter.acquire(True, -1 if seconds is None else max(0.0, seconds))
        if thread not in self._ended:
            machine_calls.real_join(thread)
        return True

    def _join_in_pool(self, thread: threading.Thread, pool: _Pool, seconds: float | None) -> bool:
        """Wait for each guest that the thread is, and in between, in real time, for it to begin the next one."""
        end = math.inf if seconds is None else self.loop.time() + seconds
        looks = round(GRACE_SECONDS / LOOK_SECONDS)
        while thread.is_alive() and pool.busy and looks:
            guest, waiter = self._threads.get(thread.ident or 0), self.waiter()
            if waiter is None:
                return False
            if not isinstance(guest, Guest):
                machine_calls.real_join(thread, LOOK_SECONDS)
                looks -= 1
                continue
            waiter.take(blocking=False)
            guest.joined.append(waiter)
            if self._threads.get(thread.ident or 0) is guest:  # Otherwise it ended just now, and releases no waiter.
                left = max(0.0, end - self.loop.time())
                if not waiter.acquire(True, -1 if seconds is None else left):
                    return True
        return False

    # guests ---------------------------------------------------------------------------------------------------------

    def adopt(self, thread: threading.Thread, life: Lifetime, *, outlives: bool = False) -> None:
        """Let a thread that a processor is about to start be a guest until it ends; it may outlive the loop."""
        run, guest = thread.run, Guest(self, f"the thread {thread.name!r}")
        guest.outlives = outlives
        guest.habit.late_by = life.polls_late_by
        self.polls.happen()
        self._ended[thread] = []
        self._adopted[thread] = guest
        self.hosts.add(thread)

        def guided() -> None:
            try:
                with contextlib.suppress(Severed):
                    life.context().run(guest.working, run)
            finally:
                for waiter in self._ended.pop(thread, ()):
                    waiter.release()
                guest.end()

        thread.run = guided  # type: ignore[method-assign]

    def waits_for_work(self, thread: threading.Thread) -> bool:
        """Whether a guest waits for something that it will be given, and for no time to pass."""
        guest = self._adopted.get(thread)
        return guest is not None and guest.waits_for_work

    def look_around(self) -> None:
        """Find the threads that are no guests and run code of libraries."""
        packages: set[str] = set()
        frames = sys._current_frames()
        if len(frames) > 1:
            own = {_thread.get_ident(), threading.main_thread().ident, *self._threads}
            packages = {name for ident, frame in frames.items() if ident not in own for name in _libraries(frame)}
        self.foreign = frozenset(packages) - machine_calls.REAL_READERS

    def employ(
        self,
        function: Callable[[], Any],
        name: str,
        pool: ThreadPoolExecutor | None = None,
        *,
        ends_with_loop: bool = False,
    ) -> tuple[Callable[[], Any], Callable[[], None]]:
        """Let the thread that calls what is returned first be a guest meanwhile; the second ends its hold on time."""
        life = LIFETIME.get()
        of = None if pool is None else self._pools.setdefault(pool, _Pool(pool, ends_with_loop=ends_with_loop))
        guest = Guest(self, f"{name} on a thread", of)
        self.polls.happen()

        def work() -> Any:
            token = LIFETIME.set(life)  # In the thread's own context, which the pool's initializer may have prepared.
            try:
                return guest.working(function)
            finally:
                LIFETIME.reset(token)

        return work, guest.end

    def work_beside(self, guest: Guest | None) -> bool:
        """Whether another thread works, as far as the loop has heard, and threads take turns."""
        return self.by_turns and any(each is not guest for each in list(self._working))

    def holding(self, guest: Guest, works: bool) -> None:
        """Keep book of who works."""
        if works:
            self._working[guest] = None
        else:
            self._working.pop(guest, None)

    def may_come_back(self) -> bool:
        """Whether a thread that waits for a lock may have it by now; True once, after another one has gone on."""
        stirred, self.stirred = self.stirred, False
        return stirred and bool(self.adrift)

    def looks_back(self) -> Generator[float]:
        """Yield, in real seconds, how long to wait for those threads, until all of them are seen to wait still.

        A thread that was just given its lock is about to run, and does not sleep any more, however
        busy the machine is.
        """
        asleep, seen = 0, list[object]()
        for _ in range(round(GRACE_SECONDS / LOOK_SECONDS)):
            yield LOOK_SECONDS
            before, seen = seen, [sleep_of(native) for native in list(self.adrift.values())]
            asleep = asleep + 1 if seen == before and "" not in seen else 0
            if asleep == 2:
                return

    def doubtful(self) -> float | None:
        """Real seconds until it is to be asked again which of those that hold time still work; None: there is none."""
        return LOCK_SECONDS if self._working else None

    def all_wait(self) -> bool:
        """Whether no guest does anything until one is woken."""
        return all(guest.waits or guest.ended for guest in list(self._working))

    def at_work(self) -> bool:
        """Whether any guest goes on: it neither waits nor sleeps where it asks for a lock."""
        frames = sys._current_frames()
        return any(not (each.waits or each.ended or each.sleeps_at_lock(frames)) for each in list(self._working))

    def first_to_wake(self) -> Guest | None:
        """Return the guest whose wait is over first; None where none has an end."""
        timed = [each for each in list(self._threads.values()) if isinstance(each, Guest) and each.until < math.inf]
        return min(timed, key=lambda guest: guest.until, default=None)

    def let_doubtful_go(self) -> bool:
        """Let go of time for guests that have shown no sign of life for their grace. True: there was one."""
        frames = sys._current_frames()
        return bool([guest for guest in list(self._working) if guest.doubt(frames)])

    def close(self) -> None:
        """Stand in no longer: a wait with an end is over, one without goes on in real time.

        That is for threads that serve others too: of a library, or of a pool. Any other one ends
        where it waits.
        """
        self.over = True
        for guest in [each for each in list(self._threads.values()) if isinstance(each, Guest)]:
            if guest.outlives:
                guest.give_up()
            else:
                guest.leave()

    def end_process(self) -> None:
        """End the threads of a process that has started by itself, and those of its pools: the process is over."""
        self.over = True
        for pool in list(self._pools):
            pool.shutdown(wait=False, cancel_futures=True)
        for guest in [each for each in list(self._threads.values()) if isinstance(each, Guest)]:
            guest.leave()
        ending = ThreadsEnd(GRACE_SECONDS)
        for thread in list(self.hosts):
            while ending.waits_for(thread):
                pass


class IdlePolls:
    """The threads that look for work again and again, found none, and look more seldom until anything else happens.

    Only those of a lifetime that allows it (`Lifetime.polls_late_by`): a thread that renews a lease
    must not be late.
    """

    def __init__(self, loop: TimeHolder) -> None:
        self._loop = loop
        self._dozing: dict[Any, Guest | None] = {}
        """By its timer, who looks for work; None for one whose turn alone it is."""
        self.events = 0
        """How often anything but such a poll happened."""

    def doze(self, guest: Guest | None, timer: Any) -> None:
        """Let a guest wait for longer than it asked for, unless something happens; None for a wait that is no event."""
        self._dozing[timer] = guest

    def pass_to(self, when: float, timers: Iterable[Any]) -> None:
        """Hear that time is about to pass to an instant. Whatever is due then, unless it is such a poll, happens."""
        if not self._dozing:
            return
        due = [each for each in timers if each.when() <= when and not each.cancelled()]
        if not due or any(each not in self._dozing for each in due):
            self.stir(when)
        for timer in due:
            self._dozing.pop(timer, None)

    def happen(self) -> None:
        """Hear in any thread that something happens."""
        self.events += 1
        if self._dozing:
            self._loop.call_soon_threadsafe(lambda: self.stir(self._loop.time()), context=contextvars.Context())

    def stir(self, now: float) -> None:
        """Let each look for work at the next time at which it would have. Called on the loop."""
        self.events += 1
        dozing, self._dozing = self._dozing, {}
        for timer, guest in dozing.items():
            if guest is None:
                self._dozing[timer] = None
            else:
                guest.doze_no_more(timer, now)


class _Pool:
    """The guests of one executor: those that its threads have begun, and those that are queued behind them."""

    def __init__(self, executor: ThreadPoolExecutor, *, ends_with_loop: bool) -> None:
        self._executor = weakref.ref(executor)
        self.ends_with_loop = ends_with_loop
        """Whether it is the one that the loop has made for itself."""
        self._guard = _real_lock()  # Taken last: what holds it asks for no other lock.
        self._queued: dict[Guest, None] = {}
        self._begun: dict[Guest, None] = {}

    def has(self, thread: threading.Thread) -> bool:
        """Whether it is one of the executor's threads."""
        executor = self._executor()
        return executor is not None and thread in executor._threads

    @property
    def busy(self) -> bool:
        """Whether any of its guests has not ended."""
        return bool(self._queued or self._begun)

    @property
    def waits(self) -> bool:
        """Whether each of its threads waits, and there will be no more: what is queued is begun only after that."""
        return self._are_all(lambda guest: guest.waits or not guest.holds)

    def _are_all(self, idle: Callable[[Guest], bool]) -> bool:
        executor = self._executor()
        if executor is None:
            return False
        return sum(map(idle, list(self._begun))) >= len(executor._threads) >= executor._max_workers

    def queue(self, guest: Guest) -> None:
        """Hold time until a thread begins this, unless all of them wait."""
        with self._guard:
            self._queued[guest] = None
            if not self._are_all(lambda other: not other.holds):
                guest.hold()

    def begin(self, guest: Guest) -> None:
        """Hear that a thread begins it."""
        with self._guard:
            self._queued.pop(guest, None)
            self._begun[guest] = None
            guest.hold()

    def end(self, guest: Guest) -> None:
        """Hear that it is done, or will never be begun."""
        with self._guard:
            self._queued.pop(guest, None)
            self._begun.pop(guest, None)

    def goes_on(self) -> None:
        """Hear that a thread works, so that it may soon begin what is queued; it holds time already."""
        with self._guard:
            for guest in self._queued:
                guest.hold()

    def look(self) -> None:
        """Let go of time for what is queued where all threads wait. Called on the loop."""
        with self._guard:
            if self._queued and self._are_all(lambda guest: not guest.holds):
                for guest in self._queued:
                    guest.let_go()


@dataclass(slots=True)
class PollingHabit:
    """How a thread looks for work again and again: where nothing comes of it, later each time."""

    late_by: float = 0.0
    """For how many virtual seconds it may be late, while nothing else happens."""
    events: int = -1
    """What had happened when it was last woken."""
    by_itself: bool = False
    """Whether a timer of its own woke it, and no processor asked it for anything."""
    _polls: int = 0
    """How often in a row it has looked, and nothing has come of it."""
    _asked: tuple[float, float] = (0.0, 0.0)
    """Since when it waits, and for how long it asked to."""

    def is_poll(self, seconds: float) -> bool:
        """Whether a wait is about as long as the one before, after which no processor asked it for anything."""
        return bool(self.late_by) and self.by_itself and seconds / 2 < self._asked[1] < seconds * 2

    def wait(self, seconds: float, *, now: float, idle: bool) -> float:
        """Return for how long it waits that asks for these seconds."""
        self._polls = self._polls + 1 if idle else 0
        self._asked = now, seconds
        return max(seconds, min(seconds * 2.0 ** min(self._polls, MOST_DOUBLINGS), self.late_by))

    def left(self, now: float) -> float:
        """Return the seconds until one of the waits that this one stands for would have been over next."""
        since, seconds = self._asked
        return seconds - (now - since) % seconds


@dataclass(slots=True)
class StillFrame:
    """Where a thread was seen asleep last, and since when it sleeps there, in real time."""

    _seen: tuple[int, int, object] | None = None
    _since: float = 0.0

    def seconds(self, frame: FrameType | None, now: float, *, native: int | None) -> float:
        """Tell for how long it has not moved, nor been about to."""
        seen = None if frame is None else (id(frame), frame.f_lasti, sleep_of(native))
        if seen is None or seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since


class Guest:
    """One thread at work for a processor."""

    def __init__(self, threads: GuestThreads, name: str, pool: _Pool | None = None) -> None:
        """Hold time, at once; of a pool, it is queued first."""
        self._pool = pool
        self.joined: list[Waiter] = []
        """Who is to be woken once its thread has done this work."""
        self._threads = threads
        self._name = name
        self._guard = _real_lock()
        self._ident = 0
        self._native: int | None = None
        self._waiter: Waiter | None = None
        self._waits_in: Lifetime | None = None
        """The lifetime of the code that waited last."""
        self._timer: Any = None
        self._wait = 0
        self._until = math.inf
        self.habit = PollingHabit()
        threads.guests += 1
        self._turn_seconds = TURN_SECONDS * (1 + threads.guests % TURNS)
        """Its own, so that several which may go on at once do so in the order in which they began."""
        self._leaving = self._turning = False
        """Whether it waits only until no other thread works."""
        self._still = StillFrame()
        self.outlives = pool is not None and not pool.ends_with_loop
        """Whether it may go on once the loop is closed."""
        self.ended = False
        """Whether its thread has done its work; the loop may not have heard of it yet."""
        self._token: object | None = None
        if pool is None:
            self.hold()
        else:
            pool.queue(self)

    @property
    def _loop(self) -> TimeHolder:
        return self._threads.loop

    @property
    def waits_for_work(self) -> bool:
        """Whether it waits without an end of its own."""
        return self._token is None and self._waiter is not None and self._timer is None

    @property
    def waits(self) -> bool:
        """Whether it waits virtually, or for a thread of its pool that does; the loop may not have heard of it yet."""
        waiter = self._waiter
        if waiter is None and not self._ident and self._pool is not None:
            return self._pool.waits
        return waiter is not None and waiter.locked()

    @property
    def holds(self) -> bool:
        """Whether time stands still for it."""
        return self._token is not None

    @property
    def until(self) -> float:
        """The loop's time at which its wait is over by itself."""
        return self._until if self.waits else math.inf

    def working(self, function: Callable[[], Any]) -> Any:
        """Call a function in the thread that this is."""
        self._ident = ident = _thread.get_ident()
        self._native = threading.get_native_id()
        before = self._threads.control(ident, self)
        if self._pool is not None:
            self._threads.hosts.add(threading.current_thread())
            self._pool.begin(self)
        try:
            self._take_turn()
            return function()
        finally:
            if self._pool is not None:
                self._pool.end(self)
            self._threads.control(ident, before)
            for waiter in self.joined:
                waiter.release()

    def end(self) -> None:
        """Hold time no more, once what this thread has sent to the loop has arrived."""
        self.ended = True
        if self._pool is not None:
            self._pool.end(self)
        with contextlib.suppress(RuntimeError):  # The loop was closed in between.
            self._loop.call_soon_threadsafe(self._let_go, context=contextvars.Context())

    def wait(self, waiter: Waiter, seconds: float | None) -> bool:
        """Wait in this thread, while the loop's time may move."""
        released = self._wait_once(waiter, seconds)
        if released:
            self._take_turn()
        return released

    def _take_turn(self) -> None:
        """Wait until no other thread works, where they take turns."""
        if not self._threads.by_turns or self._threads.over:
            return
        waiter, self._turning = Waiter(self), True
        waiter.take(blocking=False)
        try:
            self._wait_once(waiter, TURN_SECONDS)
        finally:
            self._turning = False

    def _wait_once(self, waiter: Waiter, seconds: float | None) -> bool:
        life = LIFETIME.get()
        if life is not None and seconds is not None and not self._threads.over:
            life.moment()
            _end_if_dead(life)
        with self._guard:
            self._wait += 1
            self._until = math.inf if seconds is None else self._loop.time() + seconds
            number, self._waits_in, over = self._wait, life, self._threads.over
            if not over:  # Otherwise those that wait have been asked already: nothing would end this one.
                self._waiter, waiter.waits = waiter, True
        if over or self._leaving:
            return self._wait_really(waiter, seconds)
        try:
            context = contextvars.Context() if life is None else life.context()
            self._loop.call_soon_threadsafe(self._rest, number, seconds, context, context=contextvars.Context())
            waiter.take(blocking=True)
        except RuntimeError:  # The loop is closed.
            return self._wait_really(waiter, seconds)
        finally:
            with self._guard:
                waiter.waits = False
                timed_out, self._waiter = self._waiter is None, None
        if self._leaving:
            raise Severed
        if life is not None and seconds is not None:
            _end_if_dead(life)
        return not timed_out

    def _wait_really(self, waiter: Waiter, seconds: float | None) -> bool:
        """Wait where virtual time is over: a wait with an end ends at once."""
        if self._leaving or (seconds is None and self._is_dead):
            raise Severed
        return waiter.take(blocking=seconds is None)

    @property
    def _is_dead(self) -> bool:
        return self._waits_in is not None and self._waits_in.over

    def released(self, waiter: Waiter) -> None:
        """Be at work again from this very moment, before the thread knows."""
        with self._guard:
            if self._waiter is waiter:
                self._work(by_itself=False)

    def leave(self) -> None:
        """End this thread where it waits: code of it that goes on finds its process dead."""
        self._leaving = True
        with self._guard:
            waiter = self._waiter
        if waiter is not None:
            with contextlib.suppress(RuntimeError):
                waiter._lock.release()

    def give_up(self) -> None:
        """Let a wait with an end be over, and one without go on, in code that is not dead."""
        with self._guard:  # It is seen to wait here, or sees that time is over.
            has_end, dead = self.until < math.inf, self._is_dead
        if has_end:
            self.wake()
        elif dead:
            self.leave()

    def doubt(self, frames: dict[int, FrameType]) -> bool:
        """Let go of time if it is not known that this thread works. True: done."""
        # Nothing tells a thread that computes from one that waits in C for something that never
        # comes. What can be seen is whether its frame moved between two looks. One that stands
        # still is let go only for a reason: the instruction at which it stands asks for a lock,
        # or a timer of its own woke it, so that no processor waits for it. A call that merely
        # takes long holds time, as long as it may.
        locked, stood = self._stands(frames)
        if stood < (LOCK_SECONDS if locked else GRACE_SECONDS) or not (locked or self.habit.by_itself):
            return False
        why, rest = ("a lock", LOCK_TIMEOUTS) if locked else ("something", "")
        self._threads.loop.hooks.note_doubt(
            f"{self._name} has waited for {why} for {stood:.1f} s of real time, and time moved on{rest}"
        )
        self._let_go()
        if locked:
            self._threads.adrift[self] = self._native
        return True

    def sleeps_at_lock(self, frames: dict[int, FrameType]) -> bool:
        """Whether it has slept for a while where it asks for a lock."""
        locked, stood = self._stands(frames)
        return locked and stood >= LOCK_SECONDS

    def _stands(self, frames: dict[int, FrameType]) -> tuple[bool, float]:
        """Tell whether it asks for a lock there, and for how many real seconds it has slept where it is."""
        frame = frames.get(self._ident)
        stood = self._still.seconds(frame, machine_calls.real_monotonic(), native=self._native)
        return frame is not None and waits_for_lock(frame), stood

    # on the loop ----------------------------------------------------------------------------------------------------

    def _rest(self, number: int, seconds: float | None, context: contextvars.Context) -> None:
        with self._guard:
            if self._wait != number or self._waiter is None or not self._waiter.locked():
                return  # It was released before the loop heard of it.
            if self._turning:
                self._give_way(number, context)
            elif seconds is not None:
                events = self._threads.polls.events
                again = self.habit.is_poll(seconds)
                longer = self.habit.wait(seconds, now=self._loop.time(), idle=again and self.habit.events == events)
                self._timer = self._loop.call_later(longer, self._time_is_over, number, context=context)
                if again:
                    self._threads.polls.doze(self, self._timer)
            self._let_go()

    def _give_way(self, number: int, context: contextvars.Context) -> None:
        self._timer = self._loop.call_ungated(self._turn_seconds, self._time_is_over, number, context=context)
        self._threads.polls.doze(None, self._timer)

    def doze_no_more(self, timer: Any, now: float) -> None:
        """Wake when this wait, or one of those that it stands for, would have been over next."""
        with self._guard:
            if self._timer is not timer:
                return
            timer.cancel()
            left = self.habit.left(now) + now - self._loop.time()
            self._timer = self._loop.call_later(left, self._time_is_over, self._wait, context=timer._context)
            self._threads.polls.doze(None, self._timer)

    def _time_is_over(self, number: int) -> None:
        with self._guard:
            stale = self._wait != number or self._timer is None
            if not stale and self._threads.work_beside(self):
                self._give_way(number, self._timer._context)
                return
        if not stale:
            self.wake()

    def wake(self) -> None:
        """Let its wait be over, for its time is."""
        with self._guard:
            waiter = self._waiter
            if waiter is None or not waiter.locked():
                return
            self._work(by_itself=not self._turning or self.habit.by_itself)
            self._waiter = None
        with contextlib.suppress(RuntimeError):
            waiter._lock.release()

    def _work(self, *, by_itself: bool) -> None:
        self._threads.stirred = True
        self._still = StillFrame()
        self.habit.by_itself, self.habit.events = by_itself, self._threads.polls.events
        if self._timer is not None:
            timer, self._timer = self._timer, None
            if not (by_itself or self._turning):
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(timer.cancel, context=contextvars.Context())
        self.hold()
        if self._pool is not None:
            self._pool.goes_on()

    def hold(self) -> None:
        """Let time stand still, if it does not for this one already."""
        if self._token is None and not self._threads.over:
            self._token = self._loop.hold(self._name)
            self._threads.holding(self, True)

    def let_go(self) -> None:
        """Let time move again. Called on the loop."""
        token, self._token = self._token, None
        self._threads.stirred = True
        self._threads.adrift.pop(self, None)
        self._threads.holding(self, False)
        if token is not None:
            self._loop.let_go(token)

    def _let_go(self) -> None:
        self.let_go()
        if self._pool is not None:
            self._pool.look()


class _LoopThread:
    """The thread of the loop itself: code that waits there keeps every task waiting."""

    def __init__(self, threads: GuestThreads) -> None:
        self._threads = threads
        self.what = ""
        """By which call it waits, where that is known."""

    def wait(self, waiter: Waiter, seconds: float | None) -> bool:
        """Wait in real time while other threads work; while all of them wait, let time pass to the first end."""
        threads, loop = self._threads, self._threads.loop
        loop.hooks.note_block(self.what or ("a wait" if seconds is None else f"a wait of {seconds:g} s"))
        end = math.inf if seconds is None else loop.time() + seconds
        while True:
            all_wait = threads.all_wait()
            if waiter.take(blocking=False):  # Asked after that: who gave it may wait by now.
                return True
            first = threads.first_to_wake() if all_wait else None
            if first is not None and first.until <= end:
                loop.jump(max(0.0, first.until - loop.time()))
                first.wake()
            elif all_wait and end < math.inf:
                loop.jump(end - loop.time())
                return waiter.take(blocking=False)
            if waiter._lock.acquire(True, LOOK_SECONDS):
                return True
            threads.let_doubtful_go()

    def released(self, waiter: Waiter) -> None:
        """Nothing has to be done: it waits in real time."""


class ThreadsEnd:
    """How long threads that were told to end are waited for."""

    # Such a thread has said that it is done, or was woken, some instructions before it ends. On a busy machine those
    # take long; so looks at which it is about to run do not count.
    def __init__(self, seconds: float, *, look_seconds: float = LOOK_SECONDS) -> None:
        """Allow all of them together these real seconds in which they wait for something else."""
        self._looks, self._look_seconds = round(seconds / look_seconds), look_seconds
        self._end = machine_calls.real_monotonic() + ENDING_SECONDS

    def waits_for(self, thread: threading.Thread) -> bool:
        """Join it for a moment. True: it is still there, and there is time to look again."""
        machine_calls.real_join(thread, self._look_seconds)
        self._looks -= _state(thread.native_id) != "R"
        return thread.is_alive() and self._looks > 0 and machine_calls.real_monotonic() < self._end


def sleep_of(native: int | None) -> object:
    """Return what is the same at two looks where a thread has slept in between: what it had computed when it began to.

    One that runs, or that a busy machine keeps from running, is another at each look. Nor does one
    sleep that waits for the interpreter: who looks has that, and has let it go since, so it was
    woken. "": the machine does not say.
    """
    state = _state(native)
    if not state or native is None:
        return ""
    with contextlib.suppress(OSError):  # It has ended.
        if state == "S":
            return computed_by(native)
    return object()


def _state(native: int | None) -> str:
    """Return what the machine does with a thread: S, it waits; R, it runs or is about to; "": it does not say."""
    try:
        with open(f"/proc/self/task/{native}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _end_if_dead(life: Lifetime) -> None:
    if life.over:
        life.end_code()


def _libraries(frame: FrameType | None) -> Generator[str]:
    while frame is not None:
        if "site-packages" in frame.f_code.co_filename:
            yield str(frame.f_globals.get("__name__", "")).partition(".")[0]
        frame = frame.f_back


def waits_on_loop(frame: FrameType | None) -> bool:
    """Whether the thread of a loop stands where it waits for another thread."""
    while frame is not None and frame.f_code is not _LoopThread.wait.__code__:
        frame = frame.f_back
    return frame is not None


# what a thread that shows no sign of life waits for -------------------------------------------------------------------

_WAITING_NAMES: Final = frozenset({"acquire", "acquire_lock", "join", "get", "wait", "result"})


def waits_for_lock(frame: FrameType) -> bool:
    """Whether a thread stands where it asks for something that another thread has: `with lock`, `x.acquire()`.

    Read off its instructions, on CPython 3.11 to 3.14.
    """
    return frame.f_lasti in _lock_offsets(frame.f_code)


@functools.lru_cache(maxsize=256)
def _lock_offsets(code: CodeType) -> frozenset[int]:
    found, name = set(), ""
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            name = str(each.argval)
        called = each.opname.startswith("CALL") and name in _WAITING_NAMES
        if called or each.opname in ("BEFORE_WITH", "LOAD_SPECIAL"):
            found.add(each.offset)
    return frozenset(found)
