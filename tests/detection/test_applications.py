"""The generic workload finds what a naive application on two tables does wrong, and nothing in a careful one."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_harness.search.counterfactual import Safeguard, with_fixes
from job_harness.search.sampling import Sampler
from job_harness.search.targets import open_engine
from job_harness.subjects.applications import ApplicationEngine

FILE = Path(__file__).parents[2] / "scenarios/applications/my_app.py"
SEEDS = {"silent_success": 0, "orphan_row": 0, "concurrent_execution": 2}
"""An anomaly may have several causes; each of these searches meets the one whose safeguards stand below first."""
FRESH = 90
"""Runs that confirm a safeguard: with fewer than 300 what is no safeguard shows itself here all the same."""
STOPPED_BY = {
    "silent_success": {"settle-by-result"},
    "orphan_row": {"reconcile-both-ways", "transactional-enqueue"},
    "concurrent_execution": {
        "fencing",
        "heartbeats",
        "batch_size 1",
        "lease 51m (batch x timeout + margin) with stuck_timeout 53m",
    },
}


def application(name: str) -> ApplicationEngine:
    engine = open_engine(f"{FILE}:{name}")
    assert isinstance(engine, ApplicationEngine)
    return engine


@pytest.mark.slow
@pytest.mark.parametrize(
    "anomaly", ["silent_success", "orphan_row", pytest.param("concurrent_execution", marks=pytest.mark.long)]
)
def test_a_naive_application_shows_it_and_the_safeguards_that_stop_it_are_named(anomaly: str) -> None:
    engine = application("MyApp")
    finding = Sampler(engine, engine.info.settings, frozenset({anomaly})).explore(seed=SEEDS[anomaly], runs=300).finding
    assert finding is not None
    assert len(finding.scenario.tape) <= 1

    guarded = [Safeguard(name, engine.guarded(name)) for name in engine.info.safeguards]
    run = with_fixes(finding.run, engine=engine, safeguards=guarded, anomaly=anomaly, runs=FRESH)

    assert {trial.name for trial in run.trials if trial.stops} == STOPPED_BY[anomaly]


@pytest.mark.slow
@pytest.mark.long
def test_one_campaign_finds_all_of_them() -> None:
    engine = application("MyApp")

    campaign = Sampler(engine, engine.info.settings, keep_going=True).explore(seed=0, runs=100)

    assert campaign.found >= set(STOPPED_BY)


@pytest.mark.slow
@pytest.mark.long
def test_a_careful_application_holds() -> None:
    engine = application("safest")

    campaign = Sampler(engine, engine.info.settings).explore(seed=1, runs=300)

    assert campaign.finding is None
