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

from harness.errors import Hung
from harness.sim.lifetime import LIFETIME, Severed
from harness.sim.loop import VirtualLoop, place_of
from harness.sim.watchdog import BUSY_SECONDS, ControlTaken, raise_in, real_seconds

BLOCKED_AFTER_SECONDS = BUSY_SECONDS
"""Real seconds after which a plain processor counts as hanging, and virtual time goes on without it."""
ENDING_SECONDS = 0.2
"""Real seconds in which the threads that are left have to end."""
FIRST_PATIENCE_SECONDS = 0.02


class Baton:
    """Hands control from the loop to one thread and waits until it comes back."""

    def __init__(self, loop: VirtualLoop, *, blocked_after: float = BLOCKED_AFTER_SECONDS) -> None:
        self._loop = loop
        self._blocked_after = blocked_after
        self._turns: dict[int, _Turn] = {}
        self._holder: int | None = None
        self._closed = False
        self.blocked: list[str] = []
        """Which threads gave no sign of life in time, and where each was."""
        self.on_block: Callable[[float], None] = lambda seconds: None
        """Told about a `time.sleep` on the loop's own thread, which in real life lets no task act."""

    def __call__(self, function: Callable[[], Any], *, name: str) -> asyncio.Future[Any]:
        """Run the function on a thread of its own. It never raises; the future may be cancelled meanwhile."""
        turn = _Turn(self._loop.create_future(), name)
        life = LIFETIME.get()

        def run() -> None:
            self._turns[threading.get_ident()] = turn
            if life is not None:
                life.employ(threading.get_ident())
            turn.go.wait()
            try:
                answer = function()
            except (Severed, ControlTaken):
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

        thread = turn.thread = threading.Thread(target=run, name=name, daemon=True)
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

    def close(self) -> list[str]:
        """End the threads that sleep, and interrupt those that compute; name what cannot be ended, such as a real wait.

        Such a thread does not keep the process from ending.
        """
        self._closed = True
        for turn in list(self._turns.values()):
            turn.go.set()
        left: list[str] = []
        end = time.monotonic() + ENDING_SECONDS  # noqa: TID251 - threads end in real time
        for turn in list(self._turns.values()):
            thread = turn.thread
            if thread is None or thread is threading.current_thread():
                continue
            thread.join(FIRST_PATIENCE_SECONDS)
            while thread.is_alive() and real_seconds() < end:
                raise_in(turn.ident)
                thread.join(FIRST_PATIENCE_SECONDS)
            if thread.is_alive():
                left.append(f"the thread {turn.name!r} cannot be ended: {self._place(turn)}")
        return left

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
        watched = self._loop.watched
        watched.waits += 1  # The thread has the bound of this class, and the loop waits for it.
        turn.go.set()
        back = turn.stopped.wait(self._blocked_after)
        watched.waits -= 1
        self._holder = before
        with turn.lock:
            if not back and not turn.ended:
                turn.blocked = True
                self.blocked.append(
                    f"{turn.name} has kept control for {self._blocked_after:g} s of real time, at {self._place(turn)}"
                )
                return
        if turn.ended:
            turn.settle()
        elif self._loop.too_many_rounds(*turn.round(self._loop.time())):
            self._loop.break_with(self._spins(turn))
        else:
            self._loop.call_later(turn.seconds, self._give, turn)

    def _spins(self, turn: _Turn) -> Hung:
        return Hung(
            f"{turn.name} went round {turn.rounds} times at {self._loop.time():g} virtual seconds without time moving: "
            + self._place(turn),
            hint="Wait for what it waits for, or let time pass: time.sleep(1).",
        )

    def _place(self, turn: _Turn) -> str:
        return place_of(sys._current_frames().get(turn.ident))

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

    __slots__ = (
        "answer",
        "at",
        "blocked",
        "ended",
        "future",
        "go",
        "ident",
        "lock",
        "name",
        "rounds",
        "seconds",
        "since",
        "stopped",
        "thread",
    )

    def __init__(self, future: asyncio.Future[Any], name: str) -> None:
        self.future = future
        self.name = name
        self.thread: threading.Thread | None = None
        self.at = -1.0
        self.since = 0.0
        self.rounds = 0
        """How often it gave control back and went on at this instant."""
        self.ident = 0
        self.lock = threading.Lock()
        self.go = threading.Event()
        self.stopped = threading.Event()
        """Set whenever the thread has given control back: it sleeps or has ended."""
        self.seconds = 0.0
        self.ended = False
        self.blocked = False
        self.answer: Any = None

    def round(self, now: float) -> tuple[int, float]:
        """Count its rounds at this instant; return them, and for how many real seconds they have gone on."""
        if now != self.at:
            self.rounds, self.at, self.since = 0, now, real_seconds()
            return 0, 0.0
        self.rounds += 1
        return self.rounds, real_seconds() - self.since

    def settle(self) -> None:
        """Give the answer to the code that still waits for it."""
        if not self.future.done():
            self.future.set_result(self.answer)
