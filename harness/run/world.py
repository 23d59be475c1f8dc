"""What an actor sees: settings, time on its own clock, the workload's plans, and a place to declare effects."""

from __future__ import annotations

from typing import Any

from harness.model.duration import Instant
from harness.model.job import JobId
from harness.model.settings import Settings
from harness.port import Capabilities, Claim
from harness.run.board import Board
from harness.run.processing import ProcessorAttempt, RealProcessors
from harness.run.recorder import Recorder
from harness.scenario.job_plan import JobPlan
from harness.scenario.scenario import Scenario
from harness.sim.clock import Clocks


class World:
    """Handed to every actor. After the verdict it is closed: what still runs has no effect."""

    def __init__(
        self,
        scenario: Scenario,
        clocks: Clocks,
        recorder: Recorder,
        board: Board,
        capabilities: Capabilities,
        processors: RealProcessors | None = None,
    ) -> None:
        self.scenario = scenario
        self.settings: Settings = scenario.settings
        self.board = board
        self.capabilities = capabilities
        """What the queue can do: nobody asks it for anything else."""
        self.plans: dict[JobId, JobPlan] = scenario.plan_of()
        self.stopping: set[str] = set()
        """Workers told to shut down gracefully."""
        self.closed = False
        self._clocks = clocks
        self._recorder = recorder
        self._processors = processors

    def now(self, actor: str) -> Instant:
        """Read an actor's own clock."""
        return self._clocks.of(actor)

    def plan(self, job: JobId) -> JobPlan:
        """Answer the plan of a job; one that nobody planned succeeds."""
        plan = self.plans.get(job)
        return plan if plan is not None else JobPlan(name=job)

    def begin(self, claim: Claim) -> ProcessorAttempt | None:
        """Start the real processor of a claim; None where the job is scripted."""
        if self._processors is None or claim.tool not in self.scenario.processors:
            return None
        plan = self.plan(claim.job)
        most = self.settings.max_attempts if plan.max_attempts is None else plan.max_attempts
        return self._processors.begin(claim, input=plan.input, max_attempts=most, now=self.now(claim.worker))

    def stop(self, actor: str) -> bool:
        """Ask a worker to shut down gracefully. False: this actor takes no such request."""
        if actor not in self.scenario.workers:
            return False
        self.stopping.add(actor)
        return True

    def stopped(self, actor: str) -> None:
        """Declare that a worker ended as it was told to."""
        if actor in self.stopping:
            self.stopping.discard(actor)
            self._recorder.fault(actor, "stopped", {})

    def effect(self, actor: str, claim: Claim, name: str, data: Any = None) -> None:
        """Declare something that a run did."""
        if self.closed:
            raise RuntimeError("the run is over: nothing that a severed actor still does has an effect")
        self._recorder.effect(actor, claim.job, claim.attempt, claim.token, name, data)

    @property
    def events(self) -> int:
        """How many events were observed so far."""
        return len(self._recorder.history)

    def observe(self, actor: str, step: str) -> None:
        """Compare all jobs with what was known of them, after a step of an application's own."""
        self._recorder.observe(actor, step)

    def raised(self, actor: str, at: str, error: str, where: str) -> None:
        """Declare that a process died of what it raised itself."""
        self._recorder.fault(actor, "raised", {"at": at, "error": error, "where": where})

    def died(self, actor: str, why: str) -> None:
        """Declare that a processor took its whole worker with it."""
        self._recorder.fault(actor, "crash", {"at": why, "after": False})
