"""The store's clock as a history tells it: true time plus what faults have set it wrong by."""

from __future__ import annotations

from harness.history.event import Fault, Phase
from harness.model.duration import Duration, Instant


class StoreClock:
    """Follows the faults that hit the store's clock."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset: Duration = 0

    def fault(self, event: Fault) -> None:
        """Take over a fault."""
        if event.name == "clock" and event.data["whose"] == "store":
            self._offset = event.data["offset"]

    def phase(self, event: Phase) -> None:
        """Take over that the system healed, and with it the clock."""
        if event.name == "heal":
            self._offset = 0

    def read(self, at: Instant) -> Instant:
        """Answer what it showed at a true instant."""
        return at + self._offset
