"""Other people's queues with a session for every actor: each statement and each commit of a verb is a gate.

A verb is plain code. It runs on a thread that is handed control and gives it back at each gate
(`Fiber`), so one class of verbs serves both kinds of engine. Its requests go to the peer over the
actor's own session there, whose driver connects to us (a `WireProxy`); `SessionRouter` knows which
connection is whose.

Hides: threads, which session is whose, when a session can be kept for the next run. Must not know:
any particular queue.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from job_harness.core.model import Instant, JobId, JobView, Status
from job_harness.core.port import Capabilities, EngineClocks, Sent
from job_harness.core.sim import Request
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import Deadline
from job_harness.worlds.peers.peer import ANSWER_SECONDS
from job_harness.worlds.wire.database import milliseconds_of, timestamp_of
from job_harness.worlds.wire.proxy import Timekeeper, WireProxy

if TYPE_CHECKING:
    from job_harness.core.model import Duration
    from job_harness.worlds.peers.peer import Peer, Report
    from job_harness.worlds.peers.runtime import ForeignStore

T = TypeVar("T")


# the queue ------------------------------------------------------------------------------------------------------------


class ActorQueue:
    """The queue as one actor reaches it: every verb is a frame that suspends at each of its statements."""

    def __init__(self, queue: GatedForeignQueue, actor: str) -> None:
        self._queue = queue
        self._actor = actor

    def __getattr__(self, verb: str) -> Callable[..., Generator[Any, Any, Any]]:
        """Return a verb of the queue."""
        return partial(self._queue.run, self._actor, verb)


class GatedForeignQueue:
    """Sees all jobs from the harness's own session; `on_behalf` gives the queue of one actor."""

    def __init__(
        self, queue: Any, peer: RoutedPeer, clocks: EngineClocks, *, capabilities: Capabilities | None = None
    ) -> None:
        """Stand before `queue`, which asks `peer` where it would ask the peer itself."""
        self.capabilities: Capabilities = capabilities or replace(queue.capabilities, sessions=True)
        self._queue = queue
        self._peer = peer
        self._clocks = clocks
        self._of: dict[str, ActorQueue] = {}
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
        """Return what the queue itself has: a verb that is called so is the harness's own, and stands at no gate."""
        return getattr(self._queue, name)

    def on_behalf(self, actor: str) -> ActorQueue:
        """Return the queue as this actor's session reaches it."""
        return self._of.setdefault(actor, ActorQueue(self, actor))

    def run(self, actor: str, verb: str, *arguments: Any) -> Generator[Any, Any, Any]:
        """Run a verb on behalf of an actor."""
        steps = self._peer.fibers.run(actor, partial(getattr(self._queue, verb), *arguments))
        claimer: str | None = arguments[0] if verb == "claim" else None
        asked = self._peer.asked
        try:
            while True:
                request = next(steps)
                self._claimer, self._by_looking = claimer, False
                yield request
        except StopIteration as end:
            self._claimer, self._by_looking = claimer, asked == self._peer.asked
            self._ended += 1
            return end.value
        finally:
            steps.close()

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's session from it; return what drops it."""
        return self._peer.sever(actor)

    def made_at(self) -> Instant:
        """Return the store's clock at the first statement of the transaction that ended last."""
        return self._made_at

    def leftovers(self) -> list[str]:
        """Say what actors left open."""
        return self._peer.coordinator.leftovers()

    def statements(self) -> list[Sent]:
        """Return what actors' sessions were sent since this was last asked."""
        return self._peer.coordinator.sent()

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs where a transaction or a verb may have ended since."""
        revision, ended = self._peer.coordinator.revision, self._ended
        self._news = self._looked_at != (revision, ended)
        if self._news:
            self._made_at = self._clocks.store() if self._by_looking else self._peer.coordinator.made_at
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
        """Return nothing as long as nothing ended, and then None: changes are not tracked."""
        return None if self._news else []

    def close(self) -> None:
        """Give all sessions back."""
        self._peer.close()
        self._queue.close()


# what stands between an actor and a store -----------------------------------------------------------------------------


class ActorEndpoint(Protocol):
    """One process's way to the store: what comes over it is one actor's."""

    name: str
    """What the peer calls the session behind it."""
    turn: int
    """The number of the peer's turn that is under way; 0: none."""

    @property
    def url(self) -> str:
        """Where the client connects."""

    @property
    def clean(self) -> bool:
        """Whether another run may have it."""

    def join(self, coordinator: Any, actor: str) -> None:
        """Let what comes over it be this actor's, and at gates, from here on."""

    def leave(self) -> None:
        """Let all pass freely from here on."""

    def at_gate(self) -> WireProxy | None:
        """Return a connection whose client waits to be let through."""

    def listen(self, beside: int, seconds: float) -> None:
        """Wait until the client, or what is read from the descriptor `beside`, has something to say, and take it."""

    def cut(self) -> None:
        """Refuse new connections and let the process hear nothing."""

    def end(self) -> None:
        """Cut it, and leave the store too."""


class Coordinator(Protocol):
    """Where the connections of all actors meet, for one run."""

    revision: int
    """Rises whenever what is stored may have changed."""

    @property
    def made_at(self) -> Instant:
        """What the store's clock showed at the first statement of the transaction that ended last."""

    def sent(self) -> list[Sent]:
        """Return what was sent since this was last asked."""

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's connections from it; return what drops what it had open."""

    def leftovers(self) -> list[str]:
        """Say, one sentence each, what actors left open."""

    def close(self) -> None:
        """Give back what actors had."""


class Gates(Protocol):
    """Lets the actors of one peer reach one store over connections of their own."""

    def endpoint(self, name: str, folder: Path) -> ActorEndpoint:
        """Return a new endpoint that listens in `folder`, for the peer's session of this name."""

    def coordinator(self, clock: Callable[[], Instant]) -> Coordinator:
        """Return where the connections of one run meet; `clock` is the store's."""

    def close(self) -> None:
        """Give back what is kept from run to run."""


# actors' sessions in the peer -----------------------------------------------------------------------------------------


class SessionRouter:
    """Keeps the sessions of one peer for as many runs as there are; those that were cut are replaced."""

    def __init__(self, peer: Peer, database: ForeignStore, *, keeps: bool = True) -> None:
        """Stand between a peer that is open and its store.

        `keeps` says whether a session of the peer remembers nothing from one run to the next, and may be kept.
        """
        self._keeps = keeps
        self.peer = peer
        self.database = database
        self.gates: Gates = database.gates()
        self._folder = Path(tempfile.mkdtemp(prefix="job-harness-lines-"))
        self._idle: list[ActorEndpoint] = []
        self._count = 0

    def take(self) -> ActorEndpoint:
        """Return a free endpoint; its session in the peer is open."""
        if self._idle:
            return self._idle.pop(0)
        self._count += 1
        endpoint = self.gates.endpoint(f"s{self._count}", self._folder / str(self._count))
        endpoint.turn = self.peer.post("begin", {"url": endpoint.url}, actor=endpoint.name)
        begun = self.hear(endpoint)
        assert isinstance(begun, dict)
        if "value" not in begun:
            endpoint.end()
            raise EnvironmentUnavailable(f"{self.peer.name} opened no further session: {begun}")
        return endpoint

    def hear(self, endpoint: ActorEndpoint) -> Report | WireProxy:
        """Wait, in real time, for the end of the turn under way or for a statement that is to be let through.

        Raises PeerLost where neither comes.
        """
        deadline = Deadline(ANSWER_SECONDS)
        while True:
            idle = self.peer.ended(endpoint.turn)
            if idle is not None:
                endpoint.turn = 0
                return idle
            session = endpoint.at_gate()
            if session is not None:
                return session
            if deadline.passed:
                raise self.peer.overdue(endpoint.turn)
            endpoint.listen(self.peer.descriptor, deadline.left)

    def take_back(self, endpoint: ActorEndpoint) -> None:
        """Keep an endpoint for the next run, or cut it where something was left open."""
        endpoint.leave()
        if endpoint.clean and self._keeps:
            self._idle.append(endpoint)
        else:
            endpoint.end()
            self.cut(endpoint)

    def cut(self, endpoint: ActorEndpoint) -> None:
        """End an endpoint and its session in the peer, as the end of a process does."""
        endpoint.cut()
        if self.peer.alive:
            self.peer.forget(endpoint.turn)
            self.peer.sever(endpoint.name)

    def close(self) -> None:
        """End all endpoints. Never raises."""
        for endpoint in self._idle:
            endpoint.end()
        self._idle.clear()
        self.gates.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class RoutedPeer:
    """The peer for one run: each actor's requests go to a session of its own."""

    def __init__(self, router: SessionRouter, clock: Callable[[], Instant]) -> None:
        """Give actors sessions from `router`; `clock` is the store's."""
        self.coordinator = router.gates.coordinator(clock)
        self.fibers = Fibers()
        self.asked = 0
        """How many requests verbs have made."""
        self._shown: float | None = None
        """What the peer's clock was last set to."""
        self._router = router
        self._clock = clock
        self._endpoints: dict[str, ActorEndpoint] = {}

    def ask(self, do: str, arguments: Mapping[str, Any] | None = None, *, now: float | None = None) -> Report:
        """Ask on behalf of the actor whose verb runs: each statement that answers it is a gate of that verb.

        Where no verb runs, it is the harness that asks, over the peer's first session and at no
        gate.
        """
        fiber = self.fibers.current
        if fiber is None:
            return self._router.peer.ask(do, arguments, now=now)
        self.asked += 1
        lag = self._clock() - self._router.database.now
        return self.fibers.wait(self._carried_out(fiber.actor, do, arguments or {}, now=now, lag=lag))

    async def _carried_out(
        self, actor: str, do: str, arguments: Mapping[str, Any], *, now: float | None, lag: Duration
    ) -> Report:
        endpoint = self._endpoint(actor)
        endpoint.turn = self._router.peer.post(do, arguments, actor=endpoint.name, now=now)
        self._shown = now
        timekeeper = _RequestTime(self, lag)
        while True:
            heard = self._router.hear(endpoint)
            if isinstance(heard, dict):
                return heard
            heard.timekeeper = timekeeper
            await heard.carry_out()

    def set_store(self, lag: Duration) -> None:
        """Set the database's clock, which is behind the store's by this much."""
        self._router.database.set_now(self._clock() - lag)

    def tell_time(self) -> None:
        """Set the peer's own clock, where it has one and goes on with a request that was made earlier."""
        now = milliseconds_of(self._clock())
        if self._router.peer.has_clock and now != self._shown:
            self._router.peer.time(now)
            self._shown = now

    def _endpoint(self, actor: str) -> ActorEndpoint:
        endpoint = self._endpoints.get(actor)
        if endpoint is not None and endpoint.turn:  # A verb was given up in the middle: its end is not awaited.
            self.sever(actor)()
            endpoint = None
        if endpoint is None:
            endpoint = self._endpoints[actor] = self._router.take()
            endpoint.join(self.coordinator, actor)
        return endpoint

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's endpoint from it; return what drops its sessions, and with them what they had open."""
        drop = self.coordinator.sever(actor)
        endpoint = self._endpoints.pop(actor, None)
        if endpoint is not None:
            self._router.cut(endpoint)
        return drop

    def close(self) -> None:
        """Give all endpoints back; what was open is rolled back, what was under way is ended."""
        self.coordinator.close()
        for endpoint in self._endpoints.values():
            self._router.take_back(endpoint)
        self._endpoints.clear()


class _RequestTime(Timekeeper):
    """The clocks of one request of a peer."""

    def __init__(self, peer: RoutedPeer, lag: Duration) -> None:
        self._peer = peer
        self._lag = lag

    def before_request(self, at: Instant) -> datetime:
        self._peer.set_store(self._lag)
        return timestamp_of(at - self._lag)

    def before_reply(self) -> None:
        self._peer.tell_time()


# plain code that can stand at a gate ----------------------------------------------------------------------------------


class Abandoned(BaseException):
    """Raised where plain code stands that will never be resumed."""


class Fiber:
    """One piece of plain code on its way."""

    def __init__(self, work: Callable[[], Any], *, actor: str) -> None:
        """Prepare to run `work` on behalf of `actor`."""
        self.actor = actor
        self.request: Request | None = None
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._mine = threading.Semaphore(0)
        self._theirs = threading.Semaphore(0)
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=f"verb of {actor}", daemon=True)

    def go(self) -> None:
        """Let the code run to its next gate or its end."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._mine.release()
        self._theirs.acquire()

    def suspend(self, request: Request) -> None:
        """Stand at a gate: called by the code itself, on its own thread."""
        if self._abandoned:
            raise Abandoned
        self.request = request
        self._theirs.release()
        self._mine.acquire()
        if self._abandoned:
            raise Abandoned

    def abandon(self) -> None:
        """End the code where it stands; its `finally` blocks run, and stand at no gate."""
        self._abandoned = True
        if self._thread.ident is not None and not self.done:
            self._mine.release()
            self._thread.join()

    def _run(self) -> None:
        try:
            self.value = self._work()
        except BaseException as error:  # noqa: BLE001 - the caller who waits for the code is told
            self.error = error
        self.done = True
        self._theirs.release()


class Fibers:
    """Runs verbs of plain code as the kernel runs generators; `current` is whose turn it is."""

    def __init__(self) -> None:
        self._current: Fiber | None = None

    @property
    def current(self) -> Fiber | None:
        """The code that runs now; None: the harness's own."""
        return self._current

    def run(self, actor: str, work: Callable[[], T]) -> Generator[Request, Any, T]:
        """Run plain code; whatever it awaits by `wait` is a gate."""
        fiber = Fiber(work, actor=actor)
        try:
            while True:
                self._current = fiber
                try:
                    fiber.go()
                finally:
                    self._current = None
                if fiber.done:
                    break
                assert fiber.request is not None
                yield fiber.request
        finally:
            fiber.abandon()
        if fiber.error is not None:
            raise fiber.error
        value: T = fiber.value
        return value

    def wait(self, work: Awaitable[T]) -> T:
        """Drive a coroutine from within plain code: each of its requests is a gate of that code."""
        fiber = self._current
        assert fiber is not None, "only a verb that is run can wait"
        steps = work.__await__()
        try:
            while True:
                fiber.suspend(next(steps))
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            steps.close()
