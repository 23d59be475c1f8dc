"""What the tables of both languages share: their options, their half of the page, and what counts as a stall."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

PAGE: Final = Path(__file__).resolve().parents[1] / "results" / "libraries.md"
END: Final = "<!-- end -->"


class Line(NamedTuple):
    """One line of a table."""

    library: str
    release: str
    does: str
    result: str


def asked(about: str) -> argparse.Namespace:
    """Read the options: `only`, the libraries that are to be tried, and `check`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="try this library alone; may be repeated")
    parser.add_argument("--check", action="store_true", help="leave the page as it is")
    return parser.parse_args()


def write(language: str, lines: Iterable[Line], *, where: str) -> None:
    """Put a table into the page, and below it where this was tried."""
    rows = ["| library | release | in the job it | result |", "| --- | --- | --- | --- |"]
    rows += [f"| {line.library} | {line.release} | {line.does} | {line.result} |" for line in lines]
    begin = f"<!-- generated: libraries {language} -->"
    head, _, rest = PAGE.read_text("utf-8").partition(begin)
    _, _, tail = rest.partition(END)
    table = "\n".join(rows)
    PAGE.write_text(f"{head}{begin}\n\n{table}\n\n{where}\n\n{END}{tail}", encoding="utf-8")


def stall_seconds() -> float:
    """Return what counts as a stall in real time: a second, and more where others want the processors too."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
