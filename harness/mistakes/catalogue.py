"""All wrong queues by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from harness.errors import UsageError, did_you_mean
from harness.mistakes import (
    attempts,
    cancel,
    claims,
    clocks,
    cron,
    dead_letters,
    fencing,
    leases,
    limits,
    maintenance,
    read_check_write,
    requests,
    scheduling,
    shutdown,
    tables,
    transactions,
    uniqueness,
    values,
)
from harness.mistakes.mistake import Mistake

CATALOGUE: Final[Mapping[str, Mistake]] = MappingProxyType(
    {
        mistake.name: mistake
        for theme in (
            fencing,
            claims,
            attempts,
            leases,
            scheduling,
            uniqueness,
            cancel,
            values,
            maintenance,
            tables,
            clocks,
            limits,
            cron,
            transactions,
            requests,
            dead_letters,
            shutdown,
            read_check_write,
        )
        for mistake in theme.MISTAKES
    }
)


def named(name: str) -> Mistake:
    """Answer the wrong queue of this name; raises `UsageError` for an unknown one."""
    mistake = CATALOGUE.get(name)
    if mistake is None:
        raise UsageError(
            f"there is no wrong queue {name!r}{did_you_mean(name, CATALOGUE)}",
            hint=f"there are: {', '.join(CATALOGUE)}",
        )
    return mistake
