"""Folders and files that only this user can have changed: caches, locks, what a run leaves behind.

What lies in a cache is executed later: a cluster whose configuration names commands, packages of
npm and of the Python index. A user who can write there runs code with our rights. So a cache is
used only where this user, root, or the owner of `/` could have written to it or to any folder or
link on the way; and what is made here is for this user alone, whatever the umask says. Must not
know what is kept.
"""

from __future__ import annotations

import atexit
import fcntl
import grp
import os
import pwd
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import ENOTDIR, EPERM
from functools import cache
from pathlib import Path
from typing import Final

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import Deadline

VARIABLE: Final = "JOB_HARNESS_CACHE"
"""Names the cache folder."""
NOBODY_ELSE: Final = 0o077
"""The umask of what is made here, and of the programs that fill a folder of ours."""
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


def cache_folder(kind: str = "", *, environ: Mapping[str, str] | None = None) -> Path:
    """Return this user's own cache folder, or the part of it for one `kind` of things; made where it is missing.

    `JOB_HARNESS_CACHE` names it; else it is below `XDG_CACHE_HOME`, below `HOME`, or in the temporary folder, and where
    none of these can be trusted, a new folder that ends with this process. Raises EnvironmentUnavailable where the
    named folder cannot be used, where others may write to one of ours, and where none can be made.
    """
    env = os.environ if environ is None else environ
    folder = _chosen(env[VARIABLE]) if env.get(VARIABLE) else _found(env)
    return private_folder(folder / kind) if kind else folder


def private_folder(path: Path) -> Path:
    """Make a folder for this user alone, with whatever is missing above it; one of ours that is open is closed.

    Raises OSError where that cannot be done, and where `path` is a link, or another user's.
    """
    for part in (*reversed(path.absolute().parents), path):
        with suppress(FileExistsError):
            if not part.exists():
                part.mkdir(FOLDER_MODE)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        what = "a link" if stat.S_ISLNK(status.st_mode) else "no folder"
        raise NotADirectoryError(ENOTDIR, f"this is {what}", str(path))
    if status.st_uid != os.geteuid():
        raise PermissionError(EPERM, f"it belongs to {_user(status.st_uid)}", str(path))
    if status.st_mode & NOBODY_ELSE:
        path.chmod(FOLDER_MODE)
    return path


def ignored_folder(path: Path) -> Path:
    """Make a folder for this user alone in one, such as `.job-harness`, that git is told to ignore.

    Raises OSError as `private_folder` does.
    """
    made = private_folder(path)
    with suppress(FileExistsError), (path.parent / ".gitignore").open("x", encoding="utf-8") as file:
        file.write("*\n")
    return made


def write_private(path: Path, text: str) -> None:
    """Write a file for this user alone, the whole text or nothing."""
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise


def weakness(path: Path) -> str:
    """Say how a stranger could have changed what `path` leads to; empty where none could.

    Every folder and link on the way counts, for a user who may write to a folder may replace what
    is in it.
    """
    path = path.absolute()
    path.stat()  # A link that leads round in a circle ends here.
    trusted = {0, os.geteuid(), os.lstat("/").st_uid}
    for part in (*reversed(path.parents), path):
        status = part.lstat()
        if status.st_uid not in trusted:
            return f"{part} belongs to {_user(status.st_uid)}"
        if stat.S_ISLNK(status.st_mode):
            if why := weakness(part.parent / part.readlink()):
                return why
        elif _others_write(status) and not status.st_mode & stat.S_ISVTX:
            return _written_by_others(part, status)
    return ""


def all_ours(folder: Path) -> bool:
    """Whether everything in a folder is this user's, and no other user may write to any of it."""
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                link = stat.S_ISLNK(status.st_mode)
                if status.st_uid != os.geteuid() or (not link and _others_write(status)):
                    return False
                if stat.S_ISDIR(status.st_mode):
                    pending.append(Path(entry.path))
    return True


def is_ours(path: Path) -> bool:
    """Whether this is a plain file of this user's that no other user may write to."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not _others_write(status)


@contextmanager
def locked(path: Path, *, within: Deadline, doing: str) -> Iterator[None]:
    """Hold the lock of this name; the kernel releases it when its holder dies.

    Raises EnvironmentUnavailable where another process is still `doing` it when the wait is over.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if within.passed:
                    raise EnvironmentUnavailable(
                        f"another process has held {path} for {within.seconds:g} s",
                        hint=f"It is {doing}; end it, or set {VARIABLE} to another folder.",
                    ) from None
                within.pause(0.01)
        yield
    finally:
        os.close(descriptor)


def _chosen(name: str) -> Path:
    folder = Path(name).absolute()
    if why := _unfit(folder):
        raise EnvironmentUnavailable(
            f"{VARIABLE}={name} cannot be the cache: {why}",
            hint=f"Code in the cache is executed. Set {VARIABLE} to a folder that only you can write to, or unset it.",
        )
    return folder.resolve()


def _found(env: Mapping[str, str]) -> Path:
    """Return the first usual place that can be trusted; one of ours that others may write to is an error."""
    passed_over = []
    for folder in _usual(env):
        why = _unfit(folder)
        if not why:
            return private_folder(folder.resolve())
        if _loose(folder):
            raise EnvironmentUnavailable(
                f"the cache cannot be trusted: {why}, and code in it is executed",
                hint=f"Remove it, and it is created again: rm -r {folder}",
            )
        passed_over.append(why)
    try:
        return _fresh(os.getpid())
    except OSError as error:
        raise EnvironmentUnavailable(
            f"no cache folder can be created: {'; '.join(passed_over)}; {_word_error(error)}",
            hint=f"Set {VARIABLE} to a folder that only you can write to.",
        ) from error


def _unfit(folder: Path) -> str:
    """Say why a folder cannot be the cache, made where it is missing; nothing where it can."""
    try:
        if not os.path.lexists(folder):
            private_folder(folder)
        if why := weakness(folder):
            return why
        status = folder.stat()
    except OSError as error:
        return _word_error(error)
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is not a folder"
    if status.st_uid != os.geteuid():
        return f"{folder} belongs to {_user(status.st_uid)}"
    if _others_write(status):
        return _written_by_others(folder, status)
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written to"


def _usual(env: Mapping[str, str]) -> Iterator[Path]:
    if Path(env.get("XDG_CACHE_HOME") or "").is_absolute():
        yield Path(env["XDG_CACHE_HOME"]) / "job-harness"
    if Path(env.get("HOME") or "").is_absolute():
        yield Path(env["HOME"]) / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "job-harness"
    yield Path(tempfile.gettempdir()).absolute() / f"job-harness-cache-{os.geteuid()}"


def _loose(folder: Path) -> bool:
    """Whether a folder is there and ours, no link, and others may write to it."""
    with suppress(OSError):
        status = folder.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and _others_write(status)
    return False


def _others_write(status: os.stat_result) -> bool:
    """Whether a user beside the owner may write: a group counts, unless it is root's or the owner's own."""
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP or status.st_gid == 0:
        return False
    try:
        group, owner = grp.getgrgid(status.st_gid), pwd.getpwuid(status.st_uid)
    except KeyError:
        return True
    return group.gr_name != owner.pw_name or bool(set(group.gr_mem) - {owner.pw_name})


def _written_by_others(path: Path, status: os.stat_result) -> str:
    return f"others may write to {path} (mode {stat.S_IMODE(status.st_mode):03o})"


def _word_error(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


def _user(uid: int) -> str:
    with suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    return f"uid {uid}"


@cache
def _fresh(owner: int) -> Path:
    """Make a new folder, once a process; it ends with the process."""
    folder = Path(tempfile.mkdtemp(prefix="job-harness-cache-"))
    if why := weakness(folder):
        shutil.rmtree(folder, ignore_errors=True)
        raise PermissionError(EPERM, why, str(folder))

    @atexit.register
    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    return folder
