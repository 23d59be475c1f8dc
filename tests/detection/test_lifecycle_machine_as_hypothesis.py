"""A LifecycleMachine behaves as a test of Hypothesis does: its database, seeds, blobs, statistics, observations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, reproduce_failure, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.errors import Flaky
from hypothesis.internal import observability
from hypothesis.internal.observability import with_observability_callback
from hypothesis.stateful import rule, run_state_machine_as_test
from hypothesis.statistics import collector, describe_statistics

from job_harness.core.model.job import JobView
from job_harness.engines.memory import EndRules, MemoryEngine, MemoryQueue
from job_harness.search import state_machine
from job_harness.search.coverage import SITUATIONS
from job_harness.search.state_machine import PHASES, LifecycleFailure, LifecycleMachine

QUICK = settings(
    max_examples=300,
    deadline=None,
    database=None,
    derandomize=True,
    phases=PHASES,
    suppress_health_check=list(HealthCheck),
)
BLOB = re.compile(r"@reproduce_failure\('([\d.]+)', (b'[^']+')\)")


class OneTooManyRules(EndRules):
    """Delivers once more than allowed."""

    def exhausted(self, row: JobView) -> bool:
        return row.attempts > row.max_attempts


class OneTooMany(MemoryQueue):
    rules = (OneTooManyRules,)


class OneTooManyAtFirstRules(EndRules):
    """Behaves after it was caught once."""

    caught: ClassVar[bool] = False

    def exhausted(self, row: JobView) -> bool:
        wrong = not self.caught and row.attempts == row.max_attempts
        if wrong:
            type(self).caught = True
        return row.attempts >= row.max_attempts and not wrong


class OneTooManyAtFirst(MemoryQueue):
    rules = (OneTooManyAtFirstRules,)


class Counted(LifecycleMachine):
    """Counts its examples."""

    queue: ClassVar[type[MemoryQueue]] = OneTooMany
    examples: ClassVar[int] = 0

    def make_engine(self) -> MemoryEngine:
        type(self).examples += 1
        return MemoryEngine(self.queue)


def machine(**more: Any) -> type[Counted]:
    return type("Fresh", (Counted,), {"examples": 0, **more})


def failure(of: type[LifecycleMachine], under: settings) -> LifecycleFailure:
    with pytest.raises(LifecycleFailure) as caught:
        run_state_machine_as_test(of, settings=under)
    return caught.value


@pytest.fixture(autouse=True)
def _failures_go_to_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_HARNESS_FAILURES", str(tmp_path / "failures"))


@pytest.mark.slow
def test_a_failing_example_is_kept_and_is_the_first_of_the_next_run(tmp_path: Path) -> None:
    kept = settings(QUICK, derandomize=False, database=DirectoryBasedExampleDatabase(tmp_path / "examples"))
    first, again, repaired = machine(), machine(), machine(queue=MemoryQueue)
    found = failure(seed(3)(first), kept)
    assert first.examples > 2
    assert str(failure(seed(4)(again), kept)) == str(found)
    assert again.examples == 2, "one to fail, and one to show it"
    run_state_machine_as_test(repaired, settings=settings(kept, max_examples=5))
    failure(seed(3)(again), kept)
    assert again.examples == 2 + first.examples, "what failed no more is forgotten"


@pytest.mark.slow
def test_a_seed_gives_the_same_failure_and_a_blob_gives_it_at_once() -> None:
    drawn = settings(QUICK, derandomize=False, print_blob=True)
    found = failure(seed(3)(machine()), drawn)
    assert str(failure(seed(3)(machine()), drawn)) == str(found)
    told = BLOB.search("\n".join(found.__notes__))
    assert told is not None
    version, blob = told.groups()
    once = machine()
    assert str(failure(reproduce_failure(version, eval(blob))(once), drawn)) == str(found)
    assert once.examples == 1


@pytest.mark.slow
def test_the_scenario_is_made_small_only_where_the_failure_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shrunk: list[int] = []
    of = machine()
    smallest = state_machine.smallest

    def counted(*what: Any, **how: Any) -> Any:
        shrunk.append(of.examples)
        return smallest(*what, **how)

    monkeypatch.setattr(state_machine, "smallest", counted)
    found = failure(of, QUICK)
    assert shrunk == [of.examples], "not in the example that found it, but in the last one, that shows it"
    assert found.scenario is not None
    assert [f"job {plan.name}" for plan in found.scenario.jobs] == re.findall(r"job \w+", str(found))[:1]


@pytest.mark.slow
def test_a_queue_that_fails_once_leaves_its_scenario_all_the_same(tmp_path: Path) -> None:
    OneTooManyAtFirstRules.caught = False
    with pytest.raises(Flaky):
        run_state_machine_as_test(machine(queue=OneTooManyAtFirst), settings=QUICK)
    assert (tmp_path / "failures" / "Fresh-attempt_overrun.yaml").exists()


def test_a_rule_of_the_user_plays_steps_of_a_scenario_and_settings_may_decorate_the_class() -> None:
    played: list[str] = []

    class Own(Counted):
        queue = MemoryQueue

        @rule()
        def own(self) -> None:
            self.play("advance 1s")
            played.append(self.scenario.steps[-1].text)

    run_state_machine_as_test(settings(QUICK, max_examples=3)(Own))
    assert set(played) == {"advance 1s"}
    assert Own.examples <= 4


@pytest.mark.long
@pytest.mark.slow
def test_what_an_example_met_is_in_the_statistics_and_in_the_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observability, "OBSERVABILITY_COLLECT_COVERAGE", False)  # it traces each line of ours
    told: list[Any] = []
    observed: list[Any] = []
    with collector.with_value(told.append), with_observability_callback(observed.append):
        run_state_machine_as_test(machine(queue=MemoryQueue), settings=settings(QUICK, max_examples=10))
    text = "\n".join(map(describe_statistics, told))
    features = {name for item in observed if item.type == "test_case" for name in item.features}
    situations = {item.name for item in SITUATIONS} & features
    assert len(situations) >= 5
    assert all(name in text for name in situations)
    assert any(re.fullmatch(r"fault: .+ at \w+, the job PROCESSING", name) for name in features), sorted(features)
