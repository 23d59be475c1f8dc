"""A user's test as the script of a session: the loop runs, and the kernel stands at the gates of its processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from job_harness.core.faults import FaultPlan
from job_harness.core.faults.processes import CRASH
from job_harness.core.model import SECOND, Instant, JobId
from job_harness.core.own_code import CodeLine
from job_harness.core.run.observation import Observation
from job_harness.core.run.session import NO_FAULTS, Limits, LiveSession, as_on_tape
from job_harness.core.sim import Actor, Boring, Choices, Interference, Point
from job_harness.core.sim.carrier import CarriedProcess, LoopCarrier
from job_harness.core.sim.lifetime import Lifetime
from job_harness.core.sim.loop import VirtualLoop
from job_harness.core.sim.possessions import stack_of
from job_harness.core.sim.user_code import place_in

MOST_STEPS: Final = 100_000_000
"""A test is bounded by what it asks for; this many gates are a loop that was not meant."""


class JobPoint(Point):
    """A gate in the work on one job: `name` is what a test calls it."""

    __slots__ = ("job", "name", "part")

    def __init__(
        self,
        name: str,
        job: JobId,
        *,
        run: Lifetime | None = None,
        line: Callable[[], CodeLine | None] | None = None,
    ) -> None:
        """`run` is the lifetime of the work on the job, where that is under way."""
        super().__init__(f"{name} {job}", line)
        self.name = name
        self.job = job
        self.part = run


class Companion(Protocol):
    """What runs beside a worker, in other processes or in memory, and dies with it."""

    def crash(self) -> None:
        """Die, as the worker has."""


class LiveTest(LiveSession):
    """One test: its loop, its processes, and what is observed of them."""

    def __init__(
        self, observation: Observation[Any], loop: VirtualLoop, *, choices: Choices, faults: FaultPlan = NO_FAULTS
    ) -> None:
        """Begin at the loop's present time, with these faults possible at every gate."""
        super().__init__(observation, choices=choices, limits=Limits(steps=MOST_STEPS))
        self.kernel.deviations.every_turn = False
        self.explored = faults != NO_FAULTS
        """Whether gates are asked for that only a search needs."""
        self.carrier = LoopCarrier(self.kernel, loop, loop_drives=True)
        self.companions: list[Companion] = []
        """What dies with each worker."""
        self._workers = 0
        self.worker: CarriedProcess | None = None
        """The worker that is at work now."""
        self._own: list[Interference] = []
        if self.explored:
            self.disturb(choices, faults)
        self.kernel.now = observation.clocks.now = round(loop.time() * SECOND)
        self.recorder.phase("chaos")

    def _line_of(self, actor: Actor) -> CodeLine | None:
        """Return the line at its gate; where a worker stands at one of its own, the line of the processor at work."""
        if (line := super()._line_of(actor)) is not None or self.worker is None or actor.name != self.worker.name:
            return line
        at_work = [place for task in self.worker.life.tasks if (place := place_in(stack_of(task))) is not None]
        return at_work[0].line if len(at_work) == 1 else None

    def worker_at_work(self) -> CarriedProcess:
        """Return the process of the worker whose code is asking."""
        assert self.worker is not None, "no worker was started yet"
        return self.worker

    def start_worker(self, begin: Callable[[Lifetime], None], *, on_severed: Callable[[], None]) -> None:
        """Start the next worker; `on_severed` is told when it dies."""
        self._workers += 1

        def die() -> None:
            for each in self.companions:
                each.crash()
            on_severed()

        self.worker = self.carrier.process(f"worker-{self._workers}", begin, on_severed=die)

    def disturb(self, choices: Choices, faults: FaultPlan) -> None:
        """Let these choices answer at the gates from here on, and these faults strike there."""
        self.choices = self.kernel.choices = choices
        self.explored = True
        self.expose(faults)
        drawn = self.kernel.interferences
        if all(each.id != CRASH.id for each in drawn):
            # A test asks for a death of its own, whatever a search has drawn: that must be possible, and nothing more.
            self.expose(FaultPlan.of(CRASH))
            for each in self.kernel.interferences:
                each.left = 0  # type: ignore[attr-defined]  # what `expose` arms has a budget
            self.kernel.interferences = [*drawn, *self.kernel.interferences]
        self._offer_own()

    def heal(self) -> None:
        """Let nothing go wrong any more, and set every clock right; who is stalled goes on when that time is over."""
        self.recorder.phase("heal")
        self.kernel.interferences = []
        self.kernel.choices = Boring()
        self.clocks.correct()
        self.judge.healed(self.job_index.views)

    def offer(self, interference: Interference) -> None:
        """Let something of the place's own go wrong at gates too."""
        self._own.append(interference)
        if self.kernel.interferences:
            self.kernel.interferences = [*self.kernel.interferences, interference]

    def arm(self) -> None:
        """Let whatever the test asks for be possible at its gates."""
        if not self.kernel.interferences:
            self.expose(as_on_tape())
            self._offer_own()

    def _offer_own(self) -> None:
        self.kernel.interferences = [*self.kernel.interferences, *self._own]

    def moved(self, now: Instant) -> None:
        """Take over the loop's time."""
        self.kernel.move_to(now)

    def crash(self, place: str) -> None:
        """Kill the worker wherever it is, as a step of the test's own."""
        if self.worker is not None:
            self.recorder.fault(self.worker.name, CRASH.event, {"at": place})
            self.kernel.crash(self.worker.actor)
