"""What never comes to rest is told from what rests late: a job that loops is named, early."""

from __future__ import annotations

from typing import Any

import pytest

from job_harness.core.faults import FaultPlan
from job_harness.core.history.outcome import Outcome
from job_harness.core.model.duration import MINUTE
from job_harness.core.model.job import JobView
from job_harness.core.model.lifecycle import QueueState
from job_harness.core.model.settings import Settings
from job_harness.core.port import Claim, JobRequest
from job_harness.core.run.session import Limits, Session
from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.search.sampling import DRAWN_LIMITS, Sampler
from job_harness.search.shrink import JointShrinker
from job_harness.search.targets import open_engine

FAILS_ONCE = Scenario(workers=("w1",), jobs=(JobPlan("a", outcomes=(Ending.FAIL, Ending.SUCCEED)),))
ALWAYS_DIES = Scenario(workers=("w1",), jobs=(JobPlan("a", outcomes=(Ending.EXIT,)),))


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_queue_that_only_goes_round_is_found_and_nothing_else_is(seed: int) -> None:
    finding = Sampler(open_engine("memory+retry-put-off")).explore(seed=seed, runs=100).finding
    assert finding is not None
    assert finding.anomaly == "livelock"
    assert finding.run.found == {"livelock"}
    assert finding.run.failures == ()
    again = Session(finding.scenario, engine=open_engine("memory+retry-put-off"), limits=DRAWN_LIMITS).run()
    assert again.found == {"livelock"}
    assert Session(finding.scenario, engine=MemoryEngine()).run().anomalies == ()


def test_a_livelock_is_noticed_after_a_few_rounds_and_names_its_job_and_its_period() -> None:
    run = Session(FAILS_ONCE, engine=open_engine("memory+retry-put-off")).run()
    assert run.steps < 2_000
    assert [(anomaly.name, anomaly.job) for anomaly in run.anomalies] == [("livelock", "a")]
    assert "each time 2m8s after the last" in run.anomalies[0].message, (
        "a worker that is given nothing polls less often"
    )


@pytest.mark.parametrize(
    ("mistake", "anomaly"),
    [("expire-ignores-max-attempts", "attempt_overrun"), ("attempts-not-counted", "attempt_overrun")],
)
def test_who_retries_for_ever_is_told_by_what_he_broke_first_and_the_run_ends_early(mistake: str, anomaly: str) -> None:
    run = Session(ALWAYS_DIES, engine=open_engine(f"memory+{mistake}")).run()
    assert anomaly in run.found
    assert "livelock" not in run.found, "the job's overrun says it already"
    assert run.failures == ()
    assert run.steps < 2_500


def test_a_job_that_is_retried_many_times_is_no_livelock() -> None:
    settings = Settings(max_attempts=40, retry_backoff=False)
    run = Session(Scenario(settings=settings, workers=("w1",), jobs=(JobPlan("a", outcomes=(Ending.FAIL,)),)),
                  engine=MemoryEngine()).run()  # fmt: skip
    assert run.anomalies == ()
    assert run.failures == ()


class Wanders(MemoryQueue):
    """Puts a retry off by a little more each time: nothing ever stands as it stood."""

    def claim(self, worker: str, limit: int) -> Outcome:
        now = self.now(worker)
        for row in self.claims.due(now):
            if row.queue_state is QueueState.RETRY:
                self.put(self.put_off(row, now))
        return super().claim(worker, limit)

    def put_off(self, row: JobView, now: int) -> JobView:
        return row._replace(start_after=now + now % MINUTE + now // 1000)


def test_what_goes_round_without_a_period_is_named_where_the_limit_ends_it() -> None:
    run = Session(FAILS_ONCE, engine=MemoryEngine(Wanders, name="wanders"), limits=Limits(steps=5_000)).run()
    assert run.found == {"livelock"}
    assert run.failures == ()


class Forks(MemoryQueue):
    """Makes a new job, under a name of its own, of each that completes."""

    forks = 0

    def complete(self, claim: Claim, output: Any) -> Outcome:
        outcome = super().complete(claim, output)
        self.forks += 1
        self.enqueue(JobRequest(f"fork-{self.forks}", tool=claim.tool))
        return outcome


def test_new_jobs_without_end_are_a_livelock_whatever_they_are_called() -> None:
    run = Session(FAILS_ONCE, engine=MemoryEngine(Forks, name="forks"), limits=Limits(steps=5_000)).run()
    assert "livelock" in run.found
    told = [anomaly.message for anomaly in run.anomalies if anomaly.name == "livelock"]
    assert "jobs have come that no client sent, and there is no end of them" in told[0]


@pytest.mark.parametrize("queue", [pytest.param(Wanders, marks=pytest.mark.long), "retries-never-due"])
def test_a_job_that_is_stuck_or_loops_is_shrunk_in_few_steps(queue: type[MemoryQueue] | str) -> None:
    engine = open_engine(f"memory+{queue}") if isinstance(queue, str) else MemoryEngine(queue, name="wanders")
    sampler = Sampler(engine)
    run = next(run for seed in range(20) if (run := sampler.sample(seed)).found)
    anomaly = sampler.wanted(run)[0]
    open_session, redraw = sampler._sessions(anomaly, FaultPlan.each(1))
    shrinker = JointShrinker(run, anomaly, open_session, base=Settings(), redraw=redraw)

    shrinker.shrink()

    assert len(shrinker.scenario.jobs) == 1
    assert shrinker.steps < 45_000, "nine runs of its kind to their limit would take more"
    assert anomaly in Session(shrinker.scenario, engine=engine, limits=DRAWN_LIMITS).run().found
