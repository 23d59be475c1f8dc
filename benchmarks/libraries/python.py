"""Runs what people import in Python processors as jobs on virtual time, and writes half of results/libraries.md.

Usage: .venv-libraries/bin/python benchmarks/libraries/python.py [--only NAME]... [--check]

`python.yaml` beside this file has a row for each library, which names the tests below `rows` that use it. `make
libraries` installs the libraries, by name and with the pins of constraints.txt, into an environment of their own: some
bring pytest plugins. A row fails where a test of it does. It ends with 1 where a row failed; one whose library is not
installed is left out, with the reason. `--check` leaves the page as it is.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from ruamel.yaml import YAML
from tables import Line, asked, write

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
ROWS: Final = HERE / "rows"
RESULTS: Final = re.compile(r"works|works with .+|refused")
OPTIONS: Final = (
    *("-p", "no:cacheprovider", "-W", "error", "-q", "--no-header", f"--rootdir={ROOT}"),
    *("-o", "asyncio_default_fixture_loop_scope=function"),
    # A connection that a row leaves to the garbage collector is reported by the row that runs by then.
    *("-W", "ignore:<psycopg.Connection object at:ResourceWarning"),
)
DEATHS = "deaths.py::"
"""Begins the cases in which a worker dies that holds what a library has lent."""


class LibraryRow(NamedTuple):
    """One library, and what a job does with it."""

    library: str
    package: str
    does: str
    tests: tuple[str, ...]
    result: str
    note: str

    @property
    def version(self) -> str:
        """Which release is installed; empty for what comes with Python, and where there is none."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return ""

    @property
    def line(self) -> Line:
        """Its line of the table."""
        result = self.result + (f". {self.note}" if self.note else "")
        dies = any(test.startswith(DEATHS) for test in self.tests)  # Each of them passed: else nothing is written.
        does = f"{self.does}; survives a worker's death" if dies else self.does
        return Line(self.library, self.version or "of Python", does, result)


class Outcomes:
    """Hears from pytest how each test ended."""

    def __init__(self) -> None:
        self.ended: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the worst that was heard of a test, and why."""
        name = report.nodeid.rpartition("rows/")[2]
        if report.outcome != "passed" or name not in self.ended:
            why = report.longrepr[-1] if isinstance(report.longrepr, tuple) else ""
            self.ended[name] = report.outcome, why

    def ends_of(self, test: str) -> list[tuple[str, str]]:
        """Return how a test ended, with each of its parameters where it is named without any."""
        ended = [end for name, end in self.ended.items() if name == test or name.startswith(f"{test}[")]
        return ended or [("not run", "")]


def rows() -> list[LibraryRow]:
    """Read what is tried. Raises ValueError for a result that is none."""
    read = []
    for row in YAML(typ="safe").load((HERE / "python.yaml").read_text("utf-8")):
        if not RESULTS.fullmatch(row["result"]):
            raise ValueError(f"{row['library']}: {row['result']!r} is no result")
        package, note = row.get("package", row["library"]), row.get("note", "")
        read.append(LibraryRow(row["library"], package, row["does"], tuple(row["tests"]), row["result"], note))
    return read


def main() -> int:
    """Try them, say how each went, and write the page."""
    options = asked(__doc__)
    wanted = [row for row in rows() if not options.only or row.library in options.only]
    heard = Outcomes()
    pytest.main([*OPTIONS, *dict.fromkeys(str(ROWS / test) for row in wanted for test in row.tests)], plugins=[heard])
    failed = skipped = 0
    for row in wanted:
        ends = [end for test in row.tests for end in heard.ends_of(test)]
        end, why = next((each for each in ends if each[0] != "passed"), ("passed", ""))
        failed += end not in ("passed", "skipped")
        skipped += end == "skipped"
        print(f"{row.library:16} {row.version:10} {row.result if end == 'passed' else f'{end} {why}'}")
    if not (options.only or options.check or failed or skipped):
        where = f"Tried on Python {sys.version_info.major}.{sys.version_info.minor}, with these releases."
        write("python", (row.line for row in wanted), where=where)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
