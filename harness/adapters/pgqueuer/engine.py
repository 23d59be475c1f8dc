"""Opens PgQueuer queues: `pgqueuer@1.6.0` is that release, in a child, on a PostgreSQL provided for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.adapters.pgqueuer.contract import CONTRACT
from harness.adapters.pgqueuer.queue import PgQueuerQueue
from harness.foreign import Peer, newest_python, python_package
from harness.foreign.engine import ForeignEngine
from harness.foreign.gated_queue import GATED, GatedForeignQueue, RoutedPeer
from harness.foreign.runtime import ForeignRuntime, python_peer
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract, QueueUnderTest

PACKAGE: Final = "pgqueuer"
DRIVER: Final = "psycopg[binary,pool]"
TABLES: Final = ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics", "pgqueuer_schedules")
RESTART: Final = b"SELECT setval(pg_get_serial_sequence('pgqueuer', 'id'), 1, false)"
"""Numbers begin anew with each run: errors name them, and equal runs must have equal histories."""


class PgQueuerEngine(ForeignEngine):
    """One release. Child and server are started when the first queue is opened, and live until `close`."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None, gated: bool = False) -> None:
        """Choose a release (`latest`, `1`, `1.5.0`), and a server instead of one started here.

        `gated` gives every actor a session, each statement of which is a gate.
        """
        self.version = newest_python(PACKAGE, version)
        self.gated = gated
        self.name = f"{PACKAGE}{GATED * gated}@{self.version}"
        self.capabilities: Capabilities = replace(PgQueuerQueue.capabilities, sessions=gated)
        self.contract: Contract = CONTRACT
        self._runtime = ForeignRuntime(self.name, start=self._started, dsn=dsn)

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> QueueUnderTest:
        """Answer an empty queue.

        Raises EnvironmentUnavailable without PostgreSQL, or where the release does not install.
        """
        self._runtime.ready()
        database, child = self._runtime.database, self._runtime.peer
        database.empty(*TABLES)
        database.run(RESTART)
        child.ask("reset")
        if not self.gated:
            return PgQueuerQueue(child, database, settings, clocks, jitter)
        exchange = RoutedPeer(self._runtime.router, clocks.store)
        return GatedForeignQueue(PgQueuerQueue(exchange, database, settings, clocks, jitter), exchange, clocks)

    def _started(self) -> Peer:
        packages = python_package(PACKAGE, self.version, DRIVER)
        return python_peer(Path(__file__).with_name("answers.py"), name=self.name, packages=packages)


def open_engine(version: str = "latest", *, dsn: str | None = None, gated: bool = False) -> PgQueuerEngine:
    """Answer the engine of this release."""
    return PgQueuerEngine(version, dsn=dsn, gated=gated)
