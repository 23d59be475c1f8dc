"""The npm package `pg-boss` in a cache of its own, and the SQL that it would send. Needs Node and npm once a version."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.errors import EnvironmentUnavailable, UsageError

OLDEST_NODE: Final = 20
INSTALL_SECONDS: Final = 120
ASK_SECONDS: Final = 30
SCHEMA: Final = "pgboss"
_VERSION: Final = re.compile(r"10\.\d+\.\d+")

_ASK: Final = """
const plans = require(process.argv[1] + '/src/plans.js')
const { schema } = require(process.argv[1] + '/version.json')
const s = process.argv[2]
console.log(JSON.stringify({
  create: plans.create(s, schema),
  create_queue: plans.createQueue(s),
  send: plans.insertJob(s),
  fetch: plans.fetchNextJob(s)({ includeMetadata: true }),
  complete: plans.completeJobs(s),
  fail: plans.failJobsById(s),
  cancel: plans.cancelJobs(s),
  resume: plans.resumeJobs(s),
  retry: plans.retryJobs ? plans.retryJobs(s) : null,
  expire: plans.locked(s, plans.failJobsByTimeout(s)),
  archive: plans.locked(s, plans.archive(s, '12 hours')),
  drop: plans.locked(s, plans.drop(s, '7 days'))
}))
"""
"""Asks the library for its statements, with the intervals that its own defaults give."""


@dataclass(frozen=True, slots=True)
class Package:
    """One installed version and its statements by verb; a verb that this version lacks is None."""

    version: str
    statements: Mapping[str, str | None]


def cache_folder() -> Path:
    """Answer where packages are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "job-harness" / "npm"


def load(version: str) -> Package:
    """Answer a version's statements, installing it where it is missing.

    Raises UsageError for a version that is not one of pg-boss 10, EnvironmentUnavailable without Node or npm, and
    where the package does not install.
    """
    if not _VERSION.fullmatch(version):
        raise UsageError(
            f"pg-boss {version!r} cannot be driven by its SQL alone",
            hint="Name a version of pg-boss 10 in full, such as pgboss@10.4.2.",
        )
    folder = cache_folder() / f"pg-boss@{version}"
    known = folder / "statements.json"
    if not known.exists():
        node, npm = _tools()
        _install(npm, version, folder)
        _write(known, _asked(node, folder))
    statements: dict[str, str | None] = json.loads(known.read_text(encoding="utf-8"))
    return Package(version, statements)


def _tools() -> tuple[str, str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    repair = f"Install Node {OLDEST_NODE} or newer with npm, such as with: apt-get install nodejs npm"
    if node is None or npm is None:
        missing = "node" if node is None else "npm"
        raise EnvironmentUnavailable(f"pg-boss needs {missing}, which is not on the PATH", hint=repair)
    found = _run([node, "--version"], ASK_SECONDS).strip()
    major = re.match(r"v(\d+)", found)
    if major is None or int(major[1]) < OLDEST_NODE:
        raise EnvironmentUnavailable(f"pg-boss 10 needs Node {OLDEST_NODE} or newer, and {node} is {found}", hint=repair)
    return node, npm


def _install(npm: str, version: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    _run([npm, "install", *options, f"pg-boss@{version}"], INSTALL_SECONDS, cwd=folder)


def _asked(node: str, folder: Path) -> dict[str, Any]:
    told = _run([node, "-e", _ASK, str(folder / "node_modules" / "pg-boss"), SCHEMA], ASK_SECONDS)
    answer: dict[str, Any] = json.loads(told)
    return answer


def _write(path: Path, content: dict[str, Any]) -> None:
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(path)


def _run(command: list[str], seconds: int, *, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentUnavailable(f"{command[0]} did not answer: {error}") from error
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())[-400:]
        raise EnvironmentUnavailable(
            f"{' '.join(command[-1:])} failed with code {done.returncode}: {words}",
            hint="Does that version exist, and does the package index answer? Try npm view pg-boss versions.",
        )
    return done.stdout
