"""The clock of a world of processes: a supervisor, compiled on first use, and a thin driver of it.

The supervisor owns the time, the chance and the order of whatever it starts, in any language, with
nothing loaded into it (docs/contracts/supervisor.md). Must not know: queues, engines, what the
processes are for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NamedTuple, Self
from urllib.parse import quote

from job_harness.errors import EnvironmentUnavailable, HarnessError, NothingToJudge, UsageError
from job_harness.worlds.packages import installed, run
from job_harness.worlds.patience import Deadline

SOURCES: Final = Path(__file__).parent
MACHINES: Final = ("x86_64", "aarch64")
COMPILERS: Final = ("cc", "gcc", "clang")
COMPILE_SECONDS: Final = 120
PROGRAM: Final = "supervisor"
ALLOW_PTRACE: Final = (
    "In a container, allow ptrace and namespaces: `docker run --cap-add SYS_PTRACE --cap-add SYS_ADMIN`, or these "
    "capabilities in the container's securityContext; on a machine of your own, `sysctl kernel.yama.ptrace_scope=1` or "
    "less, and `sysctl kernel.unprivileged_userns_clone=1` where there is such a setting."
)


def build() -> Path:
    """Return the supervisor's program, compiled where it is missing.

    Raises EnvironmentUnavailable where the machine is not Linux on a known processor, and where no
    compiler is found.
    """
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in MACHINES:
        raise EnvironmentUnavailable(
            f"the clock of processes needs Linux on {' or '.join(MACHINES)}; this is {sys.platform} on {machine}"
        )
    sources = sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")])
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    return installed("clock", f"{PROGRAM}-{machine}-{digest}", _compile) / PROGRAM


def compiler() -> list[str]:
    """Return the command of a C compiler. Raises EnvironmentUnavailable if there is none."""
    for name in COMPILERS:
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise EnvironmentUnavailable(
        f"no C compiler is on the PATH: tried {', '.join(COMPILERS)} and the package ziglang",
        hint="Install one (Debian: `apt install gcc libc6-dev`), or `pip install ziglang`.",
    )


def _compile(folder: Path) -> None:
    command = [*compiler(), "-O1", "-o", str(folder / PROGRAM), str(SOURCES / f"{PROGRAM}.c")]
    run(
        command,
        seconds=COMPILE_SECONDS,
        what="compile the clock's supervisor",
        hint="Is the C library's development package there?",
    )


def prospect(*, really: bool = False) -> str:
    """Say by what the supervisor is compiled, and with `really` also try whether it can work.

    Raises EnvironmentUnavailable with what is lacking, and how to get it.
    """
    told = f"compiled by {' '.join(compiler())}"
    if not really:
        return f"{told}; `--try` says whether ptrace and namespaces are allowed"
    ClockedTree(options=("--own-net",)).close()
    return f"{told}; ptrace and namespaces are allowed"


class HeldSleep(NamedTuple):
    """A thread that sleeps until the driver says so."""

    process: int
    """What the driver started, whose descendant's it is."""
    wait: int
    """The number of the wait; it has another one each time."""
    until: float
    asked: float
    """For how many milliseconds."""


class ClockedTree:
    """A world of processes whose time moves only when told to.

    Times are milliseconds since 1970 with decimals, as in the peer protocol. Between calls the
    world stands still.
    """

    def __init__(
        self, *, seed: int = 0, start: float | None = None, options: Sequence[str] = (), patience: float = 600.0
    ) -> None:
        """Start an empty world; `start` is its first moment, and a turn may take `patience` real seconds.

        Raises EnvironmentUnavailable where it cannot be started.
        """
        self._patience = patience
        begin = () if start is None else ("--start", str(int(start)))
        read, told = os.pipe()
        heard, write = os.pipe()
        self._sockets, theirs = socket.socketpair()
        self.watched = select.epoll()
        """Where the driver waits for what processes say: time does not move while something is there."""
        passed = (read, write, theirs.fileno(), self.watched.fileno())
        command = [str(build()), "--seed", str(seed), *begin, *options, "--control", f"{read},{write}"]
        command += ["--sockets", str(theirs.fileno()), "--watch", str(self.watched.fileno())]
        self._processors = _share_processor()
        self._process = subprocess.Popen(command, pass_fds=passed, stdin=subprocess.DEVNULL)
        os.close(read)
        os.close(write)
        theirs.close()
        self._to: IO[bytes] = os.fdopen(told, "wb", buffering=0)
        self._from: IO[bytes] = os.fdopen(heard, "rb")
        self._turn = 0
        self._over: HarnessError | None = None
        """Why the world has ended before `close`: so says whatever is asked of it later."""
        self.exits: dict[int, int] = {}
        """The exit codes of the processes that have ended, by number; 128 and above for a signal."""
        self.now: float = 0.0
        self.next: float | None = None
        """When the next timer is due."""
        self.moment = 0
        """The time in whole microseconds since 1970: the first that is not before it."""
        self.due: int | None = None
        """When the next timer is due, in the same way."""
        self.sleeps: tuple[HeldSleep, ...] = ()
        """With the option `--hold-sleeps`: who sleeps until `fire`."""
        self.touched = True
        """Whether something may have reached it since time was moved last; who sends it something says so."""
        self.pids: dict[int, int] = {}
        """By number, the process ids as the processes themselves see them."""
        self.spinning = 0
        """The number of a process that has computed without a call while others wait: it does so for no set time."""
        try:
            self._hear()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the world and every process in it."""
        self._to.close()
        self._process.wait()
        os.sched_setaffinity(0, self._processors)
        self._from.close()
        self._sockets.close()
        self.watched.close()

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        output: Path | None = None,
        seed: str = "",
    ) -> int:
        """Start a program and run the world to rest; return the number of its process."""
        wanted = _wanted(argv, env=env or {}, cwd=cwd, output=output)
        return self._started(self._tell("go", "start", *wanted, ("seed", seed)))

    def prepare(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, output: Path | None = None
    ) -> int | None:
        """Start a program that stops for good before it first speaks to others, so that `fork` goes on from there.

        None: it cannot be forked, for it has threads, children or open files by then. Call it
        before `reset`.
        """
        place = -1
        while place:
            wanted = [*_wanted(argv, env=env, cwd=cwd, output=output), ("template", place)]
            report = self._tell("go", "start", *wanted)
            number = self._started(report)
            if report["forks"]:
                return number
            self.sever(number)
            place = int(report["reached"]) if place < 0 else 0
        return None

    def fork(self, template: int, *, seed: str = "") -> int:
        """Start a process where a template stopped. Raises UsageError where it did not."""
        return self._started(self._tell("go", "fork", ("process", template), ("seed", seed)))

    def _started(self, report: dict[str, Any]) -> int:
        number = int(report["value"]["process"])
        self.pids[number] = int(report["value"]["pid"])
        return number

    def reset(self, start: float) -> None:
        """End everything but templates, and let the world begin anew at this moment."""
        self.exits.clear()
        self._tell("go", "reset", ("start", int(start)))

    def fire(self, wait: int) -> None:
        """Let a sleep that is held back end now."""
        self._tell("go", "fire", ("wait", wait))

    def listen(self, port: int, *, address: str = "127.0.0.1", datagrams: bool = False) -> socket.socket:
        """Return a socket that listens in the world's own network (the option `--own-net`)."""
        where = int.from_bytes(socket.inet_aton(address), "big")
        return self._socket("listen", ("port", port), ("address", where), ("udp", int(datagrams)))

    def connect(self, port: int) -> socket.socket:
        """Return a connection to what listens in the world's own network. Raises OSError where nothing does."""
        return self._socket("connect", ("port", port))

    def _socket(self, what: str, *more: tuple[str, object]) -> socket.socket:
        try:
            self._tell("go", what, *more)
        except UsageError as error:
            raise ConnectionRefusedError(error.message) from None
        _, descriptors, _, _ = socket.recv_fds(self._sockets, 1, 1)
        return socket.socket(fileno=descriptors[0])

    def choose(self, *choices: int) -> None:
        """Say who of several goes next, at the coming choices: 0 for who came first, as without a word."""
        self._tell("go", "tape", *(("choice", choice) for choice in choices))

    def run(self) -> None:
        """Run the world to rest without moving its time: what came from outside is handled."""
        self._tell("go", "run")

    def move(self, until: float, *, one: bool = False) -> None:
        """Let time pass until then: everything that is due happens, in order. With `one`, only the next timer fires."""
        self._tell("time", f"now={until:.6f}", *([("one", 1)] if one else []))

    def move_to(self, moment: int) -> None:
        """Let time pass until a whole microsecond since 1970, or until what is watched can be read.

        Nothing is asked of a world that is at rest then, and was left alone since.
        """
        if self.touched or self.spinning or moment > self.moment or (self.due is not None and self.due <= moment):
            self._tell("time", f"us={moment}")
            self.touched = False

    def signal(self, process: int, number: int) -> None:
        """Send a signal; a process that has ended gets none."""
        if process not in self.exits:
            self._tell("go", "signal", ("process", process), ("signal", number))

    def kill(self, process: int) -> None:
        """Kill a process at once; what it has started lives on."""
        self._tell("go", "kill", ("process", process))

    def sever(self, process: int) -> None:
        """Kill a process and everything that it has started. Where the world has ended, nothing of it is left."""
        with suppress(NothingToJudge, EnvironmentUnavailable):
            self._tell("sever", f"process={process}")

    def pause(self, process: int) -> None:
        """Give a process no turn until `resume`; time goes on without it."""
        self._tell("go", "stop", ("process", process))

    def resume(self, process: int) -> None:
        """Let a paused process go on."""
        self._tell("go", "continue", ("process", process))

    def shift(self, process: int, *, offset: float = 0.0, drift: float = 0.0) -> None:
        """Set one process's wall clock off by milliseconds, and let both of its clocks drift by parts per million.

        Does nothing to a process that has ended.
        """
        if process not in self.exits:
            self._tell("go", "clock", ("process", process), ("offset", offset), ("drift", drift))

    def step_wall(self, by: float) -> None:
        """Step the wall clock of all by milliseconds; the monotonic clock goes on."""
        self._tell("go", "wall", ("step", by))

    def _tell(self, kind: str, what: str, *more: tuple[str, object]) -> dict[str, Any]:
        if self._over is not None:
            raise self._over
        self._turn += 1
        self.spinning, self.touched = 0, True
        words = [kind, str(self._turn), what, *(f"{name}={quote(str(value), safe='=/')}" for name, value in more)]
        try:
            self._to.write(" ".join(words).encode() + b"\n")
        except BrokenPipeError:
            raise self._lost() from None
        deadline = Deadline(self._patience)
        while "idle" not in (report := self._hear()) or report.get("io"):
            if report.get("io") and deadline.passed:
                self._process.kill()
                self.spinning = int(report["root"])
                self._over = NothingToJudge(
                    f"{report['io'][0]} did not come to rest within {self._patience:g} real seconds"
                )
                raise self._over
        if "refused" in report:
            raise UsageError(f"the clock refused {' '.join(words)[:200]}: {report['refused']}")
        self.now, self.next = report["now"], report["next"]
        self.moment, self.due = report["moment"], report["due"]
        self.sleeps = tuple(HeldSleep(*each) for each in report["sleeps"])
        return report

    def _hear(self) -> dict[str, Any]:
        line = self._from.readline()
        if not line:
            raise self._lost()
        report: dict[str, Any] = json.loads(line)
        if told := report.get("fatal"):
            if told.startswith("more than"):  # Processes, threads, timers: the program makes them without end.
                self._over = NothingToJudge(told)
            else:
                self._over = EnvironmentUnavailable(
                    f"the clock of processes cannot work here: {told}", hint=ALLOW_PTRACE
                )
            raise self._over
        if report.get("effect") == "exit":
            self.exits[int(report["actor"])] = report["data"]["code"]
        elif report.get("effect") == "spinning":
            self.spinning = int(report["actor"])
        return report

    def _lost(self) -> HarnessError:
        self._over = EnvironmentUnavailable(
            f"the clock's supervisor ended with code {self._process.wait()}", hint=ALLOW_PTRACE
        )
        return self._over


def _share_processor() -> set[int]:
    """Stay on the processor on which this thread runs, as the tree will; return those on which it might run.

    What is sent over loopback waits in a queue of the sender's processor. With one queue, a packet
    of the supervisor's own that has arrived says that all that the driver has sent before has
    arrived, too.
    """
    usual = os.sched_getaffinity(0)
    own = int(Path("/proc/thread-self/stat").read_text().rpartition(") ")[2].split()[36])
    os.sched_setaffinity(0, {own if own in usual else min(usual)})
    return usual


def _wanted(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, output: Path | None
) -> list[tuple[str, object]]:
    wanted: list[tuple[str, object]] = [("arg", part) for part in argv]
    wanted += [("env", f"{name}={value}") for name, value in env.items()]
    return wanted + [(name, path) for name, path in (("cwd", cwd), ("output", output)) if path is not None]
