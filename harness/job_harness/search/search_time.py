"""How long a search may take, and who ends the run that is under way when that is over, or when a signal arrives.

A run of a system takes many seconds, so neither waits for its end: a thread lets the run take no further step. That is
between two steps, where nothing is under way: the run is closed as any other, and what it showed until then counts.
Must not know: what is searched, what is found.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final

from job_harness.core.interruption import signal_arrived
from job_harness.core.run.session import Session
from job_harness.worlds.patience import Deadline

LATE: Final = 0.05
"""For so long, as a part of the limit, what was found before the limit is still made smaller."""
LATEST: Final = 0.1
"""What is still run then has to end within this part of the limit."""
LOOKS_EVERY: Final = 0.1
NO_STEP: Final = -1


class SearchTime:
    """A context manager around a search; it looks only while it is entered."""

    def __init__(self, limit: float | None = None) -> None:
        """Take real seconds; None: as long as it takes."""
        self.limit = limit
        self.late = False
        """Whether what is run now makes smaller what was found."""
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
        return signal_arrived() or (self._shrinking is not None and self._shrinking.passed)

    @property
    def affords_a_run(self) -> bool:
        """Whether one more run, as long as the longest, would end in time."""
        return self._last is None or self._last.left > self._longest

    @property
    def stopped(self) -> bool:
        """Whether the run that was at work last was ended here."""
        return self._stopped

    def _look(self) -> None:
        while not self._ended.wait(LOOKS_EVERY):
            session = self._session
            if session is not None and (self.hurries if self.late else self.over):
                self._stopped = True
                session.kernel.step_limit = NO_STEP


DAY: Final = 86_400.0
