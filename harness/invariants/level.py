"""How much of its promises a queue keeps, in one line: the guarantees as a ladder, from what was found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from harness.invariants.catalogue import ANOMALIES
from harness.invariants.property import Guarantee

RUNGS: Final[tuple[tuple[Guarantee, str], ...]] = (
    (Guarantee.AT_LEAST_ONCE, "not even at least once"),
    (Guarantee.UPDATES, "at least once, but updates are lost"),
    (Guarantee.TRUTHFUL_RESULT, "at least once, but a status may lie"),
    (Guarantee.ONE_AT_A_TIME, "at least once and truthful, but two workers at once"),
    (Guarantee.FENCING, "at least once and one at a time, but not fenced"),
    (Guarantee.BOUNDED_ATTEMPTS, "fenced, but attempts are not bounded"),
    (Guarantee.ISOLATION, "fenced and bounded, but one bad job harms others"),
)
"""The gravest first: a queue that breaks one keeps at most what the line says."""
SHORT: Final = {
    Guarantee.WAITING: "freedom from deadlocks",
    Guarantee.CANCELLATION: "cancellation",
    Guarantee.UNIQUENESS: "unique keys",
    Guarantee.SCHEDULE: "schedule and order",
    Guarantee.CONSISTENCY: "agreement of both tables",
    Guarantee.REPEATABLE_MAINTENANCE: "repeatable maintenance",
    Guarantee.STORE_CLOCK: "the store's clock",
    Guarantee.RETENTION: "retention",
}
WHOLE = "no guarantee was seen to break"


def lost(anomalies: Iterable[str]) -> tuple[Guarantee, ...]:
    """Answer the guarantees that anomalies cost, the gravest first."""
    return tuple(sorted({ANOMALIES[name][1].guarantee for name in anomalies}, key=lambda item: item.rank))


def level(anomalies: Iterable[str]) -> str:
    """Say what is left of a queue's promises: `at least once and one at a time, but not fenced`."""
    broken = lost(anomalies)
    if not broken:
        return WHOLE
    for guarantee, line in RUNGS:
        if guarantee in broken:
            return line
    return f"fenced at least once, but without {_listed([SHORT.get(item, item.name) for item in broken])}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
