"""A run goes by the periods and the due times of slots that its engine documents."""

from __future__ import annotations

from dataclasses import replace

import pytest

from job_harness.core.history.event import Call, Return
from job_harness.core.history.outcome import OutcomeKind
from job_harness.core.model.duration import HOUR, MINUTE, SECOND, Duration
from job_harness.core.model.settings import Settings
from job_harness.core.port import Contract
from job_harness.core.run.session import Session
from job_harness.core.scenario.job_plan import JobPlan, Span
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.memory import MemoryEngine
from job_harness.engines.pgboss.node.release import period_of
from job_harness.search.wrong_queues import CATALOGUE

SCENARIO = Scenario(
    settings=Settings(),
    jobs=(JobPlan("n", every=11 * MINUTE, count=2, scheduled=True), JobPlan("sent", every=11 * MINUTE, count=2)),
)


class Documented(MemoryEngine):
    """The model queue, said to keep other periods."""

    def __init__(self, slot_due: tuple[Duration, Duration] | None = None) -> None:
        super().__init__()
        self.info = replace(self.info, contract=Contract(period=period_of, slot_due=slot_due))


def slots_of(engine: MemoryEngine) -> list[Duration | None]:
    run = Session(SCENARIO, engine=engine).run()
    assert not run.anomalies
    made = {event.job: event.after.slot for event in run.history if hasattr(event, "after") and event.after is not None}
    return [made["n1"], made["n2"]]


def test_a_schedule_has_the_period_that_the_engine_can_keep() -> None:
    assert slots_of(MemoryEngine()) == [11 * MINUTE, 22 * MINUTE]
    assert slots_of(Documented()) == [12 * MINUTE, 24 * MINUTE]


def test_what_a_producer_sends_keeps_its_own_period() -> None:
    session = Session(SCENARIO, engine=Documented())
    assert [plan.every for plan in session.scenario.jobs] == [12 * MINUTE, 11 * MINUTE]
    session.close()


def test_a_look_is_judged_by_how_long_the_engine_says_that_a_slot_is_due() -> None:
    session = Session(SCENARIO, engine=Documented((SECOND, MINUTE)))
    assert {monitor.rules.slot_due for monitor in session.judge.monitors} == {(SECOND, MINUTE)}
    session.close()


@pytest.mark.parametrize("early", [False, True])
def test_a_round_at_which_nothing_is_due_shows_who_takes_back_early(early: bool) -> None:
    scenario = Scenario(jobs=(JobPlan("a", tool="other", takes=(Span(factor=0.95, setting="job_timeout"),)),))
    scenario = replace(scenario, early_rounds=early)
    wrong = CATALOGUE["sweep-takes-other-queues"].engine("memory")
    assert ("taken_back_early" in Session(scenario, engine=wrong).run().found) is early

    run = Session(scenario, engine=MemoryEngine()).run()
    rounds = [event.at for event in run.history if isinstance(event, Call) and event.verb == "expire"]
    assert (run.found, rounds) == (frozenset(), [6 * MINUTE + SECOND] if early else [])


def test_a_commit_is_refused_while_the_key_is_held_for_a_job_that_has_ended() -> None:
    def sent(name: str, at: Duration, *, open_for: Duration) -> JobPlan:
        return JobPlan(name, at=at, unique_key="k", unique_for=HOUR, transaction="commit", open_for=open_for)

    jobs = (sent("a", 0, open_for=MINUTE), sent("b", SECOND, open_for=30 * MINUTE))
    run = Session(Scenario(jobs=jobs), engine=MemoryEngine()).run()
    commits = [event.outcome.kind for event in run.history if isinstance(event, Return) and event.verb == "commit"]
    assert (run.found, commits) == (frozenset(), [OutcomeKind.DONE, OutcomeKind.REFUSED])
