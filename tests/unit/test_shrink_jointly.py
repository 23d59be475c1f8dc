"""What no single step makes smaller, several at once do; what is left is needed."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from job_harness.core.model.moments import moments
from job_harness.core.model.settings import Settings
from job_harness.core.run.session import Session
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Choices, Deviation
from job_harness.engines.memory import MemoryEngine
from job_harness.search.sampling import DRAWN_LIMITS, Sampler
from job_harness.search.shrink import JointShrinker, _fitting, _shorter, renamed, shorter_tapes
from job_harness.search.wrong_queues import CATALOGUE

CRASH = Deviation("w2 claim", 3, "crash")
AFTER_B = Deviation("w1 complete b", 1, "lose reply")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        pytest.param("expire-reads-first", 2, marks=pytest.mark.long),
        ("heartbeat-ignored", 1),
        ("claim-unchecked", 2),
    ],
)
def test_no_two_jobs_or_deviations_can_be_dropped_together(name: str, seed: int) -> None:
    mistake = CATALOGUE[name]
    engine = mistake.engine("memory")
    finding = Sampler(engine, looking_for=frozenset({mistake.anomaly})).explore(seed=seed, runs=600).finding
    assert finding is not None
    scenario = finding.scenario
    assert len(scenario.jobs) <= 2
    assert len(scenario.tape) <= 3
    smaller = [replace(scenario, tape=tuple(i for i in scenario.tape if i not in two)) for two in pairs(scenario.tape)]
    smaller += [replace(scenario, jobs=(job,)) for job in scenario.jobs if len(scenario.jobs) == 2]
    for candidate in smaller:
        assert mistake.anomaly not in Session(candidate, engine=engine, limits=DRAWN_LIMITS).run().found


def pairs(tape: tuple[Deviation, ...]) -> list[tuple[Deviation, Deviation]]:
    return list(combinations(tape, 2))


def test_a_dropped_job_takes_its_deviations_along_and_lowers_the_others() -> None:
    jobs = (JobPlan("a"), JobPlan("b"))
    scenario = Scenario(title="", settings=Settings(), workers=("w1", "w2"), jobs=jobs, tape=(CRASH, AFTER_B))
    tapes = list(_fitting(scenario, replace(scenario, jobs=jobs[:1])))
    assert tapes[0] == (CRASH,)
    assert (CRASH._replace(nth=2),) in tapes
    assert all(AFTER_B not in tape for tape in tapes)


def test_a_dropped_worker_leaves_what_it_did_to_another() -> None:
    scenario = Scenario(title="", settings=Settings(), workers=("w1", "w2"), jobs=(JobPlan("a"),), tape=(CRASH,))
    assert (Deviation("w1 claim", 3, "crash"),) in _fitting(scenario, replace(scenario, workers=("w1",)))
    assert renamed(Deviation("w1 claim", 1, "w2 first"), "w2", "w3").option == "w3 first"


def test_a_dropped_worker_takes_along_what_it_serves() -> None:
    workers, serves = ("w1", "w2", "w3"), {"w2": ("tool",), "w3": ("other",)}
    run = Session(Scenario(workers=workers, serves=serves, jobs=(JobPlan("a"),)), engine=MemoryEngine()).run()
    shrinker = JointShrinker(run, "job_stuck", never_opened, base=Settings(), redraw=never_opened)
    fewer = [one for one in (*shrinker._candidates(), *shrinker._smaller()) if len(one.workers) < len(workers)]
    assert any(one.serves for one in fewer)
    assert all(set(one.serves) <= set(one.workers) for one in fewer)


def never_opened(scenario: Scenario, choices: Choices | None = None) -> Session:
    raise AssertionError("nothing is to be run")


def test_a_death_that_an_explored_test_can_do_without_leaves_what_happened_later_to_the_same_worker() -> None:
    died = (Deviation("worker-1 claim", 3, "crash"), Deviation("worker-2 claim", 1, "crash"))
    twice, order = (
        Deviation("worker-3 before starting job-1", 1, "twice"),
        Deviation("worker-2 claim", 2, "worker-3 first"),
    )
    tapes = list(shorter_tapes((*died, twice, order)))
    moved = renamed(twice, "worker-3", "worker-2")
    assert (died[1]._replace(label="worker-1 claim"), moved, Deviation("worker-1 claim", 2, "worker-2 first")) in tapes
    assert (died[0], moved, order._replace(option="worker-2 first")) in tapes
    later = twice._replace(nth=2)
    assert (twice,) in shorter_tapes((Deviation("worker-3 claim", 2, "pause a timeout"), later))


def test_a_disturbance_is_tried_for_shorter_times_the_shortest_first() -> None:
    named = moments(Settings())
    shorter = _shorter("pause a lease", named)
    assert shorter[0] == "pause 1s"
    assert "pause stuck" not in shorter
    assert _shorter("pause 1s", named) == []
    assert _shorter("crash", named) == []


def test_a_run_is_made_smaller_by_faults_that_the_queue_can_have() -> None:
    engine = CATALOGUE["stale-heartbeat"].engine("memory")
    capabilities = replace(engine.info.capabilities, remote=False)
    engine.info = replace(engine.info, capabilities=capabilities)
    found = Sampler(engine).explore(seed=13, runs=60).finding
    assert found is not None
    assert found.anomaly == "stale_heartbeat"
    assert [str(item) for item in found.run.tape if "delay request" in item.option] == []
