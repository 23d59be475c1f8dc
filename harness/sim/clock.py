"""The clocks of a run: the true time, the store's, and each actor's own."""

from __future__ import annotations

from harness.model.duration import Duration, Instant


class Clocks:
    """True time comes from the kernel; a clock is that plus an offset."""

    __slots__ = ("_offsets", "now", "store_offset")

    def __init__(self) -> None:
        self.now: Instant = 0
        self.store_offset: Duration = 0
        self._offsets: dict[str, Duration] = {}

    def store(self) -> Instant:
        """Read the store's clock."""
        return self.now + self.store_offset

    def of(self, actor: str) -> Instant:
        """Read an actor's own clock."""
        return self.now + self._offsets.get(actor, 0)

    def set_offset(self, actor: str, offset: Duration) -> None:
        """Set how far an actor's clock is ahead of the truth."""
        self._offsets[actor] = offset

    def offsets(self) -> dict[str, Duration]:
        """Answer the actors whose clocks are off."""
        return {actor: offset for actor, offset in self._offsets.items() if offset}

    def correct(self) -> None:
        """Set every clock right."""
        self.store_offset = 0
        self._offsets.clear()
