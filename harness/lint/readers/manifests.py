"""Manifests and lock files: which release of which queue holds in which folder."""

from __future__ import annotations

import re
from typing import Final

from harness.lint.facts import Dependency, Facts, Place, Unreadable
from harness.lint.typescript import line_of, pairs_of, parse_json, unquoted

SECTIONS: Final = ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies")
_LOCKED: Final = (
    re.compile(rb'"(?:[^"\n]*/)?node_modules/pg-boss":\s*\{\s*"version":\s*"(?P<version>\d+\.\d+\.\d+[^"]*)"'),
    re.compile(rb"^[ \t]+/?'?pg-boss[@/](?P<version>\d+\.\d+\.\d+[^:'(]*)[^\n]*:", re.MULTILINE),
    re.compile(rb'^"?pg-boss@[^\n]*:\n\s+version:?\s+"?(?P<version>\d+\.\d+\.\d+[^"\s]*)', re.MULTILINE),
)


def read_package(path: str, data: bytes, facts: Facts) -> None:
    """Read the range that is asked for."""
    document = parse_json(data)
    if document.broken is not None:
        line, why = document.broken
        facts.unreadable.append(Unreadable(Place(path, line), why))
    for section, _, table in document.pairs:
        if section in SECTIONS and table.type == "object":
            for name, _, version in pairs_of(table):
                if name == "pg-boss":
                    facts.packages.append(Dependency(unquoted(version), Place(path, line_of(version))))


def read_lock(path: str, data: bytes, facts: Facts) -> None:
    """Read the version that a lock file settles."""
    for pattern in _LOCKED:
        found = pattern.search(data)
        if found is not None:
            line = data.count(b"\n", 0, found.start("version")) + 1
            facts.packages.append(
                Dependency(found["version"].decode("ascii", "replace"), Place(path, line), locked=True)
            )
            return
