"""What `check` found, for people: the gravest first, each with its place, what else sets it, and what to change."""

from __future__ import annotations

from harness.lint.examination import Examination
from harness.lint.finding import CheckFinding, Severity
from harness.report.screen import WIDTH, Line
from harness.report.wording import one_line, wrap

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
MOST_UNKNOWN = 6


def findings_screen(examination: Examination, *, fail_on: Severity, quiet: bool = False) -> list[Line]:
    """Answer all that is printed; when quiet only what fails."""
    shown = examination.at_least(fail_on) if quiet else examination.findings
    lines = [line for finding in shown for line in _finding(finding)]
    if examination.unknown and not quiet:
        named = [f"{value.name} of {value.service} ({value.place})" for value in examination.unknown[:MOST_UNKNOWN]]
        more = len(examination.unknown) - len(named)
        text = "; ".join([*named, *([f"{more} more"] if more > 0 else [])])
        lines += [Line(line) for line in wrap("Not to be told from files: ", text, width=WIDTH, lines=6)]
    if not quiet:
        lines += [
            Line(line) for text in examination.skipped for line in wrap("Not looked at: ", text, width=WIDTH, lines=3)
        ]
    lines += [
        Line(line, "yellow") for text in examination.uncovered for line in wrap("Open: ", text, width=WIDTH, lines=3)
    ]
    return [*lines, *_summary(examination, fail_on)]


def _finding(finding: CheckFinding) -> list[Line]:
    head = f"{finding.severity} {finding.rule} {finding.place}"
    lines = [Line(one_line(head), STYLES[finding.severity])]
    lines += [Line(text) for text in wrap("  ", finding.message, width=WIDTH, lines=8)]
    for other in finding.related:
        lines += [Line(text) for text in wrap("    see ", f"{other.place}: {other.message}", width=WIDTH, lines=3)]
    lines += [Line(text, "green") for text in wrap("  repair: ", finding.repair, width=WIDTH, lines=5)]
    return [*lines, Line("")]


def _summary(examination: Examination, fail_on: Severity) -> list[Line]:
    counts = {level: sum(one.severity is level for one in examination.findings) for level in reversed(Severity)}
    told = [f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items() if count]
    files = f"{examination.files} file{'' if examination.files == 1 else 's'} read"
    if examination.accepted:
        told.append(f"{len(examination.accepted)} accepted by the baseline")
    if not examination.covered:
        return [Line(f"inconclusive: {files}, and none of them sets anything of a job queue", "yellow")]
    failed = bool(examination.at_least(fail_on))
    word, style = ("FAIL", "bold red") if failed else ("pass", "green")
    if examination.uncovered and not failed:
        word, style = "inconclusive", "yellow"
    return [Line(f"{word}: {', '.join(told) or 'no contradiction'}; {files}", style)]
