"""A read replica of a database: the database itself, read only, which for a while is shown as it once was.

While it lags, each transaction on it has the snapshot that was taken before the commit at which the lag began
(`pg_export_snapshot`, in PostgreSQL's manual under "Snapshot Synchronization Functions"). Not as on a server in
recovery: `pg_is_in_recovery()` is false, and nothing is cancelled for a conflict. Must not know: sessions, processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from job_harness.worlds.postgres.absence import PatientConnection

if TYPE_CHECKING:
    from job_harness.core.model import Instant

READ_ONLY: Final = "-c default_transaction_read_only=on"
"""The option with which sessions on it are opened."""


class Replica:
    """What a replica shows, from one run to the next."""

    def __init__(self, variable: str) -> None:
        """Let processes find its URL in the environment variable `variable`."""
        self.variable = variable
        self._holder: PatientConnection | None = None
        """Keeps the snapshot of the past for others to take."""
        self._snapshot = ""
        self._until: Instant = 0

    @staticmethod
    def called(database: str) -> str:
        """Return the name by which sessions on it are asked for."""
        return f"{database}_replica"

    def fall_behind(self, url: str, *, until: Instant) -> None:
        """Show until then what is committed now in the database at `url`."""
        self.catch_up()
        self._holder = PatientConnection.to(url)
        self._holder.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = self._holder.execute(b"SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        self._snapshot, self._until = str(row[0]), until

    def lags(self, now: Instant) -> bool:
        """Say whether it shows the past."""
        if self._holder is not None and now >= self._until:
            self.catch_up()
        return self._holder is not None

    def past(self, now: Instant) -> str:
        """Return what lets a transaction that has just begun see what it shows; empty: all that is committed."""
        if not self.lags(now):
            return ""
        return f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{self._snapshot}'; "

    def catch_up(self) -> None:
        """Show all that is committed again."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None
