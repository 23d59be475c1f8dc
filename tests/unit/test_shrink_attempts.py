"""A chain of retries is cut short where a shorter one shows the same; else the setting stays as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from job_harness.core.model.duration import MINUTE
from job_harness.core.model.settings import Settings
from job_harness.core.port import Contract
from job_harness.core.run.play import play, uncovered_capabilities
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import FOUND, Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import UsageError
from job_harness.report.screen import MOST, rows_of
from job_harness.search.finding import ScenarioFinding
from job_harness.search.sampling import Sampler
from job_harness.search.shrink import _fewer_attempts
from job_harness.search.wrong_queues import CATALOGUE


def found(name: str, seed: int) -> ScenarioFinding:
    mistake = CATALOGUE[name]
    sampler = Sampler(mistake.engine("memory"), looking_for=frozenset({mistake.anomaly}))
    finding = sampler.explore(seed=seed, runs=400).finding
    assert finding is not None
    return finding


@pytest.mark.parametrize(("name", "seed"), [("one-attempt-too-many", 0), ("attempts-not-counted", 1)])
def test_a_delivery_too_many_is_shown_with_the_fewest_attempts(name: str, seed: int) -> None:
    finding = found(name, seed)

    shown = finding.run.led_by(finding.anomaly)
    assert shown is not None
    assert finding.scenario.settings.max_attempts == 1
    assert len(rows_of(finding.run.history, job=shown.job, until=shown.event, most=99)) <= MOST


def test_what_needs_its_retries_keeps_them_and_what_has_none_keeps_the_default() -> None:
    assert found("backoff-uncapped", 0).scenario.settings.max_attempts == 3
    assert found("final-error-retried", 0).scenario.settings.max_attempts == 3


def test_what_struck_at_a_later_attempt_is_tried_at_an_earlier_one() -> None:
    third = Deviation("w1 complete a", 3, "crash")
    scenario = Scenario(settings=Settings(max_attempts=3), jobs=(JobPlan("a"),), tape=(third,))

    tried = [(item.settings.max_attempts, item.tape[0].nth) for item in _fewer_attempts(scenario, Contract().held)]

    assert tried == [(1, 3), (1, 2), (1, 1), (2, 3), (2, 2)]


def test_what_the_target_fixes_is_as_it_was_in_a_finding_which_replays() -> None:
    mistake = CATALOGUE["one-attempt-too-many"]
    engine = mistake.engine("memory")
    fixed = {"max_attempts": "max_attempts is written into queue.yaml"}
    contract = Contract(
        effective=lambda settings: settings.changed(max_attempts=2), fixed=frozenset(fixed), fixed_where=fixed
    )
    engine.info = replace(engine.info, contract=contract)
    finding = Sampler(engine, looking_for=frozenset({mistake.anomaly})).explore(seed=0, runs=400).finding
    assert finding is not None

    assert finding.scenario.settings.max_attempts == 2
    assert mistake.anomaly in play(finding.scenario, engine=engine).found
    assert not uncovered_capabilities(finding.scenario, engine)
    with pytest.raises(UsageError, match=r"max_attempts is written into queue\.yaml"):
        contract.refuse({"max_attempts": 1})
    contract.refuse({"max_attempts": 2, "lease": 1})


def test_a_finding_is_judged_under_the_settings_that_its_target_has_by_now() -> None:
    def target(lease: int) -> MemoryEngine:
        contract = Contract(effective=lambda settings: settings.changed(lease=lease), fixed=frozenset({"lease"}))
        return MemoryEngine(name="queue.yaml", contract=contract)

    found = Scenario(
        title=f"anything{FOUND}",
        settings=Settings(lease=5 * MINUTE),
        jobs=(JobPlan("a"),),
        application="queue.yaml",
    )

    run = play(found, engine=target(7 * MINUTE))
    assert (run.verdict, run.remarks) == (Verdict.PASS, ("settings changed since it was found: lease 5m -> 7m",))
    assert run.scenario.settings.lease == 7 * MINUTE
    assert play(found, engine=target(5 * MINUTE)).remarks == ()
    for other in (replace(found, title="by hand"), replace(found, application="other.yaml")):
        assert play(other, engine=target(7 * MINUTE)).verdict is Verdict.INCONCLUSIVE
