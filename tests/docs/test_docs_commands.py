"""Everything that the pages tell a reader to type works, and prints what they show."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contract.node_at_hand import missing_node
from tests.docs import pages

from job_harness.engines.pgboss import package
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.peers import find_node, python_package

PATIENCE_SECONDS = 300
LEFT_OUT = ("findings", "cancel", "configuration", "dead_letters", "maintenance", "retries", "scheduling", "uniqueness")
"""Scenarios of which a page names few, or whose queues take long to start: `make test` plays each of them by itself."""


def reader(folder: Path, page: Path) -> dict[str, str]:
    """Make what a reader of this page has: most of the scenarios, and the files that the page said to save."""
    shutil.copytree(pages.ROOT / "scenarios", folder / "scenarios", ignore=shutil.ignore_patterns(*LEFT_OUT))
    for named in set(re.findall(r"^\$ .*?(scenarios/findings/[\w-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)):
        shutil.copytree(pages.ROOT / named, folder / named)
    for block in pages.blocks(page):
        if block.file is not None:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text, encoding="utf-8")
    dropped = ("JOB_", "PGBOSS_", "USE_", "PYTEST_", "COV_", "DATABASE_URL", "PYTHONHASHSEED")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(dropped) or key.endswith("_DSN")}
    path = os.pathsep.join((str(Path(sys.executable).parent), environ.get("PATH", "")))
    modules = os.pathsep.join(filter(None, (str(pages.ROOT), str(folder), environ.get("PYTHONPATH"))))
    return {**environ, "PATH": path, "PYTHONPATH": modules, "COLUMNS": "80"}


def typed(commands: list[str], folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Type commands into one shell, which stops at the first that fails."""
    script = "\n".join(["set -e", "trap 'code=$?; kill $(jobs -p) 2>/dev/null || true; exit $code' EXIT", *commands])
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def tried(block: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = reader(folder, block.page)
    expected = " && exit 99 || test $? -eq 1" if "fails" in block.words else ""
    return typed([command + expected for command in block.commands], folder, environ)


def needs_postgres(block: Any) -> bool:
    return bool({"postgres", "pgboss"}.intersection(block.words)) or any("postgres" in line for line in block.commands)


LIBRARIES = ("celery", "dramatiq", "django", "temporalio", "langgraph", "dbos", "pydantic_ai")
"""What a page imports that these tests do not need otherwise; CI installs them into an environment of their own."""


def needs_node(block: Any) -> None:
    if "node" in block.words and (why := missing_node()):
        pytest.skip(why)


def needs_library(block: Any) -> None:
    for library in LIBRARIES:
        if library in block.words and importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: pip install {library}")


def name(block: Any) -> str:
    return f"{block.page.stem}-{block.number}"


CONSOLE = [
    block
    for page in pages.PAGES
    for block in pages.blocks(page)
    if block.words[:1] == ("console",) and "npm" not in block.words  # those are typed in tests/client
]
FIRST = ("README",)
"""The page that everybody reads; what the others tell people to type is typed by `make pages`."""


def marked(block: Any) -> Any:
    marks = () if block.page.stem in FIRST else (pytest.mark.campaign,)
    return pytest.param(block, id=name(block), marks=marks)


PLAIN = [marked(block) for block in CONSOLE if not needs_postgres(block)]
ON_POSTGRES = [marked(block) for block in CONSOLE if needs_postgres(block)]


@pytest.mark.slow
@pytest.mark.parametrize("block", PLAIN)
def test_what_is_to_be_typed_works_and_prints_what_is_shown(block: Any, tmp_path: Path) -> None:
    needs_node(block)
    needs_library(block)
    ended = tried(block, tmp_path)

    assert ended.returncode == 0, f"{block.text}\n{ended.stdout}{ended.stderr}"
    if block.shown:
        assert steady(ended.stdout) == steady("\n".join(block.shown))
    assert not_printed(block, ended.stdout) == [], "the screen below the command is no part of what it prints"


def not_printed(block: Any, printed: str) -> list[str]:
    """Return which parts of the screen that a page shows below a failing command are not what it prints."""
    below = pages.blocks(block.page)[block.number : block.number + 1]
    if "fails" not in block.words or not below or below[0].words != ("text",):
        return []
    return [part for part in below[0].parts if steady(part) not in steady(printed)]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("block", ON_POSTGRES)
def test_what_is_to_be_typed_works_on_postgresql(block: Any, tmp_path: Path, job_postgres: Any) -> None:
    if "pgboss" in block.words:
        try:
            package.load(package.NEWEST_OF_10)
            find_node((22, 18))
        except EnvironmentUnavailable as error:
            pytest.skip(str(error))
    for engine, version in re.findall(r"(pgqueuer|procrastinate)@([\d.]+)", block.text):
        try:
            python_package(engine, version, "psycopg[binary,pool]")
        except EnvironmentUnavailable as error:
            pytest.skip(str(error))
    missing = [tool for tool in ("curl",) if tool in block.text and shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not on this machine")

    ended = tried(block, tmp_path)

    assert ended.returncode == 0, f"{block.text}\n{ended.stdout}{ended.stderr}"
    assert not_printed(block, ended.stdout) == [], "the screen below the command is no part of what it prints"


@pytest.mark.slow
@pytest.mark.campaign
def test_every_python_example_runs(tmp_path: Path) -> None:
    environ = reader(tmp_path, pages.ROOT / "docs" / "pytest.md")
    scripts = []
    suites: dict[str, list[str]] = {}  # what migrates the database of a session has a session of its own
    for block in (*pages.blocks_of("python"), *pages.blocks_of("python", "postgres")):
        if block.file is not None:
            continue  # a command on its page runs it
        if "def test_" in block.text or "(ProcessorContract)" in block.text:
            test = tmp_path / f"test_{block.page.stem}_{block.number}.py"
            test.write_text(block.text, encoding="utf-8")
            suites.setdefault(test.name if "job_postgres_schema" in block.text else "", []).append(test.name)
        else:
            script = tmp_path / f"{block.page.stem}_{block.number}.py"
            script.write_text(block.text, encoding="utf-8")
            scripts.append(f"python {script.name}")

    tests = [f"python -m pytest -q -W error -p no:cacheprovider {' '.join(names)}" for names in suites.values()]
    ended = typed([*scripts, *tests], tmp_path, environ)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def steady(text: str) -> str:
    """Leave out how many seconds a search took, and nothing else: all the rest is deterministic."""
    return re.sub(r"\b\d+\.\d s\b", "N s", text).strip()
