"""Runs that are stopped at a random moment by SIGINT, SIGTERM or SIGKILL, and what they leave behind.

Children carry a mark in their environment, by which their processes are found wherever they went. Some of them work on
a server of ours (`JOB_HARNESS_DSN`), so that the databases that they leave there can be counted.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from tests.contract.leftovers import COMMAND, Place, clean_place

from job_harness.worlds.postgres import Cluster, provision
from reliability.size import Proof, Size

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LONGEST_SECONDS: Final = 8.0
"""After this a child is stopped at the latest: it has started its server and is at work."""
BOUND_SECONDS: Final = 60
GONE_SECONDS: Final = 60.0
"""What is still there after this is left behind; on a busy machine a server that is told to end takes its time."""
ONE: Final = "format: 1\ntitle: one job\njobs:\n  a: {}\n"
SUITE: Final = """
import pytest
@pytest.mark.parametrize("number", range(100_000))
def test_one(job_harness, job_postgres, number):
    job_harness.register("a", lambda job: {"success": True})
"""
COMMANDS: Final[Mapping[str, Sequence[str]]] = {
    "`run`, memory": (*COMMAND, "run", "many", "--engine", "memory"),
    "`run`, postgres": (*COMMAND, "run", "many", "--engine", "postgres"),
    "`run`, postgres by DSN": (*COMMAND, "run", "many", "--engine", "postgres"),
    "`explore`, memory": (*COMMAND, "explore", "memory", "--runs", "10000000", "--processes", "2"),
    "`explore`, postgres": (*COMMAND, "explore", "postgres", "--runs", "1000000"),
    "`explore`, pgboss": (*COMMAND, "explore", "pgboss@10.4.2", "--keep-going", "--runs", "1000000"),
    "`exhaust`, memory": (*COMMAND, "exhaust", "memory", "--jobs", "3"),
    "`pytest`, postgres": (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"),
    "`pytest -n 2`, postgres": (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n2", "test_it.py"),
}
ABOUT: Final = (
    "Each command is stopped by SIGINT, SIGTERM or SIGKILL at a random moment, also during start-up. Then the "
    "machine is searched for processes that the run started, and for folders of servers, with their sockets and "
    "locks: whatever is still there after a minute counts as left behind. The exit code must be 130, 143 or the "
    "signal itself, 2 if pytest gets Ctrl-C, and 1 if something had been found. Runs that had already ended are "
    "counted separately."
)


@dataclass(slots=True)
class Tally:
    """What became of the aborted runs of one command."""

    aborts: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    """Had ended by themselves when the signal came."""
    tracebacks: int = 0
    odd_codes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds until nothing of a run was there any more."""


def prove(size: Size, *, seed: int) -> Proof:
    """Abort the commands in turn."""
    chance = random.Random(seed)
    tallies: dict[str, Tally] = {name: Tally() for name in COMMANDS}
    with tempfile.TemporaryDirectory() as scratch, provision() as server:
        for number in range(size.aborts):
            name = list(COMMANDS)[number % len(COMMANDS)]
            chosen = SIGNALS[(number // len(COMMANDS)) % len(SIGNALS)]
            environment = {"JOB_HARNESS_DSN": server.url()} if name.endswith("DSN") else {}
            folder = Path(scratch) / str(number)
            folder.mkdir()
            _abort(COMMANDS[name], chosen, folder, chance, tallies[name], environment)
        databases = _databases(server)
        server.sweep()
        swept = _databases(server)
    rows = tuple(_row(name, tally) for name, tally in tallies.items())
    stopped = sum(tally.aborts.total() for tally in tallies.values())
    bad = sum(len(tally.left) + len(tally.odd_codes) + tally.tracebacks for tally in tallies.values())
    result = (
        f"{stopped} runs were stopped. Left behind: {sum(len(tally.left) for tally in tallies.values())} processes, "
        f"folders, sockets or locks. On the server that a DSN names, killed runs left {databases} databases; after the "
        f"sweep with which every run begins there were {swept}."
    )
    columns = (
        "command",
        "SIGINT",
        "SIGTERM",
        "SIGKILL",
        "had ended",
        "tracebacks",
        "other exit codes",
        "gone within",
        "left behind",
    )
    return Proof("Aborted runs", ABOUT, columns, rows, result, held=not bad and not swept)


def _abort(
    command: Sequence[str],
    number: signal.Signals,
    folder: Path,
    chance: random.Random,
    tally: Tally,
    environment: Mapping[str, str],
) -> None:
    try:
        with clean_place(folder) as place:
            for count in range(300):
                place.write(f"many/{count:03}.yaml", ONE)
            place.write("test_it.py", SUITE)
            child = place.start(command, **environment)
            until = time.monotonic() + chance.uniform(0, LONGEST_SECONDS)
            while time.monotonic() < until and child.poll() is None:
                place.processes()
                time.sleep(0.05)
            place.processes()
            _stop(child, number, place, tally, in_group="pytest" in command)
            tally.slowest = max(tally.slowest, _until_gone(place))
    except AssertionError as error:
        print(f"{command} by {number.name}: {error}", file=sys.stderr)
        tally.left.append(str(error))


def _until_gone(place: Place) -> float:
    began = time.monotonic()
    while (left := (place.processes(), place.folders())) != ([], []):
        took = time.monotonic() - began
        assert took < GONE_SECONDS, f"left behind: {left}"
        time.sleep(0.05)
    return time.monotonic() - began


def _stop(child: subprocess.Popen[str], number: signal.Signals, place: Place, tally: Tally, *, in_group: bool) -> None:
    ended = child.poll() is not None
    if not ended:
        # A terminal sends Ctrl-C to everybody in the foreground.
        os.killpg(child.pid, number) if in_group and number is signal.SIGINT else child.send_signal(number)
    out, err = child.communicate(timeout=BOUND_SECONDS)
    if ended:
        tally.finished += 1
        return
    tally.aborts[number.name] += 1
    code = child.returncode
    known = {130 if number is signal.SIGINT else 143, -number, *({2} if in_group else ())}
    if code == 1 and "Found in " in out:  # What was found counts more than that the search was ended.
        known.add(1)
    starting = code == 1 and "KeyboardInterrupt" in err and "harness" not in err.rpartition("Traceback")[2]
    if code not in known and not starting:
        tally.odd_codes.append(f"{code} by {number.name}")
        print(f"{child.args}: {tally.odd_codes[-1]}\n{out[-1000:]}{err[-2000:]}", file=sys.stderr)
    # Before our code runs, the interpreter answers Ctrl-C in its own way, and so does pytest while it imports.
    if "Traceback" in out + err and number is not signal.SIGINT:
        tally.tracebacks += 1


def _databases(server: Cluster) -> int:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^job_harness'").fetchone()
    return int(row[0]) if row else 0


def _row(name: str, tally: Tally) -> tuple[str, ...]:
    counts = [str(tally.aborts[number.name]) for number in SIGNALS]
    odd = ", ".join(tally.odd_codes) or "0"
    return (
        name,
        *counts,
        str(tally.finished),
        str(tally.tracebacks),
        odd,
        f"{tally.slowest:.1f} s",
        str(len(tally.left)),
    )
