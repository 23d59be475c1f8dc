"""One contract for both stores: every verb and every promise, in memory and on a real PostgreSQL alike."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from job_harness_reference.errors import InvalidJsonError, MaintenanceError, QueueError, UnknownToolError
from job_harness_reference.maintenance import run_maintenance
from job_harness_reference.models import Claim, JobRow, NewJob, QueueState, ToolJobStatus
from job_harness_reference.store.batch import BatchStore, Settlement
from job_harness_reference.store.database import ConnectionDatabase, connect
from job_harness_reference.store.memory import MemoryStore
from job_harness_reference.store.migrations import migrate
from job_harness_reference.store.postgres import PostgresStore

START = datetime(2030, 1, 1, tzinfo=UTC)
TOOL = "my-tool"
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

RESET = 'DELETE FROM pgboss.job; DELETE FROM public.tool_job; DELETE FROM public."user"'


class Bench:
    """A store under a hand-moved clock, with what a test needs to set it up and to spoil it."""

    def __init__(self) -> None:
        self.now = START
        self.jitter = 0.0
        self.store: BatchStore
        self.sql: Callable[[str], Awaitable[object]] | None = None
        self._made = 0

    def job(self, name: str = "", **fields: Any) -> NewJob:
        self._made += 1
        known = {"tool_slug": TOOL, "input": {"n": self._made}, "id": name or f"job-{self._made}"}
        return NewJob(**{"queue_id": f"00000000-0000-4000-8000-{self._made:012d}", **known, **fields})

    async def enqueue(self, name: str = "", **fields: Any) -> str:
        return (await self.store.enqueue(self.job(name, **fields))).job.id

    async def claim(self, worker: str = "w1") -> Claim:
        (claim,) = await self.store.claim(worker=worker, tools=[TOOL])
        return claim

    async def row(self, job_id: str) -> JobRow:
        (row,) = [row for row in await self.store.rows() if row.id == job_id]
        return row

    def pass_time(self, length: timedelta) -> None:
        self.now += length


Story = Callable[[Bench], Awaitable[None]]
Run = Callable[[Story], None]


@pytest.fixture(scope="session")
def migrated_dsn(reference_dsn: str) -> str:
    asyncio.run(migrate(reference_dsn))
    return reference_dsn


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a story against a fresh store."""

    async def on_memory(story: Story) -> None:
        bench = Bench()
        bench.store = MemoryStore(now=lambda: bench.now, jitter=lambda: bench.jitter)
        await bench.store.register_tool(TOOL)
        await story(bench)

    async def on_postgres(story: Story, dsn: str) -> None:
        bench = Bench()
        connection = await connect(dsn)
        try:
            await connection.execute(RESET)
            database = ConnectionDatabase(connection)
            bench.store = PostgresStore(database, now=lambda: bench.now, jitter=lambda: bench.jitter)
            bench.sql = connection.execute
            await bench.store.register_tool(TOOL)
            await story(bench)
        finally:
            await connection.close()

    if request.param == "memory":
        yield lambda story: asyncio.run(on_memory(story))
    else:
        dsn = request.getfixturevalue("migrated_dsn")
        yield lambda story: asyncio.run(on_postgres(story, dsn))


async def spoil(bench: Bench, *, sql: str, memory: Callable[[MemoryStore], None]) -> None:
    """Damage the rows behind the store's back, as the kind of store asks."""
    if bench.sql is not None:
        await bench.sql(sql)
    else:
        assert isinstance(bench.store, MemoryStore)
        memory(bench.store)


def test_a_new_job_has_both_rows_and_waits(run: Run) -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.store.enqueue(bench.job("a", priority=3, max_attempts=2, user_id="u", session_id="s"))
        assert answer.created
        assert answer.job == await bench.store.get("a")
        row = await bench.row("a")
        assert (row.status, row.queue_state) == (ToolJobStatus.PENDING, QueueState.CREATED)
        assert (row.attempts, row.max_attempts, row.token, row.priority) == (0, 2, 0, 3)
        assert (row.created_at, row.start_after, row.started_at, row.completed_at) == (START, START, None, None)

    run(story)


def test_a_claim_counts_the_attempt_and_opens_a_lease(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", lease=5 * MINUTE)
        claim = await bench.claim()
        assert (claim.token, claim.worker, claim.lease_until) == (1, "w1", START + 5 * MINUTE)
        assert (claim.job.status, claim.job.attempts, claim.job.started_at) == (ToolJobStatus.PROCESSING, 1, START)
        row = await bench.row("a")
        assert (row.queue_state, row.worker, row.lease_until) == (QueueState.ACTIVE, "w1", START + 5 * MINUTE)
        assert await bench.store.claim(worker="w2", tools=[TOOL]) == []

    run(story)


def test_claims_take_the_highest_priority_then_the_oldest(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("low", priority=-1)
        await bench.enqueue("second-b", priority=5, queue_id="20000000-0000-4000-8000-000000000000")
        await bench.enqueue("second-a", priority=5, queue_id="10000000-0000-4000-8000-000000000000")
        bench.pass_time(SECOND)
        await bench.enqueue("third", priority=5)
        await bench.enqueue("first", priority=6)
        claims = await bench.store.claim(worker="w", tools=[TOOL], limit=4)
        assert [claim.job.id for claim in claims] == ["first", "second-a", "second-b", "third"]

    run(story)


def test_nothing_is_claimed_before_its_time_or_for_another_tool(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.store.register_tool("other-tool")
        await bench.enqueue("a", start_after=START + MINUTE)
        assert await bench.store.next_due(tools=[TOOL]) == START + MINUTE
        bench.pass_time(MINUTE - timedelta(microseconds=1))
        assert await bench.store.claim(worker="w", tools=[TOOL]) == []
        bench.pass_time(timedelta(microseconds=1))
        assert await bench.store.claim(worker="w", tools=["other-tool", "unknown", "a\x00b"]) == []
        assert await bench.store.claim(worker="w", tools=[]) == []
        assert await bench.store.claim(worker="w", tools=[TOOL], limit=0) == []
        assert (await bench.claim()).job.id == "a"
        assert await bench.store.next_due(tools=[TOOL]) is None

    run(story)


def test_a_completed_job_has_its_output_and_no_error(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", retention=2 * MINUTE, retry_delay=timedelta(0))
        await bench.store.fail(await bench.claim(), "first try")
        claim = await bench.claim()
        bench.pass_time(SECOND)
        assert await bench.store.complete(claim, {"ok": [1, "zwei", None]})
        job = await bench.store.get("a")
        assert job is not None
        assert (job.status, job.output, job.error) == (ToolJobStatus.COMPLETED, {"ok": [1, "zwei", None]}, None)
        assert (job.completed_at, job.expires_at) == (START + SECOND, START + SECOND + 2 * MINUTE)
        row = await bench.row("a")
        assert (row.queue_state, row.worker, row.lease_until) == (QueueState.COMPLETED, None, None)

    run(story)


def test_failures_come_back_until_the_attempts_are_used_up(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", max_attempts=3, retry_delay=MINUTE)
        for attempt, wait in ((1, 1), (2, 2)):
            assert await bench.store.fail(await bench.claim(), f"no {attempt}") is ToolJobStatus.PENDING
            row = await bench.row("a")
            assert (row.queue_state, row.error, row.attempts) == (QueueState.RETRY, f"no {attempt}", attempt)
            assert row.start_after == bench.now + wait * MINUTE
            bench.pass_time(wait * MINUTE)
        assert await bench.store.fail(await bench.claim(), "no 3") is ToolJobStatus.FAILED
        row = await bench.row("a")
        assert (row.status, row.queue_state, row.attempts) == (ToolJobStatus.FAILED, QueueState.FAILED, 3)
        assert (row.completed_at, row.expires_at) == (bench.now, bench.now + timedelta(days=7))

    run(story)


def test_a_final_error_leaves_no_attempt(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", max_attempts=3)
        assert await bench.store.fail(await bench.claim(), "never", final=True) is ToolJobStatus.FAILED
        assert (await bench.row("a")).attempts == 1

    run(story)


@pytest.mark.parametrize("jitter", [0.0, 0.123456789, 0.5, math.nextafter(1.0, 0.0)])
def test_backoff_doubles_is_stretched_and_is_capped(run: Run, jitter: float) -> None:
    async def story(bench: Bench) -> None:
        bench.jitter = jitter
        delay, cap = timedelta(seconds=7, microseconds=3), timedelta(minutes=5)
        await bench.enqueue("a", max_attempts=80, retry_delay=delay, retry_delay_max=cap)
        for failures in range(79):
            await bench.store.fail(await bench.claim(), "again")
            row = await bench.row("a")
            assert row.start_after is not None
            exact = int(7_000_003 * 2**failures * (1.0 + jitter)) if failures < 20 else math.inf
            assert (row.start_after - bench.now) == timedelta(microseconds=min(exact, 300_000_000))
            bench.now = row.start_after

    run(story)


def test_without_backoff_the_delay_is_constant_and_exact(run: Run) -> None:
    async def story(bench: Bench) -> None:
        bench.jitter = 0.9
        await bench.enqueue("a", max_attempts=4, retry_delay=9 * MINUTE, retry_backoff=False, retry_delay_max=MINUTE)
        for _ in range(3):
            await bench.store.fail(await bench.claim(), "again")
            assert (await bench.row("a")).start_after == bench.now + 9 * MINUTE
            bench.pass_time(9 * MINUTE)

    run(story)


async def _taken_back(bench: Bench, how: str, claim: Claim) -> None:
    if how == "expire":
        bench.pass_time(20 * MINUTE)
        assert await bench.store.expire() == ["a"]
    elif how == "rescue":
        bench.pass_time(20 * MINUTE)
        assert await bench.store.rescue_stuck(stuck_after=20 * MINUTE) == ["a"]
    elif how == "cancel":
        assert await bench.store.cancel("a")
    elif how == "release":
        assert await bench.store.release(claim)
    else:
        assert await bench.store.complete(claim, None)


@pytest.mark.parametrize("reclaimed", [False, True])
@pytest.mark.parametrize("how", ["expire", "rescue", "cancel", "release", "complete"])
def test_a_claim_that_was_taken_back_changes_nothing(run: Run, how: str, reclaimed: bool) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", retry_delay=timedelta(0))
        stale = await bench.claim()
        await _taken_back(bench, how, stale)
        if reclaimed and how in ("expire", "rescue", "release"):
            assert (await bench.claim("w2")).token == 2
        before = await bench.row("a")
        bench.pass_time(SECOND)
        assert not await bench.store.heartbeat(stale)
        assert not await bench.store.complete(stale, "late")
        assert await bench.store.complete_many([Settlement(stale, "late")]) == [False]
        assert await bench.store.fail(stale, "late") is None
        assert await bench.store.fail(stale, "late", final=True) is None
        assert not await bench.store.release(stale)
        assert await bench.row("a") == before

    run(story)


def test_a_heartbeat_extends_the_lease_by_its_full_length(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", lease=10 * MINUTE)
        claim = await bench.claim()
        bench.pass_time(9 * MINUTE)
        assert await bench.store.heartbeat(claim)
        assert (await bench.row("a")).lease_until == START + 19 * MINUTE
        bench.pass_time(10 * MINUTE - timedelta(microseconds=1))
        assert await bench.store.expire() == []
        bench.pass_time(timedelta(microseconds=1))
        assert await bench.store.expire() == ["a"]

    run(story)


def test_a_release_gives_the_attempt_back_and_the_token_not(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", max_attempts=2, retry_delay=timedelta(0))
        assert await bench.store.release(await bench.claim())
        row = await bench.row("a")
        assert (row.status, row.queue_state, row.attempts, row.token) == (
            ToolJobStatus.PENDING,
            QueueState.CREATED,
            0,
            1,
        )
        await bench.store.fail(await bench.claim(), "one")
        for _ in range(3):
            claim = await bench.claim()
            assert claim.job.attempts == 2
            assert await bench.store.release(claim)
            row = await bench.row("a")
            assert (row.queue_state, row.attempts, row.error) == (QueueState.RETRY, 1, "one")
        assert await bench.store.fail(await bench.claim(), "two") is ToolJobStatus.FAILED
        assert (await bench.row("a")).token == 6

    run(story)


def test_a_crash_counts_as_an_attempt_and_expiry_says_why(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", max_attempts=2, lease=MINUTE, retry_delay=timedelta(0))
        await bench.claim("w1")
        bench.pass_time(MINUTE)
        assert await bench.store.expire() == ["a"]
        assert await bench.store.expire() == []
        assert (await bench.row("a")).error == "The lease of worker w1 ran out in attempt 1 of 2."
        await bench.claim("w2")
        bench.pass_time(MINUTE)
        assert await bench.store.expire() == ["a"]
        row = await bench.row("a")
        assert (row.status, row.attempts) == (ToolJobStatus.FAILED, 2)
        assert row.error == "The lease of worker w2 ran out in attempt 2 of 2."
        assert row.completed_at == bench.now

    run(story)


def test_rows_taken_back_together_wait_differently(run: Run) -> None:
    async def story(bench: Bench) -> None:
        bench.jitter = 0.75
        for name in ("c", "a", "b"):
            await bench.enqueue(name, lease=MINUTE, retry_delay=100 * SECOND)
        await bench.store.claim(worker="w", tools=[TOOL], limit=3)
        bench.pass_time(MINUTE)
        assert await bench.store.expire(limit=2) == ["a", "c"]
        assert await bench.store.expire() == ["b"]
        waits = {row.id: row.start_after - bench.now for row in await bench.store.rows() if row.start_after}
        assert waits["a"] == waits["b"] == timedelta(seconds=175)
        assert waits["c"] == timedelta(microseconds=int(100_000_000 * (1 + (0.75 + 0.6180339887498949 - 1))))

    run(story)


def test_stuck_jobs_are_rescued_whatever_their_lease(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", max_attempts=1)
        claim = await bench.claim()
        bench.pass_time(29 * MINUTE)
        await bench.store.heartbeat(claim)
        assert await bench.store.rescue_stuck(stuck_after=30 * MINUTE) == []
        bench.pass_time(MINUTE)
        assert await bench.store.rescue_stuck(stuck_after=30 * MINUTE) == ["a"]
        row = await bench.row("a")
        assert row.status is ToolJobStatus.FAILED
        assert row.error == "Stuck: worker w1 did not settle attempt 1 of 1 in time."

    run(story)


@pytest.mark.parametrize("attempts", [1, 2], ids=["fails", "is retried"])
def test_a_job_ends_alike_whichever_verb_takes_it_back(run: Run, attempts: int) -> None:
    async def story(bench: Bench) -> None:
        bench.jitter = 0.75
        ended = []
        for name in ("expired", "rescued"):
            await bench.enqueue(name, max_attempts=attempts, lease=MINUTE)
            await bench.claim()
            bench.pass_time(MINUTE)
            taken = bench.store.expire() if name == "expired" else bench.store.rescue_stuck(stuck_after=MINUTE)
            assert await taken == [name]
            row = await bench.row(name)
            assert row.error is not None
            ended.append((row.status, row.queue_state, row.attempts, row.worker, row.lease_until, row.token))
            times = (row.completed_at, row.expires_at, row.start_after if attempts > 1 else bench.now)
            ended[-1] += tuple(None if at is None else at - bench.now for at in times)
        assert ended[0] == ended[1]

    run(story)


def test_cancel_ends_waiting_and_running_jobs_only(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("running")
        await bench.claim()
        await bench.enqueue("waiting")
        for name in ("running", "waiting"):
            assert await bench.store.cancel(name)
            row = await bench.row(name)
            assert (row.status, row.queue_state) == (ToolJobStatus.CANCELLED, QueueState.CANCELLED)
            assert (row.completed_at, row.expires_at) == (START, START + timedelta(days=7))
            assert not await bench.store.cancel(name)
        assert not await bench.store.cancel("unknown")
        assert not await bench.store.cancel("un\x00known")
        assert await bench.store.claim(worker="w", tools=[TOOL]) == []

    run(story)


def test_a_retry_opens_a_new_budget_and_keeps_the_token(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", max_attempts=1)
        await bench.store.fail(await bench.claim(), "no")
        assert await bench.store.retry("a")
        assert not await bench.store.retry("a")
        row = await bench.row("a")
        assert (row.status, row.queue_state, row.attempts) == (ToolJobStatus.PENDING, QueueState.CREATED, 0)
        assert (row.token, row.error, row.completed_at, row.expires_at) == (1, None, None, None)
        claim = await bench.claim()
        assert (claim.token, claim.job.attempts) == (2, 1)
        await bench.store.complete(claim, 1)
        assert not await bench.store.retry("a")
        assert not await bench.store.retry("unknown")

    run(story)


def test_a_unique_key_is_held_until_its_job_is_terminal(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.store.register_tool("other-tool")
        first = await bench.store.enqueue(bench.job("a", unique_key="k", priority=1))
        again = await bench.store.enqueue(bench.job("b", unique_key="k", priority=9))
        assert (again.created, again.job) == (False, first.job)
        assert (await bench.store.enqueue(bench.job("c", unique_key="k", tool_slug="other-tool"))).created
        await bench.store.fail(await bench.claim(), "no", final=True)
        assert (await bench.store.enqueue(bench.job("d", unique_key="k"))).created
        assert not await bench.store.retry("a"), "the key is d's now"
        await bench.store.cancel("d")
        assert await bench.store.retry("a")

    run(story)


def test_an_enqueue_sent_twice_is_one_job(run: Run) -> None:
    async def story(bench: Bench) -> None:
        job = bench.job("a")
        assert (await bench.store.enqueue(job)).created
        await bench.store.complete(await bench.claim(), 1)
        again = await bench.store.enqueue(job)
        assert (again.created, again.job.status) == (False, ToolJobStatus.COMPLETED)

    run(story)


def test_an_unregistered_tool_is_refused_without_a_trace(run: Run) -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(UnknownToolError, match="'nobody'"):
            await bench.store.enqueue(bench.job(tool_slug="nobody", user_id="u"))
        with pytest.raises(UnknownToolError, match="'nobody'"):
            await bench.store.enqueue_many([bench.job(), bench.job(tool_slug="nobody")])
        assert await bench.store.rows() == []

    run(story)


@pytest.mark.parametrize("slug", ["a b", 'quo"te', "'; drop", "ÄÖ", "x" * 200, "My-Tool", "my_tool", "%s %", ":now"])
def test_any_slug_makes_a_partition_of_its_own(run: Run, slug: str) -> None:
    async def story(bench: Bench) -> None:
        await bench.store.register_tool(slug)
        await bench.store.register_tool(slug)
        await bench.enqueue("neighbour")
        await bench.enqueue("a", tool_slug=slug)
        (claim,) = await bench.store.claim(worker="w", tools=[slug], limit=5)
        assert claim.job.tool_slug == slug

    run(story)


def test_impossible_jobs_are_refused_by_name(run: Run) -> None:
    async def story(bench: Bench) -> None:
        for fields, words in (
            ({"max_attempts": 0}, "max_attempts is 0"),
            ({"priority": 2**40}, "priority is"),
            ({"lease": -SECOND}, "lease is"),
            ({"retention": timedelta.max}, "retention is"),
            ({"queue_id": "nonsense"}, "not a UUID"),
            ({"unique_key": "a\x00"}, "unique key"),
            ({"user_id": "\ud800"}, "user id"),
            ({"start_after": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001 - the missing zone is the point
            ({"start_after": datetime.max.replace(tzinfo=timezone(-HOUR))}, "start_after is 9999-12-31"),
            ({"start_after": datetime.min.replace(tzinfo=timezone(HOUR))}, "start_after is 0001-01-01"),
            ({"tool_slug": ""}, "tool slug"),
        ):
            with pytest.raises(QueueError, match=words):
                await bench.store.enqueue(bench.job(**fields))
        assert await bench.store.rows() == []

    run(story)


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    ["a\x00b", "\ud800", math.nan, math.inf, {1: 2}, {"k\x00": 1}, {1, 2}, b"x", CYCLE, 10**5000, [[{"a": "\udfff"}]]],
    ids=lambda value: type(value).__name__,
)
def test_what_jsonb_cannot_hold_is_refused_and_the_claim_stands(run: Run, value: object) -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(InvalidJsonError):
            await bench.store.enqueue(bench.job(input=value))
        await bench.enqueue("a")
        await bench.enqueue("b")
        claim, neighbour = await bench.store.claim(worker="w", tools=[TOOL], limit=2)
        with pytest.raises(InvalidJsonError):
            await bench.store.complete(claim, value)
        refused, done = await bench.store.complete_many([Settlement(claim, value), Settlement(neighbour, 1)])
        assert isinstance(refused, InvalidJsonError)
        assert done is True
        assert await bench.store.fail(claim, "bad output") is ToolJobStatus.PENDING

    run(story)


@pytest.mark.parametrize(
    "value", [None, False, 0, -0.0, 1e22, 1e300, 5e-324, 0.1, "", "\\u0000", "😀\u2028", [], {}, {"": [{}]}, 10**4000]
)
def test_what_jsonb_can_hold_comes_back(run: Run, value: object) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", input={"v": value})
        claim = await bench.claim()
        expected = 10**300 if value == 1e300 else value
        assert claim.job.input == {"v": expected}
        await bench.store.complete(claim, value)
        job = await bench.store.get("a")
        assert job is not None
        assert job.output == expected

    run(story)


def test_a_processor_gets_the_keys_of_its_input_in_the_order_of_jsonb(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a", input={"bb": [{"z": 0, "y": 1e0}], "é": 2, "ab": 3, "c": {}})
        assert str((await bench.claim()).job.input) == "{'c': {}, 'ab': 3, 'bb': [{'y': 1.0, 'z': 0}], 'é': 2}"

    run(story)


@pytest.mark.parametrize(
    ("error", "kept"),
    [("a\x00b", "a\\x00b"), ("\ud800!", "\\ud800!"), ("%s :now '", "%s :now '"), ("", "(empty error)")],
)
def test_any_error_text_is_recorded(run: Run, error: str, kept: str) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a")
        assert await bench.store.fail(await bench.claim("w\x00"), error) is ToolJobStatus.PENDING
        assert (await bench.row("a")).error == kept

    run(story)


def test_a_huge_error_is_cut(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("a")
        await bench.store.fail(await bench.claim(), "x" * 3_000_000)
        error = (await bench.row("a")).error
        assert error is not None
        assert error.endswith("x... (3000000 characters in all)")

    run(story)


def test_a_job_that_cannot_be_read_fails_alone(run: Run) -> None:
    async def story(bench: Bench) -> None:
        for name in ("a", "poisoned", "z"):
            await bench.enqueue(name, user_id="u")
        number = "9" * 6000
        await spoil(
            bench,
            sql=f"UPDATE public.tool_job SET input = '[{number}]' WHERE id = 'poisoned'",
            memory=lambda store: store.tool_jobs.update(
                poisoned=dataclasses.replace(store.tool_jobs["poisoned"], input=f"[{number}]")
            ),
        )
        told = await bench.store.get("poisoned")
        assert (None if told is None else told.input) == f"[{number}]"
        assert [job.id for job in await bench.store.list_owned(user_id="u")] == ["z", "poisoned", "a"]
        assert (await bench.store.enqueue(bench.job("poisoned"))).job == told
        claims = await bench.store.claim(worker="w", tools=[TOOL], limit=3)
        assert [claim.job.id for claim in claims] == ["a", "z"]
        row = await bench.row("poisoned")
        assert row.status is ToolJobStatus.FAILED
        assert row.error is not None
        assert row.error.startswith("input cannot be read")
        await spoil(
            bench,
            sql=f"UPDATE public.tool_job SET output = '[{number}]' WHERE id = 'poisoned'",
            memory=lambda store: store.tool_jobs.update(
                poisoned=dataclasses.replace(store.tool_jobs["poisoned"], output=f"[{number}]")
            ),
        )
        assert (await bench.row("poisoned")).output == f"[{number}]"

    run(story)


def test_terminal_jobs_are_deleted_after_their_retention(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("done", retention=MINUTE)
        await bench.store.complete(await bench.claim(), 1)
        await bench.enqueue("cancelled", retention=MINUTE)
        await bench.store.cancel("cancelled")
        await bench.enqueue("kept", retention=2 * MINUTE)
        await bench.store.cancel("kept")
        await bench.enqueue("live", retention=timedelta(0))
        bench.pass_time(MINUTE)
        assert await bench.store.delete_expired(limit=1) == ["cancelled"]
        assert await bench.store.delete_expired() == ["done"]
        assert await bench.store.delete_expired() == []
        assert [row.id for row in await bench.store.rows()] == ["kept", "live"]

    run(story)


def test_owners_see_their_own_jobs_newest_first(run: Run) -> None:
    async def story(bench: Bench) -> None:
        for name, fields in (
            ("a", {"user_id": "u"}),
            ("b", {"user_id": "u", "session_id": "s"}),
            ("c", {"session_id": "s"}),
            ("d", {}),
            ("e", {"user_id": "", "session_id": "s"}),
        ):
            await bench.enqueue(name, **fields)
            bench.pass_time(SECOND)

        async def owned(**owner: Any) -> list[str]:
            return [job.id for job in await bench.store.list_owned(**owner)]

        assert await owned(user_id="u") == ["b", "a"]
        assert await owned(session_id="s") == ["c"], "a session opens no signed-in user's jobs"
        assert await owned(user_id="u", session_id="s") == ["b"]
        assert await owned(user_id="u", limit=1) == ["b"]
        assert await owned(user_id="") == ["e"]
        assert await owned() == []
        assert await owned(user_id="u\x00") == []
        assert await bench.store.get("nobody") is None

    run(story)


def test_many_are_created_and_completed_at_once(run: Run) -> None:
    async def story(bench: Bench) -> None:
        await bench.enqueue("taken", unique_key="k")
        jobs = [bench.job("x", user_id="u"), bench.job("y", unique_key="k"), bench.job("z", unique_key="new")]
        answers = await bench.store.enqueue_many([*jobs, bench.job("w", unique_key="new"), jobs[0]])
        assert [(answer.job.id, answer.created) for answer in answers] == [
            ("x", True),
            ("taken", False),
            ("z", True),
            ("z", False),
            ("x", False),
        ]
        assert answers[0].job == await bench.store.get("x")
        claims = await bench.store.claim(worker="w", tools=[TOOL], limit=9)
        await bench.store.cancel(claims[1].job.id)
        settlements = [Settlement(claim, claim.job.id) for claim in claims]
        assert await bench.store.complete_many([*settlements, settlements[0]]) == [True, False, True, False]
        assert await bench.store.complete_many([]) == []
        job = await bench.store.get(claims[2].job.id)
        assert job is not None
        assert (job.status, job.output) == (ToolJobStatus.COMPLETED, job.id)

    run(story)


@pytest.mark.parametrize("batch", [1, 1000])
def test_maintenance_does_everything_once(run: Run, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job_harness_reference.maintenance._BATCH", batch)

    async def story(bench: Bench) -> None:
        await bench.enqueue("expired", lease=MINUTE)
        await bench.enqueue("stuck", lease=timedelta(hours=9))
        await bench.store.claim(worker="w", tools=[TOOL], limit=2)
        for name in ("old", "older"):
            await bench.enqueue(name, retention=MINUTE)
            await bench.store.cancel(name)
        await bench.enqueue("healthy", start_after=START + timedelta(hours=9))
        bench.pass_time(30 * MINUTE)
        report = await run_maintenance(bench.store, stuck_after=30 * MINUTE)
        assert report == dataclasses.replace(report, expired=("expired",), rescued=("stuck",), deleted=("old", "older"))
        assert report.reconciled == ()
        rows = await bench.store.rows()
        again = await run_maintenance(bench.store, stuck_after=30 * MINUTE)
        assert (again.expired, again.rescued, again.deleted, again.reconciled) == ((), (), (), ())
        assert await bench.store.rows() == rows

    run(story)


def test_a_failing_part_of_maintenance_does_not_stop_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bench: Bench) -> None:
        async def broken() -> list[str]:
            raise RuntimeError("disk on fire")

        await bench.enqueue("old", retention=MINUTE)
        await bench.store.cancel("old")
        bench.pass_time(MINUTE)
        monkeypatch.setattr(bench.store, "reconcile", broken)
        with pytest.raises(MaintenanceError, match="reconcile: disk on fire") as caught:
            await run_maintenance(bench.store, stuck_after=MINUTE)
        assert caught.value.report.deleted == ("old",)
        assert isinstance(caught.value.__cause__, RuntimeError)

    run(story)
