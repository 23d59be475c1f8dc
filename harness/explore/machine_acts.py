"""What an actor is sure to do next, read off the gate at which it stands. Plays nothing."""

from __future__ import annotations

from typing import NamedTuple

from harness.history.event import Call, Effect
from harness.model.job import JobId
from harness.model.lifecycle import Status
from harness.run.session import Session
from harness.scenario.job_plan import OUTPUTS, Ending
from harness.scenario.scenario import VERBS
from harness.sim.actor import Actor

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
    """Answer the next call of a worker; None where that is open, or where it can act no more."""
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
    view = session.board.views.get(act.job)
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
