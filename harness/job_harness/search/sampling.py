"""Sampling: draw a workload, run it with random choices, look for anomalies, shrink what shows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Final, NamedTuple, Protocol

from job_harness.core.faults import FaultPlan
from job_harness.core.faults.outages import HOST, LAG
from job_harness.core.faults.processes import CRASH, PAUSE
from job_harness.core.history import Event
from job_harness.core.interruption import INTERRUPTIONS, between_runs, stopping_point
from job_harness.core.invariants import gravity
from job_harness.core.model import Settings
from job_harness.core.port import Engine, without_anomalies
from job_harness.core.run.session import Limits, Session, as_on_tape
from job_harness.core.run.stock import StockApplication
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim import Choices, ListedGates, Option, Replay
from job_harness.errors import ExitCode, HarnessError, UsageError
from job_harness.review.audit.judging import audited
from job_harness.search.coverage import is_observed, missing_situations
from job_harness.search.deviations import GatePlace, places_to_strike
from job_harness.search.finding import (
    REPEATED_EVERY,
    Campaign,
    FailingRun,
    ScenarioFinding,
    Tally,
    Trouble,
    Unsteady,
    first_difference,
    perturbed,
)
from job_harness.search.incident import IncidentGoal
from job_harness.search.loop import Here, Player, play_in_order
from job_harness.search.shrink import REDRAWN, JointShrinker, Open, Redraw
from job_harness.search.strategy import SEED_STRIDE, Priorities, RunPolicy, Strategy, policy_of
from job_harness.search.watchdog import DAY, PATIENCE, SearchTime, StepHung, StepWatchdog
from job_harness.search.workload import WORKERS, draw, possible_faults
from job_harness.worlds.patience import Deadline

DRAWN_LIMITS = Limits(steps=20_000)
"""A drawn run is small; one that goes on for longer than this never rests."""
SHORT: Final = Limits(steps=2_000)
"""Most systems are at rest by then; one that never is may have shown all by then."""
UNDISTURBED: Final = "undisturbed"
"""The one job that is sent."""
Watch = Callable[[int], bool]


def unheard(anomaly: str, runs: int) -> None:
    """Listen to none of what a search tells while it makes a finding smaller."""


def run_seed(seed: int, number: int) -> int:
    """Return the seed of the run with this number."""
    return seed * SEED_STRIDE + number


# parts of a campaign share nothing: a run's number alone decides what is drawn in it --------------------------------


REDRAWN_OF_AN_INCIDENT: Final = 2
"""Runs with other choices of each smaller scenario, where each starts processes: an incident's run is small already."""
STRETCH = 64
"""How many runs in a row belong to one part."""
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a campaign: the `index`-th (from 1) of `of`."""

    index: int = 1
    of: int = 1

    @classmethod
    def read(cls, text: str) -> Shard:
        """Read `3/8`. Raises UsageError for anything else."""
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        shard = None if found is None else cls(int(found[1]), int(found[2]))
        if shard is None or not 1 <= shard.index <= shard.of <= MOST:
            raise UsageError(
                f"--shard {text}: expected K/N, with K from 1 to N and N at most {MOST}",
                hint="Write --shard 3/8 for the third of eight parts.",
            )
        return shard

    def after(self, number: int, runs: int) -> tuple[int, int]:
        """Return the first run of this part from `number` on, and how many in a row are its own; 0: none is left."""
        block = number // STRETCH
        ahead = (self.index - 1 - block) % self.of
        first = number if ahead == 0 else (block + ahead) * STRETCH
        return first, max(0, min((first // STRETCH + 1) * STRETCH, runs) - first)

    def stretches(self, runs: int) -> Iterator[tuple[int, int]]:
        """Return the stretches of this part of `runs` runs: the number of the first, and how many."""
        first, count = self.after(0, runs)
        while count:
            yield first, count
            first, count = self.after(first + count, runs)


WHOLE = Shard()
"""A campaign in one part."""


class Stretch(NamedTuple):
    """Runs in a row, which are handed out together: the number of a run alone decides what is drawn in it."""

    seed: int
    first: int
    runs: int
    left: int
    """How many runs the search may still need, with these."""

    def __str__(self) -> str:
        return f"runs {self.first} to {self.first + self.runs - 1}"


class Crew(Player[Stretch, Tally], Protocol):
    """Does stretches of runs, several at a time: which of a crew does a run changes nothing in what it comes to."""

    @property
    def stretch(self) -> int:
        """How many runs to hand out at a time."""

    def again(self) -> Unsteady | None:
        """Do the first run of each member once more; return the earliest that differs."""


def stretches(crew: Crew | None, *, seed: int, runs: int, shard: Shard) -> Iterator[Stretch]:
    """Return the runs of a part of a search, in stretches as long as the crew wants them; one by one without a crew."""
    first, own = shard.after(0, runs)
    while own:
        count = min(own, 1 if crew is None else crew.stretch)
        yield Stretch(seed, first, count, (runs - first) // shard.of)
        first, own = shard.after(first + count, runs)


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
    goal: IncidentGoal | None = None
    """A recorded incident: what is drawn has its shape, and only runs that agree with it count."""
    _first: tuple[int, int, list[Event]] | None = None
    """Number, seed and history of the first run."""
    _stock: bool = True
    _places: tuple[tuple[GatePlace, Option], ...] | None = None

    def policy(self, seed: int) -> RunPolicy:
        """Return who draws the run of a seed, and who disturbs it."""
        application = self.engine.info.processes is not None
        return policy_of(self.strategy, seed, application=application, places=self._places_to_strike())

    def _places_to_strike(self) -> tuple[tuple[GatePlace, Option], ...]:
        """Return where a process may die in the undisturbed run of a system, which is played once for that."""
        if self.engine.info.undisturbed is None or self.goal is not None:
            return ()
        if self._places is None:
            self._play_undisturbed(SHORT)
        return self._places or ()

    def session(self, seed: int) -> Session:
        """Open one run; the same seed gives the same run."""
        drawing = self.policy(seed)
        contract = self.engine.info.contract
        lease = contract.effective(self.settings).lease
        info, left_out = self.engine.info, self.left_out
        drawn = draw(
            drawing.drawing, self.settings, info.capabilities, lease=lease, left_out=left_out, zones=info.zones
        )
        choices = drawing.choices
        if self.goal is not None:
            drawn, choices = self.goal.plan_run(drawn, drawing, settings=self.settings, seed=seed)
        scenario = drawn.scenario
        settings = contract.held(scenario.settings.changed(**self.held))
        if settings is not scenario.settings:
            scenario = replace(scenario, settings=settings)
        until = next(iter(self.looking_for)) if len(self.looking_for) == 1 and self.goal is None else None
        session = Session(
            scenario,
            engine=self.engine,
            choices=choices,
            faults=drawn.faults,
            limits=self.limits if self.goal is None else Limits(steps=self.goal.steps(seed)),
            until=until,
        )
        if isinstance(choices, Priorities):
            choices.attach(session.kernel)
        return session

    def sample(self, seed: int) -> Run:
        """Do the run of a seed. Raises `StepHung` where a step does not end, and whatever the engine raises."""
        self._places_to_strike()  # No run is played within another one.
        return self._played(lambda: self.session(seed))

    def replay(self, scenario: Scenario) -> Run:
        """Play a scenario with its tape. Raises what `sample` raises."""
        choices, faults, limits = Replay(scenario.tape), as_on_tape(), self.limits
        return self._played(
            lambda: Session(scenario, engine=self.engine, choices=choices, faults=faults, limits=limits)
        )

    def _played(self, opened: Callable[[], Session]) -> Run:
        self.watchdog.opening()
        try:
            session = opened()
            self.watchdog.watch(session)
            self.time.watch(session)
            self._stock = isinstance(session.application, StockApplication)
            return audited(session.run_for_good())
        finally:
            self.watchdog.done()
            self.time.done()

    def wanted(self, run: Run) -> list[str]:
        """Return the anomalies of a run that count, the gravest first."""
        if self.goal is not None:
            return self.goal.shown_by(run)
        return sorted(run.found & self.looking_for if self.looking_for else run.found, key=gravity)

    # a stretch of runs ----------------------------------------------------------------------------------------------

    def play(self, stretch: Stretch) -> Tally:
        """Do the runs of a stretch, up to one that ends the search, or as far as it came when it was interrupted."""
        tally = Tally(first=stretch.first)
        try:
            numbers = range(stretch.first, stretch.first + stretch.runs)
            tally.ends = not all(self._one(tally, stretch.seed, number) for number in numbers)
        except INTERRUPTIONS as stop:
            tally.interruption = stop
        return tally

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
                self._judge_run(tally, run, number)  # What it showed is not lost with its second play.
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
        if again is None or self.time.stopped:
            return self._judge_run(tally, run, number)
        if (differs := first_difference(run.history.events, again.history.events)) is not None:
            tally.unsteady = Unsteady(number, drawn, *differs)
            return False
        return self._judge_run(tally, run, number)

    def _took_place(self, tally: Tally, run: Run, number: int) -> None:
        """Count a run, and what it covers."""
        tally.runs += 1
        tally.steps += run.steps
        tally.stock = self._stock
        tally.coverage.answers.take(run.history.events)
        tally.coverage.answers.exercise(self.engine.info.declared, run.history.events)
        tally.coverage.answers.take_acted(run.acted)
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
        if self.engine.info.undisturbed is not None:  # Its processes are at work in a step, and no verb of a queue.
            return Trouble(f"{where}{error}", SLOW_HINT, ExitCode.INCONCLUSIVE)
        return Trouble(f"{where}{error}", HANG_HINT, ExitCode.FAIL)

    def _judge_run(self, tally: Tally, run: Run, number: int) -> bool:
        if run.cut and self._stock:
            tally.cut += 1
        elif not run.anomalies and run.failures:
            tally.trouble = Trouble(f"run {number}: {run.failures[0]}", REST_HINT, ExitCode.FAIL)
            return False
        return not self._hit(tally, run, number) or self.keep_going

    def _hit(self, tally: Tally, run: Run, number: int) -> bool:
        """Note what a run shows that counts. True: there is something."""
        known = {hit.anomaly for hit in tally.hits}
        names = self.wanted(run) if run.anomalies or self.goal is not None else []
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

    def _judge_undisturbed(self) -> None:
        """Play the run before all others, for a target that judges it: nothing goes wrong in it.

        So what it does not come to no other run can judge, and only the target knows what that is.
        Raises what it says.
        """
        judge = self.engine.info.undisturbed
        if judge is None:
            return
        run = self._play_undisturbed(SHORT)
        try:
            judge(run)
        except HarnessError:
            if not run.cut or self.time.over:
                raise
            judge(self._play_undisturbed(self.limits))

    def _play_undisturbed(self, limits: Limits) -> Run:
        settings = self.engine.info.settings or Scenario().settings
        scenario = Scenario(title="undisturbed", jobs=(JobPlan(UNDISTURBED),), workers=WORKERS, settings=settings)
        gates = ListedGates()
        faults = FaultPlan.of(CRASH, HOST, PAUSE, LAG)
        run = self._played(lambda: Session(scenario, engine=self.engine, choices=gates, faults=faults, limits=limits))
        self._places = places_to_strike(gates.gates, job=UNDISTURBED)
        return run

    # a campaign -----------------------------------------------------------------------------------------------------

    def again(self) -> Unsteady | None:
        """Do the first run once more; return where it differs from what it was."""
        if self._first is None:
            return None
        number, seed, events = self._first
        run = self.sample_again(seed)
        if self.time.stopped:
            return None
        differs = first_difference(events, run.history.events)
        return None if differs is None else Unsteady(number, seed, *differs, later=True)

    def explore(
        self,
        *,
        seed: int,
        runs: int,
        watch: Watch | None = None,
        crew: Crew | None = None,
    ) -> Campaign:
        """Sample until something is found, `runs` are done, or `watch` (told the count) returns False.

        A crew does the runs elsewhere. Ctrl-C or SIGTERM ends the search and keeps what it found.
        """
        record = _Record(self, seed)
        todo = stretches(crew, seed=seed, runs=runs, shard=self.shard)
        player = Here(self.play) if crew is None else crew
        try:
            self._judge_undisturbed()
            for tally in play_in_order(todo, player, goes_on=lambda: watch is None or watch(record.total.runs)):
                if not record.take(tally):
                    break
            else:
                record.total.unsteady = None if self.time.over else (crew or self).again()
            stopping_point()
        except INTERRUPTIONS as stop:
            record.total.interruption = stop
        except StepHung as hung:
            record.total.trouble = self.trouble_of(hung)
        return record.finish()

    def shrink(self, run: Run, anomaly: str, *, seed: int, runs: int) -> tuple[ScenarioFinding, BaseException | None]:
        """Make a failing run as small as it gets; what is smallest when that is cut short is the answer.

        Returns with it what cut it short: an interruption, a step that hangs, or what the target raises.
        """
        possible = FaultPlan.of(*possible_faults(self.engine.info.capabilities))
        faults = possible if self.goal is None else self.goal.keep(run)
        open_session, redraw = self._sessions(anomaly, faults)
        held = self.engine.info.contract.held
        half = Deadline(min(self.time.left / 2, DAY))  # The rest is for what heals it, and for other causes.
        shrinker = JointShrinker(
            run,
            anomaly,
            open_session,
            base=self.settings,
            redraw=redraw,
            redrawn=REDRAWN if self.goal is None or self.engine.info.processes is None else REDRAWN_OF_AN_INCIDENT,
            held=held,
            hurries=lambda: self.time.hurries or (self.goal is not None and half.passed),
            agrees=None if self.goal is None else self.goal.agrees,
        )
        with self.time.making_smaller():
            self.watchdog.opening()
            smallest, stop = shrinker.smallest(
                lambda last: audited(Session(last, engine=self.engine, limits=self.limits).run())
            )
            self.watchdog.done()
        minimal = stop is None and not shrinker.cut_short
        drawn = self.policy(seed).about
        finding = ScenarioFinding(
            anomaly,
            smallest,
            runs,
            shrinker.runs,
            minimal,
            scenario=shrinker.scenario,
            seed=seed,
            drawn=drawn,
        )
        return finding, stop

    def _sessions(self, anomaly: str, faults: FaultPlan) -> tuple[Open, Redraw]:
        """Return how a run is opened by its tape, and with other choices, both under the watchdog."""

        numbers = itertools.count(1)

        def watched(scenario: Scenario, **more: Any) -> Session:
            self.shrinking(anomaly, next(numbers))
            self.watchdog.opening()
            session = Session(
                scenario, engine=self.engine, limits=self.limits, until=None if self.goal else anomaly, **more
            )
            self.watchdog.watch(session)
            self.time.watch(session)
            return session

        def redraw(scenario: Scenario, choices: Choices) -> Session:
            return watched(scenario, choices=choices, faults=faults)

        return watched, redraw


HANG_HINT = "Let the step end, or allow it more time with --patience."
SLOW_HINT = "Does a process poll without a pause, or a call have no timeout? --patience allows a step more time."
UNPROVEN_HINT = "What it does was not judged. Try it by itself, or declare that the target has no such verb."
REST_HINT = "The target never stops working, or keeps running without anything to do."


class _Record:
    """What a campaign came to so far."""

    def __init__(self, sampler: Sampler, seed: int) -> None:
        self.sampler = sampler
        self.total = Campaign(sampler.engine.info.name, seed)

    def take(self, tally: Tally) -> bool:
        """Add what a stretch came to, and shrink what it found. False: the campaign ends with it."""
        self.total.add(tally)
        known = {finding.anomaly for finding in self.total.findings}
        for hit in tally.hits:
            if hit.anomaly not in known and not self._shrink(hit):
                return False
        going = self.sampler.keep_going or not self.total.findings
        return going and self.total.unsteady is None and self.total.trouble is None and self.total.interruption is None

    def _shrink(self, hit: FailingRun) -> bool:
        drawn = run_seed(self.total.seed, hit.number)
        kept = hit.run if self.total.torn or self.total.interruption is not None or self.sampler.time.over else None
        run = kept or self._again(drawn)
        if run is None or (self.sampler.time.stopped and hit.anomaly not in run.found):
            run = kept = hit.run
        if run is None or (self.total.torn and hit.anomaly not in run.found):
            self.total.unshown += (hit,)
            return True
        if hit.anomaly not in run.found:
            told = f"{hit.anomaly} showed", f"{', '.join(sorted(run.found)) or 'nothing'} shows"
            self.total.unsteady = Unsteady(hit.number, drawn, len(run.history), *told)
            return False
        if kept is not None or self.total.interruption is not None or self.total.torn:
            about = self.sampler.policy(drawn).about
            scenario = replace(run.scenario, tape=run.tape)
            self.total.findings += (
                ScenarioFinding(
                    hit.anomaly, run, hit.number + 1, 0, minimal=False, scenario=scenario, seed=drawn, drawn=about
                ),
            )
            return self.sampler.keep_going and not self.total.torn and self.total.interruption is None
        finding, stop = self.sampler.shrink(run, hit.anomaly, seed=drawn, runs=hit.number + 1)
        self.total.findings += (finding,)
        if isinstance(stop, INTERRUPTIONS):
            self.total.interruption = stop
        elif isinstance(stop, StepHung):
            self.total.torn = True
            self.total.trouble = self.sampler.trouble_of(stop, "while a run was made smaller: ")
        elif stop is not None:
            self.total.trouble = self.sampler.trouble_of(stop)
        return stop is None

    def _again(self, seed: int) -> Run | None:
        """Do a run once more, also when interrupted just then; None where the engine is in the middle of a step."""
        if self.total.interruption is not None and not between_runs(self.total.interruption):
            return None
        try:
            return self.sampler.sample(seed)
        except INTERRUPTIONS as stop:
            self.total.interruption = stop
            return self._again(seed)
        except StepHung as hung:
            self.total.torn = True
            self.total.trouble = self.total.trouble or self.sampler.trouble_of(hung, "a run that was done again: ")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a target may raise anything; the rest is kept
            self.total.trouble = self.total.trouble or self.sampler.trouble_of(error)
        return None

    def _unjudged(self) -> Trouble | None:
        """Say what keeps a search that found nothing from being a pass."""
        if self.total.coverage.jobless:
            return Trouble(
                f"no job was seen in any of the {self.total.coverage.observed} runs that were looked at",
                hint="Nothing was judged. Does the target accept the jobs that are sent?",
                code=ExitCode.INCONCLUSIVE,
            )
        purges = (
            self.total.stock and self.total.coverage.observed > 0 and self.sampler.engine.info.capabilities.maintenance
        )
        answers, looked = self.total.coverage.answers, self.total.coverage.observed
        unproven = list(answers.unproven(often=self.total.stock, purges=purges))
        asked = {each.effect for each in self.sampler.engine.info.promises if each.effect} if looked else set()
        unproven += [f"{each} never happened, so nothing was judged of it" for each in sorted(asked - answers.happened)]
        unproven += [
            f"{part.name}: no run reached it, so it was not judged ({part.how})"
            for part in self.sampler.engine.info.declared
            if looked and part.owed and part.name not in answers.exercised
        ]
        unproven += answers.idle() if looked else ()
        return Trouble("; ".join(unproven), UNPROVEN_HINT, ExitCode.INCONCLUSIVE) if unproven else None

    def finish(self) -> Campaign:
        """Return the campaign."""
        campaign, engine = self.total, self.sampler.engine
        found = campaign.findings or campaign.unshown
        unsteady = campaign.unsteady is not None
        if not (found or unsteady) and campaign.stock and campaign.interruption is None and campaign.trouble is None:
            campaign.missing = missing_situations(
                campaign.coverage.situations,
                capabilities=engine.info.capabilities,
                observed=campaign.coverage.observed,
            )
        if not found and campaign.trouble is None:
            campaign.trouble = self._unjudged()
        return campaign


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """What a member of a crew needs to know; it opens the target itself."""

    opener: str
    """`module:function`, which returns an engine for a target."""
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
    left_out: frozenset[str] = frozenset()
    """What no drawn workload has."""

    def open(self) -> Engine:
        """Open the target; the caller closes it. Raises whatever the opener raises."""
        module, _, name = self.opener.partition(":")
        engine: Engine = getattr(import_module(module), name)(self.target)
        return without_anomalies(engine, self.without, why="--without")

    def sampler(self, engine: Engine, watchdog: StepWatchdog) -> Sampler:
        """Return who does the runs on an engine that was opened."""
        return Sampler(
            engine,
            self.settings,
            self.looking_for,
            strategy=self.strategy,
            keep_going=self.keep_going,
            watchdog=watchdog,
            limits=Limits(steps=self.steps),
            left_out=self.left_out,
        )


def first_run_again(sampler: Sampler) -> Unsteady | None:
    """Do the first run of a member once more; what breaks now is no finding: it went through once."""
    try:
        return sampler.again()
    except (StepHung, Exception):  # noqa: BLE001 - whatever it is, there is nothing to compare
        return None
