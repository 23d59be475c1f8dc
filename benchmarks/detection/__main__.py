"""Writes `docs/detection.md`: `make detection`, or with numbers of your own.

Usage: .venv/bin/python benchmarks/detection/__main__.py --help
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]  # a script runs from a checkout

from detection import page  # noqa: E402 - the path comes first
from detection.bugs import UNDRAWN  # noqa: E402
from detection.measure import by_hypothesis, density, detect, false_alarms  # noqa: E402
from harness.adapters.memory import MemoryEngine, MemoryQueue  # noqa: E402
from harness.adapters.reference import open_engine  # noqa: E402
from harness.explore.strategy import Strategy  # noqa: E402
from harness.mistakes import CATALOGUE  # noqa: E402
from harness.port import Capabilities  # noqa: E402

PAGE = HERE.parents[1] / "docs" / "detection.md"
OTHERS = (Strategy.UNIFORM, Strategy.POS, Strategy.SWARM)
FEWER = 3
"""Ways that are only compared get one seed for this many of the default's."""


MEASURED = [name for name, mistake in CATALOGUE.items() if mistake.queue is not None and name not in UNDRAWN]


class Plain(MemoryQueue):
    """The model queue with the oldest capabilities only."""

    capabilities = Capabilities(virtual_time=True, snapshot=True, fencing=True)


class OneTable(MemoryQueue):
    """The model queue as an adapter of one table would declare it."""

    capabilities = Capabilities(
        heartbeat=True, release=True, cancel=True, retry=True, priorities=True, unique=True, start_after=True,
        virtual_time=True, snapshot=True, fencing=True,
    )  # fmt: skip


def alarms(name: str, steps: int) -> tuple[str, tuple[int, int, int]]:
    """Run one right queue."""
    engines = {
        "memory, every capability": lambda: MemoryEngine(MemoryQueue),
        "memory, one table": lambda: MemoryEngine(OneTable, name="one table"),
        "memory, nothing optional": lambda: MemoryEngine(Plain, name="plain"),
        "reference": lambda: open_engine("reference"),
    }
    return name, false_alarms(engines[name](), steps=steps)


RIGHT = ("memory, every capability", "memory, one table", "memory, nothing optional", "reference")


def _options(given: argparse.Namespace) -> str:
    """Say with which numbers the command was given."""
    names = ("seeds", "runs", "density", "steps", *(() if given.quick else ("hypothesis",)))
    numbers = " ".join(f"--{name} {getattr(given, name)}" for name in names)
    return f'ARGS="{"--quick " if given.quick else ""}{numbers}"'


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how planted bugs are found, and write docs/detection.md.")
    add = parser.add_argument
    add("--seeds", type=int, default=30, help="campaigns for each bug in the default way (30)")
    add("--runs", type=int, default=10_000, help="runs of a campaign, at most (10000)")
    add("--density", type=int, default=100_000, help="uniform runs for the density, at most (100000)")
    add("--steps", type=int, default=1_000_000, help="steps of each right queue (1000000)")
    add("--hypothesis", type=int, default=3, help="campaigns of Hypothesis alone for each bug (3)")
    add("--quick", action="store_true", help="the default way only: no others beside it, and no rivals")
    add("--processes", type=int, default=2, help="processes (2)")
    add("--only", default="", help="only wrong queues whose name contains this")
    add("--stdout", action="store_true", help="print the page instead of writing it")
    given = parser.parse_args()
    names = [name for name in MEASURED if given.only in name]
    began = time.perf_counter()
    with ProcessPoolExecutor(given.processes) as pool:
        dense = [pool.submit(density, name, runs=given.density) for name in names]
        default = [
            pool.submit(detect, name, Strategy.PORTFOLIO, number=number, runs=given.runs)
            for name in names
            for number in range(given.seeds)
        ]
        others = [
            pool.submit(detect, name, way, number=number, runs=given.runs)
            for name in names
            for way in (() if given.quick else OTHERS)
            for number in range(max(1, given.seeds // FEWER))
        ]
        alone = [
            pool.submit(by_hypothesis, name, number=number)
            for name in names
            for number in range(0 if given.quick else given.hypothesis)
        ]
        right = [pool.submit(alarms, name, given.steps) for name in RIGHT]
        text = page.written(
            command=f"make detection {_options(given)}".rstrip(),
            densities=[item.result() for item in dense],
            detections=[item.result() for item in (*default, *others, *alone)],
            alarms=[item.result() for item in right],
            rivals="" if given.quick else page.rivals(given.seeds, given.runs),
            seconds=time.perf_counter() - began,
        )
    if given.stdout:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
