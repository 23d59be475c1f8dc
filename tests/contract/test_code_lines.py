"""Findings of many kinds, each with the line that the author of its bug would point to: every output shows that line.

Two kinds more need servers: a system file is in `test_systems.py`, TypeScript in `tests/client`.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from job_harness.doors.cli import main

SHOP = '''
from job_harness.subjects.applications import Settings, poll, step


class Shop:
    """An API and its workers, with one bug."""

    settings = Settings()

    def __init__(self, bug):
        self.bug = bug

    async def send(self, stage, job):
        await step("insert tool_job", job.id)
        if self.bug == "orphan row":
            stage.tables.insert_tool_job(job.id, input=job.input)  # <- orphan_row
            await step("insert queue row", job.id)
            stage.tables.send(job.id)
            return
        with stage.tables.transaction():
            stage.tables.insert_tool_job(job.id, input=job.input)
            limit = 5 if self.bug == "wrong retry" else None  # <- attempt_overrun
            stage.tables.send(job.id, retry_limit=limit)

    def actors(self, stage):
        return {name: lambda name=name: self.work(stage, name) for name in stage.workers}

    async def work(self, stage, name):
        while True:
            await step("fetch")
            for row in stage.tables.fetch(name):
                stage.tables.update_tool_job(row.job, status="PROCESSING", attempts=row.attempt)  # <- job_stuck
                await self.attempt(stage, name, row)
            await poll("2s")

    async def attempt(self, stage, name, row):
        try:
            output = await stage.work(name, row)
        except Exception as error:
            await step("settle failure", row.job)
            if self.bug == "lost job":
                stage.tables.complete(row)
                stage.tables.update_tool_job(row.job, status="COMPLETED", output=None)  # <- silent_success
                return
            with stage.tables.transaction():
                stage.tables.fail(row)
                ended = stage.tables.queue[row.job].state == "failed"
                stage.tables.update_tool_job(row.job, status="FAILED" if ended else "PENDING", error="failed")
        else:
            await step("settle success", row.job)
            with stage.tables.transaction():
                stage.tables.complete(row)
                stage.tables.update_tool_job(row.job, status="COMPLETED", output=output)  # <- unhandled_error


def orphan_row():
    return Shop("orphan row")


def wrong_retry():
    return Shop("wrong retry")


def lost_job():
    return Shop("lost job")


def no_bug_of_its_own():
    return Shop("")
'''
QUEUES = """
from job_harness import done
from job_harness.engines.memory import MemoryQueue


class ForgetsDeadLetters(MemoryQueue):
    def fail(self, claim, error, final):
        outcome = super().fail(claim, error, final)
        for job in [job for job, row in self.jobs().items() if row.dead_of == claim.job]:
            self.drop(job)  # <- dead_letter_missing
        return outcome


class SkipsSlots(MemoryQueue):
    def tick(self, instance):
        if self.now(instance) // 60_000_000 % 3:
            return done([])  # <- slot_missed
        return super().tick(instance)


class DoesNotFence(MemoryQueue):
    def complete(self, claim, output):
        row = self.jobs()[claim.job]  # <- stale_complete
        self.put(self.endings.completed(row, output))
        return done(None)


class KeepsItsJobs(MemoryQueue):
    def release(self, claim):
        return done(None)  # <- claim_left_behind
"""
FOUND = [
    ("shop.py:orphan_row", "orphan_row"),
    ("shop.py:wrong_retry", "attempt_overrun"),
    ("shop.py:lost_job", "silent_success"),
    ("shop.py:no_bug_of_its_own", "job_stuck"),
    ("shop.py:no_bug_of_its_own", "unhandled_error"),
    ("queues.py:ForgetsDeadLetters", "dead_letter_missing"),
    ("queues.py:SkipsSlots", "slot_missed"),
    ("queues.py:DoesNotFence", "stale_complete"),
    ("queues.py:KeepsItsJobs", "claim_left_behind"),
]


def marked(text: str, anomaly: str) -> int:
    """Return the number of the line that the author of a bug would point to."""
    [line] = [number for number, line in enumerate(text.splitlines(), 1) if line.endswith(f"# <- {anomaly}")]
    return line


def shown(screen: str, file: str) -> set[int]:
    """Return the lines of a file that the code frames of a screen show."""
    frames = re.findall(
        rf"^{re.escape(file)}:\d+: .*\n(?:(?![> ] +\d).*\n)?((?:[> ] +\d+ \|.*\n)+)", screen, re.MULTILINE
    )
    return {int(number) for frame in frames for number in re.findall(r"^[> ] +(\d+) \|", frame, re.MULTILINE)}


def framed(page: Path, file: str) -> dict[int, str]:
    """Return the lines of a file that a page shows in its frames, by number, as a browser does."""
    frames = re.findall(
        rf"<figcaption>{re.escape(file)}:\d+: [^<]*</figcaption>\s*<pre>([^<]*)</pre>", page.read_text()
    )
    rows = re.findall(r"^[> ] +(\d+) \| (.*)$", html.unescape("\n".join(frames)), re.MULTILINE)
    return {int(number): line for number, line in rows}


@pytest.mark.parametrize(("target", "anomaly"), FOUND)
def test_every_output_shows_the_line_that_its_author_would_point_to(
    target: str, anomaly: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = target.partition(":")[0]
    text = {"shop.py": SHOP, "queues.py": QUEUES}[file]
    (tmp_path / file).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITLAB_CI", raising=False)
    outputs = ("--json", "a.json", "--html", "a.html", "--annotations")
    assert main(["explore", target, "--looking-for", anomaly, "--runs", "400", "--processes", "1", *outputs]) == 1
    told = capsys.readouterr().out
    line = marked(text, anomaly)
    assert line in shown(told, file), told
    code = text.splitlines()[line - 1].strip()
    frames = json.loads(Path("a.json").read_text())["findings"][0]["run"]["frames"]
    assert any(code in row for frame in frames for row in frame["text"]), frames
    assert framed(Path("a.html"), file)[line] == text.splitlines()[line - 1]
    [annotated] = re.findall(rf"^::error file={file},line=(\d+),", told, re.MULTILINE)
    assert int(annotated) in shown(told, file)


PAY = """
import asyncio

from job_harness import JobResult, effect

DONE = JobResult(success=True)


async def charge(order):
    await asyncio.sleep(1)
    effect("charged", order=order)


async def pays(job):
    await charge(job.input)  # <- effect_repeated
    return DONE


async def trusts_its_mark(job, paid):
    if job.input not in paid:
        paid.add(job.input)  # <- effect_missing
        await charge(job.input)
    return DONE


async def adds(job, account):
    balance = account["balance"]
    await asyncio.sleep(1)
    account["balance"] = balance + job.input  # <- invariant_violated
    return DONE
"""
TESTS = """
import pay
import pytest

from job_harness import at_most_once, exactly_once


@pytest.fixture
def job_invariants():
    return [at_most_once("charged"), exactly_once("charged", tool="mark")]


def test_effect_repeated(job_harness):
    job_harness.register("pay", pay.pays)
    job_harness.enqueue("pay", 7)
    job_harness.run_until_idle()


def test_effect_missing(job_harness):
    paid = set()
    job_harness.register("mark", lambda job: pay.trusts_its_mark(job, paid))
    job_harness.enqueue("mark", 7)
    job_harness.run_until_idle()


def test_invariant_violated(job_harness):
    account = {"balance": 0}
    job_harness.register("add", lambda job: pay.adds(job, account))
    jobs = [job_harness.enqueue("add", amount) for amount in (1, 2)]

    def booked(harness):
        return not all(job.status == "COMPLETED" for job in jobs) or account["balance"] == 3

    job_harness.always(booked)
    job_harness.run_until_idle()
"""


PAGE_OF_JOB = {
    "GITHUB_STEP_SUMMARY": "job.md",
    "GITHUB_SERVER_URL": "https://ci.example",
    "GITHUB_REPOSITORY": "shop",
    "GITHUB_RUN_ID": "7",
}


@pytest.mark.long
@pytest.mark.slow
def test_pytest_shows_the_line_that_its_author_would_point_to_in_every_output(tmp_path: Path) -> None:
    (tmp_path / "pay.py").write_text(PAY)
    (tmp_path / "test_shop.py").write_text(TESTS)
    options = ("--job-explore", "40", "--job-html", "html", "-p", "no:cacheprovider", "-q")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env={**os.environ, "GITHUB_ACTIONS": "true", "COLUMNS": "100", **PAGE_OF_JOB},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    job_page = (tmp_path / "job.md").read_text()
    for anomaly in ("effect_repeated", "effect_missing", "invariant_violated"):
        line = marked(PAY, anomaly)
        [screen] = re.findall(rf"^_+ test_{anomaly} _+$(.*?)^---", ran.stdout, re.MULTILINE | re.DOTALL)
        assert line in shown(screen, "pay.py"), ran.stdout
        annotated = re.findall(rf"^::error file=pay\.py,line=(\d+),.*test_{anomaly}::", ran.stdout, re.MULTILINE)
        assert {int(each) for each in annotated} & shown(screen, "pay.py"), ran.stdout
        [page] = (tmp_path / "html").glob(f"*test_{anomaly}-*.html")
        assert framed(page, "pay.py")[line] == PAY.splitlines()[line - 1]
        link = f"[Picture of what happened](https://ci.example/shop/actions/runs/7#artifacts): `html/{page.name}`"
        assert link in job_page
