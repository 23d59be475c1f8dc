"""An audit without a database: changes become events, spans become runs, and what is judged of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from job_harness.core.history.event import Call, Effect, Event, Observed, Phase, Return
from job_harness.core.history.jsonl import dump_history
from job_harness.core.history.outcome import Outcome, done
from job_harness.core.model.duration import HOUR, MINUTE, SECOND
from job_harness.core.model.job import JobView
from job_harness.core.model.lifecycle import QueueState, Status
from job_harness.core.port import JobRequest
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.document import ScenarioError
from job_harness.doors.cli import main
from job_harness.doors.cli.job_tables import described
from job_harness.errors import UsageError
from job_harness.report.json_report import schema
from job_harness.report.screen import moment
from job_harness.review.audit.database import (
    _OF_CHANGES,
    ROWS_SHOW,
    SHOWN_BY_LOG,
    _changes,
    _LogReader,
    _rejoined,
    _silent,
    _wanted,
    life_of,
    rows_evidence,
)
from job_harness.review.audit.evidence import NEVER, Chronicle, Evidence, blank
from job_harness.review.audit.job_table import DescribedTable, Reading, job_table, known_tables, read_table
from job_harness.review.audit.judging import STOPPED, Audit, Auditor

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "examples/queues/mail.sql"
SCHEMA_OF_REPORTS = schema()
T = 1_700_000_000 * SECOND


# changes of rows ------------------------------------------------------------------------------------------------------


def view(status: str, **known: Any) -> JobView:
    return blank("a", Status(status), created_at=T, start_after=T, max_attempts=3, **known)


def found(*changes: tuple[int, str, JobView | None, JobView | None], now: int = T) -> set[str]:
    """Judge changes: (seconds, writer, before, after)."""
    chronicle = Chronicle()
    events: list[Event] = []
    for seconds, writer, before, after in changes:
        events += chronicle.change(T + seconds * SECOND, writer, before, after)
    evidence = Evidence("a test", frozenset(SHOWN_BY_LOG), {}, lambda jobs: iter(events), lambda: now)
    auditor = Auditor(evidence)
    auditor.take(events)
    return {finding.name for finding in auditor.finish().findings}


WAITS = view("PENDING")
RUNS = view("PROCESSING", attempts=1, token=1, worker="w1", started_at=T, lease_until=T + 60 * SECOND)
AGAIN = view("PENDING", attempts=1, token=1)
RUNS_2 = view("PROCESSING", attempts=2, token=2, worker="w2", started_at=T + 70 * SECOND, lease_until=T + 130 * SECOND)
DONE = view("COMPLETED", attempts=2, token=2, started_at=T + 70 * SECOND, completed_at=T + 80 * SECOND)
BACK = view("PENDING", attempts=2, token=2)
SENT = (0, "api", None, WAITS)
CLAIMED = (0, "w1", WAITS, RUNS)
TAKEN_BACK = (65, "cron", RUNS, AGAIN)
CLAIMED_2 = (70, "w2", AGAIN, RUNS_2)


def test_the_jobs_of_a_queue_file_and_of_a_system_file_are_tables(tmp_path: Path) -> None:
    queue, system = ROOT / "examples/queues/mail.yaml", ROOT / "examples/python-app/system.yaml"
    table = described(str(queue))
    assert (table.columns["id"], table.columns["token"]) == ("job.key", "job.token")
    assert "input" not in table.columns
    assert table.status["running"] is Status.PROCESSING
    assert table.rows.startswith("(SELECT name AS id, id AS key, ")
    assert described(str(system)).columns["lease_until"] == "job.lease_until"
    asking = tmp_path / "queue.yaml"
    text = re.sub("^schema: .*", "schema: CREATE TABLE t ();", queue.read_text(encoding="utf-8"), flags=re.MULTILINE)
    asking.write_text(text.replace("locked_until AS lease_until", "now() + :lease AS lease_until"))
    with pytest.raises(UsageError, match="only a run has a value for :lease"):
        described(str(asking))
    assert described(str(ROOT / "examples/guide-app/system.yaml")) == job_table("tool_job")
    with pytest.raises(UsageError, match=r"these jobs are in SQS, and an audit reads tables of PostgreSQL"):
        described(str(ROOT / "examples/sqs-app/system.yaml"))


def test_what_a_queue_file_expects_is_not_judged_and_the_reason_is_said(tmp_path: Path) -> None:
    text = (ROOT / "examples/queues/mail.yaml").read_text(encoding="utf-8").replace("mail.sql", str(SCHEMA))
    path = tmp_path / "queue.yaml"
    path.write_text(f"{text}\nwithout: {{attempt_overrun: retried by hand}}\n")
    nothing: Any = SimpleNamespace(reading=lambda table, notes: None, place="a database", now=T)

    assert rows_evidence(nothing, described(str(ROOT / "examples/queues/mail.yaml"))).shows >= {"attempt_overrun"}
    evidence = rows_evidence(nothing, described(str(path)))
    assert evidence.shows == {"job_stuck"}
    assert evidence.silent["attempts_bounded"] == f"{path} expects attempt_overrun: retried by hand"


def test_a_right_life_with_a_lost_lease_shows_nothing() -> None:
    assert found(SENT, CLAIMED, TAKEN_BACK, CLAIMED_2, (80, "w2", RUNS_2, DONE)) == set()


def test_a_result_of_a_worker_whose_claim_was_taken_back() -> None:
    assert found(SENT, CLAIMED, TAKEN_BACK, CLAIMED_2, (80, "w1", RUNS_2, DONE)) == {"stale_complete"}


def test_whoever_never_held_the_job_is_not_called_stale() -> None:
    assert found(SENT, CLAIMED, TAKEN_BACK, CLAIMED_2, (80, "api", RUNS_2, DONE)) == set()


def test_a_former_holder_may_take_back_what_is_overdue() -> None:
    waits_again = view("PENDING", attempts=2, token=2)
    assert found(SENT, CLAIMED, TAKEN_BACK, CLAIMED_2, (140, "w1", RUNS_2, waits_again)) == set()
    assert found(SENT, CLAIMED, TAKEN_BACK, CLAIMED_2, (90, "w1", RUNS_2, waits_again)) == {"stale_fail"}


def test_a_claim_on_what_another_holds() -> None:
    taken = RUNS._replace(attempts=2, token=2, worker="w2", started_at=T + 5 * SECOND)
    assert found(SENT, CLAIMED, (5, "w2", RUNS, taken)) == {"double_claim"}


def test_a_job_that_had_ended_comes_back() -> None:
    assert found(SENT, CLAIMED, TAKEN_BACK, CLAIMED_2, (80, "w2", RUNS_2, DONE), (90, "w1", DONE, BACK)) == {
        "terminal_job_revived"
    }


def test_an_operator_may_retry_what_failed() -> None:
    failed = view("FAILED", attempts=2, token=2, completed_at=T + 80 * SECOND)
    fresh = view("PENDING", attempts=0, token=2)
    assert (
        found(SENT, CLAIMED, TAKEN_BACK, CLAIMED_2, (80, "w2", RUNS_2, failed), (90, "admin", failed, fresh)) == set()
    )


def test_more_deliveries_than_allowed() -> None:
    third = RUNS_2._replace(attempts=4, token=3)
    assert "attempt_overrun" in found(SENT, CLAIMED, TAKEN_BACK, (70, "w2", AGAIN._replace(attempts=3), third))


def test_a_job_that_is_deleted_while_it_runs() -> None:
    assert found(SENT, CLAIMED, (5, "api", RUNS, None)) == {"live_job_deleted"}


def test_a_job_that_goes_back_with_its_attempt_was_released() -> None:
    released = WAITS._replace(token=1)
    assert found(SENT, CLAIMED, (5, "w1", RUNS, released)) == set(), "a worker that stops gives its attempt back"
    assert found(SENT, CLAIMED, (65, "cron", RUNS, released)) == set()
    claimed = (5, "w2", RUNS, RUNS_2), (8, "w1", RUNS_2, RUNS_2._replace(status=Status.PENDING, attempts=1))
    assert "stale_release" in found(SENT, CLAIMED, *claimed)
    assert "attempts_changed" in found(SENT, CLAIMED, (5, "w1", RUNS, WAITS._replace(attempts=3)))


def test_stuck_is_what_stands_long_after_its_lease() -> None:
    assert found(SENT, CLAIMED, now=T + 60 * SECOND + HOUR) == set()
    assert found(SENT, CLAIMED, now=T + 61 * SECOND + HOUR) == {"job_stuck"}


def test_a_waiting_job_is_passed_over_only_where_later_ones_were_claimed() -> None:
    b = blank("b", created_at=T, start_after=T + 3 * HOUR)
    b_runs = b._replace(status=Status.PROCESSING, worker="w", token=1, attempts=1, started_at=b.start_after)
    later = ((0, "api", None, b), (3 * 3600, "w", b, b_runs))
    assert found(SENT, now=T + 100 * HOUR) == set()
    assert found(SENT, *later, now=T + 3 * HOUR + 1) == {"job_never_run"}


def test_an_audit_that_finds_too_much_says_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job_harness.review.audit.judging.MOST_ANOMALIES", 1)
    early = [RUNS._replace(id=job, start_after=T + HOUR) for job in "bc"]
    chronicle = Chronicle()
    events = [event for each in early for event in chronicle.change(T, "w", each._replace(status=Status.PENDING), each)]
    auditor = Auditor(Evidence("log", frozenset(SHOWN_BY_LOG), {}, lambda jobs: iter(events), lambda: T + 9 * HOUR))
    auditor.take(events)
    audit = auditor.finish()
    assert {each.name for each in audit.findings} == {"claimed_early"}, "what ended b may not have been read"
    assert audit.notes == (STOPPED,)


def test_what_a_source_cannot_show_is_not_reported_and_the_verdict_says_so() -> None:
    evidence = Evidence("nothing", frozenset(), {"fenced": "why"}, lambda jobs: iter(()), lambda: T)
    audit = Auditor(evidence).finish()
    assert audit.verdict is Verdict.INCONCLUSIVE
    assert audit.not_judged == (("fenced", "why"),)


# rows as they stand ---------------------------------------------------------------------------------------------------


def standing(*views: JobView, now: int = T + 10 * HOUR) -> Audit:
    """Judge rows, in this order."""
    chronicle = Chronicle()
    events = [event for view in views for event in life_of(view, chronicle, worker="w")]
    auditor = Auditor(Evidence("rows", frozenset(ROWS_SHOW), {}, lambda jobs: iter(events), lambda: now))
    auditor.take(events)
    return auditor.finish()


def test_of_two_rows_that_disagree_the_jobs_of_the_same_batch_are_named() -> None:
    ends = T + 11 * HOUR
    done = DONE._replace(queue_state=QueueState.ACTIVE, lease_until=ends)
    runs = RUNS._replace(id="b", lease_until=ends)
    other = RUNS._replace(id="c", lease_until=ends + 1)
    (found,) = standing(done, runs, other).findings
    assert (found.name, found.batch) == ("tables_disagree", "b (PROCESSING, queue active); their claims end in 1h")
    back = [
        each._replace(queue_state=QueueState.RETRY)
        for each in (done, view("PENDING", lease_until=ends)._replace(id="b"))
    ]
    assert standing(*back).findings[0].batch == "b (PENDING, queue retry)"
    assert standing(done, other).findings[0].batch == ""


def test_a_row_with_more_attempts_than_allowed_is_found_in_every_status_with_or_without_a_start() -> None:
    def overrun(status: str, **known: Any) -> list[str]:
        row = view(status, attempts=6, **known)._replace(max_attempts=4)
        events = [*life_of(row, Chronicle(), worker="w")]
        auditor = Auditor(Evidence("rows", frozenset(ROWS_SHOW), {}, lambda jobs: iter(events), lambda: T))
        auditor.take(events)
        return [finding.first.message for finding in auditor.finish().findings]

    statuses = ("PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED")
    assert [overrun(status) for status in statuses] == [["it has 6 attempts of at most 4"]] * len(statuses)
    times = {"started_at": T + SECOND, "completed_at": T + MINUTE}
    assert overrun("COMPLETED", **times) == ["a claim made attempts 6 of at most 4"]
    assert overrun("FAILED", **times) == ["a claim made attempts 6 of at most 4"]
    assert overrun("PENDING", started_at=T) == ["it has 6 attempts of at most 4"]


def test_a_key_of_rows_is_shared_by_those_that_are_unfinished_now() -> None:
    keyed = view("PENDING", unique_key="k")._replace(created_at=T + 2 * HOUR, start_after=T + 2 * HOUR)
    done = DONE._replace(id="b", unique_key="k")
    for rows in ((keyed, done), (done, keyed)):
        audit = standing(*rows)
        assert audit.findings == (), "one had ended long before the other was sent"
        assert (audit.first, audit.last) == (T, T + 2 * HOUR)
    shared = standing(keyed, done, keyed._replace(id="c")).findings
    assert [(each.name, each.jobs) for each in shared] == [("unique_key_shared", 1)]


def test_a_start_time_of_a_job_that_ended_otherwise_is_that_of_its_next_retry() -> None:
    later = RUNS._replace(start_after=T + HOUR)
    ended = [view(name, attempts=1, started_at=T)._replace(id=name) for name in ("FAILED", "CANCELLED")]
    ended = [each._replace(start_after=T + HOUR, completed_at=T + 1) for each in ended]
    assert standing(*ended).findings == ()
    verbs = [event.verb for event in life_of(ended[0], Chronicle(), worker="w") if isinstance(event, Observed)]
    assert verbs == ["enqueue", "claim", "update"], "a row does not say whether its worker failed it"
    assert {each.name for each in standing(later, now=T).findings} == {"claimed_early"}
    assert standing(later._replace(start_after=T + SECOND), now=T).findings == (), "times are kept to the second"


def test_a_claim_of_unknown_time_is_stuck_by_its_end_and_waits_for_nothing() -> None:
    ends, endless = (RUNS._replace(id=name, started_at=None) for name in ("ends", "endless"))
    other = RUNS._replace(id="other", start_after=T + 9 * HOUR, started_at=T + 9 * HOUR, lease_until=T + 11 * HOUR)
    stuck = standing(ends, endless._replace(lease_until=None), other).findings
    assert [(each.name, each.first.job, each.jobs) for each in stuck] == [("job_stuck", "ends", 1)]
    assert stuck[0].first.message == "it is PROCESSING, and its claim ended 9h59m ago"
    [late] = standing(ends, other, now=T + 10 * HOUR + 123).findings
    assert late.story.anomalies[0].at == 10 * HOUR, "the time of the audit needs no microseconds"
    told = "not judged for job_stuck: 1 PROCESSING job without started_at and lease_until"
    assert told in standing(ends, endless._replace(lease_until=None), other).notes


def test_a_job_that_is_older_than_its_log_is_counted_where_it_is_first_met() -> None:
    chronicle = Chronicle()
    changes = [("w1", WAITS, RUNS), ("cron", RUNS, AGAIN), ("w2", AGAIN, RUNS_2), ("w2", RUNS_2, DONE)]
    events = [event for who, old, new in changes for event in chronicle.change(T, who, old, new)]
    auditor = Auditor(Evidence("a log", frozenset(SHOWN_BY_LOG), {}, lambda jobs: iter(events), lambda: T))
    auditor.take(events)
    assert auditor.finish().jobs == 1


def test_when_a_job_ended_is_judged_only_where_it_says_so() -> None:
    bare = [DONE._replace(id=str(n), **{name: None}) for n, name in enumerate(("started_at", "completed_at"))]
    audit = standing(*bare, view("PENDING"))
    assert audit.findings == ()
    told = "not judged for completed_before_started: 2 jobs without started_at or completed_at (0, 1)"
    assert told in audit.notes
    assert standing(DONE._replace(completed_at=T)).findings[0].name == "completed_before_started"
    [contradicts] = standing(bare[0], *(DONE._replace(id=name) for name in "xyz")).findings
    assert (contradicts.name, contradicts.first.job) == ("completed_before_started", "0")
    assert contradicts.first.message == "it is COMPLETED, and started_at is empty", "most rows have it"


def test_two_rows_that_differ_but_changed_lately_are_said_not_to_be_judged() -> None:
    apart = RUNS._replace(queue_state=None)
    audit = standing(apart, now=T + HOUR // 2)
    assert audit.findings == ()
    assert any(note.startswith("not judged for tables_disagree and orphan_row: 1 job whose") for note in audit.notes)
    later = standing(apart, now=T + 2 * HOUR)
    assert {each.name for each in later.findings} & {"tables_disagree", "orphan_row"}
    assert not any("two rows differ" in note for note in later.notes)


def test_a_time_that_is_unknown_is_no_time() -> None:
    waits = blank("waits", Status.PENDING)
    apart = blank("apart", Status.PENDING)._replace(queue_state=None)
    claimed = RUNS._replace(id="c", start_after=T + 9 * HOUR, started_at=T + 9 * HOUR, lease_until=T + 11 * HOUR)
    audit = standing(waits, apart, claimed)
    assert audit.findings == (), "it was due for 20787d18h"
    assert "not judged for job_never_run: 2 PENDING jobs without created_at and start_after" in audit.notes
    ended = view("FAILED", attempts=1, started_at=T + SECOND, completed_at=T + 2 * SECOND)._replace(created_at=0)
    assert next(event.at for event in life_of(ended, Chronicle(), worker="w")) == T, "the first time that is known"


def test_what_has_happened_after_the_audit_is_a_wrong_clock() -> None:
    ahead = DONE._replace(completed_at=T + 10 * HOUR + 5 * MINUTE)
    assert standing(ahead).notes == (), "clocks differ by a little"
    assert standing(ahead._replace(completed_at=T + 15 * HOUR), DONE._replace(id="b")).notes == (
        "a clock or a time zone is wrong: completed_at of the job a is 5h after the time of this audit",
    )


@pytest.mark.parametrize(
    ("table", "state"),
    [
        ("river", "job.state = 'pending'"),
        ("oban", "job.state = 'suspended'"),
        ("bullmq-jobs", "job.state::text = 'waiting-children'"),
    ],
)
def test_a_job_that_waits_for_another_s_doing_is_never_due(table: str, state: str) -> None:
    assert f"WHEN {state} THEN 'infinity'" in job_table(table).columns["start_after"]
    held = view("PENDING")._replace(id="held", start_after=NEVER)
    other = RUNS._replace(id="other", start_after=T + 9 * HOUR, started_at=T + 9 * HOUR, lease_until=T + 11 * HOUR)
    assert standing(held, other).findings == ()
    assert [each.name for each in standing(held._replace(start_after=T), other).findings] == ["job_never_run"]


# descriptions of tables -----------------------------------------------------------------------------------------------


def test_every_known_table_is_described_and_says_what_is_needed() -> None:
    for name in known_tables():
        assert {"id", "status"} <= set(job_table(name).columns), name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "format: 1\njobs: x\ntable: t\ncolumns: {id: job.id}\nstatus: {a: PENDING}",
            "t.yaml:4: `columns` lacks status",
        ),
        (
            "format: 1\njobs: x\ntable: t\ncolumns:\n  id: i\n  status: s\n  atempts: a\nstatus: {a: PENDING}",
            "t.yaml:7: ",
        ),
        ("format: 1\njobs: x\ntable: t\ncolumns: {id: i, status: s}\nstatus: {a: RUNNING}", "t.yaml:5: "),
        ("- 1", "t.yaml:1: expected a mapping"),
        ("format: 1\nqueue: x\nclaim: SELECT 1", "t.yaml:1: this is a queue file: it has no `table` and no `columns`"),
        ("format: 1\ntitle: x\njobs: {a: {}}", "t.yaml:1: this describes no table: it has no"),
        ("format: 1\njobs: x\ntable: t\ncolumns: {id: i, status: s}\nstatus: {a: PENDING}\nmore: 1", "t.yaml:6: "),
    ],
)
def test_a_wrong_description_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(Exception, match="t") as raised:
        read_table(text.encode(), "t.yaml", path="t.yaml")
    assert told in str(raised.value)


def test_an_unknown_status_names_the_job_and_the_place() -> None:
    table = DescribedTable("x", "t", "t", {"id": "i", "status": "s"}, {"queued": Status.PENDING}, "t.yaml")
    with pytest.raises(
        Exception, match=r"t\.yaml: `status` does not say what 'queud' means, the status of the job 7 .*queued"
    ):
        table.view({"id": "7", "status": "queud"}, Reading())


def read(**entry: Any) -> JobView | None:
    """Read a row of a table of mails."""
    table = DescribedTable("mail", "t", "t", {}, {"queued": Status.PENDING, "running": Status.PROCESSING})
    return table.view({"id": "7", "status": "queued", **entry}, Reading())


def test_a_time_at_infinity_is_never_or_unknown() -> None:
    for never in ("infinity", "10000-01-01T00:00:00+00:00"):
        parked = read(created_at=never, start_after=never, lease_until=never, completed_at=never)
        assert parked == blank("7", start_after=NEVER, lease_until=NEVER)
        assert standing(parked, RUNS, now=T).findings == ()
    assert read(created_at="1970-01-01T00:00:01+00:00", start_after="-infinity") == blank(
        "7", created_at=SECOND, start_after=SECOND
    )


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"attempts": "k"}, "mail: attempts of the job 7 is 'k', which is not a whole number"),
        ({"priority": 1.5}, "mail: priority of the job 7 is 1.5, which is not a whole number"),
        ({"started_at": 1764208800}, "mail: started_at of the job 7 is 1764208800, which is not a time"),
        ({"lease_until": "0044-03-15T00:00:00+00:00 BC"}, "mail: lease_until of the job 7 is '0044-03-15"),
    ],
)
def test_a_value_that_is_no_number_or_time_names_its_column_and_job(entry: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(**entry)
    assert raised.value.message.startswith(told)
    assert read(attempts=2.0, tool=["a"], unique_key=7) == blank("7", attempts=2, tool="['a']", unique_key="7")


def test_a_time_from_which_on_to_judge_needs_a_time_that_is_described() -> None:
    table = read_table(
        b"format: 1\njobs: x\ntable: x\ncolumns: {id: id, status: s}\nstatus: {a: PENDING}", "x", path="x"
    )
    with pytest.raises(UsageError, match="--since: x describes no time"):
        _wanted(table, T, None)
    where, values = _wanted(job_table("pgboss"), T, None)
    assert where.endswith(" >= to_timestamp(%(since)s) OR (job.state)::text = ANY(%(unfinished)s))")
    assert values["unfinished"] == ["created", "retry", "active"], "what hangs has not changed for long"


@pytest.mark.parametrize("column", ["serial_key", "parent", "depends_on", "group", "dead_of", "schedule"])
def test_an_audit_takes_no_column_of_other_jobs(column: str, tmp_path: Path) -> None:
    file = tmp_path / "mail.yaml"
    file.write_text(
        "format: 1\njobs: mail\ntable: public.mail\nstatus: {done: COMPLETED}\n"
        f"columns: {{id: job.id, status: job.state, {column}: job.other}}\n"
    )

    with pytest.raises(ScenarioError, match=f"unknown column '{column}'"):
        job_table(str(file))


def test_what_is_not_judged_names_the_column_that_is_missing() -> None:
    described = frozenset({"attempts", "lease_until", "output", "error"})
    shows = frozenset(name for name, needed in SHOWN_BY_LOG.items() if needed <= described)
    told = _silent(SHOWN_BY_LOG, shows, described)
    assert told["attempt_overrun"] == "max_attempts is not described"
    assert told["unique_respected"] == "unique_key is not described"
    assert "fenced" not in told
    assert {"failed_only_when_exhausted", "completed_with_error"} <= told.keys()
    alone = Evidence("rows", frozenset({"unique_key_shared"}), {}, lambda jobs: iter(()), lambda: T).of_one_job()
    assert (alone.shows, [*alone.silent]) == (frozenset(), ["unique_key_shared"])


# spans ----------------------------------------------------------------------------------------------------------------


def span(job: str, began: float, ended: float, *, worker: str = "w1", kind: int = 5, code: int = 0, **more: Any) -> Any:
    """Return a group of one span; times are seconds."""
    attributes = [{"key": "messaging.message.id", "value": {"stringValue": job}}] if job else []
    attributes += [{"key": key, "value": {"stringValue": value}} for key, value in more.items()]
    number = f"{job}-{began}-{worker}-{kind}"
    start, end = (str(1_700_000_000_000_000_000 + int(at * 1e9)) for at in (began, ended))
    one = {"traceId": "t", "spanId": number, "name": "process", "kind": kind, "startTimeUnixNano": start}
    one |= {"endTimeUnixNano": end, "attributes": attributes, "status": {"code": code}}
    resource = {"attributes": [{"key": "service.instance.id", "value": {"stringValue": worker}}]}
    return {"resource": resource, "scopeSpans": [{"spans": [one]}]}


def audited(tmp_path: Path, *groups: Any, options: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    file = tmp_path / "spans.json"
    file.write_text("".join(json.dumps({"resourceSpans": [group]}) + "\n" for group in groups))
    code = main(["audit", str(file), "--json", str(tmp_path / "out.json"), *options])
    told: dict[str, Any] = json.loads((tmp_path / "out.json").read_text()) if (tmp_path / "out.json").exists() else {}
    return code, told


def names(told: dict[str, Any]) -> dict[str, int]:
    jsonschema.validate(told, SCHEMA_OF_REPORTS)
    return {finding["anomaly"]: finding["jobs"] for source in told["sources"] for finding in source["findings"]}


def test_two_runs_of_a_job_at_once_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, first = "7986907f-e917-4d78-87f2-daf0e4ba2d0f", "worker-of-the-first-region-1"
    code, told = audited(tmp_path, span(job, 0, 10, worker=first), span("b", 0, 10), span(job, 5, 12, worker="w2"))
    assert (code, names(told)) == (1, {"concurrent_execution": 1})
    shown = capsys.readouterr().out
    assert "\njob 7986907f-e… sender               worker-of-the-first… w2\n" in shown, "no name touches the next"
    assert f"w2 starts it while {first} still runs it" in shown.replace("\n      ", " ")
    assert "Not judged: no_lost_job: a job without a span may be one that was not sampled" in shown


def test_two_runs_at_once_in_one_process_are_found(tmp_path: Path) -> None:
    assert names(audited(tmp_path, span("a", 0, 10), span("a", 5, 12))[1]) == {"concurrent_execution": 1}


def test_an_overlap_within_the_difference_of_clocks_is_not_judged(tmp_path: Path) -> None:
    early = span("other", -2, 1, worker="w2"), span("other", 0, 0.001, worker="api", kind=4)
    others = span("b", 0, 10), span("b", 9, 12, worker="w3")
    code, told = audited(tmp_path, span("a", 0, 10), span("a", 9, 12, worker="w2", code=0), *early)
    notes = told["sources"][0]["notes"]
    assert notes[0] == "clocks of hosts differ by at least 2s: w2 began the job other that long before api sent it"
    assert notes[1].startswith(
        "not judged because clocks alone may explain it: 1 overlap of runs, such as of the job a:"
    )
    assert "concurrent_execution" not in names(told)
    assert code == 1, "the second run of a job that had succeeded is still told"
    assert names(audited(tmp_path, *early, *others)[1]) == {"concurrent_execution": 1}, "w1 and w3 have the right time"


def test_a_retry_after_a_failure_is_right_and_a_run_after_a_success_is_not(tmp_path: Path) -> None:
    retried = span("a", 0, 1, code=2), span("a", 5, 6), span("c", 0, 1, **{"celery.retry.reason": "x"}), span("c", 2, 3)
    assert audited(tmp_path, *retried)[0] == 0
    code, told = audited(tmp_path, *retried, span("b", 0, 1), span("b", 5, 6, worker="w2"))
    assert (code, names(told)) == (1, {"terminal_job_revived": 1})


def bullmq(began: float, *events: str, queue: str = "mail", worker: str = "w1", own: bool = True) -> Any:
    """Return a group of one span of job 7, as BullMQ writes it or, not `own`, as another instrumentation of it does."""
    names = ("bullmq.job.id", "bullmq.queue.name") if own else ("messaging.message.id", "messaging.destination.name")
    group = span("", began, began + 10, worker=worker, **dict(zip(names, ("7", queue), strict=True)))
    one = group["scopeSpans"][0]["spans"][0]
    one["attributes"] += [] if own else [{"key": "messaging.system", "value": {"stringValue": "bullmq"}}]
    return group if not own else one.update(status={}, events=[{"name": name} for name in events]) or group


def test_a_run_of_bullmq_is_what_its_events_say_and_its_id_is_one_within_its_queue(tmp_path: Path) -> None:
    failed, delayed, done = bullmq(0, "job failed"), bullmq(20), bullmq(40, "job completed")
    assert audited(tmp_path, failed, delayed, done)[0] == 0, "retries: BullMQ sets no status"
    again = audited(tmp_path, failed, done, bullmq(60, "job completed"))[1]
    assert names(again) == {"terminal_job_revived": 1}
    assert again["sources"][0]["findings"][0]["shown"][0]["job"] == "mail:7"
    for own in (True, False):
        runs = [bullmq(0, queue=queue, worker=queue, own=own) for queue in ("mail", "image")]
        assert audited(tmp_path, *runs)[0] == 0, "two jobs of one number"
        assert names(audited(tmp_path, runs[0], bullmq(5, worker="w2", own=own))[1]) == {"concurrent_execution": 1}


@pytest.mark.parametrize("attribute", ["messaging.operation", "messaging.operation.type"])
def test_a_message_that_is_received_and_processed_runs_once(attribute: str, tmp_path: Path) -> None:
    parts = [(-2, 1, "receive"), (0, 10, "process"), (9, 11, "settle"), (8, 9, "create")]
    groups = [span("a", *when, worker=f"w{when[1]}", **{attribute: operation}) for *when, operation in parts]
    code, told = audited(tmp_path, *groups)
    assert code == 0
    assert (
        "not counted as runs, because their jobs have other spans: 1 spans of `receive`" in told["sources"][0]["notes"]
    )
    alone = [span("a", at, 10, worker=f"w{at}", **{attribute: "receive"}) for at in (0, 5)]
    told = audited(tmp_path, *alone)[1]
    assert names(told) == {"concurrent_execution": 1}, "pika's instrumentation calls a run so"


def test_a_span_within_a_run_of_its_job_is_part_of_it_and_one_without_an_id_is_itself(tmp_path: Path) -> None:
    whole, part, beside = span("a", 0, 10, code=2), span("a", 1, 9), span("a", 2, 8, worker="w2")
    spans = [group["scopeSpans"][0]["spans"][0] for group in (whole, part, beside)]
    spans[1]["parentSpanId"] = spans[0]["spanId"]
    code, told = audited(tmp_path, whole, part, span("b", 5, 3))
    assert (code, names(told)) == (0, {})
    notes = told["sources"][0]["notes"]
    assert "not counted as runs, because each is part of a run: 1 spans" in notes
    assert "left out because they have no end: 1 of the consumers' spans" in notes
    for each in spans:
        del each["spanId"]
    assert names(audited(tmp_path, whole, beside)[1])["concurrent_execution"] == 1


def test_a_span_that_stands_there_twice_counts_once(tmp_path: Path) -> None:
    code, told = audited(tmp_path, span("a", 0, 10), span("a", 0, 10))
    assert code == 0
    assert "counted once although the file repeats them: 1 spans" in told["sources"][0]["notes"]


def test_what_stands_before_a_cut_is_judged_and_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, mark = tmp_path / "spans.json", b"\xef\xbb\xbf"
    lines = [json.dumps({"resourceSpans": [span("a", at, 10, worker=f"w{at}")]}).encode() for at in (0, 5)]
    for whole, code in ((lines, 1), (lines[:1], 3)):
        file.write_bytes(mark + b"\n".join([*whole, lines[1][:99]]))
        assert main(["audit", str(file)]) == code
        assert f"Note: line {len(whole) + 1} is incomplete and was left out" in capsys.readouterr().out


def test_spans_in_protobuf_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parse = pytest.importorskip("google.protobuf.json_format", reason="the extra otel is not installed")
    trace_pb2 = pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="the extra otel is not installed")
    groups = [span("a", 0, 10), span("a", 5, 12, worker="w2")]
    for group in groups:
        for one in group["scopeSpans"][0]["spans"]:
            one["traceId"], one["spanId"] = (
                "AAAAAAAAAAAAAAAAAAAAAA==",
                "AAAAAAAA" + ("AAE=" if "w1" in one["spanId"] else "AAI="),
            )
    message = parse.ParseDict({"resourceSpans": groups}, trace_pb2.TracesData())
    file = tmp_path / "spans.pb"
    file.write_bytes(message.SerializeToString())
    assert main(["audit", str(file), "--json", str(tmp_path / "out.json")]) == 1
    assert names(json.loads((tmp_path / "out.json").read_text())) == {"concurrent_execution": 1}
    each = [parse.ParseDict({"resourceSpans": [group]}, trace_pb2.TracesData()).SerializeToString() for group in groups]
    framed = b"".join(len(message).to_bytes(4, "big") + message for message in each)
    file.write_bytes(framed)
    assert main(["audit", str(file), "--json", str(tmp_path / "out.json")]) == 1, "as the collector writes them"
    assert names(json.loads((tmp_path / "out.json").read_text())) == {"concurrent_execution": 1}
    file.write_bytes(framed[:-1])
    assert main(["audit", str(file)]) == 2
    assert "spans.pb:2: this message is not OTLP in protobuf (the file seems to be cut here)" in capsys.readouterr().err


def with_span(one: bytes) -> bytes:
    """Return OTLP with this span."""
    return b'{"resourceSpans": [{"scopeSpans": [{"spans": [' + one + b"]}]}]}"


ONE = (
    b'{"kind": 5, "attributes": [{"key": "job.id", "value": {"stringValue": "a"}}], "startTimeUnixNano": "5000",'
    b' "endTimeUnixNano": "6000", '
)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"resourceSpans": [', "spans.json:1: "),
        (b'{"resourceSpans": []}\n{"resour\n', "spans.json:2: "),
        (b"\x00\x01 nothing", "neither JSON nor OTLP"),
        (b"\xff\xfe", "neither JSON nor OTLP"),
        (b" \n", "spans.json: this file is empty"),
        (b"[1,\n2", "spans.json:2: this is not JSON"),
        (b"[]", "spans.json:1: this is not OTLP"),
        (b'{"resourceSpans": []}\n{"a": ' + b"[" * 99_999, "spans.json:2: it is nested too deeply"),
        (b'{"resourceSpans": [{"scopeSpans": 3}]}', "this is not OTLP"),
        (b'{"resourceSpans": []}', "none of its spans is a run of a job"),
        (b'{"resourceSpans": []}\n\nnull\n', "spans.json:3: this is not OTLP: it is no JSON object"),
        (b'{"resourceSpans": [\n}', "spans.json:2: "),
        (with_span(b"null"), "spans.json:1: this is not OTLP: 'spans' is not a list of objects"),
        (with_span(b'{"kind": 5, "attributes": 3}'), "this is not OTLP: 'attributes' is not a list of objects"),
        (with_span(b'{"kind": 5, "attributes": null}'), "none of its spans is a run of a job (1 name no job)"),
        (with_span(ONE + b'"status": "OK"}'), "this is not OTLP: 'status' is 'OK', not an object"),
        (with_span(ONE + b'"startTimeUnixNano": "2026-01-01T00:00:00Z"}'), "'startTimeUnixNano' is '2026-01-01T"),
        (with_span(ONE + b'"startTimeUnixNano": 1e400}'), "'startTimeUnixNano' is inf, not a number of nanoseconds"),
        (
            with_span(ONE + b'"startTimeUnixNano": -1e30}'),
            "none of its spans is a run of a job (0 name no job, 1 have no",
        ),
        (b"id,status\n1,done\n", "read from their database: name the table, and --database"),
        (b"\x1f\x8b\x08\x00" + bytes(9), "spans.json: this file is compressed\n  Unpack it first"),
        (b'{"batches": []}', "this is not OTLP: it has no `resourceSpans`"),
    ],
)
def test_a_file_that_is_no_otlp_is_told_with_its_line(
    content: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "spans.json"
    file.write_bytes(content)
    assert main(["audit", str(file)]) == 2
    assert told in capsys.readouterr().err


def test_what_has_no_screen_has_its_first_job_and_the_command_for_its_story(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job_harness.doors.cli.audit_command.SCREENS", 0)
    audited(tmp_path, span("a", 0, 10), span("a", 5, 12, worker="w2"))
    shown = capsys.readouterr().out
    assert "FAIL  1 job: concurrent_execution: Two workers run the same job at once.\n" in shown
    assert "  Here: job a, 2023-11-14 22:13:25 UTC: w2 starts it while w1 still runs it\n" in shown
    assert f"  Whole story: job-harness audit {tmp_path / 'spans.json'} --job a\n" in shown
    assert moment(-2858) == "t-0.002858s"


def test_files_of_one_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / folder / "spans.json" for folder in ("a", "b")]
    for file, job in zip(files, ("-a", "b"), strict=True):
        file.parent.mkdir()
        groups = [span("", at, 10, worker=f"w{at}", **{"order.id": job}) for at in (0, 5)]
        file.write_text(json.dumps({"resourceSpans": groups}))
    page, metrics, named = tmp_path / "page.html", tmp_path / "metrics.prom", ("--job-attribute", "order.id")
    sources = [str(file) for file in (*files, files[0])]
    assert main(["audit", *sources, *named, "--html", str(page), "--metrics", str(metrics)]) == 1
    shown = capsys.readouterr().out
    series = [line.rsplit(" ", 1)[0] for line in metrics.read_text().splitlines() if line[0] != "#"]
    assert len(series) == len(set(series)) == 6
    for file, job in zip(files, ("--job=-a", "--job b"), strict=True):
        again = f"job-harness audit {file} --job-attribute order.id {job}"
        assert f"Whole story: {again}\n" in shown
        assert again in page.read_text()
        assert main(again.split()[1:]) == 1
        assert f"fail  the spans of spans.json ({file}): 1 job" in shown
    capsys.readouterr()
    assert main(["audit", *sources, *named, "--job", "b"]) == 1, "the source that knows it is judged, the other named"
    assert f"{files[0]} has no record of the job b." in capsys.readouterr().out
    assert main(["audit", *sources, *named, "--job", "c"]) == 2
    assert f"{files[0]} and {files[1]} have no record of a job 'c'" in capsys.readouterr().err


def test_hostile_text_in_a_job_is_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = '\x1b[31m</script><img src=x onerror=alert(1)>"\n'
    groups = span(hostile, 0, 10, worker=hostile), span(hostile, 5, 12, worker="w2")
    page, metrics = tmp_path / "page.html", tmp_path / "metrics.prom"
    options = ("--html", str(page), "--metrics", str(metrics))
    assert audited(tmp_path, *groups, options=options)[0] == 1
    assert "\x1b" not in capsys.readouterr().out
    assert "<img" not in page.read_text()
    assert 'replay-label">Whole story</span>' in page.read_text(), "nothing replays it"
    assert "concurrent_execution: 1 job; job" in page.read_text(), "the list on top says what is wrong"
    assert "The SQL of a step" not in page.read_text()
    assert metrics.read_text().endswith("# EOF\n")
    assert '{anomaly="concurrent_execution",source="the spans of spans.json"} 1\n' in metrics.read_text()
    assert 'job_harness_audit_incomplete{source="the spans of spans.json"} 0\n' in metrics.read_text()


def test_an_anomaly_is_written_as_a_scenario_that_replays(tmp_path: Path) -> None:
    into = tmp_path / "incidents"
    groups = span("a", 0, 1), span("a", 5, 6, worker="w2")
    assert audited(tmp_path, *groups, options=("--scenarios", str(into)))[0] == 1
    assert main(["run", str(into / "terminal_job_revived.yaml")]) == 0


# a history ------------------------------------------------------------------------------------------------------------


def test_a_history_of_a_wrong_queue_is_judged_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = Path(__file__).parents[2] / "scenarios" / "zombies" / "late_complete.yaml"
    file = tmp_path / "run.jsonl"
    main(["run", str(scenario), "--engine", "memory+stale-complete", "--no-controls", "--history", str(file)])
    assert main(["audit", str(file), "--json", str(tmp_path / "out.json")]) == 1
    assert "stale_complete" in names(json.loads((tmp_path / "out.json").read_text()))
    main(["run", str(scenario), "--no-controls", "--history", str(file)])
    assert main(["audit", str(file)]) == 0
    capsys.readouterr()
    assert main(["audit", str(file), "--since", "1h"]) == 2
    assert "are counted from the start of its run" in capsys.readouterr().err
    main(["audit", str(file), "--job", "a"])
    assert "; t+0s is the job's first event.\n" in capsys.readouterr().out


def recorded(tmp_path: Path, *events: Event) -> tuple[int, dict[str, Any]]:
    """Audit a history of these events; return the exit code and what it says about the one source."""
    file = tmp_path / "own.jsonl"
    file.write_text(dump_history(events))
    code = main(["audit", str(file), "--json", str(tmp_path / "out.json"), "--html", str(tmp_path / "out.html")])
    told = json.loads((tmp_path / "out.json").read_text())
    jsonschema.validate(told, SCHEMA_OF_REPORTS)
    source: dict[str, Any] = told["sources"][0]
    return code, source


def test_a_history_is_judged_at_its_rest_and_names_each_anomaly_that_it_cannot_show(tmp_path: Path) -> None:
    waits = Observed(0, "client-a", "enqueue", "a", None, blank("a"), 0)
    asked = Call(0, "client-a", "enqueue", "a", None, [repr(JobRequest("a", unique_key="k", unique_for=9))], 1)
    assert recorded(tmp_path, asked, waits)[0] == 0
    code, source = recorded(tmp_path, asked, waits, Phase(9, "judge"))
    assert (code, [found["anomaly"] for found in source["findings"]]) == (1, ["job_never_run"])
    untold = {"own_lease_kept", "unique_key_stuck", "token_reused", "claim_over_limit", "bystander_harmed"}
    assert untold | {"success_discarded", "job_vanished", "processes_survive"} <= source["not_judged"].keys()
    assert {"own_lease_kept", "processes_survive"}.isdisjoint(source["judged"])
    assert "`unique_for`" in source["notes"][0]


def test_a_history_of_an_application_is_judged_by_what_its_rows_show(tmp_path: Path) -> None:
    done = view("COMPLETED", attempts=1, started_at=T, completed_at=T)
    life = [
        Observed(T, "client-a", "step insert", "a", None, WAITS, T),
        Observed(T, "w1", "step start", "a", WAITS, RUNS, T),
        Effect(T, "w1", "a", 1, 1, "started", None),
        Effect(T, "w1", "a", 1, 1, "ended", "success"),
        Observed(T, "w1", "step update", "a", RUNS, done, T),
        Phase(T, "judge"),
    ]
    code, source = recorded(tmp_path, *life)
    assert (code, source["judged"]) == (
        0,
        [
            "attempts_bounded", "failure_is_recorded", "fenced", "flows_kept", "groups_kept", "legal_transition",
            "no_lost_job", "processes_survive", "serial_key_exclusive", "single_owner", "unique_respected",
            "work_finished",
        ],
    )  # fmt: skip
    revived = Observed(T, "w1", "step update", "a", done, WAITS, T)
    _, source = recorded(tmp_path, *life[:-1], revived)
    assert [found["anomaly"] for found in source["findings"]] == ["terminal_job_revived"]


def test_a_history_of_a_system_is_judged_as_one_and_its_requests_are_words(tmp_path: Path) -> None:
    ended = view("COMPLETED", attempts=1, started_at=T, completed_at=T)
    life = [
        Call(T, "client-a", "send", "a", None, ("JobRequest(id='a')",), 1),
        Observed(T, "api", "insert tool_job", "a", None, WAITS, T),
        Return(T, "client-a", "send", "a", None, done(), 1, True),
        Observed(T, "w1", "update tool_job", "a", WAITS, RUNS, T),
        Effect(T, "w1", "a", 1, 1, "started", None),
        Effect(T, "w1", "a", 1, 1, "ended", "success"),
        Observed(T, "w1", "with results", "a", RUNS, ended, T),
        Phase(T, "judge"),
    ]
    assert recorded(tmp_path, *life)[0] == 0


def test_an_anomaly_of_no_job_has_the_story_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = Return(T, "queue", "expire", None, None, Outcome.unknown("ValueError: no"), 1, True)
    code, source = recorded(tmp_path, Observed(T, "client-a", "enqueue", "a", None, WAITS, T), gone)
    assert (code, [found["anomaly"] for found in source["findings"]]) == (1, ["batch_poisoned"])
    assert "expire raised: ValueError: no" in capsys.readouterr().out


def test_what_is_no_source_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / "jobs.csv").write_text("id,state\n1,completed\n")
    assert main(["audit", str(tmp_path / "jobs.csv")]) == 2
    assert "Rows are read from a database: copy them into a table" in capsys.readouterr().err
    assert main(["audit", "pgbos"]) == 2
    told = capsys.readouterr().err
    assert "did you mean 'pgboss'" in told
    assert "For a table of your own write a file that describes it" in told
    for source, what in ((str(tmp_path), "this is a folder"), ("-", "a pipe cannot be audited")):
        assert main(["audit", source]) == 2
        assert f"{source}: {what}" in capsys.readouterr().err
    assert main(["audit", "pgboss"]) == 2
    assert "no database is named" in capsys.readouterr().err
    assert main(["audit"]) == 2
    capsys.readouterr()
    assert main(["audit", "pgboss", "--since", "yesterday"]) == 2
    assert "--since: 'yesterday' is neither a time nor a duration" in capsys.readouterr().err
    assert main(["audit", "pgboss", "--database", "postgresql://127.0.0.1:1/none"]) == 4


def logged(table: str, *changes: tuple[str, dict[str, Any] | None, dict[str, Any] | None]) -> set[str]:
    """Judge what a log of this table holds: (writer, before, after)."""
    reader = _LogReader(job_table(table), Reading())
    events = [
        event for n, (who, old, new) in enumerate(changes) for event in reader._change(T + n * SECOND, who, old, new)
    ]
    evidence = Evidence("a log", frozenset(SHOWN_BY_LOG), {}, lambda jobs: iter(events), lambda: T)
    auditor = Auditor(evidence)
    auditor.take(events)
    return {finding.name for finding in auditor.finish().findings}


class OneTable:
    """A session that holds the rows of one table."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self._rows = rows

    def rows(self, text: str, values: Any, *, of: DescribedTable) -> Iterator[tuple[dict[str, Any]]]:
        return iter([(row,) for row in self._rows])

    def types(self, table: DescribedTable) -> dict[str, str]:
        return {}


def test_a_table_of_events_names_the_workers_that_wrote_them() -> None:
    table = read_table(
        b"format: 1\njobs: x\ntable: x\ncolumns: {id: id, at: at, status: s, worker: w}\n"
        b"status: {queued: PENDING, started: PROCESSING, done: COMPLETED}",
        "x",
        path="x",
    )
    told = [("queued", "api"), ("started", "w1"), ("started", "w2"), ("done", "w2")]
    rows = [
        {"id": "7", "at": f"2026-01-01T08:00:0{n}+00:00", "status": status, "worker": worker}
        for n, (status, worker) in enumerate(told)
    ]
    session: Any = OneTable(*rows)
    evidence = Evidence(
        "x", frozenset(_OF_CHANGES), {}, lambda _: _changes(session, table, Reading(), None, None), lambda: T
    )
    auditor = Auditor(evidence)
    auditor.take(evidence.read(None))
    assert [each.first.message for each in auditor.finish().findings] == ["w2 claimed what w1 holds"]


def test_a_queue_that_deletes_what_is_done_loses_nothing_by_it() -> None:
    waits = {"id": "1", "status": "queued", "tool": "mail"}
    picked, again = ({**waits, "status": "picked", "worker": worker} for worker in ("w1", "w2"))
    life = [("api", None, waits), ("w1", waits, picked)]
    assert logged("pgqueuer-jobs", *life, ("w1", picked, None)) == set()
    assert logged("pgqueuer-jobs", ("api", None, waits), ("api", waits, None)) == set(), "a job that waits is cancelled"
    taken_over = [*life, ("w2", picked, again)]
    assert logged("pgqueuer-jobs", *taken_over, ("w2", again, None)) <= {"double_claim"}
    assert "stale_complete" in logged("pgqueuer-jobs", *taken_over, ("w1", again, None))


def test_a_row_that_is_written_anew_is_joined_and_all_else_keeps_its_order() -> None:
    """A deleted job gave its key up before another one took it; a transaction in between changes nothing."""
    waits, other = ({"id": job, "status": "queued", "tool": "mail", "unique_key": "k"} for job in "12")
    picked = {**waits, "status": "picked", "worker": "w1"}
    rows = [("1", 1, None, waits), ("1", 2, waits, picked), ("1", 3, picked, None), ("1", 3, None, waits)]
    rows += [("1", 4, waits, None), ("2", 5, None, other), ("2", 6, other, None)]
    rows[3:3] = [("3", 9, None, {**other, "id": "3", "unique_key": "z"})]
    told = [*_rejoined((job, xid, T, "w1", before, after) for job, xid, before, after in rows)]
    assert [(job, xid) for job, xid, *_ in told] == [
        ("1", 1),
        ("1", 2),
        ("3", 9),
        ("1", 3),
        ("1", 4),
        ("2", 5),
        ("2", 6),
    ]
    assert told[3][4:] == (picked, waits)
    assert logged("pgqueuer-jobs", *(entry[3:] for entry in told)) == set()


def test_a_status_that_says_nothing_ends_nothing_in_a_log() -> None:
    """procrastinate aborts a job by way of `aborting`, which is ignored; a status may be NULL for a while, too."""
    row = {"id": "1", "tool": "mail"}
    doing, done = {**row, "status": "doing", "worker": "7"}, {**row, "status": "succeeded"}
    for between in ("aborting", None):
        aside = {**doing, "status": between}
        life = [("api", None, {**row, "status": "todo"}), ("w1", {**row, "status": "todo"}, doing)]
        life += [("api", doing, aside), ("w1", aside, done)]
        assert logged("procrastinate-jobs", *life) == set()
        gone = "live_job_deleted" in logged("procrastinate-jobs", *life[:3], ("api", aside, None))
        assert gone, "it was last seen at work"


def test_a_claim_without_an_end_is_overdue_by_when_it_was_made() -> None:
    chronicle = Chronicle()
    runs = view("PROCESSING", attempts=1, token=1, worker="w1", started_at=T, lease_until=NEVER)
    events = [*chronicle.change(T, "api", None, WAITS), *chronicle.change(T, "w1", WAITS, runs)]
    for hours, expected in ((0, set()), (3, {"job_stuck"})):
        now = T + hours * HOUR
        auditor = Auditor(
            Evidence("a test", frozenset(SHOWN_BY_LOG), {}, lambda jobs: iter(events), lambda now=now: now)
        )
        auditor.take(events)
        assert {finding.name for finding in auditor.finish().findings} == expected
