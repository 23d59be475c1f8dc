"""Outages: the store is away, or one actor cannot reach it, or a host outside is in trouble, for any length of time.

What is called meanwhile is lost, and what was in the middle of its verb never comes back to it. A
message that is lost excuses a wait, and never a wrong result: so an outage explains that a holder
comes late to its report, its heartbeat or its claim (`Excuse.AWAY`, by the length of the outage),
and nothing else. In particular no stale verb, no second delivery that is not counted, no job that
vanishes, and no slot that gets two jobs. Trouble of a host outside excuses nothing: its callers
have to expect it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from job_harness.core.faults.kind import NO_OPTIONS, Circumstances, FaultKind, Phrase
from job_harness.core.history import Excuse
from job_harness.core.model import format_duration
from job_harness.core.sim import EVERYBODY, Actor, Commit, HostCall, HostState, Kernel, Option, VerbCall

STORE_AWAY: Final = Phrase(
    "store away for ", "MOMENT", point="store", timed=True, sentence="no actor reaches the store for {argument}"
)
CUT_OFF: Final = Phrase(
    "cut off for ",
    "MOMENT",
    point="own",
    timed=True,
    plainer="lose request",
    sentence="{actor} cannot reach the store for {argument}, {place}",
)
LENGTHS: Final = ("1s", "3s", "half a timeout", "a timeout", "a lease - 1s", "a lease + a retry", "stuck + a cron")
"""Shorter and longer than a caller's patience, than the longest run, than a lease, than what maintenance waits for."""


def _outages(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer an outage of the store before time moves, and one of the network at every gate of a process that calls.

    Where nothing calls a verb, as in an application that has its statements to itself, there is
    nothing to cut off.
    """
    if actor is None:
        return NO_OPTIONS if not kernel.calls else met.prepared(STORE_AWAY.words, lambda: _of(STORE_AWAY, met))
    if not actor.process or (type(actor.request) is not VerbCall and actor.call is None):
        return NO_OPTIONS
    return met.prepared(CUT_OFF.words, lambda: _of(CUT_OFF, met))


def _of(phrase: Phrase, met: Circumstances) -> list[Option]:
    return [phrase.option("outage", name) for name in LENGTHS if name in met.moments]


def _begin(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    duration = met.moments[option.argument]
    whose = EVERYBODY if actor is None else actor.name
    at = "" if actor is None else actor.point
    met.note(whose, "outage", {"at": at, "for": duration})
    kernel.cut_off(whose, duration)


def _word_outage(data: Mapping[str, Any]) -> str:
    return f"CUT OFF from the store for {format_duration(data.get('for', 0))}"


OUTAGE: Final = FaultKind(
    id="outage",
    sentence="For a while no process, or one of them, can reach the store: a restart, a failover, a broken network.",
    words=(STORE_AWAY, CUT_OFF),
    options=_outages,
    apply=_begin,
    events=("outage",),
    excuses=Excuse.AWAY,
    weight=("0", "0", "1", "2"),
    nouns=("outage", "outages"),
    step="`the store is away for`, `is cut off for`",
    steps=("away", "cut"),
    silences=True,
    columns=(("outage", "outage"),),
    told=_word_outage,
    turn=10,
    sampled_only="how long an outage still lasts is no part of a state",
)


HOST_STATES: Final = {
    HostState.DOWN: Phrase(
        "host down for ", "MOMENT", timed=True, plainer="lose request",
        sentence="the host of {actor}'s {point} is down for {argument}, for everybody",
    ),
    HostState.SLOW: Phrase(
        "host slow for ", "MOMENT", timed=True,
        sentence="the host of {actor}'s {point} is slow for {argument}, for everybody",
    ),
    HostState.LIMITED: Phrase(
        "host limited for ", "MOMENT", timed=True,
        sentence="the host of {actor}'s {point} answers 429 to everybody for {argument}",
    ),
    HostState.LATE: Phrase(
        "host late for ", "MOMENT", timed=True, plainer="lose reply",
        sentence="the host of {actor}'s {point} does what everybody asks for {argument}, and answers too late",
    ),
}  # fmt: skip
HOST_LENGTHS: Final = ("3s", "a timeout", "a lease + a retry")
"""Shorter than the first wait for another attempt, as long as one attempt may last, and longer than several."""


def _host_troubles(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer them at each call of a host that is not in trouble yet."""
    if actor is None or type(actor.request) is not HostCall or kernel.hosts.at(kernel.now, actor.request.host)[0]:
        return NO_OPTIONS
    return met.prepared(
        HOST.id, lambda: [each.option(HOST.id, name) for each in HOST_STATES.values() for name in HOST_LENGTHS]
    )


def _trouble(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    assert actor is not None
    assert type(actor.request) is HostCall
    state = next(each for each, phrase in HOST_STATES.items() if phrase.reads(option.words))
    host, duration = actor.request.host, met.moments[option.argument]
    met.note(actor.name, HOST.event, {"host": host, "state": state.value, "for": duration})
    kernel.hosts.begin(host, state, until=kernel.now + duration)


def _word_trouble(data: Mapping[str, Any]) -> str:
    return f"{data.get('host')} IS {str(data.get('state')).upper()} for {format_duration(data.get('for', 0))}"


HOST: Final = FaultKind(
    id="host_trouble",
    sentence="A host outside is down, slow, answers 429, or answers too late, for all its callers and for a while.",
    words=tuple(HOST_STATES.values()),
    options=_host_troubles,
    apply=_trouble,
    events=("host_trouble",),
    family="outage",
    needs=("signals",),
    nouns=("trouble of a host", "troubles of hosts"),
    tally="a host outside was in trouble",
    told=_word_trouble,
    sampled_only="how long it still lasts is no part of a state",
)


LAG_PHRASE: Final = Phrase(
    "replica lags ", "MOMENT", timed=True,
    sentence="the read replica shows nothing of {actor}'s {point}, nor of what follows, for {argument}",
)  # fmt: skip


def _lags(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer it before each commit of a database with a replica that is up to date."""
    if actor is None or type(actor.request) is not Commit:
        return NO_OPTIONS
    return met.prepared(LAG.id, lambda: [LAG_PHRASE.option(LAG.id, name) for name in HOST_LENGTHS])


def _lag(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    assert actor is not None
    assert type(actor.request) is Commit
    actor.request.lag = met.moments[option.argument]
    met.note(actor.name, LAG.event, {"at": actor.point, "for": actor.request.lag})


def _word_lag(data: Mapping[str, Any]) -> str:
    return f"the REPLICA LAGS for {format_duration(data.get('for', 0))} from {data.get('at')} on"


LAG: Final = FaultKind(
    id="replica_lag",
    sentence="A read replica of the database shows, for a while, what was there before a commit.",
    words=(LAG_PHRASE,),
    options=_lags,
    apply=_lag,
    events=("replica_lag",),
    family="outage",
    needs=("replica",),
    nouns=("lag of the replica", "lags of the replica"),
    tally="a replica lagged",
    told=_word_lag,
    sampled_only="how long it still lasts is no part of a state",
)
