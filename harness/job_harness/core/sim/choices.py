"""Who answers the questions of a run: the tape, and those who write one.

A choice has a label and options, the first being the boring one. A tape is the list of answers that were not boring:
`(label, nth) -> option`. An inserted question with another label moves nothing. An option is a value; a tape keeps the
words that it prints, and `read_order` (for faults, `core.faults.read_option`) reads them back. No other code takes
those words apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from job_harness.core.sim.outside import Pick


class Option(NamedTuple):
    """Something that may be done at a gate instead of going on as usual. It prints as the words on a tape."""

    kind: str
    """`first`, `next`, `time`, `others`, or the id of a fault."""
    words: str
    """How a tape says it: tapes outlive releases, so an option keeps its words forever."""
    actor: str = ""
    """Whom it names, where that is not the actor at the gate."""
    point: str = ""
    """Which of several ways its kind has: a crash `before` or `after`, a lost `request` or `reply`."""
    argument: str = ""
    """How long or how far, by name: `a lease`, `ahead 5s`."""

    def __str__(self) -> str:
        return self.words


FIRST: Final = "first"
"""The kind of letting another actor act, who is ready too; the one at the gate stays there."""
NEXT: Final = "next"
"""The kind of bringing another actor to the front; what it does is asked at its own gate."""
TIME: Final = "time"
"""The kind of moving time although an actor is ready."""
OTHERS: Final = "others"
"""The kind of letting a carried task wait until everybody else on its loop waits."""
ORDER: Final = frozenset({FIRST, NEXT, TIME, OTHERS})
TIME_FIRST: Final = Option(TIME, "time first")
OTHERS_FIRST: Final = Option(OTHERS, "others first")


@lru_cache(maxsize=1024)  # actors have the same names in every run
def acts_first(actor: str) -> Option:
    """Return the option of letting this actor act."""
    return Option(FIRST, f"{actor} first", actor)


@lru_cache(maxsize=1024)
def acts_next(actor: str) -> Option:
    """Return the option of bringing this actor to the front."""
    return Option(NEXT, f"{actor} next", actor)


def read_order(words: str) -> Option | None:
    """Read what a tape says of an order; None where these words say something else."""
    for option in (TIME_FIRST, OTHERS_FIRST):
        if words == option.words:
            return option
    actor, _, kind = words.rpartition(" ")
    return Option(kind, words, actor) if actor and kind in (FIRST, NEXT) else None


class Deviation(NamedTuple):
    """One answer that was not the boring one, as a tape holds it: in words."""

    label: str
    nth: int
    option: str

    def __str__(self) -> str:
        return f"{self.label} #{self.nth}: {self.option}"


Tape: TypeAlias = tuple[Deviation, ...]
Options: TypeAlias = Callable[[], Sequence[Option]]


@runtime_checkable
class Choices(Protocol):
    """Decides what is undetermined."""

    @property
    def tape(self) -> list[Deviation]:
        """What was not boring so far."""

    def gate(self, label: str, options: Options) -> Option | None:
        """Return one of the options, or None to go on as usual. The options are computed only when wanted."""

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Return one of the named values; the first is the boring one."""


class Boring:
    """Always the boring answer: the run that nothing disturbs."""

    def __init__(self) -> None:
        self.tape: list[Deviation] = []

    def gate(self, label: str, options: Options) -> Option | None:
        return None

    def pick(self, label: str, options: Sequence[str]) -> str:
        return options[0]


class Uniform:
    """Deviates at a gate with a fixed probability, then uniformly among the options; picks uniformly."""

    def __init__(self, seed: int, *, rate: float = 0.2) -> None:
        self.tape: list[Deviation] = []
        self.rate = rate
        self._draw = random.Random(seed).random
        self._seen: dict[str, int] = {}

    def gate(self, label: str, options: Options) -> Option | None:
        seen = self._seen
        nth = seen.get(label, 0) + 1
        seen[label] = nth
        if self._draw() >= self.rate:
            return None
        offered = options()
        if not offered:
            return None
        option = offered[int(self._draw() * len(offered))]
        self.tape.append(Deviation(label, nth, option.words))
        return option

    def _answer(self, label: str, option: Option | None) -> Option | None:
        """Count a question, and write its answer down where it is not the boring one."""
        nth = self._seen[label] = self._seen.get(label, 0) + 1
        if option is not None:
            self.tape.append(Deviation(label, nth, option.words))
        return option

    def pick(self, label: str, options: Sequence[str]) -> str:
        nth = self._seen.get(label, 0) + 1
        self._seen[label] = nth
        option = options[int(self._draw() * len(options))]
        if option != options[0]:
            self.tape.append(Deviation(label, nth, option))
        return option


class Replay:
    """Replays a tape, boring where the tape is silent.

    `unused` lists the deviations whose question never came up, or no longer has that option, and those that another
    one for the same question overrides: the last counts.
    """

    def __init__(self, tape: Iterable[Deviation]) -> None:
        self._answers: dict[tuple[str, int], str] = {}
        self._overridden: list[Deviation] = []
        for item in tape:
            key = (item.label, item.nth)
            if self._answers.get(key, item.option) != item.option:
                self._overridden.append(Deviation(*key, self._answers[key]))
            self._answers[key] = item.option
        self._seen: dict[str, int] = {}
        self.tape: list[Deviation] = []
        self.passed: list[str] = []
        """The label of each gate, in the order in which they were passed."""

    @property
    def unused(self) -> list[Deviation]:
        used = {(item.label, item.nth) for item in self.tape}
        never = [Deviation(*key, option) for key, option in self._answers.items() if key not in used]
        return [*self._overridden, *never]

    @property
    def met(self) -> Mapping[str, int]:
        """By label, how often its question came up."""
        return self._seen

    def expected(self, label: str, nth: int) -> str | None:
        """Tell what stands on the tape for a question; None where it is silent."""
        return self._answers.get((label, nth))

    def gate(self, label: str, options: Options) -> Option | None:
        nth, words = self._answer(label)
        self.passed.append(label)
        option = None if words is None else next((one for one in options() if one.words == words), None)
        if option is not None:
            self.tape.append(Deviation(label, nth, option.words))
        return option

    def pick(self, label: str, options: Sequence[str]) -> str:
        nth, option = self._answer(label)
        if option is None or option not in options:
            return options[0]
        self.tape.append(Deviation(label, nth, option))
        return option

    def _answer(self, label: str) -> tuple[int, str | None]:
        nth = self._seen[label] = self._seen.get(label, 0) + 1
        return nth, self._answers.get((label, nth))


def note_pick(choices: Choices, pick: Pick, nth: int) -> str:
    """Write down what something outside picked; return what is wrong where a replayed tape says otherwise."""
    if pick.option != pick.options[0]:
        choices.tape.append(Deviation(pick.label, nth, pick.option))
    if not isinstance(choices, Replay):
        return ""
    expected = choices.expected(pick.label, nth) or pick.options[0]
    if expected == pick.option:
        return ""
    return (
        f"{pick.label} #{nth}: the tape has {expected}, this time it was {pick.option} (controlled order, real engine)"
    )


class ListedGates(Replay):
    """Deviates nowhere, and remembers every gate with its options."""

    def __init__(self) -> None:
        super().__init__(())
        self.gates: list[tuple[str, int, tuple[Option, ...]]] = []
        self.answers: list[Deviation] = []
        """What else might have been answered where several answers are named."""

    def gate(self, label: str, options: Options) -> Option | None:
        """Remember the gate, and go on as usual."""
        option = super().gate(label, options)
        self.gates.append((label, self._seen[label], tuple(options())))
        return option

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Remember the other answers, and take the first."""
        first = super().pick(label, options)
        self.answers += (Deviation(label, self._seen[label], option) for option in options[1:])
        return first
