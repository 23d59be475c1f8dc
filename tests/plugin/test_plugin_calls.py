"""Explored, a call of something outside is refused or loses its reply; only what remains wrong then is a finding."""

from __future__ import annotations

import re

import pytest

import job_harness.doors.pytest.explored_test  # noqa: F401 - loaded once: an inner run forgets what it loads itself

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""
TEST = """
import asyncio, itertools
import httpx
import pytest
from job_harness import JobResult, effect, exactly_once, external

@pytest.fixture
def job_invariants():
    return [exactly_once("charged", tool="pay")]

class Service:
    def __init__(self):
        self.known = set()
    def __call__(self, request):
        return httpx.Response(self.charge(request.headers["idempotency-key"]))
    def charge(self, key):
        if key not in self.known:
            self.known.add(key)
            effect("charged")
        return 201

async def post(client, key):
    response = await client.post("https://pay.test/charges?order=7", headers={{"idempotency-key": key}})
    return JobResult(success=response.status_code == 201)

{mark}
def test_it(job_harness):
    service = Service()
    client = httpx.AsyncClient(transport=httpx.MockTransport(service))
    async def pay(job):
{body}
    job_harness.register("pay", pay)
    job = job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
    assert job.status == "COMPLETED"
"""
RETRIES = """
        for attempt in itertools.count(1):
            try:
                return await post(client, {key})
            except httpx.TransportError:
                if attempt == 3:
                    raise
                await asyncio.sleep(attempt)
"""
SWALLOWS = """
        try:
            return await post(client, job.id)
        except httpx.ConnectError:
            return JobResult(success=True)
"""
WRAPPED = """
        charge = external("called", service.charge)
        for attempt in (1, 2):
            try:
                charge(f"{job.id}-{attempt}")
            except TimeoutError:
                continue
            return JobResult(success=True)
"""
WRONG = {
    "a key of each try": (RETRIES.format(key='f"{job.id}-{attempt}"'), "effect_repeated", "reply of *is lost"),
    "an error that is swallowed": (SWALLOWS, "effect_missing", "is refused*"),
    "a fake that is wrapped": (WRAPPED, "effect_repeated", "reply of *is lost"),
}
RIGHT = {
    "a key of the job": RETRIES.format(key="job.id"),
    "left to the queue": "        return await post(client, job.id)",
}


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    return pytester


@pytest.mark.parametrize(("body", "anomaly", "fault"), WRONG.values(), ids=WRONG)
def test_what_a_failed_call_leaves_wrong_is_found_and_replayed(
    suite: pytest.Pytester, body: str, anomaly: str, fault: str
) -> None:
    suite.makepyfile(test_it=TEST.format(body=body, mark=""))
    found = suite.runpytest_inprocess("--job-explore=20")
    found.assert_outcomes(failed=1)
    words = " ".join(found.stdout.str().split())
    assert re.search(f"{anomaly}: .* One fault: .*{fault.replace('*', '.*')}", words), words
    (token, *_) = re.findall(r"jh1_[a-z2-7]+", found.stdout.str())
    again = suite.runpytest_inprocess(f"--job-replay={token}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines([f"FAIL  {anomaly} in test_it"])


@pytest.mark.long
@pytest.mark.parametrize("body", RIGHT.values(), ids=RIGHT)
def test_a_right_program_stays_silent_and_leaves_nothing_open(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setenv("CI", "1")
    suite.makepyfile(test_it=TEST.format(body=body, mark=""))
    explored = suite.runpytest_inprocess("--job-explore=60", "--job-strict")
    explored.assert_outcomes(passed=1)


@pytest.mark.long
def test_calls_do_not_fail_where_the_mark_says_so(suite: pytest.Pytester) -> None:
    mark = "@pytest.mark.job_explore(calls_fail=False)"
    suite.makepyfile(test_it=TEST.format(body=SWALLOWS, mark=mark))
    suite.runpytest_inprocess("--job-explore=20").assert_outcomes(passed=1)
