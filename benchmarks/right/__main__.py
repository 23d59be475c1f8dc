"""Explores programs that are right at default settings, with several seeds, and says what became of each.

None of them may alarm, and none may be inconclusive.

Usage: python benchmarks/right [--only WORD]... [--seeds N] [--runs N] [--page [--resume] [--minutes M]]
       python benchmarks/right --repositories FOLDER

Each test below `programs` is one right program: a design, or a processor on a library. One whose library is not
installed is left out, with the reason: `make right` has them all, in the environment of `make libraries`. It ends with
1 where a program alarmed, was not judged, or was never run.

With --page, as `make right` calls it, each result is kept in `benchmarks/results/right.md` as soon as it is there, with
its date and commit. Those that are not there come first, and then the oldest; --resume runs only those that are not
there, or were not seen to be right.

With a FOLDER of checkouts, `check` runs on the public repositories of `repositories.yaml` instead: it ends with 1 where
it alarms and no reader of the code has found that to be true.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from ruamel.yaml import YAML

PROGRAMS: Final = Path(__file__).resolve().parent / "programs"
ROOT: Final = PROGRAMS.parents[2]
sys.path[:0] = [str(ROOT)]  # a script runs from a checkout

from benchmarks import resuming  # noqa: E402 - the path comes first

LISTED: Final = Path(__file__).with_name("repositories.yaml")
PAGE: Final = ROOT / "benchmarks/results/right.md"
RUNS: Final = 200
SHORT: Final = 300
RIGHT, LEFT_OUT, OPEN, ALARM, NEVER = "right", "left out", "inconclusive", "ALARM", "never run"
_OF_OUTCOMES: Final = {"passed": RIGHT, "failed": ALARM}
GRAVITY: Final = (RIGHT, LEFT_OUT, NEVER, OPEN, ALARM)
HEAD: Final = """# Right programs

Written by `make right`: what the search makes of programs that are right, at default settings. None may alarm. With
each seed a program has at most as many runs as its row says. A row has the date and the commit of its seeds' own runs:
a change of the code leaves it here until `make right` comes round to it again.
"""
COLUMNS: Final = (
    "| program | seeds | runs | result | date | commit | why |\n| --- | --- | --- | --- | --- | --- | --- |\n"
)
PUBLIC: Final = """## Public repositories

Written by `make right ARGS="--repositories FOLDER"`: what `job-harness check` says of their code, and whether a reader
of the code found that to be true.
"""
CHECKED: Final = "Last checked: "
PUBLIC_COLUMNS: Final = """| repository | commit | queue | alarm | true? | what the code says |
| --- | --- | --- | --- | --- | --- |
"""


class Cell(NamedTuple):
    """What became of one program with one seed."""

    runs: str = "-"
    verdict: str = NEVER
    date: str = ""
    commit: str = "-"
    why: str = ""


Cells = dict[tuple[str, int], Cell]


def kept_cells(text: str) -> Cells:
    """Read the page."""
    cells = {}
    for line in text.partition(PUBLIC)[0].splitlines():
        if line.startswith("| ") and not line.startswith(("| program |", "| --- |")):
            program, seeds, *rest = (part.strip() for part in line.strip("|").split(" | "))
            cells |= {(program, int(seed)): Cell(*rest) for seed in seeds.split(", ")}
    return cells


def kept_check(text: str) -> str:
    """Return what the page says of the last check of the public repositories."""
    return next((line for line in text.splitlines() if line.startswith(CHECKED)), f"{CHECKED}never")


def page(cells: Cells, checked: str) -> str:
    """Write the page: the seeds of a program with the same result share a row."""
    rows: dict[tuple[str, Cell], list[str]] = {}
    for (program, seed), cell in sorted(cells.items()):
        short = cell._replace(why=" ".join(cell.why.replace("|", "/").split())[:SHORT].rstrip())
        rows.setdefault((program, short), []).append(str(seed))
    counted = Counter(cell.verdict for cell in cells.values())
    count = ", ".join(f"{counted[verdict]} {verdict}" for verdict in GRAVITY if counted[verdict])
    lines = (f"| {program} | {', '.join(seeds)} | {' | '.join(cell)} |\n" for (program, cell), seeds in rows.items())
    public = [
        f"| {entry['repo']} | `{entry['commit'][:10]}` | {entry['queue']} | {verdict['rule']} in {verdict['file']} | "
        f"{verdict['verdict']} | {verdict['why']} |\n"
        for entry in YAML(typ="safe").load(LISTED)["repositories"]
        for verdict in entry["verdicts"] or [{"rule": "nothing", "file": "any file", "verdict": "-", "why": "-"}]
    ]
    of_programs = f"Programs, each with a seed: {count}.\n\n{COLUMNS}{''.join(lines)}"
    return f"{HEAD}\n{of_programs}\n{PUBLIC}\n{checked}\n\n{PUBLIC_COLUMNS}{''.join(public)}"


class Campaign:
    """Chooses what pytest runs with one seed, and keeps what it hears of that."""

    def __init__(self, asked: argparse.Namespace, text: str) -> None:
        self.asked = asked
        self.cells = kept_cells(text)
        self.checked = kept_check(text)
        self.heard: set[tuple[str, int]] = set()
        self.chosen: set[tuple[str, int]] = set()
        self.seed = 0
        self.until = resuming.deadline(asked)
        self.commit = resuming.current_commit()

    def oldest(self, seed: int) -> str:
        """Return the date of the oldest result with a seed."""
        return min((cell.date for (_, at), cell in self.cells.items() if at == seed), default="")

    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Leave the asked ones, the oldest first; forget programs that are no more."""
        self.session = session
        programs = {item.nodeid: _program(item.nodeid) for item in items}
        self.cells = {key: cell for key, cell in self.cells.items() if key[0] in programs.values()}
        words = self.asked.only or [""]
        items[:] = [item for item in items if any(word in item.nodeid.partition("programs/")[2] for word in words)]
        seeds = range(self.asked.seeds)
        self.chosen = {(programs[item.nodeid], seed) for item in items for seed in seeds}
        self.cells = {(name, seed): Cell() for name in programs.values() for seed in seeds} | self.cells
        at = {item.nodeid: self.cells[programs[item.nodeid], self.seed] for item in items}
        if self.asked.resume:
            items[:] = [item for item in items if at[item.nodeid].verdict != RIGHT]
        items.sort(key=lambda item: at[item.nodeid].date)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the gravest report of each program: one that is merely set up was not judged."""
        if report.outcome == "passed" and report.when != "call":
            return
        key = _program(report.nodeid), self.seed
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr or "")
        verdict = _OF_OUTCOMES.get(report.outcome, OPEN if "inconclusive" in why else LEFT_OUT)
        if key not in self.heard or GRAVITY.index(verdict) > GRAVITY.index(self.cells[key].verdict):
            runs = dict(report.user_properties).get("runs", self.asked.runs)
            why = why.removeprefix("Skipped: ")
            self.cells[key] = Cell(str(runs), verdict, f"{datetime.now(UTC):%Y-%m-%d}", self.commit, why)
        self.heard.add(key)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write the page after each program: a campaign that is interrupted keeps what it has."""
        if self.asked.page:
            PAGE.write_text(page(self.cells, self.checked), encoding="utf-8")
        if time.monotonic() > self.until:
            self.session.shouldstop = f"{self.asked.minutes:g} minutes are over"


def _program(nodeid: str) -> str:
    return nodeid.partition("programs/test_")[2].replace(".py::test_", ": ").replace("_", " ")


def main() -> int:
    """Run them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="programs with this in their name")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--repositories", type=Path, metavar="FOLDER", help="check the public ones there, not these")
    parser.add_argument("--page", action="store_true", help=f"keep the results in {PAGE.relative_to(ROOT)}")
    resuming.add_options(parser, thing="program")
    asked = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8") if asked.page and PAGE.exists() else ""
    if asked.repositories is not None:
        wild = [sys.executable, str(ROOT / "benchmarks/wild/__main__.py"), str(asked.repositories)]
        run = subprocess.run([*wild, "--list", str(LISTED)], stdout=subprocess.PIPE, text=True, check=False)
        print(run.stdout, end="")
        if asked.page:
            at = f"{CHECKED}{datetime.now(UTC):%Y-%m-%d} at `{resuming.current_commit()}`"
            PAGE.write_text(page(kept_cells(text), f"{at}: {run.stdout.strip().splitlines()[-1]}"), encoding="utf-8")
        return run.returncode
    if asked.page and asked.runs != RUNS:
        parser.error(f"the page is of {RUNS} runs: leave out --runs, or call benchmarks/right without --page")
    os.environ["CI"] = "1"
    campaign = Campaign(asked, text)
    for seed in sorted(range(asked.seeds), key=campaign.oldest):
        campaign.seed = seed
        options = ["-p", "no:cacheprovider", "-q", "--no-header", "--tb=no", "-W", "ignore", f"--rootdir={ROOT}"]
        options += ["-o", "asyncio_default_fixture_loop_scope=function", "-o", "addopts=", "-r", "N"]
        options += [f"--job-explore={asked.runs}", f"--job-seed={seed}", str(PROGRAMS)]
        if pytest.main(options, plugins=[campaign]) == pytest.ExitCode.INTERRUPTED:
            break
    gravest: dict[str, Cell] = {}
    for program, seed in sorted(campaign.chosen):
        one = campaign.cells[program, seed]
        gravest[program] = max(gravest.get(program, one), one, key=lambda cell: GRAVITY.index(cell.verdict))
    for program, cell in gravest.items():
        print(f"{cell.verdict:<13}{program}" + (f"\n  {cell.why}" if cell.why else ""))
    bad = sum(cell.verdict in (NEVER, OPEN, ALARM) for cell in gravest.values())
    left_out = sum(cell.verdict == LEFT_OUT for cell in gravest.values())
    print(f"{len(gravest) - left_out} right programs with {asked.seeds} seeds, {bad} of them not seen to be right")
    return int(bool(bad) or len(gravest) == left_out)


if __name__ == "__main__":
    sys.exit(main())
