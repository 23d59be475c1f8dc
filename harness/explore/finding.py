"""A breach that was found, and what a search came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.errors import ExitCode
from harness.explore.coverage import Coverage
from harness.explore.situations import Situation
from harness.explore.steadiness import Unsteady
from harness.explore.tally import Trouble
from harness.run.verdict import Run, Verdict
from harness.scenario.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Finding:
    """The smallest known run that shows an anomaly."""

    anomaly: str
    scenario: Scenario
    """Replays the run: its tape is part of it."""
    run: Run
    seed: int
    """The seed of the run in which it was first seen."""
    runs: int
    """How many runs it took to see it."""
    shrink_runs: int
    minimal: bool = True
    """False where shrinking was interrupted."""
    drawn: str = ""
    """How the run in which it was first seen was drawn."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a search looked at and what it found."""

    engine: str
    seed: int
    runs: int
    steps: int
    findings: tuple[Finding, ...] = ()
    """One for each anomaly, in the order in which they were met."""
    interruption: BaseException | None = None
    """What ended the search before its time, where somebody did."""
    coverage: Coverage = field(default_factory=Coverage)
    missing: tuple[Situation, ...] = ()
    """Situations that never occurred although the campaign was long enough to expect them."""
    unsteady: Unsteady | None = None
    """A run that could not be had again: nothing the search says can be relied on."""
    trouble: Trouble | None = None
    """What kept the search from going on."""
    stock: bool = True
    """Whether the actors were the stock ones, rather than an application's own."""
    cut: int = 0
    """How many runs reached their limit of steps: of these only the part before it was judged."""

    @property
    def finding(self) -> Finding | None:
        """Answer the first anomaly met."""
        return self.findings[0] if self.findings else None

    @property
    def interrupted(self) -> bool:
        """Whether somebody ended the search before its time."""
        return self.interruption is not None

    @property
    def found(self) -> frozenset[str]:
        """Answer the names of all anomalies that the findings show."""
        return frozenset(name for finding in self.findings for name in (finding.anomaly, *finding.run.found))

    @property
    def verdict(self) -> Verdict:
        """Fail where something was found or missed; inconclusive where runs do not repeat, or none came to its end."""
        if self.findings or self.missing or (self.trouble is not None and self.trouble.code is ExitCode.FAIL):
            return Verdict.FAIL
        if self.unsteady is not None or self.trouble is not None or self.cut == self.runs:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS
