"""Other people's queues with a session for every actor: their statements come in the order that the kernel says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.opened_engines import Get, opened_engines

from job_harness.core.history.event import Fault
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.core.run.session import Limits, Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.core.sim.clock import Clocks
from job_harness.core.sim.request import Wait
from job_harness.engines.foreign_queue import ForeignEngine
from job_harness.search.orders import all_verb_orders
from job_harness.search.sampling import Sampler, run_seed

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ONE_AT_A_TIME = Settings(tool_concurrency=1)


@pytest.fixture(scope="module")
def engines() -> Iterator[Get]:
    with opened_engines() as get:
        yield get


@pytest.fixture(scope="module")
def affected(engines: Get) -> ForeignEngine:
    return engines("pgqueuer@1.3.2 --sessions")


@pytest.fixture(scope="module")
def repaired(engines: Get) -> ForeignEngine:
    return engines("pgqueuer@1.5.0 --sessions")


@pytest.fixture(scope="module")
def procrastinate(engines: Get) -> ForeignEngine:
    return engines("procrastinate@3.8.1 --sessions")


def two_claims(engine: ForeignEngine) -> list[tuple[str, int]]:
    """Return every order of two workers' claims under a limit of one job, and how many got one."""

    def prepare() -> Any:
        queue = engine.open(ONE_AT_A_TIME, clocks, lambda: 0.0)
        for name in ("a", "b"):
            assert queue.enqueue(JobRequest(name)).done
        return queue

    clocks = Clocks()
    clocks.now = 1_000_000
    workers = {name: lambda queue, name=name: queue.claim(name, 1) for name in ("w1", "w2")}
    orders = list(all_verb_orders(prepare, workers))
    assert not any(order.errors or order.leftovers for order in orders)
    return [
        ("".join(step[1] for step in order.steps), sum(len(outcome.value) for outcome in order.outcomes.values()))
        for order in orders
    ]


@pytest.mark.long
def test_two_claims_exceed_a_limit_in_every_order_in_which_neither_sees_the_other(affected: ForeignEngine) -> None:
    assert two_claims(affected) == [("112", 1), ("1212", 2), ("1221", 2), ("2112", 2), ("2121", 2), ("221", 1)]


@pytest.mark.long
def test_no_order_of_two_claims_exceeds_a_limit_once_it_is_repaired(repaired: ForeignEngine) -> None:
    orders = two_claims(repaired)
    assert len(orders) > 2
    assert {claimed for _, claimed in orders} == {1}


def test_a_statement_that_waits_for_another_actors_lock_is_seen_to_wait(repaired: ForeignEngine) -> None:
    claims = []

    def prepare() -> Any:
        queue = repaired.open(Settings(), clocks, lambda: 0.0)
        assert queue.enqueue(JobRequest("a")).done
        claims[:] = queue.claim("w1", 1).value
        return queue

    def inspect(queue: Any) -> Status:
        status: Status = queue.jobs()["a"].status
        return status

    clocks = Clocks()
    clocks.now = 1_000_000
    verbs = {"w1": lambda queue: queue.complete(claims[0], None), "operator": lambda queue: queue.cancel("a")}
    orders = list(all_verb_orders(prepare, verbs, inspect=inspect))
    assert not any(order.errors or order.leftovers for order in orders)
    waited = [order for order in orders if order.waits]
    assert waited
    for order in orders:
        first = order.steps[0].partition(":")[0]
        assert order.left is (Status.COMPLETED if first == "w1" else Status.CANCELLED), str(order)
        assert order.outcomes["operator"].done is (first == "operator"), str(order)


def left_by_death(engine: ForeignEngine, gates: int, die: Any) -> dict[str, Status]:
    """Let a worker die at one of the gates of a claim of two jobs; return what is left of them."""
    clocks = Clocks()
    queue: Any = engine.open(Settings(), clocks, lambda: 0.0)
    for name in ("a", "b"):
        assert queue.enqueue(JobRequest(name)).done
    claim = queue.on_behalf("w1").claim("w1", 2)
    for _ in range(gates):
        assert type(next(claim)) is not Wait
    die(queue)
    queue.close()
    claim.close()
    return {name: view.status for name, view in queue.jobs().items()}


def test_a_crash_leaves_between_two_statements_what_a_killed_process_leaves(procrastinate: ForeignEngine) -> None:
    waits, runs = Status.PENDING, Status.PROCESSING
    at_commit_of_first, at_second, at_commit_of_second = 6, 7, 8
    for gates, left in (
        (at_commit_of_first, {"a": waits, "b": waits}),
        (at_second, {"a": runs, "b": waits}),
        (at_commit_of_second, {"a": runs, "b": waits}),
    ):
        assert left_by_death(procrastinate, gates, lambda queue: queue.sever("w1")()) == left
    for gates in (at_second, at_commit_of_second):
        left = left_by_death(procrastinate, gates, lambda queue: procrastinate.peer.kill())
        assert left == {"a": runs, "b": waits}


@pytest.fixture(scope="module", params=["graphile-worker@0.17.2", "pgboss-node@12.38.0"])
def in_node(request: pytest.FixtureRequest, engines: Get) -> Any:
    return engines(f"{request.param} --sessions")


def played(engine: Any, **options: Any) -> Run:
    scenario = Scenario(title="two jobs", workers=("w1", "w2"), jobs=(JobPlan("a"), JobPlan("z")))
    return Session(scenario, engine=engine, **options).run()


def test_equal_choices_give_equal_histories(procrastinate: ForeignEngine) -> None:
    first, second = played(procrastinate), played(procrastinate)
    assert first.verdict == "pass"
    assert first.history.events == second.history.events


@pytest.mark.long
def test_a_driver_in_node_stands_at_the_same_gates(in_node: Any) -> None:
    first, second = played(in_node), played(in_node)
    assert first.verdict == "pass"
    assert first.history.events == second.history.events
    queue: Any = in_node.open(Settings(), Clocks(), lambda: 0.0)
    enqueue = queue.on_behalf("client").enqueue(JobRequest("a"))
    gates = [request.point for request in enqueue]
    assert len(gates) > 1
    assert gates[-1] == f"commit {gates[-2]}"
    queue.close()


@pytest.mark.long
def test_the_generic_workload_finds_the_limit_that_is_exceeded(affected: ForeignEngine) -> None:
    sampler = Sampler(affected, limits=Limits(steps=4000))
    assert any("concurrency_exceeded" in sampler.sample(run_seed(1, number)).found for number in range(10))


def test_a_job_that_the_database_aborts_is_not_refused_by_its_queue(procrastinate: ForeignEngine) -> None:
    queue: Any = procrastinate.open(Settings(), Clocks(), lambda: 0.0)
    sent = next(queue.on_behalf("client").enqueue(JobRequest("a"))).point
    queue.close()
    scenario = Scenario(jobs=(JobPlan("a"),), tape=(Deviation(f"client-a {sent}", 1, "abort"),))
    run = Session(scenario, engine=procrastinate).run()
    assert [event.name for event in run.history.events if isinstance(event, Fault)] == ["abort"]
    assert run.found == set(), "its client says no more than `Database error.`, and where that comes from"


@pytest.mark.long
@pytest.mark.parametrize(("release", "shows"), [("0.18.0/batched", {"outcome_lost"}), ("0.18.0", set())])
def test_a_batched_report_that_the_database_aborts_is_lost_and_a_worker_that_hears_of_it_reports_again(
    engines: Get, release: str, shows: set[str]
) -> None:
    tape = (Deviation("w1 delete graphile_worker._private_jobs", 1, "abort"),)
    scenario = Scenario(settings=Settings(), workers=("w1",), jobs=(JobPlan("a"),), tape=tape)
    run = Session(scenario, engine=engines(f"graphile-worker@{release} --sessions")).run()
    assert "abort" in {event.name for event in run.history.events if isinstance(event, Fault)}
    assert run.found & {"outcome_lost"} == shows
