"""A scenario as a value. Reading it from YAML is another module's work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model.duration import SECOND, Duration, format_duration
from harness.model.settings import Settings
from harness.scenario.job_plan import JobPlan
from harness.scenario.processor_plan import ProcessorPlan
from harness.scenario.step import Step
from harness.sim.choices import Tape

DEFAULTS = Settings()
SCHEDULERS = ("scheduler-1", "scheduler-2")
"""Two instances tick where a job is scheduled: what one of them misses or doubles shows beside the other."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must come out for one job; None is not asked."""

    status: str | None = None
    attempts: int | None = None
    runs: int | None = None
    path: tuple[str, ...] | None = None
    gaps: tuple[tuple[Duration, Duration], ...] | None = None
    """The waits between one attempt's end and the next one's start, shortest and longest allowed."""
    output: Any = None
    error: str | None = None
    """A part of the error text."""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Control:
    """A wrong queue, a wrong setting or another engine on which the scenario must find a named anomaly."""

    finds: str
    queue: str | None = None
    engine: str | None = None
    application: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0

    @property
    def name(self) -> str:
        """Name it, for test ids."""
        lengths = Settings.duration_names()
        changed = [
            f"{key}={format_duration(value) if key in lengths else value}" for key, value in self.settings.items()
        ]
        return " ".join([*(name for name in (self.queue, self.engine, self.application) if name), *changed])


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is at work, what goes wrong, what must come out."""

    title: str = ""
    why: str = ""
    settings: Settings = DEFAULTS
    env: Mapping[str, str | None] = field(default_factory=dict)
    processors: Mapping[str, ProcessorPlan] = field(default_factory=dict)
    workers: tuple[str, ...] = ("w1",)
    jobs: tuple[JobPlan, ...] = ()
    steps: tuple[Step, ...] = ()
    tape: Tape = ()
    """What deviates from the boring run, as the explorer wrote it."""
    restart_after: Duration | None = None
    """A crashed process comes back after this; None: it stays down until a step restarts it, or the system heals."""
    queue: str | None = None
    """A wrong queue to run on, by name."""
    application: str | None = None
    """An application of somebody's own to run on: `module:factory` or `path.py:factory`, `+SAFEGUARD` behind it."""
    expect: Mapping[str, Expectation] = field(default_factory=dict)
    controls: tuple[Control, ...] = ()
    path: str = ""
    """The file it came from."""
    application_line: int = field(default=0, compare=False)
    """Where that file names the application."""

    def plan_of(self) -> dict[str, JobPlan]:
        """Answer the plan of every job by id."""
        return {name: plan for plan in self.jobs for name in plan.names()}


RESTART_AFTER: Duration = 5 * SECOND
"""What a platform needs to bring a process back; the explorer's scenarios use it."""
