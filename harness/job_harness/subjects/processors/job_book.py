"""The jobs of one test and their tools: as they were asked for, as they are, and what the test has looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from job_harness.core.history import Call, Effect, History, Observed
from job_harness.core.model import Duration, Instant, JobId, JobView, Json, Status
from job_harness.core.port import JobRequest
from job_harness.core.run.live import LiveTest
from job_harness.engines.reference.application import JobProcessor
from job_harness.errors import UsageError, clipped, did_you_mean, missing_attribute
from job_harness.subjects.processors.delivery import RESERVED, look_at_externals


def refuse_no_text(value: object, wanted: str) -> None:
    """Raise UsageError for what is not even text."""
    if not isinstance(value, str):
        raise UsageError(f"{clipped(value)} is not {wanted}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job as it was asked for."""

    request: JobRequest
    at: Instant

    @property
    def delay(self) -> Duration:
        """How long it was asked to wait."""
        return 0 if self.request.start_after is None else self.request.start_after - self.at


class JobHandle:
    """A job, always as it is now. A job that was deleted after its retention is shown as it last was."""

    __slots__ = ("_history", "_read", "id", "tool")

    def __init__(self, job: JobId, tool: str, *, read: Callable[[JobId], JobView], history: History) -> None:
        self.id = job
        self.tool = tool
        self._read = read
        self._history = history

    if not TYPE_CHECKING:  # A checker would take every name for one that there is.

        def __getattr__(self, name: str) -> NoReturn:
            raise missing_attribute(self, name)

    @property
    def view(self) -> JobView:
        """Everything in both rows of the job."""
        return self._read(self.id)

    @property
    def status(self) -> Status:
        """PENDING, PROCESSING, COMPLETED, FAILED or CANCELLED; equal to the plain text."""
        status = self.view.status
        assert status is not None, "the reference writes both rows at once"
        return status

    @property
    def attempts(self) -> int:
        """How often it was claimed."""
        return self.view.attempts

    @property
    def path(self) -> list[str]:
        """The statuses that it has gone through so far."""
        self._read(self.id)
        return self._history.path(self.id)

    @property
    def input(self) -> Json:
        """What was enqueued."""
        calls = (event for event in self._history.of_job(self.id) if type(event) is Call and event.verb == "enqueue")
        return next(request.input for call in calls for request in call.arguments if request.id == self.id)

    @property
    def output(self) -> Json:
        """What the attempt that completed it returned, converted to JSON and back."""
        return self.view.output

    @property
    def error(self) -> str | None:
        """What the last failed attempt left behind."""
        return self.view.error

    @property
    def effects(self) -> list[tuple[str, dict[str, Json]]]:
        """The side effects that its processor declared, each as (name, data), in order."""
        look_at_externals(None)
        return [
            (event.name, dict(event.data))
            for event in self._history.of_job(self.id)
            if type(event) is Effect and event.name not in RESERVED
        ]

    def __eq__(self, other: object) -> bool:
        """Whether both are handles of one job of one harness."""
        return isinstance(other, JobHandle) and self.id == other.id and self._history is other._history

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        view = self._read(self.id)
        return f"<job {self.id} of {self.tool}: {view.status}, attempts {view.attempts} of {view.max_attempts}>"


class JobBook:
    """Knows every job of one harness by its id."""

    def __init__(self, session: LiveTest) -> None:
        self._session = session
        self.served: dict[str, JobProcessor | str] = {}
        """By tool, the processor as the test registered it."""
        self.tasks: dict[str, str] = {}
        """By the name that another library has for it, the tool that is meant: names no tool can have here."""
        self.accepted: dict[JobId, Accepted] = {}
        self.seen: set[JobId] = set()
        """The jobs that the test has looked at, by whichever way."""
        self.looked_at: set[JobId] = set()
        """The jobs at whose failure it looked."""
        self.looked = False
        """Whether it has looked for a job or an effect, be there one or not."""
        self.bidden = False
        """Whether it has let its jobs run."""

    def id_of(self, job: JobHandle | JobId) -> JobId:
        """Return the id of a job. Raises UsageError where there is none."""
        name = job.id if isinstance(job, JobHandle) else job
        refuse_no_text(name, "a job that was enqueued, or its id")
        self.view(name)
        return name

    def handle(self, job: JobId) -> JobHandle:
        """Return a job for the test to look at."""
        return JobHandle(job, self.view(job).tool, read=self.look, history=self._session.recorder.history)

    def look(self, job: JobId) -> JobView:
        """Return a job as it is now, which the test has seen by that."""
        view = self.view(job)
        self.seen.add(job)
        if view.status is Status.FAILED:
            self.looked_at.add(job)
        return view

    def view(self, job: JobId) -> JobView:
        """Return a job as it is now, or was last. Raises UsageError where there is none."""
        known, events = self._session.job_index.views, self._session.recorder.history.events
        view = known.get(job)
        if view is None:
            view = next((e.before for e in reversed(events) if type(e) is Observed and e.job == job), None)
        if view is None:
            raise UsageError(
                f"there is no job {job!r}{did_you_mean(job, known)}", hint="Pass what enqueue() returned, or its id."
            )
        return view

    def jobs(self) -> dict[JobId, tuple[Accepted, JobView]]:
        """Return every job as it was asked for, and as it is."""
        return {job: (accepted, self.view(job)) for job, accepted in self.accepted.items()}
