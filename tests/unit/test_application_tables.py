"""The two tables of an application: one statement each, as PostgreSQL and pg-boss would do it."""

from __future__ import annotations

import pytest

from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.model.lifecycle import QueueState, Status
from job_harness.core.model.settings import Settings
from job_harness.subjects.applications import TwoTables

SETTINGS = Settings(lease=10 * MINUTE, max_attempts=2, retry_backoff=False, retry_delay=5 * SECOND)


class At:
    """A clock that a test sets."""

    now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> At:
    return At()


@pytest.fixture
def tables(clock: At) -> TwoTables:
    return TwoTables(SETTINGS, clock, lambda: 0.0)


def sent(tables: TwoTables, job: str = "a") -> None:
    tables.insert_tool_job(job)
    tables.send(job)


def test_a_row_without_its_partner_is_seen_as_such(tables: TwoTables) -> None:
    tables.insert_tool_job("a")
    assert (tables.jobs()["a"].status, tables.jobs()["a"].queue_state) == (Status.PENDING, None)

    tables.delete_tool_job("a")
    tables.send("b")
    assert "a" not in tables.jobs()
    assert (tables.jobs()["b"].status, tables.jobs()["b"].queue_state) == (None, QueueState.CREATED)


def test_an_update_tells_whether_its_where_was_met(tables: TwoTables) -> None:
    tables.insert_tool_job("a")

    assert tables.update_tool_job("a", {"status": "PENDING"}, status="PROCESSING")
    assert not tables.update_tool_job("a", {"status": "PENDING"}, status="COMPLETED")
    assert not tables.update_tool_job("b", status="COMPLETED")
    assert tables.tool_jobs["a"].status is Status.PROCESSING


def test_a_status_stamps_its_times(tables: TwoTables, clock: At) -> None:
    tables.insert_tool_job("a")
    clock.now = MINUTE
    tables.update_tool_job("a", status="PROCESSING")
    clock.now = 2 * MINUTE
    tables.update_tool_job("a", status="COMPLETED", output={"n": 1})

    row = tables.tool_jobs["a"]
    assert (row.started_at, row.completed_at, row.expires_at) == (MINUTE, 2 * MINUTE, 2 * MINUTE + SETTINGS.retention)


def test_a_column_that_does_not_exist_is_named_with_its_nearest(tables: TwoTables) -> None:
    tables.insert_tool_job("a")

    with pytest.raises(TypeError, match=r"no column 'statu' \(did you mean 'status'\?\)"):
        tables.update_tool_job("a", statu="COMPLETED")


@pytest.mark.parametrize("column", [{"error": "boom\x00"}, {"output": {"score": float("nan")}}, {"error": "\ud800"}])
def test_what_postgresql_refuses_raises(tables: TwoTables, column: dict[str, object]) -> None:
    tables.insert_tool_job("a")

    with pytest.raises(ValueError, match=next(iter(column))):
        tables.update_tool_job("a", **column)


def test_a_fetch_takes_the_oldest_of_the_highest_priority(tables: TwoTables, clock: At) -> None:
    for second, (job, priority) in enumerate([("a", 0), ("b", 0), ("c", 5)]):
        clock.now = second
        tables.send(job, priority=priority)

    assert [row.job for row in tables.fetch("w1", limit=2)] == ["c", "a"]
    assert [row.job for row in tables.fetch("w2", limit=2)] == ["b"]


def test_a_lease_that_ran_out_leads_to_a_retry_and_then_to_failed(tables: TwoTables, clock: At) -> None:
    sent(tables)
    tables.fetch("w1")
    clock.now = SETTINGS.lease - 1
    assert tables.expire() == []

    clock.now = SETTINGS.lease
    assert tables.expire() == ["a"]
    assert tables.fetch("w2") == []

    clock.now += SETTINGS.retry_delay
    (row,) = tables.fetch("w2")
    assert (row.attempt, row.token) == (2, 2)
    assert tables.fail(row)
    assert tables.queue["a"].state is QueueState.FAILED


def test_whoever_settles_an_active_row_unless_it_is_fenced(tables: TwoTables, clock: At) -> None:
    sent(tables)
    (first,) = tables.fetch("w1")
    clock.now = SETTINGS.lease
    tables.expire()
    clock.now += SETTINGS.retry_delay
    tables.fetch("w2")

    assert not tables.complete(first, fenced=True)
    assert not tables.touch(first, fenced=True)
    assert tables.complete(first)


def test_a_transaction_that_raises_leaves_nothing_behind(tables: TwoTables) -> None:
    sent(tables)

    def both() -> None:
        with tables.transaction():
            tables.update_tool_job("a", status="COMPLETED")
            tables.delete_row("a")
            raise KeyError("lost")

    with pytest.raises(KeyError):
        both()
    assert tables.jobs()["a"].status is Status.PENDING
    assert tables.queue["a"].state is QueueState.CREATED
