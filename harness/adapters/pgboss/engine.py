"""Opens pg-boss queues: `pgboss@10.4.2` is that version's own SQL on a PostgreSQL provided for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.adapters.pgboss.contract import contract_of
from harness.adapters.pgboss.keys import Keys
from harness.adapters.pgboss.package import NEWEST_OF_10
from harness.adapters.pgboss.policy import policy_suffix, split_policy
from harness.adapters.pgboss.queue import PgBossQueue
from harness.model.settings import Settings
from harness.port import Clocks, EngineInfo

if TYPE_CHECKING:
    from harness.adapters.pgboss.server import Session


class PgBossEngine:
    """One version of pg-boss. The server is provided when the first queue is opened and lives until `close`."""

    def __init__(self, version: str = NEWEST_OF_10, *, dsn: str | None = None) -> None:
        """Choose a version of pg-boss 10, and a server instead of one started here.

        After a slash stands the policy of its queues: `10.4.2/stately`. Raises UsageError for one that is not known.
        """
        self.version, policy = split_policy(version)
        self.keys = Keys(policy)
        """How keys are said to it."""
        self.info = EngineInfo(
            f"pgboss@{self.version}{policy_suffix(policy)}",
            replace(PgBossQueue.capabilities, unique=policy.unique, serial_keys=policy.serial),
            contract=contract_of(policy),
            prepare=self._prepare,
            provenance=self._provenance,
        )
        self._dsn = dsn
        self._session: Session | None = None

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> PgBossQueue:
        """Return an empty queue. Raises EnvironmentUnavailable without Node, npm or PostgreSQL."""
        session = self.session()
        session.reset()
        return PgBossQueue(session, settings, clocks, jitter, keys=self.keys)

    def session(self) -> Session:
        """Return the session with PostgreSQL, provided now where there is none yet, or where it went away."""
        if self._session is not None and not self._session.database.alive:
            self.close()
        if self._session is None:
            from harness.adapters.pgboss.package import load
            from harness.adapters.pgboss.server import Session

            self._session = Session(load(self.version), self._dsn, policy=self.keys.policy.name)
        return self._session

    def _prepare(self) -> None:
        self.session()

    def _provenance(self) -> str:
        return "" if self._session is None else str(self._session.database.cluster.provenance)

    def close(self) -> None:
        """Stop what was provided. Never raises."""
        if self._session is not None:
            self._session.database.close()
            self._session = None


def open_engine(version: str = NEWEST_OF_10, *, dsn: str | None = None) -> PgBossEngine:
    """Return the engine of this version."""
    return PgBossEngine(version, dsn=dsn)
