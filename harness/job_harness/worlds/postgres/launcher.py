"""Starting a PostgreSQL server of our own from an image: a cluster that was initialised once and kept as one tar file.

Hides the cache in the user's folder and the start: unpack, run, wait until it answers. One file for
each server build can be checked by its size, replaced by one rename, and handed as an open
descriptor to a child that may not even read the folder. Parallel starts build it once: the builder
holds a lock. Knows no SQL beyond a password for TCP.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import Deadline
from job_harness.worlds.postgres.host import (
    SOCKET_NAME,
    Installation,
    Privilege,
    PrivilegeChoice,
    Supervised,
    default_roots,
    places,
    select_privilege,
)
from job_harness.worlds.private import cache_folder, is_ours, locked, private_folder

# the image of a cluster -----------------------------------------------------------------------------------------------


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
    """Return the cached image of this server build, after making it if there is none.

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


# starting a server ----------------------------------------------------------------------------------------------------


START_SECONDS = 30

SETTINGS = {
    # Durability is worth nothing to a folder that is removed afterwards.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "2MB",
    "max_wal_size": "64MB",
    "checkpoint_timeout": "1h",
    # No background work that changes plans or timing between two runs of one test.
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    # Everything stays in the folder: nothing in /dev/shm outlives a server that was killed.
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "logging_collector": "off",
}

# $1 is the folder, $2 the server, the rest its arguments. Descriptor 4 is the image.
_START = r"""
mkdir -m 700 "$1/d" && tar -xof - -C "$1/d" <&4 || exit 1
exec 4<&-
program=$2; shift 2
exec "$program" "$@"
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started here and ends with this process."""

    supervised: Supervised
    socket_folder: Path
    major_version: int
    image_was_cached: bool
    privilege: str
    port: int | None = None
    password: str | None = None
    passed_over: tuple[str, ...] = ()

    def url(self, database: str) -> str:
        """Give the connection string over the Unix socket."""
        folder = quote(str(self.socket_folder), safe="")
        return f"postgresql://postgres@/{quote(database)}?host={folder}&port={self.port or 5432}"

    def tcp_url(self, database: str) -> str | None:
        """Give the connection string over loopback, or None for a server that listens on its socket only."""
        if self.port is None:
            return None
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{quote(database)}"


class _NotStartedError(Exception):
    """A server that ended before it answered; the message is the end of its log."""


def launch(
    installation: Installation,
    *,
    tcp: bool = False,
    privilege: PrivilegeChoice = "auto",
    cache: Path | None = None,
    roots: tuple[Path, ...] | None = None,
) -> Server:
    """Start a server and return when it answers.

    `roots` are the folders to try for its data, fastest first. Raises EnvironmentUnavailable with the end of
    the server's log; by then nothing of it is left.
    """
    runs_as = select_privilege(privilege, installation.postgres)
    folder = cache_folder() if cache is None else private_folder(cache)
    where = default_roots() if roots is None else roots
    image = obtain_image(installation, folder=folder, privilege=runs_as, roots=where)
    try:
        return _on_first_place(installation, image, runs_as, where, tcp)
    except _NotStartedError as error:
        if not image.was_cached:
            raise _failure(installation, error) from None
    # The cached image may be damaged in a way that its size does not show: build it once more.
    image.discard()
    image = obtain_image(installation, folder=folder, privilege=runs_as, roots=where)
    try:
        return _on_first_place(installation, image, runs_as, where, tcp)
    except _NotStartedError as error:
        raise _failure(installation, error) from None


def _failure(installation: Installation, error: _NotStartedError) -> EnvironmentUnavailable:
    return EnvironmentUnavailable(
        f"{installation.postgres} did not start: {error}",
        hint="Set JOB_HARNESS_DSN to a database that is already running, or repair this installation.",
    )


def _on_first_place(
    installation: Installation, image: Image, privilege: Privilege, roots: tuple[Path, ...], tcp: bool
) -> Server:
    passed_over: list[str] = []
    for place in places(roots, needed_bytes=image.size_bytes, privilege=privilege, passed_over=passed_over):
        try:
            return _start(installation, image, privilege, place, tcp, passed_over)
        except _NotStartedError as error:
            if "No space left on device" not in str(error):
                raise
            passed_over.append(f"{place.parent} ran full")
    raise AssertionError("places() either yields or raises")


def _start(
    installation: Installation,
    image: Image,
    privilege: Privilege,
    place: Path,
    tcp: bool,
    passed_over: list[str],
) -> Server:
    port = _free_port() if tcp else None
    arguments = _arguments(image, place, port)
    try:
        with image.path.open("rb") as channel:
            supervised = Supervised(
                ["/bin/sh", "-c", _START, "postgres", str(place), str(installation.postgres), *arguments],
                folder=place,
                privilege=privilege,
                channel=channel,
                gently="QUIT",
            )
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    try:
        name = SOCKET_NAME if port is None else f".s.PGSQL.{port}"
        _wait_until_it_answers(supervised, place / name)
        return Server(
            supervised,
            socket_folder=place,
            major_version=image.major_version,
            image_was_cached=image.was_cached,
            privilege=privilege.name,
            port=port,
            password=secrets.token_hex(16) if tcp else None,
            passed_over=tuple(passed_over),
        )
    except BaseException:
        supervised.stop()
        raise


def _arguments(image: Image, place: Path, port: int | None) -> list[str]:
    settings = SETTINGS | {
        "unix_socket_directories": str(place),
        "listen_addresses": "" if port is None else "127.0.0.1",
    }
    if image.major_version >= 18:
        settings["io_method"] = "sync"  # no worker processes to start
    arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [*arguments, "-p", str(port or 5432), "-D", str(place / "d")]


def _wait_until_it_answers(supervised: Supervised, path: Path) -> None:
    deadline = Deadline(START_SECONDS)
    while not answers(path):
        if supervised.ended:
            raise _NotStartedError(supervised.log_tail() or "it said nothing")
        if deadline.passed:
            raise _NotStartedError(f"no answer within {START_SECONDS} s; {supervised.log_tail()}")
        deadline.pause()


def answers(path: Path) -> bool:
    """Whether the server at this socket takes sessions.

    Speaks the first message of the protocol itself: the answer is `R` (authentication) once it is ready and
    `E` (starting up) before. No driver has to be imported, which takes longer than the server needs to start.
    """
    body = b"\x00\x03\x00\x00" + b"user\x00postgres\x00database\x00postgres\x00\x00"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(START_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall((len(body) + 4).to_bytes(4, "big") + body)
            if connection.recv(1) != b"R":
                return False
            connection.sendall(b"X\x00\x00\x00\x04")
        except OSError:
            return False
    return True


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
