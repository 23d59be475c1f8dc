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
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any

from harness.explore.finding import Tally, Trouble, Unsteady
from harness.explore.sampling import DRAWN_LIMITS, Sampler, Watch
from harness.explore.shards import WHOLE, Shard
from harness.explore.strategy import Strategy
from harness.explore.watchdog import PATIENCE, StepHung, StepWatchdog
from harness.interruption import SIGNALS
from harness.model.settings import Settings
from harness.port import without_anomalies
from harness.run.session import Limits

BOOT = "import sys; sys.path[:] = sys.argv[2:]; from harness.explore.process_pool import serve; serve(int(sys.argv[1]))"
SMALLEST, LARGEST = 4, 64
"""How many runs are handed out at a time: few where a run takes long."""
SHORT = 0.1
"""Seconds of real time that a stretch should take."""
TICK = 0.2


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """What a process of the pool needs to know; it opens the target itself."""

    opener: str
    """`module:function`, which answers an engine for a target."""
    target: str
    settings: Settings
    looking_for: frozenset[str] = frozenset()
    strategy: Strategy = Strategy.PORTFOLIO
    keep_going: bool = False
    patience: float = PATIENCE
    steps: int = DRAWN_LIMITS.steps
    """After this many steps a run ends."""
    without: frozenset[str] = frozenset()
    """Anomalies that are not reported."""
    shard: Shard = WHOLE
    """Which runs are done here."""


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
            hint="What the runs before found is kept. Do them again with --processes 1 to see where it happens.",
        )


class ProcessPool:
    """A context manager: the processes live as long as it is entered."""

    def __init__(self, plan: CampaignPlan, *, size: int) -> None:
        self.plan = plan
        self.size = size
        self._members: list[_PoolProcess] = []
        self._stretch = SMALLEST

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
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
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

    def tallies(self, *, seed: int, runs: int, watch: Watch) -> Iterator[Tally]:
        """Hand out stretches and yield what they came to, in the order of their runs."""
        order: deque[int] = deque()
        done: dict[int, Tally] = {}
        following = 0
        counted = 0
        going = True
        while True:
            for member in self._members:
                following, own = self.plan.shard.after(following, runs)
                going = going and own > 0 and watch(counted)
                if going and member.first < 0:
                    count = min(self._stretch, own)
                    order.append(following)
                    self._give(member, seed, following, count)
                    following += count
            busy = [member for member in self._members if member.first >= 0]
            if not busy:
                return
            for tally in self._taken(busy):
                done[tally.first] = tally
                counted += tally.runs
                stop = tally.trouble is not None or tally.unsteady is not None
                going = going and not stop and (self.plan.keep_going or not tally.hits)
            while order and order[0] in done:
                yield done.pop(order.popleft())

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

    def _give(self, member: _PoolProcess, seed: int, first: int, count: int) -> None:
        member.first, member.count, member.given = first, count, time.perf_counter()
        try:
            member.pipe.send((seed, first, count))
        except OSError:
            return  # It is gone, which shows when its answer is read.

    def _taken(self, busy: list[_PoolProcess]) -> Iterator[Tally]:
        ready = wait([member.pipe for member in busy], timeout=TICK)
        for member in busy:
            if member.pipe not in ready:
                continue
            try:
                tally: Tally = member.pipe.recv()
            except (EOFError, OSError):
                tally = Tally(member.first, trouble=member.died())
            else:
                self._pace(time.perf_counter() - member.given)
            member.first = -1
            yield tally

    def _pace(self, seconds: float) -> None:
        size = (
            self._stretch * 2 if seconds < SHORT / 2 else self._stretch // 2 if seconds > SHORT * 2 else self._stretch
        )
        self._stretch = max(SMALLEST, min(LARGEST, size))


def serve(descriptor: int) -> None:
    """Serve until the parent goes. Signals are for the parent; what a target prints goes to stderr."""
    for number in SIGNALS:
        signal.signal(number, _leave_it)  # A handler ends with `exec`: what is started here is not deaf.
    os.dup2(2, 1)
    pipe: Connection[Any, Any] = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(pipe)


def _leave_it(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


def _serve(pipe: Connection[Any, Any]) -> None:
    plan: CampaignPlan = pipe.recv()
    try:
        engine = _open(plan)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever keeps it from opening is told to the parent
        _, first, _ = pipe.recv()
        pipe.send(Tally(first, trouble=Trouble.of(error, engine=plan.target)))
        return
    try:
        with StepWatchdog(plan.patience) as watchdog:
            _work(pipe, _sampler(plan, engine, watchdog))
    finally:
        engine.close()


def _open(plan: CampaignPlan) -> Any:
    module, _, name = plan.opener.partition(":")
    return without_anomalies(getattr(import_module(module), name)(plan.target), plan.without, why="--without")


def _sampler(plan: CampaignPlan, engine: Any, watchdog: StepWatchdog) -> Sampler:
    return Sampler(
        engine,
        plan.settings,
        plan.looking_for,
        strategy=plan.strategy,
        keep_going=plan.keep_going,
        watchdog=watchdog,
        limits=Limits(steps=plan.steps),
    )


def _work(pipe: Connection[Any, Any], sampler: Sampler) -> None:
    while True:
        request = pipe.recv()
        if request is None:
            pipe.send(_again(sampler))
            continue
        seed, first, count = request
        tally = Tally(first)
        sampler.stretch(tally, seed=seed, count=count)
        pipe.send(tally)


def _again(sampler: Sampler) -> Any:
    try:
        return sampler.again()
    except (StepHung, Exception):  # noqa: BLE001 - it went through once; what it does now is no finding
        return None
