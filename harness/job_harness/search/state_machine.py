"""The lifecycle as a Hypothesis state machine: rules are drawn, the kernel does the stepping, monitors judge.

Hypothesis chooses which step comes next; each rule plays one step of the scenario language, so that a failing example
*is* a scenario. Nothing else is undetermined: order and jitter are the boring ones. The rules are grouped by who acts:
`Producers`, `Workers`, `Mishaps`; what only some examples have is a feature of theirs. What can be done next is read
off the gates at which actors stand.

A failing scenario of steps is made smaller by playing it again, which takes some milliseconds where
Hypothesis needs seconds. What examples met is told as Hypothesis events, so that its statistics
show what a campaign counts.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from inspect import getfile
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from hypothesis import Phase, reject, settings
from hypothesis import event as note_event
from hypothesis import strategies as st
from hypothesis.control import current_build_context
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from job_harness.core.history import Call, Effect, History
from job_harness.core.invariants import ANOMALIES, Anomaly, gravity
from job_harness.core.model import SECOND, JobId, Settings, Status, format_duration
from job_harness.core.model.moments import moments
from job_harness.core.port import Application, Capabilities, Engine, as_engine
from job_harness.core.run.director import Director, Stopped
from job_harness.core.run.session import Limits, Session
from job_harness.core.run.stock import StockApplication
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import OUTPUTS, Ending, JobPlan, Span
from job_harness.core.scenario.scenario import SCHEDULERS, VERBS, Scenario, Step, parse_step
from job_harness.core.scenario.writer import write_scenario
from job_harness.core.sim import Actor, Sleep, State, VerbCall
from job_harness.errors import LimitReached, UsageError
from job_harness.search.coverage import Cell, Coverage
from job_harness.search.shrink import Open, Shrinker
from job_harness.search.workload import DELAYS, ENDINGS, SPANS
from job_harness.worlds.private import ignored_folder

_WORDS = {verb: word for word, verb in VERBS.items()}
_WHEN = {
    "claim": "before claiming",
    "start": "before starting",
    "running": "while running",
    "complete": "before completing",
    "fail": "before failing",
}


class Act(NamedTuple):
    """A step that can be done."""

    actor: str
    verb: str
    job: JobId | None

    @property
    def text(self) -> str:
        """Write it as a step of a scenario; which job a claim gives is the queue's affair."""
        return " ".join([self.actor, _WORDS[self.verb], *([self.job] if self.job else [])])


def next_act(session: Session, actor: Actor) -> Act | None:
    """Return the next call of a worker; None where that is open, or where it can act no more."""
    request = actor.request
    if not actor.alive or request is None:
        return None
    word, _, job = request.point.removeprefix("retrying ").partition(" ")
    if word in ("claim", "poll"):
        if word == "poll" and actor.name in session.world.stopping:
            return None
        return Act(actor.name, "claim", None)
    if word == "running":
        return _after_running(session, actor, job)
    return Act(actor.name, word, job) if word in _WORDS and job else None


def when(actor: Actor) -> str:
    """Say where an actor stands, as the tail of a step; nothing where scenarios have no words for it."""
    point = "" if actor.request is None else actor.request.point
    word, _, job = point.partition(" ")
    return f" {_WHEN[word]} {job}".rstrip() if word in _WHEN else ""


def is_stale(session: Session, act: Act) -> bool:
    """Say whether a worker would act with a claim that was taken back."""
    if act.job is None:
        return False
    claimed = _last(session, act.actor, act.job, "claimed")
    view = session.job_index.views.get(act.job)
    if claimed is None:
        return False
    return view is None or view.status is not Status.PROCESSING or view.token != claimed.token


def _after_running(session: Session, actor: Actor, job: JobId) -> Act | None:
    started = _last(session, actor.name, job, "started")
    if started is None:
        return None
    settings = session.settings
    plan = session.world.plan(job)
    ending = plan.ending(started.attempt)
    duration = plan.duration(started.attempt, settings)
    timed_out = ending is Ending.HANG or duration > settings.job_timeout
    if settings.heartbeat_interval:
        if timed_out:
            return None
        slices = 1 + _beats(session, actor.name, job)
        if slices * settings.heartbeat_interval < duration:
            return Act(actor.name, "heartbeat", job)
    if timed_out:
        return Act(actor.name, "fail", job)
    if ending is Ending.EXIT:
        return None
    succeeds = ending is Ending.SUCCEED or ending in OUTPUTS
    return Act(actor.name, "complete" if succeeds else "fail", job)


def _last(session: Session, actor: str, job: JobId, name: str) -> Effect | None:
    for event in reversed(session.recorder.history.events):
        if type(event) is Effect and event.actor == actor and event.job == job and event.name == name:
            return event
    return None


def _beats(session: Session, actor: str, job: JobId) -> int:
    count = 0
    for event in reversed(session.recorder.history.events):
        if type(event) is Effect and event.actor == actor and event.job == job and event.name == "started":
            break
        if type(event) is Call and event.actor == actor and event.job == job and event.verb == "heartbeat":
            count += 1
    return count


HOLDING = ("start", "complete", "fail", "release", "heartbeat")
"""What a worker does with a claim."""


class EnabledActs:
    """What can be done at the gates of a run, by these workers, with these jobs."""

    def __init__(self, session: Session, workers: Sequence[str], plans: Sequence[JobPlan]) -> None:
        self.session = session
        self._names = workers
        self._plans = plans

    def jobs(self) -> Sequence[JobPlan]:
        """List the jobs that were sent."""
        return self._plans

    def outside(self) -> list[JobPlan]:
        """List those that can be sent again as they were: a transaction has ended by then, or goes on."""
        return [plan for plan in self._plans if plan.transaction is None]

    def actors(self) -> list[Actor]:
        """Those whom a step can name where they stand: no scenario has a name for the job of a dead letter."""
        actors = self.session.kernel.actors
        there = [actors[name] for name in (*self._names, "queue", "maintenance", *SCHEDULERS) if name in actors]
        return [actor for actor in there if self.nameable(actor)]

    def nameable(self, actor: Actor) -> bool:
        """Whether a scenario has a name for the job that an actor is about."""
        point = "" if actor.request is None else actor.request.point
        job = point.removeprefix("retrying ").partition(" ")[2]
        return job not in self.session.job_index.views or job in self.session.world.plans

    def workers(self) -> list[Actor]:
        """List the workers that a step can name."""
        return [actor for actor in self.actors() if actor.name in self._names]

    def acts(self, *verbs: str) -> list[Act]:
        """List what workers do next, of these verbs."""
        acts = (next_act(self.session, actor) for actor in self.workers())
        return [act for act in acts if act is not None and act.verb in verbs]

    def stale_acts(self) -> list[Act]:
        """List what workers would do next with a claim that was taken back."""
        return [act for act in self.acts(*HOLDING) if is_stale(self.session, act)]

    def claims(self) -> list[Act]:
        """Who is idle, where something is due: polls that find nothing come with the time that passes."""
        now = self.session.clocks.store()
        live = self.session.job_index.live.values()
        due = any(view.status is Status.PENDING and view.start_after <= now for view in live)
        return self.acts("claim") if due else []

    def busy(self) -> list[Actor]:
        """List the workers that hold a job."""
        holding = {act.actor for act in self.acts(*HOLDING)}
        return [actor for actor in self.alive() if actor.name in holding or type(actor.request) is Sleep]

    def alive(self) -> list[Actor]:
        """List the workers that live."""
        return [actor for actor in self.workers() if actor.alive]

    def going(self) -> list[Actor]:
        """List who can be stalled."""
        upkeep = [actor for actor in self.actors() if actor.name not in self._names and actor.alive]
        return [actor for actor in (*self.busy(), *upkeep) if actor.state is not State.HELD]

    def held(self) -> list[Actor]:
        """List who is stalled."""
        return [actor for actor in self.actors() if actor.state is State.HELD]

    def down(self) -> list[Actor]:
        """List the workers that are down."""
        return [actor for actor in self.workers() if not actor.alive]

    def unstopped(self) -> list[Actor]:
        """Those who may be shut down: one at a time, or soon none would be left."""
        stopping = self.session.world.stopping
        return [] if stopping or self.down() else self.alive()

    def calling(self) -> list[Actor]:
        """List the workers that are about to call the queue."""
        return [actor for actor in self.alive() if type(actor.request) is VerbCall and when(actor)]


DIRECTORY_VARIABLE = "JOB_HARNESS_FAILURES"
DEFAULT_DIRECTORY = Path(".job-harness/failures")


class LifecycleFailure(AssertionError):
    """An invariant was breached. Each anomaly has a subclass, so that shrinking never slips into another one."""

    scenario: Scenario | None = None


@functools.cache
def failure_type(anomaly: str) -> type[LifecycleFailure]:
    """Return the exception for an anomaly, always the same class."""
    return type(anomaly, (LifecycleFailure,), {"__module__": __name__, "__doc__": f"The anomaly {anomaly}."})


def failures_directory() -> Path:
    """Return where failing scenarios are written: `JOB_HARNESS_FAILURES`, or `.job-harness/failures`."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    return Path(named) if named else DEFAULT_DIRECTORY


def opener_of(made: Any) -> str:
    """Return what opens an engine again on the command line: its class, by file, where that is a user's own."""
    kind = type(made)
    if kind.__module__.partition(".")[0] == "job_harness" or "<locals>" in kind.__qualname__:
        return as_engine(made).info.name
    try:
        return f"{os.path.relpath(getfile(kind))}:{kind.__qualname__}"
    except (TypeError, OSError):  # one that stands in no file
        return f"{kind.__module__}:{kind.__qualname__}"


def breach(
    anomaly: Anomaly, scenario: Scenario, *, replays: bool, name: str, engine: str, directory: Path
) -> LifecycleFailure:
    """Write the scenario down and return the exception that reports it; `engine` opens the queue that it is of."""
    invariant, kind = ANOMALIES[anomaly.name]
    about = f"job {anomaly.job}: " if anomaly.job is not None else ""
    headline = [
        f"{anomaly.name}: {about}{anomaly.message}",
        f"{kind.label.lower()}: {kind.guarantee}",
        f"invariant {invariant.id}: {invariant.sentence}",
    ]
    if not replays:
        headline.append("playing the scenario again did not show it: this queue is not determined by its calls alone")
    return _failure(failure_type(anomaly.name), headline, scenario, directory / f"{name}-{anomaly.name}.yaml", engine)


def no_rest(limit: str, scenario: Scenario, *, name: str, engine: str, directory: Path) -> LifecycleFailure:
    """Tell of a run that reached a declared limit."""
    path = directory / f"{name}-no_rest.yaml"
    return _failure(failure_type("no_rest"), [f"no_rest: {limit}"], scenario, path, engine)


def _failure(
    kind: type[LifecycleFailure], headline: list[str], scenario: Scenario, path: Path, engine: str
) -> LifecycleFailure:
    text = write_scenario(scenario)
    failure = kind("\n".join([*headline, "", text.rstrip(), "", *_kept(path, text, engine)]))
    failure.scenario = scenario
    return failure


def _kept(path: Path, text: str, engine: str) -> list[str]:
    """A folder that cannot be written must not hide the breach."""
    try:
        if path.parent == DEFAULT_DIRECTORY:
            ignored_folder(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        return [f"not written to {path}: {error.strerror}; set {DIRECTORY_VARIABLE} to a folder that can be written"]
    return [f"written to {path}", f"replay: {shlex.join(['job-harness', 'run', str(path), '--engine', engine])}"]


PLAYS = 400
"""How often a scenario is played at most to make it smaller."""
EVERYWHERE = ("queue", "maintenance", "store")


class StepShrinker(Shrinker):
    """Drops steps too, and takes only a run in which every step could be done."""

    most_steps = 200_000

    def _hasten(self) -> None:
        """A run that was cut short has not done every step."""

    def _try(self, candidate: Scenario) -> bool:
        if self._spent:
            return False
        run = self._played(self._open(candidate))
        if self._anomaly not in run.found or run.failures:
            return False
        self.best = run
        self.scenario = candidate
        return True

    def _candidates(self) -> Iterator[Scenario]:
        scenario = self.scenario
        for steps in _fewer(scenario.steps):
            sent = {step.job for step in steps if step.kind == "enqueue"}
            jobs = tuple(job for job in scenario.jobs if job.name in sent or not job.held_back)
            yield from _whole(replace(scenario, steps=steps, jobs=jobs))
        for candidate in super()._candidates():
            yield from _whole(candidate)


def smallest(
    scenario: Scenario, anomaly: str, open_session: Open, *, base: Settings
) -> tuple[Scenario, Anomaly | None]:
    """Return the smallest scenario found that shows an anomaly of this name, and that anomaly.

    None: playing it again did not show it. `base` are the settings that count as plain.
    """
    run: Run = open_session(scenario).run()
    if anomaly not in run.found:
        return scenario, None
    shrinker = StepShrinker(run, anomaly, open_session, base=base, limit=PLAYS)
    shrinker.shrink()
    return shrinker.scenario, next(item for item in shrinker.best.anomalies if item.name == anomaly)


def _fewer(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    size = max(1, len(steps) // 2)
    while size:
        for start in range(0, len(steps), size):
            yield steps[:start] + steps[start + size :]
        size //= 2


def _whole(scenario: Scenario) -> Iterator[Scenario]:
    """Let a scenario through only if it names nothing that is not there."""
    jobs = scenario.plan_of()
    actors = {*scenario.workers, *EVERYWHERE}
    if scenario.jobs and all(
        (step.job is None or step.job in jobs) and (step.actor is None or step.actor in actors)
        for step in scenario.steps
    ):
        yield scenario


def tell(history: History) -> None:
    """Record the situations and faults of an example; only inside a test of Hypothesis."""
    for name in met(history):
        note_event(name)


def met(history: History) -> Iterator[str]:
    """Return each once, in words: the situations of `docs/exploring.md`, then faults by position and status."""
    coverage = Coverage()
    coverage.observe(history)
    yield from sorted(coverage.situations)
    yield from sorted(_words(cell) for cell in coverage.faults)


def _words(cell: Cell) -> str:
    where = "" if cell.position == "time" else f" at {cell.position}"
    return f"fault: {cell.fault}{where}" + ("" if cell.status == "-" else f", the job {cell.status}")


JOBS = tuple("abcdefghijkl")
WHICH = st.integers(0, 5)
"""Picks among those who can, counted round."""


def can(capability: str) -> Callable[[Any], bool]:
    """Return the precondition that the queue can do something."""
    return lambda machine: getattr(machine.engine.info.capabilities, capability)


def some(listed: str, *arguments: Any) -> Callable[[Any], bool]:
    """Return the precondition that a list of what can be done is not empty."""
    return lambda machine: bool(getattr(machine.acts, listed)(*arguments))


class Play:
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
    def acts(self) -> EnabledActs:
        """What can be done now."""
        return EnabledActs(self.session, self.workers, self._plans)

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

    def play_one(self, acts: list[Act], which: int) -> None:
        """Play one of these."""
        self.play(acts[which % len(acts)].text)


def length(play: Play, moment: str) -> str:
    """Say how long a moment is under the settings of a run."""
    settings = play.session.settings
    return format_duration(moments(settings).get(moment, settings.poll_interval))


def be_late(play: Play, moment: str) -> None:
    """Move the clocks on and let no actor act."""
    if moment != "now":
        play.play(f"jump {length(play, moment)}")


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

    @precondition(lambda machine: len(machine._plans) < len(JOBS))
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
        if claimed and (claims := self.acts.claims()):
            self.play_one(claims, len(self._plans))

    @precondition(some("outside"))
    @rule(which=WHICH)
    def enqueue_again(self, which: int) -> None:
        """Send a job that was sent before."""
        self.play(f"enqueue {self.acts.outside()[which % len(self.acts.outside())].name}")

    @precondition(can("cancel"))
    @precondition(some("jobs"))
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """Cancel a job, whatever its status."""
        self.play(f"cancel {self._plans[which % len(self._plans)].name}")

    @precondition(can("retry"))
    @precondition(some("jobs"))
    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        """Open a new attempt budget, whatever the status."""
        self.play(f"retry {self._plans[which % len(self._plans)].name}")


STEPS_TO_IDLE = 6
"""Start, heartbeat and settle, for a batch of two."""


def play_verb(play: Play, verb: str, which: int) -> None:
    """Let a worker run to the end of its job, and report it by this verb."""
    acts = play.acts.acts(verb, "start")
    act = acts[which % len(acts)]
    if act.verb == "start":
        play.play(act.text)
        acts = [later for later in play.acts.acts(verb) if later.actor == act.actor]
    if acts:
        play.play_one(acts, which)


def come_due(play: Play, job: JobId | None) -> None:
    """Let a job come due that waits for a time of its own."""
    view = play.session.job_index.views.get(job or "")
    if view is not None and (wait := view.start_after - play.session.clocks.store()) > 0:
        play.play(f"jump {format_duration(wait)}")


def become_idle(play: Play, actor: Actor) -> None:
    """Bring a worker back that is down or stalled, and let it settle what it holds, a batch at most."""
    if not actor.alive:
        play.play(f"restart {actor.name}")
    elif actor.state is State.HELD:
        play.play(f"{actor.name} continues")
    for _ in range(STEPS_TO_IDLE):
        act = next_act(play.session, actor)
        if act is None or act.verb == "claim" or not play.acts.nameable(actor):
            return
        play.play(act.text)


class Workers(Play):
    """Rules of the workers."""

    @precondition(some("claims"))
    @rule(which=WHICH)
    def claim(self, which: int) -> None:
        """Let an idle worker claim."""
        self.play_one(self.acts.claims(), which)

    @precondition(some("acts", "start"))
    @rule(which=WHICH)
    def start(self, which: int) -> None:
        """Let a worker start the job that it claimed."""
        self.play_one(self.acts.acts("start"), which)

    @precondition(some("acts", "complete", "start"))
    @rule(which=WHICH)
    def complete(self, which: int) -> None:
        """Let a worker run to the end of its job and complete it."""
        play_verb(self, "complete", which)

    @precondition(some("acts", "fail", "start"))
    @rule(which=WHICH)
    def fail(self, which: int) -> None:
        """Let a worker run to the end of its job and report its failure."""
        play_verb(self, "fail", which)

    @precondition(some("acts", "heartbeat"))
    @rule(which=WHICH)
    def heartbeat(self, which: int) -> None:
        """Let a worker extend a lease."""
        self.play_one(self.acts.acts("heartbeat"), which)

    @precondition(some("acts", "release"))
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        """Let a worker that shuts down give a job back."""
        self.play_one(self.acts.acts("release"), which)

    @precondition(some("stale_acts"))
    @rule(which=WHICH)
    def act_as_zombie(self, which: int) -> None:
        """Let a worker act with a claim that was taken back."""
        self.play_one(self.acts.stale_acts(), which)

    @precondition(lambda machine: machine.acts.acts(*HOLDING) or machine.acts.claims())
    @rule(which=WHICH, awakes=st.sampled_from((True, True, False)))
    def be_overtaken(self, which: int, awakes: bool) -> None:
        """Stall a worker past its lease, take its job back, let another worker claim; then the first may go on."""
        if not self.acts.acts(*HOLDING):
            self.play_one(self.acts.claims(), which)
        holding = self.acts.acts(*HOLDING)
        if not holding:
            return
        act = holding[which % len(holding)]
        if act.verb == "start":
            self.play(act.text)
        self.play(f"{act.actor} pauses{when(self.session.kernel.actors[act.actor])}")
        self.play(f"jump {length(self, 'a lease + 1s')}")
        self.play("queue runs")
        come_due(self, act.job)
        for other in self.acts.workers():
            if other.name != act.actor:
                become_idle(self, other)
        if claims := [claim for claim in self.acts.claims() if claim.actor != act.actor]:
            self.play_one(claims, which)
        if awakes:
            for ahead in [mine for mine in self.acts.stale_acts() if mine.actor == act.actor]:
                self.play(ahead.text)

    @precondition(some("acts", *HOLDING))
    @rule(which=WHICH)
    def go_ahead(self, which: int) -> None:
        """Let a worker that holds a job do what comes next."""
        self.play_one(self.acts.acts(*HOLDING), which)


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

    @precondition(some("busy"))
    @rule(which=WHICH)
    def crash(self, which: int) -> None:
        """Kill a worker that holds a job, where it stands."""
        actor = self.acts.busy()[which % len(self.acts.busy())]
        self.play(f"crash {actor.name}{when(actor)}")

    @precondition(some("down"))
    @rule(which=WHICH)
    def restart(self, which: int) -> None:
        """Bring a worker back that crashed or stopped."""
        self.play(f"restart {self.acts.down()[which % len(self.acts.down())].name}")

    @precondition(some("going"))
    @rule(which=WHICH)
    def pause(self, which: int) -> None:
        """Stall a worker, the queue's upkeep, maintenance or a scheduler."""
        actor = self.acts.going()[which % len(self.acts.going())]
        self.play(f"{actor.name} pauses{when(actor)}")

    @precondition(some("held"))
    @rule(which=WHICH)
    def go_on(self, which: int) -> None:
        """Let who was stalled go on."""
        self.play(f"{self.acts.held()[which % len(self.acts.held())].name} continues")

    @precondition(can("release"))
    @precondition(some("unstopped"))
    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        """Ask a worker to shut down gracefully."""
        self.play(f"stop {self.acts.unstopped()[which % len(self.acts.unstopped())].name}")

    @precondition(some("calling"))
    @rule(which=WHICH, how=st.sampled_from(("loses the request", "loses the reply", "delivers twice")))
    def lose(self, which: int, how: str) -> None:
        """Lose or double a message; nothing repeats a claim on its own."""
        actor = self.acts.calling()[which % len(self.acts.calling())]
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
        self.play(f"advance {length(self, moment)}")

    @rule(late=st.sampled_from(LATE))
    def expire(self, late: str) -> None:
        """Run the queue's upkeep, on time or late."""
        be_late(self, late)
        self.play("queue runs")

    @precondition(can("maintenance"))
    @rule(late=st.sampled_from(LATE), twice=st.booleans())
    def maintain(self, late: str, twice: bool) -> None:
        """Run maintenance, on time or late, once or twice."""
        be_late(self, late)
        self.play(f"maintenance runs{' twice' if twice else ''}")


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""What Hypothesis does by default: all but shrinking and explaining, which are done here."""


class LifecycleMachine(Producers, Workers, Mishaps, RuleBasedStateMachine):
    """Subclass it, return an engine from `make_engine`, and use `.TestCase` as a test.

    The machine closes the queues that it opens, never the engine. A breach raises
    `LifecycleFailure` with the scenario as YAML, which is also written to `failures_directory()`.
    The scenario is shrunk here, once, when Hypothesis replays its failing example; Hypothesis' own
    shrinking adds little to that and is off by default, and so is the deadline. Hypothesis settings
    go to `TestCase.settings`, or decorate the class, as usual.
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
