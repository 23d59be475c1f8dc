"""Where installed packages are kept between runs, one folder for each package and version."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.errors import EnvironmentUnavailable

INSTALL_SECONDS = 300
"""How long an installation may take."""
DONE = ".installed"


def cache_folder(kind: str) -> Path:
    """Answer the folder for packages of a kind, such as `npm`; `XDG_CACHE_HOME` moves it."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "job-harness" / kind


def installed(kind: str, name: str, install: Callable[[Path], None]) -> Path:
    """Answer the folder of a package, filled by `install` where it is missing; two processes do it once.

    An installation that fails leaves nothing behind. Raises EnvironmentUnavailable where the cache cannot be written.
    """
    folder = cache_folder(kind) / name
    if (folder / DONE).exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f".{name}.lock")):
            if not (folder / DONE).exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                try:
                    install(folder)
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                (folder / DONE).touch()
    except OSError as error:
        raise EnvironmentUnavailable(
            f"{name} cannot be installed into {folder}: {error}",
            hint="Set XDG_CACHE_HOME to a folder that can be written.",
        ) from error
    return folder


def run(command: Sequence[str], *, seconds: float, what: str, hint: str, cwd: Path | None = None) -> str:
    """Run an installer or a question; answer its stdout. Raises EnvironmentUnavailable with what it said."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentUnavailable(f"{what}: no answer within {seconds:g} s", hint=hint) from error
    except OSError as error:
        raise EnvironmentUnavailable(f"{what}: {error}", hint=hint) from error
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())
        raise EnvironmentUnavailable(f"{what}: {words[-400:] or f'code {done.returncode}'}", hint=hint)
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
