"""Outages and late messages: what they do to calls, what they excuse, and what they never excuse."""

from __future__ import annotations

import pytest
from tests.unit.test_invariants_histories import RUNNING as CLAIMED
from tests.unit.test_invariants_histories import WAITING

from job_harness.core.faults import FaultPlan, excuses
from job_harness.core.faults.outages import HOST
from job_harness.core.history.event import Call, Effect, Event, Fault, Observed, Return
from job_harness.core.history.outcome import OutcomeKind, done
from job_harness.core.invariants import ANOMALIES, Judge, Rules
from job_harness.core.invariants.outages import outages_cost_no_job
from job_harness.core.model.duration import HOUR, MINUTE, SECOND
from job_harness.core.model.lifecycle import QueueState, Status
from job_harness.core.model.settings import Settings
from job_harness.core.run.session import Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan, Span
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import UsageError
from job_harness.search.scope.bounds import Scope
from job_harness.subjects.applications.engine import ApplicationEngine
from job_harness.subjects.applications.stage import Stage, TimedOut, sleep

BEATING = Settings(lease=4 * MINUTE, heartbeat_interval=MINUTE)
RUNNING = CLAIMED._replace(lease_until=BEATING.lease)
TAKEN_BACK = RUNNING._replace(status=Status.PENDING, queue_state=QueueState.RETRY, worker=None, lease_until=None)


def play(steps: list[str], *, takes: str = "9m") -> Run:
    text = "\n".join(
        [
            "format: 1",
            "workers: [w1, w2]",
            f"jobs: {{a: {{takes: {takes}}}}}",
            "steps:",
            *(f"  - {step}" for step in steps),
        ]
    )
    return Session(read_scenario_text(text), engine=MemoryEngine()).run()


def returns(run: Run, verb: str) -> list[Return]:
    return [event for event in run.history if isinstance(event, Return) and event.verb == verb]


def test_nothing_reaches_the_store_while_it_is_away_and_everything_does_afterwards() -> None:
    run = play(["w1 claims a", "advance 8m", "the store is away for 90s", "run until idle"])
    assert run.found == frozenset()
    reports = returns(run, "complete")
    assert [report.answered for report in reports] == [False, False, False, True], "asked three times, and run again"
    assert [event.at for event in returns(run, "claim") if event.answered and event.outcome.value][1] > 11 * MINUTE


def test_a_job_waits_for_the_end_of_an_outage_that_is_longer_than_everything_else_waits() -> None:
    run = play(["the store is away for 1d", "run until idle", "a is COMPLETED"])
    assert (run.found, run.failures) == (frozenset(), ())
    assert [event.at for event in returns(run, "claim") if event.answered and event.outcome.value] == [24 * HOUR]

    healed = play(["w1 claims a", "the store is away for 1d", "advance 1s"])
    assert healed.found == frozenset(), "what heals the system ends the outage for polls, too"


def test_an_outage_after_everything_has_ended_lets_nobody_wait_for_the_retention() -> None:
    run = play(["run until idle", "the store is away for 90s", "run until idle"])
    assert (run.found, run.failures) == (frozenset(), ())
    assert run.now < HOUR


def test_only_the_actor_that_is_cut_off_misses_the_store() -> None:
    run = play(["w1 claims a", "w1 is cut off for 1h", "w2 claims -> done", "run until idle"])
    lost = {event.actor for event in run.history if isinstance(event, Return) and not event.answered}
    assert lost == {"w1"}
    assert run.found == frozenset()


def test_a_delayed_request_arrives_when_another_worker_holds_the_job_and_is_refused() -> None:
    delayed = "w1 delays the request by 15m before completing a"
    run = play(["w1 claims a", delayed, "w1 is cut off for 5m", "wait until a is COMPLETED", "run until idle"])
    late = [event for event in returns(run, "complete") if event.actor.startswith("message")]
    assert [event.outcome.kind for event in late] == [OutcomeKind.REFUSED]
    assert run.found == frozenset()


def judged(anomaly: str, *history: Call | Return | Observed | Fault, settings: Settings = BEATING) -> set[str]:
    judge = Judge((ANOMALIES[anomaly][0],), Rules(settings, excuses=excuses()))
    for event in history:
        judge.see(event)
    return {item.name for item in judge.anomalies}


@pytest.mark.parametrize(
    ("fault", "excused"),
    [
        (Fault(MINUTE, "w1", "outage", {"at": "", "for": SECOND}), False),
        (Fault(MINUTE, "*", "outage", {"at": "", "for": 3 * MINUTE}), True),
        (Fault(MINUTE, "w2", "outage", {"at": "", "for": HOUR}), False),
        (Fault(MINUTE, "w1", "lose request", {"at": "heartbeat a"}), False),
        (Fault(MINUTE, "w1", "lose reply", {"at": "complete a"}), True),
    ],
)
def test_an_outage_excuses_the_loss_of_a_claim_by_its_length_and_a_lost_heartbeat_by_one_interval(
    fault: Fault, excused: bool
) -> None:
    claimed = Observed(0, "w1", "claim", "a", WAITING, RUNNING, 0)
    taken = Observed(5 * MINUTE, "queue", "expire", "a", RUNNING, TAKEN_BACK, 5 * MINUTE)
    found = judged("healthy_claim_taken_back", claimed, fault, taken)
    assert found == (set() if excused else {"healthy_claim_taken_back"})


@pytest.mark.parametrize(
    ("troubles", "ends", "found"),
    [
        (1, ("a.test", "a.test"), True),
        (2, ("a.test", "a.test"), False),
        (1, ("a.test", None), False),
        (1, ("a.test", "b.test"), False),
        (1, ("a.test",), False),
    ],
)
def test_a_job_that_met_nothing_but_a_short_outage_of_its_host_must_not_fail_for_good(
    troubles: int, ends: tuple[str | None, ...], found: bool
) -> None:
    failed = RUNNING._replace(status=Status.FAILED, queue_state=QueueState.FAILED, worker=None, attempts=2)
    judge = Judge((outages_cost_no_job({"a.test": 5 * MINUTE}),), Rules(BEATING, excuses=excuses()))
    data = {"host": "a.test", "state": "down", "for": 3 * MINUTE}
    history: list[Event] = [Fault(0, "w1", HOST.event, data)] * troubles
    for host in ends:
        history.append(Effect(0, "w1", "a", 1, 1, "started", None))
        history.append(Effect(0, "w1", "a", 1, 1, "ended", "failure", host))
    for event in (*history, Observed(0, "w1", "update job", "a", RUNNING, failed, 0)):
        judge.see(event)
    assert [item.name for item in judge.anomalies] == ["outage_costs_job"] * found


def test_a_heartbeat_that_an_outage_takes_is_a_silence_of_one_interval() -> None:
    half_a_lease = """
        format: 1
        settings: {batch_size: 2, heartbeat_interval: 5m30s}
        jobs: {b: {takes: 2.0 lease, lease: 21m, timeout: 20m}, z: {}}
        restart_after: 5s
        tape:
          - {at: time, do: late by 1s}
          - {at: w1 heartbeat b, nth: 2, do: cut off for 1s}
    """
    run = Session(read_scenario_text(half_a_lease), engine=MemoryEngine()).run()
    assert [event.job for event in returns(run, "heartbeat") if not event.answered] == ["b", "z"]
    assert "expire" in {event.verb for event in run.history if isinstance(event, Observed) and event.job == "z"}
    assert run.found == frozenset(), "its lease is two intervals long, and a second was lost before"


def test_two_maintenance_actors_at_one_instant_do_not_repeat_each_other() -> None:
    def call(actor: str, number: int) -> Call:
        return Call(MINUTE, actor, "expire", None, None, (), number)

    def answer(actor: str, number: int, *, alone: bool) -> Return:
        return Return(MINUTE, actor, "expire", None, None, done([]), number, True, alone)

    change = Observed(MINUTE, "one", "expire", "a", RUNNING, TAKEN_BACK, MINUTE)
    met = [call("one", 1), call("two", 2), change, answer("one", 1, alone=False), answer("two", 2, alone=False)]
    assert judged("maintenance_repeats", *met) == set()
    after = [call("one", 1), answer("one", 1, alone=True), call("two", 2), change._replace(actor="two")]
    assert judged("maintenance_repeats", *after) == {"maintenance_repeats"}


@pytest.mark.parametrize("fault", ["outage", "delayed_message"])
def test_a_complete_search_says_why_it_has_no_such_fault(fault: str) -> None:
    with pytest.raises(UsageError, match="no part of a state"):
        Scope(faults=FaultPlan(**{fault: 1}))


def test_the_bounds_of_a_wait_are_the_promise_and_grow_without_a_limit_of_their_own() -> None:
    rules = Rules(Settings(retry_delay=SECOND, retry_delay_max=10**30), excuses={})
    assert rules.waits("a", attempts=60) == (SECOND << 59, SECOND << 60)
    assert Rules(Settings(), excuses={}).waits("a", attempts=60) == (HOUR, HOUR)
    assert Rules(Settings(retry_backoff=False), excuses={}).waits("a", attempts=9) == (MINUTE, MINUTE)


class Abandoning:
    """Runs one job, gives up on its processor, and starts it again at once."""

    def __init__(self, *, cancellable: bool) -> None:
        self.cancellable = cancellable

    def send(self, stage: Stage, job: object) -> object:
        yield sleep("1s")

    def actors(self, stage: Stage) -> object:
        def worker() -> object:
            for token in (1, 2):
                row = type("Row", (), {"job": "a", "attempt": token, "token": token})
                try:
                    yield from stage.work(f"w{token}", row, cancellable=self.cancellable)
                except TimedOut:
                    continue
            yield sleep("1h")

        return {"w1": worker}


@pytest.mark.parametrize("cancellable", [True, False])
def test_a_processor_that_cannot_be_cancelled_lives_on_beside_its_retry(cancellable: bool) -> None:
    engine = ApplicationEngine(lambda: Abandoning(cancellable=cancellable), name="abandoning")
    long = JobPlan("a", takes=(Span(factor=1.5, setting="job_timeout"),))
    run = Session(Scenario(jobs=(long,)), engine=engine).run()
    ended = [event.at for event in run.history if isinstance(event, Effect) and event.name == "ended"]
    timeout = Settings().job_timeout
    assert ended[0] == (timeout if cancellable else timeout * 3 // 2)
    assert ("concurrent_execution" in run.found) is not cancellable
