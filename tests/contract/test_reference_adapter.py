"""The reference queue under test: the same verbs, the same ids and instants as every other engine, and no anomaly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from job_harness.core.history.outcome import Outcome, OutcomeKind
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.model.lifecycle import QueueState, Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import Claim, JobRequest, Reply
from job_harness.core.run.session import Session
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario, parse_step
from job_harness.core.sim.clock import Clocks
from job_harness.core.sim.request import Point
from job_harness.engines.reference import ReferenceEngine, ReferenceQueue
from job_harness.engines.reference.queue import MemoryReferenceQueue, queue_id_of
from job_harness.errors import EnvironmentUnavailable, ExitCode, UsageError
from job_harness.search.sampling import Sampler, run_seed

SETTINGS = Settings()


@pytest.fixture(scope="module", params=["reference", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest) -> Iterator[ReferenceEngine]:
    opened = ReferenceEngine(request.param)
    yield opened
    opened.close()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def queue(engine: ReferenceEngine, clocks: Clocks) -> ReferenceQueue:
    return engine.open(SETTINGS, clocks, lambda: 0.0)


def answer(reply: Reply) -> Outcome:
    assert isinstance(reply, Outcome)
    return reply


def claimed(queue: ReferenceQueue, limit: int = 1) -> list[Claim]:
    claims: list[Claim] = answer(queue.claim("w1", limit)).value
    return claims


def test_a_job_keeps_its_id_and_its_instants_to_the_microsecond(queue: ReferenceQueue, clocks: Clocks) -> None:
    clocks.now = 7
    assert answer(queue.enqueue(JobRequest("a", start_after=11))).value == "a"
    view = queue.jobs()["a"]
    assert (view.id, view.created_at, view.start_after) == ("a", 7, 11)
    assert (view.status, view.queue_state) == (Status.PENDING, QueueState.CREATED)
    assert claimed(queue) == []
    clocks.now = 11
    assert claimed(queue) == [Claim("a", 1, 1, "w1", "tool", 11 + SETTINGS.lease)]


def test_jobs_of_one_instant_are_claimed_in_the_order_of_their_ids(queue: ReferenceQueue) -> None:
    for name in ("b", "a-10", "c", "a"):
        queue.enqueue(JobRequest(name))
    assert [claim.job for claim in claimed(queue, 9)] == ["a", "a-10", "b", "c"]


def test_queue_ids_sort_as_ids_do_and_long_ones_stay_apart() -> None:
    names = ["", "a", "a-1", "a-10", "b", "ä", "z" * 16]
    assert sorted(names, key=queue_id_of) == sorted(names)
    assert queue_id_of("z" * 40) != queue_id_of("z" * 41)
    assert queue_id_of("a") < queue_id_of("a", 1) < queue_id_of("b")


def test_a_request_leaves_to_the_settings_what_it_does_not_say(engine: ReferenceEngine, clocks: Clocks) -> None:
    settings = SETTINGS.changed(max_attempts=2, retry_backoff=False, retry_delay=5 * SECOND, lease=MINUTE)
    queue = engine.open(settings, clocks, lambda: pytest.fail("nothing to draw without backoff"))
    queue.enqueue(JobRequest("a"))
    (claim,) = claimed(queue)
    assert claim.lease_until == MINUTE
    assert answer(queue.fail(claim, "no", False)).done
    view = queue.jobs()["a"]
    assert (view.start_after, view.max_attempts, view.error) == (5 * SECOND, 2, "no")


def test_what_is_refused_names_who_stands_in_the_way(queue: ReferenceQueue) -> None:
    queue.enqueue(JobRequest("a", unique_key="k"))
    again = answer(queue.enqueue(JobRequest("a")))
    held = answer(queue.enqueue(JobRequest("b", unique_key="k")))
    assert (again.kind, again.value) == (OutcomeKind.REFUSED, "a")
    assert (held.kind, held.value) == (OutcomeKind.REFUSED, "a")
    assert answer(queue.enqueue(JobRequest("c", input={"x": float("nan")}))).kind is OutcomeKind.REFUSED
    assert list(queue.jobs()) == ["a"]


def test_an_output_that_json_cannot_hold_is_refused_and_the_claim_stands(queue: ReferenceQueue) -> None:
    queue.enqueue(JobRequest("a"))
    (claim,) = claimed(queue)
    refused = answer(queue.complete(claim, {"text": "a\x00b"}))
    assert refused.kind is OutcomeKind.REFUSED
    assert refused.reason.startswith("invalid output: ")
    assert answer(queue.complete(claim, {"text": "ab"})).done


def test_a_claim_of_a_deleted_job_settles_no_new_job_of_its_id(queue: ReferenceQueue, clocks: Clocks) -> None:
    queue.enqueue(JobRequest("a"))
    (old,) = claimed(queue)
    assert answer(queue.fail(old, "no", True)).done
    clocks.now += SETTINGS.retention
    assert answer(queue.purge()).value == ["a"]
    queue.enqueue(JobRequest("a"))
    (new,) = claimed(queue)
    assert (old.token, new.token) == (1, 1)
    assert not answer(queue.complete(old, None)).done
    assert answer(queue.complete(new, None)).done


def test_a_claim_that_nobody_gave_changes_nothing(queue: ReferenceQueue) -> None:
    queue.enqueue(JobRequest("a"))
    (claim,) = claimed(queue)
    forged = claim._replace(token=9)
    before = queue.jobs()
    verbs = (queue.heartbeat(forged), queue.complete(forged, 1), queue.fail(forged, "x", True), queue.release(forged))
    assert [answer(reply).kind for reply in verbs] == [OutcomeKind.REFUSED] * 4
    assert queue.jobs() == before


def test_upkeep_names_the_jobs_it_changed(queue: ReferenceQueue, clocks: Clocks) -> None:
    for name in ("a", "b"):
        queue.enqueue(JobRequest(name))
    claimed(queue)
    clocks.now = SETTINGS.lease
    assert answer(queue.expire()).value == ["a"]
    assert answer(queue.cancel("a")).done
    assert answer(queue.reconcile()).value == []
    clocks.now += SETTINGS.retention
    assert answer(queue.purge()).value == ["a"]
    claimed(queue)
    clocks.now += SETTINGS.stuck_timeout
    assert answer(queue.rescue()).value == ["b"]


def test_the_next_queue_is_empty_and_knows_no_tool_of_the_one_before(engine: ReferenceEngine, clocks: Clocks) -> None:
    first = engine.open(SETTINGS, clocks, lambda: 0.0)
    first.enqueue(JobRequest("a", tool="of the first"))
    second = engine.open(SETTINGS, clocks, lambda: 0.0)
    assert second.jobs() == {}
    second.enqueue(JobRequest("b"))
    assert [claim.job for claim in claimed(second, 9)] == ["b"]


@pytest.mark.long
@pytest.mark.slow
def test_sampled_runs_show_no_anomaly(engine: ReferenceEngine) -> None:
    sampler = Sampler(engine)
    runs = [sampler.sample(run_seed(3, number)) for number in range(30)]
    assert [(run.found, run.failures) for run in runs] == [(frozenset(), ())] * len(runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_sampled_runs_that_preempt_between_statements_show_no_anomaly(name: str) -> None:
    engine = ReferenceEngine(name, stepped=True)
    try:
        sampler = Sampler(engine)
        runs = [sampler.sample(run_seed(4, number)) for number in range(40 if name == "reference" else 15)]
        assert [(run.found, run.failures) for run in runs] == [(frozenset(), ())] * len(runs)
    finally:
        engine.close()


@pytest.mark.parametrize("name", ["reference", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_stepped_a_verb_stops_before_its_statement_and_reads_the_clock_after(name: str, clocks: Clocks) -> None:
    engine = ReferenceEngine(name, stepped=True)
    try:
        queue = engine.open(SETTINGS, clocks, lambda: 0.0)
        work = queue.enqueue(JobRequest("a"))
        assert not isinstance(work, Outcome)
        point = work.send(None)  # type: ignore[union-attr]
        assert isinstance(point, Point)
        assert point.point == "enqueue"
        assert queue.jobs() == {}
        clocks.now = 5
        with pytest.raises(StopIteration):
            work.send(None)  # type: ignore[union-attr]
        assert queue.jobs()["a"].created_at == 5
    finally:
        engine.close()


def test_a_scenario_brings_maintenance_to_its_statement() -> None:
    steps = ("w1 claims a", 'maintenance pauses at "rescue_stuck"', "maintenance continues", "run until idle")
    plan = JobPlan("a")
    scenario = Scenario(workers=("w1",), jobs=(plan,), steps=tuple(parse_step(step) for step in steps))
    run = Session(scenario, engine=ReferenceEngine("reference", stepped=True)).run()
    assert (run.verdict, run.failures) == (Verdict.PASS, ())


def test_a_memory_store_goes_back_to_a_moment(clocks: Clocks) -> None:
    queue = ReferenceEngine("reference").open(SETTINGS, clocks, lambda: 0.0)
    assert isinstance(queue, MemoryReferenceQueue)
    queue.enqueue(JobRequest("a"))
    (claim,) = claimed(queue)
    moment, before = queue.snapshot(), queue.jobs()
    assert answer(queue.complete(claim, 1)).done
    queue.enqueue(JobRequest("b", tool="another"))
    queue.restore(moment)
    assert queue.jobs() == before
    assert answer(queue.complete(claim, 2)).done


def test_what_makes_no_sense_is_refused_with_the_names_that_do() -> None:
    with pytest.raises(UsageError, match="did you mean 'postgres'"):
        ReferenceEngine("postgre")
    with pytest.raises(UsageError, match="no use for SQL statements"):
        ReferenceEngine("reference", statements={"claim": "SELECT 1"})


@pytest.mark.postgres
def test_a_replaced_statement_is_caught(clocks: Clocks) -> None:
    from job_harness_reference.store.statements import shipped

    fence = 'AND q."token" = :token::bigint'
    engine = ReferenceEngine("postgres", statements={"complete": shipped("complete").replace(fence, "")})
    try:
        queue = engine.open(SETTINGS, clocks, lambda: 0.0)
        queue.enqueue(JobRequest("a"))
        (claim,) = claimed(queue)
        assert answer(queue.complete(claim._replace(token=99), 1)).done
    finally:
        engine.close()


@pytest.mark.postgres
def test_a_postgresql_that_dies_is_no_anomaly_but_an_environment_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = ReferenceEngine("postgres")
    try:
        scenario = Scenario(workers=("w1",), jobs=(JobPlan("a"), JobPlan("b", at=MINUTE)))
        session = Session(scenario, engine=engine)
        advanced = session.set_clocks

        def killing(now: int) -> None:
            advanced(now)
            if now >= 30 * SECOND:
                _end_session(engine)

        monkeypatch.setattr(session, "set_clocks", killing)
        with pytest.raises(EnvironmentUnavailable, match="PostgreSQL went away") as caught:
            session.run()
        assert caught.value.exit_code is ExitCode.ENVIRONMENT
        assert Session(scenario, engine=engine).run().verdict == "pass"  # The next run has a session of its own.
    finally:
        engine.close()


def _end_session(engine: ReferenceEngine) -> None:
    session = engine.session()
    session.cluster.admin().execute("SELECT pg_terminate_backend(%s)", [session.pid])
