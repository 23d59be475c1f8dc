"""What the cron does every minute. Knows the store's verbs, neither SQL nor HTTP.

Safe to run twice, late, or twice at once.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Protocol

from job_harness_reference.errors import MaintenanceError, StoreUnavailableError
from job_harness_reference.models import MaintenanceReport
from job_harness_reference.store.protocol import Store

_BATCH = 1000
"""How many jobs one statement takes back or deletes: each holds its locks until all are done."""


class _Parts:
    """Runs each part whatever became of the one before, and remembers what failed."""

    def __init__(self) -> None:
        self.failures: dict[str, Exception] = {}

    async def run(self, name: str, part: Awaitable[list[str]]) -> tuple[str, ...]:
        try:
            return tuple(await part)
        except StoreUnavailableError:
            raise  # Every other part would wait for the same database.
        except Exception as error:  # noqa: BLE001 - one failing part must not stop the others; it is raised at the end
            self.failures[name] = error
            return ()


class _Verb(Protocol):
    """Changes at most `limit` jobs, and returns their ids."""

    def __call__(self, *, limit: int) -> Awaitable[list[str]]: ...


async def _all(verb: _Verb) -> list[str]:
    changed: list[str] = []
    while True:
        batch = await verb(limit=_BATCH)
        changed += batch
        if len(batch) < _BATCH:
            return changed


async def run_maintenance(store: Store, *, stuck_after: timedelta) -> MaintenanceReport:
    """Take back overdue claims, reconcile both tables, rescue stuck jobs, delete what is past its retention.

    Raises `MaintenanceError`, with the report, after all parts have had their turn where one of them failed, and
    `StoreUnavailableError` as soon as the database does not answer: what was done until then is done.
    """
    parts = _Parts()
    report = MaintenanceReport(
        expired=await parts.run("expire", _all(store.expire)),
        reconciled=await parts.run("reconcile", store.reconcile()),
        rescued=await parts.run("rescue_stuck", store.rescue_stuck(stuck_after=stuck_after)),
        deleted=await parts.run("delete_expired", _all(store.delete_expired)),
    )
    if parts.failures:
        raise MaintenanceError(parts.failures, report=report) from next(iter(parts.failures.values()))
    return report
