"""A clock is set wrong, or steps: the store's after a failover, or one worker's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from harness.faults.budget import Budget, Note
from harness.model.duration import Duration, format_duration
from harness.sim.actor import Actor
from harness.sim.clock import STORE, Clocks
from harness.sim.kernel import Kernel


class ClockOffset:
    """Steps a clock to one of a few offsets, within the declared skew; a scheduler's, by whole periods too."""

    def __init__(
        self,
        count: int,
        note: Note,
        *,
        clocks: Clocks,
        skew: Duration,
        schedulers: Mapping[str, Duration] = MappingProxyType({}),
    ) -> None:
        """Offer so many steps. `schedulers` are actors on whose own clocks nothing depends, with a period of theirs."""
        self.budget = Budget(count)
        self._note = note
        self._clocks = clocks
        self._within = _offsets(skew // 2, skew)
        self._beyond = {name: self._within | _offsets(period, 2 * period) for name, period in schedulers.items()}
        """By scheduler."""

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[str]:
        """Offer a step of the store's clock before time moves, and of a worker's at its gates."""
        if self.budget.left <= 0:
            return ()
        if actor is None:
            return [f"store clock {name}" for name in self._within]
        offsets = self._beyond.get(actor.name, self._within)
        return [f"own clock {name}" for name in offsets] if actor.process else ()

    def apply(self, kernel: Kernel, actor: Actor | None, option: str) -> bool:
        """Step a clock."""
        whose, _, name = option.partition(" clock ")
        offset = self._within.get(name) if actor is None else self._beyond.get(actor.name, self._within).get(name)
        if offset is None:
            return False
        self.budget.spend()
        if whose == "store":
            self._note("*", "clock", {"whose": "store", "offset": offset})
            self._clocks.set_offset(STORE, offset)
        elif actor is not None:
            self._note(actor.name, "clock", {"whose": actor.name, "offset": offset})
            self._clocks.set_offset(actor.name, offset)
        return True


def _offsets(*sizes: Duration) -> dict[str, Duration]:
    return {
        f"{word} {format_duration(size)}": sign * size
        for word, sign in (("ahead", 1), ("behind", -1))
        for size in sizes
        if size
    }
