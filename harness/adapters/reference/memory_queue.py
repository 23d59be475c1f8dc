"""The reference queue on its memory store, which can be set back to any moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from harness.adapters.reference.queue import Gate, ReferenceQueue, at_once
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks
from harness.sim.request import Point
from reference_impl.models import Claim as StoreClaim
from reference_impl.store.memory import MemoryStore
from reference_impl.store.memory_rows import MemorySnapshot


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The store's state, and the claims that stand for it."""

    store: MemorySnapshot
    tools: tuple[str, ...]
    issued: dict[tuple[str, int], StoreClaim]


async def at_point(name: str) -> None:
    """Suspend at the point that the PostgreSQL engine has there: memory has no statement to stop at."""
    await Point(name)


class MemoryReferenceQueue(ReferenceQueue):
    """Opened anew for each run, on a store of its own."""

    capabilities: ClassVar[Capabilities] = replace(ReferenceQueue.capabilities, snapshot=True)

    def __init__(
        self, settings: Settings, clocks: Clocks, jitter: Callable[[], float], *, stepped: bool = False
    ) -> None:
        gate: Gate = at_point if stepped else at_once
        super().__init__(settings, clocks, jitter, tools=set(), stepped=stepped, gate=gate)
        self._memory = MemoryStore(now=self.now, jitter=self.jitter)
        self.store = self.observed = self._memory

    def snapshot(self) -> QueueSnapshot:
        """Return the state as a value."""
        return QueueSnapshot(self._memory.snapshot(), tuple(self._in_use), dict(self._issued))

    def restore(self, state: QueueSnapshot) -> None:
        """Go back to a state."""
        self._memory.restore(state.store)
        self._tools.clear()
        self._tools.update(state.store.tools)
        self._in_use = dict.fromkeys(state.tools)
        self._issued = dict(state.issued)
