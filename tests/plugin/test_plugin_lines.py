"""A finding names the lines of the user's own code that it turns on, whatever stands between them and the harness."""

from __future__ import annotations

import re

import pytest

import job_harness.doors.pytest.explored_test  # noqa: F401 - loaded once: an inner run forgets what it loads itself

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""
SERVICE = """
import asyncio

async def charge(provider, order):
    await asyncio.sleep(1)
    return await provider(order)  # here: the caller of the fake
"""
TESTS = """
import asyncio, time
import pytest
import service
from job_harness import JobResult, at_most_once, effect

receipts = []

async def provider(order):
    effect("charged", order=order)

@pytest.fixture
def job_invariants():
    return [at_most_once("charged")]

def crash_after_charge(job_harness, processor):
    job_harness.register("pay", processor)
    job_harness.enqueue("pay", 7)
    job_harness.crash_worker(at="charged")
    job_harness.run_until_idle()

def test_service(job_harness):
    async def pay(job):
        return JobResult(success=True, output=await service.charge(provider, job.input))
    crash_after_charge(job_harness, pay)

def test_fake_beside_processor(job_harness):
    async def pay(job):
        await provider(job.input)  # here: in one file
        return JobResult(success=True)
    crash_after_charge(job_harness, pay)

def test_no_fake(job_harness):
    async def pay(job):
        effect("charged", order=job.input)  # here: in itself
        return JobResult(success=True)
    crash_after_charge(job_harness, pay)

def test_plain_function(job_harness):
    def charge(order):
        effect("charged", order=order)
    def pay(job):
        time.sleep(1)
        charge(job.input)  # here: on a thread
        return JobResult(success=True)
    crash_after_charge(job_harness, pay)

def test_task(job_harness):
    async def pay(job):
        async def part():
            await provider(job.input)  # here: in a task
        await asyncio.gather(part())
        return JobResult(success=True)
    crash_after_charge(job_harness, pay)

def test_other_thread(job_harness):
    def charge(order):
        effect("charged", order=order)
    def part(order):
        charge(order)  # here: in a thread
    async def pay(job):
        await asyncio.gather(*(asyncio.to_thread(part, job.input) for _ in range(2)))
        return JobResult(success=True)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
"""
HELPERS = """
async def send(provider, order):
    await provider(order)  # here: in a helper

async def post(provider, order):
    await send(provider, order)
"""
JOBS = """
import helpers_of_lines as helpers
from job_harness import JobResult

async def pay(provider, job):
    await helpers.post(provider, job.input)  # here: in the processor
    return JobResult(success=True)
"""
ADAPTED = """
import pytest
from job_harness import at_most_once, effect
from pays_by_lines import pay

@pytest.fixture
def job_invariants():
    return [at_most_once("charged")]

def test_it(job_harness):
    async def provider(order):
        effect("charged", order=order)
    async def process(job):
        return await pay(provider, job)
    job_harness.register("pay", process)
    job_harness.enqueue("pay", 7)
    job_harness.crash_worker(at="charged")
    job_harness.run_until_idle()
"""
EXPLORED = """
import asyncio
from job_harness import JobResult

def test_wait(job_harness):
    entries = []
    async def book(job):
        entries.append(job.input)
        await asyncio.sleep(60)  # here: where the worker dies
        return JobResult(success=True)
    job_harness.always(lambda harness: len(entries) <= 1)
    job_harness.register("book", book)
    job_harness.enqueue("book", 7)
    job_harness.run_until_idle()
"""


def marked(text: str) -> list[str]:
    """Return what a report says is the line, in its order."""
    return re.findall(r"^> +\d+ \|.*# here: (.+)$", text, re.MULTILINE)


@pytest.fixture(autouse=True)
def project(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)


def test_each_kind_of_processor_shows_the_line_that_let_it_happen(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(service=SERVICE, test_pay=TESTS)
    output = pytester.runpytest_inprocess().stdout.str()
    kinds = ["the caller of the fake", "in one file", "in itself", "on a thread", "in a task"]
    assert marked(output) == [*kinds, "in a thread"]
    assert "service.py:5: `charged` by worker-1; worker-1 crashes here; `charged` again, by" in output


def test_what_helpers_do_shows_the_line_of_the_processor_that_led_there(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(helpers_of_lines=HELPERS, pays_by_lines=JOBS, test_it=ADAPTED)
    assert marked(pytester.runpytest_inprocess().stdout.str()) == ["in the processor", "in a helper"]


@pytest.mark.long
def test_where_no_side_effect_is_declared_the_line_is_shown_at_which_the_run_stood_last(
    pytester: pytest.Pytester,
) -> None:
    booking = "        entries.append(job.input)\n"
    after = EXPLORED.replace(booking, "").replace("        return JobResult", f"{booking}        return JobResult")
    pytester.makepyfile(test_book=after)
    found = pytester.runpytest_inprocess("--job-explore", "60").stdout.str()
    assert marked(found) == ["where the worker dies"]
    assert "stood here last" in found


@pytest.mark.long
def test_a_gate_shows_its_line_which_is_no_part_of_the_token(pytester: pytest.Pytester) -> None:
    file = pytester.makepyfile(test_book=EXPLORED)
    found = pytester.runpytest_inprocess("--job-explore", "30").stdout.str()
    assert marked(found) == ["where the worker dies"]
    (token,) = set(re.findall(r"jh1_\w+", found))
    file.write_text(file.read_text().replace("entries = []", "entries = []\n    # one line more"))
    again = pytester.runpytest_inprocess("--job-replay", token)
    again.stdout.fnmatch_lines(["*invariant_violated*", "*heartbeat job-1: crash*(test_book.py:9)"])
    assert marked(again.stdout.str()) == ["where the worker dies"]
