"""Tries every library of the table: `python -m tests.libraries [LANGUAGE ...]`. Fails where a row does not hold.

A library that is not installed is skipped, with the reason; `--all` makes that a failure, for CI.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import pytest

from tests.libraries.table import ROWS, languages, rows_of


class Outcomes:
    """Hears from pytest how each test ended."""

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the worst that was heard of a test."""
        name = report.nodeid.rpartition("rows/")[2]
        if report.outcome != "passed" or name not in self.ended:
            self.ended[name] = report.outcome
            self.reasons[name] = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else "")


def main(arguments: list[str]) -> int:
    """Run what the rows name, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.libraries", description=__doc__)
    parser.add_argument("languages", nargs="*", default=languages(), metavar="LANGUAGE", help="python, ...")
    parser.add_argument("--all", action="store_true", help="fail where a library is not installed")
    chosen = parser.parse_args(arguments)
    rows = [row for language in chosen.languages for row in rows_of(language)]
    heard = Outcomes()
    tests = dict.fromkeys(str(ROWS / test) for row in rows for test in row.tests)
    beside = (
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        "-q",
        "--no-header",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    )
    code = pytest.main([*beside, *tests], plugins=[heard])
    missing = 0
    for row in rows:
        ended = {heard.ended.get(test, "not run") for test in row.tests}
        verdict = next((each for each in ("failed", "not run", "skipped") if each in ended), row.verdict)
        missing += verdict != row.verdict and (verdict != "skipped" or chosen.all)
        reason = next((heard.reasons[test] for test in row.tests if heard.reasons.get(test)), "")
        print(f"{row.language:12} {row.library:16} {row.version:10} {verdict}{f': {reason}' if reason else ''}")
    return int(bool(missing) or code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
