"""What can be done next in a run: what each actor is sure to do, and the lists that the rules of a machine pick from.

All is read off the gates at which actors stand. Plays nothing.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from job_harness.core.history.event import Call, Effect
from job_harness.core.model.job import JobId
from job_harness.core.model.lifecycle import Status
from job_harness.core.run.session import Session
from job_harness.core.scenario.job_plan import OUTPUTS, Ending
from job_harness.core.scenario.scenario import SCHEDULERS, VERBS
from job_harness.core.sim.actor import Actor, State
from job_harness.core.sim.request import Sleep, VerbCall

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
    """Reads a session; the machine that mixes this in has one."""

    workers: ClassVar[tuple[str, ...]]

    @property
    def session(self) -> Session:
        """The run that is being stepped."""
        raise NotImplementedError

    def _actors(self) -> list[Actor]:
        """Those whom a step can name where they stand: no scenario has a name for the job of a dead letter."""
        actors = self.session.kernel.actors
        there = [actors[name] for name in (*self.workers, "queue", "maintenance", *SCHEDULERS) if name in actors]
        return [actor for actor in there if self._nameable(actor)]

    def _nameable(self, actor: Actor) -> bool:
        point = "" if actor.request is None else actor.request.point
        job = point.removeprefix("retrying ").partition(" ")[2]
        return job not in self.session.job_index.views or job in self.session.world.plans

    def _workers(self) -> list[Actor]:
        return [actor for actor in self._actors() if actor.name in self.workers]

    def _acts(self, *verbs: str) -> list[Act]:
        acts = (next_act(self.session, actor) for actor in self._workers())
        return [act for act in acts if act is not None and act.verb in verbs]

    def _stale_acts(self) -> list[Act]:
        return [act for act in self._acts(*HOLDING) if is_stale(self.session, act)]

    def _claims(self) -> list[Act]:
        """Who is idle, where something is due: polls that find nothing come with the time that passes."""
        now = self.session.clocks.store()
        live = self.session.job_index.live.values()
        due = any(view.status is Status.PENDING and view.start_after <= now for view in live)
        return self._acts("claim") if due else []

    def _busy(self) -> list[Actor]:
        holding = {act.actor for act in self._acts(*HOLDING)}
        return [actor for actor in self._alive() if actor.name in holding or type(actor.request) is Sleep]

    def _alive(self) -> list[Actor]:
        return [actor for actor in self._workers() if actor.alive]

    def _going(self) -> list[Actor]:
        upkeep = [actor for actor in self._actors() if actor.name not in self.workers and actor.alive]
        return [actor for actor in (*self._busy(), *upkeep) if actor.state is not State.HELD]

    def _held(self) -> list[Actor]:
        return [actor for actor in self._actors() if actor.state is State.HELD]

    def _down(self) -> list[Actor]:
        return [actor for actor in self._workers() if not actor.alive]

    def _unstopped(self) -> list[Actor]:
        """Those who may be shut down: one at a time, or soon none would be left."""
        stopping = self.session.world.stopping
        return [] if stopping or self._down() else self._alive()

    def _calling(self) -> list[Actor]:
        return [actor for actor in self._alive() if type(actor.request) is VerbCall and when(actor)]
