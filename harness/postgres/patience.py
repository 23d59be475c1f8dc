"""Waiting for another process, in real time and always bounded.

A server starts in real time whatever clock the tests pretend, so this is the one module of the package that
reads the machine's monotonic clock. It knows nothing of PostgreSQL.
"""

from __future__ import annotations

import time
from select import select
from typing import Final

PATIENCE: Final = 10.0
"""Seconds of real time that a statement may take before it counts as one that never ends."""


class Deadline:
    """A point in real time after which waiting is given up."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds  # noqa: TID251 - this module owns real waiting

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end  # noqa: TID251 - this module owns real waiting

    @property
    def left(self) -> float:
        """Seconds until then, never below 0."""
        return max(0.0, self._end - time.monotonic())  # noqa: TID251 - this module owns real waiting

    def pause(self, seconds: float = 0.002) -> None:
        """Give the processor away for `seconds`; `select` rather than `sleep`, which tests like to patch."""
        select([], [], [], seconds)
