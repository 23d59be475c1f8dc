"""What a fault is: a value. Everything that deals with faults reads it here and knows no fault by name.

A `FaultKind` says what a fault does (`options`, `apply`), how it reads (`sentence`, `words`,
`told`), how often it is drawn (`weight`, `family`), and what it explains (`excuses`). A run arms a
kind with a budget; a kind itself holds no state. It must not know who draws, shrinks, judges or
prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from job_harness.core.history import Excuse
from job_harness.core.model import Duration, Settings
from job_harness.core.sim import Actor, Clocks, Kernel, Option

Note: TypeAlias = Callable[[str, str, Any], None]
"""Writes a fault into the history: actor, name, data."""
NO_OPTIONS: Final[tuple[Option, ...]] = ()


class Phrase(NamedTuple):
    """One form of a fault's options, as a tape words it: `crash after`, or `pause MOMENT`."""

    words: str
    """What is always said. Tapes hold it: it never changes."""
    example: str = ""
    """What may follow: `MOMENT`, or `ahead 5s`; empty: nothing does."""
    point: str = ""
    timed: bool = False
    """Whether the name of a moment follows: a shrinker tries shorter ones."""
    plainer: str = ""
    """The words of a fault that is easier to understand, which a shrinker tries instead."""
    gravity: int = 0
    """Among single deviations of a user's test: the higher, the more processors it breaks; 0: it is not tried alone."""
    gravest: str = ""
    """What follows the words there, where something does: `a lease + a retry`."""
    sentence: str = ""
    """How a screen says it, with `{actor}`, `{point}` (the step at whose gate it stood), `{place}` (before that step,
    or right after it where it is an effect), `{job}` (the point's last word) and `{argument}`."""

    def option(self, kind: str, argument: str = "") -> Option:
        """Return the option of this form; `kind` is the fault's id."""
        return Option(kind, self.words + argument, "", self.point, argument)

    def reads(self, words: str) -> bool:
        """Whether these words are of this form."""
        return words.startswith(self.words) if self.example else words == self.words

    def __str__(self) -> str:
        return self.words + self.example


class FaultSituation(NamedTuple):
    """What a campaign wants to have seen, and sees by this fault alone."""

    name: str
    at: frozenset[str] = frozenset()
    """Only where its actor stands at one of these kinds of point; empty: anywhere."""
    while_running: bool = False
    """Only while a job is PROCESSING."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a fault may know of the run that it strikes."""

    settings: Settings
    clocks: Clocks
    note: Note
    """Writes into the history what was done."""
    stop: Callable[[str], bool]
    """Asks a process to end in an orderly way; False: there is none of this name, or it cannot."""
    restart_after: Duration | None
    """When a crashed process comes back; None: not by itself."""
    moments: Mapping[str, Duration]
    """Durations that matter under these settings, by name: a second, a lease, just short of a timeout, ..."""
    deploy: Callable[[str], object] = lambda name: None
    """Tells a process to stop, kills it when its grace is over, and lets a new one begin."""
    schedulers: frozenset[str] = frozenset()
    """Who looks at schedules: slots are the store's, whatever a scheduler's own clock says."""
    _prepared: dict[str, tuple[Option, ...]] = field(default_factory=dict, compare=False, repr=False)

    def prepared(self, name: str, make: Callable[[], Sequence[Option]]) -> tuple[Option, ...]:
        """Return options that stay the same all through a run: they are made once, for gates are many."""
        known = self._prepared.get(name)
        if known is None:
            known = self._prepared[name] = tuple(make())
        return known

    def timed(self, kind: str, phrase: Phrase) -> tuple[Option, ...]:
        """Return the options of a form for every moment."""
        return self.prepared(phrase.words, lambda: [phrase.option(kind, name) for name in self.moments])


Options: TypeAlias = Callable[[Circumstances, Kernel, Actor | None], Sequence[Option]]
Apply: TypeAlias = Callable[[Circumstances, Kernel, Actor | None, Option], None]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """Something that can be made to go wrong: how it strikes, how it reads, and what it excuses."""

    id: str
    """Names it in plans, in tables, and as an entry point."""
    sentence: str
    words: tuple[Phrase, ...]
    options: Options
    """Offers what may happen at an actor's gate; with None for the actor, before time moves."""
    apply: Apply
    """Makes one of those options happen, and notes it. The budget is counted elsewhere."""
    events: tuple[str, ...]
    """Under which names it is in the history."""
    mark: str = ""
    """The key of an event's data that tells it from another kind's event of the same name."""
    excuses: Excuse | None = None
    """What its events explain by themselves, so that no monitor blames the queue."""
    family: str = ""
    """With which others a swarm switches it on and off; empty: its id, alone."""
    weight: tuple[str, ...] = ("0", "1", "2")
    """Among which counts a drawn run's budget is drawn."""
    needs: tuple[str, ...] = ()
    """What a queue must be able to do for it."""
    nouns: tuple[str, str] = ("", "")
    """One of it, and several; empty: its id."""
    option: str = ""
    """The option that counts it in a scope, without dashes; empty: its id in the plural."""
    step: str = "none"
    """The step of a scenario that does the same, as the pages print it."""
    steps: tuple[str, ...] = ()
    """The kinds of those steps."""
    loses: tuple[str, ...] = ()
    """For each of `events`, which message never arrives: its actor cannot know whether its call took effect."""
    arrives_late: bool = False
    """Whether a request reaches the store after all, when its caller no longer waits."""
    silences: bool = False
    """Whether a healthy worker may be taken for dead by it: it is gone, or it is not heard in time."""
    strikes_one: bool = False
    """Whether it moves on the actor whom it strikes, and goes by that one, the queue and the clocks alone."""
    situation: FaultSituation | None = None
    """What of a campaign's situations it makes."""
    columns: tuple[tuple[str, str], ...] = ()
    """On a campaign's screen: by its name in the coverage, the head of each column. Without any it is counted below."""
    tally: str = ""
    """How it is counted there: `a clock drifted`, which `3 times` follows; empty: its id struck."""
    told: Callable[[Mapping[str, Any]], str] | None = None
    """Words its event's data for a report; None: the name in capitals, and where."""
    struck: str = ""
    """What it does to who stands at a line of code: `crashes` here; empty: its event's name says it."""
    midway: bool = False
    """Whether it may strike in the middle of a step, where an actor's own code is at work and cannot wait."""
    turn: int = 100
    """Where its options stand among those of a gate. Seeds hold their runs only while this stays as it is."""
    package: str = ""
    """Whose it is, where not ours; filled in when it is loaded."""
    sampled_only: str = ""
    """Why a complete search has none of it: what it leaves under way is no part of a state that can be set back."""

    @property
    def event(self) -> str:
        """Return under which name a scenario's step that does the same writes it."""
        return self.events[0]

    @property
    def drawn_with(self) -> str:
        """Return the family."""
        return self.family or self.id

    def counted(self, count: int) -> str:
        """Count it in words: `2 crashes`."""
        one, several = self.nouns if self.nouns[0] else (self.id, f"{self.id}s")
        return f"1 {one}" if count == 1 else f"{count} {several}"

    @property
    def scope_help(self) -> str:
        """Say what that option counts."""
        several = self.nouns[1] or f"{self.id}s"
        return f"at most N {several}{f' of {self.package}' if self.package else ''} (default: 0)"

    @property
    def scope_option(self) -> str:
        """Return the name of the option that bounds it in a complete search, without dashes."""
        return self.option or f"{self.id.replace('_', '-')}s"


class ArmedFault:
    """A kind in one run, with what is left of its budget."""

    __slots__ = ("_apply", "_met", "_options", "id", "left", "midway")

    def __init__(self, kind: FaultKind, count: int, met: Circumstances) -> None:
        self.id = kind.id
        self.midway = kind.midway
        self.left = count
        self._met = met
        self._options = kind.options
        self._apply = kind.apply

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
        """Offer what may still go wrong here."""
        return self._options(self._met, kernel, actor) if self.left > 0 else NO_OPTIONS

    def apply(self, kernel: Kernel, actor: Actor | None, option: Option) -> None:
        """Make it go wrong."""
        self.left -= 1
        self._apply(self._met, kernel, actor, option)
