"""`pytest --job-pin` keeps a finding as a test, which fails until it is repaired, and says if it no longer fits."""

from __future__ import annotations

from pathlib import Path

import pytest

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio -p no:xdist
filterwarnings = error
"""
PAYMENT = """
import pytest
from job_harness import JobResult, at_most_once, effect

@pytest.fixture
def job_invariants():
    return [at_most_once("charged")]

async def pay(job):
    effect("charged", order=7)
    return JobResult(success=True)

def test_pay(job_harness):
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
"""


@pytest.mark.long
def test_a_pinned_finding_fails_until_it_is_repaired_and_says_if_it_no_longer_fits(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    file = pytester.makepyfile(test_payment=PAYMENT)
    found = pytester.runpytest_inprocess("--job-explore", "20", "--job-pin")
    found.stdout.fnmatch_lines(["Pinned: pytest tests/regressions/effect_repeated-test_payment.py-test_pay-*.yaml"])
    [pin] = (pytester.path / "tests/regressions").iterdir()
    told = pin.read_text(encoding="utf-8")
    assert told.startswith('pinned: effect_repeated\ntest: "test_payment.py::test_pay"\nreplay: "jh1_')
    assert '\n  - "test_payment.py:9: `charged` by worker-1; ' in told
    assert '\n      job_harness.enqueue("pay", 7)\n' in told

    def play(text: str) -> pytest.RunResult:
        file.write_text(text)
        return pytester.runpytest_inprocess("tests/regressions", "-rs")

    again = play(PAYMENT)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["One fault: worker-1 crashes right after `charged job-1`"])
    play(PAYMENT.replace('at_most_once("charged")', "")).assert_outcomes(passed=1)
    unfit = play(PAYMENT.replace('effect("charged", order=7)', "pass"))
    unfit.assert_outcomes(skipped=1)
    unfit.stdout.fnmatch_lines(["*this finding no longer fits its test: *never came up*find it anew: pytest *"])
    gone = play(PAYMENT.replace("test_pay", "test_other"))
    gone.assert_outcomes(failed=1)
    gone.stdout.fnmatch_lines(["the test that this finding belongs to cannot be collected: test_payment.py::test_pay"])


def test_a_pin_without_a_token_is_no_test(pytester: pytest.Pytester) -> None:
    Path(pytester.path, "wrong.yaml").write_text("pinned: effect_repeated\ntest: test_payment.py::test_pay\n")
    wrong = pytester.runpytest_inprocess("wrong.yaml")
    wrong.assert_outcomes(errors=1)
    wrong.stdout.fnmatch_lines(["*wrong.yaml: 'replay' is missing; `pytest --job-pin` writes such files"])
