"""The model queue itself. Each rule is a small method of its own, so that a wrong queue overrides exactly one."""

from __future__ import annotations

from typing import ClassVar

from harness.adapters.memory.claiming import Claiming
from harness.adapters.memory.scheduling import Scheduling
from harness.adapters.memory.upkeep import Upkeep
from harness.port import Capabilities


class MemoryQueue(Claiming, Scheduling, Upkeep):
    """Can do everything that the port knows; every verb is one step."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        heartbeat=True,
        release=True,
        cancel=True,
        retry=True,
        priorities=True,
        unique=True,
        start_after=True,
        maintenance=True,
        virtual_time=True,
        snapshot=True,
        fencing=True,
        concurrency_limits=True,
        serial_keys=True,
        dead_letters=True,
        transactions=True,
        schedules=True,
        inputs=True,
    )
