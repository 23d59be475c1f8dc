"""The page of wire proxies, the protocol class and PostgreSQL's proxy say the same; a cancel reaches the server."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from job_harness.core.sim.request import Wait
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import Deadline
from job_harness.worlds.postgres import provision
from job_harness.worlds.postgres.gating import SessionCoordinator, SessionPool
from job_harness.worlds.wire import proxy as wire_proxy
from job_harness.worlds.wire.postgres_proxy import SOCKET_NAME, PostgresEndpoint, ProxiedSession
from job_harness.worlds.wire.proxy import ListeningSocket, Moment, WireProxy

PAGE = (Path(__file__).parents[2] / "docs/contracts/wire_proxy.md").read_text(encoding="utf-8")
IMPLEMENTATION: type[WireProxy] = ProxiedSession
WAYS = re.findall(r"^\| `([A-Z][^`]*)` \| `([a-z ]+)` \|$", PAGE, re.M)


def test_the_page_has_the_moments_of_the_code() -> None:
    assert f"Version {wire_proxy.VERSION}." in PAGE
    assert re.findall(r"^\| `(\w+)` \| [^`|]*(?:`\w+`)?[^`|]*\| \w+", PAGE, re.M) == [str(moment) for moment in Moment]
    for moment in Moment:
        assert callable(getattr(WireProxy, moment))
        assert callable(getattr(IMPLEMENTATION, moment))
    assert {way for _, moments in WAYS for way in moments.split()} == set(Moment) - {Moment.CUT, Moment.CANCEL}


class Driver:
    """A process whose driver connects to an endpoint, with a coordinator that lets go whatever stands at a gate."""

    def __init__(self, endpoint: PostgresEndpoint, beside: int) -> None:
        self.endpoint = endpoint
        self._beside = beside
        self._thread = ThreadPoolExecutor(1)
        opening = self.start(lambda: psycopg.connect(endpoint.url, autocommit=True, prepare_threshold=None))
        self.connection = self.finish(opening)

    def start(self, work: Callable[[], Any]) -> Future[Any]:
        return self._thread.submit(work)

    def finish(self, work: Future[Any]) -> Any:
        """Let everything go until the driver has what it wants."""
        while not work.done():
            session = self.at_gate(work)
            if session is not None:
                for request in iter(session.carry_out().__await__()):
                    assert not isinstance(request, Wait), "nobody else has a lock"
        return work.result()

    def at_gate(self, work: Future[Any]) -> ProxiedSession | None:
        deadline = Deadline(10)
        while self.endpoint.at_gate() is None and not work.done():
            assert not deadline.passed
            self.endpoint.listen(self._beside, 0.01)
        return self.endpoint.at_gate()

    def execute(self, sql: str) -> Future[Any]:
        return self.start(lambda: self.connection.execute(sql.encode()))

    def close(self) -> None:
        self.endpoint.end()
        self._thread.shutdown()
        self.connection.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[SessionPool]:
    try:
        cluster = provision()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")
    with cluster:
        opened = SessionPool(cluster.create_database())
        yield opened
        opened.close()


@pytest.fixture
def drivers(pool: SessionPool, tmp_path: Path) -> Iterator[Callable[[str], Driver]]:
    with psycopg.connect(pool.url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS things; CREATE TABLE things (id int); INSERT INTO things VALUES (0)")
    coordinator = SessionCoordinator(pool)
    beside = os.pipe()
    made: list[Driver] = []

    def make(actor: str) -> Driver:
        endpoint = PostgresEndpoint(actor, ListeningSocket.in_folder(tmp_path / actor, SOCKET_NAME), pool)
        endpoint.join(coordinator, actor)
        made.append(Driver(endpoint, beside[0]))
        return made[-1]

    yield make
    coordinator.close()
    for driver in made:
        driver.close()
    for descriptor in beside:
        os.close(descriptor)


@pytest.mark.postgres
def test_a_request_goes_through_the_moments_that_the_page_names(
    drivers: Callable[[str], Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def note(moment: Moment, method: Callable[..., Any]) -> None:
        def noted(session: Any, *given: Any, **further: Any) -> Any:
            if seen[-1:] != [moment]:
                seen.append(str(moment))
            return method(session, *given, **further)

        monkeypatch.setattr(ProxiedSession, moment, noted)

    for moment in Moment:
        note(moment, getattr(ProxiedSession, moment))
    driver = drivers("w1")
    assert len(WAYS) == 4
    for sql, moments in WAYS:
        seen.clear()
        driver.finish(driver.execute(sql))
        assert " ".join(seen) == moments, sql


@pytest.mark.postgres
def test_what_postgres_takes_outside_of_a_transaction_it_takes_here(drivers: Callable[[str], Driver]) -> None:
    driver = drivers("w1")

    def copy() -> None:
        with driver.connection.cursor().copy("/* app:web */ COPY things FROM STDIN") as data:
            data.write_row((7,))

    driver.finish(driver.start(copy))
    committing = "BEGIN INSERT INTO things VALUES (8); COMMIT; INSERT INTO things VALUES (9); END"
    for sql in (
        f"CREATE OR REPLACE PROCEDURE commits() LANGUAGE plpgsql AS $$ {committing} $$",
        "CALL commits()",
        f"-- twice\nDO $$ {committing} $$",
        "/* app:web */ DISCARD ALL",
    ):
        driver.finish(driver.execute(sql))
    rows = driver.finish(driver.execute("SELECT id FROM things ORDER BY id")).fetchall()
    assert [id for (id,) in rows] == [0, 7, 8, 8, 9, 9]
    with pytest.raises(psycopg.errors.WrongObjectType):
        driver.finish(driver.execute("ALTER TABLE things DETACH PARTITION things CONCURRENTLY"))
    with pytest.raises(psycopg.errors.NoActiveSqlTransaction):
        driver.finish(driver.execute("LOCK TABLE things"))


@pytest.mark.postgres
@pytest.mark.skipif(not psycopg.capabilities.has_cancel_safe(), reason="libpq before 17 holds the GIL while it cancels")
def test_a_cancel_ends_a_statement_that_waits_for_a_lock(drivers: Callable[[str], Driver]) -> None:
    holder, waiter = drivers("w1"), drivers("w2")
    for sql in ("BEGIN", "UPDATE things SET id = 1"):
        holder.finish(holder.execute(sql))
    update = waiter.execute("UPDATE things SET id = 2")
    session = waiter.at_gate(update)
    assert session is not None
    steps = iter(session.carry_out().__await__())
    waits = [request for request in (next(steps), next(steps)) if isinstance(request, Wait)]
    assert len(waits) == 1, "it does not wait for the lock"
    ThreadPoolExecutor(1).submit(waiter.connection.cancel_safe)
    deadline = Deadline(10)
    while not waits[0].answered():
        assert not deadline.passed, "the cancel did not reach PostgreSQL"
        assert session.coordinator is not None
        session.coordinator.come_to_rest()
    assert list(steps) == []
    with pytest.raises(psycopg.errors.QueryCanceled):
        update.result()
    holder.finish(holder.execute("ROLLBACK"))


@pytest.mark.postgres
def test_a_cut_connection_is_an_error_of_the_driver_and_the_server_is_not_told(
    drivers: Callable[[str], Driver], pool: SessionPool
) -> None:
    driver = drivers("w1")
    for sql in ("BEGIN", "UPDATE things SET id = 1"):
        driver.finish(driver.execute(sql))
    (session,) = driver.endpoint.sessions
    session.cut()
    with pytest.raises(psycopg.OperationalError):
        driver.execute("SELECT 1").result()
    with psycopg.connect(pool.url, autocommit=True) as other, pytest.raises(psycopg.errors.LockNotAvailable):
        other.execute("SELECT * FROM things FOR UPDATE NOWAIT")
