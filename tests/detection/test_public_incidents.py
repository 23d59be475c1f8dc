"""The public incidents in `examples/incidents`: each is found at default settings, and none once it is repaired."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.opened_systems import Opened, open_systems

from job_harness.search.sampling import Sampler, run_seed
from job_harness.subjects.systems import SystemEngine

FOLDER = Path(__file__).parents[2] / "examples" / "incidents"
FINDS = {
    "builds": {"claim_left_behind"},
    "consultees": {"job_never_run"},
    "reminders": {"concurrent_execution"},
    "generations": {"job_stuck"},
    "documents": {"terminal_job_revived", "terminal_job_rewritten"},
}
SOON = ("reminders", "generations")
"""Those that take a few seconds; the others are played with the campaigns."""
RUNS = 60
"""Within this many runs each is found; most show in the first fifteen."""
QUIET_RUNS = 8

pytestmark = pytest.mark.postgres


@pytest.fixture
def opened() -> Iterator[Opened]:
    with open_systems() as make:
        yield make


def system(incident: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, repaired: bool) -> Path:
    monkeypatch.setenv("REPAIRED", str(repaired).lower())
    return Path(shutil.copytree(FOLDER / incident, folder / incident)) / "system.yaml"


def found(engine: SystemEngine, runs: int) -> Iterator[frozenset[str]]:
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    return (frozenset(sampler.sample(run_seed(0, number)).found) for number in range(runs))


@pytest.mark.slow
@pytest.mark.parametrize(
    "incident", [pytest.param(each, marks=pytest.mark.long if each in SOON else pytest.mark.campaign) for each in FINDS]
)
def test_an_incident_is_found(incident: str, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(system(incident, tmp_path, monkeypatch, repaired=False))
    assert any(FINDS[incident] & anomalies for anomalies in found(engine, RUNS))


@pytest.mark.campaign
@pytest.mark.parametrize("incident", FINDS)
def test_nothing_is_found_once_it_is_repaired(
    incident: str, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(system(incident, tmp_path, monkeypatch, repaired=True))
    assert set().union(*found(engine, QUIET_RUNS)) == set()


def test_what_is_found_is_told() -> None:
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    untold = [name for name, finds in FINDS.items() if not any(f"| `{name}` | `{each}` |" in told for each in finds)]
    assert untold == []
    assert {path.parent.name for path in FOLDER.glob("*/system.yaml")} == set(FINDS)
