"""Reconcile, case by case: rows damaged behind the store's back agree again, in memory and on PostgreSQL alike."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from job_harness_reference.models import JobRow, NewJob, QueueState, ToolJobStatus
from job_harness_reference.store import Store
from job_harness_reference.store.database import ConnectionDatabase, connect
from job_harness_reference.store.memory import MemoryStore
from job_harness_reference.store.migrations import migrate
from job_harness_reference.store.postgres import PostgresStore

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TOOL = "my-tool"
SNAKE = {"pgboss_job_id": "pgBossJobId", "completed_at": "completedAt", "expires_at": "expiresAt"}


@dataclass
class Damage:
    """A store, and a hand that writes its tables directly."""

    store: Store
    connection: Any = None

    async def tool_job(self, job_id: str, **columns: Any) -> None:
        if self.connection is None:
            assert isinstance(self.store, MemoryStore)
            self.store.tool_jobs[job_id] = dataclasses.replace(self.store.tool_jobs[job_id], **columns)
            return
        assignments = ", ".join(f'"{SNAKE.get(name, name)}" = %({name})s' for name in columns)
        await self.connection.execute(f"UPDATE tool_job SET {assignments} WHERE id = %(id)s", {**columns, "id": job_id})

    async def queue_job(self, queue_id: str, **columns: Any) -> None:
        if self.connection is None:
            assert isinstance(self.store, MemoryStore)
            row = self.store.queue_jobs[queue_id]
            self.store.queue_jobs[queue_id] = dataclasses.replace(row, **columns)
            return
        assignments = ", ".join(f'"{name}" = %({name})s' for name in columns)
        await self.connection.execute(
            f"UPDATE pgboss.job SET {assignments} WHERE id = %(id)s", {**columns, "id": queue_id}
        )

    async def lose_queue_row(self, queue_id: str) -> None:
        if self.connection is None:
            assert isinstance(self.store, MemoryStore)
            del self.store.queue_jobs[queue_id]
        else:
            await self.connection.execute("DELETE FROM pgboss.job WHERE id = %s", (queue_id,))

    async def lose_tool_job(self, job_id: str) -> None:
        if self.connection is None:
            assert isinstance(self.store, MemoryStore)
            del self.store.tool_jobs[job_id]
        else:
            await self.connection.execute("DELETE FROM tool_job WHERE id = %s", (job_id,))

    async def mended(self, job_id: str = "a") -> JobRow:
        """Reconcile, expect exactly this job, expect nothing more the second time and every neighbour untouched."""
        before = [row for row in await self.store.rows() if row.id == "bystander"]
        assert await self.store.reconcile() == [job_id]
        rows = await self.store.rows()
        assert await self.store.reconcile() == []
        assert await self.store.rows() == rows
        assert [row for row in rows if row.id == "bystander"] == before
        return next(row for row in rows if row.id == job_id)


def queue_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def open_store(request: pytest.FixtureRequest) -> Any:
    dsn = request.getfixturevalue("reference_dsn") if request.param == "postgres" else None
    if dsn is not None:
        asyncio.run(migrate(dsn))

    @asynccontextmanager
    async def opened() -> Any:
        damage, connection = None, None
        if dsn is None:
            damage = Damage(MemoryStore(now=lambda: NOW, jitter=lambda: 0.25))
        else:
            connection = await connect(dsn)
            await connection.execute('DELETE FROM pgboss.job; DELETE FROM tool_job; DELETE FROM "user"')
            store = PostgresStore(ConnectionDatabase(connection), now=lambda: NOW, jitter=lambda: 0.25)
            damage = Damage(store, connection)
        try:
            await damage.store.register_tool(TOOL)
            await damage.store.enqueue(NewJob(TOOL, {"n": 1}, "a", queue_id(1), priority=9))
            await damage.store.enqueue(NewJob(TOOL, {"n": 2}, "bystander", queue_id(2)))
            yield damage
        finally:
            if connection is not None:
                await connection.close()

    return opened


def test_rows_that_agree_are_left_alone(open_store: Any) -> None:
    async def story() -> None:
        async with open_store() as damage:
            rows = await damage.store.rows()
            assert await damage.store.reconcile() == []
            assert await damage.store.rows() == rows

    asyncio.run(story())


@pytest.mark.parametrize("state", [QueueState.CREATED, QueueState.ACTIVE, QueueState.FAILED, QueueState.CANCELLED])
def test_what_a_user_saw_as_final_stays_final(open_store: Any, state: QueueState) -> None:
    async def story() -> None:
        async with open_store() as damage:
            (claim,) = await damage.store.claim(worker="w", tools=[TOOL])
            await damage.store.complete(claim, "out")
            await damage.queue_job(queue_id(1), state=state, worker="w", lease_until=NOW)
            row = await damage.mended()
            assert (row.status, row.output, row.queue_state) == (ToolJobStatus.COMPLETED, "out", QueueState.COMPLETED)
            assert (row.worker, row.lease_until) == (None, None)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (QueueState.COMPLETED, ToolJobStatus.COMPLETED),
        (QueueState.FAILED, ToolJobStatus.FAILED),
        (QueueState.CANCELLED, ToolJobStatus.CANCELLED),
    ],
)
def test_a_terminal_queue_row_settles_its_tool_job(open_store: Any, state: QueueState, status: ToolJobStatus) -> None:
    async def story() -> None:
        async with open_store() as damage:
            await damage.store.claim(worker="w", tools=[TOOL])
            await damage.queue_job(queue_id(1), state=state, completed_on=NOW - timedelta(hours=1))
            row = await damage.mended()
            assert (row.status, row.queue_state, row.attempts) == (status, state, 1)
            assert row.completed_at == NOW - timedelta(hours=1)
            assert row.expires_at == NOW - timedelta(hours=1) + timedelta(days=7)
            expected = "Reconciled: the queue had given this job up." if status is ToolJobStatus.FAILED else None
            assert row.error == expected

    asyncio.run(story())


def test_between_unfinished_halves_the_queue_decides(open_store: Any) -> None:
    async def story() -> None:
        async with open_store() as damage:
            await damage.tool_job("a", status=ToolJobStatus.PROCESSING, attempts=1)
            row = await damage.mended()
            assert (row.status, row.attempts) == (ToolJobStatus.PENDING, 0)
            (claim,) = await damage.store.claim(worker="w", tools=[TOOL])
            await damage.tool_job("a", status=ToolJobStatus.PENDING, attempts=0)
            assert not await damage.store.complete(claim, 1), "its own half says that it does not run"
            row = await damage.mended()
            assert (row.status, row.attempts, row.started_at) == (ToolJobStatus.PROCESSING, 1, NOW)
            assert await damage.store.complete(claim, 1)

    asyncio.run(story())


def test_a_disagreeing_or_lonely_queue_row_is_never_claimed(open_store: Any) -> None:
    async def story() -> None:
        async with open_store() as damage:
            await damage.tool_job("a", status=ToolJobStatus.CANCELLED)
            claims = await damage.store.claim(worker="w", tools=[TOOL], limit=5)
            assert [claim.job.id for claim in claims] == ["bystander"]
            await damage.lose_tool_job("a")
            assert await damage.store.claim(worker="w", tools=[TOOL], limit=5) == []
            assert await damage.store.next_due(tools=[TOOL]) is None

    asyncio.run(story())


@pytest.mark.parametrize("data", [None, [], "text", {"toolJobId": 7}, {"other": 1}, {"toolJobId": "bystander"}])
def test_spoilt_queue_data_is_written_anew_and_stops_nobody(open_store: Any, data: Any) -> None:
    async def story() -> None:
        async with open_store() as damage:
            if damage.connection is None:
                await damage.queue_job(queue_id(1), data=data)
            else:
                from psycopg.types.json import Jsonb

                await damage.queue_job(queue_id(1), data=Jsonb(data))
            assert (await damage.mended()).status is ToolJobStatus.PENDING
            claims = await damage.store.claim(worker="w", tools=[TOOL], limit=5)
            assert [claim.job.id for claim in claims] == ["a", "bystander"]

    asyncio.run(story())


def test_a_waiting_job_whose_queue_row_is_lost_gets_a_new_one(open_store: Any) -> None:
    async def story() -> None:
        async with open_store() as damage:
            await damage.lose_queue_row(queue_id(1))
            row = await damage.mended()
            assert (row.status, row.queue_state, row.start_after) == (ToolJobStatus.PENDING, QueueState.CREATED, NOW)
            (claim,) = await damage.store.claim(worker="w", tools=[TOOL])
            assert (claim.job.id, claim.lease_until) == ("a", NOW + timedelta(minutes=11))

    asyncio.run(story())


def test_a_running_job_whose_queue_row_is_lost_runs_again_and_stays_fenced(open_store: Any) -> None:
    async def story() -> None:
        async with open_store() as damage:
            (stale,) = await damage.store.claim(worker="w", tools=[TOOL])
            await damage.lose_queue_row(queue_id(1))
            row = await damage.mended()
            assert (row.status, row.queue_state, row.attempts) == (ToolJobStatus.PENDING, QueueState.RETRY, 1)
            assert (row.start_after, row.token) == (NOW + timedelta(seconds=75), 1)
            assert row.error == "Reconciled: the queue had lost this job."
            assert not await damage.store.complete(stale, "late")
            assert not await damage.store.heartbeat(stale)

    asyncio.run(story())


@pytest.mark.parametrize("link", [None, "nonsense", "00000000-0000-4000-8000-999999999999"])
def test_a_lost_link_costs_the_queue_row_and_not_the_job(open_store: Any, link: str | None) -> None:
    async def story() -> None:
        async with open_store() as damage:
            await damage.tool_job("a", pgboss_job_id=link)
            assert not await damage.store.cancel("a")
            row = await damage.mended()
            assert (row.status, row.queue_state) == (ToolJobStatus.PENDING, QueueState.CREATED)
            assert len(await damage.store.rows()) == 2
            await damage.tool_job("a", pgboss_job_id=link)  # lost in the same way once more
            assert (await damage.mended()).queue_state is QueueState.CREATED

    asyncio.run(story())


def test_a_lost_queue_row_with_no_attempt_left_fails_the_job(open_store: Any) -> None:
    async def story() -> None:
        async with open_store() as damage:
            await damage.store.claim(worker="w", tools=[TOOL])
            await damage.tool_job("a", attempts=3)
            await damage.lose_queue_row(queue_id(1))
            row = await damage.mended()
            assert (row.status, row.queue_state, row.attempts) == (ToolJobStatus.FAILED, QueueState.FAILED, 3)
            assert (row.completed_at, row.expires_at) == (NOW, NOW + timedelta(days=7))

    asyncio.run(story())


def test_a_finished_job_without_queue_row_gets_one_and_can_then_be_deleted(open_store: Any) -> None:
    async def story() -> None:
        async with open_store() as damage:
            await damage.store.cancel("a")
            await damage.tool_job("a", expires_at=NOW)
            await damage.lose_queue_row(queue_id(1))
            row = await damage.mended()
            assert (row.status, row.queue_state, row.expires_at) == (ToolJobStatus.CANCELLED, QueueState.CANCELLED, NOW)
            assert await damage.store.delete_expired() == ["a"]

    asyncio.run(story())


def test_a_queue_row_alone_is_deleted(open_store: Any) -> None:
    async def story() -> None:
        async with open_store() as damage:
            await damage.lose_tool_job("a")
            (lonely,) = [row for row in await damage.store.rows() if row.id == "a"]
            assert (lonely.status, lonely.queue_state) == (None, QueueState.CREATED)
            assert await damage.store.reconcile() == ["a"]
            assert [row.id for row in await damage.store.rows()] == ["bystander"]

    asyncio.run(story())
