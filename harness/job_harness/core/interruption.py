"""When a signal ends a command: between two runs, never in the middle of a statement that is used again.

Ctrl-C and SIGTERM are noted at once and raised where nothing is under way, at a `stopping_point`: code that opens a run
comes to one first. Where none comes within `GRACE_SECONDS`, or a second signal arrives, the exception is raised where
the program stands; what was at work then must not be used again, which is what `between_runs` tells. What has not ended
`LAST_SECONDS` after that ends with the process.

The handler is the only state, and the process's own table of handlers is where it is kept: under
pytest, or where other code handles signals, nothing here does anything. Must not know: commands,
runs, engines.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS: Final = 3.0
"""Real seconds that a run may go on after a signal."""
LAST_SECONDS: Final = 15.0
"""Real seconds for what is still printed, written and closed afterwards."""
ONE_STROKE_SECONDS: Final = 0.25
"""Ctrl-C comes from the terminal and from the parent, and `timeout` signals a process and its group: one request."""


class Terminated(BaseException):
    """SIGTERM arrived."""

    def __init__(self, *, between_runs: bool = False) -> None:
        super().__init__()
        self.between_runs = between_runs


class Interrupted(KeyboardInterrupt):
    """SIGINT arrived."""

    def __init__(self, *, between_runs: bool = False) -> None:
        super().__init__()
        self.between_runs = between_runs


INTERRUPTIONS: Final = (KeyboardInterrupt, Terminated)


def between_runs(error: BaseException) -> bool:
    """Whether nothing was under way when a signal was raised as this, so that what was at work can be used again."""
    return isinstance(error, (Interrupted, Terminated)) and error.between_runs


def exit_code_of(interruption: BaseException) -> int:
    """Return 143 for SIGTERM and 130 for Ctrl-C: what a shell calls a process that the signal ended."""
    return 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)


def stopping_point() -> None:
    """Raise `Interrupted` or `Terminated` here where a signal arrived; nothing is under way here."""
    handler = signal.getsignal(signal.SIGTERM)
    if isinstance(handler, Interruptions):
        handler.stopping_point()


def signal_arrived() -> bool:
    """Whether a signal asks for the end, raised or not yet; also told to a thread."""
    handler = signal.getsignal(signal.SIGTERM)
    return isinstance(handler, Interruptions) and handler.number is not None


@contextmanager
def raised_at_once() -> Iterator[None]:
    """Raise a signal wherever it arrives: nothing that is cut short in here is used again."""
    handler = signal.getsignal(signal.SIGTERM)
    if not isinstance(handler, Interruptions):
        yield
        return
    handler.stopping_point()
    before, handler.at_once = handler.at_once, True
    try:
        yield
    finally:
        handler.at_once = before


class Interruptions:
    """A context manager that handles SIGINT and SIGTERM while it is entered, in the main thread."""

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS, last_seconds: float = LAST_SECONDS) -> None:
        self.number: int | None = None
        """The signal that arrived first."""
        self.raised = False
        """Whether it was raised: it is raised once."""
        self.at_once = False
        self._grace_seconds = grace_seconds
        self._last_seconds = last_seconds
        self._arrived = 0.0
        self._timer: threading.Timer | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._timer is not None:
            self._timer.cancel()

    @property
    def exit_code(self) -> int | None:
        """128 and the signal's number; None where none arrived."""
        return None if self.number is None else 128 + self.number

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; raise it at the second, which may be the timer's."""
        now = time.monotonic()  # noqa: TID251 - a signal is in real time
        if self.number is None:
            self.number, self._arrived = number, now
            if self.at_once:
                self._raise(between_runs=False)
            main = threading.main_thread().ident or 0
            self._later(self._grace_seconds, lambda: signal.pthread_kill(main, number))
        elif not self.raised and now - self._arrived >= ONE_STROKE_SECONDS:
            self._raise(between_runs=False)

    def stopping_point(self) -> None:
        """Raise what was noted, once."""
        if self.number is not None and not self.raised and threading.current_thread() is threading.main_thread():
            self._raise(between_runs=True)

    def _raise(self, *, between_runs: bool) -> NoReturn:
        self.raised = True
        code = self.exit_code or 0
        self._later(self._last_seconds, lambda: os._exit(code))
        raise (Terminated if self.number == signal.SIGTERM else Interrupted)(between_runs=between_runs)

    def _later(self, seconds: float, work: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, work)
        self._timer.daemon = True
        self._timer.start()
