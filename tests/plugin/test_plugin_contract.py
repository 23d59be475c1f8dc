"""`ProcessorContract` as a user's test suite sees it."""

from __future__ import annotations

import pytest

import job_harness.subjects.processors.contract  # noqa: F401 - loaded once: an inner run forgets what it loads itself

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    return pytester


def test_a_subclass_is_one_test_for_each_check(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
from job_harness.subjects.processors import JobResult, effect
from job_harness.subjects.processors.contract import ProcessorContract


async def send(job):
    try:
        effect("mailed", to=job.input["to"])
        return JobResult(success=True)
    except KeyError as error:
        return JobResult(success=False, error="")
    except Exception as error:
        return JobResult(success=False, error=repr(error))


def bare(job):
    try:
        return JobResult(success=True, output=do_work(job.input))
    except Exception as error:
        return JobResult(success=False, error=str(error))


class TestSend(ProcessorContract):
    processor = send
    examples = [{"to": "ada@example.com"}]
    waive = {"same_input_twice": "the mailer drops a repeated message"}


class TestBare(ProcessorContract):
    processor = staticmethod(bare)
    input = {"type": "object", "properties": {"n": {"type": "integer"}}}
"""
    )
    result = suite.runpytest_inprocess("-rs")
    result.assert_outcomes(passed=20, failed=2, skipped=8)
    result.stdout.fnmatch_lines(
        [
            "A failure has an error text that is not empty.",
            "  hostile input: an empty object: success: false, error ''",
            "  -> Fill in JobResult.error; *",
            "INCONCLUSIVE: no declared input succeeded, so little can be said:",
            "input {'n': 1}: it returned success: false, name 'do_work' is not defined",
            "*= job-harness: inconclusive =*",
            "*test_same_input_twice, *",
            "  no declared input succeeds: see declared_input_succeeds",
            "6 not judged; --job-strict fails them, *",
            "SKIPPED*waived: the mailer drops a repeated message",
            "SKIPPED*inconclusive: no declared input succeeds: see declared_input_succeeds",
        ],
        consecutive=False,
    )


@pytest.mark.parametrize("by", ["--job-strict", "CI"])
def test_what_is_inconclusive_fails_where_that_is_asked_for_and_in_a_ci_where_nothing_was_seen(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    suite.makepyfile(
        """
import pytest
from job_harness.subjects.processors import JobResult
from job_harness.subjects.processors.contract import ProcessorContract

def upper(job):
    return JobResult(success=True, output=str(job.input).upper())

class TestUpper(ProcessorContract):
    processor = staticmethod(upper)
    examples = ["a"]

def test_skipped():
    pytest.skip("for a reason of its own")
"""
    )
    monkeypatch.setenv("CI", "1" if by == "CI" else "")
    options = [] if by == "CI" else [by]
    result = suite.runpytest_inprocess(*options, "-k", "twice or cancelled or skipped")
    result.assert_outcomes(failed=1, skipped=2)
    result.stdout.fnmatch_lines([f"{by}: inconclusive: no side effect was seen*"])


def test_of_many_tests_with_one_reason_three_are_named(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_it="""
import pytest

@pytest.mark.parametrize("n", range(5))
def test_n(n):
    pytest.skip("inconclusive: no reason")
"""
    )
    named = ", ".join(f"test_it.py::test_n[[]{n}[]]" for n in range(3)) + " and 2 more (-rs shows which)"
    result = suite.runpytest_inprocess()
    result.stdout.fnmatch_lines([named, "  no reason", "5 not judged; --job-strict fails them, *"])


def test_a_contract_without_a_processor_says_so(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
from job_harness.subjects.processors.contract import ProcessorContract

class TestNothing(ProcessorContract):
    pass
"""
    )
    result = suite.runpytest_inprocess("-k", "declared")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["TestNothing: the contract names no processor", "*Set processor = my_processor."])
