"""Asks PostgreSQL, from a session of its own, who waits for whom, and ends sessions. Knows no actors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import psycopg

from harness.errors import EnvironmentUnavailable, UsageError
from harness.postgres.patience import Deadline

OLDEST: Final = 140000
"""Of the versions that PostgreSQL maintains."""
_WAITING: Final = "SELECT pid, pg_blocking_pids(pid) FROM pg_locks WHERE NOT granted AND pid = ANY(%s)"
_DOING: Final = (
    "SELECT concat_ws(' ', state, 'and waits for ' || wait_event_type || ': ' || wait_event) "
    "FROM pg_stat_activity WHERE pid = %s"
)
_ADVISORY: Final = (
    "SELECT pid, count(*) FROM pg_locks WHERE granted AND locktype = 'advisory' AND pid = ANY(%s) GROUP BY 1"
)
GONE_SECONDS: Final = 10.0
"""How long a session that was ended may take to vanish; usually it is a millisecond."""


class LockMonitor:
    """One connection that never waits for a lock itself."""

    def __init__(self, url: str) -> None:
        """Connect to the database at `url`; raises psycopg's error where it cannot, UsageError where it is too old."""
        self._connection: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        version = self._connection.info.server_version
        if version < OLDEST:
            self._connection.close()
            raise UsageError(
                f"statement gating needs PostgreSQL 14 or newer; this one is {version // 10000}",
                hint="Choose the engine 'postgres', which keeps to one session.",
            )

    @property
    def pid(self) -> int:
        """The server's process behind this session."""
        return self._connection.info.backend_pid

    def waiting(self, pids: Iterable[int]) -> Mapping[int, tuple[int, ...]]:
        """Answer which of these sessions wait for a lock, and for whose."""
        return {pid: tuple(blockers) for pid, blockers in self._ask(_WAITING, [list(pids)])}

    def doing(self, pid: int) -> str:
        """Say in words what a session is doing now."""
        rows = self._ask(_DOING, [pid])
        return str(rows[0][0]) if rows else "gone"

    def advisory_locks(self, pids: Iterable[int]) -> Mapping[int, int]:
        """Answer how many advisory locks each of these sessions holds, where it holds any."""
        return dict(self._ask(_ADVISORY, [list(pids)]))

    def may_set(self, setting: str, value: str) -> bool:
        """Say whether this role may set a setting for its sessions."""
        try:
            self._connection.execute("SELECT set_config(%s, %s, false)", [setting, value])
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    def seconds(self, setting: str) -> float:
        """Read a setting that is a length of time."""
        rows = self._ask("SELECT extract(epoch FROM current_setting(%s)::interval)", [setting])
        return float(rows[0][0])

    def end(self, pid: int) -> None:
        """End a session and wait until its locks are free.

        Raises EnvironmentUnavailable where it does not end.
        """
        deadline = Deadline(GONE_SECONDS)
        while self._ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s", [pid]):
            if deadline.passed:
                raise EnvironmentUnavailable(
                    f"PostgreSQL's session {pid} did not end within {GONE_SECONDS:g} s of being told to",
                    hint="Look at it in pg_stat_activity; provision a new PostgreSQL.",
                )
            deadline.pause(0.0005)

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def _ask(self, query: str, values: list[Any]) -> list[Any]:
        try:
            return self._connection.execute(query.encode(), values).fetchall()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise EnvironmentUnavailable(
                f"PostgreSQL went away while statements were gated: {' '.join(str(error).split())}",
                hint="It was stopped or killed while in use: nothing can be said about this run. Start it again.",
            ) from error
