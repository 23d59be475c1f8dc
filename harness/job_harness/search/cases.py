"""(scenario, engine, control) -> case: for the command line and for pytest alike.

An engine that breaks costs only its own cases. Knows no terminal, no file and no test framework.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from job_harness.core.port import Engine
from job_harness.core.run.play import NO_LIMITS, case_name, examine
from job_harness.core.run.session import Limits
from job_harness.core.scenario.reader import controlled, named_at
from job_harness.core.scenario.scenario import Control, Scenario
from job_harness.errors import EnvironmentUnavailable, HarnessError, ProgramMissing, at_place
from job_harness.report.case import OWN, Case
from job_harness.search.finding import broken_engine
from job_harness.search.targets import NotApplicable, bare_name, engine_name, explained, is_target, scenario_processors

MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Task:
    """One case that is still to be run."""

    scenario: Scenario
    engine: str
    control: Control | None = None


def tasks(scenarios: Iterable[Scenario], engines: Sequence[str], *, controls: bool) -> list[Task]:
    """List what is to be run, engine by engine; an application's scenario is run once, whatever the engines."""
    return [
        Task(scenario, place, control)
        for number, engine in enumerate(engines)
        for scenario in scenarios
        if number == 0 or scenario.application is None
        for control in (None, *(scenario.controls if controls else ()))
        if (place := _place(engine, engines, scenario, control)) is not None
    ]


def _place(engine: str, engines: Sequence[str], scenario: Scenario, control: Control | None) -> str | None:
    place = engine if control is None else control_place(control, engine, engines)
    own = control is not None and control.engine is not None
    return place if own or place is None or scenario.application is None or is_target(engine) else OWN


def control_place(control: Control, engine: str, engines: Sequence[str]) -> str | None:
    """Return on which engine a control is run, of a scenario that is run on `engine`; None: it is run beside another.

    One that names its engine is run there, once. A wrong queue cannot take the place of a user's own: it shows on
    memory, once, that the scenario can fail.
    """
    if control.engine is not None:
        return control.engine if engine == engines[0] else None
    if control.queue is None or not is_target(engine):
        return engine
    first = engine == next(name for name in engines if is_target(name))
    return MEMORY if first and MEMORY not in engines else None


class EngineShelf(Protocol):
    """Opens engines by name, each once."""

    def get(self, name: str) -> Engine:
        """Return the engine with this name."""
        ...

    def drop(self, name: str) -> None:
        """Close one; the next `get` opens it anew."""
        ...


@dataclass(slots=True)
class CaseRunner:
    """Runs tasks; `cases` grows as it goes, so that an interrupted one has something to tell."""

    engines: EngineShelf
    seed: int | None = None
    limits: Limits = NO_LIMITS
    frugal: bool = False
    """Close each wrong queue after its case."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What `--set` changed, by setting; an engine that fixes one of them refuses."""
    doing: Callable[[str], None] = lambda told: None
    """Hears of what takes long within a case."""
    cases: list[Case] = field(default_factory=list)
    _gone: dict[str, HarnessError] = field(default_factory=dict)

    def run(self, todo: Iterable[Task], *, done: Callable[[Case], None] = lambda case: None) -> None:
        """Run all; `done` hears of each case."""
        for task in todo:
            case = self.case(task)
            self.cases.append(case)
            done(case)

    def case(self, task: Task, *, folder: Path | None = None) -> Case:
        """Run one task. Paths in its scenario are relative to `folder`, the scenario's own unless given."""
        base = Case(task.scenario, task.engine, control=task.control)
        scenario = task.scenario if task.control is None else controlled(task.scenario, task.control)
        name, written = task.engine, named_at(task.scenario, task.control)
        try:
            with at_place(written):
                name = engine_name(task.engine, scenario, folder=folder)
            gone = self._gone.get(bare_name(name))
            if gone is not None:
                kind = ProgramMissing if isinstance(gone, ProgramMissing) else EnvironmentUnavailable
                return replace(base, error=kind(f"not run: {gone.message}", hint=gone.hint))
            with at_place(written):
                engine = self.engines.get(name)
            engine.info.contract.refuse(self.changes)
            opened = partial(scenario_processors, blocked_after=self.limits.blocked_after)
            run, told = examine(scenario, engine=engine, seed=self.seed, processors=opened, limits=self.limits)
            if task.control:
                place = engine.info.contract.differences.get(f"{case_name(scenario.path)} [{task.control.name}]")
                if place is not None and task.control.finds not in run.found:
                    return replace(base, skipped=f"documented: {place}")
                return replace(base, run=run)
            if run.anomalies:
                self.doing(f"{task.engine}: trying fixes")
            return replace(base, run=explained(run, name, self.engines.get), explanation=told)
        except NotApplicable as error:
            return replace(base, skipped=f"not on {task.engine}: {error.message}; {error.hint}")
        except EnvironmentUnavailable as error:
            self.engines.drop(bare_name(name))
            self._gone[bare_name(name)] = error
            return replace(base, error=error)
        except HarnessError as error:
            return replace(base, error=error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an engine may raise anything; the other cases still count
            self.engines.drop(name)
            broken = broken_engine(name, error)
            broken.__cause__ = error
            return replace(base, error=broken)
        finally:
            if self.frugal and "+" in name:
                self.engines.drop(name)
