"""Opens procrastinate queues: `procrastinate@3.8.1` is that release, in a child, on a PostgreSQL provided for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from harness.adapters.procrastinate.contract import CONTRACT
from harness.adapters.procrastinate.queue import ProcrastinateQueue
from harness.foreign import Child, pip, python_child, python_package
from harness.foreign.station import Station
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract

PACKAGE: Final = "procrastinate"
DRIVER: Final = "psycopg[binary]"
TABLES: Final = (
    "procrastinate_events",
    "procrastinate_periodic_defers",
    "procrastinate_jobs",
    "procrastinate_workers",
)
RESTART: Final = (
    b"SELECT setval(pg_get_serial_sequence(t, 'id'), 1, false) "
    b"FROM (VALUES ('procrastinate_jobs'), ('procrastinate_workers')) AS named(t)"
)
"""Numbers begin anew with each run: errors name them, and equal runs must have equal histories."""


class ProcrastinateEngine:
    """One release. Child and server are started when the first queue is opened, and live until `close`."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None) -> None:
        """Choose a release (`latest`, `3`, `3.8.1`), and a server instead of one started here."""
        self.version = pip.newest(PACKAGE, version)
        self.name = f"{PACKAGE}@{self.version}"
        self.capabilities: Capabilities = ProcrastinateQueue.capabilities
        self.contract: Contract = CONTRACT
        self._station = Station(self.name, child=self._started, dsn=dsn)

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> ProcrastinateQueue:
        """Answer an empty queue.

        Raises EnvironmentUnavailable without PostgreSQL, or where the release does not install.
        """
        self._station.ready()
        database, child = self._station.database, self._station.child
        database.empty(*TABLES)
        database.run(RESTART)
        child.ask("reset")
        return ProcrastinateQueue(child, database, settings, clocks, jitter)

    def _started(self) -> Child:
        packages = python_package(PACKAGE, self.version, DRIVER)
        return python_child(Path(__file__).with_name("answers.py"), name=self.name, packages=packages)

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return self._station.provenance

    def close(self) -> None:
        """Stop what was started. Never raises."""
        self._station.close()


def open_engine(version: str = "latest", *, dsn: str | None = None) -> ProcrastinateEngine:
    """Answer the engine of this release."""
    return ProcrastinateEngine(version, dsn=dsn)
