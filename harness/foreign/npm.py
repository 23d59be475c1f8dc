"""A package of the npm registry, installed by name and version into the cache."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Final

from harness.errors import EnvironmentUnavailable, UsageError
from harness.foreign.cache import INSTALL_SECONDS, cache_folder, installed, run

ASK_SECONDS: Final = 60
EXACT: Final = re.compile(r"\d+\.\d+\.\d+")
WANTED: Final = re.compile(r"latest|\d+(\.\d+){0,2}")
OPTIONS: Final = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error")


def npm_package(name: str, version: str) -> Path:
    """Answer the folder whose `node_modules` has the package in exactly this version.

    Raises EnvironmentUnavailable without npm, or where that version does not install.
    """
    what = f"{name}@{version} cannot be installed"
    hint = f"Does that version exist, and does the registry answer? Try: npm view {name} versions"

    def install(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        command = [_npm(), "install", *OPTIONS, f"{name}@{version}"]
        run(command, seconds=INSTALL_SECONDS, what=what, hint=hint, cwd=folder)

    return installed("npm", f"{name.replace('/', '+')}@{version}", install)


def newest(name: str, wanted: str) -> str:
    """Answer the newest version that `wanted` stands for: `latest`, `12`, `12.25`, or a full version itself.

    Where the registry does not answer, the newest one in the cache will do. Raises UsageError for what is no version.
    """
    if not WANTED.fullmatch(wanted):
        raise UsageError(f"{wanted!r} is no version of {name}", hint="Name one such as 12, 12.25.1 or latest.")
    if EXACT.fullmatch(wanted):
        return wanted
    try:
        told = run(
            [_npm(), "view", f"{name}@{wanted}", "version", "--json"],
            seconds=ASK_SECONDS,
            what=f"the newest {name}@{wanted} is unknown",
            hint=f"Name a version in full, as in {name}@1.2.3, or bring the registry within reach.",
        )
        answer = json.loads(told or "null")
    except EnvironmentUnavailable:
        if cached := _cached(name, wanted):
            return cached
        raise
    if not answer:
        raise UsageError(f"{name} has no version {wanted}", hint=f"List them with: npm view {name} versions")
    versions = [answer] if isinstance(answer, str) else answer
    return str(max(versions, key=_numbers))


def _cached(name: str, wanted: str) -> str | None:
    prefix = f"{name.replace('/', '+')}@"
    folder = cache_folder("npm")
    there = [path.name[len(prefix) :] for path in folder.glob(f"{prefix}*")] if folder.exists() else []
    fitting = [version for version in there if wanted == "latest" or version.startswith(f"{wanted}.")]
    return max(fitting, key=_numbers, default=None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _npm() -> str:
    found = shutil.which("npm")
    if found is None:
        raise EnvironmentUnavailable(
            "npm is not on the PATH", hint="Install it once, such as with: apt-get install npm"
        )
    return found
