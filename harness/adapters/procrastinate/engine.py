"""Opens procrastinate queues: `procrastinate@3.8.1` is that release, in a child, on a PostgreSQL provided for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from harness.adapters.procrastinate.contract import CONTRACT, GATED_CONTRACT
from harness.adapters.procrastinate.queue import ProcrastinateQueue
from harness.errors import UsageError, did_you_mean
from harness.foreign import Peer, newest_python, python_package
from harness.foreign.engine import ForeignEngine
from harness.foreign.gated_queue import GATED, GatedForeignQueue, RoutedPeer
from harness.foreign.runtime import ForeignRuntime, python_peer
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract, QueueUnderTest

PACKAGE: Final = "procrastinate"
UNATTENDED: Final = "unattended"
"""After a slash behind the release: nobody runs the manual's task for stalled jobs, as nobody does once installed."""
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


class ProcrastinateEngine(ForeignEngine):
    """One release. Child and server are started when the first queue is opened, and live until `close`."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None, gated: bool = False) -> None:
        """Choose a release (`latest`, `3`, `3.8.1`), and a server instead of one started here.

        After a slash may stand `unattended`. `gated` gives every actor a session, each statement of which is a gate.

        Raises UsageError for what is no version, and for another word behind it.
        """
        release, slash, word = version.partition("/")
        if slash and word != UNATTENDED:
            near = did_you_mean(word, [UNATTENDED])
            raise UsageError(
                f"{PACKAGE}@{version}: behind the release there can only be {UNATTENDED!r}{near}",
                hint=f"Name {PACKAGE}@{release} or {PACKAGE}@{release}/{UNATTENDED}.",
            )
        self.version = newest_python(PACKAGE, release)
        self.gated = gated
        self.attended = not slash
        self.name = f"{PACKAGE}{GATED * gated}@{self.version}{slash}{word}"
        self.capabilities: Capabilities = replace(ProcrastinateQueue.capabilities, sessions=gated)
        self.contract: Contract = GATED_CONTRACT if gated else CONTRACT
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
        opened = partial(
            ProcrastinateQueue,
            database=database,
            settings=settings,
            clocks=clocks,
            jitter=jitter,
            attended=self.attended,
        )
        if not self.gated:
            return opened(child)
        exchange = RoutedPeer(self._runtime.router, clocks.store)
        return GatedForeignQueue(opened(exchange), exchange, clocks)

    def _started(self) -> Peer:
        packages = python_package(PACKAGE, self.version, DRIVER)
        return python_peer(Path(__file__).with_name("answers.py"), name=self.name, packages=packages)

    @property
    def child(self) -> Peer:
        """The child that has procrastinate, once a queue was opened."""
        return self._runtime.peer


def open_engine(version: str = "latest", *, dsn: str | None = None, gated: bool = False) -> ProcrastinateEngine:
    """Answer the engine of this release."""
    return ProcrastinateEngine(version, dsn=dsn, gated=gated)
