"""Opens model queues."""

from __future__ import annotations

from collections.abc import Callable

from harness.adapters.memory.queue import MemoryQueue
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks


class MemoryEngine:
    """The engine `memory`; a wrong queue is another queue class."""

    def __init__(self, queue: type[MemoryQueue] = MemoryQueue, *, name: str = "memory") -> None:
        self.name = name
        self.capabilities: Capabilities = queue.capabilities
        self._queue = queue

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> MemoryQueue:
        """Answer an empty queue."""
        return self._queue(settings, clocks, jitter)

    def close(self) -> None:
        """Nothing to give back."""
