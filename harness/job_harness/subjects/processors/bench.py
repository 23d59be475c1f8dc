"""What the jobs of one test run on: a loop on virtual time with its threads, a queue and its worker, and Node.

Opens all of it, lets it work, and closes it. Knows neither what a test says about its jobs nor who
plays it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Generator
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

from job_harness.core.faults import FaultPlan
from job_harness.core.faults.clocks import LATENESS
from job_harness.core.garbage import collecting_seldom
from job_harness.core.history import History
from job_harness.core.invariants import Invariant
from job_harness.core.invariants.steps import STEPS
from job_harness.core.model import SECOND, Duration, Instant, Settings, Status
from job_harness.core.sim import Choices
from job_harness.core.sim.guest_threads import LoopHooks
from job_harness.core.sim.loop import VirtualLoop
from job_harness.errors import Hung, UsageError
from job_harness.subjects.processors.clocks import VIRTUAL, freeze_kept, open_guests
from job_harness.subjects.processors.demands import Demands
from job_harness.subjects.processors.descent import Bounds, Descent
from job_harness.subjects.processors.job_book import JobBook
from job_harness.subjects.processors.leak_detector import LeakDetector
from job_harness.subjects.processors.running import Running
from job_harness.subjects.processors.tests_thread import TestsThread
from job_harness.subjects.processors.thread_handoff import ThreadHandoff
from job_harness.subjects.processors.typescript.node_processor import NodeProcessors
from job_harness.subjects.processors.workplace import MakeWorkplace

if TYPE_CHECKING:
    from job_harness.subjects.processors.job_clock import JobClock


class Bench:
    """The machinery of one `JobHarness`."""

    def __init__(
        self,
        bounds: Bounds,
        *,
        settings: Settings,
        seed: int,
        start: datetime,
        blocked_after: float,
        invariants: tuple[Invariant, ...],
        workplace: MakeWorkplace,
        choices: Choices | None,
        faults: FaultPlan,
        clocks: str,
    ) -> None:
        """Open it; `bounds` says when jobs that enqueue each other count as endless."""
        self._surroundings = TestsThread()
        """What of this test's thread the threads of processors are lent."""
        self.loop = VirtualLoop(busy_seconds=blocked_after, real_patience=blocked_after, hooks=_BenchHooks(self))
        self.guests = self.loop.guests = open_guests(self.loop, start=start, clocks=clocks)
        self.handoff = ThreadHandoff(self.loop, blocked_after=blocked_after, surroundings=self._surroundings)
        self.demands = Demands(choices)
        self.invariants = invariants
        """The test's own."""
        try:
            self.application = workplace(
                self.loop,
                run_blocking=self.handoff,
                invariants=(*invariants, *STEPS),
                choices=self.demands,
                settings=settings,
                seed=seed,
                start=start,
                faults=faults,
            )
        except BaseException:
            self.loop.close()
            raise
        self.session = self.application.session
        self.demands.kernel = self.session.kernel
        self.running = Running(self.loop, self.handoff, self.application, self.demands)
        self.running.surroundings = self._surroundings
        self.node = NodeProcessors(
            self.loop, start=start, timeout_seconds=settings.job_timeout / SECOND, seed=seed, busy_seconds=blocked_after
        )
        self.session.companions.append(self.node)
        if self.session.explored:
            self.node.explore(self.running.stand)
        self.leaks = LeakDetector(self.loop)
        self.interrupts = Interrupts()
        self.book = JobBook(self.session)
        self.descent = Descent(bounds, lambda job: self.book.view(job).tool)
        self.registered: list[Any] = []
        """The processors of the test, as they were found."""
        self.of_tool: dict[str, Any] = {}
        """Those of them that serve a tool."""
        self.frozen = clocks == VIRTUAL
        """Whether `datetime.now()` and its kin follow this harness."""
        self.clock: JobClock | None = None
        """Shows the time of day whenever it moves."""
        self.closed = False

    @property
    def instant(self) -> Instant:
        """The virtual time in microseconds from the start."""
        return self.session.kernel.now

    @property
    def history(self) -> History:
        """Everything that was observed."""
        return self.session.recorder.history

    @property
    def now(self) -> datetime:
        """The current virtual time, in UTC."""
        return self.application.moment(self.instant)

    def drive(self, run: Callable[[], Any]) -> Any:
        """Let the loop run, with all of this test's thread lent to it."""
        self.refuse()
        self.guests.look_around()
        with (
            self._surroundings.lent(),
            self.leaks.watching(),
            freeze_kept(),
            self.interrupts.watched(),
            collecting_seldom(),
        ):
            return run()

    def work(self, jobs: int | None, until: Callable[[], bool], *, at_once: bool = True) -> None:
        """Let the worker make this many attempts, or any number, until a condition holds at rest."""
        self.refuse()
        application = self.application
        application.allow(jobs)
        if at_once:
            application.wake()
        try:
            ended = self.descent.bounded(
                lambda: until() or application.ended, clock=self.loop.time, live=self.session.job_index.live
            )
            self.drive(lambda: self.loop.run_until(ended))
        finally:
            if jobs is None or application.allowance is None:
                application.allow(0)
        application.check()

    def jump(self, length: Duration) -> None:
        """Move the clock and run nothing. Workers that are running a job notice that they are late."""
        self.refuse()
        running = [view.id for view in self.session.job_index.live.values() if view.status is Status.PROCESSING]
        if running and length:
            self.session.recorder.fault("*", LATENESS.event, {"for": length, "by": "the test"})
        self.loop.jump(length / SECOND)

    def refuse_inside(self) -> None:
        """Raise UsageError where a processor tries to move time."""
        if self.loop.is_in_this_thread():
            raise UsageError(
                "a processor cannot move time or run other jobs",
                hint="Inside a processor, await asyncio.sleep(seconds), or enqueue() a job that runs later.",
            )

    def refuse(self) -> None:
        """Raise UsageError where nothing can be let happen: closed, or on a loop that would wait for itself."""
        if self.closed:
            raise UsageError("this harness is closed", hint="Use the fixture only while its test runs.")
        with contextlib.suppress(RuntimeError):
            if asyncio.get_running_loop() is not self.loop:
                raise UsageError(
                    "this test is a coroutine, and its loop cannot wait while job_harness lets time pass",
                    hint="Ask for async_job_harness and await its methods: await async_job_harness.run_until_idle().",
                )
        self.loop.refuse_nesting()

    def break_off(self, why: str) -> None:
        """Let nothing go on any more: whatever lets jobs run from here on raises Hung, which says why.

        How tasks end because of it is not told.
        """
        self.loop.break_with(Hung(why))
        self.loop.set_exception_handler(lambda loop, context: None)

    def close(self) -> None:
        """End worker, maintenance and processors. What still runs has no effect on anything."""
        self.closed = self.running.closed = True
        if self.loop.broken is None:
            self.application.end()
        self.node.close()
        self.handoff.close()
        if self.guests.is_process:
            self.guests.end_process()
        self.guests.close()
        self.loop.lives.end_tasks()
        self.loop.close()
        self.leaks.end_children()


class _BenchHooks(LoopHooks):
    """Lets a bench know what its loop does."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def note_move(self, seconds: float) -> None:
        """Take note that virtual time has moved."""
        bench = self._bench
        bench.session.moved(round(seconds * SECOND))
        bench.interrupts.check()
        if bench.clock is not None:
            bench.clock.follow(bench.now)

    def note_doubt(self, text: str) -> None:
        """Take note of what a verdict cannot rest on."""
        self._bench.leaks.notes[f"real time: {text}"] = None

    def note_block(self, what: str) -> None:
        """Take note of what keeps a worker waiting."""
        self._bench.leaks.note(f"blocking: {what} in a coroutine, which keeps its whole worker waiting,")

    def lend(self, executor: Any, work: Callable[[], Any]) -> Callable[[], Any]:
        """Return work as a thread has to do it that is lent what is the test's."""
        return self._bench._surroundings.lending(executor, work)


class Interrupts:
    """Remembers a Ctrl-C that other code swallowed."""

    def __init__(self) -> None:
        self._pressed = False

    @contextlib.contextmanager
    def watched(self) -> Generator[None]:
        """Watch inside the block, in the main thread, unless other code handles the signal already."""
        mine = threading.current_thread() is threading.main_thread()
        if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt where the key was pressed."""
        if self._pressed:
            self._pressed = False
            raise KeyboardInterrupt

    def _press(self, number: int, frame: FrameType | None) -> None:
        self._pressed = True
        raise KeyboardInterrupt
