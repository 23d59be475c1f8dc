"""A recorded incident as the goal of a search: what agrees with the record, and what cannot come from a target."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.faults import FaultPlan
from job_harness.core.history.event import Call, Effect, Event, Fault, History, Observed
from job_harness.core.invariants import ANOMALIES, Anomaly
from job_harness.core.model.duration import HOUR, SECOND
from job_harness.core.model.lifecycle import QueueState, Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import Sent, WrittenSource
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import AuditPlan, Scenario
from job_harness.core.sim.choices import Deviation, Option
from job_harness.doors.cli import main
from job_harness.doors.cli.explain_command import find_explanation
from job_harness.engines.memory import MemoryEngine
from job_harness.report.blame import with_source
from job_harness.review.audit.evidence import blank
from job_harness.review.audit.judging import as_recorded, audited
from job_harness.review.audit.recording import ROWS_SHOW, SHOWN_BY_LOG, SHOWN_BY_SPANS, advice, ways, what_decides
from job_harness.search.counterfactual import Counterfactual
from job_harness.search.incident import (
    AGAIN,
    CAUSES,
    DIED,
    FAILED,
    FIRST_RUNS,
    LIKELY,
    LONG,
    PAUSED,
    UNHEARD,
    Chain,
    Disagreement,
    Fact,
    Happening,
    Incident,
    IncidentGoal,
    Rows,
    causes_of,
    changes_lost,
    durations,
    facts_of,
    fit,
    life_at,
    usual_duration,
)
from job_harness.search.sampling import Sampler
from job_harness.search.strategy import UNCLAIMED, OneFaultChoices, Strategy, policy_of
from job_harness.search.targets import open_engine
from job_harness.search.watchdog import SearchTime
from job_harness.search.workload import Drawn

DAY = 1_767_225_600
P, R, C = Status.PENDING, Status.PROCESSING, Status.COMPLETED


def change(at: int, who: str, before: Status | None, after: Status | None, *, token: int = 0, job: str = "a") -> Event:
    views = [None if status is None else blank(job, status, token=token) for status in (before, after)]
    return Observed(at, who, "update", job, *views, at)


STALE = [
    change(0, "sender", None, P), change(1, "one", P, R, token=1), change(2, "reaper", R, P),
    change(3, "two", P, R, token=2), change(4, "one", R, C, token=2),
]  # fmt: skip
RENAMED = {"sender": "client-a", "one": "w2", "two": "w1", "reaper": "queue"}


def record(*events: Event, complete: bool = True, until: int = 2**62) -> Chain:
    return facts_of(events, until=until, complete=complete, unknown="unknown")


def run(*events: Event) -> Run:
    told = [event._replace(actor=RENAMED[event.actor]) for event in events]  # type: ignore[union-attr]
    return Run(Scenario(), "memory", History(told), ())


def test_each_recorded_worker_is_one_actor_of_the_run() -> None:
    assert fit([record(*STALE)], run(*STALE), "a").facts == 5
    by_its_holder = [*STALE[:4], change(4, "two", R, C, token=2)]
    assert fit([record(*STALE)], run(*by_its_holder), "a").facts == 4, "the one that lost it completed it"
    same = [STALE[0], STALE[1], STALE[2], change(3, "one", P, R, token=2), STALE[4]]
    assert fit([record(*STALE)], run(*same), "a").facts == 3, "two workers are not one"
    assert fit([record(*STALE)], run(*STALE), "b").facts == 0
    again = [*STALE[:2], change(2, "sender", R, P), *STALE[3:]]
    assert fit([record(*again)], run(*again), "a").facts == 5
    assert fit([record(*again)], run(*STALE), "a").facts == 2, "the sender put it back, and not the queue"


def test_a_row_that_tells_the_attempt_is_the_claim_of_that_attempt_in_the_run() -> None:
    claims = [change(at, "one", P, R) for at in (1, 3)]
    told = [each._replace(after=each.after._replace(attempts=number)) for number, each in enumerate(claims, 1)]  # type: ignore[union-attr]
    revived = told[1]._replace(before=told[1].after._replace(status=C))
    whole = run(STALE[0], told[0], STALE[2], revived)
    for claim, place in ((told[1], 3), (told[0], 1), (claims[0], 1)):
        assert fit([record(STALE[0], claim, complete=False)], whole, "a").places == ((0, place),)


def test_a_record_without_gaps_allows_nothing_in_between() -> None:
    longer = [*STALE[:3], change(3, "two", P, R), change(3, "two", R, P), *STALE[3:]]
    assert fit([record(*STALE)], run(*longer), "a").facts < 5
    assert fit([record(*STALE, complete=False)], run(*longer), "a").facts == 5, "the rows of a job are not all of it"


def test_facts_end_with_the_anomaly_and_repeated_ones_count_once() -> None:
    assert len(record(*STALE, until=3).facts) == 4
    assert len(record(*STALE, STALE[-1]).facts) == 5
    runs = [
        Effect(at, who, "a", 1, 1, name, "success") for at, who, name in ((1, "one", "started"), (5, "one", "ended"))
    ]
    told = [fact.what for fact in record(*STALE, *runs).facts]
    assert told == [Happening(None, None, "begins"), Happening(None, None, "succeeds")], "of spans, rows are inferred"
    assert record(change(1, "unknown", P, R)).facts == (Fact(1, "", Happening(P, R)),)


def test_a_run_takes_its_usual_time_unless_the_record_knows_none() -> None:
    others = [change(0, "x", None, P, job="b"), change(10, "x", P, R, job="b"), change(40, "x", R, C, job="b")]
    assert usual_duration(others) == 30
    assert usual_duration(STALE) is None, "it was claimed twice"


def test_how_long_runs_of_one_job_took_speaks_for_a_cause() -> None:
    taken = change(9, "two", R, R, token=2)._replace(before=blank("a", R, token=1))  # type: ignore[union-attr]
    claims = [change(0, "sender", None, P), change(1, "one", P, R, token=1), taken]
    held_up = [*claims, change(10, "one", R, C, token=2), change(12, "two", C, C, token=2)]
    assert durations(held_up) == ((3, 9), 8)
    assert of(held_up).likely == (PAUSED,)
    assert of(held_up).unlikely == (LONG,), "the second run took less time than the first may"
    as_long = [*claims, change(10, "one", R, C, token=2), change(18, "two", C, C, token=2)]
    assert (of(as_long).likely, of(as_long).unlikely) == ((LONG,), (PAUSED,))
    assert of([*claims, change(10, "one", R, C, token=2)]).likely == (), "one run alone says nothing"
    failed = [change(0, "x", P, R, job="b"), change(1, "x", R, Status.FAILED, job="b")]
    assert of(STALE, others=failed).likely == (FAILED,), "of a batch that fails, another job may be the cause"
    assert of([*STALE[:2], change(2, "sender", R, P)]).likely == (AGAIN,)
    assert of(STALE[:2]).likely == (DIED,), "its run never ended"


def of(events: list[Event], others: Sequence[Event] = ()) -> Incident:
    return Incident.of({"stale_complete"}, [record(*events)], events, others=others)


def test_likely_causes_have_most_runs_and_each_round_is_twice_as_long() -> None:
    incident = Incident(frozenset({"stale_complete"}), (), likely=(FAILED,), unlikely=(LONG,))
    goal = IncidentGoal(incident, 10, HOUR)
    looked_for = [goal.cause(number) for number in range(300)]
    assert looked_for[: FIRST_RUNS * LIKELY] == [FAILED] * FIRST_RUNS * LIKELY
    assert looked_for[FIRST_RUNS * LIKELY] is PAUSED
    assert LONG not in looked_for
    assert AGAIN not in looked_for, "the target knows no unique keys"
    assert [*goal.first_round[PAUSED]] == [number for number in range(72) if goal.cause(number) is PAUSED]
    again = looked_for.index(FAILED, FIRST_RUNS * LIKELY)
    assert looked_for[again : again + 2 * FIRST_RUNS * LIKELY] == [FAILED] * 2 * FIRST_RUNS * LIKELY


def test_a_sender_whose_job_was_refused_may_have_changed_another() -> None:
    again = [*STALE[:2], change(2, "sender", R, P), *STALE[3:]]
    told = [event._replace(actor=RENAMED[event.actor]) for event in again]  # type: ignore[union-attr]
    told[2] = told[2]._replace(actor="client-b")  # type: ignore[union-attr]
    assert fit([record(*again)], Run(Scenario(), "memory", History(told), ()), "a").facts == 2
    told.insert(2, Call(2, "client-b", "enqueue", "b", None, (), 1))
    assert fit([record(*again)], Run(Scenario(), "memory", History(told), ()), "a").facts == 5


def test_an_audit_of_a_run_knows_no_fault() -> None:
    began = [Effect(at, who, "a", 1, at, "started", "") for at, who in ((1, "w1"), (9, "w2"))]
    told = [began[0], Fault(2, "pause", "w1", {"for": 10**9}), began[1]]
    names = frozenset({"concurrent_execution"})
    assert [*as_recorded(told, "a", names=names, stuck_after=1)] == ["concurrent_execution"]


def test_a_run_gets_no_other_cause_while_it_is_made_smaller() -> None:
    paused = replace(run(*STALE), tape=(Deviation("w1 running a", 1, "pause a lease"),))
    goal = IncidentGoal(of(STALE), 10, HOUR)
    assert goal.keep(paused).counts() == {"pause": 1}
    crashed = replace(
        paused, tape=(Deviation("w1 running a", 1, "crash"),),
        anomalies=(Anomaly("stale_complete", "fenced", 4, 4, "a", ""),),
    )  # fmt: skip
    assert not goal.agrees(crashed, "stale_complete")
    assert goal.agrees(replace(crashed, tape=paused.tape), "stale_complete")


def test_what_never_happened_in_any_run_is_named() -> None:
    back = Fact(5, "", Happening(C, P))
    goal = IncidentGoal(Incident(frozenset({"stale_complete"}), (Chain((*record(*STALE).facts, back)),)), 10, HOUR)
    assert goal.shown_by(run(*STALE)) == []
    assert [*goal.never_seen()] == [back]


UNTIL = 600 * SECOND


def rows(at: int, job: str, status: Status, state: QueueState, *, actor: str = "w1") -> Event:
    """Return what became of the two rows of a job that was claimed with all others."""
    seen = blank(job, status, lease_until=UNTIL, started_at=1, token=1)._replace(queue_state=state)
    return Observed(at * SECOND, actor, "update tool_job", job, blank(job), seen, at * SECOND)


def batch(*later: Event) -> Run:
    """Return a run in which a batch of two jobs is claimed, and the first is done after a second."""
    began = [rows(1, each, P, QueueState.ACTIVE) for each in ("a", "b")]
    done = [rows(2, "a", R, QueueState.ACTIVE), rows(3, "a", C, QueueState.ACTIVE), rows(3, "b", R, QueueState.ACTIVE)]
    end = rows(900, "z", C, QueueState.COMPLETED)
    scenario = Scenario(audit=AuditPlan("tables_disagree", 60 * SECOND))
    return audited(Run(scenario, "memory", History([*began, *done, *later, end]), ()))


BACK = [rows(700, each, status, QueueState.RETRY) for each, status in (("a", C), ("b", R))]
STANDS = batch(*BACK)
FAILS = batch(rows(4, "b", P, QueueState.RETRY), rows(4, "a", C, QueueState.RETRY))
WAITS = Disagreement(
    Rows(C, QueueState.ACTIVE),
    {"one": Rows(C, QueueState.ACTIVE), "two": Rows(C, QueueState.ACTIVE), "three": Rows(R, QueueState.ACTIVE)},
    75 * SECOND,
)
"""Of a batch of three, two are done and wait for the third."""


def test_two_rows_agree_with_the_record_only_in_the_same_states_for_as_long_and_beside_such_others() -> None:
    assert WAITS.shows(STANDS.history.events, "a")
    assert not WAITS.shows(FAILS.history.events, "a"), "its queue says retry while the tables disagree"
    assert not WAITS.shows(batch(rows(60, "a", C, QueueState.COMPLETED)).history.events, "a"), "for a minute alone"
    alone = batch(rows(4, "b", C, QueueState.COMPLETED)).history.events
    assert not WAITS.shows(alone, "a"), "no other job of its batch is at work"
    assert [*WAITS.stand_ins(STANDS.history.events, "a", 63 * SECOND)] == [("b", Rows(R, QueueState.ACTIVE), ["three"])]
    assert WAITS._replace(batch={"one": WAITS.own}).shows(batch(rows(4, "b", C, QueueState.ACTIVE)).history.events, "a")


def test_rows_come_to_stand_so_as_soon_after_the_claim_as_in_the_record() -> None:
    late = [rows(700, each, status, QueueState.RETRY) for each, status in (("a", C), ("b", P))]
    back = Disagreement(
        Rows(C, QueueState.RETRY), {"one": Rows(C, QueueState.RETRY), "two": Rows(P, QueueState.RETRY)}, 70
    )
    for since, lease, shows in ((75, UNTIL, False), (590, UNTIL, True), (75, 9 * UNTIL, True)):
        stood = back._replace(since_claim=since * SECOND)
        incident = Incident.of({"tables_disagree"}, [], [], others=[], disagreement=stood)
        goal = IncidentGoal(replace(incident, lease=UNTIL), lease, HOUR)
        assert goal.stands(batch(*late), "a") is shows
        assert goal.stands(FAILS, "a")


def test_of_a_batch_that_waits_its_worker_or_the_work_of_the_last_is_the_likely_cause() -> None:
    incident = Incident.of({"tables_disagree"}, [], [rows(3, "a", C, QueueState.ACTIVE)], others=[], disagreement=WAITS)
    assert incident.likely[:3] == (DIED, PAUSED, LONG)
    jobs = IncidentGoal(incident, 10, HOUR).plan_run
    drawn = Drawn(Scenario(), FaultPlan())
    plans = [
        jobs(drawn, policy_of(Strategy.POS, each, application=True), settings=Settings(), seed=each)
        for each in range(6)
    ]
    assert {len(plan.scenario.jobs) for plan, _ in plans} == {2, 3}, "one job alone is no batch"
    assert {plan.scenario.audit for plan, _ in plans} == {AuditPlan("tables_disagree", HOUR)}


def test_what_was_short_in_the_record_is_short_in_a_run_with_the_same_claims() -> None:
    told = [change(0, "one", None, P), change(2 * SECOND, "one", P, R), change(3 * SECOND, "one", R, C)]
    incident = replace(of(told), lease=UNTIL)
    anomalies = (Anomaly("stale_complete", "fenced", 1, 2, "a", ""),)
    late = [told[0], *(event._replace(at=event.at + UNTIL) for event in told[1:])]  # type: ignore[union-attr]
    for lease, agrees in ((UNTIL, False), (10 * UNTIL, True)):
        goal = IncidentGoal(incident, lease, HOUR)
        assert goal.agrees(replace(run(*told), anomalies=anomalies), "stale_complete")
        assert goal.agrees(replace(run(*late), anomalies=anomalies), "stale_complete") is agrees


def test_an_audit_that_a_scenario_asks_for_fails_it_while_the_tables_disagree() -> None:
    (stands,) = [each for each in STANDS.anomalies if each.job == "a"]
    assert (stands.name, stands.at // SECOND, stands.others) == ("tables_disagree", 63, ("b",))
    assert stands.message == "tool_job says COMPLETED, the queue active"
    assert STANDS.history.events[stands.event].at == 3 * SECOND
    settled = batch(rows(4, "a", C, QueueState.COMPLETED), rows(5, "b", C, QueueState.COMPLETED))
    assert settled.anomalies == ()
    of_b = replace(STANDS.scenario, audit=AuditPlan("tables_disagree", 60 * SECOND, "b"))
    assert audited(replace(STANDS, scenario=of_b, anomalies=())).found == {"tables_disagree"}
    assert audited(replace(STANDS, scenario=Scenario(), anomalies=())).anomalies == (), "nothing was asked for"


def test_the_source_of_rows_that_part_is_what_wrote_a_row_before_the_batch_went_back_or_its_worker_was_struck() -> None:
    def moved(verb: str, job: str, was: Status, now: Status) -> Event:
        return Observed(1, "w1", verb, job, blank(job, was), blank(job, now), 1)

    started, failed = moved("update tool_job", "b", P, R), moved("update tool_job", "b", R, P)
    fault = Fault(2, "w1", "crash", {"at": "running b"})
    info = replace(MemoryEngine().info, written=lambda gate, sql: WrittenSource(f"{gate}, sent at run-job.ts:{sql}"))
    sent = tuple((place, Sent("w1", "update tool_job", line)) for place, line in enumerate(("18", "34")))
    for events, told in (
        ([started, failed, moved("with deleted_jobs", "a", C, C)], "34 (b), then the batch went back"),
        ([started, fault], "18 (b), then w1 crashes"),
    ):
        found = (Anomaly("tables_disagree", "tables_agree", 60, len(events) - 1, "a", ""),)
        source = with_source(
            replace(run(*STALE), history=History(events), statements=sent, anomalies=found), info
        ).source
        assert source is not None
        assert source.title == f"update tool_job, sent at run-job.ts:{told}"


@pytest.mark.parametrize(("left", "shrinks"), [(0.0, False), (inf, True)])
def test_a_run_of_an_incident_is_made_smaller_in_half_of_the_time_that_is_left(left: float, shrinks: bool) -> None:
    class Left(SearchTime):
        @property
        def left(self) -> float:
            return left

    engine, name = open_engine("memory+claims-running-job"), "concurrent_execution"
    shown = next(each for each in map(Sampler(engine).sample, range(200)) if name in each.found)
    goal = IncidentGoal(Incident(frozenset({name}), ()), 10, HOUR)
    finding, _ = Sampler(engine, goal=goal, time=Left()).shrink(shown, name, seed=0, runs=1)
    assert (finding.shrink_runs > 0) is shrinks


def test_a_change_of_a_recorded_incident_is_judged_by_its_own_job() -> None:
    other = Anomaly("tables_disagree", "tables_agree", 1, 1, "b", "")
    grave = Anomaly("attempt_overrun", "attempts", 1, 1, "b", "")
    asked = Counterfactual(STANDS.scenario, "tables_disagree", MemoryEngine(), job="a")
    assert not asked.shows(replace(STANDS, anomalies=(other, grave)))
    assert asked.shows(STANDS)
    assert replace(asked, scenario=Scenario()).shows(replace(STANDS, anomalies=(other,)))


def test_another_job_of_its_batch_that_takes_long_is_tried_in_the_place_of_a_fault() -> None:
    found = Scenario(jobs=(JobPlan("a"), JobPlan("b")), tape=(Deviation("w1 running b", 1, "crash"),))
    tried = [*LONG.in_place_of(found)]
    assert [causes_of(each) for each in tried] == [[LONG], [LONG]]
    assert [causes_of(each) for each in FAILED.in_place_of(found)] == [[FAILED], [FAILED]]


def span(worker: str, number: int, began: int, ended: int) -> dict[str, Any]:
    named = {"messaging.message.id": "invoice-7"}
    own = {
        "traceId": "01", "spanId": f"0{number}", "name": "run", "kind": 5, "attributes": attributes(named),
        "startTimeUnixNano": f"{DAY + began}000000000", "endTimeUnixNano": f"{DAY + ended}000000000",
    }  # fmt: skip
    scopes = [{"spans": [own]}]
    return {"resource": {"attributes": attributes({"service.instance.id": worker})}, "scopeSpans": scopes}


def attributes(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": value}} for name, value in values.items()]


@pytest.fixture
def spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "spans.json"
    file.write_text(json.dumps({"resourceSpans": [span("worker-1", 1, 0, 90), span("worker-2", 2, 60, 65)]}))
    return file


def test_spans_of_two_runs_at_once_become_a_scenario(spans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = "memory+claims-running-job"
    assert main(["reproduce", str(spans), "--target", target, "--runs", "400", "--save", "found.yaml"]) == 1
    told = capsys.readouterr().out
    assert f"Incident: concurrent_execution of the job invoice-7 in the spans of {spans.name}" in told
    assert "Not recorded, so the search may choose: how long a claim lasts" in told
    assert "Fixed by: the right queue" in told
    rows = re.findall(r"  (worker-\d)  a run \w+ +t\S+ +(w\d)", told.partition("What was recorded of")[2])
    assert [recorded for recorded, _ in rows] == ["worker-1", "worker-2"]
    assert rows[0][1] != rows[1][1], "each recorded worker is one actor of the run"
    assert "not in the run" not in told
    assert main(["run", "found.yaml"]) == 1


def test_a_right_queue_is_not_blamed(spans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", str(spans), "--target", "memory", "--runs", "20"]) == 3
    told = capsys.readouterr().out
    assert "inconclusive: no run of memory agrees with this record (20 runs" in told
    assert "To decide it, record: a span for each run" in told


def test_what_was_given_is_not_asked_for() -> None:
    assert what_decides("tables_disagree").startswith("rows with id, status, partner; or a log")
    assert what_decides("tables_disagree", beside_rows=True).startswith("a log of changes")


def test_no_kind_of_record_is_advised_twice() -> None:
    assert [name for name in ANOMALIES if what_decides(name).count("audit --install") != 1] == []


def test_a_record_without_an_anomaly_is_nothing_to_reproduce(spans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spans.write_text(json.dumps({"resourceSpans": [span("worker-1", 1, 0, 90)]}))
    assert main(["reproduce", str(spans), "--target", "memory"]) == 3
    assert "the record shows no anomaly" in capsys.readouterr().out
    assert main(["reproduce", str(spans), "--target", "memory", "--anomaly", "job_stuck"]) == 2
    assert main(["reproduce", "--target", "memory"]) == 2
    assert main(["reproduce", str(spans), "--target", "test_a.py::test_b"]) == 2
    assert "a test makes jobs of its own" in capsys.readouterr().err


def test_what_to_record_is_the_least_that_shows_more(capsys: pytest.CaptureFixture[str]) -> None:
    told = "\n".join(advice({"id", "status", "attempts", "created_at"}, table="mail.yaml", changes=False))
    assert "To see stale_* there, give each process a name of its own" in told
    assert "Add max_attempts to see attempt_overrun." in told
    assert "Add started_at to see job_never_run." in told
    assert ways("attempt_overrun")[0] == "rows with id, status, attempts, max_attempts"
    assert {*ROWS_SHOW, *SHOWN_BY_LOG, *SHOWN_BY_SPANS} <= ANOMALIES.keys(), "or no search is for them"
    assert main(["explain", "double_claim"]) == 0
    assert "a log of changes (audit --install) with id, status, lease_until" in " ".join(
        capsys.readouterr().out.split()
    )
    assert main(["audit", "--what-to-record", "pgboss"]) == 0
    assert "Add unique_key to see unique_key_shared." in capsys.readouterr().out


def test_another_cause_is_tried_at_the_gate_where_the_one_that_was_found_struck() -> None:
    found = Scenario(tape=(Deviation("w1 claim", 2, "w2 first"), Deviation("api insert pgboss.job", 1, "crash")))
    tried = [each.tape for each in UNHEARD.in_place_of(found)]
    assert [tape[1].option for tape in tried][:2] == ["lose request", "lose reply"]
    assert {tape[0] for tape in tried} == {found.tape[0]}
    assert {tape[1][:2] for tape in tried} == {("api insert pgboss.job", 1)}
    assert not [*UNHEARD.in_place_of(Scenario())]


def test_of_a_job_that_no_worker_had_a_fault_first_strikes_who_was_to_hand_it_on() -> None:
    struck = []
    for seed in range(40):
        choices = OneFaultChoices(
            seed, frozenset({"crash"}), jobs=frozenset({"a"}), lengths=frozenset(), places=UNCLAIMED
        )
        for label in ("api insert tool_job", "w1 poll", "api insert pgboss.job", "w2 poll", "w1 claim a"):
            choices.gate(label, lambda: [Option("crash", "crash")])
        struck += [each.label for each in choices.tape]
    assert sum(label.startswith("api ") for label in struck) > len(struck) // 2


def test_every_cause_that_a_result_names_is_explained() -> None:
    for cause in CAUSES:
        assert cause.tells in " ".join(find_explanation(cause.words))


def told_by(*stories: list[Event], until: int = 2**62) -> list[Chain]:
    lives = [life_at(story, until) for story in stories]
    return [record(*life, until=until, complete=not changes_lost(life)) for life in lives]


def test_a_log_that_lost_a_change_allows_others_in_its_place() -> None:
    lost = [*STALE[:2], *STALE[3:]]
    assert changes_lost(STALE) == 0
    assert changes_lost(lost) == 1
    assert fit([record(*lost)], run(*STALE), "a").facts == 2, "taken for all that happened, it fits no run"
    assert fit(told_by(lost), run(*STALE), "a").facts == 4


def test_of_several_jobs_with_one_id_only_the_one_of_the_incident_is_looked_for() -> None:
    first = [change(0, "sender", None, P), change(1, "one", P, R, token=1), change(2, "one", R, C, token=1)]
    gone = change(3, "reaper", C, None)
    later = [event._replace(at=event.at + 10) for event in STALE]  # type: ignore[union-attr]
    again = [change(30, "sender", None, P)]
    assert life_at([*first, gone, *later, *again], 14) == later
    assert life_at([*first, gone, *later, *again], 2) == [*first, gone]
    chains = told_by([*first, gone, *later], until=14)
    assert fit(chains, run(*STALE), "a").facts == len(chains[0].facts) == 5


def test_events_that_are_told_twice_change_nothing_that_is_looked_for() -> None:
    twice = [event for event in STALE for _ in range(2)]
    assert told_by(twice)[0].facts == told_by(STALE)[0].facts


def test_two_sources_whose_clocks_disagree_fit_one_run() -> None:
    effects = [
        Effect(at, who, "a", 1, 1, name, "success")
        for at, who, name in ((1, "one", "started"), (4, "one", "ended"), (3, "two", "started"))
    ]
    spans = [event._replace(at=event.at - 90) for event in sorted(effects, key=lambda each: each.at)]
    events = sorted([*STALE, *effects], key=lambda each: each.at)  # type: ignore[type-var, union-attr]
    shown = run(*events)
    for chains in ([record(*STALE), record(*spans, complete=False)], [record(*spans, complete=False), record(*STALE)]):
        assert fit(chains, shown, "a").facts == 8, "by order alone: no clock is shared"


def test_an_overlap_that_clocks_alone_may_explain_is_nothing_to_reproduce(
    spans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = span("api", 3, 70, 71)
    sent["scopeSpans"][0]["spans"][0]["kind"] = 4
    failed = span("worker-1", 1, 0, 90)
    failed["scopeSpans"][0]["spans"][0]["status"] = {"code": 2}
    ahead = [failed, sent, span("worker-2", 2, 60, 65)]
    spans.write_text(json.dumps({"resourceSpans": ahead}))
    assert main(["reproduce", str(spans), "--target", "memory+claims-running-job"]) == 3
    told = " ".join(capsys.readouterr().out.split())
    assert "not judged because clocks alone may explain it: 1 overlap of runs, such as of the job invoice-7" in told
    assert "clocks of hosts differ by at least 1m10s: worker-1 began the job invoice-7" in told
