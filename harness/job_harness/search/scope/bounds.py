"""The bounds of an exhaustive search, as a value, and the workloads within them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from typing import Any, Final, NamedTuple

from job_harness.core.faults import FaultKind, FaultPlan, kinds
from job_harness.core.model import SECOND, Duration, Settings
from job_harness.core.port import Capabilities
from job_harness.core.run.worker import first_look
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.errors import UsageError, available, did_you_mean
from job_harness.search.workload import ENDINGS, MORE_ENDINGS, SPANS

MOST_WORKERS = 3
MOST_JOBS = 4
MOST_FAULTS = 9
"""Of one kind."""


COUNTS = {
    "workers": ("number of workers", 2),
    "jobs": ("number of jobs", 2),
    "cancels": ("number of jobs to cancel", 0),
    "retries": ("number of jobs an operator retries", 0),
}
"""The options that count something, each with its meaning and its default."""


def bounds() -> tuple[str, ...]:
    """Return the options that only a complete search has, without dashes."""
    faults = [kind.scope_option for kind in searched_kinds()]
    own = ("stalls", "kind", "priorities", "unique", "jitters", "no-symmetry", "states")
    return (*COUNTS, *faults, *own)


def searched_kinds() -> list[FaultKind]:
    """List the faults that a complete search can have."""
    return [kind for kind in kinds().values() if not kind.sampled_only]


class JobKind(NamedTuple):
    """What a job is: how its attempts end, and how long each takes, by the names of the generic workload."""

    ending: str = "succeeds"
    duration: str = "1s"

    def __str__(self) -> str:
        return f"{self.ending}, {self.duration}"


_SMALL: Final[Mapping[str, Any]] = {"poll_interval": SECOND, "retry_backoff": False, "max_attempts": 2}
"""What a search keeps small: everybody looks as soon as something is due, and no delay is stretched by chance."""
SCOPE_SETTINGS = Settings().changed(**_SMALL)


def small(settings: Settings) -> Settings:
    """Return a target's own settings as a complete search takes them."""
    return settings.changed(**_SMALL)


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything that a search is complete for: who is at work, what may go wrong and how often, which settings."""

    workers: int = 2
    jobs: int = 2
    cancels: int = 0
    retries: int = 0
    """Jobs that an operator retries after their cancel, or after they were sent."""
    faults: FaultPlan = field(default_factory=FaultPlan)
    """What may go wrong in one run, and how often."""
    stalls: int | None = 1
    """How often time may pass by an actor that is ready, until it acts; None: any number of times."""
    kinds: tuple[JobKind, ...] = (JobKind(),)
    priorities: tuple[int, ...] = (0,)
    unique: bool = False
    """Whether all jobs share one unique key."""
    restart_after: Duration = SECOND
    """A crashed process comes back after this."""
    jitters: int = 1
    """How many of the four values a stretched retry delay may take; without backoff none is stretched."""
    symmetry: bool = True
    """Whether workers, and jobs of one kind, are taken to be interchangeable."""
    settings: Settings = field(default_factory=lambda: SCOPE_SETTINGS)

    def __post_init__(self) -> None:
        """Raise UsageError for bounds that make no sense."""
        _within("workers", self.workers, 1, MOST_WORKERS)
        _within("jobs", self.jobs, 1, MOST_JOBS)
        _within("jitters", self.jitters, 1, 4)
        for name, count in self.faults.counts().items():
            _within(kinds()[name].scope_option, count, 0, MOST_FAULTS)
            if kinds()[name].sampled_only:
                raise UsageError(
                    f"{name}: a complete search cannot include it: {kinds()[name].sampled_only}",
                    hint="Sample it: job-harness explore.",
                )
        for name in ("cancels", "retries"):
            _within(name, getattr(self, name), 0, self.jobs)
        if not self.kinds or not self.priorities:
            raise UsageError("a scope without job kinds has nothing to run", hint="Give at least one kind.")

    def missing(self, capabilities: Capabilities) -> tuple[str, ...]:
        """List what the scope asks for and a queue cannot do."""
        needed = {
            "cancel": self.cancels,
            "retry": self.retries,
            "unique": self.unique,
            "priorities": self.priorities != (0,),
        }
        asked = [name for name, wanted in needed.items() if wanted]
        return capabilities.missing(dict.fromkeys([*asked, *(need for kind in self._faults() for need in kind.needs)]))

    def _faults(self) -> list[FaultKind]:
        return [kind for kind in kinds().values() if self.faults[kind.id]]

    def scenarios(self) -> Iterator[Scenario]:
        """Return every workload of the scope, up to the names of its jobs."""
        flags = [(cancelled, retried) for cancelled in (False, True) for retried in (False, True)]
        shapes = [(kind, priority, *flag) for kind in self.kinds for priority in self.priorities for flag in flags]
        for chosen in combinations_with_replacement(shapes, self.jobs):
            if sum(shape[2] for shape in chosen) == self.cancels and sum(shape[3] for shape in chosen) == self.retries:
                yield self._scenario([self._plan(f"j{number}", *shape) for number, shape in enumerate(chosen, 1)])

    def _plan(self, name: str, kind: JobKind, priority: int, cancelled: bool, retried: bool) -> JobPlan:
        return JobPlan(
            name,
            outcomes=(ENDINGS | MORE_ENDINGS)[kind.ending],
            takes=(SPANS[kind.duration],),
            priority=priority,
            cancel_after=0 if cancelled else None,
            retry_after=0 if retried else None,
            unique_key="k" if self.unique else None,
        )

    def _scenario(self, plans: list[JobPlan]) -> Scenario:
        return Scenario(
            title="one workload of an exhaustive search",
            settings=self.settings,
            workers=tuple(f"w{number}" for number in range(1, self.workers + 1)),
            jobs=tuple(plans),
            restart_after=self.restart_after,
        )

    def twins(self, scenario: Scenario) -> list[tuple[str, ...]]:
        """Return the groups of names that may be exchanged: workers that look at one time, and jobs planned alike."""
        if not self.symmetry:
            return []
        alike: dict[JobPlan | Duration, list[str]] = {}
        for worker in scenario.workers:
            alike.setdefault(first_look(worker, scenario), []).append(worker)
        for plan in scenario.jobs:
            alike.setdefault(replace(plan, name=""), []).append(plan.name)
        return [tuple(group) for group in alike.values() if len(group) > 1]

    def sentence(self) -> str:
        """Say the scope in words."""
        counted = [_counted("worker", "workers", self.workers), _counted("job", "jobs", self.jobs)]
        counted += [kind.counted(self.faults[kind.id]) for kind in self._faults()]
        counted += [_counted("cancel", "cancels", self.cancels)] if self.cancels else []
        counted += [_counted("retry", "retries", self.retries)] if self.retries else []
        return ", ".join(counted)


def _counted(one: str, several: str, count: int) -> str:
    return f"1 {one}" if count == 1 else f"{count} {several}"


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} is {value}", hint=f"It must be {least} to {most}.")


def parse_kind(text: str) -> JobKind:
    """Read `ENDING` or `ENDING, DURATION` as the generic workload names them.

    Raises UsageError naming what there is.
    """
    ending, _, duration = (part.strip() for part in text.partition(","))
    duration = duration or JobKind().duration
    for what, name, known in (("ending", ending, {**ENDINGS, **MORE_ENDINGS}), ("duration", duration, SPANS)):
        if name not in known:
            raise UsageError(f"no such {what} of a job: {name!r}{did_you_mean(name, known)}", hint=available(known))
    return JobKind(ending, duration)
