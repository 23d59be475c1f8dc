"""How large a search will be, estimated from smaller ones that are done first. An estimate, and no more than that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import factorial
from typing import Any, NamedTuple

from harness.explore.exhaustive import Explorer
from harness.explore.scope import Scope
from harness.faults import FaultPlan
from harness.port import Engine
from harness.run.session import Session

PILOT_STATES = 4_000
"""A smaller search that has not ended by then counts with what it has seen."""
OF_JOBS = ("cancels", "retries")


class Forecast(NamedTuple):
    """How many states a scope may have, and how long they may take."""

    states: int
    seconds: float
    pilots: int
    """So many smaller scopes were searched for it."""
    at_least: bool
    """Whether one of them was cut short, so that there may be many more."""

    def __str__(self) -> str:
        least = "at least " if self.at_least else ""
        digits = len(str(self.states))
        states = round(self.states, 2 - digits) if digits > 2 else self.states
        return (
            f"{least}about {states} states, {max(1, round(self.seconds))} s: "
            f"estimated from {self.pilots} smaller scopes, it may be a few times that"
        )


def worth_it(scope: Scope) -> bool:
    """Say whether a search is large enough to be estimated first."""
    return scope.jobs + sum(scope.faults.counts().values()) + scope.cancels + scope.retries > 2


class Forecaster:
    """Searches smaller scopes, each once."""

    def __init__(
        self, engine: Engine, scope: Scope, *, clock: Callable[[], float], at_work: Callable[[Session], None]
    ) -> None:
        """Measure by this clock, in seconds; `at_work` is told of every session before it is stepped."""
        self._engine = engine
        self._clock = clock
        self._at_work = at_work
        self._plain = replace(scope, faults=FaultPlan(), cancels=0, retries=0)
        self._scope = scope
        self._known: dict[Scope, int] = {}
        self._seconds = 0.0
        self._cut = False

    def forecast(self) -> Forecast:
        """Take what each fault makes of one job to be what it makes of all; k alike count k! times less."""
        scope = self._scope
        states = self._of_jobs(scope.jobs)
        for name, count in scope.faults.counts().items():
            growth = self._states(1, faults=FaultPlan(**{name: 1})) / self._states(1)
            states *= growth**count / factorial(count)
        for name in OF_JOBS:
            if count := getattr(scope, name):
                jobs = min(2, scope.jobs)
                states *= (self._states(jobs, **{name: 1}) / self._states(jobs)) ** count
        measured = sum(self._known.values())
        return Forecast(int(states), states * self._seconds / measured, len(self._known), self._cut)

    def _of_jobs(self, jobs: int) -> float:
        if jobs < 3:
            return float(self._states(jobs))
        return self._states(2) * (self._states(2) / self._states(1)) ** (jobs - 2)

    def _states(self, jobs: int, **more: Any) -> int:
        scope = replace(self._plain, jobs=jobs, **more)
        if scope not in self._known:
            explorer = Explorer(self._engine, scope, first_only=False, state_limit=PILOT_STATES, at_work=self._at_work)
            started = self._clock()
            explorer.run()
            self._seconds += self._clock() - started
            self._cut = self._cut or not explorer.complete
            self._known[scope] = explorer.progress.states
        return self._known[scope]
