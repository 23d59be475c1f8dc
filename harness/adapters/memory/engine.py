"""Opens model queues."""

from __future__ import annotations

from collections.abc import Callable

from harness.adapters.memory.queue import MemoryQueue
from harness.model.settings import Settings
from harness.port import Application, Capabilities, Clocks


class MemoryEngine:
    """The engine `memory`; a wrong queue is another queue class, a wrong worker comes as another application."""

    def __init__(
        self,
        queue: type[MemoryQueue] = MemoryQueue,
        *,
        name: str = "memory",
        application: Application | None = None,
    ) -> None:
        self.name = name
        self.application = application
        """Who is at work on its queues; None: the stock actors."""
        self.capabilities: Capabilities = queue.capabilities
        self._queue = queue

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> MemoryQueue:
        """Answer an empty queue."""
        return self._queue(settings, clocks, jitter)

    def close(self) -> None:
        """Nothing to give back."""
