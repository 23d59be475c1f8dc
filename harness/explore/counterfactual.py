"""Which safeguard stops an anomaly: its run is replayed with each one switched on, or each setting repaired, in turn.

A change counts only where the replay shows neither the anomaly nor one that the run did not show anyway; and where
some leave nothing at all, only those. Where a change makes the tape impossible, new choices are drawn, with
the change and without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from harness.faults import FaultPlan
from harness.model.duration import MINUTE, Duration, format_duration
from harness.model.settings import Settings
from harness.port import Engine
from harness.run.session import Limits, Session, as_on_tape
from harness.run.verdict import Run, Trial
from harness.scenario.job_plan import Span
from harness.scenario.scenario import Scenario
from harness.sim.choices import Replay, Uniform

RUNS = 300
"""How many runs confirm a change under which the tape cannot be replayed."""
RUNS_ON_A_SERVER = 80
"""And how many where each costs tens of milliseconds."""
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
    limits: Limits = LIMITS
    runs: int = RUNS
    """How many runs confirm a change under which the tape cannot be replayed."""

    def trials(self, safeguards: Iterable[Safeguard] = ()) -> tuple[Trial, ...]:
        """Try each safeguard, then each repair of the settings."""
        tried = [self._trial(one.name, "safeguard", one.engine, self.scenario) for one in safeguards]
        for name, settings in repairs(self.scenario.settings, heartbeat=self.engine.info.capabilities.heartbeat):
            tried.append(self._trial(name, "setting", self.engine, under(self.scenario, settings)))
        clean = any(trial.stops and not trial.stays for trial in tried)
        return tuple(replace(trial, stops=trial.stops and not (clean and trial.stays)) for trial in tried)

    def _trial(self, name: str, kind: str, engine: Engine, scenario: Scenario) -> Trial:
        choices = Replay(scenario.tape)
        run = Session(scenario, engine=engine, choices=choices, faults=as_on_tape(), limits=self.limits).run_for_good()
        gone = self.anomaly not in run.found and not run.failures
        trial = Trial(
            name,
            kind,
            stops=gone and run.found <= self.shown,
            gone=gone,
            shows=tuple(sorted(run.found)),
            stays=tuple(sorted(run.found & self.shown - {self.anomaly})),
            unused=len(choices.unused),
        )
        return self._confirmed(trial, engine, scenario) if trial.stops and choices.unused else trial

    def _confirmed(self, trial: Trial, engine: Engine, scenario: Scenario) -> Trial:
        """A replay that left the tape shows nothing: look whether the anomaly still can be had."""
        seen = self._seen(engine, scenario)
        without = self._seen(self.engine, self.scenario) if seen == 0 else 0
        stops = seen == 0 and without >= OFTEN
        return replace(trial, stops=stops, gone=stops, runs=self.runs, seen=seen, seen_without=without)

    def _seen(self, engine: Engine, scenario: Scenario) -> int:
        faults = FaultPlan.of_tape(item.option for item in scenario.tape)
        seen = 0
        for number in range(self.runs):
            choices = Uniform(number, rate=RATES[number % len(RATES)])
            session = Session(
                replace(scenario, tape=()),
                engine=engine,
                choices=choices,
                faults=faults,
                limits=self.limits,
                until=self.anomaly,
            )
            seen += self.anomaly in session.run_for_good().found
        return seen


def explained(
    run: Run, *, engine: Engine, safeguards: Iterable[Safeguard] = (), anomaly: str = "", runs: int = RUNS
) -> Run:
    """Return a failing run with what would have stopped an anomaly: the one that leads its report, unless named."""
    lead = run.led_by(anomaly)
    if lead is None:
        return run
    scenario = replace(run.scenario, tape=run.tape)
    asked = Counterfactual(scenario, anomaly or lead.name, engine, run.found, runs=runs)
    return replace(run, trials=asked.trials(safeguards))


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
    default = Settings()
    for name in ("max_attempts", "retention"):
        if getattr(settings, name) < getattr(default, name):
            value = getattr(default, name)
            shown = value if name == "max_attempts" else format_duration(value)
            yield f"{name} {shown}", settings.changed(**{name: value})


def _shortest_stuck(settings: Settings) -> Duration:
    return max(settings.lease, settings.job_timeout) + settings.cron_period + MARGIN
