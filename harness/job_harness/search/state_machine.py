"""The lifecycle as a Hypothesis state machine: rules are drawn, the kernel does the stepping, monitors judge.

Hypothesis chooses which step comes next; each rule plays one step of the scenario language, so that a failing example
*is* a scenario. Nothing else is undetermined: order and jitter are the boring ones. The rules are grouped by who acts:
`Producers`, `Workers`, `Mishaps`; what only some examples have is a feature of theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from hypothesis import Phase, reject, settings
from hypothesis import strategies as st
from hypothesis.control import current_build_context
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from job_harness.core.invariants import Anomaly, gravity
from job_harness.core.model.duration import SECOND, format_duration
from job_harness.core.model.job import JobId
from job_harness.core.model.moments import moments
from job_harness.core.model.settings import Settings
from job_harness.core.port import Application, Capabilities, Engine, as_engine
from job_harness.core.run.director import Director, Stopped
from job_harness.core.run.session import Limits, Session
from job_harness.core.run.stock import StockApplication
from job_harness.core.scenario.job_plan import JobPlan, Span
from job_harness.core.scenario.scenario import SCHEDULERS, Scenario, Step, parse_step
from job_harness.core.sim.actor import Actor, State
from job_harness.errors import LimitReached, UsageError
from job_harness.search.machine_acts import HOLDING, Act, EnabledActs, next_act, when
from job_harness.search.machine_failure import breach, failures_directory, no_rest, opener_of, smallest, tell
from job_harness.search.workload import DELAYS, ENDINGS, SPANS

JOBS = tuple("abcdefghijkl")
WHICH = st.integers(0, 5)
"""Picks among those who can, counted round."""


def can(capability: str) -> Callable[[Any], bool]:
    """Return the precondition that the queue can do something."""
    return lambda machine: getattr(machine.engine.info.capabilities, capability)


def some(listed: str, *arguments: Any) -> Callable[[Any], bool]:
    """Return the precondition that a list of what can be done is not empty."""
    return lambda machine: bool(getattr(machine, listed)(*arguments))


class Play(EnabledActs):
    """Holds the session and what was played in it; the groups of rules stand on this."""

    engine: Engine
    workers: ClassVar[tuple[str, ...]] = ("w1", "w2")
    limits: ClassVar[Limits] = Limits(steps=20_000)
    _made: Any
    """What `make_engine` returned."""
    _session: Session | None
    _director: Director | None
    _feature: str
    _schedules: tuple[JobPlan, ...]
    _plans: list[JobPlan]
    _steps: list[Step]

    def make_application(self) -> Application:
        """Return who works on the queue."""
        info = self.engine.info
        return info.stepped or info.application or StockApplication()

    def failures_directory(self) -> Path:
        """Return where failing scenarios are written."""
        raise NotImplementedError

    def nothing_is_breached(self) -> None:
        """Judge what must always hold."""
        raise NotImplementedError

    @property
    def session(self) -> Session:
        """The run that is being stepped."""
        assert self._session is not None
        return self._session

    @property
    def scenario(self) -> Scenario:
        """Everything done so far, as a scenario that does it again."""
        return Scenario(
            title=f"{type(self).__name__} on {self.engine.info.name}",
            settings=self.session.settings,
            workers=self.workers,
            jobs=(*self._schedules, *self._plans),
            steps=tuple(self._steps),
        )

    def _open(self, scenario: Scenario) -> Session:
        return Session(
            scenario,
            engine=self.engine,
            limits=self.limits,
            application=self.make_application(),
            announced=watched(self._feature),
        )

    def _jobs(self) -> list[JobPlan]:
        return self._plans

    def _outside(self) -> list[JobPlan]:
        """Those that can be sent again as they were: a transaction has ended by then, or goes on."""
        return [plan for plan in self._plans if plan.transaction is None]

    def _room(self) -> bool:
        return len(self._plans) < len(JOBS)

    def play(self, text: str) -> None:
        """Play a step of the scenario language; an example in which it cannot be done does not count."""
        step = parse_step(text)
        self._steps.append(step)
        assert self._director is not None
        try:
            self._director.play(step)
        except Stopped:
            reject()
        except LimitReached as limit:
            raise self._no_rest(limit) from None

    def _no_rest(self, limit: LimitReached) -> Exception:
        self.nothing_is_breached()
        name, directory = type(self).__name__, self.failures_directory()
        return no_rest(str(limit), self.scenario, name=name, engine=opener_of(self._made), directory=directory)

    def _play_one(self, acts: list[Act], which: int) -> None:
        self.play(acts[which % len(acts)].text)

    def _length(self, moment: str) -> str:
        return format_duration(moments(self.session.settings).get(moment, self.session.settings.poll_interval))

    def _late(self, moment: str) -> None:
        if moment != "now":
            self.play(f"jump {self._length(moment)}")


PLAIN: Final = "plain"
FEATURES: Final = {
    "serial keys": "serial_keys",
    "dead letters": "dead_letters",
    "transactions": "transactions",
    "schedules": "schedules",
    "a limit of a tool": "concurrency_limits",
    "a limit of all": "concurrency_limits",
}
"""By name, the capability that it takes."""
DRAWN: Final = (*(PLAIN,) * len(FEATURES), *FEATURES)
"""Half of the examples have none."""
SCHEDULE: Final = "cron"
OPEN: Final = (Span(), Span(fixed=SECOND), SPANS["1x timeout"], SPANS["1x lease"])
"""How long a transaction stays open."""


def allowed(feature: str, capabilities: Capabilities) -> str:
    """Return the feature, or none where the queue lacks it."""
    return feature if feature != PLAIN and getattr(capabilities, FEATURES[feature]) else PLAIN


def limited(feature: str, settings: Settings) -> Settings:
    """Return the settings with the limit that the feature is, if it is one."""
    limits = {"a limit of a tool": {"tool_concurrency": 1}, "a limit of all": {"concurrency": 1}}
    return settings.changed(**limits.get(feature, {}))


def scheduled(feature: str, ending: str, settings: Settings) -> Iterator[JobPlan]:
    """Return the schedule that runs beside the steps, if the feature is one."""
    if feature == "schedules":
        period = 2 * settings.tick_interval
        yield JobPlan(SCHEDULE, outcomes=ENDINGS[ending], every=period, count=2, scheduled=True, max_attempts=2)


def featured(feature: str, plan: JobPlan, which: int, settings: Settings) -> JobPlan:
    """Return the plan of a job with what the feature adds; `which` picks how, and now and then nothing."""
    if feature == "serial keys" and which % 4:
        return replace(plan, serial_key="s", tool="other" if which % 4 == 1 else plan.tool)
    if feature == "dead letters" and which % 3:
        return replace(plan, dead_letter="dead", input={"of": "a dead letter"})
    if feature == "transactions" and which % 5:
        ends = "commit" if which % 2 else "rollback"
        return replace(plan, transaction=ends, open_for=OPEN[which % len(OPEN)].resolve(settings))
    if feature == "a limit of a tool" and not which % 3:
        return replace(plan, tool="other")
    return plan


def watched(feature: str) -> tuple[str, ...]:
    """Return the capability that jobs of this feature will ask for."""
    return () if feature == PLAIN else (FEATURES[feature],)


class Producers(Play):
    """Rules of those who send jobs and look after them."""

    @precondition(lambda machine: machine._room())
    @rule(
        ending=st.sampled_from((*("succeeds",) * len(ENDINGS), *ENDINGS)),
        takes=st.sampled_from((*("1s",) * len(SPANS), *SPANS)),
        priority=st.sampled_from((0, 5, -5)),
        start_after=st.sampled_from((*("none",) * 8, *DELAYS)),
        unique_key=st.sampled_from((None, None, None, "k")),
        claimed=st.booleans(),
        which=st.integers(0, 11),
    )
    def enqueue(
        self,
        ending: str,
        takes: str,
        priority: int,
        start_after: str,
        unique_key: str | None,
        claimed: bool,
        which: int,
    ) -> None:
        """Send a new job, and let an idle worker claim at once."""
        able = self.engine.info.capabilities
        delay = DELAYS[start_after] if able.start_after else None
        plan = JobPlan(
            JOBS[len(self._plans)],
            outcomes=ENDINGS[ending],
            takes=(SPANS[takes],),
            priority=priority if able.priorities else 0,
            start_after=None if delay is None else delay.resolve(self.session.settings),
            unique_key=unique_key if able.unique else None,
            held_back=True,
        )
        plan = featured(self._feature, plan, which, self.session.settings)
        self._plans.append(plan)
        self.session.plan_job(plan)
        self.play(f"enqueue {plan.name}")
        if claimed and (claims := self._claims()):
            self._play_one(claims, len(self._plans))

    @precondition(some("_outside"))
    @rule(which=WHICH)
    def enqueue_again(self, which: int) -> None:
        """Send a job that was sent before."""
        self.play(f"enqueue {self._outside()[which % len(self._outside())].name}")

    @precondition(can("cancel"))
    @precondition(some("_jobs"))
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """Cancel a job, whatever its status."""
        self.play(f"cancel {self._plans[which % len(self._plans)].name}")

    @precondition(can("retry"))
    @precondition(some("_jobs"))
    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        """Open a new attempt budget, whatever the status."""
        self.play(f"retry {self._plans[which % len(self._plans)].name}")


STEPS_TO_IDLE = 6
"""Start, heartbeat and settle, for a batch of two."""


class Workers(Play):
    """Rules of the workers."""

    @precondition(some("_claims"))
    @rule(which=WHICH)
    def claim(self, which: int) -> None:
        """Let an idle worker claim."""
        self._play_one(self._claims(), which)

    @precondition(some("_acts", "start"))
    @rule(which=WHICH)
    def start(self, which: int) -> None:
        """Let a worker start the job that it claimed."""
        self._play_one(self._acts("start"), which)

    @precondition(some("_acts", "complete", "start"))
    @rule(which=WHICH)
    def complete(self, which: int) -> None:
        """Let a worker run to the end of its job and complete it."""
        self._settle("complete", which)

    @precondition(some("_acts", "fail", "start"))
    @rule(which=WHICH)
    def fail(self, which: int) -> None:
        """Let a worker run to the end of its job and report its failure."""
        self._settle("fail", which)

    def _settle(self, verb: str, which: int) -> None:
        acts = self._acts(verb, "start")
        act = acts[which % len(acts)]
        if act.verb == "start":
            self.play(act.text)
            acts = [later for later in self._acts(verb) if later.actor == act.actor]
        if acts:
            self._play_one(acts, which)

    @precondition(some("_acts", "heartbeat"))
    @rule(which=WHICH)
    def heartbeat(self, which: int) -> None:
        """Let a worker extend a lease."""
        self._play_one(self._acts("heartbeat"), which)

    @precondition(some("_acts", "release"))
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        """Let a worker that shuts down give a job back."""
        self._play_one(self._acts("release"), which)

    @precondition(some("_stale_acts"))
    @rule(which=WHICH)
    def act_as_zombie(self, which: int) -> None:
        """Let a worker act with a claim that was taken back."""
        self._play_one(self._stale_acts(), which)

    @precondition(lambda machine: machine._acts(*HOLDING) or machine._claims())
    @rule(which=WHICH, awakes=st.sampled_from((True, True, False)))
    def be_overtaken(self, which: int, awakes: bool) -> None:
        """Stall a worker past its lease, take its job back, let another worker claim; then the first may go on."""
        if not self._acts(*HOLDING):
            self._play_one(self._claims(), which)
        holding = self._acts(*HOLDING)
        if not holding:
            return
        act = holding[which % len(holding)]
        if act.verb == "start":
            self.play(act.text)
        self.play(f"{act.actor} pauses{when(self.session.kernel.actors[act.actor])}")
        self.play(f"jump {self._length('a lease + 1s')}")
        self.play("queue runs")
        self._come_due(act.job)
        for other in self._workers():
            if other.name != act.actor:
                self._become_idle(other)
        if claims := [claim for claim in self._claims() if claim.actor != act.actor]:
            self._play_one(claims, which)
        if awakes:
            for ahead in [mine for mine in self._stale_acts() if mine.actor == act.actor]:
                self.play(ahead.text)

    def _come_due(self, job: JobId | None) -> None:
        view = self.session.job_index.views.get(job or "")
        if view is not None and (wait := view.start_after - self.session.clocks.store()) > 0:
            self.play(f"jump {format_duration(wait)}")

    def _become_idle(self, actor: Actor) -> None:
        """Bring a worker back that is down or stalled, and let it settle what it holds, a batch at most."""
        if not actor.alive:
            self.play(f"restart {actor.name}")
        elif actor.state is State.HELD:
            self.play(f"{actor.name} continues")
        for _ in range(STEPS_TO_IDLE):
            act = next_act(self.session, actor)
            if act is None or act.verb == "claim" or not self._nameable(actor):
                return
            self.play(act.text)

    @precondition(some("_acts", *HOLDING))
    @rule(which=WHICH)
    def go_ahead(self, which: int) -> None:
        """Let a worker that holds a job do what comes next."""
        self._play_one(self._acts(*HOLDING), which)


MOMENTS = tuple(moments(Settings()))
SHORT = (MOMENTS[0], MOMENTS[1]) * 6
"""A long time lets every job end; most races are run in a short one."""
LATE = (*("now",) * len(MOMENTS), *MOMENTS)
"""On time as often as late."""
MOST_CLOCKS = 2
"""How often a clock is set wrong in one example: more would crowd out what meets a wrong clock."""


class Mishaps(Play):
    """Rules of what goes wrong, and of time."""

    _clocks_set = 0

    @precondition(some("_busy"))
    @rule(which=WHICH)
    def crash(self, which: int) -> None:
        """Kill a worker that holds a job, where it stands."""
        actor = self._busy()[which % len(self._busy())]
        self.play(f"crash {actor.name}{when(actor)}")

    @precondition(some("_down"))
    @rule(which=WHICH)
    def restart(self, which: int) -> None:
        """Bring a worker back that crashed or stopped."""
        self.play(f"restart {self._down()[which % len(self._down())].name}")

    @precondition(some("_going"))
    @rule(which=WHICH)
    def pause(self, which: int) -> None:
        """Stall a worker, the queue's upkeep, maintenance or a scheduler."""
        actor = self._going()[which % len(self._going())]
        self.play(f"{actor.name} pauses{when(actor)}")

    @precondition(some("_held"))
    @rule(which=WHICH)
    def go_on(self, which: int) -> None:
        """Let who was stalled go on."""
        self.play(f"{self._held()[which % len(self._held())].name} continues")

    @precondition(can("release"))
    @precondition(some("_unstopped"))
    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        """Ask a worker to shut down gracefully."""
        self.play(f"stop {self._unstopped()[which % len(self._unstopped())].name}")

    @precondition(some("_calling"))
    @rule(which=WHICH, how=st.sampled_from(("loses the request", "loses the reply", "delivers twice")))
    def lose(self, which: int, how: str) -> None:
        """Lose or double a message; nothing repeats a claim on its own."""
        actor = self._calling()[which % len(self._calling())]
        repeats_claim = how == "delivers twice" and when(actor).endswith("claiming")
        self.play(f"{actor.name} {'loses the reply' if repeats_claim else how}{when(actor)}")

    @precondition(lambda machine: machine._clocks_set < MOST_CLOCKS)
    @rule(whose=st.sampled_from(("store", "actor")), way=st.sampled_from(("ahead", "behind")))
    def set_clock(self, whose: str, way: str) -> None:
        """Set a clock wrong, within the declared skew."""
        self._clocks_set += 1
        actor = SCHEDULERS[0] if self._schedules else self.workers[0]
        name = "store" if whose == "store" else actor
        self.play(f"{name} clock is {format_duration(self.session.settings.max_skew)} {way}")

    @rule(moment=st.sampled_from((*MOMENTS, *SHORT)))
    def advance(self, moment: str) -> None:
        """Let time pass and everything due happen."""
        self.play(f"advance {self._length(moment)}")

    @rule(late=st.sampled_from(LATE))
    def expire(self, late: str) -> None:
        """Run the queue's upkeep, on time or late."""
        self._late(late)
        self.play("queue runs")

    @precondition(can("maintenance"))
    @rule(late=st.sampled_from(LATE), twice=st.booleans())
    def maintain(self, late: str, twice: bool) -> None:
        """Run maintenance, on time or late, once or twice."""
        self._late(late)
        self.play(f"maintenance runs{' twice' if twice else ''}")


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""What Hypothesis does by default: all but shrinking and explaining, which are done here."""


class LifecycleMachine(Producers, Workers, Mishaps, RuleBasedStateMachine):
    """Subclass it, return an engine from `make_engine`, and use `.TestCase` as a test.

    The machine closes the queues that it opens, never the engine. A breach raises `LifecycleFailure` with the scenario
    as YAML, which is also written to `failures_directory()`. The scenario is shrunk here, once, when Hypothesis replays
    its failing example; Hypothesis' own shrinking adds little to that and is off by default, and so is the deadline.
    Hypothesis settings go to `TestCase.settings`, or decorate the class, as usual.
    """

    queue_settings: ClassVar[Settings] = Settings()
    """What the queue and its workers run under; not to be confused with Hypothesis' own `TestCase.settings`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.TestCase.settings = settings(cls.TestCase.settings, deadline=None, phases=PHASES)

    def __init__(self) -> None:
        super().__init__()
        self._outer = sys.exc_info()[1]
        self._made = self.make_engine()
        self.engine = as_engine(self._made)
        if self.engine.info.processes is not None:
            raise UsageError(
                f"{type(self).__name__}: {self.engine.info.name} is an application: its steps are its own, and the "
                "rules of this machine play the verbs of a queue",
                hint="Search it with `job-harness explore`, or give make_engine the queue that it stands on.",
            )
        self._session = None
        self._director = None
        self._feature = PLAIN
        self._schedules = ()
        self._plans = []
        self._steps = []
        self._closed = False

    def make_engine(self) -> Engine:
        """Return the engine under test; called once an example."""
        raise NotImplementedError(
            f"{type(self).__name__} names no engine: override make_engine and return one, such as MemoryEngine()"
        )

    def failures_directory(self) -> Path:
        """Return where failing scenarios are written."""
        return failures_directory()

    @initialize(
        max_attempts=st.sampled_from(("as set", "as set", "1", "2")),
        batch=st.sampled_from((1, 1, 2)),
        heartbeats=st.sampled_from((False, False, True)),
        retry_delay=st.sampled_from(("as set", "as set", "near its cap")),
        feature=st.sampled_from(DRAWN),
        ending=st.sampled_from(("succeeds", "fails once", "fails finally", "kills its worker")),
    )
    def begin(
        self, max_attempts: str, batch: int, heartbeats: bool, retry_delay: str, feature: str, ending: str
    ) -> None:
        """Draw the configuration and start everybody."""
        settings = self.queue_settings
        if max_attempts != "as set":
            settings = settings.changed(max_attempts=int(max_attempts))
        if settings.batch_size == 1 and self.engine.info.capabilities.heartbeat and (heartbeats or batch > 1):
            settings = settings.changed(batch_size=batch, heartbeat_interval=settings.lease // 4)
        if retry_delay != "as set":
            settings = settings.changed(retry_delay=max(settings.retry_delay, settings.retry_delay_max * 3 // 4))
        self._feature = allowed(feature, self.engine.info.capabilities)
        settings = limited(self._feature, settings)
        self._schedules = tuple(scheduled(self._feature, ending, settings))
        self._session = self._open(Scenario(settings=settings, workers=self.workers, jobs=self._schedules))
        self._director = self._session.begin()
        self._director.clients_first()  # as they are in the scenario that does it again

    # judging --------------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_breached(self) -> None:
        """Judge what must always hold."""
        anomalies = self.session.judge.anomalies
        if anomalies:
            raise self._breach(min(anomalies, key=lambda anomaly: (gravity(anomaly.name), anomaly.event)))

    def _breach(self, anomaly: Anomaly) -> Exception:
        """Make the scenario small where this failure is the one that is shown: Hypothesis may try many before."""
        self.engine.info.confirm()
        self._close()
        scenario, shown, replays = self.scenario, anomaly, True
        if current_build_context().is_final:
            scenario, found = smallest(scenario, anomaly.name, self._open, base=self.queue_settings)
            shown = found or anomaly
            replays = found is not None
        name, directory = type(self).__name__, self.failures_directory()
        return breach(shown, scenario, replays=replays, name=name, engine=opener_of(self._made), directory=directory)

    def teardown(self) -> None:
        """Heal, settle and judge at rest, unless the example already ended otherwise; tell what it met."""
        if self._session is None:
            return
        try:
            if sys.exc_info()[1] is self._outer:
                self.session.rest()
                self.nothing_is_breached()
        except LimitReached as limit:
            raise self._no_rest(limit) from None
        finally:
            self._close()
            tell(self.session.recorder.history)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self.session.close()
