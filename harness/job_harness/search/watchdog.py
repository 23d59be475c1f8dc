"""Ends a step that never ends, and a search whose time is over: what hangs is named and not waited for.

How long a search may take is `SearchTime`'s: a run of a system takes many seconds, so that neither
the limit nor a signal waits for its end. A thread lets the run take no further step: that is
between two steps, where nothing is under way, so the run is closed as any other, and what it showed
until then counts.

A single step is `StepWatchdog`'s. A timer of real time looks whether the run has come further since
it last looked. What the step has computed counts, and the time of the wall only while it computes
nothing. It needs a Unix signal and the main thread; elsewhere there is no watchdog. A target that
hangs in C, where no Python handler runs, is ended together with its process.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final

from job_harness.core.history import Call
from job_harness.core.interruption import signal_arrived
from job_harness.core.model import format_duration
from job_harness.core.printable import as_it_is
from job_harness.core.run.session import Session
from job_harness.core.sim.watchdog import TimeSpent, in_debugger, real_seconds
from job_harness.errors import ExitCode
from job_harness.worlds.patience import Deadline

PATIENCE = 10.0
"""Seconds of real time that one step may take."""
LAST_RESORT = 3
"""A target that swallows this many interruptions is ended together with its process."""
GRACE_SECONDS = 5.0
"""The least that what was interrupted may take to end, each time."""
LAST_RESORT_SECONDS = 30.0
"""The least real time without a look, after which the process ends: a busy machine may keep it from its processor."""


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
        self._last: tuple[int, int, int] | None = None
        self._time: TimeSpent | None = None
        self._spent = 0.0
        """Since the run got on, or was interrupted last."""
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
        after = max(LAST_RESORT * self.patience, LAST_RESORT_SECONDS)
        faulthandler.dump_traceback_later(after, exit=True, file=sys.__stderr__)

    def look(self, number: int, frame: FrameType | None) -> None:
        """Look whether the run got on. Raises `StepHung` if it has not for longer than it may."""
        self._arm_last_resort()
        self._time = self._time or TimeSpent(threading.get_ident())
        spent = self._time.look(real_seconds())
        if not self._working:
            return
        session = self._session
        far = (session.kernel.steps, len(session.recorder.history)) if session is not None else (-1, -1)
        here = (self._opened, *far)
        if here != self._last or in_debugger(frame):
            self._last, self._spent = here, 0.0
            return
        self._spent += spent
        if self._spent < (max(self.patience, GRACE_SECONDS) if self._barks else self.patience):
            return
        self._barks, self._spent = self._barks + 1, 0.0
        what = _described(session, frame, self.patience)
        if self._barks >= LAST_RESORT:
            print(f"job-harness: {what}; it does not let itself be interrupted", file=sys.stderr, flush=True)
            os._exit(int(ExitCode.ENVIRONMENT))  # No verdict: nothing says whose fault it is.
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


# the search ----------------------------------------------------------------------------------------------------------

LATE: Final = 0.05
"""For so long, as a part of the limit, what was found before the limit is still made smaller."""
LATEST: Final = 0.1
"""What is still run then has to end within this part of the limit."""
SHARE: Final = 1 / 3
"""Of a search that goes on after a finding, what makes findings smaller has this part of the limit."""
LOOKS_EVERY: Final = 0.1


class SearchTime:
    """A context manager around a search; it looks only while it is entered."""

    def __init__(self, limit: float | None = None, *, goes_on: bool = False) -> None:
        """Take real seconds, None: as long as it takes; say whether the search goes on after a finding."""
        self.limit = limit
        self._late = False
        """Whether what is run now makes smaller what was found."""
        self._left = None if limit is None or not goes_on else limit * SHARE
        """Seconds in which findings may still be made smaller, beside the limit."""
        self._share: Deadline | None = None
        self._sampling, self._shrinking, self._last = (
            None if limit is None else Deadline(limit * (1 + more)) for more in (0, LATE, LATEST)
        )
        self._run: Deadline | None = None
        self._longest = 0.0
        self._session: Session | None = None
        self._stopped = False
        self._ended = threading.Event()

    def __enter__(self) -> SearchTime:
        threading.Thread(target=self._look, name="job-harness: time of a search", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()

    def watch(self, session: Session) -> None:
        """This run is at work from now on."""
        self._session, self._stopped = session, False
        self._run = Deadline(DAY)

    def done(self) -> None:
        """No run is at work."""
        self._session = None
        if self._run is not None:
            self._longest = max(self._longest, DAY - self._run.left)

    @property
    def over(self) -> bool:
        """Whether no further run is to begin."""
        return signal_arrived() or (self._sampling is not None and self._sampling.passed)

    @property
    def hurries(self) -> bool:
        """Whether what was found is to get no smaller."""
        return signal_arrived() or any(each is not None and each.passed for each in (self._shrinking, self._share))

    @contextmanager
    def making_smaller(self) -> Iterator[None]:
        """While this is entered, what is run makes smaller what was found."""
        self._late, self._share = True, None if self._left is None else Deadline(self._left)
        try:
            yield
        finally:
            self.done()
            self._left = None if self._share is None else self._share.left
            self._late, self._share = False, None

    @property
    def left(self) -> float:
        """Seconds within which one more run, as long as the longest, may begin; 0 where it would not end in time."""
        return math.inf if self._last is None else max(0.0, self._last.left - self._longest)

    @property
    def stopped(self) -> bool:
        """Whether the run that was at work last was ended here."""
        return self._stopped

    def look(self) -> None:
        """Let the run that is at work take no further step where its time is over."""
        session = self._session
        if session is not None and (self.hurries if self._late else self.over):
            self._stopped = True
            session.kernel.step_limit = session.kernel.steps

    def _look(self) -> None:
        while not self._ended.wait(LOOKS_EVERY):
            self.look()


DAY: Final = 86_400.0
