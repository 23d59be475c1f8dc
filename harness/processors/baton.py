"""Plain processors on threads that are handed control one at a time: while one works, the loop waits for it.

`time.sleep` gives control back and costs virtual time; a name bound by `from time import sleep` before is not seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, SupportsIndex

from harness.sim.lifetime import LIFETIME, Severed
from harness.sim.loop import VirtualLoop

BLOCKED_AFTER_SECONDS = 30.0
"""Real seconds after which a plain processor counts as hanging, and virtual time goes on without it."""


class Baton:
    """Hands control from the loop to one thread and waits until it comes back."""

    def __init__(self, loop: VirtualLoop, *, blocked_after: float = BLOCKED_AFTER_SECONDS) -> None:
        self._loop = loop
        self._blocked_after = blocked_after
        self._turns: dict[int, _Turn] = {}
        self._holder: int | None = None
        self._closed = False
        self.on_block: Callable[[float], None] = lambda seconds: None
        """Told about a `time.sleep` on the loop's own thread, which in real life lets no task act."""

    def __call__(self, function: Callable[[], Any], *, name: str) -> asyncio.Future[Any]:
        """Run the function on a thread of its own. It never raises; the future may be cancelled meanwhile."""
        turn = _Turn(self._loop.create_future())
        life = LIFETIME.get()

        def run() -> None:
            self._turns[threading.get_ident()] = turn
            if life is not None:
                life.employ(threading.get_ident())
            turn.go.wait()
            try:
                answer = function()
            except Severed:
                return
            finally:
                self._turns.pop(threading.get_ident(), None)
                if life is not None:
                    life.employ(threading.get_ident(), ends=True)
            with turn.lock:
                turn.answer, turn.ended = answer, True
                late = turn.blocked
            turn.stopped.set()
            if late:
                with contextlib.suppress(RuntimeError):  # The loop was closed in between.
                    self._loop.call_soon_threadsafe(turn.settle)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        assert thread.ident is not None
        turn.ident = thread.ident
        self._give(turn)
        return turn.future

    def holds(self) -> bool:
        """Whether the calling thread has control: the loop waits for it."""
        return self._holder == threading.get_ident()

    def hanging(self) -> list[str]:
        """Say where the threads are that gave no sign of life."""
        frames = sys._current_frames()
        found = [frames[ident] for ident, turn in self._turns.items() if turn.blocked and ident in frames]
        return [f"{frame.f_code.co_name} at {frame.f_code.co_filename}:{frame.f_lineno}" for frame in found]

    def close(self) -> None:
        """End the threads that sleep. One that hangs elsewhere cannot be ended; it does not keep the process."""
        self._closed = True
        for turn in list(self._turns.values()):
            turn.go.set()

    @contextlib.contextmanager
    def sleeping_virtually(self) -> Generator[None]:
        """Let `time.sleep` in processors cost virtual time inside the block; other threads sleep as ever."""
        real = time.sleep  # noqa: TID251 - the one place that owns a processor's sleep

        def sleep(seconds: float | SupportsIndex, /) -> None:
            turn = self._turns.get(threading.get_ident())
            if turn is None and self._loop.is_in_this_thread() and LIFETIME.get() is not None:
                self._block(float(seconds))
            elif turn is None or turn.blocked:
                real(seconds)
            else:
                self._sleep(turn, float(seconds))

        time.sleep = sleep  # noqa: TID251
        try:
            yield
        finally:
            time.sleep = real  # noqa: TID251

    def _give(self, turn: _Turn) -> None:
        if self._closed:
            return
        before, self._holder = self._holder, turn.ident
        turn.stopped.clear()
        turn.go.set()
        back = turn.stopped.wait(self._blocked_after)
        self._holder = before
        with turn.lock:
            if not back and not turn.ended:
                turn.blocked = True
                return
        if turn.ended:
            turn.settle()
        else:
            self._loop.call_later(turn.seconds, self._give, turn)

    def _sleep(self, turn: _Turn, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError("sleep length must be non-negative")
        life = LIFETIME.get()
        if life is not None:
            life.moment()
        turn.seconds = seconds
        turn.go.clear()
        turn.stopped.set()
        turn.go.wait()
        if self._closed or (life is not None and life.over):
            raise Severed

    def _block(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError("sleep length must be non-negative")
        self.on_block(seconds)
        self._loop.jump(seconds)


class _Turn:
    """One function on its thread."""

    __slots__ = ("answer", "blocked", "ended", "future", "go", "ident", "lock", "seconds", "stopped")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.ident = 0
        self.lock = threading.Lock()
        self.go = threading.Event()
        self.stopped = threading.Event()
        """Set whenever the thread has given control back: it sleeps or has ended."""
        self.seconds = 0.0
        self.ended = False
        self.blocked = False
        self.answer: Any = None

    def settle(self) -> None:
        """Give the answer to the code that still waits for it."""
        if not self.future.done():
            self.future.set_result(self.answer)
