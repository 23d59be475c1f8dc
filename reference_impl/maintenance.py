"""What the cron does every minute. Knows the store's verbs, neither SQL nor HTTP.

Safe to run twice, late, or twice at once.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta

from reference_impl.errors import MaintenanceError, StoreUnavailableError
from reference_impl.models import MaintenanceReport
from reference_impl.store.protocol import Store

_EXPIRE_BATCH = 1000


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


async def _expire_all(store: Store) -> list[str]:
    expired: list[str] = []
    while True:
        batch = await store.expire(limit=_EXPIRE_BATCH)
        expired += batch
        if len(batch) < _EXPIRE_BATCH:
            return expired


async def run_maintenance(store: Store, *, stuck_after: timedelta) -> MaintenanceReport:
    """Take back overdue claims, reconcile both tables, rescue stuck jobs, delete what is past its retention.

    Raises `MaintenanceError`, with the report, after all parts have had their turn where one of them failed, and
    `StoreUnavailableError` as soon as the database does not answer: what was done until then is done.
    """
    parts = _Parts()
    report = MaintenanceReport(
        expired=await parts.run("expire", _expire_all(store)),
        reconciled=await parts.run("reconcile", store.reconcile()),
        rescued=await parts.run("rescue_stuck", store.rescue_stuck(stuck_after=stuck_after)),
        deleted=await parts.run("delete_expired", store.delete_expired()),
    )
    if parts.failures:
        raise MaintenanceError(parts.failures, report=report) from next(iter(parts.failures.values()))
    return report
