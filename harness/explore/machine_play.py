"""The run that a state machine steps: every rule plays steps of the scenario language, so that an example *is* one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import reject
from hypothesis import strategies as st

from harness.errors import LimitReached
from harness.explore.machine_acts import Act
from harness.explore.machine_failure import no_rest
from harness.explore.machine_features import watched
from harness.explore.machine_standing import Standing
from harness.model.duration import format_duration
from harness.model.moments import moments
from harness.port import Application, Engine
from harness.run.director import Director, Stopped
from harness.run.session import Limits, Session
from harness.run.stock import StockApplication
from harness.scenario.job_plan import JobPlan
from harness.scenario.scenario import Scenario, Step, parse_step

JOBS = tuple("abcdefghijkl")
WHICH = st.integers(0, 5)
"""Picks among those who can, counted round."""


def can(capability: str) -> Callable[[Any], bool]:
    """Answer the precondition that the queue can do something."""
    return lambda machine: getattr(machine.engine.info.capabilities, capability)


def some(listed: str, *arguments: Any) -> Callable[[Any], bool]:
    """Answer the precondition that a list of what can be done is not empty."""
    return lambda machine: bool(getattr(machine, listed)(*arguments))


class Play(Standing):
    """Holds the session and what was played in it; the groups of rules stand on this."""

    engine: Engine
    workers: ClassVar[tuple[str, ...]] = ("w1", "w2")
    limits: ClassVar[Limits] = Limits(steps=20_000)
    _session: Session | None
    _director: Director | None
    _feature: str
    _schedules: tuple[JobPlan, ...]
    _plans: list[JobPlan]
    _steps: list[Step]

    def make_application(self) -> Application:
        """Answer who works on the queue."""
        info = self.engine.info
        return info.stepped or info.application or StockApplication()

    def failures_directory(self) -> Path:
        """Answer where failing scenarios are written."""
        raise NotImplementedError

    def nothing_is_breached(self) -> None:
        """Judge what must always hold."""
        raise NotImplementedError

    @property
    def session(self) -> Session:
        """The run that is being stepped."""
        assert self._session is not None
        return self._session

    @property
    def scenario(self) -> Scenario:
        """Everything done so far, as a scenario that does it again."""
        return Scenario(
            title=f"{type(self).__name__} on {self.engine.info.name}",
            settings=self.session.settings,
            workers=self.workers,
            jobs=(*self._schedules, *self._plans),
            steps=tuple(self._steps),
        )

    def _open(self, scenario: Scenario) -> Session:
        return Session(
            scenario,
            engine=self.engine,
            limits=self.limits,
            application=self.make_application(),
            announced=watched(self._feature),
        )

    def _jobs(self) -> list[JobPlan]:
        return self._plans

    def _outside(self) -> list[JobPlan]:
        """Those that can be sent again as they were: a transaction has ended by then, or goes on."""
        return [plan for plan in self._plans if plan.transaction is None]

    def _room(self) -> bool:
        return len(self._plans) < len(JOBS)

    def play(self, text: str) -> None:
        """Play a step of the scenario language; an example in which it cannot be done does not count."""
        step = parse_step(text)
        self._steps.append(step)
        assert self._director is not None
        try:
            self._director.play(step)
        except Stopped:
            reject()
        except LimitReached as limit:
            raise self._no_rest(limit) from None

    def _no_rest(self, limit: LimitReached) -> Exception:
        self.nothing_is_breached()
        return no_rest(str(limit), self.scenario, name=type(self).__name__, directory=self.failures_directory())

    def _play_one(self, acts: list[Act], which: int) -> None:
        self.play(acts[which % len(acts)].text)

    def _length(self, moment: str) -> str:
        return format_duration(moments(self.session.settings).get(moment, self.session.settings.poll_interval))

    def _late(self, moment: str) -> None:
        if moment != "now":
            self.play(f"jump {self._length(moment)}")
