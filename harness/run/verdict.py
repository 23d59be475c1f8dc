"""What a run comes to: pass, fail or inconclusive, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.errors import ExitCode
from harness.history.event import History
from harness.invariants import Anomaly, gravity
from harness.run.trial import Trial
from harness.scenario.scenario import Scenario
from harness.sim.choices import Deviation


class Verdict(StrEnum):
    """Three answers, each with an exit code of its own."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> ExitCode:
        """What a command answers for it."""
        return {Verdict.PASS: ExitCode.PASS, Verdict.FAIL: ExitCode.FAIL}.get(self, ExitCode.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Run:
    """Everything about one run."""

    scenario: Scenario
    engine: str
    history: History
    tape: tuple[Deviation, ...]
    anomalies: tuple[Anomaly, ...] = ()
    failures: tuple[str, ...] = ()
    """What the scenario expected and did not get, with `file:line`."""
    uncovered: tuple[str, ...] = ()
    """What could not be judged here, and how to cover it."""
    steps: int = 0
    now: int = 0
    cut: bool = False
    """It had taken as many steps as a run may, and jobs still came or ended."""
    seed: int | None = None
    trials: tuple[Trial, ...] = ()
    """What was changed, one thing at a time, to see what stops the anomaly."""
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Fail where anything was breached; inconclusive where something asked for was not judged."""
        if self.anomalies or self.failures:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if self.uncovered else Verdict.PASS

    @property
    def gravest(self) -> Anomaly | None:
        """Answer the anomaly that costs most."""
        return min(self.anomalies, key=lambda anomaly: (gravity(anomaly.name), anomaly.event), default=None)

    def led_by(self, name: str) -> Anomaly | None:
        """Answer the first anomaly of this name, or the gravest where there is none."""
        named = (anomaly for anomaly in self.anomalies if anomaly.name == name)
        return min(named, key=lambda anomaly: anomaly.event, default=None) or self.gravest

    @property
    def found(self) -> frozenset[str]:
        """Answer the names of all anomalies."""
        return frozenset(anomaly.name for anomaly in self.anomalies)
