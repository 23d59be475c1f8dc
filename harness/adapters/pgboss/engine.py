"""Opens pg-boss queues: `pgboss@10.4.2` is that version's own SQL on a PostgreSQL provided for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.adapters.pgboss.contract import contract_of
from harness.adapters.pgboss.keys import Keys
from harness.adapters.pgboss.package import NEWEST_OF_10, check_version
from harness.adapters.pgboss.policy import policy_suffix, split_policy
from harness.adapters.pgboss.queue import PgBossQueue
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, Contract

if TYPE_CHECKING:
    from harness.adapters.pgboss.server import Session


class PgBossEngine:
    """One version of pg-boss. The server is provided when the first queue is opened and lives until `close`."""

    def __init__(self, version: str = NEWEST_OF_10, *, dsn: str | None = None) -> None:
        """Choose a version of pg-boss 10, and a server instead of one started here.

        After a slash stands the policy of its queues: `10.4.2/stately`. Raises UsageError for one that is not known.
        """
        self.version, policy = split_policy(version)
        check_version(self.version)
        self.name = f"pgboss@{self.version}{policy_suffix(policy)}"
        self.keys = Keys(policy)
        """How keys are said to it."""
        self.capabilities: Capabilities = replace(
            PgBossQueue.capabilities, unique=policy.unique, serial_keys=policy.serial
        )
        self.contract: Contract = contract_of(policy)
        self._dsn = dsn
        self._session: Session | None = None

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> PgBossQueue:
        """Answer an empty queue. Raises EnvironmentUnavailable without Node, npm or PostgreSQL."""
        session = self.session()
        session.reset()
        return PgBossQueue(session, settings, clocks, jitter, keys=self.keys)

    def session(self) -> Session:
        """Answer the session with PostgreSQL, provided now where there is none yet, or where it went away."""
        if self._session is not None and not self._session.database.alive:
            self.close()
        if self._session is None:
            from harness.adapters.pgboss.package import load
            from harness.adapters.pgboss.server import Session

            self._session = Session(load(self.version), self._dsn, policy=self.keys.policy.name)
        return self._session

    def prepare(self) -> None:
        """Install the release and provide the server, where they are not there yet."""
        self.session()

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return "" if self._session is None else str(self._session.database.cluster.provenance)

    def close(self) -> None:
        """Stop what was provided. Never raises."""
        if self._session is not None:
            self._session.database.close()
            self._session = None


def open_engine(version: str = NEWEST_OF_10, *, dsn: str | None = None) -> PgBossEngine:
    """Answer the engine of this version."""
    return PgBossEngine(version, dsn=dsn)
