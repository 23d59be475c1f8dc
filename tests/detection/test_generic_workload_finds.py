"""The detector against planted mistakes: one workload for all, no script for any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from job_harness.core.invariants import ANOMALIES, CATALOGUE
from job_harness.core.model.duration import MINUTE
from job_harness.core.model.settings import Settings
from job_harness.core.run.session import Session
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.search.finding import ScenarioFinding
from job_harness.search.sampling import DRAWN_LIMITS, Sampler, run_seed
from job_harness.search.wrong_queues import CATALOGUE as MISTAKES
from job_harness.search.wrong_queues import Mistake

RUNS = 850
"""Within this many runs a mistake is found."""
RARE_RUNS = 12_000
ORDINARY_SEED = {
    "cron-local-clock": 2,
    "expire-reads-first": 3,
    "documented-late-result-spreads": 2,
    "worker-beats-for-one": 2,
    "dead-letter-forgotten-by-reaper": 3,
    "waiting-again-collides": 3,
    "completes-in-two-steps": 2,
    "cron-seconds-dropped": 3,
    "serial-key-kept-at-max": 3,
    "stale-blocked-by-own-slot": 3,
    "release-forgotten": 3,
}
"""Whose first seed shows less than others of what they are planted for, or takes several times as long."""
DEFAULTS = Settings()
RARE = frozenset(
    {
        "stale-complete",
        "stale-release",
        "result-overwritten",
        "late-failure-revives",
        "cancel-overwritten",
        "rescue-too-early",
        "expire-ignores-heartbeat",
        "failed-job-blocks-queue",
        "retries-never-due",
        "stale-heartbeat",
        "sweep-takes-other-queues",
        "pause-forgotten-by-retries",
        "cron-leap-day-missed",
        "cron-catches-up",
        "key-cut-short",
        "attempts-in-a-byte",
        "claim-looks-at-one-page",
        "claim-looks-at-a-thousand",
        "expire-looks-at-a-thousand",
        "worker-stops-beating",
    }
)
"""These need several things at once, or a long wait: an ordinary run looks for them with fewer seeds."""
BY_SCENARIO = frozenset({"disabled-worker-consumes", "token-starts-over"})
"""A scenario has these as its control: nothing is drawn with workers switched off, and an id that is used again while
the first worker of it stands did not come up in 20 000 runs of seed 1."""
BEATING = Settings(lease=4 * MINUTE, heartbeat_interval=MINUTE)
KEPT_BY_HEARTBEATS = frozenset({"worker-beats-too-rarely", "heartbeats-end-at-shutdown"})
"""These show where heartbeats keep a lease that is shorter than a job may take."""
ELSEWHERE = RARE | BY_SCENARIO | KEPT_BY_HEARTBEATS
EVERYDAY = [mistake for name, mistake in MISTAKES.items() if name not in ELSEWHERE and mistake.queue is not None]
OF_APPLICATIONS = {"silent_success", "unhandled_error", "process_died"}
"""These are of what stands on a queue: the controls in `scenarios/applications` lead to them."""
ON_A_DATABASE = [mistake for mistake in MISTAKES.values() if mistake.queue is None]
"""These need row locks: `test_gated_statements_find` looks for them."""


def with_seeds(names: Iterable[str]) -> list[Any]:
    """Give each name its seeds: one shows that it is found, that others find it too is looked at by `make campaign`."""
    return [
        pytest.param(
            name,
            seed,
            id=f"{name}-{seed}",
            marks=() if seed == ORDINARY_SEED.get(name, 1) else pytest.mark.campaign,
        )
        for name in names
        for seed in (1, 2, 3)
    ]


def explore(mistake: Mistake, *, seed: int, runs: int, settings: Settings = DEFAULTS) -> ScenarioFinding:
    sampler = Sampler(mistake.engine("memory"), settings, frozenset({mistake.anomaly}))
    finding = sampler.explore(seed=seed, runs=runs).finding
    assert finding is not None, f"{mistake.name}: no {mistake.anomaly} in {runs} runs of seed {seed}"
    return finding


def check(mistake: Mistake, finding: ScenarioFinding) -> None:
    again = Session(finding.scenario, engine=mistake.engine("memory"), limits=DRAWN_LIMITS).run()
    assert mistake.anomaly in again.found
    assert Session(finding.scenario, engine=MemoryEngine()).run().anomalies == ()
    assert len(finding.scenario.tape) <= 6
    assert len(finding.scenario.jobs) <= 4


@pytest.mark.parametrize(("name", "seed"), with_seeds(mistake.name for mistake in EVERYDAY))
def test_a_mistake_is_found_shrunk_and_replayed_and_the_right_queue_passes(name: str, seed: int) -> None:
    check(MISTAKES[name], explore(MISTAKES[name], seed=seed, runs=RUNS))


@pytest.mark.parametrize(("name", "seed"), with_seeds(sorted(KEPT_BY_HEARTBEATS)))
def test_a_mistake_with_heartbeats_is_found_where_they_keep_the_lease(name: str, seed: int) -> None:
    check(MISTAKES[name], explore(MISTAKES[name], seed=seed, runs=RUNS, settings=BEATING))


def test_a_lease_that_a_job_asks_for_keeps_its_heartbeats_when_the_run_is_made_smaller() -> None:
    mistake = MISTAKES["expire-ignores-heartbeat"]
    check(mistake, explore(mistake, seed=2, runs=RARE_RUNS))


def test_a_lease_that_heartbeats_keep_raises_no_alarm_on_the_right_queue() -> None:
    sampler = Sampler(MemoryEngine(), BEATING)
    assert [run_seed(7, number) for number in range(150) if sampler.sample(run_seed(7, number)).anomalies] == []


@pytest.mark.campaign
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", sorted(RARE))
def test_a_rare_mistake_is_found_too(name: str, seed: int) -> None:
    check(MISTAKES[name], explore(MISTAKES[name], seed=seed, runs=RARE_RUNS))


def test_every_invariant_and_every_anomaly_has_a_wrong_queue_that_leads_to_it() -> None:
    covered = {anomaly for mistake in MISTAKES.values() for anomaly in mistake.finds}
    assert covered | OF_APPLICATIONS == set(ANOMALIES)
    named = {mistake.anomaly for mistake in (*EVERYDAY, *ON_A_DATABASE)} | OF_APPLICATIONS
    assert {ANOMALIES[anomaly][0].id for anomaly in named} == {invariant.id for invariant in CATALOGUE}


@pytest.mark.slow
def test_the_right_queue_raises_no_alarm() -> None:
    assert _alarms(MemoryQueue, runs=300) == []


@pytest.mark.campaign
def test_the_right_queue_raises_no_alarm_in_a_long_campaign() -> None:
    assert _alarms(MemoryQueue, runs=200_000) == []


def test_a_run_whose_job_is_tried_often_ends_before_its_steps_do() -> None:
    run = Sampler(MemoryEngine(MemoryQueue)).sample(7_000_944)
    assert (max(job.max_attempts or 0 for job in run.scenario.jobs), run.cut) == (50, False)


def _alarms(queue: type[MemoryQueue], *, runs: int) -> list[str]:
    sampler = Sampler(MemoryEngine(queue))
    alarms = []
    for number in range(runs):
        run = sampler.sample(run_seed(7, number))
        alarms.extend(f"seed {run_seed(7, number)}: {what}" for what in (*run.anomalies, *run.failures))
    return alarms
