"""The same mistakes as edits of SQL: what the model queue's explorer found and shrank replays on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from job_harness.core.port import Capabilities
from job_harness.core.run.session import Session
from job_harness.core.scenario.scenario import Scenario, needed_capabilities
from job_harness.engines.reference import ReferenceEngine
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.sampling import DRAWN_LIMITS, Sampler
from job_harness.search.wrong_queues import CATALOGUE

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

PLANTED = ("stale-fail", "one-attempt-too-many", "start-after-ignored", "priority-reversed", "cancel-then-retry")


@pytest.fixture(scope="module")
def right() -> Iterator[ReferenceEngine]:
    engine = ReferenceEngine("postgres")
    try:
        engine.session()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")
    yield engine
    engine.close()


def shrunk(name: str, able: Capabilities) -> Scenario:
    """Return the first small scenario of the model's that asks for nothing which the other queue cannot do."""
    mistake = CATALOGUE[name]
    sampler = Sampler(mistake.engine("memory"), looking_for=frozenset({mistake.anomaly}))
    for seed in range(2, 10):
        finding = sampler.explore(seed=seed, runs=2_000).finding
        assert finding is not None
        if not able.missing(needed_capabilities(finding.scenario)):
            return finding.scenario
    pytest.fail("every scenario asks for what the reference queue cannot do")


@pytest.mark.long
@pytest.mark.parametrize("name", PLANTED)
def test_a_mistake_in_sql_shows_the_anomaly_that_it_shows_in_the_model(name: str, right: ReferenceEngine) -> None:
    scenario = shrunk(name, right.info.capabilities)
    wrong = CATALOGUE[name].engine("postgres")
    try:
        assert CATALOGUE[name].anomaly in Session(scenario, engine=wrong, limits=DRAWN_LIMITS).run().found
    finally:
        wrong.close()
    assert Session(scenario, engine=right).run().anomalies == ()
