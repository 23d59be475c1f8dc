"""Real pg-boss's queue policies, groups and order: what is kept, and which public bugs the generic workload finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.contract.opened_engines import Get, fresh, opened_engines

from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.core.sim.clock import Clocks
from job_harness.engines.pgboss import PgBossEngine
from job_harness.engines.pgboss.node.queue import PgBossNodeQueue
from job_harness.search.sampling import Sampler, run_seed

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

Open = Callable[[str], tuple[PgBossNodeQueue, Clocks]]


@pytest.fixture(scope="module")
def engines() -> Iterator[Get]:
    with opened_engines() as get:
        yield get


@pytest.fixture
def queue_of(engines: Get) -> Open:
    def get(version: str) -> tuple[PgBossNodeQueue, Clocks]:
        return fresh(engines(f"pgboss-node@{version}"))

    return get


def claimed(queue: PgBossNodeQueue, limit: int = 1) -> list[str]:
    return [claim.job for claim in queue.claim("w1", limit).value]


def test_exclusive_keeps_a_key_until_its_job_ended(queue_of: Open) -> None:
    queue, clocks = queue_of("12.38.0/exclusive")
    assert queue.enqueue(JobRequest("a", unique_key="k")).done
    assert queue.enqueue(JobRequest("free")).done
    assert queue.enqueue(JobRequest("other tool", unique_key="k", tool="other")).done
    assert not queue.enqueue(JobRequest("b", unique_key="k")).done
    clocks.now += 1
    claim = queue.claim("w1", 1).value[0]
    assert claim.job == "a"
    assert not queue.enqueue(JobRequest("b", unique_key="k")).done
    assert queue.complete(claim, None).done
    assert queue.enqueue(JobRequest("b", unique_key="k")).done
    assert queue.jobs()["b"].unique_key == "k"
    assert queue.jobs()["free"].unique_key is None


def test_stately_takes_a_second_job_of_a_key_once_the_first_runs(queue_of: Open) -> None:
    queue, clocks = queue_of("10.4.2/stately")
    assert queue.enqueue(JobRequest("a", unique_key="k")).done
    assert not queue.enqueue(JobRequest("b", unique_key="k")).done
    clocks.now += 1
    assert claimed(queue) == ["a"]
    assert queue.enqueue(JobRequest("b", unique_key="k")).done
    clocks.now += 1
    assert claimed(queue) == []


@pytest.mark.parametrize("release", ["11.0.8/singleton", "12.38.0/singleton", "12.38.0"])
def test_one_job_of_a_serial_key_runs_whatever_the_tool(queue_of: Open, release: str) -> None:
    queue, clocks = queue_of(release)
    queue.enqueue(JobRequest("a", serial_key="s"))
    clocks.now += 1
    claim = queue.claim("w1", 1).value[0]
    queue.enqueue(JobRequest("b", serial_key="s", tool="other"))
    clocks.now += 1
    assert claimed(queue) == []
    assert queue.complete(claim, None).done
    queue.expire()
    assert claimed(queue) == ["b"]
    assert (queue.jobs()["b"].tool, queue.jobs()["b"].serial_key) == ("other", "s")


def test_the_highest_priority_is_claimed_first_whatever_its_queue(queue_of: Open) -> None:
    queue, clocks = queue_of("10.4.2")
    queue.enqueue(JobRequest("a", tool="x"))
    queue.enqueue(JobRequest("b", tool="y", priority=5))
    queue.enqueue(JobRequest("c", tool="x", priority=3))
    clocks.now += 1
    assert [claimed(queue), claimed(queue), claimed(queue), claimed(queue)] == [["b"], ["c"], ["a"], []]


def test_upkeep_is_asked_for_where_a_key_may_have_become_free(queue_of: Open) -> None:
    queue, clocks = queue_of("11.0.8/singleton")
    queue.enqueue(JobRequest("a", serial_key="s"))
    assert queue.next_upkeep() is None
    clocks.now += 1
    assert claimed(queue) == ["a"]
    assert queue.next_upkeep() == 1
    queue.expire()
    assert queue.next_upkeep() is None


@pytest.mark.long
@pytest.mark.parametrize(
    ("affected", "fixed", "anomaly"),
    [
        pytest.param("10.1.1/stately", "10.1.4/stately", "batch_poisoned", marks=pytest.mark.campaign),
        ("11.0.7/singleton", "11.0.8/singleton", "job_never_run"),
        pytest.param("12.15.0", "12.16.0", "due_job_left", marks=pytest.mark.campaign),
    ],
)
def test_the_generic_workload_finds_a_public_bug_until_its_repair(
    engines: Get, affected: str, fixed: str, anomaly: str
) -> None:
    def first(release: str, runs: int) -> int | None:
        sampler = Sampler(engines(f"pgboss-node@{release}"), looking_for=frozenset({anomaly}))
        played = ((n, sampler.sample(run_seed(0, n))) for n in range(runs))
        # Batches are left out: no release so far fills one where two jobs of a group stand first (docs/findings).
        return next((n for n, run in played if anomaly in run.found and run.scenario.settings.batch_size == 1), None)

    number = first(affected, 600)
    assert number is not None
    assert first(fixed, number + 1) is None


@pytest.fixture(scope="module")
def sql(engines: Get) -> PgBossEngine:
    engine: PgBossEngine = engines("pgboss@10.1.4/stately")
    return engine


def test_its_own_sql_keeps_a_policy(sql: PgBossEngine) -> None:
    clocks = Clocks()
    queue = sql.open(Settings(), clocks, lambda: 0.0)
    assert queue.enqueue(JobRequest("a", unique_key="k")).done
    assert not queue.enqueue(JobRequest("b", unique_key="k")).done
    clocks.now += 1
    assert [claim.job for claim in queue.claim("w1", 1).value] == ["a"]
    assert queue.enqueue(JobRequest("b", unique_key="k")).done
    clocks.now += 1
    assert queue.claim("w2", 1).value == []
    assert {view.unique_key for view in queue.jobs().values()} == {"k"}


def test_its_own_sql_is_claimed_from_in_the_order_of_one_queue(sql: PgBossEngine) -> None:
    clocks = Clocks()
    queue = sql.open(Settings(), clocks, lambda: 0.0)
    for name, tool, priority in (("a", "x", 0), ("b", "y", 5), ("c", "x", 3)):
        queue.enqueue(JobRequest(name, tool=tool, priority=priority))
    clocks.now += 1
    assert [claim.job for _ in range(3) for claim in queue.claim("w1", 1).value] == ["b", "c", "a"]
