"""The model queue: both tables in memory, every verb one step, no bug that we know of."""

from job_harness.engines.memory.queue import (
    ClaimRules,
    EndRules,
    FlowRules,
    KeyRules,
    MemoryEngine,
    MemoryQueue,
    QueueRules,
    RequestRules,
    TickRules,
    UpkeepRules,
)

__all__ = [
    "ClaimRules",
    "EndRules",
    "FlowRules",
    "KeyRules",
    "MemoryEngine",
    "MemoryQueue",
    "QueueRules",
    "RequestRules",
    "TickRules",
    "UpkeepRules",
]
