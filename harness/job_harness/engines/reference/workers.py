"""The reference worker itself at work in a session: its coroutines are carried under the session's kernel.

Every verb that it asks of its store is a call at a gate, named as the stock worker names it, so
that scenarios, faults and monitors meet it there. Processors are scripted by their jobs' plans.
Clients, upkeep and cron are stock. Knows no store: it asks the verbs of the session's queue,
whichever that is.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from job_harness.core.history import Outcome, OutcomeKind
from job_harness.core.model import SECOND, Duration, Instant, Settings, json_problem
from job_harness.core.port import Claim, Contract
from job_harness.core.run.context import Ended, ProcessorAttempt, RunContext
from job_harness.core.run.insisting import RETRY_PAUSE
from job_harness.core.run.stock import StockApplication
from job_harness.core.scenario.job_plan import ERRORS, OUTPUTS, Ending
from job_harness.core.sim import Frame, Kernel, Point, Poll, Sleep, VerbCall
from job_harness.core.sim.carrier import CarriedProcess
from job_harness.core.sim.lifetime import Lifetime
from job_harness.engines.reference.application import config_values
from job_harness.engines.reference.queue import store_claim_of
from job_harness_reference.config import Config
from job_harness_reference.errors import InvalidJsonError
from job_harness_reference.models import Claim as StoreClaim
from job_harness_reference.models import JobProcessor, JobResult, JsonValue, ToolJob, ToolJobStatus
from job_harness_reference.registry import Registry
from job_harness_reference.worker import Worker

_BATCH: Final = "the reference worker runs its whole batch at once (worker/worker.py, Worker._start)"
_BEATS: Final = "the reference worker extends the lease of each running job (worker/attempt.py, Attempt)"
_GRACE: Final = (
    "the reference worker lets running jobs go on for WORKER_SHUTDOWN_GRACE_SECONDS, 20 s, and then gives them back "
    "(worker/worker.py, Worker._drain)"
)
_INSISTS: Final = (
    "the reference worker repeats a report that is not answered until its lease is over "
    "(worker/settlement.py, Settlement._insist)"
)
CONTRACT: Final = Contract(
    differences={
        "shutdown/running_job_is_finished": _GRACE,
        "shutdown/heartbeats_go_on_until_the_end": _GRACE,
        "shutdown/batch_is_given_back": _BATCH,
        "zombies/late_release": f"{_BATCH}: a lease that ran out is not released but given up",
        "clocks/store_clock_is_ahead [lease=5m]": _BEATS,
        "configuration/batch_outlives_lease [heartbeat_interval=0s]": _BEATS,
        "configuration/expiry_leaves_room_to_settle [lease=10m]": _BEATS,
        "configuration/stuck_timeout_outlives_job [stuck_timeout=5m]": f"{_BEATS}: it learns of a rescue in time",
        "expiry/heartbeats_keep_a_lease [heartbeat_interval=0s]": _BEATS,
        "expiry/hung_job_is_timed_out [lease=5m]": _BEATS,
        "expiry/lease_outlives_job [lease=5m]": _BEATS,
        "outages/store_is_away_while_a_job_runs": f"{_INSISTS}: it is taken before its job is taken back",
    }
)
"""Where it rightly does something else than the stock worker, for which the scenarios are written."""
NEVER: Final[Duration] = 10_000 * 24 * 3600 * SECOND
"""How long a processor waits that has nothing to do any more: longer than any run."""


@dataclass(frozen=True, slots=True)
class ReferenceWorkers(StockApplication):
    """The stock application with the reference worker in the place of the stock worker."""

    def workers(self, world: RunContext) -> Mapping[str, Callable[[], Frame]]:
        """Return each worker as a process that the session's carrier carries."""
        if world.scenario.processors and world.settings.batch_size > 1:
            return StockApplication().workers(world)  # a worker's real processors run one after the other
        journal = logging.getLogger("job_harness_reference.worker")
        if not journal.handlers:
            journal.addHandler(logging.NullHandler())  # What it warns of was made to go wrong; the history tells it.
        return {name: _CarriedWorker(world, name, order).process for order, name in enumerate(world.scenario.workers)}


class _CarriedWorker:
    """One worker by name, through all its activations."""

    def __init__(self, world: RunContext, name: str, order: int) -> None:
        self.world = world
        self.name = name
        self.carrier = world.services.carrier()
        self.process: CarriedProcess = self.carrier.planned(name, self._begin)
        settings = world.settings
        self._origin = order * settings.poll_interval // max(1, len(world.scenario.workers)) // SECOND * SECOND
        self._config = worker_config(settings)

    def _begin(self, life: Lifetime) -> None:
        store = GatedStore(self.world, self.process)
        worker: Worker = Worker(
            store,  # type: ignore[arg-type]  # a worker asks no more of its store
            _EveryTool(ScriptedProcessors(self.world, self.process, store).run),
            config=self._config,
            name=self.name,
            jitter=lambda: 0.0,
            wakeups=self._polls(lambda: worker.busy),
        )
        self.world.on_stop[self.name] = worker.stop
        if self.world.told_to_stop(self.name):
            worker.stop()
        life.context().run(self.carrier.loop.create_task, self._work(worker), name=life.name)

    async def _work(self, worker: Worker) -> None:
        try:
            await worker.run()
        except Exception as error:  # noqa: BLE001 - the run ends with it: the worker outlives whatever a job does
            self.carrier.broken(error)
        self.world.stopped(self.name)
        self.process.end()

    async def _polls(self, busy: Callable[[], int]) -> AsyncIterator[None]:
        """Wake it on its polling grid when a job is due and it has a free slot."""

        def due() -> Instant | None:
            return None if busy() >= settings.batch_size else self.world.job_index.next_claim()

        settings = self.world.settings
        while True:
            await self.process.gate(Poll(settings.poll_interval, due, origin=self._origin))
            yield None


def worker_config(settings: Settings) -> Config:
    """Return the settings in the reference's words, contradictions included: what they lead to is what is looked for.

    It is woken on its polling grid when a job is due; polls of its own in between would find
    nothing.
    """
    values = config_values(settings) | {
        "job_timeout_seconds": settings.job_timeout / SECOND,
        "job_retry_limit": settings.max_attempts - 1,
        "pgboss_polling_interval": math.inf,
    }
    return Config.unchecked(**values)


class _EveryTool(Registry):
    """Lets one processor serve whatever tool a job names."""

    def __init__(self, processor: JobProcessor) -> None:
        super().__init__()
        self._processor = processor

    def get_processor(self, slug: str) -> JobProcessor:
        """Return the one there is."""
        return self._processor


class _Held:
    """A claim that a worker has, and until when it may count on it by the loop's time."""

    __slots__ = ("claim", "job", "until")

    def __init__(self, claim: Claim, job: ToolJob, until: float) -> None:
        self.claim = claim
        self.job = job
        self.until = until


class GatedStore:
    """What a worker asks of its store, as calls of the session's queue."""

    def __init__(self, world: RunContext, process: CarriedProcess) -> None:
        self._world = world
        self._process = process
        self._loop = world.services.carrier().loop
        self._lease_seconds = world.settings.lease / SECOND
        self._held: dict[int, _Held] = {}
        """By the identity of the job that the worker was given: it may hold two claims of one job."""

    def held(self, job: ToolJob) -> _Held:
        """Return the claim with which the worker was given a job."""
        return self._held[id(job)]

    async def claim(self, *, worker: str, tools: Sequence[str], limit: int = 1) -> list[StoreClaim]:
        """Take due jobs of every tool."""
        until = self._loop.time() + self._lease_seconds
        outcome = await self._ask(VerbCall("claim", (worker, limit)))
        claims = [store_claim_of(claim) for claim in outcome.value or ()]
        for claim, given in zip(outcome.value or (), claims, strict=True):
            self._held[id(given.job)] = _Held(claim, given.job, until)
            self._world.effect(worker, claim, "claimed")
        return claims

    async def heartbeat(self, claim: StoreClaim) -> bool:
        """Extend the lease."""
        until = self._loop.time() + self._lease_seconds
        stands = await self._end_claim("heartbeat", claim)
        self.held(claim.job).until = until if stands else -math.inf
        return stands

    async def complete(self, claim: StoreClaim, output: JsonValue) -> bool:
        """Settle as a success. Raises InvalidJsonError where the queue refuses the output."""
        return await self._end_claim("complete", claim, output)

    async def fail(self, claim: StoreClaim, error: str, *, final: bool = False) -> ToolJobStatus | None:
        """Settle as a failure."""
        if not await self._end_claim("fail", claim, error, final):
            return None
        plan = self._world.plan(claim.job.id)
        most = self._world.settings.max_attempts if plan.max_attempts is None else plan.max_attempts
        return ToolJobStatus.FAILED if final or claim.job.attempts >= most else ToolJobStatus.PENDING

    async def release(self, claim: StoreClaim) -> bool:
        """Give the job back."""
        return await self._end_claim("release", claim)

    async def get(self, job_id: str) -> None:
        """Tell nothing: a worker reads a job only for its own counts, and that is no step of a run."""

    async def _end_claim(self, verb: str, claim: StoreClaim, *rest: Any) -> bool:
        held = self.held(claim.job).claim
        outcome = await self._ask(VerbCall(verb, (held, *rest), held.job, held.token))
        if verb == "complete" and outcome.kind is OutcomeKind.REFUSED and json_problem(rest[0]):
            raise InvalidJsonError(outcome.reason)
        return outcome.done

    async def _ask(self, call: VerbCall) -> Outcome:
        """Make a call at its gate. Raises ConnectionError where its outcome is unknown."""
        outcome: Outcome = await self._process.gate(call)
        if outcome.kind is OutcomeKind.UNKNOWN:
            raise ConnectionError(f"{call.verb}: {outcome.reason}")
        return outcome


class ScriptedProcessors:
    """Does what the plan of a job says, or lets the scenario's real processor work on it."""

    def __init__(self, world: RunContext, process: CarriedProcess, store: GatedStore) -> None:
        self._world = world
        self._process = process
        self._store = store
        self._loop = world.services.carrier().loop

    async def run(self, job: ToolJob) -> JobResult:
        """Run one attempt."""
        held = self._store.held(job)
        claim = held.claim
        timeout_at = self._loop.time() + self._world.settings.job_timeout / SECOND
        real, wait = await self._process.gate(Point(f"start {claim.job}"), meanwhile=lambda: self._start(claim))
        try:
            if real is not None:
                return await self._run_real(claim, real, wait)
            return await self._run_scripted(claim)
        except asyncio.CancelledError:
            if real is not None:
                self._world.services.carrier().afterwards(real.abandon)
            now = self._loop.time()
            why = "lease lost" if now >= held.until else "timeout" if now >= timeout_at else "released"
            self._declare(claim, "ended", why)
            raise

    def _start(self, claim: Claim) -> tuple[ProcessorAttempt | None, Duration | None]:
        """Start it; a real processor takes its first steps at once. Called outside the loop: it may have its own."""
        real = self._world.begin(claim)
        self._declare(claim, "started")
        return real, None if real is None else real.move(0)

    def _declare(self, claim: Claim, name: str, data: Any = None) -> None:
        self._world.effect(claim.worker, claim, name, data)

    async def _run_scripted(self, claim: Claim) -> JobResult:
        plan = self._world.plan(claim.job)
        ending = plan.ending(claim.attempt)
        running = f"running {claim.job}"
        while ending is Ending.HANG:
            await self._process.gate(Sleep(NEVER, running))
        await self._process.gate(Sleep(plan.duration(claim.attempt, self._world.settings), running))
        if ending is Ending.EXIT:
            self._world.died(claim.worker, running)
            await self._process.die(back_after=RETRY_PAUSE)
        if ending is Ending.SUCCEED:
            self._declare(claim, "ended", "success")
            return JobResult(success=True, output={"attempt": claim.attempt, "by": claim.worker})
        if ending in OUTPUTS:
            self._declare(claim, "ended", "bad output")
            return JobResult(success=True, output=OUTPUTS[ending])
        self._declare(claim, "ended", "failure")
        if ending in (Ending.FAIL, Ending.FAIL_FINALLY):
            return JobResult(success=False, error=ERRORS[ending], retryable=ending is Ending.FAIL)
        raise RuntimeError(ERRORS[ending].removeprefix("RuntimeError: "))

    async def _run_real(self, claim: Claim, real: ProcessorAttempt, wait: Duration | None) -> JobResult:
        running = f"running {claim.job}"
        kernel = self._world.services.carrier().kernel
        if real.ended is not None:
            await self._process.gate(Point(running))
        while real.ended is None:
            move = partial(_move_since, real, kernel, kernel.now)
            wait = await self._process.gate(Sleep(wait or NEVER, running), meanwhile=move)
        ended: Ended = real.ended
        problem = json_problem(ended.output) if ended.success else None
        word = "bad output" if problem else "success" if ended.success else "failure"
        self._declare(claim, "ended", word)
        if ended.success:
            return JobResult(success=True, output=ended.output)
        return JobResult(success=False, error=ended.error, retryable=not ended.final)


def _move_since(real: ProcessorAttempt, kernel: Kernel, began: Instant) -> Duration | None:
    """Let the time pass for a processor that has passed since an instant."""
    return real.move(kernel.now - began)
