"""All faults there are, by id: those of this package, and what other packages bring.

Plans, workloads, swarms, shrinkers, scopes, screens, reports and pages go through this catalogue. A
new fault is a value in a file of its own or of its family, and a line below.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final, NamedTuple

from job_harness.core.extensions import FAULTS, brought, provider_of
from job_harness.core.faults.clocks import CLOCK_DRIFT, CLOCK_OFFSET, LATENESS
from job_harness.core.faults.kind import ArmedFault, Circumstances, FaultKind, Note, Phrase
from job_harness.core.faults.messages import (
    ABORTED_STATEMENT,
    APART,
    DELAYED_MESSAGE,
    DUPLICATE,
    HAND_OUT_TWICE,
    HANDED_OUT_TWICE,
    LOST_MESSAGE,
)
from job_harness.core.faults.outages import HOST, LAG, OUTAGE
from job_harness.core.faults.processes import ABANDONED_SESSION, AHEAD, CRASH, DEPLOY, PAUSE, SEEN, SHUTDOWN
from job_harness.core.history import Excuse, Fault
from job_harness.core.model import Duration, Settings
from job_harness.core.model.moments import moments
from job_harness.core.port import Capabilities
from job_harness.core.sim import ORDER, OTHERS, TIME, Actor, Clocks, Deviation, Kernel, Option, read_order
from job_harness.errors import HarnessError, UsageError, available, did_you_mean

CATALOGUE: Final[tuple[FaultKind, ...]] = (
    CRASH,
    PAUSE,
    LOST_MESSAGE,
    DUPLICATE,
    LATENESS,
    CLOCK_OFFSET,
    SHUTDOWN,
    ABANDONED_SESSION,
    CLOCK_DRIFT,
    DELAYED_MESSAGE,
    OUTAGE,
    ABORTED_STATEMENT,
    DEPLOY,
    HOST,
    LAG,
)
"""In the order in which budgets are drawn: a new kind comes last, or every seed means another run."""
CONSEQUENCES: Final = frozenset({"session ends", "stopped", "raised"})
"""What a history holds beside faults under the same kind of event: what followed from one, or from a process."""
UNKNOWN: Final = ""
"""The kind of an option that no fault of this installation has."""


@cache
def kinds() -> Mapping[str, FaultKind]:
    """Return every kind by id, those of other packages last.

    Raises UsageError, with entry point and package, for one that is no fault, or has the name of
    another.
    """
    known = {kind.id: kind for kind in CATALOGUE}
    for name, value in brought(FAULTS).items():
        if name in known:
            raise UsageError(f"the entry point {FAULTS}:{name} has a fault's name", hint="Give it one of its own.")
        known[name] = _foreign(name, value)
    return known


def read_option(words: str) -> Option:
    """Read what a tape says as the option that it was; of kind `UNKNOWN` where no fault here says so."""
    ordered = read_order(words)
    if ordered is not None:
        return ordered
    forms = ((kind, phrase) for kind in kinds().values() for phrase in kind.words if phrase.reads(words))
    found = max(forms, key=lambda form: len(form[1].words), default=None)
    if found is None:
        return Option(UNKNOWN, words)
    kind, phrase = found
    return phrase.option(kind.id, words[len(phrase.words) :])


def phrase_of(option: Option) -> Phrase | None:
    """Return the form of an option; None for an order of actors, and for what no fault here says."""
    if (apart := next((phrase for phrase in APART if phrase.reads(option.words)), None)) is not None:
        return apart
    kind = kinds().get(option.kind)
    if kind is None:
        return None
    forms = [phrase for phrase in kind.words if phrase.reads(option.words)]
    return max(forms, key=lambda phrase: len(phrase.words), default=None)


class Cause(NamedTuple):
    """What a deviation did, in words."""

    words: str
    is_fault: bool
    """Whether something went wrong; otherwise it only chose the order or a value."""
    gate: str = ""
    """Of an order: before which step, where one is named; `words` say who came first."""


def cause_of(deviation: Deviation, *, effects: Collection[str] = ()) -> Cause:
    """Say what a deviation of a tape did: `w1 fail b #2: crash` is `w1 crashes before its 2nd fail b`.

    `effects` are points that are declared effects: their gate comes when the effect has happened. So does that of an
    effect that was only seen, whose name says so.
    """
    option = read_option(deviation.option)
    actor, _, point = deviation.label.partition(" ")
    done = point in effects or point.startswith(SEEN)
    point = point.removeprefix(SEEN)
    step = f"its {ordinal(deviation.nth)} `{point}`" if deviation.nth > 1 else f"`{point}`"
    when = "right after" if done else "before"
    if option.kind == TIME and point and not point.startswith("enqueue "):  # A job that is sent later is no fault.
        return Cause(f"{actor} stalls {when} `{point}`", is_fault=True)
    if option.kind in ORDER:
        gate = f"{when} {actor}'s `{point}`" if point else "first"
        return Cause(_order(option), is_fault=False, gate=gate)
    phrase = phrase_of(option)
    if phrase is None:
        return Cause(str(deviation), is_fault=False)
    if not phrase.sentence:
        return Cause(str(deviation), is_fault=True)
    said = {"actor": actor, "point": step, "job": point.rpartition(" ")[2], "argument": option.argument}
    return Cause(phrase.sentence.format(place=_place(deviation, point, f"{when} {step}"), **said), is_fault=True)


def _place(deviation: Deviation, point: str, place: str) -> str:
    """Say where a process stood; some points of a test are places already: `while running job-1`."""
    if not point.startswith((AHEAD, "while ")):
        return place
    return point if deviation.nth == 1 else f"{point} for the {ordinal(deviation.nth)} time"


def _order(option: Option) -> str:
    """Say who came first; `next` names the actor that the kernel brings to the front, in the place of the one there."""
    return {TIME: "time passes", OTHERS: "everybody else acts"}.get(option.kind, f"{option.actor} acts")


def ordinal(number: int) -> str:
    """Write `3rd`."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def families() -> tuple[str, ...]:
    """Return the families of options that a swarm switches on and off together; the order of actors is the first."""
    return tuple(dict.fromkeys(("order", *(kind.drawn_with for kind in kinds().values()))))


def family_of(option: Option) -> str:
    """Return the family of an option."""
    return "order" if option.kind in ORDER else kinds()[option.kind].drawn_with


def kind_of(fault: Fault) -> FaultKind | None:
    """Return the kind that an event of a history belongs to; None where it follows from one, or is unknown here."""
    data = fault.data if isinstance(fault.data, dict) else {}
    named = [kind for kind in kinds().values() if fault.name in kind.events]
    marked = [kind for kind in named if kind.mark and kind.mark in data]
    return next(iter(marked or [kind for kind in named if not kind.mark]), None)


def strike_of(fault: Fault) -> str:
    """Return under which name a campaign counts an event: its own, or its kind's where another has the same."""
    data = fault.data if isinstance(fault.data, dict) else {}
    kind = kind_of(fault)
    if kind is not None and kind.mark:
        return kind.id
    return f"{fault.name} after" if data.get("after") else fault.name


def word_fault(fault: Fault) -> str:
    """Word an event for a report: a few words in capitals, then what they are about."""
    data = fault.data if isinstance(fault.data, dict) else {}
    kind = kind_of(fault)
    if kind is not None and kind.told is not None:
        return kind.told(data)
    return fault.name.upper() + (f" at {data['at']}" if data.get("at") else "")


def word_strike(fault: Fault) -> str:
    """Say what an event does to who stands at a line of code: `crashes`."""
    kind = kind_of(fault)
    return (kind.struck if kind is not None else "") or fault.name


def events_of(*excuses: Excuse) -> frozenset[str]:
    """Return the names of the events that explain one of these."""
    return frozenset(name for kind in kinds().values() if kind.excuses in excuses for name in kind.events)


def lost_by(event: str) -> str:
    """Return which message never arrives after an event of this name, `request` or `reply`; empty: none."""
    return next((lost for kind in kinds().values() for name, lost in zip(kind.events, kind.loses) if name == event), "")  # noqa: B905


def gravest_first() -> tuple[Option, ...]:
    """Return what breaks a user's processor by itself, what breaks most processors first."""
    forms = [(kind.id, phrase) for kind in kinds().values() for phrase in kind.words]
    forms = [*forms, (HAND_OUT_TWICE.kind, HANDED_OUT_TWICE)]
    grave = sorted((form for form in forms if form[1].gravity), key=lambda form: -form[1].gravity)
    return tuple(phrase.option(kind, phrase.gravest) for kind, phrase in grave)


def excuses() -> Mapping[str, Excuse]:
    """Return what the faults in a history explain by themselves, by the name of their events."""
    return {name: kind.excuses for kind in kinds().values() if kind.excuses is not None for name in kind.events}


_IN_A_TEST: Final = ((CRASH, 2), (PAUSE, 2), (LOST_MESSAGE, 2), (DUPLICATE, 1), (CLOCK_OFFSET, 1), (LATENESS, 1))
"""What a user's test meets, and how often at most, in the order in which that is drawn: seeds hold their runs by it."""
SILENCING: Final = frozenset(name for kind in CATALOGUE if kind.silences for name in kind.events)
"""After which events of ours a healthy worker may be taken for dead."""
DEATHS: Final = frozenset(name for kind in CATALOGUE if kind.excuses is Excuse.DEATH for name in kind.events)

# what a run may meet ------------------------------------------------------------------------------------------------


class FaultPlan:
    """How often each fault may happen in one run, by id; what is not named never does. A frozen value."""

    __slots__ = ("_counts",)

    def __init__(self, **counts: int) -> None:
        """Allow this many of each.

        Raises UsageError for a fault that does not exist.
        """
        for name in counts:
            if name not in SHIPPED and name not in kinds():
                known = list(kinds())
                raise UsageError(
                    f"no such fault: {name!r}{did_you_mean(name, known)}",
                    hint=available(known, near=name, listed="docs/faults.md"),
                )
        self._counts = {name: counts[name] for name in sorted(counts) if counts[name] > 0}

    @classmethod
    def of(cls, *kinds: FaultKind) -> FaultPlan:
        """Allow each of these once."""
        return cls(**{kind.id: 1 for kind in kinds})

    @classmethod
    def in_a_test(cls, seed: int) -> FaultPlan:
        """Draw what a run of a user's test may meet."""
        draw = random.Random(seed ^ 0x5DEECE66D)
        return cls(**{kind.id: draw.randint(0, most) for kind, most in _IN_A_TEST})

    @classmethod
    def each(cls, count: int) -> FaultPlan:
        """Allow every fault there is so often."""
        return cls(**dict.fromkeys(kinds(), count))

    @classmethod
    def of_tape(cls, options: Iterable[str]) -> FaultPlan:
        """Allow what the options of a tape are, each as often as it is there."""
        counts: dict[str, int] = {}
        for words in options:
            kind = read_option(words).kind
            if kind in kinds():
                counts[kind] = counts.get(kind, 0) + 1
        return cls(**counts)

    def counts(self) -> dict[str, int]:
        """Return how often each fault may happen, where it may."""
        return dict(self._counts)

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FaultPlan) and self._counts == other._counts

    def __hash__(self) -> int:
        return hash(tuple(self._counts.items()))

    def __repr__(self) -> str:
        return f"FaultPlan({', '.join(f'{name}={count}' for name, count in self._counts.items())})"


SHIPPED: Final = frozenset(kind.id for kind in CATALOGUE)
_OFFERED: Final = tuple(sorted(CATALOGUE, key=lambda kind: kind.turn))


def interferences(
    plan: FaultPlan,
    *,
    settings: Settings,
    clocks: Clocks,
    note: Note,
    stop: Callable[[str], bool],
    restart_after: Duration | None,
    deploy: Callable[[str], object] = lambda name: None,
    schedulers: frozenset[str] = frozenset(),
) -> list[ArmedFault]:
    """Arm the faults of a plan, in the order in which their options are offered."""
    counts = plan.counts()
    if not counts:
        return []
    met = Circumstances(settings, clocks, note, stop, restart_after, moments(settings), deploy, schedulers)
    offered = _OFFERED if counts.keys() <= SHIPPED else sorted(kinds().values(), key=lambda kind: kind.turn)
    return [ArmedFault(kind, counts[kind.id], met) for kind in offered if kind.id in counts]


# other packages' ----------------------------------------------------------------------------------------------------


def _foreign(name: str, value: Any) -> FaultKind:
    package = provider_of(FAULTS, name)
    if not isinstance(value, FaultKind):
        raise UsageError(
            f"the entry point {FAULTS}:{name} is not a fault but {type(value).__name__}",
            hint="It must name a FaultKind; see docs/write_an_adapter.md.",
        )
    if value.id != name:
        raise UsageError(
            f"the entry point {FAULTS}:{name} is the fault {value.id!r}", hint="Let both have the same name."
        )
    if problem := _problem_of(value):
        raise UsageError(
            f"the entry point {FAULTS}:{name} of {package}: {problem}", hint="Repair or remove that package."
        )
    kind = replace(value, package=package)
    return replace(kind, options=_guarded(kind, kind.options), apply=_guarded(kind, kind.apply))


def _problem_of(kind: FaultKind) -> str:
    """Say what is wrong with another package's value, before a search stumbles over it."""
    ours = {phrase.words for known in CATALOGUE for phrase in known.words}
    if not kind.words or not all(isinstance(phrase, Phrase) for phrase in kind.words):
        return f"words is {kind.words!r:.80}; it must be a tuple of Phrase"
    if taken := [phrase.words for phrase in kind.words if phrase.words in ours or read_order(phrase.words)]:
        return f"a tape already means something else by {taken[0]!r}"
    if not kind.events or not all(isinstance(name, str) for name in kind.events):
        return f"events is {kind.events!r:.80}; it must be a tuple of names"
    if not kind.weight or not all(count.isdigit() for count in kind.weight):
        return f"weight is {kind.weight!r:.80}; it must be counts, as texts"
    if unknown := [name for name in kind.needs if name not in Capabilities.names()]:
        return f"it needs {unknown[0]!r}{did_you_mean(unknown[0], Capabilities.names())}, which is not a capability"
    return "" if callable(kind.options) and callable(kind.apply) else "options and apply must be functions"


def _guarded(kind: FaultKind, function: Callable[..., Any]) -> Callable[..., Any]:
    """Name the fault and its package where it raises: nothing else is to blame, least of all the queue."""

    def guarded(met: Circumstances, kernel: Kernel, actor: Actor | None, *option: Option) -> Any:
        try:
            result = function(met, kernel, actor, *option)
            if not option and any(one.kind != kind.id for one in result):
                raise ValueError(f"it offers {result!r:.80}, which is not all its own")
            return result
        except HarnessError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"the fault {kind.id} of {kind.package} raised {type(error).__name__}: {error}",
                hint="Repair or remove that package.",
            ) from error

    return guarded
