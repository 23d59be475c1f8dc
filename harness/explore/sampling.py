"""Sampling: draw a workload, run it with random choices, look for an anomaly, shrink the first that shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.explore.finding import Campaign, Finding
from harness.explore.priorities import Priorities
from harness.explore.shrink import Shrinker
from harness.explore.strategy import Strategy, trial
from harness.explore.workload import draw
from harness.invariants import gravity
from harness.model.settings import Settings
from harness.port import Engine
from harness.run.session import Limits, Session
from harness.run.verdict import Run
from harness.scenario.scenario import Scenario

DRAWN_LIMITS = Limits(steps=20_000)
"""A drawn run is small; one that goes on for longer than this never rests."""


def run_seed(seed: int, number: int) -> int:
    """Answer the seed of the run with this number."""
    return seed * 1_000_003 + number


@dataclass(slots=True)
class Sampler:
    """Runs the generic workload on an engine."""

    engine: Engine
    settings: Settings = field(default_factory=Settings)
    looking_for: frozenset[str] = frozenset()
    """Only these anomalies count; empty: every one."""
    limits: Limits = DRAWN_LIMITS
    strategy: Strategy = Strategy.PORTFOLIO

    def session(self, seed: int) -> Session:
        """Open one run; the same seed gives the same run."""
        drawing = trial(self.strategy, seed)
        drawn = draw(drawing.drawing, self.settings, self.engine.capabilities)
        choices = drawing.choices
        session = Session(drawn.scenario, engine=self.engine, choices=choices, faults=drawn.faults, limits=self.limits)
        if isinstance(choices, Priorities):
            choices.attach(session.kernel)
        return session

    def sample(self, seed: int) -> Run:
        """Do the run of a seed."""
        return self.session(seed).run()

    def wanted(self, run: Run) -> str | None:
        """Answer the gravest anomaly of a run that counts."""
        names = run.found & self.looking_for if self.looking_for else run.found
        return min(names, key=gravity, default=None)

    def explore(self, *, seed: int, runs: int, watch: Callable[[int], bool] | None = None) -> Campaign:
        """Sample until something is found, `runs` are done, or `watch` (told the count) answers False."""
        steps = 0
        done = 0
        interrupted = False
        finding: Finding | None = None
        try:
            while done < runs and finding is None:
                if watch is not None and not watch(done):
                    break
                number = run_seed(seed, done)
                run = self.sample(number)
                done += 1
                steps += run.steps
                anomaly = self.wanted(run)
                if anomaly is not None:
                    finding = self.shrink(run, anomaly, seed=number, runs=done)
                    interrupted = not finding.minimal
        except KeyboardInterrupt:
            interrupted = True
        return Campaign(self.engine.name, seed, done, steps, finding, interrupted)

    def shrink(self, run: Run, anomaly: str, *, seed: int, runs: int) -> Finding:
        """Make a failing run as small as it gets; Ctrl-C ends that, and what is smallest by then is the answer."""

        def open_session(scenario: Scenario) -> Session:
            return Session(scenario, engine=self.engine, limits=self.limits, until=anomaly)

        shrinker = Shrinker(run, anomaly, open_session, base=self.settings)
        minimal = True
        try:
            shrinker.shrink()
        except KeyboardInterrupt:
            minimal = False
        drawn = trial(self.strategy, seed).about
        smallest = Session(shrinker.scenario, engine=self.engine, limits=self.limits).run()
        return Finding(anomaly, shrinker.scenario, smallest, seed, runs, shrinker.runs, minimal, drawn)
