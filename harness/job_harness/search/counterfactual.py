"""Which safeguard stops an anomaly: its run is replayed with each one switched on, or each setting repaired, in turn.

A change counts only where the replay shows neither the anomaly nor one that the run did not show
anyway; and where some leave nothing at all, only those. A replay alone proves little: one more
heartbeat shifts every later gate, and the anomaly is gone until chance meets it again. So a change
that passes is tried in fresh runs: of the finding's own scenario with new choices, where the
anomaly is likeliest, and, for a setting, of the generic workload under these settings, where it may
come about in another way. One run that shows it, and the change is no fix. Where a change makes the
tape impossible, fresh runs without it must show the anomaly, too. What only makes an anomaly rarer
(more attempts, a longer retention) is never offered. Once the time is over, what is left is named
and not tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from job_harness.core.faults import FaultPlan
from job_harness.core.model import MINUTE, Duration, JobId, Settings, format_duration
from job_harness.core.port import Engine
from job_harness.core.run.session import Limits, Session, as_on_tape
from job_harness.core.run.verdict import Run, Trial
from job_harness.core.scenario.job_plan import Span
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim import Choices, Replay, Uniform
from job_harness.review.audit.judging import audited
from job_harness.search.loop import Here, play_in_order
from job_harness.search.sampling import Sampler, run_seed
from job_harness.search.watchdog import SearchTime

RUNS = 300
"""How many fresh runs of a scenario, and of the generic workload, confirm a change."""
REPLAYED = 3
"""Where the whole tape was replayed with the change, this part of the runs of a scenario is enough."""
FRESH_STEPS = 60_000
"""Steps that the fresh runs of one change may take: those in which a job is stuck are long, and then fewer."""
RUNS_ON_A_SERVER = 80
"""And how many where each costs tens of milliseconds."""
FRESH_SEED = 0xF1C5
"""Of the campaign whose runs of the generic workload confirm a change."""
OFTEN = 3
"""So often the anomaly must show without the change: at that rate chance alone leaves it out once in 20 times."""
RATES = (0.05, 0.15, 0.3)
LIMITS = Limits(steps=20_000)
MARGIN = MINUTE
"""What a timeout needs beyond what it waits for: settling, polling, a cron."""


@dataclass(frozen=True, slots=True)
class Safeguard:
    """An engine with one safeguard more."""

    name: str
    engine: Engine


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """Asks of one failing run what would have stopped it."""

    scenario: Scenario
    """Replays the run: its tape is part of it."""
    anomaly: str
    engine: Engine
    shown: frozenset[str] = frozenset()
    """All anomalies of the run."""
    job: JobId | None = None
    """The job that shows it."""
    limits: Limits = LIMITS
    runs: int = RUNS
    """How many fresh runs of the scenario, and of the generic workload, confirm a change."""
    time: SearchTime = field(default_factory=SearchTime)
    """How long it may take: a run that is under way when that is over ends at its next step, and is not tried."""

    def trials(self, safeguards: Iterable[Safeguard] = ()) -> tuple[Trial, ...]:
        """Try each safeguard, then each repair of the settings."""
        tried = [self._trial(one.name, "safeguard", one.engine, self.scenario) for one in safeguards]
        held = self.engine.info.contract.held
        for name, settings in repairs(self.scenario.settings, heartbeat=self.engine.info.capabilities.heartbeat):
            if held(settings) != settings:
                continue  # the target would leave it as it is
            tried.append(self._trial(name, "setting", self.engine, under(self.scenario, settings)))
        clean = not self._recorded and any(trial.stops and not trial.stays for trial in tried)
        return tuple(replace(trial, stops=trial.stops and not (clean and trial.stays)) for trial in tried)

    @property
    def _recorded(self) -> bool:
        """Whether it happened in production: then only that job is to be healed of that anomaly."""
        return self.scenario.audit is not None

    def shows(self, run: Run) -> bool:
        """Whether a run shows the anomaly; one that was recorded, of its own job."""
        jobs = {each.job for each in run.anomalies if each.name == self.anomaly}
        return self.job in jobs if self._recorded else bool(jobs)

    def _trial(self, name: str, kind: str, engine: Engine, scenario: Scenario) -> Trial:
        if self.time.over:
            return _untried(name, kind)
        choices = Replay(scenario.tape)
        run = audited(self._session(scenario, engine, choices, as_on_tape(), until=None).run_for_good())
        if self.time.stopped:
            return _untried(name, kind)
        gone = not self.shows(run) and not run.failures
        stops = gone and (self._recorded or run.found <= self.shown)
        jobs = {each.job for each in run.anomalies if each.name == self.anomaly and each.job is not None}
        trial = Trial(
            name,
            kind,
            stops=stops,
            gone=gone,
            shows=tuple(sorted(run.found)),
            stays=tuple(sorted(run.found if self._recorded else run.found & self.shown - {self.anomaly})),
            instead=() if self._recorded or self.job is None or self.job in jobs else tuple(sorted(jobs)),
            unused=len(choices.unused),
            history=run.history if stops and not choices.unused else None,
        )
        return self._verified(trial, engine, scenario) if trial.stops else trial

    def _verified(self, trial: Trial, engine: Engine, scenario: Scenario) -> Trial:
        """Look whether the anomaly still shows in fresh runs with the change."""
        some = self.runs if trial.unused else self.runs // REPLAYED
        done, seen = self._count(self._redrawn(engine, scenario, some))
        without = 0
        if trial.unused and not seen:
            _, without = self._count(self._redrawn(self.engine, self.scenario, done), first_only=False)
        stops = not seen and (not trial.unused or without >= OFTEN)
        if stops and trial.kind == "setting" and not self._recorded:
            others, seen = self._count(self._generic(engine, scenario.settings))
            # Beside a number without the change stands the number of as many runs with it.
            done, stops = done if trial.unused and not seen else done + others, not seen
        if not seen and self.time.over:
            return _untried(trial.name, trial.kind)  # it may not have been confirmed by all of its runs
        return replace(trial, stops=stops, gone=stops, runs=done, seen=seen, seen_without=without)

    def _count(self, sessions: Iterator[Session], *, first_only: bool = True) -> tuple[int, int]:
        """Do fresh runs, up to the first that shows the anomaly or all; return how many, and how many showed it."""
        done = seen = steps = 0
        for run in play_in_order(sessions, Here(lambda session: audited(session.run_for_good()))):
            done += 1
            steps += run.steps
            seen += self.shows(run)
            if (first_only and (seen or steps > FRESH_STEPS)) or self.time.over:
                break
        return done, seen

    def _redrawn(self, engine: Engine, scenario: Scenario, count: int) -> Iterator[Session]:
        """Open the scenario with new choices, and as many faults as are on its tape."""
        faults = FaultPlan.of_tape(item.option for item in scenario.tape)
        for number in range(count):
            choices = Uniform(number, rate=RATES[number % len(RATES)])
            yield self._session(replace(scenario, tape=()), engine, choices, faults, until=self.anomaly)

    def _session(
        self, scenario: Scenario, engine: Engine, choices: Choices, faults: FaultPlan, *, until: str | None
    ) -> Session:
        session = Session(scenario, engine=engine, choices=choices, faults=faults, limits=self.limits, until=until)
        self.time.watch(session)
        return session

    def _generic(self, engine: Engine, settings: Settings) -> Iterator[Session]:
        """Open runs of the generic workload, all under these settings: another batch may need another timeout."""
        held = {name: getattr(settings, name) for name in Settings.names()}
        sampler = Sampler(engine, settings, frozenset({self.anomaly}), self.limits, held=held)
        about_own_terms = _has_own_terms(self.scenario)
        for number in range(self.runs):
            session = sampler.session(run_seed(FRESH_SEED, number))
            if not about_own_terms and _has_own_terms(session.scenario):
                session.close()  # jobs with terms of their own need longer timeouts than these settings have
                continue
            yield session


def with_fixes(
    run: Run,
    *,
    engine: Engine,
    safeguards: Iterable[Safeguard] = (),
    anomaly: str = "",
    runs: int = RUNS,
    time: SearchTime | None = None,
) -> Run:
    """Return a failing run together with what fixes its anomaly (the one that leads its report, unless named)."""
    lead = run.led_by(anomaly)
    if lead is None:
        return run
    scenario = replace(run.scenario, tape=run.tape)
    asked = Counterfactual(
        scenario, anomaly or lead.name, engine, run.found, lead.job, runs=runs, time=time or SearchTime()
    )
    return replace(run, trials=asked.trials(safeguards))


def _untried(name: str, kind: str) -> Trial:
    return Trial(name, kind, stops=False, gone=False, tried=False)


def _has_own_terms(scenario: Scenario) -> bool:
    return any(plan.lease is not None or plan.timeout is not None for plan in scenario.jobs)


def under(scenario: Scenario, settings: Settings) -> Scenario:
    """Return a scenario under other settings, in which every job still takes as long as it did."""
    jobs = tuple(
        replace(job, takes=tuple(Span(fixed=span.resolve(scenario.settings)) for span in job.takes))
        for job in scenario.jobs
    )
    return replace(scenario, settings=settings, jobs=jobs)


def repairs(settings: Settings, *, heartbeat: bool) -> Iterator[tuple[str, Settings]]:
    """Return the settings with one rule kept that they may break, each with what was changed."""
    stuck = _shortest_stuck(settings)
    lease = settings.batch_size * settings.job_timeout + MARGIN
    if settings.lease < lease and not settings.heartbeat_interval:
        longer = settings.changed(lease=lease)
        name = f"lease {format_duration(lease)} (batch x timeout + margin)"
        if stuck <= settings.stuck_timeout < (needed := _shortest_stuck(longer)):
            longer = longer.changed(stuck_timeout=needed)
            name += f" with stuck_timeout {format_duration(needed)}"
        yield name, longer
    if settings.stuck_timeout < stuck:
        yield f"stuck_timeout {format_duration(stuck)}", settings.changed(stuck_timeout=stuck)
    if settings.batch_size > 1:
        yield "batch_size 1", settings.changed(batch_size=1)
    if heartbeat and not settings.heartbeat_interval:
        interval = settings.lease // 4
        yield f"heartbeat_interval {format_duration(interval)}", settings.changed(heartbeat_interval=interval)


def _shortest_stuck(settings: Settings) -> Duration:
    return max(settings.lease, settings.job_timeout) + settings.cron_period + MARGIN
