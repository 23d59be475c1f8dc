"""The threads at work for processors: they hold virtual time while they work, and let it pass while they wait.

A thread that a processor started, and one of a pool while it works on what a processor gave it, is a *guest*. What it
was asked to do is real work: time stands still until the thread has ended, or waits in a way that is seen here:
`time.sleep`, a `threading.Condition` (and so an Event, a queue, a Future, a Timer, a Barrier), `queue.SimpleQueue.get`,
`Thread.join`. Such a wait ends when it is notified or when its virtual time is over, and does not hold time.

Work that is queued in a pool holds time until a thread begins it, except while all threads of the pool wait.

Where it cannot be known whether a thread still works for a processor, it has a grace in real time, after which time
moves and the report says so: `GRACE_SECONDS` without a sign of life where a timer of its own woke it (a monitor, a
heartbeat), `LOCK_SECONDS` where it waits for a bare lock that another thread may hold across a virtual wait.

The processor's own thread, to which the loop hands control, is no guest: it has a `Controlled` of its own. Knows the
loop, neither queues nor processors.
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
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from types import CodeType, FrameType
from typing import Any, Final, Protocol

from job_harness.core.sim import machine_calls
from job_harness.core.sim.lifetime import LIFETIME, Lifetime, Severed
from job_harness.core.sim.machine_calls import SECOND_US

GRACE_SECONDS: Final = 0.5
"""Real seconds for which what may still be at work for a processor holds time, from its last sign of life."""
LOCK_SECONDS: Final = 0.1
"""Real seconds for which a thread that waits for a bare lock holds time."""
LOCK_TIMEOUTS: Final = "; a timeout of such a wait is real, too"
"""What is said of a thread that waits for a bare lock."""
LOOK_SECONDS: Final = 0.005
"""Real seconds between two looks at a thread that may have been given its lock."""
READS_AT_ONCE: Final = 300_000
"""How often a clock is read at one instant before each further read lets `BUSY_WAIT_US` pass: a busy wait."""
BUSY_WAIT_US: Final = 1_000
_real_lock = _thread.allocate_lock


class TimeHolder(Protocol):
    """The loop whose time guests hold."""

    def time(self) -> float: ...

    def hold(self, name: str) -> object: ...

    def let_go(self, token: object) -> None: ...

    def jump(self, seconds: float) -> None: ...

    def is_in_this_thread(self) -> bool: ...

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any: ...

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any: ...


class Controlled(Protocol):
    """A thread whose waits are virtual."""

    def wait(self, waiter: Waiter, seconds: float | None) -> bool:
        """Wait until the waiter is released, or for virtual seconds. True: it was released, and is taken."""
        ...

    def released(self, waiter: Waiter) -> None:
        """Hear, in any thread, that the waiter for which this thread waits was released."""
        ...


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
        self.on_block: Callable[[str], None] = lambda what: None
        """Told about a wait on the loop's own thread, which in real life lets no task act."""
        self.on_doubt: Callable[[str], None] = lambda text: None
        """Told where time moved although it is not known whether something still works."""
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
        self.foreign: frozenset[str] = frozenset()
        """The packages whose code threads run that are no guests: a processor may await them."""
        self._working: dict[Guest, None] = {}
        self.adrift: dict[object, int | None] = {}
        """The threads that wait for a bare lock, and for which the loop does not wait, with their native ids."""
        self.stirred = False
        """Whether a thread has gone on since the loop last looked: it may have given such a lock back."""
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

    def adopt(self, thread: threading.Thread, life: Lifetime) -> None:
        """Let a thread that a processor is about to start be a guest until it ends."""
        run, guest = thread.run, Guest(self, f"the thread {thread.name!r}")
        self._ended[thread] = []
        self._adopted[thread] = guest

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
        self, function: Callable[[], Any], name: str, pool: ThreadPoolExecutor | None = None
    ) -> tuple[Callable[[], Any], Callable[[], None]]:
        """Let the thread that calls what is returned first be a guest meanwhile; the second ends its hold on time."""
        life = LIFETIME.get()
        of = None if pool is None else self._pools.setdefault(pool, _Pool(pool))
        guest = Guest(self, f"{name} on a thread", of)

        def work() -> Any:
            token = LIFETIME.set(life)  # In the thread's own context, which the pool's initializer may have prepared.
            try:
                return guest.working(function)
            finally:
                LIFETIME.reset(token)

        return work, guest.end

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

        A thread that was just given its lock is about to run, and does not sleep any more, however busy the machine is.
        """
        asleep = 0
        for _ in range(round(GRACE_SECONDS / LOOK_SECONDS)):
            yield LOOK_SECONDS
            asleep = asleep + 1 if all(_sleeps(ident) for ident in list(self.adrift.values())) else 0
            if asleep == 2:
                return

    def doubtful(self) -> float | None:
        """Real seconds until it is to be asked again which of those that hold time still work; None: there is none."""
        return LOCK_SECONDS if self._working else None

    def all_wait(self) -> bool:
        """Whether no guest does anything until one is woken."""
        return all(guest.waits or guest.ended for guest in list(self._working))

    def first_to_wake(self) -> Guest | None:
        """Return the guest whose wait is over first; None where none has an end."""
        timed = [each for each in list(self._threads.values()) if isinstance(each, Guest) and each.until < math.inf]
        return min(timed, key=lambda guest: guest.until, default=None)

    def let_doubtful_go(self) -> bool:
        """Let go of time for guests that have shown no sign of life for their grace. True: there was one."""
        frames = sys._current_frames()
        return bool([guest for guest in list(self._working) if guest.doubt(frames)])

    def close(self) -> None:
        """Stand in no longer: what waits virtually goes on as if its time were over, and reads the real machine."""
        self.over = True
        for thread in list(self._threads.values()):
            if isinstance(thread, Guest):
                thread.give_up()


class _Pool:
    """The guests of one executor: those that its threads have begun, and those that are queued behind them."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = weakref.ref(executor)
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


class Guest:
    """One thread at work for a processor."""

    def __init__(self, threads: GuestThreads, name: str, pool: _Pool | None = None) -> None:
        """Hold time, at once; of a pool, it is queued first."""
        self._pool = pool
        self.joined: list[Waiter] = []
        """Who is to be woken once its thread has done this work."""
        self._threads = threads
        self._loop = threads.loop
        self._name = name
        self._guard = _real_lock()
        self._ident = 0
        self._native: int | None = None
        self._waiter: Waiter | None = None
        self._timer: Any = None
        self._wait = 0
        self._until = math.inf
        self._by_itself = False
        """Whether a timer of its own woke it, and no processor asked it for anything."""
        self._seen: Any = None
        self._since = 0.0
        self.ended = False
        """Whether its thread has done its work; the loop may not have heard of it yet."""
        self._token: object | None = None
        if pool is None:
            self.hold()
        else:
            pool.queue(self)

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
            self._pool.begin(self)
        try:
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
        life = LIFETIME.get()
        if self._threads.over:
            return waiter.take(blocking=seconds is None)
        if life is not None and seconds is not None:
            life.moment()
            _end_if_dead(life)
        with self._guard:
            self._wait += 1
            self._until = math.inf if seconds is None else self._loop.time() + seconds
            self._waiter, waiter.waits = waiter, True
            number = self._wait
        try:
            context = contextvars.Context() if life is None else life.context()
            self._loop.call_soon_threadsafe(self._rest, number, seconds, context, context=contextvars.Context())
            waiter.take(blocking=True)
        except RuntimeError:  # The loop is closed.
            return waiter.take(blocking=seconds is None)
        finally:
            with self._guard:
                waiter.waits = False
                timed_out, self._waiter = self._waiter is None, None
        if life is not None and seconds is not None:
            _end_if_dead(life)
        return not timed_out

    def released(self, waiter: Waiter) -> None:
        """Be at work again from this very moment, before the thread knows."""
        with self._guard:
            if self._waiter is waiter:
                self._work(by_itself=False)

    def give_up(self) -> None:
        """Let a wait with an end be over."""
        self._time_is_over(self._wait)

    def doubt(self, frames: dict[int, FrameType]) -> bool:
        """Let go of time if it is not known that this thread works. True: done."""
        # Nothing tells a thread that computes from one that waits in C for something that never
        # comes. What can be seen is whether its frame moved between two looks. One that stands
        # still is let go only for a reason: the instruction at which it stands asks for a lock,
        # or a timer of its own woke it, so that no processor waits for it. A call that merely
        # takes long holds time, as long as it may.
        now, frame = machine_calls.real_monotonic(), frames.get(self._ident)
        seen = None if frame is None else (id(frame), frame.f_lasti)
        if seen is None or seen != self._seen:
            self._seen, self._since = seen, now
            return False
        locked = frame is not None and waits_for_lock(frame)
        if now - self._since < (LOCK_SECONDS if locked else GRACE_SECONDS) or not (locked or self._by_itself):
            return False
        why, rest = ("a lock", LOCK_TIMEOUTS) if locked else ("something", "")
        self._threads.on_doubt(
            f"{self._name} has waited for {why} for {now - self._since:.1f} s of real time, and time moved on{rest}"
        )
        self._let_go()
        if locked:
            self._threads.adrift[self] = self._native
        return True

    # on the loop ----------------------------------------------------------------------------------------------------

    def _rest(self, number: int, seconds: float | None, context: contextvars.Context) -> None:
        with self._guard:
            if self._wait != number or self._waiter is None or not self._waiter.locked():
                return  # It was released before the loop heard of it.
            if seconds is not None:
                self._timer = self._loop.call_later(seconds, self._time_is_over, number, context=context)
            self._let_go()

    def _time_is_over(self, number: int) -> None:
        with self._guard:
            stale = self._wait != number or (self._timer is None and not self._threads.over)
        if not stale:
            self.wake()

    def wake(self) -> None:
        """Let its wait be over, for its time is."""
        with self._guard:
            waiter = self._waiter
            if waiter is None or not waiter.locked():
                return
            self._work(by_itself=True)
            self._waiter = None
        with contextlib.suppress(RuntimeError):
            waiter._lock.release()

    def _work(self, *, by_itself: bool) -> None:
        self._threads.stirred = True
        self._by_itself, self._seen = by_itself, None
        if self._timer is not None:
            timer, self._timer = self._timer, None
            if not by_itself:
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
        threads.on_block(self.what or ("a wait" if seconds is None else f"a wait of {seconds:g} s"))
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


def _sleeps(native: int | None) -> bool:
    """Whether the machine has a thread wait; where it does not say (no /proc), it does not."""
    try:
        with open(f"/proc/self/task/{native}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "S"
    except (OSError, IndexError):
        return False


def _end_if_dead(life: Lifetime) -> None:
    if life.over:
        raise Severed


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
