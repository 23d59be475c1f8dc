"""Durable workflows before the judge: an engine of thirty lines that keeps its promises, and one mistake in each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from job_harness import Steps, at_most_once, compensated, effect, steps_in_order
from job_harness.doors.cli.explain_command import find_explanation
from job_harness.report.screen import rows_of
from job_harness.subjects.processors import JobHarness, JobResult


@dataclass
class Engine:
    """Stores which steps of a run are done, in what outlives a worker; `mistake` is what it does wrong."""

    mistake: str = ""
    done: dict[str, str] = field(default_factory=dict)
    inbox: list[str] = field(default_factory=lambda: ["approved"])
    lives: int = 0

    def step(self, run: Steps, number: int, name: str, act: Callable[[], object]) -> None:
        if (known := self.done.get(str(number))) is not None:
            if known != name or self.mistake != "asks a clock":
                run.record(known, number=number)
            if self.mistake != "does not look":
                return
        run.begin(name, number=number)
        act()
        run.finish(name, number=number)
        if self.mistake == "forgets a record" and name == "charge":
            return
        self.done[str(number)] = name
        run.record(name, number=number)

    def work(self, job: Any) -> JobResult:
        run = Steps(job.id)
        self.lives += 1
        charge = "refund" if self.mistake == "asks a clock" and self.lives > 1 else "charge"
        order = [("reserve", 1), (charge, 2)]
        for name, number in reversed(order) if self.mistake == "turns steps round" else order:
            if self.mistake == "asks a clock" and self.done.get(str(number)) not in (None, name):
                run.record(name, number=number)
            self.step(run, number, name, lambda name=name: effect(f"{name}d", order=job.id))  # type: ignore[misc]
        if "taken" not in self.done or self.mistake == "takes twice":
            self.done["taken"] = self.inbox[0]
            run.take("approval")
        run.record("approval")
        if self.mistake == "keeps the money" or job.input == "refuse":
            if self.mistake != "keeps the money":
                run.compensate("charge")
                effect("refunded", order=job.id)
            return JobResult(success=False, error="out of stock", retryable=False)
        return JobResult(success=True)


def found(mistake: str, *, at: str = "approval records", input: Any = None) -> set[str]:
    """Return the anomalies of one job whose worker dies at a place."""
    invariants = [
        steps_in_order("reserve", "charge"),
        compensated("charged", by="refunded", per=["order"]),
        at_most_once("refunded", per=["order"]),
    ]
    with JobHarness(invariants=invariants) as harness:
        harness.register("order", Engine(mistake).work)
        job = harness.enqueue("order", input)
        harness.crash_worker(at=at)
        harness.run_until_idle()
        assert job.attempts == 2
        harness.problems()
        return {anomaly.name for anomaly in harness.anomalies}


@pytest.mark.parametrize("at", ["reserve begins", "reserved", "charge records", "approval takes", "approval records"])
@pytest.mark.parametrize("input", [None, "refuse"])
def test_an_engine_that_keeps_its_promises_breaks_nothing(at: str, input: Any) -> None:
    assert found("", at=at, input=input) == set()


@pytest.mark.parametrize(
    ("mistake", "anomaly"),
    [
        ("does not look", "step_repeated"),
        ("forgets a record", "step_unrecorded"),
        ("asks a clock", "nondeterministic_replay"),
        ("takes twice", "signal_taken_twice"),
        ("turns steps round", "step_out_of_order"),
        ("keeps the money", "not_compensated"),
    ],
)
def test_a_mistake_of_an_engine_is_found_and_explained(mistake: str, anomaly: str) -> None:
    assert anomaly in found(mistake)
    assert any("repairs" in line for line in find_explanation(anomaly))


def test_what_is_shown_names_the_step_and_who_recorded_it() -> None:
    with JobHarness() as harness:
        harness.register("order", Engine("does not look").work)
        harness.enqueue("order")
        harness.crash_worker(at="charge records")
        harness.run_until_idle()
        (problem, *_) = harness.problems()
    assert "step_repeated" in problem
    assert "reserve of job-1 begins in worker-2, although worker-1 has recorded it as done" in problem


def test_an_approval_that_another_job_has_taken_is_shown_however_much_lies_between() -> None:
    def work(job: Any) -> JobResult:
        run = Steps("order")
        run.take("approval")
        for number in range(6):
            run.record("charge", number=number)
        return JobResult(success=True)

    with JobHarness() as harness:
        harness.register("order", work)
        harness.enqueue("order")
        harness.enqueue("order")
        harness.run_until_idle()
        (found,) = harness.anomalies
        rows = rows_of(harness.history, job=found.job, others=found.others, until=found.event, most=4)
        harness.problems()
    assert (found.name, found.job, found.others) == ("signal_taken_twice", "job-2", ("job-1",))
    assert [rows[0].text, rows[-1].text] == ["job-1: takes approval", "takes approval"]


def test_a_saga_that_ends_well_elsewhere_needs_no_compensation() -> None:
    def work(job: Any) -> JobResult:
        effect("charged", order=job.input)
        if job.input == "well":
            effect("shipped", order=job.input)
        return JobResult(success=True)

    for input, anomalies in (("well", []), ("badly", ["not_compensated"])):
        with JobHarness(invariants=[compensated("charged", by="refunded", per=["order"], unless="shipped")]) as harness:
            harness.register("order", work)
            harness.enqueue("order", input)
            harness.run_until_idle()
            harness.problems()
            assert [anomaly.name for anomaly in harness.anomalies] == anomalies


def test_steps_outside_of_any_job_do_nothing() -> None:
    Steps("run").begin("charge")


class Stop(BaseException):
    """What a tool may raise, and what no `except Exception` of its agent sees."""


def forgets_nothing(job: Any) -> JobResult:
    run = Steps(job.id)
    for number in range(10_000):
        run.begin("s", number=number)
        run.finish("s", number=number)
        run.record("s", number=number)
    return JobResult(success=True)


def large(job: Any) -> JobResult:
    Steps(job.id).record("s" * 10_000_000)
    return JobResult(success=True)


def stops(job: Any) -> JobResult:
    Steps(job.id).begin("charge")
    raise Stop("no")


async def never_ends(job: Any) -> JobResult:
    while True:
        Steps(job.id).record("waits")
        await asyncio.sleep(3600)


async def sleeps_a_year(job: Any) -> JobResult:
    await asyncio.sleep(365 * 86_400)
    return JobResult(success=True)


@pytest.mark.parametrize(
    ("work", "status", "words"),
    [
        pytest.param(forgets_nothing, "COMPLETED", "", marks=pytest.mark.slow),
        pytest.param(large, "COMPLETED", "", marks=pytest.mark.slow),
        (stops, "FAILED", "Stop"),
        (never_ends, "FAILED", "timed out"),
        (sleeps_a_year, "FAILED", "timed out"),
    ],
)
def test_a_workflow_at_the_edge_of_what_can_be_has_a_named_end(work: Any, status: str, words: str) -> None:
    with JobHarness() as harness:
        harness.register("order", work)
        job = harness.enqueue("order", max_attempts=1)
        harness.run_until_idle()
        assert (job.status, words in str(job.error)) == (status, True), job.error
        harness.problems()
        assert harness.anomalies == ()
