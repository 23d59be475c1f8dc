"""`JobHarness`: a test enqueues, lets virtual time pass, and looks at what became of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, NoReturn, Self

from job_harness.core.faults import FaultPlan
from job_harness.core.history import Observed
from job_harness.core.invariants import Anomaly, Invariant
from job_harness.core.model import SECOND, Instant, JobId, Json, Settings, Status
from job_harness.core.port import JobRequest
from job_harness.core.run.session import NO_FAULTS
from job_harness.core.sim import Choices, Tape
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
    LimitReached,
    UsageError,
    available,
    clipped,
    did_you_mean,
    missing_attribute,
)
from job_harness.subjects.processors.assertions import (
    Assertions,
    Counts,
    count_outcomes,
    refuse_numbers,
)
from job_harness.subjects.processors.bench import Bench
from job_harness.subjects.processors.clocks import VIRTUAL, checked_clocks
from job_harness.subjects.processors.dbos import ProcessStart
from job_harness.subjects.processors.delivery import current
from job_harness.subjects.processors.descent import LONGEST_CHAIN, MOST_FROM_ONE
from job_harness.subjects.processors.harness_play import HarnessPlay
from job_harness.subjects.processors.harness_review import HarnessReview
from job_harness.subjects.processors.hosted import HostedProcessors, HostProcess
from job_harness.subjects.processors.job_book import Accepted, JobHandle, refuse_no_text
from job_harness.subjects.processors.length import Length, Moment, read_length
from job_harness.subjects.processors.own_checks import OwnChecks
from job_harness.subjects.processors.processor import find_processor, how_to_name, telling
from job_harness.subjects.processors.thread_handoff import BLOCKED_AFTER_SECONDS
from job_harness.subjects.processors.typescript.target import names_typescript
from job_harness.subjects.processors.workplace import MakeWorkplace

if TYPE_CHECKING:
    from job_harness.subjects.processors.celery import CeleryTasks

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

        That is in real seconds: a coroutine that does not come back within them ends the test with
        LimitReached, which names its line; a plain function counts as hanging, and virtual time
        goes on without it.

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
        self.bench = Bench(
            self,
            settings=settings,
            seed=seed,
            start=start,
            blocked_after=blocked_after,
            invariants=_checked_invariants(invariants),
            workplace=workplace,
            choices=choices,
            faults=faults,
            clocks=clocks,
        )
        # Its parts are for doors and searches: no test has need of them, and they may change.
        self.book = self.bench.book
        self.checks = OwnChecks(self, session=self.bench.session, loop=self.bench.loop)
        self.review = HarnessReview(self.bench, self.checks)
        self.play = HarnessPlay(self.bench, self.checks, self.review)
        self._on_close: list[Callable[[], None]] = []
        self._processes: list[ProcessStart] = []
        self._number = 0
        self.longest_chain = LONGEST_CHAIN
        """Jobs each of which was enqueued by the one before; with more of them the run ends."""
        self.most_from_one = MOST_FROM_ONE
        """Jobs that come from one, by enqueueing each other; with more of them the run ends."""

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

        Raises UsageError, also for what the registry refuses; EnvironmentUnavailable if TypeScript
        finds no Node.
        """
        refuse_no_text(slug, "the name of a tool")
        if slug in self.book.served:
            raise UsageError(
                f"the tool {slug!r} already has a processor",
                hint="Call register() once for each tool of a test; another processor needs a tool of another name.",
            )
        processor = self.bench.running.replacements.put(slug, processor, served=self.book.served)
        found = self.bench.node.attach(find_processor(processor), slug=slug, strictly=True)
        self.bench.application.register(slug, telling(found, self.bench.running.begin))
        self.bench.registered.append(found)
        self.bench.of_tool[slug] = found
        self.book.served[slug] = processor

    def on_start(self, start: Callable[[], object], *, polls_late_by: Length = "0s") -> None:
        """Call this in each life of the worker before it claims a job, as a process does when it starts.

        A crash ends that life, and with it the tasks and threads that `start` began; the next life
        calls it again. What those declare as effects belongs to `start-N`, in the Nth life. A
        thread that looks for work again and again may be late by `polls_late_by`, while nothing
        else happens: then a night of idle polls costs little.
        """
        if isinstance(start, ProcessStart):
            polls_late_by = start.polls_late_by
            self._processes.append(start)
        late = read_length(polls_late_by) / SECOND
        self.bench.guests.by_turns = self.bench.guests.is_process = True
        self.bench.application.start_with(lambda life: self.bench.running.start(start, life, polls_late_by=late))

    def host(self, process: HostProcess) -> HostedProcessors:
        """Return what runs jobs in the process of a test in another language: register its `processor(slug)`."""
        return self.bench.node.host(process)

    def register_celery(self, app: Any) -> CeleryTasks:
        """Run every task of a Celery application here: `task.delay()` and `apply_async()` enqueue to this harness.

        A message is a job of the tool named after the task, with hyphens: `shop-tasks-charge`.
        Raises UsageError if it is not a Celery application, or has no tasks.
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
            refuse_no_text(unique_key, "a unique key")
        self.bench.running.pass_point(f"before enqueue {slug}")
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
        now = self.bench.instant
        job = self.bench.application.enqueue(request)
        if job == request.id:
            self.book.accepted[job] = Accepted(request, now)
            if (delivery := current()) is not None and (endless := self.bench.descent.add(job, delivery.job, at=now)):
                self.bench.loop.break_with(endless)
        self.bench.running.pass_point(f"after enqueue {slug}")
        return self.book.handle(job)

    def _tool(self, name: str) -> str:
        """Return the tool that is meant by a name, its own or another library's. Raises UsageError where it is none."""
        refuse_no_text(name, "the name of a tool")
        known, slug = self.bench.application.registry.get_registered_tools(), self.book.tasks.get(name, name)
        if slug not in known:
            raise UsageError(
                f"no processor is registered for the tool {slug!r}{did_you_mean(slug, [*known, *self.book.tasks])}",
                hint=f"Call register({slug!r}, processor) first.",
            )
        return slug

    def cancel(self, job: JobHandle | JobId) -> bool:
        """Cancel a job, as an operator does. Returns False if it has already ended."""
        return self.bench.application.cancel(self.book.id_of(job))

    def retry(self, job: JobHandle | JobId) -> bool:
        """Give a failed or cancelled job new attempts, as an operator does. Returns False if it is neither."""
        return self.bench.application.retry(self.book.id_of(job))

    # what a test lets go wrong --------------------------------------------------------------------------------------

    def crash_worker(self, *, at: str | None = None, job: JobHandle | JobId | None = None) -> None:
        """Crash the worker: now, or the next time it comes to a place. Another one starts at once.

        `at` is "before starting", "while running" (where the processor first waits), "before complete" or another verb
        of a worker, "after complete" (the reply is lost), or the name of a step or an effect. Nothing that the
        crashed worker was about to do happens; its jobs wait until their lease runs out. A crash that never happens
        fails the test. Raises UsageError for a place that does not exist.
        """
        self.bench.refuse()
        if at is None:
            self.bench.application.crash("now")
            return
        refuse_no_text(at, "a place")
        self.bench.application.refuse_place(at)
        self.bench.demands.die(at, None if job is None else self.book.id_of(job))
        self.bench.session.arm()

    def deliver_twice(self, job: JobHandle | JobId) -> None:
        """Deliver a job twice next time, so that its processor runs twice at once.

        Raises UsageError for a job that has ended.
        """
        name = self.book.id_of(job)
        if self.book.look(name).terminal:
            raise UsageError(
                f"{name} has ended, so it will not be delivered again", hint="Call deliver_twice before drain()."
            )
        self.bench.application.refuse_redelivery()
        self.bench.demands.twice.add(name)
        self.bench.session.arm()

    # what a test lets happen ----------------------------------------------------------------------------------------

    def perform_job(self, processor: JobProcessor | str, input: Json) -> JobResult:
        """Run a processor, given by slug, by name or directly, once without the queue; its exceptions pass through."""
        registry = self.bench.application.registry
        processor = self.book.tasks.get(processor, processor) if isinstance(processor, str) else processor
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
            slug, found = "perform-job", self.bench.node.attach(find_processor(processor))
        job = self.bench.application.tool_job(slug, input)
        if found not in self.bench.registered:
            self.bench.registered.append(found)
        self.bench.running.tools.update(tool for tool, each in self.bench.of_tool.items() if each is found)
        result = self.bench.drive(lambda: self.bench.loop.run(self.bench.running.perform_once(found, job)))
        try:
            return result_of(result)
        except NoResultError as error:
            raise UsageError(str(error)) from None

    def work_one(self) -> JobHandle | None:
        """Claim one job that is due, and finish this attempt. Returns None if no job is due."""
        if not self.bench.application.due():
            return None
        before = len(self.bench.history)
        self.bench.work(1, lambda: self.bench.application.allowance == 0 and not self.bench.application.processing)
        claimed = [e for e in self.bench.history.events[before:] if type(e) is Observed and e.verb == "claim"]
        return self.book.handle(claimed[0].job) if claimed else None

    def drain(self, *, with_scheduled: bool = False, with_recursion: bool = True, limit: int | None = None) -> Counts:
        """Work until no job is due, and return counts by outcome; failures are recorded, not raised.

        `with_scheduled` also lets time pass for retries and delayed jobs. `with_recursion=False` leaves out jobs that
        are enqueued meanwhile. `limit` is the most attempts to make; without it, 100 000, and LimitReached beyond.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise UsageError(f"limit is {clipped(limit)}; give a whole number of at least 1")
        application = self.bench.application
        self.book.bidden = True
        before = len(self.bench.history)

        def rested() -> bool:
            if application.processing:
                return False
            waiting = application.unfinished() if with_scheduled else application.due()
            return not waiting or application.allowance == 0

        if not with_recursion:
            application.only = frozenset(self.bench.session.job_index.live)
        try:
            if application.due() or application.processing or (with_scheduled and application.unfinished()):
                self.bench.work(MOST_JOBS if limit is None else limit, rested)
        finally:
            if not with_recursion:
                application.only = None
        if limit is None and application.allowance == 0 and application.due():
            raise LimitReached(
                f"drain() made {MOST_JOBS} attempts and jobs are still due: do they enqueue each other?",
                hint="Pass a limit, drain(limit=1000), and look at what it ran.",
            )
        events = self.bench.history.events[before:]
        failed = {e.job for e in events if type(e) is Observed and e.after and e.after.status is Status.FAILED}
        worked = {e.job for e in events if type(e) is Observed}

        def on_read() -> None:
            self.book.looked = True
            self.book.looked_at.update(failed)
            self.book.seen.update(worked)

        return Counts(count_outcomes(events), on_read=on_read)

    def run_until_idle(self) -> None:
        """Let time pass, and worker and maintenance work, until every job has ended.

        Raises Hung if jobs enqueue each other without end, 2 000 in one chain (`longest_chain`) or
        5 000 from one job (`most_from_one`), and LimitReached after 2 000 attempts of one job or
        ten years of virtual time.
        """
        self.book.bidden = True
        if self.bench.session.job_index.live:
            self.bench.work(None, lambda: not self.bench.session.job_index.live, at_once=False)

    def advance(self, duration: Length) -> None:
        """Let time pass, and run everything that is due in it, in order."""
        length = read_length(duration)
        self.bench.refuse()
        self.bench.application.allow(None)
        try:
            self.bench.drive(lambda: self.bench.loop.advance(length / SECOND))
        finally:
            self.bench.application.allow(0)
        self.bench.application.check()

    def jump(self, duration: Length) -> None:
        """Move the clock and run nothing: what is overdue then happens when time next passes.

        Workers that are running a job notice that they are late, as after a suspended machine; that
        is no anomaly.
        """
        self.bench.jump(read_length(duration))

    # what a test looks at -------------------------------------------------------------------------------------------

    @property
    def tape(self) -> Tape:
        """What was not as usual in this run so far: `JobHarness(choices=Replay(tape))` lets the same happen again."""
        return tuple(self.bench.demands.tape)

    def close(self) -> None:
        """End worker, maintenance and processors. What still runs has no effect on anything."""
        if not self.bench.closed:
            for restore in self._on_close:
                restore()
            self.bench.close()
            for process in self._processes:
                process.end()

    def always(self, check: Callable[[JobHarness], object]) -> None:
        """Call your own check after every event, and now if jobs came before it; in an explored test also at rest.

        It fails by returning False, by an AssertionError or by `pytest.fail()`. It may look at
        handles and effects, but must not let anything happen. Raises UsageError if it does not take
        one argument.
        """
        self.checks.add(check)

    @property
    def settings(self) -> Settings:
        """The settings of its queue and worker."""
        return self.bench.application.settings

    @property
    def engine(self) -> str:
        """What a failure calls the place of work."""
        return self.bench.application.engine

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """What was judged wrong so far."""
        return tuple(self.bench.session.judge.anomalies)

    def problems(self, *, title: str = "the jobs of this test") -> list[str]:
        """Say what is wrong with what happened: anomalies, FAILED jobs that the test ignored, leaks, and faults that
        were asked for and never came.
        """
        return self.review.problems(title=title)

    def notes(self) -> list[str]:
        """Name what was not under control: clocks and chance that processors read, threads, network, processes.

        Attempts that prove nothing, since they waited for what died with a worker, come first.
        """
        return self.review.notes()

    def _instant(self, moment: Moment) -> Instant:
        if not isinstance(moment, datetime):
            return self.bench.instant + read_length(moment)
        if moment.tzinfo is None:
            raise UsageError(f"start_after {moment} has no time zone", hint="Add one, such as tzinfo=UTC.")
        return round((moment - self.bench.application.start).total_seconds() * SECOND)


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
