"""What both stores ask of a new job before they write it, so that both refuse the same in the same words."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from job_harness_reference.errors import QueueError
from job_harness_reference.json_values import check_text, encode
from job_harness_reference.models import NewJob

LONGEST: Final = timedelta(days=36_500)
"""Longer leases, delays and retentions would leave the range of a timestamp."""
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC) + LONGEST
_LATEST: Final = datetime.max.replace(tzinfo=UTC) - LONGEST
SLUG_LIMIT: Final = 200
"""Characters of a tool slug."""
_INTEGER_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class AcceptedJob:
    """A new job whose every value can be stored."""

    job: NewJob
    queue_id: str
    """In the spelling that PostgreSQL gives it back in."""
    input: str
    """As JSON text."""


def accept_slug(slug: str) -> str:
    """Pass a tool slug on. Raises `QueueError` where it is empty, overlong or no text."""
    check_text(slug, what="tool slug")
    if not 0 < len(slug) <= SLUG_LIMIT:
        raise QueueError(f"tool slug {slug[:40]!r} has {len(slug)} characters; use 1 to {SLUG_LIMIT}")
    return slug


def accept(job: NewJob) -> AcceptedJob:
    """Check a new job. Raises `InvalidJsonError` or `QueueError`, naming the field and what it takes."""
    accept_slug(job.tool_slug)
    for what, text in (
        ("id", job.id),
        ("user id", job.user_id),
        ("session id", job.session_id),
        ("unique key", job.unique_key),
    ):
        if text is not None:
            check_text(text, what=what)
    if not 1 <= job.max_attempts <= _INTEGER_MAX:
        raise QueueError(f"max_attempts is {job.max_attempts}; use 1 to {_INTEGER_MAX}")
    if not -_INTEGER_MAX <= job.priority <= _INTEGER_MAX:
        raise QueueError(f"priority is {job.priority}; use {-_INTEGER_MAX} to {_INTEGER_MAX}")
    for name in ("lease", "retry_delay", "retry_delay_max", "retention"):
        length: timedelta = getattr(job, name)
        if not timedelta(0) <= length <= LONGEST:
            raise QueueError(f"{name} is {length}; use 0 to {LONGEST.days} days")
    if job.start_after is not None and job.start_after.tzinfo is None:
        raise QueueError(f"start_after {job.start_after} has no time zone; add one, such as UTC")
    if job.start_after is not None and not _EARLIEST <= job.start_after <= _LATEST:
        raise QueueError(f"start_after is {job.start_after}; use {_EARLIEST.date()} to {_LATEST.date()}")
    return AcceptedJob(job, _canonical(job.queue_id), encode(job.input))


def _canonical(queue_id: str) -> str:
    try:
        return str(uuid.UUID(queue_id))
    except ValueError:
        raise QueueError(f"queue_id {queue_id[:80]!r} is not a UUID") from None
