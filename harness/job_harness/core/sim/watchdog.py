"""Watches loops that run other people's code: what keeps control for too long is named and interrupted.

A loop cannot judge code that never comes back to it. So one thread of the process looks, a few
times a second, whether each loop at work has gone on since; no other thread pays for that. What has
not come back within its bound is interrupted where it stands: by a signal in the main thread, which
also ends a wait in the system, by an exception that the interpreter raises in any other thread.
Code that swallows that is interrupted again and again; where nothing helps, the process ends with a
message and a code that is no verdict, for it would otherwise hang forever.

A busy machine may keep a thread from its processor for seconds. So what counts is what the thread
has computed; where it waits, what the processes have computed that this one has started, for it may
wait for one of them; and the time of the wall only while none of them computes. Must not know what
it watches.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from job_harness.errors import ExitCode

BUSY_SECONDS = 30.0
"""Real seconds for which a processor may keep control."""
GRACE_SECONDS = 5.0
"""Real seconds for which what was interrupted may go on before the process ends."""
_SIGNAL = getattr(signal, "SIGURG", None)
"""Ignored by default and otherwise unused; pytest-timeout has SIGALRM."""
_LOOKS = 8
"""Looks within one bound."""
_LONGEST_PAUSE = 0.25
_IDLE_LOOKS = 20
_COMPUTES = 0.02
"""The share of a processor from which on a thread computes, and does not wait."""
_DEBUGGERS = ("bdb", "pdb", "ipdb", "pudb", "IPython", "pydevd", "debugpy", "_pydevd_bundle")
real_seconds = time.monotonic  # noqa: TID251 - how long a processor keeps control is real time
_sleep = time.sleep  # noqa: TID251 - the machine's own, whatever stands there while processors run
_exit = os._exit
_cpu_clock_of = getattr(time, "pthread_getcpuclockid", None)
_read_clock: Callable[[int], float] = getattr(time, "clock_gettime", lambda _: 0.0)


class ControlTaken(BaseException):
    """Raised inside code that kept control for too long; no `except Exception` holds it up."""


def computed_by(native: int) -> float:
    """Return how many seconds a thread of this process has computed, by the number that Linux gave it."""
    return _read_clock(~native << 3 | 6)  # what pthread_getcpuclockid(3) makes of it


def children_computed() -> dict[int, float]:
    """Return, by process id, how many seconds each child of this process has computed. Linux alone tells that."""
    found = dict[int, float]()
    with contextlib.suppress(OSError):  # A thread, or a child, has ended.
        for listed in list(Path("/proc/self/task").glob("*/children")):
            for pid in map(int, listed.read_text().split()):
                found[pid] = _read_clock(~pid << 3 | 2)  # what clock_getcpuclockid(3) makes of a process id
    return found


class TimeSpent:
    """What a thread computes between two looks, or what it waits for; where none computes, all the time that passes."""

    def __init__(self, thread: int | None = None) -> None:
        """Look at a thread that lives, by its identity; without one, all the time counts."""
        self._clock = None if thread is None or _cpu_clock_of is None else _cpu_clock_of(thread)
        self._looked = self._cpu = 0.0
        self._children = dict[int, float]()

    def excuse(self, seconds: float) -> None:
        """Do not count a time in which this whole process stood still."""
        self._looked += seconds

    def look(self, now: float) -> float:
        """Return the seconds that it has spent since the last look."""
        cpu = 0.0 if self._clock is None else _read_clock(self._clock)
        passed, computed = now - self._looked, cpu - self._cpu
        self._looked, self._cpu = now, cpu
        if self._clock is None:
            return passed
        if computed > _COMPUTES * passed:
            return computed
        before, self._children = self._children, children_computed()
        by_them = sum(seconds - before.get(pid, 0.0) for pid, seconds in self._children.items())
        return min(by_them, passed) if by_them > _COMPUTES * passed else passed


class Watched:
    """Something whose code may keep control for at most `seconds`, a stretch of work at a time."""

    def __init__(self, seconds: float, *, signs: Callable[[], int], on_hung: Callable[[FrameType | None], str]) -> None:
        """Let `signs` return a number that changes whenever control comes back. Both are called by another thread.

        `on_hung` is told the frame that keeps control; it returns what is said should the process have to end.
        """
        self.seconds = seconds
        self.waits = 0
        """Above 0 while another thread has control, whose bound is another."""
        self.thread = 0
        self._signs = signs
        self._on_hung = on_hung
        self._time = TimeSpent()
        self._seen = -1
        self._spent = 0.0
        self._words = ""

    def hurry(self, seconds: float) -> None:
        """Allow less from here on, unless nothing is watched at all."""
        if self.seconds < math.inf:
            self.seconds = min(self.seconds, seconds)

    @contextlib.contextmanager
    def at_work(self) -> Generator[None]:
        """Watch the calling thread inside the block. Raises ControlTaken, or lets code that it runs be interrupted."""
        if self.thread or not 0 < self.seconds < math.inf:
            yield
            return
        self.thread = threading.get_ident()
        self._seen, self._words = -1, ""
        self._time = TimeSpent(self.thread)
        WATCHDOG.begin(self)
        try:
            yield
        finally:
            WATCHDOG.end(self)
            self.thread, self._time = 0, TimeSpent()

    @property
    def pause(self) -> float:
        """Real seconds until it is to be looked at again."""
        return min(_LONGEST_PAUSE, self.seconds / _LOOKS) if not self._words else 0.02

    @property
    def grace(self) -> float:
        """Real seconds for which it may go on once it was interrupted."""
        return min(GRACE_SECONDS, 5 * self.seconds)

    def excuse(self, seconds: float) -> None:
        """Do not count a time in which this whole process stood still."""
        self._time.excuse(seconds)

    def look(self, now: float) -> None:
        """Interrupt it where it is time to."""
        # Progress is control that came back, not time on the CPU: an endless loop is busy and a
        # deadlock is not, and both keep control. What is interrupted is interrupted again at each
        # look, because code may catch what is raised in it; only when that did not help for a
        # while does the process end, since a hang would be no verdict either. A breakpoint
        # keeps control for a reason.
        signs = self._signs()
        self._spent += self._time.look(now)
        if signs != self._seen or self.waits:
            self._seen, self._spent, self._words = signs, 0.0, ""
        elif self._words:
            if self._spent > self.grace:
                _end_process(self._words)
            self._interrupt()
        elif self._spent >= self.seconds:
            frame = sys._current_frames().get(self.thread)
            self._spent = 0.0
            if not in_debugger(frame):
                self._words = self._on_hung(frame)
                self._interrupt()

    @property
    def by_signal(self) -> bool:
        """Whether a signal interrupts it, and no exception that would have to be taken back."""
        return self.thread == threading.main_thread().ident and WATCHDOG.has_signal

    def _interrupt(self) -> None:
        if self.by_signal:
            signal.pthread_kill(self.thread, _SIGNAL)  # type: ignore[arg-type]  # there is one: `has_signal`
        else:
            raise_in(self.thread)


def raise_in(thread: int) -> None:
    """Let the interpreter raise ControlTaken in a thread as soon as that runs Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(ControlTaken))


def take_what_was_raised() -> None:
    """Let nothing that `raise_in` has on its way to this thread arrive later.

    It is raised and caught here rather than withdrawn: up to CPython 3.12 the interpreter keeps
    checking for it until some thread has caught one, and in 3.11 code under a tracer in Python
    (`sys.settrace`, as Hypothesis uses) hangs.
    """
    with contextlib.suppress(ControlTaken):
        raise_in(threading.get_ident())
        while True:
            pass


class Repeats:
    """How often something has gone on without rest, and since when, in real time."""

    __slots__ = ("count", "moment", "since")

    def __init__(self) -> None:
        self.count = 0
        self.moment = -1.0
        self.since = 0.0

    def begin(self, moment: float = 0.0) -> None:
        """Count anew, from this moment of virtual time."""
        self.count, self.moment, self.since = 0, moment, real_seconds()

    @property
    def seconds(self) -> float:
        """For how many real seconds it has gone on."""
        return real_seconds() - self.since


class Watchdog:
    """The thread that watches. It starts with the first work, ends soon after the last, and is no `threading.Thread`:

    code that lists or counts threads sees the ones of the processors only.
    """

    def __init__(self) -> None:
        self.say: Callable[[str], None] = _say
        """Tells the last words of the process."""
        self.kept: list[object] = []
        """What must never be finalized, for its own code would run then."""
        self.has_signal = False
        self._lock = threading.Lock()
        self._watched: dict[Watched, None] = {}
        self._owner = 0
        self._runs = False

    def begin(self, work: Watched) -> None:
        """Watch from here on."""
        if threading.current_thread() is threading.main_thread():
            self._take_signal()
        if self._owner != os.getpid():  # In a fork there is no thread, and its lock is never given back.
            self._lock, self._watched, self._owner, self._runs = threading.Lock(), {}, os.getpid(), False
        with self._lock:
            self._watched[work] = None
            if not self._runs:
                with contextlib.suppress(RuntimeError):  # No thread is left: the processor started very many.
                    _thread.start_new_thread(self._run, ())
                    self._runs = True

    def end(self, work: Watched) -> None:
        """Watch no more; what was on its way to interrupt it does not arrive later."""
        if self._owner != os.getpid():
            return
        with self._lock:
            self._watched.pop(work, None)
        if work._words and not work.by_signal:
            take_what_was_raised()

    @contextlib.contextmanager
    def patient(self) -> Generator[None]:
        """Watch nothing of the calling thread inside the block: it waits for another process, under another limit."""
        me = threading.get_ident()
        works = [work for work in list(self._watched) if work.thread == me]
        for work in works:
            work.waits += 1
        try:
            yield
        finally:
            for work in works:
                work.waits -= 1

    def _take_signal(self) -> None:
        if _SIGNAL is None or signal.getsignal(_SIGNAL) == self._interrupt:
            return
        signal.signal(_SIGNAL, self._interrupt)
        self.has_signal = True

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        main = threading.main_thread().ident
        if any(work.thread == main and work._words for work in list(self._watched)):
            raise ControlTaken

    def _look(self, now: float, late: float) -> None:
        """Look at all of it. No frame of this thread names any of it once that is done: it would keep a run alive."""
        for work in list(self._watched):
            work.excuse(late)
            work.look(now)

    def _run(self) -> None:
        idle, pause, last = 0, 0.0, real_seconds()
        while True:
            with self._lock:
                now = real_seconds()
                late = lateness(now - last, pause)
                self._look(now, late)
                last = now
                idle = 0 if self._watched else idle + 1
                if idle > _IDLE_LOOKS:
                    self._runs = False
                    return
                pause = min((work.pause for work in self._watched), default=_LONGEST_PAUSE)
            _sleep(pause)


def lateness(passed: float, pause: float) -> float:
    """Return for how many seconds this process stood still, where the watch slept for twice what it wanted.

    A laptop that sleeps and Ctrl-Z stop both. On a machine that has too much to do the watch has to
    wait for a processor, and what it watches, or the server that this waits for, does not fare
    better.
    """
    return passed - pause if passed > 2 * pause else 0.0


def in_debugger(frame: FrameType | None) -> bool:
    """Whether code may stand at a breakpoint: in a debugger's frame, or in any code while an editor's is attached."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _DEBUGGERS:
            return True
        frame = frame.f_back
    debugger = getattr(sys.modules.get("pydevd"), "get_global_debugger", None)
    return debugger is not None and debugger() is not None


def _say(words: str) -> None:
    os.write(2, f"\njob-harness: {words}\n".encode(errors="backslashreplace"))


def _end_process(words: str) -> NoReturn:
    with contextlib.suppress(BaseException):
        WATCHDOG.say(words)
    _exit(int(ExitCode.ENVIRONMENT))


WATCHDOG = Watchdog()
"""Of this process: there is one main thread, one handler of the signal, and one end."""
