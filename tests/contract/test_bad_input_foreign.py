"""Other people's queues where something goes wrong around them: PostgreSQL, the version, another client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.clock import Clocks
from job_harness.doors.cli import main
from job_harness.engines import pgboss, procrastinate
from job_harness.engines.pgboss import node as pgboss_node
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.postgres import Cluster, provision

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ONE = Scenario(title="one job", jobs=(JobPlan(name="a"),))
OPENERS: dict[str, Callable[..., Any]] = {
    "pgboss": lambda dsn: pgboss.PgBossEngine("10.4.2", dsn=dsn),
    "pgboss-node": lambda dsn: pgboss_node.open_engine("12.38.0", dsn=dsn),
    "procrastinate": lambda dsn: procrastinate.open_engine("3.10.0", dsn=dsn),
}
Opened = Callable[[str], Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    try:
        cluster = provision()
    except EnvironmentUnavailable as error:
        pytest.skip(str(error))
    yield cluster
    cluster.stop()


@pytest.fixture
def opened(server: Cluster) -> Iterator[Opened]:
    """Return engines by name, all on one server; one that cannot run here skips the test."""
    engines: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in engines:
            engine = OPENERS[name](server.url())
            try:
                engine.open(Settings(), Clocks(), lambda: 0.0).close()
            except EnvironmentUnavailable as error:
                engine.close()
                pytest.skip(str(error))
            engines[name] = engine
        return engines[name]

    yield get
    for engine in engines.values():
        engine.close()


class Severing:
    """An engine under whose first claim every session of every database of the server ends."""

    def __init__(self, engine: Any, server: Cluster) -> None:
        self.info = engine.info
        self._engine, self._server = engine, server

    def open(self, *arguments: Any) -> Any:
        queue = self._engine.open(*arguments)
        claim = queue.claim

        def severed(worker: str, limit: int) -> Any:
            with psycopg.connect(self._server.url(), autocommit=True) as own:
                own.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            return claim(worker, limit)

        queue.claim = severed
        return queue

    def close(self) -> None:
        """Its engine is another's."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name == "pgboss-node" else ()) for name in OPENERS]
)
def test_postgresql_that_goes_away_in_a_run_is_named_and_the_next_run_goes_on(
    opened: Opened, server: Cluster, name: str
) -> None:
    engine = opened(name)
    with pytest.raises(EnvironmentUnavailable, match="PostgreSQL went away"):
        play(ONE, engine=Severing(engine, server))
    assert play(ONE, engine=engine).verdict is Verdict.PASS


def test_two_engines_on_one_server_at_once_see_neither_each_others_jobs_nor_time(opened: Opened) -> None:
    clocks = {name: Clocks() for name in ("pgboss", "procrastinate")}
    queues = {name: opened(name).open(Settings(), clocks[name], lambda: 0.0) for name in clocks}
    later = Settings().lease
    for name, queue in queues.items():
        assert queue.enqueue(JobRequest(f"of-{name}", start_after=later)).done
    clocks["pgboss"].now = 2 * later
    assert [claim.job for claim in queues["pgboss"].claim("w1", 5).value] == ["of-pgboss"]
    assert queues["procrastinate"].claim("w1", 5).value == []
    for name, queue in queues.items():
        assert list(queue.jobs()) == [f"of-{name}"]


def test_one_engine_twice_is_two_queues(opened: Opened, server: Cluster) -> None:
    first = opened("pgboss")
    second = OPENERS["pgboss"](server.url())
    try:
        left = first.open(Settings(), Clocks(), lambda: 0.0)
        assert left.enqueue(JobRequest("a")).done
        right = second.open(Settings(), Clocks(), lambda: 0.0)
        assert list(right.jobs()) == []
        assert list(left.jobs()) == ["a"]
    finally:
        second.close()


@pytest.mark.parametrize("name", ["procrastinate@3.99.99"])
def test_a_version_that_does_not_exist_is_named_with_how_to_list_them(
    name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["conform", "--level", "scheduled", f"memory,{name}"]) == 4
    told = capsys.readouterr().out
    assert "memory: scheduled 5/5" in told
    assert f"{name}: not judged: " in told
    assert "99.99" in told.split("not judged: ")[1]
    assert not [path for path in tmp_path.rglob("*99.99*") if path.is_dir()], "a half-made installation was left"
