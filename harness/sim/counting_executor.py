"""An executor whose threads hold virtual time while they work."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
from collections.abc import Callable
from typing import Any, Protocol


class Clockwork(Protocol):
    """The loop whose time is held."""

    def hold(self, name: str) -> object: ...

    def let_go(self, token: object) -> None: ...

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle: ...


class CountingExecutor:
    """Submits to another executor, and holds time until both the thread and the loop's future are done."""

    def __init__(self, loop: Clockwork, executor: Any, name: str) -> None:
        self._loop = loop
        self._executor = executor
        self._token = loop.hold(f"{name} on a thread")
        self._work: concurrent.futures.Future[Any] | None = None
        self.answer: asyncio.Future[Any] | None = None

    def submit(self, func: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
        """Start work; the loop's time stands still until it is done."""
        try:
            if self._executor is None:
                raise RuntimeError("Executor shutdown has been called")
            self._work = self._executor.submit(func, *args)
        except BaseException:
            self._loop.let_go(self._token)
            raise
        self._work.add_done_callback(self._work_ended)
        return self._work

    def _work_ended(self, _: concurrent.futures.Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop was closed in between.
            self._loop.call_soon_threadsafe(lambda: self.check(self.answer), context=contextvars.Context())

    def check(self, answer: asyncio.Future[Any] | None) -> None:
        """Let time go once the thread is done and the loop knows."""
        if self._work is not None and self._work.done() and (answer is None or answer.done()):
            self._loop.let_go(self._token)
