"""The database behind pg-boss: its schema made by its own statements, which are run by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from harness.adapters.pgboss.package import SCHEMA, Package
from harness.foreign.database import ForeignDatabase, Row
from harness.model.duration import Instant

_TABLES: Final = (f"{SCHEMA}.job", f"{SCHEMA}.archive")
_COLUMNS: Final = (
    "id, name, data, state, priority, retry_limit, retry_count, start_after, started_on, expire_in, singleton_key, "
    "created_on, completed_on, output, dead_letter"
)
_LOOK: Final = " UNION ALL ".join(f"SELECT {_COLUMNS} FROM {table}" for table in _TABLES).encode()


class Session:
    """pg-boss's statements on a database of its own."""

    def __init__(self, package: Package, dsn: str | None = None, *, policy: str = "standard") -> None:
        """Let pg-boss's own statements create its schema; every queue will have this policy.

        Raises EnvironmentUnavailable where there is no PostgreSQL, or where its clock cannot be made virtual.
        """
        self.database = ForeignDatabase(dsn)
        self._options = json.dumps({"policy": policy})
        self._queues: set[str] = set()
        """Queues that exist: their partitions outlive a reset."""
        self._statements = {name: text.encode() for name, text in package.statements.items() if text}
        try:
            self.database.run(self._statements["create"])
            self.database.check()
        except BaseException:
            self.database.close()
            raise

    def has(self, name: str) -> bool:
        """Whether this version of the library has a statement of this name."""
        return name in self._statements

    def run(self, name: str, parameters: Sequence[Any] | None = None, *, now: Instant) -> list[Row]:
        """Run one statement by name; `expire`, `archive` and `drop` bring their own transaction.

        Raises EnvironmentUnavailable where PostgreSQL went away, and psycopg's errors for what it refused.
        """
        self.database.set_now(now)
        return self.database.run(self._statements[name], parameters, prepare=parameters is not None)

    def rows(self) -> list[Row]:
        """Read all jobs, archived ones too, oldest first."""
        return self.database.run(_LOOK + b" ORDER BY created_on, id", prepare=True)

    def create_queue(self, name: str, *, now: Instant) -> None:
        """Create a queue and its partition, once."""
        if name not in self._queues:
            self.run("create_queue", [name, self._options], now=now)
            self._queues.add(name)

    def reset(self) -> None:
        """Delete every job; queues stay."""
        self.database.empty(*_TABLES)
