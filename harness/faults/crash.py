"""A process dies: before what it stands before, or right after, without hearing the reply. It comes back later."""

from __future__ import annotations

from collections.abc import Sequence

from harness.faults.budget import Budget, Note
from harness.model.duration import Duration
from harness.sim.actor import Actor
from harness.sim.kernel import Kernel
from harness.sim.request import Call

BEFORE = "crash"
AFTER = "crash after"


class Crash:
    """Kills an actor; a new activation under the same name starts after `restart_after` microseconds."""

    def __init__(self, count: int, note: Note, *, restart_after: Duration | None) -> None:
        self.budget = Budget(count)
        self._note = note
        self._restart_after = restart_after

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[str]:
        """Offer death at every gate of a process."""
        if actor is None or self.budget.left <= 0 or not actor.process:
            return ()
        return (BEFORE, AFTER) if type(actor.request) is Call else (BEFORE,)

    def apply(self, kernel: Kernel, actor: Actor | None, option: str) -> bool:
        """Kill."""
        if actor is None or option not in (BEFORE, AFTER):
            return False
        self.budget.spend()
        point = actor.request.point if actor.request is not None else ""
        if option == AFTER:
            kernel.ready.remove(actor)
            kernel.perform(actor)
        self._note(actor.name, "crash", {"at": point, "after": option == AFTER})
        kernel.crash(actor)
        if self._restart_after is not None:
            kernel.start_later(actor, self._restart_after)
        return True
