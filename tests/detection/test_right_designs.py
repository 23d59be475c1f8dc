"""Right queues of designs that differ: silent with the word of their contract, and alarming without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from job_harness.core.history.outcome import DONE, Outcome
from job_harness.core.model.design import Design
from job_harness.core.model.duration import Instant
from job_harness.core.model.job import JobId, JobView, Json
from job_harness.core.model.lifecycle import CANCELLED, COMPLETED, FAILED, PENDING, PROCESSING, QueueState, Status
from job_harness.core.port import Capabilities, Claim, Contract
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.search.sampling import Sampler


class CancelsByMark(MemoryQueue):
    """As Temporal, procrastinate and Windmill do: the worker ends the job once it sees the mark, or completes it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
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
        row = self.held(claim, "heartbeat")
        if row is None or claim.job not in self.marked:
            return None
        self.marked.discard(claim.job)
        self.put(self.settled(row, CANCELLED, error=row.error))
        return Outcome.refused("it is cancelled")


class MovesBySweep(MemoryQueue):
    """As Sidekiq, BullMQ and PgQue do: what waits for its time is moved by a pass, and claimed only then."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.moved: set[JobId] = set()

    def is_due(self, row: JobView, now: Instant) -> bool:
        at_once = row.queue_state is not QueueState.RETRY and row.start_after <= row.created_at
        return super().is_due(row, now) and (at_once or row.id in self.moved)

    def expire(self) -> Outcome:
        now = self.now("queue")
        self.moved = {row.id for row in self.unfinished() if row.status is PENDING and row.start_after <= now}
        return super().expire()


class BuriesBySweep(MemoryQueue):
    """A claim takes over what is overdue, and the sweep fails what has no attempt left."""

    capabilities: Capabilities = replace(MemoryQueue.capabilities, takes_back_in_claim=True)

    def is_due(self, row: JobView, now: Instant) -> bool:
        return super().is_due(row, now) or (self.is_overdue(row, now) and not self.exhausted(row))

    def has_permit(self, row: JobView, active: list[JobView]) -> bool:
        return super().has_permit(row, [other for other in active if other.id != row.id])

    def key_is_free(self, row: JobView, active: list[JobView]) -> bool:
        return super().key_is_free(row, [other for other in active if other.id != row.id])

    def expire(self) -> Outcome:
        over = [row for row in self.fitting(self.is_overdue, self.now("queue")) if self.exhausted(row)]
        return self.take_back(over, "The lease of worker {worker} ran out in attempt {attempt} of {attempts}.")

    def rescue(self) -> Outcome:
        return DONE


class RetriesForever(MemoryQueue):
    """As an outbox does."""

    def exhausted(self, row: JobView) -> bool:
        return False


class KeepsNoError(MemoryQueue):
    """As Laravel does: the error of an attempt that is retried is in the log alone."""

    def waiting(self, row: JobView, error: str, nth: int) -> JobView:
        return super().waiting(row, error, nth).changed(error=None)


class KeepsAllErrors(MemoryQueue):
    """As Oban does."""

    def waiting(self, row: JobView, error: str, nth: int) -> JobView:
        return super().waiting(row, f"{row.error or ''}\n{error}", nth)

    def settled(self, row: JobView, status: Status, *, error: str | None, output: Json = None) -> JobView:
        kept = f"{row.error or ''}\n{error}" if status is FAILED else row.error
        return super().settled(row, status, error=kept, output=output)


class RunsAgain(MemoryQueue):
    """Its operator runs again what is COMPLETED, or what the worker of an overdue claim holds."""

    def retry(self, job: JobId) -> Outcome:
        row = self.rows.get(job)
        overdue = row is not None and self.is_overdue(row, self.now("operator"))
        if row is not None and (row.status is COMPLETED or overdue):
            self.put(row.changed(status=FAILED, queue_state=QueueState.FAILED, worker=None, lease_until=None))
            again = super().retry(job)
            if not again.done:
                self.put(row)
            return again
        return super().retry(job)


RIGHT = {
    Design.CANCELS_BY_MARK: (CancelsByMark, {"cancel_ignored", "illegal_transition"}),
    Design.MOVES_BY_SWEEP: (MovesBySweep, {"due_job_left", "job_never_run"}),
    Design.BURIES_BY_SWEEP: (BuriesBySweep, {"job_stuck"}),
    Design.RETRIES_FOREVER: (RetriesForever, {"attempt_overrun"}),
    Design.KEEPS_NO_ERROR: (KeepsNoError, {"error_lost"}),
    Design.KEEPS_ALL_ERRORS: (KeepsAllErrors, {"completed_with_error"}),
    Design.RUNS_AGAIN: (RunsAgain, {"terminal_job_revived"}),
}
RUNS = 150


def found(queue: type[MemoryQueue], *designs: Design) -> set[str]:
    sampler = Sampler(MemoryEngine(queue, contract=Contract(designs=frozenset(designs))))
    return {name for seed in range(RUNS) for name in sampler.sample(seed).found}


@pytest.mark.slow
@pytest.mark.parametrize("design", Design)
def test_a_right_queue_is_silent_with_the_word_for_its_design_and_not_without(design: Design) -> None:
    queue, without = RIGHT[design]
    assert found(queue, design) == set()
    assert without <= found(queue)
