"""Opens pg-boss queues: `pgboss-node@12.38.0` is that release in a Node peer, on a PostgreSQL provided for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.adapters.pgboss.known import known_of
from harness.adapters.pgboss.node.queue import SchedulingQueue
from harness.adapters.pgboss.node.release import JobTables, Release, contract_of
from harness.adapters.pgboss.package import SCHEMA
from harness.adapters.pgboss.policy import policy_suffix, split_policy
from harness.foreign import Peer, newest_npm, npm_package
from harness.foreign.clocks import prove
from harness.foreign.engine import ForeignEngine
from harness.foreign.gated_queue import GATED, GatedForeignQueue, RoutedPeer
from harness.foreign.runtime import ForeignRuntime, node_peer
from harness.model.duration import Duration
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract, QueueUnderTest

PACKAGE: Final = "pg-boss"


class PgBossNodeEngine(ForeignEngine):
    """One release. Peer and server are started when the first queue is opened, and live until `close`."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None, gated: bool = False) -> None:
        """Choose a release (`latest`, `12`, `10.4.2`), and a server instead of one started here.

        After a slash stands the policy of its queues: `10.4.2/stately`. Raises UsageError for a release before 10, and
        for what is no version or no policy. `gated` gives every actor a session, each statement of which is a gate;
        schedules are not at work there.
        """
        wanted, policy = split_policy(version)
        self.version = newest_npm(PACKAGE, wanted)
        self._release = Release(f"{self.version}{policy_suffix(policy)}")
        self.gated = gated
        self.name = f"pgboss-node{GATED * gated}@{self._release.name}"
        able = self._release.capabilities
        self.capabilities: Capabilities = replace(able, sessions=True, schedules=False) if gated else able
        self.contract: Contract = replace(contract_of(self._release.major, policy), known=known_of(self.version))
        asked = {"schema": SCHEMA}
        self._runtime = ForeignRuntime(
            self.name,
            start=self._started,
            dsn=dsn,
            asked=asked,
            then=self._proven,
            keeps_sessions=False,  # It remembers which queues the database knows.
        )
        self._tables: JobTables | None = None
        self._strictly: Duration = 0
        """How long after its time a job can be fetched: releases differ, so it is measured."""

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
        return GatedForeignQueue(queue, exchange, clocks, capabilities=self.capabilities)

    def _opened(
        self, settings: Settings, clocks: Clocks, jitter: Callable[[], float], *, asking: RoutedPeer | None = None
    ) -> SchedulingQueue:
        database, child = self._runtime.database, self._runtime.peer
        assert self._tables is not None
        self._tables.empty()
        child.ask("reset", {"keep": self._tables.keeps_queues})
        return SchedulingQueue(
            asking or child,
            database,
            self._tables,
            release=self._release,
            strictly=self._strictly,
            settings=settings,
            clocks=clocks,
            jitter=jitter,
        )

    def _started(self) -> Peer:
        packages = npm_package(PACKAGE, self.version)
        script = Path(__file__).with_name("answers.mjs")
        return node_peer(script, name=self.name, packages=packages, oldest=self._release.oldest_node)

    def _proven(self) -> None:
        self._tables = JobTables(self._runtime.database)
        self._strictly = prove(self._opened, name=self.name)


def open_engine(version: str = "latest", *, dsn: str | None = None, gated: bool = False) -> PgBossNodeEngine:
    """Answer the engine of this release."""
    return PgBossNodeEngine(version, dsn=dsn, gated=gated)
