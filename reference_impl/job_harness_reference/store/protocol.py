"""What every store can do. The store owns the clock: no verb takes a time from its caller, whose clock may be off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from job_harness_reference.models import Claim, Enqueued, JobRow, JsonValue, NewJob, ToolJob, ToolJobStatus


class Store(Protocol):
    """The verbs of the queue. Each is one statement, atomic over both tables."""

    async def register_tool(self, slug: str) -> None:
        """Make the tool's partition; does nothing where it exists."""

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Write both rows, or find the unfinished job that holds the same unique key.

        Raises `UnknownToolError` where the tool has no partition, `InvalidJsonError` where JSONB
        cannot hold the input.
        """

    async def claim(self, *, worker: str, tools: Sequence[str], limit: int = 1) -> list[Claim]:
        """Take up to `limit` due jobs, the highest priority first, then the oldest.

        Counts the attempt and opens a lease: a worker that dies has used its attempt.
        """

    async def heartbeat(self, claim: Claim) -> bool:
        """Extend the lease by its full length from now. False: the claim was taken back."""

    async def complete(self, claim: Claim, output: JsonValue) -> bool:
        """Settle the job as COMPLETED. False: the claim was taken back, nothing changed.

        Raises `InvalidJsonError` where JSONB cannot hold the output; the claim then still stands.
        """

    async def fail(self, claim: Claim, error: str, *, final: bool = False) -> ToolJobStatus | None:
        """Settle the attempt as failed: PENDING with a delay while attempts are left, FAILED otherwise or if final.

        Text that PostgreSQL refuses is escaped, never raised. None: the claim was taken back,
        nothing changed.
        """

    async def release(self, claim: Claim) -> bool:
        """Give the job back unrun: PENDING at once, the attempt uncounted. False: the claim was taken back."""

    async def cancel(self, job_id: str) -> bool:
        """Move a PENDING or PROCESSING job to CANCELLED. False: it is terminal or unknown."""

    async def retry(self, job_id: str) -> bool:
        """Open a new attempt budget for a FAILED or CANCELLED job: PENDING at once, attempts 0. False otherwise."""

    async def expire(self, *, limit: int = 1000) -> list[str]:
        """Take back up to `limit` claims whose lease has run out: the arrows of `fail`. Returns the job ids."""

    async def reconcile(self) -> list[str]:
        """Make both rows of every job agree again; the terminal half wins, then the queue's. Returns the job ids."""

    async def rescue_stuck(self, *, stuck_after: timedelta) -> list[str]:
        """Take back jobs PROCESSING for at least `stuck_after`: the arrows of `fail`. Returns the job ids."""

    async def delete_expired(self, *, limit: int = 1000) -> list[str]:
        """Delete up to `limit` terminal jobs past `expiresAt`, the earliest first, both rows. Returns their ids."""

    async def get(self, job_id: str) -> ToolJob | None:
        """Read one job."""

    async def list_owned(
        self, *, user_id: str | None = None, session_id: str | None = None, limit: int = 100
    ) -> list[ToolJob]:
        """Read the jobs of one owner, newest first: a user's (of one session), or a session's that have no user."""

    async def next_due(self, *, tools: Sequence[str]) -> datetime | None:
        """Tell when the next job can be claimed; in the past where one is due, `None` where none waits."""

    async def rows(self) -> list[JobRow]:
        """Read both rows of every job, in the order of creation."""
