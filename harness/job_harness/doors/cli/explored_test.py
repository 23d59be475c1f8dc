"""`job-harness explore test_file.py::test_name`: what `pytest --job-explore` does, with this command's exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from job_harness.core.interruption import exit_code_of, raised_at_once
from job_harness.errors import ExitCode


def is_test(target: str) -> bool:
    """Whether a target is a file of tests, or a test in one; `file.py:factory` is an application."""
    return target.partition("::")[0].endswith(".py")


def explore_test(target: str, options: Sequence[str]) -> int:
    """Let pytest explore it, and return an exit code: what pytest calls passed was judged, or it is inconclusive."""
    import pytest

    from job_harness.doors.pytest.failure_section import EXPLORED  # They import pytest.
    from job_harness.doors.pytest.left_open import UNJUDGED, never_in_session, uncalled_in_session

    seen = _Seen(explored=EXPLORED, unjudged=UNJUDGED)
    with raised_at_once():
        code = pytest.main([target, "-q", "-rsx", *options], plugins=[seen])
    if code == pytest.ExitCode.TESTS_FAILED:
        return ExitCode.FAIL
    if code == pytest.ExitCode.INTERRUPTED and not seen.uncollected:
        return exit_code_of(KeyboardInterrupt())
    if code != pytest.ExitCode.OK:
        return ExitCode.USAGE
    unjudged = seen.skipped or seen.unjudged or not seen.explored
    missed = never_in_session(seen.left) or uncalled_in_session(seen.left)
    return ExitCode.INCONCLUSIVE if unjudged or missed else ExitCode.PASS


class _Seen:
    """Counts what was explored, and what was not judged, by the title of a section and the beginning of its lines."""

    def __init__(self, *, explored: str, unjudged: str) -> None:
        self._title = explored
        self._mark = f"\n{unjudged}"
        self.explored = 0
        self.skipped = 0
        self.unjudged = 0
        self.left: list[tuple[str, dict[str, Any]]] = []
        """What each test left open."""
        self.uncollected = 0
        """Files that cannot be imported: pytest has one exit code for that and for Ctrl-C."""

    def pytest_collectreport(self, report: Any) -> None:
        """Look at what came of a file."""
        self.uncollected += report.failed

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Look at a report."""
        told = [text for name, text in report.sections if self._title in name and report.when == "call"]
        self.explored += bool(told)
        self.unjudged += sum(text.count(self._mark) for text in told)
        if hasattr(report, "job_left"):
            self.left.append((report.nodeid, report.job_left))
        self.skipped += report.skipped and not hasattr(report, "wasxfail")
