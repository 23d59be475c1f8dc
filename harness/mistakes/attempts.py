"""Mistakes in counting attempts and in knowing when they are used up."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.mistakes.mistake import Edit, Mistake
from harness.model.job import JobView
from harness.model.lifecycle import QueueState, Status


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


MISTAKES: Final = (
    Mistake(
        name="attempts-not-counted",
        sentence="Attempts count where a failure is reported, so that a crash counts for nothing and loops.",
        source="dramatiq#213, oban#137",
        finds=("attempt_overrun", "attempts_changed"),
        queue=CrashNotCounted,
    ),
    Mistake(
        name="reclaim-not-counted",
        sentence="The claim of a job that was tried before does not raise its attempts.",
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
    ),
    Mistake(
        name="expire-ignores-max-attempts",
        sentence="Taking a claim back always gives the job another attempt.",
        source="oban#137",
        finds=("attempt_overrun",),
        queue=ExpireIgnoresMaxAttempts,
        statements={"expire": with_left("true"), "rescue_stuck": with_left("true")},
    ),
    Mistake(
        name="crash-counts-twice",
        sentence="Taking a claim back counts the attempt that its claim has counted.",
        source="oban#245",
        finds=("attempts_changed",),
        queue=CrashCountsTwice,
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
