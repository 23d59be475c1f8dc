"""What processors do past the harness while they run: threads and child processes of their own, the network.

It is named in a section of the report, and what is still there at the end is a leak. Nothing is forbidden.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import socket
import subprocess
import sys
import sysconfig
import threading
import weakref
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

from harness.processors.delivery import current
from harness.sim.lifetime import LIFETIME
from harness.sim.loop import VirtualLoop

GRACE_SECONDS = 0.05
"""Real seconds that a thread is given to end before it counts as left behind."""
_REFERENCE = str(Path(__file__).resolve().parents[2] / "reference_impl")
_OWN = str(Path(__file__).resolve().parents[1])
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_POOL = "concurrent/futures/thread.py"
_BATON = "processors/baton.py"
_DEFAULT_POOL = "asyncio_"
_WAITS_FOR_CHILD = "asyncio-waitpid-"


class Noticed:
    """Watches while the loop is driven."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.notes: dict[str, None] = {}
        """What was noticed, each once, in order."""
        self._threads: list[weakref.ref[threading.Thread]] = []
        self._children: list[weakref.ref[subprocess.Popen[Any]]] = []
        self._children_before = {child.pid for child in multiprocessing.active_children()}

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Watch inside the block, in code that belongs to a job."""
        start, connect, popen = threading.Thread.start, socket.socket.connect, subprocess.Popen.__init__
        threading.Thread.start = self._started_by(start)  # type: ignore[method-assign]
        socket.socket.connect = self._connecting_by(connect)  # type: ignore[method-assign]
        subprocess.Popen.__init__ = self._spawned_by(popen)  # type: ignore[method-assign]
        try:
            yield
        finally:
            threading.Thread.start = start  # type: ignore[method-assign]
            del socket.socket.connect  # It is inherited: what stood there was the base's.
            subprocess.Popen.__init__ = popen  # type: ignore[method-assign]

    def note(self, text: str) -> None:
        """Remember something, with the line of the user's code that did it."""
        self.notes[f"{text} at {_place(sys._getframe(1))}"] = None

    def left_behind(self) -> list[str]:
        """Name the threads and child processes that are still there, after a short grace."""
        alive = [thread for reference in self._threads if (thread := reference()) is not None and thread.is_alive()]
        for number, thread in enumerate(alive):
            thread.join(0 if number else GRACE_SECONDS)
        found = [f"the thread {thread.name!r} still runs" for thread in alive if thread.is_alive()]
        for popen in self._children:
            child = popen()
            if child is not None and child.poll() is None:
                found.append(f"the child process {child.pid} ({_shown(child.args)}) still runs")
        new = [child for child in multiprocessing.active_children() if child.pid not in self._children_before]
        return found + [f"the child process {child.pid} ({child.name}) still runs" for child in new]

    def _started_by(self, real: Any) -> Any:
        def start(thread: threading.Thread) -> None:
            if current() is not None:
                self._thread_started(thread)
            real(thread)

        return start

    def _thread_started(self, thread: threading.Thread) -> None:
        if thread.name.startswith(_WAITS_FOR_CHILD):
            self._hold_time(thread)
            return
        caller = sys._getframe(2).f_code.co_filename.replace("\\", "/")
        if caller.endswith(_BATON):
            return  # The harness started it, to run the processor.
        if caller.endswith(_POOL):
            if not thread.name.startswith(_DEFAULT_POOL):
                self._threads.append(weakref.ref(thread))
            return
        self._threads.append(weakref.ref(thread))
        life = LIFETIME.get()
        if life is not None:  # What it declares belongs to the job that started it.
            thread.run = functools.partial(life.context().run, thread.run)  # type: ignore[method-assign]
        self.note(f"thread: {thread.name!r}, for which virtual time does not wait,")

    def _hold_time(self, thread: threading.Thread) -> None:
        token, run = self._loop.hold(f"{thread.name} waiting for a child process"), thread.run

        def held() -> None:
            try:
                run()
            finally:
                with contextlib.suppress(RuntimeError):  # The loop was closed in between.
                    self._loop.call_soon_threadsafe(self._loop.let_go, token)

        thread.run = held  # type: ignore[method-assign]

    def _connecting_by(self, real: Any) -> Any:
        def connect(one: socket.socket, address: Any) -> Any:
            if current() is not None:
                self.note(f"network: a connection to {_shown(address)}")
                if self._loop.is_in_this_thread() and one.gettimeout() != 0:
                    self.note("blocking: a socket that waits in a coroutine,")
            return real(one, address)

        return connect

    def _spawned_by(self, real: Any) -> Any:
        def spawn(child: subprocess.Popen[Any], *arguments: Any, **options: Any) -> None:
            if current() is not None:
                self._children.append(weakref.ref(child))
                self.note(f"child process: {_shown(arguments[0] if arguments else options.get('args'))}")
            real(child, *arguments, **options)

        return spawn


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else " ".join(map(str, value)) if isinstance(value, list) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _place(frame: FrameType | None) -> str:
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_OWN, *_STANDARD)) or "site-packages" in name:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown place"


def user_function(frame: FrameType | None) -> str | None:
    """Name the nearest function of the user's own, as `file.py:function`: a gate keeps its name when a library changes.

    None where only libraries and the harness are on the stack.
    """
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_OWN, *_STANDARD, _REFERENCE, "<")) and "site-packages" not in name:
            return f"{Path(name).name}:{frame.f_code.co_name}"
        frame = frame.f_back
    return None
