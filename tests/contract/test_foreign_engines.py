"""Real queues of other people: their clock is ours, they conform where they should, and what they lose is found.

What holds of all of them is a table; below it stands what one of them alone does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from textwrap import dedent

import pytest
from tests.contract.opened_engines import Get, fresh, opened_engines

from job_harness.core.history.jsonl import dump_history
from job_harness.core.model.duration import MILLISECOND
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.core.run.play import play
from job_harness.core.run.session import Limits
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.conformance.judge import Level, Mark, conform
from job_harness.errors import ExitCode, UsageError
from job_harness.search.sampling import DRAWN_LIMITS, Sampler, run_seed
from job_harness.search.targets import open_engine
from job_harness.worlds.peers import PeerLost

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

GRAPHILE, PGQUEUER, BULL = "graphile-worker@0.18.0", "pgqueuer@1.6.0", "bullmq@6.7.0"
DJANGO = "django-tasks-db@0.13.0"
BOSS, BOSS_10 = "pgboss-node@12.38.0", "pgboss-node@10.4.2"
PROCRASTINATE = ("procrastinate@3.8.1", "procrastinate@3.10.0")
BEFORE_ABORTS_WERE_REPAIRED, SECOND = "procrastinate@2.9.1", "procrastinate@2.9.2"
WITHOUT_CRASHES = (Level.CORE, Level.SCHEDULED, Level.UNIQUE, Level.BATCHES)
SURROGATE = "hostile/error_with_lone_surrogate"
UNWRITABLE = ("hostile/error_with_nul", SURROGATE)
LATE = ("zombies/late_complete", "zombies/late_fail")


@pytest.fixture(scope="module")
def engines() -> Iterator[Get]:
    with opened_engines() as get:
        yield get


# what holds of all --------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", [*PROCRASTINATE, SECOND, PGQUEUER, GRAPHILE, "pgboss@10.4.2"])
def test_time_moves_the_engine(engines: Get, name: str) -> None:
    strictly = 1 if name == "pgboss@10.4.2" else 0
    settings = engines(name).info.contract.effective(Settings())
    queue, clocks = fresh(engines(name), settings)
    assert queue.enqueue(JobRequest("a", start_after=settings.retry_delay)).done
    assert queue.claim("w1", 1).value == []
    clocks.now = settings.retry_delay + strictly
    assert [claim.job for claim in queue.claim("w1", 1).value] == ["a"]
    clocks.now += settings.lease
    assert queue.expire().value == []
    clocks.now += 1
    assert queue.expire().value == ["a"]


@pytest.mark.parametrize(
    ("name", "levels", "known"),
    [
        (GRAPHILE, tuple(Level), [SURROGATE]),
        pytest.param(BOSS_10, tuple(Level), [*LATE, *UNWRITABLE], marks=pytest.mark.long),
        pytest.param(BOSS, tuple(Level), UNWRITABLE, marks=pytest.mark.long),
        pytest.param(
            PGQUEUER, (Level.CORE, Level.RELIABLE, Level.SCHEDULED, Level.UNIQUE), [SURROGATE], marks=pytest.mark.long
        ),
        (DJANGO, (Level.CORE, Level.SCHEDULED, Level.BATCHES), []),
        pytest.param(
            BULL, WITHOUT_CRASHES, ["uniqueness/retry_is_refused_while_another_has_the_key"], marks=pytest.mark.long
        ),
        *(
            pytest.param(
                name, WITHOUT_CRASHES, ["uniqueness/failed_job_waits_beside_its_sibling"], marks=pytest.mark.long
            )
            for name in PROCRASTINATE
        ),
    ],
)
def test_it_conforms_but_for_what_it_is_known_for(
    engines: Get, name: str, levels: Collection[Level], known: Collection[str]
) -> None:
    found = conform(engines(name), levels=levels)
    assert {item.case.name for item in found.results if item.mark in (Mark.FAIL, Mark.KNOWN)} == set(known)
    assert found.exit_code is ExitCode.PASS
    assert not found.lies


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "level", "failing"),
    [
        ("pgqueuer@1.0.1", Level.UNIQUE, "concurrency/crashed_job_gives_its_permit_back"),
        ("graphile-worker@0.17.3", Level.UNIQUE, "concurrency/serial_key_within_a_batch"),
    ],
)
def test_a_release_before_a_repair_fails_its_case(engines: Get, name: str, level: Level, failing: str) -> None:
    found = conform(engines(name), levels=[level])
    assert [item.case.name for item in found.results if item.mark is Mark.FAIL] == [failing]


@pytest.mark.parametrize(
    ("name", "anomaly", "seed", "runs"),
    [
        pytest.param(BOSS, "outcome_lost", 0, 600, marks=pytest.mark.long),
        ("pgboss@10.4.2", "outcome_lost", 0, 600),
        pytest.param("pgqueuer@1.0.1", "due_job_left", 0, 10, marks=pytest.mark.long),
        *(pytest.param(name, "attempt_overrun", 0, 60, marks=pytest.mark.long) for name in PROCRASTINATE),
        pytest.param("graphile-worker@0.17.3", "serial_key_shared", 1, 60, marks=pytest.mark.long),
        (BULL, "outcome_lost", 1, 20),
        (DJANGO, "job_stuck", 0, 20),
    ],
)
def test_the_generic_workload_finds_what_is_wrong_with_it(
    engines: Get, name: str, anomaly: str, seed: int, runs: int
) -> None:
    limits = Limits(steps=600) if anomaly == "due_job_left" else DRAWN_LIMITS
    sampler = Sampler(engines(name), looking_for=frozenset({anomaly}), limits=limits)
    finding = sampler.explore(seed=seed, runs=runs).finding
    assert finding is not None
    assert anomaly != "outcome_lost" or len(finding.scenario.jobs) == 1
    assert anomaly != "serial_key_shared" or finding.scenario.settings.batch_size == 2


@pytest.mark.long
def test_the_generic_workload_does_not_find_it_where_it_was_repaired(engines: Get) -> None:
    sampler = Sampler(engines(GRAPHILE), looking_for=frozenset({"serial_key_shared"}))
    assert sampler.explore(seed=1, runs=60).finding is None


@pytest.mark.parametrize("name", [BULL, BOSS, "pgboss@10.4.2"])
def test_a_retry_without_a_delay_is_as_late_as_the_engine_says(engines: Get, name: str) -> None:
    job = JobPlan("a", outcomes=(Ending.FAIL, Ending.FAIL, Ending.SUCCEED))
    run = play(Scenario(settings=Settings(retry_delay=0), jobs=(job,)), engine=engines(name))
    assert (run.verdict, run.found) == (Verdict.PASS, set())


@pytest.mark.parametrize("name", ["pgboss@10.4.2", BOSS])
def test_a_retry_by_hand_after_a_resume_allows_one_more_attempt(engines: Get, name: str) -> None:
    settings = Settings(max_attempts=1)
    queue, clocks = fresh(engines(name), settings)
    queue.enqueue(JobRequest("a"))
    attempts = []
    for _ in range(2):
        clocks.now += settings.retry_delay_max
        (claim,) = queue.claim("w1", 1).value
        attempts.append((claim.attempt, queue.jobs()["a"].max_attempts))
        assert (queue.fail(claim, "no", False) if attempts[1:] else queue.cancel("a")).done
        assert queue.retry("a").done
    clocks.now += settings.retry_delay_max
    (claim,) = queue.claim("w1", 1).value
    assert [*attempts, (claim.attempt, queue.jobs()["a"].max_attempts)] == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("name", [*PROCRASTINATE, PGQUEUER, GRAPHILE, BULL])
def test_two_tools_may_have_one_unique_key_which_is_refused_until_its_job_ends(engines: Get, name: str) -> None:
    queue, _ = fresh(engines(name))
    assert queue.enqueue(JobRequest("a", unique_key="k")).done
    assert queue.enqueue(JobRequest("b", tool="other", unique_key="k")).done
    assert not queue.enqueue(JobRequest("c", unique_key="k")).done
    assert queue.jobs()["b"].unique_key == "k"
    (claim,) = [claim for claim in queue.claim("w1", 2).value if claim.job == "a"]
    queue.complete(claim, None)
    assert queue.jobs()["a"].status is Status.COMPLETED
    assert queue.enqueue(JobRequest("d", unique_key="k")).done


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pgqueuer@newest", "is not a version of pgqueuer"),
        ("procrastinate@newest", "is not a version of procrastinate"),
        ("graphile-worker@0.16.6", "graphile-worker 0.16.6 lacks the functions"),
        ("pgboss-node@9.0.3", "pg-boss 9.0.3 has a schema that this engine cannot read"),
        ("bullmq@5.80.0", "bullmq 5.80.0 has no PostgreSQL"),
        ("pgboss@12.38.0", "runs the SQL of pg-boss 10, and '12.38.0' is not a version of it"),
    ],
)
def test_what_is_no_release_that_it_drives_is_refused(name: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        open_engine(name).info.prepare()


# graphile-worker ----------------------------------------------------------------------------------------------------


def test_a_job_that_succeeded_is_seen_though_its_row_is_gone(engines: Get) -> None:
    queue, _ = fresh(engines(GRAPHILE))
    queue.enqueue(JobRequest("a"))
    claim = queue.claim("w1", 1).value[0]
    assert queue.complete(claim, None).done
    assert queue.jobs()["a"].status == "COMPLETED"
    assert not queue.complete(claim, None).done


# BullMQ -------------------------------------------------------------------------------------------------------------


def test_a_lock_is_lost_a_millisecond_after_its_time_and_the_second_time_for_good(engines: Get) -> None:
    settings = Settings(max_attempts=5)
    queue, clocks = fresh(engines(BULL), settings)
    queue.enqueue(JobRequest("a"))
    seen = []
    for _ in range(2):
        (claim,) = queue.claim("w1", 1).value
        clocks.now += settings.lease
        assert queue.expire().value == []
        assert queue.heartbeat(claim).done
        clocks.now += settings.lease + MILLISECOND
        assert queue.expire().value == ["a"]
        seen.append((claim.attempt, queue.complete(claim, None).done, queue.jobs()["a"].status))
    assert seen == [(1, False, Status.PENDING), (2, False, Status.PENDING)]
    assert queue.claim("w1", 1).value == []
    assert queue.jobs()["a"].status is Status.FAILED
    assert queue.jobs()["a"].attempts == 2


def test_a_removed_job_is_seen_as_cancelled_though_its_row_is_gone(engines: Get) -> None:
    queue, _ = fresh(engines(BULL))
    queue.enqueue(JobRequest("a:1"))
    assert queue.cancel("a:1").done
    assert queue.jobs()["a:1"].status is Status.CANCELLED
    assert not queue.cancel("a:1").done


# pg-boss ------------------------------------------------------------------------------------------------------------


def test_what_is_fetched_together_comes_as_it_was_sent(engines: Get) -> None:
    queue, clocks = fresh(engines(BOSS), Settings(batch_size=3))
    for name, priority in {"c": 0, "a": 5, "b": 1}.items():
        queue.enqueue(JobRequest(name, priority=priority))
    clocks.now += 1
    assert [claim.job for claim in queue.claim("w1", 3).value] == ["c", "a", "b"]


def test_heartbeats_are_there_from_12_on(engines: Get) -> None:
    assert [engines(name).info.capabilities.heartbeat for name in (BOSS_10, BOSS)] == [False, True]


@pytest.mark.long
def test_jobs_of_one_instant_come_in_the_same_order_in_each_run_whatever_their_ids(engines: Get) -> None:
    sampler = Sampler(engines(BOSS))
    assert len({dump_history(sampler.sample(run_seed(0, 56)).history) for _ in range(8)}) == 1


def test_a_killed_child_is_named_and_the_next_run_has_a_new_one(engines: Get) -> None:
    engine = engines(BOSS_10)
    queue, _ = fresh(engine)
    engine.peer.kill()
    with pytest.raises(PeerLost, match=r"pgboss-node@10\.4\.2: its process was ended"):
        queue.enqueue(JobRequest("a"))
    assert fresh(engine)[0].enqueue(JobRequest("a")).done


@pytest.mark.long
def test_it_conforms_no_worse_than_its_own_sql(engines: Get) -> None:
    told = [
        {item.case.name: item.mark for item in conform(engines(name), levels=[Level.RELIABLE]).results}
        for name in ("pgboss@10.4.2", BOSS_10)
    ]
    assert told[0] == told[1]
    assert {told[0][case] for case in (*LATE, *UNWRITABLE)} == {Mark.KNOWN}


# procrastinate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROCRASTINATE)
def test_numbers_begin_anew_so_that_a_run_can_be_had_again(engines: Get, name: str) -> None:
    told = []
    for _ in range(2):
        queue, _ = fresh(engines(name))
        queue.enqueue(JobRequest("a"))
        (claim,) = queue.claim("w1", 1).value
        assert queue.complete(claim, None).done
        told.append(queue.complete(claim, None))
    assert told[0] == told[1]
    assert not told[0].done


@pytest.mark.parametrize("name", PROCRASTINATE)
def test_a_retry_by_hand_allows_one_more_attempt_and_is_none_itself(engines: Get, name: str) -> None:
    queue, _ = fresh(engines(name), Settings(max_attempts=1))
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    assert not queue.retry("a").done
    assert queue.fail(claim, "no", False).done
    assert queue.retry("a").done
    (again,) = queue.claim("w1", 1).value
    view = queue.jobs()["a"]
    assert (again.attempt, view.attempts, view.max_attempts) == (2, 2, 2)
    assert again.token > claim.token
    assert queue.fail(again, "no", False).done
    assert queue.jobs()["a"].status is Status.FAILED


@pytest.mark.parametrize(("name", "ends"), [(BEFORE_ABORTS_WERE_REPAIRED, False), (SECOND, True)])
def test_a_job_that_is_asked_to_abort_and_fails_ends_from_2_9_2_on(engines: Get, name: str, ends: bool) -> None:
    queue, clocks = fresh(engines(name))
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    assert queue.cancel("a").done
    failed = queue.fail(claim, "no", False)
    clocks.now += 2 * Settings().lease
    assert queue.expire().value == []
    view = queue.jobs()["a"]
    assert (failed.done, view.status, view.attempts) == (ends, Status.FAILED if ends else Status.PROCESSING, 1)
    assert (view.completed_at is None) is not ends
    assert ends or "goes on aborting" in failed.reason


# PgQueuer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scenario",
    [
        """
        settings: {tool_concurrency: 1}
        workers: [w1]
        jobs: {a: {outcomes: fail, priority: 5}, z: {}}
        tape: [{at: w1 running z, do: crash}]
        """,
        """
        workers: [w1]
        jobs: {a: {outcomes: [fail, fail, succeed]}}
        tape: [{at: w1 fail a, do: cut off for a lease - 1s}]
        """,
    ],
    ids=["past a limit", "by an outage"],
)
def test_what_it_documents_of_a_stale_job_that_is_picked_is_no_anomaly(engines: Get, scenario: str) -> None:
    text = dedent(f"""
        format: 1
        title: A stale job is picked.
        restart_after: 5s
        {scenario}""")
    run = play(read_scenario_text(text, path="stale.yaml"), engine=engines(PGQUEUER))
    assert (run.verdict, run.found) == (Verdict.PASS, set())


def test_a_heartbeat_keeps_a_job_from_being_picked_again_until_it_is_too_old(engines: Get) -> None:
    settings = Settings()
    queue, clocks = fresh(engines(PGQUEUER), settings)
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    clocks.now += settings.lease
    assert queue.heartbeat(claim).done
    clocks.now += settings.lease
    assert queue.claim("w2", 1).value == []
    clocks.now += 1
    assert [claim.token for claim in queue.claim("w2", 1).value] == [2]


def test_a_stale_job_that_its_worker_fails_for_good_waits_no_more(engines: Get) -> None:
    settings = Settings(max_attempts=1)
    queue, clocks = fresh(engines(PGQUEUER), settings)
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    clocks.now += settings.lease + 1
    assert queue.expire().value == ["a"]
    assert queue.fail(claim, "boom", False).done
    assert queue.jobs()["a"].status is Status.FAILED
    assert not queue.cancel("a").done
    assert queue.jobs()["a"].status is Status.FAILED


@pytest.mark.long
def test_a_job_ends_by_the_clock_of_its_end_where_that_was_set_back(engines: Get) -> None:
    queue, clocks = fresh(engines(PGQUEUER))
    clocks.now = 10_000_000
    queue.enqueue(JobRequest("a"))
    (claim,) = queue.claim("w1", 1).value
    clocks.now = 5_000_000
    assert queue.complete(claim, None).done
    assert queue.jobs()["a"].completed_at == clocks.now


@pytest.mark.long
def test_the_error_of_an_attempt_is_that_of_its_traceback(engines: Get) -> None:
    settings = Settings(max_attempts=2)
    queue, clocks = fresh(engines(PGQUEUER), settings)
    queue.enqueue(JobRequest("a"))
    seen = []
    for text in ("first", "second"):
        clocks.now += settings.retry_delay + 1
        (claim,) = queue.claim("w1", 1).value
        seen.append(queue.jobs()["a"].error)
        queue.fail(claim, text, False)
        seen.append(queue.jobs()["a"].error)
    assert seen == [None, "first", None, "second"]
