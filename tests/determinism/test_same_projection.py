"""The model queue and the reference queue tell the same story of the same seed."""

from __future__ import annotations

import pytest

from harness.adapters.memory import MemoryEngine
from harness.adapters.reference import ReferenceEngine, ReferenceQueue
from harness.explore.workload import draw
from harness.history.event import History, Return
from harness.model.settings import Settings
from harness.port import Engine
from harness.run.session import Session
from harness.sim.choices import Uniform

SEEDS = range(60)


def told(engine: Engine, seed: int) -> tuple[dict[str, list[str]], list[tuple[str, str, str | None, str]]]:
    shared = ReferenceQueue.capabilities
    drawn = draw(Uniform(seed), Settings(), shared)
    choices = Uniform(seed + 1, rate=0.1)
    history = Session(drawn.scenario, engine=engine, choices=choices, faults=drawn.faults).run().history
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
