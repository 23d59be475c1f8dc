"""Annotations for GitHub: one workflow command a line, which shows at the line of the scenario."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import ExitCode
from harness.lint.finding import Finding, Severity
from harness.printable import printable
from harness.report.case import Case
from harness.report.wording import one_line
from harness.run.trial import stopped_by
from harness.scenario.problem import ScenarioError


def github_annotations(cases: Sequence[Case], errors: Sequence[ScenarioError]) -> str:
    """Write an error for every failure and every mistake in a file, a warning for what stayed open."""
    lines = [
        _command("error", error.path, problem.line, "scenario", problem.message)
        for error in errors
        for problem in error.problems
    ]
    for case in cases:
        if case.exit_code is ExitCode.PASS:
            continue
        level = "warning" if case.exit_code is ExitCode.INCONCLUSIVE else "error"
        title = f"{case.engine}: {case.scenario.title or case.name}"
        stopped = stopped_by(case.run.trials) if case.run is not None else ""
        told = f"{case.headline}\nStopped by: {stopped}" if stopped else case.headline
        lines.append(_command(level, case.scenario.path, case.line, title, told))
    return "".join(f"{line}\n" for line in lines)


def finding_annotations(findings: Sequence[Finding]) -> str:
    """Write a command for every finding of `check`, with its repair."""
    levels = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
    return "".join(
        _command(
            levels[finding.severity],
            finding.place.file,
            finding.place.line,
            finding.rule,
            f"{finding.message}\n{finding.repair}",
        )
        + "\n"
        for finding in findings
    )


def _command(level: str, path: str, line: int, title: str, message: str) -> str:
    where = f"file={_property(path)},line={line},title={_property(one_line(title))}"
    return f"::{level} {where}::{_data(message)}"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
