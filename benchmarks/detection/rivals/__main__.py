"""Writes `benchmarks/results/rivals.md`: one small lease queue, searched by each rival and by us, round by round.

Usage: .venv/bin/python benchmarks/detection/rivals [--rounds 5] [--runs 300]

A command that was stopped goes on where it was. The rivals and this project are installed into one environment of
their own, on the newest Python of this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "benchmarks")]  # a script runs from a checkout

from detection.journal import Journal, Question  # noqa: E402 - the path comes first
from detection.rivals import installed  # noqa: E402
from detection.rivals.installed import Campaign  # noqa: E402
from detection.rivals.leased import MISTAKES, RIGHT  # noqa: E402

PAGE = ROOT / "benchmarks" / "results" / "rivals.md"
JOURNAL = ROOT / ".job-harness" / "rivals.jsonl"
OURS = "job-harness"
Cells = dict[tuple[str, str, str], list[Campaign]]
"""By mistake, durations and tool, what each round came to."""
HEAD = """# The same queue under each tool

Written by `{command}`, interleaved rounds: {rounds}; {python}, {cores} cores, load {load:.1f}, {day}.
Each cell is a median of rounds, and in brackets the least and the most; one round is a sample, and ranks nothing.
CPU seconds are those of the search: no start of a process, no shrinking.

All tools search one small lease queue: two workers, two jobs, a supervisor, and two crashes at random times (none in
frontrun, which has no faults). Each rival runs it as an asyncio program in its own kind of search, with its own
defaults; ours has the same mistakes in the model queue, with the same settings, all invariants and the whole history.
A find is one of the five anomalies that the program judges. *fixed*: jobs take half a lease; *drawn*: half, one or two
leases (our worker stops such jobs in time, and stalls up to twice instead).

Not measured: pg-boss's `TestClock`, which moves the clock of one process and searches nothing, and Hypothesis, which
has no schedule to choose: an asyncio program runs there in the one order of its loop.
{missing}
"""


def measured(tools: Iterable[str], *, rounds: int, runs: int) -> Iterable[Cells]:
    """Play all campaigns round by round, one at a time; return after each what there is."""
    cells: Cells = {}
    journal = Journal.opened(JOURNAL)
    with ThreadPoolExecutor(1) as pool:
        for number in range(rounds):
            for durations, mistake, tool in product(("fixed", "drawn"), (RIGHT, *MISTAKES), tools):
                named = (("seed", 1000 * number), ("runs", runs), ("drawn", durations == "drawn"))
                told = journal.ask(pool, [Question(installed.campaign, (tool, mistake), named, Campaign)])
                cells.setdefault((mistake, durations, tool), []).extend(told)
            yield cells


def spread(values: Sequence[float], form: str) -> str:
    """Write a median with the least and the most; of a single round, what it came to."""
    middle = f"{median(values):{form}}"
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}} to {max(values):{form}})"


def written(cells: Cells, tools: Sequence[str], head: str) -> str:
    """Lay out the page."""
    rates = {
        (durations, tool): [item.runs / max(item.seconds, 1e-9) for item in played(cells[RIGHT, durations, tool])]
        for durations in ("fixed", "drawn")
        for tool in tools
    }
    lines = [head, "## Runs a second of CPU, on the right queue\n", "| tool | fixed | drawn |", "| --- | ---: | ---: |"]
    for tool in tools:
        told = [spread(rates[each, tool], ".0f") if rates[each, tool] else "-" for each in ("fixed", "drawn")]
        lines.append(f"| {tool} | {' | '.join(told)} |")
    behind = [
        f"- runs a second, {each}: {tool} {median(rates[each, tool]) / median(rates[each, OURS]):.2f}x"
        for each in ("fixed", "drawn")
        for tool in tools
        if rates[each, tool] and median(rates[each, tool]) > median(rates[each, OURS])
    ]
    lines += ["\n## To the find\n", f"| mistake | durations | {' | '.join(tools)} |"]
    lines.append(f"| --- | --- |{' ---: |' * len(tools)}")
    for mistake in MISTAKES:
        for durations in ("fixed", "drawn"):
            row = {tool: cells[mistake, durations, tool] for tool in tools}
            lines.append(f"| `{mistake}` | {durations} | {' | '.join(cell(row[tool]) for tool in tools)} |")
            behind += losing(row, f"`{mistake}`, {durations}")
    lines += ["\n## Where ours is behind\n", *(behind or ["Nowhere."]), ""]
    return "\n".join(lines)


def played(items: Iterable[Campaign]) -> list[Campaign]:
    """Leave out what came to nothing."""
    return [item for item in items if not item.why]


def cell(items: Sequence[Campaign]) -> str:
    """Say how many rounds found it, after how many runs and how much CPU."""
    found = [item for item in played(items) if item.found]
    told = f"{len(found)}/{len(items)}"
    if not found:
        return told
    runs, seconds = [item.runs for item in found], [item.seconds * 1000 for item in found]
    return f"{told}, {spread(runs, '.0f')} runs, {spread(seconds, '.0f')} ms"


def losing(row: Mapping[str, Sequence[Campaign]], name: str) -> list[str]:
    """List the tools that find a mistake more often than ours, or as often with less CPU."""

    def rank(tool: str) -> tuple[int, float]:
        found = [item.seconds for item in played(row[tool]) if item.found]
        return -len(found), median(found) if found else 0.0

    better = [tool for tool in row if rank(tool) < rank(OURS)]
    return [f"- {name}: {tool}, {cell(row[tool])}; ours {cell(row[OURS])}" for tool in better]


def main() -> None:
    """Measure and write; the page is written after each round, so that an interrupted one has what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=300)
    given = parser.parse_args()
    try:
        python = installed.environment()
    except installed.NotInstalled as error:
        sys.exit(f"not measured: {error}")
    command = f'make rivals ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else "make rivals"
    version = installed.version_of(python)
    load, day, tools = os.getloadavg()[0], time.strftime("%Y-%m-%d"), installed.TOOLS
    for number, cells in enumerate(measured(tools, rounds=given.rounds, runs=given.runs), start=1):
        broken = {f"{tool}: {item.why}" for (_, _, tool), items in cells.items() for item in items if item.why}
        head = HEAD.format(
            command=command,
            rounds=number,
            python=version,
            cores=os.cpu_count(),
            load=load,
            day=day,
            missing="".join(f"\nNot measured: {each}\n" for each in sorted(broken)),
        )
        PAGE.write_text(written(cells, tuple(tools), head), encoding="utf-8")
        print(f"round {number} of {given.rounds}: wrote {PAGE.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    main()
