"""One scenario on one engine, and its outcome; or one of its controls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from job_harness.core.run.play import Explanation, ExplanationKind
from job_harness.core.run.verdict import Run, Verdict
from job_harness.core.scenario.scenario import Control, Scenario
from job_harness.errors import ExitCode, HarnessError

OWN: Final = "application"
"""In the place of an engine: what the scenario itself names."""


@dataclass(frozen=True, slots=True)
class Case:
    """`run` is what happened; `error` is why nothing did; `skipped` is why nothing was asked."""

    scenario: Scenario
    engine: str
    run: Run | None = None
    control: Control | None = None
    error: HarnessError | None = None
    skipped: str = ""
    explanation: Explanation | None = None
    """What its engine's contract says of its failure: a documented difference is none, what is known stays one."""

    @property
    def verdict(self) -> Verdict:
        """A control passes where it finds its anomaly; where it finds none, the scenario cannot fail."""
        if self.run is None:
            return Verdict.INCONCLUSIVE
        if self.control is None:
            return Verdict.PASS if self.differs else self.run.verdict
        if self.control.finds in self.run.found:
            return Verdict.PASS
        return Verdict.INCONCLUSIVE if self.run.uncovered else Verdict.FAIL

    @property
    def lacking(self) -> bool:
        """Whether nothing was run because the engine cannot do what it needs."""
        return bool(self.skipped) or (self.run is not None and bool(self.run.uncovered) and not self.run.history.events)

    @property
    def differs(self) -> bool:
        """Whether it came out otherwise, and its engine documents that."""
        return self.explanation is not None and self.explanation.kind is ExplanationKind.DIFFERENT

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that ran it."""
        return self.error.exit_code if self.error is not None else self.verdict.exit_code

    @property
    def place(self) -> str:
        """Say what it ran on: a user's own queue or application by the name that its file gives it."""
        if self.engine != OWN:
            return self.engine
        return (self.control and self.control.application) or self.scenario.application or self.engine

    @property
    def name(self) -> str:
        """Name it: the file, and the control where it is one."""
        name = self.scenario.path or self.scenario.title or "scenario"
        return name if self.control is None else f"{name} [control {self.control.name}]"

    @property
    def line(self) -> int:
        """Return the line of the file that it is about."""
        return self.control.line if self.control is not None else 1

    @property
    def headline(self) -> str:
        """Say in one line what came out; empty where all is well and there is nothing to remark."""
        if self.error is not None:
            return self.error.message
        if self.skipped:
            return self.skipped
        if self.explanation is not None and self.differs:
            return f"documented: {self.explanation.place}"
        run = self.run
        if run is None:
            return ""
        if self.verdict is Verdict.PASS:
            return "; ".join(run.remarks)
        if self.verdict is Verdict.INCONCLUSIVE:
            return "; ".join(run.uncovered)
        if self.control is not None:
            return f"control {self.control.name} did not find {self.control.finds}; it found {_word_found(run.found)}"
        anomaly = run.lead
        if anomaly is not None:
            told = f" (known: {self.explanation.place})" if self.explanation is not None else ""
            return f"{anomaly.name}: {anomaly.message}{told}"
        return run.failures[0]


def _word_found(found: Iterable[str]) -> str:
    """List what a control found instead."""
    *others, last = sorted(found) or ["nothing: this scenario cannot fail there"]
    return f"{', '.join(others)} and {last}" if others else last


def exit_code_of(cases: Iterable[Case]) -> ExitCode:
    """Return one exit code for all: a failure outweighs a missing environment, that outweighs an open question.

    What an engine cannot do is no open question where another engine of the same command did it.
    """
    codes = {case.exit_code for case in without_excused(cases)}
    order = (ExitCode.FAIL, ExitCode.ENVIRONMENT, ExitCode.USAGE, ExitCode.INCONCLUSIVE)
    return next((code for code in order if code in codes), ExitCode.PASS)


def without_excused(cases: Iterable[Case]) -> list[Case]:
    """Leave out what one engine cannot do and another one did, with a verdict."""
    cases = list(cases)
    judged = {_key(case) for case in cases if case.verdict is not Verdict.INCONCLUSIVE}
    return [case for case in cases if not (case.lacking and _key(case) in judged)]


def verdict_of(cases: Iterable[Case], *, whole: bool = True) -> Verdict:
    """Return one verdict for all; it is no pass where these are not the `whole` of what was asked for."""
    code = exit_code_of(cases)
    passed = Verdict.PASS if whole else Verdict.INCONCLUSIVE
    return {ExitCode.PASS: passed, ExitCode.FAIL: Verdict.FAIL}.get(code, Verdict.INCONCLUSIVE)


def _key(case: Case) -> tuple[str, int]:
    return (case.scenario.path, case.line)
