"""What only a real PostgreSQL with several sessions can show: locks, snapshots, wake-ups, migrations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from job_harness_reference.errors import InvalidJsonError, QueueError, StoreUnavailableError
from job_harness_reference.maintenance import run_maintenance
from job_harness_reference.models import NewJob, ToolJobStatus
from job_harness_reference.store.batch import Settlement
from job_harness_reference.store.database import ConnectionDatabase, Row, connect, open_database
from job_harness_reference.store.grouped import GroupingStore
from job_harness_reference.store.migrations import migrate, migrations
from job_harness_reference.store.postgres import PostgresStore
from job_harness_reference.store.statements import Statement, Statements
from job_harness_reference.store.wakeup import listen

pytestmark = pytest.mark.postgres

START = datetime(2030, 1, 1, tzinfo=UTC)
TOOL = "my-tool"
HOUR = timedelta(hours=1)


def job(number: int, **fields: object) -> NewJob:
    return NewJob(TOOL, {"n": number}, f"job-{number}", f"00000000-0000-4000-8000-{number:012d}", **fields)  # type: ignore[arg-type]


def with_stores(dsn: str, count: int, story: Callable[[list[PostgresStore]], Awaitable[None]]) -> None:
    """Run a story over stores with a session each; the clock is an hour ahead once jobs are enqueued."""

    async def run() -> None:
        await migrate(dsn)
        async with AsyncExitStack() as stack:
            stores = []
            for _ in range(count):
                connection = await connect(dsn)
                stack.push_async_callback(connection.close)
                stores.append(PostgresStore(ConnectionDatabase(connection), now=lambda: START, jitter=lambda: 0.5))
            await connection.execute("DELETE FROM pgboss.job; DELETE FROM tool_job")
            await stores[0].register_tool(TOOL)
            await story(stores)

    asyncio.run(run())


def test_claims_at_once_never_share_a_job(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        await stores[0].enqueue_many([job(number) for number in range(60)])
        batches = await asyncio.gather(
            *(store.claim(worker="w", tools=[TOOL], limit=7) for store in stores for _ in range(3))
        )
        taken = [claim.job.id for batch in batches for claim in batch]
        assert len(taken) == len(set(taken)) > 0
        settled = await asyncio.gather(
            *(
                store.complete_many([Settlement(claim, 1) for batch in order for claim in batch])
                for store, order in zip(stores, (batches, batches[::-1], batches, batches[::-1]), strict=True)
            )
        )
        assert sum(answer is True for answers in settled for answer in answers) == len(taken)

    with_stores(reference_dsn, 4, story)


class Counting(ConnectionDatabase):
    """Notes the statements that it is asked for, and refuses those that are `broken`."""

    broken: str = ""

    def __init__(self, connection: psycopg.AsyncConnection[Row]) -> None:
        super().__init__(connection)
        self.asked: list[str] = []

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        self.asked.append(statement.name)
        if statement.name == self.broken:
            raise psycopg.errors.StatementTooComplex("stack depth limit exceeded")
        return await super().fetch(statement, parameters)


def grouped(dsn: str, story: Callable[[GroupingStore, Counting], Awaitable[None]]) -> None:
    """Run a story over a store that completes in groups."""

    async def run() -> None:
        await migrate(dsn)
        connection = await connect(dsn)
        try:
            await connection.execute("DELETE FROM pgboss.job; DELETE FROM tool_job")
            database = Counting(connection)
            store = GroupingStore(database)
            await store.register_tool(TOOL)
            await store.enqueue_many([job(number) for number in range(20)])
            await story(store, database)
        finally:
            await connection.close()

    asyncio.run(run())


def test_what_ends_at_once_is_completed_in_one_statement(reference_dsn: str) -> None:
    async def story(store: GroupingStore, database: Counting) -> None:
        [stale] = await store.claim(worker="w", tools=[TOOL])
        assert await store.complete(stale, 0)
        claims = await store.claim(worker="w", tools=[TOOL], limit=20)
        database.asked.clear()
        outputs = ["\x00", *range(len(claims) - 1)]
        asked = [asyncio.create_task(store.complete(*each)) for each in zip(claims, outputs, strict=True)]
        asked += [asyncio.create_task(store.complete(stale, 1)), asyncio.create_task(store.complete(claims[1], 2))]
        await asyncio.sleep(0)
        asked[2].cancel()
        refused, done, cancelled, *others, late, again = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(refused, InvalidJsonError)
        assert isinstance(cancelled, asyncio.CancelledError)
        assert (done, set(others), late, again) == (True, {True}, False, False)
        assert database.asked == ["complete_many"]
        left = [await store.get(claim.job.id) for claim in claims[:3]]
        assert [row and row.status for row in left] == ["PROCESSING", "COMPLETED", "PROCESSING"]

    grouped(reference_dsn, story)


def test_a_completion_waits_for_none_that_hangs_on_a_lock(reference_dsn: str) -> None:
    async def run() -> None:
        await migrate(reference_dsn)
        async with open_database(reference_dsn, max_size=2) as database:
            async with await psycopg.AsyncConnection.connect(reference_dsn) as session:
                await session.execute("DELETE FROM pgboss.job; DELETE FROM tool_job")
            store = GroupingStore(database)
            await store.register_tool(TOOL)
            await store.enqueue_many([job(number) for number in range(2)])
            held, free = await store.claim(worker="w", tools=[TOOL], limit=2)
            async with await psycopg.AsyncConnection.connect(reference_dsn) as holder:
                await holder.execute("SELECT FROM tool_job WHERE id = %s FOR UPDATE", [held.job.id])
                hanging = asyncio.create_task(store.complete(held, 1))
                for _ in range(5):  # turns of the loop, in which it is sent
                    await asyncio.sleep(0)
                assert await store.complete(free, 1)
                assert not hanging.done()
                await holder.rollback()
            assert await hanging

    asyncio.run(run())


def test_a_group_that_is_refused_is_completed_one_by_one(reference_dsn: str) -> None:
    async def story(store: GroupingStore, database: Counting) -> None:
        claims = await store.claim(worker="w", tools=[TOOL], limit=3)
        database.asked.clear()
        database.broken = "complete_many"
        assert await asyncio.gather(*(store.complete(claim, 1) for claim in claims)) == [True] * 3
        assert database.asked == ["complete_many", *["complete"] * 3]
        database.broken = "complete"
        with pytest.raises(psycopg.errors.StatementTooComplex):
            await store.complete(claims[0], 1)

    grouped(reference_dsn, story)


def test_a_claim_does_not_wait_for_a_row_in_someones_hands(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        await stores[0].enqueue_many([job(1, priority=9), job(2)])
        async with await psycopg.AsyncConnection.connect(reference_dsn) as holder:
            await holder.execute("SELECT FROM pgboss.job WHERE priority = 9 FOR UPDATE")
            (claim,) = await stores[0].claim(worker="w", tools=[TOOL], limit=2)
            assert claim.job.id == "job-2"

    with_stores(reference_dsn, 1, story)


def test_enqueues_of_one_unique_key_at_once_make_one_job(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        for turn in range(20):
            answers = await asyncio.gather(
                *(store.enqueue(job(turn * 10 + at, unique_key=f"k{turn}")) for at, store in enumerate(stores))
            )
            assert sum(answer.created for answer in answers) == 1
            assert len({answer.job.id for answer in answers}) == 1

    with_stores(reference_dsn, 4, story)


def test_one_enqueue_sent_twice_at_once_makes_one_job(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        for turn in range(20):
            answers = await asyncio.gather(*(store.enqueue(job(turn)) for store in stores))
            assert sum(answer.created for answer in answers) == 1

    with_stores(reference_dsn, 3, story)


@pytest.mark.parametrize("contested", ["unique_key", "user_id"])
def test_batches_in_opposite_orders_do_not_deadlock(reference_dsn: str, contested: str) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def story(stores: list[PostgresStore]) -> None:
        one, two = ([job(first + at, **{contested: "abc"[at]}) for at in range(3)] for first in (0, 10))
        async with await connect(reference_dsn) as holder, holder.transaction(force_rollback=True):
            await PostgresStore(ConnectionDatabase(holder)).enqueue(job(20, **{contested: "b"}))
            batches = asyncio.gather(stores[0].enqueue_many(one), stores[1].enqueue_many(two[::-1]))
            async with await psycopg.AsyncConnection.connect(reference_dsn, autocommit=True) as observer:
                while (await (await observer.execute(waiting)).fetchone()) != (2,):
                    pass
        created = [answer.created for answers in await batches for answer in answers]
        assert sum(created) == (3 if contested == "unique_key" else 6)

    with_stores(reference_dsn, 2, story)


def test_maintenances_at_once_share_the_work(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        for turn in range(5):
            first = turn * 100
            await stores[0].enqueue_many([job(first + number, lease=0 * HOUR) for number in range(40)])
            await stores[0].claim(worker="w", tools=[TOOL], limit=20)
            reports = await asyncio.gather(*(run_maintenance(store, stuck_after=HOUR) for store in stores))
            expired = [job_id for report in reports for job_id in report.expired]
            assert len(expired) == len(set(expired)) == 20
            rows = await stores[0].rows()
            assert all(row.attempts <= 1 for row in rows)
            for row in rows:
                await stores[0].cancel(row.id)

    with_stores(reference_dsn, 3, story)


def test_reconciles_at_once_mend_each_job_once(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        await stores[0].enqueue_many([job(number) for number in range(40)])
        async with await psycopg.AsyncConnection.connect(reference_dsn, autocommit=True) as hand:
            await hand.execute("""DELETE FROM pgboss.job WHERE data->>'toolJobId' < 'job-2'""")
            await hand.execute("""UPDATE pgboss.job SET state = 'failed' WHERE data->>'toolJobId' >= 'job-3'""")
        answers = await asyncio.gather(*(store.reconcile() for store in stores))
        mended = [job_id for answer in answers for job_id in answer]
        assert len(mended) == len(set(mended))
        await stores[0].reconcile()
        rows = await stores[0].rows()
        assert len(rows) == 40
        assert all(row.status is not None and row.queue_state is not None for row in rows)
        assert await stores[0].reconcile() == []

    with_stores(reference_dsn, 3, story)


def test_cancel_and_complete_at_once_have_one_winner(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        one, two = stores
        for turn in range(30):
            await one.enqueue(job(turn))
            (claim,) = await one.claim(worker="w", tools=[TOOL])
            completed, cancelled = await asyncio.gather(one.complete(claim, 1), two.cancel(claim.job.id))
            assert completed != cancelled
            found = await one.get(claim.job.id)
            assert found is not None
            assert found.status is (ToolJobStatus.COMPLETED if completed else ToolJobStatus.CANCELLED)

    with_stores(reference_dsn, 2, story)


def test_registrations_at_once_make_one_partition(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        for turn in range(5):
            await asyncio.gather(*(store.register_tool(f"tool {turn}") for store in stores))
            await asyncio.gather(*(store.register_tool(f"{turn} of {at}") for at, store in enumerate(stores)))

    with_stores(reference_dsn, 4, story)


def test_migrations_at_once_apply_once_and_a_newer_database_is_refused(reference_dsn: str) -> None:
    async def story() -> None:
        await asyncio.gather(*(migrate(reference_dsn) for _ in range(4)))
        assert await migrate(reference_dsn) == ()
        async with await psycopg.AsyncConnection.connect(reference_dsn, autocommit=True) as hand:
            rows = await (await hand.execute("SELECT version FROM reference_migration ORDER BY 1")).fetchall()
            assert [version for (version,) in rows] == [migration.version for migration in migrations()]
            await hand.execute("INSERT INTO reference_migration VALUES (9999, 'future')")
            try:
                with pytest.raises(QueueError, match="9999"):
                    await migrate(reference_dsn)
            finally:
                await hand.execute("DELETE FROM reference_migration WHERE version = 9999")

    asyncio.run(story())


def test_a_wakeup_names_the_tool_and_survives_a_lost_connection(reference_dsn: str) -> None:
    async def pause(_: timedelta) -> None:
        await asyncio.sleep(0)

    async def story() -> None:
        await migrate(reference_dsn)
        async with open_database(reference_dsn, max_size=2) as database:
            store = PostgresStore(database)
            await store.register_tool(TOOL)
            heard = listen(reference_dsn, pause=pause)
            assert await anext(heard) is None
            await store.enqueue(job(900_001))
            assert await anext(heard) == TOOL
            await store.enqueue_many([job(900_002), job(900_003)])
            assert await anext(heard) == TOOL
            async with await psycopg.AsyncConnection.connect(reference_dsn, autocommit=True) as hand:
                await hand.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN job_harness%'"
                )
            assert await anext(heard) is None
            (claim,) = await store.claim(worker="w", tools=[TOOL])
            await store.release(claim)
            assert await anext(heard) == TOOL
            await heard.aclose()  # type: ignore[attr-defined]  # it is a generator

    asyncio.run(asyncio.wait_for(story(), 20))


def test_the_database_clock_decides_where_no_other_is_given(reference_dsn: str) -> None:
    async def story() -> None:
        await migrate(reference_dsn)
        connection = await connect(reference_dsn)
        try:
            await connection.execute("DELETE FROM pgboss.job; DELETE FROM tool_job")
            store = PostgresStore(ConnectionDatabase(connection))
            await store.register_tool(TOOL)
            await store.enqueue(job(1))
            (claim,) = await store.claim(worker="w", tools=[TOOL])
            assert claim.job.started_at is not None
            assert claim.lease_until == claim.job.started_at + timedelta(minutes=11)
            assert await store.complete(claim, 1)
        finally:
            await connection.close()

    asyncio.run(story())


def test_a_replaced_statement_is_used_and_an_unknown_one_refused(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        await stores[0].enqueue(job(1))
        connection = await connect(reference_dsn)
        try:
            database = ConnectionDatabase(connection)
            wrong = PostgresStore(database, statements={"claim": "SELECT 1 WHERE :worker = ':x' AND 5 % 2 = 0"})
            assert await wrong.claim(worker="w", tools=[TOOL]) == []
            with pytest.raises(ValueError, match="clame"):
                PostgresStore(database, statements={"clame": ""})
        finally:
            await connection.close()

    with_stores(reference_dsn, 1, story)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("deadlock_detected", None),
        ("serialization_failure", None),
        ("query_canceled", psycopg.errors.QueryCanceled),
        ("too_many_connections", StoreUnavailableError),
        ("cannot_connect_now", StoreUnavailableError),
    ],
)
def test_what_the_server_refuses_is_no_outage_and_a_victim_tries_again(
    reference_dsn: str, raised: str, told: type[Exception] | None
) -> None:
    get = f"DO $$ BEGIN IF nextval('told') = 1 THEN RAISE {raised}; END IF; END $$"

    async def story() -> None:
        await migrate(reference_dsn)
        async with open_database(reference_dsn, max_size=1) as database:
            for text in ("DROP SEQUENCE IF EXISTS told", "CREATE SEQUENCE told"):
                await database.fetch(Statement("prepare", text), {})
            store = PostgresStore(database, statements={"get": get})
            if told is None:
                assert await store.get("a") is None
            else:
                with pytest.raises(told):
                    await store.get("a")

    asyncio.run(story())


def test_a_job_that_can_neither_be_read_nor_failed_keeps_no_other_from_its_worker(reference_dsn: str) -> None:
    async def story(stores: list[PostgresStore]) -> None:
        await stores[0].enqueue_many([job(number) for number in range(3)])
        async with await connect(reference_dsn) as hand:
            await hand.execute("UPDATE tool_job SET input = to_jsonb(10::numeric ^ 6000) WHERE id = 'job-1'")
            refusing = PostgresStore(ConnectionDatabase(hand), now=lambda: START, statements={"fail": "SELECT 1 / 0"})
            claims = await refusing.claim(worker="w", tools=[TOOL], limit=3)
        assert [claim.job.id for claim in claims] == ["job-0", "job-2"]

    with_stores(reference_dsn, 1, story)


def test_a_server_that_ends_the_sessions_costs_one_answer(reference_dsn: str) -> None:
    async def story() -> None:
        await migrate(reference_dsn)
        async with open_database(reference_dsn, max_size=1) as database:
            store = PostgresStore(database)
            assert await store.get("nobody") is None
            async with await psycopg.AsyncConnection.connect(reference_dsn, autocommit=True) as operator:
                await operator.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            with pytest.raises(StoreUnavailableError, match="did not answer") as told:
                await store.get("nobody")
            assert "terminat" not in str(told.value), "the driver's words are the cause, not the message"
            assert isinstance(told.value.__cause__, psycopg.OperationalError)
            assert await store.get("nobody") is None

    asyncio.run(story())


def test_without_sessions_of_its_own_a_store_leaves_those_that_it_borrows_as_they_are(reference_dsn: str) -> None:
    look = Statement(
        "look", "SELECT current_setting('enable_seqscan') AS scans, count(*) AS n FROM pg_prepared_statements"
    )

    async def story() -> None:
        async with open_database(reference_dsn, max_size=1, own_sessions=False) as database:
            for _ in range(7):  # psycopg would prepare a statement of its own accord from the sixth time on
                (row,) = await database.fetch(look, {})
            assert row == {"scans": "on", "n": 0}

    asyncio.run(story())


@pytest.mark.parametrize(
    ("verb", "arguments", "within_the_index"),
    [
        ("claim", {"worker": "'w'", "tools": f"'{{{TOOL}}}'", "now": "NULL"}, "Index Cond: (start_after <= "),
        ("list_owned", {"user_id": "'u'", "session_id": "NULL"}, 'Presorted Key: t."createdAt"'),
    ],
)
def test_what_is_not_asked_for_is_passed_over_in_the_index(
    reference_dsn: str, verb: str, arguments: dict[str, str], within_the_index: str
) -> None:
    prepared = Statements().get(verb, limit=5).text
    for number, name in enumerate(arguments, 1):
        prepared = prepared.replace(f"%({name})s", f"${number}")

    async def story(_stores: list[PostgresStore]) -> None:
        async with await connect(reference_dsn) as connection:
            await connection.execute(f"PREPARE look AS {prepared}")
            plan = await connection.execute(f"EXPLAIN EXECUTE look ({', '.join(arguments.values())})")
            assert within_the_index in str(await plan.fetchall())

    with_stores(reference_dsn, 1, story)


def test_a_statement_waits_for_a_connection_no_longer_than_it_was_told_to(reference_dsn: str) -> None:
    async def story() -> None:
        opened = open_database(reference_dsn, max_size=1, wait_seconds=0.01)
        async with opened as database, database._pool.connection():
            with pytest.raises(StoreUnavailableError, match="PoolTimeout"):
                await PostgresStore(database).get("nobody")

    asyncio.run(story())
