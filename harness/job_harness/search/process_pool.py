"""Several processes that share the runs of a campaign; which of them does a run changes nothing in what it comes to.

A stretch of runs goes to whichever process is free; results are passed on in the order of the runs. The processes end
their parent: their pipe breaks. One that is killed is reported, with the runs that it had in hand.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any

from job_harness.core.interruption import SIGNALS
from job_harness.search.crew import SMALLEST, TICK, CampaignPlan, first_run_again, in_order, paced
from job_harness.search.finding import Tally, Trouble, Unsteady
from job_harness.search.sampling import Sampler, Watch
from job_harness.search.watchdog import StepWatchdog

BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; from job_harness.search.process_pool import serve; serve(int(sys.argv[1]))"
)
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
    number: int
    process: subprocess.Popen[bytes]
    pipe: Connection[Any, Any]
    first: int = -1
    """Of the stretch in hand; -1: none."""
    count: int = 0
    given: float = 0.0

    def died(self) -> Trouble:
        """Say how it ended."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        had = f" while it did runs {self.first} to {self.first + self.count - 1}" if self.first >= 0 else ""
        return Trouble(
            f"process {self.number} (pid {self.process.pid}) {how}{had}",
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
        return _PoolProcess(number, process, ours)

    def _end(self) -> None:
        """Close the pipes, which ends the processes that wait, and end the others."""
        for member in self._members:
            member.pipe.close()
        for member in self._members:
            try:
                member.process.wait(timeout=0.0 if member.first >= 0 else 5.0)
            except subprocess.TimeoutExpired:
                member.process.kill()
        for member in self._members:
            member.process.wait()
        self._members.clear()

    # work -----------------------------------------------------------------------------------------------------------

    def tallies(self, *, seed: int, runs: int, watch: Watch, following: int = 0, counted: int = 0) -> Iterator[Tally]:
        """Hand out stretches and yield what they came to, in the order of their runs; see `in_order`."""
        return in_order(self, seed=seed, runs=runs, watch=watch, following=following, counted=counted)

    def free(self) -> int:
        """Return how many processes have nothing to do."""
        return sum(member.first < 0 for member in self._members)

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

    def give(self, *, seed: int, first: int, count: int) -> None:
        """Hand a stretch to a process that is free."""
        member = next(member for member in self._members if member.first < 0)
        member.first, member.count, member.given = first, count, time.perf_counter()
        with contextlib.suppress(OSError):  # It is gone, which shows when its answer is read.
            member.pipe.send((seed, first, count))

    def taken(self) -> Iterator[Tally] | None:
        """Wait for an answer, but not for long; None: no process is at work."""
        busy = [member for member in self._members if member.first >= 0]
        return self._answers(busy) if busy else None

    def _answers(self, busy: list[_PoolProcess]) -> Iterator[Tally]:
        ready = wait([member.pipe for member in busy], timeout=TICK)
        for member in busy:
            if member.pipe not in ready:
                continue
            try:
                tally: Tally = member.pipe.recv()
            except (EOFError, OSError):
                tally = Tally(member.first, trouble=member.died())
            else:
                self.stretch = paced(self.stretch, time.perf_counter() - member.given, aim=SHORT, most=LARGEST)
            member.first = -1
            yield tally


class GrowingPool:
    """Does the runs here, and shares them among processes where that is seen to be worth it after `ALONE` seconds.

    A context manager: what it started lives as long as it is entered.
    """

    def __init__(self, sampler: Sampler, plan: CampaignPlan, *, size: int, limit: float | None = None) -> None:
        """`limit`: real seconds after which the search is ended by its watch."""
        self.sampler = sampler
        self.notes: tuple[str, ...] = ()
        self._pool = ProcessPool(plan, size=size)
        self._limit = limit
        self._stack = ExitStack()

    def __enter__(self) -> GrowingPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def tallies(self, *, seed: int, runs: int, watch: Watch) -> Iterator[Tally]:
        """Do the runs, in order, the later ones elsewhere."""
        started = time.perf_counter()
        growing = False

        def alone(done: int) -> bool:
            nonlocal growing
            spent = time.perf_counter() - started
            growing = done > 0 and spent > ALONE and self._worth(runs - done, done / spent, spent)
            return not growing and watch(done)

        following = counted = 0
        for tally in self.sampler.tallies(seed=seed, runs=runs, watch=alone):
            following = tally.first + tally.runs
            counted += tally.runs
            yield tally
        if growing:
            pool = self._stack.enter_context(self._pool)
            yield from pool.tallies(seed=seed, runs=runs, watch=watch, following=following, counted=counted)

    def _worth(self, left: int, rate: float, spent: float) -> bool:
        seconds = left / self.sampler.shard.of / max(rate, 1e-9)
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
        _, first, _ = pipe.recv()
        pipe.send(Tally(first, trouble=Trouble.of(error, engine=plan.target)))
        return
    try:
        with StepWatchdog(plan.patience) as watchdog:
            _work(pipe, plan.sampler(engine, watchdog))
    finally:
        engine.close()


def _work(pipe: Connection[Any, Any], sampler: Sampler) -> None:
    while True:
        request = pipe.recv()
        if request is None:
            pipe.send(first_run_again(sampler))
            continue
        seed, first, count = request
        tally = Tally(first)
        sampler.stretch(tally, seed=seed, count=count)
        pipe.send(tally)
