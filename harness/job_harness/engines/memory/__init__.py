"""The model queue: both tables in memory, every verb one step, no bug that we know of."""

from job_harness.engines.memory.queue import MemoryEngine, MemoryQueue

__all__ = ["MemoryEngine", "MemoryQueue"]
