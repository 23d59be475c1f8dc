"""What a failing test shows: the user's own lines, and with --job-explain what happened."""

from __future__ import annotations

from traceback import FrameSummary

import pytest

import job_harness.engines.reference
import job_harness.report.screen
import job_harness.subjects.processors  # noqa: F401 - loaded once: an inner run forgets what it loads itself
from job_harness.doors.pytest.failure_section import raised_section
from job_harness.subjects.processors.running import RaisedError

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""


def failing(pytester: pytest.Pytester, source: str, *arguments: str) -> str:
    pytester.makeini(INI)
    pytester.makepyfile(f"import asyncio\nimport pytest\n{source}")
    result = pytester.runpytest_inprocess(*arguments)
    assert result.ret == 1
    return str(result.stdout)


def test_an_error_of_the_harness_points_at_the_line_of_the_test_alone(pytester: pytest.Pytester) -> None:
    shown = failing(
        pytester,
        """
def test_it(job_harness):
    job_harness.perform_job("lib/processor.ts", {})
""",
    )
    assert '>       job_harness.perform_job("lib/processor.ts", {})' in shown
    assert 'Name what the file exports as well: "lib/processor.ts#name".' in shown
    assert "job_harness.py:" not in shown


def test_what_a_processor_raises_shows_the_lines_of_the_test_and_of_the_processor(pytester: pytest.Pytester) -> None:
    source = """
def test_it(job_harness):
    async def charge(job):
        await asyncio.sleep(60)
        raise ValueError("no card")
    job_harness.perform_job(charge, {})
"""
    shown = failing(pytester, source)
    assert ">       job_harness.perform_job(charge, {})" in shown
    assert '>       raise ValueError("no card")' in shown
    assert "running.py" not in shown
    assert "base_events" not in shown
    assert "running.py" in failing(pytester, source, "--full-trace")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--job-engine=memroy", "ERROR: --job-engine: no such engine: 'memroy' (did you mean 'memory'?)"),
        ("--job-explore=abc", "ERROR: --job-explore: expected a number of runs (200) or a duration (30s), not 'abc'"),
        ("--job-explore=0", "not '0'"),
        ("--job-stop-at=3", "ERROR: --job-stop-at stops a replay: give the token of its run by --job-replay too"),
        ("--job-html=/dev/null/in", "ERROR: --job-html /dev/null/in: this is a file, or below one; name a folder"),
        ("--override-ini=job_blocked_after=0", "ERROR: job_blocked_after is '0'; give real seconds, such as 30"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_usage_error(pytester: pytest.Pytester, option: str, told: str) -> None:
    result = pytester.runpytest(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ('job_timout="3s"', "there is no setting 'job_timout' (did you mean 'job_timeout'?)"),
        ('"3s"', 'Write @pytest.mark.job_settings(job_timeout="30s").'),
        ('job_timeout="3 parsecs"', "'3 parsecs' is not a duration"),
        ('max_attempts="many"', ": max_attempts is 'many': it must be a whole number"),
        ('job_timeout="2h"', "lease 11m and job_timeout 2h contradict each other: the queue would take a job back"),
        (
            'retry_delay="1h", retry_backoff=True',
            "retry_backoff is on and lengthens no wait: the first, retry_delay, is 1h",
        ),
        ('job_timeout="2h"', 'Set lease="2h1m", stuck_timeout="2h2m".'),
    ],
)
def test_a_setting_that_makes_no_sense_is_told_without_a_traceback(
    pytester: pytest.Pytester, marker: str, told: str
) -> None:
    shown = failing(pytester, f"@pytest.mark.job_settings({marker})\ndef test_it(job_harness): pass")
    assert told in shown
    assert "Error" not in shown.replace("pytest_plugin", "")


@pytest.mark.parametrize("returned", ['at_most_once("charged")', "None", "[at_most_once]"])
def test_a_fixture_that_returns_no_list_of_invariants_is_told_what_to_return(
    pytester: pytest.Pytester, returned: str
) -> None:
    shown = failing(
        pytester,
        f"""
from job_harness import at_most_once

@pytest.fixture
def job_invariants():
    return {returned}

def test_it(job_harness): pass
""",
    )
    assert 'Let the fixture job_invariants return a list, such as [at_most_once("charged")].' in shown
    assert "Traceback" not in shown
    assert "TypeError" not in shown


def test_explain_shows_each_attempt_with_its_time_and_error(pytester: pytest.Pytester) -> None:
    source = """
def test_it(job_harness):
    def charge(job):
        raise ValueError("no card")
    job_harness.register("charge", charge)
    job = job_harness.enqueue("charge", {}, max_attempts=5)
    job_harness.run_until_idle()
    assert job.status == "COMPLETED"
"""
    shown = failing(pytester, source, "--job-explain")
    assert "job-harness: what happened" in shown
    assert "claims, attempt 2" in shown
    assert "fails -> FAILED: ValueError: no card" in shown
    assert "Replay: pytest " in shown
    short = failing(pytester, source)
    assert "claims, attempt 2" not in short  # It shows the last rows only.
    assert "job-1, attempt 1 raised ValueError: no card\njob-1, attempt 2 raised" in short
    assert short.count(', in charge: raise ValueError("no card")') == 1  # The last attempt's place.


def test_the_users_own_line_is_shown_however_deep_in_a_library_an_error_arose() -> None:
    library = [FrameSummary("/venv/site-packages/http.py", number, "send", line="go()") for number in range(9)]
    frames = [FrameSummary("/shop/pay.py", 3, "charge", line="post()"), *library]
    shown = raised_section([RaisedError("job-1", 1, "OSError: away", frames)]).splitlines()
    assert shown[1] == "    /shop/pay.py:3, in charge: post()"
    assert [line.partition(",")[0][-1] for line in shown[2:]] == ["4", "5", "6", "7", "8"]


def test_explain_says_nothing_of_a_test_without_jobs(pytester: pytest.Pytester) -> None:
    shown = failing(pytester, "def test_it(job_harness):\n    assert 0\n", "--job-explain")
    assert "what happened" not in shown


def test_a_test_that_fails_leaves_its_picture_and_one_that_passes_none(pytester: pytest.Pytester) -> None:
    source = """
from job_harness import JobResult

async def down(job):
    return JobResult(success=False, error="503 <script>")

def played(job_harness):
    job_harness.register("my-tool", down)
    job = job_harness.enqueue("my-tool", {}, max_attempts=1)
    job_harness.run_until_idle()
    return job

def test_asserts(job_harness):
    assert played(job_harness).status == "COMPLETED"

def test_never_looks(job_harness):
    played(job_harness)

def test_passes(job_harness):
    assert played(job_harness).status == "FAILED"
"""
    shown = failing(pytester, source, "--job-html", "pictures")
    assert "pictures of tests that failed are in pictures" in shown
    files = sorted((pytester.path / "pictures").iterdir())
    assert [file.name.rpartition("-")[0] for file in files] == [
        "test_a_test_that_fails_leaves_its_picture_and_one_that_passes_none.py-test_asserts"[:80],
        "test_a_test_that_fails_leaves_its_picture_and_one_that_passes_none.py-test_never_looks"[:80],
    ]
    text = files[1].read_text(encoding="utf-8")
    assert "a job ended FAILED and the test never looked: job-1 (my-tool)" in text
    assert "503 &lt;script&gt;" in text


def test_what_a_returned_failure_says_is_in_the_report(pytester: pytest.Pytester) -> None:
    """The timeline shortens it: a processor that catches everything returns long texts."""
    shown = failing(
        pytester,
        """
def pay(job):
    return {"success": False, "error": f"attempt {job.attempts} of a long story: " + "no account, " * 5 + "the end"}

def test_paid(job_harness):
    job_harness.register("pay", pay)
    job = job_harness.enqueue("pay", {}, max_attempts=2)
    job_harness.run_until_idle()
    assert job.status == "COMPLETED"
""",
    )
    for attempt in (1, 2):
        told = f"job-1, attempt {attempt} failed: attempt {attempt} of a long story: " + "no account, " * 5 + "the end"
        assert told in shown


def test_a_coroutine_test_is_told_which_fixture_it_needs(pytester: pytest.Pytester) -> None:
    shown = failing(
        pytester,
        """
import asyncio

def test_plain(job_harness):
    async def test():
        job_harness.run_until_idle()
    job_harness.register("a", lambda job: {"success": True})
    job_harness.enqueue("a")
    asyncio.run(test())
""",
    )
    assert "Ask for async_job_harness and await its methods" in shown


REPEATED = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):  # as plugins do that run a flaky test again
    runtestprotocol(item, nextitem=nextitem, log=False)
    runtestprotocol(item, nextitem=nextitem)
    return True
"""


def test_a_test_that_is_run_again_is_judged_again(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(REPEATED)
    shown = failing(
        pytester,
        """
from job_harness import JobResult

runs = []

def test_flaky(job_harness):
    job_harness.register("pay", lambda job: JobResult(success=False, error="no card", retryable=False))
    job_harness.enqueue("pay")
    job_harness.run_until_idle()
    runs.append(1)
    assert len(runs) > 1, "flaky"
""",
    )
    assert "ERROR at teardown of test_flaky" in shown
    assert "a job ended FAILED" in shown
