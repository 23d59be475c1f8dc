"""`pytest --job-explore` and `--job-replay`: a test of `job_harness` as a campaign, told in pytest's words.

A test is played again and again, each time in a forked process, with choices at every gate. Hides how a run is carried
out in a child (fork, what of the harness is made anew there, how the child tells what it saw) and how runs are chosen:
first the undisturbed one, twice; then one deviation at a time, the gravest first; then several at random. How a run is
shown is the report's work.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import random
import re
import select
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, cast

import pytest

from harness.adapters.reference.application import HAND_OUT_TWICE
from harness.errors import HarnessError, Hung, UsageError
from harness.failure_section import draw
from harness.faults import FaultPlan
from harness.faults.messages import DUPLICATE, LOST_MESSAGE, REPLY, REQUEST, TWICE
from harness.faults.processes import AFTER, BEFORE, CRASH, PAST
from harness.foreign.peer import end_descendants, end_tree
from harness.history.event import History
from harness.history.jsonl import dump_history, load_history
from harness.invariants import Anomaly
from harness.model.duration import SECOND, parse_duration
from harness.model.settings import Settings
from harness.processors.job_harness import JobHarness
from harness.report.screen import first_screen, screen_text
from harness.run.session import as_on_tape
from harness.run.verdict import Run
from harness.scenario.replay_token import ReplayToken, decode, encode
from harness.scenario.scenario import Scenario
from harness.sim.choices import OTHERS_FIRST, Choices, Deviation, Option, Options, Replay, Tape, Uniform

__all__ = ["ExploredTest", "InChild"]

RUNS = 200
EXPLORED = "job-harness: explored"
"""The section of a report that tells what a campaign came to."""


@dataclass(slots=True)
class ExploredTest:
    """One test item, the bounds of its campaign, and the tape that it is to play instead."""

    item: pytest.Function
    campaign: TestExploration
    tape: Tape | None = None

    @classmethod
    def of(cls, item: pytest.Function, *, option: str | None, token: str | None, marker: Any) -> ExploredTest:
        """Read what was asked for. Fails the test, in words, where that makes no sense."""
        try:
            runs, seconds = _bounds(option, marker)
            harness = cast(JobHarness, item.funcargs["job_harness"])
            seed = item.config.getoption("--job-seed") or 0
            explored = cls(item, TestExploration(harness, runs=runs, seconds=seconds, seed=seed))
            if token is not None:
                read = decode(token)
                read.expect(_target(item), called=item.nodeid)
                explored.tape = read.tape
            elif why := harness.unforkable:
                explored.campaign.unsure = why
            elif not can_fork():
                raise UsageError("--job-explore forks each run, and this system cannot", hint="Explore on Linux.")
        except HarnessError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        return explored

    def explore(self) -> None:
        """Play the test many times, or set it up to play the tape. Raises InChild in every child."""
        if self.tape is not None:
            self.campaign.replay(self.tape)
        elif not self.campaign.unsure:
            self.campaign.explore()

    def tell(self) -> None:
        """Fail the test with what was found; skip it, with the reason, where nothing could be judged."""
        campaign = self.campaign
        if self.tape is not None:
            self._tell_replayed(self.tape)
            return
        disturbed = max(0, campaign.played - 2)
        rate = f"{disturbed / campaign.spent:.0f} runs/s" if campaign.spent else ""
        lost = [f"{count} told nothing: {why}" for why, count in campaign.lost.items()]
        self.item.add_report_section("call", EXPLORED, "\n".join([f"{disturbed} disturbed runs ({rate})", *lost]))
        if campaign.unsure:
            pytest.skip(f"inconclusive: {campaign.unsure}")
        if campaign.finding is not None:
            pytest.fail(self._screen(), pytrace=False)
        if unjudged := sum(campaign.lost.values()):
            pytest.skip(f"inconclusive: {unjudged} of {disturbed} runs were not judged; {'; '.join(lost)}")

    def tell_failed(self) -> None:
        """Where the test itself failed, that is told; a replay fails by its anomaly first, where it shows one."""
        if self.tape is not None:
            self.campaign.harness.come_to_rest()
            self._fail_by_anomaly()

    def _tell_replayed(self, tape: Tape) -> None:
        harness = self.campaign.harness
        harness.come_to_rest()
        self._fail_by_anomaly()
        if missing := [deviation for deviation in tape if deviation not in harness.tape]:
            told = "; ".join(map(str, missing))
            pytest.skip(f"inconclusive: the token no longer fits this test: {told} never came up")

    def _fail_by_anomaly(self) -> None:
        harness = self.campaign.harness
        if harness.anomalies:
            seen = PlayedTest(harness.anomalies, harness.tape, dump_history(harness.history), now=harness.now_instant)
            pytest.fail(self._shown(seen, seen.anomalies[0].name), pytrace=False)

    def _screen(self) -> str:
        finding = self.campaign.finding
        assert finding is not None
        screen = self._shown(finding.played, finding.anomaly)
        return f"{screen}\nFound in {finding.runs} runs; shrunk in {finding.shrink_runs} runs."

    def _shown(self, seen: PlayedTest, anomaly: str) -> str:
        harness = self.campaign.harness
        title = f"{anomaly} in {self.item.name}"
        run = seen.run(title=title, settings=harness.settings, engine=harness.engine)
        token = encode(ReplayToken(_target(self.item), self.campaign.seed, seen.tape))
        command = f"pytest {shlex.quote(self.item.nodeid)} --job-replay {token}"
        draw(run, self.item, replay=command, lead=anomaly)
        return screen_text(first_screen(run, title=title, replay=command, lead=anomaly)).rstrip()


def _bounds(option: str | None, marker: Any) -> tuple[int, float | None]:
    runs, seconds = RUNS, None
    if marker is not None:
        if marker.args or set(marker.kwargs) - {"runs", "seconds"}:
            raise UsageError(
                f"job_explore takes runs and seconds by name, not {marker.args or sorted(marker.kwargs)}",
                hint="Write @pytest.mark.job_explore(runs=200).",
            )
        runs, seconds = marker.kwargs.get("runs", RUNS), marker.kwargs.get("seconds")
    if option:
        if option.isascii() and option.isdigit():
            runs, seconds = int(option), None
        else:
            runs, seconds = 1_000_000, parse_duration(option) / SECOND
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise UsageError(f"job_explore: runs must be at least 1, not {runs!r}")
    return runs, seconds


def _target(item: pytest.Function) -> str:
    """Return the digest of what a token is of: the test by its name and its source."""
    try:
        source = inspect.getsource(item.function)
    except (OSError, TypeError):
        source = ""
    return hashlib.sha256(f"{item.name}\0{source}".encode()).hexdigest()[:12]


RUN_SECONDS: Final = 30.0
"""Real seconds after which one run of a test counts as hanging."""
MOST_HUNG: Final = 3
"""Runs that hung after which a campaign gives up: each takes as long as one may."""
BY_GRAVITY: Final = (
    BEFORE.option(CRASH.id),
    AFTER.option(CRASH.id),
    REPLY.option(LOST_MESSAGE.id),
    HAND_OUT_TWICE,
    PAST,
    TWICE.option(DUPLICATE.id),
    REQUEST.option(LOST_MESSAGE.id),
    OTHERS_FIRST,
)
"""Single deviations, those that break most processors first."""
SINGLE_SHARE: Final = 0.6
"""The share of the runs with a single deviation, where there are more of them than runs."""
MOST_SHRINKING: Final = 200


@dataclass(frozen=True, slots=True)
class PlayedTest:
    """What one run of a test came to."""

    anomalies: tuple[Anomaly, ...] = ()
    tape: Tape = ()
    history: str = ""
    """As JSON lines."""
    failure: str = ""
    """What the test's own code raised."""
    gates: tuple[tuple[str, int, tuple[Option, ...]], ...] = ()
    """Label, number and options of every gate, where they were listed."""
    now: int = 0
    lost: str = ""
    """Why nothing is known of it: the process died or hung."""
    hung: bool = False

    @property
    def found(self) -> frozenset[str]:
        """The names of the anomalies."""
        return frozenset(anomaly.name for anomaly in self.anomalies)

    def run(self, *, title: str, settings: Settings, engine: str) -> Run:
        """Return it as a run, for a report."""
        history: History = load_history(self.history.splitlines())
        return Run(
            scenario=Scenario(title=title, settings=settings),
            engine=engine,
            history=history,
            tape=self.tape,
            anomalies=self.anomalies,
            now=self.now,
        )


class ListedGates(Replay):
    """Deviates nowhere, and remembers every gate with its options."""

    def __init__(self) -> None:
        super().__init__(())
        self.gates: list[tuple[str, int, tuple[Option, ...]]] = []
        self._count: dict[str, int] = {}

    def gate(self, label: str, options: Options) -> Option | None:
        """Remember the gate, and go on as usual."""
        nth = self._count[label] = self._count.get(label, 0) + 1
        self.gates.append((label, nth, tuple(options())))
        return None


class InChild(BaseException):
    """Raised in a forked child, for the code that plays the test to catch."""

    def __init__(self, child: ChildRun) -> None:
        super().__init__()
        self.child = child


class ChildRun:
    """The forked side of one run: the test is played here, and nothing of it gets out but what is written."""

    def __init__(self, harness: JobHarness, choices: Choices, faults: FaultPlan, *, to: int) -> None:
        self._harness = harness
        self._choices = choices
        self._to = to
        quiet = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(quiet, stream)
        harness.reopen(choices, faults)

    def finish(self, error: BaseException | None) -> NoReturn:
        """Bring the jobs to rest, tell what was seen, and end this process with whatever it has started."""
        try:
            self._write(error)
            end_descendants()
        finally:
            os._exit(0)

    def _write(self, error: BaseException | None) -> None:
        harness = self._harness
        if isinstance(error, Hung):
            self._tell(PlayedTest(lost=error.message, hung=True))
            return
        harness.come_to_rest()
        if not harness.anomalies and (left := harness.left_behind()):
            words = re.sub(r"process \d+", "process", left[0])
            self._tell(PlayedTest(lost=f"a processor left something running: {words}"))
            return
        listed = self._choices.gates if isinstance(self._choices, ListedGates) else ()
        seen = PlayedTest(
            anomalies=harness.anomalies,
            tape=harness.tape,
            history=dump_history(harness.history),
            failure="" if error is None else f"{type(error).__name__}: {error}",
            gates=tuple(listed),
            now=harness.now_instant,
        )
        self._tell(seen)

    def _tell(self, seen: PlayedTest) -> None:
        with os.fdopen(self._to, "wb") as out:
            pickle.dump(seen, out)


@dataclass(frozen=True, slots=True)
class TestFinding:
    """An anomaly that a disturbed run of a test showed, in the smallest run that was found."""

    __test__ = False  # It is no test of pytest's.

    anomaly: str
    played: PlayedTest
    runs: int
    """How many runs it took to find."""
    shrink_runs: int


@dataclass(slots=True)
class TestExploration:
    """Plays one test many times. `finding` is the first anomaly; `unsure` says why nothing can be said."""

    __test__ = False

    harness: JobHarness
    runs: int = 100
    seconds: float | None = None
    """A bound in real time; None: only the number of runs."""
    seed: int = 0
    finding: TestFinding | None = None
    unsure: str = ""
    played: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    """Why runs told nothing, and how often."""
    hung: int = 0
    """How many of those hung."""
    spent: float = 0.0
    """Real seconds."""

    def explore(self) -> None:
        """Play the undisturbed test twice, then disturbed ones until one shows an anomaly or the bound is reached.

        Raises InChild in every child.
        """
        began = time.monotonic()  # noqa: TID251 - what a campaign costs is real time
        try:
            first = self._play(ListedGates(), as_on_tape())
            again = first if first.lost else self._play(ListedGates(), as_on_tape())
            if why := _unsteady(first, again):
                self.unsure = why
            elif first.failure:
                self.unsure = f"undisturbed, it fails: {first.failure}"
            else:
                self._search(first, began)
        finally:
            self.spent = time.monotonic() - began  # noqa: TID251

    def replay(self, tape: Tape) -> None:
        """Let the harness of this process play a tape from here on."""
        self.harness.reopen(Replay(tape), as_on_tape(), forked=False)

    def _search(self, first: PlayedTest, began: float) -> None:
        for choices, faults in self._plans(first):
            late = self.seconds is not None and time.monotonic() - began > self.seconds  # noqa: TID251
            if self.played >= self.runs + 2 or late or self.hung >= MOST_HUNG:
                return
            seen = self._play(choices, faults)
            if seen.lost:
                self.lost[seen.lost] = self.lost.get(seen.lost, 0) + 1
                self.hung += seen.hung
            elif seen.anomalies:
                self.finding = self._shrunk(seen)
                return

    def _plans(self, first: PlayedTest) -> Iterator[tuple[Choices, FaultPlan]]:
        singles = _singles(first.gates)
        most = len(singles) if len(singles) < self.runs else int(self.runs * SINGLE_SHARE)
        for deviation in singles[:most]:
            yield Replay([deviation]), as_on_tape()
        rates = (1.5 / max(1, len(first.gates)), 3 / max(1, len(first.gates)), 0.25)
        for number in range(self.runs):
            seed = self.seed * 1_000_003 + number
            yield Uniform(seed, rate=min(0.5, rates[number % len(rates)])), _drawn_plan(seed)

    def _shrunk(self, seen: PlayedTest) -> TestFinding:
        """Leave out deviations, one at a time, as long as the gravest anomaly stays."""
        anomaly = seen.anomalies[0].name
        found, runs, best = self.played - 2, 0, seen
        again = True
        while again and runs < MOST_SHRINKING:
            again = False
            for shorter in _shorter(best.tape):
                runs += 1
                tried = self._play(Replay(shorter), as_on_tape())
                if anomaly in tried.found and len(tried.tape) < len(best.tape):
                    best, again = tried, True
                    break
        return TestFinding(anomaly, best, runs=found, shrink_runs=runs)

    # one run --------------------------------------------------------------------------------------------------------

    def _play(self, choices: Choices, faults: FaultPlan) -> PlayedTest:
        self.played += 1
        out, into = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: threads beside a fork
            pid = os.fork()
        if pid == 0:
            os.close(out)
            raise InChild(ChildRun(self.harness, choices, faults, to=into))
        os.close(into)
        return _heard(pid, out)


def _heard(pid: int, out: int) -> PlayedTest:
    """Read what a child tells, and wait for its end; one that hangs is killed."""
    told, deadline = bytearray(), time.monotonic() + RUN_SECONDS  # noqa: TID251
    try:
        while True:
            left = deadline - time.monotonic()  # noqa: TID251
            if left <= 0 or not select.select([out], [], [], left)[0]:
                end_tree(pid)
                return PlayedTest(lost=f"it did not end within {RUN_SECONDS:g} s", hung=True)
            part = os.read(out, 1 << 16)
            if not part:
                break
            told += part
    finally:
        os.close(out)
        _, status = os.waitpid(pid, 0)
    if not told:
        code = os.waitstatus_to_exitcode(status)
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return PlayedTest(lost=f"its process ended before it was judged ({how})")
    try:
        seen: PlayedTest = pickle.loads(told)
    except Exception as error:  # noqa: BLE001 - whatever a processor wrote among it
        return PlayedTest(lost=f"what its process told cannot be read ({type(error).__name__})")
    return seen


def _unsteady(first: PlayedTest, again: PlayedTest) -> str:
    """Say why two undisturbed runs are not one and the same."""
    for seen in (first, again):
        if seen.lost:
            return f"undisturbed, {seen.lost}"
    if first.history == again.history and first.failure == again.failure:
        return ""
    lines = zip(first.history.splitlines(), again.history.splitlines(), strict=False)
    differing = next(((one, other) for one, other in lines if one != other), ("", ""))
    return (
        "two undisturbed runs differ, so no disturbed one can be judged; the first difference:\n"
        f"  {differing[0][:200]}\n  {differing[1][:200]}\n"
        "Real I/O, unseeded chance or state that a test leaves behind in a module are the usual causes."
    )


def _singles(gates: Sequence[tuple[str, int, tuple[Option, ...]]]) -> list[Deviation]:
    """List each gate's deviations, the gravest first, workers before the cron."""
    return [
        Deviation(label, nth, option.words)
        for option in BY_GRAVITY
        for worker in (True, False)
        for label, nth, options in gates
        if option in options and label.startswith("worker-") is worker
    ]


def _drawn_plan(seed: int) -> FaultPlan:
    draw = random.Random(seed ^ 0x5DEECE66D)
    return FaultPlan(
        crash=draw.randint(0, 2),
        pause=draw.randint(0, 2),
        lost_message=draw.randint(0, 2),
        duplicate=draw.randint(0, 1),
        clock_offset=draw.randint(0, 1),
        lateness=draw.randint(0, 1),
    )


def _shorter(tape: Tape) -> Iterator[Tape]:
    size = len(tape) // 2
    while size:
        for start in range(0, len(tape), size):
            yield (*tape[:start], *tape[start + size :])
        size //= 2


def user_threads(before: frozenset[int]) -> list[str]:
    """Name the threads that were started since `before`: a fork leaves them behind, perhaps with a lock held."""
    here = threading.current_thread()
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not here and thread.ident not in before and thread.is_alive()
    ]


def can_fork() -> bool:
    """Whether this machine can play a test in a forked child."""
    return hasattr(os, "fork") and sys.platform != "win32"
