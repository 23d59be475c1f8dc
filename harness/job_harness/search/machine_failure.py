"""What an example of the state machine leaves behind: a breach, made small, the file that replays it, and statistics.

A failing scenario of steps is made smaller by playing it again, which takes some milliseconds where Hypothesis needs
seconds. What examples met is told as Hypothesis events, so that its statistics show what a campaign counts.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from inspect import getfile
from pathlib import Path
from typing import Any

from hypothesis import event

from job_harness.core.history.event import History
from job_harness.core.invariants import ANOMALIES, Anomaly
from job_harness.core.model.settings import Settings
from job_harness.core.port import as_engine
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import Scenario, Step
from job_harness.core.scenario.writer import write_scenario
from job_harness.search.coverage import Cell, Coverage
from job_harness.search.shrink import Open, Shrinker
from job_harness.worlds.private import private_folder

DIRECTORY_VARIABLE = "JOB_HARNESS_FAILURES"
DEFAULT_DIRECTORY = Path(".job-harness/failures")


class LifecycleFailure(AssertionError):
    """An invariant was breached. Each anomaly has a subclass, so that shrinking never slips into another one."""

    scenario: Scenario | None = None


@functools.cache
def failure_type(anomaly: str) -> type[LifecycleFailure]:
    """Return the exception for an anomaly, always the same class."""
    return type(anomaly, (LifecycleFailure,), {"__module__": __name__, "__doc__": f"The anomaly {anomaly}."})


def failures_directory() -> Path:
    """Return where failing scenarios are written: `JOB_HARNESS_FAILURES`, or `.job-harness/failures`."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    return Path(named) if named else DEFAULT_DIRECTORY


def opener_of(made: Any) -> str:
    """Return what opens an engine again on the command line: its class, by file, where that is a user's own."""
    kind = type(made)
    if kind.__module__.partition(".")[0] == "job_harness" or "<locals>" in kind.__qualname__:
        return as_engine(made).info.name
    try:
        return f"{os.path.relpath(getfile(kind))}:{kind.__qualname__}"
    except (TypeError, OSError):  # one that stands in no file
        return f"{kind.__module__}:{kind.__qualname__}"


def breach(
    anomaly: Anomaly, scenario: Scenario, *, replays: bool, name: str, engine: str, directory: Path
) -> LifecycleFailure:
    """Write the scenario down and return the exception that reports it; `engine` opens the queue that it is of."""
    invariant, kind = ANOMALIES[anomaly.name]
    about = f"job {anomaly.job}: " if anomaly.job is not None else ""
    headline = [
        f"{anomaly.name}: {about}{anomaly.message}",
        f"{kind.label.lower()}: {kind.guarantee}",
        f"invariant {invariant.id}: {invariant.sentence}",
    ]
    if not replays:
        headline.append("playing the scenario again did not show it: this queue is not determined by its calls alone")
    return _failure(failure_type(anomaly.name), headline, scenario, directory / f"{name}-{anomaly.name}.yaml", engine)


def no_rest(limit: str, scenario: Scenario, *, name: str, engine: str, directory: Path) -> LifecycleFailure:
    """Tell of a run that reached a declared limit."""
    path = directory / f"{name}-no_rest.yaml"
    return _failure(failure_type("no_rest"), [f"no_rest: {limit}"], scenario, path, engine)


def _failure(
    kind: type[LifecycleFailure], headline: list[str], scenario: Scenario, path: Path, engine: str
) -> LifecycleFailure:
    text = write_scenario(scenario)
    failure = kind("\n".join([*headline, "", text.rstrip(), "", *_kept(path, text, engine)]))
    failure.scenario = scenario
    return failure


def _kept(path: Path, text: str, engine: str) -> list[str]:
    """A folder that cannot be written must not hide the breach."""
    try:
        if path.parent == DEFAULT_DIRECTORY:
            private_folder(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        return [f"not written to {path}: {error.strerror}; set {DIRECTORY_VARIABLE} to a folder that can be written"]
    return [f"written to {path}", f"replay: {shlex.join(['job-harness', 'run', str(path), '--engine', engine])}"]


PLAYS = 400
"""How often a scenario is played at most to make it smaller."""
EVERYWHERE = ("queue", "maintenance", "store")


class StepShrinker(Shrinker):
    """Drops steps too, and takes only a run in which every step could be done."""

    most_steps = 200_000

    def _hasten(self) -> None:
        """A run that was cut short has not done every step."""

    def _try(self, candidate: Scenario) -> bool:
        if self._spent:
            return False
        run = self._played(self._open(candidate))
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
    """Return the smallest scenario found that shows an anomaly of this name, and that anomaly.

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


def tell(history: History) -> None:
    """Record the situations and faults of an example; only inside a test of Hypothesis."""
    for name in met(history):
        event(name)


def met(history: History) -> Iterator[str]:
    """Return each once, in words: the situations of `docs/exploring.md`, then faults by position and status."""
    coverage = Coverage()
    coverage.observe(history)
    yield from sorted(coverage.situations)
    yield from sorted(_words(cell) for cell in coverage.faults)


def _words(cell: Cell) -> str:
    where = "" if cell.position == "time" else f" at {cell.position}"
    return f"fault: {cell.fault}{where}" + ("" if cell.status == "-" else f", the job {cell.status}")
