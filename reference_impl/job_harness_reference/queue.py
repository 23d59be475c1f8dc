"""What a user may do with jobs: create, read, list, cancel. Applies settings and ownership; knows no HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from job_harness_reference.clock import NewId
from job_harness_reference.config import Config
from job_harness_reference.errors import InvalidJsonError, QueueError, UnknownToolError
from job_harness_reference.json_values import encode, is_storable, same_json
from job_harness_reference.models import Enqueued, JsonValue, NewJob, ToolJob
from job_harness_reference.store import Store
from job_harness_reference.suggestion import did_you_mean

_LONGEST_KEY = 255
_LONGEST_OWNER = 255
_DEEPEST_INPUT = 100
_PING_SECONDS = 5.0


class JobNotFoundError(QueueError):
    """No job has that id."""


class NotOwnerError(QueueError):
    """The job belongs to another owner, or the caller did not say who is asking."""


class InputTooLargeError(QueueError):
    """The input is longer than `JOB_INPUT_LIMIT_BYTES`."""


class IdempotencyConflictError(QueueError):
    """The idempotency key stands for a job with another input."""


class JobFinishedError(QueueError):
    """The job is terminal: nothing is left to cancel."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who is asking: a user, an anonymous session, or both."""

    user_id: str | None = None
    session_id: str | None = None

    @property
    def known(self) -> bool:
        """Whether the caller said who is asking."""
        return bool(self.user_id or self.session_id)

    def owns(self, job: ToolJob) -> bool:
        """Whether the job's user is asking, or its session where it has no user.

        A session id outlives a sign-out and is shared by all who use the browser: it opens no
        user's jobs.
        """
        if job.user_id:
            return self.user_id == job.user_id
        return bool(self.session_id) and self.session_id == job.session_id


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a user asks to have done."""

    tool_slug: str
    input: JsonValue
    priority: int = 0
    start_after: datetime | None = None
    idempotency_key: str | None = None
    """A repeated request with the same key answers with the first job, ended or not, as long as that is kept."""


class JobQueue:
    """The users' side of the queue."""

    def __init__(self, store: Store, config: Config, *, new_id: NewId, tools: Collection[str] | None = None) -> None:
        """Serve `tools`; without them whatever tool the store knows."""
        self._store = store
        self._config = config
        self._new_id = new_id
        self._tools = tools

    async def create(self, request: JobRequest, *, owner: Owner) -> Enqueued:
        """Create the job, or find the one that the same owner made of this tool with the same idempotency key.

        Raises `NotOwnerError`, `UnknownToolError`, `InputTooLargeError`, `InvalidJsonError`,
        `IdempotencyConflictError`.
        """
        _require_owner(owner)
        if self._tools is not None and request.tool_slug not in self._tools:
            hint = did_you_mean(request.tool_slug, self._tools)
            raise UnknownToolError(f"No tool is called {_quote(request.tool_slug)} ({hint}).")
        self._check_input(request.input)
        enqueued = await self._store.enqueue(self._new_job(request, owner=owner))
        if not enqueued.created and not same_json(enqueued.job.input, request.input):
            raise IdempotencyConflictError(
                f"The idempotency key stands for job {enqueued.job.id}, which has another input and is "
                f"{enqueued.job.status}. Send a new key, or the same input."
            )
        return enqueued

    async def get(self, job_id: str, *, owner: Owner) -> ToolJob:
        """Read one job of the owner. Raises `JobNotFoundError`, `NotOwnerError`."""
        job = await self._store.get(job_id) if is_storable(job_id) else None
        if job is None:
            raise JobNotFoundError(f"No job has the id {_quote(job_id)}: it never existed or its retention is over.")
        if not owner.owns(job):
            raise NotOwnerError(
                f"Job {job_id} belongs to another user or session. "
                "Ask as the user, or with the x-session-id, that created it."
            )
        return job

    async def list_own(self, *, owner: Owner, limit: int = 100) -> list[ToolJob]:
        """Read the owner's jobs, newest first. Raises `NotOwnerError` where the owner is missing."""
        _require_owner(owner)
        by_user = await self._store.list_owned(user_id=owner.user_id, limit=limit) if owner.user_id else []
        by_session = await self._store.list_owned(session_id=owner.session_id, limit=limit) if owner.session_id else []
        if not (by_user and by_session):
            return by_user or by_session
        merged = {job.id: job for job in (*by_user, *by_session)}.values()
        return sorted(merged, key=_creation, reverse=True)[:limit]

    async def cancel(self, job_id: str, *, owner: Owner) -> ToolJob:
        """Cancel the owner's job and read it back.

        Raises `JobNotFoundError`, `NotOwnerError`, `JobFinishedError`.
        """
        await self.get(job_id, owner=owner)
        cancelled = await self._store.cancel(job_id)
        job = await self.get(job_id, owner=owner)
        if not cancelled:
            raise JobFinishedError(f"Job {job_id} is {job.status}: only PENDING and PROCESSING can be cancelled.")
        return job

    async def ping(self) -> None:
        """Ask the store one question. Raises what the store raises, or `TimeoutError` after five seconds."""
        async with asyncio.timeout(_PING_SECONDS):
            await self._store.next_due(tools=())

    def _new_job(self, request: JobRequest, *, owner: Owner) -> NewJob:
        config = self._config
        return NewJob(
            tool_slug=request.tool_slug,
            input=request.input,
            id=self._new_id() if request.idempotency_key is None else _id_by_key(request, owner=owner),
            queue_id=self._new_id(),
            user_id=owner.user_id,
            session_id=owner.session_id,
            priority=request.priority,
            max_attempts=config.job_max_attempts,
            start_after=request.start_after,
            lease=config.lease,
            retry_delay=timedelta(seconds=config.job_retry_delay_seconds),
            retry_backoff=config.job_retry_backoff,
            retry_delay_max=timedelta(seconds=config.job_retry_delay_max_seconds),
            retention=timedelta(days=config.job_retention_days),
        )

    def _check_input(self, value: JsonValue) -> None:
        size = len(encode(value).encode())
        limit = self._config.job_input_limit_bytes
        if size > limit:
            raise InputTooLargeError(
                f"The input is {size} bytes of JSON; at most {limit} are taken. "
                "Store the data elsewhere and send a reference, or raise JOB_INPUT_LIMIT_BYTES."
            )
        if _deeper_than(_DEEPEST_INPUT, value):
            raise InvalidJsonError(f"The input is nested more than {_DEEPEST_INPUT} levels deep.")


def _require_owner(owner: Owner) -> None:
    if not owner.known:
        raise NotOwnerError("The request does not say who is asking: sign in, or send an x-session-id header.")
    for value in (owner.user_id, owner.session_id):
        if value is not None and (len(value) > _LONGEST_OWNER or not is_storable(value)):
            raise NotOwnerError(
                f"{_quote(value)} is not a valid identity: at most {_LONGEST_OWNER} characters, without NUL."
            )


def _id_by_key(request: JobRequest, *, owner: Owner) -> str:
    """Make the id of the job that this owner's key stands for, of this tool: the store keeps one job of an id."""
    key = request.idempotency_key or ""
    if not key or len(key) > _LONGEST_KEY:
        raise IdempotencyConflictError(f"The idempotency key has {len(key)} characters; 1 to {_LONGEST_KEY} are taken.")
    scope = ["user", owner.user_id] if owner.user_id else ["session", owner.session_id]
    text = json.dumps([*scope, request.tool_slug, key])
    return str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16]))


def _deeper_than(limit: int, value: JsonValue) -> bool:
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for each in level
            if isinstance(each, (dict, list, tuple))
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _quote(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _creation(job: ToolJob) -> tuple[float, str]:
    return (job.created_at.timestamp() if job.created_at else 0.0, job.id)
