"""The model queue itself. Each rule is a small method of its own, so that a wrong queue overrides exactly one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import ClassVar

from harness.history.outcome import DONE, Outcome, done
from harness.model.duration import Instant
from harness.model.job import JobId, JobView, Json
from harness.model.json_value import json_problem, printable
from harness.model.lifecycle import PARTNERS, TERMINAL, QueueState, Status
from harness.model.retry import retry_delay, spread
from harness.model.settings import Settings
from harness.port import Capabilities, Claim, Clocks, JobRequest

STALE = Outcome.refused("the claim was taken back")


class MemoryQueue:
    """Jobs are immutable views in a dictionary, oldest first; a transition puts a new view in place."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        heartbeat=True,
        release=True,
        cancel=True,
        retry=True,
        priorities=True,
        unique=True,
        start_after=True,
        maintenance=True,
        virtual_time=True,
        snapshot=True,
        fencing=True,
    )

    def __init__(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> None:
        self.settings = settings
        self.clocks = clocks
        self.jitter = jitter
        self.rows: dict[JobId, JobView] = {}
        self.live: dict[JobId, None] = {}
        self.apart: dict[JobId, None] = {}
        """Jobs whose rows disagree."""
        self.ended: dict[JobId, None] = {}
        """Terminal jobs, in the order in which they ended."""
        self.drawn = 0.0
        """The jitter of the statement under way: one number, which its rows share out."""
        self._touched: dict[JobId, None] = {}

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Answer the rows themselves; nobody may change them."""
        return self.rows

    def changed(self) -> list[JobId]:
        """Answer and forget what was touched."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def snapshot(self) -> dict[JobId, JobView]:
        """Answer the state as a value."""
        return dict(self.rows)

    def restore(self, state: dict[JobId, JobView]) -> None:
        """Go back to a state."""
        self.rows.clear()
        self.live.clear()
        self.apart.clear()
        self.ended.clear()
        for row in state.values():
            self.put(row)
        self.ended = dict.fromkeys(sorted(self.ended, key=lambda job: self.rows[job].completed_at or 0))
        self._touched.clear()

    def close(self) -> None:
        """Nothing to give back."""

    def put(self, row: JobView) -> None:
        """Put a row in place."""
        self.rows[row.id] = row
        self._touched[row.id] = None
        if row.status in TERMINAL:
            self.live.pop(row.id, None)
            self.ended[row.id] = None
        else:
            self.live[row.id] = None
            self.ended.pop(row.id, None)
        if row.status is None or row.queue_state not in PARTNERS[row.status]:
            self.apart[row.id] = None
        elif self.apart:
            self.apart.pop(row.id, None)

    def drop(self, job: JobId) -> None:
        """Delete a row."""
        del self.rows[job]
        self.live.pop(job, None)
        self.ended.pop(job, None)
        self.apart.pop(job, None)
        self._touched[job] = None

    # producers and operators ----------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Write both rows."""
        if problem := json_problem(request.input):
            return Outcome.refused(f"invalid input: {problem}")
        if request.id in self.rows:
            return Outcome.refused("this id exists", request.id)
        if (holder := self.holder(request)) is not None:
            return Outcome.refused("the unique key is held", holder)
        self.put(self.created(request, self.now("producer")))
        return done(request.id)

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
        """Say whether another job took a terminal job's unique key."""
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

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Outcome:
        """Take the first due jobs; the attempt counts from here."""
        now = self.now(worker)
        due = [row for job in self.live if self.is_due(row := self.rows[job], now)]
        if len(due) > 1:
            due.sort(key=self.claim_order)
        return done([self.take(row, worker, now) for row in due[:limit]])

    def is_due(self, row: JobView, now: Instant) -> bool:
        """Say whether a job may be claimed."""
        return row.status is Status.PENDING and row.start_after <= now

    def claim_order(self, row: JobView) -> tuple[int, Instant, JobId]:
        """The highest priority first, then the oldest."""
        return (-row.priority, row.created_at, row.id)

    def take(self, row: JobView, worker: str, now: Instant) -> Claim:
        """Claim one job."""
        taken = row._replace(
            status=Status.PROCESSING,
            queue_state=QueueState.ACTIVE,
            attempts=row.attempts + self.counted(row),
            token=self.raised(row),
            worker=worker,
            started_at=now,
            lease_until=now + self.settings.lease,
        )
        self.put(taken)
        return Claim(row.id, taken.attempts, taken.token, worker, row.tool, now + self.settings.lease)

    def counted(self, row: JobView) -> int:
        """What a claim of this job adds to its attempts."""
        return 1

    def raised(self, row: JobView) -> int:
        """Answer the fencing token of the next claim."""
        return row.token + 1

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
        self.put(self.failed(row, self.recorded(error), final=final))
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

    # the queue's own upkeep, and the cron ---------------------------------------------------------------------------

    def now(self, caller: str) -> Instant:
        """Read the clock: the store's, whoever asks."""
        return self.clocks.store()

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
            self.put(self.taken_back(row, error, nth))
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
