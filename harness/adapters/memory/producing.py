"""What producers and operators ask of the model queue: send, in a transaction or not, cancel, retry."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory.settling import Settling
from harness.history.outcome import DONE, Outcome, done
from harness.model.duration import Instant
from harness.model.job import JobId, JobView, Json
from harness.model.json_value import json_problem
from harness.model.lifecycle import TERMINAL, QueueState, Status
from harness.port import JobRequest

NO_TRANSACTION: Final = Outcome.refused("there is no such transaction, or it has ended")


class Producing(Settling):
    """Makes jobs, and decides over them from outside."""

    def enqueue(self, request: JobRequest) -> Outcome:
        """Write both rows, at once or where the transaction of the request commits."""
        if problem := self.input_problem(request.input) or self.option_problem(request):
            return Outcome.refused(f"invalid input: {problem}")
        if request.id in self.rows or self.is_pending(request.id):
            return Outcome.refused("this id exists", request.id)
        if (holder := self.holder(request)) is not None:
            return Outcome.refused("the unique key is held", holder)
        row = self.created(request, self.now("producer"))
        if request.transaction is None:
            self.put(row)
        elif not self.join(request.transaction, row):
            return NO_TRANSACTION
        return done(request.id)

    def input_problem(self, input: Json) -> str | None:
        """Answer why JSON cannot hold an input, or None."""
        return json_problem(input)

    def option_problem(self, request: JobRequest) -> str | None:
        """Answer why text cannot hold a request's name or one of its keys, or None."""
        texts = (request.tool, request.unique_key, request.serial_key, request.dead_letter)
        return next((problem for text in texts if (problem := json_problem(text))), None)

    def created(self, request: JobRequest, now: Instant) -> JobView:
        """Answer the row of a new job."""
        return JobView(
            id=request.id,
            tool=request.tool,
            status=Status.PENDING,
            queue_state=QueueState.CREATED,
            priority=request.priority,
            attempts=0,
            max_attempts=request.max_attempts or self.settings.max_attempts,
            token=0,
            worker=None,
            output=None,
            error=None,
            unique_key=request.unique_key,
            created_at=now,
            start_after=now if request.start_after is None else request.start_after,
            started_at=None,
            lease_until=None,
            completed_at=None,
            expires_at=None,
            input=request.input,
            serial_key=request.serial_key,
            dead_letter=request.dead_letter,
        )

    def cancel(self, job: JobId) -> Outcome:
        """Cancel what is not terminal."""
        row = self.rows.get(job)
        if row is None or row.status in TERMINAL:
            return Outcome.refused("unknown job" if row is None else f"the job is {row.status}")
        self.put(self.settled(row, Status.CANCELLED, error=row.error))
        return DONE

    def retry(self, job: JobId) -> Outcome:
        """Open a new attempt budget; the token goes on rising."""
        row = self.rows.get(job)
        if row is None or row.status not in (Status.FAILED, Status.CANCELLED):
            return Outcome.refused("unknown job" if row is None else f"the job is {row.status}")
        if self.key_taken(row):
            return Outcome.refused("the unique key is held")
        now = self.now("operator")
        self.put(
            row._replace(
                status=Status.PENDING,
                queue_state=QueueState.CREATED,
                attempts=0,
                output=None,
                error=None,
                start_after=now,
                started_at=None,
                completed_at=None,
                expires_at=None,
            )
        )
        return DONE

    def key_taken(self, row: JobView) -> bool:
        """Say whether another job holds the unique key of one that does not count as unfinished."""
        return row.unique_key is not None and self.key_holder(row.tool, row.unique_key) is not None

    def holder(self, request: JobRequest) -> JobId | None:
        """Answer the unfinished job that holds the request's unique key."""
        return None if request.unique_key is None else self.key_holder(request.tool, request.unique_key)

    def key_holder(self, tool: str, key: str) -> JobId | None:
        """Answer the unfinished job that holds a unique key."""
        for job in self.live:
            row = self.rows[job]
            if row.unique_key == key and row.tool == tool:
                return job
        return None

    # transactions ---------------------------------------------------------------------------------------------------

    def begin(self, transaction: str) -> Outcome:
        """Open a transaction."""
        if transaction in self.transactions:
            return Outcome.refused("this transaction is open")
        self.transactions[transaction] = ()
        return DONE

    def join(self, transaction: str, row: JobView) -> bool:
        """Write a row that only its transaction sees. False: there is no such transaction."""
        if transaction not in self.transactions:
            return False
        self.transactions[transaction] += (row,)
        return True

    def is_pending(self, job: JobId) -> bool:
        """Say whether an open transaction has written this job."""
        return bool(self.transactions) and any(row.id == job for rows in self.transactions.values() for row in rows)

    def commit(self, transaction: str) -> Outcome:
        """Show what a transaction wrote; refused, and nothing of it kept, where a unique key was taken meanwhile."""
        rows = self.transactions.pop(transaction, None)
        if rows is None:
            return NO_TRANSACTION
        if any(self.key_taken(row) for row in rows):
            return Outcome.refused("the unique key is held")
        self.publish(rows)
        return done([row.id for row in rows])

    def publish(self, rows: tuple[JobView, ...]) -> None:
        """Put what was committed in place."""
        for row in rows:
            self.put(row)

    def rollback(self, transaction: str) -> Outcome:
        """Forget what a transaction wrote."""
        return NO_TRANSACTION if self.transactions.pop(transaction, None) is None else DONE
