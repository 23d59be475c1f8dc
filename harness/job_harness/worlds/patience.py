"""Waiting for another process, in real time and always bounded.

A server starts in real time whatever clock the tests pretend, so what waits for one reads the
machine's monotonic clock, here. Must not know what is waited for.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

PATIENCE: Final = 10.0
"""Seconds of real time that a statement may take before it counts as one that never ends."""
LOOK_SECONDS: Final = 0.5
"""Real seconds after which a process is looked at again."""
COMPUTES: Final = 0.02
"""The share of a processor from which on a process computes, and does not wait."""
POLLS: Final = 0.25
"""The share of the time that counts while one computes now and then, and waits: it may look for something for ever."""
_JOIN_SECONDS: Final = 0.01
_select, _poll = select.select, getattr(select, "poll", None)  # noqa: TID251 - for where there is nothing else
"""As they were at first: gevent and its like put their own in their place, and eventlet takes `poll` away."""


def _now() -> float:
    return time.monotonic()  # noqa: TID251 - this module owns real waiting


class Deadline:
    """A point in real time after which waiting is given up."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = _now() + seconds

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return _now() >= self._end

    @property
    def left(self) -> float:
        """Seconds until then, never below 0."""
        return max(0.0, self._end - _now())

    def pause(self, seconds: float = 0.002) -> None:
        """Give the processor away for `seconds`; `select` rather than `sleep`, which tests like to patch."""
        _select([], [], [], seconds)


class WorkLimit:
    """What another process may spend, with all that it has started, before it counts as hanging.

    On a busy machine it waits for its turn to run. So what counts is what they compute; and the
    time that passes only while none of them computes, nor could. Where the system does not tell
    that, all the time counts.
    """

    def __init__(self, process: int | str, seconds: float) -> None:
        """Let `process` be its number, or a thread of this process as `self/task/NUMBER`."""
        self._process, self._left = process, seconds
        self._pause = min(LOOK_SECONDS, seconds / 8)
        self._used, _ = used_by(process)
        self._looked = _now()

    @property
    def passed(self) -> bool:
        """Whether it is spent. Looks at the processes a few times a second, however often it is asked."""
        passed = _now() - self._looked
        if passed >= self._pause:
            self._looked += passed
            before, (self._used, at_work) = self._used, used_by(self._process)
            computed = self._used - before
            # Who comes so late to look was kept from it: by a busy machine, or by one that slept.
            idle = 0.0 if at_work else min(passed, 2 * LOOK_SECONDS)
            self._left -= idle if computed <= COMPUTES * passed else max(computed, idle * POLLS)
        return self._left <= 0


def still_running(threads: Iterable[threading.Thread], *, seconds: float) -> list[threading.Thread]:
    """Wait until threads of this process have ended, side by side, each for what it may spend; return the others."""
    limits = [(thread, WorkLimit(f"self/task/{thread.native_id}", seconds)) for thread in threads]
    for thread, limit in limits:
        while thread.is_alive() and not limit.passed:
            thread.join(_JOIN_SECONDS)
    return [thread for thread, _ in limits if thread.is_alive()]


def used_by(process: int | str) -> tuple[float, bool]:
    """Return the seconds of a processor that a process and all that it has started have used, as Linux tells; else 0.

    Then, whether one of their threads runs, waits for its turn to run or for what the machine
    fetches from a disk.
    """
    used, at_work, here = 0.0, False, Path(f"/proc/{process}")
    with suppress(OSError):  # It has ended.
        told = _stat(here)
        used, at_work = sum(map(int, told[11:15])) / os.sysconf("SC_CLK_TCK"), told[0] in "RD"
        for task in here.glob("task/*"):
            at_work |= _stat(task)[0] in "RD"
            for child in (task / "children").read_text().split():
                of_child, busy = used_by(int(child))
                used, at_work = used + of_child, at_work or busy
    return used, at_work


def _stat(process: Path) -> list[str]:
    """Return the fields of a process or thread that follow its name in Linux, its state first."""
    return (process / "stat").read_text(errors="replace").rpartition(") ")[2].split()


def ready(reading: Iterable[int], writing: Iterable[int] = (), *, seconds: float | None) -> tuple[list[int], list[int]]:
    """Wait until a descriptor can be read, or written; return which, in the order given. None: for as long as it takes.

    As for `select`, one whose other end is gone is ready; but its number may be 1024 and above,
    which `select` refuses.
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
