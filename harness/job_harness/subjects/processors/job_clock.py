"""`JobClock`: the one virtual time of a test; the queue, the harness and, when asked, `datetime.now()` follow it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from job_harness.core.model import SECOND
from job_harness.core.sim import Clocks
from job_harness.engines.reference.application import START
from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.processors.job_harness import JobHarness
from job_harness.subjects.processors.length import Length, read_length

UNFROZEN = ["job_harness", "job_harness_reference", "_pytest", "pytest_timeout"]
"""Ours take their time from clocks that are handed in; those of pytest measure what a test really took."""


class JobClock:
    """Moves time for whatever follows it."""

    def __init__(self, *, start: datetime = START) -> None:
        self.clocks = Clocks()
        """What a queue under test reads."""
        self._start = start
        self._harness: JobHarness | None = None
        self._freezer: Any = None
        self._frozen: Any = None
        self._inspected = 0

    @property
    def now(self) -> datetime:
        """The current virtual time, in UTC."""
        return self._start + timedelta(microseconds=self.clocks.now)

    def advance(self, duration: Length) -> None:
        """Let time pass: "15m", seconds or a timedelta. What a followed harness has to do meanwhile, happens."""
        if self._harness is not None:
            self._harness.advance(duration)
        else:
            self._move(read_length(duration))

    def jump(self, duration: Length) -> None:
        """Move the clock without letting anything act."""
        if self._harness is not None:
            self._harness.jump(duration)
        else:
            self._move(read_length(duration))

    def freeze(self) -> None:
        """Let `datetime.now()`, `time.time()` and their kin follow for the rest of the test, through freezegun.

        Costs milliseconds, so it is done only where asked. Event loops keep their own time. Raises
        EnvironmentUnavailable where freezegun is not installed.
        """
        if self._freezer is not None:
            return
        try:
            from freezegun import api, freeze_time
        except ImportError as error:
            raise EnvironmentUnavailable("freezegun is not installed", hint="Install freezegun.") from error
        # Who reads the clock is its caller, not a caller further up: a processor stands below the harness and a thread.
        self._inspected, api.call_stack_inspection_limit = api.call_stack_inspection_limit, 1
        self._freezer = freeze_time(self.now, real_asyncio=True, ignore=UNFROZEN)
        self._frozen = self._freezer.start()
        if self._harness is not None:
            self._harness.bench.frozen = True

    def drive(self, harness: JobHarness) -> None:
        """Let a harness follow: its loop owns the time from here, and this clock shows it."""
        self._harness = harness
        harness.bench.clock = self
        harness.bench.frozen = harness.bench.frozen or self._freezer is not None

    def close(self) -> None:
        """Let the machine's time through again."""
        self._harness = None
        if self._freezer is not None:
            from freezegun import api

            self._freezer.stop()
            self._freezer = None
            api.call_stack_inspection_limit = self._inspected

    def follow(self, moment: datetime) -> None:
        """Show this time of day."""
        self.clocks.now = round((moment - self._start).total_seconds() * SECOND)
        self._show()

    def _move(self, microseconds: int) -> None:
        self.clocks.now += microseconds
        self._show()

    def _show(self) -> None:
        if self._freezer is not None:
            self._frozen.move_to(self.now)
