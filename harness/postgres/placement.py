"""Where a cluster's folder goes: memory if it fits, else a temporary folder, with a legal socket path."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import EnvironmentUnavailable
from harness.postgres.privilege import Privilege
from harness.private import weakness

PREFIX = "job-harness-"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 103 if sys.platform == "darwin" else 107
"""Bytes that the kernel accepts in the name of a Unix socket."""

HEADROOM_BYTES = 256 * 1024 * 1024
"""What must stay free beside the cluster: some thirty databases. The 64 MB of a container are too little."""


def default_roots() -> tuple[Path, ...]:
    """Folders to try, fastest first."""
    roots = [Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    return tuple(dict.fromkeys(roots))


def places(roots: Sequence[Path], *, needed_bytes: int, privilege: Privilege, passed_over: list[str]) -> Iterator[Path]:
    """Yield a new folder of the server's own on each root that has room, until the caller has enough;
    from then on the folder is the caller's to remove.

    Each root that is left out adds its reason to `passed_over`. Raises EnvironmentUnavailable at the end.
    """
    for root in roots:
        reason = _unfit(root, needed_bytes + HEADROOM_BYTES, privilege)
        if reason:
            passed_over.append(f"{root} {reason}")
            continue
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        except OSError as error:
            passed_over.append(f"{root} refuses a folder ({error.strerror})")
            continue
        try:
            privilege.own(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        yield folder
    raise EnvironmentUnavailable(
        "no place for a PostgreSQL cluster: " + "; ".join(passed_over),
        hint="Set TMPDIR to a folder with a short path and 300 MB of room, or JOB_HARNESS_DSN to a database.",
    )


def _unfit(root: Path, needed_bytes: int, privilege: Privilege) -> str:
    if not root.is_dir():
        return "does not exist"
    if why := weakness(root):
        return f"is not safe ({why})"
    longest = os.fsencode(root / (PREFIX + "x" * 8) / SOCKET_NAME)
    if len(longest) > SOCKET_PATH_LIMIT:
        return f"is too long a path for a socket ({len(longest)} of {SOCKET_PATH_LIMIT} bytes)"
    if privilege.uid is not None and not _reachable(root):
        return f"cannot be entered by uid {privilege.uid}"
    status = os.statvfs(root)
    free = status.f_bavail * status.f_frsize
    if free < needed_bytes:
        return f"has {free // 2**20} MB free of {needed_bytes // 2**20} MB needed"
    return ""


def _reachable(root: Path) -> bool:
    """Whether everybody may pass every folder down to `root`."""
    resolved = root.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (resolved, *resolved.parents))
