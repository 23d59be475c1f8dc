"""Who answers the questions of a run: the tape, and those who write one.

A choice has a label and named options, the first being the boring one. A tape is the list of answers that were not
boring: `(label, nth) -> option`. An inserted question with another label moves nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from harness.sim.outside import Pick


class Deviation(NamedTuple):
    """One answer that was not the boring one."""

    label: str
    nth: int
    option: str

    def __str__(self) -> str:
        return f"{self.label} #{self.nth}: {self.option}"


Tape: TypeAlias = tuple[Deviation, ...]
Options: TypeAlias = Callable[[], Sequence[str]]


class Choices(Protocol):
    """Answers what is undetermined."""

    @property
    def tape(self) -> list[Deviation]:
        """What was not boring so far."""
        ...

    def gate(self, label: str, options: Options) -> str | None:
        """Answer one of the options, or None to go on as usual. The options are computed only when wanted."""
        ...

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Answer one of the options; the first is the boring one."""
        ...


class Boring:
    """Always the boring answer: the run that nothing disturbs."""

    def __init__(self) -> None:
        self.tape: list[Deviation] = []

    def gate(self, label: str, options: Options) -> str | None:
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

    def gate(self, label: str, options: Options) -> str | None:
        seen = self._seen
        nth = seen.get(label, 0) + 1
        seen[label] = nth
        if self._draw() >= self.rate:
            return None
        names = options()
        if not names:
            return None
        option = names[int(self._draw() * len(names))]
        self.tape.append(Deviation(label, nth, option))
        return option

    def pick(self, label: str, options: Sequence[str]) -> str:
        nth = self._seen.get(label, 0) + 1
        self._seen[label] = nth
        option = options[int(self._draw() * len(options))]
        if option != options[0]:
            self.tape.append(Deviation(label, nth, option))
        return option


class Replay:
    """Answers from a tape, boring where the tape is silent.

    `unused` lists the deviations whose question never came up, or no longer has that option.
    """

    def __init__(self, tape: Iterable[Deviation]) -> None:
        self._answers = {(item.label, item.nth): item.option for item in tape}
        self._seen: dict[str, int] = {}
        self.tape: list[Deviation] = []

    @property
    def unused(self) -> list[Deviation]:
        used = {(item.label, item.nth) for item in self.tape}
        return [Deviation(*key, option) for key, option in self._answers.items() if key not in used]

    def expected(self, label: str, nth: int) -> str | None:
        """Tell what stands on the tape for a question; None where it is silent."""
        return self._answers.get((label, nth))

    def gate(self, label: str, options: Options) -> str | None:
        nth = self._seen.get(label, 0) + 1
        self._seen[label] = nth
        option = self._answers.get((label, nth))
        if option is None or option not in options():
            return None
        self.tape.append(Deviation(label, nth, option))
        return option

    def pick(self, label: str, options: Sequence[str]) -> str:
        return self.gate(label, lambda: options) or options[0]


def note_pick(choices: Choices, pick: Pick, nth: int) -> str:
    """Write down what something outside picked; answer what is wrong where a replayed tape says otherwise."""
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
