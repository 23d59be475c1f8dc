"""The exhaustive search: complete where it says so, and the shortest counterexample replays from its tape alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.faults import FaultPlan, excuses
from job_harness.core.history.event import Effect
from job_harness.core.invariants.property import Monitor, Reporter, Rules
from job_harness.core.model.lifecycle import Status
from job_harness.core.run.play import play
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.writer import write_scenario
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.search.scope.bounds import SCOPE_SETTINGS, JobKind, Scope
from job_harness.search.scope.canonical import NamedJobs
from job_harness.search.scope.memo import StepTable, Witnesses
from job_harness.search.scope.rig import SnapshotRig, Unfaithful
from job_harness.search.scope.search import Explorer, finding_of, statement
from job_harness.search.scope.state import GlobalState
from job_harness.search.targets import open_engine


def explored(target: str, scope: Scope, *, merge: bool = True, first_only: bool = True) -> Explorer:
    explorer = Explorer(open_engine(target), scope, merge=merge, first_only=first_only, state_limit=40_000)
    explorer.run()
    return explorer


def test_the_right_queue_is_searched_completely_and_nothing_is_found() -> None:
    explorer = explored("memory", Scope(jobs=1, faults=FaultPlan(crash=1)))
    assert explorer.complete
    assert not explorer.sightings
    assert explorer.outcomes == {("COMPLETED",), ("FAILED",)}, "both deliveries were lost to the crash and the stall"


@pytest.mark.long
@pytest.mark.parametrize(
    ("mistake", "anomaly", "scope"),
    [
        ("stale-complete", "stale_complete", Scope(jobs=1)),
        ("token-not-raised", "token_reused", Scope(jobs=1, faults=FaultPlan(crash=1))),
        ("cancel-overwritten", "cancel_undone", Scope(jobs=1, cancels=1)),
        ("retries-never-due", "due_job_left", Scope(workers=1, jobs=1, kinds=(JobKind("fails once"),))),
        ("claims-running-job", "double_claim", Scope(jobs=1)),
        ("retry-put-off", "livelock", Scope(workers=1, jobs=1, kinds=(JobKind("fails once"),))),
        ("retry-put-off", "livelock", Scope(jobs=1, faults=FaultPlan(crash=1))),
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
    scope = Scope(jobs=1, faults=FaultPlan(crash=1))
    runs = [explored("memory+stale-complete", scope) for _ in range(2)]
    assert runs[0].progress == runs[1].progress
    tapes = [finding_of(run, run.sightings["stale_complete"]).scenario.tape for run in runs]
    assert tapes[0] == tapes[1]


def summary(target: str, scope: Scope) -> Any:
    explorer = explored(target, scope, first_only=False)
    paths = {name: explorer.path(sighting.node) for name, sighting in explorer.sightings.items()}
    return explorer.progress, paths, explorer.outcomes


@pytest.mark.long
@pytest.mark.parametrize(("target", "workers", "jobs"), [("memory", 1, 2), ("memory+token-not-raised", 2, 1)])
def test_what_is_looked_up_is_what_would_have_been_done(
    target: str, workers: int, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = Scope(workers=workers, jobs=jobs, faults=FaultPlan(crash=1))
    looked_up = summary(target, scope)
    monkeypatch.setattr(StepTable, "find", lambda self, key: None)
    assert summary(target, scope) == looked_up


def test_what_a_monitor_learned_once_is_what_it_would_learn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scope = Scope(jobs=1, faults=FaultPlan(crash=1))
    known = summary("memory+token-not-raised", scope)
    wanted, lessons = Witnesses._wanted, count()
    anew: Any = lambda *given: [(place, -next(lessons), seen) for place, _, seen in wanted(*given)]  # noqa: E731
    monkeypatch.setattr(Witnesses, "_wanted", anew)
    assert summary("memory+token-not-raised", scope) == known


class Futures(Explorer):
    """Looks one move ahead of each state that is reached, also where it is taken for one that was met before."""

    def __init__(self, target: str, scope: Scope) -> None:
        self.of: dict[Any, set[Any]] = {}
        """By the key of a state, the different futures of the states that have it."""
        self._looked_at: set[Any] = set()
        super().__init__(open_engine(target), scope, first_only=False)

    def _new(self, state: GlobalState, keys: Any, parent: int, move: Any, workload: int) -> tuple[int, bool]:
        taken = super()._new(state, keys, parent, move, workload)
        whole = (state.raw, tuple([actor[1:4] for actor in state.actors]))
        if whole not in self._looked_at:
            self._looked_at.add(whole)
            rig, _ = self._rig(workload)
            rests, moves = rig.outlook(state)
            made = [(keys.of(rig.make(move, state)), bool(rig.session.judge.anomalies)) for move in moves]
            self.of.setdefault(keys.of(state), set()).add((rests, frozenset(made)))
        return taken


@pytest.mark.long
@pytest.mark.parametrize("scope", [Scope(jobs=1), Scope(), Scope(jobs=1, cancels=1)], ids=Scope.sentence)
def test_states_that_are_taken_for_one_have_one_future(scope: Scope) -> None:
    futures = Futures("memory", scope)
    futures.run()
    assert futures.complete
    assert [key for key, different in futures.of.items() if len(different) > 1] == []


@pytest.mark.parametrize("scope", [Scope(workers=3, jobs=1), Scope(jobs=2, cancels=1)], ids=Scope.sentence)
def test_workers_named_by_how_they_look_make_the_states_that_all_their_orders_make(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = summary("memory", scope)
    monkeypatch.setattr(NamedJobs, "candidates", lambda self, number_of: tuple(self._named.values()))
    assert summary("memory", scope) == named


def test_jobs_that_were_created_one_after_the_other_are_exchanged() -> None:
    scope = Scope(workers=1, jobs=2, cancels=2)
    merged, apart = (summary("memory", replace(scope, symmetry=symmetry)) for symmetry in (True, False))
    assert merged[0].states < apart[0].states
    assert merged[2] == apart[2]


def test_what_a_fault_offers_several_times_is_one_move(monkeypatch: pytest.MonkeyPatch) -> None:
    outlook, doubled = SnapshotRig.outlook, []

    def looked(rig: SnapshotRig, state: GlobalState) -> Any:
        known = outlook(rig, state)
        doubled.extend(move for move, times in Counter(known[1]).items() if times > 1)
        return known

    monkeypatch.setattr(SnapshotRig, "outlook", looked)
    scope = Scope(workers=1, jobs=1, stalls=0, faults=FaultPlan(pause=1))
    explorer = Explorer(open_engine("memory"), scope, state_limit=100)
    explorer.run()
    assert explorer.progress.states == 100, "a pause is offered more often where a worker holds a job"
    assert not doubled


TINY = Scope(workers=1, jobs=1, cancels=1, stalls=0)


@pytest.mark.parametrize("mistake", ["", "+cancel-ignored-while-running", "+expire-fails-for-good"])
def test_raw_enumeration_without_merging_comes_to_the_same_end(mistake: str) -> None:
    scope = (
        TINY if mistake != "+expire-fails-for-good" else Scope(workers=1, jobs=1, faults=FaultPlan(crash=1), stalls=0)
    )
    merged = explored(f"memory{mistake}", scope, first_only=False)
    raw = explored(f"memory{mistake}", scope, first_only=False, merge=False)
    assert merged.complete
    assert raw.complete
    assert merged.progress.states < raw.progress.states
    assert set(merged.sightings) == set(raw.sightings)
    assert merged.outcomes == raw.outcomes


def test_twins_make_fewer_states_and_the_same_verdict() -> None:
    apart = explored("memory+stale-complete", Scope(jobs=1, symmetry=False), first_only=False)
    merged = explored("memory+stale-complete", Scope(jobs=1), first_only=False)
    assert merged.progress.states < apart.progress.states
    assert set(merged.sightings) == set(apart.sightings)
    assert merged.outcomes == apart.outcomes


class Remembers(Monitor):
    """Reports a second start of one job: what it needs to know is nowhere but in its own memory."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._starts = 0

    def on_effect(self, event: Effect) -> None:
        self._starts += event.name == "started"


def test_what_a_monitor_remembers_is_part_of_the_state() -> None:
    monitor = Remembers(Rules(SCOPE_SETTINGS, excuses=excuses()), lambda name, message, job=None: None)
    before = monitor.snapshot()
    monitor.on_effect(Effect(0, "w1", "j1", 1, 1, "started", None))
    assert monitor.snapshot() != before
    monitor.restore(before)
    assert monitor.snapshot() == before


class Forgetful(MemoryQueue):
    """Its snapshot leaves out what was cancelled."""

    def snapshot(self) -> Any:
        state = super().snapshot()
        return state._replace(rows={job: row for job, row in state.rows.items() if row.status is not Status.CANCELLED})


def test_a_snapshot_that_lies_is_named_and_never_a_pass() -> None:
    explorer = Explorer(MemoryEngine(Forgetful, name="liar"), Scope(workers=1, jobs=1, cancels=1), first_only=False)
    with pytest.raises(Unfaithful, match="liar"):
        explorer.run()


def test_an_engine_that_cannot_be_set_back_is_run_again_with_the_same_result() -> None:
    scope = Scope(workers=1, jobs=1, cancels=1)
    engine = MemoryEngine()
    engine.info = replace(engine.info, capabilities=replace(engine.info.capabilities, snapshot=False))
    again = Explorer(engine, scope)
    again.run()
    back = explored("memory", scope)
    assert again.reexecuted
    assert again.progress == back.progress


def test_a_limit_makes_the_search_inconclusive_and_keeps_what_it_knows() -> None:
    explorer = Explorer(open_engine("memory"), Scope(), state_limit=100)
    explorer.run()
    assert not explorer.complete
    assert explorer.stopped_by == "the limit of 100 states"
    assert statement(explorer, 0.1)[0].startswith("inconclusive: stopped by the limit of 100 states")
