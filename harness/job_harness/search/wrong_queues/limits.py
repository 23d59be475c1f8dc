"""Wrong queues in what may be there or run at once: unique keys, serial keys and concurrency limits."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from job_harness.core.history import Outcome, done
from job_harness.core.model import JobId, JobView, QueueState, Status
from job_harness.core.port import JobRequest
from job_harness.core.sim import Point
from job_harness.engines.memory import ClaimRules, EndRules, KeyRules, MemoryQueue, UpkeepRules
from job_harness.search.wrong_queues.wrong_queue import Edit, Mistake, Theme

# uniqueness -----------------------------------------------------------------------------------------------------------


class UniqueIgnored(KeyRules):
    def holder(self, request: JobRequest) -> JobId | None:
        return None


class UniqueAmongWaitingOnly(KeyRules):
    def key_holder(self, tool: str, key: str) -> JobId | None:
        holder = super().key_holder(tool, key)
        return holder if holder is not None and self.queue.rows[holder].status is Status.PENDING else None


class WaitingAgainCollides(EndRules):
    """procrastinate-retry-queueing-lock: the index among waiting jobs refuses the row, and the error is not caught."""

    def waiting(self, row: JobView, error: str, nth: int) -> JobView:
        if row.unique_key is not None and self.queue.keys.key_holder(row.tool, row.unique_key) is not None:
            raise ValueError("duplicate key value violates unique constraint")
        return super().waiting(row, error, nth)


class HeldWhileWaiting(KeyRules):
    """The index of `WaitingAgainCollides`."""

    def key_holder(self, tool: str, key: str) -> JobId | None:
        waiting = (row for row in self.queue.unfinished() if row.status is Status.PENDING)
        return next((row.id for row in waiting if row.unique_key == key and row.tool == tool), None)


class UniqueForgottenOnRetry(KeyRules):
    def key_taken(self, row: JobView) -> bool:
        return False


class UniqueNotReleasedOnFailure(KeyRules):
    def key_holder(self, tool: str, key: str) -> JobId | None:
        failed = (row.id for row in self.queue.rows.values() if row.unique_key == key and row.status is Status.FAILED)
        return super().key_holder(tool, key) or next(failed, None)


def _kept(keys: KeyRules, tool: str, key: str, forgets: Callable[[JobView], bool]) -> JobId | None:
    """Return the job that ended on a path which forgot the key: it stays taken for as long as the row is there."""
    ended = map(keys.queue.rows.__getitem__, keys.queue.ended)
    return next((row.id for row in ended if row.unique_key == key and row.tool == tool and forgets(row)), None)


class UniqueNotReleasedOnCancel(KeyRules):
    def key_holder(self, tool: str, key: str) -> JobId | None:
        kept = _kept(self, tool, key, lambda row: row.status is Status.CANCELLED)
        return super().key_holder(tool, key) or kept


class UniqueNotReleasedByReaper(KeyRules):
    def key_holder(self, tool: str, key: str) -> JobId | None:
        kept = _kept(self, tool, key, lambda row: (row.error or "").startswith(("The lease", "Stuck")))
        return super().key_holder(tool, key) or kept


class UniqueNotReleasedInSecondLife(KeyRules):
    def key_holder(self, tool: str, key: str) -> JobId | None:
        return super().key_holder(tool, key) or _kept(self, tool, key, lambda row: row.token > row.attempts)


class UniqueNotReleasedOnSecondCancel(KeyRules):
    def key_holder(self, tool: str, key: str) -> JobId | None:
        retried = self.queue.__dict__.get("retried", ())
        kept = _kept(self, tool, key, lambda row: row.status is Status.CANCELLED and row.id in retried)
        return super().key_holder(tool, key) or kept


class KeyOfItsFirstLife(MemoryQueue):
    rules = (UniqueNotReleasedOnSecondCancel,)

    def retry(self, job: JobId) -> Outcome:
        outcome = super().retry(job)
        if outcome.done:
            self.__dict__.setdefault("retried", set()).add(job)
        return outcome


class RepushResetsRunning(KeyRules):
    """An upsert that overwrites the state."""

    def holder(self, request: JobRequest) -> JobId | None:
        job = super().holder(request)
        if job is not None and (row := self.queue.rows[job]).status is Status.PROCESSING:
            self.queue.put(row._replace(status=Status.PENDING, queue_state=QueueState.CREATED, lease_until=None))
        return job


class RefusalSwallowed(MemoryQueue):
    def enqueue(self, request: JobRequest) -> Outcome:
        outcome = super().enqueue(request)
        return outcome if outcome.done or request.id in self.rows else done(request.id)


UNIQUENESS: Final = Theme.of(
    "a unique key held until its job ends",
    Mistake(
        name="unique-ignored",
        sentence="Enqueue ignores unique keys.",
        source="pg-boss#592",
        finds=("unique_key_shared",),
        rules=(UniqueIgnored,),
    ),
    Mistake(
        name="unique-among-waiting-only",
        sentence="A unique key is held only while its job waits, not while it runs.",
        source="procrastinate#1446, pg-boss#492",
        finds=("unique_key_shared",),
        rules=(UniqueAmongWaitingOnly,),
    ),
    Mistake(
        name="waiting-again-collides",
        sentence="A key is unique only among waiting jobs, so a failed job that should wait again collides with "
        "another and raises.",
        source="procrastinate#1446, procrastinate#1543",
        finds=("outcome_lost", "unique_key_shared"),
        rules=(WaitingAgainCollides, HeldWhileWaiting),
    ),
    Mistake(
        name="unique-forgotten-on-retry",
        sentence="Retrying a finished job does not check whether another job now has its unique key.",
        source="procrastinate#1543, pg-boss#492",
        finds=("unique_key_shared",),
        rules=(UniqueForgottenOnRetry,),
    ),
    Mistake(
        name="unique-not-released-on-failure",
        sentence="A job that failed for good keeps its unique key.",
        source="bullmq#4311, bullmq#3555",
        finds=("unique_key_stuck",),
        rules=(UniqueNotReleasedOnFailure,),
        statements={
            "enqueue": (
                Edit(
                    """q."state" IN ('created', 'retry', 'active')""",
                    """q."state" IN ('created', 'retry', 'active', 'failed')""",
                ),
            )
        },
    ),
    Mistake(
        name="unique-not-released-on-cancel",
        sentence="A cancelled job keeps its unique key.",
        source="a lock that the worker frees, where no worker sees the end",
        finds=("unique_key_stuck",),
        rules=(UniqueNotReleasedOnCancel,),
    ),
    Mistake(
        name="unique-not-released-by-reaper",
        sentence="A job that failed because its worker died keeps its unique key.",
        source="a lock that the worker frees, where no worker sees the end",
        finds=("unique_key_stuck",),
        rules=(UniqueNotReleasedByReaper,),
    ),
    Mistake(
        name="unique-not-released-in-second-life",
        sentence="A job that was given back, or retried by an operator, keeps its unique key when it ends.",
        source="a lock that counts its claims",
        finds=("unique_key_stuck",),
        rules=(UniqueNotReleasedInSecondLife,),
    ),
    Mistake(
        name="unique-not-released-on-second-cancel",
        sentence="A job that an operator retried keeps its unique key if it is then cancelled.",
        source="a lock that is freed by the name of its first life",
        finds=("unique_key_stuck",),
        queue=KeyOfItsFirstLife,
    ),
    Mistake(
        name="repush-resets-running",
        sentence="Sending a unique key again sets its running job back to PENDING.",
        source="chancy#51",
        finds=("illegal_transition", "concurrent_execution"),
        rules=(RepushResetsRunning,),
    ),
    Mistake(
        name="refusal-swallowed",
        sentence="Enqueue reports success although the INSERT wrote nothing.",
        source="pg-boss#463, pg-boss#484",
        finds=("job_vanished",),
        queue=RefusalSwallowed,
    ),
)


# limits ---------------------------------------------------------------------------------------------------------------


class CountedBeforeClaim(MemoryQueue):
    """pgqueuer-global-limit-toctou: SKIP LOCKED protects the rows, and nothing the count."""

    def claim(  # type: ignore[override]
        self, worker: str, limit: int, tools: Sequence[str] | None = None
    ) -> Generator[Any, Any, Outcome]:
        locked: dict[str, list[JobView]] = self.__dict__.setdefault("locked", {})
        others = [row for owner, rows in locked.items() if owner != worker for row in rows]
        due = [
            row for row in self.claims.due(self.now(worker)) if row not in others and self.claims.is_served(row, tools)
        ]
        chosen = locked[worker] = self.claims.allowed(due, limit)
        yield Point("take what was counted")
        del locked[worker]
        now = self.now(worker)
        return done([self.claims.take(row, worker, now) for row in chosen if self.rows.get(row.id) == row])


class BatchCheckedAsOne(ClaimRules):
    """graphile-localqueue-named-queue: every row of the batch is asked before any is taken."""

    def allowed(self, due: list[JobView], limit: int) -> list[JobView]:
        active = self.active()
        return [row for row in due if self.has_permit(row, active) and self.key_is_free(row, active)][:limit]


class LimitBeforeFilter(ClaimRules):
    """pgboss-group-head-of-line."""

    def allowed(self, due: list[JobView], limit: int) -> list[JobView]:
        return super().allowed(due[:limit], limit)


class DeadJobKeepsPermit(ClaimRules):
    """dbos-dlq-blocks-queue."""

    def active(self) -> list[JobView]:
        return [row for row in self.queue.rows.values() if row.status in (Status.PROCESSING, Status.FAILED)]


class SerialKeyKeptAtMax(ClaimRules):
    """graphile-named-queue-locked-at-max."""

    def key_is_free(self, row: JobView, active: list[JobView]) -> bool:
        failed = [other for other in self.queue.rows.values() if other.status is Status.FAILED]
        return super().key_is_free(row, [*active, *failed])


class RetryCountedAsActive(ClaimRules):
    """pgboss-retry-counted-as-active: the waiting job blocks itself."""

    def is_active(self, row: JobView) -> bool:
        return super().is_active(row) or row.queue_state is QueueState.RETRY


class RateOfLastClaims(ClaimRules):
    """The rate is counted from the rows, and each shows its last claim alone."""

    def rate_allows(self, row: JobView, chosen: list[JobView]) -> bool:
        """Look at the rows of its tool."""
        since = self.queue.now("queue") - self.settings.rate_window
        rows = [other for other in self.queue.rows.values() if other.tool == row.tool and other.started_at is not None]
        counted = [other for other in rows if other.started_at is not None and other.started_at > since]
        return len(counted) + sum(other.tool == row.tool for other in chosen) < self.settings.rate_limit


class RateFilledByWaiting(ClaimRules):
    """A claim that the rate turns away counts as one of it, so that each look puts the next job off."""

    def rate_allows(self, row: JobView, chosen: list[JobView]) -> bool:
        """Count what is not allowed."""
        allows = super().rate_allows(row, chosen)
        if not allows:
            self.queue.starts.add(row.tool, self.queue.now("queue"), row.id)
        return allows


class StaleBlockedByOwnSlot(UpkeepRules):
    """pgqueuer-stale-blocked-by-own-slot: the gate counts the stale row itself."""

    def take_back(self, rows: list[JobView], why: str) -> Outcome:
        active = self.queue.claims.active()
        return super().take_back([row for row in rows if self.queue.claims.has_permit(row, active)], why)


LIMITS: Final = Theme.of(
    "limits and serial keys counted in the claim itself",
    Mistake(
        name="limit-counted-before-claim",
        sentence="Permits are counted in one statement and jobs are taken in the next, so two workers both get "
        "through.",
        source="pgqueuer#761",
        finds=("concurrency_exceeded", "serial_key_shared"),
        queue=CountedBeforeClaim,
    ),
    Mistake(
        name="rate-of-last-claims",
        sentence="A rate is counted from rows that show only the last claim, so what is retried is counted once.",
        source="a rate that is kept by the column started_at",
        finds=("rate_exceeded",),
        rules=(RateOfLastClaims,),
    ),
    Mistake(
        name="rate-filled-by-waiting",
        sentence="A claim that the rate turns away is counted too, so workers that poll keep the rate used up.",
        source="a token bucket that counts what it turns away",
        finds=("due_job_left", "job_never_run"),
        rules=(RateFilledByWaiting,),
    ),
    Mistake(
        name="batch-checked-as-one",
        sentence="A claim of several jobs checks for each whether it may run, before it has taken any of them.",
        source="graphile-worker#621",
        finds=("serial_key_shared", "concurrency_exceeded"),
        rules=(BatchCheckedAsOne,),
    ),
    Mistake(
        name="limit-before-filter",
        sentence="A claim looks only at the first jobs; if those have to wait, they hide the others.",
        source="pg-boss PR#756",
        finds=("due_job_left",),
        rules=(LimitBeforeFilter,),
    ),
    Mistake(
        name="dead-job-keeps-permit",
        sentence="A job that failed for good never returns its permit.",
        source="dbos-transact-py PR#158",
        finds=("due_job_left", "job_never_run"),
        rules=(DeadJobKeepsPermit,),
    ),
    Mistake(
        name="serial-key-kept-at-max",
        sentence="A job that failed for good keeps its serial key.",
        source="graphile-worker#254",
        finds=("due_job_left", "job_never_run"),
        rules=(SerialKeyKeptAtMax,),
    ),
    Mistake(
        name="retry-counted-as-active",
        sentence="A job that waits for a retry counts as active, and so prevents its own claim.",
        source="pg-boss#610",
        finds=("due_job_left", "job_never_run"),
        rules=(RetryCountedAsActive,),
    ),
    Mistake(
        name="stale-blocked-by-own-slot",
        sentence="Taking back a job needs a free permit, but the stale job holds the last one.",
        source="pgqueuer#475",
        finds=("job_stuck",),
        rules=(StaleBlockedByOwnSlot,),
    ),
)
