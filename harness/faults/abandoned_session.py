"""A process dies in the middle of a transaction, and its database session outlives it: its locks stay for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.faults.budget import Budget, Note
from harness.model.duration import Duration
from harness.sim.actor import Actor
from harness.sim.kernel import Kernel

PREFIX = "crash leaving its session for "


class AbandonedSession:
    """Kills a process between two statements of a verb; nobody notices for one of the named durations.

    A machine that loses power says no goodbye: PostgreSQL keeps the session, and what it locked, until a keepalive
    fails. Offered only where actors have sessions of their own.
    """

    def __init__(
        self, count: int, note: Note, *, moments: Mapping[str, Duration], restart_after: Duration | None
    ) -> None:
        self._budget = Budget(count)
        self._note = note
        self._moments = moments
        self._names = tuple(PREFIX + name for name in moments)
        self._restart_after = restart_after

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[str]:
        """Offer every duration at every gate within a verb of a process."""
        if actor is None or self._budget.left <= 0 or not actor.process:
            return ()
        return self._names if kernel.on_crash is not None and actor.call is not None else ()

    def apply(self, kernel: Kernel, actor: Actor | None, option: str) -> bool:
        """Kill, and leave the session."""
        duration = self._moments.get(option.removeprefix(PREFIX)) if option.startswith(PREFIX) else None
        if actor is None or duration is None:
            return False
        self._budget.spend()
        point = actor.request.point if actor.request is not None else ""
        self._note(actor.name, "crash", {"at": point, "after": False, "session_stays": duration})
        kernel.crash(actor, linger=duration)
        if self._restart_after is not None:
            kernel.start_later(actor, self._restart_after)
        return True
