"""A worker is told to stop: a deploy. It takes no new job, gives back what it has not started, and ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.faults.budget import Budget, Note
from harness.sim.actor import Actor
from harness.sim.kernel import Kernel

OPTION = "stop"


class Shutdown:
    """Asks a process to end gracefully; `stop` passes the request on to it."""

    def __init__(self, count: int, note: Note, *, stop: Callable[[str], bool]) -> None:
        self.budget = Budget(count)
        self._note = note
        self._stop = stop

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[str]:
        """Offer it at every gate of a process."""
        return (OPTION,) if actor is not None and actor.process and self.budget.left > 0 else ()

    def apply(self, kernel: Kernel, actor: Actor | None, option: str) -> bool:
        """Ask it to stop; one that does not take such requests goes on."""
        if actor is None or option != OPTION:
            return False
        self.budget.spend()
        if self._stop(actor.name):
            self._note(actor.name, "stop", {"at": actor.request.point if actor.request is not None else ""})
        else:
            kernel.ready.remove(actor)
            kernel.perform(actor)
        return True
