"""What the model queue does with the jobs that a preset puts off: they are there, in their place, and cost nothing."""

from __future__ import annotations

from typing import ClassVar

import pytest

from job_harness.core.model.duration import Instant
from job_harness.core.model.job import JobView
from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.core.sim.clock import Clocks
from job_harness.engines.memory import ClaimRules, MemoryQueue, UpkeepRules

PUT_OFF = 1_000


class CountingClaims(ClaimRules):
    def is_due(self, row: JobView, now: Instant) -> bool:
        Counting.times += 1
        return super().is_due(row, now)


class CountingUpkeep(UpkeepRules):
    def is_overdue(self, row: JobView, now: Instant) -> bool:
        Counting.times += 1
        return super().is_overdue(row, now)

    def is_stuck(self, row: JobView, now: Instant) -> bool:
        Counting.times += 1
        return super().is_stuck(row, now)

    def is_purgeable(self, row: JobView, now: Instant) -> bool:
        Counting.times += 1
        return super().is_purgeable(row, now)


class Counting(MemoryQueue):
    """Counts how often its rules are asked."""

    times: ClassVar[int] = 0
    rules = (CountingClaims, CountingUpkeep)


class StartTimesIgnoredRules(ClaimRules):
    """A wrong queue, to which every job is due."""

    def is_due(self, row: JobView, now: Instant) -> bool:
        return True


class StartTimesIgnored(MemoryQueue):
    rules = (StartTimesIgnoredRules,)


def between_two_jobs(kind: type[MemoryQueue]) -> MemoryQueue:
    """Return a queue in which jobs were put off after one job was sent and before another was."""
    queue = kind(Settings(), Clocks(), lambda: 0.0)
    queue.enqueue(JobRequest(id="older", tool="tool"))
    assert queue.preset("put_off", PUT_OFF).done
    queue.enqueue(JobRequest(id="younger", tool="tool"))
    return queue


def test_a_rule_is_asked_of_one_put_off_job_wherever_they_stand() -> None:
    queue = between_two_jobs(Counting)
    Counting.times = 0
    assert [claim.job for claim in queue.claim("w1", 2).value] == ["older", "younger"]
    for verb in (queue.expire, queue.rescue, queue.purge):
        verb()
    assert Counting.times == 4 * 3  # two jobs, and one for those that are put off


def test_a_rule_that_takes_one_put_off_job_takes_all_of_them() -> None:
    queue = between_two_jobs(StartTimesIgnored)
    assert len(queue.claim("w1", 2 * PUT_OFF).value) == PUT_OFF + 2


@pytest.mark.parametrize("touched", [False, True], ids=["as they came", "one was cancelled"])
def test_put_off_jobs_stand_between_what_was_sent_before_and_after_them(touched: bool) -> None:
    queue = between_two_jobs(MemoryQueue)
    if touched:
        assert queue.cancel("put-off-1").done
    names = [row.id for row in queue.unfinished()]
    assert (names[0], names[-1], len(names)) == ("older", "younger", PUT_OFF + 2 - touched)
