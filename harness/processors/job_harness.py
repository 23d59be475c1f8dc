"""`JobHarness`: a test enqueues, lets virtual time pass, and looks at what became of its jobs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from harness.adapters.reference.application import (
    GUIDE,
    START,
    JobProcessor,
    JobResult,
    ReferenceApplication,
    ToolJob,
)
from harness.errors import LimitReached, UsageError, did_you_mean
from harness.history.event import History, Observed
from harness.model.duration import SECOND, Instant
from harness.model.job import JobId, JobView, Json
from harness.model.lifecycle import Status
from harness.model.settings import Settings
from harness.port import JobRequest
from harness.processors.baton import BLOCKED_AFTER_SECONDS, Baton
from harness.processors.counts import Counts, count_outcomes
from harness.processors.handle import JobHandle
from harness.processors.interrupt import Interrupts
from harness.processors.judgement import anomaly_screen, unseen_failures
from harness.processors.length import Length, Moment, read_length
from harness.processors.processor import find_processor, is_async, telling
from harness.processors.typescript.attachments import Attachments
from harness.processors.typescript.target import names_typescript
from harness.sim.loop import VirtualLoop

MOST_JOBS = 100_000
"""Jobs of one `drain` without a limit of its own."""


class JobHarness:
    """The user's processors under the real worker and cron of the reference queue, on virtual time."""

    def __init__(
        self,
        *,
        settings: Settings = GUIDE,
        seed: int = 0,
        start: datetime = START,
        blocked_after: float = BLOCKED_AFTER_SECONDS,
    ) -> None:
        """Open an empty queue. `seed` jitters retry delays; `blocked_after` real seconds a plain processor hangs."""
        self._loop = VirtualLoop()
        self._loop.on_jump = self._moved
        self._baton = Baton(self._loop, blocked_after=blocked_after)
        try:
            self._application = ReferenceApplication(
                self._loop, run_blocking=self._baton, settings=settings, seed=seed, start=start
            )
        except BaseException:
            self._loop.close()
            raise
        self._node = Attachments(self._loop, start=start, timeout_seconds=settings.job_timeout / SECOND, seed=seed)
        self._interrupts = Interrupts()
        self._looked_at: set[JobId] = set()
        self._number = 0
        self._closed = False
        self.on_time: Callable[[datetime], None] | None = None
        """Told the time of day whenever it moves."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # what a test sets up --------------------------------------------------------------------------------------------

    def register(self, slug: str, processor: JobProcessor | str) -> None:
        """Let a callable, "module:name" or "path.ts#name" serve a tool.

        Raises UsageError, and what the registry refuses; EnvironmentUnavailable where TypeScript finds no Node.
        """
        found = self._node.attach(find_processor(processor), slug=slug)
        self._application.register(slug, telling(found, self._tell))

    def enqueue(
        self,
        slug: str,
        input: Json,
        *,
        priority: int = 0,
        start_after: Moment | None = None,
        max_attempts: int | None = None,
        unique_key: str | None = None,
    ) -> JobHandle:
        """Accept a job; also from inside a processor. A held unique key answers with the job that holds it.

        `start_after` is a length from now or a time of day. Raises UsageError for an unknown tool, and
        `InvalidJsonError` where JSON cannot hold the input.
        """
        known = self._application.registry.get_registered_tools()
        if slug not in known:
            raise UsageError(
                f"no processor is registered for the tool {slug!r}{did_you_mean(slug, known)}",
                hint=f"Call register({slug!r}, processor) first.",
            )
        self._number += 1
        request = JobRequest(
            id=f"job-{self._number}",
            tool=slug,
            input=input,
            priority=priority,
            max_attempts=max_attempts,
            start_after=None if start_after is None else self._instant(start_after),
            unique_key=unique_key,
        )
        job = self._application.enqueue(request)
        return JobHandle(job, slug, read=self._look, history=self.history)

    # what a test lets happen ----------------------------------------------------------------------------------------

    def perform_job(self, processor: JobProcessor | str, input: Json) -> JobResult:
        """Run a processor once, by slug, by name or itself, without the queue; raises what it raises."""
        registry = self._application.registry
        if isinstance(processor, str) and registry.has_processor(processor):
            slug, found = processor, registry.get_processor(processor)
        elif isinstance(processor, str) and ":" not in processor and not names_typescript(processor):
            known = registry.get_registered_tools()
            raise UsageError(f"no processor is registered for the tool {processor!r}{did_you_mean(processor, known)}")
        else:
            slug, found = "perform-job", self._node.attach(find_processor(processor))
        result = self._drive(lambda: self._loop.run(self._perform(found, self._application.tool_job(slug, input))))
        if not isinstance(result, JobResult):
            raise UsageError(
                f"the processor answered {result!r}, which is no JobResult",
                hint="Answer JobResult(success=True, output=...) or JobResult(success=False, error='...').",
            )
        return result

    def work_one(self) -> JobHandle | None:
        """Let the worker take one due job and bring that attempt to its end. None: no job is due."""
        if not self._application.due():
            return None
        before = len(self.history)
        self._work(1, lambda: self._application.store.allowance == 0 and not self._application.processing)
        claimed = [e for e in self.history.events[before:] if type(e) is Observed and e.verb == "claim"]
        if not claimed or claimed[0].after is None:
            return None
        return JobHandle(claimed[0].job, claimed[0].after.tool, read=self._look, history=self.history)

    def drain(self, *, with_scheduled: bool = False, limit: int | None = None) -> Counts:
        """Work until no job is due, and count what became of them; failures are recorded, not raised.

        `with_scheduled` lets time pass for retries and delayed jobs as well. `limit` is the most attempts to make;
        without it, 100 000, and LimitReached beyond.
        """
        if limit is not None and (isinstance(limit, bool) or limit < 1):
            raise UsageError(f"limit is {limit!r}; give a number of at least 1")
        application = self._application
        before = len(self.history)

        def rested() -> bool:
            if application.processing:
                return False
            waiting = application.still_pending() if with_scheduled else application.due()
            return not waiting or application.store.allowance == 0

        if application.due() or application.processing or (with_scheduled and application.still_pending()):
            self._work(MOST_JOBS if limit is None else limit, rested)
        if limit is None and application.store.allowance == 0 and application.due():
            raise LimitReached(f"drain made {MOST_JOBS} attempts and jobs are still due: do they enqueue each other?")
        events = self.history.events[before:]
        failed = {e.job for e in events if type(e) is Observed and e.after and e.after.status is Status.FAILED}
        return Counts(count_outcomes(events), on_read=lambda: self._looked_at.update(failed))

    def run_until_idle(self) -> None:
        """Let worker and cron work, and time pass, until every job is terminal."""
        if self._application.board.live:
            self._work(None, lambda: not self._application.board.live, at_once=False)

    def advance(self, duration: Length) -> None:
        """Let time pass and everything happen that is due meanwhile, in the order of time."""
        length = read_length(duration)
        self._refuse()
        self._application.allow(None)
        try:
            self._drive(lambda: self._loop.advance(length / SECOND))
        finally:
            self._application.allow(0)

    def jump(self, duration: Length) -> None:
        """Move the clock and let nobody act: what is overdue happens when time next passes."""
        self._refuse()
        self._loop.jump(read_length(duration) / SECOND)

    # what a test looks at -------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual time of day, in UTC."""
        return self._application.moment(self._application.clocks.now)

    @property
    def history(self) -> History:
        """Everything that was observed."""
        return self._application.recorder.history

    def status(self, job: JobHandle | JobId) -> Status:
        """Answer a job's status. Raises UsageError for an unknown job."""
        view = self._look(job.id if isinstance(job, JobHandle) else job)
        assert view.status is not None, "the reference writes both rows at once"
        return view.status

    def problems(self, *, title: str = "the jobs of this test") -> list[str]:
        """Say what is wrong with what happened: anomalies, and FAILED jobs that nobody looked at."""
        application = self._application
        views = application.board.views
        if not application.board.live:
            application.judge.rest(views)
        screen = anomaly_screen(
            application.judge,
            self.history,
            settings=application.settings,
            now=application.clocks.now,
            title=title,
        )
        found = (screen, unseen_failures(views, self._looked_at))
        return [problem for problem in found if problem is not None]

    def close(self) -> None:
        """End worker, cron and processors. What still runs has no effect on anything."""
        if self._closed:
            return
        self._closed = True
        self._application.end()
        self._node.close()
        self._baton.close()
        self._loop.end_tasks()
        self._loop.close()

    # inside ---------------------------------------------------------------------------------------------------------

    def _work(self, jobs: int | None, until: Callable[[], bool], *, at_once: bool = True) -> None:
        self._refuse()
        application = self._application
        application.allow(jobs)
        if at_once:
            application.wake()
        try:
            self._drive(lambda: self._loop.run_until(lambda: until() or application.ended))
        finally:
            if jobs is None or application.store.allowance is None:
                application.allow(0)
        application.check()

    def _drive(self, run: Callable[[], Any]) -> Any:
        self._refuse()
        with self._baton.sleeping_virtually(), self._interrupts.watched():
            return run()

    def refuse_inside(self) -> None:
        """Raise UsageError where a processor tries to move time."""
        if self._loop.is_in_this_thread():
            raise UsageError(
                "a processor cannot move time, nor work on other jobs",
                hint="Await asyncio.sleep(seconds) inside a processor; enqueue works there too.",
            )

    def _refuse(self) -> None:
        if self._closed:
            raise UsageError("this harness is closed", hint="Use the fixture inside its test only.")
        self._loop.refuse_nesting()

    async def _perform(self, processor: JobProcessor, job: ToolJob) -> Any:
        if is_async(processor):
            return await processor(job)  # type: ignore[misc]  # it is a coroutine function

        def call() -> tuple[Any, BaseException | None]:
            try:
                return processor(job), None
            except Exception as error:  # noqa: BLE001 - it is raised again on the test's side
                return None, error

        answer, error = await self._baton(call, name="perform_job")
        if error is not None:
            raise error
        return await answer if inspect.isawaitable(answer) else answer

    def _tell(self, job: ToolJob, what: str, ending: str | None) -> None:
        claim = self._application.claim_of(job.id)
        if claim is None or self._closed:
            return
        about = (claim.worker, claim.job, claim.attempt, claim.token, what, ending)
        if self._baton.holds() or self._loop.is_in_this_thread():
            self._application.recorder.effect(*about)
        else:
            self._loop.call_soon_threadsafe(self._application.recorder.effect, *about)

    def _moved(self, seconds: float) -> None:
        self._application.clocks.now = round(seconds * SECOND)
        self._interrupts.check()
        if self.on_time is not None:
            self.on_time(self.now)

    def _instant(self, moment: Moment) -> Instant:
        if not isinstance(moment, datetime):
            return self._application.clocks.now + read_length(moment)
        if moment.tzinfo is None:
            raise UsageError(f"start_after {moment} has no time zone", hint="Add one, such as tzinfo=UTC.")
        return round((moment - self._application.start).total_seconds() * SECOND)

    def _look(self, job: JobId) -> JobView:
        view = self._application.board.views.get(job)
        if view is None:
            view = next((e.before for e in reversed(self.history.events) if type(e) is Observed and e.job == job), None)
        if view is None:
            known = self._application.board.views
            raise UsageError(f"there is no job {job!r}{did_you_mean(job, known)}")
        if view.status is Status.FAILED:
            self._looked_at.add(job)
        return view
