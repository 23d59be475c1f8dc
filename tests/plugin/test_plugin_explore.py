"""`pytest --job-explore`: a passing test as a campaign, and the token that plays a run again."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import pytest
from tests.contract.node_at_hand import needs_node

import job_harness.doors.pytest.explored_test  # loaded once: an inner run forgets what it loads itself
import job_harness.report.screen
from job_harness.core.faults import FaultPlan
from job_harness.core.invariants import Anomaly
from job_harness.core.scenario.replay_token import ReplayToken, encode
from job_harness.core.sim.choices import Choices, Deviation
from job_harness.doors.cli import explore_command, explored_test, main
from job_harness.errors import ExitCode, UsageError
from job_harness.search.explored.campaign import TestExploration, differ, usual_cause
from job_harness.search.explored.played import PlayedTest

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""
PAYMENT = """
import asyncio
from job_harness.subjects.processors import JobResult, effect

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
SENT = """
from job_harness import JobResult

def test_order(job_harness):
    committed, mailed = set(), set()

    def order(job):
        {steps}
        return JobResult(success=True)

    def mail(job):
        mailed.update(committed & {{job.input}})
        return JobResult(success=True)

    def all_are_mailed(harness):
        if all(job.status == "COMPLETED" for job in harness.all_enqueued()):
            assert mailed == committed

    job_harness.always(all_are_mailed)
    job_harness.register("order", order)
    job_harness.register("mail", mail)
    job_harness.enqueue("order", 7)
    job_harness.run_until_idle()
"""
SHARING = """
import asyncio, logging, os, socket, sqlite3, threading
from datetime import date
from pathlib import Path
import pytest
from job_harness.subjects.processors import JobResult, effect

paid, calls, repeated, log = [], [], [], logging.getLogger("it")

async def careless(job):
    await asyncio.sleep(1)
    effect("charged", order=job.input)
    return JobResult(success=True)

def play(harness, processor):
    def charged_once(harness):
        assert len(harness.effects("charged")) <= 1
    harness.always(charged_once)
    harness.register("pay", processor)
    job = harness.enqueue("pay", 7)
    harness.run_until_idle()
    assert job.status == "COMPLETED"

def explored(**options):
    return pytest.mark.job_explore(**{"runs": 10, "isolation": "fork", **options})

@pytest.fixture
def ledger():
    return set()

@explored(isolation="rerun", runs=8)
def test_a_careful_one_is_made_anew(job_harness, ledger):
    async def pay(job):
        await asyncio.sleep(1)
        if job.input not in ledger:
            ledger.add(job.input)
            effect("charged")
        return JobResult(success=True)
    play(job_harness, pay)

@explored(isolation="rerun")
def test_a_careless_one_is_found(job_harness):
    play(job_harness, careless)

@explored()
def test_broken_without_any_fault(job_harness):
    job_harness.always(lambda harness: not harness.effects("charged"))
    play(job_harness, careless)

@explored(isolation="rerun")
def test_a_history_that_leaks(job_harness):
    async def pay(job):
        if job.input not in paid:
            paid.append(job.input)
            effect("charged")
        return JobResult(success=True)
    play(job_harness, pay)

@explored(isolation="rerun")
def test_a_leak_beside_a_finding(job_harness):
    calls.append(1)
    log.info("played")
    play(job_harness, careless)

@pytest.fixture(scope="module")
def server_of_all():
    made = Path(__file__).with_name("made")
    with made.open("a") as file:
        file.write("x")
    yield
    assert made.read_text() == "x", "it is made once, and not by each process that plays a run again"

@explored(isolation="rerun")
def test_a_finding_beside_a_fixture_of_the_module(job_harness, server_of_all):
    play(job_harness, careless)

@explored(isolation="rerun")
def test_a_finding_that_needs_a_leak(job_harness):
    async def pay(job):
        if job.attempts > 1:
            repeated.append(job.id)
        return JobResult(success=True)
    job_harness.always(lambda harness: len(repeated) < 2)
    play(job_harness, pay)

@explored(known={"invariant_violated: charged_once": date(2999, 1, 1)})
def test_known(job_harness):
    play(job_harness, careless)

@explored(known={"invariant_violated": date(2020, 1, 1)})
def test_known_no_more(job_harness):
    play(job_harness, careless)

@pytest.fixture
def peer():
    near, far = socket.socketpair()
    yield near
    near.close()
    far.close()

@explored()
def test_a_socket(job_harness, peer):
    async def pay(job):
        peer.send(b"x")
        return JobResult(success=True)
    play(job_harness, pay)

@explored()
def test_a_file(job_harness, tmp_path):
    with open(tmp_path / "ledger.txt", "w+") as file:
        async def pay(job):
            file.write("x")
            file.flush()
            return JobResult(success=True)
        play(job_harness, pay)

@pytest.fixture
def shared_file(tmp_path):
    with open(tmp_path / "shared.txt", "w+") as file:
        yield file

@explored()
def test_a_file_of_a_fixture(job_harness, shared_file):
    async def pay(job):
        shared_file.write("x")
        shared_file.flush()
        return JobResult(success=True)
    play(job_harness, pay)

@pytest.fixture
def database(tmp_path):
    with sqlite3.connect(tmp_path / "it.db", isolation_level=None, check_same_thread=False) as connection:
        connection.execute("create table paid (job)")
        connection.execute("begin")  # its locks are the parent's
        yield connection
    connection.close()

@explored()
def test_a_database_of_a_fixture(job_harness, database):
    def pay(job):
        database.execute("insert into paid values (?)", [job.id])
        database.execute("commit")
        return JobResult(success=True)
    play(job_harness, pay)

@pytest.fixture
def server():
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, name="my-server")
    thread.start()
    yield
    ends.set()
    thread.join()

@explored()
def test_a_thread(job_harness, server):
    play(job_harness, careless)

@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()

@explored()
def test_a_loop(job_harness, loop):
    loop.run_until_complete(asyncio.sleep(0))
    play(job_harness, careless)

@explored()
def test_that_forks(job_harness):
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    async def pay(job):
        return JobResult(success=True)
    play(job_harness, pay)
"""
INTERRUPTED = """
import pytest
from job_harness.subjects.processors import JobResult, effect

runs = []

@pytest.mark.job_explore(isolation="rerun")
def test_it(job_harness):
    runs.append(1)
    if len(runs) == 5:
        raise KeyboardInterrupt
    job_harness.register("pay", lambda job: JobResult(success=True))
    job_harness.enqueue("pay")
    job_harness.run_until_idle()
"""
PLAIN = """
import time
import pytest
from job_harness import JobResult

@pytest.fixture
def saved(tmp_path):
    return tmp_path / "saved"

def play(harness, saved, place, holds):
    harness.always(lambda h: all(map(holds, [j for j in h.all_enqueued("place") if j.status == "COMPLETED"])))
    harness.register("place", place)
    harness.register("mail", lambda job: JobResult(success=True, output=saved.exists()))
    harness.enqueue("place")
    harness.run_until_idle()

def test_saved_and_not_enqueued(job_harness, saved):
    def place(job):
        if not saved.exists():
            saved.mkdir()
            job_harness.enqueue("mail")
        return JobResult(success=True)
    play(job_harness, saved, place, lambda job: job_harness.all_enqueued("mail"))

def test_enqueued_and_not_saved(job_harness, saved):
    def place(job):
        job_harness.enqueue("mail", unique_key="mail")
        saved.mkdir(exist_ok=True)
        return JobResult(success=True)
    def found(job):
        return all(mail.output is not False for mail in job_harness.all_enqueued("mail"))
    play(job_harness, saved, place, found)

def test_slept_in_between(job_harness, saved):
    def place(job):
        if not saved.exists():
            saved.mkdir()
            time.sleep(1)
            (saved / "both").mkdir()
        return JobResult(success=True)
    play(job_harness, saved, place, lambda job: (saved / "both").exists())
"""
IN_MEMORY = """
from job_harness import JobResult

seen, prices = set(), {}

def price_of(job):
    prices[job.input] = prices.get(job.input, 8)
    send(prices[job.input])
    return JobResult(success=True)

def charge(job):
    if job.input not in seen:
        seen.add(job.input)
        send(job.input)
    return JobResult(success=True)
"""
OF_MEMORY = """
import pytest, shop
from job_harness import JobResult, ProcessorContract, effect, exactly_once

sent = []

@pytest.fixture(autouse=True)
def service(monkeypatch):
    def send(order):
        sent.append(order)
        effect("charged", order=order)
    monkeypatch.setattr(shop, "send", send, raising=False)

@pytest.fixture
def job_invariants():
    return [exactly_once("charged", per=["order"])]

def test_charge(job_harness):
    job_harness.register("charge", shop.charge)
    job_harness.enqueue("charge", 7)
    job_harness.run_until_idle()

class TestCharge(ProcessorContract):
    processor = shop.charge
    examples = [8]
"""
FILES = """
import tempfile
from job_harness import JobResult

def test_torn(job_harness, tmp_path):
    report = tmp_path / "report"
    def write(job):
        with tempfile.NamedTemporaryFile(dir=tmp_path) as part:
            part.write(b"whole")
        report.write_text("whole")
        return JobResult(success=True)
    job_harness.always(lambda h: not report.exists() or report.read_text() == "whole")
    job_harness.register("write", write)
    job_harness.enqueue("write")
    job_harness.run_until_idle()
"""
DRAWN = """
import secrets, uuid
from job_harness import JobResult, effect

def test_drawn(job_harness):
    async def pay(job):
        effect("charged", key=str(uuid.uuid4()), draw=secrets.randbelow(10**9))
        return JobResult(success=True, output=secrets.token_hex(8))
    job_harness.always(lambda h: len({each.data["key"] for each in h.effects("charged")}) < 2)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay")
    job_harness.run_until_idle()
"""
JITTER = """
import asyncio, random
from random import uniform
import pytest
from job_harness import JobResult, effect

@pytest.fixture
def seeded():
    random.seed(7)

def charged(job_harness):
    async def pay(job):
        drawn = random.random()
        await asyncio.sleep(drawn + uniform(0, 2) + random.Random().random())
        effect("charged", drawn=drawn)
        return JobResult(success=True)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay")
    job_harness.run_until_idle()
    return job_harness.effects("charged")[0].data["drawn"]

def test_found(job_harness):
    job_harness.always(lambda h: len(h.effects("charged")) < 2)
    charged(job_harness)

def test_seeded(seeded, job_harness):
    assert charged(job_harness) == random.Random(7).random()

def test_afterwards():
    assert random.random() not in (random.Random(seed).random() for seed in (0, 7))
"""
CALM = """
def test_calm(job_harness, saved):
    play(job_harness, saved, lambda job: JobResult(success=True), lambda job: True)
"""
CARELESS = PAYMENT.format(charge='effect("charged", order=job.input)')
CAREFUL = PAYMENT.format(charge='if job.input not in paid: paid.append(job.input); effect("charged")')
CHANCE = PAYMENT.format(charge='effect("rolled", a="x" * 300, number=__import__("os").getpid())')

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
from job_harness.subjects.processors import TypeScriptProcessor, effect

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
    result.stdout.fnmatch_lines(
        [
            "*invariant_violated in test_pay",
            "*CRASHES at charged job-1",
            "One fault: worker-1 crashes right after `charged job-1`",
        ]
    )
    token = re.search(r"jh1_[a-z2-7]+", "".join(result.outlines))
    assert token is not None
    assert not any(line.startswith("--job-replay") for line in result.outlines)
    again = suite.runpytest_inprocess(f"--job-replay={token[0]}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*invariant_violated in test_pay", "*CRASHES at charged job-1"])


@pytest.mark.long
@pytest.mark.parametrize("early", [True, False])
def test_a_job_that_is_sent_before_its_row_is_committed_is_found(suite: pytest.Pytester, early: bool) -> None:
    steps = ["job_harness.enqueue('mail', job.input)", "committed.add(job.input)"]
    suite.makepyfile(test_it=SENT.format(steps="; ".join(steps if early else reversed(steps))))
    result = suite.runpytest_inprocess("--job-explore=100")
    result.assert_outcomes(passed=not early, failed=early)
    if early:
        result.stdout.fnmatch_lines(["One fault: the run of job-1 stands still for * right after `enqueue"])


RARE = """
import asyncio

import pytest
from job_harness import JobResult, effect

row = {}

async def wait(times):
    for _ in range(times):
        await asyncio.sleep(1)

async def receipt(job):
    await wait(36)
    effect("mailed")
    await wait(4)
    return JobResult(success=True)

async def add(job):
    await wait(1)
    read = row["added"]
    await wait(1)
    row["added"] = read + 1
    await wait(1)
    return JobResult(success=True)

@pytest.fixture
def running(job_harness):
    row["added"] = 0
    job_harness.register("receipt", receipt)
    job_harness.register("add", add)
    return job_harness

def test_a_receipt_without_a_key(running):
    running.enqueue("receipt")
    def mailed_once(harness):
        assert len(harness.effects("mailed")) <= 1
    running.always(mailed_once)
    running.run_until_idle()

def test_an_update_that_another_job_loses(running):
    jobs = [running.enqueue("add"), running.enqueue("add", start_after="10s")]
    def none_is_lost(harness):
        assert row["added"] >= sum(job.status == "COMPLETED" for job in jobs)
    running.always(none_is_lost)
    running.run_until_idle()
"""


@pytest.mark.long
def test_what_one_deviation_among_many_gates_shows_is_found_in_a_few_runs(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_it=RARE, test_row=SENT.format(steps="job_harness.enqueue('mail', job.input); committed.add(job.input)")
    )
    result = suite.runpytest_inprocess("--job-explore=10")
    result.assert_outcomes(failed=3)


@pytest.mark.long
def test_a_campaign_that_has_tried_every_single_deviation_says_so(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CAREFUL)
    for runs, said in ((10, False), (100, True)):
        result = suite.runpytest_inprocess(f"--job-explore={runs}", "-rP")
        told = [line for line in result.outlines if f"{runs} disturbed runs in" in line and "seed 0" in line]
        assert ["every crash at every gate was tried" in line for line in told] == [said]
        assert [bool(re.search(rf"; {runs} of \d+ single faults came up", line)) for line in told] == [not said]


WARMED = """
from job_harness import JobResult, step

token = []

def test_it(job_harness):
    async def pay(job):
        if not token:
            await step("asks for a token")
            token.append(1)
        return JobResult(success=True)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay")
    job_harness.run_until_idle()
"""


@pytest.mark.long
@pytest.mark.parametrize(("isolation", "said"), [("copy", True), ("rerun", False)])
def test_a_gate_that_only_the_first_run_comes_to_was_not_tried(
    suite: pytest.Pytester, isolation: str, said: bool
) -> None:
    suite.makepyfile(test_it=WARMED)
    result = suite.runpytest_inprocess("--job-explore=100", "-rP", "-o", f"job_isolation={isolation}")
    (told,) = [line for line in result.outlines if "100 disturbed runs in" in line and "seed 0" in line]
    assert ("every crash at every gate was tried" in told) == said
    assert bool(re.search(r"; (\d+) of (?!\1)\d+ single faults came up", told)) != said


def test_a_careful_processor_passes_and_the_campaign_says_how_many_runs(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CAREFUL)
    result = suite.runpytest_inprocess("--job-explore=10", "-rP")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*10 disturbed runs*"])


LOCKED = """
import asyncio

import pytest
from job_harness import JobResult, SideEffect, effect

locks = set()

async def pay(job):
    if job.input in locks:
        raise RuntimeError("it is\\nlocked")
    locks.add(job.input)
    await asyncio.sleep(30)
    effect(SideEffect("charged", "7", idempotent=True))
    locks.discard(job.input)
    return JobResult(success=True)

def test_pay(job_harness):
    # always
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
"""


@pytest.mark.long
def test_a_pass_says_which_repetition_nothing_judged(suite: pytest.Pytester) -> None:
    unjudged = CARELESS.replace("    job_harness.always(charged_once)\n", "")
    charge, harmless = 'effect("charged", order=job.input)', 'effect(SideEffect("charged", "7", idempotent=True))'
    suite.makepyfile(
        test_unjudged=unjudged,
        test_undeclared=unjudged.replace(charge, "paid.append(job.input)"),
        test_harmless="from job_harness import SideEffect\n" + unjudged.replace(charge, harmless),
        test_locked=LOCKED,
        test_locked_and_judged=LOCKED.replace("# always", "job_harness.always(lambda harness: None)"),
    )
    result = suite.runpytest_inprocess("--job-explore=9")
    result.assert_outcomes(passed=5)
    told = [line for line in result.outlines if line.startswith("job-harness: not judged: ")]
    assert len(told) == 3
    forbid = "let the fixture job_invariants return [[]at_most_once('charged')]"
    repeated = f"'charged' was repeated in * of 9 disturbed runs; to forbid that, {forbid}"
    result.stdout.fnmatch_lines_random(
        [
            f"job-harness: not judged: {repeated} (test_unjudged.py::test_pay)",
            "job-harness: not judged: no processor declared an effect()*; call `effect(*`job-harness docs pytest`*",
            "*: a job of 'pay' ended as FAILED in * of 9 disturbed *: it is locked); *always() * (test_locked.py::*",
        ]
    )
    strict = suite.runpytest_inprocess("--job-explore=9", "--job-strict")
    strict.assert_outcomes(passed=2, failed=3)
    strict.stdout.fnmatch_lines([f"--job-strict: not judged: {repeated}"])
    assert explored_test.explore_test("test_harmless.py", ["--job-explore=9"]) is ExitCode.PASS
    assert explored_test.explore_test("test_unjudged.py", ["--job-explore=9"]) is ExitCode.INCONCLUSIVE


@pytest.mark.long
def test_a_session_that_explored_nothing_says_so_and_fails_where_that_is_asked_for(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CAREFUL + "\ndef test_of_nothing(): ...\n")
    told = "job-harness: explored no test: none that takes job_harness was called"
    for options, code in ((["--job-explore=3"], 0), (["--job-explore=3", "--job-strict"], 1), (["--job-strict"], 0)):
        result = suite.runpytest_inprocess("-k", "of_nothing", *options)
        result.assert_outcomes(passed=1, deselected=1)
        assert (result.ret, told in result.outlines) == (code, "--job-explore=3" in options)
    assert explored_test.explore_test("test_it.py", ["--job-explore=3", "-k", "of_nothing"]) is ExitCode.INCONCLUSIVE
    assert told not in suite.runpytest_inprocess("--job-explore=3").outlines


def test_a_file_that_cannot_be_imported_is_a_usage_error(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it="import there_is_no_such_module\n")
    assert explored_test.explore_test("test_it.py", ["--job-explore=3"]) is ExitCode.USAGE


WITHOUT_EFFECT = """
import unittest
import pytest
from job_harness.subjects.processors import JobResult

class TestMine(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def mine(self, job_harness):
        self.job_harness = job_harness

    def test_it(self):
        self.job_harness.register("pay", lambda job: JobResult(success=True))
        self.job_harness.enqueue("pay")

def test_found(request):
    request.getfixturevalue("job_harness")

@pytest.mark.job_explore(run=5)
@pytest.mark.job_settings(leese="1m")
def test_plain(): ...

@pytest.mark.job_settings(max_attempts=1)
class TestMixed:
    def test_plain(self): ...

    @pytest.mark.job_clocks("real")
    def test_skipped(self): pytest.skip("not now")
"""


def test_what_has_no_effect_on_a_test_is_told_and_fails_where_that_is_asked_for(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=WITHOUT_EFFECT)
    told = [
        "a test of a unittest.TestCase is not explored: write a function that takes job_harness (*::test_it)",
        "a test that gets job_harness while it runs is not explored: * (*::test_found)",
        "the marker job_explore has no effect on a test that does not use job_harness (*::test_plain)",
        "the marker job_settings has no effect on a test that does not use job_harness or job_queue (*::test_plain)",
    ]
    lines = [f"job-harness: not judged: {line}" for line in told]
    result = suite.runpytest_inprocess("--job-explore=3")
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines_random(lines)
    assert result.stdout.str().count("not judged: ") == len(told) + 1, "a job that is never run is told beside it"
    suite.runpytest_inprocess("--job-explore=3", "--job-strict").assert_outcomes(passed=4, errors=3, skipped=1)
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.no_fnmatch_line("*is not explored*")
    result.stdout.fnmatch_lines_random(lines[2:])


HELD = """
import asyncio
from pathlib import Path

from job_harness import effect

plays = Path("plays.txt")


async def work(job):
    effect("done", order=job.id)
    await asyncio.sleep(1)
    return {"success": True}


def test_its_own_assertion(job_harness):
    job_harness.register("work", work)
    job = job_harness.enqueue("work")
    job_harness.run_until_idle()
    assert job.attempts == 1, f"once, done {len(job.effects)} times"


def test_set_up(job_harness):
    with plays.open("a") as file:
        file.write("one")
    if 9 < plays.stat().st_size < 22:
        raise OSError("too many clients")
    job_harness.register("work", work)
    job_harness.enqueue("work")
    job_harness.run_until_idle()
"""


@pytest.mark.long
def test_what_a_disturbed_test_itself_raises_is_told_and_set_up_that_raises_judges_nothing(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile(test_held=HELD, conftest="")
    result = suite.runpytest_inprocess("--job-explore=8", "-rs", "-k", "assertion")
    result.assert_outcomes(passed=1)
    failed = "the test itself failed in * of 8 disturbed runs in which every job was COMPLETED (AssertionError: once*"
    result.stdout.fnmatch_lines([f"*not judged: {failed}, among others*"])
    assert result.stdout.str().count("the test itself failed in") == 1
    suite.runpytest_inprocess("--job-explore=8", "--job-strict", "-k", "assertion").assert_outcomes(failed=1)
    result = suite.runpytest_inprocess("--job-explore=8", "-rs", "-k", "set_up")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*it failed before it sent a job: OSError: too many clients*"])


@pytest.mark.long
def test_a_test_that_is_not_deterministic_is_inconclusive_with_the_first_difference(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CHANCE)
    result = suite.runpytest_inprocess("--job-explore=10", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*inconclusive: two undisturbed runs differ*", '* ...*xx","number":*', '* ...*xx","number":*']
    )


def test_a_search_ends_soon_after_a_disturbed_run_has_changed_the_undisturbed_one() -> None:
    played: list[Choices] = []

    def play(choices: Choices, faults: FaultPlan) -> PlayedTest:
        played.append(choices)
        return PlayedTest(history=json.dumps({"at": 0, "connected": len(played) > 3}))

    exploration = TestExploration(runs=100, rerun=play)
    exploration.explore()
    assert exploration.disturbed == 5
    assert exploration.unsure.startswith("after 5 disturbed runs, two undisturbed runs differ, so no disturbed one")


FIRST, SECOND, OTHER = ('{"job":"a","number":1}', '{"job":"b","number":1}', '{"job":"c","number":1}')


@pytest.mark.parametrize(
    ("orders", "judged"),
    [
        ([(FIRST, SECOND), (SECOND, FIRST), (FIRST, SECOND)], True),
        ([(FIRST, SECOND), (SECOND, FIRST), (SECOND, FIRST)], True),
        ([(FIRST, SECOND), (FIRST, OTHER), (FIRST, SECOND)], False),
    ],
)
def test_undisturbed_runs_are_played_again_where_a_database_let_jobs_that_waited_go_in_another_order(
    orders: list[tuple[str, str]], judged: bool
) -> None:
    left = iter(orders)
    last = orders[-1]
    exploration = TestExploration(runs=3, rerun=lambda choices, faults: PlayedTest(history="\n".join(next(left, last))))
    exploration.explore()
    assert (exploration.unsure == "") is judged
    assert (exploration.disturbed > 0) is judged


def test_runs_that_differ_in_times_alone_are_told_whose_clock_that_is() -> None:
    again = PlayedTest(uncontrolled=("child process: cp",))
    lines = ['{"kind":"effect","at":33009674,"after":{"lease_until":null}}', '{"kind":"effect","at":4,"after":{}}']
    assert "job_clock.freeze()" in usual_cause([(lines[0], lines[0].replace("33", "32"))], again, again)
    assert "child process: cp" in usual_cause([(lines[0], lines[1])], again, again)
    database = PlayedTest(uncontrolled=("network: a connection to .s.PGSQL.5432 at ship.py:15",))
    assert "let one start later" in usual_cause([(lines[0], lines[1])], database, database)


def test_undisturbed_runs_are_compared_by_what_breaks_and_not_by_the_words_for_it() -> None:
    def breaks(words: str) -> PlayedTest:
        return PlayedTest(anomalies=(Anomaly("invariant_violated", "own", 0, 0, None, words),))

    assert differ(breaks("two trips: 37, 38"), breaks("two trips: 47, 48")) == ""
    why = differ(PlayedTest(), breaks("two trips: 47, 48"))
    assert "two trips: 47, 48" in why
    assert "Only times differ" not in why


def test_a_token_that_makes_no_sense_is_refused_in_words(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CARELESS)
    result = suite.runpytest_inprocess("--job-replay=jh1_abc")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is damaged or cut off*"])


@pytest.mark.long
def test_a_test_that_fails_by_itself_fails_and_is_not_hidden_by_the_campaign(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CAREFUL.replace('assert job.status == "COMPLETED"', 'assert job.status == "FAILED"'))
    result = suite.runpytest_inprocess("--job-explore=10")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *COMPLETED*"])


@pytest.mark.long
def test_runs_that_end_their_process_are_not_judged_and_so_not_green(suite: pytest.Pytester) -> None:
    dies = 'if job.attempts > 1: __import__("os")._exit(0)'
    suite.makepyfile(test_it=PAYMENT.format(charge=dies))
    result = suite.runpytest_inprocess("--job-explore=20", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*inconclusive: its process ended before it was judged * of 20 runs were not judged*"])


LEAVES = """
import threading
from job_harness import JobResult, effect

ends = threading.Event()

def pay(job):
    if job.attempts == 1:
        effect("tried")
    else:
        threading.Thread(target=ends.wait, daemon=True).start()
    return JobResult(success=True)

def test_pay(job_harness):
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
"""


@pytest.mark.long
def test_a_run_that_is_not_judged_says_what_struck_it_is_kept_and_plays_again(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=LEAVES)
    result = suite.runpytest_inprocess("--job-explore=1", "--job-record=kept")
    result.assert_outcomes(skipped=1)
    told = re.search(r"^  a processor left something running: (.*)$", result.stdout.str(), re.MULTILINE)
    assert told is not None
    why, first, replay = told[1].split("; ")
    assert re.fullmatch(r"the thread .*, started at .*test_it.py:10, so 1 of 1 runs was not judged", why)
    assert first == "the first: worker-1 crashes right after `tried job-1`"
    result.stdout.fnmatch_lines(['  accepted by @pytest.mark.job_accepts("a processor left something running")'])
    kept = [json.loads(file.read_text().partition("\n")[0])["about"] for file in suite.path.glob("kept/*/run-*.jsonl")]
    assert [about["not judged"][:40] for about in kept if "not judged" in about] == [
        "a processor left something running: the "
    ]
    again = suite.runpytest_inprocess(*replay.removeprefix("replay: ").split())
    again.stdout.fnmatch_lines(["*left something running*"])


@pytest.mark.long
def test_what_runs_share_is_named_and_never_a_false_failure(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SHARING)
    result = suite.runpytest_inprocess("-rsxP")
    assert result.parseoutcomes() == {"passed": 3, "failed": 5, "skipped": 7, "xfailed": 1}
    said = result.stdout.str()
    for line in (
        "Changed by the runs before: test_it.paid.",
        "left behind in this process: test_it.calls",
        "not where the same run was played in a process without earlier runs: earlier runs in this",
        "had changed test_it.repeated; reset it in a fixture",
        "it uses the socket pair on descriptor",
        "shared.txt, opened before the fork and shared with the parent; repeat its fixtures",
        "it.db, opened before the fork and shared with the parent; commit before the fixture yields or returns, and",
        "a thread runs beside this test, which a forked child does not have: 'my-server'",
        "it uses an event loop that the parent made",
        "known: invariant_violated: charged_once (until 2999-01-01)",
        "known until 2020-01-01, which is over: invariant_violated",
        "Found in the undisturbed run",
        "8 disturbed runs in ",
        "rerun, seed 0",
    ):
        assert line in said, line
    result.stdout.fnmatch_lines(["job-harness: explored 16 tests: * disturbed runs in * s*"])


@pytest.mark.long
def test_a_plain_processor_dies_at_a_sleep_and_on_both_sides_of_what_it_enqueues(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")  # On CI pytest's summary has whole messages: each screen stands once all the same.
    suite.makepyfile(test_it=PLAIN)
    result = suite.runpytest_inprocess("--job-explore=20")
    result.assert_outcomes(failed=3)
    causes = [line for line in result.outlines if line.startswith("One fault:")]
    assert [line.removeprefix("One fault: worker-1 crashes ") for line in causes] == [
        "before enqueue mail job-1",
        "right after `enqueue mail job-1`",
        "before `test_it.py:place job-1`",
    ]
    (token, *_) = re.findall(r"jh1_[a-z2-7]+", result.stdout.str())
    suite.runpytest_inprocess("-k", "saved_and_not", f"--job-replay={token}").assert_outcomes(failed=1)


@pytest.mark.long
def test_what_a_processor_keeps_in_its_own_module_outlives_a_crash_and_so_is_no_pass(suite: pytest.Pytester) -> None:
    suite.makepyfile(shop=IN_MEMORY, test_it=OF_MEMORY)
    result = suite.runpytest_inprocess("--job-explore=10", "-k", "test_charge or survives_crash")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "  shop.seen outlived its death, and a new process would begin without it; then, killed * 2 times; keep *",
            "job-harness: not judged: shop.seen is changed by a processor and outlives a crash here; * (test_it.py::*)",
        ]
    )
    strict = suite.runpytest_inprocess("--job-explore=10", "--job-strict", "-k", "test_charge or survives_crash")
    strict.assert_outcomes(failed=2)


@pytest.mark.long
@pytest.mark.parametrize("isolation", ["fork", "rerun"])
def test_state_in_any_module_of_the_project_is_told_and_where_that_is_asked_for_a_crash_loses_it(
    suite: pytest.Pytester, isolation: str
) -> None:
    suite.makeini(f"{INI}job_isolation = {isolation}")
    test = OF_MEMORY.replace("import pytest, shop", "import fakes, ledger, pytest, shop").replace(
        "        sent.append(order)\n", "        fakes.calls.append(order)\n"
    )
    suite.makepyfile(
        shop=IN_MEMORY.replace("in seen", "in ledger.charged").replace("seen.add", "ledger.charged.add")
        + "\nimport ledger\n",
        ledger="charged = set()",
        fakes="calls = []",
        test_it=test.replace("def service(monkeypatch):", "def service(monkeypatch):\n    ledger.charged.clear()"),
    )
    passed = suite.runpytest_inprocess("--job-explore=10", "-k", "test_charge")
    passed.assert_outcomes(passed=1)
    passed.stdout.fnmatch_lines(["job-harness: not judged: ledger.charged is changed by a processor and outlives a *"])
    passed.stdout.no_fnmatch_line("*fakes.calls*")
    lost = "@pytest.mark.job_explore(runs=10, forgets=True)\ndef test_charge"
    suite.makepyfile(test_it=(suite.path / "test_it.py").read_text().replace("def test_charge", lost))
    found = suite.runpytest_inprocess("-k", "test_charge")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*effect_repeated: charged(order=7) *"])


MARKED = """
import pytest
from job_harness import JobResult, exactly_once, external

@pytest.fixture
def job_invariants():
    return [exactly_once("mailed", per=["order"])]

@pytest.mark.parametrize("early", [True, False])
def test_plain(job_harness, early):
    sent, marks = set(), set()
    mail = external("mailed", lambda order: sent.add(order))
    def receipt(job):
        if job.input["order"] in (marks if early else sent):
            return JobResult(success=True)
        if early:
            marks.add(job.input["order"])
        mail(job.input["order"])
        return JobResult(success=True)
    job_harness.register("receipt", receipt)
    job_harness.enqueue("receipt", {"order": 7})
    job_harness.run_until_idle()

def test_coroutine(job_harness):
    marks = set()
    async def mail(order): ...
    posted = external("mailed", mail)
    async def receipt(job):
        if job.input["order"] not in marks:
            marks.add(job.input["order"])
            await posted(job.input["order"])
        return JobResult(success=True)
    job_harness.register("receipt", receipt)
    job_harness.enqueue("receipt", {"order": 7})
    job_harness.run_until_idle()

def test_that_two_jobs_share(job_harness):
    marks = set()
    async def mail(order): ...
    posted = external("mailed", mail)
    async def receipt(job):
        if job.input["order"] not in marks:
            await posted(job.input["order"])
            marks.add(job.input["order"])
        return JobResult(success=True)
    job_harness.register("receipt", receipt)
    for _ in range(2):
        job_harness.enqueue("receipt", {"order": 7})
    job_harness.run_until_idle()
"""


@pytest.mark.long
def test_a_call_outside_is_a_gate_on_both_sides_so_a_mark_in_memory_before_it_is_judged(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=MARKED)
    result = suite.runpytest_inprocess("--job-explore=40")
    result.assert_outcomes(passed=1, failed=3)
    causes = [line for line in result.outlines if line.startswith(("One fault:", "No fault"))]
    assert causes == [
        "One fault: worker-1 crashes before `call of mailed() job-1`",
        "One fault: worker-1 crashes before `call of mailed() job-1`",
        "No fault was needed: everybody ran on time.",
    ]
    result.stdout.fnmatch_lines([">   17 *mail(job.input*", ">   30 *await posted(*"])
    told = [
        "*No fault was needed*",
        "Steps, from left to right*",
        "*job-1 *job-2*",
        "*call of mailed() *call of mailed()*",
    ]
    result.stdout.fnmatch_lines([*told, ">   42 *await posted(*"])


GUARDED = """
import asyncio

from job_harness import JobResult

busy = set()

async def guarded(job):
    if job.id in busy:
        raise RuntimeError("at work on it")
    busy.add(job.id)
    try:
        await asyncio.sleep(30)
        return JobResult(success=True)
    finally:
        busy.discard(job.id)
"""
OF_GUARD = """
import shop
from job_harness import ProcessorContract

class TestGuarded(ProcessorContract):
    processor = shop.guarded
    examples = [7]
    pure = True
"""


def test_a_guard_in_memory_that_no_other_process_sees_is_no_failure(suite: pytest.Pytester) -> None:
    suite.makepyfile(shop=GUARDED, test_it=OF_GUARD)
    result = suite.runpytest_inprocess("-k", "survives_crash or survives_zombie")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        [
            "  killed *: at work on it; but shop.busy outlived its death, and a new process * without it; keep *",
            "  stalled *: at work on it; but the first had changed shop.busy, which a process of its own *",
        ]
    )


def test_a_contract_passes_where_nothing_is_lost_with_what_a_processor_remembers(suite: pytest.Pytester) -> None:
    contract = OF_MEMORY.replace(
        "processor = shop.charge", "processor = shop.price_of; repeatable_effects = ['charged']"
    )
    suite.makepyfile(shop=IN_MEMORY, test_it=contract)
    suite.runpytest_inprocess("-k", "survives_crash").assert_outcomes(passed=1)


def found_by(suite: pytest.Pytester, test: str, isolation: str) -> str:
    """Explore a test that fails; return the token of the finding."""
    suite.makeini(f"{INI}job_isolation = {isolation}")
    suite.makepyfile(test_it=test)
    found = suite.runpytest_inprocess("--job-explore=20")
    found.assert_outcomes(failed=1)
    token: str = re.findall(r"jh1_[a-z2-7]+", found.stdout.str())[0]
    return token


@pytest.mark.parametrize("isolation", ["fork", "rerun"])
def test_identifiers_by_chance_are_the_same_in_each_run_and_new_in_each_attempt(
    suite: pytest.Pytester, isolation: str
) -> None:
    token = found_by(suite, DRAWN, isolation)
    suite.runpytest_inprocess(f"--job-replay={token}").assert_outcomes(failed=1)


@pytest.mark.long
@pytest.mark.parametrize("isolation", ["fork", "rerun"])
def test_a_processor_that_waits_by_chance_is_explored_and_a_seed_of_a_fixture_counts(
    suite: pytest.Pytester, isolation: str
) -> None:
    suite.makeini(f"{INI}job_isolation = {isolation}")
    suite.makepyfile(test_it=JITTER)
    found = suite.runpytest_inprocess("--job-explore=20", "-W", "ignore")
    found.assert_outcomes(passed=2, failed=1)
    token = re.findall(r"jh1_[a-z2-7]+", found.stdout.str())[0]
    suite.runpytest_inprocess(f"--job-replay={token}", "test_it.py::test_found").assert_outcomes(failed=1)


@pytest.mark.long
@pytest.mark.parametrize("isolation", ["fork", "rerun"])
def test_a_token_fits_in_another_session_though_temporary_files_have_other_paths(
    suite: pytest.Pytester, isolation: str
) -> None:
    token = found_by(suite, FILES, isolation)
    again = suite.runpytest_inprocess(f"--job-replay={token}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(
        [
            "*  worker-1 after opening tmp_path/report job-1: crash*",
            "*  worker-2 after create tmp_path/a temporary file*",
        ]
    )


TOOLS = """
from concurrent.futures import ThreadPoolExecutor
import pytest
from job_harness.subjects.processors import JobResult, at_most_once, effect

done = set()

@pytest.fixture
def job_invariants():
    return [at_most_once("mailed", per=["to"]), at_most_once("charged", per=["to"])]

def call(tool):
    if tool == "charged" or tool not in done:
        done.add(tool)
        effect(tool, to="o1")

def test_found(job_harness):
    def agent(job):
        with ThreadPoolExecutor() as pool:
            list(pool.map(call, ["mailed", "charged"]))
        return JobResult(success=True)
    job_harness.register("agent", agent)
    job_harness.enqueue("agent")
    job_harness.run_until_idle()
"""


@pytest.mark.long
@pytest.mark.parametrize("isolation", ["fork", "copy"])
def test_a_tool_that_an_agent_runs_on_a_pool_may_die_right_after_its_effect(
    suite: pytest.Pytester, isolation: str
) -> None:
    suite.makeini(f"{INI}job_isolation = {isolation}")
    suite.makepyfile(test_it=TOOLS)
    found = suite.runpytest_inprocess("--job-explore=20", "--job-seed=0", "-W", "ignore")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["One fault: worker-1 crashes right after `*ed job-1`", "test_it.py:14: `charged` by *"])
    token = re.findall(r"jh1_[a-z2-7]+", found.stdout.str())[0]
    again = suite.runpytest_inprocess(f"--job-replay={token}", "test_it.py::test_found")
    again.stdout.fnmatch_lines(["One fault: worker-1 crashes right after `*ed job-1`"])


@pytest.mark.long
def test_the_summary_names_a_processor_that_nothing_could_disturb_in_its_midst(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=PLAIN.partition("def test_")[0] + CALM)
    result = suite.runpytest_inprocess("--job-explore=5", "--job-strict")
    result.assert_outcomes(passed=1)
    told = (
        "job-harness: no gate inside 'place': the worker died before and after it, never in its midst (test_it.py::*)"
    )
    result.stdout.fnmatch_lines([told])


def test_a_test_that_fails_by_itself_shows_its_timeline_and_a_token_that_fits_as_long_as_its_gates_do(
    suite: pytest.Pytester,
) -> None:
    failing = CARELESS.replace("job_harness.run_until_idle()", 'job_harness.crash_worker(at="charged")\n    assert 0')
    failing = failing.replace("    assert 0", "    job_harness.run_until_idle()\n    assert job.attempts == 1")
    suite.makepyfile(test_it=failing)
    result = suite.runpytest_inprocess()
    result.stdout.fnmatch_lines(["*job-harness: what happened*", "*CRASHES at charged job-1", "Replay: pytest *"])
    (token,) = re.findall(r"jh1_[a-z2-7]+", result.stdout.str())
    again = suite.runpytest_inprocess(f"--job-replay={token}", "--job-stop-at=999")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*invariant_violated in test_pay", "*gates*", "*  worker-1 charged job-1: crash*"])
    assert "During handling" not in again.stdout.str()
    for changed, outcomes, said in (
        (CARELESS + "    # changed\n", {"failed": 1}, "The test has changed since this token was made; all of its *"),
        (
            CARELESS.replace('effect("charged"', 'effect("billed"'),
            {"skipped": 1},
            "*no longer fits this test; worker-1 charged job-1 #1: crash never came up (did you mean 'worker-1 billed*",
        ),
        (
            CARELESS.replace("test_pay", "test_other"),
            {"failed": 1},
            "this token was recorded for something else (*), not for *test_other*",
        ),
    ):
        suite.makepyfile(test_it=changed)
        replayed = suite.runpytest_inprocess(f"--job-replay={token}", "-rs")
        assert replayed.parseoutcomes() == outcomes
        replayed.stdout.fnmatch_lines([said])


def test_a_replay_stops_at_a_gate(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.makepyfile(test_it=CAREFUL)
    token = encode(ReplayToken(_target_of(suite), 0, ()))
    stops: list[str] = []
    monkeypatch.setattr(pytest, "set_trace", lambda header: stops.append(header))
    suite.runpytest_inprocess(f"--job-replay={token}", "--job-stop-at=4").assert_outcomes(passed=1)
    assert [stop.partition(" (")[0].rstrip() for stop in stops] == ["job-harness: gate 4  worker-1 charged job-1"]
    result = suite.runpytest_inprocess(f"--job-replay={token}", "--job-stop-at=99")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["--job-stop-at 99: this run has no such gate; it has *"])


def test_quitting_the_debugger_ends_a_replay_wherever_it_stands_and_blames_nobody(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyfile(test_it=CARELESS)
    token = encode(ReplayToken(_target_of(suite), 0, (Deviation("worker-1 charged job-1", 1, "crash"),)))
    monkeypatch.setattr("builtins.input", lambda prompt="": "q")
    for gate in ("3", "6"):  # inside a processor, and inside maintenance: both catch what is raised in them
        result = suite.runpytest_inprocess(f"--job-replay={token}", f"--job-stop-at={gate}")
        assert (result.ret, result.parseoutcomes()) == (pytest.ExitCode.INTERRUPTED, {})
        result.stdout.fnmatch_lines(["*Exit: Quitting debugger*"])
        assert "Traceback" not in result.stdout.str() + result.stderr.str()
        assert "FAIL" not in result.stdout.str()


def _target_of(suite: pytest.Pytester) -> str:
    (item,) = suite.inline_genitems()[0]
    return job_harness.doors.pytest.explored_test.target_of(item)


def test_an_interrupted_campaign_says_what_was_found(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=INTERRUPTED)
    result = suite.runpytest_inprocess(no_reraise_ctrlc=True)
    result.stdout.fnmatch_lines(["*::test_it: interrupted after * disturbed runs; so far nothing was found"])


@pytest.mark.long
def test_in_ci_time_bounds_a_campaign_and_the_commit_seeds_it(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("GITHUB_SHA", "0000002a" + "0" * 32)
    monkeypatch.setattr(job_harness.doors.pytest.explored_test, "CI_SECONDS", 1e-9)
    suite.makepyfile(test_it=CAREFUL)
    result = suite.runpytest_inprocess("--job-explore=40", "-rsP")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["CI: inconclusive: no disturbed run was played within 1e-09 s"])
    monkeypatch.setattr(job_harness.doors.pytest.explored_test, "CI_SECONDS", 1e9)
    result = suite.runpytest_inprocess("--job-explore=3", "-rP")
    result.stdout.fnmatch_lines(["3 disturbed runs in *; copy, seed 42; 3 of * single faults came up"])


@pytest.mark.long
def test_the_command_explores_a_test_and_what_was_not_judged_is_inconclusive(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CHANCE)
    result = suite.run(sys.executable, "-m", "job_harness.doors.cli", "explore", "test_it.py::test_pay", "--runs", "3")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["*inconclusive: two undisturbed runs differ*"])
    with pytest.raises(UsageError, match="--keep-going is not supported when a test is explored"):
        explore_command.execute(_parsed("test_it.py::test_pay", "--keep-going"))
    with pytest.raises(UsageError, match="by --runs or by --time"):
        explore_command.execute(_parsed("test_it.py", "--runs=3", "--time=3"))


def _parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    explore_command.configure(parser)
    return parser.parse_args(words)


@pytest.mark.long
@needs_node
def test_typescript_that_a_fixture_registered_is_explored_with_a_node_process_for_each_run(
    suite: pytest.Pytester,
) -> None:
    Path("pay.ts").write_text(PAY_TS, encoding="utf-8")
    suite.makepyfile(test_it=TYPESCRIPT.format(once=False))
    result = suite.runpytest_inprocess("--job-explore=20")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*invariant_violated in test_pay", "*CRASHES at charged job-1*"])
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


SHOP = """
import time
from job_harness import JobResult, effect

stock = {7: 1}

def pay(job):
    effect("charged", order=job.input["order"])
    time.sleep(2)
    effect("recorded", order=job.input["order"])
    return JobResult(success=True)

async def ship(job):
    ask()
    return JobResult(success=True)

def ask():
    pass

async def post(job):
    send()
    return JobResult(success=True)

def send():
    import socket
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    except Exception:
        open("sent for real", "w")
"""
SAYABLE = """
import pytest
import shop
from job_harness import JobResult, at_most_once, effect

@pytest.fixture
def job_invariants():
    return [at_most_once("charged")]

@pytest.mark.job_settings(max_attempts=5)
def test_orders(job_harness):
    job_harness.register("pay", shop.pay)
    job_harness.enqueue("pay", {"order": 7}, priority=3, max_attempts=2)
    job_harness.advance("1m")
    later = job_harness.enqueue("pay", {"order": 8}, unique_key="k", start_after="10m")
    job_harness.enqueue("pay", {"order": 9}, unique_key="k")
    job_harness.advance("1m")
    job_harness.cancel(later)
    job_harness.run_until_idle()

def test_in_a_function(job_harness):
    def pay(job):
        effect("charged")
        return JobResult(success=True)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay")
    job_harness.run_until_idle()

def test_with_a_fake(job_harness, monkeypatch):
    monkeypatch.setattr(shop, "ask", lambda: effect("charged"))
    job_harness.register("ship", shop.ship)
    job_harness.enqueue("ship")
    job_harness.run_until_idle()

def test_with_a_fake_of_the_world(job_harness, monkeypatch):
    monkeypatch.setattr(shop, "send", lambda: effect("charged"))
    job_harness.register("post", shop.post)
    job_harness.enqueue("post")
    job_harness.run_until_idle()
"""


@pytest.mark.long
def test_what_is_found_is_written_as_a_scenario_that_was_played_or_one_line_says_why_not(
    suite: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    (suite.path / "src").mkdir()
    (suite.path / "src/shop.py").write_text(SHOP, encoding="utf-8")
    suite.makepyfile(test_shop=SAYABLE)
    result = suite.runpytest_inprocess("--job-explore=60", "-o", "pythonpath=src", "--job-found=kept")
    result.assert_outcomes(failed=4)
    assert not (suite.path / "sent for real").exists(), "a processor reached the world: it ran without the fakes"
    result.stdout.fnmatch_lines(
        [
            "As a scenario: job-harness run kept/effect_repeated-test_shop.py-test_orders-*.yaml",
            "No scenario: the processor of 'pay' is made inside a function, `test_in_a_function.<locals>.pay`, so *",
            "No scenario: its undisturbed run does not end as the test's does: job-1: expected effects *, got {}",
            "No scenario: without the test's replacements, a processor connects to 127.0.0.1:9",
        ]
    )
    [file] = suite.path.glob("kept/*")
    assert file.read_text("utf-8").partition("settings:")[2].splitlines() == [
        " {max_attempts: 5, batch_size: 5, heartbeat_interval: 30s}",
        'processors: {pay: {run: "shop:pay", root: "../src"}}',
        "workers: [worker-1, worker-2]",
        "jobs:",
        "  job-1: {tool: pay, input: {order: 7}, priority: 3, max_attempts: 2}",
        "  job-2: {tool: pay, input: {order: 8}, at: 1m, start_after: 10m, unique_key: k, cancel_after: 1m}",
        "  job-3: {tool: pay, input: {order: 9}, at: 1m, unique_key: k}",
        "tape:",
        "  - {at: worker-1 charged job-1, do: crash}",
        "expect:",
        "  job-1: {status: COMPLETED, effects: {charged: 1, recorded: 1}}",
        "  job-2: {status: CANCELLED, effects: {}}",
    ]
    for engine in ("memory", "reference"):
        assert main(["run", str(file.relative_to(suite.path)), "--engine", engine]) == ExitCode.FAIL
        told = " ".join(capsys.readouterr().out.split())
        assert "expected effects {'charged': 1, 'recorded': 1}, got {'charged': 2, 'recorded': 1}" in told


BESIDE_A_COROUTINE = """
import asyncio, os
import anyio
import pytest
from job_harness.subjects.processors import JobResult, effect

async def pay(job):
    await asyncio.sleep(1)
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    effect("charged", order=job.input)
    await asyncio.sleep(1)
    return JobResult(success=True)

def charged_once(harness):
    assert len(harness.effects("charged")) <= 1

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="session")
async def shared(anyio_backend):
    yield anyio.Event()

@pytest.mark.anyio
async def test_a_coroutine(async_job_harness, shared):
    await async_job_harness.always(charged_once)
    await async_job_harness.register("pay", pay)
    job = await async_job_harness.enqueue("pay", 7)
    await async_job_harness.run_until_idle()
    assert job.status == "COMPLETED"

def test_a_function(job_harness, shared):
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    job_harness.always(charged_once)
    job_harness.register("pay", pay)
    job = job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
    assert job.status == "COMPLETED"
"""


@pytest.mark.long
def test_coroutines_with_a_fixture_of_the_session_and_tests_that_fork_are_explored(suite: pytest.Pytester) -> None:
    suite.makeini(INI.replace(" -p no:anyio", ""))
    suite.makepyfile(test_it=BESIDE_A_COROUTINE)
    result = suite.runpytest_inprocess("--job-explore=20")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*invariant_violated in test_a_coroutine", "*invariant_violated in test_a_function"])


WITH_FILES = """
import os, sqlite3, tempfile
import pytest
from job_harness import JobResult, effect

@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "ledger").write_text("0")
    (tmp_path / "latest").symlink_to("books")
    return tmp_path / "latest" / "ledger"

@pytest.fixture
def database():  # outside of tmp_path, as Django's is, and open while runs use it
    with tempfile.TemporaryDirectory() as folder:
        base = sqlite3.connect(folder + "/it.db", isolation_level=None, check_same_thread=False)
        base.execute("pragma journal_mode = JOURNAL")
        base.execute("create table paid (job)")
        yield base
        base.close()

@pytest.mark.job_explore(runs=10, isolation=ISOLATION)
def test_pay(job_harness, ledger, tmp_path, database):
    assert ledger.read_text() == "0"
    assert database.execute("select count(*) from paid").fetchone() == (0,)
    (tmp_path / "receipts").mkdir()
    (tmp_path / "latest").unlink()

    def pay(job):
        (tmp_path / "books" / "ledger").write_text("1")
        (tmp_path / "receipts" / job.input).touch()
        database.execute("insert into paid values (?)", [job.id])
        effect("paid")
        return JobResult(success=True, output=str(ledger))

    job_harness.register("pay", pay)
    job = job_harness.enqueue("pay", "a")
    job_harness.run_until_idle()
    assert job.status == "COMPLETED"
    assert os.listdir(tmp_path / "receipts") == ["a"]
"""


@pytest.mark.parametrize(("isolation", "journal"), [("fork", "delete"), ("fork", "wal"), ("rerun", "delete")])
def test_each_run_begins_with_files_and_databases_as_the_fixtures_left_them(
    suite: pytest.Pytester, isolation: str, journal: str
) -> None:
    suite.makepyfile(test_it=WITH_FILES.replace("ISOLATION", repr(isolation)).replace("JOURNAL", journal))
    result = suite.runpytest_inprocess("--job-explore=10")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*explored 1 test*: 10 disturbed runs*"])


ENDLESS = """
import pytest
from job_harness.search.explored import played
from job_harness.subjects.processors import JobResult

runs = []

@pytest.mark.job_explore(isolation="rerun", runs=5)
def test_that_spins_in_a_disturbed_run(job_harness):
    runs.append(1)
    played.RUN_SECONDS = 0.3 if len(runs) == 3 else 30.0  # of the next run
    while len(runs) == 4:
        pass
    job_harness.register("tool", lambda job: JobResult(success=True))
    job_harness.enqueue("tool")
    job_harness.run_until_idle()
"""


def test_a_rerun_that_does_not_end_is_ended_within_its_limit_and_named(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_harness.search.explored.played, "RUN_SECONDS", 30.0)  # The test itself changes it.
    suite.makepyfile(test_it=ENDLESS)
    result = suite.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["  it did not end within 0.3 s, so 1 of 5 runs was not judged, and the *"])
    result.stdout.fnmatch_lines(["job-harness: 1 judged in part, 1 judged nothing, *"])


PLAINLY_BROKEN = """
import threading
from datetime import date

import pytest
from job_harness import JobResult, at_most_once, effect

@pytest.fixture
def job_invariants(request):
    return [at_most_once("charged")] if "beside" in request.fixturenames else []

@pytest.fixture
def beside():
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait)
    thread.start()
    yield
    ends.set()
    thread.join()

def play(harness, times=1):
    def pay(job):
        for _ in range(times):
            effect("charged")
        return JobResult(success=True)
    harness.register("pay", pay)
    harness.enqueue("pay")
    harness.run_until_idle()

@pytest.mark.job_explore(runs=3, isolation="fork")
def test_beside_a_thread(beside, job_harness):
    play(job_harness, times=2)

def known(runs):
    return pytest.mark.job_explore(runs=runs, known={"invariant_violated: charged_once": date(2999, 1, 1)})

def charged_once(harness):
    assert len(harness.effects("charged")) <= 1, "twice"

@known(runs=10)
def test_known_beside_a_failed_job(job_harness):
    job_harness.always(charged_once)
    job_harness.register("mail", lambda job: JobResult(success=False, error="no", retryable=False))
    job_harness.enqueue("mail")
    play(job_harness)

@known(runs=10)
def test_known_beside_another(job_harness):
    def charged_at_most_twice(harness):
        if len(harness.effects("charged")) > 2:
            pytest.fail("thrice")
    job_harness.always(charged_once)
    job_harness.always(charged_at_most_twice)
    play(job_harness, times=2)
"""


@pytest.mark.long
def test_what_is_inconclusive_or_known_hides_nothing_else(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=PLAINLY_BROKEN)
    result = suite.runpytest_inprocess("-rsxfE")
    result.assert_outcomes(skipped=1, xfailed=1, failed=1, errors=2)
    said = result.stdout.str()
    assert "invariant_violated: charged_at_most_twice: thrice (replay" in said
    assert "which is over" not in said
    assert "ERROR test_it.py::test_beside_a_thread - Failed: effect_repeated" in said
    assert "ERROR test_it.py::test_known_beside_a_failed_job - Failed: a job ended FAILED" in said


CLOSED = """
from job_harness.subjects.processors import JobResult

def test_closed(job_harness, tmp_path):
    with (tmp_path / "kept").open("w") as kept:
        job_harness.always(lambda harness: kept.tell() == 0)
        job_harness.register("pay", lambda job: JobResult(success=True))
        job_harness.enqueue("pay")
        job_harness.run_until_idle()
"""

DATABASE = """
import psycopg
import pytest
from job_harness.subjects.processors import JobResult

@pytest.fixture(scope="session")
def job_postgres_schema():
    def migrate(url):
        with psycopg.connect(url) as connection:
            connection.execute("create table colour (name text)")
            connection.execute("insert into colour values ('red')")
            connection.execute("create table account (id int generated always as identity, total int, twice int "
                               "generated always as (2 * total) stored)")
            connection.execute("create table done (job text primary key)")
    return migrate

@pytest.fixture
def database(job_postgres):
    with psycopg.connect(job_postgres.url) as connection:
        connection.execute("insert into account (total) values (0)")
        connection.commit()
        yield connection

@pytest.fixture
def filled(job_postgres):
    ask(job_postgres.url, "insert into account (total) values (0)")

def ask(url, statement):
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else None

def play(job_harness, job_postgres, pay):
    connection = psycopg.connect(job_postgres.url, autocommit=True)  # Its process ends with the run.

    def told(statement):
        return connection.execute(statement).fetchall()

    found = told("select id, total, twice, (select count(*) from colour), (select count(*) from done) from account")
    assert found == [(1, 0, 0, 1, 0)]
    told("insert into account (total) values (100) returning id")
    assert told("delete from account where total = 100 returning id") == [(2,)], "sequences are put back, too"

    def paid_once(harness):
        [(total,)] = told("select total from account")
        assert total <= 10

    job_harness.always(paid_once)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", job_postgres.url)
    job_harness.run_until_idle()
    assert told("select total from account") == [(10,)]

async def once(job):
    async with await psycopg.AsyncConnection.connect(job.input) as connection:
        cursor = await connection.execute("insert into done values (%s) on conflict do nothing", [job.id])
        if cursor.rowcount:
            await connection.execute("update account set total = total + 10")
    return JobResult(success=True)

async def twice(job):
    async with await psycopg.AsyncConnection.connect(job.input) as connection:
        await connection.execute("update account set total = total + 10")
    return JobResult(success=True)

def test_right(job_harness, job_postgres, database, tmp_path):
    play(job_harness, job_postgres, once)

def test_right_after_ddl(job_harness, job_postgres, filled):
    play(job_harness, job_postgres, once)
    ask(job_postgres.url, "drop table done")

def test_wrong(job_harness, job_postgres, database):
    play(job_harness, job_postgres, twice)

def test_reset(job_harness, job_postgres):
    job_postgres.reset()
    ask(job_postgres.url, "insert into account (total) values (0)")
    play(job_harness, job_postgres, once)
"""


@pytest.mark.long
def test_a_check_that_looks_at_what_the_test_has_closed_is_named_and_nothing_is_judged(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=CLOSED)
    result = suite.runpytest_inprocess("--job-explore=3", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*inconclusive: undisturbed, always(): the lambda at test_it.py:5 raised ValueError: *, after the test *"]
    )


@pytest.mark.long
@pytest.mark.postgres
def test_each_run_finds_the_database_as_it_was_when_the_test_began(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=DATABASE)
    result = suite.runpytest_subprocess("--job-explore=12", "-rs")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*invariant_violated in test_wrong", "*paid_once: assert 20 <= 10*"])


SEEN = """
import httpx
import pytest
from job_harness.subjects.processors import JobResult

charged, marked = [], set()

def answer(request):
    key = request.headers.get("idempotency-key", len(charged))
    if key not in charged:
        charged.append(key)
    return httpx.Response(200)

def pay(job, headers=None):
    if job.id not in marked:
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            client.post("https://pay.test/charges", headers=headers)
        marked.add(job.id)
    return JobResult(success=True)

def pay_by_key(job):
    return pay(job, {"idempotency-key": job.id})

@pytest.mark.parametrize("processor", [pay, pay_by_key])
def test_pay(job_harness, processor):
    def paid_once(harness):
        assert len(charged) <= 1
    job_harness.always(paid_once)
    job_harness.register("pay", processor)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
"""


@pytest.mark.long
def test_a_plain_function_is_killed_right_after_what_it_is_seen_to_do(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SEEN)
    result = suite.runpytest_subprocess("--job-explore=8", "--job-seed=0")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*invariant_violated in test_pay?pay?",
            "*CRASHES after POST https://pay.test/charges job-1*",
            "One fault: worker-1 crashes right after `POST https://pay.test/charges job-1`",
        ]
    )


STORED = """
import shutil
import sqlite3
from job_harness import JobResult

def test_file(job_harness, tmp_path):
    def write(job):
        with open(tmp_path / "order.json", "w") as file:
            file.write("{}")
        return JobResult(success=True)

    def whole(harness):
        path = tmp_path / "order.json"
        assert not path.exists() or path.read_text() == "{}"
    play(job_harness, write, whole)

def test_row(job_harness, tmp_path):
    with sqlite3.connect(tmp_path / "orders.db") as base:
        base.execute("create table orders (id)")

    def insert(job):
        with sqlite3.connect(tmp_path / "orders.db") as base:
            base.execute("insert into orders values (7)")
        return JobResult(success=True)

    def once(harness):
        assert len(sqlite3.connect(tmp_path / "orders.db").execute("select id from orders").fetchall()) <= 1
    play(job_harness, insert, once)

def test_tree(job_harness, tmp_path):
    (tmp_path / "inbox" / "sub").mkdir(parents=True)
    (tmp_path / "inbox" / "sub" / "order").write_text("7")

    def take(job):
        if (tmp_path / "inbox").exists():
            shutil.rmtree(tmp_path / "inbox")
            (tmp_path / "taken").touch()
        return JobResult(success=True)

    def kept(harness):
        assert (tmp_path / "inbox").exists() or (tmp_path / "taken").exists()
    play(job_harness, take, kept)

def play(job_harness, processor, check):
    job_harness.always(check)
    job_harness.register("store", processor)
    job_harness.enqueue("store", 7)
    job_harness.run_until_idle()
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("test", "gate"),
    [
        ("test_file", "opening tmp_path/order.json"),
        pytest.param("test_tree", "remove tmp_path/inbox", marks=pytest.mark.long),
    ],
)
def test_a_file_of_the_test_s_own_folder_is_a_gate_that_a_token_finds_again(
    suite: pytest.Pytester, test: str, gate: str
) -> None:
    suite.makepyfile(test_it=STORED)
    found = suite.runpytest_subprocess("--job-explore=12", "--job-seed=0", "--basetemp=one", "-k", test)
    found.stdout.fnmatch_lines([f"One fault: worker-1 crashes right after `{gate} job-1`"])
    (token,) = (line.strip() for line in found.outlines if line.startswith("  jh1_"))
    again = suite.runpytest_subprocess(f"--job-replay={token}", "--basetemp=two", "-k", test)
    again.assert_outcomes(failed=1, deselected=2)
    again.stdout.fnmatch_lines(["*CRASHES after *tmp_path*"])


@pytest.mark.long
def test_what_a_check_of_the_test_s_own_reads_is_no_gate_of_the_processor(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=STORED)
    result = suite.runpytest_subprocess("--job-explore=12", "--job-seed=0", "-k", "test_row")
    result.stdout.fnmatch_lines(["*ends: success", "*CRASHES at complete job-1"])


POOLED = """
import asyncio
from concurrent.futures import ThreadPoolExecutor
from job_harness import JobResult

pool = ThreadPoolExecutor(max_workers=1)

def test_first():
    assert pool.submit(sum, (1, 2)).result() == 3

def test_later(job_harness):
    async def pay(job):
        await asyncio.get_running_loop().run_in_executor(pool, sum, (1, 2))
        return JobResult(success=True)

    job_harness.always(lambda harness: True)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
"""


@pytest.mark.long
@pytest.mark.parametrize("isolation", ["copy", "fork"])
def test_a_pool_whose_threads_an_earlier_test_has_started_makes_new_ones_in_each_run(
    suite: pytest.Pytester, isolation: str
) -> None:
    suite.makepyfile(test_it=POOLED)
    result = suite.runpytest_subprocess("--job-explore=5", "--job-strict", "-o", f"job_isolation={isolation}")
    result.assert_outcomes(passed=2)


SENT_BY_CHANCE = """
import random, secrets, uuid
import pytest
from job_harness import JobResult, SideEffect, at_most_once, effect

@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"])]

@pytest.mark.parametrize("draw", [uuid.uuid4, secrets.token_hex, lambda: random.Random().random()])
def test_pay(job_harness, draw):
    async def pay(job):
        effect(SideEffect("charged", job.input, {"order": job.input}, idempotent=True))
        return JobResult(success=True)

    order = str(draw())
    print("order", order)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", order)
    job_harness.run_until_idle()
"""


@pytest.mark.long
def test_what_a_test_draws_itself_is_the_same_in_every_run_and_another_in_each_test(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SENT_BY_CHANCE)
    passed = suite.runpytest_subprocess("--job-explore=12", "--job-strict", "-rP")
    passed.assert_outcomes(passed=3)
    assert len({line for line in passed.outlines if line.startswith("order ")}) == 3, passed.outlines


MARKED_IN_SQLITE = """
import sqlite3
import pytest
from job_harness import JobResult, SideEffect, effect, exactly_once

@pytest.fixture
def job_invariants():
    return [exactly_once("charged", tool="pay")]

@pytest.mark.parametrize("at_once", [False, True])
def test_pay(job_harness, tmp_path, at_once):
    with sqlite3.connect(tmp_path / "orders.db") as base:
        base.execute("create table orders (paid)")
        base.execute("insert into orders values (0)")

    def pay(job):
        base = sqlite3.connect(tmp_path / "orders.db")
        if base.execute("select paid from orders").fetchone() == (0,):
            BODY
        return JobResult(success=True)

    async def waiting(job):
        return pay(job)
    job_harness.register("pay", waiting if at_once else pay)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()
"""
MARKS = "base.execute('update orders set paid = 1'); base.commit(); effect('charged', order=7)"
CHARGES = (
    "effect(SideEffect('charged', '7', idempotent=True)); base.execute('update orders set paid = 1'); base.commit()"
)


@pytest.mark.long
def test_a_commit_of_sqlite_is_a_gate_before_the_next_effect(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=MARKED_IN_SQLITE.replace("BODY", MARKS))
    found = suite.runpytest_subprocess("--job-explore=20", "--job-strict")
    found.assert_outcomes(failed=2)
    faults = [line for line in found.outlines if line.startswith("One fault: ")]
    assert faults == ["One fault: worker-1 crashes right after `UPDATE orders job-1`"] * 2
    suite.makepyfile(test_it=MARKED_IN_SQLITE.replace("BODY", CHARGES))
    suite.runpytest_subprocess("--job-explore=60").assert_outcomes(passed=2)


BY_CHANCE = """
import os
import pytest
from job_harness import JobResult, effect

@pytest.mark.job_explore(runs=20, isolation="fork")
def test_it(job_harness):
    def check(harness):
        if any(event.attempt == 2 for event in harness.effects()) and not os.path.exists(SEEN):
            open(SEEN, "w").close()
            return False
    async def pay(job):
        effect("charged")
        return JobResult(success=True)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay")
    job_harness.always(check)
    job_harness.run_until_idle()
"""


def test_what_no_other_play_of_the_same_run_shows_is_no_finding(suite: pytest.Pytester, tmp_path: Path) -> None:
    suite.makepyfile(test_it=f"SEEN = {str(tmp_path / 'seen')!r}\n{BY_CHANCE}")
    explored = suite.runpytest_inprocess("-rs")
    explored.assert_outcomes(skipped=1)
    explored.stdout.fnmatch_lines(["*invariant_violated was seen (*), but not in 3 more plays of the same run*"])


def test_code_of_the_dead_gets_no_event_loop(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_it="""
import asyncio
import warnings

from job_harness import JobResult

asked = []

async def pay(job):
    try:
        await asyncio.sleep(1)
    except GeneratorExit:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asked.append(asyncio.get_event_loop())
    return JobResult(success=True)

def play(harness):
    harness.register("pay", pay)
    harness.always(lambda harness: True)
    job = harness.enqueue("pay")
    harness.crash_worker(at="while running", job=job)
    harness.run_until_idle()

def test_explored(job_harness):
    play(job_harness)

def test_plain(job_harness):
    asyncio.set_event_loop(own := asyncio.new_event_loop())
    play(job_harness)
    job_harness.close()
    asyncio.set_event_loop(None)
    own.close()
    assert not asked
"""
    )
    suite.runpytest_inprocess("-k", "test_plain").assert_outcomes(passed=1)
    explored = suite.runpytest_inprocess("-k", "test_explored", "--job-explore=5", "-rP")
    explored.assert_outcomes(passed=1)
    explored.stdout.fnmatch_lines(["5 disturbed runs in *; copy, seed 0*"])
