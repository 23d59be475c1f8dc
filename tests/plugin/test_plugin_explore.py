"""`pytest --job-explore`: a passing test as a campaign, and the token that plays a run again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import harness.exploring  # noqa: F401 - loaded once: an inner run forgets what it loads itself
from tests.contract.node_at_hand import needs_node

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""
PAYMENT = """
import asyncio
from harness.processors import JobResult, effect

paid = []

async def pay(job):
    await asyncio.sleep(1)
    {charge}
    await asyncio.sleep(1)
    return JobResult(success=True)

def test_pay(job_harness):
    def charged_once(harness):
        assert len(harness.effects("charged")) <= 1
    job_harness.always(charged_once)
    job_harness.register("pay", pay)
    job = job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
    assert job.status == "COMPLETED"
"""
CARELESS = PAYMENT.format(charge='effect("charged", order=job.input)')
CAREFUL = PAYMENT.format(charge='if job.input not in paid: paid.append(job.input); effect("charged")')
CHANCE = PAYMENT.format(charge='effect("rolled", number=__import__("os").getpid())')

PAY_TS = """
export const pay = async (job: any) => {
  if (await isPaid(job.input)) return { success: true };
  await charge(job.input);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await record(job.input);
  return { success: true };
};
"""
TYPESCRIPT = """
import pytest
from harness.processors import TypeScriptProcessor, effect

@pytest.fixture
def registered(job_harness):
    charged, paid = set(), set()

    def charge(order):
        if {once} and order in charged:
            return
        charged.add(order)
        effect("charged", order=order)

    stubs = {{"isPaid": lambda order: order in paid, "charge": charge, "record": paid.add}}
    job_harness.register("pay", TypeScriptProcessor("pay.ts#pay", globals=stubs))

def test_pay(job_harness, registered):
    def charged_once(harness):
        assert len(harness.effects("charged")) <= 1
    job_harness.always(charged_once)
    job = job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
    assert job.status == "COMPLETED"
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    return pytester


def test_a_double_charge_fails_the_test_with_a_screen_and_a_token_that_replays_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CARELESS)
    suite.runpytest_inprocess().assert_outcomes(passed=1)
    result = suite.runpytest_inprocess("--job-explore=60")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*always_broken in test_pay", "*CRASHES at charged job-1", "*charged job-1 #1: crash"])
    token = re.search(r"jh1_[a-z2-7]+", "".join(result.outlines))
    assert token is not None
    again = suite.runpytest_inprocess(f"--job-replay={token[0]}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*always_broken in test_pay", "*CRASHES at charged job-1"])


def test_a_careful_processor_passes_and_the_campaign_says_how_many_runs(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CAREFUL)
    result = suite.runpytest_inprocess("--job-explore=40", "-rP")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*40 disturbed runs*"])


def test_a_test_that_is_not_deterministic_is_inconclusive_with_the_first_difference(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CHANCE)
    result = suite.runpytest_inprocess("--job-explore=10", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*inconclusive: two undisturbed runs differ*", "*rolled*"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--job-explore=0"], "runs must be at least 1, not 0"),
        (["--job-replay=jh1_abc"], "is damaged"),
        (["--job-explore=soon"], "soon"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(suite: pytest.Pytester, options: list[str], said: str) -> None:
    suite.makepyfile(test_it=CARELESS)
    result = suite.runpytest_inprocess(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{said}*"])


def test_a_test_that_fails_by_itself_fails_and_is_not_hidden_by_the_campaign(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CAREFUL.replace('assert job.status == "COMPLETED"', 'assert job.status == "FAILED"'))
    result = suite.runpytest_inprocess("--job-explore=10")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *COMPLETED*"])


def test_runs_that_end_their_process_are_not_judged_and_so_not_green(suite: pytest.Pytester) -> None:
    dies = 'if job.attempts > 1: __import__("os")._exit(0)'
    suite.makepyfile(test_it=PAYMENT.format(charge=dies))
    result = suite.runpytest_inprocess("--job-explore=20", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*inconclusive: * of 20 runs were not judged*ended before it was judged*"])


@needs_node
def test_typescript_that_a_fixture_registered_is_explored_with_a_node_process_for_each_run(
    suite: pytest.Pytester,
) -> None:
    Path("pay.ts").write_text(PAY_TS, encoding="utf-8")
    suite.makepyfile(test_it=TYPESCRIPT.format(once=False))
    result = suite.runpytest_inprocess("--job-explore=20")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*always_broken in test_pay", "*CRASHES at charged job-1*"])
    token = re.search(r"jh1_[a-z2-7]+", "".join(result.outlines))
    assert token is not None
    suite.runpytest_inprocess(f"--job-replay={token[0]}").assert_outcomes(failed=1)


@needs_node
def test_typescript_that_has_run_before_the_test_is_inconclusive_and_says_what_to_do(suite: pytest.Pytester) -> None:
    Path("pay.ts").write_text(PAY_TS, encoding="utf-8")
    ran = 'globals=stubs))\n    job_harness.enqueue("pay", 8)\n    job_harness.drain()'
    suite.makepyfile(test_it=TYPESCRIPT.format(once=True).replace("globals=stubs))", ran))
    result = suite.runpytest_inprocess("--job-explore=5", "-rs")
    result.stdout.fnmatch_lines(["*a fixture has run pay.ts#pay on a job already*run that job in the test itself*"])
