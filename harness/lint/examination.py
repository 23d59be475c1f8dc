"""All rules over all facts: what was found, and what could not be told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.lint.catalogue import CATALOGUE
from harness.lint.facts import Facts
from harness.lint.finding import Finding, Severity
from harness.lint.place import Value


@dataclass(frozen=True, slots=True)
class Examination:
    """The findings in the order of their weight and place; `accepted` are those that a baseline holds."""

    findings: tuple[Finding, ...]
    unknown: tuple[Value, ...] = ()
    files: int = 0
    accepted: tuple[Finding, ...] = ()
    covered: bool = True
    """Whether there was anything to judge."""
    uncovered: tuple[str, ...] = ()
    """What was asked for and could not be judged."""

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """Answer the findings of this weight or more."""
        return tuple(finding for finding in self.findings if finding.severity >= severity)


def examine(
    facts: Facts, *, without: Collection[str] = (), now: Sequence[Finding] = (), uncovered: Sequence[str] = ()
) -> Examination:
    """Judge by every rule but those named; `now` is what a database shows, in the order of its causes."""
    found = [finding for rule in CATALOGUE if rule.id not in without for finding in rule.findings(facts)]
    found.sort(key=lambda finding: (-finding.severity, finding.place, finding.rule, finding.message))
    unknown = tuple(dict.fromkeys(facts.unknown_values()))
    shown = [finding for finding in now if finding.rule not in without]
    return Examination(
        (*shown, *found), unknown, facts.files, covered=_anything(facts) or bool(now), uncovered=tuple(uncovered)
    )


def _anything(facts: Facts) -> bool:
    settings = facts.values or facts.services or facts.crons or facts.listed or facts.calls
    return bool(settings or facts.columns or facts.seeds or facts.packages or facts.unreadable or facts.open_doors)
