"""Faults of messages: a request or its reply is lost, a message arrives late or twice, a statement is aborted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from job_harness.core.faults.kind import NO_OPTIONS, Circumstances, FaultKind, FaultSituation, Phrase
from job_harness.core.history import Excuse
from job_harness.core.model import Duration, format_duration
from job_harness.core.sim import (
    Actor,
    Commit,
    Exchange,
    Frame,
    HostCall,
    Kernel,
    Option,
    Sleep,
    StatementGate,
    VerbCall,
)

REQUEST: Final = Phrase(
    "lose request",
    point="request",
    plainer="crash",
    gravity=1,
    sentence="{actor} sends {point}, and the request is lost",
)
REPLY: Final = Phrase(
    "lose reply",
    point="reply",
    plainer="crash after",
    gravity=6,
    sentence="{actor} sends {point}, and the reply is lost",
)
_LOST: Final = (REQUEST.option("lost_message"), REPLY.option("lost_message"))


def _losses(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer both at every call, and wherever a process sends something over a connection."""
    return _LOST if actor is not None and type(actor.request) in (VerbCall, Exchange, HostCall, Commit) else NO_OPTIONS


def _lose(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    """Cut the connection before or after the verb took effect: the caller cannot tell which."""
    assert actor is not None
    kernel.ready.remove(actor)
    met.note(actor.name, option.words, _place(actor))
    kernel.perform(actor, heard=False, happens=option.point == REPLY.point)


def _place(actor: Actor) -> dict[str, str]:
    """Say at which call a message is lost, and which one it is, where that is one of several within the call."""
    if type(actor.request) is VerbCall or actor.call is None:
        return {"at": actor.point}
    return {"at": actor.call.point, "statement": actor.point}


LOST_MESSAGE: Final = FaultKind(
    id="lost_message",
    sentence="A request or its reply is lost.",
    words=(REQUEST, REPLY),
    options=_losses,
    apply=_lose,
    events=(REQUEST.words, REPLY.words),
    excuses=Excuse.UNHEARD,
    family="lose",
    nouns=("lost message", "lost messages"),
    step="`loses the request`, `loses the reply`",
    steps=("lose",),
    loses=(REQUEST.point, REPLY.point),
    silences=True,
    strikes_one=True,
    columns=((REQUEST.words, "lost request"), (REPLY.words, "lost reply")),
    turn=2,
)


DELAYED: Final = Phrase(
    "delay request by ",
    "MOMENT",
    timed=True,
    plainer="lose request",
    sentence="{actor} sends {point}, which arrives late (after {argument}), and its reply is lost",
)
DELAYS: Final = ("1s", "a backoff", "a timeout", "a lease + a retry")
"""Long enough for the caller to try again, for the job to be retried, and for another worker to hold it."""
RELEASED_WEIGHT: Final = 4
"""So much more often a release is delayed: only a worker that is told to stop sends one, and seldom."""
DELAYABLE: Final = frozenset({"complete", "fail", "release", "heartbeat", "cancel", "retry"})


def _delays(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer it at every call about one job that exists."""
    request = None if actor is None else actor.request
    if type(request) is not VerbCall or request.verb not in DELAYABLE or request.run is not None:
        return NO_OPTIONS
    offered = met.prepared(
        DELAYED.words, lambda: [DELAYED.option("delayed_message", name) for name in DELAYS if name in met.moments]
    )
    return offered * RELEASED_WEIGHT if request.verb == "release" else offered


def _delay(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    """Lose the request for its caller, who cannot tell; let it arrive when the network lets go of it."""
    assert actor is not None
    call, late = actor.request, met.moments[option.argument]
    assert type(call) is VerbCall
    again = VerbCall(call.verb, call.arguments, call.job, call.token)
    kernel.ready.remove(actor)
    met.note(actor.name, "delay", {"at": actor.point, "for": late})
    kernel.perform(actor, heard=False, happens=False)
    kernel.spawn(f"message {len(kernel.actors)} of {actor.name}", lambda: courier(again, late))


def courier(call: VerbCall, late: Duration) -> Frame:
    """Bring a request to the store after a while; its reply is heard by no caller."""
    yield Sleep(late, f"under way to {call.point}")
    yield call


DELAYED_MESSAGE: Final = FaultKind(
    id="delayed_message",
    sentence="A request arrives long after its caller gave up on it, held back by the network.",
    words=(DELAYED,),
    options=_delays,
    apply=_delay,
    events=("delay",),
    excuses=Excuse.UNHEARD,
    family="delay",
    weight=("0", "0", "1", "2"),
    needs=("remote",),
    nouns=("delayed message", "delayed messages"),
    step="`delays the request`",
    steps=("delay",),
    arrives_late=True,
    silences=True,
    columns=(("delay", "late request"),),
    told=lambda data: f"DELAYED by {format_duration(data.get('for', 0))} at {data.get('at')}",
    turn=9,
    sampled_only="a message that is under way is no part of a state",
)


TWICE: Final = Phrase("deliver twice", gravity=2, sentence="{actor} sends {point}, and it arrives twice")
HANDED_OUT_TWICE: Final = Phrase("hand out twice", gravity=5, sentence="{job} is delivered twice (to {actor})")
HAND_OUT_TWICE: Final = HANDED_OUT_TWICE.option("redelivery")
"""Offered where a queue hands a claimed job to its worker; no budget of a drawn run counts it."""
REFUSED: Final = Phrase("refuse calls", sentence="{point} of {actor} is refused until this attempt ends")
UNANSWERED: Final = Phrase("lose answer", sentence="the reply of {point} to {actor} is lost")
SILENT: Final = Phrase(
    "hang calls", sentence="{point} of {actor} gets no reply, and does nothing, until this attempt ends"
)
TURNED_AWAY: Final = Phrase("turn calls away", sentence="{point} of {actor} is answered 503 until this attempt ends")
OUTSIDE_CALL: Final = "outside_call"
"""The kind of what goes wrong with a call of something outside: another service, or the fake that stands for it.

It is offered where a processor calls, at a gate of its own at which nothing else can happen. It is
no fault of the queue, so it excuses nothing, and what the caller makes of its error is judged as it
is without one: by what remains. A refusal lasts, and so do silence and a 503: who calls again
within the attempt is refused again, or a loop that retries would hide what follows.
"""
LOSES_REPLY: Final = UNANSWERED.option(OUTSIDE_CALL)
IS_REFUSED: Final = REFUSED.option(OUTSIDE_CALL)
IS_SILENT: Final = SILENT.option(OUTSIDE_CALL)
"""The caller gives up by its own timeout, which code takes for something else than a refusal."""
IS_TURNED_AWAY: Final = TURNED_AWAY.option(OUTSIDE_CALL)
"""Of HTTP: an answer, and no error, to a client that does not look at its status. Nothing was done."""
MOST_REFUSED: Final = 20
"""Calls of one kind in one attempt: a loop without an end is not kept going for ever."""
CALL_EVENTS: Final = {
    LOSES_REPLY: "loses the reply",
    IS_REFUSED: "is refused",
    IS_SILENT: "gets no reply",
    IS_TURNED_AWAY: "is answered 503",
}
"""Under which name a history has it."""
APART: Final = (HANDED_OUT_TWICE, UNANSWERED, REFUSED, SILENT, TURNED_AWAY)
"""What can be on the tape of a user's test and is no kind of fault of a queue."""
REPEATABLE: Final = frozenset(
    {"enqueue", "complete", "fail", "release", "heartbeat", "cancel", "retry", "expire", "rescue", "tick", "commit"}
)
_TWICE: Final = (TWICE.option("duplicate"),)


def _duplicates(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer it at every call that a network might repeat."""
    if actor is None:
        return NO_OPTIONS
    request = actor.request
    return _TWICE if type(request) is VerbCall and request.verb in REPEATABLE else NO_OPTIONS


def _duplicate(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    """Let the verb happen again with the same arguments; the caller hears the second reply."""
    assert actor is not None
    kernel.ready.remove(actor)
    met.note(actor.name, "duplicate", {"at": actor.point})
    kernel.perform(actor, times=2)


def _told_duplicate(data: Mapping[str, Any]) -> str:
    return "DELIVERED TWICE" + (f" at {data['at']}" if data.get("at") else "")


DUPLICATE: Final = FaultKind(
    id="duplicate",
    struck="is called twice",
    sentence="A message is delivered twice.",
    words=(TWICE,),
    options=_duplicates,
    apply=_duplicate,
    events=("duplicate",),
    excuses=Excuse.UNHEARD,
    family="deliver",
    needs=("remote",),
    nouns=("duplicate", "duplicates"),
    step="`delivers twice`",
    steps=("twice",),
    strikes_one=True,
    situation=FaultSituation("a message is delivered twice"),
    columns=(("duplicate", "duplicate"),),
    told=_told_duplicate,
    turn=3,
)


ABORTED: Final = Phrase("abort", sentence="the database aborts `{point}` of {actor}, which had no effect")
_ABORTED: Final = (ABORTED.option("aborted_statement"),)
REPORTS: Final = frozenset({"complete", "fail", "release"})
REPORT_WEIGHT: Final = 6
"""So much more often the statement of a report is aborted than another."""


def _aborts(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer it at every statement that reads or writes, more often where a worker reports."""
    if actor is None or type(actor.request) is not StatementGate:
        return NO_OPTIONS
    return _ABORTED * REPORT_WEIGHT if actor.call is not None and actor.call.verb in REPORTS else _ABORTED


def _abort(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    """Let the database throw the statement out, and its transaction with it: its sender hears so."""
    assert actor is not None
    assert type(actor.request) is StatementGate
    statement, call = actor.point, actor.call
    kernel.ready.remove(actor)
    met.note(actor.name, "abort", {"at": statement if call is None else call.point, "statement": statement})
    actor.request.aborted = True
    kernel.perform(actor)


ABORTED_STATEMENT: Final = FaultKind(
    id="aborted_statement",
    sentence="The database aborts a statement and its transaction (SQLSTATE 57014, like a statement timeout).",
    words=(ABORTED,),
    options=_aborts,
    apply=_abort,
    events=("abort",),
    excuses=Excuse.UNDONE,
    family="lose",
    weight=("0", "0", "1", "2"),
    needs=("sessions",),
    nouns=("aborted statement", "aborted statements"),
    columns=(("abort", "aborted statement"),),
    told=lambda data: f"ABORTED: `{data.get('statement')}`",
    turn=11,
)
