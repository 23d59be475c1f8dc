"""The exhaustive search: complete where it says so, and the shortest counterexample replays from its tape alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.explore.counterexample import finding_of
from harness.explore.exhaustive import Explorer
from harness.explore.scope import JobKind, Scope
from harness.run.play import play
from harness.scenario.reader import read_scenario
from harness.scenario.writer import write_scenario
from harness.wiring import open_engine


def explored(target: str, scope: Scope, *, merge: bool = True, first_only: bool = True) -> Explorer:
    explorer = Explorer(open_engine(target), scope, merge=merge, first_only=first_only, state_limit=40_000)
    explorer.run()
    return explorer


def test_the_right_queue_is_searched_completely_and_nothing_is_found() -> None:
    explorer = explored("memory", Scope(jobs=1, crashes=1))
    assert explorer.complete
    assert not explorer.sightings
    assert explorer.outcomes == {("COMPLETED",), ("FAILED",)}, "both deliveries were lost to the crash and the stall"


@pytest.mark.parametrize(
    ("mistake", "anomaly", "scope"),
    [
        ("stale-complete", "stale_complete", Scope(jobs=1)),
        ("token-not-raised", "token_reused", Scope(jobs=1, crashes=1)),
        ("cancel-overwritten", "cancel_undone", Scope(jobs=1, cancels=1)),
        ("retries-never-due", "due_job_left", Scope(workers=1, jobs=1, kinds=(JobKind("fails once"),))),
        ("claims-running-job", "double_claim", Scope(jobs=1)),
    ],
)
def test_a_wrong_queue_is_found_and_its_shortest_run_replays_from_a_file(
    mistake: str, anomaly: str, scope: Scope, tmp_path: Path
) -> None:
    explorer = explored(f"memory+{mistake}", scope)
    assert anomaly in explorer.sightings
    finding = finding_of(explorer, explorer.sightings[anomaly])
    assert anomaly in finding.run.found
    file = tmp_path / "found.yaml"
    file.write_text(write_scenario(finding.scenario))
    again = play(read_scenario(file), engine=open_engine(f"memory+{mistake}"))
    assert anomaly in again.found


def test_the_counterexample_is_the_same_in_every_run() -> None:
    scope = Scope(jobs=1, crashes=1)
    runs = [explored("memory+stale-complete", scope) for _ in range(2)]
    assert runs[0].progress == runs[1].progress
    tapes = [finding_of(run, run.sightings["stale_complete"]).scenario.tape for run in runs]
    assert tapes[0] == tapes[1]
