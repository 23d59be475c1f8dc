"""Opens graphile-worker queues: `graphile-worker@0.18.0` is that release, in a Node child, on a PostgreSQL for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.adapters.graphile.contract import CONTRACT, LEASE
from harness.adapters.graphile.queue import GraphileQueue
from harness.errors import UsageError
from harness.foreign import Peer, newest_npm, npm_package
from harness.foreign.clocks import prove
from harness.foreign.engine import ForeignEngine
from harness.foreign.gated_queue import GATED, GatedForeignQueue, RoutedPeer
from harness.foreign.runtime import ForeignRuntime, node_peer
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract, QueueUnderTest

PACKAGE: Final = "graphile-worker"
OLDEST: Final = (0, 17)
NEEDS_NEWER_NODE: Final = (0, 18)
TABLES: Final = ("graphile_worker._private_jobs", "graphile_worker._private_job_queues")
RESTART: Final = (
    b"SELECT setval(pg_get_serial_sequence(t, 'id'), 1, false) "
    b"FROM (VALUES ('graphile_worker._private_jobs'), ('graphile_worker._private_job_queues')) AS named(t)"
)
"""Numbers begin anew with each run: a claim orders jobs by priority and time alone, and equal runs must be equal."""


class GraphileEngine(ForeignEngine):
    """One release. Child and server are started when the first queue is opened, and live until `close`."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None, gated: bool = False) -> None:
        """Choose a release (`latest`, `0.17`, `0.18.0`), and a server instead of one started here.

        `gated` gives every actor a session, each statement of which is a gate.

        Raises UsageError for a release before 0.17, and for what is no version.
        """
        self.version = newest_npm(PACKAGE, version)
        self._number = tuple(int(part) for part in re.findall(r"\d+", self.version)[:2])
        if self._number < OLDEST:
            raise UsageError(
                f"{PACKAGE} {self.version} has other functions than this engine calls",
                hint="Name a release from 0.17 on, such as graphile-worker@0.18.0.",
            )
        self.gated = gated
        self.name = f"{PACKAGE}{GATED * gated}@{self.version}"
        self.capabilities: Capabilities = replace(GraphileQueue.capabilities, sessions=gated)
        self.contract: Contract = CONTRACT
        self._runtime = ForeignRuntime(
            self.name,
            start=self._started,
            dsn=dsn,
            then=self._proven,
            keeps_sessions=False,  # It remembers which tasks the database knows.
        )

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> QueueUnderTest:
        """Answer an empty queue.

        Raises EnvironmentUnavailable without Node, npm or PostgreSQL, or where the release does not install;
        VirtualClockError where it does not follow our clock.
        """
        self._runtime.ready()
        if not self.gated:
            return self._opened(settings, clocks, jitter)
        exchange = RoutedPeer(self._runtime.router, clocks.store)
        queue = self._opened(settings, clocks, jitter, asking=exchange)
        queue.ended_at = lambda: exchange.room.made_at
        return GatedForeignQueue(queue, exchange, clocks)

    def _opened(
        self, settings: Settings, clocks: Clocks, jitter: Callable[[], float], *, asking: RoutedPeer | None = None
    ) -> GraphileQueue:
        database, child = self._runtime.database, self._runtime.peer
        database.empty(*TABLES, as_new=True)
        database.run(RESTART)
        child.ask("reset")
        return GraphileQueue(asking or child, database, settings, clocks, jitter)

    def _started(self) -> Peer:
        packages = npm_package(PACKAGE, self.version)
        oldest = (22, 18) if self._number >= NEEDS_NEWER_NODE else (20, 0)
        script = Path(__file__).with_name("answers.mjs")
        return node_peer(script, name=self.name, packages=packages, oldest=oldest)

    def _proven(self) -> None:
        prove(self._opened, name=self.name, settings=Settings(lease=LEASE))


def open_engine(version: str = "latest", *, dsn: str | None = None, gated: bool = False) -> GraphileEngine:
    """Answer the engine of this release."""
    return GraphileEngine(version, dsn=dsn, gated=gated)
