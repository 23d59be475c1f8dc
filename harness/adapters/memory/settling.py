"""How an attempt ends in the model queue: who still holds it, and what becomes of the job."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory.rows import Rows
from harness.history.outcome import DONE, Outcome
from harness.model.job import JobId, JobView, Json
from harness.model.json_value import json_problem, printable
from harness.model.lifecycle import PARTNERS, QueueState, Status
from harness.model.retry import retry_delay, spread
from harness.port import Claim

STALE: Final = Outcome.refused("the claim was taken back")


class Settling(Rows):
    """Ends attempts: by the worker's word, or for want of it."""

    def held(self, claim: Claim, verb: str) -> JobView | None:
        """Answer the row that a claim still holds, whatever the verb that asks."""
        row = self.rows.get(claim.job)
        if row is None or row.status is not Status.PROCESSING or row.token != claim.token:
            return None
        return row

    def heartbeat(self, claim: Claim) -> Outcome:
        """Extend the lease by its full length."""
        row = self.held(claim, "heartbeat")
        if row is None:
            return STALE
        self.put(row._replace(lease_until=self.now(claim.worker) + self.settings.lease))
        return DONE

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Settle as COMPLETED with the output and no error."""
        row = self.held(claim, "complete")
        if row is None:
            return STALE
        if problem := self.output_problem(output):
            return Outcome.refused(f"invalid output: {problem}")
        self.put(self.completed(row, output))
        return DONE

    def output_problem(self, output: Json) -> str | None:
        """Answer why JSON cannot hold an output, or None."""
        return json_problem(output)

    def completed(self, row: JobView, output: Json) -> JobView:
        """Answer the row of a success: the output, and no error of an attempt before."""
        return self.settled(row, Status.COMPLETED, output=output, error=None)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Settle as a failure."""
        self.draw()
        row = self.held(claim, "fail")
        if row is None:
            return STALE
        self.end_attempt(self.failed(row, self.recorded(error), final=final), "fail")
        return DONE

    def recorded(self, error: str) -> str:
        """Answer the error as the store can keep it."""
        return printable(error)

    def release(self, claim: Claim) -> Outcome:
        """Give the job back unrun: the attempt does not count, the token stays."""
        row = self.held(claim, "release")
        if row is None:
            return STALE
        self.put(
            row._replace(
                status=Status.PENDING,
                queue_state=QueueState.RETRY if row.attempts > 1 else QueueState.CREATED,
                attempts=row.attempts - 1,
                worker=None,
                started_at=None,
                lease_until=None,
                start_after=self.now(claim.worker),
            )
        )
        return DONE

    def failed(self, row: JobView, error: str, *, final: bool = False, nth: int = 0) -> JobView:
        """Answer the row after a failed attempt: back to PENDING with a delay, or FAILED."""
        if final or self.exhausted(row):
            return self.settled(row, Status.FAILED, error=error)
        return self.waiting(row, error, nth)

    def end_attempt(self, row: JobView, verb: str) -> None:
        """Put the row of a failed attempt in place, and the dead letter of a job that failed for good beside it."""
        self.put(row)
        if row.status is Status.FAILED and row.dead_letter is not None:
            for letter in self.dead_letters(row, verb):
                self.put(letter)

    def dead_letters(self, row: JobView, verb: str) -> list[JobView]:
        """Answer the one new job that a job which failed for good leaves behind, whatever the verb that failed it."""
        return [self.dead_letter(row, f"{row.id}-dead-{row.token}")]

    def dead_letter(self, row: JobView, job: JobId) -> JobView:
        """Answer a new job for the dead letter tool, with the input of the job that failed."""
        now = self.now("queue")
        return row._replace(
            id=job,
            tool=row.dead_letter or row.tool,
            status=Status.PENDING,
            queue_state=QueueState.CREATED,
            priority=0,
            attempts=0,
            max_attempts=self.settings.max_attempts,
            token=0,
            error=None,
            unique_key=None,
            created_at=now,
            start_after=now,
            started_at=None,
            completed_at=None,
            expires_at=None,
            serial_key=None,
            dead_letter=None,
            dead_of=row.id,
            schedule=None,
            slot=None,
        )

    def waiting(self, row: JobView, error: str, nth: int) -> JobView:
        """Answer the row that waits for its next attempt."""
        delay = self.delay(row, nth)
        return row._replace(
            status=Status.PENDING,
            queue_state=QueueState.RETRY,
            error=error,
            worker=None,
            lease_until=None,
            start_after=self.now("queue") + delay,
        )

    def exhausted(self, row: JobView) -> bool:
        """Say whether the attempts are used up."""
        return row.attempts >= row.max_attempts

    def delay(self, row: JobView, nth: int) -> int:
        """Answer how long a failed job waits."""
        return retry_delay(self.settings, attempts=row.attempts, jitter=spread(self.drawn, nth))

    def draw(self) -> None:
        """Draw the jitter of a statement that may delay a retry, needed or not: an SQL statement knows no better."""
        self.drawn = self.jitter() if self.settings.retry_backoff else 0.0

    def settled(self, row: JobView, status: Status, *, error: str | None, output: Json = None) -> JobView:
        """Answer the row in a terminal status."""
        now = self.now("queue")
        return row._replace(
            status=status,
            queue_state=next(iter(PARTNERS[status])),
            output=output,
            error=error,
            worker=None,
            lease_until=None,
            completed_at=now,
            expires_at=now + self.settings.retention,
        )
