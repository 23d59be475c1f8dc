"""Plugins of pytest beside the harness: what they measure and bound is real time, and what a processor reads is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import asyncio, time
import pytest
from job_harness import JobResult

async def work(job):
    began = time.monotonic()
    await asyncio.sleep(300)
    return JobResult(success=True, output=time.monotonic() - began)
"""
PLAIN = """
def test_it(job_harness):
    job_harness.register("row", work)
    job = job_harness.enqueue("row")
    job_harness.run_until_idle()
    assert job.output == 300
"""
BESIDE = {
    "pytest_asyncio": (
        """
@pytest.mark.asyncio
async def test_it(async_job_harness):
    await async_job_harness.register("row", work)
    job = await async_job_harness.enqueue("row")
    began = time.monotonic()
    await asyncio.gather(async_job_harness.run_until_idle(), asyncio.sleep(0.01))
    assert job.output == 300 and time.monotonic() - began < 5
""",
        (),
    ),
    "pytest_timeout": (PLAIN, ("--timeout", "30")),
    "xdist": (PLAIN + PLAIN.replace("test_it", "test_again"), ("-n", "1")),
    "hypothesis": (
        """
from hypothesis import given, settings, strategies as st
from job_harness import JobHarness

@settings(deadline=5000, max_examples=5, database=None)
@given(st.integers(1, 300))
def test_it(seconds):
    async def sleep(job):
        await asyncio.sleep(seconds)
        return JobResult(success=True)

    with JobHarness() as jobs:
        jobs.register("row", sleep)
        job = jobs.enqueue("row")
        jobs.run_until_idle()
        assert job.status == "COMPLETED"
""",
        (),
    ),
    "pytest_django": (
        """
from django.contrib.auth.models import Group

def create(job):
    Group.objects.create(name="made by a processor")
    time.sleep(300)
    return JobResult(success=True, output=Group.objects.count())

@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.django_db
def test_it(job_harness, time):
    Group.objects.create(name="made by the test")
    job_harness.register("row", create)
    job = job_harness.enqueue("row")
    job_harness.run_until_idle()
    assert job.output == Group.objects.count() == 2

@pytest.mark.django_db
def test_that_it_was_rolled_back():
    assert Group.objects.count() == 0
""",
        ("--ds", "settings_of_the_site"),
    ),
}
SETTINGS = """
SECRET_KEY = "k"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""


@pytest.mark.parametrize("plugin", BESIDE)
def test_beside(plugin: str, tmp_path: Path) -> None:
    pytest.importorskip(plugin)
    text, options = BESIDE[plugin]
    (tmp_path / "test_beside_it.py").write_text(HEAD + text)
    (tmp_path / "settings_of_the_site.py").write_text(SETTINGS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--durations=1", "-p", "no:cacheprovider", *options]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
