"""Engines of system files for one test: they are closed after it, and leave no process behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job_harness.core.run.play import play
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.systems import SystemEngine
from job_harness.worlds.peers.peer import children_of

Opened = Callable[[Path], SystemEngine]


@contextmanager
def open_systems(need: Callable[[], object] = lambda: None) -> Iterator[Opened]:
    """Yield what opens a system file; skips where `need` or the system says that something is not available here."""
    engines: list[SystemEngine] = []

    def make(path: Path) -> SystemEngine:
        engine = SystemEngine(str(path))
        engines.append(engine)
        try:
            need()
            engine.info.prepare()
        except EnvironmentUnavailable as missing:
            pytest.skip(missing.message)
        return engine

    before = set(children_of())
    yield make
    for engine in engines:
        engine.close()
    assert set(children_of()) <= before, "a process was left behind"


def play_jobs(engine: SystemEngine, *, jobs: str = "b", tape: tuple[Deviation, ...] = ()) -> Run:
    """Play a job or more, named by a letter each, with two workers."""
    assert engine.info.settings is not None
    plans = tuple(JobPlan(name) for name in jobs)
    scenario = Scenario(
        title="a job or more", jobs=plans, workers=("w1", "w2"), settings=engine.info.settings, tape=tape
    )
    return play(scenario, engine=engine)
