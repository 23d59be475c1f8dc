"""A package of the npm registry, installed by name and version into the cache."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Final

from harness.errors import EnvironmentUnavailable, ProgramMissing, UsageError, clipped
from harness.foreign.cache import INSTALL_SECONDS, installed, run
from harness.private import cache_folder, write_private

ASK_SECONDS: Final = 60
EXACT: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
WANTED: Final = re.compile(r"latest|[0-9]+(\.[0-9]+){0,2}")
MANIFEST: Final = "package.json"
"""npm reads the `.npmrc` beside it, and looks no further."""
_PRIVATE: Final = '{"private": true}\n'
OPTIONS: Final = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error")


def npm_package(name: str, version: str) -> Path:
    """Answer the folder whose `node_modules` has the package in exactly this version.

    Raises EnvironmentUnavailable without npm, or where that version does not install.
    """
    what = f"{name}@{version} cannot be installed"
    hint = f"Does that version exist, and does the registry answer? Try: npm view {name} versions"

    def install(folder: Path) -> None:
        write_private(folder / MANIFEST, _PRIVATE)
        command = [_npm(), "install", *OPTIONS, f"{name}@{version}"]
        run(command, seconds=INSTALL_SECONDS, what=what, hint=hint, cwd=folder)

    return installed("npm", f"{name.replace('/', '+')}@{version}", install)


def newest(name: str, wanted: str) -> str:
    """Answer the newest version that `wanted` stands for: `latest`, `12`, `12.25`, or a full version itself.

    Where the registry does not answer, the newest one in the cache will do. Raises UsageError for what is no version.
    """
    if not WANTED.fullmatch(wanted):
        raise UsageError(f"{clipped(wanted)} is no version of {name}", hint="Name one such as 12, 12.25.1 or latest.")
    if EXACT.fullmatch(wanted):
        return wanted
    try:
        told = run(
            [_npm(), "view", f"{name}@{wanted}", "version", "--json"],
            seconds=ASK_SECONDS,
            what=f"the newest {name}@{wanted} is unknown",
            hint=f"Name a version in full, as in {name}@1.2.3, or bring the registry within reach.",
            cwd=_no_project(),
        )
    except EnvironmentUnavailable:
        if cached := _cached(name, wanted):
            return cached
        raise
    return _newest_of(told, name, wanted)


def _no_project() -> Path:
    """Return a folder of ours to ask in: npm obeys the `.npmrc` of the project where it is started."""
    folder = cache_folder("npm")
    manifest = folder / MANIFEST
    if not manifest.exists():
        write_private(manifest, _PRIVATE)
    return folder


def _newest_of(told: str, name: str, wanted: str) -> str:
    """Read what `npm view` answered: it becomes part of a path and of a command, so it is checked."""
    try:
        answer = json.loads(told or "null")
    except ValueError:
        answer = told
    if not answer:
        raise UsageError(f"{name} has no version {wanted}", hint=f"List them with: npm view {name} versions")
    answers: list[object] = answer if isinstance(answer, list) else [answer]
    fitting = [each for each in answers if isinstance(each, str) and _fits(each, wanted)]
    if not fitting:
        raise EnvironmentUnavailable(
            f"npm view {name}@{wanted} answered {clipped(answer)}, which is no version of that kind",
            hint=f"Name a version in full, as in {name}@1.2.3, or see whom npm asks: npm config get registry",
        )
    return max(fitting, key=_numbers)


def _fits(version: str, wanted: str) -> bool:
    return EXACT.fullmatch(version) is not None and (wanted == "latest" or version.startswith(f"{wanted}."))


def _cached(name: str, wanted: str) -> str | None:
    prefix = f"{name.replace('/', '+')}@"
    folder = cache_folder("npm")
    there = [path.name[len(prefix) :] for path in folder.glob(f"{prefix}*")]
    fitting = [version for version in there if _fits(version, wanted)]
    return max(fitting, key=_numbers, default=None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:3])


def _npm() -> str:
    found = shutil.which("npm")
    if found is None:
        raise ProgramMissing("npm is not on the PATH", hint="Install it once, such as with: apt-get install npm")
    return found
