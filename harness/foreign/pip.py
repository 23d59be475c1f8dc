"""A package of the Python index, installed by name and version into a folder of its own for a child to import."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Final

from harness.errors import EnvironmentUnavailable, UsageError, clipped
from harness.foreign.cache import INSTALL_SECONDS, installed, run
from harness.private import cache_folder

ASK_SECONDS: Final = 60
WANTED: Final = re.compile(r"latest|[0-9]+(\.[0-9]+)*")
NUMBERED: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
OPTIONS: Final = ("--quiet", "--disable-pip-version-check", "--no-input", "--only-binary=:all:")
"""Wheels only: to build a source distribution is to run its code."""
TAG: Final = f"py{sys.version_info[0]}{sys.version_info[1]}"


def python_package(name: str, version: str, *extras: str) -> Path:
    """Answer a folder for a child's `PYTHONPATH` that has the package in exactly this version, and what it needs.

    Raises EnvironmentUnavailable without pip, or where that version does not install.
    """
    what = f"{name}=={version} cannot be installed"
    hint = f"Does that version exist, and does the index answer? Try: python -m pip index versions {name}"

    def install(folder: Path) -> None:
        command = [*_pip(), "install", *OPTIONS, "--target", str(folder), f"{name}=={version}", *extras]
        run(command, seconds=INSTALL_SECONDS, what=what, hint=hint, cwd=folder)

    return installed("python", f"{TAG}-{name}@{version}", install)


def newest(name: str, wanted: str) -> str:
    """Answer the newest version that `wanted` stands for: `latest`, `3`, `3.8`, or a full version itself.

    Where the index does not answer, the newest one in the cache will do. Raises UsageError for what is no version.
    """
    if not WANTED.fullmatch(wanted):
        raise UsageError(f"{clipped(wanted)} is no version of {name}", hint="Name one such as 3, 3.8.1 or latest.")
    if wanted.count(".") >= 2:
        return wanted
    try:
        command = [*_pip(), "index", "versions", name, "--disable-pip-version-check", "--only-binary=:all:"]
        told = run(command, seconds=ASK_SECONDS, what=f"the versions of {name} are unknown", hint="")
        known = told.partition("Available versions:")[2].partition("\n")[0].replace(",", " ").split()
    except EnvironmentUnavailable:
        known = [path.name.rpartition("@")[2] for path in cache_folder("python").glob(f"{TAG}-{name}@*")]
    numbered = [version for version in known if NUMBERED.fullmatch(version)]
    fitting = [version for version in numbered if wanted == "latest" or version.startswith(f"{wanted}.")]
    if not fitting:
        raise EnvironmentUnavailable(
            f"no version {wanted} of {name} is known here",
            hint=f"Name a version in full, as in {name}@1.2.3, or bring the index within reach.",
        )
    return max(fitting, key=lambda version: tuple(int(part) for part in version.split(".")))


def _pip() -> list[str]:
    """Return pip as a command. Isolated, or a `pip.py` of the current folder would be run in its place."""
    if importlib.util.find_spec("pip") is None:
        raise EnvironmentUnavailable(
            f"{sys.executable} has no pip", hint="Bring it with: python -m ensurepip, or: uv pip install pip"
        )
    return [sys.executable, "-I", "-m", "pip"]
