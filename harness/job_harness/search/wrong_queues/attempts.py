"""Wrong queues in how often a job is tried and when it is taken back: attempts miscounted, leases too short or too
long.
"""

from __future__ import annotations

from typing import Final

from job_harness.core.history.outcome import DONE, Outcome, done
from job_harness.core.model.duration import Instant
from job_harness.core.model.job import JobView
from job_harness.core.model.lifecycle import QueueState, Status
from job_harness.core.port import Claim
from job_harness.engines.memory import MemoryQueue
from job_harness.search.wrong_queues.wrong_queue import BlindSpot, Edit, Mistake, Theme

# attempts -------------------------------------------------------------------------------------------------------------


class CrashNotCounted(MemoryQueue):
    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        return self.waiting(row._replace(attempts=row.attempts - 1), why, nth)


class ReclaimNotCounted(MemoryQueue):
    def counted(self, row: JobView) -> int:
        return 0 if row.queue_state is QueueState.RETRY else 1


class ExpireIgnoresMaxAttempts(MemoryQueue):
    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        return self.waiting(row, why, nth)


class CrashCountsTwice(MemoryQueue):
    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        return super().taken_back(row._replace(attempts=row.attempts + 1), why, nth)


class OneAttemptTooMany(MemoryQueue):
    def exhausted(self, row: JobView) -> bool:
        return row.attempts > row.max_attempts


class OneAttemptTooFew(MemoryQueue):
    def exhausted(self, row: JobView) -> bool:
        return row.attempts + 1 >= row.max_attempts


class ExpireFailsForGood(MemoryQueue):
    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        return self.settled(row, Status.FAILED, error=why)


class FinalErrorRetried(MemoryQueue):
    def failed(self, row: JobView, error: str, *, final: bool = False, nth: int = 0) -> JobView:
        return super().failed(row, error, final=False, nth=nth)


BRANCHES: Final = (""""state" = (""", """"start_after" = """, """"completed_on" = """)
LEFT: Final = """q."retry_count" < q."retry_limit\""""


def with_left(condition: str) -> tuple[Edit, ...]:
    """Decide by another condition whether attempts are left, in all branches of a statement that fails attempts."""
    return tuple(Edit(f"{branch}CASE WHEN {LEFT}", f"{branch}CASE WHEN {condition}") for branch in BRANCHES)


ATTEMPTS: Final = Theme.of(
    "attempts counted at the claim, up to maxAttempts",
    Mistake(
        name="attempts-not-counted",
        sentence="Attempts are counted only when a failure is reported, so a job that crashes its worker loops "
        "forever.",
        source="dramatiq#213, oban#137",
        finds=("attempt_overrun", "attempts_changed"),
        queue=CrashNotCounted,
        stands_for=BlindSpot.DELIVERIES,
    ),
    Mistake(
        name="reclaim-not-counted",
        sentence="Only the first claim of a job counts as an attempt.",
        source="absurd#16",
        finds=("attempt_not_counted",),
        queue=ReclaimNotCounted,
        statements={
            "claim": (
                Edit(
                    """WHEN q."state" = 'retry' THEN q."retry_count" + 1""",
                    """WHEN q."state" = 'retry' THEN q."retry_count\"""",
                ),
            )
        },
        stands_for=BlindSpot.DELIVERIES,
    ),
    Mistake(
        name="expire-ignores-max-attempts",
        sentence="A job that is taken back always gets another attempt.",
        source="oban#137",
        finds=("attempt_overrun",),
        queue=ExpireIgnoresMaxAttempts,
        statements={"expire": with_left("true"), "rescue_stuck": with_left("true")},
    ),
    Mistake(
        name="crash-counts-twice",
        sentence="Taking a job back counts an attempt, although its claim has counted it already.",
        source="oban#245",
        finds=("attempts_changed",),
        queue=CrashCountsTwice,
        stands_for=BlindSpot.DELIVERIES,
    ),
    Mistake(
        name="one-attempt-too-many",
        sentence="maxAttempts is read as the number of retries after the first attempt.",
        source="dramatiq#213",
        finds=("attempt_overrun",),
        queue=OneAttemptTooMany,
        statements={"fail": with_left("""q."retry_count" <= q."retry_limit\"""")},
    ),
    Mistake(
        name="one-attempt-too-few",
        sentence="The last attempt is never made.",
        source="oban#245, river PR#730",
        finds=("failed_early",),
        queue=OneAttemptTooFew,
        statements={"fail": with_left("""q."retry_count" + 1 < q."retry_limit\"""")},
    ),
    Mistake(
        name="expire-fails-for-good",
        sentence="A job whose worker died is failed for good, with attempts left.",
        source="river#1287",
        finds=("failed_early",),
        queue=ExpireFailsForGood,
    ),
    Mistake(
        name="final-error-retried",
        sentence="An error that was declared final is retried like any other.",
        source="procrastinate#1462",
        finds=("final_error_retried",),
        queue=FinalErrorRetried,
    ),
)


# leases ---------------------------------------------------------------------------------------------------------------


class ExpireNever(MemoryQueue):
    def take_back(self, rows: list[JobView], why: str) -> Outcome:
        return done([])


class ExpireTooEarly(MemoryQueue):
    def is_overdue(self, row: JobView, now: Instant) -> bool:
        return super().is_overdue(row, now + self.settings.lease // 2)


class RescueTooEarly(MemoryQueue):
    """Finds work early only where a stuck job brings the cron: the cron looks when something is due."""

    def is_stuck(self, row: JobView, now: Instant) -> bool:
        return super().is_stuck(row, now + self.settings.stuck_timeout - self.settings.job_timeout // 4)


class ExpireIgnoresHeartbeat(MemoryQueue):
    def is_overdue(self, row: JobView, now: Instant) -> bool:
        started = row.started_at
        return super().is_overdue(row, now) or (
            row.lease_until is not None and started is not None and started + self.settings.lease <= now
        )


class HeartbeatIgnored(MemoryQueue):
    def heartbeat(self, claim: Claim) -> Outcome:
        return DONE


NOW: Final = """coalesce(:now::timestamptz, now())"""
NEVER: Final = "false AND"

LEASES: Final = Theme.of(
    "leases that are kept, extended and taken back in time",
    Mistake(
        name="expire-never",
        sentence="The job of a dead worker is never taken back.",
        source="procrastinate#307, pgqueuer#475",
        finds=("job_stuck",),
        queue=ExpireNever,
        statements={
            "expire": (Edit("""WHERE q."state" = 'active' AND""", f"""WHERE {NEVER} q."state" = 'active' AND"""),),
            "rescue_stuck": (
                Edit("""WHERE q."state" = 'active' AND""", f"""WHERE {NEVER} q."state" = 'active' AND"""),
            ),
        },
    ),
    Mistake(
        name="expire-too-early",
        sentence="The queue has its own threshold, and takes a job back at half of its lease.",
        source="river#1287, pgqueuer#430",
        finds=("taken_back_early", "concurrent_execution"),
        queue=ExpireTooEarly,
        statements={
            "expire": (Edit(f"""q."lease_until" <= {NOW}""", f"""q."lease_until" - q."expire_in" / 2 <= {NOW}"""),)
        },
    ),
    Mistake(
        name="rescue-too-early",
        sentence="Maintenance takes a job back long before the processor's timeout.",
        source="river#1287, celery#4400",
        finds=("concurrent_execution", "taken_back_early"),
        queue=RescueTooEarly,
        statements={
            "rescue_stuck": (
                Edit(
                    """:stuck_after::bigint * INTERVAL '1 microsecond'""",
                    """:stuck_after::bigint * INTERVAL '0.1 microsecond'""",
                ),
            )
        },
    ),
    Mistake(
        name="expire-ignores-heartbeat",
        sentence="Expiry counts the lease from the claim, and ignores heartbeats.",
        source="kombu#337, river PR#1288",
        finds=("taken_back_early",),
        queue=ExpireIgnoresHeartbeat,
        statements={"expire": (Edit(f"""q."lease_until" <= {NOW}""", f"""q."started_on" + q."expire_in" <= {NOW}"""),)},
    ),
    Mistake(
        name="heartbeat-ignored",
        sentence="A heartbeat is confirmed, but extends nothing.",
        source="solid_queue#568",
        finds=("healthy_claim_taken_back",),
        queue=HeartbeatIgnored,
        statements={
            "heartbeat": (
                Edit(f"""SET "lease_until" = {NOW} + q."expire_in\"""", """SET "lease_until" = q."lease_until\""""),
            )
        },
    ),
)
