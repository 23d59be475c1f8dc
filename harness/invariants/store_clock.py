"""The store's clock as a history tells it: true time plus what faults have set it wrong by."""

from __future__ import annotations

from harness.history.event import Fault, Phase
from harness.model.duration import Duration, Instant
from harness.sim.clock import STORE, Drift


class StoreClock:
    """Follows the faults that hit the store's clock."""

    __slots__ = ("_drift", "_offset")

    def __init__(self) -> None:
        self._offset: Duration = 0
        self._drift: Drift | None = None

    def fault(self, event: Fault) -> None:
        """Take over a fault: a step of the clock, or a drift."""
        if event.name == "clock" and event.data["whose"] == STORE:
            self._offset, self._drift = event.data["offset"], None
        elif event.name == "drift" and event.data["whose"] == STORE:
            start = self.read(event.at) - event.at
            self._drift = Drift(event.at, start, event.data["offset"], event.data["within"])

    def phase(self, event: Phase) -> None:
        """Take over that the system healed, and with it the clock."""
        if event.name == "heal":
            self._offset, self._drift = 0, None

    def read(self, at: Instant) -> Instant:
        """Answer what it showed at a true instant."""
        return at + (self._offset if self._drift is None else self._drift.at(at))
