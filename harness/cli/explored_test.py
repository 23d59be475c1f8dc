"""`job-harness explore test_file.py::test_name`: what `pytest --job-explore` does, with this command's exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from harness.errors import ExitCode
from harness.interruption import exit_code_of, raised_at_once

EXPLORED: Final = "job-harness: explored"
"""The section that every explored test's report has."""


def is_test(target: str) -> bool:
    """Whether a target is a file of tests, or a test in one; `file.py:factory` is an application."""
    return target.partition("::")[0].endswith(".py")


def explore_test(target: str, options: Sequence[str]) -> int:
    """Let pytest explore it, and return an exit code: what pytest calls passed was judged, or it is inconclusive."""
    import pytest

    seen = _Seen()
    with raised_at_once():
        code = pytest.main([target, "-q", "-rsx", *options], plugins=[seen])
    if code == pytest.ExitCode.TESTS_FAILED:
        return ExitCode.FAIL
    if code == pytest.ExitCode.INTERRUPTED:
        return exit_code_of(KeyboardInterrupt())
    if code != pytest.ExitCode.OK:
        return ExitCode.USAGE
    if not seen.explored:
        print(f"inconclusive: no test of job_harness was explored in {target}")
    return ExitCode.INCONCLUSIVE if seen.skipped or not seen.explored else ExitCode.PASS


class _Seen:
    """Counts what was explored, and what could not be judged."""

    def __init__(self) -> None:
        self.explored = 0
        self.skipped = 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Look at a report."""
        self.explored += any(EXPLORED in name for name, _ in report.sections) and report.when == "call"
        self.skipped += report.skipped and not hasattr(report, "wasxfail")
