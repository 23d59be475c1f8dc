"""CPU per run of a system, its time owned from inside and by the supervisor: `python benchmarks/systems/clocks.py`.

What is counted: the harness, the processes of the system, the supervisor and PostgreSQL, as Linux tells. Usage: --help
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]  # a script runs from a checkout

from benchmarks.systems.__main__ import opened, prepared  # noqa: E402 - the path comes first

WAYS: Final = ("inside", "supervisor")


def family_seconds() -> float:
    """Return the processor's seconds of this process, of what descends from it, and of their dead children."""
    told: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(") ")[2].split()
        except OSError:
            continue
        told[int(path.parent.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    kin = {os.getpid()}
    while more := {pid for pid, (parent, _) in told.items() if parent in kin} - kin:
        kin |= more
    return sum(told[pid][1] for pid in kin if pid in told) / os.sysconf("SC_CLK_TCK")


def seconds(example: str, ways: Sequence[str], *, runs: int) -> dict[str, list[float]]:
    """Play the same seeds in each way; return the CPU of each run, after one that is not counted."""
    spent: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as scratch:
        engines = {}
        for way in ways:
            folder = Path(scratch) / way
            folder.mkdir()
            file = prepared(example, folder)
            file.write_text(file.read_text().replace("\nenv:", f"\nclock: {way}\nenv:", 1))
            engines[way] = opened(file)
        try:
            for seed in range(runs + 1):
                for way, (_, sampler) in engines.items():
                    before = family_seconds()
                    run = sampler.sample(seed)
                    spent[way].append(family_seconds() - before)
                    print(f"{way:>10} seed {seed}: {spent[way][-1]:5.2f} s  {', '.join(sorted(run.found))}", flush=True)
        finally:
            for engine, _ in engines.values():
                engine.close()
        shutil.rmtree(scratch, ignore_errors=True)
    return {way: each[1:] for way, each in spent.items()}


def main() -> None:
    """Play an example in both ways, and print the CPU of each run and the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--example", default="python-app", help="which of examples/ (default: python-app)")
    parser.add_argument("--runs", type=int, default=10, help="runs of each way, after one that is not counted")
    arguments = parser.parse_args()
    spent = seconds(arguments.example, WAYS, runs=arguments.runs)
    inside, supervised = (statistics.mean(spent[way]) for way in WAYS)
    told = f"{inside:.2f} s of CPU a run from inside, {supervised:.2f} s under the supervisor"
    print(f"{arguments.example}: {told}, {supervised / inside:.2f} times as much (means of {arguments.runs} runs)")


if __name__ == "__main__":
    main()
