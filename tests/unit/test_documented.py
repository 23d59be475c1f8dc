"""An excuse names its circumstances: outside of them, what an engine documents is reported like any other anomaly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from job_harness.core.invariants import ANOMALIES
from job_harness.core.model.duration import SECOND
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import Claim, Contract, Documented
from job_harness.core.run.session import Session
from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.doors.cli.search import print_unjudged, refuse_blindness
from job_harness.engines.bullmq.queue import contract as bullmq_contract
from job_harness.engines.celery import CONTRACT as CELERY
from job_harness.engines.chancy import CONTRACT as CHANCY
from job_harness.engines.chancy import open_engine as open_chancy
from job_harness.engines.conformance.judge import cases
from job_harness.engines.django_tasks import CONTRACT as DJANGO_TASKS
from job_harness.engines.dramatiq import CONTRACT as DRAMATIQ
from job_harness.engines.foreign_queue import Opened
from job_harness.engines.graphile import CONTRACT as GRAPHILE
from job_harness.engines.memory import EndRules, MemoryEngine, MemoryQueue
from job_harness.engines.pgboss.contract import POLICIES, contract_of
from job_harness.engines.pgqueuer import CONTRACT as PGQUEUER
from job_harness.engines.procrastinate import CONTRACT as PROCRASTINATE
from job_harness.engines.procrastinate import SESSIONS_CONTRACT
from job_harness.errors import NothingToJudge
from job_harness.search.wrong_queues import CATALOGUE

CONTRACTS = {
    "bullmq": bullmq_contract({}),
    "celery": CELERY,
    "chancy": CHANCY,
    "django-tasks-db": DJANGO_TASKS,
    "dramatiq": DRAMATIQ,
    "graphile-worker": GRAPHILE,
    "pgqueuer": PGQUEUER,
    "procrastinate": PROCRASTINATE,
    "procrastinate --sessions": SESSIONS_CONTRACT,
    **{f"pgboss/{name}": contract_of(policy) for name, policy in POLICIES.items()},
}
LATE = Scenario(
    workers=("w1", "w2"),
    jobs=(JobPlan("a"),),
    tape=(Deviation("w1 complete a", 1, "pause a lease + a retry"),),
)
"""The first worker wakes when another has its job, and reports."""
FAILS = Scenario(workers=("w1",), jobs=(JobPlan("a", outcomes=(Ending.FAIL_FINALLY,)),))


class TakesAnyRules(EndRules):
    """Takes every result, whichever claim it comes from."""

    def held(self, claim: Claim, verb: str):  # type: ignore[no-untyped-def]
        row = self.queue.rows.get(claim.job)
        return row if verb == "complete" and row is not None else super().held(claim, verb)


class TakesAny(MemoryQueue):
    rules = (TakesAnyRules,)


def shown(scenario: Scenario, excuse: str | Documented) -> frozenset[str]:
    engine = MemoryEngine(TakesAny, name="takes any")
    engine.info = replace(engine.info, contract=Contract(documented={"stale_complete": excuse}))
    return Session(scenario, engine=engine).run().found


@pytest.mark.parametrize(
    ("excuse", "reported"),
    [
        ("its manual", False),
        (Documented("its manual"), False),
        (Documented("its manual", verbs=frozenset({"complete"})), False),
        (Documented("its manual", verbs=frozenset({"fail"})), True),
        (Documented("its manual", states=frozenset({Status.COMPLETED})), False),
        (Documented("its manual", states=frozenset({Status.CANCELLED})), True),
        (Documented("its manual", faults=frozenset({"pause", "crash"})), False),
        (Documented("its manual", faults=frozenset({"crash"})), True),
        (Documented("its manual", verbs=frozenset({"complete"}), faults=frozenset({"crash"})), True),
    ],
)
def test_an_excuse_holds_where_all_its_circumstances_do(excuse: str | Documented, reported: bool) -> None:
    assert ("stale_complete" in shown(LATE, excuse)) is reported


def test_a_fault_excuses_only_what_comes_after_it() -> None:
    engine = CATALOGUE["final-error-retried"].engine("memory")
    excuse = Documented("its manual", faults=frozenset({"pause"}))
    engine.info = replace(engine.info, contract=Contract(documented={"final_error_retried": excuse}))
    paused = replace(FAILS, tape=(Deviation("w1 fail a", 1, "pause 1s"),))

    assert "final_error_retried" in Session(FAILS, engine=engine).run().found
    assert "final_error_retried" not in Session(paused, engine=engine).run().found


@pytest.mark.parametrize("name", CONTRACTS)
def test_what_is_documented_of_other_projects_names_anomalies_and_scenarios_that_there_are(name: str) -> None:
    known = {case.name for case in cases(queues=CATALOGUE)}
    excuses = CONTRACTS[name].excuses
    assert ANOMALIES.keys() >= excuses.keys()
    told = [item for items in excuses.values() for item in items]
    assert {item.scenario for item in told if item.scenario} <= known
    assert not [item for item in told if item.anywhere], (
        "an anomaly that is excused in every circumstance hides the real ones"
    )


def test_a_search_that_could_report_nothing_is_no_pass() -> None:
    engine = MemoryEngine()
    engine.info = replace(engine.info, contract=Contract(documented=dict.fromkeys(ANOMALIES, "its manual")))
    with pytest.raises(NothingToJudge, match=r"none of the \d+ anomalies would be reported of memory"):
        refuse_blindness(engine, frozenset())

    partly = Contract(documented={"livelock": "its manual", "job_stuck": Documented("", verbs=frozenset({"claim"}))})
    engine.info = replace(engine.info, contract=partly)
    refuse_blindness(engine, frozenset())
    refuse_blindness(engine, frozenset({"livelock", "job_stuck"}))
    with pytest.raises(NothingToJudge, match="no livelock would be reported"):
        refuse_blindness(engine, frozenset({"livelock"}))


def test_chancy_loses_a_worker_after_the_whole_seconds_that_its_leases_are_judged_by() -> None:
    settings = CHANCY.effective(Settings(lease=SECOND + 1))
    opened = Opened(*[None] * 2, settings, *[None] * 3)  # type: ignore[arg-type]
    assert (settings.lease, open_chancy("0.26.0").release.reset(opened)) == (2 * SECOND, {"silence": 2})


@pytest.mark.parametrize("name", ["bullmq", "celery", "chancy", "django-tasks-db", "dramatiq", "procrastinate"])
def test_a_search_says_where_no_clock_of_a_worker_reaches_the_library(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_unjudged(MemoryEngine(contract=CONTRACTS[name]), frozenset())
    assert capsys.readouterr().out.startswith("Not judged: foreign_clock (its processes read clocks of their own")
