"""Another project's queue at work: a peer that has the package, beside the database that it works on.

Both start when the first queue is opened and live until `close`; where one of them went away, both
are started anew. A package's own functions are called by a script (a class `Answers`) in
`queue_host.mjs` or `queue_host.py`. Must not know: any particular queue.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from job_harness.core.history import Outcome, done
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.packages import NODE_ENVIRONMENT, find_node
from job_harness.worlds.peers.peer import Peer, PeerLost, Report
from job_harness.worlds.postgres.absence import absent, means_absence

if TYPE_CHECKING:
    from job_harness.core.model import Instant
    from job_harness.worlds.peers.gated_queue import Gates, SessionRouter

NODE_HOST: Final = Path(__file__).with_name("queue_host.mjs")
PYTHON_HOST: Final = Path(__file__).with_name("queue_host.py")
UNTRIED: Final = "Is it a release that docs/engines.md lists? A newer one may have changed what this engine calls."


def node_peer(script: Path, *, name: str, packages: Path, oldest: tuple[int, int]) -> Peer:
    """Start a peer in Node for a package in `packages`, on a Node that is new enough.

    The script exports a class `Answers`, whose methods are the requests. Raises
    EnvironmentUnavailable without a Node.
    """
    node = find_node(oldest, wanted_by=name)
    command = [node.path, str(NODE_HOST), str(script), str(packages)]
    return Peer(command, name=name, environment={**os.environ, **NODE_ENVIRONMENT})


def python_peer(script: Path, *, name: str, packages: Path) -> Peer:
    """Start a peer in Python whose script has a class `Answers`; it sees `packages`, and nothing of ours."""
    environment = {**os.environ, "PYTHONPATH": str(packages), "PYTHONUNBUFFERED": "1"}
    return Peer([sys.executable, "-P", str(PYTHON_HOST), str(script)], name=name, environment=environment)


def outcome_of(idle: Report, *, server: str = "PostgreSQL") -> Outcome:
    """Read how a request ended from the `idle` that ended its turn.

    Raises EnvironmentUnavailable where the peer's driver says that the server is not there.
    """
    if "raised" in idle:
        words = str(idle["raised"])
        if means_absence(words, code=str(idle.get("code") or "")):
            raise absent(words, when="while a peer used it", server=server)
        return Outcome.unknown(words)
    return Outcome.refused(str(idle["refused"])) if "refused" in idle else done(idle.get("value"))


class ForeignStore(Protocol):
    """The server that a package's queue works on, whose clock is ours."""

    @property
    def url(self) -> str:
        """Where a client connects."""

    @property
    def alive(self) -> bool:
        """Whether it was not seen to break."""

    @property
    def now(self) -> Instant:
        """What its clock shows."""

    def set_now(self, instant: Instant) -> None:
        """Move its clock."""

    @property
    def provenance(self) -> str:
        """Where it came from and why."""

    def gates(self) -> Gates:
        """Return what gives every actor a session of its own."""

    def check(self) -> None:
        """Prove that time moves in what the package installed. Raises VirtualClockError."""

    def confirm(self) -> None:
        """Look whether it is there as it was. Raises EnvironmentUnavailable."""

    def close(self) -> None:
        """Stop what was started. Never raises."""


def _postgres(dsn: str | None) -> ForeignStore:
    from job_harness.worlds.wire.database import ForeignDatabase

    return ForeignDatabase(dsn)


class ForeignRuntime:
    """A peer that has another project's package, and its database, for as many runs as there are."""

    def __init__(
        self,
        name: str,
        *,
        start: Callable[[], Peer],
        dsn: str | None,
        asked: Mapping[str, Any] | None = None,
        then: Callable[[], None] = lambda: None,
        keeps_sessions: bool = True,
        store: Callable[[str | None], ForeignStore] = _postgres,
    ) -> None:
        """Say how the peer is started, and what `open` is told beside the database's URL.

        `then` is called once both stand and `now()` is proven to be ours everywhere; it may raise what it misses.
        `keeps_sessions`: whether sessions of actors' own remember nothing from one run to the next. `store` provides
        the server, by default a PostgreSQL.
        """
        self._name = name
        self._start_peer = start
        self._dsn = dsn
        self._asked = dict(asked or {})
        self._then = then
        self._keeps_sessions = keeps_sessions
        self._peer: Peer | None = None
        self._provide = store
        self._database: Any = None
        self._router: SessionRouter | None = None

    @property
    def peer(self) -> Peer:
        """The peer; only between `ready` and `close`."""
        assert self._peer is not None
        return self._peer

    @property
    def database(self) -> Any:
        """The server's store, such as a `ForeignDatabase`; only between `ready` and `close`."""
        assert self._database is not None
        return self._database

    @property
    def router(self) -> SessionRouter:
        """Where sessions of actors' own come from; only between `ready` and `close`."""
        if self._router is None:
            from job_harness.worlds.peers.gated_queue import SessionRouter

            self._router = SessionRouter(self.peer, self.database, keeps=self._keeps_sessions)
        return self._router

    @property
    def provenance(self) -> str:
        """Where the server came from and why, once there is one."""
        return "" if self._database is None else str(self._database.provenance)

    def ready(self) -> None:
        """Start both where they do not stand.

        Raises EnvironmentUnavailable where one is not available, VirtualClockError where time is
        not under control.
        """
        if self._database is None or self._peer is None or not (self._peer.alive and self._database.alive):
            self._start()

    def _start(self) -> None:
        from job_harness.worlds.wire.database import milliseconds_of

        self.close()
        self._peer = self._start_peer()
        try:
            self._database = self._provide(self._dsn)
            opened = self._opened(self._peer, {"url": self._database.url, **self._asked}, now=milliseconds_of(0))
            if "raised" in opened:
                raise EnvironmentUnavailable(f"{self._name} did not open: {opened['raised']}", hint=UNTRIED)
            self._database.check()
            self._then()
        except BaseException:
            self.close()
            raise

    def _opened(self, peer: Peer, asked: Mapping[str, Any], *, now: float) -> Report:
        """Let the peer open; a release that does not have what it imports ends there, and its last line says why."""
        try:
            return peer.ask("open", dict(asked), now=now)
        except PeerLost as lost:
            if lost.kind != "died":
                raise
            said = [line.strip() for line in str(lost).splitlines() if len(line.strip()) > 1]
            why = next((line for line in reversed(said) if "Error" in line), said[0])
            raise EnvironmentUnavailable(f"{self._name} did not start: {why}", hint=UNTRIED) from lost

    def confirm(self) -> None:
        """Look whether both are there as they were. Raises EnvironmentUnavailable where one is not."""
        if self._database is not None:
            self._database.confirm()
        if self._peer is not None:
            self._peer.confirm()

    def close(self) -> None:
        """Stop what was started. Never raises."""
        if self._router is not None:
            self._router.close()
            self._router = None
        if self._peer is not None:
            self._peer.kill()
            self._peer = None
        if self._database is not None:
            self._database.close()
            self._database = None
