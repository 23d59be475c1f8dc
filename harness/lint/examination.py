"""All rules over all facts: what was found, what could not be told, and what a baseline accepts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from harness.errors import UsageError
from harness.lint.catalogue import CATALOGUE
from harness.lint.facts import Facts, Value
from harness.lint.finding import CheckFinding, Severity


@dataclass(frozen=True, slots=True)
class Examination:
    """The findings in the order of their weight and place; `accepted` are those that a baseline holds."""

    findings: tuple[CheckFinding, ...]
    unknown: tuple[Value, ...] = ()
    files: int = 0
    accepted: tuple[CheckFinding, ...] = ()
    covered: bool = True
    """Whether there was anything to judge."""
    uncovered: tuple[str, ...] = ()
    """What was asked for and could not be judged."""

    def at_least(self, severity: Severity) -> tuple[CheckFinding, ...]:
        """Answer the findings of this weight or more."""
        return tuple(finding for finding in self.findings if finding.severity >= severity)


def examine(
    facts: Facts, *, without: Collection[str] = (), now: Sequence[CheckFinding] = (), uncovered: Sequence[str] = ()
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


FORMAT: Final = "job-harness-check-baseline"
VERSION: Final = 1

Key = tuple[str, str, str]


def dump_baseline(findings: Iterable[CheckFinding]) -> str:
    """Write the findings to be accepted. Lines are left out: what stands above a finding may change."""
    accepted = [{"rule": rule, "file": file, "message": message} for rule, file, message in sorted(_keys(findings))]
    return json.dumps({"format": FORMAT, "version": VERSION, "accepted": accepted}, indent=2) + "\n"


def _keys(findings: Iterable[CheckFinding]) -> list[Key]:
    return [finding.key for finding in findings]


def load_baseline(text: str, *, path: str) -> Counter[Key]:
    """Read a baseline.

    Raises UsageError where it is none.
    """
    try:
        document = json.loads(text)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError(f"its format is no {FORMAT} of version {VERSION}")
        return Counter((str(one["rule"]), str(one["file"]), str(one["message"])) for one in document["accepted"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        told = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        raise UsageError(
            f"{path}: is no baseline: {told}", hint=f"Write one with --write-baseline {path}, and let it only shrink."
        ) from None


def settled(examination: Examination, baseline: Counter[Key]) -> tuple[Examination, Counter[Key]]:
    """Move accepted findings aside; answers also what the baseline holds and nobody found any more."""
    left = Counter(baseline)
    findings: list[CheckFinding] = []
    accepted: list[CheckFinding] = []
    for finding in examination.findings:
        if left[finding.key] > 0:
            left[finding.key] -= 1
            accepted.append(finding)
        else:
            findings.append(finding)
    return replace(examination, findings=tuple(findings), accepted=tuple(accepted)), +left
