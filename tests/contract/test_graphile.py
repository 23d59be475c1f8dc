"""Real graphile-worker in a Node child: its clock is ours, it conforms where it should, its bugs are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness.adapters.foreign_queue import ForeignEngine
from harness.adapters.graphile import open_engine
from harness.conformance import conform
from harness.conformance.judge import Mark
from harness.errors import EnvironmentUnavailable, UsageError
from harness.explore.finding import Finding
from harness.explore.sampling import Sampler
from harness.model.duration import HOUR
from harness.model.settings import Settings
from harness.port import JobRequest
from harness.sim.clock import Clocks

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

BROKEN, REPAIRED = "0.17.3", "0.18.0"
SHARED = frozenset({"serial_key_shared"})
Engines = Callable[[str], ForeignEngine]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """Answer an engine by version; one that cannot be had here skips the test."""
    opened: dict[str, ForeignEngine] = {}
    with ExitStack() as stack:

        def get(version: str) -> ForeignEngine:
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


def failing(engine: ForeignEngine) -> set[str]:
    told = conform(engine)
    assert not told.lies
    return {result.case.name for result in told.results if result.mark in (Mark.FAIL, Mark.KNOWN)}


def test_it_conforms_but_for_an_error_that_it_cannot_store(engines: Engines) -> None:
    assert failing(engines(REPAIRED)) == {"hostile/error_with_lone_surrogate"}


def test_a_batch_from_one_named_queue_runs_at_once_before_0_18(engines: Engines) -> None:
    assert "concurrency/serial_key_within_a_batch" in failing(engines(BROKEN))


def test_the_generic_workload_finds_it_where_it_is_and_nowhere_else(engines: Engines) -> None:
    def found(version: str) -> Finding | None:
        return Sampler(engines(version), looking_for=SHARED).explore(seed=1, runs=60).finding

    finding = found(BROKEN)
    assert finding is not None
    assert finding.scenario.settings.batch_size == 2
    assert found(REPAIRED) is None


def test_a_lock_lasts_four_hours(engines: Engines) -> None:
    clocks = Clocks()
    queue = engines(REPAIRED).open(Settings(), clocks, lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    assert [claim.job for claim in queue.claim("w1", 1).value] == ["a"]
    clocks.now = 4 * HOUR
    assert queue.expire().value == []
    clocks.now += 1
    assert queue.expire().value == ["a"]


def test_a_job_that_succeeded_is_seen_though_its_row_is_gone(engines: Engines) -> None:
    queue = engines(REPAIRED).open(Settings(), Clocks(), lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    claim = queue.claim("w1", 1).value[0]
    assert queue.complete(claim, None).done
    assert queue.jobs()["a"].status == "COMPLETED"
    assert not queue.complete(claim, None).done


def test_a_release_with_other_functions_is_refused() -> None:
    with pytest.raises(UsageError, match=r"graphile-worker 0\.16\.6 has other functions"):
        open_engine("0.16.6")
