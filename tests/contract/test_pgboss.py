"""Real pg-boss under test: its clock is ours, it conforms where it should, and its known bugs are found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.adapters.pgboss import PgBossEngine, open_engine
from harness.conformance import Level, conform
from harness.conformance.judge import Mark
from harness.errors import EnvironmentUnavailable, UsageError
from harness.explore.sampling import Sampler
from harness.model.settings import Settings
from harness.port import JobRequest
from harness.sim.clock import Clocks

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def pgboss() -> Iterator[PgBossEngine]:
    engine = open_engine("10.4.2")
    try:
        engine.session()
    except EnvironmentUnavailable as error:
        pytest.skip(str(error))
    yield engine
    engine.close()


def test_time_moves_the_engine(pgboss: PgBossEngine) -> None:
    from harness.port import JobRequest

    clocks = Clocks()
    settings = Settings()
    queue = pgboss.open(settings, clocks, lambda: 0.0)
    assert queue.enqueue(JobRequest("a", start_after=settings.retry_delay)).done
    assert queue.claim("w1", 1).value == []
    clocks.now = settings.retry_delay + 1
    assert [claim.job for claim in queue.claim("w1", 1).value] == ["a"]
    clocks.now += settings.lease
    assert queue.expire().value == []
    clocks.now += 1
    assert queue.expire().value == ["a"]


def test_a_retry_by_hand_after_a_resume_allows_one_more_attempt(pgboss: PgBossEngine) -> None:
    clocks, settings = Clocks(), Settings(max_attempts=1)
    queue = pgboss.open(settings, clocks, lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    attempts = []
    for _ in range(2):
        clocks.now += settings.retry_delay_max
        (claim,) = queue.claim("w1", 1).value
        attempts.append((claim.attempt, queue.jobs()["a"].max_attempts))
        assert (queue.fail(claim, "no", False) if attempts[1:] else queue.cancel("a")).done
        assert queue.retry("a").done
    clocks.now += settings.retry_delay_max
    (claim,) = queue.claim("w1", 1).value
    assert [*attempts, (claim.attempt, queue.jobs()["a"].max_attempts)] == [(1, 1), (2, 2), (3, 3)]


def test_it_conforms_but_for_what_it_is_known_for(pgboss: PgBossEngine) -> None:
    failing = {
        result.case.name
        for result in conform(pgboss, levels=[Level.RELIABLE]).results
        if result.mark in (Mark.FAIL, Mark.KNOWN)
    }
    assert {"zombies/late_complete", "zombies/late_fail", "hostile/error_with_nul"} <= failing


def test_the_generic_workload_finds_that_a_nul_loses_the_outcome(pgboss: PgBossEngine) -> None:
    campaign = Sampler(pgboss, looking_for=frozenset({"outcome_lost"})).explore(seed=0, runs=600)
    assert campaign.finding is not None
    assert len(campaign.finding.scenario.jobs) == 1


def test_a_version_that_is_none_of_pg_boss_10_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pg-boss '12\.38\.0' cannot be driven by its SQL alone"):
        open_engine("12.38.0").session()
