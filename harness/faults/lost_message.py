"""A request never arrives, or its reply is lost. The caller cannot tell which: to him the outcome is unknown."""

from __future__ import annotations

from collections.abc import Sequence

from harness.faults.budget import Budget, Note
from harness.sim.actor import Actor
from harness.sim.kernel import Kernel
from harness.sim.request import Call

REQUEST = "lose request"
REPLY = "lose reply"


class LostMessage:
    """Cuts the connection before or after a verb took effect."""

    def __init__(self, count: int, note: Note) -> None:
        self.budget = Budget(count)
        self._note = note

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[str]:
        """Offer both at every call."""
        if actor is None or self.budget.left <= 0 or type(actor.request) is not Call:
            return ()
        return (REQUEST, REPLY)

    def apply(self, kernel: Kernel, actor: Actor | None, option: str) -> bool:
        """Lose one message."""
        if actor is None or option not in (REQUEST, REPLY):
            return False
        self.budget.spend()
        kernel.ready.remove(actor)
        self._note(actor.name, option, {"at": actor.request.point if actor.request is not None else ""})
        kernel.perform(actor, heard=False, happens=option == REPLY)
        return True
