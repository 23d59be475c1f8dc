"""Rings on a grid of time when something is due, and skips the ticks at which nothing is."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

from harness.model.duration import SECOND, Duration, Instant


class Pacer:
    """An endless asynchronous iterator that yields once for each tick with something to do."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, interval: Duration, due: Callable[[], Instant | None]
    ) -> None:
        """Ask `due` when there is next something to do, None for never."""
        self._loop = loop
        self._interval = interval
        self._due = due
        self._rung = asyncio.Event()
        self._handle: asyncio.TimerHandle | None = None
        self._tick: Instant | None = None
        self._last: Instant = -1
        self._context = contextvars.Context()
        """Whoever made something due may die; the grid of time goes on."""

    def __aiter__(self) -> Pacer:
        return self

    async def __anext__(self) -> None:
        await self._rung.wait()
        self._rung.clear()
        self.refresh()

    def refresh(self) -> None:
        """Look again when something is due."""
        due = self._due()
        tick = None if due is None else self._tick_of(due)
        if tick == self._tick:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._tick = tick
        self._handle = None if tick is None else self._loop.call_at(tick / SECOND, self.ring, context=self._context)

    def ring(self) -> None:
        """Yield now, whatever the grid says."""
        self._last = now_of(self._loop)
        self._tick = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._rung.set()

    def _tick_of(self, due: Instant) -> Instant:
        after = max(due, now_of(self._loop), self._last + 1)
        return -(-after // self._interval) * self._interval


def now_of(loop: asyncio.AbstractEventLoop) -> Instant:
    """Read a virtual loop's time as an instant."""
    return round(loop.time() * SECOND)
