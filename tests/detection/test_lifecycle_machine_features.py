"""The state machine knows transactions, schedules, serial keys, dead letters and limits, where the queue does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from job_harness.core.port import Capabilities, Engine
from job_harness.core.run.session import Session
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.scenario import needed_capabilities
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import UsageError
from job_harness.search.state_machine import FEATURES, PHASES, PLAIN, LifecycleFailure, LifecycleMachine, allowed
from job_harness.search.wrong_queues.catalogue import CATALOGUE
from job_harness.subjects.applications import ApplicationEngine

QUICK = settings(max_examples=60, deadline=None, database=None, phases=PHASES, suppress_health_check=list(HealthCheck))


class OnMistake(LifecycleMachine):
    """The machine over a wrong queue."""

    engine_under_test: ClassVar[Any]

    def make_engine(self) -> Engine:
        engine: Engine = self.engine_under_test
        return engine


class Application:
    """The least that is one."""

    def actors(self, stage: Any) -> dict[str, Any]:
        return {}

    def send(self, stage: Any, job: Any) -> None:
        pass


def found_by(machine: type[LifecycleMachine], seeds: range) -> str:
    """The first seed is one that is quick today; the others are for the day on which the rules change."""
    for number in seeds:
        try:
            run_state_machine_as_test(seed(number)(machine), settings=QUICK)
        except LifecycleFailure as failure:
            return type(failure).__name__
    pytest.fail(f"not found by any of {len(seeds)} seeds of {QUICK.max_examples} examples")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "number", "needed"),
    [
        ("rollback-publishes", 4, {"transactions"}),
        pytest.param("cron-fires-early", 7, {"schedules"}, marks=pytest.mark.long),
        ("dead-letter-sent-twice", 2, {"dead_letters"}),
        ("batch-checked-as-one", 4, {"concurrency_limits"}),
        ("limit-counted-before-claim", 30, {"serial_keys", "concurrency_limits"}),
        pytest.param("backoff-uncapped", 3, set(), marks=pytest.mark.long),
        ("stale-heartbeat", 1, {"heartbeat"}),
    ],
)
def test_a_mistake_in_what_only_some_queues_can_do_is_found_and_its_file_shows_it_again(
    mistake: str, number: int, needed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_HARNESS_FAILURES", str(tmp_path))
    wrong = CATALOGUE[mistake].engine("memory")
    machine = type("OnWrong", (OnMistake,), {"engine_under_test": wrong})
    name = found_by(machine, range(number, number + 5))
    scenario = read_scenario(tmp_path / f"OnWrong-{name}.yaml")
    run = Session(scenario, engine=wrong).run()
    assert name in run.found
    assert run.failures == ()
    assert not Session(scenario, engine=MemoryEngine()).run().found
    assert not needed or needed & needed_capabilities(scenario).keys()


def test_a_queue_is_asked_for_no_more_than_it_can() -> None:
    for feature, capability in FEATURES.items():
        assert allowed(feature, Capabilities(**{capability: True})) == feature
        assert allowed(feature, Capabilities()) == PLAIN


def test_an_application_is_refused_with_the_command_that_searches_it() -> None:
    machine = type("OnApp", (OnMistake,), {"engine_under_test": ApplicationEngine(Application, name="my_app:make")})
    with pytest.raises(UsageError, match="OnApp: my_app:make is an application") as caught:
        machine()
    assert "job-harness explore" in (caught.value.hint or "")
