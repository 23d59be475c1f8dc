"""Makes a failing scenario of steps smaller by playing it again: some milliseconds where Hypothesis needs seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.explore.shrink import Open, Shrinker
from harness.invariants import Anomaly
from harness.model.settings import Settings
from harness.run.verdict import Run
from harness.scenario.scenario import Scenario, Step

PLAYS = 400
"""How often a scenario is played at most to make it smaller."""
MOST_STEPS = 200_000
"""Kernel steps that all these plays together may take: a queue that never rests would make each of them long."""
EVERYWHERE = ("queue", "maintenance", "store")


class StepShrinker(Shrinker):
    """Drops steps too, and takes only a run in which every step could be done."""

    _steps = 0

    def _try(self, candidate: Scenario) -> bool:
        if self.runs >= self._limit or self._steps >= MOST_STEPS:
            return False
        self.runs += 1
        run = self._open(candidate).run()
        self._steps += run.steps
        if self._anomaly not in run.found or run.failures:
            return False
        self.best = run
        self.scenario = candidate
        return True

    def _candidates(self) -> Iterator[Scenario]:
        scenario = self.scenario
        for steps in _fewer(scenario.steps):
            sent = {step.job for step in steps if step.kind == "enqueue"}
            jobs = tuple(job for job in scenario.jobs if job.name in sent or not job.held_back)
            yield from _whole(replace(scenario, steps=steps, jobs=jobs))
        for candidate in super()._candidates():
            yield from _whole(candidate)


def smallest(
    scenario: Scenario, anomaly: str, open_session: Open, *, base: Settings
) -> tuple[Scenario, Anomaly | None]:
    """Answer the smallest scenario found that shows an anomaly of this name, and that anomaly.

    None: playing it again did not show it. `base` are the settings that count as plain.
    """
    run: Run = open_session(scenario).run()
    if anomaly not in run.found:
        return scenario, None
    shrinker = StepShrinker(run, anomaly, open_session, base=base, limit=PLAYS)
    shrinker.shrink()
    return shrinker.scenario, next(item for item in shrinker.best.anomalies if item.name == anomaly)


def _fewer(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    size = max(1, len(steps) // 2)
    while size:
        for start in range(0, len(steps), size):
            yield steps[:start] + steps[start + size :]
        size //= 2


def _whole(scenario: Scenario) -> Iterator[Scenario]:
    """Let a scenario through only if it names nothing that is not there."""
    jobs = scenario.plan_of()
    actors = {*scenario.workers, *EVERYWHERE}
    if scenario.jobs and all(
        (step.job is None or step.job in jobs) and (step.actor is None or step.actor in actors)
        for step in scenario.steps
    ):
        yield scenario
