"""What a test says about its jobs: what was enqueued, which path a job took, what was done, what is yet to come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypedDict, Unpack

from harness.errors import UsageError, did_you_mean
from harness.history.event import Effect, History
from harness.model.duration import SECOND, format_duration
from harness.model.job import JobId, JobView
from harness.model.lifecycle import TERMINAL, Status
from harness.processors.delivery import RESERVED
from harness.processors.enqueued import (
    ANYTHING,
    Accepted,
    Wanted,
    matching,
    moment_of,
    nothing_matches,
    path_differs,
    shown,
)
from harness.processors.handle import JobHandle
from harness.processors.length import Length, Moment, read_length
from harness.processors.workplace import Workplace
from harness.sim.loop import Deadlock, VirtualLoop


class Looked(TypedDict, total=False):
    """What a test may look for in a job that was enqueued; what is left out is left open."""

    input: Any
    """A dictionary matches one with more keys; `...` matches anything."""
    priority: int
    unique_key: str
    max_attempts: int
    start_after: Moment
    """A length counts from when the job was enqueued."""
    within: Length
    """How far off `start_after` may be; one second where it is left out."""
    status: str


class Assertions:
    """The part of `JobHarness` that only looks; every failure is an AssertionError that says what was there."""

    _application: Workplace
    _accepted: dict[JobId, Accepted]
    _loop: VirtualLoop

    def all_enqueued(self, slug: str | None = None, **wanted: Unpack[Looked]) -> list[JobHandle]:
        """List the jobs that were enqueued in this test and match, whatever became of them, the oldest first.

        `input` (a dictionary matches one with more keys, `...` anything), `priority`, `unique_key`, `max_attempts`,
        `status`, and `start_after`: a length counts from when the job was enqueued; it may be off by `within` (1 s).
        """
        looked_for = self._wanted(slug, wanted)
        return [self._handle(job) for job in matching(looked_for, self._jobs())]

    def assert_enqueued(
        self, slug: str | None = None, *, count: int | None = None, **wanted: Unpack[Looked]
    ) -> JobHandle:
        """Answer the first job that matches, as `all_enqueued` does. Raises AssertionError with the near misses.

        With `count`, exactly so many have to match.
        """
        looked_for = self._wanted(slug, wanted)
        found = matching(looked_for, self._jobs())
        if not found:
            known = self._application.registry.get_registered_tools()
            raise AssertionError(nothing_matches(looked_for, self._jobs(), known=known))
        if count is not None and len(found) != count:
            raise AssertionError(f"{len(found)} and not {count} times was a {looked_for} enqueued: {', '.join(found)}")
        return self._handle(found[0])

    def refute_enqueued(self, slug: str | None = None, **wanted: Unpack[Looked]) -> None:
        """Raise AssertionError where a job matches, as `all_enqueued` matches.

        Raises UsageError for a tool that is not registered: of that one nothing could be enqueued.
        """
        known = self._application.registry.get_registered_tools()
        if slug is not None and slug not in known:
            raise UsageError(
                f"no processor is registered for the tool {slug!r}{did_you_mean(slug, known)}",
                hint="Nothing can be enqueued for it, so this could never fail.",
            )
        looked_for = self._wanted(slug, wanted)
        found = matching(looked_for, self._jobs())
        if found:
            told = [f"    {job}: input {shown(self._accepted[job].request.input)}" for job in found]
            raise AssertionError("\n".join([f"a {looked_for} was enqueued", *told]))

    def assert_path(self, job: JobHandle | JobId, path: list[str]) -> None:
        """Raise AssertionError where a job went through other statuses so far."""
        name = self._id(job)
        problem = path_differs(name, list(path), self.history.path(name), self._look(name))
        if problem is not None:
            raise AssertionError(problem)

    def status(self, job: JobHandle | JobId) -> Status:
        """Answer a job's status. Raises UsageError for an unknown job."""
        view = self._look(self._id(job))
        assert view.status is not None, "the reference writes both rows at once"
        return view.status

    def effects(self, name: str | None = None, *, job: JobHandle | JobId | None = None) -> list[Effect]:
        """List the side effects that processors declared, in order: each with its time, job, attempt and data."""
        whose = None if job is None else self._id(job)
        return [
            event
            for event in self.history
            if type(event) is Effect
            and event.name not in RESERVED
            and name in (None, event.name)
            and whose in (None, event.job)
        ]

    def wait_for(
        self, what: JobHandle | JobId | Callable[[], object], status: str | None = None, *, within: Length = "1d"
    ) -> None:
        """Let time pass until a job has ended, or has a status, or a function answers true.

        Raises AssertionError where that takes longer than `within`, with what was there instead.
        """
        job = None if callable(what) else self._id(what)
        if status is not None and (job is None or status not in set(Status)):
            raise UsageError(f"wait_for({status!r}): give a job and one of {', '.join(Status)}")
        deadline = self._loop.time() + read_length(within) / SECOND

        def holds() -> bool:
            if job is None:
                return bool(what())  # type: ignore[operator]  # it is a function
            now = self._view(job).status
            return now in TERMINAL if status is None else now == status

        timer = self._loop.call_at(deadline, lambda: None)
        try:
            self._work(None, lambda: holds() or self._loop.time() >= deadline, at_once=False)
        except Deadlock:
            pass  # Nothing is due any more; what was waited for is judged below.
        finally:
            timer.cancel()
        if not holds():
            raise AssertionError(self._waited_for(job, status, within=read_length(within)))
        if job is not None:
            self._look(job)

    def _waited_for(self, job: JobId | None, status: str | None, *, within: int) -> str:
        waited = f"within {format_duration(within)}, until {self.now}"
        if job is None:
            return f"what was waited for did not come {waited}"
        view = self._look(job)
        path = " -> ".join(self.history.path(job))
        lines = [
            f"{job} did not {'end' if status is None else f'become {status}'} {waited}",
            f"  it is {view.status}, attempts {view.attempts} of {view.max_attempts}, by {path}",
        ]
        return "\n".join([*lines, f"  last error: {shown(view.error)}"] if view.error else lines)

    def _wanted(self, slug: str | None, looked: Looked) -> Wanted:
        for key in looked:
            if key not in Looked.__annotations__:
                known = list(Looked.__annotations__)
                raise UsageError(
                    f"nothing of a job is called {key!r}{did_you_mean(key, known)}",
                    hint=f"There are {', '.join(known)}.",
                )
        status = looked.get("status")
        if status is not None and status not in set(Status):
            raise UsageError(f"there is no status {status!r}", hint=f"There are {', '.join(Status)}.")
        start_after = looked.get("start_after")
        absolute = isinstance(start_after, datetime)
        return Wanted(
            slug=slug,
            input=looked.get("input", ANYTHING),
            priority=looked.get("priority"),
            unique_key=looked.get("unique_key"),
            max_attempts=looked.get("max_attempts"),
            delay=None if start_after is None or isinstance(start_after, datetime) else read_length(start_after),
            due=moment_of(start_after, start=self._application.start) if absolute else None,
            within=read_length(looked.get("within", 1)),
            status=status,
        )

    def _jobs(self) -> dict[JobId, tuple[Accepted, JobView]]:
        return {job: (accepted, self._view(job)) for job, accepted in self._accepted.items()}

    # what the harness itself has ------------------------------------------------------------------------------------

    @property
    def history(self) -> History:
        """Everything that was observed."""
        raise NotImplementedError

    @property
    def now(self) -> datetime:
        """The virtual time of day, in UTC."""
        raise NotImplementedError

    def _id(self, job: JobHandle | JobId) -> JobId:
        raise NotImplementedError

    def _handle(self, job: JobId) -> JobHandle:
        raise NotImplementedError

    def _look(self, job: JobId) -> JobView:
        raise NotImplementedError

    def _view(self, job: JobId) -> JobView:
        raise NotImplementedError

    def _work(self, jobs: int | None, until: Callable[[], bool], *, at_once: bool = True) -> None:
        raise NotImplementedError
