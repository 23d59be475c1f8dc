"""What the model queue keeps of a transaction and of a schedule: a unique key once, and nothing that was taken back."""

from __future__ import annotations

from job_harness.core.model.duration import SECOND
from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest, Schedule
from job_harness.core.sim.clock import Clocks
from job_harness.engines.memory import MemoryQueue


def opened(*transactions: str) -> MemoryQueue:
    queue = MemoryQueue(Settings(), Clocks(), lambda: 0.0)
    for transaction in transactions:
        assert queue.begin(transaction).done
    return queue


def test_one_transaction_holds_a_unique_key_once() -> None:
    queue = opened("x", "y")

    assert queue.enqueue(JobRequest(id="a", tool="t", unique_key="k", transaction="x")).done
    refused = queue.enqueue(JobRequest(id="b", tool="t", unique_key="k", transaction="x"))
    assert (refused.done, refused.value) == (False, "a")
    assert queue.enqueue(JobRequest(id="b", tool="other", unique_key="k", transaction="x")).done
    assert queue.enqueue(JobRequest(id="c", tool="t", unique_key="k", transaction="y")).done, "it cannot see the other"

    assert queue.commit("x").value == ["a", "b"]
    assert not queue.commit("y").done


def test_what_a_transaction_took_back_asked_for_nothing() -> None:
    queue = opened("x", "y")
    own = {"lease": 5 * SECOND, "retry_delay": SECOND, "unique_for": 60 * SECOND}

    assert queue.enqueue(JobRequest(id="a", tool="t", transaction="x", **own)).done
    assert queue.rollback("x").done
    assert queue.enqueue(JobRequest(id="b", tool="t", unique_key="k", transaction="y", **own)).done
    assert queue.enqueue(JobRequest(id="c", tool="t", unique_key="k")).done
    assert not queue.commit("y").done
    assert not queue.enqueue(JobRequest(id="d", tool="t", transaction="gone", **own)).done

    for job in "abd":
        assert queue.enqueue(JobRequest(id=job, tool="t")).done
        assert queue.claims.lease_of(queue.rows[job]) == Settings().lease


def test_the_jobs_of_a_schedule_have_the_terms_that_it_asks_for() -> None:
    clocks = Clocks()
    queue = MemoryQueue(Settings(), clocks, lambda: 0.0)

    assert queue.schedule(Schedule("n", SECOND, JobRequest("n", lease=5 * SECOND, retry_delay=2 * SECOND))).done
    clocks.advance(SECOND)
    assert queue.tick("s1").value == ["n1"]

    row = queue.rows["n1"]
    assert (queue.claims.lease_of(row), queue.endings.retrying(row).retry_delay) == (5 * SECOND, 2 * SECOND)
