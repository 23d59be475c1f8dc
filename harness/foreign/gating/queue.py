"""Any queue of plain verbs over a child, with a session for every actor: its statements and commits are gates."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any

from harness.foreign.gating.switchboard import Exchange
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status
from harness.port import Capabilities, EngineClocks


class OfActor:
    """The queue as one actor reaches it: every verb is a frame that suspends at each of its statements."""

    def __init__(self, queue: GatedForeignQueue, actor: str) -> None:
        self._queue = queue
        self._actor = actor

    def __getattr__(self, verb: str) -> Callable[..., Generator[Any, Any, Any]]:
        """Answer a verb of the queue."""
        return partial(self._queue.run, self._actor, verb)


class GatedForeignQueue:
    """Sees all jobs from the harness's own session; `on_behalf` answers the queue of one actor."""

    def __init__(
        self, queue: Any, exchange: Exchange, clocks: EngineClocks, *, capabilities: Capabilities | None = None
    ) -> None:
        """Stand before `queue`, which asks `exchange` where it would ask its child."""
        self.capabilities: Capabilities = capabilities or replace(queue.capabilities, sessions=True)
        self._queue = queue
        self._exchange = exchange
        self._clocks = clocks
        self._of: dict[str, OfActor] = {}
        self._seen: dict[JobId, JobView] = {}
        self._claimer: str | None = None
        """For whom the verb that acted last claims."""
        self._by_looking = False
        """Whether the verb that acted last sent nothing: what it changed is what the queue says of its jobs."""
        self._owners: dict[tuple[JobId, int], str | None] = {}
        self._looked_at = (-1, -1)
        self._ended = 0
        self._news = False
        self._made_at: Instant = 0

    def __getattr__(self, name: str) -> Any:
        """Answer what the queue itself has: a verb that is called so is the harness's own, and stands at no gate."""
        return getattr(self._queue, name)

    def on_behalf(self, actor: str) -> OfActor:
        """Answer the queue as this actor's session reaches it."""
        return self._of.setdefault(actor, OfActor(self, actor))

    def run(self, actor: str, verb: str, *arguments: Any) -> Generator[Any, Any, Any]:
        """Run a verb on behalf of an actor."""
        steps = self._exchange.fibers.run(actor, partial(getattr(self._queue, verb), *arguments))
        claimer: str | None = arguments[0] if verb == "claim" else None
        asked = self._exchange.asked
        try:
            while True:
                request = next(steps)
                self._claimer, self._by_looking = claimer, False
                yield request
        except StopIteration as end:
            self._claimer, self._by_looking = claimer, asked == self._exchange.asked
            self._ended += 1
            return end.value
        finally:
            steps.close()

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's session from it; answer what drops it."""
        return self._exchange.sever(actor)

    def made_at(self) -> Instant:
        """Answer the store's clock at the first statement of the transaction that ended last."""
        return self._made_at

    def leftovers(self) -> list[str]:
        """Say what actors left open."""
        return self._exchange.room.leftovers()

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs where a transaction or a verb may have ended since."""
        revision, ended = self._exchange.room.revision, self._ended
        self._news = self._looked_at != (revision, ended)
        if self._news:
            self._made_at = self._clocks.store() if self._by_looking else self._exchange.room.made_at
            self._looked_at = (revision, ended)
            self._seen = {name: self._owned(view) for name, view in self._queue.jobs().items()}
        return self._seen

    def _owned(self, view: JobView) -> JobView:
        """Say who holds a job of which a claim under way, or one that was cut off, has not told yet."""
        if view.status is not Status.PROCESSING or view.worker is not None:
            return view
        owner = self._owners.setdefault((view.id, view.token), self._claimer)
        return view if owner is None else view._replace(worker=owner)

    def changed(self) -> list[JobId] | None:
        """Nothing, as long as nothing ended; then nobody knows what was touched."""
        return None if self._news else []

    def close(self) -> None:
        """Give all sessions back."""
        self._exchange.close()
        self._queue.close()
