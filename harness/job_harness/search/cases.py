"""(scenario, engine, control) -> case: for the command line and for pytest alike.

An engine that breaks costs only its own cases. Knows no terminal, no file and no test framework.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from job_harness.core.port import Engine
from job_harness.core.run.play import NO_LIMITS, case_name, examine
from job_harness.core.run.session import Limits
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.reader import controlled, named_at
from job_harness.core.scenario.scenario import Control, Scenario
from job_harness.core.target import Target
from job_harness.errors import EnvironmentUnavailable, HarnessError, ProgramMissing, at_place
from job_harness.report.blame import with_source
from job_harness.report.case import OWN, Case
from job_harness.review.audit.judging import audited
from job_harness.search import counterfactual
from job_harness.search.finding import broken_engine
from job_harness.search.targets import NotApplicable, provenance, safeguarded, scenario_processors, target_of
from job_harness.search.watchdog import SearchTime

MEMORY: Final = Target("memory")
OWN_TARGET: Final = Target(OWN)
"""The scenario's own application, before its file is found."""
FIX_SECONDS: Final = 30.0
"""Real time in which fixes of one failing run are tried; the run that is under way when it ends is given up."""
SYSTEM_FIX_SECONDS: Final = 150.0
"""The same, where processes are started for each."""
RUNS_OF_A_SYSTEM: Final = 15
"""How many fresh runs confirm a change where each starts processes: each costs a second or more."""


@dataclass(frozen=True, slots=True)
class Task:
    """One case that is still to be run."""

    scenario: Scenario
    target: Target
    control: Control | None = None


def tasks(scenarios: Iterable[Scenario], engines: Sequence[Target], *, controls: bool) -> list[Task]:
    """List what is to be run, engine by engine; an application's scenario is run once, whatever the engines."""
    return [
        Task(scenario, place, control)
        for number, engine in enumerate(engines)
        for scenario in scenarios
        if number == 0 or scenario.application is None
        for control in (None, *(scenario.controls if controls else ()))
        if (place := _place(engine, engines, scenario, control)) is not None
    ]


def _place(engine: Target, engines: Sequence[Target], scenario: Scenario, control: Control | None) -> Target | None:
    place = engine if control is None else control_place(control, engine, engines)
    own = control is not None and control.engine is not None
    return place if own or place is None or scenario.application is None or engine.is_own else OWN_TARGET


def control_place(control: Control, engine: Target, engines: Sequence[Target]) -> Target | None:
    """Return on which engine a control is run, of a scenario that is run on `engine`; None: it is run beside another.

    One that names its engine is run there, once. A wrong queue cannot take the place of a user's
    own: it shows on memory, once, that the scenario can fail.
    """
    if control.engine is not None:
        return Target.parse(control.engine) if engine == engines[0] else None
    if control.queue is None or not engine.is_own:
        return engine
    first = engine == next(each for each in engines if each.is_own)
    return MEMORY if first and MEMORY not in engines else None


class EngineShelf(Protocol):
    """Opens engines, each once."""

    def get(self, target: Target) -> Engine:
        """Return the engine of this target."""

    def drop(self, target: Target) -> None:
        """Close one; the next `get` opens it anew."""


@dataclass(slots=True)
class CaseRunner:
    """Runs tasks; `cases` grows as it goes, so that an interrupted one has something to tell."""

    engines: EngineShelf
    seed: int | None = None
    limits: Limits = NO_LIMITS
    frugal: bool = False
    """Close each wrong queue after its case."""
    fix_seconds: float = FIX_SECONDS
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What `--set` changed, by setting; an engine that fixes one of them refuses."""
    doing: Callable[[str], None] = lambda what: None
    """Hears of what takes long within a case."""
    cases: list[Case] = field(default_factory=list)
    _gone: dict[Target, HarnessError] = field(default_factory=dict)

    def run(self, todo: Iterable[Task], *, done: Callable[[Case], None] = lambda case: None) -> None:
        """Run all; `done` hears of each case."""
        for task in todo:
            case = self.case(task)
            self.cases.append(case)
            done(case)

    def case(self, task: Task, *, folder: Path | None = None) -> Case:
        """Run one task. Paths in its scenario are relative to `folder`, the scenario's own unless given."""
        base = Case(task.scenario, str(task.target), control=task.control)
        scenario = task.scenario if task.control is None else controlled(task.scenario, task.control)
        target, written = task.target, named_at(task.scenario, task.control)
        try:
            with at_place(written):
                target = target_of(scenario, task.target, folder=folder)
            gone = self._gone.get(target.right)
            if gone is not None:
                kind = ProgramMissing if isinstance(gone, ProgramMissing) else EnvironmentUnavailable
                return replace(base, error=kind(f"not run: {gone.message}", hint=gone.hint))
            with at_place(written):
                engine = self.engines.get(target)
            engine.info.contract.refuse(self.changes)
            opened = partial(scenario_processors, blocked_after=self.limits.blocked_after)
            run, told = examine(scenario, engine=engine, seed=self.seed, processors=opened, limits=self.limits)
            run = with_source(audited(run), engine.info)
            if task.control:
                place = engine.info.contract.differences.get(f"{case_name(scenario.path)} [{task.control.name}]")
                if place is not None and task.control.finds not in run.found:
                    return replace(base, skipped=f"documented: {place}")
                return replace(base, run=run)
            if run.anomalies:
                self.doing(f"{task.target}: trying fixes")
            return replace(base, run=with_fixes(run, target, self.engines, seconds=self.fix_seconds), explanation=told)
        except NotApplicable as error:
            return replace(base, skipped=f"not on {task.target}: {error.message}; {error.hint}")
        except EnvironmentUnavailable as error:
            self.engines.drop(target.right)
            self._gone[target.right] = error
            return replace(base, error=error)
        except HarnessError as error:
            return replace(base, error=error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an engine may raise anything; the other cases still count
            self.engines.drop(target)
            broken = broken_engine(str(target), error)
            broken.__cause__ = error
            return replace(base, error=broken)
        finally:
            if self.frugal and target != target.right:
                self.engines.drop(target)


def with_fixes(
    run: Run,
    target: Target,
    engines: EngineShelf,
    *,
    anomaly: str = "",
    seconds: float = FIX_SECONDS,
    of_systems: bool = False,
) -> Run:
    """Return a run that failed on this target together with what would have stopped its anomaly.

    On PostgreSQL fewer runs are drawn anew: hundreds for each change would take minutes. An engine
    whose steps are slow takes as long, so what was not tried within `seconds` is named as such.
    Changes of a system are tried only where that is asked for: each is another system to start.
    """
    engine = engines.get(target)
    if not run.anomalies or run.scenario.processors or (target.is_system and not of_systems):
        return run
    guarded = [counterfactual.Safeguard(what, engines.get(one)) for what, one in safeguarded(target, engine).items()]
    runs = counterfactual.RUNS_ON_A_SERVER if provenance(target, engine) else counterfactual.RUNS
    runs = RUNS_OF_A_SYSTEM if target.is_system else runs
    with SearchTime(seconds) as time:
        return counterfactual.with_fixes(run, engine=engine, safeguards=guarded, anomaly=anomaly, runs=runs, time=time)
