"""Lost update and deadlock on a real PostgreSQL: found from the generic workload, shrunk, saved, replayed, repaired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from job_harness.core.run.play import play
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.writer import write_scenario
from job_harness.engines.reference import ReferenceEngine, Settlement
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.finding import ScenarioFinding
from job_harness.search.sampling import Sampler, run_seed
from job_harness.search.wrong_queues import CATALOGUE

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

RUNS = 300


@pytest.fixture(scope="module")
def right() -> Iterator[ReferenceEngine]:
    engine = ReferenceEngine("postgres-gated")
    try:
        engine.session()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")
    yield engine
    engine.close()


def alarms(engine: ReferenceEngine, *, runs: int) -> list[str]:
    sampler = Sampler(engine)
    found = []
    for number in range(runs):
        run = sampler.sample(run_seed(0, number))
        found.extend(f"run {number}: {what}" for what in (*run.anomalies, *run.failures, *run.uncovered))
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "seed"),
    [("expire-reads-first", 3), ("locks-in-opposite-order", 2)],
)
def test_it_is_found_shrunk_saved_and_replayed_and_the_repair_passes(
    name: str, seed: int, right: ReferenceEngine, tmp_path: Path
) -> None:
    mistake = CATALOGUE[name]
    wrong = mistake.engine("postgres-gated", beside=right)
    sampler = Sampler(wrong, looking_for=frozenset({mistake.anomaly}))
    finding: ScenarioFinding | None = sampler.explore(seed=seed, runs=RUNS).finding
    assert finding is not None
    assert finding.run.gravest is not None
    assert finding.run.gravest.name == mistake.anomaly
    assert len(finding.scenario.tape) <= 6
    path = tmp_path / "found.yaml"
    path.write_text(write_scenario(replace(finding.scenario, queue=name)), encoding="utf-8")
    saved = read_scenario(path)
    runs = [play(saved, engine=wrong) for _ in range(3)]
    assert all(mistake.anomaly in run.found for run in runs)
    assert runs[0].history.events == runs[1].history.events == runs[2].history.events
    repaired = right.planted(settlement=Settlement())
    assert play(saved, engine=repaired).anomalies == ()
    assert play(saved, engine=right).anomalies == ()


@pytest.mark.long
def test_the_reference_queue_raises_no_alarm_with_a_session_for_every_actor(right: ReferenceEngine) -> None:
    assert alarms(right, runs=15) == []


@pytest.mark.long
def test_verbs_of_several_statements_raise_none_when_each_write_compares(right: ReferenceEngine) -> None:
    """Each of these runs has four times the statements of the queue's own."""
    assert alarms(right.planted(settlement=Settlement()), runs=10) == []


@pytest.mark.campaign
def test_neither_raises_an_alarm_in_a_long_campaign(right: ReferenceEngine) -> None:
    assert alarms(right, runs=2_000) == []
    assert alarms(right.planted(settlement=Settlement()), runs=500) == []
