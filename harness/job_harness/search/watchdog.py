"""Ends a step that never ends: a target that hangs is named and not waited for.

A timer of real time looks whether the run has come further since it last looked. It needs a Unix signal and the main
thread; elsewhere there is no watchdog. A target that hangs in C, where no Python handler runs, is ended together with
its process.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from job_harness.core.history.event import Call
from job_harness.core.model.duration import format_duration
from job_harness.core.printable import as_it_is
from job_harness.core.run.session import Session
from job_harness.errors import ExitCode

PATIENCE = 10.0
"""Seconds of real time that one step may take."""
LAST_RESORT = 3
"""A target that swallows this many interruptions is ended together with its process."""


class StepHung(BaseException):
    """A step took too long; no `except Exception` of a target catches this."""


class StepWatchdog:
    """A context manager around runs; `watch` says which one is at work."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._session: Session | None = None
        self._working = False
        self._opened = 0
        """Tells one run from the next: two may stand at the same step, and their sessions at the same address."""
        self._last: tuple[Any, ...] = ()
        self._barks = 0
        self._before: Any = None
        self._armed = False

    def opening(self) -> None:
        """A run is about to be opened."""
        self._opened += 1
        self._session = None
        self._working = True

    def watch(self, session: Session) -> None:
        """This run is at work from now on."""
        self._session = session

    def done(self) -> None:
        """Nothing is at work."""
        self._working = False
        self._session = None
        self._barks = 0

    def __enter__(self) -> StepWatchdog:
        if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGALRM, self.look)
            signal.setitimer(signal.ITIMER_REAL, self.patience / 2, self.patience / 2)
            self._armed = True
            self._arm_last_resort()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            if as_it_is(sys.stderr) is sys.__stderr__:
                faulthandler.cancel_dump_traceback_later()
            self._armed = False

    def _arm_last_resort(self) -> None:
        """While Python code runs, this is put off again and again. It needs a real stderr to say where it hung."""
        if sys.stderr is None or as_it_is(sys.stderr) is not sys.__stderr__:
            return
        faulthandler.dump_traceback_later(LAST_RESORT * self.patience, exit=True, file=sys.__stderr__)

    def look(self, number: int, frame: FrameType | None) -> None:
        """Look whether the run got on. Raises `StepHung` if the run has not moved for two looks."""
        self._arm_last_resort()
        if not self._working:
            return
        session = self._session
        far = (session.kernel.steps, len(session.recorder.history)) if session is not None else (-1, -1)
        here = (self._opened, *far)
        if here != self._last[:3]:
            self._last = (*here, 1)
            return
        looks = self._last[3] + 1
        self._last = (*here, looks)
        if looks <= 2:
            return
        self._barks += 1
        what = _described(session, frame, self.patience)
        if self._barks >= LAST_RESORT:
            print(f"job-harness: {what}; it does not let itself be interrupted", file=sys.stderr, flush=True)
            os._exit(int(ExitCode.FAIL))
        raise StepHung(what)


def _described(session: Session | None, frame: FrameType | None, patience: float) -> str:
    at = f" (at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name})" if frame is not None else ""
    limit = f"after {patience:g} s of real time"
    if session is None:
        return f"opening a queue did not end {limit}{at}"
    events = session.recorder.history.events
    last = events[-1] if events else None
    moment = f"t+{format_duration(session.kernel.now)}"
    if type(last) is Call:
        job = f" of {last.job}" if last.job else ""
        return f"the verb {last.verb}{job}, called by {last.actor} at {moment}, did not end {limit}{at}"
    return f"a step at {moment} did not end {limit}{at}"
