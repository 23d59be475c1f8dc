"""pg-boss's own `work()` loop as the place of work of a `JobHarness`. What pg-boss cannot do is refused."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from harness.adapters.pgboss.package import NEWEST_OF_10
from harness.adapters.pgboss.translation import uuid_of
from harness.adapters.pgboss.work import HandlerCall, Turn, WorkProcess
from harness.adapters.pgboss.work.options import send_options, work_options
from harness.adapters.reference.application import (
    JobProcessor,
    Registry,
    RunBlocking,
    ToolJob,
    sample_job,
    through_json,
)
from harness.errors import UsageError
from harness.faults import excuses
from harness.history.outcome import Outcome, OutcomeKind
from harness.invariants import Invariant, Judge, Rules, everything
from harness.model.duration import SECOND, Instant
from harness.model.job import JobId, Json
from harness.model.settings import Settings
from harness.port import Claim, JobRequest
from harness.processors.pgboss.driven import DrivenProcess
from harness.processors.pgboss.handler import Handlers
from harness.processors.workplace import MakeWorkplace
from harness.run.board import Board
from harness.run.recorder import Recorder
from harness.sim.clock import Clocks
from harness.sim.lifetime import Lifetime
from harness.sim.loop import VirtualLoop

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
    ) -> None:
        """Begin on empty tables. Raises UsageError for settings that pg-boss cannot keep, EnvironmentUnavailable."""
        self._work_options = work_options(settings)
        self.settings = settings
        self.start = start
        self.engine = process.name
        self.clocks = Clocks()
        self.clocks.now = round(loop.time() * SECOND)
        contract = process.contract
        rules = Rules(contract.effective(settings), doublings=contract.doublings, excuses=excuses())
        self.judge = Judge((*everything(), *invariants), rules, accepted=frozenset(contract.documented))
        self.registry = Registry()
        self.on_crash: Callable[[], None] = lambda: None
        self._loop = loop
        self._process = process
        self._driven = DrivenProcess(process, loop, settings=settings, clocks=self.clocks, judge=self.judge, seed=seed)
        self._handlers = Handlers(
            self._driven,
            loop,
            run_blocking=run_blocking,
            registry=self.registry,
            moment=lambda: self.moment(self.clocks.now),
            crash=self.crash,
        )
        self._driven.on_call = self._called
        self._at_work: set[str] = set()
        """The tools whose worker was started in the present process."""
        self._workers = 0
        self._next_worker()
        self.recorder.phase("chaos")

    # what the test does ---------------------------------------------------------------------------------------------

    def register(self, slug: str, processor: JobProcessor) -> None:
        """Let a processor be the handler of a queue of the tool's name. Raises `ConfigurationError`, UsageError."""
        self.registry.register_processor(slug, processor)
        self._done(
            self._driven.ask("create", queue=slug, options={"policy": self._process.keys.policy.name}),
            f"the queue {slug!r} cannot be made",
        )

    def enqueue(self, request: JobRequest) -> JobId:
        """Send a job. Raises `InvalidJsonError`, and UsageError for what pg-boss refuses."""
        keyed = request.unique_key is not None
        if keyed and not self._process.keys.policy.unique:
            raise self._cannot(
                "enqueue(unique_key=...)",
                f"queues with the policy {self._process.keys.policy.name!r} look at no key",
                f"Name a policy that does, as in --job-engine=pgboss-node@12/exclusive, or {ON_MEMORY}.",
            )
        data = {"job": request.id, "input": through_json(request.input)}
        process = self._process
        options = send_options(request, self.settings, keys=process.keys, keeps_queues=process.tables.keeps_queues)
        holder: list[JobId] = []

        def told(turn: Turn) -> None:
            outcome = turn.outcome
            if keyed and outcome.kind is OutcomeKind.REFUSED:
                holder.extend(self._holders(request))
                outcome = Outcome.refused("the unique key is held", holder[0] if holder else None)
            self._driven.recorder.enqueued(request, outcome)

        ago = process.strictly
        turn = self._driven.send(told=told, ago=ago, queue=request.tool, data=data, options=options)
        if holder:
            return holder[0]
        self._done(turn, f"{request.id} cannot be sent")
        return request.id

    def _holders(self, request: JobRequest) -> list[JobId]:
        views = self.board.live.values()
        return [view.id for view in views if (view.tool, view.unique_key) == (request.tool, request.unique_key)]

    def cancel(self, job: JobId) -> bool:
        """Cancel a job. False: it is terminal or unknown."""
        return self._operate("cancel", job)

    def retry(self, job: JobId) -> bool:
        """Resume what was cancelled, retry what failed: one attempt more than it had."""
        return self._operate("retry", job)

    def _operate(self, verb: str, job: JobId) -> bool:
        view = self.board.views.get(job)
        if view is None:
            return False
        attempts = view.attempts

        def told(turn: Turn) -> None:
            if turn.outcome.value == "resume":
                self._driven.rows.grant(job, attempts + 1)
            self._driven.recorder.operated(verb, job, turn.outcome)

        return self._driven.ask(verb, told=told, queue=view.tool, id=uuid_of(job)).outcome.done

    def tool_job(self, slug: str, value: Json) -> ToolJob:
        """Make the job that a processor would receive, its input through JSON and back."""
        return sample_job(
            slug,
            through_json(value),
            max_attempts=self.settings.max_attempts,
            moment=self.moment(self.clocks.now),
        )

    def moment(self, at: Instant) -> datetime:
        """Answer an instant of the run as a time of day."""
        return self.start + timedelta(microseconds=at)

    @property
    def board(self) -> Board:
        """The last view of every job."""
        return self._driven.board

    @property
    def recorder(self) -> Recorder:
        """Writes the history."""
        return self._driven.recorder

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
        for tool in self._tools_due():
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
        due = self.board.next_claim()
        return due is not None and due <= self.clocks.now

    def unfinished(self) -> bool:
        """Whether a job may still be fetched, now or later."""
        return bool(self.board.live)

    def claim_of(self, job: JobId) -> Claim | None:
        """Answer the last claim of a job."""
        return self._driven.claims.get(job)

    @property
    def abandoned(self) -> tuple[JobId, ...]:
        """The jobs that pg-boss has taken back while their handler still ran."""
        return self._handlers.given_up

    def _called(self, call: HandlerCall, claims: tuple[Claim, ...]) -> None:
        if self.allowance is not None and self.allowance < 0:
            self._driven.broken = self._too_many(len(claims))
        self._handlers.call(call, claims)

    def _next_worker(self) -> None:
        self._workers += 1
        self._driven.rows.worker = f"worker-{self._workers}"
        self._handlers.life = Lifetime(self._driven.rows.worker)

    def _start_workers(self) -> None:
        """Start those that are missing, whoever has the first job due first, while the test allows them to fetch."""
        if not self.settings.workers_enabled:
            return
        tools = dict.fromkeys((*self._tools_due(), *self.registry.get_registered_tools()))
        for tool in tools:
            if tool in self._at_work or self.allowance == 0:
                continue
            self._refuse_batch(tool)
            self._at_work.add(tool)
            self._done(self._driven.ask("work", queue=tool, **self._work_options), f"work({tool!r}) was refused")

    def _tools_due(self) -> list[str]:
        first = sorted(self._driven.due(), key=lambda view: (-view.priority, view.created_at))
        return list(dict.fromkeys(view.tool for view in first))

    def _refuse_batch(self, tool: str) -> None:
        waiting = sum(view.tool == tool for view in self._driven.due())
        batch = min(waiting, self.settings.batch_size)
        if self.allowance is not None and batch > self.allowance:
            raise self._too_many(batch)

    # what goes wrong ------------------------------------------------------------------------------------------------

    def refuse_place(self, at: str) -> None:
        """Raise UsageError for a place inside pg-boss's own loop, which has none to stop at."""
        if at.startswith(("before ", "after ", "while ")) and at not in PLACES:
            raise self._cannot(
                f"crash_worker(at={at!r})",
                "its loop is not interrupted between what it asks of PostgreSQL",
                f"Use {', '.join(PLACES)}, a step or an effect of a processor, or {ON_MEMORY}.",
            )

    def watch_places(self, dies: Callable[[str, JobId], bool] | None) -> None:
        """Ask before a processor starts, and before pg-boss hears its answer, whether the process is to die there."""
        self._handlers.dies = dies

    def crash(self, place: str) -> None:
        """Kill the process with SIGKILL; the database stays, and another process starts at once."""
        self.recorder.fault(self._driven.rows.worker, "crash", {"at": place})
        self._loop.sever(self._handlers.life)
        self.on_crash()
        self._handlers.forget()
        self._at_work.clear()
        self._next_worker()
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

    def deliver_twice(self, job: JobId) -> None:
        """Raise UsageError: pg-boss hands a job to one worker."""
        raise self._cannot(
            "deliver_twice",
            "a job is handed to one worker only while its attempt lasts",
            f"Let the processor outlast its lease, so that a retry runs beside it, or {ON_MEMORY}.",
        )

    @property
    def twice(self) -> Collection[JobId]:
        """None."""
        return ()

    def _cannot(self, method: str, why: str, instead: str) -> UsageError:
        return UsageError(f"{self.engine} cannot do {method}: {why}", hint=instead)

    def _too_many(self, batch: int) -> UsageError:
        return self._cannot(
            f"work_one() or drain(limit=...) with a batch_size of {self.settings.batch_size}",
            f"its worker takes what is due up to that number, here {batch} at once",
            "Set @pytest.mark.job_settings(batch_size=1), or drain() without a limit.",
        )

    def _done(self, turn: Turn, what: str) -> None:
        if not turn.outcome.done:
            raise UsageError(f"{self.engine}: {what}: {turn.outcome.reason}")

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
    """Answer what opens a `JobHarness`'s place of work on this release of pg-boss."""
    return partial(PgBossApplication, process)


def work_process(engine: str, *, dsn: str | None = None) -> WorkProcess:
    """Answer the process for an engine's name: `pgboss` is the newest 10, `pgboss-node` the newest of all.

    Raises UsageError for what is no version.
    """
    base, _, version = engine.partition("@")
    return WorkProcess(version or (NEWEST_OF_10 if base == "pgboss" else "latest"), dsn=dsn)
