"""A message is delivered twice: the verb happens again with the same arguments."""

from __future__ import annotations

from collections.abc import Sequence

from harness.faults.budget import Budget, Note
from harness.sim.actor import Actor
from harness.sim.kernel import Kernel
from harness.sim.request import Call

OPTION = "deliver twice"
REPEATABLE = frozenset(
    {"enqueue", "complete", "fail", "release", "heartbeat", "cancel", "retry", "expire", "rescue", "tick", "commit"}
)


class Duplicate:
    """Repeats a call once; the caller hears the second reply."""

    def __init__(self, count: int, note: Note) -> None:
        self.budget = Budget(count)
        self._note = note

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[str]:
        """Offer it at every call that a network might repeat."""
        if actor is None or self.budget.left <= 0:
            return ()
        request = actor.request
        return (OPTION,) if type(request) is Call and request.verb in REPEATABLE else ()

    def apply(self, kernel: Kernel, actor: Actor | None, option: str) -> bool:
        """Deliver twice."""
        if actor is None or option != OPTION:
            return False
        self.budget.spend()
        kernel.ready.remove(actor)
        self._note(actor.name, "duplicate", {"at": actor.request.point if actor.request is not None else ""})
        kernel.perform(actor, times=2)
        return True
