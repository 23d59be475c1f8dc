"""What the installed plugin costs those who do not use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = (
    "pydantic",
    "psycopg",
    "hypothesis",
    "ruamel.yaml",
    "rich",
    "freezegun",
    "asyncio.base_events",
    "job_harness_reference",
)
SHOW = """
import sys
import pytest

class Look:
    def pytest_unconfigure(self, config):
        print("rewritten", *config.pluginmanager.rewrite_hook._must_rewrite)
        print("loaded", *sorted(name for name in sys.modules if name.startswith(("job_harness", *{heavy!r}))))

sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[Look()]))
"""

ROOMS = [
    "job_harness",
    "job_harness.core",
    "job_harness.core.yaml_files",
    "job_harness.doors",
    "job_harness.doors.pytest",
]
"""Packages on the way to the plugin, and what knows how YAML files end."""


def loaded(folder: Path, *arguments: str, fixture: str = "", of: str = "loaded") -> list[str]:
    (folder / "test_nothing.py").write_text(f"def test_nothing({fixture}):\n    pass\n")
    script = folder / "look.py"
    script.write_text(SHOW.format(heavy=HEAVY))
    answer = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    line = next(line for line in answer.stdout.splitlines() if line.startswith(of))
    return line.split()[1:]


def test_an_unused_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    names = loaded(tmp_path, "-p", "job_harness")
    assert names == [*ROOMS, "job_harness.doors.pytest.plugin"]


def test_looking_at_other_tools_yaml_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yaml").write_text("services: {}\n")
    names = loaded(tmp_path, "-p", "job_harness")
    assert names == [
        *ROOMS,
        "job_harness.doors.pytest.collection",
        "job_harness.doors.pytest.pinned",
        "job_harness.doors.pytest.plugin",
        "job_harness.errors",
    ]


def test_a_disabled_plugin_is_not_even_imported(tmp_path: Path) -> None:
    assert loaded(tmp_path, "-p", "no:job_harness") == []


def test_a_plain_test_of_jobs_imports_what_runs_them_and_no_contract(tmp_path: Path) -> None:
    names = loaded(tmp_path, "-p", "job_harness", fixture="job_harness")
    assert "job_harness.subjects.processors.job_harness" in names
    heavy = ("psycopg", "hypothesis", "ruamel", "rich", "freezegun", "pydantic")
    ours = ("contract", "report", "search.explored", "review")
    assert not [name for name in names if name.startswith(heavy) or any(f".{each}" in name for each in ours)]


def test_no_assertion_of_ours_is_rewritten(tmp_path: Path) -> None:
    names = loaded(tmp_path, "-p", "job_harness", "-p", "anyio", of="rewritten")
    assert "anyio" in names
    assert not [name for name in names if name.startswith("job_harness")]
