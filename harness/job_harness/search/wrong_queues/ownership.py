"""Wrong queues in who owns a job: stale tokens, careless claims, cancels that are undone, rows read and written
blindly.

Each overrides one method of the model queue; where SQL can make the mistake too, the reference
queue's statement is edited in one place. `Lenient` is the model of a queue that does not ask
whether a claim still stands.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, ClassVar, Final

from job_harness.core.history import DONE, Outcome, done
from job_harness.core.model import Instant, JobId, JobView, QueueState, Status
from job_harness.core.port import Claim, JobRequest
from job_harness.core.sim import Point
from job_harness.engines.memory import ClaimRules, EndRules, MemoryQueue, RequestRules
from job_harness.engines.memory.queue import OVERDUE
from job_harness.search.wrong_queues.wrong_queue import BlindSpot, Edit, Mistake, Theme

# fencing --------------------------------------------------------------------------------------------------------------


class Lenient(EndRules):
    """Lets one verb pass in statuses that it must not touch, whatever the token."""

    verb: ClassVar[str]
    statuses: ClassVar[frozenset[Status]] = frozenset({Status.PROCESSING})

    def held(self, claim: Claim, verb: str) -> JobView | None:
        row = self.queue.rows.get(claim.job)
        if verb == self.verb and row is not None and row.status in self.statuses:
            return row
        return super().held(claim, verb)


class StaleComplete(Lenient):
    verb = "complete"


class StaleFail(Lenient):
    verb = "fail"


class StaleRelease(Lenient):
    verb = "release"


class StaleHeartbeat(Lenient):
    verb = "heartbeat"


class ResultOverwritten(Lenient):
    verb = "complete"
    statuses = frozenset({Status.COMPLETED})


class LateFailureRevives(Lenient):
    verb = "fail"
    statuses = frozenset({Status.COMPLETED, Status.FAILED})


class TokenNotRaised(ClaimRules):
    def raised(self, row: JobView) -> int:
        return max(row.token, 1)


class TokenStartsOver(RequestRules):
    def created(self, request: JobRequest, now: Instant) -> JobView:
        return super().created(request, now).changed(token=0)


NO_TOKEN: Final = Edit(""" AND q."token" = :token::bigint""", "")

FENCING: Final = Theme.of(
    "fencing: the token compared in every settlement",
    Mistake(
        name="stale-complete",
        sentence="Complete checks the job and its status, but not the token of the claim.",
        source="pg-boss#555",
        finds=("stale_complete",),
        rules=(StaleComplete,),
        statements={"complete": (NO_TOKEN,)},
        stands_for=BlindSpot.RARE_WINDOWS,
    ),
    Mistake(
        name="stale-fail",
        sentence="Fail checks the job and its status, but not the token of the claim.",
        source="delayed_job#554",
        finds=("stale_fail",),
        rules=(StaleFail,),
        statements={"fail": (NO_TOKEN,)},
    ),
    Mistake(
        name="stale-release",
        sentence="Release ends any claim on the job: a worker that stops releases the claim of another.",
        source="delayed_job#554, delayed_job_active_record#193",
        finds=("stale_release",),
        rules=(StaleRelease,),
        statements={"release": (NO_TOKEN,)},
        stands_for=BlindSpot.RARE_WINDOWS,
    ),
    Mistake(
        name="stale-heartbeat",
        sentence="A heartbeat extends any lease on the job, so a worker never learns that it has lost its own.",
        source="good_job#989",
        finds=("stale_heartbeat",),
        rules=(StaleHeartbeat,),
        statements={"heartbeat": (NO_TOKEN,)},
        stands_for=BlindSpot.RARE_WINDOWS,
    ),
    Mistake(
        name="result-overwritten",
        sentence="Complete is accepted on a COMPLETED job as if it were a repetition: the last writer wins.",
        source="pg-boss#555",
        finds=("terminal_job_rewritten", "stale_complete"),
        rules=(ResultOverwritten,),
        statements={
            "complete": (
                Edit(
                    """q."state" = 'active' AND q."token" = :token::bigint""",
                    """q."state" IN ('active', 'completed')""",
                ),
                Edit("""t."status" = 'PROCESSING'""", """t."status" IN ('PROCESSING', 'COMPLETED')"""),
            )
        },
    ),
    Mistake(
        name="late-failure-revives",
        sentence="Fail also changes a finished job: a late worker brings it back to life.",
        source="bullmq#4311, procrastinate#1131",
        finds=("terminal_job_revived", "stale_fail"),
        rules=(LateFailureRevives,),
        statements={
            "fail": (
                Edit(
                    """q."state" = 'active' AND q."token" = :token::bigint""",
                    """q."state" IN ('active', 'completed', 'failed')""",
                ),
                Edit("""t."status" = 'PROCESSING'""", """t."status" IN ('PROCESSING', 'COMPLETED', 'FAILED')"""),
            )
        },
        stands_for=BlindSpot.RARE_WINDOWS,
    ),
    Mistake(
        name="token-not-raised",
        sentence="A job keeps its first token in all later claims.",
        source="no fencing token at all: pg-boss#555, good_job#989",
        finds=("token_reused",),
        rules=(TokenNotRaised,),
        statements={"claim": (Edit(""""token" = q."token" + 1""", """"token" = greatest(q."token", 1)"""),)},
    ),
    Mistake(
        name="token-starts-over",
        sentence="The tokens of a job that is sent again after it was deleted begin where those of the first began.",
        source="a column with DEFAULT 0, raised by each claim",
        finds=("success_without_run",),
        rules=(TokenStartsOver,),
        stands_for=BlindSpot.RARE_WINDOWS,
    ),
)


# claims ---------------------------------------------------------------------------------------------------------------


class ClaimsRunningJob(ClaimRules):
    def is_due(self, row: JobView, now: Instant) -> bool:
        return row.start_after <= now


class RetriesNeverDue(ClaimRules):
    def is_due(self, row: JobView, now: Instant) -> bool:
        return super().is_due(row, now) and row.queue_state is not QueueState.RETRY


class RetryPutOff(MemoryQueue):
    def claim(self, worker: str, limit: int, tools: Sequence[str] | None = None) -> Outcome:
        now = self.now(worker)
        for row in self.claims.due(now):
            if row.queue_state is QueueState.RETRY:
                self.put(row._replace(start_after=now + self.endings.delay(row, 0)))
        return super().claim(worker, limit, tools)


class FailedJobBlocksQueue(MemoryQueue):
    def claim(self, worker: str, limit: int, tools: Sequence[str] | None = None) -> Outcome:
        if any(row.status is Status.FAILED for row in self.rows.values()):
            return done([])
        return super().claim(worker, limit, tools)


class ClaimUnchecked(MemoryQueue):
    """Counts what it wanted to take, not what the UPDATE took."""

    def claim(self, worker: str, limit: int, tools: Sequence[str] | None = None) -> Outcome:
        outcome = super().claim(worker, limit, tools)
        lease_until = self.now(worker) + self.settings.lease
        phantoms = [
            Claim(row.id, row.attempts + 1, row.token + 1, worker, row.tool, lease_until)
            for row in self.rows.values()
            if row.status is Status.CANCELLED and row.started_at is None
        ]
        return done([*outcome.value, *phantoms][:limit])


CLAIMS: Final = Theme.of(
    "a claim that locks what it takes",
    Mistake(
        name="claims-running-job",
        sentence="A claim also takes PROCESSING jobs whose leases have not ended.",
        source="good_job#989",
        finds=("double_claim", "concurrent_execution"),
        rules=(ClaimsRunningJob,),
        statements={
            "claim": (
                Edit("""t."status" = 'PENDING'""", """t."status" IN ('PENDING', 'PROCESSING')"""),
                Edit("""q."state" IN ('created', 'retry')""", """q."state" IN ('created', 'retry', 'active')"""),
            )
        },
    ),
    Mistake(
        name="retries-never-due",
        sentence="A claim skips jobs that wait for a retry, as if they were running.",
        source="pg-boss#610",
        finds=("job_never_run",),
        rules=(RetriesNeverDue,),
        statements={"claim": (Edit("""q."state" IN ('created', 'retry')""", """q."state" = 'created'"""),)},
    ),
    Mistake(
        name="retry-put-off",
        sentence="The wait for a retry is counted from the poll that finds it due, so it starts again each time.",
        source="a delay added to now() where the claim reads it",
        finds=("livelock",),
        queue=RetryPutOff,
    ),
    Mistake(
        name="failed-job-blocks-queue",
        sentence="A job that failed for good keeps its place in the queue's concurrency, so nothing else is claimed.",
        source="dbos-transact-py PR#158, pgqueuer#475",
        finds=("bystander_harmed", "job_never_run"),
        queue=FailedJobBlocksQueue,
        statements={
            "claim": (
                Edit(
                    """AND q."state" IN ('created', 'retry')""",
                    """AND q."state" IN ('created', 'retry')
    AND NOT EXISTS (SELECT FROM "public"."tool_job" dead WHERE dead."status" = 'FAILED')""",
                ),
            )
        },
    ),
    Mistake(
        name="claim-unchecked",
        sentence="A claim returns the job that it selected, although the UPDATE found it cancelled.",
        source="pg-boss#463, procrastinate#511",
        finds=("cancelled_job_started",),
        queue=ClaimUnchecked,
    ),
)


# cancels --------------------------------------------------------------------------------------------------------------


class CancelOverwritten(Lenient):
    verb = "complete"
    statuses = frozenset({Status.CANCELLED})


class CancelThenRetry(Lenient):
    verb = "fail"
    statuses = frozenset({Status.CANCELLED})


class CancelIgnoredWhileRunning(MemoryQueue):
    def cancel(self, job: JobId) -> Outcome:
        row = self.rows.get(job)
        return DONE if row is not None and row.status is Status.PROCESSING else super().cancel(job)


class RetryConfirmedOnly(MemoryQueue):
    def retry(self, job: JobId) -> Outcome:
        row = self.rows.get(job)
        return DONE if row is not None and row.status is Status.FAILED else super().retry(job)


_OF_CANCELLED: Final = (
    Edit("""q."state" = 'active' AND""", """q."state" IN ('active', 'cancelled') AND"""),
    Edit("""t."status" = 'PROCESSING'""", """t."status" IN ('PROCESSING', 'CANCELLED')"""),
)

CANCEL: Final = Theme.of(
    "a cancel that nothing undoes",
    Mistake(
        name="cancel-overwritten",
        sentence="A result that arrives after the cancel overwrites it.",
        source="procrastinate#511",
        finds=("cancel_undone", "stale_complete"),
        rules=(CancelOverwritten,),
        statements={"complete": _OF_CANCELLED},
    ),
    Mistake(
        name="cancel-then-retry",
        sentence="A failure that arrives after the cancel makes the job wait for a retry.",
        source="procrastinate#1131",
        finds=("cancel_undone", "stale_fail"),
        rules=(CancelThenRetry,),
        statements={"fail": _OF_CANCELLED},
    ),
    Mistake(
        name="cancel-ignored-while-running",
        sentence="Cancelling a running job is confirmed, but does nothing.",
        source="procrastinate#1131",
        finds=("cancel_ignored",),
        queue=CancelIgnoredWhileRunning,
    ),
    Mistake(
        name="retry-confirmed-only",
        sentence="Retrying a job that failed for good is confirmed, but does nothing.",
        source="a button whose UPDATE has another status in its WHERE",
        finds=("retry_ignored",),
        queue=RetryConfirmedOnly,
    ),
)


# read, check, write ---------------------------------------------------------------------------------------------------


class ExpireReadsFirst(MemoryQueue):
    """Others may act between its read and its writes, which do not ask again."""

    def expire(self) -> Generator[Any, Any, Outcome]:  # type: ignore[override]
        now = self.now("queue")
        overdue = [row for row in self.unfinished() if self.upkeep.is_overdue(row, now)]
        if overdue:
            yield Point("update tool_job")
        return self.upkeep.take_back(overdue, OVERDUE)


READ_CHECK_WRITE: Final = Theme.of(
    "check and write in one statement",
    Mistake(
        name="expire-reads-first",
        sentence="Overdue jobs are read, then written by id alone, which overwrites what a worker wrote in between.",
        source="any read-check-write without a condition on the write",
        finds=("lost_update", "terminal_job_revived", "terminal_job_rewritten", "taken_back_early"),
        queue=ExpireReadsFirst,
        settlement={"compares": False},
    ),
    Mistake(
        name="locks-in-opposite-order",
        sentence="A worker that completes locks tool_job and then the queue's row; the upkeep locks them in "
        "reverse order.",
        source="any two transactions over two tables, each written without the other in view",
        finds=("deadlock",),
        queue=None,
        settlement={"locks": True, "same_order": False},
    ),
)
