"""Reconcile in memory: the same cases as `sql/reconcile.sql`, which documents them, in the same order."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from job_harness_reference.lifecycle import PARTNERS, status_beside
from job_harness_reference.models import QueueState, ToolJobStatus
from job_harness_reference.retry import retry_after, spread
from job_harness_reference.store.memory_rows import QueueRow, ToolRow, names

_LEASE = timedelta(minutes=11)
_RETRY_DELAY = timedelta(minutes=1)
_RETRY_DELAY_MAX = timedelta(hours=1)


def reconcile_rows(
    shown: dict[str, ToolRow],
    queued: dict[str, QueueRow],
    *,
    tools: Collection[str],
    now: datetime,
    jitter: float,
) -> list[str]:
    """Mend both tables in place and return the ids of the jobs that were changed, in order."""
    changed: set[str] = set()
    partnered: set[str] = set()
    lonely: list[ToolRow] = []
    for row in list(shown.values()):
        partner = queued.get(row.pgboss_job_id or "")
        if partner is not None and partner.name == row.tool_slug:
            partnered.add(partner.id)
            if not _agree(row, partner):
                changed.add(row.id)
                shown[row.id], queued[partner.id] = _mended(row, partner, now=now)
        elif row.tool_slug in tools:
            lonely.append(row)
    for unseen in [row for row in queued.values() if row.id not in partnered]:
        changed.add(names(unseen.data) or unseen.id)
        del queued[unseen.id]
    for k, row in enumerate(sorted(lonely, key=lambda row: row.id)):
        changed.add(row.id)
        partner = _partner_for(row, now=now, jitter=spread(jitter, k))
        queued[partner.id] = partner
        shown[row.id] = _linked(row, partner, now=now)
    return sorted(changed)


def _agree(row: ToolRow, partner: QueueRow) -> bool:
    return (
        partner.state in PARTNERS[row.status]
        and names(partner.data) == row.id
        and (row.status.terminal or row.attempts == partner.attempts)
    )


def _mended(row: ToolRow, partner: QueueRow, *, now: datetime) -> tuple[ToolRow, QueueRow]:
    partner = replace(partner, data={"toolJobId": row.id})
    if row.status.terminal:
        completed_at = row.completed_at or now
        dated = row.completed_at is not None and row.expires_at is not None
        return replace(
            row,
            completed_at=completed_at,
            expires_at=row.expires_at or completed_at + partner.keep,
            updated_at=row.updated_at if dated else now,
        ), replace(
            partner,
            state=_final_partner(row.status),
            completed_on=partner.completed_on or row.completed_at or now,
            lease_until=None,
            worker=None,
        )
    status = status_beside(partner.state)
    ended = (partner.completed_on or now) if status.terminal else None
    error = row.error
    if status is ToolJobStatus.FAILED:
        error = row.error if row.error is not None else "Reconciled: the queue had given this job up."
    elif status is ToolJobStatus.COMPLETED:
        error = None
    mended = replace(
        row,
        status=status,
        attempts=row.attempts if status.terminal else partner.attempts,
        token=max(row.token, partner.token),
        output=(row.output or "null") if status is ToolJobStatus.COMPLETED else None,
        error=error,
        started_at=partner.started_on if partner.state is QueueState.ACTIVE else row.started_at,
        completed_at=ended,
        expires_at=None if ended is None else ended + partner.keep,
        updated_at=now,
    )
    return mended, partner


def _final_partner(status: ToolJobStatus) -> QueueState:
    (state,) = PARTNERS[status]
    return state


def _outcome(row: ToolRow) -> ToolJobStatus:
    if row.status.terminal:
        return row.status
    return ToolJobStatus.PENDING if row.attempts < row.max_attempts else ToolJobStatus.FAILED


def _partner_for(row: ToolRow, *, now: datetime, jitter: float) -> QueueRow:
    outcome = _outcome(row)
    pending = outcome is ToolJobStatus.PENDING
    retry_count = max(row.attempts - 1, 0)
    wait = timedelta(0)
    if pending and row.status is ToolJobStatus.PROCESSING:
        wait = retry_after(_RETRY_DELAY, backoff=True, delay_max=_RETRY_DELAY_MAX, failures=retry_count, jitter=jitter)
    waiting = QueueState.RETRY if row.attempts > 0 else QueueState.CREATED
    digest = hashlib.md5(f"{row.id}:{row.pgboss_job_id or ''}".encode(), usedforsecurity=False)
    return QueueRow(
        id=str(uuid.UUID(digest.hexdigest())),
        name=row.tool_slug,
        data={"toolJobId": row.id},
        state=waiting if pending else _final_partner(outcome),
        priority=row.priority,
        retry_limit=row.max_attempts - 1,
        retry_count=retry_count,
        start_after=now + wait,
        expire_in=_LEASE,
        token=row.token,
        created_on=row.created_at or now,
        started_on=row.started_at,
        completed_on=None if pending else row.completed_at or now,
    )


def _linked(row: ToolRow, partner: QueueRow, *, now: datetime) -> ToolRow:
    outcome = _outcome(row)
    ended = partner.completed_on
    return replace(
        row,
        pgboss_job_id=partner.id,
        status=outcome,
        error=row.error if row.status is outcome else "Reconciled: the queue had lost this job.",
        completed_at=ended,
        expires_at=None if ended is None else row.expires_at or ended + partner.keep,
        updated_at=now,
    )
