"""Whether the clocks that a processor reads are virtual: the words by which a test says so, and what follows."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from harness.errors import UsageError, did_you_mean
from harness.sim.guest_threads import GuestThreads
from harness.sim.loop import VirtualLoop

VIRTUAL: Final = "virtual"
REAL: Final = "real"


def checked_clocks(clocks: object) -> str:
    """Return it where it is a word for clocks. Raises UsageError."""
    if clocks in (VIRTUAL, REAL):
        return str(clocks)
    raise UsageError(
        f"clocks is {clocks!r}{did_you_mean(str(clocks), (VIRTUAL, REAL))}",
        hint='Write "virtual", and processors read virtual time, or "real", and they read the machine\'s.',
    )


def open_guests(loop: VirtualLoop, *, start: datetime, clocks: str = VIRTUAL) -> GuestThreads:
    """Return the clocks and threads of the processors on a loop whose second 0 is at `start`.

    Raises UsageError for a word that is none, and where gevent has replaced threads.
    """
    return GuestThreads(loop, start_us=round(start.timestamp() * 1_000_000), clocks=checked_clocks(clocks) == VIRTUAL)
