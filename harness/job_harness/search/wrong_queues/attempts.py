"""Wrong queues in how often a job is tried and when it is taken back: attempts miscounted, leases too short or too
long.
"""

from __future__ import annotations

from typing import Final

from job_harness.core.history import DONE, Outcome, done
from job_harness.core.model import Instant, JobView, QueueState, Status
from job_harness.core.port import Claim
from job_harness.core.run.insisting import Steps
from job_harness.core.run.worker import Worker
from job_harness.core.scenario.job_plan import Ending
from job_harness.core.sim import Sleep, VerbCall
from job_harness.engines.memory import ClaimRules, EndRules, MemoryQueue, UpkeepRules
from job_harness.search.wrong_queues.wrong_queue import BlindSpot, Edit, Mistake, Theme

# attempts -------------------------------------------------------------------------------------------------------------


class CrashNotCounted(UpkeepRules):
    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        return self.queue.endings.waiting(row._replace(attempts=row.attempts - 1), why, nth)


class ReclaimNotCounted(ClaimRules):
    def counted(self, row: JobView) -> int:
        return 0 if row.queue_state is QueueState.RETRY else 1


class ExpireIgnoresMaxAttempts(UpkeepRules):
    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        return self.queue.endings.waiting(row, why, nth)


class CrashCountsTwice(UpkeepRules):
    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        return super().taken_back(row._replace(attempts=row.attempts + 1), why, nth)


class OneAttemptTooMany(EndRules):
    def exhausted(self, row: JobView) -> bool:
        return row.attempts > row.max_attempts


class OneAttemptTooFew(EndRules):
    def exhausted(self, row: JobView) -> bool:
        return row.attempts + 1 >= row.max_attempts


class ExpireFailsForGood(UpkeepRules):
    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        return self.queue.endings.end_row(row, Status.FAILED, error=why)


class FinalErrorRetried(EndRules):
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
        rules=(CrashNotCounted,),
        stands_for=BlindSpot.DELIVERIES,
    ),
    Mistake(
        name="reclaim-not-counted",
        sentence="Only the first claim of a job counts as an attempt.",
        source="absurd#16",
        finds=("attempt_not_counted",),
        rules=(ReclaimNotCounted,),
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
        rules=(ExpireIgnoresMaxAttempts,),
        statements={"expire": with_left("true"), "rescue_stuck": with_left("true")},
    ),
    Mistake(
        name="crash-counts-twice",
        sentence="Taking a job back counts an attempt, although its claim has counted it already.",
        source="oban#245",
        finds=("attempts_changed",),
        rules=(CrashCountsTwice,),
        stands_for=BlindSpot.DELIVERIES,
    ),
    Mistake(
        name="one-attempt-too-many",
        sentence="maxAttempts is read as the number of retries after the first attempt.",
        source="dramatiq#213",
        finds=("attempt_overrun",),
        rules=(OneAttemptTooMany,),
        statements={"fail": with_left("""q."retry_count" <= q."retry_limit\"""")},
    ),
    Mistake(
        name="one-attempt-too-few",
        sentence="The last attempt is never made.",
        source="oban#245, river PR#730",
        finds=("failed_early",),
        rules=(OneAttemptTooFew,),
        statements={"fail": with_left("""q."retry_count" + 1 < q."retry_limit\"""")},
    ),
    Mistake(
        name="expire-fails-for-good",
        sentence="A job whose worker died is failed for good, with attempts left.",
        source="river#1287",
        finds=("failed_early",),
        rules=(ExpireFailsForGood,),
    ),
    Mistake(
        name="final-error-retried",
        sentence="An error that was declared final is retried like any other.",
        source="procrastinate#1462",
        finds=("final_error_retried",),
        rules=(FinalErrorRetried,),
    ),
)


# leases ---------------------------------------------------------------------------------------------------------------


class ExpireNever(UpkeepRules):
    def take_back(self, rows: list[JobView], why: str) -> Outcome:
        return done([])


class ExpireTooEarly(UpkeepRules):
    def is_overdue(self, row: JobView, now: Instant) -> bool:
        return super().is_overdue(row, now + self.settings.lease // 2)


class RescueTooEarly(UpkeepRules):
    """Finds work early only where a stuck job brings the cron: the cron looks when something is due."""

    def is_stuck(self, row: JobView, now: Instant) -> bool:
        return super().is_stuck(row, now + self.settings.stuck_timeout - self.settings.job_timeout // 4)


class ExpireIgnoresHeartbeat(UpkeepRules):
    def is_overdue(self, row: JobView, now: Instant) -> bool:
        started = row.started_at
        return super().is_overdue(row, now) or (
            row.lease_until is not None and started is not None and started + self.settings.lease <= now
        )


class HeartbeatIgnored(MemoryQueue):
    def heartbeat(self, claim: Claim) -> Outcome:
        return DONE


class BeatsForEver(Worker):
    """What the job waits for never comes, and the timer that extends its lease runs on."""

    def report_ending(self, claim: Claim, ending: Ending | None) -> Steps:
        while ending is Ending.FAIL:
            yield Sleep(self.world.settings.lease // 2, f"waiting for {claim.job}")
            yield VerbCall("heartbeat", (claim,), claim.job, claim.token)
        yield from super().report_ending(claim, ending)


class LeasesAlone(UpkeepRules):
    """Takes back what is past its lease alone, however long a job has run."""

    def is_stuck(self, row: JobView, now: Instant) -> bool:
        return False


NOW: Final = """coalesce(:now::timestamptz, now())"""
NEVER: Final = "false AND"

LEASES: Final = Theme.of(
    "leases that are kept, extended and taken back in time",
    Mistake(
        name="expire-never",
        sentence="The job of a dead worker is never taken back.",
        source="procrastinate#307, pgqueuer#475",
        finds=("job_stuck",),
        rules=(ExpireNever,),
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
        rules=(ExpireTooEarly,),
        statements={
            "expire": (Edit(f"""q."lease_until" <= {NOW}""", f"""q."lease_until" - q."expire_in" / 2 <= {NOW}"""),)
        },
    ),
    Mistake(
        name="rescue-too-early",
        sentence="Maintenance takes a job back long before the processor's timeout.",
        source="river#1287, celery#4400",
        finds=("concurrent_execution", "taken_back_early"),
        rules=(RescueTooEarly,),
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
        rules=(ExpireIgnoresHeartbeat,),
        statements={"expire": (Edit(f"""q."lease_until" <= {NOW}""", f"""q."started_on" + q."expire_in" <= {NOW}"""),)},
    ),
    Mistake(
        name="worker-beats-for-ever",
        sentence="A worker waits for ever for what its job has called, and extends the lease all the while; no limit "
        "ends that.",
        source="a call without a timeout, and workers that renew their locks by a timer",
        finds=("job_hangs",),
        rules=(LeasesAlone,),
        worker=BeatsForEver,
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
