"""`pytest --job-explore` and `--job-replay`: a test of `job_harness` as a campaign, told in pytest's words."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from job_harness.core.faults import FaultPlan
from job_harness.core.history.jsonl import dump_history
from job_harness.core.model import SECOND, parse_duration
from job_harness.core.own_code import CodeLine
from job_harness.core.run.session import as_on_tape
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.replay_token import decode
from job_harness.core.sim import Choices, Option, Options, Replay, Tape
from job_harness.core.target import Target
from job_harness.doors.job_page import write_job_page
from job_harness.doors.pytest.failure_section import (
    ANNOTATION,
    EXPLORED,
    GATELESS,
    draw,
    file_name,
    target_of,
    token_of,
)
from job_harness.doors.pytest.fixtures import JobPostgres
from job_harness.doors.pytest.left_open import UNJUDGED, Gap, LeftOpen, never_happened
from job_harness.doors.pytest.pinned import write_pin
from job_harness.doors.pytest.recorded import Replaying, write_recorded
from job_harness.engines.reference.application import (
    GUIDE,
)
from job_harness.errors import HarnessError, UsageError, did_you_mean
from job_harness.report.blame import frames_of
from job_harness.report.ci import CiResult, github_annotations
from job_harness.report.screen import first_screen, one_line, replay_command, screen_text
from job_harness.search.as_scenario import SoughtScenario, write_found
from job_harness.search.explored.campaign import (
    MOST_RUNS,
    RUNS,
    Leaves,
    PlayedOn,
    TestExploration,
    cpu_seconds,
    fits,
    how_found,
)
from job_harness.search.explored.isolation import (
    Inherited,
    Isolation,
    KeptFolder,
    Rerunner,
    has_wider_fixtures,
    isolation_of,
    unforkable_threads,
)
from job_harness.search.explored.played import Play, PlayedTest, Standby, Turn
from job_harness.search.explored.traces import Loads, Traces
from job_harness.search.reproduction import FOUND_FOLDER
from job_harness.subjects.processors.chance import same_chance
from job_harness.subjects.processors.job_harness import JobHarness
from job_harness.subjects.processors.judgement import judged_nothing
from job_harness.subjects.processors.module_state import IN_MEMORY
from job_harness.subjects.processors.other_start import seed_of

if TYPE_CHECKING:
    from job_harness.worlds.postgres import KeptDatabase

CI_SECONDS: Final = 60.0
"""Real seconds that one test may take where the environment says that this is CI and no limit is given."""
COMMIT_VARIABLES: Final = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT", "BUILDKITE_COMMIT", "CIRCLE_SHA1")
"""Where a CI says which commit it tests."""
NOTHING_DECLARED = (
    "no processor declared an effect(), so a side effect that happens twice goes unseen; call "
    '`effect("charged")`, from job_harness, in the fake of what charges, or job_harness.always(check) where only your '
    "own rows change: `job-harness docs pytest` shows both"
)
NOTHING_SENT = "no job was sent, so there was nothing to disturb; call job_harness.enqueue() in the test"
OUTLIVES = (
    "is changed by a processor and outlives a crash here; in production a new process begins without it: "
    + IN_MEMORY
    + "; job_explore(forgets=True) lets a crash lose it here too"
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
    forgets: bool = False
    """Whether the modules of the project lose their plain data where a worker dies, as with its process."""
    calls_fail: bool = True
    """Whether calls of something outside fail, too."""
    known: Mapping[str, date] = field(default_factory=dict)
    """The last day on which a finding fails nothing, by its anomaly or by that and the beginning of its message."""

    @classmethod
    def of(cls, item: pytest.Function, *, option: str | None, marker: Any) -> Asked:
        """Read it. Raises UsageError for what makes no sense."""
        said = {} if marker is None else marker.kwargs
        names = ("runs", "seconds", "isolation", "forgets", "calls_fail", "known")
        if marker is not None and (marker.args or set(said) - set(names)):
            raise UsageError(
                f"job_explore takes {', '.join(names)} by name, not {marker.args or sorted(said)}",
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
        forgets, calls_fail = bool(said.get("forgets")), bool(said.get("calls_fail", True))
        return cls(runs, seconds, isolation, forgets, calls_fail, _known(said.get("known", {})))


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
    forked_for: str = ""
    """What a run has left in a process that was to play the next one too."""
    played_before: bool = False
    """Whether its runs were played before the test itself, with fixtures of their own."""
    gave_up: bool = False
    """Whether the campaign judged nothing, or found only what is known: then the test is judged as a plain one."""
    told: bool = False
    """Whether the test has failed by what was found, with a screen of its own."""
    databases: dict[JobPostgres, KeptDatabase] = field(default_factory=dict)
    """Those that are put back after each run that is played in a copy: the test's fixture leaves them alone."""
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
                records=item.config.getoption("--job-record") is not None,
            )
            if (replaying := Replaying.of(item.config)) is not None:
                campaign.replays = replaying.tapes_of(item)
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
        """Whether its runs are played before the test itself, fixtures included."""
        return self.tape is None and self.asked.isolation is not Isolation.FORK

    def attach(self, harness: JobHarness) -> None:
        """Take the harness of the run that pytest is about to call."""
        self.campaign.harness = harness

    def replaying(self) -> AbstractContextManager[None]:
        """Let a replay, while the block runs, draw what the run drew that is played again."""
        return nullcontext() if self.tape is None else same_chance(seed_of(Replay(self.tape)))

    def name_folders(self, harness: JobHarness) -> None:
        """Let gates call the temporary folders of this run what the test calls them: a token has no other folder."""
        folder = self.item.funcargs.get("tmp_path")
        names = {} if folder is None else {str(folder): "tmp_path"}
        harness.bench.running.folders = {**names, tempfile.gettempdir(): "tmp"}
        harness.bench.running.calls_fail = self.asked.calls_fail
        if self.asked.forgets:
            harness.play.forget_on_crash()

    def explore_by_rerunning(
        self,
        *,
        forget: Callable[[], None],
        threads: Sequence[Any] = (),
        opened: Collection[tuple[int, int, int]] = (),
    ) -> bool:
        """Play the test many times, its fixtures included. Return whether it could not even be called.

        Then that is reported already. `threads` and `opened` are as in `explore`.
        """
        if self.asked.isolation is Isolation.COPY:
            with ExitStack() as stack:
                if self._keeps_database(stack, forget):
                    self._explore_in_copy(forget=forget, threads=threads, opened=opened)
                self.databases.clear()
            return False
        rerunner = Rerunner(self.item, forget=forget)
        play = self._turn_of(rerunner.play)
        self.campaign.rerun, self.campaign.left_behind = play, rerunner.left_behind
        with Standby.beside(play, threads=threads, opened=opened) as standby:
            self.campaign.standby = standby
            if standby is not None and not has_wider_fixtures(self.item):
                standby.begin()
            self._interruptible(self.campaign.explore)
        self.played_before = True
        if uncalled := bool(rerunner.uncalled) and self.campaign.played == 1:
            rerunner.report_uncalled()
        return uncalled

    def _keeps_database(self, stack: ExitStack, forget: Callable[[], None]) -> bool:
        """Make the database of the test, to be put back after each run; False where each run would make tables anew."""
        if "job_postgres" not in self.item.fixturenames:
            return True

        def look() -> None:
            database: Any = self.item.funcargs["job_postgres"]
            if database.reset().how == "cloned":
                self.forked_for = "makes tables in a fixture"
            else:
                self.databases[database] = database.kept()

        try:
            Rerunner(self.item, forget=forget).make_wider(look)
        except (Exception, pytest.skip.Exception, pytest.fail.Exception):  # noqa: BLE001 - the test's own call says it
            return False
        for kept in self.databases.values():
            stack.callback(kept.close)
        return not self.forked_for

    def _turn_of(self, call: Callable[[], str]) -> Play:
        def play(choices: Choices, faults: FaultPlan) -> PlayedTest:
            self.turn = Turn(choices, faults)
            try:
                lost = call()
                return self.turn.seen or PlayedTest(lost=lost or "the test was not called")
            finally:
                self.turn = None

        return play

    def _explore_in_copy(self, **options: Any) -> None:
        """Let one copy of this process play all runs; where that is not the same as one for each, play none here."""
        campaign, used = self.campaign, cpu_seconds()
        loads: tuple[str, ...] = ()
        for _ in range(2):
            self.campaign = TestExploration(
                runs=campaign.runs,
                seconds=campaign.seconds,
                seed=campaign.seed,
                known=campaign.known,
                replays=campaign.replays,
                records=campaign.records,
            )
            try:
                self._explore_loading(loads, **options)
            except Loads as found:
                loads = found.modules
                self.forked_for = f"loads {loads[0]}"
            except Leaves as left:
                self.forked_for = str(left)
                break
            else:
                if not self.campaign.unsure:
                    self.forked_for, self.campaign.used, self.played_before = "", cpu_seconds() - used, True
                    return
                self.forked_for = f"is not judged in one process: {one_line(self.campaign.unsure)}"
                break
        self.campaign = campaign

    def _explore_loading(
        self,
        loads: Sequence[str],
        *,
        forget: Callable[[], None],
        threads: Sequence[Any],
        opened: Collection[tuple[int, int, int]],
    ) -> None:
        play = self._turn_of(Rerunner(self.item, forget=forget).call)
        factory = getattr(self.item.config, "_tmp_path_factory", None)

        def traces() -> Traces:
            for database in self.databases:
                database.lock_waiters()  # Over a connection that is then there from the first run on.
            return Traces(own=None if factory is None else factory.getbasetemp())

        kept = tuple(self.databases.values())
        beside = partial(Standby.beside, play, threads=threads, opened=opened, kept=kept)
        with beside() as alone, beside(traces=traces, loads=loads) as going_on:
            if alone is None or going_on is None:
                raise Leaves(unforkable_threads(threads))
            self.campaign.standby, self.campaign.rerun = alone, PlayedOn(alone, going_on).play
            self._interruptible(self.campaign.explore)

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
            self.gates = NumberedGates(
                self.tape,
                stop=stop,
                config=self.item.config,
                on_quit=self._quit,
                line=self.campaign.harness.bench.session.line_here,
            )
            self.campaign.harness.play.reopen(self.gates, as_on_tape(), forked=False)
        elif not self.played_before:
            harness = self.campaign.harness
            self.campaign.unsure = harness.play.unforkable or unforkable_threads(threads)
            if not self.campaign.unsure:
                own = set(harness.bench.loop.own_descriptors())
                if (folder := self.item.funcargs.get("tmp_path")) is not None:
                    self.campaign.kept.append(KeptFolder(Path(str(folder))))
                with ExitStack() as stack:
                    for database in databases:
                        kept = stack.enter_context(closing(database.kept()))
                        self.campaign.kept.append(kept)
                        own |= {database.descriptor, kept.descriptor}
                    self.campaign.inherited = Inherited.look_at(own=own, opened=opened)
                    self.campaign.kept.append(self.campaign.inherited.keep_databases())
                    self._interruptible(self.campaign.explore)

    def _quit(self) -> None:
        """Let no job go on once the debugger was quit: a worker would take what ends it for its job's failure."""
        self.campaign.harness.bench.break_off("the debugger was quit")

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

    def tell(self, left: LeftOpen) -> None:
        """Fail the test with what was found; skip it, with the reason, where nothing could be judged."""
        campaign = self.campaign
        self._end_after_quit()
        if self.tape is not None:
            self._tell_replayed(self.tape)
            return
        if campaign.replays:
            self._note_replayed()
            return
        if campaign.recorded:
            write_recorded(self.item, campaign.recorded, Path(self.item.config.getoption("--job-record")))
        lost = [f"{why}{self._replayed_by(tape)}" for why, tape in campaign.not_judged()]
        over = [f"known until {day}, which is over: {key}" for key, day in self._expired()]
        unseen, gateless = left.take(self._unjudged(left)), left.take_notes((*self._gateless(), *campaign.only_said()))
        left.happened |= campaign.happened
        left.idle |= campaign.idle
        left.bare = not campaign.declared
        lines = [self._cost(), *lost, *campaign.notes, *over, *(UNJUDGED + gap.text for gap in unseen), *gateless]
        self.item.add_report_section("call", EXPLORED, "\n".join(lines))
        self.gave_up = not (self.played_before and campaign.left_behind())  # else its runs may have broken it
        if campaign.unsure or campaign.unsent:
            raise judged_nothing(campaign.unsure or NOTHING_SENT)
        if campaign.finding is not None:
            self._fail(self._screen())
        if lost:
            raise judged_nothing("\n".join(lost), partly=sum(map(len, campaign.lost.values())) < campaign.disturbed)
        if campaign.seconds is not None and not campaign.disturbed and campaign.gated:
            raise judged_nothing(f"no disturbed run was played within {campaign.seconds:g} s")
        if told := left.fails(unseen):
            self._fail(told)
        if campaign.tolerated:
            told = "; ".join(f"{key} (until {self.asked.known[key]})" for key in campaign.tolerated)
            pytest.xfail(f"known: {told}")

    def _replayed_by(self, tape: Tape) -> str:
        return f"; replay: --job-replay {token_of(self.item, tape)}" if tape else ""

    def _note_replayed(self) -> None:
        if (replaying := Replaying.of(self.item.config)) is not None:
            replaying.note(self.item, self.campaign)

    def _cost(self) -> str:
        campaign = self.campaign
        each = f"{campaign.used / max(1, campaign.played) * 1000:.0f} ms of CPU each"
        rate = f" ({campaign.disturbed / campaign.spent:.3g} runs/s, {each})" if campaign.spent else ""
        bound = f", stopped after {campaign.seconds:g} s" if campaign.late else ""
        isolation = self.asked.isolation if self.played_before else Isolation.FORK
        why = f", as it {self.forked_for}" if self.forked_for else ""
        how = f"{isolation}{why}, seed {campaign.seed}"
        return f"{campaign.taken}{rate}{bound}; {how}{campaign.whole}"

    def _unjudged(self, left: LeftOpen) -> Iterator[Gap]:
        """Say what would fail nothing, where nothing was found: a pass is no promise about it."""
        campaign = self.campaign
        if campaign.finding is not None or campaign.unsure or not campaign.disturbed:
            return
        told = [never_happened(name, campaign.happened) for name in sorted(campaign.idle)]
        elsewhere = told and not left.asks_for_others  # Another test of the session may have what this one asks about.
        if not (campaign.declared or elsewhere):
            yield Gap(NOTHING_DECLARED, nothing=True)
        if near := [line for line in told if "did you mean" in line]:
            yield Gap("\n".join(near))
        for name in campaign.remembered:
            yield Gap(f"{name} {OUTLIVES}")
        for name, count in campaign.repeated.items():
            repeated = f"{name!r} was repeated in {count} of {campaign.disturbed} disturbed runs"
            cure = f"let the fixture job_invariants return [at_most_once({name!r})]"
            yield Gap(f"{repeated}; to forbid that, {cure}", nothing=True)
        for used_up in campaign.used_up():
            cure = "let job_harness.always() check its error: a lease that ran out in its last attempt is none"
            yield Gap(f"{used_up}; to forbid that, {cure}", nothing=True)
        yield from map(Gap, (*campaign.not_held(replayed=self._replayed_by), *campaign.not_reached()))

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
        return [(key, day) for key, day in self.asked.known.items() if fits(key, finding.run.led(finding.anomaly))]

    def tell_failed(self) -> None:
        """Where the test itself failed, that is told; a replay fails by its anomaly alone, where it shows one."""
        self._end_after_quit()
        if self.campaign.replays:
            self._note_replayed()
        if self.tape is not None:
            self.campaign.harness.play.come_to_rest()
            self._fail_by_anomaly()

    def _tell_replayed(self, tape: Tape) -> None:
        harness = self.campaign.harness
        harness.play.come_to_rest()
        self._fail_by_anomaly()
        if told := self._unfit(tape):
            raise judged_nothing(f"the token no longer fits this test; {told}")
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
        known = self.campaign.known
        anomalies = sorted(harness.anomalies, key=lambda anomaly: any(fits(key, anomaly) for key in known))
        history = dump_history(harness.history)
        seen = PlayedTest(
            tuple(anomalies), harness.tape, history, harness.bench.session.recorder.lines, now=harness.bench.instant
        )
        screen = self._draw_screen(seen, seen.anomalies[0].name)
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
        screen = self._draw_screen(finding.run, finding.anomaly)
        return "\n".join(filter(None, [screen, self.scenario, how_found(finding)]))

    def _as_scenario(self) -> str:
        """Write what was found as a scenario, where one shows it; say where, or why there is none."""
        finding, calm = self.campaign.finding, self.campaign.calm
        if finding is None or finding.run.script is None or calm is None:
            return ""
        config = self.item.config
        folder = Path(config.getoption("--job-found") or config.getini("job_found") or FOUND_FOLDER)
        file = folder / f"{finding.anomaly}-{file_name(self.item)}.yaml"
        why = f"Found by pytest --job-explore in {self.item.nodeid}."
        title = f"{finding.anomaly} in {self.item.name}"
        sought = SoughtScenario(
            calm, finding.run.script, finding.anomaly, finding.run.tape, title, why, file.absolute()
        )
        written = write_found(sought)
        if written.problem:
            return f"No scenario: {one_line(written.problem)}"
        engine = None if written.engine == "memory" else Target.parse(written.engine)  # which `run` takes unasked
        return f"As a scenario: {replay_command(str(file), engine=engine)}"

    def _draw_screen(self, seen: PlayedTest, anomaly: str) -> str:
        harness = self.campaign.harness
        title = f"{anomaly} in {self.item.name}"
        run = seen.run(title=title, settings=harness.settings, engine=harness.engine)
        token = token_of(self.item, seen.tape)
        command = f"pytest {shlex.quote(self.item.nodeid)}{_as_before(self.item)} --job-replay {token}"
        drawn = draw(run, self.item, replay=command, lead=anomaly)
        screen = screen_text(first_screen(run, title=title, replay=command, lead=anomaly, default=GUIDE)).rstrip()
        if os.environ.get("GITHUB_ACTIONS") and (frames := frames_of(run, anomaly)):
            at, told = frames[-1].at, f"{anomaly}: {seen.led(anomaly).message}"
            place = os.path.relpath(at.file, self.item.config.rootpath)
            found = CiResult("", self.item.nodeid, "failure", told, file=place, line=at.line)
            self.item.add_report_section("call", ANNOTATION, github_annotations([found]))
            write_job_page([found._replace(text=screen, title=title, picture=drawn)])
        summary = one_line(f"{anomaly}: {seen.led(anomaly).message}")
        if self.item.config.getoption("--job-pin"):
            screen += f"\nPinned: pytest {self._pin(run, anomaly, token)}"
        return f"{summary} (replay: --job-replay {token})\n\n{screen}"

    def _pin(self, run: Run, anomaly: str, token: str) -> str:
        return write_pin(
            self.item,
            anomaly=anomaly,
            token=token,
            message=next(each.message for each in run.anomalies if each.name == anomaly),
            lines=[frame.title for frame in frames_of(run, anomaly)],
            options=_as_before(self.item).strip(),
            name=file_name(self.item),
        )


def _as_before(item: pytest.Function) -> str:
    """Return the options without which this test would be another one: its engine, and the seed of its delays."""
    engines, params = item.config.getoption("--job-engine"), item.callspec.params if hasattr(item, "callspec") else {}
    own = params.get("job_harness", "memory")
    engine = engines if own == "memory" else own  # Beside others, memory is a test of another name than alone.
    given = {"--job-engine": engine, "--job-seed": item.config.getoption("--job-seed")}
    said = [(name, value) for name, value in given.items() if value not in (None, "memory")]
    return "".join(f" {name}={shlex.quote(str(value))}" for name, value in said)


class NumberedGates(Replay):
    """Plays a tape, numbers every gate, and stops in the debugger at one of them; `on_quit` hears when that is quit."""

    def __init__(
        self,
        tape: Tape,
        *,
        stop: int | None,
        config: pytest.Config,
        on_quit: Callable[[], None],
        line: Callable[[], CodeLine | None],
    ) -> None:
        super().__init__(tape)
        self.stop = stop
        self.stopped = False
        self.quit = False
        self._config = config
        self._on_quit = on_quit
        self._line = line
        self.listed: list[str] = []
        self.labels: list[str] = []

    def gate(self, label: str, options: Options) -> Option | None:
        """Choose from the tape, and stop before the choice takes effect."""
        option = super().gate(label, options)
        self.labels.append(label)
        line = self._line()
        where = "" if line is None else f"  ({line.relative})"
        told = f"{len(self.labels):>4}  {label}{'' if option is None else f': {option.words}'}{where}"
        self.listed.append(told)
        if len(self.labels) == self.stop:
            self.stopped = True
            self._config.pluginmanager.register(self)
            header = f"job-harness: gate {told.strip()} (`up` shows the code there, `c` continues, `q` quits)"
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
