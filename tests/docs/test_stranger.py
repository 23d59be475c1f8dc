"""A newcomer's path through README and the tutorial, without extras. A campaign, because it builds a wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs import pages
from tests.docs.stranger import Typed, played

BUILD_SECONDS = 300


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone, and return the folder of its programs."""
    folder = tmp_path_factory.mktemp("newcomer")
    quiet = ("--quiet", "--disable-pip-version-check")
    for command in (
        [sys.executable, "-m", "venv", str(folder / "venv")],
        [sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "--wheel-dir", str(folder), str(pages.ROOT)],
    ):
        subprocess.run(command, check=True, timeout=BUILD_SECONDS)
    [wheel] = folder.glob("job_harness-*.whl")
    python = folder / "venv" / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", *quiet, str(wheel)],
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"what the wheel needs cannot be installed: {installed.stderr.strip()[-200:]}")
    return python.parent


@pytest.mark.campaign
def test_every_command_of_the_first_pages_works_or_names_the_extra_that_it_needs(
    programs: Path, tmp_path: Path
) -> None:
    typed = list(played(programs, tmp_path))
    assert [f"{each.page}: {each.command}: {each.problem}\n{each.said}" for each in typed if each.problem] == []
    assert len({each.page for each in typed if each.code == each.wanted}) == 5
    written = subprocess.run(
        [programs / "job-harness", "examples", "jobs"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert written.returncode == 0, written.stderr
    ran = subprocess.run(
        [programs / "python", "-m", "pytest", "-q", "first_test"],
        cwd=tmp_path / "jobs",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("code", "said", "problem"),
    [
        (0, "pass", ""),
        (4, "Install it with: pip install 'job-harness[embedded]'", ""),
        (4, "no database", "it ended with 4, not 0, and names no extra"),
        (1, "ModuleNotFoundError: No module named 'fastapi'", "it broke"),
        (0, "Traceback (most recent call last):", "it broke"),
    ],
)
def test_what_a_newcomer_would_complain_about(code: int, said: str, problem: str) -> None:
    assert Typed("README.md", "job-harness run", code, said, 0).problem == problem
