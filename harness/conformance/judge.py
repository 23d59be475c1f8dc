"""Runs the cases on one engine and says how far it conforms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.conformance.level import Level
from harness.conformance.shelf import Case, cases
from harness.errors import EnvironmentUnavailable, ExitCode, HarnessError
from harness.port import Engine, contract_of
from harness.run.explanation import explanation
from harness.run.play import play, uncovered_capabilities
from harness.run.session import Limits
from harness.run.verdict import Run, Verdict
from harness.scenario.scenario import needed_capabilities

LIMITS = Limits(steps=3_000)
"""A case is small; one that goes on for longer never rests."""


class Mark(StrEnum):
    """What became of a case."""

    PASS = "pass"
    FAIL = "fail"
    SKIPPED = "skipped"
    """The engine declares that it cannot do what the case needs."""
    DIFFERENT = "different"
    """The engine documents that it does this otherwise."""
    KNOWN = "known"
    """It breaks a promise, and the engine's contract tells where that is recorded."""
    OPEN = "open"
    """It could not be judged."""


JUDGED = (Mark.PASS, Mark.FAIL, Mark.KNOWN, Mark.OPEN)


@dataclass(frozen=True, slots=True)
class Result:
    """One case on one engine."""

    case: Case
    mark: Mark
    why: str = ""
    run: Run | None = None


@dataclass(frozen=True, slots=True)
class Conformance:
    """How far one engine conforms."""

    engine: str
    results: Sequence[Result]
    lies: Sequence[str] = field(default=())
    """Capabilities that it declares, and none of whose cases passes."""

    def of(self, level: Level) -> Mapping[Mark, int]:
        """Count the marks of one level."""
        marks = [result.mark for result in self.results if result.case.level is level]
        return {mark: marks.count(mark) for mark in Mark}

    @property
    def badge(self) -> str:
        """Say it in one line: of each level, how many of the cases that were judged pass."""
        parts = []
        for level in Level:
            counts = self.of(level)
            judged = sum(counts[mark] for mark in JUDGED)
            if judged:
                parts.append(f"{level} {counts[Mark.PASS]}/{judged}")
        return ", ".join(parts) or "nothing was judged"

    @property
    def exit_code(self) -> ExitCode:
        """What a command answers for it."""
        marks = {result.mark for result in self.results}
        if Mark.FAIL in marks or self.lies:
            return ExitCode.FAIL
        return ExitCode.INCONCLUSIVE if Mark.OPEN in marks or Mark.PASS not in marks else ExitCode.PASS

    def as_data(self) -> dict[str, Any]:
        """Answer it as JSON data."""
        return {
            "engine": self.engine,
            "badge": self.badge,
            "declared and not shown": list(self.lies),
            "levels": {str(level): {str(mark): n for mark, n in self.of(level).items()} for level in Level},
            "cases": [
                {"level": str(item.case.level), "case": item.case.name, "mark": str(item.mark), "why": item.why}
                for item in self.results
            ],
        }


def conform(
    engine: Engine, *, levels: Collection[Level] = tuple(Level), watch: Callable[[Result], None] = lambda result: None
) -> Conformance:
    """Run every case of these levels; `watch` hears of each result. Raises what the engine raises where it breaks."""
    results = []
    for case in cases(levels):
        results.append(judged(case, engine))
        watch(results[-1])
    return Conformance(engine.name, results, _lies(engine, results))


def judged(case: Case, engine: Engine) -> Result:
    """Run one case on an engine."""
    missing = uncovered_capabilities(case.scenario, engine)
    if missing:
        return Result(case, Mark.SKIPPED, missing[0])
    try:
        run = play(case.scenario, engine=engine, limits=LIMITS)
    except EnvironmentUnavailable:
        raise
    except HarnessError as error:
        return Result(case, Mark.OPEN, error.message)
    if run.verdict is Verdict.PASS:
        return Result(case, Mark.PASS, run=run)
    if run.verdict is Verdict.INCONCLUSIVE:
        return Result(case, Mark.OPEN, "; ".join(run.uncovered), run)
    if (told := explanation(case.name, run, contract_of(engine))) is not None:
        return Result(case, Mark(told.kind), told.place, run)
    anomaly = run.gravest
    why = f"{anomaly.name}: {anomaly.message}" if anomaly is not None else run.failures[0]
    return Result(case, Mark.FAIL, " ".join(why.split()), run)


def _lies(engine: Engine, results: Sequence[Result]) -> list[str]:
    """A capability is shown by one case that needs it and passes, or is known to differ."""
    shown: dict[str, bool] = {}
    for result in results:
        if result.mark not in (Mark.SKIPPED, Mark.OPEN):
            for name in needed_capabilities(result.case.scenario):
                shown[name] = shown.get(name, False) or result.mark in (Mark.PASS, Mark.DIFFERENT)
    return [name for name, seen in shown.items() if not seen and getattr(engine.capabilities, name)]
