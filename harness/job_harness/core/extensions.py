"""What other packages bring, by entry point: engines, faults, invariants. Loaded when it is first asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from job_harness.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENGINES: Final = "job_harness.engines"
FAULTS: Final = "job_harness.faults"
INVARIANTS: Final = "job_harness.invariants"


def offered(group: str) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name, nothing loaded yet."""
    return _offered(group, tuple(sys.path))


@cache
def _offered(group: str, path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    if not (f"[{group}]" in _declared(path) or any(map(os.path.isfile, path))):
        return {}
    from importlib.metadata import entry_points

    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


@cache
def _declared(path: tuple[str, ...]) -> str:
    """Return the entry points of every package in a folder on the path: `importlib.metadata` takes ten times as long.

    It is asked where a group is named here, and where the path has an archive, which this does not
    look into.
    """
    told = ""
    for file in (file for place in path for file in Path(place).glob("*.*-info/entry_points.txt")):
        with suppress(OSError):  # It may be closed to this user, as it then is to `importlib.metadata`.
            told += file.read_text(encoding="utf-8", errors="replace").replace(" ", "")
    return told


@cache
def brought(group: str) -> Mapping[str, Any]:
    """Load a group, once.

    Raises UsageError that names the entry point and its package where one cannot be loaded.
    """
    return {name: loaded(point) for name, point in offered(group).items()}


def package_of(point: EntryPoint) -> str:
    """Say which package an entry point is of; empty where that is unknown."""
    return f" of {point.dist.name} {point.dist.version}" if point.dist else ""


def provider_of(group: str, name: str) -> str:
    """Return which package brings a name, with its version: `power 1.0`."""
    point = offered(group).get(name)
    return "another package" if point is None or point.dist is None else f"{point.dist.name} {point.dist.version}"


def loaded(point: EntryPoint) -> Any:
    """Load an entry point. Raises UsageError that names it and its package where it cannot be loaded."""
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # Whatever another package's module raises while it is imported.
        raise UsageError(
            f"the entry point {point.group}:{point.name}{package_of(point)} cannot be loaded: "
            f"{type(error).__name__}: {error}",
            hint="Repair or remove that package.",
        ) from error
