"""Real procrastinate under test: its clock is ours, its contract is its own, and what it loses is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.adapters.foreign_queue import ForeignEngine
from harness.adapters.procrastinate import open_engine
from harness.conformance import Level, conform
from harness.conformance.judge import Mark
from harness.errors import EnvironmentUnavailable, ExitCode, UsageError
from harness.explore.sampling import Sampler
from harness.model.lifecycle import Status
from harness.model.settings import Settings
from harness.port import JobRequest
from harness.sim.clock import Clocks

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module", params=["3.8.1", "3.10.0"])
def procrastinate(request: pytest.FixtureRequest) -> Iterator[ForeignEngine]:
    try:
        engine = open_engine(request.param)
        engine.open(Settings(), Clocks(), lambda: 0.0).close()
    except EnvironmentUnavailable as error:
        pytest.skip(str(error))
    yield engine
    engine.close()


def test_time_moves_the_engine(procrastinate: ForeignEngine) -> None:
    clocks, settings = Clocks(), Settings()
    queue = procrastinate.open(settings, clocks, lambda: 0.0)
    assert queue.enqueue(JobRequest("a", start_after=settings.retry_delay)).done
    assert queue.claim("w1", 1).value == []
    clocks.now = settings.retry_delay
    assert [claim.job for claim in queue.claim("w1", 1).value] == ["a"]
    clocks.now += settings.lease
    assert queue.expire().value == []
    clocks.now += 1
    assert queue.expire().value == ["a"]


def test_numbers_begin_anew_so_that_a_run_can_be_had_again(procrastinate: ForeignEngine) -> None:
    told = []
    for _ in range(2):
        queue = procrastinate.open(Settings(), Clocks(), lambda: 0.0)
        queue.enqueue(JobRequest("a"))
        (claim,) = queue.claim("w1", 1).value
        assert queue.complete(claim, None).done
        told.append(queue.complete(claim, None))
    assert told[0] == told[1]
    assert not told[0].done


def test_a_retry_by_hand_allows_one_more_attempt_and_is_none_itself(procrastinate: ForeignEngine) -> None:
    queue = procrastinate.open(Settings(max_attempts=1), Clocks(), lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    assert not queue.retry("a").done
    assert queue.fail(claim, "no", False).done
    assert queue.retry("a").done
    (again,) = queue.claim("w1", 1).value
    view = queue.jobs()["a"]
    assert (again.attempt, view.attempts, view.max_attempts) == (2, 2, 2)
    assert again.token > claim.token
    assert queue.fail(again, "no", False).done
    assert queue.jobs()["a"].status is Status.FAILED


def test_two_tools_may_have_one_unique_key(procrastinate: ForeignEngine) -> None:
    queue = procrastinate.open(Settings(), Clocks(), lambda: 0.0)
    assert queue.enqueue(JobRequest("a", unique_key="k")).done
    assert queue.enqueue(JobRequest("b", tool="other", unique_key="k")).done
    assert not queue.enqueue(JobRequest("c", unique_key="k")).done
    assert queue.jobs()["b"].unique_key == "k"


def test_it_conforms_but_for_what_it_is_known_for(procrastinate: ForeignEngine) -> None:
    found = conform(procrastinate, levels=[Level.CORE, Level.SCHEDULED, Level.UNIQUE, Level.BATCHES])
    assert found.exit_code is ExitCode.PASS
    assert [item.case.name for item in found.results if item.mark is Mark.KNOWN] == [
        "uniqueness/failed_job_waits_beside_its_sibling"
    ]
    assert not found.lies


def test_the_generic_workload_finds_deliveries_without_bound(procrastinate: ForeignEngine) -> None:
    campaign = Sampler(procrastinate, looking_for=frozenset({"attempt_overrun"})).explore(seed=0, runs=60)
    assert campaign.finding is not None


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(UsageError, match="is no version of procrastinate"):
        open_engine("newest")
