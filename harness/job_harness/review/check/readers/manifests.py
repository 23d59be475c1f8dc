"""Manifests and lock files: which release of which queue's library holds in which folder.

npm, pnpm, yarn and bun; `pyproject.toml`, `requirements*.txt`, `uv.lock` and `poetry.lock`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from posixpath import dirname
from typing import Any, Final

from job_harness.review.check.facts import Dependency, Facts, Place, Unreadable
from job_harness.review.check.typescript import line_of, pairs_of, parse_json, unquoted

NODE: Final = ("pg-boss", "graphile-worker", "bullmq", "bull", "bee-queue", "agenda", "@nestjs/bullmq", "@nestjs/bull")
PYTHON: Final = (
    "celery", "procrastinate", "pgqueuer", "rq", "dramatiq", "arq", "huey", "taskiq", "saq", "django-q2",
)  # fmt: skip
SECTIONS: Final = ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies")

_NAMES: Final = rb"|".join(re.escape(name).encode() for name in NODE)
_NPM: Final = re.compile(
    rb'"(?P<owner>(?:[^"\n]*/)?)node_modules/(?P<name>' + _NAMES + rb')":\s*\{\s*"version":\s*"(?P<version>[0-9][^"]*)"'
)
_PNPM: Final = re.compile(rb"^[ \t]+/?'?(?P<name>" + _NAMES + rb")[@/](?P<version>[0-9]+\.[^:'(\s]*)", re.MULTILINE)
_YARN: Final = re.compile(
    rb'^"?(?P<name>' + _NAMES + rb')@[^\n]*:\n\s+version:?\s+"?(?P<version>[0-9][^"\s]*)', re.MULTILINE
)
_BUN: Final = re.compile(rb'^\s*"(?P<owner>(?:[^"\n]*/)?)(?P<key>' + _NAMES + rb')":\s*\["(?P<name>' + _NAMES
                         + rb')@(?P<version>[0-9][^"]*)"', re.MULTILINE)  # fmt: skip
_PINNED: Final = re.compile(
    rb'^name = "(?P<name>' + b"|".join(name.encode() for name in PYTHON) + rb')"\nversion = "(?P<version>[^"]+)"',
    re.MULTILINE,
)
_IMPORTER: Final = re.compile(r"^  (?P<quote>'?)(?P<folder>[^\s':][^':\n]*)(?P=quote):\s*$")
_REQUIREMENT: Final = re.compile(
    r"^\s*(?P<name>" + "|".join(PYTHON) + r")(?P<extras>\[[^\]]*\])?\s*(?P<range>[^#;\n]*)", re.IGNORECASE
)


def read_package(path: str, data: bytes, facts: Facts) -> None:
    """Read a `package.json`: its name, and the ranges that it asks for."""
    document = parse_json(data)
    if document.broken is not None:
        line, why = document.broken
        facts.unreadable.append(Unreadable(Place(path, line), why))
    for section, _, table in document.pairs:
        if section == "name":
            facts.workspaces.setdefault(unquoted(table), []).append(dirname(path))
        if section in SECTIONS and table.type == "object":
            for name, _, version in pairs_of(table):
                if name in NODE:
                    place = Place(path, line_of(version))
                    facts.packages.append(Dependency(name, unquoted(version), place, dirname(path)))


def read_lock(path: str, data: bytes, facts: Facts) -> None:
    """Read the versions that a lock file settles, each for the package of the workspace that it is locked for."""
    folder = dirname(path)
    seen: set[tuple[str, str, str]] = set()
    for name, version, owner, at in _locked(path, data):
        whose = "/".join(part for part in (folder, owner) if part)
        if (name, version, whose) not in seen:
            seen.add((name, version, whose))
            line = data.count(b"\n", 0, at) + 1
            facts.packages.append(Dependency(name, version, Place(path, line), whose, locked=True))


def _locked(path: str, data: bytes) -> Iterator[tuple[str, str, str, int]]:
    """List name, version, owner within the folder, and where."""
    if path.endswith(("pnpm-lock.yaml", "pnpm-lock.yml")):
        found = list(_importers(data))
        named = {(name, owner) for name, _, owner, _ in found}
        yield from found
        for match in _PNPM.finditer(data):
            if not any(name == match["name"].decode() for name, _ in named):
                yield match["name"].decode(), match["version"].decode("ascii", "replace"), "", match.start("version")
        return
    patterns = (_PINNED,) if path.endswith(("uv.lock", "poetry.lock")) else (_NPM, _YARN, _BUN)
    for pattern in patterns:
        for match in pattern.finditer(data):
            owner = (match.groupdict().get("owner") or b"").decode("utf-8", "replace")
            owner = owner.removesuffix("/") if "node_modules" not in owner else owner.partition("/node_modules")[0]
            owner = "" if pattern is _BUN or owner == "node_modules" else owner
            yield match["name"].decode(), match["version"].decode("ascii", "replace"), owner, match.start("version")


def _importers(data: bytes) -> Iterator[tuple[str, str, str, int]]:
    """List what `importers` of a pnpm lock settles for each package of the workspace."""
    start = data.find(b"\nimporters:")
    if start < 0:
        return
    end = data.find(b"\npackages:", start)
    owner, at, name = "", start + 1, ""
    for raw in data[start + 1 : end if end > 0 else len(data)].split(b"\n"):
        text = raw.decode("utf-8", "replace")
        found = _IMPORTER.match(text)
        if found is not None:
            owner = "" if found["folder"] == "." else found["folder"]
        elif text.startswith("      ") and text.strip().rstrip(":").strip("'\"") in NODE:
            name = text.strip().rstrip(":").strip("'\"")
        elif name and text.strip().startswith("version:"):
            version = text.partition("version:")[2].strip().strip("'\"").partition("(")[0]
            if version[:1].isdigit():
                yield name, version, owner, at + raw.find(b"version:")
            name = ""
        at += len(raw) + 1


def read_pyproject(path: str, text: str, facts: Facts) -> None:
    """Read the requirements of a `pyproject.toml`, as the standard and as poetry writes them."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    lines = text.splitlines()
    project = _table(document, "project")
    listed = [*_texts(project.get("dependencies"))]
    for extra in _table(project, "optional-dependencies").values():
        listed += _texts(extra)
    for group in _table(document, "dependency-groups").values():
        listed += _texts(group)
    for requirement in listed:
        _require(path, requirement, _line_with(lines, requirement), facts)
    poetry = _table(_table(document, "tool"), "poetry")
    for name, wanted in _table(poetry, "dependencies").items():
        written = wanted.get("version", "") if isinstance(wanted, dict) else wanted
        if name.lower() in PYTHON and isinstance(written, str):
            at = next((number for number, line in enumerate(lines, start=1) if re.match(rf'"?{name}"?\s*=', line)), 1)
            facts.packages.append(Dependency(name.lower(), written, Place(path, at), dirname(path)))


def _table(owner: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = owner.get(key)
    return found if isinstance(found, dict) else {}


def _texts(listed: object) -> list[str]:
    return [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []


def _line_with(lines: list[str], text: str) -> int:
    return next((number for number, line in enumerate(lines, start=1) if text in line), 1)


def read_requirements(path: str, text: str, facts: Facts) -> None:
    """Read a file of requirements, one a line."""
    for number, line in enumerate(text.splitlines(), start=1):
        _require(path, line, number, facts)


def _require(path: str, requirement: str, line: int, facts: Facts) -> None:
    found = _REQUIREMENT.match(requirement)
    if found is None or re.match(r"[\w.-]", found["range"][:1]):
        return
    version = found["range"].strip()
    pinned = version.startswith("==")
    facts.packages.append(
        Dependency(found["name"].lower(), version.removeprefix("=="), Place(path, line), dirname(path), locked=pinned)
    )
