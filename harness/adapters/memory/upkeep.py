"""The model queue's own upkeep, and the cron's: expire, rescue, reconcile, purge."""

from __future__ import annotations

from itertools import takewhile

from harness.adapters.memory.settling import Settling
from harness.history.outcome import Outcome, done
from harness.model.duration import Instant
from harness.model.job import JobView
from harness.model.lifecycle import PARTNERS, TERMINAL, QueueState, Status


class Upkeep(Settling):
    """Takes back, repairs and deletes."""

    def expire(self) -> Outcome:
        """Take back every claim whose lease ran out."""
        now = self.now("queue")
        overdue = [row for job in self.live if self.is_overdue(row := self.rows[job], now)]
        return self.take_back(overdue, "The lease of worker {worker} ran out in attempt {attempt} of {attempts}.")

    def is_overdue(self, row: JobView, now: Instant) -> bool:
        """Say whether a lease ran out."""
        return row.queue_state is QueueState.ACTIVE and row.lease_until is not None and row.lease_until <= now

    def rescue(self) -> Outcome:
        """Take back what is PROCESSING for longer than the stuck timeout."""
        now = self.now("cron")
        stuck = [row for job in self.live if self.is_stuck(row := self.rows[job], now)]
        return self.take_back(stuck, "Stuck: worker {worker} did not settle attempt {attempt} of {attempts} in time.")

    def is_stuck(self, row: JobView, now: Instant) -> bool:
        """Say whether a job is stuck."""
        return (
            row.status is Status.PROCESSING
            and row.started_at is not None
            and row.started_at + self.settings.stuck_timeout <= now
        )

    def take_back(self, rows: list[JobView], why: str) -> Outcome:
        """Fail attempts on behalf of workers that did not settle them: the same arrows as a failure."""
        self.draw()
        for nth, row in enumerate(sorted(rows, key=lambda row: row.id)):
            error = why.format(worker=row.worker, attempt=row.attempts, attempts=row.max_attempts)
            self.end_attempt(self.taken_back(row, error, nth), "take back")
        return done([row.id for row in rows])

    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        """Answer the row after its claim was taken back."""
        return self.failed(row, why, nth=nth)

    def reconcile(self) -> Outcome:
        """Make both rows agree: the terminal half wins, then the queue's."""
        apart = [self.rows[job] for job in self.apart]
        for row in apart:
            self.repair(row)
        return done([row.id for row in apart])

    def repair(self, row: JobView) -> None:
        """Repair one job whose rows disagree."""
        if row.status is None:
            self.drop(row.id)
        elif row.queue_state is None or row.status in TERMINAL:
            self.put(row._replace(queue_state=next(iter(PARTNERS[row.status]))))
        else:
            status = next(status for status, states in PARTNERS.items() if row.queue_state in states)
            self.put(row._replace(status=status))

    def purge(self) -> Outcome:
        """Delete terminal jobs past their retention."""
        now = self.now("cron")
        ended = (self.rows[job] for job in self.ended)
        gone = [row.id for row in takewhile(lambda row: self.is_purgeable(row, now), ended)]
        gone += [job for job in self.live if self.is_purgeable(self.rows[job], now)]
        for job in gone:
            self.drop(job)
        return done(gone)

    def is_purgeable(self, row: JobView, now: Instant) -> bool:
        """Say whether a job is past its retention."""
        return row.status in TERMINAL and row.expires_at is not None and row.expires_at <= now
