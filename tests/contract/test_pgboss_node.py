"""Real pg-boss in a Node child: its clock is ours, it conforms where it should, its bugs are found, it may die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness.adapters.pgboss.node import PgBossNodeEngine, open_engine
from harness.conformance import Level, conform
from harness.conformance.judge import Mark
from harness.errors import EnvironmentUnavailable, UsageError
from harness.explore.sampling import Sampler
from harness.foreign import PeerLost
from harness.model.settings import Settings
from harness.port import JobRequest
from harness.sim.clock import Clocks

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

OLD, NEW = "10.4.2", "12.38.0"
Engines = Callable[[str], PgBossNodeEngine]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """Answer an engine by version; one that cannot be had here skips the test."""
    opened: dict[str, PgBossNodeEngine] = {}
    with ExitStack() as stack:

        def get(version: str) -> PgBossNodeEngine:
            if version not in opened:
                engine = open_engine(version)
                stack.callback(engine.close)
                try:
                    engine.open(Settings(), Clocks(), lambda: 0.0)
                except EnvironmentUnavailable as error:
                    pytest.skip(str(error))
                opened[version] = engine
            return opened[version]

        yield get


def failing(engine: PgBossNodeEngine) -> set[str]:
    told = conform(engine)
    assert not told.lies
    return {result.case.name for result in told.results if result.mark in (Mark.FAIL, Mark.KNOWN)}


UNWRITABLE = {"hostile/error_with_nul", "hostile/error_with_lone_surrogate"}


def test_a_retry_by_hand_after_a_resume_allows_one_more_attempt(engines: Engines) -> None:
    clocks, settings = Clocks(), Settings(max_attempts=1)
    queue = engines(NEW).open(settings, clocks, lambda: 0.0)
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


def test_what_is_fetched_together_comes_as_it_was_sent(engines: Engines) -> None:
    clocks = Clocks()
    queue = engines(NEW).open(Settings(batch_size=3), clocks, lambda: 0.0)
    for name, priority in {"c": 0, "a": 5, "b": 1}.items():
        queue.enqueue(JobRequest(name, priority=priority))
    clocks.now += 1
    assert [claim.job for claim in queue.claim("w1", 3).value] == ["c", "a", "b"]


def test_version_10_conforms_but_for_what_it_is_known_for(engines: Engines) -> None:
    assert failing(engines(OLD)) == {"zombies/late_complete", "zombies/late_fail", *UNWRITABLE}


def test_the_newest_version_fences_what_was_fetched_and_still_cannot_store_some_errors(engines: Engines) -> None:
    assert failing(engines(NEW)) == UNWRITABLE


def test_heartbeats_are_there_from_12_on(engines: Engines) -> None:
    assert not engines(OLD).capabilities.heartbeat
    assert engines(NEW).capabilities.heartbeat


def test_the_generic_workload_finds_a_failure_that_cannot_be_stored(engines: Engines) -> None:
    campaign = Sampler(engines(NEW), looking_for=frozenset({"outcome_lost"})).explore(seed=0, runs=600)
    assert campaign.finding is not None
    assert len(campaign.finding.scenario.jobs) == 1


def test_a_killed_child_is_named_and_the_next_run_has_a_new_one(engines: Engines) -> None:
    engine = engines(OLD)
    queue = engine.open(Settings(), Clocks(), lambda: 0.0)
    queue._child.kill()
    with pytest.raises(PeerLost, match=r"pgboss-node@10\.4\.2: its process was ended"):
        queue.enqueue(JobRequest("a"))
    assert engine.open(Settings(), Clocks(), lambda: 0.0).enqueue(JobRequest("a")).done


def test_a_release_with_another_schema_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pg-boss 9\.0\.3 has another schema"):
        open_engine("9.0.3")


def test_it_conforms_no_worse_than_its_own_sql(engines: Engines) -> None:
    from harness.adapters.pgboss import open_engine as open_sql

    sql = open_sql(OLD)
    try:
        told = {case.case.name: case.mark for case in conform(sql, levels=[Level.RELIABLE]).results}
    finally:
        sql.close()
    for result in conform(engines(OLD), levels=[Level.RELIABLE]).results:
        assert result.mark is told[result.case.name], result.case.name
