"""Mistakes in what a cancel stops."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import DONE, Outcome
from harness.mistakes.fencing import Lenient
from harness.mistakes.mistake import Edit, Mistake
from harness.model.job import JobId
from harness.model.lifecycle import Status


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


_OF_CANCELLED: Final = (
    Edit("""q."state" = 'active' AND""", """q."state" IN ('active', 'cancelled') AND"""),
    Edit("""t."status" = 'PROCESSING'""", """t."status" IN ('PROCESSING', 'CANCELLED')"""),
)

MISTAKES: Final = (
    Mistake(
        name="cancel-overwritten",
        sentence="A result that comes after the cancel is written over it.",
        source="procrastinate#511",
        finds=("cancel_undone", "stale_complete"),
        queue=CancelOverwritten,
        statements={"complete": _OF_CANCELLED},
    ),
    Mistake(
        name="cancel-then-retry",
        sentence="A failure that comes after the cancel makes the job wait for a retry.",
        source="procrastinate#1131",
        finds=("cancel_undone", "stale_fail"),
        queue=CancelThenRetry,
        statements={"fail": _OF_CANCELLED},
    ),
    Mistake(
        name="cancel-ignored-while-running",
        sentence="Cancelling a running job is confirmed and does nothing.",
        source="procrastinate#1131",
        finds=("cancel_ignored",),
        queue=CancelIgnoredWhileRunning,
    ),
)
