"""What a passing test leaves open: judged by nothing it fails in a CI, and a mark accepts what may be so."""

from __future__ import annotations

import pytest

import job_harness.doors.pytest.explored_test  # noqa: F401 - loaded once: an inner run forgets what it loads itself
from job_harness.doors.cli import explored_test
from job_harness.errors import ExitCode

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""
HEADER = """
import os
import pytest
from job_harness import JobResult, at_most_once, effect, exactly_once

sent = []
"""
PLAY = """
def play(harness, processor):
    harness.register("pay", processor)
    harness.enqueue("pay", 7)
    harness.run_until_idle()
"""
FORGOTTEN = (
    HEADER
    + PLAY
    + """
@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"])]

def pay(job):
    sent.append(job.input)
    return JobResult(success=True)

def test_it(job_harness):
    play(job_harness, pay)
"""
)
ELSEWHERE = FORGOTTEN.replace(
    "    sent.append(job.input)\n",
    """    if (child := os.fork()) == 0:
        effect("charged", order=job.input)
        os._exit(0)
    os.waitpid(child, 0)
""",
)
IN_A_CHECK = (
    FORGOTTEN.replace('[at_most_once("charged", per=["order"])]', "[]")
    + """
@pytest.fixture(autouse=True)
def checked(job_harness):
    job_harness.always(lambda harness: len(harness.effects("charged")) < 2)
"""
)
UNSENT = FORGOTTEN.replace('    harness.enqueue("pay", 7)\n', "")
KEPT = (
    HEADER
    + """
@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"])]

@pytest.mark.job_settings(retention="1d")
def test_it(job_harness):
    done = set()
    def once(job):
        if job.input not in done:
            done.add(job.input)
            effect("charged", order=job.input)
        return JobResult(success=True)
    job_harness.register("pay", once)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
"""
)
NEVER = "the effect 'charged' is asked about and never happened"


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    return pytester


@pytest.mark.long
@pytest.mark.parametrize(
    "test",
    [
        pytest.param(FORGOTTEN, id="forgotten"),
        pytest.param(ELSEWHERE, marks=pytest.mark.long, id="in a child"),
        pytest.param(IN_A_CHECK, marks=pytest.mark.long, id="in a check"),
    ],
)
def test_what_asks_only_about_an_effect_that_never_happens_has_judged_nothing(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str
) -> None:
    suite.makepyfile(test_it=test)
    passed = suite.runpytest_inprocess("--job-explore=5")
    passed.assert_outcomes(passed=1)
    passed.stdout.fnmatch_lines(
        [
            f"job-harness: not judged: {NEVER}: call effect('charged') * (test_it.py::test_it)",
            f'  accepted by @pytest.mark.job_accepts("{NEVER}")',
            "job-harness: 1 judged nothing, 0 not judged, *",
        ]
    )
    assert suite.runpytest_inprocess("--job-explore=5", "--job-strict").ret == 1
    monkeypatch.setenv("CI", "true")
    failed = suite.runpytest_inprocess("--job-explore=5")
    assert failed.ret == 1
    failed.stdout.fnmatch_lines([f"job-harness: CI fails this session: not judged: {NEVER}: *"])
    suite.makepyfile(test_it=test.replace("def test_it", f'@pytest.mark.job_accepts("{NEVER}")\ndef test_it'))
    accepted = suite.runpytest_inprocess("--job-explore=5")
    accepted.assert_outcomes(passed=1)
    assert accepted.ret == 0
    suite.makepyfile(test_again=test)
    monkeypatch.delenv("CI")
    assert explored_test.explore_test("test_again.py::test_it", ["--job-explore=5"]) is ExitCode.INCONCLUSIVE


def test_a_setting_that_no_run_reached_is_not_judged(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=KEPT)
    told = "*not judged: settings: retention: no run reached it, so it was not judged: let the test advance past it, *"
    passed = suite.runpytest_inprocess("--job-explore=3", "-rP")
    passed.assert_outcomes(passed=1)
    passed.stdout.fnmatch_lines([told, "job-harness: 0 judged nothing, 1 not judged, *"])
    suite.makepyfile(test_it=KEPT + '    job_harness.advance("2d")\n')
    reached = suite.runpytest_inprocess("--job-explore=3", "-rP")
    reached.assert_outcomes(passed=1)
    reached.stdout.no_fnmatch_line(told)


@pytest.mark.long
def test_an_effect_that_no_test_of_a_session_has_fails_the_session_and_one_that_some_test_has_does_not(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(test_it=FORGOTTEN)
    failed = suite.runpytest_inprocess()
    failed.assert_outcomes(passed=1)
    failed.stdout.fnmatch_lines([f"job-harness: CI fails this session: not judged: {NEVER}: * (test_it.py::test_it)"])
    assert failed.ret == 1
    charging = """
def test_charged(job_harness):
    done = set()
    def once(job):
        if job.input not in done:
            done.add(job.input)
            effect("charged", order=job.input)
        return JobResult(success=True)
    play(job_harness, once)
"""
    suite.makepyfile(test_it=FORGOTTEN + charging)
    for options in ([], ["--job-strict"]):
        passed = suite.runpytest_inprocess(*options)
        passed.assert_outcomes(passed=2)
        passed.stdout.no_fnmatch_line("*judged*")
        assert passed.ret == 0
    explored = suite.runpytest_inprocess("--job-explore=5")
    explored.assert_outcomes(passed=2)
    explored.stdout.fnmatch_lines([f"job-harness: CI fails this session: not judged: {NEVER}: * (test_it.py::test_it)"])
    assert explored.ret == 1, "its runs were disturbed, and nothing judged them"
    enqueues = '    harness.enqueue("pay", 7)\n'
    refused = FORGOTTEN.replace(enqueues, f"    harness.always(lambda harness: True)\n{enqueues}")
    suite.makepyfile(test_it=refused + charging)
    explored = suite.runpytest_inprocess("--job-explore=5")
    explored.assert_outcomes(passed=2)
    assert explored.ret == 0, "one that is refused need not charge, where another one does"
    misspelt = FORGOTTEN.replace("sent.append(job.input)", 'effect("chargd", order=job.input)')
    suite.makepyfile(test_it=misspelt)
    found = suite.runpytest_inprocess("--job-explore=5", "--job-strict")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["--job-strict: not judged: * never happened (did you mean 'chargd'?): *"])


@pytest.mark.long
def test_a_test_in_which_no_job_was_sent_is_not_explored(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyfile(test_it=UNSENT)
    skipped = suite.runpytest_inprocess("--job-explore=5")
    skipped.assert_outcomes(skipped=1)
    skipped.stdout.fnmatch_lines(
        ["  no job was sent, so there was nothing to disturb; *", "job-harness: 1 judged nothing*"]
    )
    suite.runpytest_inprocess().stdout.fnmatch_lines(["job-harness: not judged: no job was sent: *"])
    monkeypatch.setenv("CI", "true")
    suite.runpytest_inprocess("--job-explore=5").assert_outcomes(failed=1)
    suite.runpytest_inprocess().assert_outcomes(passed=1, errors=1)
    looking = UNSENT.replace(
        "    play(job_harness, pay)", '    play(job_harness, pay)\n    job_harness.refute_enqueued("pay")'
    )
    suite.makepyfile(test_it=looking)
    suite.runpytest_inprocess().assert_outcomes(passed=1)
    suite.makepyfile(test_again=UNSENT)
    monkeypatch.delenv("CI")
    assert explored_test.explore_test("test_again.py::test_it", ["--job-explore=5"]) is ExitCode.INCONCLUSIVE


NOTED = (
    HEADER
    + PLAY
    + """
import threading

@pytest.mark.job_accepts(ACCEPTED)
def test_it(job_harness):
    def pay(job):
        thread = threading.Thread(target=sent.append, args=[1])
        thread.start()
        thread.join()
        effect("charged", order=job.input)
        return JobResult(success=True)
    play(job_harness, pay)
"""
)


@pytest.mark.long
def test_notes_about_single_places_fail_nothing_and_are_counted_unless_accepted(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    repeated = "'charged' was repeated"
    suite.makepyfile(test_it=NOTED.replace("ACCEPTED", repr(repeated)))
    noted = suite.runpytest_inprocess("--job-explore=5", "--job-strict")
    noted.assert_outcomes(passed=1)
    noted.stdout.fnmatch_lines(
        [
            "job-harness: not under control in 1 test: thread 1 *",
            '  accepted by @pytest.mark.job_accepts("thread")',
            "job-harness: 0 judged nothing, 0 not judged, 1 note",
        ]
    )
    suite.makepyfile(test_it=NOTED.replace("ACCEPTED", f'{repeated!r}, "thread"'))
    quiet = suite.runpytest_inprocess("--job-explore=5", "--job-strict")
    quiet.assert_outcomes(passed=1)
    quiet.stdout.no_fnmatch_line("*accepted by*")
    quiet.stdout.no_fnmatch_line("*judged*")
    suite.makepyfile(test_it=NOTED.replace("ACCEPTED", ""))
    refused = suite.runpytest_inprocess()
    refused.assert_outcomes(errors=1)
    refused.stdout.fnmatch_lines(["*job_accepts takes words of the lines that it accepts*"])


@pytest.mark.long
def test_runs_that_could_not_be_judged_are_no_pass_in_a_ci(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = NOTED.replace("@pytest.mark.job_accepts(ACCEPTED)\n", "").replace(
        "        thread = ", "        job.attempts == 1 or os._exit(0)\n        thread = "
    )
    suite.makepyfile(test_it=dies)
    suite.runpytest_inprocess("--job-explore=12").assert_outcomes(skipped=1)
    monkeypatch.setenv("CI", "true")
    failed = suite.runpytest_inprocess("--job-explore=12")
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(["CI: inconclusive: * of 12 runs were not judged*"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("test", "told"),
    [
        (NOTED.replace("@pytest.mark.job_accepts(ACCEPTED)\n", ""), "'charged' was repeated in * of 5 disturbed runs"),
        (
            FORGOTTEN.replace("    harness.run_until_idle()\n", ""),
            "a job had not ended and the test never looked at it",
        ),
    ],
    ids=["a repeated effect", "a job that never ran"],
)
def test_what_was_seen_or_sent_and_nothing_judges_is_no_pass_in_a_ci(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, told: str
) -> None:
    suite.makepyfile(test_it=test)
    options = ["--job-explore=5"] if "repeated" in told else []
    assert suite.runpytest_inprocess(*options).ret == 0
    monkeypatch.setenv("CI", "true")
    failed = suite.runpytest_inprocess(*options)
    assert failed.ret == 1
    failed.stdout.fnmatch_lines([f"CI: not judged: {told}*"])


LEAKS = """
import asyncio
from job_harness import JobResult, effect

def test_it(job_harness):
    async def sync(job):
        effect("put")
        job_harness.leak = asyncio.create_task(asyncio.sleep(10_000))
        return JobResult(success=True)
    job_harness.register("sync", sync)
    job_harness.enqueue("sync")
    job_harness.run_until_idle()
"""


@pytest.mark.long
def test_what_was_found_wrong_is_told_in_a_ci_beside_what_was_not_judged(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(test_it=LEAKS)
    seen = suite.runpytest_inprocess("--job-explore=5")
    seen.assert_outcomes(failed=1, errors=1)
    seen.stdout.fnmatch_lines(
        ["processors of this test left something running:", "CI: not judged: 'put' was repeated*"]
    )


SHARED = """
import pytest
from job_harness import at_most_once

@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"]), at_most_once("mailed", per=["order"])]
"""
OF_SHARED = """
from job_harness import JobResult, SideEffect, effect

def play(job_harness, name):
    def work(job):
        if name:
            effect(SideEffect(name, str(job.input), idempotent=True))
        return JobResult(success=True)
    job_harness.register("work", work)
    job_harness.enqueue("work", 7)
    job_harness.run_until_idle()

def test_charges(job_harness):
    play(job_harness, "charged")

def test_forgets(job_harness):
    play(job_harness, "")
"""


@pytest.mark.long
def test_what_all_tests_of_a_folder_ask_is_asked_of_no_session_that_has_only_some_of_them(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(conftest=SHARED, test_it=OF_SHARED)
    assert suite.runpytest_inprocess().ret == 1, "nothing of the whole session mails"
    for chosen in (["-k", "charges"], ["test_it.py::test_charges"]):
        assert suite.runpytest_inprocess("--job-explore=3", *chosen).ret == 0
        assert suite.runpytest_inprocess(*chosen).ret == 0
    failed = suite.runpytest_inprocess("--job-explore=3", "-k", "forgets")
    failed.stdout.fnmatch_lines(["*no processor declared an effect()*"])
    assert failed.ret == 1


WRAPPED = """
import pytest
from job_harness import JobResult, effect, external

def noop(order):
    return order

@pytest.fixture
def refund():
    return external("refunded", noop)

def play(job_harness, *called):
    def pay(job):
        effect("paid", order=job.input)
        return JobResult(success=bool([call(job.input) for call in called]) or True)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()

def test_forgets(job_harness, refund):
    charge = external("charged", noop)
    play(job_harness)
"""
WRAPPED_NAMES = ("charged", "refunded")
REFUNDS = """
def test_refunds(job_harness, refund):
    play(job_harness, refund)
"""


def test_an_external_that_no_test_of_a_session_calls_is_named_once_and_fails_nothing(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(test_it=WRAPPED)
    charged, refunded = (f"job-harness: not judged: external '{name}': no run called it, *" for name in WRAPPED_NAMES)
    noted = suite.runpytest_inprocess("--job-strict")
    noted.stdout.fnmatch_lines([f"{charged} (test_it.py:20)", f"{refunded} (test_it.py:9)", "*0 not judged, 2 notes"])
    assert noted.ret == 0
    chosen = suite.runpytest_inprocess("test_it.py::test_forgets")
    chosen.stdout.fnmatch_lines([charged])
    chosen.stdout.no_fnmatch_line(refunded)
    suite.makepyfile(test_it=WRAPPED + REFUNDS)
    called = suite.runpytest_inprocess("--job-strict")
    called.stdout.no_fnmatch_line(refunded)
    looked = WRAPPED.replace(
        "    play(job_harness)\n", '    play(job_harness)\n    assert job_harness.effects("charged") == []\n'
    )
    suite.makepyfile(test_it=looked + REFUNDS)
    suite.runpytest_inprocess("--job-strict").stdout.no_fnmatch_line("*not judged: *")
    accepted = WRAPPED.replace("def test_forgets", "@pytest.mark.job_accepts(\"external 'charged'\")\ndef test_forgets")
    suite.makepyfile(test_it=accepted + REFUNDS)
    suite.runpytest_inprocess("--job-strict").stdout.no_fnmatch_line(charged)


@pytest.mark.long
def test_an_external_of_its_own_that_no_run_called_is_no_pass_of_an_explored_test(suite: pytest.Pytester) -> None:
    once = '\n@pytest.fixture\ndef job_invariants():\n    return [at_most_once("paid")]\n'
    test = WRAPPED.replace("import JobResult", "import JobResult, SideEffect, at_most_once")
    test = test.replace('effect("paid", order=job.input)', 'effect(SideEffect("paid", "7", idempotent=True))')
    suite.makepyfile(test_it=test + once)
    assert explored_test.explore_test("test_it.py::test_forgets", ["--job-explore=5"]) is ExitCode.INCONCLUSIVE
    suite.makepyfile(test_again=test.replace("play(job_harness)", "play(job_harness, charge)") + once)
    assert explored_test.explore_test("test_again.py::test_forgets", ["--job-explore=5"]) is ExitCode.PASS


def test_other_settings_that_no_run_reached_are_notes(suite: pytest.Pytester) -> None:
    given = 'job_settings(lease="2m", job_timeout="30s", max_attempts=3)'
    waiting = KEPT.replace('job_settings(retention="1d")', given).replace("def once", "async def once")
    suite.makepyfile(test_it=waiting)
    noted = suite.runpytest_inprocess("--job-explore=1", "--job-strict")
    noted.assert_outcomes(passed=1)
    told = "job-harness: the setting job_timeout: no run reached it, so nothing was judged of it (*)"
    noted.stdout.fnmatch_lines([told, '  accepted by @pytest.mark.job_accepts("the setting job_timeout")'])
    first = "        await asyncio.sleep(40 * (job.attempts == 1))\n"
    slow = waiting.replace("        if job.input", f"{first}        if job.input")
    suite.makepyfile(test_it=f"import asyncio\n{slow}")
    suite.runpytest_inprocess("--job-explore=1", "--job-strict").stdout.no_fnmatch_line("*job_timeout*")


TWO_JOBS = (
    HEADER
    + """
import asyncio

stock = {"mug": 0}

async def restock(job):
    found = stock["mug"]
    await asyncio.sleep(0.1)
    stock["mug"] = found + 1
    return JobResult(success=True)

@pytest.mark.job_settings(batch_size=1)
def test_it(job_harness):
    job_harness.register("restock", restock)
    job_harness.always(lambda harness: True)
    job_harness.enqueue("restock", 1)
    job_harness.enqueue("restock", 2)
    job_harness.run_until_idle()
"""
)


def test_two_jobs_that_never_ran_at_the_same_time_were_not_judged_together(suite: pytest.Pytester) -> None:
    words = "no two jobs ran at the same time"
    told = f"*{words}, so what one of the 2 does to another was not judged; send both *"
    suite.makepyfile(test_it=TWO_JOBS)
    queued = suite.runpytest_inprocess("--job-explore=5")
    queued.assert_outcomes(passed=1)
    accepted = f'  accepted by @pytest.mark.job_accepts("{words}")'
    queued.stdout.fnmatch_lines([f"job-harness: not judged: {told}", accepted])
    suite.makepyfile(test_it=TWO_JOBS.replace("batch_size=1", "batch_size=5"))
    suite.runpytest_inprocess("--job-explore=5").stdout.no_fnmatch_line(told)
    apart = TWO_JOBS.replace('("restock", 1)\n', '("restock", 1)\n    job_harness.run_until_idle()\n')
    suite.makepyfile(test_it=apart)
    noted = suite.runpytest_inprocess("--job-explore=5", "-rP")
    noted.stdout.fnmatch_lines([f"job-harness: {told}", accepted])
    noted.stdout.no_fnmatch_line(f"*not judged: {words}*")
