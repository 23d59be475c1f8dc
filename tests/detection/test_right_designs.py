"""Right queues of designs that differ: silent with the word of their contract, and alarming without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from job_harness.core.history.outcome import DONE, Outcome
from job_harness.core.model.design import Design
from job_harness.core.model.duration import Instant
from job_harness.core.model.job import JobId, JobView, Json
from job_harness.core.model.lifecycle import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    PROCESSING,
    TERMINAL,
    QueueState,
    Status,
)
from job_harness.core.port import Capabilities, Claim, Contract
from job_harness.engines.memory import ClaimRules, EndRules, FlowRules, KeyRules, MemoryEngine, MemoryQueue
from job_harness.engines.memory.queue import OVERDUE
from job_harness.search.sampling import Sampler


class CancelsByMark(MemoryQueue):
    """As Temporal, procrastinate and Windmill do: the worker ends the job once it sees the mark, or completes it."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.marked: set[JobId] = set()

    def cancel(self, job: JobId) -> Outcome:
        row = self.rows.get(job)
        if row is None or row.status is not PROCESSING:
            return super().cancel(job)
        self.marked.add(job)
        return DONE

    def heartbeat(self, claim: Claim) -> Outcome:
        return self.sees_the_mark(claim) or super().heartbeat(claim)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        return self.sees_the_mark(claim) or super().fail(claim, error, final)

    def sees_the_mark(self, claim: Claim) -> Outcome | None:
        row = self.endings.held(claim, "heartbeat")
        if row is None or claim.job not in self.marked:
            return None
        self.marked.discard(claim.job)
        self.put(self.endings.end_row(row, CANCELLED, error=row.error))
        return Outcome.refused("it is cancelled")


class MovedOnly(ClaimRules):
    def is_due(self, row: JobView, now: Instant) -> bool:
        at_once = row.queue_state is not QueueState.RETRY and row.start_after <= row.created_at
        assert isinstance(self.queue, MovesBySweep)
        return super().is_due(row, now) and (at_once or row.id in self.queue.moved)


class MovesBySweep(MemoryQueue):
    """As Sidekiq, BullMQ and PgQue do: what waits for its time is moved by a pass, and claimed only then."""

    rules = (MovedOnly,)

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.moved: set[JobId] = set()

    def expire(self) -> Outcome:
        now = self.now("queue")
        self.moved = {row.id for row in self.unfinished() if row.status is PENDING and row.start_after <= now}
        return super().expire()


class TakesOver(ClaimRules):
    def is_due(self, row: JobView, now: Instant) -> bool:
        queue = self.queue
        overdue = queue.upkeep.is_overdue(row, now) and not queue.endings.exhausted(row)
        return super().is_due(row, now) or overdue

    def has_permit(self, row: JobView, active: list[JobView]) -> bool:
        return super().has_permit(row, [other for other in active if other.id != row.id])

    def key_is_free(self, row: JobView, active: list[JobView]) -> bool:
        return super().key_is_free(row, [other for other in active if other.id != row.id])


class BuriesBySweep(MemoryQueue):
    """A claim takes over what is overdue, and the sweep fails what has no attempt left."""

    capabilities: Capabilities = replace(MemoryQueue.capabilities, takes_back_in_claim=True)
    rules = (TakesOver,)

    def expire(self) -> Outcome:
        overdue = self.fitting(self.upkeep.is_overdue, self.now("queue"))
        return self.upkeep.take_back([row for row in overdue if self.endings.exhausted(row)], OVERDUE)

    def rescue(self) -> Outcome:
        return DONE


class RetriesForeverRules(EndRules):
    """As an outbox does."""

    def exhausted(self, row: JobView) -> bool:
        return False


class RetriesForever(MemoryQueue):
    rules = (RetriesForeverRules,)


class KeepsNoErrorRules(EndRules):
    """As Laravel does: the error of an attempt that is retried is in the log alone."""

    def waiting(self, row: JobView, error: str, nth: int) -> JobView:
        return super().waiting(row, error, nth).changed(error=None)


class KeepsNoError(MemoryQueue):
    rules = (KeepsNoErrorRules,)


class KeepsAllErrorsRules(EndRules):
    """As Oban does."""

    def waiting(self, row: JobView, error: str, nth: int) -> JobView:
        return super().waiting(row, f"{row.error or ''}\n{error}", nth)

    def end_row(self, row: JobView, status: Status, *, error: str | None, output: Json = None) -> JobView:
        kept = f"{row.error or ''}\n{error}" if status is FAILED else row.error
        return super().end_row(row, status, error=kept, output=output)


class KeepsAllErrors(MemoryQueue):
    rules = (KeepsAllErrorsRules,)


class RunsAgain(MemoryQueue):
    """Its operator runs again what is COMPLETED, or what the worker of an overdue claim holds."""

    def retry(self, job: JobId) -> Outcome:
        row = self.rows.get(job)
        overdue = row is not None and self.upkeep.is_overdue(row, self.now("operator"))
        # What is needed by a job that waits is not run again: that job would have to let others pass.
        needed = any(job in (each.depends_on or ()) for each in self.unfinished())
        if row is not None and (row.status is COMPLETED or overdue) and not needed:
            # It is not put in place as FAILED: a group would call back as if its last job had ended.
            self.rows[job] = row.changed(status=FAILED, queue_state=QueueState.FAILED, worker=None, lease_until=None)
            again = super().retry(job)
            if not again.done:
                self.rows[job] = row
            return again
        return super().retry(job)


class EndIsEnough(FlowRules):
    def may_begin(self, row: JobView) -> bool:
        return all(job in self.queue.rows and self.queue.rows[job].status in TERMINAL for job in row.depends_on)

    def pass_on(self, row: JobView) -> None:
        return None

    def missing(self, jobs: Iterable[JobId]) -> str | None:
        gone = [job for job in jobs if job not in self.queue.rows]
        return f"{gone[0]}, on which it depends, is gone" if gone else None


class WaitsForTheEnd(MemoryQueue):
    """As BullMQ does for a child with `ignoreDependencyOnFailure`."""

    rules = (EndIsEnough,)


class UniqueUntilClaimed(KeyRules):
    """As an index of the jobs that wait for their first claim does."""

    def key_holder(self, tool: str, key: str) -> JobId | None:
        waiting = (row for row in self.queue.unfinished() if row.status is PENDING and not row.attempts)
        return next((row.id for row in waiting if row.unique_key == key and row.tool == tool), None)

    def key_taken(self, row: JobView) -> bool:
        return False


class UniqueWhileItWaits(MemoryQueue):
    rules = (UniqueUntilClaimed,)


class SweptRules(EndRules):
    def exhausted(self, row: JobView) -> bool:
        assert isinstance(self.queue, ChecksAfterTheClaim)
        return super().exhausted(row) and not self.queue.sweeps


class ChecksAfterTheClaim(MemoryQueue):
    """As elephantq does: the sweep puts back every job, and the worker that claims one too often fails it."""

    rules = (SweptRules,)
    sweeps = False

    def expire(self) -> Outcome:
        self.sweeps = True
        outcome = super().expire()
        self.sweeps = False
        return outcome

    def rescue(self) -> Outcome:
        return self.expire()


RIGHT = {
    Design.CANCELS_BY_MARK: (CancelsByMark, {"cancel_ignored", "illegal_transition"}),
    Design.MOVES_BY_SWEEP: (MovesBySweep, {"due_job_left", "job_never_run"}),
    Design.BURIES_BY_SWEEP: (BuriesBySweep, {"job_stuck"}),
    Design.RETRIES_FOREVER: (RetriesForever, {"attempt_overrun"}),
    Design.KEEPS_NO_ERROR: (KeepsNoError, {"error_lost"}),
    Design.KEEPS_ALL_ERRORS: (KeepsAllErrors, {"completed_with_error"}),
    Design.RUNS_AGAIN: (RunsAgain, {"terminal_job_revived"}),
    Design.WAITS_FOR_THE_END: (WaitsForTheEnd, {"dependency_not_awaited"}),
    Design.UNIQUE_WHILE_IT_WAITS: (UniqueWhileItWaits, {"unique_key_shared"}),
    Design.CHECKS_AFTER_THE_CLAIM: (ChecksAfterTheClaim, {"attempt_overrun"}),
}
RUNS = 150


def found(queue: type[MemoryQueue], *designs: Design) -> Iterator[str]:
    sampler = Sampler(MemoryEngine(queue, contract=Contract(designs=frozenset(designs))))
    return (name for seed in range(RUNS) for name in sampler.sample(seed).found)


LONG = {Design.RETRIES_FOREVER}
"""A run of these has more attempts than all others together."""
OF_FILES = {
    Design.CALLED_IN_PROCESS,
    Design.RECORDS_NO_END,
    Design.COUNTS_AT_THE_END,
    Design.WAITS_OUT_ITS_CLAIM,
}
"""These are words of a queue file: `test_queues_in_process` has right and wrong queues with and without them, and
`benchmarks/right` the last."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "design",
    [pytest.param(each, marks=pytest.mark.long) if each in LONG else each for each in Design if each not in OF_FILES],
)
def test_a_right_queue_is_silent_with_the_word_for_its_design_and_not_without(design: Design) -> None:
    queue, without = RIGHT[design]
    assert list(found(queue, design)) == []
    left = set(without)
    assert any(not (left := left - {name}) for name in found(queue))
