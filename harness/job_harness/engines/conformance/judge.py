"""The suite of levels and cases, and what an engine makes of it: cases that pass, differ, are known, are open, or fail.

It knows no engine by name, and nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from job_harness.core.history import Observed, Return
from job_harness.core.invariants import Anomaly
from job_harness.core.model import Status
from job_harness.core.own_code import CHECKOUT
from job_harness.core.port import Engine, IncompleteQueue
from job_harness.core.run.observation import IncompleteView
from job_harness.core.run.play import examine, fixed_otherwise, uncovered_capabilities
from job_harness.core.run.session import Limits
from job_harness.core.run.verdict import Run, Verdict
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.scenario import Scenario, needed_capabilities
from job_harness.errors import EnvironmentUnavailable, ExitCode, HarnessError


class Level(StrEnum):
    """A level of conformance, the first to be reached first."""

    CORE = "core"
    """Jobs are accepted, claimed once, finished, retried and cancelled."""
    RELIABLE = "reliable"
    """Crashes, lost messages, stalls, hostile values and wrong clocks lose and double nothing."""
    SCHEDULED = "scheduled"
    """Start times and priorities are kept."""
    UNIQUE = "unique"
    """Unique keys, serial keys and limits are kept, and given back."""
    BATCHES = "batches"
    """Several jobs in one claim, several in one transaction."""
    CRON = "cron"
    """Schedules, and the maintenance of two tables."""

    @property
    def themes(self) -> tuple[str, ...]:
        """The folders of scenarios that belong to it."""
        return _THEMES[self]


_THEMES: dict[Level, tuple[str, ...]] = {
    Level.CORE: ("lifecycle", "retries", "cancel"),
    Level.RELIABLE: ("crashes", "expiry", "zombies", "hostile", "clocks", "shutdown", "dead_letters"),
    Level.SCHEDULED: ("scheduling",),
    Level.UNIQUE: ("uniqueness", "concurrency"),
    Level.BATCHES: ("configuration", "transactions"),
    Level.CRON: ("maintenance", "tables", "schedules"),
}


HERE: Final = Path(__file__).resolve().parent
PLACES: Final = (HERE / "scenarios", CHECKOUT / "scenarios")


class SuiteCase(NamedTuple):
    """One scenario of a level; its name is its folder and file."""

    level: Level
    name: str
    scenario: Scenario


def cases(levels: Collection[Level] = tuple(Level), *, queues: Collection[str] | None = None) -> Iterator[SuiteCase]:
    """Return the cases of these levels, in order. `queues` are the wrong queues that their controls may name.

    Raises EnvironmentUnavailable where the installation has no scenarios, ScenarioError for one
    that is broken.
    """
    root = next((place for place in PLACES if place.is_dir()), None)
    if root is None:
        raise EnvironmentUnavailable(
            f"this installation has no scenarios in {PLACES[0]}", hint="Install job-harness again."
        )
    for level in Level:
        if level not in levels:
            continue
        for theme in level.themes:
            for path in sorted((root / theme).glob("*.yaml")):
                scenario = read_scenario(path, queues=queues)
                yield SuiteCase(level, f"{theme}/{path.stem}", replace(scenario, path=f"{theme}/{path.name}"))


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

    case: SuiteCase
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
    unseen: Sequence[str] = field(default=())
    """Fields that `jobs()` showed of no job that ran, so that what depends on them was not judged."""

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
        """Return it as JSON data."""
        return {
            "engine": self.engine,
            "badge": self.badge,
            "declared_not_shown": list(self.lies),
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
        results.append(judge_case(case, engine))
        watch(results[-1])
    return Conformance(engine.info.name, results, _lies(engine, results), _unseen(results))


def judge_case(case: SuiteCase, engine: Engine) -> Result:
    """Run one case on an engine."""
    missing = uncovered_capabilities(case.scenario, engine)
    if missing:
        return Result(case, Mark.SKIPPED, missing[0])
    try:
        run, told = examine(case.scenario, engine=engine, limits=LIMITS)
    except (EnvironmentUnavailable, IncompleteQueue, IncompleteView):
        raise
    except HarnessError as error:
        return Result(case, Mark.OPEN, error.message)
    if run.verdict is Verdict.PASS:
        return Result(case, Mark.PASS, run=run)
    if run.verdict is Verdict.INCONCLUSIVE:
        return Result(case, Mark.OPEN, "; ".join(run.uncovered), run)
    if told is not None:
        return Result(case, Mark(told.kind), told.place, run)
    if not run.anomalies and (fixed := fixed_otherwise(case.scenario, engine)):
        return Result(case, Mark.SKIPPED, fixed[0], run)
    anomaly = run.gravest
    why = run.failures[0] if anomaly is None else f"{anomaly.name}: {anomaly.message}{_raised_at(run, anomaly)}"
    return Result(case, Mark.FAIL, " ".join(why.split()), run)


def _raised_at(run: Run, anomaly: Anomaly) -> str:
    event = run.history.events[anomaly.event]
    place = run.raised.get(event.number) if isinstance(event, Return) else None
    return f" (at {place})" if place else ""


def _lies(engine: Engine, results: Sequence[Result]) -> list[str]:
    """A capability is shown by one case that needs it and passes, or is known to differ."""
    shown: dict[str, bool] = {}
    for result in results:
        if result.mark not in (Mark.SKIPPED, Mark.OPEN):
            for name in needed_capabilities(result.case.scenario):
                shown[name] = shown.get(name, False) or result.mark in (Mark.PASS, Mark.DIFFERENT)
    return [name for name, seen in shown.items() if not seen and getattr(engine.info.capabilities, name)]


OF_A_RUN: Final = ("worker", "started_at", "lease_until")
"""Fields of a view that are to be set while a job runs."""


def _unseen(results: Sequence[Result]) -> list[str]:
    """Return the fields that no job had while it ran; none, where no job ran."""
    running = [
        event.after
        for result in results
        if result.run is not None
        for event in result.run.history.events
        if isinstance(event, Observed) and event.after is not None and event.after.status is Status.PROCESSING
    ]
    return [name for name in OF_A_RUN if running and all(getattr(view, name) is None for view in running)]
