"""Plain code that can stand at a gate: it runs on a thread that is handed control and gives it back.

At any time one thread runs and all others wait for it, so that whoever reads the code of a verb may read it as if there
were no threads. Knows the kernel's requests; knows no database.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from harness.sim.request import Request

T = TypeVar("T")


class Abandoned(BaseException):
    """Raised where plain code stands when nobody will ever resume it."""


class Fiber:
    """One piece of plain code on its way."""

    def __init__(self, work: Callable[[], Any], *, actor: str) -> None:
        """Prepare to run `work` on behalf of `actor`."""
        self.actor = actor
        self.lag = 0
        """How far the database's clock is behind the store's for this code, in microseconds."""
        self.request: Request | None = None
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._mine = threading.Semaphore(0)
        self._theirs = threading.Semaphore(0)
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=f"verb of {actor}", daemon=True)

    def go(self) -> None:
        """Let the code run to its next gate or its end."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._mine.release()
        self._theirs.acquire()

    def suspend(self, request: Request) -> None:
        """Stand at a gate: called by the code itself, on its own thread."""
        if self._abandoned:
            raise Abandoned
        self.request = request
        self._theirs.release()
        self._mine.acquire()
        if self._abandoned:
            raise Abandoned

    def abandon(self) -> None:
        """End the code where it stands; its `finally` blocks run, and stand at no gate."""
        self._abandoned = True
        if self._thread.ident is not None and not self.done:
            self._mine.release()
            self._thread.join()

    def _run(self) -> None:
        try:
            self.value = self._work()
        except BaseException as error:  # noqa: BLE001 - whoever waits for the code is told
            self.error = error
        self.done = True
        self._theirs.release()


class Fibers:
    """Runs verbs of plain code as the kernel runs generators; `current` is whose turn it is."""

    def __init__(self) -> None:
        self._current: Fiber | None = None

    @property
    def current(self) -> Fiber | None:
        """The code that runs now; None: the harness's own."""
        return self._current

    def run(self, actor: str, work: Callable[[], T]) -> Generator[Request, Any, T]:
        """Run plain code; whatever it awaits by `wait` is a gate."""
        fiber = Fiber(work, actor=actor)
        try:
            while True:
                self._current = fiber
                try:
                    fiber.go()
                finally:
                    self._current = None
                if fiber.done:
                    break
                assert fiber.request is not None
                yield fiber.request
        finally:
            fiber.abandon()
        if fiber.error is not None:
            raise fiber.error
        value: T = fiber.value
        return value

    def wait(self, work: Awaitable[T]) -> T:
        """Drive a coroutine from within plain code: each of its requests is a gate of that code."""
        fiber = self._current
        assert fiber is not None, "only a verb that is run can wait"
        steps = work.__await__()
        try:
            while True:
                fiber.suspend(next(steps))
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            steps.close()
