"""Incidents that others reported in public, each as a small system or queue: found at default settings."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.model.settings import Settings
from job_harness.core.port import Engine
from job_harness.core.run.play import play
from job_harness.core.scenario.job_plan import Ending, JobPlan, Span
from job_harness.core.scenario.scenario import Scenario
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.sampling import Sampler, run_seed
from job_harness.search.targets import open_engine

FOLDER = Path(__file__).with_name("incidents")
INCIDENTS: dict[str, dict[str, Any]] = YAML(typ="safe").load((FOLDER / "incidents.yaml").read_text())
RUNS = 60
"""Within this many runs each is found; most show in the first ten."""
QUIET_RUNS = 8
SOON = ("cancels", "outbox", "locks")
"""Those that take seconds; the others are played with the campaigns of `make nightly`."""

pytestmark = pytest.mark.postgres


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(incident: str, *, repaired: bool = False) -> Engine:
        folder = shutil.copytree(FOLDER / incident, tmp_path / incident)
        monkeypatch.setenv("REPAIRED", "yes" if repaired else "")
        names = ("repaired.yaml", "queue.yaml", "system.yaml") if repaired else ("queue.yaml", "system.yaml")
        try:
            engines.append(open_engine(str(next(folder / name for name in names if (folder / name).exists()))))
            engines[-1].info.prepare()
        except EnvironmentUnavailable as missing:
            pytest.skip(missing.message)
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def found(engine: Engine, runs: int) -> Iterator[frozenset[str]]:
    sampler = Sampler(engine, settings=engine.info.settings or Settings())
    return (frozenset(sampler.sample(run_seed(1, number)).found) for number in range(runs))


@pytest.mark.parametrize(
    "incident",
    [pytest.param(each, marks=pytest.mark.long if each in SOON else pytest.mark.campaign) for each in INCIDENTS],
)
def test_it_is_found(incident: str, opened: Callable[..., Engine]) -> None:
    assert any(INCIDENTS[incident]["finds"] in anomalies for anomalies in found(opened(incident), RUNS))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("repaired", "finds"), [(False, {"retry_ignored"}), (True, set())])
def test_a_retry_is_ignored_where_its_job_fails_before_it_runs_again(
    repaired: bool, finds: set[str], opened: Callable[..., Engine]
) -> None:
    engine = opened("retried", repaired=repaired)
    dies = JobPlan("a", outcomes=(Ending.FAIL,), takes=(Span(fixed=90 * SECOND),), retry_after=12 * MINUTE)
    settings = engine.info.settings or Settings()

    assert (
        play(Scenario(title="retried", jobs=(dies,), workers=("w1",), settings=settings), engine=engine).found == finds
    )


@pytest.mark.campaign
@pytest.mark.parametrize("incident", INCIDENTS)
def test_nothing_is_found_once_it_is_repaired(incident: str, opened: Callable[..., Engine]) -> None:
    assert set().union(*found(opened(incident, repaired=True), QUIET_RUNS)) == set()
