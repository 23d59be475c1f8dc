"""A breach that a state machine found: how it reads, and the file that replays it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from harness.invariants import ANOMALIES, Anomaly
from harness.private import private_folder
from harness.scenario.scenario import Scenario
from harness.scenario.writer import write_scenario

DIRECTORY_VARIABLE = "JOB_HARNESS_FAILURES"
DEFAULT_DIRECTORY = Path(".job-harness/failures")


class LifecycleFailure(AssertionError):
    """An invariant was breached. Each anomaly has a subclass, so that shrinking never slips into another one."""

    scenario: Scenario | None = None


@functools.cache
def failure_type(anomaly: str) -> type[LifecycleFailure]:
    """Answer the exception for an anomaly, always the same class."""
    return type(anomaly, (LifecycleFailure,), {"__module__": __name__, "__doc__": f"The anomaly {anomaly}."})


def failures_directory() -> Path:
    """Answer where failing scenarios are written: `JOB_HARNESS_FAILURES`, or `.job-harness/failures`."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    return Path(named) if named else DEFAULT_DIRECTORY


def breach(anomaly: Anomaly, scenario: Scenario, *, replays: bool, name: str, directory: Path) -> LifecycleFailure:
    """Write the scenario down and answer the exception that tells of it."""
    invariant, kind = ANOMALIES[anomaly.name]
    about = f"job {anomaly.job}: " if anomaly.job is not None else ""
    headline = [
        f"{anomaly.name}: {about}{anomaly.message}",
        f"guarantee lost: {kind.guarantee}",
        f"invariant {invariant.id}: {invariant.sentence}",
    ]
    if not replays:
        headline.append("playing the scenario again did not show it: this queue is not determined by its calls alone")
    return _failure(failure_type(anomaly.name), headline, scenario, directory / f"{name}-{anomaly.name}.yaml")


def no_rest(limit: str, scenario: Scenario, *, name: str, directory: Path) -> LifecycleFailure:
    """Tell of a run that reached a declared limit."""
    return _failure(failure_type("no_rest"), [f"no_rest: {limit}"], scenario, directory / f"{name}-no_rest.yaml")


def _failure(kind: type[LifecycleFailure], headline: list[str], scenario: Scenario, path: Path) -> LifecycleFailure:
    text = write_scenario(scenario)
    failure = kind("\n".join([*headline, "", text.rstrip(), "", *_kept(path, text)]))
    failure.scenario = scenario
    return failure


def _kept(path: Path, text: str) -> list[str]:
    """A folder that cannot be written must not hide the breach."""
    try:
        if path.parent == DEFAULT_DIRECTORY:
            private_folder(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        return [f"not written to {path}: {error.strerror}; set {DIRECTORY_VARIABLE} to a folder that can be written"]
    return [f"written to {path}", f"replay: job-harness run {path}"]
