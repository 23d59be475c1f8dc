"""What a `JobHarness` stands on: a queue, its worker and its maintenance, recorded and judged, on a virtual loop.

The reference queue in memory is one such place, pg-boss's own `work()` loop another. What a place
cannot do it refuses with a UsageError that names it; it does nothing else instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Protocol

from job_harness.core.faults import FaultPlan
from job_harness.core.invariants import Invariant
from job_harness.core.model import Instant, JobId, Json, Settings
from job_harness.core.port import Claim, JobRequest
from job_harness.core.run.live import LiveTest
from job_harness.core.sim import Choices
from job_harness.core.sim.loop import VirtualLoop
from job_harness.engines.reference.application import JobProcessor, Registry, RunBlocking, StartUp, ToolJob


class Workplace(Protocol):
    """Where jobs are enqueued and worked on. Its time is the loop's."""

    engine: str
    """What a failure calls it."""
    settings: Settings
    start: datetime
    """The time of day at the instant 0."""
    session: LiveTest
    """What is observed there, and the kernel at whose gates its processes stand."""

    @property
    def registry(self) -> Registry:
        """The processors by tool."""

    def register(self, slug: str, processor: JobProcessor) -> None:
        """Let a processor serve a tool."""

    def enqueue(self, request: JobRequest) -> JobId:
        """Accept a job; return the unfinished holder of its unique key instead, if there is one."""

    def cancel(self, job: JobId) -> bool:
        """Cancel a job. False: it is terminal or unknown."""

    def retry(self, job: JobId) -> bool:
        """Let a failed or cancelled job be worked on again."""

    def tool_job(self, slug: str, value: Json) -> ToolJob:
        """Make the job that a processor would receive, its input through JSON and back."""

    def moment(self, at: Instant) -> datetime:
        """Return an instant of the run as a time of day."""

    # the worker -----------------------------------------------------------------------------------------------------

    @property
    def allowance(self) -> int | None:
        """How many jobs may still be claimed; None is any number."""

    def allow(self, jobs: int | None) -> None:
        """Let the worker claim this many jobs more, None for any number; it is started on the first call."""

    def start_with(self, start: StartUp) -> None:
        """Run this in each life of the worker before it claims anything. Raises UsageError where none can."""

    def wake(self) -> None:
        """Let the worker look for jobs now instead of at its next poll."""

    @property
    def only(self) -> Collection[JobId] | None:
        """The only jobs that may be claimed; None is any."""

    @only.setter
    def only(self, jobs: Collection[JobId] | None) -> None: ...

    @property
    def processing(self) -> bool:
        """Whether the worker is at work on a job."""

    def due(self) -> bool:
        """Whether a job could be claimed now."""

    def unfinished(self) -> bool:
        """Whether a job may still be claimed, now or later."""

    def claim_of(self, job: JobId, attempt: int) -> Claim | None:
        """Return the last claim of this attempt of a job."""

    @property
    def abandoned(self) -> tuple[JobId, ...]:
        """The jobs whose processor was given up and still runs."""

    # what goes wrong ------------------------------------------------------------------------------------------------

    def refuse_place(self, at: str) -> None:
        """Raise UsageError where the worker cannot be made to die at this place."""

    def crash(self, place: str) -> None:
        """Kill the worker where it stands; nothing of it goes on. A new one starts at once."""

    def refuse_redelivery(self) -> None:
        """Raise UsageError where a job cannot be handed out twice."""

    # forked children ------------------------------------------------------------------------------------------------

    @property
    def unforkable(self) -> str:
        """Why a forked child cannot go on from here; empty where it can."""

    def prepare_children(self) -> None:
        """Have ready what forked children use, one after the other, in place of what is this process's own."""

    def forget_children(self) -> None:
        """Give up what the last child used: it ended in the middle of something."""

    def reopen(self) -> None:
        """Let go, in a forked child, of what is the parent's."""

    # the end --------------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the worker or the maintenance ended by itself."""

    def check(self) -> None:
        """Raise what ended one of them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What it said beside its results."""

    def end(self) -> None:
        """Let nothing of it go on."""


class MakeWorkplace(Protocol):
    """Opens an empty place of work on a loop."""

    def __call__(
        self,
        loop: VirtualLoop,
        *,
        run_blocking: RunBlocking,
        settings: Settings,
        seed: int,
        start: datetime,
        invariants: Iterable[Invariant],
        choices: Choices,
        faults: FaultPlan,
    ) -> Workplace:
        """Raise UsageError for settings that it cannot keep, EnvironmentUnavailable where it cannot run."""
