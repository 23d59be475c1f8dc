"""Waiting for another process, in real time and always bounded.

A server starts in real time whatever clock the tests pretend, so what waits for one reads the machine's monotonic
clock, here. Must not know what is waited for.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PATIENCE: Final = 10.0
"""Seconds of real time that a statement may take before it counts as one that never ends."""
_select, _poll = select.select, getattr(select, "poll", None)  # noqa: TID251 - for where there is nothing else
"""As they were at first: gevent and its like put their own in their place, and eventlet takes `poll` away."""


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
        _select([], [], [], seconds)


def used_by(process: int) -> tuple[float, str]:
    """Return the processor's seconds that a process has used, and its state, as Linux tells; else infinity and ""."""
    try:
        told = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(") ")[2].split()
    except OSError:
        return math.inf, ""
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK"), told[0]


def ready(reading: Iterable[int], writing: Iterable[int] = (), *, seconds: float | None) -> tuple[list[int], list[int]]:
    """Wait until a descriptor can be read, or written; return which, in the order given. None: for as long as it takes.

    As for `select`, one whose other end is gone is ready; but its number may be 1024 and above, which `select` refuses.
    """
    reading, writing = list(reading), list(writing)
    if _poll is None:
        return _select(reading, writing, [], seconds)[:2]
    poll, wanted = _poll(), dict.fromkeys(reading, select.POLLIN)
    for descriptor in writing:
        wanted[descriptor] = wanted.get(descriptor, 0) | select.POLLOUT
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    found = dict(poll.poll(None if seconds is None else seconds * 1000))
    gone = select.POLLERR | select.POLLHUP | select.POLLNVAL
    return (
        [each for each in reading if found.get(each, 0) & (select.POLLIN | gone)],
        [each for each in writing if found.get(each, 0) & (select.POLLOUT | gone)],
    )
