"""`--job-engine pgboss`: the same tests of processors under pg-boss's own worker, green and red as pg-boss is."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.node_at_hand import missing_node

from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.processors.pgboss import work_process

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

OLD, NEW = "pgboss@10.4.2", "pgboss-node@12.38.0"
INI = """[pytest]
addopts = -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio -p no:xdist -p no:randomly
filterwarnings = error
"""
TESTS = """
import asyncio
import time
from datetime import timedelta

import pytest

from job_harness.subjects.processors import JobResult, NonRetryableError, effect


@pytest.mark.job_settings(max_attempts=4, retry_delay="12h", retry_delay_max="10d")
def test_backoff_over_days(job_harness):
    runs = []

    async def fails_thrice(job):
        runs.append(job_harness.now)
        await asyncio.sleep(30)
        return JobResult(success=job.attempts == 4, output={"got": job.input}, error="not yet")

    job_harness.register("mail", fails_thrice)
    job = job_harness.enqueue("mail", [1])
    job_harness.run_until_idle()
    assert (job.status, job.attempts, job.output, job.error) == ("COMPLETED", 4, {"got": [1]}, None)
    assert job.path == ["PENDING", "PROCESSING"] * 4 + ["COMPLETED"]
    assert runs[-1] - runs[0] > timedelta(days=2)


@pytest.mark.job_settings(max_attempts=1)
def test_one_failure_leaves_its_neighbours_alone(job_harness):
    job_harness.register("mail", lambda job: JobResult(success=job.input != 2, error="no"))
    jobs = [job_harness.enqueue("mail", number) for number in (1, 2, 3)]
    job_harness.drain()
    assert [job.status for job in jobs] == ["COMPLETED", "FAILED", "COMPLETED"]


def test_a_final_failure_is_not_retried(job_harness):
    def refuses(job):
        raise NonRetryableError("never")

    job_harness.register("mail", refuses)
    job = job_harness.enqueue("mail")
    job_harness.run_until_idle()
    assert (job.status, job.attempts) == ("FAILED", 1)


def test_a_processor_that_outlasts_its_lease_charges_once(job_harness):
    async def slow(job):
        await asyncio.sleep(3600 if job.attempts == 1 else 0)
        effect("charged")
        return JobResult(success=True)

    job_harness.register("charge", slow)
    job_harness.enqueue("charge")
    job_harness.run_until_idle()
    job_harness.advance("2h")
    assert len(job_harness.effects("charged")) == 1


def test_nothing_runs_beside_itself(job_harness):
    async def slow(job):
        await asyncio.sleep(3600 if job.attempts == 1 else 0)
        return JobResult(success=True)

    job_harness.register("mail", slow)
    job_harness.enqueue("mail")
    job_harness.advance("2h")


@pytest.mark.parametrize(
    ("place", "sleep"), [("while running", asyncio.sleep), ("charged", time.sleep), ("before complete", time.sleep)]
)
def test_a_worker_that_dies_leaves_its_job_to_the_next(job_harness, place, sleep):
    if sleep is time.sleep:

        def charge(job):
            time.sleep(5)
            effect("charged")
            time.sleep(5)
            return JobResult(success=True)
    else:

        async def charge(job):
            await asyncio.sleep(5)
            effect("charged")
            await asyncio.sleep(5)
            return JobResult(success=True)

    job_harness.register("charge", charge)
    job = job_harness.enqueue("charge")
    job_harness.crash_worker(at=place)
    job_harness.run_until_idle()
    assert (job.status, job.attempts) == ("COMPLETED", 2)


def test_jobs_that_enqueue_and_wait_are_counted(job_harness):
    async def first(job):
        job_harness.enqueue("second", job.input, start_after="3h")
        return JobResult(success=True)

    job_harness.register("first", first)
    job_harness.register("second", lambda job: JobResult(success=True, output=job.input))
    job_harness.enqueue("first", 1)
    later = job_harness.enqueue("first", 2, start_after="1d")
    assert job_harness.drain() == {"completed": 1}
    job_harness.assert_enqueued("second", input=1, start_after="3h", within="3s")
    assert job_harness.cancel(later)
    assert job_harness.drain(with_scheduled=True) == {"completed": 1}
    assert job_harness.retry(later)
    job_harness.run_until_idle()
    assert later.status == "COMPLETED"


@pytest.mark.job_settings(batch_size=1)
def test_one_job_at_a_time(job_harness):
    job_harness.register("mail", lambda job: JobResult(success=True))
    job_harness.register("post", lambda job: JobResult(success=True))
    jobs = [job_harness.enqueue(tool) for tool in ("post", "mail", "post")]
    assert job_harness.work_one().status == "COMPLETED"
    assert [job.status for job in jobs].count("PENDING") == 2
    assert job_harness.drain(limit=1) == {"completed": 1}
    assert [job.status for job in jobs].count("PENDING") == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda jobs: [jobs.deliver_twice(jobs.enqueue("mail")), jobs.drain()],
        lambda jobs: [jobs.enqueue("mail"), jobs.crash_worker(at="after complete"), jobs.drain()],
        lambda jobs: jobs.enqueue("mail", unique_key="k"),
        lambda jobs: jobs.drain(with_recursion=False),
        lambda jobs: [jobs.enqueue("mail"), jobs.enqueue("mail"), jobs.work_one()],
    ],
    ids=["deliver_twice", "crash_worker", "unique_key", "with_recursion", "work_one"],
)
def test_refused(job_harness, ask):
    job_harness.register("mail", lambda job: JobResult(success=True))
    ask(job_harness)


async def in_turn(async_job_harness):
    await async_job_harness.register("mail", lambda job: JobResult(success=True))
    job = await async_job_harness.enqueue("mail")
    await async_job_harness.crash_worker()
    assert await async_job_harness.drain() == {"completed": 1}
    assert job.path == ["PENDING", "PROCESSING", "COMPLETED"]


def test_a_test_that_is_a_coroutine(async_job_harness):
    asyncio.run(in_turn(async_job_harness))
"""
TYPESCRIPT = """
def test_typescript(job_harness):
    job_harness.register("mail", "mail.ts#mail")
    job = job_harness.enqueue("mail", {"to": "ada"})
    job_harness.run_until_idle()
    assert (job.status, job.attempts, job.output) == ("COMPLETED", 2, {"to": "ada"})
"""
MAIL = """
export const mail = async (job: { input: { to: string }; attempts: number }) => {
  await new Promise((resolve) => setTimeout(resolve, 60_000));
  if (job.attempts === 1) throw new Error("not yet");
  return { success: true, output: job.input };
};
"""

EXPLORED = """
import asyncio
import pytest
from job_harness.subjects.processors import JobResult, effect

paid = []

async def pay(job):
    await asyncio.sleep(1)
    if {careless} or job.input not in paid:
        paid.append(job.input)
        effect("charged", order=job.input)
    await asyncio.sleep(1)
    return JobResult(success=True)

@pytest.fixture
def one_is_paid(job_harness):
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", 1)
    job_harness.drain()

def test_pay(job_harness, one_is_paid):
    def charged_once(harness):
        orders = [effect.data["order"] for effect in harness.effects("charged")]
        assert len(orders) == len(set(orders))
    job_harness.always(charged_once)
    job = job_harness.enqueue("pay", 2)
    job_harness.run_until_idle()
    assert (job.status, len(job_harness.effects("charged"))) == ("COMPLETED", 2)
"""


@pytest.fixture(scope="module", autouse=True)
def at_hand() -> None:
    """Skip where there is no pg-boss, Node or PostgreSQL."""
    for engine in (OLD, NEW):
        process = work_process(engine)
        try:
            process.begin()
        except EnvironmentUnavailable as error:
            pytest.skip(str(error))
        finally:
            process.close()


def test_the_same_tests_are_green_and_red_as_each_engine_is(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    typescript = not missing_node()
    pytester.makepyfile(test_jobs=TESTS + (TYPESCRIPT if typescript else ""))
    Path("mail.ts").write_text(MAIL, encoding="utf-8")
    ran = pytester.runpytest_subprocess("-rA", "--tb=short", f"--job-engine=memory,{OLD},{NEW}", timeout=100)
    text = ran.stdout.str()

    def ended(test: str, engine: str) -> set[str]:
        lines = [line for line in text.splitlines() if f"::{test}[" in line and f"[{engine}" in line]
        return {line.split()[0] for line in lines} & {"PASSED", "FAILED", "ERROR"}

    green = [
        "backoff_over_days",
        "a_worker_that_dies_leaves_its_job_to_the_next",
        "jobs_that_enqueue_and_wait_are_counted",
    ]
    green += ["one_job_at_a_time", "a_test_that_is_a_coroutine", *(["typescript"] if typescript else [])]
    for name in green:
        assert [ended(f"test_{name}", engine) for engine in ("memory", OLD, NEW)] == [{"PASSED"}] * 3, f"{name}\n{text}"
    red = ["one_failure_leaves_its_neighbours_alone", "a_final_failure_is_not_retried", "refused"]
    for name in (*red, "a_processor_that_outlasts_its_lease_charges_once"):
        told = [ended(f"test_{name}", engine) for engine in ("memory", OLD, NEW)]
        assert told == [{"PASSED"}, {"FAILED"}, {"FAILED"}], f"{name}\n{text}"
    beside = [ended("test_nothing_runs_beside_itself", engine) for engine in ("memory", OLD, NEW)]
    assert beside == [{"PASSED"}, {"PASSED", "ERROR"}, {"PASSED"}], text
    ran.stdout.fnmatch_lines(["concurrent_execution: Two workers run the same job at once."])
    ran.stdout.fnmatch_lines(
        [
            "E   job_harness.errors.UsageError: pg-boss 10.4.2 cannot do deliver_twice: *",
            "E     Let the processor outlast its lease, *, or run this test on --job-engine=memory.",
        ]
    )


def test_an_engine_that_does_not_exist_is_an_error_and_not_memory(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    pytester.makepyfile(test_jobs="def test_it(job_harness): ...")
    ran = pytester.runpytest_subprocess("--job-engine=pgbos")
    assert ran.ret != 0
    ran.stderr.fnmatch_lines(["*--job-engine: no such engine: 'pgbos'*"])


def test_it_is_explored_on_a_database_of_its_own_from_where_the_fixtures_left_it(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    pytester.makepyfile(test_careless=EXPLORED.format(careless=True), test_careful=EXPLORED.format(careless=False))
    ran = pytester.runpytest_subprocess(f"--job-engine={OLD}", "--job-explore=8", "-rP", timeout=100)
    ran.assert_outcomes(failed=1, passed=1)
    ran.stdout.fnmatch_lines(["*CRASHES at charged job-2*", f"*--job-engine={OLD} --job-replay*"])
    ran.stdout.fnmatch_lines(["8 disturbed runs in * s (* runs/s, * ms of CPU each)*"])
