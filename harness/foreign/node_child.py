"""A Node child that answers with a script's class `Answers`: Date as the question tells it, timers that do not fire."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from harness.foreign.child import Child
from harness.foreign.database import ORIGIN
from harness.foreign.node import find_node
from harness.model.duration import MILLISECOND, SECOND, Instant

ANSWERING: Final = Path(__file__).with_name("answering.mjs")


def node_child(script: Path, *, name: str, packages: Path, oldest: tuple[int, int]) -> Child:
    """Start a child for a package in `packages`, on a Node that is new enough.

    Raises EnvironmentUnavailable without one.
    """
    node = find_node(oldest, wanted_by=name)
    environment = {"NODE_OPTIONS": "", "NODE_NO_WARNINGS": "1", "TZ": "UTC"}
    return Child([node.path, str(ANSWERING), str(script), str(packages)], name=name, environment=environment)


def milliseconds_of(instant: Instant) -> int:
    """Answer what Date.now() says at an instant."""
    return int(ORIGIN.timestamp()) * (SECOND // MILLISECOND) + instant // MILLISECOND
