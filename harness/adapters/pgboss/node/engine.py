"""Opens pg-boss queues: `pgboss-node@12.38.0` is that release in a Node child, on a PostgreSQL provided for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.adapters.pgboss.node.contract import contract_of
from harness.adapters.pgboss.node.queue import PgBossNodeQueue
from harness.adapters.pgboss.node.release import Release
from harness.adapters.pgboss.package import SCHEMA
from harness.errors import EnvironmentUnavailable
from harness.foreign import npm, npm_package
from harness.foreign.proof import prove
from harness.model.duration import Duration
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract

if TYPE_CHECKING:
    from harness.adapters.pgboss.node.rows import Tables
    from harness.foreign import Child
    from harness.foreign.database import ForeignDatabase

PACKAGE: Final = "pg-boss"


class PgBossNodeEngine:
    """One release. Child and server are started when the first queue is opened, and live until `close`."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None) -> None:
        """Choose a release (`latest`, `12`, `10.4.2`), and a server instead of one started here.

        Raises UsageError for a release before 10, and for what is no version.
        """
        self.version = npm.newest(PACKAGE, version)
        self.name = f"pgboss-node@{self.version}"
        self._release = Release(self.version)
        self.capabilities: Capabilities = self._release.capabilities
        self.contract: Contract = contract_of(self._release.major)
        self._dsn = dsn
        self._database: ForeignDatabase | None = None
        self._child: Child | None = None
        self._tables: Tables | None = None
        self._strictly: Duration = 0
        """How long after its time a job can be fetched: releases differ, so it is measured."""

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> PgBossNodeQueue:
        """Answer an empty queue.

        Raises EnvironmentUnavailable without Node, npm or PostgreSQL, or where the release does not install;
        VirtualClockError where it does not follow our clock.
        """
        if self._database is None or self._child is None or not self._child.alive:
            self._start()
        return self._opened(settings, clocks, jitter)

    def _opened(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> PgBossNodeQueue:
        assert self._database is not None
        assert self._child is not None
        assert self._tables is not None
        self._tables.empty()
        self._child.ask("reset", {"keep": self._tables.keeps_queues})
        return PgBossNodeQueue(
            self._child,
            self._database,
            self._tables,
            capabilities=self.capabilities,
            strictly=self._strictly,
            settings=settings,
            clocks=clocks,
            jitter=jitter,
        )

    def _start(self) -> None:
        from harness.adapters.pgboss.node.rows import Tables
        from harness.foreign.database import ForeignDatabase
        from harness.foreign.node_child import milliseconds_of, node_child

        self.close()
        packages = npm_package(PACKAGE, self.version)
        script = Path(__file__).with_name("answers.mjs")
        self._child = node_child(script, name=self.name, packages=packages, oldest=self._release.oldest_node)
        try:
            self._database = ForeignDatabase(self._dsn)
            about = {"url": self._database.url, "schema": SCHEMA, "now": milliseconds_of(0)}
            reply = self._child.ask("open", about)
            if "raised" in reply:
                raise EnvironmentUnavailable(f"{self.name} did not open: {reply['raised']}")
            self._database.check()
            self._tables = Tables(self._database)
            self._strictly = prove(self._opened, name=self.name)
        except BaseException:
            self.close()
            raise

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return "" if self._database is None else str(self._database.cluster.provenance)

    def close(self) -> None:
        """Stop what was started. Never raises."""
        if self._child is not None:
            self._child.close()
            self._child = None
        if self._database is not None:
            self._database.close()
            self._database = None


def open_engine(version: str = "latest", *, dsn: str | None = None) -> PgBossNodeEngine:
    """Answer the engine of this release."""
    return PgBossNodeEngine(version, dsn=dsn)
