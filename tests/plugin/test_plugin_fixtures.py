"""The fixtures as a user's test suite sees them."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg  # noqa: F401 - loaded once, as below
import pytest

import job_harness.core.run.play
import job_harness.core.scenario.reader
import job_harness.doors.pytest.collection
import job_harness.engines.memory
import job_harness.engines.reference
import job_harness.report.case
import job_harness.report.screen
import job_harness.subjects.processors
import job_harness.subjects.processors.job_clock  # noqa: F401 - loaded once: an inner run forgets what it loads itself

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""

HEADER = """
import asyncio
import pytest
from job_harness.subjects.processors import JobResult

async def fail(job):
    return JobResult(success=False, error="no luck")

async def succeed(job):
    await asyncio.sleep(60)
    return JobResult(success=True, output=job.input)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    return pytester


def run(suite: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    suite.makepyfile(HEADER + source)
    return suite.runpytest_inprocess(*arguments)


def test_job_harness_runs_a_processor(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
def test_it(job_harness, job_clock):
    job_harness.register("echo", succeed)
    before = job_clock.now
    job = job_harness.enqueue("echo", 5)
    job_harness.run_until_idle()
    assert (job.status, job.output) == ("COMPLETED", 5)
    assert (job_clock.now - before).total_seconds() == 60
    job_clock.advance("1h")
    assert (job_harness.now - before).total_seconds() == 3660
""",
    )
    result.assert_outcomes(passed=1)


def test_async_job_harness_is_awaited(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
def test_it(async_job_harness):
    async def scene():
        await async_job_harness.register("echo", succeed)
        job = await async_job_harness.enqueue("echo", 5)
        await async_job_harness.run_until_idle()
        assert job.status == "COMPLETED"
    asyncio.run(scene())
""",
    )
    result.assert_outcomes(passed=1)


def test_a_call_that_is_never_awaited_fails_the_test_with_its_line(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
pytestmark = pytest.mark.filterwarnings("ignore:coroutine")

def test_plain(async_job_harness):
    async_job_harness.run_until_idle()
    async_job_harness.assert_enqueued("never")

def test_partly(async_job_harness):
    async def scene():
        await async_job_harness.register("echo", succeed)
        async_job_harness.enqueue("echo", 5)
    asyncio.run(scene())

def test_at_first(async_job_harness):
    async def scene():
        async_job_harness.register("echo", succeed)
        await async_job_harness.enqueue("echo", 5)
    asyncio.run(scene())
""",
    )
    result.assert_outcomes(passed=2, failed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "E * no processor is registered for the tool 'echo'",
            "E *calls of async_job_harness were never awaited, so they did nothing:",
            "E *.py:26: register()",
        ]
    )
    result.stdout.fnmatch_lines(
        [
            "calls of async_job_harness were never awaited, so they did nothing:",
            "  *.py:15: run_until_idle()",
            "  *.py:16: assert_enqueued()",
            "  *.py:21: enqueue()",
        ]
    )


def test_a_failed_job_that_the_test_never_looked_at_fails_it_by_name(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
def test_it(job_harness):
    job_harness.register("my-tool", fail)
    job_harness.enqueue("my-tool", None, max_attempts=1)
    job_harness.run_until_idle()

def test_looking(job_harness):
    job_harness.register("my-tool", fail)
    job = job_harness.enqueue("my-tool", None, max_attempts=1)
    job_harness.run_until_idle()
    assert job.status == "FAILED"

def test_failing(job_harness):
    job_harness.register("my-tool", fail)
    job_harness.enqueue("my-tool", None, max_attempts=1)
    job_harness.run_until_idle()
    assert False, "for another reason"
""",
    )
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*a job ended FAILED and the test never looked:", "*job-1 (my-tool), attempts 1: no luck"]
    )


def test_a_job_that_never_ended_and_was_never_looked_at_is_named_and_fails_where_that_is_asked_for(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile(
        HEADER
        + """
@pytest.fixture
def job(job_harness):
    job_harness.register("tool", fail)
    return job_harness.enqueue("tool")

def test_forgotten(job): ...

def test_given_up(job, job_harness):
    job_harness.work_one()

@pytest.mark.parametrize("look", [
    lambda job, harness: job.status,
    lambda job, harness: harness.assert_enqueued("tool"),
    lambda job, harness: harness.drain() == {"retried": 1},
    lambda job, harness: harness.wait_for(lambda: harness.now),
    lambda job, harness: harness.effects("charged"),
    lambda job, harness: harness.cancel(job),
    lambda job, harness: pytest.skip("for another reason"),
])
def test_looking(job, job_harness, look):
    look(job, job_harness)

def test_of_a_follow_up(job_harness):
    job_harness.register("later", succeed)
    def first(job):
        job_harness.enqueue("later", start_after="3d")
        return JobResult(success=True)
    job_harness.register("first", first)
    job_harness.enqueue("first")
    job_harness.drain()
"""
    )
    told = "not judged: a job had not ended and the test never looked at it; call run_until_idle(), or read its status"
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=9, skipped=1)
    result.stdout.fnmatch_lines([f"job-harness: {told} (*::test_forgotten and 1 more (-rP shows which))"])
    strict = suite.runpytest_inprocess("--job-strict")
    strict.assert_outcomes(passed=9, skipped=1, errors=2)
    strict.stdout.fnmatch_lines(
        [f"--job-strict: {told}", "  job-1 (tool) is PENDING, attempts 0 of 3", "  * attempts 1 of 3: no luck"]
    )


def test_a_failure_says_how_far_off_the_time_of_a_job_is(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
from datetime import datetime, timedelta

def test_it(job_harness):
    job_harness.register("tool", succeed)
    job = job_harness.enqueue("tool", start_after=job_harness.now + timedelta(days=330, hours=2, minutes=5))
    job_harness.advance("3h")
    assert job.status == "COMPLETED"
""",
    )
    result.stdout.fnmatch_lines(
        [
            "job-1 (tool) is due in 329d23h, at 2026-11-27 02:05:00",
            "virtual time is 2026-01-01 03:00:00; job_clock.freeze() lets the test's datetime.now() follow it",
        ]
    )


def test_an_invariant_of_a_tool_that_the_test_has_not_is_not_judged_and_strictly_a_failure(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile(
        HEADER
        + """
from job_harness import exactly_once

@pytest.fixture
def job_invariants():
    return [exactly_once("mail", tool="send-recipt")]

@pytest.fixture
def jobs(job_harness):
    job_harness.register("send-receipt", succeed)
    return job_harness

def test_receipt(jobs):
    jobs.enqueue("send-receipt")
    jobs.run_until_idle()

def test_without_jobs(jobs): ...
"""
    )
    unknown = "this test has no tool 'send-recipt' (did you mean 'send-receipt'?)"
    told = f"not judged: mail_exactly_once judged no job: {unknown}"
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"job-harness: {told} (*::test_receipt)"])
    strict = suite.runpytest_inprocess("--job-strict")
    strict.assert_outcomes(passed=2, errors=1)
    strict.stdout.fnmatch_lines([f"--job-strict: {told}", "  the tools of this test: send-receipt"])


def test_an_invariant_knows_a_tool_by_its_registered_name(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        HEADER
        + """
from job_harness import exactly_once

@pytest.fixture
def job_invariants():
    return [exactly_once("charged", tool="settle_invoice")]

def test_settled(job_harness):
    job_harness.register("settle_invoice", succeed)
    job_harness.enqueue("settle_invoice")
    job_harness.run_until_idle()
"""
    )
    result = suite.runpytest_inprocess("--job-strict")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.no_fnmatch_line("*has no tool*")
    result.stdout.fnmatch_lines(["*job-1 of settle_invoice completed, and charged never happened"])


def test_an_anomaly_fails_the_test_with_its_first_screen(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
async def stubborn(job):
    until = asyncio.get_running_loop().time() + 3600
    while asyncio.get_running_loop().time() < until:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            continue
    return JobResult(success=True)

def test_it(job_harness):
    job_harness.register("stubborn", stubborn)
    job = job_harness.enqueue("stubborn", None, max_attempts=2)
    job_harness.run_until_idle()
    assert job.status == "FAILED"
""",
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["FAIL  test_it", "concurrent_execution: *", "Guarantee lost: one at a time*"])


def test_settings_come_from_a_marker_and_unknown_ones_are_refused(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
@pytest.mark.job_settings(max_attempts=1, job_timeout="30s")
def test_it(job_harness):
    job_harness.register("echo", succeed)
    job = job_harness.enqueue("echo", 5)
    job_harness.run_until_idle()
    assert job.status == "FAILED"
    assert "timed out after 30 s" in job.error

@pytest.mark.job_settings(max_attempt=1)
def test_wrong(job_harness):
    pass
""",
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*no setting 'max_attempt' (did you mean 'max_attempts'?)*"])


CLOCKS = """
import sys
import time
from datetime import UTC, date, datetime
from time import monotonic, time as now

import pytest

async def read(job):
    began = monotonic()
    await asyncio.sleep(300)
    return JobResult(success=True, output=[now(), monotonic() - began, str(datetime.now(UTC)), str(date.today())])

def read_plainly(job):
    began = monotonic()
    time.sleep(300)
    return JobResult(success=True, output=[now(), monotonic() - began, str(datetime.now(UTC)), str(date.today())])

def what_is_read(job_harness, processor=read):
    job_harness.register("read", processor)
    job = job_harness.enqueue("read")
    job_harness.run_until_idle()
    return job.output

VIRTUAL = [1767225900.0, 300.0, "2026-01-01 00:05:00+00:00", "2026-01-01"]
"""


def test_processors_read_virtual_time_and_the_test_around_them_the_machines(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        CLOCKS
        + """
@pytest.mark.parametrize("processor", [read, read_plainly])
def test_it(job_harness, processor):
    assert what_is_read(job_harness, processor) == VIRTUAL
    assert abs(datetime.now(UTC).timestamp() - time.time()) < 60 and datetime.now(UTC) != job_harness.now

@pytest.mark.job_clocks("real")
def test_not_where_it_is_switched_off(job_harness):
    moment, passed, *_ = what_is_read(job_harness)
    assert abs(moment - time.time()) < 60 and passed < 60

@pytest.mark.job_clocks("reel")
def test_no_word(job_harness):
    pass
""",
        "--durations=3",
        "-W",
        "error",
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*clocks is 'reel' (did you mean 'real'?)*"])
    assert not [line for line in result.outlines if "300." in line]  # Durations are real.


def test_a_freeze_of_the_tests_own_holds_for_every_clock_of_a_plain_processor(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
import time
from datetime import datetime
from freezegun import freeze_time

@pytest.mark.parametrize("clocks", [
    pytest.param("virtual", marks=pytest.mark.job_clocks("virtual")),
    pytest.param("real", marks=pytest.mark.job_clocks("real")),
])
@freeze_time("2024-02-29 12:00")
def test_it(job_harness, clocks):
    def years(job):
        clocks = datetime.now(), *(datetime.fromtimestamp(at) for at in (time.time(), time.time_ns() // 10**9))
        return {"success": True, "output": [time.gmtime().tm_year, *(clock.year for clock in clocks)]}

    job_harness.register("years", years)
    job = job_harness.enqueue("years")
    job_harness.run_until_idle()
    assert job.output == [2024] * 4
""",
    )
    result.assert_outcomes(passed=2)


def test_the_clock_freezes_the_time_of_day_when_asked(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
from datetime import UTC, datetime

async def stamp(job):
    await asyncio.sleep(600)
    return JobResult(success=True, output=datetime.now(UTC).isoformat())

def test_it(job_harness, job_clock):
    job_clock.freeze()
    job_harness.register("stamp", stamp)
    job = job_harness.enqueue("stamp", None)
    job_harness.run_until_idle()
    assert job.output == "2026-01-01T00:10:00+00:00"
    job_clock.jump("1h")
    assert datetime.now(UTC) == job_clock.now

def test_the_next_one_has_the_real_time(job_clock):
    assert datetime.now(UTC) != job_clock.now
""",
        "--durations=0",
        "-vv",
    )
    result.assert_outcomes(passed=2)
    (took,) = (line for line in result.outlines if " call " in line and "test_it" in line)
    assert float(took.partition("s ")[0]) < 600, "what pytest measures is real time"


def test_job_queue_is_a_queue_of_each_engine_on_the_test_clock(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
from job_harness.core.port import JobRequest

def test_it(job_queue, job_clock):
    assert job_queue.enqueue(JobRequest("a", start_after=60_000_000)).done
    assert job_queue.claim("w1", 1).value == []
    job_clock.advance("1m")
    (claim,) = job_queue.claim("w1", 1).value
    assert job_queue.complete(claim, {"n": 1}).done
    assert job_queue.jobs()["a"].status == "COMPLETED"
""",
        "-v",
        "--job-engine=memory,reference",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*::test_it?memory? PASSED*", "*::test_it?reference? PASSED*"])


@pytest.mark.postgres
def test_job_postgres_is_emptied_after_each_test_and_cloned_after_ddl(suite: pytest.Pytester) -> None:
    suite.makeconftest(
        """
import psycopg
import pytest

@pytest.fixture(scope="session")
def job_postgres_schema():
    def prepare(url):
        with psycopg.connect(url) as connection:
            connection.execute("create table colour (name text)")
            connection.execute("insert into colour values ('red')")
            connection.execute("create table note (id serial, body text)")
    return prepare
"""
    )
    result = run(
        suite,
        """
import psycopg

def ask(job_postgres, statement):
    with psycopg.connect(job_postgres.url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else None

def test_one(job_postgres):
    ask(job_postgres, "insert into note (body) values ('x')")
    job_postgres.reset(keep=["note"])
    assert ask(job_postgres, "select id from note") == [(1,)]

def test_two(job_postgres):
    assert ask(job_postgres, "select id from note") == []
    assert ask(job_postgres, "insert into note (body) values ('x') returning id") == [(1,)]
    assert ask(job_postgres, "select name from colour") == [("red",)]
    ask(job_postgres, "drop table note")

def test_three(job_postgres, job_queue):
    assert ask(job_postgres, "select id from note") == []
""",
        "--job-engine=postgres",
    )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*PostgreSQL from *"])


MODULE_WITH_SCHEMA = """
import psycopg
import pytest

@pytest.fixture(scope="session")
def job_postgres_schema():
    def migrate(url):
        with psycopg.connect(url) as connection:
            connection.execute("create table {table} (id int)")
            {then}
    return migrate

@pytest.mark.parametrize("time", [1, 2])
def test_it(job_postgres, time):
    with psycopg.connect(job_postgres.url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        connection.execute("insert into {table} values (1)")
    assert tables == [("{table}",)]
"""


@pytest.mark.long
@pytest.mark.postgres
def test_two_modules_that_each_migrate_have_a_database_each(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_invoices=MODULE_WITH_SCHEMA.format(table="invoices", then=""),
        test_orders=MODULE_WITH_SCHEMA.format(table="orders", then=""),
        test_wrong=MODULE_WITH_SCHEMA.format(table="wrong", then="raise ValueError('no such column')"),
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(["*ValueError: no such column*"])


@pytest.mark.long
@pytest.mark.postgres
def test_a_schema_of_each_test_has_its_database_dropped_with_it(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
import psycopg
import pytest

names = []

@pytest.fixture
def job_postgres_schema(request):
    def migrate(url):
        with psycopg.connect(url) as connection:
            connection.execute(f"create table of_test_{request.node.callspec.params['time']} (id int)")
    return migrate

@pytest.mark.parametrize("time", [1, 2, 3])
def test_it(job_postgres, time):
    with psycopg.connect(job_postgres.url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        names.append(connection.info.dbname)
        kept = connection.execute("select datname from pg_database where datname = any(%s)", [names]).fetchall()
        hashes = [connection.execute("select hashtext(%s)", [name]).fetchone()[0] for name in names]
        claimed = connection.execute("select objid::int8 from pg_locks where locktype = 'advisory'").fetchall()
    assert tables == [(f"of_test_{time}",)]
    assert kept == [(names[-1],)]
    assert [hash for hash in hashes if (hash % 2**32,) in claimed] == hashes[-1:]
""",
    )
    result.assert_outcomes(passed=3)


@pytest.mark.postgres
def test_a_database_that_was_named_and_does_not_answer_is_an_error_and_never_a_skip(suite: pytest.Pytester) -> None:
    for name in ("mail.yaml", "mail.sql"):
        shutil.copy(Path(__file__).parents[2] / "examples" / "queues" / name, suite.path)
    result = run(
        suite,
        """
def test_it(job_postgres): pass
def test_an_engine_of_a_file(job_queue): pass
""",
        "--job-dsn=postgresql://127.0.0.1:1/nothing",
        "--job-engine=mail.yaml",
    )
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*does not answer*", "*does not answer*"])


def test_an_engine_that_job_harness_does_not_run_on_is_named(suite: pytest.Pytester) -> None:
    result = run(suite, "def test_it(job_harness): pass\n", "--job-engine=reference")
    result.stdout.fnmatch_lines(
        ["job_harness ran in memory: --job-engine reference applies to scenarios and job_queue"]
    )


def test_invariants_of_the_users_own_judge_every_test(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
from job_harness.subjects.processors import at_most_once, effect

@pytest.fixture
def job_invariants():
    return [at_most_once("charged")]

async def charge(job):
    effect("charged", order=job.input)
    return JobResult(success=True)

def test_it(job_harness):
    job_harness.register("charge", charge)
    job = job_harness.enqueue("charge", 7)
    job_harness.deliver_twice(job)
    job_harness.drain()
""",
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["effect_repeated: The side effect 'charged' happens at most once."])


def test_what_is_left_running_fails_the_test_and_what_is_not_under_control_is_named(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
import time

tasks = []

async def forget(job):
    tasks.append(asyncio.create_task(asyncio.sleep(10**6), name="cleaner"))
    return JobResult(success=True, output=time.time())

@pytest.mark.job_clocks("real")
def test_it(job_harness):
    job_harness.register("forgets", forget)
    job_harness.enqueue("forgets")
    job_harness.drain()

def test_the_clock_follows(job_harness, job_clock):
    job_clock.freeze()
    job_harness.register("stamps", lambda job: JobResult(success=True, output=time.time()))
    job = job_harness.enqueue("stamps")
    job_harness.drain()
    assert job.output == job_clock.now.timestamp()
""",
        "-rP",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "processors of this test left something running:",
            "  the task 'cleaner' of forgets job-1 still runs: sleep at *",
            "*job-harness: not under control*",
            "time: time.time at *test_what_is_left_running*.py:*",
            "job-harness: not under control in 1 test: time 1 (-rP shows where)",
        ]
    )
