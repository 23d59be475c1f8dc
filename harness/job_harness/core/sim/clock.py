"""The clocks of a run: the true time, the store's, and each actor's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from job_harness.core.model import Duration, Instant

STORE: Final = "store"


class Drift(NamedTuple):
    """A clock that runs fast or slow until it is off by `offset`, and then goes on beside the truth."""

    began: Instant
    """In true time."""
    start: Duration
    """How far it was ahead then."""
    offset: Duration
    """How far it is ahead in the end."""
    within: Duration
    """How long that takes."""

    def at(self, now: Instant) -> Duration:
        """Return how far the clock is ahead at a true instant."""
        passed = min(max(now - self.began, 0), self.within)
        return self.start + (self.offset - self.start) * passed // self.within


class Clocks:
    """True time comes from the kernel; a clock is that plus an offset, which may drift."""

    __slots__ = ("_drifts", "_offsets", "now", "store_offset")

    def __init__(self) -> None:
        self.now: Instant = 0
        self.store_offset: Duration = 0
        self._offsets: dict[str, Duration] = {}
        self._drifts: dict[str, Drift] = {}

    def advance(self, now: Instant) -> None:
        """Move the true time, and every clock that drifts with it."""
        self.now = now
        for whose, drift in self._drifts.items():
            self._set(whose, drift.at(now))

    def store(self) -> Instant:
        """Read the store's clock."""
        return self.now + self.store_offset

    def of(self, actor: str) -> Instant:
        """Read an actor's own clock."""
        return self.now + self._offsets.get(actor, 0)

    def set_offset(self, whose: str, offset: Duration) -> None:
        """Set how far an actor's clock, or the `store`'s, is ahead of the truth; it drifts no more."""
        self._drifts.pop(whose, None)
        self._set(whose, offset)

    def let_drift(self, whose: str, offset: Duration, *, within: Duration) -> None:
        """Let an actor's clock, or the `store`'s, drift to an offset."""
        start = self.store_offset if whose == STORE else self._offsets.get(whose, 0)
        self._drifts[whose] = Drift(self.now, start, offset, within)

    def _set(self, whose: str, offset: Duration) -> None:
        if whose == STORE:
            self.store_offset = offset
        else:
            self._offsets[whose] = offset

    def offsets(self) -> dict[str, Duration]:
        """Return the actors whose clocks are off."""
        return {actor: offset for actor, offset in self._offsets.items() if offset}

    def drifts(self) -> dict[str, Drift]:
        """Return the clocks that drift, or drifted and were not set right since."""
        return dict(self._drifts)

    def restore(self, offsets: Mapping[str, Duration], drifts: Mapping[str, Drift]) -> None:
        """Set the actors' offsets and drifts to these, and all others right."""
        self._offsets = dict(offsets)
        self._drifts = dict(drifts)

    def correct(self) -> None:
        """Set every clock right."""
        self.store_offset = 0
        self._offsets.clear()
        self._drifts.clear()
