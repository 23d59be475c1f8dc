"""Mistakes of verbs that take several statements: read, check, write."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import Outcome
from harness.mistakes.mistake import Mistake
from harness.sim.request import Point


class ExpireReadsFirst(MemoryQueue):
    """Others may act between its read and its writes, which do not ask again."""

    def expire(self) -> Generator[Any, Any, Outcome]:  # type: ignore[override]
        now = self.now("queue")
        overdue = [row for job in self.live if self.is_overdue(row := self.rows[job], now)]
        if overdue:
            yield Point("update tool_job")
        return self.take_back(overdue, "The lease of worker {worker} ran out in attempt {attempt} of {attempts}.")


MISTAKES: Final = (
    Mistake(
        name="expire-reads-first",
        sentence="What is overdue is read, then written by id alone: what a worker wrote in between is overwritten.",
        source="any read-check-write without a condition on the write",
        finds=("lost_update", "terminal_job_revived", "terminal_job_rewritten", "taken_back_early"),
        queue=ExpireReadsFirst,
        settlement={"compares": False},
    ),
    Mistake(
        name="locks-in-opposite-order",
        sentence="A worker's completion locks tool_job and then the queue's row, the upkeep the other way round.",
        source="any two transactions over two tables, each written with care and without the other in view",
        finds=("deadlock",),
        queue=None,
        settlement={"locks": True, "same_order": False},
    ),
)
