"""Writes `benchmarks/results/detection.md`: `make detection`, or with numbers of your own.

Usage: .venv/bin/python benchmarks/detection/__main__.py --help
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]  # a script runs from a checkout

from detection import page  # noqa: E402 - the path comes first
from detection.bugs import UNDRAWN  # noqa: E402
from detection.coverage import expected  # noqa: E402
from detection.journal import Journal, Question  # noqa: E402
from detection.measure import (  # noqa: E402
    RIGHT,
    Density,
    Detection,
    Quiet,
    added,
    by_hypothesis,
    density,
    detect,
    false_alarms,
    first_seen,
    quiet,
    tried_fixes,
)
from job_harness.core.port import Capabilities  # noqa: E402
from job_harness.engines.memory import MemoryEngine, MemoryQueue  # noqa: E402
from job_harness.engines.reference import ReferenceEngine  # noqa: E402
from job_harness.search.strategy import Strategy  # noqa: E402
from job_harness.search.wrong_queues import CATALOGUE  # noqa: E402

PAGE = HERE.parent / "results" / "detection.md"
OTHERS = (Strategy.UNIFORM, Strategy.POS, Strategy.SWARM)
FEWER = 3
"""Ways that are only compared get one seed for this many of the default's."""


PART = 500
"""Runs of a right queue that are done in one go."""
PARTS = 20
"""And how many of them the gate asks for."""
SIZES = {"memory": 500, "reference": 50, "postgres": 25}
GATE_SEEDS = 10
GATE_RUNS = 3_000
FIX_SEEDS = 3
FRESH_RUNS = 500
JOURNAL = HERE.parents[1] / ".job-harness" / "detection.jsonl"
"""What was measured so far: a command that is stopped goes on from it."""
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
        "reference": lambda: ReferenceEngine("reference"),
    }
    return name, false_alarms(engines[name](), steps=steps)


ALARMS = ("memory, every capability", "memory, one table", "memory, nothing optional", "reference")


def _options(given: argparse.Namespace) -> str:
    """Say with which numbers the command was given."""
    names = ("seeds", "runs", "density", "steps", *(() if given.quick else ("hypothesis",)))
    numbers = " ".join(f"--{name} {getattr(given, name)}" for name in names)
    return f'ARGS="{"--quick " if given.quick else ""}{numbers}"'


Ask: TypeAlias = Callable[[list[Question]], list[Any]]


def _gate(given: argparse.Namespace, names: list[str], ask: Ask) -> int:
    """See how many runs it takes to see each; 1 where one is seen in fewer than nine of ten campaigns."""
    seeds, runs = min(given.seeds, GATE_SEEDS), min(given.runs, GATE_RUNS)
    asked = [Question(first_seen, (name,), (("number", n), ("runs", runs))) for name in names for n in range(seeds)]
    answers = iter(ask(asked))
    seen = {name: [next(answers) for _ in range(seeds)] for name in names}
    excused = [name for name in names if CATALOGUE[name].documented]
    parts = {"memory": [PART] * PARTS, **{name: [PART] for name in excused}}
    silent = _quiet(parts, ask)
    table = page.gate(seen, page.spots(seen, silent.pop("memory"), silent), runs=runs, date=_today())
    if given.stdout or given.only:
        print(table)
    else:
        PAGE.write_text(page.with_part(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
    missed = [name for name, found in seen.items() if 10 * found.count(None) > len(found)]
    print(f"seen in fewer than nine of ten: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


def _today() -> str:
    return f"{date.today():%B %Y}"  # noqa: DTZ011 - the local day


def _quiet(parts: dict[str, list[int]], ask: Ask) -> dict[str, Quiet]:
    """Do runs of right queues, part by part; add the parts of each up."""
    asked = [
        Question(quiet, (name,), (("number", number), ("runs", runs)), Quiet)
        for name, sizes in parts.items()
        for number, runs in enumerate(sizes)
    ]
    answers = iter(ask(asked))
    return {name: added(next(answers) for _ in sizes) for name, sizes in parts.items()}


def _right(given: argparse.Namespace, ask: Ask) -> int:
    """Ask each right queue for its number of steps; 1 where one raises an alarm, or a pair was not met."""
    tables, wrong = [], []
    for name, steps in zip(RIGHT, given.right, strict=False):
        measured = added([])
        number = 0
        while measured.steps < steps:
            some = [
                Question(quiet, (name,), (("number", number + n), ("runs", SIZES[name])), Quiet)
                for n in range(given.processes)
            ]
            number += given.processes
            measured = added([measured, *ask(some)])
        engine = RIGHT[name]()
        table, empty = page.quiet_table(name, measured, expected(engine.info.capabilities))
        engine.close()
        tables.append(table)
        wrong += [f"{name}: an alarm in run {alarm}" for alarm in measured.alarms]
        wrong += [f"{name}: no run had {cell}" for cell in empty]
    told = page.quiet_section(
        tables, command=f'make detection ARGS="--right {" ".join(map(str, given.right))}"', date=_today()
    )
    if given.stdout:
        print(told)
    else:
        PAGE.write_text(page.with_part(PAGE.read_text(encoding="utf-8"), told, page.QUIET), encoding="utf-8")
    print("\n".join(wrong) or "no alarm, no empty cell")
    return 1 if wrong else 0


def _fixes(given: argparse.Namespace, names: list[str], ask: Ask) -> int:
    """Try what is named as a fix in fresh runs; 1 where one of them shows the anomaly."""
    seeds, runs = min(given.seeds, FIX_SEEDS), min(given.runs, GATE_RUNS)
    numbers = [(name, number) for name in names for number in range(seeds)]
    asked = [
        Question(tried_fixes, (name,), (("number", number), ("runs", runs), ("fresh", FRESH_RUNS)))
        for name, number in numbers
    ]
    tried = {f"{name} (seed {n})": answer for (name, n), answer in zip(numbers, ask(asked), strict=True)}
    print(page.fixes(tried, fresh=FRESH_RUNS))
    return 1 if any(seen for counted in tried.values() for _, seen in counted) else 0


def _page(given: argparse.Namespace, names: list[str], ask: Ask) -> str:
    """Measure everything; a command that was stopped goes on where it was."""
    began = time.perf_counter()

    def detections(way: Strategy, seeds: int) -> list[Question]:
        return [
            Question(detect, (name, way), (("number", number), ("runs", given.runs)), Detection)
            for name in names
            for number in range(seeds)
        ]

    others = () if given.quick else OTHERS
    alone = 0 if given.quick else given.hypothesis
    questions = [
        [Question(density, (name,), (("runs", given.density),), Density) for name in names],
        detections(Strategy.PORTFOLIO, given.seeds),
        [one for way in others for one in detections(way, max(1, given.seeds // FEWER))],
        [Question(by_hypothesis, (name,), (("number", n),), Detection) for name in names for n in range(alone)],
        [Question(alarms, (name, given.steps)) for name in ALARMS],
    ]
    answers = iter(ask([one for part in questions for one in part]))
    dense, default, compared, by_itself, right = ([next(answers) for _ in part] for part in questions)
    return page.written(
        command=f"make detection {_options(given)}".rstrip(),
        densities=dense,
        detections=[*default, *compared, *by_itself],
        alarms=right,
        compared=not given.quick,
        seconds=time.perf_counter() - began,
        when=f"in {_today()}, at a load of {os.getloadavg()[2]:.0f} on {os.cpu_count()} cores",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure how planted bugs are found, and write benchmarks/results/detection.md."
    )
    add = parser.add_argument
    add("--seeds", type=int, default=30, help="campaigns for each bug in the default way (30)")
    add("--runs", type=int, default=10_000, help="runs of a campaign, at most (10000)")
    add("--density", type=int, default=100_000, help="uniform runs for the density, at most (100000)")
    add("--steps", type=int, default=1_000_000, help="steps of each right queue (1000000)")
    add("--hypothesis", type=int, default=3, help="campaigns of Hypothesis alone for each bug (3)")
    add("--quick", action="store_true", help="the default way only: no others beside it")
    add("--processes", type=int, default=2, help="processes (2)")
    add("--only", default="", help="only wrong queues whose name contains this")
    add("--gate", action="store_true", help="only how many runs it takes to see each wrong queue: 10 seeds, 3000 runs")
    add(
        "--right",
        type=int,
        nargs="+",
        metavar="STEPS",
        help="only the right queues, capability by setting: steps of memory, of reference, of postgres",
    )
    add(
        "--fixes", action="store_true", help="only whether settings named as fixes hold in 500 fresh runs each: 3 seeds"
    )
    add("--stdout", action="store_true", help="print the page instead of writing it")
    given = parser.parse_args()
    names = [name for name in MEASURED if given.only in name]
    journal = Journal.opened(JOURNAL)
    with ProcessPoolExecutor(given.processes) as pool:
        if given.gate:
            sys.exit(_gate(given, names, partial(journal.ask, pool)))
        if given.right:
            sys.exit(_right(given, partial(journal.ask, pool)))
        if given.fixes:
            sys.exit(_fixes(given, names, partial(journal.ask, pool)))
        text = _page(given, names, partial(journal.ask, pool))
    if given.stdout:
        print(text)
    else:
        PAGE.write_text(page.keeping_parts(text, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
