"""What procrastinate says of a job by its number is told by the job's own name: the number differs from run to run."""

from __future__ import annotations

from typing import Any

import pytest

from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.core.sim.clock import Clocks
from job_harness.engines.foreign_queue import Opened
from job_harness.engines.procrastinate import ProcrastinateQueue


class Database:
    """Takes the time, does nothing with it, and holds no rows."""

    def set_now(self, now: int) -> None:
        pass

    def run(self, text: bytes, parameters: Any = None, *, prepare: bool | None = None) -> list[dict[str, Any]]:
        return []


class Child:
    """Returns with these replies in turn."""

    def __init__(self, *replies: dict[str, Any]) -> None:
        self.replies = list(replies)

    def ask(self, do: str, arguments: dict[str, Any], *, now: float) -> dict[str, Any]:
        return self.replies.pop(0)


@pytest.mark.parametrize("kind", ["refused", "raised"])
def test_a_reason_names_the_job_of_the_run(kind: str) -> None:
    child = Child({"value": 41}, {kind: "Job was not found (job id: 41), nor was (job id: 7)"})
    clocks = Clocks()
    opened = Opened(child, Database(), Settings(), clocks, lambda: 0.0, clocks.store)  # type: ignore[arg-type]
    queue = ProcrastinateQueue(opened)
    queue.enqueue(JobRequest("a", "tool", None))

    assert queue.cancel("a").reason == "Job was not found (job id: a), nor was (job id: 7)"
