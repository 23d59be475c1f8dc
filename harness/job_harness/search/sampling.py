"""Sampling: draw a workload, run it with random choices, look for anomalies, shrink what shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from job_harness.core.faults import FaultPlan
from job_harness.core.history.event import Event
from job_harness.core.interruption import INTERRUPTIONS, between_runs, stopping_point
from job_harness.core.invariants import gravity
from job_harness.core.model.settings import Settings
from job_harness.core.port import Engine
from job_harness.core.run.session import Limits, Session
from job_harness.core.run.stock import StockApplication
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Choices
from job_harness.errors import ExitCode, HarnessError
from job_harness.search.coverage import Coverage, is_observed, missing_situations
from job_harness.search.finding import (
    REPEATED_EVERY,
    Campaign,
    FailingRun,
    Finding,
    Tally,
    Trouble,
    Unsteady,
    first_difference,
    perturbed,
)
from job_harness.search.search_time import SearchTime
from job_harness.search.shards import WHOLE, Shard
from job_harness.search.shrink import JointShrinker, Open, Redraw
from job_harness.search.strategy import Priorities, Strategy, policy_of
from job_harness.search.undisturbed import play_undisturbed
from job_harness.search.watchdog import StepHung, StepWatchdog
from job_harness.search.workload import draw

DRAWN_LIMITS = Limits(steps=20_000)
"""A drawn run is small; one that goes on for longer than this never rests."""
Watch = Callable[[int], bool]


def unheard(anomaly: str, runs: int) -> None:
    """Listen to none of what a search tells while it makes a finding smaller."""


def run_seed(seed: int, number: int) -> int:
    """Return the seed of the run with this number."""
    return seed * 1_000_003 + number


class RunSource(Protocol):
    """Does the runs of a campaign, and hands over what they came to in the order of their numbers."""

    def tallies(self, *, seed: int, runs: int, watch: Watch) -> Iterator[Tally]:
        """Do up to this many runs while `watch`, told how many are done, returns True."""
        ...

    def again(self) -> Unsteady | None:
        """Do the first run once more."""
        ...


@dataclass(slots=True)
class Sampler:
    """Runs the generic workload on an engine."""

    engine: Engine
    settings: Settings = field(default_factory=Settings)
    looking_for: frozenset[str] = frozenset()
    """Only these anomalies count; empty: every one."""
    limits: Limits = DRAWN_LIMITS
    strategy: Strategy = Strategy.PORTFOLIO
    keep_going: bool = False
    """Look for other anomalies once one was found."""
    shard: Shard = WHOLE
    """Which runs are done here."""
    watchdog: StepWatchdog = field(default_factory=StepWatchdog)
    """Looks only while it is entered."""
    held: Mapping[str, Any] = field(default_factory=dict)
    """Settings, by name, that no drawn workload changes."""
    left_out: frozenset[str] = frozenset()
    """What no drawn workload has; see `workload.drawable`."""
    time: SearchTime = field(default_factory=SearchTime)
    """How long it may take: what is under way when that is over ends at its next step."""
    keeps_runs: bool = False
    """Whether a run that shows something is kept with what it shows: then it is shown also where time is over."""
    shrinking: Callable[[str, int], None] = unheard
    """Told of each run that may make a finding smaller: the finding's anomaly, and which of those runs it is."""
    _first: tuple[int, int, list[Event]] | None = None
    """Number, seed and history of the first run."""
    _stock: bool = True

    def session(self, seed: int) -> Session:
        """Open one run; the same seed gives the same run."""
        drawing = policy_of(self.strategy, seed)
        contract = self.engine.info.contract
        lease = contract.effective(self.settings).lease
        drawn = draw(drawing.drawing, self.settings, self.engine.info.capabilities, lease=lease, left_out=self.left_out)
        scenario = drawn.scenario
        settings = contract.held(scenario.settings.changed(**self.held))
        if settings is not scenario.settings:
            scenario = replace(scenario, settings=settings)
        choices = drawing.choices
        until = next(iter(self.looking_for)) if len(self.looking_for) == 1 else None
        session = Session(
            scenario,
            engine=self.engine,
            choices=choices,
            faults=drawn.faults,
            limits=self.limits,
            until=until,
        )
        if isinstance(choices, Priorities):
            choices.attach(session.kernel)
        return session

    def sample(self, seed: int) -> Run:
        """Do the run of a seed. Raises `StepHung` where a step does not end, and whatever the engine raises."""
        watchdog = self.watchdog
        watchdog.opening()
        try:
            session = self.session(seed)
            watchdog.watch(session)
            self.time.watch(session)
            self._stock = isinstance(session.application, StockApplication)
            return session.run_for_good()
        finally:
            watchdog.done()
            self.time.done()

    def wanted(self, run: Run) -> list[str]:
        """Return the anomalies of a run that count, the gravest first."""
        names = run.found & self.looking_for if self.looking_for else run.found
        return sorted(names, key=gravity)

    # a stretch of runs ----------------------------------------------------------------------------------------------

    def stretch(self, tally: Tally, *, seed: int, count: int, watch: Watch = lambda done: True) -> bool:
        """Do up to `count` runs from the tally's first on. False: the campaign is to end here."""
        for number in range(tally.first, tally.first + count):
            if not watch(number) or not self._one(tally, seed, number):
                return False
        return True

    def _one(self, tally: Tally, seed: int, number: int) -> bool:
        drawn = run_seed(seed, number)
        try:
            run = self.sample(drawn)
            if run.cut and self.time.stopped:
                self._hit(tally, run, number)
                return False
            try:
                again = self.sample_again(drawn) if number % REPEATED_EVERY == 0 else None
            except (StepHung, *INTERRUPTIONS):
                self._took_place(tally, run, number)
                self._judged(tally, run, number)  # What it showed is not lost with its second play.
                raise
        except StepHung as hung:
            tally.trouble = self.trouble_of(hung, f"run {number} (seed {drawn}): ")
            tally.torn = True
            return False
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a target may raise anything; what was found is kept
            tally.trouble = self.trouble_of(error)
            return False
        self._took_place(tally, run, number)
        if self._first is None:
            self._first = (number, drawn, run.history.events)
        if again is not None and (differs := first_difference(run.history.events, again.history.events)) is not None:
            tally.unsteady = Unsteady(number, drawn, *differs)
            return False
        return self._judged(tally, run, number)

    def _took_place(self, tally: Tally, run: Run, number: int) -> None:
        """Count a run, and what it covers."""
        tally.runs += 1
        tally.steps += run.steps
        tally.stock = self._stock
        tally.coverage.answers.take(run.history.events)
        if is_observed(number):
            tally.coverage.observe(run.history, number=number)

    def trouble_of(self, error: BaseException, where: str = "") -> Trouble:
        """Return what a step that hung, or whatever else was raised, comes to: a hang is the environment's first."""
        if not isinstance(error, StepHung):
            return Trouble.of(error, engine=self.engine.info.name)
        self.watchdog.done()
        try:
            self.engine.info.confirm()
        except HarnessError as gone:
            return Trouble.of(gone, engine=self.engine.info.name)
        return Trouble(f"{where}{error}", HANG_HINT, ExitCode.FAIL)

    def _judged(self, tally: Tally, run: Run, number: int) -> bool:
        if run.cut and self._stock:
            tally.cut += 1
        elif not run.anomalies and run.failures:
            tally.trouble = Trouble(f"run {number}: {run.failures[0]}", REST_HINT, ExitCode.FAIL)
            return False
        return not self._hit(tally, run, number) or self.keep_going

    def _hit(self, tally: Tally, run: Run, number: int) -> bool:
        """Note what a run shows that counts. True: there is something."""
        known = {hit.anomaly for hit in tally.hits}
        names = self.wanted(run) if run.anomalies else []
        kept = run if self.keeps_runs else None
        for name in names if self.keep_going else names[:1]:
            if name not in known:
                tally.hits.append(FailingRun(number, name, kept))
        return bool(names)

    def sample_again(self, seed: int) -> Run:
        """Do the run of a seed with other addresses on the heap."""
        heap = perturbed(seed)
        run = self.sample(seed)
        heap.clear()
        return run

    # a campaign -----------------------------------------------------------------------------------------------------

    def tallies(self, *, seed: int, runs: int, watch: Watch) -> Iterator[Tally]:
        """Do the runs here, one after the other; an interrupted stretch is handed over as far as it came."""
        done = 0
        for first, count in self.shard.stretches(runs):
            tally = Tally(first)
            try:
                going = self.stretch(tally, seed=seed, count=count, watch=_shifted(watch, done - first))
                done += count
            except INTERRUPTIONS as stop:
                tally.interruption = stop
                yield tally
                return
            yield tally
            if not going:
                return

    def again(self) -> Unsteady | None:
        """Do the first run once more; return where it differs from what it was."""
        if self._first is None:
            return None
        number, seed, events = self._first
        differs = first_difference(events, self.sample_again(seed).history.events)
        return None if differs is None else Unsteady(number, seed, *differs, later=True)

    def explore(
        self,
        *,
        seed: int,
        runs: int,
        watch: Watch | None = None,
        source: RunSource | None = None,
    ) -> Campaign:
        """Sample until something is found, `runs` are done, or `watch` (told the count) returns False.

        `source` does the runs elsewhere. Ctrl-C or SIGTERM ends the search and keeps what it found.
        """
        record = _Record(self, seed)
        doing = self if source is None else source
        try:
            play_undisturbed(self.engine, limits=self.limits, watchdog=self.watchdog, search_time=self.time)
            for tally in doing.tallies(seed=seed, runs=runs, watch=watch or (lambda done: True)):
                if not record.take(tally):
                    break
            else:
                record.unsteady = None if self.time.over else doing.again()
            stopping_point()
        except INTERRUPTIONS as stop:
            record.interruption = stop
        except StepHung as hung:
            record.trouble = self.trouble_of(hung)
        return record.campaign()

    def shrink(self, run: Run, anomaly: str, *, seed: int, runs: int) -> tuple[Finding, BaseException | None]:
        """Make a failing run as small as it gets; what is smallest when that is cut short is the answer.

        Returns with it what cut it short: an interruption, a step that hangs, or whatever the target raises.
        """
        open_session, redraw = self._sessions(anomaly)
        held = self.engine.info.contract.held
        shrinker = JointShrinker(
            run, anomaly, open_session, base=self.settings, redraw=redraw, held=held, hurries=lambda: self.time.hurries
        )
        stop: BaseException | None = None
        self.time.late = True
        try:
            self.watchdog.opening()
            shrinker.shrink()
            smallest = shrinker.finish(lambda found: Session(found, engine=self.engine, limits=self.limits).run())
        except BaseException as cut:  # noqa: BLE001 - whatever it is, the finding is kept; the caller reports it
            stop, smallest = cut, shrinker.best
        finally:
            self.watchdog.done()
            self.time.done()
            self.time.late = False
        minimal = stop is None and not shrinker.cut_short
        drawn = policy_of(self.strategy, seed).about
        finding = Finding(anomaly, shrinker.scenario, smallest, seed, runs, shrinker.runs, minimal, drawn)
        return finding, stop

    def _sessions(self, anomaly: str) -> tuple[Open, Redraw]:
        """Return how a run is opened by its tape, and with other choices, both under the watchdog."""

        numbers = itertools.count(1)

        def watched(scenario: Scenario, **more: Any) -> Session:
            self.shrinking(anomaly, next(numbers))
            self.watchdog.opening()
            session = Session(scenario, engine=self.engine, limits=self.limits, until=anomaly, **more)
            self.watchdog.watch(session)
            self.time.watch(session)
            return session

        def redraw(scenario: Scenario, choices: Choices) -> Session:
            return watched(scenario, choices=choices, faults=FaultPlan.each(1))

        return watched, redraw


def _shifted(watch: Watch, by: int) -> Watch:
    """Tell a watch how many runs are done, where it is told the number of a run."""
    return lambda number: watch(number + by)


HANG_HINT = "Let the step end, or allow it more time with --patience."
UNPROVEN_HINT = "What it does was not judged. Try it by itself, or declare that the target has no such verb."
REST_HINT = "The target never stops working, or keeps running without anything to do."


class _Record:
    """What a campaign came to so far."""

    def __init__(self, sampler: Sampler, seed: int) -> None:
        self.sampler = sampler
        self.seed = seed
        self.runs = 0
        self.steps = 0
        self.cut = 0
        self.findings: list[Finding] = []
        self.unshown: list[FailingRun] = []
        self.coverage = Coverage()
        self.stock = True
        self.interruption: BaseException | None = None
        self.torn = False
        """Whether a step was cut short in the middle: what the engine says from there on is believed of no run."""
        self.unsteady: Unsteady | None = None
        self.trouble: Trouble | None = None

    def take(self, tally: Tally) -> bool:
        """Add what a stretch came to, and shrink what it found. False: the campaign ends with it."""
        self.runs += tally.runs
        self.steps += tally.steps
        self.cut += tally.cut
        self.coverage.add(tally.coverage)
        self.stock = self.stock and tally.stock
        self.unsteady = tally.unsteady
        self.trouble = tally.trouble
        self.interruption = tally.interruption
        self.torn = tally.torn
        known = {finding.anomaly for finding in self.findings}
        for hit in tally.hits:
            if hit.anomaly not in known and not self._shrink(hit):
                return False
        going = self.sampler.keep_going or not self.findings
        return going and self.unsteady is None and self.trouble is None and self.interruption is None

    def _shrink(self, hit: FailingRun) -> bool:
        drawn = run_seed(self.seed, hit.number)
        kept = hit.run if self.torn or self.interruption is not None or self.sampler.time.over else None
        run = kept or self._again(drawn)
        if run is None or (self.torn and hit.anomaly not in run.found):
            self.unshown.append(hit)
            return True
        if hit.anomaly not in run.found:
            told = f"{hit.anomaly} showed", f"{', '.join(sorted(run.found)) or 'nothing'} shows"
            self.unsteady = Unsteady(hit.number, drawn, len(run.history), *told)
            return False
        if kept is not None or self.interruption is not None or self.torn:
            about = policy_of(self.sampler.strategy, drawn).about
            scenario = replace(run.scenario, tape=run.tape)
            self.findings.append(Finding(hit.anomaly, scenario, run, drawn, hit.number + 1, 0, False, about))
            return False
        finding, stop = self.sampler.shrink(run, hit.anomaly, seed=drawn, runs=hit.number + 1)
        self.findings.append(finding)
        if isinstance(stop, INTERRUPTIONS):
            self.interruption = stop
        elif isinstance(stop, StepHung):
            self.torn = True
            self.trouble = self.sampler.trouble_of(stop, "while a run was made smaller: ")
        elif stop is not None:
            self.trouble = self.sampler.trouble_of(stop)
        return stop is None

    def _again(self, seed: int) -> Run | None:
        """Do a run once more, also when interrupted just then; None where the engine is in the middle of a step."""
        if self.interruption is not None and not between_runs(self.interruption):
            return None
        try:
            return self.sampler.sample(seed)
        except INTERRUPTIONS as stop:
            self.interruption = stop
            return self._again(seed)
        except StepHung as hung:
            self.torn = True
            self.trouble = self.trouble or self.sampler.trouble_of(hung, "a run that was done again: ")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a target may raise anything; the rest is kept
            self.trouble = self.trouble or self.sampler.trouble_of(error)
        return None

    def _unjudged(self) -> Trouble | None:
        """Say what keeps a search that found nothing from being a pass."""
        if self.coverage.jobless:
            return Trouble(
                f"no job was seen in any of the {self.coverage.observed} runs that were looked at",
                hint="Nothing was judged. Does the target accept the jobs that are sent?",
                code=ExitCode.INCONCLUSIVE,
            )
        purges = self.stock and self.coverage.observed > 0 and self.sampler.engine.info.capabilities.maintenance
        unproven = list(self.coverage.answers.unproven(often=self.stock, purges=purges))
        return Trouble("; ".join(unproven), UNPROVEN_HINT, ExitCode.INCONCLUSIVE) if unproven else None

    def campaign(self) -> Campaign:
        """Return the campaign."""
        engine = self.sampler.engine
        found = self.findings or self.unshown
        demanded = self.stock and not found and self.interruption is None and self.trouble is None
        missing = missing_situations(
            self.coverage.situations, capabilities=engine.info.capabilities, observed=self.coverage.observed
        )
        if not found and self.trouble is None:
            self.trouble = self._unjudged()
        return Campaign(
            engine.info.name,
            self.seed,
            self.runs,
            self.steps,
            tuple(self.findings),
            self.interruption,
            self.coverage,
            missing if demanded and self.unsteady is None else (),
            self.unsteady,
            self.trouble,
            self.stock,
            self.cut,
            tuple(self.unshown),
        )
