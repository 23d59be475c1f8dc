"""An exhaustive search is the same search everywhere, and tells apart what must not be taken for equal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.faults import FaultPlan
from job_harness.core.history.event import Fault
from job_harness.core.invariants import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Rules
from job_harness.core.invariants.memory import Interning
from job_harness.core.invariants.property import Reporter
from job_harness.core.model.job import JobView
from job_harness.core.run.session import Session
from job_harness.core.sim.request import Point
from job_harness.engines.memory import ClaimRules, MemoryEngine, MemoryQueue
from job_harness.search.scope import search
from job_harness.search.scope.bounds import Scope
from job_harness.search.scope.canonical import NamedForm, StateKeys
from job_harness.search.scope.memo import memory_of, recall
from job_harness.search.scope.rig import Unfaithful
from job_harness.search.scope.search import Explorer
from job_harness.search.scope.state import GlobalState

ROOT = Path(__file__).resolve().parents[2]
TOLD = """
from job_harness.search.scope.search import finding_of
from job_harness.search.scope.search import Explorer
from job_harness.search.scope.bounds import Scope
from job_harness.core.faults import FaultPlan
from job_harness.search.targets import open_engine

whole = Explorer(open_engine("memory"), Scope(jobs=1, faults=FaultPlan(crash=1)))
whole.run()
print(whole.progress)
wrong = Explorer(open_engine("memory+stale-complete"), Scope(jobs=1), first_only=False)
wrong.run()
for sighting in wrong.sightings.values():
    print(sighting, wrong.path(sighting.node))
print(finding_of(wrong, wrong.sightings["stale_complete"]).scenario)
"""


BORING = """
from job_harness.search.scope.search import Explorer
from job_harness.search.scope.bounds import Scope
from job_harness.core.faults import FaultPlan
from job_harness.search.targets import open_engine

whole = Explorer(open_engine("memory"), Scope(jobs=2, faults=FaultPlan(crash=1), cancels=1))
whole.run()
print(len(whole.graph.boring), whole.graph.boring)
"""


def told(hash_seed: str, program: str = TOLD) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.slow
def test_two_hash_seeds_see_the_same_states_and_the_same_counterexample() -> None:
    first, second = told("1"), told("2")
    assert "stale_complete" in first
    assert first == second


@pytest.mark.long
def test_two_hash_seeds_go_on_from_a_state_in_the_same_way() -> None:
    assert told("8", BORING) == told("9", BORING)


class Pair:
    """Two in one, which are the same or not; equal to itself alone."""

    def __init__(self, one: object, other: object) -> None:
        self.one, self.other = one, other


class Remembers(Monitor):
    """Remembers an object in each of two attributes; what is in the second it has twice."""

    def __init__(self) -> None:
        own = Pair(1, 2)
        self.first, self.second = Pair(3, 4), Pair(own, own)


def test_what_a_monitor_has_twice_in_one_attribute_is_none_of_another_attribute() -> None:
    monitor, numbers = Remembers(), dict[Any, int]()
    recall(monitor, memory_of(0, monitor, numbers, Interning(numbers)), None)
    assert monitor.second.one is monitor.second.other
    assert (monitor.second.one.one, monitor.second.one.other) == (1, 2)


def blind(self: StateKeys, state: GlobalState, form: NamedForm) -> int:
    return 0


class Ghost(Monitor):
    """Remembers where a worker died: nothing else in a run does once it is back."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._died: set[str] = set()

    def on_fault(self, event: Fault) -> None:
        if event.name == "crash":
            self._died.add(event.data["at"].split()[0])

    def at_rest(self, views: object) -> None:
        for place in self._died:
            self.breach(f"died at {place}", "and came back")


PLACES = ("poll", "claim", "start", "running", "complete")
GHOST = Invariant(
    id="ghost",
    sentence="Nobody ever dies.",
    kind=Kind.EVENTUALLY,
    anomalies=tuple(AnomalyKind(f"died at {at}", Guarantee.PROGRESS, "") for at in PLACES),
    make=Ghost,
)


def haunted() -> tuple[int, set[str]]:
    explorer = Explorer(MemoryEngine(), Scope(workers=1, jobs=1, faults=FaultPlan(crash=1), stalls=0), first_only=False)
    explorer.run()
    assert explorer.complete
    return explorer.progress.states, set(explorer.sightings)


def test_without_what_monitors_remember_states_are_merged_that_differ_in_their_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Session, "_judgeable", lambda self, queue, invariants: (GHOST,))
    states, seen = haunted()
    assert seen == {f"died at {place}" for place in PLACES}
    monkeypatch.setattr(StateKeys, "_of_monitors", blind)
    fewer, missed = haunted()
    assert fewer < states
    assert missed < seen


class NumberingRules(ClaimRules):
    """Takes its tokens from a sequence; how far that has come is in no snapshot."""

    taken = 0

    def raised(self, row: JobView) -> int:
        self.taken += 1
        return self.taken


class Numbering(MemoryQueue):
    rules = (NumberingRules,)


def test_a_queue_that_changes_and_does_not_show_it_is_caught_by_doing_a_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "CHECKED", 5)
    explorer = Explorer(
        MemoryEngine(Numbering, name="numbering"), Scope(jobs=1, faults=FaultPlan(crash=1)), first_only=False
    )
    with pytest.raises(Unfaithful, match="the snapshot of numbering is wrong"):
        explorer.run()


class Stepping(MemoryQueue):
    """Suspends within its claims."""

    def claim(self, worker: str, limit: int) -> Any:
        yield Point("chosen")
        yield Point("written")
        return super().claim(worker, limit)


def test_a_queue_whose_verbs_suspend_is_searched_between_their_steps() -> None:
    whole, stepped = (
        Explorer(MemoryEngine(queue, name="steps"), Scope(workers=1, jobs=1)) for queue in (MemoryQueue, Stepping)
    )
    whole.run()
    stepped.run()
    assert stepped.complete
    assert stepped.outcomes == whole.outcomes == {("COMPLETED",)}
    assert stepped.progress.depth > whole.progress.depth
