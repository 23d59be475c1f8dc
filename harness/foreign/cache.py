"""Where installed packages are kept between runs, one folder for each package and version."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import EnvironmentUnavailable
from harness.postgres.patience import Deadline
from harness.private import FOLDER_MODE, NOBODY_ELSE, VARIABLE, all_ours, cache_folder, locked, write_private

INSTALL_SECONDS = 300
"""How long an installation may take."""
DONE = ".installed"


def installed(kind: str, name: str, install: Callable[[Path], None]) -> Path:
    """Return the folder of a package, filled by `install` where it is missing; two processes do it once.

    What others could have changed is installed anew; an installation that fails leaves nothing behind. Raises
    EnvironmentUnavailable where the cache cannot be used.
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
            hint=f"Set {VARIABLE} to a folder that only you can write to.",
        ) from error
    return folder


def _whole(folder: Path) -> bool:
    return (folder / DONE).exists() and all_ours(folder)


def run(command: Sequence[str], *, seconds: float, what: str, hint: str, cwd: Path | None = None) -> str:
    """Run an installer or a question; answer its stdout. Raises EnvironmentUnavailable with what it said."""
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False, umask=NOBODY_ELSE
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentUnavailable(f"{what}: no answer within {seconds:g} s", hint=hint) from error
    except OSError as error:
        raise EnvironmentUnavailable(f"{what}: {error}", hint=hint) from error
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())
        raise EnvironmentUnavailable(f"{what}: {words[-400:] or f'code {done.returncode}'}", hint=hint)
    return done.stdout
