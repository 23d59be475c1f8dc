"""Faults of processes: they die, stand still, are told to stop, or leave a database session behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from job_harness.core.faults.kind import NO_OPTIONS, Circumstances, FaultKind, FaultSituation, Phrase
from job_harness.core.history import OF_DEPLOY, Excuse
from job_harness.core.model import DAY, Duration, format_duration
from job_harness.core.sim import Actor, Kernel, Option, Point, VerbCall
from job_harness.core.sim.lifetime import Lifetime

AHEAD: Final = "before "
"""How a point begins that comes right before something that a process is about to do."""
SEEN: Final = "after "
"""How a point begins that comes right after something that a process was seen to do."""
BEFORE: Final = Phrase("crash", point="before", gravity=8, sentence="{actor} crashes {place}")
AFTER: Final = Phrase(
    "crash after", point="after", plainer="crash", gravity=7, sentence="{actor} crashes after {point}, before the reply"
)
DIES: Final = BEFORE.option("crash")
_DIES: Final = (DIES,)
_DIES_ANYWHERE: Final = (DIES, AFTER.option("crash"))


def _crashes(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer death at every gate of a process: before a verb, or after it and without its reply."""
    if actor is None or not actor.process:
        return NO_OPTIONS
    return _DIES_ANYWHERE if type(actor.request) is VerbCall else _DIES


def _crash(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    assert actor is not None
    point, after = actor.point, option.point == AFTER.point
    if after:
        kernel.ready.remove(actor)
        kernel.perform(actor)
    met.note(actor.name, "crash", {"at": point, "after": after})
    _die(met, kernel, actor)


def _die(met: Circumstances, kernel: Kernel, actor: Actor, linger: Duration = 0) -> None:
    kernel.crash(actor, linger=linger)
    if met.restart_after is not None:
        kernel.start_later(actor, met.restart_after)


def _where(data: Mapping[str, Any]) -> str:
    at = data.get("at") or ""
    return f" {at}" if at.startswith((AHEAD, SEEN)) else f" at {at}" if at else ""


def _told_crash(data: Mapping[str, Any]) -> str:
    if data.get(OF_DEPLOY):
        return f"IS KILLED{_where(data)}: its grace is over"
    at = _where(data)
    stays = data.get("session_stays")
    left = f", its session stays {format_duration(stays)}" if stays else ""
    return f"CRASHES after {data.get('at')}" if data.get("after") else f"CRASHES{at}{left}"


CRASH: Final = FaultKind(
    id="crash",
    struck="crashes",
    sentence="A process dies right before a step, or right after it but before the reply.",
    words=(BEFORE, AFTER),
    options=_crashes,
    apply=_crash,
    events=("crash",),
    excuses=Excuse.DEATH,
    family="crash",
    nouns=("crash", "crashes"),
    option="crashes",
    step="`crash`",
    steps=("crash",),
    silences=True,
    strikes_one=True,
    columns=(("crash", "crash"), ("crash after", "crash after")),
    told=_told_crash,
    midway=True,
    turn=1,
)


PAUSES: Final = Phrase(
    "pause ",
    "MOMENT",
    timed=True,
    gravity=4,
    gravest="a lease + a retry",
    sentence="{actor} pauses for {argument} {place}",
)
PAST: Final = PAUSES.option("pause", PAUSES.gravest)
"""After a pause of this length another worker has just taken what this one held."""
LONG_PAST: Final = PAUSES.option("pause", "stuck + a cron")
"""And after this one it may have finished with it."""
BRIEFLY: Final = PAUSES.option("pause", "a poll")
"""And after this one a worker has just looked for what there is to do."""
STILL_FOR: Final = ("a poll", "half a timeout")
"""How long a run stands still: long enough for another one to begin, but not until it would be timed out."""
STANDS_STILL: Final = Phrase(
    "stand still ",
    "MOMENT",
    point="part",
    timed=True,
    gravity=3,
    gravest=STILL_FOR[-1],
    sentence="the run of {job} stands still for {argument} {place}, and {actor} goes on with the others",
)
HOLDING: Final = frozenset({"start", "running", "complete", "fail", "release", "heartbeat"})
"""Points at which an actor holds a job: there that pause is offered so much more often."""
PAST_WEIGHT: Final = 5


def _pauses(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer every moment at every gate of a process, one of them more often where it holds a job.

    Where a run can stand still by itself, that is offered too, once for each run.
    """
    if actor is None or not actor.process:
        return NO_OPTIONS
    if (part := _part(actor)) is not None and part.stands_until is not None and part.stands_until > kernel.now:
        return met.prepared("pause of a run", lambda: (*met.timed("pause", PAUSES), *_stands_still(met)))
    if actor.point.partition(" ")[0] in HOLDING:
        return met.prepared("pause of a holder", lambda: _weighted(met.timed("pause", PAUSES)))
    return met.timed("pause", PAUSES)


def _part(actor: Actor) -> Lifetime | None:
    return actor.request.part if isinstance(actor.request, Point) else None


def _stands_still(met: Circumstances) -> list[Option]:
    return [STANDS_STILL.option("pause", name) for name in STILL_FOR if name in met.moments]


def _weighted(offered: tuple[Option, ...]) -> tuple[Option, ...]:
    return (*offered, *(PAST,) * (PAST_WEIGHT - 1)) if PAST in offered else offered


def _pause(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    assert actor is not None
    duration = met.moments[option.argument]
    about = {"at": actor.point, "for": duration}
    part = _part(actor) if option.point == STANDS_STILL.point else None
    if part is not None and part.stands_until is not None:
        duration = about["for"] = min(duration, part.stands_until - kernel.now)
        about["part"] = part.name
    met.note(actor.name, "pause", about)
    kernel.pause(actor, duration, part=part)


def _told_pause(data: Mapping[str, Any]) -> str:
    length = data.get("for", 0)
    if "part" in data:
        return f"run STANDS STILL for {format_duration(length)}{_where(data)}"
    return f"PAUSES{'' if length > 365 * DAY else f' for {format_duration(length)}'}{_where(data)}"


PAUSE: Final = FaultKind(
    id="pause",
    struck="stands still",
    sentence="A process stops for a while and the others continue: a long garbage collection, a suspended machine."
    " In an explored test also one run, while its worker goes on with others.",
    words=(PAUSES, STANDS_STILL),
    options=_pauses,
    apply=_pause,
    events=("pause",),
    excuses=Excuse.LATE,
    family="pause",
    nouns=("pause", "pauses"),
    step="`pauses`, `continues`",
    steps=("pause", "suspend"),
    silences=True,
    strikes_one=True,
    columns=(("pause", "pause"),),
    told=_told_pause,
    turn=0,
)


STOPS: Final = Phrase("stop", sentence="{actor} is told to stop {place}")
_STOP: Final = (STOPS.option("shutdown"),)


def _stops(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer it at every gate of a process."""
    return _STOP if actor is not None and actor.process else NO_OPTIONS


def _stop(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    """Ask it to stop: it takes no new job, gives back what it has not started, and ends. Some take no such request."""
    assert actor is not None
    if met.stop(actor.name):
        met.note(actor.name, "stop", {"at": actor.point})
    else:
        kernel.ready.remove(actor)
        kernel.perform(actor)


SHUTDOWN: Final = FaultKind(
    id="shutdown",
    sentence="A worker is told to stop, as in a deploy.",
    words=(STOPS,),
    options=_stops,
    apply=_stop,
    events=("stop",),
    family="stop",
    nouns=("shutdown", "shutdowns"),
    step="`stop`",
    steps=("stop",),
    situation=FaultSituation("a shutdown with a job in hand", HOLDING - {"release"}),
    columns=(("stop", "stop"),),
    turn=7,
)


DEPLOYS: Final = Phrase("deploy", plainer="stop", sentence="{actor} is replaced by a deploy {place}")
_DEPLOY: Final = (DEPLOYS.option("deploy"),)


def _deploys(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer it at every gate of a process."""
    return _DEPLOY if actor is not None and actor.process else NO_OPTIONS


def _deploy(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    """Tell it to stop. Who started it sees to the rest: when its grace is over, and what runs in its place."""
    assert actor is not None
    met.note(actor.name, SHUTDOWN.event, {"at": actor.point, OF_DEPLOY: False})
    met.deploy(actor.name)


DEPLOY: Final = FaultKind(
    id="deploy",
    sentence="A process is replaced: SIGTERM, SIGKILL once its grace is over, and then a new one.",
    words=(DEPLOYS,),
    options=_deploys,
    apply=_deploy,
    events=("stop", "crash"),
    mark=OF_DEPLOY,
    family="stop",
    needs=("signals",),
    nouns=("deploy", "deploys"),
    step="`deploy`",
    steps=("deploy",),
    tally="a process was replaced by a deploy",
    told=lambda data: _told_crash(data) if "after" in data else f"IS TOLD TO STOP by a deploy{_where(data)}",
    turn=9,
)


LEAVES: Final = Phrase(
    "crash leaving its session for ",
    "MOMENT",
    timed=True,
    plainer="crash",
    sentence="{actor} crashes {place}, and its session stays for {argument}",
)


def _abandons(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer every moment at every gate within a verb of a process, where actors have sessions of their own.

    A machine that loses power says no goodbye: PostgreSQL keeps the session, and what it locked,
    until a keepalive fails.
    """
    if actor is None or not actor.process or not kernel.hooks.holds_sessions or actor.call is None:
        return NO_OPTIONS
    return met.timed("abandoned_session", LEAVES)


def _abandon(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    assert actor is not None
    duration = met.moments[option.argument]
    met.note(actor.name, "crash", {"at": actor.point, "after": False, "session_stays": duration})
    _die(met, kernel, actor, duration)


ABANDONED_SESSION: Final = FaultKind(
    id="abandoned_session",
    struck="crashes",
    sentence="A process dies within a verb, and its database session stays open with its locks; with `--sessions`.",
    words=(LEAVES,),
    options=_abandons,
    apply=_abandon,
    events=("crash",),
    excuses=Excuse.DEATH,
    family="crash",
    needs=("sessions",),
    nouns=("abandoned session", "abandoned sessions"),
    silences=True,
    mark="session_stays",
    tally="a process left its session behind",
    told=_told_crash,
    turn=8,
)
