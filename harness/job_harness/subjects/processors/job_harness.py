"""`JobHarness`: a test enqueues, lets virtual time pass, and looks at what became of its jobs."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn, Self

from job_harness.core.faults import FaultPlan
from job_harness.core.faults.clocks import LATENESS
from job_harness.core.garbage import collecting_seldom
from job_harness.core.history.event import Effect, History, Observed
from job_harness.core.invariants import Anomaly, Invariant
from job_harness.core.invariants.effects import KEY_VARIES, values_of
from job_harness.core.model.duration import SECOND, Instant, format_duration, rounded
from job_harness.core.model.job import JobId, JobView, Json, slug_of
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.core.run.session import NO_FAULTS
from job_harness.core.run.verdict import Run
from job_harness.core.sim.choices import Choices, Tape
from job_harness.core.sim.descriptors import LockWaiters
from job_harness.core.sim.loop import VirtualLoop
from job_harness.engines.reference.application import (
    GUIDE,
    START,
    JobProcessor,
    JobResult,
    NoResultError,
    ReferenceApplication,
    result_of,
)
from job_harness.errors import (
    EnvironmentUnavailable,
    HarnessError,
    Hung,
    LimitReached,
    UsageError,
    available,
    clipped,
    did_you_mean,
    missing_attribute,
)
from job_harness.subjects.processors.assertions import (
    Accepted,
    Assertions,
    Counts,
    JobHandle,
    count_outcomes,
    refuse_numbers,
)
from job_harness.subjects.processors.chance import seed_shared_generators
from job_harness.subjects.processors.clocks import VIRTUAL, bypassed, checked_clocks, freeze_kept, open_guests
from job_harness.subjects.processors.delivery import RESERVED, current
from job_harness.subjects.processors.demands import Demands
from job_harness.subjects.processors.descent import LONGEST_CHAIN, MOST_FROM_ONE, Descent
from job_harness.subjects.processors.hosted import HostedProcessors, HostProcess
from job_harness.subjects.processors.judgement import (
    anomaly_screen,
    hung,
    left_running,
    never_ended,
    not_happened,
    own_anomalies,
    readings,
    run_of,
    stubs_waiting,
    unseen_failures,
)
from job_harness.subjects.processors.leak_detector import LeakDetector, is_others
from job_harness.subjects.processors.length import Length, Moment, read_length
from job_harness.subjects.processors.module_state import ModuleMemory, ModuleState, modules_of_project
from job_harness.subjects.processors.observed.account import unobserved
from job_harness.subjects.processors.other_start import EffectKey, OtherStart, seed_of
from job_harness.subjects.processors.processor import can_take_one, find_processor, how_to_name, telling
from job_harness.subjects.processors.running import RaisedError, Running
from job_harness.subjects.processors.tests_thread import TestsThread
from job_harness.subjects.processors.thread_handoff import BLOCKED_AFTER_SECONDS, ThreadHandoff
from job_harness.subjects.processors.typescript.node_processor import NodeProcessors
from job_harness.subjects.processors.typescript.target import names_typescript
from job_harness.subjects.processors.workplace import MakeWorkplace, Workplace

if TYPE_CHECKING:
    from job_harness.subjects.processors.celery import CeleryTasks

REST_SECONDS = 90 * 24 * 3600.0
"""Virtual seconds within which every job of an explored test has to end once nothing goes wrong any more."""
EXPLORED_ANSWER_SECONDS = 2.5
"""Real seconds for which an outstanding answer holds time in an explored run, as long as in a contract: it may be kept
back by a lock of a paused worker, which goes on only when time does."""
MOST_WAITING = 3
"""Jobs that are not due yet and are named with their time."""
LAST_YEAR = 8999
"""A test may begin in it at the latest: time that goes on is never past what Python can tell, the year 9999."""
MOST_JOBS = 100_000
"""Jobs of one `drain` without a limit of its own."""


class JobHarness(Assertions):
    """Runs the user's processors on virtual time, with the real worker and maintenance of the reference queue."""

    def __init__(
        self,
        *,
        settings: Settings = GUIDE,
        seed: int = 0,
        start: datetime = START,
        blocked_after: float = BLOCKED_AFTER_SECONDS,
        invariants: Iterable[Invariant] = (),
        workplace: MakeWorkplace = ReferenceApplication,
        choices: Choices | None = None,
        faults: FaultPlan = NO_FAULTS,
        clocks: str = VIRTUAL,
    ) -> None:
        """Open an empty queue. `seed` jitters retry delays; a processor hangs that keeps control for `blocked_after`.

        That is in real seconds: a coroutine that does not come back within them ends the test with LimitReached, which
        names its line; a plain function counts as hanging, and virtual time goes on without it.

        `invariants` of the test's own are judged beside ours. `workplace` opens the queue and the worker to stand on.
        `choices` says at each gate whether one of the `faults` strikes there: a search, or the `tape` of another run.
        With `clocks="real"`, `time.time()`, `datetime.now()` and their kin are the machine's in processors too. Raises
        UsageError for what makes no sense, such as a `start` without a time zone.
        """
        checked_clocks(clocks)
        _refuse_opening(
            settings=settings,
            seed=seed,
            start=start,
            blocked_after=blocked_after,
            workplace=workplace,
            choices=choices,
            faults=faults,
        )
        self._invariants = _checked_invariants(invariants)
        self._demands = Demands(choices)
        self._open_loop(start, blocked_after, clocks)
        self._open_application(partial(workplace, settings=settings, seed=seed, start=start, faults=faults))
        self._open_node(
            start=start, timeout_seconds=settings.job_timeout / SECOND, seed=seed, busy_seconds=blocked_after
        )
        self._leaks = LeakDetector(self._loop)
        self._interrupts = Interrupts()
        self.frozen = clocks == VIRTUAL
        """Whether `datetime.now()` and its kin follow this harness."""
        self.on_time: Callable[[datetime], None] | None = None
        """Told the time of day whenever it moves."""
        self._on_close: list[Callable[[], None]] = []
        self._closed = False
        self._know_no_job()

    def _know_no_job(self) -> None:
        """Begin as a test does: no job, no processor, nothing to check."""
        self._looked_at: set[JobId] = set()
        """The jobs at whose failure the test looked."""
        self._seen = set()
        self._forgotten: frozenset[str] = frozenset()
        """What of the modules of the project is set back where a worker dies."""
        self._varies = ""
        """The side effect whose key is known to be another one in each attempt, of the run that is replayed."""
        self._looked = self._bidden = False
        """Whether the test has looked for anything, and whether it has let its jobs run."""
        self._asked_for = set()
        self._always: list[Callable[[JobHarness], object]] = []
        self._checking = False
        self._raised_by_check: Hung | None = None
        self._accepted: dict[JobId, Accepted] = {}
        self._registered: list[Any] = []
        self.served: dict[str, JobProcessor | str] = {}
        """By tool, the processor as the test registered it."""
        self._locks: LockWaiters | None = None
        self.tasks: dict[str, str] = {}
        """By the name that another library has for it, the tool that is meant: names no tool can have here."""
        self._number = 0
        self._descent = Descent(self, lambda job: self._view(job).tool)
        self.longest_chain = LONGEST_CHAIN
        """Jobs each of which was enqueued by the one before; with more of them the run ends."""
        self.most_from_one = MOST_FROM_ONE
        """Jobs that come from one, by enqueueing each other; with more of them the run ends."""

    def _open_loop(self, start: datetime, blocked_after: float, clocks: str) -> None:
        """Make the loop, the threads on it, and what of this test's thread they are lent."""
        self._loop = VirtualLoop(busy_seconds=blocked_after, real_patience=blocked_after)
        self._loop.on_jump = self._moved
        self._guests = self._loop.guests = open_guests(self._loop, start=start, clocks=clocks)
        self._guests.on_block = self._blocked
        self._loop.on_doubt = self._guests.on_doubt = self._in_doubt
        self._handoff = ThreadHandoff(self._loop, blocked_after=blocked_after)
        self._surroundings = TestsThread()
        self._handoff.lend = self._surroundings.lend
        self._loop.lending = self._surroundings.lending

    def _open_application(self, opened: Callable[..., Workplace]) -> None:
        """Open the queue and the worker on the loop, and what runs there."""
        try:
            self._application = opened(
                self._loop, run_blocking=self._handoff, invariants=self._invariants, choices=self._demands
            )
        except BaseException:
            self._loop.close()
            raise
        self._session = self._application.session
        self._demands.kernel = self._session.kernel
        self._running = Running(self._loop, self._handoff, self._application, self._demands)
        self._running.surroundings = self._surroundings

    def _open_node(self, **options: Any) -> None:
        """Let processors in TypeScript run on the loop; each of their waits is a gate where the test is explored."""
        self._node = NodeProcessors(self._loop, **options)
        self._application.on_crash = self._node.crash
        if self._session.explored:
            self._node.explore(self._running.stand)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    if not TYPE_CHECKING:  # A checker would take every name for one that there is.

        def __getattr__(self, name: str) -> NoReturn:
            raise missing_attribute(self, name)

    # what a test sets up --------------------------------------------------------------------------------------------

    def register(self, slug: str, processor: JobProcessor | str) -> None:
        """Set the processor of a tool: a callable, "module:name" or "path.ts#name".

        Raises UsageError, also for what the registry refuses; EnvironmentUnavailable if TypeScript finds no Node.
        """
        _refuse_no_text(slug, "the name of a tool")
        if slug in self.served:
            raise UsageError(
                f"the tool {slug!r} already has a processor",
                hint="Call register() once for each tool of a test; another processor needs a tool of another name.",
            )
        found = self._node.attach(find_processor(processor), slug=slug, strictly=True)
        self._application.register(slug, telling(found, self._running.begin))
        self._registered.append(found)
        self.served[slug] = processor

    def host(self, process: HostProcess) -> HostedProcessors:
        """Return what runs jobs in the process of a test in another language: register its `processor(slug)`."""
        return self._node.host(process)

    def register_celery(self, app: Any) -> CeleryTasks:
        """Run every task of a Celery application here: `task.delay()` and `apply_async()` enqueue to this harness.

        A message is a job of the tool named after the task, with hyphens: `shop-tasks-charge`. Raises UsageError
        if it is not a Celery application, or has no tasks.
        """
        from job_harness.subjects.processors.celery import CeleryTasks

        tasks = CeleryTasks(self, app)
        self._on_close.append(tasks.restore)
        return tasks

    def enqueue(
        self,
        /,
        slug: str,
        input: Json = None,
        *,
        priority: int = 0,
        start_after: Moment | None = None,
        max_attempts: int | None = None,
        unique_key: str | None = None,
        **unknown: Never,
    ) -> JobHandle:
        """Enqueue a job, also from inside a processor. If its unique key is held, return the job that holds it.

        `start_after` is a duration from now or a datetime. Raises UsageError for an unknown tool, and for an input
        that is not JSON.
        """
        if unknown:
            name, options = next(iter(unknown)), ("start_after", "priority", "max_attempts", "unique_key")
            raise UsageError(f"enqueue() takes no {name!r}{did_you_mean(name, options)}", hint=available(options))
        return self.enqueue_part(
            slug,
            input,
            priority=priority,
            start_after=start_after,
            max_attempts=max_attempts,
            unique_key=unique_key,
        )

    def enqueue_part(
        self,
        slug: str,
        input: Json,
        *,
        work: str | None = None,
        priority: int = 0,
        start_after: Moment | None = None,
        max_attempts: int | None = None,
        unique_key: str | None = None,
    ) -> JobHandle:
        """Enqueue a job that is a part of a piece of `work`: what happens at most once does so in all its parts."""
        slug = self._tool(slug)
        refuse_numbers(priority=priority, max_attempts=max_attempts)
        if unique_key is not None:
            _refuse_no_text(unique_key, "a unique key")
        self._running.pass_point(f"before enqueue {slug}")
        self._number += 1
        request = JobRequest(
            id=f"job-{self._number}",
            tool=slug,
            input=input,
            priority=priority,
            max_attempts=max_attempts,
            start_after=None if start_after is None else self._instant(start_after),
            unique_key=unique_key,
            work=work,
        )
        now = self._session.kernel.now
        job = self._application.enqueue(request)
        if job == request.id:
            self._accepted[job] = Accepted(request, now)
            if (delivery := current()) is not None and (endless := self._descent.add(job, delivery.job, at=now)):
                self._loop.break_with(endless)
        self._running.pass_point(f"after enqueue {slug}")
        return self._handle(job)

    def _tool(self, name: str) -> str:
        """Return the tool that is meant by a name, its own or another library's. Raises UsageError where it is none."""
        _refuse_no_text(name, "the name of a tool")
        known, slug = self._application.registry.get_registered_tools(), self.tasks.get(name, name)
        if slug not in known:
            raise UsageError(
                f"no processor is registered for the tool {slug!r}{did_you_mean(slug, [*known, *self.tasks])}",
                hint=f"Call register({slug!r}, processor) first.",
            )
        return slug

    def explain_job(self, job: JobHandle, reason: str) -> None:
        """Say why a job was enqueued, in words that go on after its name, for a run that does not end."""
        self._descent.reasons[job.id] = reason

    def cancel(self, job: JobHandle | JobId) -> bool:
        """Cancel a job, as an operator does. Returns False if it has already ended."""
        return self._application.cancel(self._id(job))

    def retry(self, job: JobHandle | JobId) -> bool:
        """Give a failed or cancelled job new attempts, as an operator does. Returns False if it is neither."""
        return self._application.retry(self._id(job))

    # what a test lets go wrong --------------------------------------------------------------------------------------

    def crash_worker(self, *, at: str | None = None, job: JobHandle | JobId | None = None) -> None:
        """Crash the worker: now, or the next time it comes to a place. Another one starts at once.

        `at` is "before starting", "while running" (where the processor first waits), "before complete" or another verb
        of a worker, "after complete" (the reply is lost), or the name of a step or an effect. Nothing that the
        crashed worker was about to do happens; its jobs wait until their lease runs out. A crash that never happens
        fails the test. Raises UsageError for a place that does not exist.
        """
        self._refuse()
        if at is None:
            self._application.crash("now")
            return
        _refuse_no_text(at, "a place")
        self._application.refuse_place(at)
        self._demands.die(at, None if job is None else self._id(job))
        self._session.arm()

    def deliver_twice(self, job: JobHandle | JobId) -> None:
        """Deliver a job twice next time, so that its processor runs twice at once.

        Raises UsageError for a job that has ended.
        """
        name = self._id(job)
        if self._look(name).terminal:
            raise UsageError(
                f"{name} has ended, so it will not be delivered again", hint="Call deliver_twice before drain()."
            )
        self._application.refuse_redelivery()
        self._demands.twice.add(name)
        self._session.arm()

    # what a test lets happen ----------------------------------------------------------------------------------------

    def perform_job(self, processor: JobProcessor | str, input: Json) -> JobResult:
        """Run a processor, given by slug, by name or directly, once without the queue; its exceptions pass through."""
        registry = self._application.registry
        processor = self.tasks.get(processor, processor) if isinstance(processor, str) else processor
        if isinstance(processor, str) and registry.has_processor(processor):
            slug, found = processor, registry.get_processor(processor)
            found = getattr(found, "told", found)
        elif isinstance(processor, str) and ":" not in processor and not names_typescript(processor):
            known = registry.get_registered_tools()
            raise UsageError(
                f"no processor is registered for the tool {processor!r}{did_you_mean(processor, known)}",
                hint=how_to_name(processor) or f"Call register({processor!r}, processor) first.",
            )
        else:
            slug, found = "perform-job", self._node.attach(find_processor(processor))
        job = self._application.tool_job(slug, input)
        if found not in self._registered:
            self._registered.append(found)
        result = self._drive(lambda: self._loop.run(self._running.perform_once(found, job)))
        try:
            return result_of(result)
        except NoResultError as error:
            raise UsageError(str(error)) from None

    def work_one(self) -> JobHandle | None:
        """Claim one job that is due, and finish this attempt. Returns None if no job is due."""
        if not self._application.due():
            return None
        before = len(self.history)
        self._work(1, lambda: self._application.allowance == 0 and not self._application.processing)
        claimed = [e for e in self.history.events[before:] if type(e) is Observed and e.verb == "claim"]
        return self._handle(claimed[0].job) if claimed else None

    def drain(self, *, with_scheduled: bool = False, with_recursion: bool = True, limit: int | None = None) -> Counts:
        """Work until no job is due, and return counts by outcome; failures are recorded, not raised.

        `with_scheduled` also lets time pass for retries and delayed jobs. `with_recursion=False` leaves out jobs that
        are enqueued meanwhile. `limit` is the most attempts to make; without it, 100 000, and LimitReached beyond.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise UsageError(f"limit is {clipped(limit)}; give a whole number of at least 1")
        application = self._application
        self._bidden = True
        before = len(self.history)

        def rested() -> bool:
            if application.processing:
                return False
            waiting = application.unfinished() if with_scheduled else application.due()
            return not waiting or application.allowance == 0

        if not with_recursion:
            application.only = frozenset(self._session.job_index.live)
        try:
            if application.due() or application.processing or (with_scheduled and application.unfinished()):
                self._work(MOST_JOBS if limit is None else limit, rested)
        finally:
            if not with_recursion:
                application.only = None
        if limit is None and application.allowance == 0 and application.due():
            raise LimitReached(
                f"drain() made {MOST_JOBS} attempts and jobs are still due: do they enqueue each other?",
                hint="Pass a limit, drain(limit=1000), and look at what it ran.",
            )
        events = self.history.events[before:]
        failed = {e.job for e in events if type(e) is Observed and e.after and e.after.status is Status.FAILED}
        worked = {e.job for e in events if type(e) is Observed}

        def on_read() -> None:
            self._looked = True
            self._looked_at.update(failed)
            self._seen.update(worked)

        return Counts(count_outcomes(events), on_read=on_read)

    def run_until_idle(self) -> None:
        """Let time pass, and worker and maintenance work, until every job has ended.

        Raises Hung if jobs enqueue each other without end, 2 000 in one chain (`longest_chain`) or 5 000 from one
        job (`most_from_one`), and LimitReached after 2 000 attempts of one job or ten years of virtual time.
        """
        self._bidden = True
        if self._session.job_index.live:
            self._work(None, lambda: not self._session.job_index.live, at_once=False)

    def advance(self, duration: Length) -> None:
        """Let time pass, and run everything that is due in it, in order."""
        length = read_length(duration)
        self._refuse()
        self._application.allow(None)
        try:
            self._drive(lambda: self._loop.advance(length / SECOND))
        finally:
            self._application.allow(0)
        self._application.check()

    def jump(self, duration: Length) -> None:
        """Move the clock and run nothing: what is overdue then happens when time next passes.

        Workers that are running a job notice that they are late, as after a suspended machine; that is no anomaly.
        """
        length = read_length(duration)
        self._refuse()
        running = [view.id for view in self._session.job_index.live.values() if view.status is Status.PROCESSING]
        if running and length:
            self._session.recorder.fault("*", LATENESS.event, {"for": length, "by": "the test"})
        self._loop.jump(length / SECOND)

    # what a test looks at -------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The current virtual time, in UTC."""
        return self._application.moment(self._session.kernel.now)

    @property
    def history(self) -> History:
        """Everything that was observed."""
        return self._session.recorder.history

    @property
    def tape(self) -> Tape:
        """What was not as usual in this run so far: `JobHarness(choices=Replay(tape))` lets the same happen again."""
        return tuple(self._demands.tape)

    def problems(self, *, title: str = "the jobs of this test") -> list[str]:
        """Say what is wrong with what happened: anomalies, FAILED jobs that the test ignored, leaks, and faults that
        were asked for and never came.
        """
        others = self.other_problems()
        found = (
            anomaly_screen(self._application, self.history, title=title),
            own_anomalies(self._session.judge, self._invariants),
        )
        return [*(problem for problem in found if problem is not None), *others]

    def other_problems(self) -> list[str]:
        """Judge what must hold at rest, and say what is wrong beside anomalies."""
        if not self._session.job_index.live:
            self._session.judge.rest(self._session.job_index.views)
        return self.test_problems()

    def test_problems(self) -> list[str]:
        """Say what is wrong beside anomalies: FAILED jobs that the test ignored, leaks, faults that never came."""
        found = (
            unseen_failures(self._session.job_index.views, self._looked_at),
            "\n".join(dict.fromkeys(self._node.blocked)) or None,
            hung(self._handoff.blocked),
            left_running(
                [
                    *self._running.leaked_tasks(besides=self._node.waiting_stubs),
                    *self._leaks.left_behind(),
                    *self._node_leaks(),
                ]
            ),
            stubs_waiting(self._node.waiting_stubs),
            not_happened(self._demands.deaths, self._demands.twice),
        )
        return [problem for problem in found if problem is not None]

    def unended(self, *, due: bool = True) -> str:
        """Name the jobs of the test's own that have not ended and that it never looked at; empty where there are none.

        What a processor enqueued is left out: no test has to wait for a reminder in three days. With `due`, it says in
        words of pytest when those that wait for a time of their own may run.
        """
        live = self._session.job_index.live
        own = (job for job in self._accepted if job not in self._seen and job not in self._descent.jobs)
        ended = never_ended([live[job] for job in own if job in live])
        waiting = self.waiting() if due else []
        return "\n".join([ended, *(f"  {line}" for line in waiting)]) if ended else ""

    def waiting(self) -> list[str]:
        """Say of each job that has a later time of its own, and has not run yet, how far off that is."""
        now, live = self.now_instant, self._session.job_index.live.values()
        waiting = [view for view in live if not view.attempts and view.start_after - now >= SECOND]
        lines = [
            f"{view.id} ({view.tool}) is due in {format_duration(rounded(view.start_after - now))}, "
            f"at {self._told(view.start_after)}"
            for view in waiting[:MOST_WAITING]
        ]
        if len(waiting) > MOST_WAITING:
            lines.append(f"and {len(waiting) - MOST_WAITING} more that are not due yet")
        if lines:
            lines.append(
                f"virtual time is {self._told(now)}; job_clock.freeze() lets the test's datetime.now() follow it"
            )
        return lines

    def _told(self, at: Instant) -> str:
        return f"{self._application.moment(at):%Y-%m-%d %H:%M:%S}"

    def unsent(self) -> str:
        """Say that jobs were to run and none was ever sent; empty where one was, or the test looked for what is there.

        A fixture that lets jobs run for every test of a file is no mistake of a test that looks at what became of none.
        """
        nothing = self._bidden and not (self._accepted or self._looked or self.worked)
        return "no job was sent: nothing ran; call enqueue() before jobs are to run" if nothing else ""

    @property
    def worked(self) -> bool:
        """Whether any processor began."""
        return any(type(event) is Effect and event.name == "started" for event in self.history.events)

    @property
    def happened(self) -> frozenset[str]:
        """The names of the side effects that processors declared."""
        events = self.history.events
        return frozenset(each.name for each in events if type(each) is Effect and each.name not in RESERVED)

    @property
    def idle(self) -> frozenset[str]:
        """The side effects that the test's own invariants and checks ask about, and of which there was none."""
        asked = {invariant.effect for invariant in self._session.judge.idle}
        return frozenset(name for name in asked | self._asked_for if name is not None) - self.happened

    @property
    def keys(self) -> tuple[EffectKey, ...]:
        """The keys of side effects: their data in `per`, their identity, or all of their data if nothing judges them.

        One that is judged without `per` has no key that could vary: it is counted whatever its data are.
        """
        judged = {invariant.effect: invariant.per for invariant in self._invariants}
        found: list[EffectKey] = []
        for event in self.history.events:
            if type(event) is Effect and event.name not in RESERVED:
                data, per = event.data or {}, judged.get(event.name, ())
                whole = "" if event.name in judged else values_of(data, sorted(data))
                key = values_of(data, per) if per else event.identity or whole
                found.append(EffectKey(event.name, event.job, event.attempt, event.at, key, event.name in judged))
        return tuple(found)

    def unserved(self) -> str:
        """Name the invariants of the test's own that ask only of jobs of a tool that this test has not; else empty.

        The line is the same for every test; below it stands what the test has.
        """
        known = [*self.tasks, *self._application.registry.get_registered_tools()]
        lines: list[str] = []
        for invariant in self._invariants:
            tool = invariant.tool
            if tool is not None and self._accepted and not {tool, slug_of(tool)} & {*known}:
                lines += [f"{invariant.id} judged no job: this test has no tool {tool!r}{did_you_mean(tool, known)}"]
        return "\n".join([*lines, f"  the tools of this test: {', '.join(self.served)}"]) if lines else ""

    def observed(self, *, title: str = "the jobs of this test", failures: Sequence[str] = ()) -> Run:
        """Return what happened as a run, for a report; `failures` is what the test found wrong."""
        return run_of(self._application, self.history, title=title, failures=failures)

    def raised(self) -> list[RaisedError]:
        """Return what processors raised last, the earliest first."""
        return list(self._running.raised)

    def notes(self) -> list[str]:
        """Name what was not under control: clocks and chance that processors read, threads, network, processes.

        Attempts that prove nothing, since they waited for what died with a worker, come first.
        """
        read = [reading for processor in self._registered for reading in readings(processor)]
        told = [
            f"{each.kind}: {each.name} at {each.place}" for each in read if not (self.frozen and each.kind == "time")
        ]
        own = (*self._running.undecided(), *dict.fromkeys(told), *bypassed(), *self._leaks.notes)
        return [*own, *self._node.findings, *self._application.notes]

    def break_off(self, why: str) -> None:
        """Let nothing go on any more: whatever lets jobs run from here on raises Hung, which says why.

        How tasks end because of it is not told.
        """
        self._loop.break_with(Hung(why))
        self._loop.set_exception_handler(lambda loop, context: None)

    def close(self) -> None:
        """End worker, maintenance and processors. What still runs has no effect on anything."""
        if self._closed:
            return
        self._closed = self._running.closed = True
        for restore in self._on_close:
            restore()
        if self._loop.broken is None:
            self._application.end()
        self._node.close()
        self._handoff.close()
        self._guests.close()
        self._loop.end_tasks()
        self._loop.close()
        self._leaks.end_children()

    # explored -------------------------------------------------------------------------------------------------------

    def always(self, check: Callable[[JobHarness], object]) -> None:
        """Call your own check after every event, and now if jobs came before it; in an explored test also at rest.

        It fails by returning False, by an AssertionError or by `pytest.fail()`. It may look at handles and effects,
        but must not let anything happen. Raises UsageError if it does not take one argument.
        """
        if any(kind(check) for kind in _RUNS_LATER):
            raise _never_run(check)
        if not (callable(check) and can_take_one(check)):
            raise UsageError(
                "always() takes a function of one argument, the harness",
                hint="An invariant such as at_most_once belongs to the fixture job_invariants.",
            )
        if not self._always:
            self._session.recorder.after_each(self._checked)
        self._always.append(check)
        if self._session.job_index.views:
            self._checked()

    @property
    def has_own_checks(self) -> bool:
        """Whether the test was judged by more than what holds of every queue: its own invariants, or `always`.

        What asks only about side effects that never happened has judged nothing.
        """
        idle = self.idle
        judged = any(invariant.effect not in idle for invariant in self._invariants)
        return judged or (bool(self._always) and not (self._asked_for and self._asked_for <= idle))

    @property
    def disturbed(self) -> bool:
        """Whether a search or a replay lets things go wrong here: how long anything took then says nothing."""
        return self._session.explored

    def report_broken(self, name: str, message: str) -> None:
        """Report an anomaly: a check of the test's own, which other code has made, does not hold."""
        self._session.judge.report("invariant_violated", "always", f"{name}: {message}")

    def _checked(self) -> None:
        if self._checking:
            return
        self._checking = True
        # Checks are plain functions: a library that refuses those on a running loop, as Django does, is shown none.
        loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            for check in self._always:
                try:
                    broken = self._broken(check)
                except Exception as error:
                    self._always.clear()
                    self._raised_by_check = _check_raised(check, error)
                    if not self._loop.is_running():
                        raise
                    self._loop.break_with(self._raised_by_check)
                    return  # To raise here would be an error of the store, which its worker tries again.
                if broken:
                    self.report_broken(_named(check), broken)
        finally:
            asyncio._set_running_loop(loop)
            self._checking = False

    def _broken(self, check: Callable[[JobHarness], object]) -> str:
        """Return why a check of the test's own does not hold; empty where it does."""
        try:
            with unobserved():  # An event comes in the midst of a processor's work, and this is none of it.
                answer = check(self)
        except BaseException as error:
            if isinstance(error, AssertionError) or _fails_a_test(error):
                return str(error).partition("\n")[0] or "an assertion without words"
            raise
        if inspect.iscoroutine(answer) or inspect.isgenerator(answer) or inspect.isasyncgen(answer):
            if not inspect.isasyncgen(answer):
                answer.close()
            raise _never_run(check)
        return "it returned False" if answer is False else ""

    def reopen(self, choices: Choices, faults: FaultPlan, *, forked: bool = True, remembers: bool = False) -> None:
        """Decide every gate by these choices. In a forked child, what a parent shares with it is made anew.

        With `remembers`, look at what deliveries leave in the modules of their processors.
        """
        if forked:
            self._loop.after_fork()
            self._application.reopen()
        self._loop.expect_answers_within(EXPLORED_ANSWER_SECONDS)
        self._demands.answer_by(choices)
        self._session.disturb(self._demands, faults)
        if (other := OtherStart.of(choices)) is not None:
            choices.pick(other.deviation.label, ("", other.deviation.option))
            self._varies = other.varies
            seed_shared_generators(seed_of(choices))
            self.jump(other.later / SECOND)
        self._running.watch_waits()
        self._loop.order_answers(self._locks)
        self._running.look = (lambda: ModuleState(modules_of_project(self._registered))) if remembers else None
        self._node.explore(self._running.stand)

    def look_for_locks_in(self, database: LockWaiters) -> None:
        """Know the database of the test: an answer that waits there for a lock is not waited for."""
        self._locks = database

    def forget_on_crash(self) -> None:
        """Let plain data in the modules of the project be as it is now whenever a worker has died, as in a new process.

        Not what modules of tests hold, which may stand for the world outside.
        """
        memory, die = ModuleMemory(modules_of_project(self._registered)), self._application.on_crash

        def dies() -> None:
            memory.set_back()
            die()

        self._application.on_crash = dies
        self._forgotten = memory.names

    def call_folders(self, names: Mapping[str, str]) -> None:
        """Let gates have these names for folders, by their paths, which are others in each session."""
        self._running.folders = names

    @property
    def folders(self) -> Mapping[str, str]:
        """The folders that gates have names for."""
        return self._running.folders

    @property
    def remembered(self) -> list[str]:
        """What of the modules of processors their deliveries have changed: it outlives a crash here."""
        return [name for name in self._running.remembered if name not in self._forgotten]

    def prepare_children(self) -> None:
        """Have ready what a forked child needs in place of processes and databases that are this process's own.

        Raises EnvironmentUnavailable.
        """
        self._application.prepare_children()

    def forget_children(self) -> None:
        """Give up what the last child used: it was not heard to end in good order."""
        self._application.forget_children()

    @property
    def chained(self) -> Collection[JobId]:
        """The jobs that processors enqueued."""
        return self._descent.jobs

    @property
    def undecided(self) -> str:
        """Why what this harness saw may be the machine's doing; empty where it is not."""
        try:
            self._application.check()
        except EnvironmentUnavailable as lost:
            return str(lost)
        except Exception:  # noqa: BLE001 - whatever else ended a worker is what the run came to
            return ""
        return "; ".join(dict.fromkeys(self._node.blocked))

    def end_processes(self) -> None:
        """End every other process that works for this harness, and nothing more: a forked child is about to leave."""
        self._node.close()

    def come_to_rest(self) -> None:
        """Let nothing go wrong any more, work until every job has ended, and judge what must hold then.

        Raises Hung if a processor hung, or if a check of `always` has judged nothing, as one that looks at what the
        test has closed.
        """
        try:
            self._rest()
        except Exception:
            if self._raised_by_check is None:
                raise
        if self._raised_by_check is not None:
            raise self._raised_by_check

    def _rest(self) -> None:
        self._session.heal()
        end = self._loop.time() + REST_SECONDS
        job_index = self._session.job_index
        try:
            if job_index.live:
                self._work(None, lambda: not job_index.live or self._loop.time() >= end, at_once=False)
        except (HarnessError, UsageError) as error:
            if self._loop.broken is not None:
                raise  # It does not come to rest, so nothing can be said of what holds there.
            self._leaks.note(f"rest: {type(error).__name__}: {error}")
        self._session.recorder.phase("judge")
        self._session.judge.rest(job_index.views)
        if self._varies:
            self._judge_key()
        if self._always:
            self._checked()

    def _judge_key(self) -> None:
        """Report the side effect whose key is known to be another one in each attempt."""
        keys = {each.key: each for each in reversed(self.keys) if each.effect == self._varies}
        if len(keys) > 1:
            again, first = list(keys.values())[-2:]
            why = "both keys come from chance or a clock (with other draws, at another time, both are others)"
            told = f"{again} after {first}: {why}, so neither tells a repetition"
            self._session.judge.report(KEY_VARIES.name, KEY_VARIES.name, told, job=again.job)

    def left_behind(self) -> list[str]:
        """Name the threads and child processes that processors left running."""
        return self._leaks.left_behind()

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """What was judged wrong so far."""
        return tuple(self._session.judge.anomalies)

    @property
    def unforkable(self) -> str:
        """Why a forked child cannot play this test; empty where it can."""
        if worked := self._node.worked:
            return (
                f"a fixture has run {worked[0]} on a job already, and what its module remembers is in a Node process "
                "that a forked run cannot share; run that job in the test itself"
            )
        return self._application.unforkable

    @property
    def own_descriptors(self) -> frozenset[int]:
        """The descriptors of its loop, which `reopen` makes anew in a forked child."""
        return self._loop.own_descriptors()

    @property
    def settings(self) -> Settings:
        """The settings of its queue and worker."""
        return self._application.settings

    @property
    def engine(self) -> str:
        """What a failure calls the place of work."""
        return self._application.engine

    @property
    def now_instant(self) -> Instant:
        """The virtual time in microseconds from the start."""
        return self._session.kernel.now

    # inside ---------------------------------------------------------------------------------------------------------

    def _work(self, jobs: int | None, until: Callable[[], bool], *, at_once: bool = True) -> None:
        self._refuse()
        application = self._application
        application.allow(jobs)
        if at_once:
            application.wake()
        try:
            ended = self._descent.bounded(
                lambda: until() or application.ended, clock=self._loop.time, live=self._session.job_index.live
            )
            self._drive(lambda: self._loop.run_until(ended))
        finally:
            if jobs is None or application.allowance is None:
                application.allow(0)
        application.check()

    def _node_leaks(self) -> list[str]:
        return self._node.leaks() if self._loop.broken is None else []

    def _drive(self, run: Callable[[], Any]) -> Any:
        self._refuse()
        self._guests.look_around()
        with (
            self._surroundings.lent(),
            self._leaks.watching(),
            freeze_kept(),
            self._interrupts.watched(),
            collecting_seldom(),
        ):
            return run()

    def refuse_inside(self) -> None:
        """Raise UsageError where a processor tries to move time."""
        if self._loop.is_in_this_thread():
            raise UsageError(
                "a processor cannot move time or run other jobs",
                hint="Inside a processor, await asyncio.sleep(seconds), or enqueue() a job that runs later.",
            )

    def _refuse(self) -> None:
        if self._closed:
            raise UsageError("this harness is closed", hint="Use the fixture only while its test runs.")
        with contextlib.suppress(RuntimeError):
            if asyncio.get_running_loop() is not self._loop:
                raise UsageError(
                    "this test is a coroutine, and its loop cannot wait while job_harness lets time pass",
                    hint="Ask for async_job_harness and await its methods: await async_job_harness.run_until_idle().",
                )
        self._loop.refuse_nesting()

    def _blocked(self, what: str) -> None:
        self._leaks.note(f"blocking: {what} in a coroutine, which keeps its whole worker waiting,")

    def _in_doubt(self, what: str) -> None:
        self._leaks.notes[f"real time: {what}"] = None

    def _moved(self, seconds: float) -> None:
        self._session.moved(round(seconds * SECOND))
        self._interrupts.check()
        if self.on_time is not None:
            self.on_time(self.now)

    def _instant(self, moment: Moment) -> Instant:
        if not isinstance(moment, datetime):
            return self._session.kernel.now + read_length(moment)
        if moment.tzinfo is None:
            raise UsageError(f"start_after {moment} has no time zone", hint="Add one, such as tzinfo=UTC.")
        return round((moment - self._application.start).total_seconds() * SECOND)

    def _id(self, job: JobHandle | JobId) -> JobId:
        name = job.id if isinstance(job, JobHandle) else job
        _refuse_no_text(name, "a job that was enqueued, or its id")
        self._view(name)
        return name

    def _handle(self, job: JobId) -> JobHandle:
        return JobHandle(job, self._view(job).tool, read=self._look, history=self.history)

    def _look(self, job: JobId) -> JobView:
        view = self._view(job)
        self._seen.add(job)
        if view.status is Status.FAILED:
            self._looked_at.add(job)
        return view

    def _view(self, job: JobId) -> JobView:
        view = self._session.job_index.views.get(job)
        if view is None:
            view = next((e.before for e in reversed(self.history.events) if type(e) is Observed and e.job == job), None)
        if view is None:
            known = self._session.job_index.views
            raise UsageError(
                f"there is no job {job!r}{did_you_mean(job, known)}", hint="Pass what enqueue() returned, or its id."
            )
        return view


def _refuse_no_text(value: object, wanted: str) -> None:
    """Raise UsageError for what is not even text."""
    if not isinstance(value, str):
        raise UsageError(f"{clipped(value)} is not {wanted}")


def _refuse_opening(*, start: object, blocked_after: object, **given: object) -> None:
    """Raise UsageError for what no harness can be opened with."""
    wanted = {
        "settings": ("a Settings", isinstance(given["settings"], Settings)),
        "seed": ("a whole number", isinstance(given["seed"], int)),
        "workplace": ("a class or function that opens one", callable(given["workplace"])),
        "choices": ("Choices, such as Replay(tape)", isinstance(given["choices"], Choices | None)),
        "faults": ("a FaultPlan", isinstance(given["faults"], FaultPlan)),
    }
    for name, (what, right) in wanted.items():
        if not right:
            raise UsageError(f"{name} is {clipped(given[name])}; give {what}")
    number = isinstance(blocked_after, int | float) and not isinstance(blocked_after, bool)
    if not (number and blocked_after > 0):  # type: ignore[operator]
        raise UsageError(f"blocked_after is {clipped(blocked_after)}; give real seconds, more than 0, such as 30")
    if not isinstance(start, datetime) or start.year > LAST_YEAR:
        raise UsageError(f"start is {clipped(start)}; give a datetime up to the year {LAST_YEAR}")
    if start.tzinfo is None:
        raise UsageError(f"start {start} has no time zone", hint="Add one, such as tzinfo=UTC.")


def _checked_invariants(invariants: Iterable[Invariant]) -> tuple[Invariant, ...]:
    """Return them as they are. Raises UsageError for anything but several invariants."""
    several = tuple(invariants) if isinstance(invariants, Iterable) else (invariants,)
    wrong = [each for each in several if not isinstance(each, Invariant)]
    if wrong or not isinstance(invariants, Iterable):
        raise UsageError(
            f"expected a list of invariants, not {clipped(wrong[0]) if wrong else 'a single one'}",
            hint='Let the fixture job_invariants return a list, such as [at_most_once("charged")].',
        )
    return several


def _named(check: Callable[..., object]) -> str:
    """Name a check of the test's own; one without a name by its place."""
    if inspect.isfunction(check) and check.__name__ == "<lambda>":
        return f"the lambda at {Path(check.__code__.co_filename).name}:{check.__code__.co_firstlineno}"
    return getattr(check, "__name__", "a check")


def _fails_a_test(error: BaseException) -> bool:
    """Whether this is `pytest.fail()`, or a `pytest.raises` in which nothing was raised: neither is an Exception."""
    pytest = sys.modules.get("pytest")
    return pytest is not None and isinstance(error, pytest.fail.Exception)


def _check_raised(check: Callable[..., object], error: Exception) -> Hung:
    """Return what ends a run in which a check of the test's own has judged nothing."""
    if isinstance(error, HarnessError):
        return Hung(error.message, hint=error.hint)
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if not is_others(frame.filename)), frames[-1])
    return Hung(
        f"always(): {_named(check)} raised {type(error).__name__}: {error}, at {place.filename}:{place.lineno}",
        hint="It is called after every event: let it expect what is not there yet, and assert what must hold.",
    )


_RUNS_LATER: Final = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def _never_run(check: Callable[..., object]) -> UsageError:
    return UsageError(
        f"always(): {_named(check)} is a coroutine function or a generator function, whose body a call does not run, "
        "so it could never fail",
        hint="Write it with def and without yield: it looks at handles and effects, and has nothing to wait for.",
    )


class Interrupts:
    """Remembers a Ctrl-C that other code swallowed."""

    def __init__(self) -> None:
        self._pressed = False

    @contextlib.contextmanager
    def watched(self) -> Generator[None]:
        """Watch inside the block, in the main thread, unless other code handles the signal already."""
        mine = threading.current_thread() is threading.main_thread()
        if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt where the key was pressed."""
        if self._pressed:
            self._pressed = False
            raise KeyboardInterrupt

    def _press(self, number: int, frame: FrameType | None) -> None:
        self._pressed = True
        raise KeyboardInterrupt
