"""Opens PgQueuer queues: `pgqueuer@1.6.0` is that release, in a child, on a PostgreSQL provided for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.adapters.pgqueuer.contract import CONTRACT
from harness.adapters.pgqueuer.queue import PgQueuerQueue
from harness.errors import EnvironmentUnavailable
from harness.foreign import pip, python_child, python_package
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract

if TYPE_CHECKING:
    from harness.foreign import Child
    from harness.foreign.database import ForeignDatabase

PACKAGE: Final = "pgqueuer"
DRIVER: Final = "psycopg[binary,pool]"
TABLES: Final = ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics", "pgqueuer_schedules")
RESTART: Final = b"SELECT setval(pg_get_serial_sequence('pgqueuer', 'id'), 1, false)"
"""Numbers begin anew with each run: errors name them, and equal runs must have equal histories."""


class PgQueuerEngine:
    """One release. Child and server are started when the first queue is opened, and live until `close`."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None) -> None:
        """Choose a release (`latest`, `1`, `1.5.0`), and a server instead of one started here."""
        self.version = pip.newest(PACKAGE, version)
        self.name = f"{PACKAGE}@{self.version}"
        self.capabilities: Capabilities = PgQueuerQueue.capabilities
        self.contract: Contract = CONTRACT
        self._dsn = dsn
        self._database: ForeignDatabase | None = None
        self._child: Child | None = None

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> PgQueuerQueue:
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
        return PgQueuerQueue(self._child, self._database, settings, clocks, jitter)

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


def open_engine(version: str = "latest", *, dsn: str | None = None) -> PgQueuerEngine:
    """Answer the engine of this release."""
    return PgQueuerEngine(version, dsn=dsn)
