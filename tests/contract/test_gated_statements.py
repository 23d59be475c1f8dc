"""Gated statements against a real PostgreSQL: order, lock waits, deadlocks, crashes, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from job_harness.core.sim.actor import Actor, State
from job_harness.core.sim.choices import Boring
from job_harness.core.sim.kernel import Kernel, KernelHooks
from job_harness.errors import EnvironmentUnavailable, LimitReached, UsageError
from job_harness.search.orders import Order, Script, all_orders
from job_harness.worlds.postgres import provision
from job_harness.worlds.postgres.gating import GatedConnection, SessionCoordinator, SessionPool

pytestmark = pytest.mark.postgres

SCHEMA = "CREATE TABLE job (id int PRIMARY KEY, status text); CREATE TABLE tool_job (id int PRIMARY KEY, status text)"
FIRST = (
    "TRUNCATE job, tool_job; INSERT INTO job VALUES (1, 'active'), (2, 'active'); "
    "INSERT INTO tool_job VALUES (1, 'PROCESSING'), (2, 'PROCESSING')"
)


@pytest.fixture(scope="module")
def pool() -> Iterator[SessionPool]:
    try:
        cluster = provision()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")
    with cluster:
        opened = SessionPool(cluster.create_database())
        with psycopg.connect(opened.url, autocommit=True) as connection:
            connection.execute(SCHEMA)
        yield opened
        opened.close()


@pytest.fixture
def tables(pool: SessionPool) -> Iterator[Callable[[str], list[Any]]]:
    with psycopg.connect(pool.url, autocommit=True) as connection:
        connection.execute(FIRST)

        def ask(query: str) -> list[Any]:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

        yield ask
        open_ones = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        assert ask(open_ones) == []


def statuses(ask: Callable[[str], list[Any]]) -> tuple[str, str]:
    (row,) = ask("SELECT tool_job.status, job.status FROM job JOIN tool_job USING (id) WHERE id = 1")
    return str(row[0]), str(row[1])


def orders(pool: SessionPool, ask: Callable[[str], list[Any]], **actors: Script) -> list[Order]:
    return list(all_orders(pool, actors, prepare=lambda: ask(FIRST), inspect=lambda: statuses(ask)))


def writing(status: str, *, careful: bool = False) -> Script:
    """Read, check, write, commit."""

    async def script(connection: GatedConnection) -> str:
        await connection.set_autocommit(False)
        read = await connection.execute("SELECT status FROM tool_job WHERE id = 1")
        if await read.fetchone() != ("PROCESSING",):
            await connection.rollback()
            return "refused"
        still = " AND status = 'PROCESSING'" if careful else ""
        written = await connection.execute(f"UPDATE tool_job SET status = '{status}' WHERE id = 1{still}".encode())
        await connection.commit()
        return "done" if written.rowcount else "refused"

    return script


def locking(first: str, second: str) -> Script:
    async def script(connection: GatedConnection) -> str:
        async with connection.transaction():
            await connection.execute(f"UPDATE {first} SET status = 'x' WHERE id = 1".encode())
            await connection.execute(f"UPDATE {second} SET status = 'x' WHERE id = 1".encode())
        return "done"

    return script


def three(identifier: int) -> Script:
    async def script(connection: GatedConnection) -> None:
        await connection.set_autocommit(False)
        await connection.execute("SELECT status FROM tool_job WHERE id = %s", (identifier,))
        await connection.execute("UPDATE tool_job SET status = 'x' WHERE id = %s", (identifier,))
        await connection.commit()

    return script


# all orders of few statements -------------------------------------------------------------------------------------


def test_two_actors_of_three_statements_have_twenty_orders(
    pool: SessionPool, tables: Callable[[str], list[Any]]
) -> None:
    found = orders(pool, tables, a=three(1), b=three(2))
    assert len({order.steps for order in found}) == len(found) == 20
    assert not any(order.waits for order in found)


def test_a_row_lock_leaves_fourteen_of_them_and_makes_six_wait(
    pool: SessionPool, tables: Callable[[str], list[Any]]
) -> None:
    found = orders(pool, tables, a=three(1), b=three(1))
    assert len({order.steps for order in found}) == len(found) == 14
    assert sum(bool(order.waits) for order in found) == 6


def test_read_check_write_loses_an_update_in_some_orders_and_compare_and_set_in_none(
    pool: SessionPool, tables: Callable[[str], list[Any]]
) -> None:
    wrong = orders(pool, tables, worker=writing("COMPLETED"), rescuer=writing("PENDING"))
    both = {"worker": "done", "rescuer": "done"}
    lost = [order for order in wrong if order.outcomes == both]
    assert 0 < len(lost) < len(wrong)
    careful = orders(pool, tables, worker=writing("COMPLETED", careful=True), rescuer=writing("PENDING", careful=True))
    assert len(careful) == len(wrong)
    assert all(sorted(order.outcomes.values()) == ["done", "refused"] for order in careful)


def test_opposite_lock_orders_deadlock_in_some_orders_and_one_lock_order_in_none(
    pool: SessionPool, tables: Callable[[str], list[Any]]
) -> None:
    wrong = orders(pool, tables, worker=locking("tool_job", "job"), rescuer=locking("job", "tool_job"))
    victims = [list(order.errors) for order in wrong if order.errors]
    assert victims
    assert all(isinstance(error, psycopg.errors.DeadlockDetected) for o in wrong for error in o.errors.values())
    same = orders(pool, tables, worker=locking("tool_job", "job"), rescuer=locking("tool_job", "job"))
    assert not any(order.errors for order in same)


def test_who_closes_the_circle_is_the_victim_and_the_error_names_both(
    pool: SessionPool, tables: Callable[[str], list[Any]]
) -> None:
    for order in orders(pool, tables, worker=locking("tool_job", "job"), rescuer=locking("job", "tool_job")):
        for victim, error in order.errors.items():
            last = next(step for step in reversed(order.steps) if "update" in step and step.startswith(victim))
            assert order.steps.index(last) > order.steps.index(order.waits[0])
            assert "worker at 'update job'" in str(error)
            assert "rescuer at 'update tool_job'" in str(error)


def test_the_same_orders_come_out_the_second_time(pool: SessionPool, tables: Callable[[str], list[Any]]) -> None:
    def told() -> list[str]:
        found = orders(pool, tables, worker=locking("tool_job", "job"), rescuer=locking("job", "tool_job"))
        return [f"{order} {order.outcomes} {order.left}" for order in found]

    assert told() == told()


def test_more_orders_than_the_limit_are_an_error_that_names_it(
    pool: SessionPool, tables: Callable[[str], list[Any]]
) -> None:
    with pytest.raises(LimitReached, match="more than 3 orders of a, b"):
        list(all_orders(pool, {"a": three(1), "b": three(2)}, prepare=lambda: tables(FIRST), limit=3))


# one statement at a time --------------------------------------------------------------------------------------------


def running(room: SessionCoordinator, **scripts: Script) -> Kernel:
    kernel = Kernel(Boring(), None)  # type: ignore[arg-type]
    for name, script in scripts.items():
        kernel.spawn(name, lambda name=name, script=script: script(room.connection(name)))  # type: ignore[misc]
    return kernel


def hooked(kernel: Kernel, room: SessionCoordinator) -> list[Callable[[], None]]:
    """Let what drops the sessions of dead actors come into a list."""
    drops: list[Callable[[], None]] = []

    class Hooks(KernelHooks):
        def drop_session(self, actor: Actor, linger: int) -> None:
            drops.append(room.sever(actor.name))

    kernel.hooks = Hooks()
    return drops


def standing(kernel: Kernel) -> list[str]:
    return [f"{actor.name} {actor.request.point}" for actor in kernel.ready if actor.request is not None]


@pytest.fixture
def room(pool: SessionPool, tables: Callable[[str], list[Any]]) -> Iterator[SessionCoordinator]:
    opened = SessionCoordinator(pool, patience_seconds=0.2)
    yield opened
    opened.close()


async def update_one(connection: GatedConnection) -> None:
    await connection.execute("UPDATE job SET status = 'x' WHERE id = 1")


def test_a_statement_of_its_own_has_its_locks_before_its_commit_is_let_go(room: SessionCoordinator) -> None:
    kernel = running(room, a=update_one, b=update_one)
    assert standing(kernel) == ["a update job", "b update job"]
    kernel.step()
    kernel.step()
    assert standing(kernel) == ["a commit update job"]
    assert kernel.actors["b"].state is State.BLOCKED
    assert room.leftovers()[0] == "b still waits at 'update job' for a lock of a"
    kernel.step()
    assert kernel.actors["a"].state is State.ENDED
    assert standing(kernel) == ["b update job"]


def test_a_crash_drops_the_session_and_what_it_had_locked(
    room: SessionCoordinator, tables: Callable[[str], list[Any]]
) -> None:
    kernel = running(room, a=update_one, b=update_one)
    drops = hooked(kernel, room)
    kernel.step()
    kernel.step()
    kernel.crash(kernel.actors["a"])
    drops[0]()
    kernel._hear()
    assert standing(kernel) == ["b update job"]
    while kernel.step():
        pass
    assert tables("SELECT status FROM job WHERE id = 1") == [("x",)]


def test_a_session_that_outlives_its_actor_keeps_its_locks_until_it_is_dropped(room: SessionCoordinator) -> None:
    kernel = running(room, a=update_one, b=update_one)
    drops = hooked(kernel, room)
    kernel.step()
    kernel.step()
    kernel.crash(kernel.actors["a"])
    assert kernel.actors["b"].state is State.BLOCKED
    assert room.leftovers() == ["b still waits at 'update job' for a lock of a's abandoned session"]
    drops[0]()
    kernel._hear()
    assert standing(kernel) == ["b update job"]


# bad input ----------------------------------------------------------------------------------------------------------


async def sleeping(connection: GatedConnection) -> None:
    await connection.execute("SELECT pg_sleep(60)")


async def terminated(connection: GatedConnection) -> str:
    try:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    except psycopg.OperationalError:
        return "terminated"
    return "alive"


def test_a_statement_that_never_ends_is_named_with_the_limit_and_its_session_ends(
    room: SessionCoordinator, tables: Callable[[str], list[Any]]
) -> None:
    kernel = running(room, a=sleeping)
    with pytest.raises(
        LimitReached, match=r"a's statement 'select pg_sleep\(60\)' was not answered within 0.2 real"
    ) as out:
        kernel.step()
    assert "Timeout: PgSleep" in str(out.value)
    room.close()
    assert tables(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    ) == [(0,)]


def test_a_terminated_session_is_an_error_of_its_statement_and_the_next_one_gets_another(
    room: SessionCoordinator,
) -> None:
    answers: list[str] = []

    async def twice(connection: GatedConnection) -> None:
        answers.append(await terminated(connection))
        read = await room.connection("a").execute("SELECT 'again'")
        answers.append((await read.fetchone() or ("nothing",))[0])

    kernel = running(room, a=twice)
    while kernel.step():
        pass
    assert answers == ["terminated", "again"]


def test_what_was_left_open_is_reported_and_rolled_back(
    room: SessionCoordinator, tables: Callable[[str], list[Any]]
) -> None:
    async def careless(connection: GatedConnection) -> None:
        await connection.set_autocommit(False)
        await connection.execute("UPDATE job SET status = 'never committed'")
        await connection.execute("SELECT pg_advisory_lock(7)")

    kernel = running(room, a=careless)
    while kernel.step():
        pass
    assert room.leftovers() == ["a left a transaction open; it was rolled back", "a left 1 advisory lock; released"]
    room.close()
    assert statuses(tables) == ("PROCESSING", "active")
    assert tables("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7") == [(0,)]


def test_an_advisory_lock_is_waited_for_like_a_row(room: SessionCoordinator) -> None:
    async def lock(connection: GatedConnection) -> None:
        await connection.execute("SELECT pg_advisory_lock(7)")
        await connection.execute("SELECT pg_advisory_unlock(7)")

    kernel = running(room, a=lock, b=lock)
    for _ in range(2):
        kernel.step()
    assert kernel.actors["b"].state is State.BLOCKED
    while kernel.step():
        pass
    assert {actor.state for actor in kernel.actors.values()} == {State.ENDED}


def test_waiting_for_notifications_is_refused_and_listening_hears_with_the_next_statement(
    room: SessionCoordinator,
) -> None:
    heard: list[str] = []

    async def listen(connection: GatedConnection) -> None:
        connection.add_notify_handler(lambda notice: heard.append(notice.payload))
        await connection.execute("LISTEN news")
        await connection.execute("SELECT 1")
        with pytest.raises(UsageError, match="cannot wait for notifications"):
            connection.notifies()

    async def tell(connection: GatedConnection) -> None:
        await connection.execute("NOTIFY news, 'it happened'")

    kernel = running(room, a=listen, b=tell)
    for name in "aba":
        kernel.summon(kernel.actors[name])
    assert heard == ["it happened"]


def test_a_pool_that_reaches_nobody_says_so() -> None:
    with pytest.raises(EnvironmentUnavailable, match="no session with PostgreSQL"):
        SessionPool("host=/nowhere dbname=x connect_timeout=1")


def test_a_role_that_may_not_set_the_deadlock_timeout_is_gated_all_the_same(
    pool: SessionPool, tables: Callable[[str], list[Any]]
) -> None:
    tables("DROP ROLE IF EXISTS humble")
    tables("CREATE ROLE humble LOGIN")
    tables("GRANT ALL ON ALL TABLES IN SCHEMA public TO humble")
    try:
        with SessionPool(make_conninfo(pool.url, user="humble")) as humble:
            assert not humble.tells
            room = SessionCoordinator(humble)
            kernel = running(room, a=update_one, b=update_one)
            kernel.step()
            kernel.step()
            assert kernel.actors["b"].state is State.BLOCKED
            while kernel.step():
                pass
            assert {actor.state for actor in kernel.actors.values()} == {State.ENDED}
            room.close()
    finally:
        tables("DROP OWNED BY humble; DROP ROLE humble")
