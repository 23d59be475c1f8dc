"""Ctrl-C while processors run: a worker records whatever they raise, so the key press is remembered beside it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from types import FrameType


class Interrupts:
    """Remembers a Ctrl-C that somebody else swallowed."""

    def __init__(self) -> None:
        self._pressed = False

    @contextlib.contextmanager
    def watched(self) -> Generator[None]:
        """Watch inside the block, in the main thread, unless somebody else handles the signal already."""
        mine = threading.current_thread() is threading.main_thread()
        if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt where the key was pressed."""
        if self._pressed:
            self._pressed = False
            raise KeyboardInterrupt

    def _press(self, number: int, frame: FrameType | None) -> None:
        self._pressed = True
        raise KeyboardInterrupt
