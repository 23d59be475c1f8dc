"""What a campaign costs on one process, on two, and on a Ray cluster of the same two processors.

Each is the whole command, its start and end included. Ray is an extra: run this with an environment that has it (`make
ray` makes .venv-ray). Usage: .venv-ray/bin/python benchmarks/ray_cluster.py [RUNS [ROUNDS]]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

RUNS = 100_000
MOST = 1.15
KILLED = "`make ray` kills one of two nodes in the middle of a campaign; the outcome is that of one process."
PROCESSORS = os.cpu_count() or 1
CREWS = {
    "one process": (),
    f"{PROCESSORS} processes": ("--processes", str(PROCESSORS)),
    f"Ray, one node of {PROCESSORS} processors": ("--on", "ray"),
}


def campaign(runs: int, *options: str) -> tuple[float, dict[str, object]]:
    """Do a campaign; return the seconds of wall that the command took, and what the campaign came to."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "campaign.json"
        command = [sys.executable, "-m", "job_harness.doors.cli", "explore", "memory", "--quiet", "--runs", str(runs)]
        began = time.perf_counter()
        subprocess.run([*command, "--json", str(into), *options], check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - began
        told: dict[str, object] = json.loads(into.read_text(encoding="utf-8"))
    del told["seconds"]
    return took, told


def main(runs: int, rounds: int) -> None:
    taken: dict[str, list[float]] = {name: [] for name in CREWS}
    for number in range(rounds):
        order = list(CREWS) if number % 2 == 0 else list(reversed(CREWS))
        results = []
        for name in order:
            seconds, told = campaign(runs, *CREWS[name])
            taken[name].append(seconds)
            results.append(told)
        if any(told != results[0] for told in results):
            sys.exit("the campaigns do not agree")
    local = list(CREWS)[1]
    print(f"### A campaign of {runs} runs on the same {PROCESSORS} processors\n")
    print(
        f"Whole commands, median of {rounds}; all came to the same result. Ray {version('ray')}; load before: ", end=""
    )
    print(f"{LOAD:.1f}.\n")
    print("| who does the runs | seconds | runs/s | to one process | time to the local processes |")
    print("| --- | --- | --- | --- | --- |")
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        to_one = statistics.median(one / this for one, this in zip(taken["one process"], seconds, strict=True))
        to_local = statistics.median(this / other for other, this in zip(taken[local], seconds, strict=True))
        print(f"| {name} | {middle:.1f} | {runs / middle:.0f} | {to_one:.2f}x | {to_local:.2f}x |")
    met = "Met" if to_local <= MOST else "**Missed**"
    print(f"\nAim: Ray takes at most {MOST}x the time of the local processes. {met}: {to_local:.2f}x. {KILLED}")


LOAD = os.getloadavg()[0]

if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    main(*(numbers + [RUNS, 1][len(numbers) :]))
