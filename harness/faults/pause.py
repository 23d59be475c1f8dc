"""A process stands still for a while: a long garbage collection, a suspended machine, a slow disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from harness.faults.budget import Budget, Note
from harness.model.duration import Duration
from harness.sim.actor import Actor
from harness.sim.kernel import Kernel

PREFIX = "pause "
PAST: Final = "a lease + a retry"
"""After a pause of this length another worker has what this one held."""
HOLDING: Final = frozenset({"start", "running", "complete", "fail", "release", "heartbeat"})
"""Points at which an actor holds a job: there that pause is offered so much more often."""
WEIGHT: Final = 5


class Pause:
    """Stalls one actor for one of the named durations while all others go on."""

    def __init__(self, count: int, note: Note, *, moments: Mapping[str, Duration]) -> None:
        self.budget = Budget(count)
        self._note = note
        self._moments = moments
        self._names = tuple(PREFIX + name for name in moments)
        past = PREFIX + PAST
        self._holding = (*self._names, *(past,) * (WEIGHT - 1)) if past in self._names else self._names

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[str]:
        """Offer every duration at every gate of a process, one of them more often where it holds a job."""
        if actor is None or self.budget.left <= 0 or not actor.process:
            return ()
        point = actor.request.point if actor.request is not None else ""
        return self._holding if point.partition(" ")[0] in HOLDING else self._names

    def apply(self, kernel: Kernel, actor: Actor | None, option: str) -> bool:
        """Stall."""
        duration = self._moments.get(option.removeprefix(PREFIX)) if option.startswith(PREFIX) else None
        if actor is None or duration is None:
            return False
        self.budget.spend()
        point = actor.request.point if actor.request is not None else ""
        self._note(actor.name, "pause", {"at": point, "for": duration})
        kernel.pause(actor, duration)
        return True
