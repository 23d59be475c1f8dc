"""What a claim of the model queue takes: what is due, in its order, as far as limits and serial keys allow."""

from __future__ import annotations

from harness.adapters.memory.rows import Rows
from harness.history.outcome import Outcome, done
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import QueueState, Status
from harness.port import Claim


class Claiming(Rows):
    """Chooses and takes."""

    def claim(self, worker: str, limit: int) -> Outcome:
        """Take the first due jobs; the attempt counts from here."""
        now = self.now(worker)
        return done([self.take(row, worker, now) for row in self.allowed(self.due(now), limit)])

    def due(self, now: Instant) -> list[JobView]:
        """Answer what may be claimed, the first to be taken first."""
        due = [row for job in self.live if self.is_due(row := self.rows[job], now)]
        if len(due) > 1:
            due.sort(key=self.claim_order)
        return due

    def is_due(self, row: JobView, now: Instant) -> bool:
        """Say whether a job may be claimed."""
        return row.status is Status.PENDING and row.start_after <= now

    def claim_order(self, row: JobView) -> tuple[int, Instant, JobId]:
        """The highest priority first, then the oldest."""
        return (-row.priority, row.created_at, row.id)

    def allowed(self, due: list[JobView], limit: int) -> list[JobView]:
        """Answer the first jobs that limits and serial keys let through, each counted before the next is looked at."""
        settings = self.settings
        if not (settings.concurrency or settings.tool_concurrency or any(row.serial_key is not None for row in due)):
            return due[:limit]
        active = self.active()
        chosen: list[JobView] = []
        for row in due:
            if len(chosen) < limit and self.has_permit(row, active) and self.key_is_free(row, active):
                chosen.append(row)
                active.append(row)
        return chosen

    def active(self) -> list[JobView]:
        """Answer the jobs that count towards limits and hold serial keys."""
        return [row for job in self.live if self.is_active(row := self.rows[job])]

    def is_active(self, row: JobView) -> bool:
        """Say whether a job counts towards limits and holds its serial key."""
        return row.status is Status.PROCESSING

    def has_permit(self, row: JobView, active: list[JobView]) -> bool:
        """Say whether the limits, of all and of its tool, let a job through beside the active ones."""
        limit, tool_limit = self.settings.concurrency, self.settings.tool_concurrency
        if limit and len(active) >= limit:
            return False
        return not tool_limit or sum(other.tool == row.tool for other in active) < tool_limit

    def key_is_free(self, row: JobView, active: list[JobView]) -> bool:
        """Say whether no active job has this job's serial key."""
        return row.serial_key is None or all(other.serial_key != row.serial_key for other in active)

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
