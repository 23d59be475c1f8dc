"""Mistakes in whose clock decides."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.mistakes.mistake import Mistake
from harness.model.duration import Instant


class WorkerClock(MemoryQueue):
    def now(self, caller: str) -> Instant:
        return self.clocks.of(caller)


MISTAKES: Final = (
    Mistake(
        name="worker-clock-lease",
        sentence="Leases and times are written and judged by the clock of whoever calls.",
        source="pg-boss PR#843",
        finds=("foreign_clock",),
        queue=WorkerClock,
    ),
)
