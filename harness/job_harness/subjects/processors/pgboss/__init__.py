"""pg-boss's own `work()` loop as the place of work of a `JobHarness`. What pg-boss cannot do is refused by name.

Hides the handlers: one processor after the other, and the first failure is what a handler throws.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from job_harness.core.faults import FaultPlan
from job_harness.core.history import Outcome, OutcomeKind
from job_harness.core.invariants import Invariant, everything
from job_harness.core.model import SECOND, Instant, JobId, Json, Settings, json_problem
from job_harness.core.port import Claim, JobRequest
from job_harness.core.run.live import JobPoint, LiveTest
from job_harness.core.run.observation import Observation
from job_harness.core.sim import Choices
from job_harness.core.sim.lifetime import Lifetime
from job_harness.core.sim.loop import VirtualLoop
from job_harness.engines.pgboss.package import NEWEST_OF_10
from job_harness.engines.pgboss.translation import send_options, uuid_of
from job_harness.engines.pgboss.work import HandlerCall, WorkProcess, WorkTurn, work_options
from job_harness.engines.reference.application import (
    BEFORE_STARTING,
    JobProcessor,
    NonRetryableError,
    NoResultError,
    Registry,
    RunBlocking,
    StartUp,
    ToolJob,
    result_of,
    sample_job,
    telling_of_input,
    through_any_json,
    through_json,
)
from job_harness.errors import HarnessError, UsageError
from job_harness.subjects.processors.pgboss.driven import DrivenProcess, WorkRows
from job_harness.subjects.processors.processor import is_async
from job_harness.subjects.processors.workplace import MakeWorkplace

PLACES: Final = ("before starting", "while running", "before complete", "before completing", "before fail")
"""Where its process can be made to die, beside the steps and effects of a processor."""
ON_MEMORY: Final = "run this test on --job-engine=memory"


class PgBossApplication:
    """One pg-boss process with a worker for each tool, recorded and judged by its rows."""

    def __init__(
        self,
        process: WorkProcess,
        loop: VirtualLoop,
        *,
        run_blocking: RunBlocking,
        settings: Settings,
        seed: int,
        start: datetime,
        invariants: Iterable[Invariant],
        choices: Choices,
        faults: FaultPlan,
    ) -> None:
        """Begin on empty tables. Raises UsageError for settings that pg-boss cannot keep, EnvironmentUnavailable."""
        self._work_options = work_options(settings)
        self.settings = settings
        self.start = start
        self.engine = process.name
        observation = Observation(
            lambda clocks: WorkRows(process),
            settings=process.contract.effective(settings),
            contract=process.contract,
            invariants=lambda rows: (*everything(), *invariants),
        )
        observation.clocks.now = round(loop.time() * SECOND)
        self.session = LiveTest(observation, loop, choices=choices, faults=faults)
        self._board = observation.job_index
        self.registry = Registry()
        self._loop = loop
        self._driven = DrivenProcess(process, loop, observation=observation, seed=seed, caller=self)
        self._handlers = Handlers(
            self._driven,
            loop,
            run_blocking=run_blocking,
            registry=self.registry,
            moment=lambda: self.moment(self.session.clocks.now),
            session=self.session,
        )
        self._at_work: set[str] = set()
        """The tools whose worker was started in the present process."""
        self._start_worker()

    # what the test does ---------------------------------------------------------------------------------------------

    def register(self, slug: str, processor: JobProcessor) -> None:
        """Let a processor be the handler of a queue of the tool's name. Raises `ConfigurationError`, UsageError."""
        self.registry.register_processor(slug, processor)
        self._done(
            self._driven.ask("create", queue=slug, options={"policy": self._driven.process.keys.policy.name}),
            f"the queue {slug!r} cannot be made",
        )

    def enqueue(self, request: JobRequest) -> JobId:
        """Send a job. Raises UsageError for what JSON cannot hold, and for what pg-boss refuses."""
        keyed = request.unique_key is not None
        if keyed and not self._driven.process.keys.policy.unique:
            raise self._cannot(
                "enqueue(unique_key=...)",
                f"queues with the policy {self._driven.process.keys.policy.name!r} look at no key",
                f"Name a policy that does, as in --job-engine=pgboss-node@12/exclusive, or {ON_MEMORY}.",
            )
        with telling_of_input(request):
            data = {"job": request.id, "input": through_json(request.input)}
        process = self._driven.process
        options = send_options(
            request,
            self.settings,
            id=uuid_of(request.id),
            keys=process.keys,
            keeps_queues=process.tables.keeps_queues,
        )
        holder: list[JobId] = []

        def after_turn(turn: WorkTurn) -> None:
            outcome = turn.outcome
            if keyed and outcome.kind is OutcomeKind.REFUSED:
                holder.extend(self._holders(request))
                outcome = Outcome.refused("the unique key is held", holder[0] if holder else None)
            self._driven.told.enqueued(request, outcome)

        ago = process.strictly
        turn = self._driven.send(told=after_turn, ago=ago, queue=request.tool, data=data, options=options)
        if holder:
            return holder[0]
        self._done(turn, f"{request.id} cannot be sent")
        return request.id

    def _holders(self, request: JobRequest) -> list[JobId]:
        views = self._board.live.values()
        return [view.id for view in views if (view.tool, view.unique_key) == (request.tool, request.unique_key)]

    def cancel(self, job: JobId) -> bool:
        """Cancel a job. False: it is terminal or unknown."""
        return self._operate("cancel", job)

    def retry(self, job: JobId) -> bool:
        """Resume what was cancelled, retry what failed: one attempt more than it had."""
        return self._operate("retry", job)

    def _operate(self, verb: str, job: JobId) -> bool:
        view = self._board.views.get(job)
        if view is None:
            return False
        attempts = view.attempts

        def after_turn(turn: WorkTurn) -> None:
            if turn.outcome.value == "resume":
                self._driven.rows.grant(job, attempts + 1)
            self._driven.told.operated(verb, job, turn.outcome)

        return self._driven.ask(verb, told=after_turn, queue=view.tool, id=uuid_of(job)).outcome.done

    def tool_job(self, slug: str, value: Json) -> ToolJob:
        """Make the job that a processor would receive, its input through JSON and back."""
        return sample_job(
            slug,
            through_any_json(slug, value),
            max_attempts=self.settings.max_attempts,
            moment=self.moment(self.session.clocks.now),
        )

    def moment(self, at: Instant) -> datetime:
        """Return an instant of the run as a time of day."""
        return self.start + timedelta(microseconds=at)

    # what the worker does -------------------------------------------------------------------------------------------

    @property
    def allowance(self) -> int | None:
        """How many jobs may still be fetched; None is any number."""
        return self._driven.allowance

    def allow(self, jobs: int | None) -> None:
        """Let the workers fetch this many jobs more, None for any number."""
        self._driven.allowance = jobs
        self._start_workers()
        self._driven.plan()

    def wake(self) -> None:
        """Let the worker of each tool that has something due look now instead of at its next poll.

        Raises UsageError where a batch would take more than the test allows.
        """
        for tool in self._driven.tools_due():
            if self.allowance == 0:
                return
            self._refuse_batch(tool)
            self._driven.ask("wake", queue=tool)

    @property
    def only(self) -> Collection[JobId] | None:
        """Any job may be fetched."""
        return None

    @only.setter
    def only(self, jobs: Collection[JobId] | None) -> None:
        if jobs is not None:
            raise self._cannot(
                "drain(with_recursion=False)",
                "a worker of pg-boss fetches whatever is due in its queue",
                f"Leave with_recursion out, or {ON_MEMORY}.",
            )

    @property
    def processing(self) -> bool:
        """Whether a handler is at work that pg-boss still waits for."""
        return self._handlers.waited_for

    def due(self) -> bool:
        """Whether a job could be fetched now."""
        due = self._board.next_claim()
        return due is not None and due <= self.session.clocks.now

    def unfinished(self) -> bool:
        """Whether a job may still be fetched, now or later."""
        return bool(self._board.live)

    def claim_of(self, job: JobId, attempt: int) -> Claim | None:
        """Return the last claim of a job: its worker is given no other."""
        return self._driven.claims.get(job)

    @property
    def abandoned(self) -> tuple[JobId, ...]:
        """The jobs that pg-boss has taken back while their handler still ran."""
        return self._handlers.given_up

    def take_call(self, call: HandlerCall, claims: tuple[Claim, ...]) -> None:
        """Run the processor of a handler that pg-boss calls; too many at once end the test."""
        if self.allowance is not None and self.allowance < 0:
            self._driven.broken = self._too_many(len(claims))
        self._handlers.call(call, claims)

    def _start_worker(self) -> None:
        self.session.start_worker(self._worker_started, on_severed=self._worker_died)

    def _worker_started(self, life: Lifetime) -> None:
        self._driven.rows.worker = life.name
        self._handlers.life = life

    def _start_workers(self) -> None:
        """Start those that are missing, the one with the first job due first, while the test allows them to fetch."""
        if not self.settings.workers_enabled:
            return
        tools = dict.fromkeys((*self._driven.tools_due(), *self.registry.get_registered_tools()))
        for tool in tools:
            if tool in self._at_work or self.allowance == 0:
                continue
            self._refuse_batch(tool)
            self._at_work.add(tool)
            self._done(self._driven.ask("work", queue=tool, **self._work_options), f"work({tool!r}) was refused")

    def _refuse_batch(self, tool: str) -> None:
        waiting = sum(view.tool == tool for view in self._driven.due())
        batch = min(waiting, self.settings.batch_size)
        if self.allowance is not None and batch > self.allowance:
            raise self._too_many(batch)

    def start_with(self, start: StartUp) -> None:
        """Raise UsageError: a processor runs here, and the worker whose lives begin and end in another process."""
        raise self._cannot(
            "on_start",
            "its worker is a process of Node, and no code of the test runs in it",
            f"{ON_MEMORY.capitalize()}.",
        )

    # what goes wrong ------------------------------------------------------------------------------------------------

    def refuse_place(self, at: str) -> None:
        """Raise UsageError for a place inside pg-boss's own loop, which has none to stop at."""
        if at.startswith(("before ", "after ", "while ")) and at not in PLACES:
            raise self._cannot(
                f"crash_worker(at={at!r})",
                "its loop is not interrupted between what it asks of PostgreSQL",
                f"Use {', '.join(PLACES)}, a step or an effect of a processor, or {ON_MEMORY}.",
            )

    def crash(self, place: str) -> None:
        """Kill the process with SIGKILL; the database stays, and another process starts at once."""
        self.session.crash(place)

    def _worker_died(self) -> None:
        self._handlers.forget()
        self._at_work.clear()
        self._start_worker()
        self._driven.kill()
        if self._loop.is_running() and not self._loop.is_in_this_thread():
            # A plain processor holds up the loop for so long only as it may: what takes longer is the loop's own.
            self._loop.call_soon_threadsafe(self._begin_again, context=contextvars.Context())
        else:
            contextvars.Context().run(self._begin_again)

    def _begin_again(self) -> None:
        self._driven.restart()
        if not self.ended:
            self._start_workers()

    def refuse_redelivery(self) -> None:
        """Raise UsageError: pg-boss hands a job to one worker."""
        raise self._cannot(
            "deliver_twice",
            "a job is handed to one worker only while its attempt lasts",
            f"Let the processor outlast its lease, so that a retry runs beside it, or {ON_MEMORY}.",
        )

    def _cannot(self, method: str, why: str, instead: str) -> UsageError:
        return UsageError(f"{self.engine} cannot do {method}: {why}", hint=instead)

    def _too_many(self, batch: int) -> UsageError:
        return self._cannot(
            f"work_one() or drain(limit=...) with a batch_size of {self.settings.batch_size}",
            f"its worker takes what is due up to that number, here {batch} at once",
            "Set @pytest.mark.job_settings(batch_size=1), or drain() without a limit.",
        )

    def _done(self, turn: WorkTurn, what: str) -> None:
        if not turn.outcome.done:
            raise UsageError(f"{self.engine}: {what}: {turn.outcome.reason}")

    # forked children ------------------------------------------------------------------------------------------------

    @property
    def unforkable(self) -> str:
        """Why a forked child cannot go on from here; empty where it can."""
        return self._driven.process.unforkable

    def prepare_children(self) -> None:
        """Have a process and a database ready that forked children use in turn. Raises EnvironmentUnavailable."""
        self._driven.process.prepare_children()

    def forget_children(self) -> None:
        """Give up what the last child used: it ended in the middle of something."""
        self._driven.process.forget_children()

    def reopen(self) -> None:
        """Let go, in a forked child, of the parent's process and database. Raises EnvironmentUnavailable."""
        self._driven.reopen()

    # the end --------------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the process is gone, or did what the test does not allow."""
        return self._driven.broken is not None

    def check(self) -> None:
        """Raise what ended it."""
        if self._driven.broken is not None:
            raise self._driven.broken

    @property
    def notes(self) -> tuple[str, ...]:
        """The errors and warnings that pg-boss emitted."""
        return tuple(self._driven.said)

    def end(self) -> None:
        """Let no timer of the process fire any more."""
        self._driven.rest()


def workplace_of(process: WorkProcess) -> MakeWorkplace:
    """Return what opens a `JobHarness`'s place of work on this release of pg-boss."""
    return partial(PgBossApplication, process)


def work_process(engine: str, *, dsn: str | None = None) -> WorkProcess:
    """Return the process for an engine's name: `pgboss` is the newest 10, `pgboss-node` the newest of all.

    Raises UsageError where it is not a version.
    """
    base, _, version = engine.partition("@")
    return WorkProcess(version or (NEWEST_OF_10 if base == "pgboss" else "latest"), dsn=dsn)


class Failure(NamedTuple):
    """What the handler throws."""

    name: str
    message: str
    final: bool = False
    """Whether the processor asked for no further attempt; pg-boss does not hear it."""


class Success(NamedTuple):
    """What the handler returns."""

    output: Json


BEFORE_ANSWER: Final = {Success: "before complete", Failure: "before fail"}


class Handlers:
    """Runs the processors that a process calls for, in the lifetime of that process."""

    def __init__(
        self,
        driven: DrivenProcess,
        loop: VirtualLoop,
        *,
        run_blocking: Callable[..., Awaitable[Any]],
        registry: Registry,
        moment: Callable[[], datetime],
        session: LiveTest,
    ) -> None:
        self.life = Lifetime("no worker yet")
        """The present process's; the code that severs it sets another."""
        self._driven = driven
        self._loop = loop
        self._run_blocking = run_blocking
        self._registry = registry
        self._moment = moment
        self._session = session
        self._running: dict[int, tuple[Claim, ...]] = {}
        """The claims of the calls that are not answered yet."""

    def call(self, call: HandlerCall, claims: tuple[Claim, ...]) -> None:
        """Begin to handle a batch."""
        self._running[call.number] = claims
        made = self._handle(call, claims, self.life)
        self.life.context().run(self._loop.create_task, made, name=f"handler of {call.queue}")

    def forget(self) -> None:
        """Know of no call any more: their process is dead."""
        self._running.clear()

    @property
    def waited_for(self) -> bool:
        """Whether a handler is at work that pg-boss still waits for."""
        return any(self._driven.holds(claim) for claims in self._running.values() for claim in claims)

    @property
    def given_up(self) -> tuple[JobId, ...]:
        """The jobs that pg-boss has taken back while their handler still ran."""
        return tuple(c.job for claims in self._running.values() for c in claims if not self._driven.holds(c))

    async def _handle(self, call: HandlerCall, claims: tuple[Claim, ...], life: Lifetime) -> None:
        ending: Success | Failure = Success(None)
        for claim in claims:
            await self._pass(BEFORE_STARTING, claim)
            processor = self._registry.get_processor(claim.tool)
            ending = _read(*await self._run(processor, self._tool_job(claim), life))
            if isinstance(ending, Failure):
                break
        if life.over:
            return
        for claim in claims:
            await self._pass(BEFORE_ANSWER[type(ending)], claim)
        try:
            self._answer(call, claims, ending)
        except HarnessError as error:
            self._driven.broken = error

    async def _run(self, processor: JobProcessor, job: ToolJob, life: Lifetime) -> tuple[Any, BaseException | None]:
        name = f"processor {job.tool_slug} {job.id}"
        answer: Any
        if is_async(processor):
            answer, error = await self._awaited(lambda: processor(job), life, name)
            return answer, error
        context = life.context()
        answer, error = await self._run_blocking(lambda: context.run(_call, processor, job), name=name)
        if error is None and inspect.isawaitable(answer):
            awaited = answer
            return await self._awaited(lambda: awaited, life, name)
        return answer, error

    async def _awaited(self, make: Callable[[], Any], life: Lifetime, name: str) -> tuple[Any, BaseException | None]:
        """Await it in a task of its own, whose context is the processor's."""
        task = life.context().run(self._loop.create_task, _caught(make), name=name)
        caught: tuple[Any, BaseException | None] = await task
        return caught

    def _answer(self, call: HandlerCall, claims: tuple[Claim, ...], ending: Success | Failure) -> None:
        held = [claim for claim in claims if self._driven.holds(claim)]
        self._running.pop(call.number, None)
        self._driven.draw()
        if isinstance(ending, Failure):
            said: dict[str, Any] = {"error": {"name": ending.name, "message": ending.message}}
            settle = partial(self._driven.told.record_ending, "fail")
            rest: tuple[Any, ...] = (ending.message, ending.final)
        else:
            said = {"value": ending.output}
            settle = partial(self._driven.told.record_ending, "complete")
            rest = (ending.output if len(claims) == 1 else None,)  # pg-boss keeps no answer of a larger batch.

        def after_turn(_: WorkTurn) -> None:
            for claim in held:
                settle(claim, *rest)

        self._driven.reply(call, told=after_turn, **said)

    def _tool_job(self, claim: Claim) -> ToolJob:
        return sample_job(
            claim.tool,
            self._driven.rows.inputs[claim.job],
            id=claim.job,
            attempt=claim.attempt,
            max_attempts=self._session.job_index.views[claim.job].max_attempts,
            moment=self._moment(),
        )

    async def _pass(self, place: str, claim: Claim) -> None:
        """Come to a gate in the work on a job; where the process dies there, this never ends."""
        await self._session.worker_at_work().gate(JobPoint(place, claim.job))


async def _caught(make: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return await make(), None
    except BaseException as error:  # noqa: BLE001 - SystemExit too is the job's failure, not the test's
        return None, error


def _call(processor: JobProcessor, job: ToolJob) -> tuple[Any, BaseException | None]:
    try:
        return processor(job), None
    except Exception as error:  # noqa: BLE001 - pg-boss is told
        return None, error


def _read(answer: Any, error: BaseException | None) -> Success | Failure:
    if error is not None:
        return Failure(type(error).__name__, str(error) or repr(error), isinstance(error, NonRetryableError))
    try:
        answer = result_of(answer)
    except NoResultError as no_result:
        return Failure("TypeError", str(no_result))
    if not answer.success:
        return Failure("Error", answer.error or "the processor gave no error", not answer.retryable)
    if problem := json_problem(answer.output):
        return Failure("TypeError", f"JSON cannot hold the output: {problem}")
    return Success(answer.output)
