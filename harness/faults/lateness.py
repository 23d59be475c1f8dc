"""Everybody is late: a machine that slept, a cron that starts after its time. Time jumps past what was due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.faults.budget import Budget, Note
from harness.model.duration import Duration
from harness.sim.actor import Actor
from harness.sim.kernel import Kernel

PREFIX = "late by "


class Lateness:
    """Lets time run on beyond the next thing due; all that became due meanwhile happens at once, in order."""

    def __init__(self, count: int, note: Note, *, moments: Mapping[str, Duration]) -> None:
        self.budget = Budget(count)
        self._note = note
        self._moments = moments
        self._names = tuple(PREFIX + name for name in moments)

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[str]:
        """Offer every named duration whenever time is about to move."""
        return self._names if actor is None and self.budget.left > 0 else ()

    def apply(self, kernel: Kernel, actor: Actor | None, option: str) -> bool:
        """Oversleep."""
        duration = self._moments.get(option.removeprefix(PREFIX)) if option.startswith(PREFIX) else None
        target = kernel.next_wake()
        if actor is not None or duration is None or target is None:
            return False
        self.budget.spend()
        self._note("*", "late", {"for": duration})
        kernel.move_to(target + duration)
        return True
