"""A clock runs fast or slow: no step that anybody could notice, and after a while it is off all the same."""

from __future__ import annotations

from collections.abc import Sequence

from harness.faults.budget import Budget, Note
from harness.model.duration import Duration
from harness.sim.actor import Actor
from harness.sim.clock import STORE, Clocks
from harness.sim.kernel import Kernel

AHEAD, BEHIND = "drifts ahead", "drifts behind"


class ClockDrift:
    """Lets a clock drift to the edge of the declared skew, within one timeout of a job."""

    def __init__(self, count: int, note: Note, *, clocks: Clocks, skew: Duration, within: Duration) -> None:
        self._budget = Budget(count)
        self._note = note
        self._clocks = clocks
        self._within = within
        self._ends = {AHEAD: skew, BEHIND: -skew} if skew else {}

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[str]:
        """Offer a drift of the store's clock before time moves, and of a worker's at its gates."""
        if self._budget.left <= 0 or (actor is not None and not actor.process):
            return ()
        return [f"{'store' if actor is None else 'own'} clock {name}" for name in self._ends]

    def apply(self, kernel: Kernel, actor: Actor | None, option: str) -> bool:
        """Let a clock drift from where it is."""
        _, _, name = option.partition(" clock ")
        offset = self._ends.get(name)
        if offset is None:
            return False
        self._budget.spend()
        whose = STORE if actor is None else actor.name
        data = {"whose": whose, "offset": offset, "within": self._within}
        self._note("*" if actor is None else actor.name, "drift", data)
        self._clocks.let_drift(whose, offset, within=self._within)
        return True
