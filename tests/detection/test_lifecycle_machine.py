"""The Hypothesis state machine finds planted bugs, says them as scenarios, and leaves the correct queue alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from job_harness.core.history.outcome import Outcome
from job_harness.core.model.job import JobView
from job_harness.core.port import Capabilities, Claim
from job_harness.core.run.session import Session
from job_harness.core.scenario.reader import read_scenario
from job_harness.engines.memory import EndRules, MemoryEngine, MemoryQueue, UpkeepRules
from job_harness.search.state_machine import (
    LifecycleFailure,
    LifecycleMachine,
    failure_type,
    failures_directory,
    opener_of,
)
from job_harness.search.targets import open_engine

QUICK = settings(
    max_examples=500,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


class StaleComplete(MemoryQueue):
    """Completes whatever is PROCESSING, whichever worker holds it."""

    def complete(self, claim: Claim, output: Any) -> Outcome:
        row = self.rows.get(claim.job)
        return super().complete(claim if row is None else claim._replace(token=row.token), output)


class OneTooManyRules(EndRules):
    """Delivers once more than allowed."""

    def exhausted(self, row: JobView) -> bool:
        return row.attempts > row.max_attempts


class OneTooMany(MemoryQueue):
    rules = (OneTooManyRules,)


class UncancelledCancelRules(EndRules):
    """Refuses nothing: a cancelled job is completed after all."""

    def held(self, claim: Claim, verb: str) -> JobView | None:
        row = self.queue.rows.get(claim.job)
        return row if row is not None and row.token == claim.token else None


class UncancelledCancel(MemoryQueue):
    rules = (UncancelledCancelRules,)


class ForgetsLeasesRules(UpkeepRules):
    """Never takes a job back."""

    def is_overdue(self, row: JobView, now: int) -> bool:
        return False

    def is_stuck(self, row: JobView, now: int) -> bool:
        return False


class ForgetsLeases(MemoryQueue):
    rules = (ForgetsLeasesRules,)


class Incapable(MemoryQueue):
    """Can do the least."""

    capabilities: ClassVar[Capabilities] = Capabilities(virtual_time=True, fencing=True)


class OnMemory(LifecycleMachine):
    """The machine of these tests."""

    queue: ClassVar[type[MemoryQueue]] = MemoryQueue

    def make_engine(self) -> MemoryEngine:
        return MemoryEngine(self.queue)


def failure_of(wrong: type[MemoryQueue], quick: settings = QUICK) -> LifecycleFailure:
    machine = type(wrong.__name__, (OnMemory,), {"queue": wrong})
    with pytest.raises(LifecycleFailure) as caught:
        run_state_machine_as_test(seed(1)(machine), settings=quick)
    return caught.value


@pytest.fixture(autouse=True)
def _failures_go_to_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_HARNESS_FAILURES", str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("queue", [MemoryQueue, pytest.param(Incapable, marks=pytest.mark.long)])
def test_a_correct_queue_is_left_alone(queue: type[MemoryQueue]) -> None:
    run_state_machine_as_test(type("Correct", (OnMemory,), {"queue": queue}), settings=settings(QUICK, max_examples=30))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "anomalies"),
    [
        (StaleComplete, {"stale_complete"}),
        (OneTooMany, {"attempt_overrun"}),
        (
            UncancelledCancel,
            {"illegal_transition", "terminal_job_rewritten", "terminal_job_revived", "cancel_undone"}
            | {"stale_complete", "stale_fail", "stale_release", "stale_heartbeat"},
        ),
        (ForgetsLeases, {"job_stuck", "overdue_claim_left"}),
    ],
)
def test_a_wrong_queue_is_found_and_its_file_shows_the_same_anomaly(
    wrong: type[MemoryQueue], anomalies: set[str], tmp_path: Path
) -> None:
    failure = failure_of(wrong)
    name = type(failure).__name__
    assert name in anomalies
    path = tmp_path / f"{wrong.__name__}-{name}.yaml"
    assert str(path) in str(failure)
    run = Session(read_scenario(path), engine=MemoryEngine(wrong)).run()
    assert name in run.found
    assert run.failures == ()
    assert not Session(read_scenario(path), engine=MemoryEngine()).run().found


@pytest.mark.slow
def test_a_stale_complete_shrinks_to_few_steps_and_names_the_guarantee_lost() -> None:
    failure = failure_of(StaleComplete)
    assert failure.scenario is not None
    assert len(failure.scenario.steps) <= 8
    assert len(failure.scenario.jobs) == 1
    assert "guarantee lost: fencing" in str(failure)
    assert "format: 1" in str(failure)


@pytest.mark.slow
def test_the_same_rules_give_the_same_message() -> None:
    assert str(failure_of(OneTooMany)) == str(failure_of(OneTooMany))


def test_a_machine_without_an_engine_says_what_to_override() -> None:
    with pytest.raises(NotImplementedError, match="override make_engine"):
        LifecycleMachine()


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_does_not_hide_the_breach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("JOB_HARNESS_FAILURES", str(blocked))
    failure = failure_of(OneTooMany)
    assert "not written to" in str(failure)
    assert "JOB_HARNESS_FAILURES" in str(failure)


class Mine(MemoryEngine):
    """An engine of a user's own."""


def test_a_failure_names_what_opens_its_engine_on_the_command_line() -> None:
    assert opener_of(open_engine("memory+stale-fail")) == "memory+stale-fail"
    assert opener_of(Mine()) == f"{os.path.relpath(__file__)}:Mine"


def test_the_folder_of_failures_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOB_HARNESS_FAILURES")
    assert failures_directory() == Path(".job-harness/failures")


def test_an_anomaly_has_one_exception_class() -> None:
    assert failure_type("stale_complete") is failure_type("stale_complete")
    assert failure_type("stale_complete") is not failure_type("job_stuck")
