"""Swarm: every run leaves out most of what may happen, and so meets the rest more often.

A run draws which faults may strike it and how often, which job kinds, delays and settings are drawn at all, how often
time runs late, and perhaps one slow actor. What was drawn is said beside a failure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from harness.faults import families, family_of
from harness.sim.choices import Deviation, Option, Options

RATES = (0.02, 0.1, 0.25, 0.5)
LATE_RATES = (0.02, 0.1, 0.4)
WEIGHTS = (0, 0, 1, 4)
SLOW = (None, None, "w1", "w2", "maintenance", "queue")
SLOW_RATE = 0.6
"""How often the slow actor is passed over at its own gate."""
KEPT_WHOLE = frozenset({"jobs", "workers", "faults"})
"""What is always drawn from all its options."""


class SwarmDrawing:
    """Draws a workload from a random part of the options: the same part for every job of a run."""

    def __init__(self, seed: int) -> None:
        self.tape: list[Deviation] = []
        self.kept: dict[str, tuple[str, ...]] = {}
        """What this run draws from, by subject, where that is less than all."""
        self._draw = random.Random(seed).random

    def gate(self, label: str, options: Options) -> Option | None:
        """A workload has no gates."""
        return None

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Answer uniformly among what this run kept of the options."""
        subject = label.rpartition(" of ")[0] or label
        kept = self.kept.get(subject)
        if kept is None or not set(kept) <= set(options):
            kept = self._part(subject, options)
        return kept[int(self._draw() * len(kept))]

    def _part(self, subject: str, options: Sequence[str]) -> tuple[str, ...]:
        if subject in KEPT_WHOLE or self._draw() < 0.3:
            kept = tuple(options)
        else:
            kept = tuple(option for option in options if self._draw() < 0.4) or (options[0],)
        self.kept[subject] = kept
        return kept


class SwarmChoices:
    """Deviates by weights that are drawn once a run."""

    def __init__(self, seed: int) -> None:
        self.tape: list[Deviation] = []
        self._draw = draw = random.Random(seed).random
        self._seen: dict[str, int] = {}
        self.rate = RATES[int(draw() * len(RATES))]
        self.late_rate = LATE_RATES[int(draw() * len(LATE_RATES))]
        self.weights = {name: WEIGHTS[int(draw() * len(WEIGHTS))] for name in families()}
        self.slow = SLOW[int(draw() * len(SLOW))]

    def gate(self, label: str, options: Options) -> Option | None:
        """Deviate: more often before time moves, or at the gate of the slow actor, where the run says so."""
        nth = self._seen.get(label, 0) + 1
        self._seen[label] = nth
        slow = label.partition(" ")[0] == self.slow
        if self._draw() >= (self.late_rate if label == "time" else SLOW_RATE if slow else self.rate):
            return None
        option = self._weighted(options())
        if option is not None:
            self.tape.append(Deviation(label, nth, option.words))
        return option

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Answer uniformly."""
        nth = self._seen.get(label, 0) + 1
        self._seen[label] = nth
        option = options[int(self._draw() * len(options))]
        if option != options[0]:
            self.tape.append(Deviation(label, nth, option))
        return option

    def _weighted(self, offered: Sequence[Option]) -> Option | None:
        by_family: dict[str, list[Option]] = {}
        for option in offered:
            by_family.setdefault(family_of(option), []).append(option)
        total = sum(self.weights[name] for name in by_family)
        left = self._draw() * total
        for name, members in by_family.items():
            left -= self.weights[name]
            if left < 0:
                return members[int(self._draw() * len(members))]
        return None

    def told(self) -> str:
        """Say what this run drew."""
        strong = [name for name, weight in self.weights.items() if weight == max(WEIGHTS)]
        off = [name for name, weight in self.weights.items() if not weight]
        parts = [f"deviates at {self.rate:.0%} of gates, late at {self.late_rate:.0%}"]
        parts += [f"often {', '.join(strong)}"] if strong else []
        parts += [f"never {', '.join(off)}"] if off else []
        parts += [f"slow {self.slow}"] if self.slow else []
        return "; ".join(parts)
