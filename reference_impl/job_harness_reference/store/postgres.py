"""The store on PostgreSQL: each verb is one named statement. What a verb does stands in SQL, not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg.errors

from job_harness_reference.clock import Jitter, Now, database_now, system_jitter
from job_harness_reference.errors import InvalidJsonError, QueueError, UnknownToolError
from job_harness_reference.json_values import encode, error_text, escape_text, is_storable
from job_harness_reference.models import Claim, Enqueued, JobRow, JsonValue, NewJob, ToolJob, ToolJobStatus
from job_harness_reference.store.batch import Settlement
from job_harness_reference.store.database import Database, Row
from job_harness_reference.store.new_job import AcceptedJob, accept, accept_slug
from job_harness_reference.store.row_values import claim_of, job_row_of, tool_job_of
from job_harness_reference.store.statements import Statements

_MICROSECOND: Final = timedelta(microseconds=1)
_ENQUEUE_TRIES: Final = 100
"""Asking again is for a holder committed in between; each time another one is a stream of them."""


class PostgresStore:
    """The queue's verbs over anything that can `fetch`."""

    def __init__(
        self,
        database: Database,
        *,
        now: Now = database_now,
        jitter: Jitter = system_jitter,
        statements: Mapping[str, str] | None = None,
    ) -> None:
        """Speak to `database`; `now` answering `None` leaves the time to it.

        `statements` replaces shipped statements by name, in their spelling (`:name`).
        """
        self._database = database
        self._now = now
        self._jitter = jitter
        self._statements = Statements(statements)

    async def _fetch(self, name: str, parameters: Mapping[str, object], *, limit: int | None = None) -> list[Row]:
        return await self._database.fetch(self._statements.get(name, limit=limit), parameters)

    def _timed(self, **parameters: object) -> dict[str, object]:
        return {"now": self._now(), **parameters}

    async def register_tool(self, slug: str) -> None:
        """Make the tool's partition; does nothing where it exists."""
        await self._fetch("register_tool", {"slug": accept_slug(slug)})

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Write both rows, or find the job of the same id, or the unfinished holder of the unique key."""
        accepted = accept(job)
        for _ in range(_ENQUEUE_TRIES):
            try:
                rows = await self._fetch("enqueue", self._timed(**_enqueue_parameters(accepted)))
            except psycopg.errors.CheckViolation as error:
                raise _unknown_tool(job.tool_slug) from error
            except psycopg.errors.UniqueViolation:
                continue
            if rows:
                return Enqueued(tool_job_of(rows[0]), created=rows[0]["created"])
        raise QueueError(
            f"job {job.id!r} could not be enqueued: its queue id or unique key {job.unique_key!r} "
            "is held by a queue row that no tool_job belongs to; run maintenance"
        )

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Create many jobs in one statement; those whose id or key is taken are then asked for one by one."""
        accepted = [accept(job) for job in jobs]
        if not accepted:
            return []
        try:
            rows = await self._fetch("enqueue_many", self._timed(**_enqueue_many_parameters(accepted)))
        except psycopg.errors.CheckViolation as error:
            raise _unknown_tool(*{job.tool_slug for job in jobs}) from error
        except psycopg.errors.UniqueViolation:
            rows = []
        created = {row["id"]: row["created_at"].astimezone(UTC) for row in rows}
        answers = []
        for one in accepted:
            instant = created.pop(one.job.id, None)
            answers.append(
                await self.enqueue(one.job) if instant is None else Enqueued(_as_created(one, instant), created=True)
            )
        return answers

    async def claim(self, *, worker: str, tools: Sequence[str], limit: int = 1) -> list[Claim]:
        """Take up to `limit` due jobs; one whose JSON cannot be read is failed for good and left out."""
        if limit < 1 or not tools:
            return []
        known = [tool for tool in tools if is_storable(tool)]
        rows = await self._fetch("claim", self._timed(worker=escape_text(worker), tools=known), limit=limit)
        claims = []
        for row in rows:
            try:
                claims.append(claim_of(row, worker=worker))
            except InvalidJsonError as error:
                unread = claim_of({**row, "input": "null", "output": None}, worker=worker)
                with suppress(psycopg.Error, QueueError):  # Its lease ends it then; the others have to be handed out.
                    await self.fail(unread, f"input cannot be read: {error}", final=True)
        return claims

    async def heartbeat(self, claim: Claim) -> bool:
        """Extend the lease by its full length from now."""
        return bool(await self._fetch("heartbeat", self._timed(**_fence(claim))))

    async def complete(self, claim: Claim, output: JsonValue) -> bool:
        """Settle the job as COMPLETED."""
        text = encode(output)
        return bool(await self._fetch("complete", self._timed(output=text, **_fence(claim))))

    async def complete_many(self, settlements: Sequence[Settlement]) -> list[bool | InvalidJsonError]:
        """Complete many claims in one statement."""
        answers: list[bool | InvalidJsonError] = [False] * len(settlements)
        offered: dict[tuple[str, int], tuple[int, str]] = {}
        for index, settlement in enumerate(settlements):
            key = (_queue_id(settlement.claim), settlement.claim.token)
            try:
                offered.setdefault(key, (index, encode(settlement.output)))
            except InvalidJsonError as error:
                answers[index] = error
        if not offered:
            return answers
        rows = await self._fetch(
            "complete_many",
            self._timed(
                tools=[settlements[index].claim.job.tool_slug for index, _ in offered.values()],
                queue_ids=[queue_id for queue_id, _ in offered],
                tokens=[token for _, token in offered],
                outputs=[output for _, output in offered.values()],
            ),
        )
        settled = {row["queue_id"] for row in rows}
        for (queue_id, _), (index, _) in offered.items():
            if queue_id in settled:
                answers[index] = True
                settled.discard(queue_id)
        return answers

    async def fail(self, claim: Claim, error: str, *, final: bool = False) -> ToolJobStatus | None:
        """Settle the attempt as failed."""
        rows = await self._fetch(
            "fail",
            self._timed(
                error=error_text(error),
                final=final,
                jitter=self._jitter(),
                **_fence(claim),
            ),
        )
        return ToolJobStatus(rows[0]["status"]) if rows else None

    async def release(self, claim: Claim) -> bool:
        """Give the job back unrun, the attempt uncounted."""
        return bool(await self._fetch("release", self._timed(**_fence(claim))))

    async def cancel(self, job_id: str) -> bool:
        """Move a PENDING or PROCESSING job to CANCELLED."""
        return is_storable(job_id) and bool(await self._fetch("cancel", self._timed(job_id=job_id)))

    async def retry(self, job_id: str) -> bool:
        """Open a new attempt budget; refused while another unfinished job holds the unique key."""
        try:
            return is_storable(job_id) and bool(await self._fetch("retry", self._timed(job_id=job_id)))
        except psycopg.errors.UniqueViolation:
            return False

    async def expire(self, *, limit: int = 1000) -> list[str]:
        """Take back every claim whose lease has run out."""
        rows = await self._fetch("expire", self._timed(jitter=self._jitter()), limit=max(limit, 0))
        return [row["job_id"] for row in rows]

    async def reconcile(self) -> list[str]:
        """Make both rows of every job agree again; the statement lists the cases."""
        rows = await self._fetch("reconcile", self._timed(jitter=self._jitter()))
        return [row["job_id"] for row in rows]

    async def rescue_stuck(self, *, stuck_after: timedelta) -> list[str]:
        """Take back jobs PROCESSING for at least `stuck_after`."""
        rows = await self._fetch(
            "rescue_stuck", self._timed(jitter=self._jitter(), stuck_after=stuck_after // _MICROSECOND)
        )
        return [row["job_id"] for row in rows]

    async def delete_expired(self, *, limit: int = 1000) -> list[str]:
        """Delete terminal jobs past `expiresAt`, both rows."""
        rows = await self._fetch("delete_expired", self._timed(), limit=max(limit, 0))
        return [row["job_id"] for row in rows]

    async def get(self, job_id: str) -> ToolJob | None:
        """Read one job."""
        rows = await self._fetch("get", {"job_id": job_id}) if is_storable(job_id) else []
        return tool_job_of(rows[0]) if rows else None

    async def list_owned(
        self, *, user_id: str | None = None, session_id: str | None = None, limit: int = 100
    ) -> list[ToolJob]:
        """Read the jobs of one owner, newest first; none where no owner is named."""
        if not (is_storable(user_id or "") and is_storable(session_id or "")):
            return []
        rows = await self._fetch("list_owned", {"user_id": user_id, "session_id": session_id}, limit=max(limit, 0))
        return [tool_job_of(row) for row in rows]

    async def next_due(self, *, tools: Sequence[str]) -> datetime | None:
        """Tell when the next job can be claimed."""
        known = [tool for tool in tools if is_storable(tool)]
        rows = await self._fetch("next_due", self._timed(tools=known))
        due: datetime | None = rows[0]["next_due"]
        return None if due is None else due.astimezone(UTC)

    async def rows(self) -> list[JobRow]:
        """Read both rows of every job, in the order of creation."""
        return [job_row_of(row) for row in await self._fetch("rows", {})]


def _unknown_tool(*slugs: str) -> UnknownToolError:
    return UnknownToolError(f"no partition for {', '.join(map(repr, sorted(slugs)))}; register the tool first")


def _queue_id(claim: Claim) -> str:
    return claim.job.pgboss_job_id or ""


def _fence(claim: Claim) -> dict[str, object]:
    return {"tool": claim.job.tool_slug, "queue_id": claim.job.pgboss_job_id, "token": claim.token}


def _enqueue_parameters(accepted: AcceptedJob) -> dict[str, object]:
    job = accepted.job
    return {
        "id": job.id,
        "tool": job.tool_slug,
        "input": accepted.input,
        "queue_id": accepted.queue_id,
        "user_id": job.user_id,
        "session_id": job.session_id,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "start_after": job.start_after,
        "unique_key": job.unique_key,
        "lease": job.lease // _MICROSECOND,
        "retry_delay": job.retry_delay // _MICROSECOND,
        "retry_backoff": job.retry_backoff,
        "retry_delay_max": job.retry_delay_max // _MICROSECOND,
        "retention": job.retention // _MICROSECOND,
    }


def _enqueue_many_parameters(accepted: Sequence[AcceptedJob]) -> dict[str, object]:
    columns = {
        "id": "ids",
        "tool": "tools",
        "input": "inputs",
        "queue_id": "queue_ids",
        "user_id": "user_ids",
        "session_id": "session_ids",
        "priority": "priorities",
        "max_attempts": "max_attempts",
        "start_after": "start_afters",
        "unique_key": "unique_keys",
        "lease": "leases",
        "retry_delay": "retry_delays",
        "retry_backoff": "retry_backoffs",
        "retry_delay_max": "retry_delays_max",
        "retention": "retentions",
    }
    rows = [_enqueue_parameters(one) for one in accepted]
    return {plural: [row[single] for row in rows] for single, plural in columns.items()}


def _as_created(accepted: AcceptedJob, instant: datetime) -> ToolJob:
    job = accepted.job
    return ToolJob(
        id=job.id,
        tool_slug=job.tool_slug,
        status=ToolJobStatus.PENDING,
        input=job.input,
        priority=job.priority,
        user_id=job.user_id,
        session_id=job.session_id,
        pgboss_job_id=accepted.queue_id,
        max_attempts=job.max_attempts,
        created_at=instant,
        updated_at=instant,
    )
