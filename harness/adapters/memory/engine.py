"""Opens model queues."""

from __future__ import annotations

from collections.abc import Callable

from harness.adapters.memory.queue import MemoryQueue
from harness.model.settings import Settings
from harness.port import Application, Clocks, EngineInfo


class MemoryEngine:
    """The engine `memory`; a wrong queue is another queue class, a wrong worker comes as another application."""

    def __init__(
        self,
        queue: type[MemoryQueue] = MemoryQueue,
        *,
        name: str = "memory",
        application: Application | None = None,
    ) -> None:
        """Open queues of a class; `application` is at work on them, or else the stock actors."""
        self.info = EngineInfo(name, queue.capabilities, application=application)
        self._queue = queue

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> MemoryQueue:
        """Answer an empty queue."""
        return self._queue(settings, clocks, jitter)

    def close(self) -> None:
        """Nothing to give back."""
