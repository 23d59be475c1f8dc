"""All wrong queues by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from job_harness.search.wrong_queues import (
    attempts,
    flows,
    limits,
    maintenance,
    ownership,
    promises,
    requests,
    scheduling,
    workers,
)
from job_harness.search.wrong_queues.wrong_queue import Mistake, Theme

THEMES: Final[tuple[Theme, ...]] = (
    ownership.FENCING,
    ownership.CLAIMS,
    attempts.ATTEMPTS,
    attempts.LEASES,
    scheduling.SCHEDULING,
    limits.UNIQUENESS,
    ownership.CANCEL,
    requests.VALUES,
    maintenance.MAINTENANCE,
    maintenance.TABLES,
    scheduling.CLOCKS,
    limits.LIMITS,
    scheduling.CRON,
    requests.TRANSACTIONS,
    requests.REQUESTS,
    requests.DEAD_LETTERS,
    workers.SHUTDOWN,
    workers.WORKERS,
    ownership.READ_CHECK_WRITE,
    promises.OWN,
    promises.ASKED,
    promises.CALENDARS,
    promises.LARGE,
    promises.OUTAGES,
    promises.ENDS,
    promises.LIVING_ON,
    promises.EXCUSES,
    flows.FLOWS,
)

CATALOGUE: Final[Mapping[str, Mistake]] = MappingProxyType(
    {mistake.name: mistake for theme in THEMES for mistake in theme.mistakes}
)


def safeguard_of(name: str) -> str:
    """Say what a queue has that does not make the mistake of this name."""
    return next(theme.safeguard for theme in THEMES if any(mistake.name == name for mistake in theme.mistakes))
