"""Mistakes in when a claim is taken back."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import DONE, Outcome, done
from harness.mistakes.mistake import Edit, Mistake
from harness.model.duration import Instant
from harness.model.job import JobView
from harness.port import Claim


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

MISTAKES: Final = (
    Mistake(
        name="expire-never",
        sentence="Nothing takes back the job of a worker that died.",
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
        sentence="A claim is taken back by a threshold of the queue's own, at half its lease.",
        source="river#1287, pgqueuer#430",
        finds=("taken_back_early", "concurrent_execution"),
        queue=ExpireTooEarly,
        statements={
            "expire": (Edit(f"""q."lease_until" <= {NOW}""", f"""q."lease_until" - q."expire_in" / 2 <= {NOW}"""),)
        },
    ),
    Mistake(
        name="rescue-too-early",
        sentence="Maintenance takes a claim back long before the processor's timeout.",
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
        sentence="Expiry counts the lease from the claim and does not look at heartbeats.",
        source="kombu#337, river PR#1288",
        finds=("taken_back_early",),
        queue=ExpireIgnoresHeartbeat,
        statements={"expire": (Edit(f"""q."lease_until" <= {NOW}""", f"""q."started_on" + q."expire_in" <= {NOW}"""),)},
    ),
    Mistake(
        name="heartbeat-ignored",
        sentence="A heartbeat is answered with done and extends nothing.",
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
