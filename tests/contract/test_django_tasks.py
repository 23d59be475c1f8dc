"""`DjangoTasksConformance` in a backend's test suite passes what keeps Django's promises, and finds what does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from job_harness.engines.django_tasks import BESIDE
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.peers import python_package

pytestmark = pytest.mark.slow

SETTINGS = """
import django

CORE = "django.tasks" if django.VERSION >= (6,) else "django_tasks"
SECRET_KEY, USE_TZ = "not a secret", True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db", "TEST": {"NAME": "test.db"}}}
INSTALLED_APPS = [*([] if CORE == "django.tasks" else ["django_tasks"]), *APPS]
IMMEDIATE = f"{CORE}.backends.immediate.ImmediateBackend"
TASKS = {
    "default": {"BACKEND": "django_tasks_db.DatabaseBackend" if APPS else IMMEDIATE},
    "immediate": {"BACKEND": IMMEDIATE},
    "lies": {"BACKEND": "lies.LyingBackend"},
}
"""
LIES = """
from importlib import import_module
from django.conf import settings

ImmediateBackend = import_module(f"{settings.CORE}.backends.immediate").ImmediateBackend


class LyingBackend(ImmediateBackend):
    supports_priority = True

    def enqueue(self, task, args, kwargs):
        result = super().enqueue(task, args, kwargs)
        object.__setattr__(result, "status", "SUCCESSFUL")
        return result
"""
SUITE = """
from django.core.management import call_command
from job_harness import DjangoTasksConformance


class TestImmediate(DjangoTasksConformance):
    BACKEND = "immediate"

    def run_worker(self):
        pass


class TestLies(DjangoTasksConformance):
    BACKEND = "lies"
    KNOWN = {"test_one_failure_does_not_stop_the_others": "it does not fail"}

    def run_worker(self):
        pass


class TestDatabase(DjangoTasksConformance):
    def run_worker(self):
        call_command("db_worker", batch=True, interval=0, startup_delay=False, reload=False)
"""


def told(folder: Path, *words: str, apps: str = "[]") -> str:
    """Return what pytest says in the folder of a backend's project."""
    try:
        packages = python_package("django-tasks-db", "0.13.0", *BESIDE, "pytest-django")
    except EnvironmentUnavailable as missing:
        pytest.skip(f"Django cannot be installed here: {missing}")
    (folder / "settings.py").write_text(f"APPS = {apps}\n{SETTINGS}")
    (folder / "lies.py").write_text(LIES)
    (folder / "test_suite.py").write_text(SUITE)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join([str(packages), str(folder), str(Path(__file__).parents[2])]),
    }
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "-rA",
        "--tb=line",
        "test_suite.py",
        *words,
    ]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def counted(text: str, name: str) -> Counter[str]:
    return Counter(re.findall(rf"^(PASSED|FAILED|XFAIL) test_suite\.py::{name}", text, re.MULTILINE))


@pytest.mark.long
def test_a_backend_that_keeps_the_promises_passes_and_one_that_lies_is_found(tmp_path: Path) -> None:
    text = told(tmp_path, "-k", "TestImmediate or (TestLies and (raises or others or priority))")
    assert counted(text, "TestImmediate") == {"PASSED": 21}
    assert counted(text, "TestLies") == {"FAILED": 2}
    assert "immediate declares supports_get_result = False" in text
    assert "[XPASS(strict)] it does not fail" in text
    assert "is SUCCESSFUL after its worker ran, and has to be FAILED" in text


@pytest.mark.campaign
def test_the_database_backend_is_found_to_lose_an_error_with_a_surrogate(tmp_path: Path) -> None:
    text = told(tmp_path, "-k", "TestDatabase", apps='["django_tasks_db"]')
    assert counted(text, "TestDatabase") == {"PASSED": 22, "FAILED": 1}
    assert "FAILED test_suite.py::TestDatabase::test_an_error_is_recorded_whatever_it_is[lone surrogate]" in text
