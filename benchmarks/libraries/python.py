"""Runs what people import in Python processors as jobs on virtual time, and writes its half of docs/libraries.md.

Usage: .venv-libraries/bin/python benchmarks/libraries/python.py [--only NAME]... [--check]

`python.yaml` beside this file has a row for each library, which names the tests below `rows` that use it. `make
libraries` installs the libraries, by name and with the pins of constraints.txt, into an environment of their own: some
bring pytest plugins. A row fails where a test of it does. It ends with 1 where a row failed; one whose library is not
installed is left out, with the reason. `--check` leaves the page as it is.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from ruamel.yaml import YAML

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
ROWS: Final = HERE / "rows"
PAGE: Final = ROOT / "docs" / "libraries.md"
BEGIN: Final = "<!-- generated: libraries python -->"
END: Final = "<!-- end -->"
RESULTS: Final = re.compile(r"works|works with .+|refused")
OPTIONS: Final = (
    *("-p", "no:cacheprovider", "-W", "error", "-q", "--no-header", f"--rootdir={ROOT}"),
    *("-o", "asyncio_default_fixture_loop_scope=function"),
)


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


def rows() -> list[LibraryRow]:
    """Read what is tried. Raises ValueError for a result that is none."""
    read = []
    for row in YAML(typ="safe").load((HERE / "python.yaml").read_text("utf-8")):
        if not RESULTS.fullmatch(row["result"]):
            raise ValueError(f"{row['library']}: {row['result']!r} is no result")
        package, note = row.get("package", row["library"]), row.get("note", "")
        read.append(LibraryRow(row["library"], package, row["does"], tuple(row["tests"]), row["result"], note))
    return read


def table(tried: list[LibraryRow]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| library | release | in the job it | result |", "| --- | --- | --- | --- |"]
    for row in tried:
        result = row.result + (f". {row.note}" if row.note else "")
        lines.append(f"| {row.library} | {row.version or 'of Python'} | {row.does} | {result} |")
    return "\n".join(lines)


def write(tried: list[LibraryRow]) -> None:
    """Put the table into the page."""
    head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    where = f"Tried on Python {sys.version_info.major}.{sys.version_info.minor}, with these releases."
    PAGE.write_text(f"{head}{BEGIN}\n\n{table(tried)}\n\n{where}\n\n{END}{tail}", encoding="utf-8")


def main() -> int:
    """Try them, say how each went, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="try this library alone; may be repeated")
    parser.add_argument("--check", action="store_true", help="leave the page as it is")
    asked = parser.parse_args()
    wanted = [row for row in rows() if not asked.only or row.library in asked.only]
    heard = Outcomes()
    pytest.main([*OPTIONS, *dict.fromkeys(str(ROWS / test) for row in wanted for test in row.tests)], plugins=[heard])
    failed = skipped = 0
    for row in wanted:
        ends = [heard.ended.get(test, ("not run", "")) for test in row.tests]
        end, why = next((each for each in ends if each[0] != "passed"), ("passed", ""))
        failed += end not in ("passed", "skipped")
        skipped += end == "skipped"
        print(f"{row.library:16} {row.version:10} {row.result if end == 'passed' else f'{end} {why}'}")
    if not (asked.only or asked.check or failed or skipped):
        write(wanted)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
