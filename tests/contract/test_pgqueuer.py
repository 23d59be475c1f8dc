"""Real PgQueuer under test: its clock is ours, its contract is its own, and a bug that it fixed is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.adapters.foreign_queue import ForeignEngine
from harness.adapters.pgqueuer import open_engine
from harness.conformance import Level, conform
from harness.conformance.judge import Mark
from harness.errors import EnvironmentUnavailable, ExitCode, UsageError
from harness.explore.sampling import Sampler
from harness.model.lifecycle import Status
from harness.model.settings import Settings
from harness.port import JobRequest
from harness.run.session import Limits
from harness.sim.clock import Clocks

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def opened(version: str) -> ForeignEngine:
    try:
        engine = open_engine(version)
        engine.open(Settings(), Clocks(), lambda: 0.0).close()
    except EnvironmentUnavailable as error:
        pytest.skip(str(error))
    return engine


@pytest.fixture(scope="module")
def newest() -> Iterator[ForeignEngine]:
    engine = opened("1.6.0")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def affected() -> Iterator[ForeignEngine]:
    engine = opened("1.0.1")
    yield engine
    engine.close()


def test_time_moves_the_engine(newest: ForeignEngine) -> None:
    clocks, settings = Clocks(), Settings()
    queue = newest.open(settings, clocks, lambda: 0.0)
    assert queue.enqueue(JobRequest("a", start_after=settings.retry_delay)).done
    assert queue.claim("w1", 1).value == []
    clocks.now = settings.retry_delay
    assert [claim.job for claim in queue.claim("w1", 1).value] == ["a"]
    clocks.now += settings.lease
    assert queue.expire().value == []
    clocks.now += 1
    assert queue.expire().value == ["a"]
    assert [claim.token for claim in queue.claim("w2", 1).value] == [2]


def test_a_heartbeat_keeps_a_job_from_being_picked_again(newest: ForeignEngine) -> None:
    clocks, settings = Clocks(), Settings()
    queue = newest.open(settings, clocks, lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    clocks.now += settings.lease
    assert queue.heartbeat(claim).done
    clocks.now += settings.lease
    assert queue.claim("w2", 1).value == []


def test_a_stale_job_that_its_worker_fails_for_good_waits_no_more(newest: ForeignEngine) -> None:
    clocks, settings = Clocks(), Settings(max_attempts=1)
    queue = newest.open(settings, clocks, lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    clocks.now += settings.lease + 1
    assert queue.expire().value == ["a"]
    assert queue.fail(claim, "boom", False).done
    assert queue.jobs()["a"].status is Status.FAILED


def test_a_job_ends_by_the_clock_of_its_end_where_that_was_set_back(newest: ForeignEngine) -> None:
    clocks = Clocks()
    queue = newest.open(Settings(), clocks, lambda: 0.0)
    clocks.now = 10_000_000
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    clocks.now = 5_000_000
    assert queue.complete(claim, None).done
    assert queue.jobs()["a"].completed_at == clocks.now


def test_the_error_of_an_attempt_is_that_of_its_traceback(newest: ForeignEngine) -> None:
    settings = Settings(max_attempts=2)
    clocks = Clocks()
    queue = newest.open(settings, clocks, lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    seen = []
    for text in ("first", "second"):
        clocks.now += settings.retry_delay + 1
        (claim,) = queue.claim("w1", 1).value
        seen.append(queue.jobs()["a"].error)
        queue.fail(claim, text, False)
        seen.append(queue.jobs()["a"].error)
    assert seen == [None, "first", None, "second"]


def test_what_is_held_as_failed_is_not_cancelled(newest: ForeignEngine) -> None:
    queue = newest.open(Settings(max_attempts=1), Clocks(), lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    queue.fail(claim, "boom", False)
    assert not queue.cancel("a").done
    assert queue.jobs()["a"].status is Status.FAILED


def test_two_tools_may_have_one_unique_key(newest: ForeignEngine) -> None:
    queue = newest.open(Settings(), Clocks(), lambda: 0.0)
    assert queue.enqueue(JobRequest("a", unique_key="k")).done
    assert queue.enqueue(JobRequest("b", tool="other", unique_key="k")).done


def test_a_unique_key_is_refused_until_its_job_ends(newest: ForeignEngine) -> None:
    queue = newest.open(Settings(), Clocks(), lambda: 0.0)
    assert queue.enqueue(JobRequest("a", unique_key="k")).done
    assert not queue.enqueue(JobRequest("b", unique_key="k")).done
    (claim,) = queue.claim("w1", 1).value
    queue.complete(claim, None)
    assert queue.jobs()["a"].status is Status.COMPLETED
    assert queue.enqueue(JobRequest("c", unique_key="k")).done


def test_the_newest_conforms_but_for_an_error_that_it_cannot_write(newest: ForeignEngine) -> None:
    found = conform(newest, levels=[Level.CORE, Level.RELIABLE, Level.SCHEDULED, Level.UNIQUE])
    assert found.exit_code is ExitCode.PASS
    assert [item.case.name for item in found.results if item.mark is Mark.KNOWN] == [
        "hostile/error_with_lone_surrogate"
    ]
    assert not found.lies


def test_an_old_one_never_picks_a_stale_job_that_fills_its_limit(affected: ForeignEngine) -> None:
    found = conform(affected, levels=[Level.UNIQUE])
    failing = {item.case.name for item in found.results if item.mark in (Mark.FAIL, Mark.KNOWN)}
    assert failing == {"concurrency/crashed_job_gives_its_permit_back"}


def test_the_generic_workload_finds_the_stale_job_that_waits_for_itself(affected: ForeignEngine) -> None:
    sampler = Sampler(affected, looking_for=frozenset({"due_job_left"}), limits=Limits(steps=600))
    assert sampler.explore(seed=0, runs=10).finding is not None


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(UsageError, match="is no version of pgqueuer"):
        open_engine("newest")
