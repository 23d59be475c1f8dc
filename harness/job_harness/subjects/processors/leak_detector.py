"""What processors do past the harness while they run: threads and child processes of their own, the network.

It is named in a section of the report, and what is still there at the end is a leak. Nothing is
forbidden.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from asyncio import selector_events
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, NamedTuple

from job_harness.core.own_code import FOLDERS
from job_harness.core.sim.lifetime import LIFETIME, Lifetime, WatchedTask
from job_harness.core.sim.loop import VirtualLoop, describe_task
from job_harness.core.sim.pools import ENDED
from job_harness.core.sim.user_code import is_others
from job_harness.errors import Hung
from job_harness.subjects.processors.delivery import current, delivery_of
from job_harness.worlds.patience import still_running
from job_harness.worlds.peers.peer import end_tree
from job_harness.worlds.postgres.host import PREFIX, SOCKET_NAME

GRACE_SECONDS = 0.5
"""Seconds in which a thread has to end that has done its work; those in which it cannot run do not count."""
TURNS = 3
"""Of the loop, within which a task that was told to stop ends."""
_POOLS = ("concurrent/futures/thread.py", "concurrent/futures/process.py", "multiprocessing/queues.py")
"""Their threads wait for work, and what is given to them is counted (`sim.machine_calls`)."""
_HANDOFF = "processors/thread_handoff.py"
_DEFAULT_POOL = "asyncio_"
_SOCKETS: Any = vars(selector_events)["_SelectorSocketTransport"]
_leave = os._exit
_WAITS_FOR_CHILD = "asyncio-waitpid-"


def watch_outliving(loop: VirtualLoop, life: Lifetime, told: Callable[[asyncio.Task[Any]], None]) -> None:
    """Tell of tasks of the user's own that are at work when their delivery has just ended, even if they end soon.

    A worker that dies then takes them with it, and the job is done. One that was told to stop needs
    a few turns of the loop to end; one that has not even begun is awaited nowhere. Nor is one that
    has had a side effect, and at which nothing ever looked: that it ended in time was a quick
    reply's doing.
    """
    tasks = [task for task in life.tasks if not task.cancelling() and is_own(task)]
    if (delivery := delivery_of(life)) is not None:
        for acted in delivery.acted:
            if acted.done() and not acted.awaited:
                told(acted)

    def look(turns: int) -> None:
        if turns:
            loop.call_soon(look, turns - 1, context=contextvars.Context())
            return
        for task in tasks:
            if task in begun and not (task.done() or task.cancelling() or life.over):
                told(task)

    begun = {task for task in tasks if inspect.getcoroutinestate(task.get_coro()) != inspect.CORO_CREATED}  # type: ignore[arg-type]
    for task in tasks:
        if task not in begun:
            told(task)
    if begun:
        look(TURNS)


def describe_outliving(task: asyncio.Task[Any], whose: str) -> str:
    """Say what was wrong with a task of which `watch_outliving` told."""
    if task.done():
        name = getattr(task.get_coro(), "__qualname__", "its code")
        return f"nothing waits for the task {task.get_name()!r} of {whose}, which has a side effect: {name}"
    return f"the task {task.get_name()!r} of {whose} outlived its processor: {describe_task(task)}"


def is_own(task: asyncio.Task[Any]) -> bool:
    """Whether a task is the user's: by its code, or by who made it of a function that a library has wrapped.

    What a library runs for itself, as a pool does that a processor has opened and a module keeps,
    is no leak of theirs.
    """
    code = getattr(getattr(task.get_coro(), "cr_code", None), "co_filename", "<")
    return not is_others(code) or (isinstance(task, WatchedTask) and not is_others(task.made_in))


OF_TEST = "Before the first job runs, close what the test has opened: await engine.dispose(), or await pool.close()."
OF_EARLIER_TEST = (
    "Open it anew in each test: by the fixture job_on_start, or where it is first used, with a fixture that sets the "
    "variable back in which it is kept."
)


class LeakDetector:
    """Names what jobs left behind, and notes what went past the harness, such as a connection to the network."""

    def __init__(self, loop: VirtualLoop, *, inside: Callable[[], bool] = lambda: current() is not None) -> None:
        """Let `inside` say whether the calling code belongs to a processor."""
        self._loop = loop
        self._inside = inside
        self.notes: dict[str, None] = {}
        """What was noticed, each once, in order."""
        self._threads: list[_Thread] = []
        self._children: dict[int, _Child] = {}
        self._children_before = {child.pid for child in multiprocessing.active_children()}

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Watch inside the block, in code that belongs to a job.

        What such code forks ends here, should it ever come to the end of the block: it is no second
        test run.
        """
        start, connect, popen = threading.Thread.start, socket.socket.connect, subprocess.Popen.__init__
        fork, owner, own_connect = os.fork, os.getpid(), vars(socket.socket).get("connect")
        threading.Thread.start = self._started_by(start)  # type: ignore[method-assign]
        socket.socket.connect = self._connecting_by(connect)  # type: ignore[method-assign]
        subprocess.Popen.__init__ = self._spawned_by(popen)  # type: ignore[method-assign]
        os.fork = self._forked_by(fork)
        write, _SOCKETS.write = _SOCKETS.write, self._written_by(_SOCKETS.write)
        try:
            yield
        finally:
            if os.getpid() != owner:
                _leave(0)
            os.fork, _SOCKETS.write = fork, write
            threading.Thread.start = start  # type: ignore[method-assign]
            if own_connect is None:
                del socket.socket.connect  # It is inherited: what stood there was the base's.
            else:  # A test has put something in its place, such as a guard against the network.
                socket.socket.connect = own_connect  # type: ignore[method-assign]
            subprocess.Popen.__init__ = popen  # type: ignore[method-assign]

    def note(self, text: str) -> None:
        """Remember something, with the line of the user's code that did it."""
        self.notes[f"{text} at {user_line(sys._getframe(1))}"] = None

    def left_behind(self) -> list[str]:
        """Name the threads and child processes that are still there, after a short grace.

        What a worker that was killed had running is nobody's mistake.
        """
        found: list[str] = []
        ending: dict[threading.Thread, _Thread] = {}
        for started in self._threads:
            thread, guests = started.reference(), self._loop.guests
            if thread is None or not started.left:
                continue
            if started.of_library and guests is not None and guests.waits_for_work(thread):
                self.notes[f"thread: {started}, where it waits for work"] = None  # A pool that outlives its jobs.
                continue
            ending[thread] = started
        running = [ending[thread] for thread in still_running(ending, seconds=GRACE_SECONDS)]
        found += [f"the thread {started}" for started in running if started.left]
        for spawned in multiprocessing.active_children():  # Not by os.fork, where that is how it starts them.
            if spawned.pid is not None and spawned.pid not in self._children_before | self._children.keys():
                self._children[spawned.pid] = _Child(spawned.pid, f"({spawned.name}) still runs", None, None)
        return found + [f"the child process {child}" for child in self._children.values() if child.left]

    def end_children(self) -> None:
        """Kill the child processes that are still there, and whatever those have started."""
        for child in self._children.values():
            child.end()
        self._children.clear()

    def _started_by(self, real: Any) -> Any:
        def start(thread: threading.Thread) -> None:
            if not self._inside():
                real(thread)
                return
            self._thread_started(thread)
            contextvars.Context().run(real, thread)  # To wait until it has begun is no wait of the processor's.

        return start

    def _thread_started(self, thread: threading.Thread) -> None:
        if thread.name.startswith(_WAITS_FOR_CHILD):
            self._hold_time(thread)
            return
        caller = sys._getframe(2).f_code.co_filename.replace("\\", "/")
        if caller.endswith(_HANDOFF):
            return  # The harness started it, to run the processor.
        lasts = (delivery := current()) is not None and delivery.lasts  # It is of the process, and ends with it.
        if caller.endswith(_POOLS):
            guests = self._loop.guests
            of_process = lasts or (guests is not None and guests.is_process)  # The pool may be the process's.
            if not (of_process or thread.name.startswith(_DEFAULT_POOL)):
                self._threads.append(_Thread(weakref.ref(thread), LIFETIME.get(), user_line(sys._getframe(2))))
            return
        life, guests = LIFETIME.get(), self._loop.guests
        started = _Thread(weakref.ref(thread), life, user_line(sys._getframe(2)))
        if life is not None and guests is not None:  # What it declares belongs to the job that started it.
            guests.adopt(thread, life, outlives=started.of_library)
        if lasts:
            return
        self._threads.append(started)
        self.note(f"thread: {thread.name!r}, whose order among others no seed determines,")

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
            if self._inside():
                # A PostgreSQL that the harness has started is under control: its drivers are watched.
                ours = isinstance(address, str) and f"/{PREFIX}" in address and address.endswith(SOCKET_NAME)
                if not ours:
                    self.note(f"network: a connection to {_shorten(address)}")
                if self._loop.is_in_this_thread() and one.gettimeout() != 0:
                    self.note("blocking: a socket that waits in a coroutine,")
            return real(one, address)

        return connect

    def _written_by(self, real: Any) -> Any:
        def write(transport: Any, data: Any) -> None:
            if transport._loop is not self._loop and self._inside() and self._loop.is_in_this_thread():
                ended = transport._loop in ENDED
                error = Hung(
                    "a processor uses a connection that another event loop has opened: that of "
                    + ("an earlier test" if ended else "the test"),
                    hint="Processors have the harness's own loop, and a connection belongs to one. "
                    + (OF_EARLIER_TEST if ended else OF_TEST),
                )
                self._loop.break_with(
                    error
                )  # A retry would hide it, and what two threads read at once crashes drivers.
                raise error
            real(transport, data)

        return write

    def _spawned_by(self, real: Any) -> Any:
        def spawn(child: subprocess.Popen[Any], *arguments: Any, **options: Any) -> None:
            inside, place = self._inside(), user_line(sys._getframe(1))
            words = _shorten(arguments[0] if arguments else options.get("args"))
            if inside:
                self.note(f"child process: {words}")
            real(child, *arguments, **options)
            if inside:
                self._children[child.pid] = _Child(
                    child.pid, f"({words}) still runs, started at {place}", LIFETIME.get(), child
                )

        return spawn

    def _forked_by(self, real: Any) -> Any:
        def fork() -> int:
            pid: int = real()
            if not pid and self._inside():
                self._loop.bounds.leave_when_back()
                self._leave_machine()
            elif self._inside():
                self.note("child process: a fork, whose time is the machine's,")
                self._children[pid] = _Child(
                    pid, f"still runs, forked at {user_line(sys._getframe(1))}", LIFETIME.get(), None
                )
            return pid

        return fork

    def _leave_machine(self) -> None:
        """Let this process, which has no loop that moves its time, wait and read clocks as any other."""
        LIFETIME.set(None)
        if self._loop.guests is not None:
            self._loop.guests.over = True


class _Thread(NamedTuple):
    """A thread that a processor has started."""

    reference: weakref.ref[threading.Thread]
    life: Lifetime | None
    place: str

    def __str__(self) -> str:
        thread = self.reference()
        return f"{'' if thread is None else thread.name!r} still runs, started at {self.place}"

    @property
    def of_library(self) -> bool:
        """Whether a library started it, and no code of the user's own."""
        return "site-packages" in self.place

    @property
    def left(self) -> bool:
        """Whether it is still there although its delivery has ended, and its worker is neither dead nor paused.

        A delivery may be at work at the end, if its job was delivered twice and the other one is
        done.
        """
        thread, delivery = self.reference(), delivery_of(self.life)
        at_work = delivery is not None and not (delivery.ended or delivery.lasts)
        still = at_work or (self.life is not None and self.life.still)
        return thread is not None and thread.is_alive() and not still


class _Child:
    """A process that a processor has started."""

    __slots__ = ("_life", "_pid", "_popen", "_words")

    def __init__(self, pid: int, words: str, life: Lifetime | None, popen: subprocess.Popen[Any] | None) -> None:
        self._pid = pid
        self._words = words
        self._life = life
        self._popen = None if popen is None else weakref.ref(popen)

    def __str__(self) -> str:
        return f"{self._pid} {self._words}"

    @property
    def runs(self) -> bool:
        """Whether it is still there."""
        popen = None if self._popen is None else self._popen()
        if popen is not None:
            return popen.poll() is None
        with contextlib.suppress(ChildProcessError):  # It has been waited for already.
            return os.waitpid(self._pid, os.WNOHANG)[0] == 0
        return False

    @property
    def left(self) -> bool:
        """Whether it is still there, and its worker is not dead."""
        return self.runs and not (self._life is not None and self._life.over)

    def end(self) -> None:
        """Kill it, with whatever it has started."""
        if self.runs:
            end_tree(self._pid)
            self.runs  # noqa: B018 - it is reaped by looking


class Surroundings:
    """What processors share with the harness and may change: the working directory, standard streams, signals."""

    def __init__(self) -> None:
        self._folder = os.getcwd()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._streams = {number: _copied(number) for number in (0, 1, 2)}
        here = threading.current_thread() is threading.main_thread()
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS} if here else {}

    def restore(self) -> list[str]:
        """Set all of it back; name the standard streams that were closed. Harmless when repeated."""
        closed: list[str] = []
        for number, copy in self._streams.items():
            if copy is None:
                continue
            if not _is_open(number):
                closed.append(f"{_STREAMS[number]} was closed")
                os.dup2(copy, number)
            os.close(copy)
        self._streams.clear()
        with contextlib.suppress(OSError):  # The folder may be gone.
            os.chdir(self._folder)
        os.umask(self._umask)
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)
        return closed


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STREAMS = ("standard input", "standard output", "standard error")


def _copied(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:
        return None


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else " ".join(map(str, value)) if isinstance(value, list) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def user_line(frame: FrameType | None) -> str:
    """Name the nearest line of the user's, else the nearest of a library that is not ours."""
    nearest = ""
    while frame is not None:
        name = frame.f_code.co_filename
        if not is_others(name):
            return f"{name}:{frame.f_lineno}"
        if not nearest and "site-packages" in name and not name.startswith(FOLDERS):
            nearest = f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return nearest or "an unknown place"
