"""A key that is another one in each attempt tells no repetition: explored, it is found, and a right one is not."""

from __future__ import annotations

import re

import pytest

import job_harness.doors.pytest.explored_test  # noqa: F401 - loaded once: an inner run forgets what it loads itself

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""
TEST = """
import asyncio, datetime, random, time, uuid
import pytest
from job_harness import JobResult, SideEffect, at_most_once, effect

@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"]), at_most_once("mailed")]

@pytest.fixture
def service():
    charged, stored = set(), {{}}
    def charge(order):
        if order not in charged:
            charged.add(order)
            effect("charged", order=order)
    charge.stored = stored
    return charge

def test_it(job_harness, service):
    async def pay(job):
        {body}
        return JobResult(success=True)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
"""
BATCH = """for item in range(3):
            if item not in service.stored:
                service({key})
                await asyncio.sleep(1)
                service.stored[item] = True"""
WRONG = {
    "by chance": "service(str(uuid.uuid4()))",
    "by random": "service(random.random())",
    "by the time": "service(f'{job.input}-{time.time()}')",
    "by the day": "service(f'{job.input}-{datetime.date.today()}'); await asyncio.sleep(1)",
    "to whom knows it": "effect(SideEffect('mailed', str(uuid.uuid4()), idempotent=True))",
    "in a batch": BATCH.format(key="f'{item}-{uuid.uuid4()}'"),
}
RIGHT = {
    "of the job": "service(job.id)",
    "drawn once": "key = service.stored.setdefault(job.id, str(uuid.uuid4())); await asyncio.sleep(1); service(key)",
    "a batch that resumes": BATCH.format(key="item"),
    "a batch with keys drawn once": BATCH.format(key="service.stored.setdefault((item,), str(uuid.uuid4()))"),
}


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    return pytester


@pytest.mark.long
@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_a_key_that_differs_with_each_attempt_is_found_and_replayed(suite: pytest.Pytester, body: str) -> None:
    suite.makepyfile(test_it=TEST.format(body=body))
    found = suite.runpytest_inprocess("--job-explore=12")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(
        ["effect_key_varies: * in attempt 2 of job-1 after * in attempt 1 of job-1: both keys come from chance or a *"]
    )
    (token, *_) = re.findall(r"jh1_[a-z2-7]+", found.stdout.str())
    again = suite.runpytest_inprocess(f"--job-replay={token}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["Order: chance and start #1: others, 364d23h59m*s later, to vary *"])


KNOWN = """if (header := {key}) not in service.stored:
            service.stored[header] = True
            effect("charged", order=job.input)
        await asyncio.sleep(1)"""


@pytest.mark.parametrize(
    ("key", "ends"),
    [
        ("f'{job.input}-{datetime.date.today()}'", {"failed": 1}),
        ("service.stored.setdefault(job.id, f'{job.input}-{datetime.date.today()}')", {"passed": 1}),
    ],
)
def test_a_key_that_only_the_service_sees_is_tried_at_the_end_of_a_year(
    suite: pytest.Pytester, key: str, ends: dict[str, int]
) -> None:
    suite.makepyfile(test_it=TEST.format(body=KNOWN.format(key=key)))
    found = suite.runpytest_inprocess("--job-explore=12")
    found.assert_outcomes(**ends)
    if "failed" in ends:
        found.stdout.fnmatch_lines(["effect_repeated: *"])
        (token, *_) = re.findall(r"jh1_[a-z2-7]+", found.stdout.str())
        suite.runpytest_inprocess(f"--job-replay={token}").assert_outcomes(failed=1)


@pytest.mark.long
@pytest.mark.parametrize("isolation", ["fork", "rerun"])
@pytest.mark.parametrize("body", RIGHT.values(), ids=RIGHT)
def test_a_key_that_is_stored_and_a_batch_that_goes_on_are_right(
    suite: pytest.Pytester, body: str, isolation: str
) -> None:
    suite.makeini(f"{INI}job_isolation = {isolation}")
    suite.makepyfile(test_it=TEST.format(body=body))
    suite.runpytest_inprocess("--job-explore=12").assert_outcomes(passed=1)


@pytest.mark.long
@pytest.mark.parametrize("isolation", ["fork", "rerun"])
def test_where_nothing_judges_an_effect_it_is_told_that_it_came_again(suite: pytest.Pytester, isolation: str) -> None:
    suite.makeini(f"{INI}job_isolation = {isolation}")
    suite.makepyfile(
        test_it=TEST.format(body=WRONG["by chance"]).replace('at_most_once("charged", per=["order"]), ', "")
    )
    suite.runpytest_inprocess("--job-explore=5").stdout.fnmatch_lines(["*not judged: 'charged' was repeated in *"])


@pytest.mark.long
def test_a_fixture_that_fails_at_its_end_leaves_no_seed_to_later_tests(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import random
        import pytest

        random.seed(20)

        @pytest.fixture
        def fails():
            yield
            raise RuntimeError("at its end")

        def test_it(job_harness, fails):
            pass

        def test_later():
            assert random.random() != random.Random(0).random()
        """
    )
    suite.runpytest_inprocess("--job-explore=2").assert_outcomes(passed=1, skipped=1, errors=1)
