"""A freshly initialised cluster, kept as one tar file per server build in the user's cache folder.

One file can be checked by its size, replaced by one rename, and handed as an open descriptor to a child that
may not even read the folder. Parallel starts build it once: the builder holds a lock.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EnvironmentUnavailable
from harness.postgres.installation import Installation
from harness.postgres.patience import Deadline
from harness.postgres.placement import places
from harness.postgres.privilege import Privilege
from harness.postgres.supervisor import Supervised
from harness.private import is_ours, locked

FORMAT = 1
"""Raised whenever the way of building changes: older images are then not found."""

KEPT_IMAGES = 6
BUILD_SECONDS = 120
EXPECTED_BYTES = 40 * 2**20

# Small WAL segments make the image a third smaller. $1 is the folder, $2 initdb.
_BUILD = r"""
"$2" --pgdata="$1/d" --username=postgres --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 \
    --locale=C --wal-segsize=1 --no-sync --no-instructions >&2 &&
tar -cf - -C "$1/d" . >&4
"""


@dataclass(frozen=True, slots=True)
class Image:
    """An initialised cluster as a tar file, and the major version of its server."""

    path: Path
    major_version: int
    was_cached: bool

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def discard(self) -> None:
        """Throw the file away, because a cluster made from it does not start."""
        self.path.unlink(missing_ok=True)


def obtain_image(installation: Installation, *, folder: Path, privilege: Privilege, roots: tuple[Path, ...]) -> Image:
    """Answer the cached image of this server build, after making it if there is none.

    Raises EnvironmentUnavailable where initdb fails; nothing half-made stays behind.
    """
    key = f"pg-{FORMAT}-{installation.fingerprint}"
    cached = _find(folder, key)
    if cached is not None:
        return cached
    waiting = Deadline(BUILD_SECONDS)
    with locked(folder / f"{key}.lock", within=waiting, doing="building a PostgreSQL cluster"):
        cached = _find(folder, key)
        if cached is not None:
            return cached
        image = _build(installation, folder=folder, key=key, privilege=privilege, roots=roots)
        _prune(folder, keep=image.path)
        return image


def _find(folder: Path, key: str) -> Image | None:
    """Find an image of ours whose size is the one in its name; remove what is cut short, or open to others."""
    for path in folder.glob(f"{key}-*.tar"):
        major, _, size = path.stem.removeprefix(f"{key}-").partition("-")
        with suppress(OSError, ValueError):
            if is_ours(path) and path.stat().st_size == int(size):
                os.utime(path)
                return Image(path, int(major), was_cached=True)
        path.unlink(missing_ok=True)
    return None


def _build(
    installation: Installation, *, folder: Path, key: str, privilege: Privilege, roots: tuple[Path, ...]
) -> Image:
    passed_over: list[str] = []
    for place in places(roots, needed_bytes=2 * EXPECTED_BYTES, privilege=privilege, passed_over=passed_over):
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{key}-", delete=False) as file:
            try:
                major = _initialise(installation, place, privilege, file.fileno())
                size = file.seek(0, os.SEEK_END)
                path = folder / f"{key}-{major}-{size}.tar"
                os.replace(file.name, path)
                return Image(path, major, was_cached=False)
            except _NoRoomError as error:
                passed_over.append(f"{place.parent} ran full ({error})")
            finally:
                Path(file.name).unlink(missing_ok=True)
    raise AssertionError("places() either yields or raises")


class _NoRoomError(Exception):
    """The folder ran full while a cluster was made there."""


def _initialise(installation: Installation, place: Path, privilege: Privilege, target: int) -> int:
    with os.fdopen(os.dup(target), "wb") as channel:
        builder = Supervised(
            ["/bin/sh", "-c", _BUILD, "initdb", str(place), str(installation.initdb)],
            folder=place,
            privilege=privilege,
            channel=channel,
        )
        try:
            status = builder.wait(BUILD_SECONDS)
            log = builder.log_tail()
        except subprocess.TimeoutExpired:
            status, log = -1, f"not finished after {BUILD_SECONDS} s\n{builder.log_tail()}"
        finally:
            builder.stop()
    if status != 0:
        if "No space left on device" in log:
            raise _NoRoomError("no space left on device")
        raise EnvironmentUnavailable(
            f"{installation.initdb} failed ({'killed' if status in (-1, 137, 143) else f'status {status}'}): "
            f"{log or 'it said nothing'}",
            hint="Run it by hand to see more, or set JOB_HARNESS_DSN to a database that is already running.",
        )
    return _major_version(target)


def _major_version(descriptor: int) -> int:
    """Read the major version out of the tar file just written (a file in it holds nothing else)."""
    import tarfile

    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            member = archive.extractfile("./PG_VERSION")
            if member is None:
                raise EnvironmentUnavailable("initdb made a cluster without PG_VERSION", hint="Reinstall it.")
            return int(member.read().decode().strip())


def _prune(folder: Path, *, keep: Path) -> None:
    """Keep the images used last; upgrades would otherwise pile up 30 MB each."""
    images = [path for path in folder.glob("pg-*.tar") if path != keep]
    with suppress(OSError):
        images.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in images[KEPT_IMAGES - 1 :]:
        path.unlink(missing_ok=True)
