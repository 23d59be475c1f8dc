"""Schedules of real pg-boss: two instances on clocks of their own make one job for each slot, as it was asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.opened_engines import opened_engines

from job_harness.core.model.duration import MINUTE, SECOND, Instant
from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest, Schedule
from job_harness.core.sim.clock import STORE, Clocks
from job_harness.engines.foreign_queue import ForeignEngine
from job_harness.engines.pgboss.node.queue import SchedulingQueue

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SETTINGS = Settings()
NIGHTLY = Schedule("n", MINUTE, JobRequest("n", priority=5, max_attempts=2))
FIRST, SECOND_ONE = "scheduler-1", "scheduler-2"


@pytest.fixture(scope="module", params=["10.4.2", "12.38.0"])
def engine(request: pytest.FixtureRequest) -> Iterator[ForeignEngine]:
    with opened_engines() as get:
        yield get(f"pgboss-node@{request.param}")


class Stage:
    """A queue with a schedule, and clocks."""

    def __init__(self, engine: ForeignEngine) -> None:
        self.clocks = Clocks()
        self.queue: SchedulingQueue = engine.open(SETTINGS, self.clocks, lambda: 0.0)
        assert self.queue.schedule(NIGHTLY).done

    def look(self, at: Instant, instance: str = FIRST) -> list[str]:
        """Let an instance look, and answer whose jobs it made."""
        self.clocks.advance(at)
        ticked = self.queue.tick(instance)
        assert ticked.done, ticked
        return list(ticked.value)


@pytest.fixture
def stage(engine: ForeignEngine) -> Stage:
    return Stage(engine)


def test_two_instances_make_one_job_for_each_slot(stage: Stage) -> None:
    made = [stage.look(at * SECOND, name) for at in (70, 80, 119, 125, 130) for name in (FIRST, SECOND_ONE)]
    assert [job for jobs in made for job in jobs] == ["n1", "n2"]
    slots = {view.id: (view.schedule, view.slot) for view in stage.queue.jobs().values()}
    assert slots == {"n1": ("n", MINUTE), "n2": ("n", 2 * MINUTE)}


def test_its_jobs_are_as_they_were_asked_for_and_can_be_worked_on(stage: Stage) -> None:
    stage.look(70 * SECOND)
    job = stage.queue.jobs()["n1"]
    assert (job.priority, job.max_attempts, job.tool) == (5, 2, "tool")
    (claim,) = stage.queue.claim("w1", 1).value
    assert claim.job == "n1"
    lease = stage.queue.jobs()["n1"].lease_until
    assert lease is not None
    assert lease - stage.clocks.store() - SETTINGS.lease in (0, 1)
    assert stage.queue.complete(claim, None).done


def test_nobody_looks_back_further_than_a_minute(stage: Stage) -> None:
    assert stage.look(3 * MINUTE + 30 * SECOND) == ["n3"]


def test_an_ended_schedule_makes_no_more_jobs(stage: Stage) -> None:
    assert stage.queue.unschedule("n").done
    assert stage.look(70 * SECOND) == []
    assert not stage.queue.unschedule("n").done


def test_a_period_that_cron_text_cannot_say_is_refused(stage: Stage) -> None:
    refused = stage.queue.schedule(Schedule("other", 11 * MINUTE, JobRequest("other", tool="elsewhere")))
    assert not refused.done
    assert "cron text cannot say every 11m" in refused.reason


def test_slots_are_the_databases_whatever_its_clock_says(stage: Stage) -> None:
    stage.clocks.set_offset(STORE, MINUTE)
    stage.clocks.set_offset(FIRST, MINUTE)
    assert stage.look(70 * SECOND) == ["n2"]


def test_an_instance_whose_clock_is_behind_has_a_date_of_its_own(engine: ForeignEngine) -> None:
    """The newest release takes the database's time; 10.4.2 takes the slot before from its own, and finds it too old."""
    stage = Stage(engine)
    stage.clocks.set_offset(FIRST, -MINUTE)
    assert stage.look(70 * SECOND) == (["n1"] if engine.release.version == "12.38.0" else [])
    assert stage.look(71 * SECOND, SECOND_ONE) == ([] if engine.release.version == "12.38.0" else ["n1"])
