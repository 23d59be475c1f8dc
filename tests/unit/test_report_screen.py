"""The first screen fits, names what broke, and shows how to see it again."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from job_harness.core.history.event import Call, Effect, Fault, History, Observed, Return
from job_harness.core.history.jsonl import dump_history, load_history
from job_harness.core.history.outcome import done
from job_harness.core.model.duration import SECOND
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import Claim, Contract, Engine, EngineClocks
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.reader import controlled, read_scenario_text
from job_harness.core.scenario.scenario import DEFAULTS, FOUND, Control, Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.doors.cli.search import usual_settings
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import EnvironmentUnavailable, ExitCode
from job_harness.report.case import Case, exit_code_of
from job_harness.report.ci import case_results, github_annotations, junit_xml, xml_text
from job_harness.report.json_report import json_report, run_data
from job_harness.report.screen import HEIGHT, WIDTH, causes_of, first_screen, rows_of, screen_text, timeline
from job_harness.report.summary import case_screen, replay_of, summary
from job_harness.review.audit.evidence import blank
from job_harness.search.targets import open_engine
from job_harness.subjects.processors import JobHarness, JobResult, ToolJob, at_most_once, effect

STUCK = """\
format: 1
title: Stuck timeout below the job timeout
workers: [w1, w2]
jobs: {a: {takes: 9m}}
settings: {stuck_timeout: 5m}
expect: {a: {status: COMPLETED}}
controls: [{settings: {lease: 1m}, finds: concurrent_execution}]
"""


def run_of(text: str) -> Run:
    return play(read_scenario_text(text, path="scenarios/x.yaml"), engine=MemoryEngine())


def case_of(text: str = STUCK) -> Case:
    run = run_of(text)
    return Case(run.scenario, "memory", run)


def test_the_first_screen_says_what_broke_what_it_costs_and_how_to_see_it_again() -> None:
    text = screen_text(case_screen(case_of()))
    assert text.startswith(
        "FAIL  scenarios/x.yaml on memory\nconcurrent_execution: Two workers run the same job at once.\n"
    )
    assert "Guarantee lost: one at a time: no job is run by two workers at once" in text
    assert "t+6m1s" in text
    assert "No fault was needed: everybody ran on time." in text
    assert "Settings: stuck_timeout 5m (default 30m)" in text
    assert "Replay: job-harness run scenarios/x.yaml --engine memory\n" in text
    assert "In file: scenarios/x.yaml\n" in text
    assert "Written:" not in text, "nothing was written"


@pytest.mark.parametrize("name", ["doesn't charge a customer's card twice", 'a "quoted" \\ name', "$HOME `x` 'y'"])
def test_the_command_that_replays_is_one_for_a_shell_however_its_words_are_quoted(name: str) -> None:
    command = f"JOB_HARNESS_REPLAY=jh1_{'x' * 60} npx vitest run {shlex.quote(f'my {name}.ts')} -t {shlex.quote(name)}"
    text = screen_text(first_screen(run_of(STUCK), replay=command))
    typed = text.partition("Replay: ")[2].splitlines()
    words = shlex.split(" ".join(line.removesuffix("\\") for line in typed if "In file" not in line))
    assert words[-2:] == ["-t", name]


def test_a_guarantee_is_only_at_risk_where_one_worker_is_shown() -> None:
    text = screen_text(first_screen(run_of(STUCK), lead="taken_back_early"))
    assert "Guarantee at risk: one at a time: no job is run by two workers at once" in text
    assert "Guarantee lost" not in text
    assert "Also shows: " in text
    assert "concurrent_execution (two workers run the same job at" in text


def test_a_job_that_takes_its_worker_down_is_no_punctual_run() -> None:
    run = run_of("format: 1\nworkers: [w1]\njobs: {a: {outcomes: [exit, succeed]}}\nexpect: {a: {attempts: 1}}\n")
    assert "\nNo fault was needed: job a takes its worker down.\n" in screen_text(first_screen(run))


def test_an_answer_from_outside_that_failed_is_named_where_no_fault_was_needed() -> None:
    run = run_of(STUCK)
    events = run.history.events
    answered = Effect(events[-1].at, "w1", "a", 1, 1, "ended", "failure", reply="500 RuntimeError: boom")
    run = replace(run, history=History([*events, answered, answered]))
    only = "No fault was needed, only an answer from outside: a gets 500 RuntimeError: boom"
    assert next(line.text for line in causes_of(run)) == only
    ordered = replace(run, tape=(Deviation("w1 claim", 1, "w2 first"),))
    assert "\nAnswers from outside: a gets 500 RuntimeError: boom\n" in screen_text(first_screen(ordered))


def test_a_failing_run_names_its_faults_and_its_order() -> None:
    run = run_of(STUCK + "tape: [{at: w1 claim, do: crash}]\n")
    other = run_of(STUCK + "tape: [{at: w1 start a, do: pause a lease + 1s}, {at: w1 claim, do: w2 first}]\n")
    text = screen_text(first_screen(other))
    assert "One fault: w1 pauses for a lease + 1s before `start a`\nOrder: w2 acts before w1's `claim`" in text
    assert "One fault: w1 crashes before `claim`" in screen_text(first_screen(run))


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_the_first_screen_fits_a_terminal_whatever_is_on_it(workers: int) -> None:
    names = ", ".join(f"worker-with-a-long-name-{number}" for number in range(workers))
    takes = f"workers: [{names}]\njobs: {{a: {{takes: 9m}}}}\n"
    run = run_of(f"format: 1\n{takes}settings: {{stuck_timeout: 1s, lease: 1m, max_attempts: 9, retry_delay: 0s}}\n")
    run = replace(run, failures=tuple(f"x: {'long ' * 99}{number}" for number in range(9)))
    lines = first_screen(run, title="漢字 " * 60 + "\x1b[31m\x00", replay="job-harness run x", written="y" * 200)
    assert len(lines) <= HEIGHT
    paths = [line.text for line in lines if line.text.startswith("Written: ")]
    assert paths == [f"Written: {'y' * 200}"], "what is broken cannot be opened"
    assert all(len(line.text) <= WIDTH for line in lines if line.text not in paths)
    assert all(line.text.isprintable() for line in lines)
    assert sum(line.text.startswith("t+") for line in lines) <= 10


def test_a_run_of_a_written_finding_leads_with_the_anomaly_that_the_file_is_about() -> None:
    about = run_of(STUCK.replace("title: Stuck timeout below the job timeout", f"title: taken_back_early{FOUND}"))
    assert "concurrent_execution" in about.found, "it is graver"
    text = screen_text(case_screen(Case(about.scenario, "memory", about)))
    assert text.splitlines()[1].startswith("taken_back_early: ")


def rows_shown(text: str, *, queue: str, lead: str) -> list[str]:
    engine = open_engine(f"memory+{queue}" if queue else "memory")
    shown = screen_text(first_screen(play(read_scenario_text(text, path="x.yaml"), engine=engine), lead=lead))
    return [" ".join(line.split()) for line in shown.splitlines() if line.startswith("t+")]


def test_the_rows_of_the_other_jobs_that_an_anomaly_is_about_are_shown_with_their_names() -> None:
    keyed = "format: 1\njobs: {a: {unique_key: k}, b: {unique_key: k}}\n"
    assert rows_shown(keyed, queue="unique-ignored", lead="unique_key_shared") == [
        "t+0s a: enqueues",
        "t+0s enqueues",
    ]
    slow = "a: {outcomes: [hang, succeed], lease: 21m, timeout: 20m}"
    batch = f"format: 1\nworkers: [w1]\nsettings: {{batch_size: 2}}\njobs: {{{slow}, b: {{}}}}\n"
    rows = rows_shown(batch, queue="", lead="healthy_claim_taken_back")
    assert {"t+0s a: starts, attempt 1", "t+0s claims, attempt 1"} < set(rows)


def test_rows_that_a_job_leaves_are_given_to_the_jobs_that_the_run_cannot_do_without() -> None:
    limited = "format: 1\nworkers: [w1]\nsettings: {concurrency: 1, max_attempts: 1}\n"
    jobs = "jobs: {a: {outcomes: [fail]}, b: {at: 5s}}\n"
    rows = rows_shown(limited + jobs, queue="dead-job-keeps-permit", lead="job_never_run")
    assert {"t+5s enqueues", "t+0s a: claims, attempt 1"} < set(rows)
    assert any("a: fails -> FAILED" in row for row in rows), "that is why b has no permit"


def test_a_cancel_that_was_confirmed_and_changed_nothing_is_a_row() -> None:
    ignored = "format: 1\nworkers: [w1]\njobs: {a: {takes: 5m, cancel_after: 1m}}\n"
    rows = rows_shown(ignored, queue="cancel-ignored-while-running", lead="cancel_ignored")
    assert "t+1m cancel done, nothing changed" in rows


SERVED = "format: 1\nworkers: [w1, w2]\nserves: {w1: [mail, report], w2: [video]}\njobs: {a: {tool: report}}\n"
NIGHT = "format: 1\njobs: {night: {cron: 30 2 30-31 3 *, zone: Europe/Berlin, count: 2, scheduled: true}}\n"


@pytest.mark.parametrize(
    ("text", "queue", "told"),
    [
        (SERVED, "first-tool-only", "With: w1 serving only mail, report; w2 serving only video"),
        (
            NIGHT,
            "cron-zone-ignored",
            "With: night at '30 2 30-31 3 *' in Europe/Berlin, whose clocks change at 2030-03-31 03:00+02:00",
        ),
        ("format: 1\njobs: {a: {lease: 1m}}\n", "own-lease-ignored", "With: a with a lease of 1m"),
    ],
)
def test_what_a_run_had_beside_faults_is_said_where_no_fault_was_needed(text: str, queue: str, told: str) -> None:
    run = play(read_scenario_text(text, path="x.yaml"), engine=open_engine(f"memory+{queue}"))
    lines = [line.text for line in causes_of(run)]
    assert lines[lines.index("No fault was needed: everybody ran on time.") + 1] == told


def test_a_pause_of_a_tool_is_a_row() -> None:
    paused = "format: 1\nworkers: [w1]\njobs: {a: {tool: mail, outcomes: [fail, succeed]}}\n"
    steps = "steps: [w1 claims a, w1 settles a, pause tool mail, advance 10m, w1 polls]\n"
    rows = rows_shown(paused + steps, queue="pause-forgotten-by-retries", lead="paused_job_claimed")
    assert "pauses the tool mail" in " ".join(rows)


def test_a_job_that_never_was_there_is_not_said_to_have_gone() -> None:
    keyed = "format: 1\njobs: {a: {unique_key: k, takes: 1m}, b: {unique_key: k}}\n"
    engine = open_engine("memory+refusal-swallowed")
    text = screen_text(first_screen(play(read_scenario_text(keyed, path="x.yaml"), engine=engine)))
    assert "job_vanished: An accepted job is not there, and it had not ended." in text
    assert "it was accepted, and it never was there" in text
    assert "enqueue done, nothing changed" in text


def test_a_claim_that_gives_its_worker_nothing_says_so() -> None:
    running = blank("a", Status.PROCESSING, attempts=1, lease_until=9)
    claim = Observed(0, "w1", "claim", "a", blank("a"), running, 0)
    for given, told in (
        ([], "claims, attempt 1: not given to it"),
        ([Claim("a", 1, 1, "w1", "t", 9)], "claims, attempt 1"),
    ):
        answered = Return(0, "w1", "claim", None, None, done(given), 1, True)
        history = History([claim, answered])
        for each in (history, load_history(dump_history(history).splitlines())):  # also as a forked run hands it over
            assert [row.text for row in rows_of(each, job="a")] == [told]
    again = Observed(0, "client-a", "enqueue", "a", running, running._replace(status=Status.PENDING), 0)
    assert [row.text for row in rows_of(History([again]), job="a")] == ["enqueues it again -> PENDING"]


def test_a_late_report_that_was_refused_outlives_how_the_job_came() -> None:
    late = "format: 1\nworkers: [w1]\njobs: {a: {}}\ntape: [{at: w1 complete a, do: pause a lease + a retry}]\n"
    history = run_of(late).history
    every = [row.text for row in rows_of(history, job="a", most=99)]
    few = [row.text for row in rows_of(history, job="a", most=len(every) - every.index("ends: success"))]
    assert "complete refused" in few
    assert "enqueues" not in few


def test_what_the_last_change_met_outlives_faults_and_rows_left_out_are_marked() -> None:
    def changed(at: int, verb: str, before: Status | None, after: Status) -> Observed:
        was = None if before is None else blank("a", before)
        return Observed(at * SECOND, "w1", verb, "a", was, blank("a", after), at)

    history = History(
        [
            changed(0, "enqueue", None, Status.PENDING),
            changed(1, "claim", Status.PENDING, Status.PROCESSING),
            changed(2, "expire", Status.PROCESSING, Status.PENDING),
            *(Fault(3 * SECOND, "w1", "pause", {"at": f"step {nth}", "for": 1}) for nth in range(4)),
            changed(4, "complete", Status.PENDING, Status.COMPLETED),
        ]
    )
    lines = [line.text.split()[:2] for line in timeline(history, most=3)]
    assert lines[1:] == [["…t+2s", "takes"], ["…t+3s", "PAUSES"], ["t+4s", "completes"]]
    assert "…" not in screen_text(timeline(history, most=8))


@pytest.mark.parametrize("early", [True, False])
def test_a_change_that_was_begun_before_the_one_it_met_is_told_to_overlap(early: bool) -> None:
    run = run_of(STUCK)
    sent = Observed(0, "client", "enqueue", "a", None, blank("a", Status.PENDING), 0)
    ends = Observed(0, "client", "cancel", "a", blank("a", Status.PENDING), blank("a", Status.CANCELLED), 0)
    begins = Call(0, "w1", "claim", None, None, (), 1)
    claims = Observed(0, "w1", "claim", "a", blank("a", Status.CANCELLED), blank("a", Status.PROCESSING), 0)
    anomaly = run.anomalies[0]._replace(name="terminal_job_revived", job="a", event=3)
    history = History([sent, begins, ends, claims] if early else [sent, ends, begins, claims])
    text = screen_text(first_screen(replace(run, history=history, anomalies=(anomaly,))))
    assert ("Overlap: w1 began `claim` before client's `cancel` took effect\n" in text) is early


def test_settings_of_the_users_own_file_are_no_news() -> None:
    run = run_of(STUCK)
    info = replace(MemoryEngine().info, settings=run.scenario.settings, contract=Contract(file="queue.yaml"))
    default, usual = usual_settings(cast("Engine", SimpleNamespace(info=info)))
    assert "Settings:" not in screen_text(first_screen(run, default=default, usual=usual))
    other = screen_text(first_screen(run, default=default.changed(lease=90 * SECOND), usual=usual))
    assert "Settings: lease 11m (in the file 1m30s)\n" in other
    assert usual_settings(MemoryEngine()) == (DEFAULTS, "default")


def test_a_side_effect_of_two_jobs_is_told_of_both_and_outlives_their_other_rows() -> None:
    def charge(job: ToolJob) -> JobResult:
        effect("charged", order=job.input)
        return JobResult(success=True, output=None)

    with JobHarness(invariants=[at_most_once("charged", per=["order"])]) as jobs:
        jobs.register("charge", charge)
        for order in (7, 8, 7):
            jobs.enqueue("charge", order)
        jobs.drain()
        (found,) = jobs.anomalies
        assert (found.job, found.others) == ("job-3", ("job-1",))
        rows = rows_of(jobs.history, job=found.job, others=found.others, until=found.event, most=4)
        assert [row.text for row in rows][1:] == ["job-1: charged", "starts, attempt 1", "charged"]
        jobs.problems()


def test_a_fault_outlives_changes_of_the_job_where_rows_are_many() -> None:
    changes = [
        Observed(at, "w1", "update jobs", "a", blank("a", one), blank("a", other), at)
        for at, (one, other) in enumerate(
            [(Status.PENDING, Status.PROCESSING), (Status.PROCESSING, Status.PENDING)] * 4
        )
    ]
    history = History([Fault(0, "w1", "pause", {"at": "update jobs", "for": 1}), *changes])
    texts = [row.text for row in rows_of(history, job="a", most=4)]
    assert (len(texts), texts[0]) == (4, "PAUSES for 1us at update jobs")


def test_a_call_for_many_jobs_that_raised_is_shown_and_so_is_the_key_that_two_of_them_have() -> None:
    collision = """\
format: 1
workers: [w1]
jobs: {a: {unique_key: k, takes: 1m}, b: {unique_key: k, held_back: true, start_after: 1h}}
steps: [w1 starts a, crash w1, enqueue b, advance 12m]
"""
    rows = rows_shown(collision, queue="waiting-again-collides", lead="batch_poisoned")
    assert rows[-1].endswith("expire raises")
    assert [row.partition(", key ")[2] for row in rows if "enqueues" in row] == ["'k'", "'k'"]


def test_a_failure_that_is_being_reported_is_shown_and_an_error_that_its_row_cuts_is_written_out() -> None:
    steps = "[w1 loses the request before completing mail, run until idle]"
    text = f"format: 1\nworkers: [w1]\njobs: {{mail: {{takes: 30s}}}}\nsteps: {steps}\n"
    run = play(read_scenario_text(text, path="x.yaml"), engine=open_engine("memory+completes-in-the-try"))
    lines = screen_text(first_screen(run, lead="success_discarded")).splitlines()
    row = next(number for number, line in enumerate(lines) if "reports a failure: Error: Connecti…" in line)
    assert lines[row + 1] == "Failed with: Error: Connection terminated unexpectedly"


def test_an_error_in_a_verb_of_the_user_s_own_queue_is_written_out_with_its_line() -> None:
    class Misspelt(MemoryEngine):
        def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> Any:
            queue: Any = super().open(settings, clocks, jitter)
            queue.claim = lambda worker, limit: worker.identity
            return queue

    run = play(read_scenario_text("format: 1\njobs: {a: {}}\n", path="x.yaml"), engine=Misspelt())
    told = " ".join(screen_text(first_screen(run, lead="job_never_run")).split())
    assert re.search(
        r"Raised by claim \(\d+ times\), at test_report_screen\.py:\d+: AttributeError: 'str' object has no attribute "
        r"'identity'",
        told,
    )


def test_an_order_names_each_gate_once() -> None:
    run = replace(run_of(STUCK), tape=(Deviation("w1 claim", 1, "w2 first"),) * 2)
    assert "No fault was needed, only an order: w2 acts (2 times) before w1's `claim`\n" in screen_text(
        first_screen(run)
    )


def test_an_unmet_expectation_is_shown_with_its_line() -> None:
    text = screen_text(case_screen(case_of("format: 1\njobs: {a: {}}\nexpect:\n  a: {status: FAILED}\n")))
    assert "scenarios/x.yaml:4: a: expected status FAILED, got COMPLETED" in text
    assert "completes" in text
    output = "format: 1\njobs: {a: {}}\nexpect:\n  a: {output: {attempt: %s, by: w1}}\n"
    assert case_of(output % "1").exit_code is ExitCode.PASS
    told = "a: expected output {'attempt': True, 'by': 'w1'}, got"
    assert told in screen_text(case_screen(case_of(output % "true")))


def test_a_control_passes_where_it_finds_its_anomaly_and_else_the_scenario_cannot_fail() -> None:
    scenario = read_scenario_text("format: 1\njobs: {a: {}}\n" + STUCK.splitlines()[-1], path="scenarios/x.yaml")
    control = scenario.controls[0]
    run = play(controlled(scenario, control), engine=MemoryEngine())
    case = Case(scenario, "memory", run, control)
    assert case.exit_code is ExitCode.FAIL
    assert case.headline == (
        "control lease=1m did not find concurrent_execution; it found nothing: this scenario cannot fail there"
    )
    assert replay_of(case) == "job-harness run scenarios/x.yaml --engine memory --set lease=1m"


def test_a_replay_names_an_application_that_is_not_the_one_of_its_scenario() -> None:
    scenario = Scenario(application="my_app.py:Repaired", path="scenarios/x.yaml")

    assert replay_of(Case(scenario, "application")) == "job-harness run scenarios/x.yaml"
    assert screen_text(summary([Case(scenario, "application")], planned=1)).endswith(
        "on my_app.py:Repaired: 1 inconclusive\n"
    )
    other = replay_of(Case(scenario, "my_app.py:MyApp@pgboss"))
    assert other == "job-harness run scenarios/x.yaml --engine my_app.py:MyApp@pgboss"
    control, run = Control("orphan_row", application="my_app.py:MyApp"), case_of().run
    assert run is not None
    ran = Case(scenario, "application", replace(run, engine="apps/my_app.py:MyApp"), control)
    assert replay_of(ran) == "job-harness run scenarios/x.yaml --engine apps/my_app.py:MyApp"
    assert replay_of(replace(ran, run=None)) == "job-harness run scenarios/x.yaml --engine my_app.py:MyApp"


def test_a_failure_outweighs_a_missing_environment_and_that_an_open_question() -> None:
    failed, passed = case_of(), case_of("format: 1\njobs: {a: {}}\n")
    gone = replace(passed, run=None, error=EnvironmentUnavailable("gone", hint="start it"))
    open_ = replace(passed, run=replace(passed.run, uncovered=("no heartbeat",)))  # type: ignore[type-var]
    assert exit_code_of([passed]) is ExitCode.PASS
    assert exit_code_of([passed, open_]) is ExitCode.INCONCLUSIVE
    assert exit_code_of([passed, open_, gone]) is ExitCode.ENVIRONMENT
    assert exit_code_of([gone, failed, open_]) is ExitCode.FAIL


def test_the_json_report_has_the_content_of_the_screen() -> None:
    report = json.loads(json_report([case_of()], planned=2))
    assert (report["format"], report["version"], report["verdict"], report["planned"]) == (
        "job-harness-report", 1, "fail", 2,
    )  # fmt: skip
    (case,) = report["cases"]
    assert case["replay"] == "job-harness run scenarios/x.yaml --engine memory"
    assert "concurrent_execution" in [anomaly["name"] for anomaly in case["run"]["anomalies"]]
    assert case["run"]["settings"] == {"stuck_timeout": "5m"}
    assert case["run"]["rows"][-1]["time"] == "t+6m1s"


def test_junit_survives_nul_and_surrogates() -> None:
    case = case_of()
    assert case.run is not None
    case = replace(case, run=replace(case.run, anomalies=(), failures=("boom \x00 \ud800 \x1b ]]> <&",)))
    root = ElementTree.fromstring(junit_xml(case_results([case])))
    failure = root.find("./testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "boom \\x00 \\ud800 \\x1b ]]> <&"
    assert xml_text("\ufffe") == "\\ufffe"


def test_junit_tells_failures_errors_and_skips_apart() -> None:
    passed = case_of("format: 1\njobs: {a: {}}\n")
    gone = replace(passed, run=None, error=EnvironmentUnavailable("gone"))
    open_ = replace(passed, run=None, skipped="not on postgres")
    root = ElementTree.fromstring(junit_xml(case_results([passed, case_of(), gone, open_])))
    assert [root.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]


def test_junit_names_the_suite_by_what_was_run() -> None:
    own = case_of("format: 1\napplication: db/queue.yaml\njobs: {a: {}}\n")
    root = ElementTree.fromstring(junit_xml(case_results([replace(own, engine="application")])))
    assert [suite.get("name") for suite in root] == ["db/queue.yaml"]


def test_annotations_escape_what_github_would_read() -> None:
    case = case_of("format: 1\ntitle: 'a, b: 100%'\njobs: {a: {}}\nexpect: {a: {status: FAILED}}\n")
    (line,) = github_annotations(case_results([case])).splitlines()
    assert line.startswith(
        "::error file=scenarios/x.yaml,line=4,title=memory%3A a%2C b%3A 100%25::scenarios/x.yaml:4: a"
    )


def test_the_summary_says_when_not_everything_was_run() -> None:
    text = screen_text(summary([case_of()], planned=3))
    assert "1 scenario on memory: 1 fail" in text
    assert "Stopped after 1 of 3" in text


def test_the_first_failed_answer_to_another_job_of_a_batch_has_a_row() -> None:
    run = run_of(STUCK)
    last = run.history.events[-1]
    answers = [Effect(last.at + at, "w1", "mate", 1, 1, "ended", "failure", reply=f"500 {at}") for at in (1, 2)]
    rows = rows_of(History([*run.history.events, *answers]), job="a", most=40)
    assert [row.text for row in rows if "mate" in row.text] == ["mate: ends: failure (500 1)"]


@pytest.mark.parametrize(("about", "struck", "shown"), [(None, True, True), ("a", False, True), ("a", True, False)])
def test_steps_of_jobs_that_met_stand_side_by_side_where_no_job_is_to_blame_alone(
    about: str | None, struck: bool, shown: bool
) -> None:
    run = run_of(STUCK)
    anomaly = run.anomalies[0]._replace(name="invariant_violated", job=about)
    places = ["BEGIN in pay.ts:pay", "reply to SELECT cards in pay.ts:pay", "UPDATE cards in pay.ts:pay"]
    alone = ("a", "charged in pay.ts:pay")
    met = [(job, place) for place in places for job in ("a", "b")]
    tape = (Deviation("w1 charged a", 1, "crash"),) if struck else ()
    run = replace(run, anomalies=(anomaly,), tape=tape, passed=(alone, *met), remembered=("tenant, which pay uses",))
    text = re.sub(r" {2,}", " | ", screen_text(first_screen(run)))
    assert (
        """
Steps in pay.ts:pay, from left to right as they came:
 | a | b
 | BEGIN | BEGIN
 | SELECT cards | SELECT cards
 | UPDATE cards | UPDATE cards
They changed in memory: tenant, which pay uses
"""
        in text
    ) is shown
    assert ("Steps, as they came: a BEGIN" in " ".join(run_data(run, lead="")["told"])) is shown


def test_steps_of_jobs_that_ran_one_after_another_are_not_shown() -> None:
    run = run_of(STUCK)
    anomaly = run.anomalies[0]._replace(name="invariant_violated", job=None)
    passed = tuple((job, place) for job in ("a", "b") for place in ("read", "write"))
    assert "Steps" not in screen_text(first_screen(replace(run, anomalies=(anomaly,), passed=passed)))


def test_of_many_jobs_that_met_the_first_few_are_shown_however_many_steps_they_took() -> None:
    run = run_of(STUCK)
    passed = tuple((f"j{job}", f"step {step}") for step in range(300) for job in range(60))
    anomaly = run.anomalies[0]._replace(name="invariant_violated", job=None)
    text = screen_text(first_screen(replace(run, anomalies=(anomaly,), passed=passed)))
    assert "Steps of 4 of 60 jobs, from left to right as they came:\n  j0" in text
    assert "  ... 288 lines\n  step 288" in text
