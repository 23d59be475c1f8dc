"""What a processor's contract came to: one line for each check, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass

from harness.processors.contract.check import Check, Finding, Outcome
from harness.run.verdict import Verdict

_SIGNS = {
    Outcome.PASSED: "ok",
    Outcome.FAILED: "FAIL",
    Outcome.WAIVED: "waived",
    Outcome.NOT_APPLICABLE: "n/a",
    Outcome.INCONCLUSIVE: "?",
}


@dataclass(frozen=True, slots=True)
class ContractReport:
    """The findings of all checks, in the order of the contract."""

    processor: str
    findings: tuple[tuple[Check, Finding], ...]
    notes: tuple[str, ...] = ()
    """What was not under control."""

    @property
    def verdict(self) -> Verdict:
        """Fail where a check failed; inconclusive where one that was not waived could not be judged."""
        outcomes = {finding.outcome for _, finding in self.findings}
        if Outcome.FAILED in outcomes:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if Outcome.INCONCLUSIVE in outcomes else Verdict.PASS

    @property
    def failed(self) -> list[str]:
        """The ids of the checks that failed."""
        return [check.id for check, finding in self.findings if finding.outcome is Outcome.FAILED]

    def finding(self, id: str) -> Finding:
        """Answer what one check came to. Raises KeyError."""
        return {check.id: finding for check, finding in self.findings}[id]

    def __str__(self) -> str:
        lines = [f"{self.verdict.upper()}  the contract of {self.processor}"]
        for check, finding in self.findings:
            lines.append(f"  {_SIGNS[finding.outcome]:6} {check.id}: {check.sentence}")
            lines += [f"           {line}" for line in finding.lines]
            if finding.outcome is Outcome.FAILED:
                lines.append(f"           -> {check.repair}")
        lines += [f"  not under control: {note}" for note in self.notes]
        return "\n".join(lines)
