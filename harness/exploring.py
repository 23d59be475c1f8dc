"""`pytest --job-explore` and `--job-replay`: a test of `job_harness` as a campaign, told in pytest's words.

A test is played again and again, in forked processes or in this one, with choices at every gate. Hides how a run is
carried out (what of the harness is made anew, how a child tells what it saw) and how runs are chosen: first the
undisturbed one, twice; then one deviation at a time, the gravest first; then several at random. What keeps the runs
apart is known to `isolation`; how a run is shown is the report's work.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import random
import re
import resource
import select
import shlex
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import pytest

from harness.adapters.reference.application import (
    BEFORE_STARTING,
    GUIDE,
    HAND_OUT_TWICE,
    JobResult,
    ToolJob,
)
from harness.as_scenario import SoughtScenario, TestScript, script_of, write_found
from harness.errors import EnvironmentUnavailable, HarnessError, Hung, UsageError, did_you_mean
from harness.explore.reproduction import FOUND_FOLDER
from harness.explore.shrink import renamed, without
from harness.failure_section import EXPLORED, GATELESS, UNJUDGED, draw, file_name, target_of, token_of
from harness.faults import FaultPlan, read_option
from harness.faults.messages import DUPLICATE, LOST_MESSAGE, REPLY, REQUEST, TWICE
from harness.faults.processes import AFTER, BEFORE, CRASH, PAST
from harness.fixtures import JobPostgres
from harness.foreign.peer import end_descendants, end_tree
from harness.history.event import Effect, History, Observed
from harness.history.jsonl import dump_history, load_history, without_reason
from harness.invariants import Anomaly
from harness.isolation import (
    Inherited,
    Isolation,
    Kept,
    KeptFolder,
    Rerunner,
    has_wider_fixtures,
    isolation_of,
    unforkable_threads,
)
from harness.model.duration import SECOND, parse_duration
from harness.model.json_value import canonical
from harness.model.settings import Settings
from harness.processors.chance import THE_SAME, same_chance
from harness.processors.delivery import effect
from harness.processors.demands import VERBS
from harness.processors.job_harness import JobHarness
from harness.processors.module_state import IN_MEMORY
from harness.report.screen import first_screen, one_line, replay_command, screen_text
from harness.run.session import as_on_tape
from harness.run.verdict import Run
from harness.scenario.replay_token import decode
from harness.scenario.scenario import Scenario
from harness.sim.choices import (
    OTHERS_FIRST,
    Choices,
    Deviation,
    ListedGates,
    Option,
    Options,
    Replay,
    Tape,
    Uniform,
)
from harness.sim.loop import place_of
from harness.sim.watchdog import ControlTaken, Watched

__all__ = ["ExploredTest", "InChild"]

RUNS = 200
MOST_RUNS: Final = 1_000_000
"""Of a campaign that is bounded by time."""
CI_SECONDS: Final = 60.0
"""Real seconds that one test may take where the environment says that this is CI and no limit is given."""
COMMIT_VARIABLES: Final = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT", "BUILDKITE_COMMIT", "CIRCLE_SHA1")
"""Where a CI says which commit it tests."""
NOTHING_DECLARED = (
    "no processor declared an effect(), so a side effect that happens twice goes unseen; call "
    '`effect("charged")`, from harness, in the fake that stands for what charges: `job-harness docs pytest` shows one'
)
OUTLIVES = (
    "is changed by a processor and outlives a crash here; in production a new process begins without it: " + IN_MEMORY
)
GATES = "job-harness: gates"
"""The section of a replay that numbers its gates, for `--job-stop-at`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a marker and the command line ask of a campaign."""

    runs: int = RUNS
    seconds: float | None = None
    """A bound in real time; None: only the number of runs."""
    isolation: Isolation = Isolation.FORK
    known: Mapping[str, date] = field(default_factory=dict)
    """The last day on which a finding fails nothing, by its anomaly or by that and the beginning of its message."""

    @classmethod
    def of(cls, item: pytest.Function, *, option: str | None, marker: Any) -> Asked:
        """Read it. Raises UsageError for what makes no sense."""
        said = {} if marker is None else marker.kwargs
        if marker is not None and (marker.args or set(said) - {"runs", "seconds", "isolation", "known"}):
            raise UsageError(
                f"job_explore takes runs, seconds, isolation and known by name, not {marker.args or sorted(said)}",
                hint="Write @pytest.mark.job_explore(runs=200).",
            )
        runs, seconds = said.get("runs", RUNS), said.get("seconds")
        if option:
            if option.isascii() and option.isdigit():
                runs, seconds = int(option), None
            else:
                runs, seconds = MOST_RUNS, parse_duration(option) / SECOND
        elif seconds is not None and "runs" not in said:
            runs = MOST_RUNS
        if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
            raise UsageError(f"job_explore: runs must be at least 1, not {runs!r}")
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
            raise UsageError(f"job_explore: seconds must be a number above 0, not {seconds!r}")
        if seconds is None and os.environ.get("CI"):
            seconds = CI_SECONDS
        isolation = isolation_of(item, marked=said.get("isolation"))
        return cls(runs, seconds, isolation, _known(said.get("known", {})))


def _known(said: Any) -> Mapping[str, date]:
    days = said.values() if isinstance(said, dict) else ()
    ends = all(isinstance(day, date) and not isinstance(day, datetime) for day in days)
    if not isinstance(said, dict) or not ends or not all(isinstance(key, str) for key in said):
        raise UsageError(
            f"job_explore: known must map an anomaly to the last day on which it is tolerated, not {said!r}",
            hint='Write known={"invariant_violated": date(2026, 12, 1)}.',
        )
    return said


def _seed_of_commit() -> int:
    """Return a seed that is the same for everybody who tests this commit; 0 where no CI says which it is."""
    commit = next((value for name in COMMIT_VARIABLES if (value := os.environ.get(name))), "")
    with suppress(ValueError):
        return int(commit[:8], 16)
    return 0


@dataclass(slots=True)
class ExploredTest:
    """One test item, the bounds of its campaign, and the tape that it is to play instead."""

    item: pytest.Function
    campaign: TestExploration
    asked: Asked
    tape: Tape | None = None
    changed: bool = False
    """Whether the token was made of another version of the test."""
    turn: Turn | None = None
    """The run that a rerun of this test is to play now."""
    gates: NumberedGates | None = None
    told: bool = False
    """Whether the test has failed by what was found, with a screen of its own."""
    scenario: str = ""
    """Where what was found was written as a scenario, and how that is replayed; or why it was not."""

    @classmethod
    def of(
        cls, item: pytest.Function, *, option: str | None, token: str | None, marker: Any, today: date
    ) -> ExploredTest:
        """Read what was asked for. Fails the test, in words, where that makes no sense."""
        try:
            asked = Asked.of(item, option=option, marker=marker)
            seed = item.config.getoption("--job-seed")
            campaign = TestExploration(
                runs=asked.runs,
                seconds=asked.seconds,
                seed=_seed_of_commit() if seed is None else seed,
                known={key: day for key, day in asked.known.items() if today <= day},
            )
            explored = cls(item, campaign, asked)
            if token is not None:
                read = decode(token)
                explored.changed = read.expect_test(target_of(item), called=item.nodeid)
                explored.tape = read.tape
        except (HarnessError, ValueError) as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        return explored

    @property
    def reruns(self) -> bool:
        """Whether its runs are played in this process, before the test itself."""
        return self.tape is None and self.asked.isolation is Isolation.RERUN

    def attach(self, harness: JobHarness) -> None:
        """Take the harness of the run that pytest is about to call."""
        self.campaign.harness = harness

    def replaying(self) -> AbstractContextManager[None]:
        """Let a replay, while the block runs, draw what the run drew that is played again."""
        return nullcontext() if self.tape is None else same_chance()

    def name_folders(self, harness: JobHarness) -> None:
        """Let gates call the temporary folders of this run what the test calls them: a token has no other folder."""
        folder = self.item.funcargs.get("tmp_path")
        names = {} if folder is None else {str(folder): "tmp_path"}
        harness.call_folders({**names, tempfile.gettempdir(): "tmp"})

    def explore_by_rerunning(
        self,
        *,
        forget: Callable[[], None],
        threads: Sequence[Any] = (),
        opened: Collection[tuple[int, int, int]] = (),
    ) -> bool:
        """Play the test many times in this process, its fixtures included. Return whether it could not even be called.

        Then that is reported already. `threads` and `opened` are as in `explore`.
        """
        rerunner = Rerunner(self.item, forget=forget)

        def play(choices: Choices, faults: FaultPlan) -> PlayedTest:
            self.turn = Turn(choices, faults)
            try:
                lost = rerunner.play()
                return self.turn.seen or PlayedTest(lost=lost or "the test was not called")
            finally:
                self.turn = None

        self.campaign.rerun, self.campaign.left_behind = play, rerunner.left_behind
        with Standby.beside(play, threads=threads, opened=opened) as standby:
            self.campaign.standby = standby
            if standby is not None and not has_wider_fixtures(self.item):
                standby.begin()
            self._interruptible(self.campaign.explore)
        if uncalled := bool(rerunner.uncalled) and self.campaign.played == 1:
            rerunner.report_uncalled()
        return uncalled

    def explore(
        self,
        *,
        threads: Sequence[Any] = (),
        opened: Collection[tuple[int, int, int]] = (),
        databases: Sequence[JobPostgres] = (),
    ) -> None:
        """Play the test many times in forked children, or set it up to play the tape. Raises InChild in every child.

        `threads` are those that pytest itself has; `opened` is what it has open: descriptor, device and inode.
        `databases` are the test's own, to be as they are now at the start of each run.
        """
        if self.tape is not None:
            stop = self.item.config.getoption("--job-stop-at")
            self.gates = NumberedGates(self.tape, stop=stop, config=self.item.config, on_quit=self._quit)
            self.campaign.harness.reopen(self.gates, as_on_tape(), forked=False)
        elif not self.reruns:
            harness = self.campaign.harness
            self.campaign.unsure = harness.unforkable or unforkable_threads(threads)
            if not self.campaign.unsure:
                own = set(harness.own_descriptors)
                if (folder := self.item.funcargs.get("tmp_path")) is not None:
                    self.campaign.kept.append(KeptFolder(Path(str(folder))))
                with ExitStack() as stack:
                    for database in databases:
                        kept = stack.enter_context(closing(database.kept()))
                        self.campaign.kept.append(kept)
                        own |= {database.descriptor, kept.descriptor}
                    self.campaign.inherited = Inherited.seen(own=own, opened=opened)
                    self._interruptible(self.campaign.explore)

    def _quit(self) -> None:
        """Let no job go on once the debugger was quit: a worker would take what ends it for its job's failure."""
        self.campaign.harness.break_off("the debugger was quit")

    def _end_after_quit(self) -> None:
        """End the session as pytest does where the debugger was quit in the test; a later one is not listened to."""
        plugins = self.item.config.pluginmanager
        if self.gates is not None and plugins.is_registered(self.gates):
            plugins.unregister(self.gates)
        if self.gates is not None and self.gates.quit:
            raise pytest.exit.Exception("Quitting debugger") from None

    def _interruptible(self, explore: Callable[[], None]) -> None:
        """Explore, and where that is interrupted say what was found so far."""
        try:
            explore()
            self.scenario = self._as_scenario()
        except KeyboardInterrupt:
            campaign = self.campaign
            found = "nothing was found" if campaign.finding is None else "this was found:\n" + self._screen()
            words = f"{self.item.nodeid}: interrupted after {campaign.disturbed} disturbed runs; so far {found}"
            plugins = self.item.config.pluginmanager
            reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
            if reporter is not None:
                with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
                    reporter.write_line(f"\njob-harness: {words}")
            raise

    def tell(self) -> None:
        """Fail the test with what was found; skip it, with the reason, where nothing could be judged."""
        campaign = self.campaign
        self._end_after_quit()
        if self.tape is not None:
            self._tell_replayed(self.tape)
            return
        lost = [f"{count} told nothing: {why}" for why, count in campaign.lost.items()]
        over = [f"known until {day}, which is over: {key}" for key, day in self._expired()]
        unseen = list(self._unjudged())
        lines = [self._cost(), *lost, *campaign.notes, *over, *map(UNJUDGED.__add__, unseen), *self._gateless()]
        self.item.add_report_section("call", EXPLORED, "\n".join(lines))
        if campaign.unsure:
            pytest.skip(f"inconclusive: {campaign.unsure}")
        if campaign.finding is not None:
            self._fail(self._screen())
        if unjudged := sum(campaign.lost.values()):
            pytest.skip(f"inconclusive: {unjudged} of {campaign.disturbed} runs were not judged; {'; '.join(lost)}")
        if campaign.seconds is not None and not campaign.disturbed and campaign.gated:
            pytest.skip(f"inconclusive: no disturbed run was played within {campaign.seconds:g} s")
        if unseen and self.item.config.getoption("--job-strict"):
            self._fail("\n".join(f"--job-strict: {UNJUDGED}{line}" for line in unseen))
        if campaign.tolerated:
            told = "; ".join(f"{key} (until {self.asked.known[key]})" for key in campaign.tolerated)
            pytest.xfail(f"known: {told}")

    def _cost(self) -> str:
        campaign = self.campaign
        each = f"{campaign.used / max(1, campaign.played) * 1000:.0f} ms of CPU each"
        rate = f" ({campaign.disturbed / campaign.spent:.3g} runs/s, {each})" if campaign.spent else ""
        bound = f", stopped after {campaign.seconds:g} s" if campaign.late else ""
        how = f"{self.asked.isolation}, seed {campaign.seed}"
        return f"{campaign.disturbed} disturbed runs in {campaign.spent:.1f} s{rate}{bound}; {how}"

    def _unjudged(self) -> Iterator[str]:
        """Say which repetitions would fail nothing, where nothing was found: a pass is no promise about them."""
        campaign = self.campaign
        if campaign.finding is not None or campaign.unsure or not campaign.disturbed:
            return
        if not campaign.declared:
            yield NOTHING_DECLARED
        for name in campaign.remembered:
            yield f"{name} {OUTLIVES}"
        for name, count in campaign.repeated.items():
            repeated = f"{name!r} was repeated in {count} of {campaign.disturbed} disturbed runs"
            yield f"{repeated}; to forbid that, let the fixture job_invariants return [at_most_once({name!r})]"

    def _gateless(self) -> list[str]:
        """Say inside which processors nothing was disturbed, where nothing was found."""
        campaign = self.campaign
        if not campaign.gateless or campaign.finding is not None or campaign.unsure or not campaign.disturbed:
            return []
        tools = ", ".join(map(repr, campaign.gateless))
        return [f"{GATELESS}{tools}: the worker died before and after it, never in its midst"]

    def _expired(self) -> list[tuple[str, date]]:
        finding = self.campaign.finding
        if finding is None:
            return []
        return [(key, day) for key, day in self.asked.known.items() if _fits(key, finding.played.led(finding.anomaly))]

    def tell_failed(self) -> None:
        """Where the test itself failed, that is told; a replay fails by its anomaly alone, where it shows one."""
        self._end_after_quit()
        if self.tape is not None:
            self.campaign.harness.come_to_rest()
            self._fail_by_anomaly()

    def _tell_replayed(self, tape: Tape) -> None:
        harness = self.campaign.harness
        harness.come_to_rest()
        self._fail_by_anomaly()
        if told := self._unfit(tape):
            pytest.skip(f"inconclusive: the token no longer fits this test; {told}")
        assert self.gates is not None
        if self.gates.stop is not None and not self.gates.stopped:
            pytest.fail(
                f"--job-stop-at {self.gates.stop}: this run has no such gate; it has {len(self.gates.listed)}",
                pytrace=False,
            )

    def _unfit(self, tape: Tape) -> str:
        """Say which deviations never came up, and which gates come nearest; empty where all did."""
        harness = self.campaign.harness
        assert self.gates is not None
        missing = [deviation for deviation in tape if deviation not in harness.tape]
        known = list(dict.fromkeys(self.gates.labels))
        told = [f"{deviation} never came up{did_you_mean(deviation.label, known)}" for deviation in missing]
        return "; ".join(told)

    def _fail_by_anomaly(self) -> None:
        harness = self.campaign.harness
        if self.gates is not None and self.gates.listed:
            self.item.add_report_section("call", GATES, "\n".join(self.gates.listed))
        if not harness.anomalies:
            return
        seen = PlayedTest(harness.anomalies, harness.tape, dump_history(harness.history), now=harness.now_instant)
        screen = self._shown(seen, seen.anomalies[0].name)
        if self.changed:
            unfit = self._unfit(self.tape or ())
            screen += f"\nThe test has changed since this token was made; {unfit or 'all of its deviations still fit'}."
        self._fail(screen)

    def _fail(self, screen: str) -> NoReturn:
        self.told = True
        raise pytest.fail.Exception(screen, pytrace=False) from None

    def _screen(self) -> str:
        finding = self.campaign.finding
        assert finding is not None
        screen = self._shown(finding.played, finding.anomaly)
        return "\n".join(filter(None, [screen, self.scenario, finding.told()]))

    def _as_scenario(self) -> str:
        """Write what was found as a scenario, where one shows it; say where, or why there is none."""
        finding, calm = self.campaign.finding, self.campaign.calm
        if finding is None or finding.played.script is None or calm is None:
            return ""
        config = self.item.config
        folder = Path(config.getoption("--job-found") or config.getini("job_found") or FOUND_FOLDER)
        file = folder / f"{finding.anomaly}-{file_name(self.item)}.yaml"
        why = f"Found by pytest --job-explore in {self.item.nodeid}."
        title = f"{finding.anomaly} in {self.item.name}"
        sought = SoughtScenario(
            calm, finding.played.script, finding.anomaly, finding.played.tape, title, why, file.absolute()
        )
        written = write_found(sought)
        if written.problem:
            return f"No scenario: {one_line(written.problem)}"
        engine = "" if written.engine == "memory" else written.engine  # which `run` takes unasked
        return f"As a scenario: {replay_command(str(file), engine=engine)}"

    def _shown(self, seen: PlayedTest, anomaly: str) -> str:
        harness = self.campaign.harness
        title = f"{anomaly} in {self.item.name}"
        run = seen.run(title=title, settings=harness.settings, engine=harness.engine)
        token = token_of(self.item, seen.tape)
        command = f"pytest {shlex.quote(self.item.nodeid)}{_as_before(self.item)} --job-replay {token}"
        draw(run, self.item, replay=command, lead=anomaly)
        screen = screen_text(first_screen(run, title=title, replay=command, lead=anomaly, default=GUIDE)).rstrip()
        summary = one_line(f"{anomaly}: {seen.led(anomaly).message}")
        return f"{summary} (replay: --job-replay {token})\n\n{screen}"


def _fits(key: str, anomaly: Anomaly) -> bool:
    """Whether a known finding is this one: by its name, or by its name and the beginning of its message."""
    return key == anomaly.name or (": " in key and f"{anomaly.name}: {anomaly.message}".startswith(key))


def _as_before(item: pytest.Function) -> str:
    """Return the options without which this test would be another one: its engine, and the seed of its delays."""
    engines, params = item.config.getoption("--job-engine"), item.callspec.params if hasattr(item, "callspec") else {}
    own = params.get("job_harness", "memory")
    engine = engines if own == "memory" else own  # Beside others, memory is a test of another name than alone.
    given = {"--job-engine": engine, "--job-seed": item.config.getoption("--job-seed")}
    said = [(name, value) for name, value in given.items() if value not in (None, "memory")]
    return "".join(f" {name}={shlex.quote(str(value))}" for name, value in said)


RUN_SECONDS: Final = 30.0
"""Real seconds after which one run of a test counts as hanging."""
MOST_HUNG: Final = 3
"""Runs that hung after which a campaign gives up: each takes as long as one may."""
LOOK_SECONDS: Final = 0.5
"""Real seconds after which a silent child is looked at: it may have ended while another process holds its pipe."""
HEADER_BYTES: Final = 8
"""In which a child says how long its message is."""
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
WARMING_RUNS: Final = 20
WARMING_FAULTS: Final = FaultPlan(crash=1, lost_message=1, duplicate=1)


Gate = tuple[str, int, tuple[Option, ...]]


@dataclass(frozen=True, slots=True)
class PlayedTest:
    """What one run of a test came to."""

    anomalies: tuple[Anomaly, ...] = ()
    tape: Tape = ()
    history: str = ""
    """As JSON lines; empty where the run was disturbed and showed nothing."""
    failure: str = ""
    """What the test's own code raised."""
    gates: tuple[Gate, ...] = ()
    """Label, number and options of every gate, where they were listed."""
    now: int = 0
    lost: str = ""
    """Why nothing is known of it: the process died or hung."""
    hung: bool = False
    uncontrolled: tuple[str, ...] = ()
    """What its processors read or did past the harness, where that may be wanted."""
    script: TestScript | None = None
    """What a scenario can say of it, where that may be wanted."""
    declared: bool = False
    """Whether a processor declared a side effect, or the test judges by checks of its own."""
    remembered: tuple[str, ...] = ()
    """What of the modules of processors their deliveries changed, where gates were listed."""
    gateless: tuple[str, ...] = ()
    """The tools whose processors came to no gate of their own, where gates were listed."""
    repeated: tuple[str, ...] = ()
    """The side effects that a job had more than once, with the same data."""
    left: tuple[str, ...] | None = None
    """What earlier runs had changed as it began; None: it cannot tell, and `left_behind` says it before each run."""

    def led(self, name: str) -> Anomaly:
        """Return the first anomaly of this name."""
        return next(anomaly for anomaly in self.anomalies if anomaly.name == name)

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


Play = Callable[[Choices, FaultPlan], PlayedTest]


class NumberedGates(Replay):
    """Plays a tape, numbers every gate, and stops in the debugger at one of them; `on_quit` hears when that is quit."""

    def __init__(self, tape: Tape, *, stop: int | None, config: pytest.Config, on_quit: Callable[[], None]) -> None:
        super().__init__(tape)
        self.stop = stop
        self.stopped = False
        self.quit = False
        self._config = config
        self._on_quit = on_quit
        self.listed: list[str] = []
        self.labels: list[str] = []

    def gate(self, label: str, options: Options) -> Option | None:
        """Choose from the tape, and stop before the choice takes effect."""
        option = super().gate(label, options)
        self.labels.append(label)
        told = f"{len(self.labels):>4}  {label}{'' if option is None else f': {option.words}'}"
        self.listed.append(told)
        if len(self.labels) == self.stop:
            self.stopped = True
            self._config.pluginmanager.register(self)
            header = f"job-harness: gate {told.strip()} (`up` leads to what stands there, `c` goes on, `q` quits)"
            pytest.set_trace(header=header)
        return option

    def pytest_enter_pdb(self, pdb: Any) -> None:
        """Hear when the debugger is quit, by whichever of its commands: each of them calls `set_quit`."""
        set_quit = pdb.set_quit

        def quitting() -> None:
            self.quit = True
            self._on_quit()
            set_quit()

        pdb.set_quit = quitting


@dataclass(slots=True)
class Turn:
    """One run that is played in this process, and what it came to."""

    choices: Choices
    faults: FaultPlan
    seen: PlayedTest | None = None

    @contextmanager
    def playing(self, harness: JobHarness) -> Generator[None]:
        """Play it inside the block. What the test raises is written down; what ends the session passes."""
        harness.reopen(self.choices, self.faults, forked=False, remembers=isinstance(self.choices, ListedGates))
        error: BaseException | None = None
        over = f"it did not end within {RUN_SECONDS:g} s"
        hung: list[str] = []

        def break_off(frame: FrameType | None) -> str:
            hung.append(f"{over}, and is at {place_of(frame)}")
            harness.break_off(over)
            return f"{hung[0]}; it cannot be interrupted, so the process ends here, and nothing more was judged"

        try:
            with Watched(RUN_SECONDS, signs=lambda: 0, on_hung=break_off).at_work(), same_chance():
                try:
                    yield
                except (KeyboardInterrupt, pytest.exit.Exception):
                    raise
                except BaseException as raised:  # noqa: BLE001 - a disturbed test is not held to its own assertions
                    error = raised
                self.seen = _judged(harness, self.choices, error)
        except ControlTaken:
            pass
        if hung:
            self.seen = PlayedTest(lost=over, hung=True)


def _judged(harness: JobHarness, choices: Choices, error: BaseException | None) -> PlayedTest:
    """Bring the jobs to rest, and return what the run came to."""
    if isinstance(error, Hung):
        return PlayedTest(lost=error.message, hung=True)
    try:
        harness.come_to_rest()
    except Hung as raised:
        return PlayedTest(lost=f"{raised.message}, after the test itself was over")
    if not harness.anomalies and (left := harness.left_behind()):
        words = re.sub(r"process \d+", "process", left[0])
        return PlayedTest(lost=f"a processor left something running: {words}")
    # To write a history, and to read what processors load, would cost as much as a fork; of most runs neither is read.
    wanted = isinstance(choices, ListedGates) or harness.anomalies
    effects = [event for event in harness.history.events if isinstance(event, Effect) and event.declared is not None]
    return PlayedTest(
        anomalies=harness.anomalies,
        tape=harness.tape,
        history=dump_history(harness.history) if wanted else "",
        failure="" if error is None else f"{type(error).__name__}: {error}",
        gates=tuple(choices.gates) if isinstance(choices, ListedGates) else (),
        now=harness.now_instant,
        lost=str(error) if isinstance(error, EnvironmentUnavailable) else harness.undecided,
        uncontrolled=tuple(note for note in harness.notes() if not note.startswith(THE_SAME)) if wanted else (),
        script=script_of(harness) if wanted else None,
        declared=bool(effects) or harness.has_own_checks,
        repeated=_repeated(effects),
        remembered=tuple(harness.remembered),
        gateless=_gateless(harness.history, choices.gates) if isinstance(choices, ListedGates) else (),
    )


def _gateless(history: History, gates: Sequence[Gate]) -> tuple[str, ...]:
    """Name the tools whose processors ran from their beginning to their end without a gate."""
    tools = {event.job: event.after.tool for event in history.events if isinstance(event, Observed) and event.after}
    began = {event.job for event in history.events if isinstance(event, Effect) and event.name == "started"}
    points = (label.partition(" ")[2].rpartition(" ") for label, _, _ in gates)
    gated = {job for place, _, job in points if place not in (BEFORE_STARTING, "claim", *VERBS)}
    return tuple(sorted({tools[job] for job in began if job in tools} - {tools[job] for job in gated if job in tools}))


def _repeated(effects: Sequence[Effect]) -> tuple[str, ...]:
    """Name the side effects that a job repeated, unless their receiver ignores a repetition."""
    counted = Counter((event.name, event.job, canonical(event.data)) for event in effects if not event.idempotent)
    return tuple(dict.fromkeys(name for (name, _, _), count in counted.items() if count > 1))


class InChild(BaseException):
    """Raised in a forked child, for the code that plays the test to catch."""

    def __init__(self, child: ChildRun) -> None:
        super().__init__()
        self.child = child


class ChildRun:
    """The forked side of one run: the test is played here, and nothing of it gets out but what is written."""

    def __init__(
        self, harness: JobHarness, choices: Choices, faults: FaultPlan, *, to: int, inherited: Inherited | None = None
    ) -> None:
        self._harness = harness
        self._choices = choices
        self._to = to
        self._pid = os.getpid()
        self._inherited = inherited
        os.setpgid(0, 0)  # Whatever it starts can be ended with it, and Ctrl-C is the parent's to hear.
        _be_quiet()
        self._chance = same_chance()
        self._chance.__enter__()  # For as long as this process lives.
        harness.reopen(choices, faults, remembers=isinstance(choices, ListedGates))
        if inherited is not None:
            inherited.cut()

    def finish(self, error: BaseException | None) -> NoReturn:
        """Bring the jobs to rest, tell what was seen, and end this process with everything it has started."""
        try:
            if os.getpid() == self._pid:  # else the test itself has forked, and this is its own child
                self._tell(error)
        finally:
            os._exit(0)

    def _tell(self, error: BaseException | None) -> None:
        """Say what was seen, last of all: once it is told, the parent ends this process without looking for others."""
        seen = _judged(self._harness, self._choices, error)
        if self._inherited is not None and (shared := self._inherited.used()):
            seen = PlayedTest(lost=shared)
        self._harness.end_processes()
        end_descendants()
        _send(self._to, seen)


def _send(to: int, said: PlayedTest | Tape) -> None:
    told = pickle.dumps(said)
    with os.fdopen(to, "wb") as out:
        out.write(len(told).to_bytes(HEADER_BYTES, "big") + told)


class Standby:
    """A copy of this process from before its disturbed runs. It forks a child for each run that it is asked to play.

    A run of a test that is played again and again in one process may need what an earlier one has left in a module; one
    that is played here cannot. It begins before the first run, or right after it where that made fixtures for a whole
    module or session: else each child would make them anew.
    """

    def __init__(self, play: Play, *, opened: Collection[tuple[int, int, int]]) -> None:
        """What `play` tells will come from its children; `opened` is as in `ExploredTest.explore`."""
        self._play = play
        self._opened = opened
        self._pid = 0
        self.left: Sequence[str] = ()
        """What the first run had changed where it began after that."""

    def begin(self, *, left: Sequence[str] = ()) -> None:
        """Fork it, unless that is done."""
        if self._pid:
            return
        self.left = left
        asks, self._asks = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = _fork()
        if self._pid == 0:
            try:
                os.setpgid(0, 0)  # Ctrl-C is the parent's to hear.
                os.close(self._asks)
                os.close(self._answers)
                _stand_by(self._play, asks, answers, self._opened)
            finally:
                os._exit(0)
        os.close(asks)
        os.close(answers)

    @classmethod
    @contextmanager
    def beside(
        cls, play: Play, *, threads: Sequence[Any], opened: Collection[tuple[int, int, int]]
    ) -> Generator[Standby | None]:
        """Have one while the block runs; None where this process cannot be copied."""
        if not hasattr(os, "fork") or sys.platform == "darwin" or unforkable_threads(threads):
            yield None
            return
        standby = cls(play, opened=opened)
        try:
            yield standby
        finally:
            standby.close()

    def play(self, tape: Tape) -> PlayedTest:
        """Play one run."""
        _send(os.dup(self._asks), tape)
        if not (told := _read(self._answers, self._pid)):
            return PlayedTest(lost="the process that was to play it did not answer", hung=told is None)
        seen: PlayedTest = pickle.loads(told)
        return seen

    def close(self) -> None:
        """End it, with whatever it has started."""
        if not self._pid:
            return
        _kill(self._pid)
        os.waitpid(self._pid, 0)
        os.close(self._asks)
        os.close(self._answers)


def _stand_by(play: Play, asks: int, answers: int, opened: Collection[tuple[int, int, int]]) -> None:
    """In the copy: answer until the other process has closed its end."""
    inherited: Inherited | None = None
    with os.fdopen(asks, "rb") as requests:
        while header := requests.read(HEADER_BYTES):
            tape: Tape = pickle.loads(requests.read(int.from_bytes(header, "big")))
            inherited = inherited or Inherited.seen(own=(), opened=opened)
            out, into = os.pipe()
            if (pid := _fork()) == 0:
                try:
                    os.setpgid(0, 0)
                    _be_quiet()
                    inherited.cut()
                    seen = play(Replay(tape), as_on_tape())
                    shared = inherited.used()
                    end_descendants()
                    _send(into, PlayedTest(lost=shared) if shared else seen)
                finally:
                    os._exit(0)
            os.close(into)
            _send(os.dup(answers), _heard(pid, out))


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: threads beside a fork
        return os.fork()


def _be_quiet() -> None:
    """In a child: collect no garbage and print nothing."""
    gc.disable()  # A run is short, and a collection would copy every page that is shared with the parent.
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    # Those of pytest lead to a file that the parent reads, too. This one is never closed, which would be a warning.
    sys.stdout = sys.stderr = os.fdopen(quiet, "w", closefd=False)


@dataclass(frozen=True, slots=True)
class TestFinding:
    """An anomaly that a disturbed run of a test showed, in the smallest run that was found."""

    __test__ = False  # It is no test of pytest's.

    anomaly: str
    played: PlayedTest
    runs: int
    """How many disturbed runs it took to find; 0: the undisturbed one shows it."""
    shrink_runs: int

    def told(self) -> str:
        """Say what it took."""
        if not self.runs:
            return "Found in the undisturbed run: nothing had to go wrong beside what the test itself asks for."
        smaller = f"shrunk in {_counted(self.shrink_runs)}" if self.shrink_runs else "already minimal"
        return f"Found in {_counted(self.runs)}; {smaller}."


@dataclass(slots=True)
class TestExploration:
    """Plays one test many times. `finding` is the first anomaly; `unsure` says why nothing can be said."""

    __test__ = False

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
    used: float = 0.0
    """Seconds of a processor's time, in this process and in the children that it has seen end."""
    known: Mapping[str, date] = field(default_factory=dict)
    """What is tolerated today."""
    tolerated: dict[str, None] = field(default_factory=dict)
    """What of the known was found."""
    notes: list[str] = field(default_factory=list)
    late: bool = False
    """Whether time ended it."""
    gated: bool = False
    """Whether the undisturbed run came to any gate."""
    calm: TestScript | None = None
    """What a scenario can say of the undisturbed run."""
    harness: JobHarness = field(init=False, repr=False)
    """Of the run that pytest itself calls."""
    inherited: Inherited | None = None
    """What children get from this process, where they are forked."""
    kept: list[Kept] = field(default_factory=list)
    """What is made after each forked run as it was before: the test's `tmp_path`, its `job_postgres`."""
    rerun: Play | None = None
    """Plays a run in this process; None: each is forked."""
    standby: Standby | None = None
    """Where runs are played in this process: plays one that no earlier run has a hand in."""
    left_behind: Callable[[], list[str]] = field(default=list)
    """Names what earlier runs in this process have changed for later ones."""
    renew: str = "set that anew in a fixture, or write job_explore(isolation='fork')"
    """How that is avoided."""
    declared: bool = False
    """The same of any run."""
    remembered: tuple[str, ...] = ()
    gateless: tuple[str, ...] = ()
    """The same of the undisturbed run."""
    repeated: Counter[str] = field(default_factory=Counter)
    """In how many disturbed runs without an anomaly a side effect came again that comes once undisturbed."""

    @property
    def disturbed(self) -> int:
        """How many runs were played in which something was to go wrong."""
        return max(0, self.played - 2)

    def explore(self) -> None:
        """Play the undisturbed test twice, then disturbed ones until one shows an anomaly or the bound is reached.

        Raises InChild in every child.
        """
        if self.rerun is None:
            _warm()
        began, used = time.monotonic(), _used()  # noqa: TID251 - what a campaign costs is real time
        try:
            first = self._play(ListedGates(), as_on_tape())
            if self.standby is not None:
                self.standby.begin(left=self.left_behind())
            again = first if first.lost else self._play(ListedGates(), as_on_tape())
            self.gated, self.calm, self.gateless = bool(first.gates), first.script, first.gateless
            self.remembered = first.remembered
            if why := _unsteady(first, again):
                self.unsure = why + self._leaks()
            elif first.failure:
                self.unsure = f"undisturbed, it fails: {first.failure}"
            elif not self._undisturbed(first):
                self._search(first, began)
                if self.rerun is not None and not self.unsure:
                    self._compare(first)
        except EnvironmentUnavailable as error:
            self.unsure = str(error)
        finally:
            self.spent, self.used = time.monotonic() - began, _used() - used  # noqa: TID251

    def _undisturbed(self, first: PlayedTest) -> bool:
        """Whether an anomaly needs no search: the undisturbed run shows it."""
        if (anomaly := self._new(first)) is None:
            return False
        self.finding = TestFinding(anomaly.name, first, runs=0, shrink_runs=0)
        return True

    def _search(self, first: PlayedTest, began: float) -> None:
        self.declared = first.declared
        for choices, faults in self._plans(first):
            self.late = self.seconds is not None and time.monotonic() - began > self.seconds  # noqa: TID251
            if self.played >= self.runs + 2 or self.late or self.hung >= MOST_HUNG:
                return
            left = self.left_behind()
            seen = self._play(choices, faults)
            self.declared |= seen.declared
            if not seen.anomalies:
                self.repeated.update(set(seen.repeated) - set(first.repeated))
            if seen.lost:
                self.lost[seen.lost] = self.lost.get(seen.lost, 0) + 1
                self.hung += seen.hung
            elif (anomaly := self._new(seen)) is not None:
                sure = self._made_sure(seen, anomaly.name, left if seen.left is None else list(seen.left))
                if sure is not None:
                    self._shrink(sure, anomaly.name)
                return

    def _made_sure(self, seen: PlayedTest, anomaly: str, left: Sequence[str]) -> PlayedTest | None:
        """Return a run that shows the anomaly whatever earlier runs have `left`; None, and why, where none does."""
        again = None if self.standby is None else self.standby.play(seen.tape)
        if again is not None and self.standby is not None and anomaly in again.found and not self.standby.left:
            return again
        was_seen = f"{anomaly} was seen ({'; '.join(map(str, seen.tape))}), but "
        changed = f"earlier runs in this process had changed {', '.join(left)}"
        if again is not None and not again.lost and anomaly not in again.found:
            why = f"{changed}; {self.renew}" if left else "what it needs is in a library, or outside of this process"
            self.unsure = f"{was_seen}not where the same run was played in a process without earlier runs: {why}"
            return None
        self.standby = None
        if left:
            self.unsure = f"{was_seen}{changed}, and whether it needs that is not known; {self.renew}"
            return None
        return seen

    def _new(self, seen: PlayedTest) -> Anomaly | None:
        """Return the gravest anomaly that is not a known one; remember the known ones."""
        for anomaly in seen.anomalies:
            key = next((key for key in self.known if _fits(key, anomaly)), None)
            if key is None:
                return anomaly
            self.tolerated[key] = None
        return None

    def _compare(self, first: PlayedTest) -> None:
        """Play the undisturbed run once more: where it is another by now, nothing in between was judged."""
        after = self._play(ListedGates(), as_on_tape())
        self.played -= 1
        if why := _unsteady(first, after):
            self.unsure, self.finding = f"after {self.disturbed} disturbed runs, {why}{self._leaks()}", None
        elif left := self.left_behind():
            self.notes.append(f"left behind in this process: {', '.join(left)}")

    def _leaks(self) -> str:
        left = self.left_behind()
        return f"\nChanged by the runs before: {', '.join(left)}." if left else ""

    def _plans(self, first: PlayedTest) -> Iterator[tuple[Choices, FaultPlan]]:
        singles = _singles(first.gates)
        most = len(singles) if len(singles) < self.runs else int(self.runs * SINGLE_SHARE)
        for deviation in singles[:most]:
            yield Replay([deviation]), as_on_tape()
        rates = (1.5 / max(1, len(first.gates)), 3 / max(1, len(first.gates)), 0.25)
        for number in range(self.runs):
            seed = self.seed * 1_000_003 + number
            yield Uniform(seed, rate=min(0.5, rates[number % len(rates)])), _drawn_plan(seed)

    def _shrink(self, seen: PlayedTest, anomaly: str) -> None:
        """Leave out deviations, one at a time, as long as the anomaly stays."""
        found, tried_runs, again = self.disturbed, 0, True
        self.finding = TestFinding(anomaly, seen, runs=found, shrink_runs=0)
        while again and tried_runs < MOST_SHRINKING:
            again = False
            for shorter in shorter_tapes(self.finding.played.tape):
                tried_runs += 1
                tried = self._again(shorter)
                if anomaly in tried.found and len(tried.tape) < len(self.finding.played.tape):
                    self.finding, again = TestFinding(anomaly, tried, runs=found, shrink_runs=tried_runs), True
                    break
        self.played = found + 2
        self.finding = replace(self.finding, shrink_runs=tried_runs)

    def _again(self, tape: Tape) -> PlayedTest:
        return self._play(Replay(tape), as_on_tape()) if self.standby is None else self.standby.play(tape)

    # one run --------------------------------------------------------------------------------------------------------

    def _play(self, choices: Choices, faults: FaultPlan) -> PlayedTest:
        self.played += 1
        if self.rerun is not None:
            return self.rerun(choices, faults)
        self.harness.prepare_children()
        out, into = os.pipe()
        if (pid := _fork()) == 0:
            os.close(out)
            raise InChild(_begun(self.harness, choices, faults, to=into, inherited=self.inherited))
        os.close(into)
        try:
            seen = _heard(pid, out)
        finally:
            for kept in self.kept:
                kept.restore()
        if seen.lost:
            self.harness.forget_children()
        return seen


def _begun(
    harness: JobHarness, choices: Choices, faults: FaultPlan, *, to: int, inherited: Inherited | None
) -> ChildRun:
    """Begin a run in a forked child; where that fails, say why and end the child: it must never return to the test."""
    try:
        return ChildRun(harness, choices, faults, to=to, inherited=inherited)
    except BaseException as error:  # noqa: BLE001 - also what a user's own module raises as it is loaded
        try:
            _send(to, PlayedTest(lost=f"it could not begin: {type(error).__name__}: {error}"))
        finally:
            os._exit(0)


def _used() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


@cache
def _warm() -> None:
    """Play a few small runs in this process, so that no child has to learn what they teach it.

    What a run fills or changes for the first time is memory that each child would copy page by page: the routes of the
    judges, code that CPython specializes as it runs (3.11 and later).
    """
    for number in range(WARMING_RUNS):
        with JobHarness(choices=Uniform(number, rate=0.1), faults=WARMING_FAULTS) as harness:
            harness.register("warm", _warming)
            harness.enqueue("warm")
            harness.enqueue("warm")
            harness.come_to_rest()
            dump_history(harness.history)


async def _warming(job: ToolJob) -> JobResult:
    await asyncio.sleep(1)
    effect("warmed")
    if job.attempts == 1:
        raise ConnectionError("the first attempt fails")
    return JobResult(success=True)


def _heard(pid: int, out: int) -> PlayedTest:
    """Read what a child tells, and end it with whatever it has started; one that hangs is killed."""
    try:
        told = _read(out, pid)
    except BaseException:
        _kill(pid)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(out)
    if told is None:
        _kill(pid)
    elif told:
        _signal_group(pid)
    _, status = os.waitpid(pid, 0)
    ended = os.waitstatus_to_exitcode(status)
    if not told:
        _signal_group(pid)
    if told is None:
        return PlayedTest(lost=f"it did not end within {RUN_SECONDS:g} s", hung=True)
    if not told:
        how = f"killed by {signal.Signals(-ended).name}" if ended < 0 else f"exit code {ended}"
        return PlayedTest(lost=f"its process ended before it was judged ({how})")
    try:
        seen: PlayedTest = pickle.loads(told)
    except Exception as error:  # noqa: BLE001 - whatever a processor wrote among it
        return PlayedTest(lost=f"what its process told cannot be read ({type(error).__name__})")
    return seen


def _read(out: int, pid: int) -> bytes | None:
    """Read one message, even if another process still holds the pipe. Empty: the child sent none; None: it hangs."""
    told, deadline = bytearray(), time.monotonic() + RUN_SECONDS  # noqa: TID251
    while True:
        left = deadline - time.monotonic()  # noqa: TID251
        if left <= 0:
            return None
        if not select.select([out], [], [], min(left, LOOK_SECONDS))[0]:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            part = b""
        else:
            part = os.read(out, 1 << 16)
        told += part
        size = int.from_bytes(told[:HEADER_BYTES], "big")
        if len(told) >= HEADER_BYTES and len(told) - HEADER_BYTES >= size:
            return bytes(told[HEADER_BYTES:])
        if not part:
            return b""


def _kill(pid: int) -> None:
    """End a child and whatever it has started."""
    end_tree(pid)
    _signal_group(pid)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _signal_group(pid: int) -> None:
    """Kill a child and all of its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _unsteady(first: PlayedTest, again: PlayedTest) -> str:
    """Say why two undisturbed runs are not one and the same."""
    for seen in (first, again):
        if seen.lost:
            return f"undisturbed, {seen.lost}"
    histories = ([without_reason(line) for line in seen.history.splitlines()] for seen in (first, again))
    pairs = list(zip_longest(*histories, fillvalue="(nothing)"))
    if all(one == other for one, other in pairs) and first.failure == again.failure:
        return ""
    differing = next(((one, other) for one, other in pairs if one != other), (first.failure, again.failure))
    told = "; ".join(again.uncontrolled[:3])
    return (
        "two undisturbed runs differ, so no disturbed one can be judged; the first difference:\n"
        f"  {differing[0][:200]}\n  {differing[1][:200]}\n"
        + (
            f"Not under control here: {told}. A fixture can give it the same answer in each run: random.seed(7), "
            "or monkeypatch."
            if told
            else "Real I/O, unseeded chance or state that a test leaves behind in a module are the usual causes."
        )
    )


def _singles(gates: Sequence[Gate]) -> list[Deviation]:
    """List each gate's deviations, the gravest first, workers before maintenance."""
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


def shorter_tapes(tape: Tape) -> Iterator[Tape]:
    """Return tapes with fewer deviations that may show the same: the shortest first, then those that were moved."""
    size = len(tape) // 2
    while size:
        for start in range(0, len(tape), size):
            yield from without(tape, start, start + size)
        size //= 2
    yield from _without_attempts(tape)


def _without_attempts(tape: Tape) -> Iterator[Tape]:
    """Leave out what cost an attempt: what happened in the next one happens in this one.

    After a death it was another worker's: then this one does it itself, and so on.
    """
    for index, item in enumerate(tape):
        others = (*tape[:index], *tape[index + 1 :])
        earlier = tuple(other._replace(nth=max(1, other.nth - 1)) for other in others)
        if earlier != others:
            yield earlier
        worker = re.match(r"worker-(\d+) ", item.label)
        if worker is None or read_option(item.option).kind != CRASH.id:
            continue
        for number in range(int(worker[1]), int(worker[1]) + len(tape)):
            others = tuple(renamed(other, f"worker-{number + 1}", f"worker-{number}") for other in others)
        yield others


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"
