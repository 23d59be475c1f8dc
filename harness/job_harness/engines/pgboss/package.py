"""The SQL that a version of pg-boss would send, told by the installed package. Needs Node and npm once a version."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job_harness.errors import EnvironmentUnavailable, UsageError, clipped
from job_harness.worlds.packages import run
from job_harness.worlds.peers import find_node, npm_package
from job_harness.worlds.private import write_private

NEWEST_OF_10: Final = "10.4.2"
OLDEST_NODE: Final = (20, 0)
ASK_SECONDS: Final = 30
SCHEMA: Final = "pgboss"
_VERSION: Final = re.compile(r"10\.[0-9]+\.[0-9]+")

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
  delete: plans.deleteJobs ? plans.deleteJobs(s) : null,
  expire: plans.locked(s, plans.failJobsByTimeout(s)),
  archive: plans.locked(s, plans.archive(s, '12 hours')),
  drop: plans.locked(s, plans.drop(s, '7 days'))
}))
"""
"""Asks the library for its statements, with the intervals that its own defaults give."""
_TOLD: Final = f"statements-{hashlib.sha256(_ASK.encode()).hexdigest()[:8]}.json"
"""Where the answer is kept: another question has another answer."""


@dataclass(frozen=True, slots=True)
class PgBossStatements:
    """One installed version and its statements by verb; a verb that this version lacks is None."""

    version: str
    statements: Mapping[str, str | None]


def check_version(version: str) -> None:
    """Raise UsageError for what is not a version of pg-boss 10."""
    if not _VERSION.fullmatch(version):
        raise UsageError(
            f"the engine pgboss runs the SQL of pg-boss 10, and {clipped(version)} is not a version of it",
            hint=f"Name a version of pg-boss 10, such as pgboss@{NEWEST_OF_10}.",
        )


def load(version: str) -> PgBossStatements:
    """Return a version's statements, installing it where it is missing.

    Raises UsageError for a version that is not one of pg-boss 10, EnvironmentUnavailable without
    Node or npm, and where the package does not install.
    """
    check_version(version)
    folder = npm_package("pg-boss", version)
    known = folder / _TOLD
    statements = _kept(known)
    if statements is None:  # Never asked for, or what was kept is damaged.
        write_private(known, _read_statements(folder))
        statements = _kept(known)
    if statements is None:
        raise EnvironmentUnavailable(
            f"pg-boss {version} has no statements that this engine can read: see {known}",
            hint="This version keeps its SQL elsewhere; pg-boss 10.1 to 10.4 are known.",
        )
    return PgBossStatements(version, statements)


def _kept(known: Path) -> dict[str, str | None] | None:
    """Read the answer that was kept; None if there is none, or it cannot be read."""
    try:
        told = json.loads(known.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(told, dict) and "create" in told and all(isinstance(told[name], str | None) for name in told)
    return told if whole else None


def _read_statements(folder: Path) -> str:
    node = find_node(OLDEST_NODE)
    command = [node.path, "-e", _ASK, str(folder / "node_modules" / "pg-boss"), SCHEMA]
    hint = "This version keeps its SQL elsewhere; pg-boss 10.1 to 10.4 are known."
    return run(command, seconds=ASK_SECONDS, what="pg-boss did not tell its statements", hint=hint)
