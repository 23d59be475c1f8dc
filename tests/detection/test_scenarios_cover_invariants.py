"""The shipped scenarios pass on the right queue, fail where they must, and leave no invariant without a witness."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_harness.core.invariants import ANOMALIES, CATALOGUE
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.reader import controlled, read_scenario
from job_harness.core.scenario.scenario import Control, Scenario
from job_harness.search.cases import MEMORY
from job_harness.search.targets import open_engine, target_of
from job_harness.search.wrong_queues import CATALOGUE as WRONG_QUEUES

NEED_SESSIONS = frozenset({"expire-reads-first", "locks-in-opposite-order"})
"""These need a session for every actor: `test_gated_statements_find` shows them, and what they breach."""
FOLDER = Path(__file__).parents[2] / "scenarios"
SCENARIOS = [read_scenario(path, queues=WRONG_QUEUES) for path in sorted(FOLDER.rglob("*.yaml"))]


def elsewhere(control: Control) -> bool:
    """Whether it is shown by an engine or a store that need not be on every machine: `run scenarios/findings` does."""
    return control.engine is not None or "@" in (control.application or "")


CONTROLS = [(scenario, control) for scenario in SCENARIOS for control in scenario.controls if not elsewhere(control)]


def name_of(scenario: Scenario) -> str:
    return str(Path(scenario.path).relative_to(FOLDER).with_suffix(""))


def find(scenario: Scenario, control: Control) -> frozenset[str]:
    changed = controlled(scenario, control)
    engine = open_engine(str(target_of(changed, MEMORY)))
    try:
        return play(changed, engine=engine).found
    finally:
        engine.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
def test_a_scenario_passes_on_the_right_queue(scenario: Scenario) -> None:
    engine = open_engine(str(target_of(scenario, MEMORY)))
    try:
        run = play(scenario, engine=engine)
    finally:
        engine.close()
    assert (run.failures, run.anomalies, run.uncovered) == ((), (), ())
    assert run.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("scenario", "control"), CONTROLS, ids=[f"{name_of(scenario)}-{control.name}" for scenario, control in CONTROLS]
)
def test_a_control_finds_its_anomaly(scenario: Scenario, control: Control) -> None:
    assert control.finds in find(scenario, control)


@pytest.mark.parametrize(
    "invariant",
    [invariant for invariant in CATALOGUE if invariant.id not in ("no_lost_update", "no_deadlock")],
    ids=lambda invariant: invariant.id,
)
def test_each_invariant_is_breached_by_some_control(invariant: object) -> None:
    witnesses = [pair for pair in CONTROLS if ANOMALIES[pair[1].finds][0] is invariant]
    assert any(control.finds in find(scenario, control) for scenario, control in witnesses)


@pytest.mark.parametrize("queue", [name for name in WRONG_QUEUES if name not in NEED_SESSIONS])
def test_each_wrong_queue_is_the_control_of_some_scenario(queue: str) -> None:
    assert queue in {control.queue for _, control in CONTROLS}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
def test_a_scenario_says_what_it_is_for_and_how_it_fails(scenario: Scenario) -> None:
    assert scenario.title
    assert scenario.why
    assert scenario.controls
    assert scenario.expect or all(map(elsewhere, scenario.controls))
