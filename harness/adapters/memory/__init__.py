"""The model queue: both tables in memory, every verb one step, no bug that we know of."""

from harness.adapters.memory.queue import MemoryEngine, MemoryQueue

__all__ = ["MemoryEngine", "MemoryQueue"]
