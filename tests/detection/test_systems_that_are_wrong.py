"""Systems of real processes with one planted mistake each: the search finds it, and nothing in the right one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet
from ruamel.yaml import YAML

from job_harness.core.history.event import Effect, Fault
from job_harness.core.invariants import ANOMALIES, everything, stepwise, unasked
from job_harness.core.invariants.deploys import COSTS_ATTEMPT
from job_harness.core.invariants.outages import COSTS_JOB
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import Ending, JobPlan, Span
from job_harness.core.scenario.scenario import Scenario, Step
from job_harness.core.sim.choices import Deviation
from job_harness.doors.cli.campaign_screen import given_up
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.sampling import Sampler
from job_harness.subjects.systems import SystemEngine

SYSTEMS = Path(__file__).with_name("systems")
FILES: dict[str, dict[str, dict[str, Any]]] = YAML(typ="safe").load((SYSTEMS / "mistakes.yaml").read_text())
MISTAKES = [(file, name) for file, mistakes in FILES.items() for name in mistakes if "finds" in mistakes[name]]
RUNS = 60
"""Within this many runs a mistake is found; most show in the first ten."""

pytestmark = pytest.mark.postgres
Open = Callable[[str, str], SystemEngine]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    engines: list[SystemEngine] = []

    def make(file: str, mistake: str) -> SystemEngine:
        shutil.copytree(SYSTEMS, tmp_path / "system")
        path = tmp_path / "system" / file
        for name, value in FILES[file].get(mistake, {}).get("settings", {}).items():
            path.write_text(path.read_text().replace("settings: {", f"settings: {{{name}: {value}, "))
            monkeypatch.setenv("LIMIT", str(value))
        monkeypatch.setenv("MISTAKE", mistake.partition(" ")[0])
        engines.append(SystemEngine(str(path)))
        try:
            engines[0].info.prepare()
        except EnvironmentUnavailable as missing:
            pytest.skip(missing.message)
        return engines[0]

    yield make
    for engine in engines:
        engine.close()


def played(engine: SystemEngine, *jobs: JobPlan, tape: tuple[Deviation, ...] = ()) -> Run:
    assert engine.info.settings is not None
    return play(
        Scenario(title="as planned", jobs=jobs, workers=("w1", "w2"), settings=engine.info.settings, tape=tape),
        engine=engine,
    )


def at_length(*values: object) -> ParameterSet:
    """Return a case that is played with the long tests: each has seconds of processes, servers and statements."""
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "job", "message"),
    [
        ("", JobPlan("a", outcomes=(Ending.FAIL,), retry_after=10 * MINUTE), None),
        at_length(
            "no-dead-letter", JobPlan("a", outcomes=(Ending.FAIL,)), "it ended as FAILED once and left no dead letter"
        ),
        ("gives-up", JobPlan("a", outcomes=(Ending.FAIL,)), "failed it at attempt 1 of 3"),
        at_length("no-error", JobPlan("a", outcomes=(Ending.FAIL,)), "made it FAILED and left no error"),
        at_length("claims-early", JobPlan("a", outcomes=(Ending.FAIL,)), "claimed it .* before its time"),
        at_length("success-as-failure", JobPlan("a"), "its run succeeded, and w. made it PENDING"),
        at_length("done-before-it-began", JobPlan("a"), "it says that it was completed 59m.* before it was started"),
        at_length("deletes-early", JobPlan("a"), "deleted it after"),
        at_length("zero-is-none", JobPlan("a", priority=5), "asked for priority 0, got 5"),
        at_length("drops-the-priority", JobPlan("a", priority=5), "asked for priority 5, got 0"),
        at_length(
            "retries-nothing", JobPlan("a", outcomes=(Ending.FAIL,), retry_after=10 * MINUTE), "it still is FAILED"
        ),
        at_length(
            "cancels-what-waits",
            JobPlan("a", takes=(Span(fixed=MINUTE),), cancel_after=MINUTE // 2),
            "the job is",
        ),
        at_length(
            "accepts-cancels-only",
            JobPlan("a", takes=(Span(fixed=MINUTE),), cancel_after=MINUTE // 2),
            "its cancel was accepted, and w1 made it COMPLETED",
        ),
    ],
)
def test_what_rows_and_answers_show_is_judged(mistake: str, job: JobPlan, message: str | None, opened: Open) -> None:
    run = played(opened("tasks.yaml", mistake), job, JobPlan("z"))

    assert run.failures == ()
    if message is None:
        assert run.anomalies == ()
    else:
        found = FILES["tasks.yaml"][mistake]["finds"]
        assert re.search(message, next(each.message for each in run.anomalies if each.name == found))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "finds"), [("stops-with-its-claim", {"claim_left_behind"}), at_length("", set())])
def test_a_process_that_ends_in_good_order_leaves_nothing_claimed(mistake: str, finds: set[str], opened: Open) -> None:
    job = JobPlan("a", outcomes=(Ending.FAIL,))  # What is given back costs it no attempt, and so no run either.
    run = played(opened("tasks.yaml", mistake), job, JobPlan("z"), tape=(Deviation("w1 running a", 1, "stop"),))

    assert run.uncovered == ()
    assert run.found == finds


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "finds"),
    [
        ("ignores-sigterm", {"deploy_costs_attempt"}),
        at_length("release-counts", {"deploy_costs_attempt"}),
        at_length("stops-when-done", {"deploy_costs_attempt"}),
        at_length("leaves-what-it-took", {"deploy_costs_attempt"}),
        ("", set()),
    ],
)
def test_a_deploy_costs_no_attempt_where_that_is_promised(mistake: str, finds: set[str], opened: Open) -> None:
    job = JobPlan("a", takes=(Span(fixed=2 * MINUTE),))
    at = "w1 update task" if mistake == "leaves-what-it-took" else "w1 POST work.example.com/do a"
    run = played(opened("tasks.yaml", mistake), job, JobPlan("z"), tape=(Deviation(at, 1, "deploy"),))

    assert run.uncovered == ()
    assert run.found == finds
    assert any(event.name == "crash" for event in run.history if isinstance(event, Fault)) is (
        mistake in ("ignores-sigterm", "stops-when-done")
    )


@pytest.mark.long
@pytest.mark.slow
def test_a_deploy_starts_the_next_version_and_each_run_begins_with_the_first(opened: Open) -> None:
    engine, fails = opened("tasks.yaml", "next-gives-up"), JobPlan("a", outcomes=(Ending.FAIL, Ending.SUCCEED))
    assert engine.info.settings is not None
    alone = Scenario(title="one worker", jobs=(fails,), workers=("w1",), settings=engine.info.settings)
    steps = (Step("deploy", "deploy w1", actor="w1"), Step("run", "run until idle"))

    assert play(alone, engine=engine).found == set()
    assert play(replace(alone, steps=steps), engine=engine).found == {"failed_early"}
    assert play(alone, engine=engine).found == set()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "finds"), [("key-for-ever", {"unique_key_stuck"}), at_length("", set())])
def test_a_key_that_is_sent_again_once_its_job_has_ended_is_free(mistake: str, finds: set[str], opened: Open) -> None:
    again = JobPlan("b", unique_key="k", at=10 * MINUTE)
    assert played(opened("tasks.yaml", mistake), JobPlan("a", unique_key="k"), again).found == finds


@pytest.mark.long
@pytest.mark.slow
def test_a_request_of_an_operator_stays_one_while_another_of_them_ends(opened: Open) -> None:
    begins = JobPlan("a", takes=(Span(fixed=4 * MINUTE),), at=SECOND, cancel_after=5 * MINUTE, retry_after=5 * MINUTE)
    fails = JobPlan("b", outcomes=(Ending.FAIL,), takes=(Span(fixed=10 * MINUTE),), cancel_after=10 * MINUTE)
    late = Deviation("api update task", 3, "pause a lease + a retry")
    run = played(opened("tasks.yaml", ""), begins, replace(fails, retry_after=4 * MINUTE), tape=(late,))
    assert run.found == set()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "job", "finds"),
    [
        ("", JobPlan("a", outcomes=(Ending.FAIL,)), set()),
        at_length("", JobPlan("a", children=0), set()),
        at_length("empty-waits-for-ever", JobPlan("a", children=0), {"bystander_harmed", "job_never_run"}),
        (
            "failed-is-not-done",
            JobPlan("a", outcomes=(Ending.FAIL,)),
            {"callback_missing", "dependent_forgotten", "job_never_run"},
        ),
    ],
)
def test_a_job_that_is_split_ends_with_its_parts(mistake: str, job: JobPlan, finds: set[str], opened: Open) -> None:
    assert played(opened("batches.yaml", mistake), job).found == finds


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "finds"), [("too-many-is-sent", {"silent_success"}), at_length("", set())])
def test_work_that_is_answered_with_429_was_not_done(mistake: str, finds: set[str], opened: Open) -> None:
    once = JobPlan("a", outcomes=(Ending.TOO_MANY, Ending.SUCCEED))
    assert played(opened("texts.yaml", mistake), once).found == finds


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "state", "finds"),
    [
        ("", "down", set()),
        ("", "late", set()),
        ("never-tries-again", "down", {"job_never_run"}),
        ("asks-again-at-once", "limited", {"outage_costs_job"}),
    ],
)
def test_a_host_in_trouble_is_so_for_everybody_and_no_job_fails_of_it(
    mistake: str, state: str, finds: set[str], opened: Open
) -> None:
    jobs = JobPlan("a"), JobPlan("b"), JobPlan("z")
    tape = (Deviation("w1 POST texts.example.com/send a", 1, f"host {state} for a timeout"),)
    run = played(opened("texts.yaml", mistake), *jobs, tape=tape)

    assert run.uncovered == ()
    assert run.found == finds
    met = {event.job for event in run.history if isinstance(event, Effect) and event.identity == "texts.example.com"}
    assert met == ({"a", "b"} if state == "late" else {"a", "b", "z"})


@pytest.mark.long
@pytest.mark.parametrize(("mistake", "finds"), [("shows-first", {"shown_is_true"}), ("", set())])
def test_two_stores_that_must_agree_do_so_at_rest(mistake: str, finds: set[str], opened: Open) -> None:
    assert played(opened("orders.yaml", mistake), JobPlan("a", outcomes=(Ending.FAIL,))).found == finds


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "at", "finds"),
    [
        ("", "relay POST index.example.com/put: lose request", set()),
        ("tells-before-it-commits", "api commit: crash", {"told_of_what_is_there"}),
        ("marks-first", "relay POST index.example.com/put: lose request", {"known_soon", "told_is_known"}),
        ("looks-every-ten-minutes", "", {"known_soon"}),
    ],
)
def test_a_table_and_the_calls_that_announce_its_rows_agree_in_time(
    mistake: str, at: str, finds: set[str], opened: Open
) -> None:
    label, _, option = at.partition(": ")
    tape = (Deviation(label, 1, option),) if at else ()
    run = played(opened("events.yaml", mistake), JobPlan("a"), JobPlan("z", at=2 * MINUTE), tape=tape)
    assert run.uncovered == ()
    assert run.found == finds


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("missing-is-deleted", "it was never run"),
        ("", None),
        ("writes-to-the-replica", "ReadOnlySqlTransaction: cannot execute UPDATE in a read-only transaction"),
    ],
)
def test_a_replica_shows_what_was_there_before_the_commit_at_which_it_began_to_lag(
    mistake: str, message: str | None, opened: Open
) -> None:
    late = Deviation("api commit with made", 1, "replica lags a timeout")
    run = played(opened("invoices.yaml", mistake), JobPlan("a"), JobPlan("z", at=2 * MINUTE), tape=(late,))

    assert run.uncovered == ()
    if message is None:
        assert run.anomalies == ()
    else:
        assert any(message in each.message for each in run.anomalies), run.anomalies


@pytest.mark.slow
@pytest.mark.parametrize(("does", "fails", "runs"), [("calls-five-times", 2, 3), ("insists", 1, 2)])
def test_the_calls_that_an_attempt_makes_are_one_run_until_one_fails(
    does: str, fails: int, runs: int, opened: Open
) -> None:
    job = JobPlan("a", outcomes=(*(Ending.FAIL,) * fails, Ending.SUCCEED), takes=(Span(fixed=MINUTE),))
    run = played(opened("tasks.yaml", does), job)
    started = [event.attempt for event in run.history if isinstance(event, Effect) and event.name == "started"]

    assert (run.found, started) == (frozenset(), [*range(1, runs + 1)])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "finds"), [("rate-of-rows", {"rate_exceeded"}), ("rate-is-kept", set())])
def test_a_rate_counts_each_claim_of_a_job(mistake: str, finds: set[str], opened: Open) -> None:
    jobs = JobPlan("a", outcomes=(Ending.FAIL, Ending.SUCCEED)), JobPlan("b", at=35 * SECOND)
    run = played(opened("tasks.yaml", mistake), *jobs)
    assert run.uncovered == ()
    assert run.found == finds


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "finds"), [("key-cut-short", {"option_dropped"}), at_length("", set())])
def test_keys_that_differ_late_are_not_kept_as_one(mistake: str, finds: set[str], opened: Open) -> None:
    one, other = "k" * 299 + "1", "k" * 299 + "2"
    jobs = JobPlan("a", unique_key=one), JobPlan("b", unique_key=other, at=10 * MINUTE)
    assert played(opened("tasks.yaml", mistake), *jobs).found == finds


def test_a_system_that_gives_up_a_promise_still_has_the_others() -> None:
    info = SystemEngine(str(SYSTEMS / "tasks.yaml")).info
    assert given_up(info, {"job_stuck"}) == []


def test_what_is_not_asked_of_a_system_is_named_with_the_line_that_would_add_it() -> None:
    shown = SystemEngine(str(SYSTEMS / "digests.yaml")).info.shows()

    asked = {item.id for item in stepwise(everything(), shown)}
    missing = unasked(everything(), shown)
    assert asked.isdisjoint(missing)
    assert missing["retry_reopens"] == ["actions: retry"]
    assert missing["priority_order"][-1] == "promises: also: [priority_order]"


@pytest.mark.campaign
@pytest.mark.parametrize(("file", "mistake"), MISTAKES, ids=[name for _, name in MISTAKES])
def test_the_generic_search_finds_it(file: str, mistake: str, opened: Open) -> None:
    engine, finds = opened(file, mistake), FILES[file][mistake]["finds"]
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)

    assert finds in {*ANOMALIES, COSTS_ATTEMPT.name, COSTS_JOB.name}
    assert any(finds in sampler.sample(seed).found for seed in range(RUNS))


@pytest.mark.campaign
@pytest.mark.parametrize("file", FILES)
def test_it_finds_nothing_where_there_is_no_mistake(file: str, opened: Open) -> None:
    engine = opened(file, "")
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)

    assert {seed: found for seed in range(RUNS) if (found := sampler.sample(seed).found)} == {}
