"""The gate of the clock: unmodified programs print the same bytes in every run, at two loads, and time passes as asked.

`python benchmarks/clock/gate.py --runs 20` prints the table of docs/contracts/supervisor.md. A program whose runtime is
not installed is left out, and the table says why. The loaded half runs beside three busy loops that end by themselves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
AGREEMENT = re.compile(r"asked ([0-9.]+) passed ([0-9.]+)")
TOLERANCE_SECONDS = 0.025  # Go's own watch takes a processor back from a call that blocks after 20 ms.
BUSY_SECONDS = 600


class Missing(Exception):
    """What a program needs is not installed."""


@dataclass(frozen=True)
class Program:
    name: str
    prepare: Callable[[Path], list[str]]
    """Build what it needs in a scratch folder; return its command."""
    before: Callable[[Path], None] = lambda folder: None
    """Put the folder back before each run."""


@dataclass
class Result:
    outputs: Counter[str] = field(default_factory=Counter)
    stats: list[dict[str, Any]] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def same(self) -> int:
        return self.outputs.most_common(1)[0][1] if self.outputs else 0

    def median(self, key: str) -> float:
        return statistics.median(each[key] for each in self.stats) if self.stats else float("nan")


def need(command: str) -> str:
    found = shutil.which(command)
    if not found:
        raise Missing(f"{command} is not installed")
    return found


def script(command: str, file: str) -> Callable[[Path], list[str]]:
    return lambda folder: [need(command), str(PROGRAMS / file)]


def python(file: str) -> Callable[[Path], list[str]]:
    return lambda folder: [os.path.realpath(sys.executable), str(PROGRAMS / file)]


def built(*command: str, run: list[str]) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        need(command[0])
        parts = [part.format(programs=PROGRAMS, folder=folder) for part in command]
        subprocess.run(parts, check=True, env=os.environ | {"CGO_ENABLED": "0"})
        return [part.format(folder=folder) for part in run]

    return prepare


def c_program(name: str) -> Callable[[Path], list[str]]:
    where = "{folder}/" + name
    return built("gcc", "-O1", "-o", where, "{programs}/" + name + ".c", "-lpthread", run=[where])


def with_package(package: str, file: str) -> Callable[[Path], list[str]]:
    """A Python program that imports a package, which is installed beside it."""

    def prepare(folder: Path) -> list[str]:
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        if subprocess.run([folder / "venv/bin/pip", "install", "--quiet", package], check=False).returncode:
            raise Missing(f"pip install {package} failed")
        return [str(folder / "venv/bin/python"), str(PROGRAMS / file)]

    return prepare


def broker(folder: Path) -> list[str]:
    server = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    if not server.exists():
        raise Missing("rabbitmq-server is not installed")
    return [*with_package("pika", "broker.py")(folder), str(folder), str(server)]


def database(folder: Path) -> list[str]:
    return [sys.executable, str(PROGRAMS / "database.py"), *cluster(folder)]


def system(folder: Path) -> list[str]:
    application = HERE.parents[1] / "examples" / "python-app"
    return [sys.executable, str(PROGRAMS / "system.py"), *cluster(folder), str(application)]


def cluster(folder: Path) -> list[str]:
    need("postgres"), need("initdb")
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise Missing("psycopg is not installed") from error
    user = "postgres" if os.geteuid() == 0 else os.environ.get("USER", "postgres")
    as_user = ["setpriv", f"--reuid={user}", "--clear-groups"] if os.geteuid() == 0 else []
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    template = folder / "template"
    subprocess.run(
        [*as_user, "initdb", "-D", str(template), "-A", "trust", "-U", user],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    return [str(folder / "data"), str(folder), user]


def fresh_database(folder: Path) -> None:
    shutil.rmtree(folder / "data", ignore_errors=True)
    subprocess.run(["cp", "-a", str(folder / "template"), str(folder / "data")], check=True)


def queue(folder: Path) -> list[str]:
    server = shutil.which("valkey-server") or shutil.which("redis-server")
    if not server:
        raise Missing("neither valkey-server nor redis-server is installed")
    need("npm")
    (folder / "package.json").write_text("{}")
    if subprocess.run(["npm", "install", "--silent", "bullmq@5"], cwd=folder, check=False).returncode:
        raise Missing("npm install bullmq failed")
    return [need("node"), str(PROGRAMS / "queue.mjs"), str(folder), server]


def everything(*prepare: tuple[str, Callable[[Path], list[str]]]) -> Iterator[Program]:
    """Each language alone and with four threads, each with every clock, sleep, timer and source of chance."""
    for language, build in prepare:
        yield Program(f"{language}, everything", build)
        yield Program(f"{language}, everything, four threads", lambda folder, build=build: [*build(folder), "threads"])


CATALOGUE = (
    *everything(
        ("C", c_program("everything")),
        ("Python", python("everything.py")),
        ("Node", script("node", "everything.mjs")),
        ("Go", built("go", "build", "-o", "{folder}/it", "{programs}/everything.go", run=["{folder}/it"])),
        ("Ruby", script("ruby", "everything.rb")),
        (
            "Java",
            built(
                "javac", "-d", "{folder}", "{programs}/Everything.java", run=["java", "-cp", "{folder}", "Everything"]
            ),
        ),
    ),
    Program("C, every wait and timer", c_program("waits")),
    Program("C, 100 000 stops", c_program("stops")),
    Program("C, 500 threads in 20 processes", c_program("crowd")),
    Program("Python, threads", python("threads.py")),
    Program("Python, asyncio", python("loops.py")),
    Program("Python, uvloop", with_package("uvloop", "native_loop.py")),
    Program("Python, unread bytes", python("parked.py")),
    Program("Ruby, threads", script("ruby", "threads.rb")),
    Program(
        "Go, goroutines, static",
        built("go", "build", "-o", "{folder}/threads", "{programs}/threads.go", run=["{folder}/threads"]),
    ),
    Program("Node, fs promises", script("node", "promises.mjs")),
    Program("Node, worker_threads and a child", script("node", "workers.mjs")),
    Program(
        "JVM, pool of four",
        built("javac", "-d", "{folder}", "{programs}/Pool.java", run=["java", "-cp", "{folder}", "Pool"]),
    ),
    Program("PHP", script("php", "sleeps.php")),
    Program("Erlang, processes", script("escript", "processes.escript")),
    Program("PostgreSQL and psycopg", database, fresh_database),
    Program("Mail service: database, API, workers", system, fresh_database),
    Program("BullMQ on Valkey", queue),
    Program("RabbitMQ and pika", broker),
)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    while_here = f"time.time() < {time.time() + BUSY_SECONDS} and os.getppid() == {os.getpid()}"
    code = f"import os, time\nwhile {while_here}: pass"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def run_once(supervisor: Path, options: list[str], command: list[str], folder: Path, result: Result) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = subprocess.run(
        [str(supervisor), "--stats", "--limit", "120", *options, "--", *command],
        capture_output=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    result.outputs[hashlib.sha256(process.stdout).hexdigest()] += 1
    lines = process.stderr.decode(errors="replace").splitlines()
    said = [json.loads(line) for line in lines if line.startswith('{"clock"')]
    if not said:
        result.failures.append(" ".join(lines[-2:]) or f"exit {process.returncode}")
        return
    result.stats.append(said[-1])
    if process.returncode not in (0, 3) or said[-1]["preempted"]:
        result.failures.append(f"exit {process.returncode}: {' '.join(lines[:2])[:200]}")
    for asked, passed in AGREEMENT.findall(process.stdout.decode(errors="replace")):
        if abs(float(asked) - float(passed)) > TOLERANCE_SECONDS:
            result.disagreements.append(f"asked {asked}, passed {passed}")


def measure(program: Program, arguments: argparse.Namespace) -> tuple[Result, Result] | str:
    with tempfile.TemporaryDirectory(prefix="clock-gate-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            command = program.prepare(folder)
        except Missing as why:
            return str(why)
        results = Result(), Result()
        for result, loops in zip(results, (0, arguments.busy), strict=True):
            if loops == 0 and result is not results[0]:
                continue
            with busy(loops):
                for _ in range(arguments.runs):
                    program.before(folder)
                    run_once(arguments.supervisor, arguments.options.split(), command, folder, result)
        return results


def row(program: Program, idle: Result, loaded: Result) -> str:
    every = idle.stats + loaded.stats
    both = idle.outputs + loaded.outputs
    stops = sorted({int(each["stops"]) for each in every})
    across = "yes" if len(both) == 1 else f"{len(both)} outcomes"
    histories = Counter(each["hash"] for each in every)
    micro = statistics.median(each["supervisor_cpu"] / each["stops"] * 1e6 for each in every) if every else float("nan")
    wrong = idle.disagreements + loaded.disagreements
    agree = "yes" if not wrong else f"no: {wrong[0]}"
    cells = (
        program.name,
        f"{idle.same()} of {idle.outputs.total()}",
        f"{loaded.same()} of {loaded.outputs.total()}",
        across,
        agree,
        f"{histories.most_common(1)[0][1] if histories else 0} of {histories.total()}",
        f"{stops[0]}" if len(stops) == 1 else f"{stops[0]} to {stops[-1]}" if stops else "-",
        f"{micro:.1f}",
        f"{idle.median('virtual'):.0f}",
        f"{idle.median('program_cpu') + idle.median('supervisor_cpu'):.2f}",
        f"{idle.median('real'):.2f}",
        f"{loaded.median('real'):.2f}",
    )
    return f"| {' | '.join(cells)} |"


COLUMNS = (
    "program",
    "same bytes, idle",
    "same bytes, loaded",
    "one outcome",
    "asked = passed",
    "same history",
    "stops",
    "µs a stop",
    "virtual s",
    "CPU s",
    "real s, idle",
    "real s, loaded",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs of each program at each load (20)")
    parser.add_argument("--busy", type=int, default=3, help="busy loops beside the second half (3)")
    parser.add_argument("--only", default="", help="run only programs whose name contains this")
    parser.add_argument("--supervisor", type=Path, help="a built supervisor; otherwise it is compiled")
    parser.add_argument("--options", default="--seed 7", help="options of the supervisor (--seed 7)")
    arguments = parser.parse_args()
    if arguments.supervisor is None:
        from job_harness.worlds.clock import build

        arguments.supervisor = build()
    print(f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS), sep="\n", flush=True)
    passed = True
    for program in CATALOGUE:
        if arguments.only not in program.name:
            continue
        found = measure(program, arguments)
        if isinstance(found, str):
            print(f"| {program.name} | left out: {found} |", flush=True)
            continue
        idle, loaded = found
        print(row(program, idle, loaded), flush=True)
        for failure in {*idle.failures, *loaded.failures}:
            print(f"  {failure}", file=sys.stderr)
        passed &= len(idle.outputs + loaded.outputs) == 1 and not (
            idle.failures or loaded.failures or idle.disagreements or loaded.disagreements
        )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
