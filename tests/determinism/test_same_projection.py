"""The model queue and the reference queue tell the same story of the same seed; so do the two workers of a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from job_harness.core.history.event import History, Return
from job_harness.core.model.settings import Settings
from job_harness.core.port import Engine, as_stepped
from job_harness.core.run.session import Session
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.sim.choices import Uniform
from job_harness.engines.memory import MemoryEngine
from job_harness.engines.reference import ReferenceEngine, ReferenceQueue
from job_harness.search.workload import draw

SEEDS = range(60)
SCENARIOS = Path(__file__).parents[2] / "scenarios"
BOTH_WORKERS = (
    "crashes/before_completing",
    "crashes/while_running",
    "expiry/hung_job_is_timed_out",
    "hostile/error_with_nul",
    "hostile/job_kills_its_worker",
    "retries/backoff_doubles",
    "zombies/late_complete",
)


def told(engine: Engine, seed: int) -> tuple[dict[str, list[str]], list[tuple[str, str, str | None, str]]]:
    shared = ReferenceQueue.capabilities
    drawn = draw(Uniform(seed), Settings(), shared)
    choices = Uniform(seed + 1, rate=0.1)
    history = Session(drawn.scenario, engine=as_stepped(engine), choices=choices, faults=drawn.faults).run().history
    return paths(history), outcomes(history)


def paths(history: History) -> dict[str, list[str]]:
    jobs = {event.job: None for event in history if getattr(event, "job", None) is not None}
    return {job: history.path(job) for job in jobs}


def outcomes(history: History) -> list[tuple[str, str, str | None, str]]:
    returns = (event for event in history if type(event) is Return)
    return [(event.actor, event.verb, event.job, str(event.outcome.kind)) for event in returns]


@pytest.mark.slow
def test_both_queues_go_through_the_same_statuses_and_give_the_same_answers() -> None:
    reference = ReferenceEngine("reference")
    try:
        different = [seed for seed in SEEDS if told(MemoryEngine(), seed) != told(reference, seed)]
    finally:
        reference.close()
    assert different == []


@pytest.mark.parametrize("name", BOTH_WORKERS)
def test_the_stock_worker_and_the_reference_worker_settle_the_same_in_a_scenario(name: str) -> None:
    scenario, engine = read_scenario(SCENARIOS / f"{name}.yaml", queues=None), ReferenceEngine("reference")

    def projection(engine: Engine) -> tuple[Any, Any]:
        history = Session(scenario, engine=engine).run().history
        settled = [item for item in outcomes(history) if item[1] in ("complete", "fail", "release", "expire")]
        return paths(history), [item for item in settled if item[0] != "queue"]

    assert projection(engine) == projection(as_stepped(engine))
