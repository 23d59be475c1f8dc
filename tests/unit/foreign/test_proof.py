"""An engine is proven to follow our clock before it is used; what does not follow is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from job_harness.core.history.outcome import Outcome
from job_harness.core.model.duration import DAY
from job_harness.core.model.settings import Settings
from job_harness.core.port import Contract, EngineClocks
from job_harness.engines.memory import MemoryEngine
from job_harness.worlds.peers.clocks import prove
from job_harness.worlds.postgres.virtual_clock import VirtualClockError


class Wrong:
    """A queue whose clock is not the one it is given."""

    def __init__(self, offset: Callable[[EngineClocks], int]) -> None:
        self._offset = offset

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> Any:
        offset = self._offset

        class Own:
            def store(self) -> int:
                return offset(clocks)

            def of(self, actor: str) -> int:
                return offset(clocks)

        return MemoryEngine().open(settings, Own(), jitter)


def test_a_queue_on_our_clock_is_proven() -> None:
    assert prove(MemoryEngine().open, name="memory") == 0


@pytest.mark.parametrize(
    ("clock", "what"),
    [
        (lambda clocks: 0, "a job was not claimed when it was due"),
        (lambda clocks: DAY, "a job was claimed an hour before it was due"),
        (lambda clocks: min(clocks.store(), 61 * 60 * 1_000_000), "a lease did not expire"),
        (lambda clocks: clocks.store() * 3, "a lease expired before its time"),
    ],
)
def test_what_does_not_follow_is_named(clock: Callable[[EngineClocks], int], what: str) -> None:
    with pytest.raises(VirtualClockError, match=f"it does not follow the virtual clock: {what}"):
        prove(Wrong(clock).open, name="it")


def test_a_queue_that_takes_no_job_proves_nothing() -> None:
    class Refusing:
        contract = Contract()

        def enqueue(self, request: Any) -> Outcome:
            return Outcome.refused("no")

    with pytest.raises(Exception, match="it accepted no job: "):
        prove(lambda settings, clocks, jitter: Refusing(), name="it")
