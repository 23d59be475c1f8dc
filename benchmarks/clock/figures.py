"""Measures what the clock of processes costs and what it contains; writes `benchmarks/results/clock.md`: `make clock`.

Speed: CPU against the aim of each row. Containment: hostile programs, each with what was said of it, how long that took
and what was left of it. A part can be measured alone; the page keeps the others as they were. Usage: --help
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]  # a script runs from a checkout

from benchmarks.clock.gate import PROGRAMS, Missing, c_program, cluster, need  # noqa: E402 - the path comes first
from benchmarks.systems import clocks  # noqa: E402

from job_harness.worlds.clock import build  # noqa: E402

PAGE: Final = ROOT / "benchmarks/results/clock.md"
LIMIT_SECONDS: Final = 900
HOUR: Final = 3600


class Ended(NamedTuple):
    """What one command came to."""

    code: int
    said: str
    real: float
    stats: dict[str, float]
    memory: int
    """MB that the supervisor had at most."""

    @property
    def cpu(self) -> float:
        return self.stats.get("program_cpu", 0.0) + self.stats.get("supervisor_cpu", 0.0)


def environment(folder: Path) -> dict[str, str]:
    """Return what a program finds, and is known by."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), MARK: str(folder)}


def supervised(command: list[str], folder: Path, *, limit: int = LIMIT_SECONDS) -> Ended:
    """Run a command under the supervisor."""
    began = time.monotonic()
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(
            [str(build()), "--seed", "7", "--stats", "--limit", str(limit), "--", *command],
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=folder,
            env=environment(folder),
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().splitlines()
    stats = json.loads(lines.pop()) if lines and lines[-1].startswith('{"clock"') else {}
    words = lines[-1] if lines else ""
    return Ended(process.returncode, words, time.monotonic() - began, stats, usage.ru_maxrss >> 10)


# speed ----------------------------------------------------------------------------------------------------------------


class Figure(NamedTuple):
    """One row of the table of speed."""

    what: str
    aim: float
    unit: str
    measure: Callable[[Path], float]


def start(command: str, *arguments: str) -> Callable[[Path], float]:
    """Return what measures the milliseconds of CPU by which a start costs more under the supervisor."""

    def measure(folder: Path) -> float:
        argv = [need(command), *arguments]
        alone, one = [], str(min(os.sched_getaffinity(0)))  # as under the supervisor
        for _ in range(9):
            process = subprocess.Popen(
                ["taskset", "-c", one, *argv], stdout=subprocess.DEVNULL, env=environment(folder)
            )
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
            alone.append(usage.ru_utime + usage.ru_stime)
        return (statistics.median(supervised(argv, folder).cpu for _ in range(9)) - statistics.median(alone)) * 1000

    return measure


def idle(server: Callable[[Path], list[str]]) -> Callable[[Path], float]:
    """Return what measures the CPU of a server's idle virtual hour."""

    def measure(folder: Path) -> float:
        spent = []
        for seconds in (0, HOUR):
            command = server(folder)
            ended = supervised([sys.executable, str(PROGRAMS / "idle.py"), str(seconds), *command], folder)
            if ended.code:
                raise Missing(f"exit code {ended.code}: {ended.said}")
            spent.append(ended.cpu)
        return spent[1] - spent[0]

    return measure


def postgres(folder: Path) -> list[str]:
    data, _, user = cluster(folder) if not (folder / "template").exists() else (str(folder / "data"), "", "postgres")
    shutil.rmtree(data, ignore_errors=True)
    subprocess.run(["cp", "-a", str(folder / "template"), data], check=True)
    as_user = ["setpriv", f"--reuid={user}", "--clear-groups"] if os.geteuid() == 0 else []
    return [*as_user, need("postgres"), "-D", data, "-k", str(folder), "-c", "listen_addresses="]


def valkey(*options: str) -> Callable[[Path], list[str]]:
    def server(folder: Path) -> list[str]:
        program = shutil.which("valkey-server") or need("redis-server")
        return [program, "--port", "56379", "--save", "", "--dir", str(folder), *options]

    return server


QUIET: Final = (
    "+S 1:1 +SDcpu 1:1 +SDio 1 +A 1 +sbwt none +sbwtdcpu none +sbwtdio none -aten heartbeat_interval 3600000 "
    "-aten poll_interval 3600000 -ra tick_timeout 3600000 -eval spawn(fun()->rabbit:await_startup(),"
    "rabbit_disk_monitor:set_enabled(false),vm_memory_monitor:set_check_interval(86400000)end)."
)
"""One scheduler, no busy waiting, no watch over the disk, over memory and over other nodes."""


def rabbitmq(folder: Path) -> list[str]:
    server = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    if not server.exists():
        raise Missing("rabbitmq-server is not installed")
    shutil.rmtree(folder / "rabbit", ignore_errors=True)
    (folder / "rabbit").mkdir()
    settings = {
        "MNESIA_BASE": "db",
        "LOG_BASE": "log",
        "PID_FILE": "pid",
        "ENABLED_PLUGINS_FILE": "plugins",
        "FEATURE_FLAGS_FILE": "flags",
    }
    told = [f"RABBITMQ_{name}={folder}/rabbit/{value}" for name, value in settings.items()]
    told += ["RABBITMQ_NODENAME=clock@localhost", "RABBITMQ_NODE_PORT=56720", "RABBITMQ_DIST_PORT=56721"]
    return ["env", *told, "ERL_EPMD_PORT=4377", f"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS={QUIET}", str(server)]


def crowd(folder: Path) -> Ended:
    return supervised(c_program("crowd")(folder), folder)


def stop_cost(folder: Path) -> float:
    ended = crowd(folder)
    return ended.stats["supervisor_cpu"] / ended.stats["stops"] * 1e6


def example(name: str, way: str) -> Callable[[Path], float]:
    return lambda folder: statistics.median(clocks.seconds(name, (way,), runs=3)[way])


SPEED: Final = (
    Figure("a start of Python, more than alone", 15, "ms", start(sys.executable, "-I", "-c", "import asyncio")),
    Figure("a start of Node, more than alone", 15, "ms", start("node", "-e", "0")),
    Figure("a stop, with 500 threads in 20 processes and ten virtual hours", 20, "µs", stop_cost),
    Figure("memory of the supervisor in that run", 64, "MB", lambda folder: crowd(folder).memory),
    Figure("an idle virtual hour of PostgreSQL", 0.5, "s", idle(postgres)),
    Figure("an idle virtual hour of Valkey or Redis, ten ticks a second", 0.5, "s", idle(valkey())),
    Figure("the same with `hz 1`", 0.5, "s", idle(valkey("--hz", "1"))),
    Figure("an idle virtual hour of RabbitMQ, its watches switched off", 2, "s", idle(rabbitmq)),
    Figure("a run of python-app, supervisor", 0.5, "s", example("python-app", "supervisor")),
    Figure("a run of python-app, inside", 0.5, "s", example("python-app", "inside")),
    Figure("a run of guide-app, inside", 1.3, "s", example("guide-app", "inside")),
    Figure("a run of guide-app, supervisor", 1.3, "s", example("guide-app", "supervisor")),
)


def speed(figure: Figure) -> str:
    """Measure one row."""
    with scratch() as folder:
        try:
            value = figure.measure(folder)
        except Missing as why:
            return f"| {figure.what} | {figure.aim:g} {figure.unit} | not measured: {why} | - |"
    met = "yes" if value <= figure.aim else "no"
    return f"| {figure.what} | {figure.aim:g} {figure.unit} | {value:.3g} {figure.unit} | {met} |"


# containment ----------------------------------------------------------------------------------------------------------

MARK: Final = "CLOCK_FIGURES_MARK"
PYTHON: Final = os.path.realpath(sys.executable)


def script(text: str) -> Callable[[Path], list[str]]:
    return lambda folder: [PYTHON, "-c", text]


def setuid(folder: Path) -> list[str]:
    """Return a command that has another user run a program which would be root's."""
    if os.geteuid():
        raise Missing("only root can make such a program")
    shutil.copy(need("id"), folder / "id")
    (folder / "id").chmod(0o4755)
    return ["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", "test $(./id -u) = 65534 && exit 9"]


HOSTILE: Final = {
    "computes for ever": (script("while True: pass"), "is ended at the limit, named"),
    "never rests: gives way for ever": (script("import os\nwhile True: os.sched_yield()"), "the same"),
    "forks for ever": (script("import os\nwhile True: os.fork()"), "is ended, named"),
    "starts threads for ever": (
        script("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9e5,)).start()"),
        "is ended, named",
    ),
    "exits": (script("raise SystemExit(7)"), "its exit code, 7"),
    "prints without end": (script("while True: print('x' * 100_000)"), "is ended at the limit, named"),
    "opens 1 000 connections": (
        script(
            "import resource, socket\nmost = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))\n"
            "server = socket.create_server(('127.0.0.1', 0), backlog=1000)\n"
            "kept = [socket.create_connection(server.getsockname()) for _ in range(1000)]\n"
            "assert len([server.accept() for _ in kept]) == 1000"
        ),
        "runs",
    ),
    "wants to be traced": (
        script("import ctypes, sys\nsys.exit(4 if ctypes.CDLL(None).ptrace(0, 0, 0, 0) == -1 else 0)"),
        "is refused (4)",
    ),
    "has a seccomp filter of its own": (
        script("import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.prctl(22, 1, 0, 0, 0) in (0, -1)"),
        "is refused, and goes on",
    ),
    "is setuid": (setuid, "runs without its privileges (9)"),
    "needs a terminal": (script("open('/dev/tty')"), "gets none (1)"),
    "leaves a daemon": (
        script(
            "import os, time\nif not os.fork():\n os.setsid()\n"
            " if not os.fork(): time.sleep(9e5)\n os._exit(0)\nos.wait()"
        ),
        "nothing of it is left",
    ),
}


def contained(name: str, make: Callable[[Path], list[str]], expected: str) -> str:
    """Run a hostile program, and look what is left of it."""
    with scratch() as folder:
        try:
            ended = supervised(make(folder), folder, limit=10)
        except Missing as why:
            return f"| {name} | {expected} | not tried: {why} | - | - |"
        left = sum(f"{MARK}={folder}".encode() in _environment(path) for path in Path("/proc").glob("[0-9]*/environ"))
    said = re.sub(r"\s+", " ", ended.said.replace("|", "/"))[:160]
    return f"| {name} | {expected} | {ended.code}{': ' if said else ''}{said} | {ended.real:.1f} | {left} |"


def _environment(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# the page -------------------------------------------------------------------------------------------------------------


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that other users can enter, too."""
    with tempfile.TemporaryDirectory(prefix="clock-figures-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


HEADS: Final = {
    "speed": ("what", "aim", "measured", "met"),
    "containment": ("a program that", "expected", "exit code, and what is said", "real s", "left"),
}


def rows(part: str, only: str) -> Iterator[str]:
    """Measure the rows of a part whose name contains a word."""
    if part == "speed":
        yield from (speed(figure) for figure in SPEED if only in figure.what)
    else:
        yield from (contained(name, *about) for name, about in HOSTILE.items() if only in name)


def main() -> int:
    """Measure, and put each row on the page."""
    parser = argparse.ArgumentParser(prog="make clock", description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=HEADS, help="measure only this part")
    parser.add_argument("--only", default="", help="measure only rows whose name contains this; the others stay")
    arguments = parser.parse_args()
    for part in HEADS if arguments.part is None else (arguments.part,):
        for line in rows(part, arguments.only):
            told = f"{line} {os.getloadavg()[0]:.0f} | {datetime.now(UTC):%Y-%m-%d} |"
            print(told, flush=True)
            keep(part, told)
    return 0


def name_of(line: str) -> str:
    """Return the first cell of a row."""
    return line.split(" | ")[0].removeprefix("| ")


def keep(part: str, line: str) -> None:
    """Put a row in its place on the page; the others stay as they were measured last."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- measured: {part} -->\n", f"<!-- end of {part} -->"
    before, _, rest = text.partition(begin)
    known, _, after = rest.partition(end)
    told = {name_of(each): each for each in known.splitlines() if each.startswith("| ")} | {name_of(line): line}
    order = [figure.what for figure in SPEED] if part == "speed" else list(HOSTILE)
    head = (*HEADS[part], "load", "date")
    table = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(told[name] for name in order if name in told)]
    PAGE.write_text(before + begin + "\n".join(table) + "\n" + end + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
