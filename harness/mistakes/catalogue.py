"""All wrong queues by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
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
    workers,
)
from harness.mistakes.mistake import Mistake

SAFEGUARDS: Final[Mapping[ModuleType, str]] = MappingProxyType(
    {
        fencing: "fencing: the token compared in every settlement",
        claims: "a claim that locks what it takes",
        attempts: "attempts counted at the claim, up to maxAttempts",
        leases: "leases that are kept, extended and taken back in time",
        scheduling: "start times, order and backoff kept",
        uniqueness: "a unique key held until its job ends",
        cancel: "a cancel that nothing undoes",
        values: "values checked before they are stored",
        maintenance: "maintenance that compares and sets, and fences",
        tables: "both tables in one transaction",
        clocks: "the store's clock alone",
        limits: "limits and serial keys counted in the claim itself",
        cron: "each slot of a schedule taken once",
        transactions: "jobs sent in the caller's transaction",
        requests: "requests kept as they were sent",
        dead_letters: "dead letters written with the failure",
        shutdown: "a shutdown that gives back what it holds",
        workers: "a worker that reports, gives back and keeps alive what it holds",
        read_check_write: "check and write in one statement",
    }
)
"""By theme, in the order of the catalogue, what a queue has that makes none of its mistakes."""

CATALOGUE: Final[Mapping[str, Mistake]] = MappingProxyType(
    {mistake.name: mistake for theme in SAFEGUARDS for mistake in theme.MISTAKES}
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


def safeguard_of(name: str) -> str:
    """Say what a queue has that does not make the mistake of this name."""
    return next(text for theme, text in SAFEGUARDS.items() if any(mistake.name == name for mistake in theme.MISTAKES))
