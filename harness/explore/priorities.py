"""Partial-order sampling: every order of steps on one job is about as likely as any other.

Each actor that is ready holds a drawn priority, and the highest acts. When it has acted, whoever stands before a step
on the same job draws anew, whoever stands before another keeps his: orders of steps that never meet count as one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from harness.sim.actor import Actor
from harness.sim.choices import Deviation, Options
from harness.sim.kernel import Kernel
from harness.sim.request import Call

FIRST = " first"
"""How the kernel calls the choice of another actor."""


class Priorities:
    """Orders actors by priority at every gate; faults strike at a fixed rate, uniformly."""

    def __init__(self, seed: int, *, rate: float) -> None:
        self.tape: list[Deviation] = []
        self.rate = rate
        self._draw = random.Random(seed).random
        self._seen: dict[str, int] = {}
        self._priority: dict[str, float] = {}
        self._kernel: Kernel | None = None

    def attach(self, kernel: Kernel) -> None:
        """Take the kernel whose ready actors are to be ordered."""
        self._kernel = kernel

    def gate(self, label: str, options: Options) -> str | None:
        """Strike with a fault, or answer the actor of the highest priority."""
        nth = self._seen.get(label, 0) + 1
        self._seen[label] = nth
        option = self._fault(options) if self._draw() < self.rate else None
        if option is None:
            option = self._order()
        if option is not None:
            self.tape.append(Deviation(label, nth, option))
        return option

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Answer uniformly."""
        nth = self._seen.get(label, 0) + 1
        self._seen[label] = nth
        option = options[int(self._draw() * len(options))]
        if option != options[0]:
            self.tape.append(Deviation(label, nth, option))
        return option

    def _fault(self, options: Options) -> str | None:
        names = [name for name in options() if not name.endswith(FIRST)]
        return names[int(self._draw() * len(names))] if names else None

    def _order(self) -> str | None:
        kernel = self._kernel
        if kernel is None or not kernel.free_order or len(kernel.ready) < 2:
            return None
        priority = self._priority
        for actor in kernel.ready:
            if actor.name not in priority:
                priority[actor.name] = self._draw()
        chosen = max(kernel.ready, key=lambda actor: priority[actor.name])
        for actor in kernel.ready:
            if actor is chosen or _meet(actor, chosen):
                priority.pop(actor.name, None)  # tasks of one process share a priority
        return None if chosen is kernel.ready[0] else f"{chosen.name}{FIRST}"


def _meet(one: Actor, other: Actor) -> bool:
    """Say whether the next steps of two actors may touch the same job; a verb on many jobs meets every verb."""
    first, second = one.request, other.request
    if type(first) is not Call or type(second) is not Call:
        return False
    return first.job is None or second.job is None or first.job == second.job
