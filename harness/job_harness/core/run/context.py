"""What an actor sees: settings, time on its own clock, the plans of the jobs, real processors, a place for effects.

Must not know the queue or the kernel: an actor reaches those by what it yields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol

from job_harness.core.faults.processes import CRASH
from job_harness.core.history import OF_DEPLOY, Observed
from job_harness.core.invariants.limits import is_claimed
from job_harness.core.model import Design, Duration, Instant, JobId, Json, Settings
from job_harness.core.own_code import CodeLine
from job_harness.core.port import Capabilities, Claim, Contract
from job_harness.core.run.job_index import JobIndex
from job_harness.core.run.observation import Recorder
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim import Clocks, Frame

if TYPE_CHECKING:
    from job_harness.core.sim.carrier import LoopCarrier


class Memory(Protocol):
    """Keeps what an actor was told, so that a search can bring it back to where it stood by telling it again."""

    muted: bool
    """Whether an actor is being brought back: what it declares was declared before."""

    def read(self, value: Any) -> Any:
        """Keep what the actor read here, or return what it read then."""

    def anew(self, actor: str) -> None:
        """Forget what this actor was told so far."""


@lru_cache(maxsize=1024)
def _unplanned(job: JobId) -> JobPlan:
    """Return the plan of a job that no one planned, such as a dead letter; every step of its run asks for it."""
    return JobPlan(name=job)


class ActorServices(Protocol):
    """What a session does for its actors beside what they yield."""

    def carrier(self) -> LoopCarrier:
        """Return what carries actors that are coroutines; their kernel is the session's."""

    def pass_by(self, name: str, point: str) -> bool:
        """Let an actor come to a gate in the middle of its step. True: it crashed there; see `Kernel.pass_by`."""

    def later(self, name: str, wait: Duration, then: Callable[[], None]) -> None:
        """Let something happen after a while, under a name: what lives on without a worker."""

    def sever(self, frame: Frame) -> None:
        """Keep what a process has left suspended that died, and close it after the verdict."""


class RunContext:
    """Handed to every actor. After the verdict it is closed: what still runs has no effect."""

    def __init__(
        self,
        scenario: Scenario,
        clocks: Clocks,
        recorder: Recorder,
        job_index: JobIndex,
        capabilities: Capabilities,
        processors: RealProcessors | None = None,
        *,
        contract: Contract,
        services: ActorServices,
    ) -> None:
        self.scenario = scenario
        self.services = services
        self.contract = contract
        self.settings: Settings = scenario.settings
        self.job_index = job_index
        self.capabilities = capabilities
        """What the queue can do: it is asked for nothing else."""
        self.plans: dict[JobId, JobPlan] = scenario.plan_of()
        self.stopping: set[str] = set()
        """Workers told to shut down gracefully."""
        self.on_stop: dict[str, Callable[[], object]] = {}
        """By worker, who hears of it at once; the others ask."""
        self.on_deploy: dict[str, Callable[[], object]] = {}
        """By process, who replaces it once it was told to stop."""
        self.acted: dict[str, bool] = {}
        """By process that an application brings along, whether it took a step or changed anything so far."""
        self.closed = False
        self.memory: Memory | None = None
        self._clocks = clocks
        self._recorder = recorder
        self._processors = processors

    @property
    def next_upkeep(self) -> Callable[[], Instant | None]:
        """Return who tells when the queue's own upkeep next has something to do: a lease, or what the queue says."""
        known = [self._recorder.side.next_upkeep, self.job_index.next_expiry]
        if Design.MOVES_BY_SWEEP in self.contract.designs:
            known.append(self.job_index.next_claim)
        asked = [each for each in known if each is not None]
        return (
            asked[0]
            if len(asked) == 1
            else lambda: min((due for each in asked if (due := each()) is not None), default=None)
        )

    @property
    def next_claim(self) -> Callable[[], Instant | None]:
        """Return who tells when a claim next has something to take: a job that is due, or a lease that runs out."""
        return self.next_claim_of(None)

    def next_claim_of(self, tools: tuple[str, ...] | None) -> Callable[[], Instant | None]:
        """Return who tells that to a worker of these tools; None: it serves all."""
        job_index = self.job_index
        claim = job_index.next_claim if tools is None else lambda: job_index.next_claim_of(tools)
        if not self.capabilities.takes_back_in_claim:
            return claim
        return lambda: min((due for due in (claim(), job_index.next_expiry()) if due is not None), default=None)

    def ended_at(self, job: JobId) -> Callable[[], Instant | None]:
        """Return who tells that a job has ended: at once where it has."""
        views = self.job_index.views

        def due() -> Instant | None:
            view = views.get(job)
            return 0 if view is not None and view.terminal else None

        return due

    def sent(self, jobs: tuple[JobId, ...]) -> Callable[[], Instant | None]:
        """Return who tells that all of these jobs are there: at once where they are."""
        views = self.job_index.views
        return lambda: 0 if views.keys() >= set(jobs) else None

    @property
    def searched(self) -> bool:
        """Whether actors are brought back to where they stood: who counts polls would never stand there again."""
        return self.memory is not None

    def now(self, actor: str) -> Instant:
        """Read an actor's own clock."""
        value = self._clocks.of(actor)
        return value if self.memory is None else int(self.memory.read(value))

    def anew(self, actor: str) -> None:
        """Declare that from here on an actor acts as if it had just been started: it remembers nothing.

        An exhaustive search needs it at the very top of an actor's loop; else the actor's whole
        past counts, and the search does not end.
        """
        if self.memory is not None:
            self.memory.anew(actor)

    def told_to_stop(self, actor: str) -> bool:
        """Say whether a worker was asked to shut down gracefully."""
        asked = actor in self.stopping
        return asked if self.memory is None else bool(self.memory.read(asked))

    def plan(self, job: JobId) -> JobPlan:
        """Return the plan of a job; one without a plan succeeds."""
        plan = self.plans.get(job)
        return plan if plan is not None else _unplanned(job)

    def begin(self, claim: Claim) -> ProcessorAttempt | None:
        """Start the real processor of a claim; None where the job is scripted."""
        if self._processors is None or claim.tool not in self.scenario.processors:
            return None
        plan = self.plan(claim.job)
        most = self.settings.max_attempts if plan.max_attempts is None else plan.max_attempts
        return self._processors.begin(
            claim,
            input=plan.input,
            max_attempts=most,
            now=self.now(claim.worker),
            declare=partial(self.effect, claim.worker, claim),
            dies_at=partial(self._dies_at, claim),
        )

    def _dies_at(self, claim: Claim, name: str) -> bool:
        """Come to an effect or a step by name, inside a claim's processor. True: its worker crashed there."""
        return not self.closed and self.memory is None and self.services.pass_by(claim.worker, f"{name} {claim.job}")

    def stop(self, actor: str) -> bool:
        """Ask a worker to shut down gracefully. False: this actor takes no such request."""
        if actor not in self.scenario.workers:
            return False
        self.ask_to_stop(actor)
        return True

    def ask_to_stop(self, actor: str) -> None:
        """Ask a process to shut down gracefully; one that takes no such request carries on."""
        self.stopping.add(actor)
        if (hears := self.on_stop.get(actor)) is not None:
            hears()

    def deploy(self, actor: str) -> None:
        """Tell a process to stop, and let a new one take its place; one that nothing can replace carries on."""
        if (replaces := self.on_deploy.get(actor)) is not None:
            self.ask_to_stop(actor)
            replaces()

    def killed(self, actor: str, at: str) -> None:
        """Declare that a deploy killed a process that had not ended in its grace."""
        self.stopping.discard(actor)
        self._recorder.fault(actor, CRASH.event, {"at": at, "after": False, OF_DEPLOY: True})

    def stopped(self, actor: str, *, code: int = 0) -> None:
        """Declare that a worker ended as it was told to, and a process with which code."""
        if self.memory is not None and self.memory.muted:
            return
        if actor in self.stopping:
            self.stopping.discard(actor)
            self._recorder.fault(actor, "stopped", {"code": code} if code else {})

    def effect(self, actor: str, claim: Claim, name: str, data: Any = None, line: CodeLine | None = None) -> None:
        """Declare something that a run did."""
        if self.memory is not None and self.memory.muted:
            return
        if self.closed:
            raise RuntimeError("the run is over: nothing that a severed actor still does has an effect")
        self._recorder.effect(actor, claim.job, claim.attempt, claim.token, name, data, line)

    def deliveries(self, job: JobId) -> tuple[int, str]:
        """Return how often a job's row showed a new claim, and who made it so last."""
        count, taker = 0, ""
        for event in self._recorder.history:
            if type(event) is Observed and event.job == job and is_claimed(event.after, event.before):
                count, taker = count + 1, event.actor
        return count, taker

    @property
    def events(self) -> int:
        """How many events were observed so far."""
        return len(self._recorder.history)

    def observe(self, actor: str, step: str, line: CodeLine | None = None) -> None:
        """Compare all jobs with what was known of them, after a step of an application's own, done at this line."""
        self._recorder.observe(actor, step, line)

    def raised(
        self, actor: str, at: str, error: str, where: str, *, gone: bool = False, line: CodeLine | None = None
    ) -> None:
        """Declare that a process died of what it raised itself, and whether nothing brings it back."""
        self._recorder.fault(
            actor, "raised", {"at": at, "error": error, "where": where} | ({"gone": True} if gone else {}), line
        )

    def died(self, actor: str, why: str) -> None:
        """Declare that a processor took its whole worker with it."""
        if self.memory is None or not self.memory.muted:
            self._recorder.fault(actor, CRASH.event, {"at": why, "after": False})


@dataclass(frozen=True, slots=True)
class Ended:
    """How a processor ended: with an output, or with an error that may be final."""

    success: bool
    output: Any = None
    error: str = ""
    final: bool = False


class ProcessorAttempt(Protocol):
    """One attempt of a real processor. It stands still unless it is moved: a crashed worker's is never moved again."""

    @property
    def ended(self) -> Ended | None:
        """How it ended; None while it is at work."""

    def move(self, passed: Duration) -> Duration | None:
        """Let this much time pass for it; return how long until it next does something, None for never.

        Raises CrashedMidway where its worker crashed meanwhile.
        """

    def abandon(self) -> None:
        """Ask it to stop: its time is up, and its lease may be another's."""


class RealProcessors(Protocol):
    """The real processors of one scenario."""

    def begin(
        self,
        claim: Claim,
        *,
        input: Json,
        max_attempts: int,
        now: Instant,
        declare: Callable[[str, Any], None],
        dies_at: Callable[[str], bool],
    ) -> ProcessorAttempt:
        """Start the processor of the claim's tool; hand each side effect that it declares to `declare`, by its name.

        `dies_at` is asked at each effect and each named step, after it has happened: whether the worker crashes there.
        """

    def close(self) -> list[str]:
        """End whatever still runs, and name what was left behind or cannot be ended. Harmless when repeated."""
