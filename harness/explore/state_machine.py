"""The lifecycle as a Hypothesis state machine: rules are drawn, the kernel does the stepping, monitors judge.

Hypothesis chooses which step comes next; each rule plays one step of the scenario language, so that a failing example
*is* a scenario. Nothing else is undetermined: order and jitter are the boring ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import Phase, reject, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.errors import LimitReached
from harness.explore.machine_acts import Act, when
from harness.explore.machine_failure import breach, failures_directory, no_rest
from harness.explore.machine_shrink import smallest
from harness.explore.machine_standing import HOLDING, Standing
from harness.explore.workload import DELAYS, ENDINGS, SPANS
from harness.invariants import Anomaly, gravity
from harness.model.duration import format_duration
from harness.model.moments import moments
from harness.model.settings import Settings
from harness.port import Engine
from harness.run.director import Director, Stopped
from harness.run.session import Limits, Session
from harness.run.stock import StockApplication
from harness.scenario.job_plan import JobPlan
from harness.scenario.scenario import Scenario
from harness.scenario.step import Step, parse_step

MOMENTS = tuple(moments(Settings()))
SHORT = (MOMENTS[0], MOMENTS[1]) * 6
"""A long time lets every job end; most races are run in a short one."""
LATE = (*("now",) * len(MOMENTS), *MOMENTS)
"""On time as often as late."""
JOBS = tuple("abcdefghijkl")
MOST_CLOCKS = 2
"""How often a clock is set wrong in one example: more would crowd out what meets a wrong clock."""
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""What Hypothesis does by default: all but shrinking and explaining, which are done here."""
WHICH = st.integers(0, 5)
"""Picks among those who can, counted round."""


def _can(capability: str) -> Callable[[Any], bool]:
    return lambda machine: getattr(machine.engine.capabilities, capability)


def _some(listed: str, *arguments: Any) -> Callable[[Any], bool]:
    return lambda machine: bool(getattr(machine, listed)(*arguments))


class LifecycleMachine(Standing, RuleBasedStateMachine):
    """Subclass it, answer an engine from `make_engine`, and take `.TestCase` as a test.

    The machine closes the queues that it opens, never the engine. A breach raises `LifecycleFailure` with the scenario
    as YAML, which is also written to `failures_directory()`. The scenario is made small here, so that Hypothesis' own
    shrinking, which takes minutes where this takes milliseconds, is left out by default, and so is the deadline;
    Hypothesis settings go to `TestCase.settings`, as ever.
    """

    workers: ClassVar[tuple[str, ...]] = ("w1", "w2")
    queue_settings: ClassVar[Settings] = Settings()
    """What the queue and its workers run under; not to be confused with Hypothesis' own `TestCase.settings`."""
    limits: ClassVar[Limits] = Limits(steps=20_000)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.TestCase.settings = settings(cls.TestCase.settings, deadline=None, phases=PHASES)

    def __init__(self) -> None:
        super().__init__()
        self._outer = sys.exc_info()[1]
        self.engine = self.make_engine()
        self._session: Session | None = None
        self._closed = False
        self._clocks_set = 0
        self._director: Director | None = None
        self._plans: list[JobPlan] = []
        self._steps: list[Step] = []

    def make_engine(self) -> Engine:
        """Answer the engine under test; called once an example."""
        raise NotImplementedError(
            f"{type(self).__name__} names no engine: override make_engine and answer one, such as MemoryEngine()"
        )

    def make_application(self) -> StockApplication:
        """Answer who works on the queue."""
        return StockApplication()

    def failures_directory(self) -> Path:
        """Answer where failing scenarios are written."""
        return failures_directory()

    # what there is --------------------------------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The run that is being stepped."""
        assert self._session is not None
        return self._session

    @property
    def scenario(self) -> Scenario:
        """Everything done so far, as a scenario that does it again."""
        return Scenario(
            title=f"{type(self).__name__} on {self.engine.name}",
            settings=self.session.settings,
            workers=self.workers,
            jobs=tuple(self._plans),
            steps=tuple(self._steps),
        )

    def _jobs(self) -> list[JobPlan]:
        return self._plans

    def _room(self) -> bool:
        return len(self._plans) < len(JOBS)

    # playing --------------------------------------------------------------------------------------------------------

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
        return no_rest(str(limit), self.scenario, name=type(self).__name__, directory=self.failures_directory())

    def _play_one(self, acts: list[Act], which: int) -> None:
        self.play(acts[which % len(acts)].text)

    def _length(self, moment: str) -> str:
        return format_duration(moments(self.session.settings).get(moment, self.session.settings.poll_interval))

    def _late(self, moment: str) -> None:
        if moment != "now":
            self.play(f"jump {self._length(moment)}")

    @initialize(max_attempts=st.sampled_from(("as set", "1", "2")), batch=st.sampled_from((1, 2)))
    def begin(self, max_attempts: str, batch: int) -> None:
        """Draw the configuration and start everybody."""
        settings = self.queue_settings
        if max_attempts != "as set":
            settings = settings.changed(max_attempts=int(max_attempts))
        if batch > 1 and settings.batch_size == 1 and self.engine.capabilities.heartbeat:
            settings = settings.changed(batch_size=batch, heartbeat_interval=settings.lease // 4)
        self._session = self._open(Scenario(settings=settings, workers=self.workers))
        self._director = self._session.begin()

    def _open(self, scenario: Scenario) -> Session:
        application = self.make_application()
        return Session(scenario, engine=self.engine, limits=self.limits, application=application)

    # producers and operators ----------------------------------------------------------------------------------------

    @precondition(lambda machine: machine._room())
    @rule(
        ending=st.sampled_from((*("succeeds",) * len(ENDINGS), *ENDINGS)),
        takes=st.sampled_from((*("1s",) * len(SPANS), *SPANS)),
        priority=st.sampled_from((0, 5, -5)),
        start_after=st.sampled_from((*("none",) * 8, *DELAYS)),
        unique_key=st.sampled_from((None, None, None, "k")),
        claimed=st.booleans(),
    )
    def enqueue(
        self, ending: str, takes: str, priority: int, start_after: str, unique_key: str | None, claimed: bool
    ) -> None:
        """Send a new job, and let an idle worker claim at once."""
        able = self.engine.capabilities
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
        self._plans.append(plan)
        self.session.plan_job(plan)
        self.play(f"enqueue {plan.name}")
        if claimed and (claims := self._claims()):
            self._play_one(claims, len(self._plans))

    @precondition(_some("_jobs"))
    @rule(which=WHICH)
    def enqueue_again(self, which: int) -> None:
        """Send a job that was sent before."""
        self.play(f"enqueue {self._plans[which % len(self._plans)].name}")

    @precondition(_can("cancel"))
    @precondition(_some("_jobs"))
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """Cancel a job, whatever its status."""
        self.play(f"cancel {self._plans[which % len(self._plans)].name}")

    @precondition(_can("retry"))
    @precondition(_some("_jobs"))
    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        """Open a new attempt budget, whatever the status."""
        self.play(f"retry {self._plans[which % len(self._plans)].name}")

    # workers --------------------------------------------------------------------------------------------------------

    @precondition(_some("_claims"))
    @rule(which=WHICH)
    def claim(self, which: int) -> None:
        """Let an idle worker claim."""
        self._play_one(self._claims(), which)

    @precondition(_some("_acts", "start"))
    @rule(which=WHICH)
    def start(self, which: int) -> None:
        """Let a worker start the job that it claimed."""
        self._play_one(self._acts("start"), which)

    @precondition(_some("_acts", "complete", "start"))
    @rule(which=WHICH)
    def complete(self, which: int) -> None:
        """Let a worker run to the end of its job and complete it."""
        self._settle("complete", which)

    @precondition(_some("_acts", "fail", "start"))
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

    @precondition(_some("_acts", "heartbeat"))
    @rule(which=WHICH)
    def heartbeat(self, which: int) -> None:
        """Let a worker extend a lease."""
        self._play_one(self._acts("heartbeat"), which)

    @precondition(_some("_acts", "release"))
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        """Let a worker that shuts down give a job back."""
        self._play_one(self._acts("release"), which)

    @precondition(_some("_stale_acts"))
    @rule(which=WHICH)
    def act_as_zombie(self, which: int) -> None:
        """Let a worker act with a claim that was taken back."""
        self._play_one(self._stale_acts(), which)

    @precondition(lambda machine: machine._acts(*HOLDING) or machine._claims())
    @rule(which=WHICH, awakes=st.booleans())
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
        self.play(f"jump {self._length('a backoff')}")
        if claims := [claim for claim in self._claims() if claim.actor != act.actor]:
            self._play_one(claims, which)
        if awakes:
            for ahead in [mine for mine in self._stale_acts() if mine.actor == act.actor]:
                self.play(ahead.text)

    @precondition(_some("_acts", *HOLDING))
    @rule(which=WHICH)
    def go_ahead(self, which: int) -> None:
        """Let a worker that holds a job do what comes next."""
        self._play_one(self._acts(*HOLDING), which)

    # what goes wrong ------------------------------------------------------------------------------------------------

    @precondition(_some("_busy"))
    @rule(which=WHICH)
    def crash(self, which: int) -> None:
        """Kill a worker that holds a job, where it stands."""
        actor = self._busy()[which % len(self._busy())]
        self.play(f"crash {actor.name}{when(actor)}")

    @precondition(_some("_down"))
    @rule(which=WHICH)
    def restart(self, which: int) -> None:
        """Bring a worker back that crashed or stopped."""
        self.play(f"restart {self._down()[which % len(self._down())].name}")

    @precondition(_some("_going"))
    @rule(which=WHICH)
    def pause(self, which: int) -> None:
        """Stall a worker, the queue's upkeep or the cron."""
        actor = self._going()[which % len(self._going())]
        self.play(f"{actor.name} pauses{when(actor)}")

    @precondition(_some("_held"))
    @rule(which=WHICH)
    def go_on(self, which: int) -> None:
        """Let who was stalled go on."""
        self.play(f"{self._held()[which % len(self._held())].name} continues")

    @precondition(_can("release"))
    @precondition(_some("_unstopped"))
    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        """Ask a worker to shut down gracefully."""
        self.play(f"stop {self._unstopped()[which % len(self._unstopped())].name}")

    @precondition(_some("_calling"))
    @rule(which=WHICH, how=st.sampled_from(("loses the request", "loses the reply", "delivers twice")))
    def lose(self, which: int, how: str) -> None:
        """Lose or double a message; nothing repeats a claim on its own."""
        actor = self._calling()[which % len(self._calling())]
        repeats_claim = how == "delivers twice" and when(actor).endswith("claiming")
        self.play(f"{actor.name} {'loses the reply' if repeats_claim else how}{when(actor)}")

    @precondition(lambda machine: machine._clocks_set < MOST_CLOCKS)
    @rule(whose=st.sampled_from(("store", "a worker")), way=st.sampled_from(("ahead", "behind")))
    def set_clock(self, whose: str, way: str) -> None:
        """Set a clock wrong, within the declared skew."""
        self._clocks_set += 1
        name = "store" if whose == "store" else self.workers[0]
        self.play(f"{name} clock is {format_duration(self.session.settings.max_skew)} {way}")

    # time -----------------------------------------------------------------------------------------------------------

    @rule(moment=st.sampled_from((*MOMENTS, *SHORT)))
    def advance(self, moment: str) -> None:
        """Let time pass and everything due happen."""
        self.play(f"advance {self._length(moment)}")

    @rule(late=st.sampled_from(LATE))
    def expire(self, late: str) -> None:
        """Run the queue's upkeep, on time or late."""
        self._late(late)
        self.play("queue runs")

    @precondition(_can("maintenance"))
    @rule(late=st.sampled_from(LATE), twice=st.booleans())
    def maintain(self, late: str, twice: bool) -> None:
        """Run the cron, on time or late, once or twice."""
        self._late(late)
        self.play(f"maintenance runs{' twice' if twice else ''}")

    # judging --------------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_breached(self) -> None:
        """Judge what must always hold."""
        anomalies = self.session.judge.anomalies
        if anomalies:
            raise self._breach(min(anomalies, key=lambda anomaly: (gravity(anomaly.name), anomaly.event)))

    def _breach(self, anomaly: Anomaly) -> Exception:
        self.session.close()
        self._closed = True
        scenario, replays = smallest(self.scenario, anomaly.name, self._open, base=self.queue_settings)
        name, directory = type(self).__name__, self.failures_directory()
        return breach(anomaly, scenario, replays=replays, name=name, directory=directory)

    def teardown(self) -> None:
        """Heal, settle and judge at rest, unless the example already ended otherwise."""
        if self._session is None:
            return
        try:
            if sys.exc_info()[1] is self._outer:
                self.session.rest()
                self.nothing_is_breached()
        except LimitReached as limit:
            raise self._no_rest(limit) from None
        finally:
            if not self._closed:
                self.session.close()
