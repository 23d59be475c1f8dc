"""What became of jobs, counted by outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.history.event import Event, Observed
from harness.model.lifecycle import Status

OUTCOMES = ("completed", "retried", "failed", "cancelled")

_OF_STATUS = {Status.COMPLETED: "completed", Status.FAILED: "failed", Status.CANCELLED: "cancelled"}


class Counts(dict[str, int]):
    """Outcome -> how many; equal to any dictionary that says the same, an outcome left out being 0."""

    def __init__(self, counts: dict[str, int], *, on_read: Callable[[], None] = lambda: None) -> None:
        super().__init__({outcome: counts.get(outcome, 0) for outcome in OUTCOMES})
        self._on_read = on_read

    def __getitem__(self, outcome: str) -> int:
        self._on_read()
        return super().__getitem__(outcome)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, dict):
            return NotImplemented
        self._on_read()
        return {k: n for k, n in self.items() if n} == {k: n for k, n in other.items() if n}

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = None  # mutable, like any dict


def count_outcomes(events: Iterable[Event]) -> dict[str, int]:
    """Count what happened to jobs in these events."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for event in events:
        outcome = _outcome(event)
        if outcome is not None:
            counts[outcome] += 1
    return counts


def _outcome(event: Event) -> str | None:
    if type(event) is not Observed or event.before is None or event.after is None:
        return None
    before, after = event.before.status, event.after.status
    if before is after:
        return None
    if after is Status.PENDING:
        return "retried" if before is Status.PROCESSING and event.verb != "release" else None
    return _OF_STATUS.get(after) if after is not None else None
