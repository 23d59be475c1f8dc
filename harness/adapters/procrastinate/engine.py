"""Opens procrastinate queues: `procrastinate@3.8.1` is that release, in a child, on a PostgreSQL provided for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.adapters.procrastinate.contract import CONTRACT
from harness.adapters.procrastinate.queue import ProcrastinateQueue
from harness.errors import EnvironmentUnavailable
from harness.foreign import pip, python_child, python_package
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract

if TYPE_CHECKING:
    from harness.foreign import Child
    from harness.foreign.database import ForeignDatabase

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
        self._dsn = dsn
        self._database: ForeignDatabase | None = None
        self._child: Child | None = None

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> ProcrastinateQueue:
        """Answer an empty queue.

        Raises EnvironmentUnavailable without PostgreSQL, or where the release does not install.
        """
        if self._database is None or self._child is None or not self._child.alive:
            self._start()
        assert self._database is not None
        assert self._child is not None
        self._database.empty(*TABLES)
        self._database.run(RESTART)
        self._child.ask("reset")
        return ProcrastinateQueue(self._child, self._database, settings, clocks, jitter)

    def _start(self) -> None:
        from harness.foreign.database import ForeignDatabase

        self.close()
        packages = python_package(PACKAGE, self.version, DRIVER)
        self._database = ForeignDatabase(self._dsn)
        try:
            self._child = python_child(Path(__file__).with_name("answers.py"), name=self.name, packages=packages)
            reply = self._child.ask("open", {"url": self._database.url})
            if "raised" in reply:
                raise EnvironmentUnavailable(f"{self.name} did not open: {reply['raised']}")
            self._database.check()
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


def open_engine(version: str = "latest", *, dsn: str | None = None) -> ProcrastinateEngine:
    """Answer the engine of this release."""
    return ProcrastinateEngine(version, dsn=dsn)
