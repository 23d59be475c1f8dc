"""What each version of pg-boss keeps in its tables, read as one shape. Knows no verbs."""

from __future__ import annotations

from typing import Final

from harness.adapters.pgboss.package import SCHEMA
from harness.foreign.database import ForeignDatabase, Row

FORWARDING: Final = "__pgboss__send-it"
"""A queue of pg-boss's own: jobs of schedules go through it."""
_COMMON: Final = (
    "id, name, data, state, priority, retry_limit, retry_count, start_after, started_on, singleton_key, created_on, "
    "completed_on, output, dead_letter"
)
_LEASES: Final = {
    "expire_in": "expire_in",
    "heartbeat_seconds": (
        "LEAST(started_on + make_interval(secs => expire_seconds), "
        "heartbeat_on + make_interval(secs => heartbeat_seconds)) - started_on AS expire_in"
    ),
    "expire_seconds": "make_interval(secs => expire_seconds) AS expire_in",
}
"""A column that a version has -> how long a claim of its lasts from its start; the first that is there counts."""
_COLUMNS: Final = b"""
SELECT attname AS column FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""


class Tables:
    """The tables of one installed version."""

    def __init__(self, database: ForeignDatabase) -> None:
        self._database = database
        columns = self._columns("job")
        self.heartbeats = "heartbeat_seconds" in columns
        """Whether a claim can be extended."""
        self.keeps_queues = bool(self._columns("archive"))
        """Version 10: a queue is a partition, dear to make, and has no state of its own."""
        lease = next(text for column, text in _LEASES.items() if column in columns)
        group = ", group_id" if "group_id" in columns else ""
        names = [f"{SCHEMA}.{name}" for name in ("job", "archive") if self._columns(name)]
        own = f"name <> '{FORWARDING}'"
        look = " UNION ALL ".join(f"SELECT {_COMMON}, {lease}{group} FROM {name} WHERE {own}" for name in names)
        self._look = f"{look} ORDER BY created_on, id".encode()
        self.keyed_schedules = "key" in self._columns("schedule")
        """From 11 on a queue may have several schedules."""
        self._emptied = [*names, f"{SCHEMA}.schedule", *([] if self.keeps_queues else [f"{SCHEMA}.queue"])]
        stamps = [name for name in sorted(self._columns("queue")) if name.startswith(("monitor_", "maintain_"))]
        stamps = [name for name in stamps if name.endswith("_on")]
        opened = ", ".join(f"{name} = NULL" for name in stamps)
        self._open_gates = f"UPDATE {SCHEMA}.queue SET {opened}".encode() if stamps else b""

    def _columns(self, table: str) -> frozenset[str]:
        rows = self._database.run(_COLUMNS, [f"{SCHEMA}.{table}"])
        return frozenset(row["column"] for row in rows)

    def jobs(self) -> list[Row]:
        """Read all jobs, archived ones too, oldest first."""
        return self._database.run(self._look, prepare=True)

    def open_gates(self) -> None:
        """Let the next supervision look at every queue, however short ago the last one was."""
        if self._open_gates:
            self._database.run(self._open_gates, prepare=True)

    def open_cron_gate(self) -> None:
        """Let the next look at schedules be made, however short ago the last one was, and whoever made it."""
        self._database.run(f"UPDATE {SCHEMA}.version SET cron_on = NULL".encode(), prepare=True)

    def empty(self) -> None:
        """Delete every job and every schedule."""
        self._database.empty(*self._emptied, as_new=True)
