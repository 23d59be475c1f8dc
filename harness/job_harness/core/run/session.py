"""One run from an empty queue to a verdict: chaos, heal, settle, judge."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from job_harness.core.faults import FaultPlan, interferences
from job_harness.core.faults.processes import PAUSE
from job_harness.core.history import Observed
from job_harness.core.interruption import stopping_point
from job_harness.core.invariants import Invariant, JobFacts, everything, stepwise
from job_harness.core.model import PENDING, Design, Duration, Instant, Settings, retry_bounds
from job_harness.core.own_code import CodeLine
from job_harness.core.port import (
    Application,
    Capabilities,
    Contract,
    Engine,
    EngineClocks,
    QueueUnderTest,
    refuse_incomplete,
)
from job_harness.core.run.context import RealProcessors, RunContext
from job_harness.core.run.director import Director
from job_harness.core.run.observation import Observation
from job_harness.core.run.stock import StockApplication
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import SCHEDULERS, Scenario, needed_capabilities
from job_harness.core.sim import (
    Actor,
    Boring,
    Carried,
    Choices,
    Clocks,
    Frame,
    Kernel,
    KernelHooks,
    Replay,
    Sleep,
    State,
    VerbCall,
)
from job_harness.core.sim.watchdog import BUSY_SECONDS
from job_harness.errors import EnvironmentUnavailable, Hung, LimitReached, StepsSpent

if TYPE_CHECKING:
    from job_harness.core.sim.carrier import LoopCarrier

NO_FAULTS = FaultPlan()
"""What a replay allows: whatever the tape says."""
CAPABILITIES = Capabilities.names()
ON_REQUEST = frozenset(
    {"concurrency_limits", "rate_limits", "serial_keys", "dead_letters", "transactions", "schedules", "own_leases"}
    | {"flows", "groups"}
)
"""What a queue does only where settings or jobs ask for it: elsewhere nothing can be breached, so it is not watched."""
WEARY = 500
"""After this many steps in which no job came or ended, faults stop: whatever still repeats then does so by itself."""
JITTERS = ("0", "1/4", "1/2", "3/4")


@dataclass(frozen=True, slots=True)
class Limits:
    """A bound on everything; reaching one is a result that names it."""

    steps: int = 200_000
    blocked_after: float = BUSY_SECONDS
    """Real seconds for which a real processor may keep control."""


def quiet_limit(scenario: Scenario) -> Duration:
    """Return how long nothing may change before the system is at rest, come what may."""
    settings, jobs = scenario.settings, scenario.jobs
    attempts = max(2, settings.max_attempts, *(plan.max_attempts or 0 for plan in jobs))
    delay = max([plan.retry_delay or 0 for plan in jobs], default=0)
    slowest = settings.changed(retry_delay=delay) if delay > settings.retry_delay else settings
    longest_wait = retry_bounds(slowest, attempts=attempts)[1]
    own = [(plan.lease or 0) + (plan.timeout or 0) for plan in jobs]
    timeouts = settings.lease + settings.stuck_timeout + settings.job_timeout + max(own, default=0)
    if settings.rate_limit:
        longest_wait += settings.rate_window
    return longest_wait + timeouts + 3 * (settings.cron_period + settings.expire_interval) + settings.poll_interval


def _facts(plan: JobPlan, scenario: Scenario) -> JobFacts:
    return JobFacts(
        healthy=plan.healthy(scenario.settings) and plan.tool not in scenario.processors,
        start_after=None if plan.start_after is None or plan.every else plan.at + plan.start_after,
        priority=plan.priority,
        unique_key=plan.unique_key,
        lease=plan.lease,
        timeout=plan.timeout,
        retry_delay=plan.retry_delay,
        unique_for=plan.unique_for,
        split=plan.children is not None,
    )


def _effective(scenario: Scenario, contract: Contract) -> Scenario:
    """Return the scenario with the settings and the periods of schedules that an engine can keep."""
    periods = {plan.name: contract.period(plan.every) for plan in scenario.jobs if plan.scheduled and plan.every}
    settings = contract.effective(scenario.settings)
    if settings == scenario.settings and all(
        plan.every == periods.get(plan.name, plan.every) for plan in scenario.jobs
    ):
        return scenario
    jobs = tuple([replace(plan, every=periods.get(plan.name, plan.every)) for plan in scenario.jobs])
    return replace(scenario, settings=settings, jobs=jobs)


def as_on_tape() -> FaultPlan:
    """Allow every fault as often as a tape may say."""
    return FaultPlan.each(99)


def _strip(part: object, *kept: str) -> None:
    """Take everything but these attributes off something that has done its work; a signal's handler finds these."""
    attributes = vars(part)
    part.__dict__ = {name: attributes[name] for name in kept}


class Restless(LimitReached):
    """Everybody is at work and no job comes or ends."""


def _opened(engine: Engine, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> QueueUnderTest:
    """Open a queue. Raises IncompleteQueue where it lacks a method; an application has no verbs."""
    queue = engine.open(settings, clocks, jitter)
    if engine.info.processes is None:
        refuse_incomplete(queue, engine.info.capabilities, made_by=f"open() of {engine.info.name}", opened=True)
    return queue


@contextmanager
def _environment_first(engine: Engine) -> Iterator[None]:
    """Ask, whatever breaks in here, whether the environment is to blame before the queue is."""
    try:
        yield
    except EnvironmentUnavailable:
        raise
    except Exception:
        engine.info.confirm()
        raise


class LiveSession(KernelHooks):
    """An observation with a kernel: what scenarios, users' tests and drawn workloads are played on."""

    def __init__(self, observation: Observation[Any], *, choices: Choices, limits: Limits = Limits()) -> None:
        """Join the two: time that the kernel moves is the observation's, what actors call is recorded and judged."""
        self.observation = observation
        self.job_index = observation.job_index
        self.judge = observation.judge
        self.recorder = observation.recorder
        self.choices = choices
        self.limits = limits
        self.kernel = kernel = Kernel(choices, observation.recorder, hooks=self, step_limit=limits.steps)
        kernel.deviations.every_turn = type(choices) is Replay

    @property
    def settings(self) -> Settings:
        """The settings of the queue."""
        return self.observation.settings

    @property
    def clocks(self) -> Clocks:
        """The clocks of all actors, and of the store."""
        return self.observation.clocks

    @property
    def queue(self) -> Any:
        """The queue, or what shows jobs as one does."""
        return self.observation.queue

    def set_clocks(self, now: Instant) -> None:
        """Let the clocks of all actors show what the kernel's time is now."""
        self.clocks.advance(now)

    def note_gate(self, actor: Actor, call: VerbCall) -> None:
        """Observe which jobs a verb has changed up to a gate within it."""
        self.recorder.suspended(actor, call)

    def line_here(self) -> CodeLine | None:
        """Return the user's own line that stands at the gate which is being asked about."""
        return self._line_of(self.kernel.ready[0]) if self.kernel.ready else None

    def _line_of(self, actor: Actor) -> CodeLine | None:
        return actor.line

    def _note_fault(self, actor: str, name: str, data: Any) -> None:
        struck = self.kernel.deviations.struck
        line = None if struck is None or struck.name != actor else self._line_of(struck)
        self.recorder.fault(actor, name, data, line)

    def expose(
        self,
        faults: FaultPlan,
        *,
        stop: Callable[[str], bool] = lambda actor: False,
        restart_after: Duration | None = None,
        deploy: Callable[[str], object] = lambda name: None,
        schedulers: frozenset[str] = frozenset(),
    ) -> None:
        """Let these faults strike at gates. A crashed process comes back `restart_after`; None: not by itself."""
        self.kernel.interferences = interferences(
            faults,
            settings=self.settings,
            clocks=self.clocks,
            note=self._note_fault,
            stop=stop,
            restart_after=restart_after,
            deploy=deploy,
            schedulers=schedulers,
        )


class QuietWatch:
    """Plays a session until it comes to rest, and sees where it never will."""

    def __init__(self, session: Session, until: str | None) -> None:
        """Stop early where the anomaly `until` has shown."""
        info = session.engine.info
        self._session = session
        self._until = until
        self._passed = 0
        """How many anomalies were looked at that are not the one to end with."""
        self._limit = quiet_limit(session.scenario)
        self._sends_by_itself = info.processes is not None and info.statements is not None
        """Whether processes other than the clients of the scenario may send jobs."""
        self.healed = False

    def wait(self) -> None:
        """Let everybody act until nothing more is due within the quiet time. Raises Restless where no run gets on."""
        quiet = self._limit
        kernel = self._session.kernel
        start = kernel.now
        stride = self._session.limits.steps // 10 if self._session.scenario.steps else WEARY
        looked, stood = kernel.steps + stride, self._progress()
        judge, sought, step = self._session.judge, self._until is not None, kernel.step
        while kernel.ready or not self.at_rest(start, quiet):
            if judge.endless or (sought and self._has_shown()) or not step():
                return
            if kernel.steps >= looked and kernel.deviations.free_order:
                if stood == (stood := self._progress()):
                    raise Restless(f"no job came or ended in {stride} steps; next would be: {self._next()}")
                looked = kernel.steps + stride

    def _progress(self) -> tuple[int, int]:
        """Return what only grows where a run gets on, unless jobs are deleted."""
        return len(self._session.job_index.views), len(self._session.job_index.live)

    def _next(self) -> str:
        return self._session.kernel.ready[0].label if self._session.kernel.ready else "time"

    def _has_shown(self) -> bool:
        anomalies = self._session.judge.anomalies
        while self._passed < len(anomalies):  # a run may report one at every poll: each is looked at once
            if anomalies[self._passed].name == self._until:
                return True
            self._passed += 1
        return False

    def at_rest(self, start: Instant, quiet: Duration) -> bool:
        """Say whether nothing is due within the quiet time since the last change. Asked where no actor is ready.

        What an outage puts off is due where it ends: the quiet time counts from there.
        """
        wake = self._session.kernel.next_wake()
        if wake is None:
            return True
        if wake - self._session.recorder.last_change <= quiet:
            if not self._sends_by_itself or self._moved_within(quiet, wake):
                return False  # as most often, whatever else it counts from
            changed = 0
        else:
            changed = self._session.recorder.last_change
        since = max(start, changed, *self._session.kernel.outages.values())
        return wake - since > quiet and not self._planned_ahead()

    def _moved_within(self, quiet: Duration, wake: Instant) -> bool:
        """Say whether a job that a client sent changed, or once all is healed one that has not ended.

        A scheduler of the system sends without end, and while its workers are dead none of its jobs
        ends.
        """
        plans, live = self._session.world.plans, self._session.job_index.live if self.healed else ()
        for event in reversed(self._session.recorder.history.events):
            if wake - event.at > quiet:
                return False
            if type(event) is Observed and (event.job in plans or event.job in live):
                return True
        return False

    def _planned_ahead(self) -> bool:
        """Say whether a client still has something to send, or a job waits for its time."""
        if any(actor.state is State.SLEEPING and not actor.process for actor in self._session.kernel.actors.values()):
            return True
        now = self._session.clocks.store()
        return any(view.status is PENDING and view.start_after > now for view in self._session.job_index.live.values())


class Session(LiveSession):
    """A scenario on an engine, from an empty queue to a verdict."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        engine: Engine,
        choices: Choices | None = None,
        faults: FaultPlan = NO_FAULTS,
        invariants: tuple[Invariant, ...] | None = None,
        limits: Limits = Limits(),
        application: Application | None = None,
        until: str | None = None,
        processors: RealProcessors | None = None,
        announced: Iterable[str] = (),
    ) -> None:
        """Take what the run needs; it ends early once the anomaly `until` showed, else it goes to its rest.

        `announced` are capabilities that only jobs planned later will ask for: see `plan_job`.
        """
        stopping_point()
        contract = engine.info.contract
        self._given = scenario
        self.scenario = scenario = _effective(scenario, contract)
        self.engine = engine
        if choices is None:
            choices, faults = (Replay(scenario.tape), as_on_tape()) if scenario.tape else (Boring(), faults)
        self._known_jobs = {name: _facts(plan, scenario) for name, plan in scenario.plan_of().items()}
        self._asked = frozenset((*needed_capabilities(scenario), *announced))
        self.choices = choices
        with _environment_first(engine):
            observation = Observation(
                lambda clocks: _opened(engine, scenario.settings, clocks, self._jitter),
                settings=scenario.settings,
                contract=contract,
                engine=engine.info,
                jobs=self._known_jobs,
                invariants=lambda queue: self._judgeable(queue, invariants),
            )
        super().__init__(observation, choices=choices, limits=limits)
        self.uncovered: list[str] = []
        self._carrier: LoopCarrier | None = None
        self.world = self._context(processors)
        self.holds_sessions = engine.info.capabilities.sessions
        self.expose(
            faults,
            stop=self.world.stop,
            restart_after=scenario.restart_after,
            deploy=self.world.deploy,
            schedulers=frozenset(SCHEDULERS),
        )
        staged = None if engine.info.processes is None else engine.info.processes(self.queue)
        self.application: Application = staged or application or engine.info.application or StockApplication()
        self.quiet = QuietWatch(self, until)
        self._cut = False
        self._director: Director | None = None

    def _context(self, processors: RealProcessors | None) -> RunContext:
        """Make what actors are given."""
        return RunContext(
            self.scenario,
            self.clocks,
            self.recorder,
            self.job_index,
            self.engine.info.capabilities,
            processors=processors,
            contract=self.engine.info.contract,
            services=self,
        )

    def _judgeable(self, queue: Any, invariants: tuple[Invariant, ...] | None) -> tuple[Invariant, ...]:
        """Leave out what the queue cannot do, and what a scenario has to ask for and this one does not."""
        invariants = everything() if invariants is None else invariants
        if self.engine.info.processes is not None:
            invariants = stepwise(invariants, self.engine.info.shows())
        left_out = {*self.engine.info.capabilities.missing(CAPABILITIES), *ON_REQUEST.difference(self._asked)}
        promised = tuple(item for item in invariants if left_out.isdisjoint(item.capabilities))
        return (*promised, *self.engine.info.promises)

    def note_overtaken(self, actor: Actor, passed: Duration) -> None:
        """To an actor that is ready, time that passes by is a pause."""
        if actor.process and actor.request is not None:
            self.recorder.fault(actor.name, PAUSE.event, {"at": actor.request.point, "for": passed})

    def _jitter(self) -> float:
        numerator, _, denominator = self.choices.pick("jitter", JITTERS).partition("/")
        return int(numerator) / int(denominator or 1)

    # phases ---------------------------------------------------------------------------------------------------------

    def run(self) -> Run:
        """Go through all phases; whatever happens, the queue is closed and no frame is left behind.

        The garbage collector rests meanwhile: no finalizer of a processor runs at an unchosen
        moment. Raises EnvironmentUnavailable where what the engine stands on is not there as it
        was: such a run says nothing.
        """
        collecting = gc.isenabled()
        gc.disable()
        try:
            with _environment_first(self.engine):
                failures = self._played()
            self.engine.info.confirm()
        finally:
            self.close()
            if collecting:
                gc.enable()
        return self.result(failures)

    def _played(self) -> list[str]:
        failures: list[str] = []
        try:
            director = self.begin()
            failures.extend(self._chaos(director))
            self.rest()
            failures.extend(director.judge())
            failures.extend(self._leftovers())
        except LimitReached as limit:
            self._cut = isinstance(limit, StepsSpent)
            if self._cut:
                self.judge.without_rest()
            if not self.judge.endless:
                failures.append(f"{limit.message}. {limit.hint}" if limit.hint else limit.message)
        return failures

    def run_for_good(self) -> Run:
        """Run, and take the session apart: afterwards it may be asked only how far it came.

        Its parts refer to each other, so only the garbage collector would free the thousand objects
        that a small run leaves behind. Taken apart they go at once: a generic run takes 13 % less.
        """
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self.run()
        finally:
            self.judge.dismiss()
            _strip(self.world)
            _strip(self.observation)
            _strip(self.kernel, "steps", "now")
            _strip(self.recorder, "history")
            _strip(self, "kernel", "recorder")
            if collecting:
                gc.enable()

    def _chaos(self, director: Director) -> list[str]:
        """Let happen what happens; a script that waits for a rest that never comes is not played to its end."""
        try:
            return director.run()
        except Restless as stop:
            return [str(stop)] if self.scenario.steps else []

    def begin(self) -> Director:
        """Start every actor; return those that play steps. The caller must end with `close`."""
        self._start()
        self._director = Director(self.scenario, self.kernel, self.world, self.recorder, self.clocks, self.quiet.wait)
        return self._director

    def rest(self) -> None:
        """Heal, settle and judge what must hold at rest, or what keeps it away.

        Raises LimitReached where the run never comes to rest and no job loops.
        """
        self._heal()
        try:
            self._play_settle_phase()
        except Hung:
            raise
        except LimitReached:
            self.judge.without_rest()
            if not self.judge.endless:
                raise
        self.recorder.phase("judge")
        if not self.judge.endless:
            self.judge.rest(self.job_index.views)

    def close(self) -> None:
        """Sever the actors that still act and close the queue."""
        self.world.closed = True
        if self.engine.info.capabilities.sessions:
            self.queue.close()  # before the frames: a `finally` that wants to roll back must find nothing
        self.kernel.bury()
        if self._carrier is not None:
            self._carrier.close()
        self.queue.close()

    def carrier(self) -> LoopCarrier:
        """Return what carries this session's coroutines, made when first asked for."""
        if self._carrier is None:
            from job_harness.core.sim.carrier import LoopCarrier  # asyncio, which most runs do without
            from job_harness.core.sim.loop import VirtualLoop

            self._carrier = LoopCarrier(self.kernel, VirtualLoop())
        return self._carrier

    def later(self, name: str, wait: Duration, then: Callable[[], None]) -> None:
        """Let something happen after a while, under a name: what lives on without a worker."""

        def living_on() -> Frame:
            yield Sleep(wait, f"living on: {name}")
            then()

        self.kernel.spawn(f"{name} #{len(self.kernel.actors)}", living_on)

    def sever(self, frame: Frame) -> None:
        """Keep what a process has left suspended that died, and close it after the verdict."""
        self.kernel.sever(frame)

    def pass_by(self, name: str, point: str) -> bool:
        """Let an actor come to a gate in the middle of its step; see `Kernel.pass_by`."""
        return self.kernel.pass_by(self.kernel.actors[name], point)

    def fail_over(self) -> None:
        """Let the engine's store do what it does when it goes away for everybody."""
        self.engine.info.fails_over()

    def drop_session(self, actor: Actor, linger: Duration) -> None:
        """A dead actor's session ends with it, or lingers with its locks until the server notices."""
        if not self.holds_sessions:
            return
        queue: Any = self.queue
        drop = queue.sever(actor.name)
        if not linger:
            drop()
            return

        def notice() -> Frame:
            yield Sleep(linger, f"noticing that {actor.name} is dead")
            drop()
            self.recorder.fault("*", "session ends", {"at": "", "whose": actor.name})

        self.kernel.spawn(f"session {len(self.kernel.actors)} of {actor.name}", notice)

    def _leftovers(self) -> list[str]:
        queue: Any = self.queue
        if self.judge.endless and Design.RETRIES_FOREVER in self.engine.info.contract.designs:
            return []  # What goes on by design was stopped, wherever its actors were.
        return list(queue.leftovers()) if self.engine.info.capabilities.sessions else []

    def plan_job(self, plan: JobPlan) -> None:
        """Take a job into the workload that is sent later, by a step."""
        wanted = ON_REQUEST.intersection(needed_capabilities(Scenario(jobs=(plan,)))) - self._asked
        assert not wanted, f"{plan.name} needs {', '.join(sorted(wanted))}, which this session does not watch"
        for name in plan.names():
            self.world.plans[name] = plan
            self._known_jobs[name] = _facts(plan, self.scenario)

    def _start(self) -> None:
        self.recorder.phase("chaos")
        for name, factory in self.application.clients(self.world).items():
            self.kernel.spawn(name, factory)
        for name, process in self.application.actors(self.world).items():
            if isinstance(process, Carried):
                process.join(self.kernel)  # type: ignore[unreachable]  # a factory that is no plain function
            elif not self._started(process):
                self.kernel.spawn(name, process, process=True)

    def _started(self, process: Callable[[], Frame]) -> bool:
        """Start what is carried on the loop; it knows its name. False: it is stepped by the kernel."""
        if self._carrier is None:
            return False
        from job_harness.core.sim.carrier import CarriedProcess

        if not isinstance(process, CarriedProcess):
            return False
        process.start()
        return True

    def _heal(self) -> None:
        self.recorder.phase("heal")
        self.quiet.healed = True
        self.judge.healed(self.job_index.views)
        kernel = self.kernel
        kernel.interferences = []
        kernel.reconnect()
        kernel.deviations.free_order = False
        kernel.choices = Boring()
        self.clocks.correct()
        self.world.stopping.clear()
        for actor in kernel.actors.values():
            if actor.state is State.HELD:
                kernel.unhold(actor)
            elif actor.process and actor.state in (State.CRASHED, State.ENDED):
                kernel.start(actor)

    def _play_settle_phase(self) -> None:
        self.recorder.phase("settle")
        self.quiet.wait()
        if ended := [actor for actor in self.kernel.actors.values() if actor.process and actor.state is State.ENDED]:
            # They were in the middle of a shutdown when the system healed: a deploy brings its processes back.
            for actor in ended:
                self.kernel.start(actor)
            self.quiet.wait()

    def result(self, failures: list[str]) -> Run:
        """Return what the run came to so far."""
        return Run(
            scenario=self._given,
            engine=self.engine.info.name,
            history=self.recorder.history,
            tape=tuple(self.choices.tape),
            anomalies=tuple(self.judge.anomalies),
            failures=tuple(failures),
            uncovered=(*self.uncovered, *self.kernel.surprises),
            steps=self.kernel.steps,
            now=self.kernel.now,
            cut=self._cut,
            played=None if self._director is None else self._director.played,
            raised=self.recorder.raised_at,
            lines=self.recorder.lines,
            statements=tuple(self.recorder.statements),
            script=() if self._director is None else tuple(self._director.script),
            acted=self.world.acted,
        )
