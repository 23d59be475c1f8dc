"""Several processes that share the runs of a campaign; which of them does a run changes nothing in what it comes to.

A stretch of runs goes to whichever process is free; results are passed on in the order of the runs.
The processes end their parent: their pipe breaks. One that is killed is reported, with the runs
that it had in hand.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any

from job_harness.core.interruption import SIGNALS
from job_harness.search.finding import Tally, Trouble, Unsteady
from job_harness.search.loop import Here, Player
from job_harness.search.sampling import CampaignPlan, Sampler, Stretch, first_run_again
from job_harness.search.watchdog import StepWatchdog

BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; from job_harness.search.process_pool import serve; serve(int(sys.argv[1]))"
)
SMALLEST = 4
"""How many runs are handed out at a time at first, and where a run takes long."""
TICK = 0.2
"""Real seconds after which a crew that waits looks up."""
LARGEST = 64
"""How many runs are handed out at a time at most."""
SHORT = 0.1
"""Seconds of real time that a stretch should take."""
ALONE = 1.0
"""Real seconds of a search before it may start processes: most that find something are over by then."""
WORTH = 5.0
"""Processes are started where the rest would take longer than this: with a server each takes a second to start."""


@dataclass(slots=True)
class _PoolProcess:
    name: str
    process: subprocess.Popen[bytes]
    pipe: Connection[Any, Any]
    number: int = 0
    stretch: Stretch | None = None
    """What it has in hand, and which that is."""
    given: float = 0.0

    def died(self) -> Trouble:
        """Say how it ended."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        had = f" while it did {self.stretch}" if self.stretch is not None else ""
        return Trouble(
            f"{self.name} (pid {self.process.pid}) {how}{had}",
            hint="Earlier findings are kept. Repeat the runs with --processes 1 to see where it happens.",
        )


class ProcessPool:
    """A context manager: the processes live as long as it is entered."""

    def __init__(self, plan: CampaignPlan, *, size: int) -> None:
        self.plan = plan
        self.size = size
        self._members: list[_PoolProcess] = []
        self.stretch = SMALLEST
        self.notes: tuple[str, ...] = ()
        self._ended = False

    def __enter__(self) -> ProcessPool:
        try:
            for number in range(1, self.size + 1):
                self._members.append(self._start(number))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _start(self, number: int) -> _PoolProcess:
        ours, theirs = Pipe()
        command = [sys.executable, "-c", BOOT, str(theirs.fileno()), *sys.path]
        # A signal that comes while it starts, which is the parent's to answer, waits until `serve` handles signals.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        ours.send(self.plan)
        return _PoolProcess(f"process {number}", process, ours)

    def _end(self) -> None:
        """Close the pipes, which ends the processes that wait, and end the others."""
        for member in self._members:
            member.pipe.close()
        for member in self._members:
            try:
                member.process.wait(timeout=5.0 if member.stretch is None else 0.0)
            except subprocess.TimeoutExpired:
                member.process.kill()
        for member in self._members:
            member.process.wait()
        self._members.clear()

    # work -----------------------------------------------------------------------------------------------------------

    def free(self) -> int:
        """Return how many processes have nothing to do."""
        return 0 if self._ended else sum(member.stretch is None for member in self._members)

    def again(self) -> Unsteady | None:
        """Let each process do its first run once more; return the earliest run that differs."""
        answers: list[Unsteady] = []
        for member in self._members:
            try:
                member.pipe.send(None)
                answer = member.pipe.recv()
            except (EOFError, OSError):
                continue
            if answer is not None:
                answers.append(answer)
        return min(answers, key=lambda answer: answer.number, default=None)

    def give(self, number: int, stretch: Stretch, /) -> None:
        """Hand a stretch to a process that is free."""
        member = next(member for member in self._members if member.stretch is None)
        member.number, member.stretch, member.given = number, stretch, time.perf_counter()
        with contextlib.suppress(OSError):  # It is gone, which shows when its answer is read.
            member.pipe.send(stretch)

    def taken(self) -> Iterator[tuple[int, Tally]] | None:
        """Wait for an answer, but not for long; None: no process is at work."""
        busy = {member.pipe: member for member in self._members if member.stretch is not None}
        return self._answers(busy) if busy else None

    def _answers(self, busy: Mapping[Any, _PoolProcess]) -> Iterator[tuple[int, Tally]]:
        for pipe in wait(list(busy), timeout=TICK):
            member = busy[pipe]
            assert member.stretch is not None
            try:
                tally: Tally = member.pipe.recv()
            except (EOFError, OSError):
                tally = Tally(first=member.stretch.first, trouble=member.died(), ends=True)
            else:
                self.stretch = paced(self.stretch, time.perf_counter() - member.given, aim=SHORT, most=LARGEST)
            member.stretch = None
            self._ended |= tally.ends
            yield member.number, tally


class GrowingPool:
    """Does the runs here, and shares them among processes where that is seen to be worth it after `ALONE` seconds.

    A context manager: what it started lives as long as it is entered.
    """

    def __init__(self, sampler: Sampler, plan: CampaignPlan, *, size: int, limit: float | None = None) -> None:
        """`limit`: real seconds after which the search is ended by its watch."""
        self.sampler = sampler
        self.notes: tuple[str, ...] = ()
        self._pool = ProcessPool(plan, size=size)
        self._here = Here(sampler.play)
        self._crew: Player[Stretch, Tally] = self._here
        self._limit = limit
        self._stack = ExitStack()
        self._began = 0.0
        self._done = 0

    def __enter__(self) -> GrowingPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @property
    def stretch(self) -> int:
        """How many runs to hand out at a time: here, one."""
        return 1 if self._crew is self._here else self._pool.stretch

    def free(self) -> int:
        """Return how much more can be given."""
        return self._crew.free()

    def give(self, number: int, stretch: Stretch, /) -> None:
        """Begin here, or where it is seen to be worth it elsewhere."""
        now = time.perf_counter()
        self._began = self._began or now
        if self._crew is self._here and self._done and self._is_worth(stretch.left, now - self._began):
            self._crew = self._stack.enter_context(self._pool)
        self._done += 1
        self._crew.give(number, stretch)

    def taken(self) -> Iterable[tuple[int, Tally]] | None:
        """Do what was given, or wait for it."""
        return self._crew.taken()

    def _is_worth(self, left: int, spent: float) -> bool:
        if spent <= ALONE:
            return False
        seconds = left * spent / self._done
        return (seconds if self._limit is None else min(seconds, self._limit - spent)) > WORTH

    def again(self) -> Unsteady | None:
        """Do the first run of each process once more; return the earliest that differs."""
        answers = (self.sampler.again(), self._pool.again())
        return min(filter(None, answers), key=lambda answer: answer.number, default=None)


def serve(descriptor: int) -> None:
    """Serve until the parent goes. Signals are for the parent; what a target prints goes to stderr."""
    for number in SIGNALS:
        signal.signal(number, _leave_it)  # A handler ends with `exec`: what is started here is not deaf.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.dup2(2, 1)
    pipe: Connection[Any, Any] = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(pipe)


def _leave_it(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


def _serve(pipe: Connection[Any, Any]) -> None:
    plan: CampaignPlan = pipe.recv()
    try:
        engine = plan.open()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever keeps it from opening is told to the parent
        stretch: Stretch = pipe.recv()
        pipe.send(Tally(first=stretch.first, trouble=Trouble.of(error, engine=plan.target), ends=True))
        return
    try:
        with StepWatchdog(plan.patience) as watchdog:
            _work(pipe, plan.sampler(engine, watchdog))
    finally:
        engine.close()


def _work(pipe: Connection[Any, Any], sampler: Sampler) -> None:
    while True:
        stretch: Stretch | None = pipe.recv()
        pipe.send(first_run_again(sampler) if stretch is None else sampler.play(stretch))


def paced(stretch: int, seconds: float, *, aim: float, most: int) -> int:
    """Return how many runs to hand out, where the last stretch took this long and should take `aim`."""
    size = stretch * 2 if seconds < aim / 2 else stretch // 2 if seconds > aim * 2 else stretch
    return max(SMALLEST, min(most, size))
