"""Whole runs on `postgres-gated`: what breaks in the middle is told, and nothing is left of it for the next run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from job_harness.core.history.event import Fault, Observed, Return
from job_harness.core.run.session import Limits, Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Boring, Deviation
from job_harness.core.sim.kernel import Kernel
from job_harness.engines.reference import ReferenceEngine, shipped_statement
from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.search.wrong_queues import CATALOGUE
from job_harness.worlds.postgres.gating import ActorPool, SessionCoordinator
from job_harness_reference.models import NewJob
from job_harness_reference.store.database import PoolDatabase
from job_harness_reference.store.postgres import PostgresStore

pytestmark = pytest.mark.postgres

SCENARIO = Scenario(title="two jobs", workers=("w1", "w2"), jobs=(JobPlan("a"), JobPlan("z")))


def opened() -> ReferenceEngine:
    engine = ReferenceEngine("postgres-gated", patience_seconds=0.3)
    try:
        engine.session()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")
    return engine


@pytest.fixture(scope="module")
def engine() -> Iterator[ReferenceEngine]:
    engine = opened()
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def nothing_is_left(engine: ReferenceEngine) -> Iterator[None]:
    yield
    assert asked(engine, "SELECT query FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()") == []
    assert Session(SCENARIO, engine=engine).run().verdict == "pass"


def asked(engine: ReferenceEngine, query: str) -> list[Any]:
    with psycopg.connect(engine.session().url, autocommit=True) as connection:
        database = query.replace("WHERE ", "WHERE datname = current_database() AND ")
        return connection.execute(database.encode()).fetchall()


def disturbed(engine: ReferenceEngine, point: str, disturb: Callable[[Session], None]) -> Run:
    """Play the scenario and disturb it the first time that an actor stands before `point`."""
    session = Session(SCENARIO, engine=engine)
    note_gate = session.note_gate
    done: list[str] = []

    def watch(actor: Any, call: Any) -> None:
        note_gate(actor, call)
        if not done and actor.request.point == point:
            done.append(point)
            disturb(session)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "note_gate", watch)
        run = session.run()
    assert done
    return run


def crashing(option: str, *, at: str) -> Scenario:
    tape = (Deviation(at, 1, option),)  # a claim that takes nothing has no commit to stand before
    return Scenario(title="crash", workers=("w1", "w2"), jobs=(JobPlan("z"),), tape=tape, restart_after=5_000_000)


def test_an_ordinary_run_comes_to_the_same_on_one_session_and_on_many(engine: ReferenceEngine) -> None:
    single = ReferenceEngine("postgres", dsn=engine.session().cluster.url())
    try:
        histories = [Session(SCENARIO, engine=one).run().history for one in (engine, single)]
        many, one = ({job: (history.path(job), history.runs(job)) for job in "az"} for history in histories)
        assert many == one == dict.fromkeys("az", (["PENDING", "PROCESSING", "COMPLETED"], 1))
    finally:
        single.close()


def test_a_session_that_somebody_terminates_costs_one_call(engine: ReferenceEngine) -> None:
    def terminate(session: Session) -> None:
        pid = session.queue._room.connection("w1").pgconn.backend_pid  # type: ignore[attr-defined]
        engine.pool().monitor.end(pid)

    run = disturbed(engine, "complete", terminate)
    unknown = [event for event in run.history if type(event) is Return and event.outcome.kind == "unknown"]
    assert len(unknown) == 1
    assert unknown[0].verb == "complete"
    assert {job: str(view.status) for job, view in run.history.views().items()} == {"a": "COMPLETED", "z": "COMPLETED"}


def test_a_statement_that_never_ends_is_the_failure_of_its_run(engine: ReferenceEngine) -> None:
    text = shipped_statement("complete").replace("WITH moment AS", "WITH asleep AS (SELECT pg_sleep(3600)), moment AS")
    text = text.replace("FROM moment\n", "FROM moment, asleep\n")
    run = Session(SCENARIO, engine=engine.planted({"complete": text})).run()
    assert run.verdict == "fail"
    assert "w1's statement 'complete' was not answered within 0.3 real seconds" in run.failures[0]


def test_a_transaction_that_is_left_open_is_a_failure_of_the_run(engine: ReferenceEngine) -> None:
    def begin(session: Session) -> None:
        session.queue._room.connection("forgetful").pgconn.exec_(b"BEGIN; SELECT pg_advisory_lock(1)")  # type: ignore[attr-defined]

    run = disturbed(engine, "claim", begin)
    assert run.failures == (
        "forgetful left a transaction open; it was rolled back",
        "forgetful left 1 advisory lock; released",
    )


def test_a_server_that_stops_in_the_middle_is_an_environment_error(
    engine: ReferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOB_HARNESS_DSN", raising=False)  # a server of its own: a shared one must not be stopped
    own = opened()
    try:
        with pytest.raises(EnvironmentUnavailable, match="went away"):
            disturbed(own, "complete", lambda session: own.session().cluster.stop())
    finally:
        own.close()


def test_a_crash_within_a_transaction_undoes_it_at_once(engine: ReferenceEngine) -> None:
    run = Session(crashing("crash", at="w1 commit claim"), engine=engine).run()
    assert run.anomalies == ()
    claimed = [event for event in run.history if type(event) is Observed and event.verb == "claim"]
    assert [event.after.attempts for event in claimed if event.after is not None] == [1]
    assert 0 < claimed[0].at < 10_000_000


def test_a_session_that_outlives_its_actor_keeps_its_job_from_others_until_it_is_noticed(
    engine: ReferenceEngine,
) -> None:
    run = Session(crashing("crash leaving its session for a lease", at="w1 commit claim"), engine=engine).run()
    assert run.anomalies == ()
    assert run.failures == ()
    stays = next(event.data["session_stays"] for event in run.history if type(event) is Fault)
    claimed = [event for event in run.history if type(event) is Observed and event.verb == "claim"]
    assert len(claimed) == 1
    assert claimed[0].at >= stays


def test_a_run_that_stops_within_transactions_says_nothing_but_its_verdict(
    engine: ReferenceEngine, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = CATALOGUE["expire-reads-first"].engine("postgres-gated", beside=engine)
    scenario = replace(SCENARIO, workers=("w1",), tape=(Deviation("w1 update public.tool_job", 1, "pause stuck"),))
    for steps in range(12, 36, 2):
        Session(scenario, engine=wrong, limits=Limits(steps=steps)).run()
    assert caplog.messages == []


def test_a_settlement_needs_the_gated_engine() -> None:
    from job_harness.engines.reference import Settlement

    with pytest.raises(UsageError, match="no use for verbs of several statements"):
        ReferenceEngine("postgres", settlement=Settlement())


def test_code_that_takes_a_pool_runs_unchanged_on_an_actors_session(engine: ReferenceEngine) -> None:
    session = engine.session()
    session.reset()
    room = SessionCoordinator(engine.pool())
    claimed: dict[str, list[str]] = {}

    def store(actor: str) -> PostgresStore:
        pool: Any = ActorPool(room, actor, row_factory=dict_row)
        return PostgresStore(PoolDatabase(pool))

    async def produce() -> None:
        for number, name in enumerate(("a", "b")):
            job = NewJob(tool_slug="tool", input={}, id=name, queue_id=str(UUID(int=number)))
            await store("producer").enqueue(job)

    async def work(actor: str) -> None:
        claims = await store(actor).claim(worker=actor, tools=["tool"], limit=1)
        claimed[actor] = [claim.job.id for claim in claims]

    kernel = Kernel(Boring(), None)  # type: ignore[arg-type]
    kernel.spawn("producer", produce)  # type: ignore[arg-type]
    while kernel.step():
        pass
    for actor in ("w1", "w2"):
        kernel.spawn(actor, partial(work, actor))  # type: ignore[arg-type]
    while kernel.step():
        pass
    room.close()
    assert claimed == {"w1": ["a"], "w2": ["b"]}, "the second skips the row that the first has locked and not committed"
