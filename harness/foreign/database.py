"""A database for another project's queue: we control its clock and its chance, and it is emptied between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg.rows import dict_row

from harness.errors import EnvironmentUnavailable
from harness.model.duration import MILLISECOND, SECOND, Instant
from harness.postgres import provision, virtual_chance, virtual_clock
from harness.postgres.absence import PatientConnection, judged

if TYPE_CHECKING:
    from harness.foreign.postgres_proxy import PostgresGates
    from harness.postgres import Cluster

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]

ORIGIN: Final = datetime(2030, 1, 1, tzinfo=UTC)
"""The instant 0 of every run, as PostgreSQL sees it."""
_ORIGIN_MS: Final = int(ORIGIN.timestamp()) * (SECOND // MILLISECOND)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST: Final[Instant] = (datetime(9999, 12, 31, 12, tzinfo=UTC) - ORIGIN) // _MICROSECOND
_VACUUM_EVERY: Final = 200
"""Resets: dead rows of runs before slow every scan of small tables."""


def timestamp_of(instant: Instant) -> datetime:
    """Return PostgreSQL's timestamp of an instant; from noon of the last day that Python knows it stands still."""
    return ORIGIN + timedelta(microseconds=min(instant, _LAST))


def instant_of(timestamp: datetime | None) -> Instant | None:
    """Return the instant of a timestamp."""
    return None if timestamp is None else (timestamp - ORIGIN) // _MICROSECOND


def milliseconds_of(instant: Instant) -> int:
    """Return what `Date.now()` says at an instant, on a peer whose clock is ours."""
    return _ORIGIN_MS + instant // MILLISECOND


def exact_milliseconds_of(instant: Instant) -> float:
    """Return what a peer's clock shows at an instant, microseconds as decimals."""
    return _ORIGIN_MS + instant / MILLISECOND


def instant_at(milliseconds: float) -> Instant:
    """Return the instant at which a peer's clock shows this; of whole milliseconds exactly."""
    return round((milliseconds - _ORIGIN_MS) * MILLISECOND)


class ForeignDatabase:
    """One database on a server provided once, and one session with it; parameters are `$1`, `$2`, ..."""

    def __init__(self, dsn: str | None = None) -> None:
        """Provision a PostgreSQL whose clock stands at the instant 0.

        Raises EnvironmentUnavailable where there is none, or where its clock cannot be made virtual.
        """
        self.cluster: Cluster = provision(dsn)
        self._now: Instant | None = None
        self._resets = 0
        try:
            self.url = self.cluster.create_database()
            self.connect()
            virtual_clock.install(self._own)
            virtual_chance.install(self._own)
            self.set_now(0)
        except BaseException:
            self.cluster.stop()
            raise

    @property
    def provenance(self) -> str:
        """Where the server came from and why."""
        return str(self.cluster.provenance)

    def connect(self) -> None:
        """Begin both sessions anew, and forget those before: in a forked child they are the parent's."""
        self._now = None
        self._session = PatientConnection.to(self.url, row_factory=dict_row, cursor_factory=psycopg.RawCursor)
        self._own = PatientConnection.to(self.url)

    def disconnect(self) -> None:
        """End both sessions and keep the database: forked children connect by themselves."""
        self._session.close()
        self._own.close()

    def gates(self) -> PostgresGates:
        """Return what gives every actor a session of its own."""
        from harness.foreign.postgres_proxy import PostgresGates

        self.let_transactions_stand()
        return PostgresGates(self.url)

    def let_transactions_stand(self) -> None:
        """Let now() stand still in a transaction that says when it began."""
        virtual_clock.let_transactions_stand(self._own)

    def check(self, *, allow: Sequence[str] = ()) -> None:
        """Prove that time moves everywhere in the schema as it stands now.

        Raises VirtualClockError with the objects that keep to the machine's time, those in `allow` left out.
        """
        virtual_clock.check(self._own, allow=allow)
        now, self._now = self._now, None
        self.set_now(now or 0)

    @property
    def alive(self) -> bool:
        """Whether neither session was seen to break."""
        return not (self._session.closed or self._session.broken or self._own.closed or self._own.broken)

    @property
    def now(self) -> Instant:
        """What the database's clock shows."""
        assert self._now is not None
        return self._now

    def confirm(self) -> None:
        """Look whether the server is there as it was, on a session as old as the database.

        Raises EnvironmentUnavailable where it is not.
        """
        self._own.confirm(tail=self.cluster.log_tail)

    def set_now(self, instant: Instant) -> None:
        """Move the database's clock, for every session."""
        if instant != self._now:
            self._guarded(lambda: virtual_clock.set_now(self._own, timestamp_of(instant)), "while time moved")
            self._now = instant

    def set_chance(self, fraction: float) -> None:
        """Say what random() answers from here on."""
        self._guarded(lambda: virtual_chance.set_next(self._own, fraction), "while chance was set")

    def run(self, text: bytes, parameters: Sequence[Any] | None = None, *, prepare: bool | None = None) -> list[Row]:
        """Run one statement, or with no parameters several, in transactions of their own.

        Raises EnvironmentUnavailable where PostgreSQL went away, and psycopg's errors for what it refused.
        """
        return self._guarded(lambda: self._run(text, parameters, prepare), f"during {_gist(text)!r}")

    def _run(self, text: bytes, parameters: Sequence[Any] | None, prepare: bool | None) -> list[Row]:
        try:
            cursor = self._session.execute(text, parameters, prepare=prepare)
        except psycopg.Error:
            if not self._session.closed and self._session.info.transaction_status:
                self._session.execute(b"ROLLBACK", prepare=False)
            raise
        return cursor.fetchall() if cursor.description else []

    def empty(self, *tables: str, as_new: bool = False) -> None:
        """Delete every row of these tables.

        `as_new`: and leave no room of theirs, so that rows lie as they would in new tables. SQL that sorts rows by less
        than all that tells them apart is answered in the order in which they lie.
        """
        self._guarded(lambda: self._empty(tables, as_new), "while the tables were emptied")

    def _empty(self, tables: Sequence[str], as_new: bool) -> None:
        self._session.execute("; ".join(f"DELETE FROM {table}" for table in tables).encode(), prepare=False)
        self._resets += 1
        if as_new or self._resets % _VACUUM_EVERY == 0:
            self._session.execute(f"VACUUM {', '.join(tables)}".encode(), prepare=False)

    def close(self) -> None:
        """End the sessions and what was provided for them. Never raises."""
        try:
            self._session.close()
            self._own.close()
            self.cluster.stop()
        except (psycopg.Error, OSError, EnvironmentUnavailable):
            return  # It is gone already, and its supervisor sees to the rest.

    def _guarded(self, work: Callable[[], T], when: str) -> T:
        try:
            return work()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            found = judged(error, when=when, cluster=self.cluster, broken=not self.alive)
            if found is error:
                raise
            raise found from error


def _gist(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())[:60]
