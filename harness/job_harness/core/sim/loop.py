"""The asyncio carrier: an event loop on virtual time, which jumps to the next timer when no task can act.

Time stands still while real work is outstanding: a thread at work (`guest_threads`), a held piece
of work, an answer that is in flight on a descriptor (`descriptors`). The selector that asyncio is
given (`IdleSelector`) hands over to the loop's own idling instead of blocking. Everything else
about asyncio is left as it is; what leans on its insides was checked on CPython 3.11 to 3.13. Knows
neither queue nor processor.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import heapq
import math
import os
import selectors
import sys
import threading
import time
import weakref
from asyncio import events
from collections.abc import Callable, Coroutine, Generator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, NoReturn, Protocol, TypeAlias, TypeVar, TypeVarTuple, Unpack

from job_harness.core.own_code import FOLDERS
from job_harness.core.sim.descriptors import (
    LOOK_SECONDS,
    AskingDatagramTransport,
    AskingTransport,
    Descriptors,
    LockWaiters,
    identity_of,
)
from job_harness.core.sim.guest_threads import GRACE_SECONDS, GuestThreads, LoopHooks, waits_on_loop
from job_harness.core.sim.lifetime import LIFETIME, Lifetime, WatchedTask
from job_harness.core.sim.machine_calls import is_in_this_interpreter, machine_of
from job_harness.core.sim.possessions import Possessions, tag, unwatch, watch
from job_harness.core.sim.watchdog import BUSY_SECONDS, WATCHDOG, ControlTaken, Watched, real_seconds
from job_harness.errors import HarnessError, Hung, LimitReached, UsageError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Callback: TypeAlias = Callable[..., object]
Guard: TypeAlias = Callable[[Lifetime, Callback], Callback]
"""Takes the lifetime that waits for an answer and the callback that brings it; returns what is to be called instead."""

CALLBACK_LIMIT = 10_000_000
"""Callbacks of one run; a loop that spins without end takes about half a minute to get there."""
ROUNDS = 1_000_000
"""Times that one processor may loop while time stands still: a loop that only gives way takes some seconds."""
LOOKED_AT_AFTER = 100_000
"""Callbacks of one run after which it is counted who they belong to, until time moves."""
ENDING_SECONDS = 2.0
"""Real seconds for which a task that is told to end may keep control."""
ENDING_CALLBACKS = 10_000
"""Callbacks in which the tasks that are told to end may do so, and 20 more for each."""
RAISE_BOUND = (
    "If it may take this long, raise the bound: JobHarness(blocked_after=60), job_blocked_after = 60 in pytest's "
    "configuration, or job-harness run --blocked-after 60."
)
WAITS_ON_LOOP = (
    "A coroutine waits there for another thread, and nothing else of its worker can act meanwhile: not even what that "
    "thread may wait for. Await it: asyncio.to_thread(thread.join), or asyncio.wrap_future(future)."
)
RESOLUTION_SECONDS = 5e-7
"""Timers this close fire together. Far above what a float of a century resolves: asyncio would spin otherwise."""
MOST_SPINS = 1_000
"""Rounds of a loop that never rests after which it is asked what came: something may wait for that in this way."""
BUSY_CPU_SECONDS = 0.25
"""Seconds of CPU in which code that never awaits keeps every other task waiting too long."""
cpu_seconds = time.thread_time
REAL_PATIENCE_SECONDS = 60.0
"""Real seconds that outstanding work may take without a sign of life."""


class Attendant(Protocol):
    """An actor beside the loop, on the same time."""

    def act(self) -> bool:
        """Do one thing that can be done now. False: there is none."""

    def next_due(self) -> float | None:
        """Tell, in the loop's seconds, when there is next something to do."""


class Deadlock(HarnessError):
    """Every task waits for something that never comes."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only when no task can act, and then at once to the next timer.

    A thread that is no guest (`guest_threads`) and will call `call_soon_threadsafe` is invisible to
    a loop: wrap its time in `outstanding`.
    """

    outlived: ClassVar[weakref.WeakSet[threading.Thread]] = weakref.WeakSet()
    """The threads of the default executors of loops that were closed: what still runs there is no other test's."""

    def __init__(
        self,
        *,
        start: float = 0.0,
        callback_limit: int = CALLBACK_LIMIT,
        real_patience: float = REAL_PATIENCE_SECONDS,
        busy_seconds: float = BUSY_SECONDS,
        rounds: int = ROUNDS,
        one_guest: bool = False,
        hooks: LoopHooks | None = None,
    ) -> None:
        """Begin at `start` seconds: small, because large floats lose microseconds.

        `busy_seconds` is how long code may keep control in real time, and `rounds` how often one lifetime that is about
        something (a processor) may go on while time stands still; with `one_guest` all that runs here is one.
        """
        self._now = start
        self.hooks = LoopHooks() if hooks is None else hooks
        self.descriptors = Descriptors(self.hooks, patience=real_patience)
        self.selector = IdleSelector(selectors.DefaultSelector(), self, self.descriptors)
        self.guests: GuestThreads | None = None
        """The clocks and the threads of the processors here."""
        self.guard: Guard | None = None
        """Puts a gate before each answer from outside: a timer that fires, a thread that is done, bytes that came."""
        self._readers = _GatedReaders(self)
        self.lives = Lives(self)
        self.work = RealWork(self, patience=real_patience)
        super().__init__(self.selector)  # type: ignore[arg-type]  # it has what the base calls of a selector
        self._clock_resolution = RESOLUTION_SECONDS
        self.selector.begin()
        self.selector.watch(self._ready)  # type: ignore[attr-defined]
        self.bounds = LoopBounds(
            self, callbacks=callback_limit, seconds=busy_seconds, rounds=rounds, one_guest=one_guest
        )
        self.broken: Hung | None = None
        """What ended this loop for good: it never runs anybody's code again."""
        self.attendant: Attendant | None = None
        """Asked whenever no task can act, before time moves."""
        self._horizon: float | None = None
        self._until: Callable[[], bool] | None = None
        self._ends_when_idle = False
        self.possessions = Possessions(self)
        """What the dead held."""
        watch(self)

    def time(self) -> float:
        """Return virtual seconds."""
        return self._now

    @property
    def callbacks(self) -> int:
        """About how many callbacks the last run, or the present one, has executed."""
        return self.selector.callbacks

    # running --------------------------------------------------------------------------------------------------------

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end. Raises what it raises, `Deadlock`, and `LimitReached`."""
        try:
            self.refuse_nesting()
        except UsageError:
            coroutine.close()
            raise
        return self.run_until_complete(coroutine)

    def run_until_idle(self) -> None:
        """Run until nothing is ready, no timer is set and nothing is outstanding; tasks may go on waiting."""
        self._run(ends_when_idle=True)

    def run_until(self, holds: Callable[[], bool]) -> None:
        """Run until `holds` returns true at an instant at which no task can act any more.

        Raises `Deadlock` where it never will: no timer is left.
        """
        self._run(until=holds)

    def advance(self, seconds: float) -> None:
        """Let everything happen that is due within `seconds`, and end at exactly that time."""
        if not seconds >= 0:
            raise UsageError(f"time cannot move by {seconds} seconds", hint="Give a number of at least 0.")
        self._run(horizon=self._now + seconds)

    def next_timer(self) -> float | None:
        """Return when the next timer is due, perhaps one that was cancelled since; None where none is ever due."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        when: float | None = scheduled[0]._when if scheduled else None
        return None if when == math.inf else when

    def quiet(self) -> bool:
        """Whether nothing is left to do now."""
        if self._ready or self.work.held:  # type: ignore[attr-defined]
            return False
        timer = self.next_timer()
        return timer is None or timer >= self._now + RESOLUTION_SECONDS

    def jump(self, seconds: float) -> None:
        """Move the clock and let no task act: what is overdue happens in the next run."""
        if not seconds >= 0:
            raise UsageError(f"time cannot move by {seconds} seconds", hint="Give a number of at least 0.")
        self._move_to(self._now + seconds)

    def reach_timer(self) -> None:
        """Move the clock on to a timer that is about to fire a fraction of a microsecond early.

        Code that asks whether its time has come would be told that it has not, and wait for it
        anew, forever.
        """
        timer = self.next_timer()
        if timer is not None and self._now < timer < self._now + RESOLUTION_SECONDS:
            self._move_to(timer)

    def run_forever(self) -> None:
        """Run until `stop` is called. Raises LimitReached where a task never yields, or loops endlessly."""
        if self.broken is not None:
            raise self.broken
        self.selector.start_counting(min(LOOKED_AT_AFTER, self.bounds.callback_limit), self.bounds.look_closer)
        self.possessions.hear_libraries()
        try:
            with self.bounds.watched.at_work():
                super().run_forever()
        except ControlTaken:
            assert self.broken is not None
            raise self.broken from None

    def is_in_this_thread(self) -> bool:
        """Whether the calling code runs on this loop."""
        return self._thread_id == threading.get_ident()  # type: ignore[attr-defined,no-any-return]  # 3.11 to 3.13

    def _run(
        self,
        *,
        horizon: float | None = None,
        until: Callable[[], bool] | None = None,
        ends_when_idle: bool = False,
    ) -> None:
        self.refuse_nesting()
        self._horizon, self._until, self._ends_when_idle = horizon, until, ends_when_idle
        try:
            self.run_forever()
        finally:
            self._horizon, self._until, self._ends_when_idle = None, None, False

    def refuse_nesting(self) -> None:
        """Raise UsageError where the loop cannot be run: inside itself, or under another loop of this thread."""
        if self.is_running():
            raise UsageError(
                "the virtual loop is running already: time cannot be moved from inside it",
                hint="Inside a coroutine or a processor, await asyncio.sleep(seconds) instead.",
            )
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            raise UsageError(
                "another event loop is running in this thread",
                hint="Call this from plain code, or from another thread (asyncio.to_thread).",
            )

    # outstanding work -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def outstanding(self, name: str) -> Generator[None]:
        """Let time stand still inside the block: real work named `name` is going on. For use on the loop."""
        token = self.hold(name)
        try:
            yield
        finally:
            self.let_go(token)

    def hold(self, name: str) -> object:
        """Let time stand still until `let_go` is called with the answer."""
        token = object()
        self.work.held[token] = name
        return token

    def let_go(self, token: object) -> None:
        """End a `hold`. From another thread: `loop.call_soon_threadsafe(loop.let_go, token)`."""
        self.work.held.pop(token, None)

    def expect_answers_within(self, seconds: float) -> None:
        """Let an answer that is outstanding on a descriptor hold time for at most this number of real seconds."""
        self.descriptors.patience = min(self.descriptors.patience, seconds)

    def order_answers(self, locks: LockWaiters | None) -> None:
        """Hear answers in the order in which they were asked for; `locks` is the database that the test is known by."""
        self.descriptors.locks = locks
        self.selector.orders = True

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]  # its variadic types say no more than this
        """Schedule a callback from another thread, which shows by that that it is at work."""
        if self.guests is not None and self.guests.adrift:
            self.guests.stirred = True
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        """Run a function on a thread or in a process; time stands still until it ends, even if it is cancelled."""
        if is_default := executor is None:
            executor = self._default_executor  # type: ignore[attr-defined]
            if executor is None and not self._executor_shutdown_called:  # type: ignore[attr-defined]
                executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
                self.set_default_executor(executor)
        counting = CountingExecutor(self, executor, _name_of(func))
        life = LIFETIME.get()
        work: Any = func
        if life is not None and is_in_this_interpreter(executor):
            if (machine := machine_of(life)) is not None:
                lent = self.hooks.lend(executor, functools.partial(func, *args))
                work, counting.done = machine.employ(lent, counting.name, executor, ends_with_loop=is_default)
                args = ()  # type: ignore[assignment]
                self.let_go(counting.token)  # The thread holds time by itself, and lets it go where it waits.
            else:
                work = functools.partial(life.context().run, work)  # A thread knows whose its work is, and no more.
        self._check_closed()  # type: ignore[attr-defined]
        submitted = contextvars.Context().run(counting.submit, work, *args)
        # The answer belongs to no lifetime: its way to the loop is one and the same, however quick the thread was.
        answer: asyncio.Future[T] = contextvars.Context().run(asyncio.wrap_future, submitted, loop=self)
        answer.add_done_callback(lambda _: counting.check(answer), context=contextvars.Context())
        counting.answer = answer
        submitted.add_done_callback(lambda _: counting.done())  # After asyncio's own, which sends the answer.
        if self.guard is None or life is None:
            return answer
        guarded: asyncio.Future[T] = self.create_future()
        bring = self.guard(life, lambda: _copy(answer, guarded))
        answer.add_done_callback(lambda _: bring(), context=life.context())
        return guarded

    def add_signal_handler(self, sig: int, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Call back for a signal, of which the loop's own wake-up pipe tells: it is asked at each step from here on."""
        super().add_signal_handler(sig, callback, *args)
        self.selector.hears_signals = True

    def _add_reader(self, fd: Any, callback: Any, *args: Any) -> asyncio.Handle:
        """Watch a descriptor, at a gate where a lifetime waits for its bytes. asyncio's own way, 3.11 to 3.14."""
        if not self.selector.begins:
            self.descriptors.watch(self.selector.number(fd), callback)
        self._readers.muted.pop(self.selector.number(fd), None)
        if self.guard is not None and (waiting := LIFETIME.get()) is not None:
            callback, args = _GatedReader(self, fd, waiting, functools.partial(callback, *args)), ()
        handle: asyncio.Handle = super()._add_reader(fd, callback, *args)  # type: ignore[misc]
        return handle

    def _remove_reader(self, fd: Any) -> bool:
        """Watch a descriptor no more, nor once what stands at its gate goes on."""
        muted = self._readers.muted.pop(self.selector.number(fd), None) is not None
        removed: bool = super()._remove_reader(fd)  # type: ignore[misc]
        return removed or muted

    async def shutdown_default_executor(self, *arguments: Any, **options: Any) -> None:
        """Wait, in real time, for the threads of the default executor."""
        with self.outstanding("shutting down the default executor"):
            await super().shutdown_default_executor(*arguments, **options)

    # lifetimes ------------------------------------------------------------------------------------------------------

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Schedule a coroutine; its task belongs to the lifetime of its context."""
        context = options.get("context")
        life = LIFETIME.get() if context is None else context.get(LIFETIME)
        if life is None:
            return super().create_task(coro, **options)
        if life.about is None or self.get_task_factory() is not None:
            task: asyncio.Task[Any] = super().create_task(coro, **options)
        else:
            task = watched = WatchedTask(coro, loop=self, **options)
            watched.made_in = _maker_of_task()
        life.adopt(task)
        return task

    def watch_lifetimes(self) -> None:
        """Look at the lifetime of every callback from here on: costs a little each, so it is done where asked."""
        self._call_soon = self._call_soon_alive  # asyncio's own one door to the queue

    def own_descriptors(self) -> frozenset[int]:
        """Return the descriptors that `after_fork` makes anew: those of the wake-up pipe. 3.11 to 3.14."""
        return frozenset(end.fileno() for end in (self._ssock, self._csock))  # type: ignore[attr-defined]

    def after_fork(self) -> None:
        """Take a selector and a wake-up pipe of its own in a forked child: those of the parent are shared with it.

        Nothing may have been registered yet. asyncio's own way to its pipe, 3.11 to 3.14.
        """
        self.selector.renew(selectors.DefaultSelector())
        self.lives.unwatched.clear()
        for end in (self._ssock, self._csock):  # type: ignore[attr-defined]
            end.close()
        self._internal_fds -= 1  # type: ignore[attr-defined]
        guard, self.guard = self.guard, None
        self._make_self_pipe()  # type: ignore[attr-defined]
        self.selector.begin()
        self.guard = guard

    def close(self) -> None:
        """Close the loop, and the frames of what was severed."""
        # Closing a frame does not close what it iterates over (asend.close, 3.11 to 3.13), which is closed here.
        iterated = list(self._asyncgens) if self.lives.ended else []  # type: ignore[attr-defined]
        complain, sys.unraisablehook = sys.unraisablehook, lambda _: None
        self.bounds.watched.hurry(ENDING_SECONDS)
        try:
            with contextlib.suppress(ControlTaken), self.bounds.watched.at_work(), _without_event_loop():
                for life in self.lives.ended:
                    WATCHDOG.kept += life.close_frames()
                for generator in iterated:
                    with contextlib.suppress(BaseException):
                        generator.ag_await.close()
        finally:
            sys.unraisablehook = complain
        self.lives.ended.clear()
        self.possessions.end()
        self.__dict__.pop("_call_soon", None)  # It names this loop: without it no cycle keeps the loop alive.
        if (executor := self._default_executor) is not None:  # type: ignore[attr-defined]  # asyncio's own, 3.11 to 3.14
            executor.shutdown(wait=False, cancel_futures=True)
            self.outlived.update(executor._threads)
        super().close()
        unwatch(self)

    def _make_socket_transport(self, sock: Any, *arguments: Any, **options: Any) -> Any:
        transport = super()._make_socket_transport(sock, *arguments, **options)  # type: ignore[misc]
        made = self._transports.get(sock.fileno())  # type: ignore[attr-defined]
        tag(made, LIFETIME.get())
        if type(made) is AskingTransport.__base__:
            made.__class__ = AskingTransport
        return transport

    def _make_datagram_transport(self, *arguments: Any, **options: Any) -> Any:
        transport = super()._make_datagram_transport(*arguments, **options)  # type: ignore[misc]
        if type(transport) is AskingDatagramTransport.__base__:
            transport.__class__ = AskingDatagramTransport
        return transport

    def _make_ssl_transport(self, rawsock: Any, *arguments: Any, **options: Any) -> Any:
        transport = super()._make_ssl_transport(rawsock, *arguments, **options)  # type: ignore[misc]
        made = self._transports.get(rawsock.fileno())  # type: ignore[attr-defined]
        tag(made, LIFETIME.get())
        if type(made) is AskingTransport.__base__:
            made.__class__ = AskingTransport
            self.descriptors.note_written(rawsock.fileno())  # The handshake is under way.
        return transport

    def _call_soon_alive(self, callback: Any, args: Any, context: contextvars.Context | None) -> asyncio.Handle:
        handle: asyncio.Handle = super()._call_soon(callback, args, context)  # type: ignore[misc]
        life: Lifetime | None = handle._context.get(LIFETIME)  # type: ignore[attr-defined]
        if life is None:
            return handle
        if not life.still:
            life.moment()  # May end or stall this very lifetime, which then has parked the handle.
        elif self._ready[-1] is handle:  # type: ignore[attr-defined]
            self._ready[-1] = _NOTHING  # type: ignore[attr-defined]
            life.park(handle)
        return handle

    def call_at(  # type: ignore[override]  # its variadic types say no more than this
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Schedule a callback; one of a lifetime that stands still waits until that goes on."""
        if self._now < when < self._now + RESOLUTION_SECONDS:
            # asyncio would fire it at once, and code that asks whether its time has come would wait for it anew,
            # forever: what it reads are whole microseconds.
            when = self._now + 2 * RESOLUTION_SECONDS
        called = callback
        if self.guard is not None and (waiting := _life_of(context)) is not None:
            # It may be cancelled while it stands at its gate: an `asyncio.timeout` whose block has ended meanwhile.
            called = self.guard(waiting, lambda *given: None if timer.cancelled() else callback(*given))
        timer: asyncio.TimerHandle = super().call_at(when, called, *args, context=context)
        if "_call_soon" in self.__dict__:
            life: Lifetime | None = timer._context.get(LIFETIME)  # type: ignore[attr-defined]
            if life is not None and life.still:
                self.lives.unschedule([timer])
        return timer

    def call_ungated(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Schedule a callback that is not a moment of its lifetime, and so is not a gate."""
        guard, self.guard = self.guard, None
        try:
            return self.call_later(delay, callback, *args, context=context)
        finally:
            self.guard = guard

    # the idle loop --------------------------------------------------------------------------------------------------

    def _idle(self) -> list[Any]:
        """No task can act: wait for real work, or move time, or end. Called in place of a blocking `select`."""
        self.possessions.hear_libraries()
        # The order is what makes time right. What may still bring something for this instant
        # is asked first, the surest source first; time moves only when none is left.
        # - `_ready`: a thread has handed over a callback since asyncio looked. To move time now
        #   would make it late.
        # - What is known to be outstanding is waited for in real time, for as long as patience
        #   lasts. A fixed pause in its place would be too short on a busy machine and a waste on
        #   an idle one. Then the selector is polled once more: an answer belongs to the instant
        #   in which it came.
        # - Threads of libraries tell nothing. Each future that a task awaits in such a package
        #   gets one grace, and what then moves without an answer is reported as doubt, so that no
        #   verdict rests on it in silence.
        # - A thread adrift at a bare lock is looked for only after another thread has gone on:
        #   no other can have given it that lock.
        # - The attendant (a kernel's other actors) acts at this instant, before the clock; what
        #   it did may be what the run waits for, so `_until` is asked after it.
        # `_ready` is asyncio's queue of callbacks, a private name on CPython 3.11 to 3.14.
        if self._ready:  # type: ignore[attr-defined]  # a thread was quicker than the selector
            return self.selector.poll()
        if (self.work.held or self.selector.more) and self.work.has_come():
            return self.selector.taken()
        events = self.selector.poll()
        if events:
            return events
        if self.guests is not None and self.guests.foreign and self.work.wait_for_foreign(self.guests):
            return self.selector.taken()
        if self.guests is not None and self.guests.may_come_back():
            for seconds in self.guests.looks_back():
                if self.work.wait(seconds):
                    return self.selector.taken()
        attendant = self.attendant
        if attendant is not None and attendant.act():
            return []
        if self._until is not None and self._until():
            self.stop()
            return []
        when = self.next_timer()
        if attendant is not None and (due := attendant.next_due()) is not None:
            when = due if when is None else min(when, due)
        if self._horizon is not None and (when is None or when > self._horizon):
            self._move_to(self._horizon)
            self.stop()
        elif when is not None:
            if self.guests is not None:
                self.guests.polls.pass_to(when, self._scheduled)  # type: ignore[attr-defined]  # asyncio's heap, 3.11 to 3.14
            self._move_to(when)
        elif self._ends_when_idle:
            self.stop()
        else:
            raise Deadlock(
                "every task waits for something that never comes: no timer is set and no work is outstanding\n"
                + describe_tasks(self),
                hint="If a thread of yours still works for the loop, wrap its time in loop.outstanding(name).",
            )
        return []

    def _move_to(self, when: float) -> None:
        if when > self._now:
            self._now = when
            self.hooks.note_move(when)

    def break_with(self, error: Hung) -> None:
        """End this loop for good as soon as control comes back to it: nothing goes on, and every run raises this."""
        if self.broken is None:
            self.broken = error
        self.selector.look_at_once()


class LoopBounds:
    """Says when code that keeps control, or a run that goes on and on, will never end."""

    def __init__(self, loop: VirtualLoop, *, callbacks: int, seconds: float, rounds: int, one_guest: bool) -> None:
        self._loop = loop
        self.callback_limit = callbacks
        self.rounds = rounds
        self.watched = Watched(seconds, signs=lambda: loop.selector.callbacks, on_hung=self._hung)
        self._one_guest = one_guest
        self._counted: dict[Lifetime | None, int] = {}
        self._counted_at = -math.inf
        self._counted_since = 0.0

    def leave_when_back(self) -> None:
        """End this process as soon as control comes back: it is what code in here forked, and no second run."""
        self._loop.selector.start_counting(-1, lambda: os._exit(0))
        self.watched.seconds = math.inf

    def _hung(self, frame: FrameType | None) -> str:
        """Break, for code that keeps control. Called by the thread that watches."""
        task = asyncio.current_task(self._loop)
        who = "something" if task is None else task.get_name()
        why = f"An endless loop, or a long computation without an await? {RAISE_BOUND}"
        error = Hung(
            f"{who} has kept control for {self.watched.seconds:g} s of real time, at {place_of(frame)}",
            hint=WAITS_ON_LOOP if waits_on_loop(frame) else why,
        )
        self._loop.break_with(error)
        end = "it cannot be interrupted, so the process ends here, and nothing more was judged"
        return f"{error.message}; {end}\n  {error.hint}"

    def look_closer(self) -> int:
        """Count for whom the callbacks are that are about to run; return after how many more to look again.

        Raises what broke the loop, and LimitReached.
        """
        if self._loop.broken is not None:
            raise self._loop.broken
        callbacks = self._loop.selector.callbacks
        if callbacks > self.callback_limit:
            raise self._too_many()
        now = real_seconds()
        if self._loop.time() != self._counted_at:
            self._counted_at, self._counted_since = self._loop.time(), now
            self._counted.clear()
            return min(LOOKED_AT_AFTER, self.callback_limit - callbacks)
        for handle in self._loop._ready:  # type: ignore[attr-defined]  # asyncio's queue of callbacks, 3.11 to 3.14
            life = handle._context.get(LIFETIME) if handle._context is not None else None
            if self._one_guest or (life is not None and life.about is not None):
                count = self._counted[life] = self._counted.get(life, 0) + 1
                if self.too_many_rounds(count, now - self._counted_since):
                    self._loop.broken = self._spins(handle, count)
                    raise self._loop.broken
        return 0

    def too_many_rounds(self, count: int, seconds: float) -> bool:
        """Whether a processor that went round this often, while time stood still for `seconds`, will never end."""
        return count > self.rounds or (count > self.rounds // 100 and seconds > self.watched.seconds)

    def _spins(self, handle: asyncio.Handle, count: int) -> Hung:
        task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
        if isinstance(task, asyncio.Task):
            who, where = task.get_name(), describe_task(task)
        else:
            who, where = "a callback", repr(handle)
        return Hung(
            f"{who} looped {count} times at {self._loop.time():g} virtual seconds without time moving: {where}",
            hint="Await what it waits for, or let time pass: await asyncio.sleep(1).",
        )

    def _too_many(self) -> LimitReached:
        return LimitReached(
            f"still not idle after {self.callback_limit} callbacks at {self._loop.time():g} virtual "
            f"seconds\n{describe_tasks(self._loop)}",
            hint="A task spins or polls without end; raise callback_limit if the run is meant to be this long.",
        )


class Lives:
    """The lifetimes that stand still on a loop: severed for good, or paused for a while."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop: Any = loop  # Its queue, timers and transports are asyncio's own, 3.11 to 3.13.
        self.ended: list[Lifetime] = []
        self.unwatched: list[tuple[selectors.SelectorKey, int]] = []
        """The descriptors, by key and inode, on which something came for a lifetime that stands still."""

    def sever(self, life: Lifetime) -> None:
        """Let nothing of this lifetime ever run again: a crash. What it awaits is never delivered."""
        if life.severed:
            return
        life.severed = True
        self.ended.append(life)
        life.hold(life.tasks)
        self._park(life)
        # What it holds is freed next of all, and not now: the code that asks may be the dying code itself.
        freeing = asyncio.Handle(self._loop.possessions.free, (life,), self._loop, contextvars.Context())
        self._loop._ready.appendleft(freeing)

    def pause(self, life: Lifetime) -> None:
        """Let nothing of this lifetime go on until `resume`: a stall."""
        life.paused = True
        self._park(life)

    def resume(self, life: Lifetime) -> None:
        """Let a paused lifetime go on; timers that ran out meanwhile fire at once."""
        life.paused = False
        unwatched, self.unwatched = self.unwatched, []
        for key, identity in unwatched:
            if key.fd not in self._loop.selector.get_map() and identity_of(key.fd) == identity:
                self._loop.selector.register(key.fd, key.events, key.data)
        for handle in life.unpark():
            own: Lifetime | None = handle._context.get(LIFETIME)  # type: ignore[attr-defined]
            if own is not None and own.still:  # something further inside, or around this, stands still by itself
                own.park(handle)
            elif isinstance(handle, asyncio.TimerHandle):
                handle._scheduled = True  # type: ignore[attr-defined]
                heapq.heappush(self._loop._scheduled, handle)
            else:
                self._loop._ready.append(handle)

    def for_the_living(self, events: Events) -> Events:
        """Leave out what is for a lifetime that stands still, and watch it no more until that goes on.

        asyncio would call its callback, which has nothing left to wake, again and again: the bytes
        stay unread.
        """
        still = [key for key, _ in events if any(map(_stands_still, key.data or ()))]
        for key in still:
            self._loop.selector.unregister(key.fd)
            self.unwatched.append((key, identity_of(key.fd)))
        return [event for event in events if event[0] not in still] if still else events

    def end_tasks(self) -> list[str]:
        """Cancel all tasks and let them end; name those that refuse to, of which nothing ever goes on.

        A loop that is broken runs nobody's code: its tasks are given up as they are, and none is
        named.
        """
        held = {id(task) for life in self.ended for task in life.tasks}
        tasks = [task for task in asyncio.all_tasks(self._loop) if id(task) not in held]
        if not tasks:
            return []
        told = self._loop.broken is None
        if told:
            for task in tasks:
                task.cancel()
            self._loop.bounds.watched.hurry(ENDING_SECONDS)
            self._loop.bounds.callback_limit = min(self._loop.bounds.callback_limit, ENDING_CALLBACKS + 20 * len(tasks))
            with contextlib.suppress(Deadlock, LimitReached):
                self._loop.run_until(lambda: all(task.done() for task in tasks))
        left = sorted((task for task in tasks if not task.done()), key=lambda task: task.get_name())
        if not left:
            return []
        life = Lifetime("what does not end")
        life.severed = True
        life.hold(left)
        self.ended.append(life)
        return [
            f"the task {task.get_name()!r} did not end when it was cancelled: {describe_task(task)}"
            for task in left
            if told
        ]

    def close_sockets(self, life: Lifetime | None) -> list[asyncio.BaseProtocol]:
        """Close what a severed lifetime has opened, as the machine does when a process dies; return whose it was.

        Without a lifetime, close what all have opened, at the end of the loop.
        """
        lost = []
        for descriptor, transport in sorted(self._loop._transports.items()):
            if transport._sock is None:  # It was closed before, and its descriptor may be another's.
                continue
            if (opener := tag(transport)) is not None and (life is None or opener.within(life)):
                self._forget(descriptor)
                transport._closing, transport._sock, opened = True, None, transport._sock
                transport._conn_lost += 1
                opened.close()
                lost.append(transport.get_protocol())
        for key in list(self._loop.selector.get_map().values()):
            if life is not None and any(handle is not None and _within(handle, life) for handle in key.data or ()):
                self._forget(key.fd)
        return lost

    def _forget(self, descriptor: int) -> None:
        self._loop._remove_reader(descriptor)
        self._loop._remove_writer(descriptor)

    def _park(self, life: Lifetime) -> None:
        self._loop.watch_lifetimes()
        ready = self._loop._ready
        for index, handle in enumerate(list(ready)):
            if _within(handle, life):
                ready[index] = _NOTHING  # Not taken out: the loop has counted how many it will run.
                life.park(handle)
        self.unschedule([timer for timer in self._loop._scheduled if _within(timer, life)])

    def unschedule(self, timers: list[asyncio.TimerHandle]) -> None:
        """Park the timers of what stands still."""
        gone = {id(timer) for timer in timers}
        scheduled = self._loop._scheduled
        scheduled[:] = [timer for timer in scheduled if id(timer) not in gone]
        heapq.heapify(scheduled)
        for timer in timers:
            timer._scheduled = False  # type: ignore[attr-defined]
            timer._context[LIFETIME].park(timer)  # type: ignore[attr-defined]


class RealWork:
    """What holds time: work that is known to be outstanding, and threads of libraries that may be at work."""

    def __init__(self, loop: VirtualLoop, *, patience: float) -> None:
        self._loop = loop
        self._patience = patience
        self.held: dict[object, str] = {}
        self._patient_since = 0.0
        self._waited_for: weakref.WeakSet[Any] = weakref.WeakSet()
        """The futures on which a thread of a library has not answered within its grace."""

    def has_come(self) -> bool:
        """Wait in real time for what is known to be outstanding. False: nothing is any more."""
        while self.held or self._loop.selector.active():
            if self._wait_once() or self._loop._ready:  # type: ignore[attr-defined]
                return True
        self._patient_since = 0.0
        return False

    def wait(self, seconds: float) -> bool:
        """Wait for the machine in real time, during which no callback keeps control. True: it said something."""
        self._loop.bounds.watched.waits += 1
        try:
            return bool(self._loop.selector.wait(seconds))
        finally:
            self._loop.bounds.watched.waits -= 1

    def _wait_once(self) -> bool:
        """Wait in real time. True: something happened; False: look again who is still at work."""
        seconds = self._patience if self.held else self._loop.selector.seconds
        looks = self._loop.guests.doubtful() if self.held and self._loop.guests is not None else None
        if self.wait(min(seconds, looks or seconds)):
            self._patient_since = 0.0
            return True
        if looks is not None and self._loop.guests is not None and self._loop.guests.let_doubtful_go():
            return False
        now = real_seconds()
        self._patient_since = self._patient_since or now - min(seconds, looks or seconds)
        if not self.held or now - self._patient_since < self._patience:
            return False
        raise LimitReached(
            f"virtual time has stood still for {self._patience:g} real seconds, waiting for "
            f"{', '.join(self.held.values())}\n{describe_tasks(self._loop)}",
            hint="Give real work a timeout of its own.",
        )

    def wait_for_foreign(self, guests: GuestThreads) -> bool:
        """Wait for a thread of a library in which a task awaits a future: once, and for a grace."""
        for task in asyncio.all_tasks(self._loop):
            awaited = getattr(task, "_fut_waiter", None)
            if awaited is None or isinstance(awaited, asyncio.Task) or awaited in self._waited_for:
                continue
            frame = _innermost(task.get_coro())
            package = "" if frame is None else str(frame.f_globals.get("__name__", "")).partition(".")[0]
            if package not in guests.foreign:
                continue
            self._waited_for.add(awaited)
            if self.wait(GRACE_SECONDS):
                self._waited_for.discard(awaited)
                return True
            self._loop.hooks.note_doubt(
                f"no thread of {package} has answered for {GRACE_SECONDS:g} s of real time, and time moved on"
            )
        return False


class _GatedReaders:
    """The readers that stand at their gates, of whose descriptors the machine is not asked meanwhile."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.muted: dict[int, _GatedReader] = {}

    def mute(self, fd: Any, reader: _GatedReader) -> None:
        """Ask the machine no more about a descriptor until `unmute`: it would name the same bytes again at once."""
        self._loop._remove_reader(fd)
        self.muted[self._loop.selector.number(fd)] = reader

    def unmute(self, fd: Any, reader: _GatedReader) -> bool:
        """Go on. False: no reader wants to hear of this descriptor any more, or another one does."""
        if self.muted.get(self._loop.selector.number(fd)) is not reader:
            return False
        del self.muted[self._loop.selector.number(fd)]
        # In the context of the lifetime that waits: by it, a crash knows which descriptors die with it.
        reader.context.run(asyncio.SelectorEventLoop._add_reader, self._loop, fd, reader)  # type: ignore[attr-defined]
        return True


def _stands_still(handle: asyncio.Handle | None) -> bool:
    life = None if handle is None else handle._context.get(LIFETIME)  # type: ignore[attr-defined]
    return life is not None and life.still


def _within(handle: asyncio.Handle, life: Lifetime) -> bool:
    context = handle._context  # type: ignore[attr-defined]
    found: Lifetime | None = context.get(LIFETIME) if context is not None else None
    return found is not None and found.within(life)


def _maker_of_task() -> str:
    """Name the file of the code that makes a task, beyond asyncio's own."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("asyncio."):
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


def _life_of(context: contextvars.Context | None) -> Lifetime | None:
    return LIFETIME.get() if context is None else context.get(LIFETIME)


def _name_of(function: Any) -> str:
    """Name a function without asking it: the text of a partial may read a database."""
    while isinstance(function, functools.partial):
        runs = isinstance(getattr(function.func, "__self__", None), contextvars.Context)  # as `asyncio.to_thread` does
        function = function.args[0] if runs and function.args else function.func
    return getattr(function, "__qualname__", type(function).__name__)


def _copy(answer: asyncio.Future[Any], to: asyncio.Future[Any]) -> None:
    """Let one future end as another did."""
    if to.done():
        return
    if answer.cancelled():
        to.cancel()
    elif (error := answer.exception()) is not None:
        to.set_exception(error)
    else:
        to.set_result(answer.result())


class _GatedReader:
    """A reader behind a gate, to which it comes once, however often the machine names the same unread bytes.

    The machine is not asked about its descriptor while it stands there: a selector names what is
    readable again at once, and while there is something to do no time passes and no other actor
    acts.
    """

    __slots__ = ("_come", "_coming", "_fd", "_hear", "_loop", "_passed", "context")

    def __init__(self, loop: VirtualLoop, fd: Any, life: Lifetime, hear: Callback) -> None:
        assert loop.guard is not None
        self.context = contextvars.copy_context()
        self._loop, self._fd, self._hear = loop, fd, hear
        self._come = loop.guard(life, self._go_on)
        self._coming = self._passed = False

    def __call__(self) -> None:
        self._coming, self._passed = True, False
        self._come()
        self._coming = False
        if not self._passed:
            self._loop._readers.mute(self._fd, self)

    def _go_on(self) -> None:
        self._passed = True
        if self._coming or self._loop._readers.unmute(self._fd, self):
            self._hear()


class _Nothing(asyncio.Handle):
    """Stands in the queue of a loop for a callback that was taken out."""

    def __init__(self) -> None:
        self._context = None
        self._cancelled = True


_NOTHING = _Nothing()


class Clockwork(Protocol):
    """The loop whose time is held."""

    def hold(self, name: str) -> object: ...

    def let_go(self, token: object) -> None: ...

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle: ...


class CountingExecutor:
    """Submits to another executor, and holds time until both the thread and the loop's future are done."""

    def __init__(self, loop: Clockwork, executor: Any, name: str) -> None:
        self._loop = loop
        self._executor = executor
        self.name = name
        self.token = loop.hold(f"{name} on a thread")
        self.done: Callable[[], None] = lambda: None
        """Ends the hold that the thread has on time by itself."""
        self._work: concurrent.futures.Future[Any] | None = None
        self.answer: asyncio.Future[Any] | None = None

    def submit(self, func: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
        """Start work; the loop's time stands still until it is done."""
        try:
            if self._executor is None:
                raise RuntimeError("Executor shutdown has been called")
            self._work = self._executor.submit(func, *args)
        except BaseException:
            self._loop.let_go(self.token)
            self.done()
            raise
        self._work.add_done_callback(self._work_ended)
        return self._work

    def _work_ended(self, _: concurrent.futures.Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop was closed in between.
            self._loop.call_soon_threadsafe(lambda: self.check(self.answer), context=contextvars.Context())

    def check(self, answer: asyncio.Future[Any] | None) -> None:
        """Let time go once the thread is done and the loop knows."""
        if self._work is not None and self._work.done() and (answer is None or answer.done()):
            self._loop.let_go(self.token)


Events = list[Any]


class IdleSelector:
    """Stands where asyncio expects a selector. A blocking `select` is handed to the loop, which moves time."""

    def __init__(self, selector: selectors.BaseSelector, loop: VirtualLoop, descriptors: Descriptors) -> None:
        self._selector = selector
        self._loop = loop
        self._descriptors = descriptors
        self._events: Events = []
        self.begins = True
        """Whether the loop only registers its own wake-up pipe."""
        self.watches_cpu = False
        """Whether stretches between two rounds that took much CPU time are reported to the hooks; costs a little."""
        self._cpu_since, self._modules = math.inf, 0
        self.orders = False
        """Whether answers are heard only when nothing else is left to do, and in the order of their requests."""
        self._spun = 0
        self.hears_signals = False
        """Whether a signal may say something on the wake-up pipe; threads are waited for by other means."""
        self.seconds = 0.0
        """For how long at most, in real time, what is in flight holds time."""
        self._own = 0
        self._registered: set[int] = set()
        self._ready: Any = ()
        self._look: Callable[[], int] = lambda: sys.maxsize
        self._limit = 0
        self.callbacks = 0

    def begin(self) -> None:
        """Take what is registered now as the loop's own wake-up pipe."""
        self._own = len(self._registered)
        self.begins = False

    def renew(self, selector: selectors.BaseSelector) -> None:
        """Forget every descriptor, and ask this selector from now on."""
        self._selector = selector
        self._registered.clear()
        self._descriptors.forget()
        self.begins = True

    def number(self, fileobj: Any) -> int:
        """Return the number of a descriptor."""
        return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())

    def start_counting(self, limit: int, look: Callable[[], int]) -> None:
        """Call `look` once more than `limit` callbacks have run from here; it returns after how many more to call."""
        self.callbacks = 0
        self._cpu_since = math.inf
        self._limit = limit
        self._look = look

    def look_at_once(self) -> None:
        """Call `look` when control next comes back; any thread may ask for it."""
        self._limit = -1

    def watch(self, ready: Any) -> None:
        """Count the handles of the loop's own queue."""
        self._ready = ready

    # what asyncio calls of a selector -------------------------------------------------------------------------------

    def select(self, timeout: float | None = None) -> Events:
        """Return what is ready, or hand over to the idle loop."""
        self.callbacks += len(self._ready) or 1
        if self.callbacks > self._limit:
            self._limit = self.callbacks + self._look()
        if timeout == 0 and self.orders and not self.hears_signals and self._spun < MOST_SPINS:
            self._spun += 1
            return []
        self._spun = 0
        if not self.watches_cpu:
            return self.poll() if timeout == 0 else self._loop._idle()
        self._count_cpu()
        events = self.poll() if timeout == 0 else self._loop._idle()
        self._cpu_since, self._modules = cpu_seconds(), len(sys.modules)
        return events

    def _count_cpu(self) -> None:
        """Tell how long code kept control, of CPU time; what was imported meanwhile is imported once a process."""
        if self._modules == len(sys.modules) and (spent := cpu_seconds() - self._cpu_since) > BUSY_CPU_SECONDS:
            self._loop.hooks.note_cpu(spent)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor."""
        key = self._selector.register(fileobj, events, data)
        self._registered.add(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch it no more; its number may soon be another's."""
        key = self._selector.unregister(fileobj)
        self._registered.discard(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch it for something else."""
        return self._selector.modify(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """Return the registration of a descriptor."""
        return self._selector.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return all registrations."""
        return self._selector.get_map()

    def close(self) -> None:
        """Give the machine's selector back."""
        self._registered.clear()
        self._selector.close()

    # what the idle loop asks for ------------------------------------------------------------------------------------

    @property
    def more(self) -> bool:
        """Whether anything but the loop's own wake-up pipe is registered."""
        return len(self._registered) > self._own

    def active(self) -> bool:
        """Whether something is in flight that keeps time from moving."""
        if len(self._registered) <= self._own:
            return False
        names, self.seconds = self._descriptors.in_flight(self._selector.get_map().values())
        return bool(names)

    def poll(self) -> Events:
        """Return what is ready now, without a system call where only the wake-up pipe is registered, and no signal."""
        if len(self._registered) <= self._own and not self.hears_signals:
            return []
        events = self._in_order(self._selector.select(0))
        if events:
            self._descriptors.heard(events)
            return self._loop.lives.for_the_living(events)
        return events

    def _in_order(self, events: Events) -> Events:
        """Let what came wait for the other answers, and sort them all."""
        if not self.orders or not events:
            return events
        self._let_come({key.fd for key, _ in events})
        return self._descriptors.in_order(self._selector.select(0))

    def take_turn(self, descriptor: int) -> None:
        """Wait in real time until what was asked on other descriptors is answered, where answers are ordered."""
        if self.orders:
            self._let_come({descriptor})

    def _let_come(self, there: set[int]) -> None:
        """Wait until an answer has come on all but these; not for what waits for a lock, nor for too long."""
        until = real_seconds() + self._descriptors.order_seconds
        self.orders = False  # The database is asked about its locks by a client that must not wait for its turn.
        while missing := self._descriptors.missing(list(self._selector.get_map().values()), besides=there):
            with selectors.DefaultSelector() as others:
                for key in missing:
                    others.register(key.fd, key.events)
                came = {key.fd for key, _ in others.select(LOOK_SECONDS)}
            there |= came
            if not came and self._descriptors.are_locked(missing):
                break
            if not came and real_seconds() > until:
                self._descriptors.wait_no_more(missing)
        self.orders = True

    def wait(self, seconds: float) -> Events:
        """Wait for the machine in real time; `taken` returns what it said."""
        self._events = self._in_order(self._selector.select(seconds))
        self._descriptors.heard(self._events)
        return self._events

    def taken(self) -> Events:
        """Return what the machine said last, once."""
        events, self._events = self._events, []
        return self._loop.lives.for_the_living(events)


_OURS = (*FOLDERS, "<")
_STANDARD = str(Path(asyncio.__file__).parents[1])


class _NoEventLoop:
    """A policy of asyncio for code of the dead: it is cancelled where it asks for a loop."""

    def get_event_loop(self) -> NoReturn:
        """Return none: up to Python 3.13 asyncio makes one here, or finds the test's own."""
        raise asyncio.CancelledError("a dead process has no event loop")

    new_event_loop = get_event_loop


@contextlib.contextmanager
def _without_event_loop() -> Generator[None]:
    # A pool of SQLAlchemy ends its connections in tasks, also where it is closed with the frame that used it.
    # `_event_loop_policy`: on CPython 3.11 to 3.14; to set it in public warns from 3.14 on.
    policy, events._event_loop_policy = events._event_loop_policy, _NoEventLoop()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        events._event_loop_policy = policy  # type: ignore[attr-defined]


def place_of(frame: FrameType | None) -> str:
    """Name the nearest line that is neither the harness's nor the standard library's, as `file:line in function`."""
    nearest = frame
    while frame is not None and _is_others(frame.f_code.co_filename):
        frame = None if frame.f_code is VirtualLoop.run_forever.__code__ else frame.f_back
    frame = frame or nearest
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _is_others(name: str) -> bool:
    return name.startswith(_OURS) or (name.startswith(_STANDARD) and "site-packages" not in name)


MOST_SHOWN = 10


def describe_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Name each unfinished task and the line at which it waits, at most ten."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    lines = [f"  {task.get_name()}: {describe_task(task)}" for task in tasks[:MOST_SHOWN]]
    if len(tasks) > MOST_SHOWN:
        lines.append(f"  and {len(tasks) - MOST_SHOWN} more")
    return "\n".join(lines) if lines else "  no task is left"


def describe_task(task: asyncio.Task[Any]) -> str:
    """Say where a task waits."""
    frame = _innermost(task.get_coro())
    if frame is None:
        return repr(task)
    code = frame.f_code
    return (
        f"{code.co_qualname if hasattr(code, 'co_qualname') else code.co_name} at {code.co_filename}:{frame.f_lineno}"
    )


def _innermost(awaited: Any) -> FrameType | None:
    """Follow what a coroutine awaits to the last frame that is known, the user's own where asyncio's is below."""
    frames: list[FrameType] = []
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            frames.append(frame)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    own = [frame for frame in frames if "asyncio/" not in frame.f_code.co_filename.replace("\\", "/")]
    chosen = own or frames
    return chosen[-1] if chosen else None
