"""The clock of a world of processes: a supervisor, compiled on first use, and a thin driver of it.

The supervisor owns the time, the chance and the order of whatever it starts, in any language, with nothing loaded into
it (docs/contracts/supervisor.md). Must not know: queues, engines, what the processes are for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self
from urllib.parse import quote

from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.worlds.packages import installed, run

SOURCES: Final = Path(__file__).parent
MACHINES: Final = ("x86_64", "aarch64")
COMPILERS: Final = ("cc", "gcc", "clang")
COMPILE_SECONDS: Final = 120
PROGRAM: Final = "supervisor"
ALLOW_PTRACE: Final = (
    "In a container, allow ptrace: `docker run --cap-add SYS_PTRACE`, or the capability SYS_PTRACE in the container's "
    "securityContext; on a machine of your own, `sysctl kernel.yama.ptrace_scope=1` or less."
)


def build() -> Path:
    """Return the supervisor's program, compiled where it is missing.

    Raises EnvironmentUnavailable where the machine is not Linux on a known processor, and where no compiler is found.
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
    """Return the command of a C compiler. Raises EnvironmentUnavailable where there is none."""
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


class ClockedTree:
    """A world of processes whose time moves only when told to.

    Times are milliseconds since 1970 with decimals, as in the peer protocol. Between calls the world stands still.
    """

    def __init__(self, *, seed: int = 0, start: float | None = None, options: Sequence[str] = ()) -> None:
        """Start an empty world; `start` is its first moment. Raises EnvironmentUnavailable where that cannot be."""
        begin = () if start is None else ("--start", str(int(start)))
        read, told = os.pipe()
        heard, write = os.pipe()
        command = [str(build()), "--seed", str(seed), *begin, *options, "--control", f"{read},{write}"]
        self._process = subprocess.Popen(command, pass_fds=(read, write), stdin=subprocess.DEVNULL)
        os.close(read)
        os.close(write)
        self._to: IO[bytes] = os.fdopen(told, "wb", buffering=0)
        self._from: IO[bytes] = os.fdopen(heard, "rb")
        self._turn = 0
        self.exits: dict[int, int] = {}
        """The exit codes of the processes that have ended, by number; 128 and above for a signal."""
        self.now: float = 0.0
        self.next: float | None = None
        """When the next timer is due."""
        self._hear()

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
        self._from.close()

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        output: Path | None = None,
    ) -> int:
        """Start a program and run the world to rest; return the number of its process."""
        wanted = [("arg", part) for part in argv]
        wanted += [("env", f"{name}={value}") for name, value in (env or {}).items()]
        wanted += [(name, str(path)) for name, path in (("cwd", cwd), ("output", output)) if path is not None]
        return int(self._tell("go", "start", *wanted)["value"]["process"])

    def choose(self, *choices: int) -> None:
        """Say who of several goes next, at the coming choices: 0 for who came first, as without a word."""
        self._tell("go", "tape", *(("choice", choice) for choice in choices))

    def run(self) -> None:
        """Run the world to rest without moving its time: what came from outside is handled."""
        self._tell("go", "run")

    def move(self, until: float, *, one: bool = False) -> None:
        """Let time pass until then: everything that is due happens, in order. With `one`, only the next timer fires."""
        self._tell("time", f"now={until:.6f}", *([("one", 1)] if one else []))

    def signal(self, process: int, number: int) -> None:
        """Send a signal."""
        self._tell("go", "signal", ("process", process), ("signal", number))

    def kill(self, process: int) -> None:
        """Kill a process at once; what it has started lives on."""
        self._tell("go", "kill", ("process", process))

    def sever(self, process: int) -> None:
        """Kill a process and everything that it has started."""
        self._tell("sever", f"process={process}")

    def pause(self, process: int) -> None:
        """Give a process no turn until `resume`; time goes on without it."""
        self._tell("go", "stop", ("process", process))

    def resume(self, process: int) -> None:
        """Let a paused process go on."""
        self._tell("go", "continue", ("process", process))

    def shift(self, process: int, *, offset: float = 0.0, drift: float = 0.0) -> None:
        """Set one process's wall clock off by milliseconds, and let both of its clocks drift by parts per million."""
        self._tell("go", "clock", ("process", process), ("offset", offset), ("drift", drift))

    def step_wall(self, by: float) -> None:
        """Step the wall clock of all by milliseconds; the monotonic clock goes on."""
        self._tell("go", "wall", ("step", by))

    def _tell(self, kind: str, what: str, *more: tuple[str, object]) -> dict[str, Any]:
        self._turn += 1
        words = [kind, str(self._turn), what, *(f"{name}={quote(str(value), safe='=/')}" for name, value in more)]
        try:
            self._to.write(" ".join(words).encode() + b"\n")
        except BrokenPipeError:
            raise self._lost() from None
        while "idle" not in (report := self._hear()) or report.get("io"):
            pass
        if "refused" in report:
            raise UsageError(f"the clock refused {' '.join(words)[:200]}: {report['refused']}")
        self.now, self.next = report["now"], report["next"]
        return report

    def _hear(self) -> dict[str, Any]:
        line = self._from.readline()
        if not line:
            raise self._lost()
        report: dict[str, Any] = json.loads(line)
        if report.get("effect") == "exit":
            self.exits[int(report["actor"])] = report["data"]["code"]
        return report

    def _lost(self) -> EnvironmentUnavailable:
        return EnvironmentUnavailable(
            f"the clock's supervisor ended with code {self._process.wait()}", hint=ALLOW_PTRACE
        )
