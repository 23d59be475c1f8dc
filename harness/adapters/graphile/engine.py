"""Opens graphile-worker queues: `graphile-worker@0.18.0` is that release, in a Node child, on a PostgreSQL for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.adapters.graphile.contract import CONTRACT, LEASE
from harness.adapters.graphile.queue import GraphileQueue
from harness.errors import EnvironmentUnavailable, UsageError
from harness.foreign import npm, npm_package
from harness.foreign.proof import prove
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract

if TYPE_CHECKING:
    from harness.foreign import Child
    from harness.foreign.database import ForeignDatabase

PACKAGE: Final = "graphile-worker"
OLDEST: Final = (0, 17)
NEEDS_NEWER_NODE: Final = (0, 18)
TABLES: Final = ("graphile_worker._private_jobs", "graphile_worker._private_job_queues")


class GraphileEngine:
    """One release. Child and server are started when the first queue is opened, and live until `close`."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None) -> None:
        """Choose a release (`latest`, `0.17`, `0.18.0`), and a server instead of one started here.

        Raises UsageError for a release before 0.17, and for what is no version.
        """
        self.version = npm.newest(PACKAGE, version)
        self._number = tuple(int(part) for part in re.findall(r"\d+", self.version)[:2])
        if self._number < OLDEST:
            raise UsageError(
                f"{PACKAGE} {self.version} has other functions than this engine calls",
                hint="Name a release from 0.17 on, such as graphile-worker@0.18.0.",
            )
        self.name = f"{PACKAGE}@{self.version}"
        self.capabilities: Capabilities = GraphileQueue.capabilities
        self.contract: Contract = CONTRACT
        self._dsn = dsn
        self._database: ForeignDatabase | None = None
        self._child: Child | None = None

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> GraphileQueue:
        """Answer an empty queue.

        Raises EnvironmentUnavailable without Node, npm or PostgreSQL, or where the release does not install;
        VirtualClockError where it does not follow our clock.
        """
        if self._database is None or self._child is None or not self._child.alive:
            self._start()
        return self._opened(settings, clocks, jitter)

    def _opened(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> GraphileQueue:
        assert self._database is not None
        assert self._child is not None
        self._database.empty(*TABLES)
        self._child.ask("reset")
        return GraphileQueue(self._child, self._database, settings, clocks, jitter)

    def _start(self) -> None:
        from harness.foreign.database import ForeignDatabase
        from harness.foreign.node_child import milliseconds_of, node_child

        self.close()
        packages = npm_package(PACKAGE, self.version)
        oldest = (22, 18) if self._number >= NEEDS_NEWER_NODE else (20, 0)
        script = Path(__file__).with_name("answers.mjs")
        self._child = node_child(script, name=self.name, packages=packages, oldest=oldest)
        try:
            self._database = ForeignDatabase(self._dsn)
            reply = self._child.ask("open", {"url": self._database.url, "now": milliseconds_of(0)})
            if "raised" in reply:
                raise EnvironmentUnavailable(f"{self.name} did not open: {reply['raised']}")
            self._database.check()
            prove(self._opened, name=self.name, settings=Settings(lease=LEASE))
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


def open_engine(version: str = "latest", *, dsn: str | None = None) -> GraphileEngine:
    """Answer the engine of this release."""
    return GraphileEngine(version, dsn=dsn)
