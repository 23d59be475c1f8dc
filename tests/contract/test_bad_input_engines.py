"""Engines that answer nonsense, raise, or never rest: which verb and what is said, and the limit is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.leftovers import Place, clean_place

from job_harness.core.history.outcome import done
from job_harness.core.port import Claim, JobRequest
from job_harness.core.run.session import Limits, Session
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.request import Point
from job_harness.engines.memory import MemoryEngine, MemoryQueue

SCENARIO = Scenario(title="hostile", jobs=(JobPlan(name="a"),))


def played(queue: type[MemoryQueue], *, steps: int = 5_000) -> Any:
    return Session(SCENARIO, engine=MemoryEngine(queue), limits=Limits(steps=steps)).run()


@pytest.mark.parametrize("answer", ["garbage", 7, done("garbage"), done([1])])
def test_a_claim_that_answers_garbage_is_named(answer: Any) -> None:
    class Garbage(MemoryQueue):
        def claim(self, worker: str, limit: int) -> Any:
            return answer

    with pytest.raises(TypeError, match="claim returned"):
        played(Garbage)


def test_a_verb_that_answers_garbage_is_named() -> None:
    class Garbage(MemoryQueue):
        def complete(self, claim: Claim, output: Any) -> Any:
            return {"ok": True}

    with pytest.raises(TypeError, match=r"complete returned \{'ok': True\}; it must return an Outcome"):
        played(Garbage)


def test_a_verb_that_does_nothing_and_answers_none_is_judged_by_what_it_left_undone() -> None:
    class Nothing(MemoryQueue):
        def complete(self, claim: Claim, output: Any) -> Any:
            return None

    assert played(Nothing).verdict == "fail"


def test_a_verb_that_raises_is_an_outcome_nobody_knows() -> None:
    class Raising(MemoryQueue):
        def claim(self, worker: str, limit: int) -> Any:
            raise ValueError("no claims today")

    run = played(Raising)
    assert run.verdict == "fail"
    assert any("no claims today" in str(event) for event in run.history.events)


def test_a_verb_that_suspends_for_ever_reaches_a_limit_that_is_named() -> None:
    class Endless(MemoryQueue):
        def enqueue(self, request: JobRequest) -> Any:
            while True:
                yield Point("enqueueing")

    run = played(Endless, steps=500)
    assert run.verdict == "fail"
    assert "still not idle after 500 steps" in run.failures[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with clean_place(tmp_path) as made:
        made.write("one.yaml", "format: 1\ntitle: one\njobs:\n  a: {}\n")
        made.write("hostile-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
        made.write("hostile-1.0.dist-info/entry_points.txt", "[job_harness.engines]\nhostile = hostile:engine\n")
        made.write("hostile.py", HOSTILE)
        yield made


HOSTILE = """
from job_harness.engines.memory import MemoryEngine, MemoryQueue
class Hostile(MemoryQueue):
    def jobs(self):
        raise RuntimeError("the table is gone")
def engine():
    return MemoryEngine(Hostile, name="hostile")
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", [("run", "one.yaml", "--engine", "memory,hostile"), ("explore", "hostile")])
def test_an_engine_that_breaks_is_an_environment_error_with_its_place(place: Place, command: tuple[str, ...]) -> None:
    ended = place.run(*command, PYTHONPATH=f"{place.folder}:{Path(__file__).resolve().parents[2]}")
    assert ended.code == 4, ended
    assert "the engine hostile broke: RuntimeError: the table is gone in jobs at" in ended.said
    assert "Traceback" not in ended.said
    if command[0] == "run":
        assert "1 pass" in ended.said
