"""Answers the questions of one transition, or of a whole path of them, in the order in which they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from harness.sim.choices import Deviation, Option, Options


class Move(NamedTuple):
    """One transition: what is answered at its gates (None: go on as usual), and what is picked on the way."""

    gates: tuple[Option | None, ...]
    picks: tuple[str, ...] = ()


Path: TypeAlias = tuple[Move, ...]
BORING = Move((None,))


class Script:
    """Answers from moves, boring once they are used up. What was not boring is its tape, as in any run."""

    def __init__(self, moves: Iterable[Move] = (), *, jitters: int = 1) -> None:
        self.tape: list[Deviation] = []
        self.asked: list[Sequence[str]] = []
        """What was to be picked from in the current move."""
        self._seen: dict[str, int] = {}
        self._jitters = jitters
        self.load(moves)

    def load(self, moves: Iterable[Move]) -> None:
        """Answer from these moves next."""
        moves = list(moves)
        self._gates = [gate for move in moves for gate in move.gates]
        self._picks = [pick for move in moves for pick in move.picks]
        self._gate = self._pick = 0
        self.asked.clear()

    def _nth(self, label: str) -> int:
        nth = self._seen[label] = self._seen.get(label, 0) + 1
        return nth

    def gate(self, label: str, options: Options) -> Option | None:
        """Answer what stands next in the script."""
        nth = self._nth(label)
        if self._gate >= len(self._gates):
            return None
        option = self._gates[self._gate]
        self._gate += 1
        if option is not None:
            self.tape.append(Deviation(label, nth, option.words))
        return option

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Answer what stands next in the script, or the first; the search goes through the others later."""
        nth = self._nth(label)
        self.asked.append(options[: self._jitters])
        option = options[0]
        if self._pick < len(self._picks):
            option = self._picks[self._pick]
            self._pick += 1
        if option != options[0]:
            self.tape.append(Deviation(label, nth, option))
        return option
