"""Another project's queue in a peer: one engine for all of them, driven by a declaration of the release.

A room in `job_harness.engines` declares a `ForeignRelease` and writes the verbs as an
`AskingQueue`; starting peer and server, emptying tables, proving that the clock is ours and giving
every actor a session happen here. This module knows no queue by name and decides nothing about
jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from job_harness.core.history import Outcome, done
from job_harness.core.model import Duration, Instant, JobId, JobView, Json, Settings, json_problem
from job_harness.core.port import (
    Capabilities,
    Claim,
    Contract,
    EngineClocks,
    EngineInfo,
    JobRequest,
    QueueUnderTest,
)
from job_harness.core.target import Target
from job_harness.worlds.peers import npm_package, python_package
from job_harness.worlds.peers.clocks import prove
from job_harness.worlds.peers.gated_queue import GatedForeignQueue, RoutedPeer
from job_harness.worlds.peers.peer import Peer, Report, Responder
from job_harness.worlds.peers.runtime import ForeignRuntime, ForeignStore, node_peer, outcome_of, python_peer
from job_harness.worlds.wire.database import milliseconds_of

if TYPE_CHECKING:
    from job_harness.worlds.wire.database import ForeignDatabase


OWN_CLOCKS: Final[Mapping[str, str]] = {
    "foreign_clock": "its processes read clocks of their own, and here all of them show the store's time"
}
"""What is `unseen` where a library goes by the clock of its process: no worker's clock that is off reaches it."""


class Opened(NamedTuple):
    """What a queue stands on for one run."""

    peer: Responder
    """The peer, or what asks it on behalf of each actor's own session."""
    database: Any
    """The store: a `ForeignDatabase`, or what the release provides."""
    settings: Settings
    clocks: EngineClocks
    jitter: Callable[[], float]
    ended_at: Callable[[], Instant]
    """The store's clock when the transaction that ended last began."""
    schema: Any = None
    """What the release read from its own tables once; see `ForeignRelease.read`."""
    strictly: Duration = 0
    """How long after its time a job becomes due, 0 or a microsecond: measured while the clock was proven."""


def _nothing_read(database: ForeignDatabase) -> None:
    return None


def flush(opened: Opened) -> None:
    """Empty a store that keeps nothing but the queue, and set its clock anew: `ForeignRelease.empty`."""
    opened.database.empty()
    opened.database.set_now(opened.clocks.store())


@dataclass(frozen=True, slots=True)
class ForeignRelease:
    """One release of another project's queue, declared."""

    package: str
    version: str
    """As it stands behind the package in the engine's name, with what follows a slash."""
    queue: Callable[[Opened], Any]
    """Opens the queue: an `AskingQueue`."""
    capabilities: Capabilities
    contract: Contract
    start: Callable[[str], Peer]
    """Starts the peer, which goes by the name that it is given."""
    empty: Callable[[Opened], None]
    """Deletes what runs leave in the tables, so that numbers begin anew: errors name them."""
    reset: Callable[[Opened], Mapping[str, Any]] = lambda opened: {}
    """Returns what the peer is asked with, to forget the run before."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What the peer is told when it opens, beside the database's URL."""
    read: Callable[[ForeignDatabase], Any] = _nothing_read
    """Reads once what this release's tables look like."""
    proven_under: Settings | None = None
    """Prove under these settings that jobs and leases follow our clock; None: only `now()` is proven."""
    resolution: Duration = 1
    """The smallest difference of times that it sees, in microseconds."""
    store: Callable[[str | None], ForeignStore] | None = None
    """Provides the server; None: a PostgreSQL."""
    fails_over: Callable[[Any], None] | None = None
    """What an outage that loses no data does to the store; None: nothing that a client could notice."""
    gated: bool = True
    """Whether every actor can have a session of its own."""
    keeps_sessions: bool = True
    """Whether an actor's session remembers nothing from one run to the next, and can be kept."""
    next_upkeep: Callable[[Any], Instant | None] | None = None
    """See `EngineInfo.next_upkeep`."""
    with_sessions: Mapping[str, Any] = field(default_factory=dict)
    """Which `capabilities` or `contract` are others where every actor has a session."""


def emptied(*tables: str, numbered: Sequence[str], as_new: bool = False) -> Callable[[Opened], None]:
    """Return what empties these tables and lets the column `id` of the `numbered` ones begin anew."""
    named = ", ".join(f"('{table}')" for table in numbered)
    restart = f"SELECT setval(pg_get_serial_sequence(t, 'id'), 1, false) FROM (VALUES {named}) AS named(t)".encode()

    def empty(opened: Opened) -> None:
        opened.database.empty(*tables, as_new=as_new)
        opened.database.run(restart)

    return empty


def in_python(room: str, package: str, version: str, *beside: str) -> Callable[[str], Peer]:
    """Return what starts a peer with a release from PyPI, which answers by `answers.py` beside the file `room`.

    `beside` are packages that it expects its user to install, such as a driver.
    """

    def start(name: str) -> Peer:
        packages = python_package(package, version, *beside)
        return python_peer(Path(room).with_name("answers.py"), name=name, packages=packages)

    return start


def in_node(room: str, package: str, version: str, *beside: str, oldest: tuple[int, int]) -> Callable[[str], Peer]:
    """Return what starts a Node peer with a release from npm, answering by `answers.mjs` beside the file `room`.

    `beside` are packages that it expects its user to install.
    """

    def start(name: str) -> Peer:
        packages = npm_package(package, version, *beside)
        return node_peer(Path(room).with_name("answers.mjs"), name=name, packages=packages, oldest=oldest)

    return start


class ForeignEngine:
    """Opens queues of one release. Peer and server are started when first needed, and live until `close`."""

    def __init__(self, release: ForeignRelease, *, dsn: str | None = None, sessions: bool = False) -> None:
        """Take a release, and a server instead of one started here.

        `sessions` gives every actor a session, each statement of which is a gate.
        """
        self.release = release
        name = f"{release.package}@{release.version}"
        name = str(Target.parse(name).gated) if sessions else name
        capabilities: Capabilities = release.with_sessions.get("capabilities", release.capabilities)
        contract: Contract = release.with_sessions.get("contract", release.contract)
        self.info = EngineInfo(
            name,
            replace(capabilities, sessions=True) if sessions else release.capabilities,
            contract=contract if sessions else release.contract,
            next_upkeep=release.next_upkeep,
            prepare=self._ready,
            provenance=self._provenance,
            confirm=self._runtime_confirmed,
            fails_over=self._failed_over,
            sessions=partial(ForeignEngine, release, dsn=dsn, sessions=True) if release.gated else None,
            statements=(lambda queue: queue.statements()) if sessions else None,
            makes_values=True,
        )
        self._schema: Any = None
        self._strictly: Duration = 0
        self._runtime: ForeignRuntime = ForeignRuntime(
            name,
            start=partial(release.start, name),
            dsn=dsn,
            asked=release.asked,
            then=self._prove,
            keeps_sessions=release.keeps_sessions,
            **({} if release.store is None else {"store": release.store}),
        )

    def _ready(self) -> None:
        self._runtime.ready()

    def _runtime_confirmed(self) -> None:
        self._runtime.confirm()

    def _failed_over(self) -> None:
        if self.release.fails_over is not None:
            self.release.fails_over(self._runtime.database)

    def _provenance(self) -> str:
        return self._runtime.provenance

    @property
    def peer(self) -> Peer:
        """The peer that has the package; only between the first `open` and `close`."""
        return self._runtime.peer

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> QueueUnderTest:
        """Return an empty queue.

        Raises EnvironmentUnavailable without PostgreSQL, without Node for a package that runs
        there, or where the release does not install; VirtualClockError where it does not follow our
        clock.
        """
        self._ready()
        opened = self._emptied(settings, clocks, jitter)
        if not self.info.capabilities.sessions:
            return self._queue(opened)
        peer = RoutedPeer(self._runtime.router, clocks.store)
        queue = self._queue(opened._replace(peer=peer, ended_at=lambda: peer.coordinator.made_at))
        return GatedForeignQueue(queue, peer, clocks, capabilities=self.info.capabilities)

    def _queue(self, opened: Opened) -> QueueUnderTest:
        queue: QueueUnderTest = self.release.queue(opened)
        return queue

    def _emptied(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> Opened:
        runtime = self._runtime
        opened = Opened(
            runtime.peer, runtime.database, settings, clocks, jitter, clocks.store, self._schema, self._strictly
        )
        self.release.empty(opened)
        runtime.peer.ask("reset", dict(self.release.reset(opened)))
        return opened

    def _prove(self) -> None:
        release = self.release
        self._schema = release.read(self._runtime.database)
        self._strictly = 0
        if release.proven_under is not None:
            self._strictly = prove(
                lambda *given: release.queue(self._emptied(*given)),
                name=self.info.name,
                settings=release.proven_under,
                moment=release.resolution,
            )

    def close(self) -> None:
        """Stop what was started. Never raises."""
        self._runtime.close()


class OneTableQueue:
    """The base of another project's queue: one table, nothing to reconcile, and only the verbs that its room wrote."""

    def changed(self) -> list[JobId] | None:
        """Changes are not tracked, so every job is read again."""
        return None

    def close(self) -> None:
        """Nothing to give back: peer and database belong to the engine."""

    def cancel(self, job: JobId) -> Outcome:
        """There is none, unless a queue has one."""
        raise NotImplementedError

    def retry(self, job: JobId) -> Outcome:
        """There is none, unless a queue has one."""
        raise NotImplementedError

    def heartbeat(self, claim: Claim) -> Outcome:
        """There is none, unless a queue has one."""
        raise NotImplementedError

    def release(self, claim: Claim) -> Outcome:
        """There is none, unless a queue has one."""
        raise NotImplementedError

    def reconcile(self) -> Outcome:
        """There is one table."""
        raise NotImplementedError

    def rescue(self) -> Outcome:
        """There is one table."""
        raise NotImplementedError

    def purge(self) -> Outcome:
        """What is to go goes by `expire`, or at once."""
        raise NotImplementedError


class AskingQueue(OneTableQueue):
    """The base of a queue whose verbs are requests to a peer."""

    server: ClassVar[str] = "PostgreSQL"
    """What it stands on, as an error names it."""
    capabilities: Capabilities

    def __init__(self, opened: Opened) -> None:
        self._peer = opened.peer
        self._database = opened.database
        self._settings = opened.settings
        self._clocks = opened.clocks

    def _ask(self, question: str, *, ago: Duration = 0, at: Instant | None = None, **arguments: Any) -> Outcome:
        """Ask at the store's time, or so long before it; `at` is what the peer's own clock shows, where it is off."""
        now = self._clocks.store() - ago
        self._database.set_now(now)
        shows = milliseconds_of(now if at is None else at)
        return self._answered(self._peer.ask(question, {**self._stamped(now), **arguments}, now=shows))

    def _stamped(self, now: Instant) -> Mapping[str, Any]:
        """Return the arguments that say what time it is, where the peer keeps no clock."""
        return {}

    def _answered(self, idle: Report) -> Outcome:
        outcome = outcome_of(idle, server=self.server)
        return outcome if outcome.done else outcome._replace(reason=self._stable_reason(outcome.reason))

    def _stable_reason(self, reason: object) -> str:
        """Return a reason of the peer's in words that are the same in every run."""
        return str(reason)

    def _unacceptable(self, request: JobRequest, known: Collection[JobId]) -> Outcome | None:
        """Say why a job is refused without asking the peer; None: ask it."""
        if request.id in known:
            return Outcome.refused("this id exists", request.id)
        if problem := json_problem(request.input):
            return Outcome.refused(f"invalid input: {problem}")
        return None

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first; every room does."""
        raise NotImplementedError

    def claim(self, worker: str, limit: int) -> Outcome:
        """Ask for jobs that are due."""
        return self._claims_of(worker, limit=limit)

    def _claims_of(self, worker: str, **arguments: Any) -> Outcome:
        outcome = self._ask("claim", worker=worker, **arguments)
        return done([self._claim(told, worker) for told in outcome.value]) if outcome.done else outcome

    def _claim(self, told: dict[str, Any], worker: str) -> Claim:
        """Read one claim as the peer told it, where a room leaves `claim` as it is."""
        raise NotImplementedError

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Report success, with the output where the queue keeps one. Whatever JSON cannot hold is refused unasked."""
        if not self.capabilities.results:
            return self._end_claim("complete", claim)
        if problem := json_problem(output):
            return Outcome.refused(f"JSON cannot hold it: {problem}")
        return self._end_claim("complete", claim, output=output)

    def _end_claim(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        """Ask what ends a claim, where a room leaves `complete` as it is."""
        raise NotImplementedError

    def expire(self) -> Outcome:
        """Let the queue look after what its workers left, and return what that changed."""
        before = self.jobs()
        outcome = self._ask("expire")
        if not outcome.done:
            return outcome
        after = self.jobs()
        return done([job for job, view in before.items() if after.get(job) != view])


def without_value(outcome: Outcome) -> Outcome:
    """Return a success without what the peer said of it."""
    return done() if outcome.done else outcome
