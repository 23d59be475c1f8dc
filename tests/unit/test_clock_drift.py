"""Clocks that drift: how far they are off, what stops them, and that a queue which trusts them is found."""

from __future__ import annotations

from job_harness.core.faults import FaultPlan
from job_harness.core.history.event import Fault, Phase
from job_harness.core.invariants.clocks import RecordedStoreClock
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.run.session import Session
from job_harness.core.sim.choices import Uniform
from job_harness.core.sim.clock import STORE, Clocks
from job_harness.search.sampling import Sampler, run_seed
from job_harness.search.wrong_queues import CATALOGUE


def test_a_clock_drifts_to_its_offset_and_stays_there() -> None:
    clocks = Clocks()
    clocks.let_drift(STORE, 6 * SECOND, within=MINUTE)
    read = []
    for now in (0, 20 * SECOND, MINUTE, 2 * MINUTE):
        clocks.advance(now)
        read.append(clocks.store() - now)
    assert read == [0, 2 * SECOND, 6 * SECOND, 6 * SECOND]


def test_a_drift_begins_where_the_clock_is_and_a_step_ends_it() -> None:
    clocks = Clocks()
    clocks.set_offset("w1", 4 * SECOND)
    clocks.let_drift("w1", -4 * SECOND, within=MINUTE)
    clocks.advance(MINUTE // 2)
    assert clocks.of("w1") == MINUTE // 2
    clocks.set_offset("w1", SECOND)
    clocks.advance(MINUTE)
    assert clocks.of("w1") == MINUTE + SECOND


def test_a_clock_that_was_set_right_drifts_no_more() -> None:
    clocks = Clocks()
    clocks.let_drift(STORE, SECOND, within=MINUTE)
    clocks.correct()
    clocks.advance(MINUTE)
    assert clocks.store() == MINUTE


def test_a_history_tells_what_a_drifting_store_clock_showed() -> None:
    clock = RecordedStoreClock()
    clock.fault(Fault(MINUTE, "*", "drift", {"whose": STORE, "offset": 6 * SECOND, "within": MINUTE}))
    assert clock.read(MINUTE + MINUTE // 2) == MINUTE + MINUTE // 2 + 3 * SECOND
    clock.phase(Phase(2 * MINUTE, "heal"))
    assert clock.read(2 * MINUTE) == 2 * MINUTE


def test_a_queue_that_trusts_the_clock_of_its_caller_is_found_by_drift_alone() -> None:
    sampler = Sampler(CATALOGUE["worker-clock-lease"].engine("memory"))
    found: set[str] = set()
    for number in range(40):
        scenario = sampler.session(run_seed(1, number)).scenario
        faults = FaultPlan(clock_drift=2)
        choices = Uniform(number, rate=0.25)
        found |= Session(scenario, engine=sampler.engine, choices=choices, faults=faults).run().found
    assert "foreign_clock" in found
