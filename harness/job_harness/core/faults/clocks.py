"""Faults of time: everybody is late, a clock steps, or a clock drifts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from job_harness.core.faults.kind import NO_OPTIONS, Circumstances, FaultKind, FaultSituation, Phrase
from job_harness.core.history import Excuse
from job_harness.core.model import Duration, format_duration
from job_harness.core.sim import STORE, Actor, Kernel, Option

LATE: Final = Phrase("late by ", "MOMENT", timed=True, sentence="time runs late by {argument}")


def _late(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer every moment whenever time is about to move."""
    return met.timed("lateness", LATE) if actor is None else NO_OPTIONS


def _oversleep(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    """Let time run on beyond the next thing due; all that became due meanwhile happens at once, in order."""
    target = kernel.next_wake()
    assert target is not None
    duration = met.moments[option.argument]
    met.note("*", "late", {"for": duration})
    kernel.move_to(target + duration)


def _told_late(data: Mapping[str, Any]) -> str:
    length = format_duration(data.get("for", 0))
    return f"the test JUMPS the clock by {length}" if data.get("by") else f"LATE by {length}"


LATENESS: Final = FaultKind(
    id="lateness",
    sentence="Every process wakes up late: time jumps past what was due.",
    words=(LATE,),
    options=_late,
    apply=_oversleep,
    events=("late",),
    excuses=Excuse.LATE,
    family="late",
    nouns=("late wake-up", "late wake-ups"),
    option="lateness",
    step="`jump`",
    steps=("jump",),
    silences=True,
    situation=FaultSituation("time runs late"),
    tally="time ran late",
    told=_told_late,
    turn=4,
)


STORE_STEPS: Final = Phrase("store clock ", "ahead 5s", point="store", sentence="the store's clock jumps {argument}")
OWN_STEPS: Final = Phrase("own clock ", "behind 5s", point="own", sentence="the clock of {actor} jumps {argument}")


def _steps(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer a step of the store's clock before time moves, and of a process's own at its gates."""
    if actor is None:
        return met.prepared("store clock", lambda: _by(STORE_STEPS, _within(met)))
    if not actor.process:
        return NO_OPTIONS
    if actor.name in met.schedulers:
        return met.prepared("clock of a scheduler", lambda: _by(OWN_STEPS, _of_scheduler(met)))
    return met.prepared("own clock", lambda: _by(OWN_STEPS, _within(met)))


def _by(phrase: Phrase, offsets: Mapping[str, Duration]) -> list[Option]:
    return [phrase.option("clock_offset", name) for name in offsets]


def _step(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    beyond = actor is not None and actor.name in met.schedulers
    offset = (_of_scheduler if beyond else _within)(met)[option.argument]
    whose = STORE if actor is None else actor.name
    met.note("*" if actor is None else whose, "clock", {"whose": whose, "offset": offset})
    met.clocks.set_offset(whose, offset)


def _within(met: Circumstances) -> dict[str, Duration]:
    """Return half of the declared skew and all of it, both ways."""
    return _both_ways(met.settings.max_skew // 2, met.settings.max_skew)


def _of_scheduler(met: Circumstances) -> dict[str, Duration]:
    """Return whole periods too: slots are the store's, so nothing depends on a scheduler's own clock."""
    period = met.settings.cron_period
    return _within(met) | _both_ways(period, 2 * period)


def _both_ways(*sizes: Duration) -> dict[str, Duration]:
    return {
        f"{word} {format_duration(size)}": sign * size
        for word, sign in (("ahead", 1), ("behind", -1))
        for size in sizes
        if size
    }


def _told_step(data: Mapping[str, Any]) -> str:
    return f"CLOCK of {data.get('whose')} {_off(data)}"


def _off(data: Mapping[str, Any]) -> str:
    offset = data.get("offset", 0)
    return f"{format_duration(abs(offset))} {'ahead' if offset >= 0 else 'behind'}"


CLOCK_OFFSET: Final = FaultKind(
    id="clock_offset",
    sentence="The clock of the store or of a process jumps by `max_skew` or half of it; "
    "that of a scheduler, by multiples of `cron_period`.",
    words=(STORE_STEPS, OWN_STEPS),
    options=_steps,
    apply=_step,
    events=("clock",),
    excuses=Excuse.CLOCK,
    family="clock",
    nouns=("clock step", "clock steps"),
    step="`clock is`",
    steps=("clock",),
    silences=True,
    situation=FaultSituation("a clock is off while a job runs", while_running=True),
    tally="a clock went wrong",
    told=_told_step,
    turn=5,
)


STORE_DRIFTS: Final = Phrase(
    "store clock drifts ", "ahead", point="store", sentence="the store's clock drifts {argument}"
)
OWN_DRIFTS: Final = Phrase(
    "own clock drifts ", "behind", point="own", sentence="the clock of {actor} drifts {argument}"
)
WAYS: Final[Mapping[str, int]] = {"ahead": 1, "behind": -1}
_STORE_DRIFT: Final = tuple(STORE_DRIFTS.option("clock_drift", way) for way in WAYS)
_OWN_DRIFT: Final = tuple(OWN_DRIFTS.option("clock_drift", way) for way in WAYS)


def _drifts(met: Circumstances, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
    """Offer a drift of the store's clock before time moves, and of a process's own at its gates."""
    if not met.settings.max_skew or (actor is not None and not actor.process):
        return NO_OPTIONS
    return _STORE_DRIFT if actor is None else _OWN_DRIFT


def _drift(met: Circumstances, kernel: Kernel, actor: Actor | None, option: Option) -> None:
    """Let a clock run fast or slow to the edge of the declared skew: without a step that could be noticed."""
    settings = met.settings
    whose = STORE if actor is None else actor.name
    offset = WAYS[option.argument] * settings.max_skew
    data = {"whose": whose, "offset": offset, "within": settings.job_timeout}
    met.note("*" if actor is None else whose, "drift", data)
    met.clocks.let_drift(whose, offset, within=settings.job_timeout)


CLOCK_DRIFT: Final = FaultKind(
    id="clock_drift",
    sentence="The clock of the store or of a process runs fast or slow until it is `max_skew` off, "
    "within a `job_timeout`.",
    words=(STORE_DRIFTS, OWN_DRIFTS),
    options=_drifts,
    apply=_drift,
    events=("drift",),
    excuses=Excuse.CLOCK,
    family="clock",
    weight=("0", "0", "0", "1"),
    nouns=("clock drift", "clock drifts"),
    tally="a clock drifted",
    told=lambda data: f"CLOCK of {data.get('whose')} DRIFTS {_off(data)}",
    turn=6,
)
