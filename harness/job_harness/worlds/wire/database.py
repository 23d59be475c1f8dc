"""A database for another project's queue: we control its clock and its chance, and it is emptied between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg.rows import dict_row

from job_harness.core.model import MILLISECOND, SECOND, Instant
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.postgres import provision, virtual_chance, virtual_clock
from job_harness.worlds.postgres.absence import PatientConnection, classify_error
from job_harness.worlds.postgres.cluster import GUEST
from job_harness.worlds.postgres.pipeline import PreparedQuery, StatementPipeline
from job_harness.worlds.postgres.pipeline import Row as Row

if TYPE_CHECKING:
    from job_harness.worlds.postgres import Cluster
    from job_harness.worlds.wire.postgres_proxy import PostgresGates

T = TypeVar("T")

ORIGIN: Final = datetime(2030, 1, 1, tzinfo=UTC)
"""The instant 0 of every run, as PostgreSQL sees it."""
_ORIGIN_MS: Final = int(ORIGIN.timestamp()) * (SECOND // MILLISECOND)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST: Final[Instant] = (datetime(9999, 12, 31, 12, tzinfo=UTC) - ORIGIN) // _MICROSECOND
_HAND_OVER: Final = f"""
ALTER SCHEMA public OWNER TO {GUEST};
UPDATE pg_catalog.pg_extension SET extowner = '{GUEST}'::regrole
""".encode()
"""What pg_dump writes about both needs their owner. The database is dropped as a whole, so no dependency is missed."""
_VACUUM_EVERY: Final = 200
"""Resets: dead rows of runs before slow every scan of small tables."""


def extension_hint(error: psycopg.Error) -> str:
    """Return what to do where a server lacks an extension; "" where an error says something else."""
    said = error.diag.message_primary or ""
    if said.startswith("permission denied to create extension"):
        return (
            "Only a superuser may make it, and the SQL of a file is carried out by a role that is none. Leave the line "
            "out, or name a server by JOB_HARNESS_DSN whose template1 has it, and write IF NOT EXISTS."
        )
    if not (said.startswith("extension ") and said.endswith(" is not available")):
        return ""
    return (
        "The PostgreSQL of this run does not have it. If gen_random_uuid() is all that is wanted, leave the line out: "
        "that needs no extension. Otherwise name a server that has it by JOB_HARNESS_DSN."
    )


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

        Raises EnvironmentUnavailable if there is none, or where its clock cannot be made virtual.
        """
        self.cluster: Cluster = provision(dsn)
        self._now: Instant | None = None
        self._resets = 0
        self.revision = 0
        """Rises whenever something is sent over its session."""
        try:
            self.url = self.cluster.create_database()
            self.connect()
            virtual_clock.install(self._own)
            virtual_chance.install(self._own)
            self.set_now(0)
        except BaseException:
            self.cluster.stop()
            raise

    def guest_url(self) -> str:
        """Give the database to a role that is no superuser, for SQL of a user's file; return where that connects."""
        url = self.cluster.guest_url(self._own.info.dbname)
        if psycopg.conninfo.conninfo_to_dict(url)["user"] == GUEST:
            self._own.execute(_HAND_OVER)
        return url

    @property
    def provenance(self) -> str:
        """Where the server came from and why."""
        return str(self.cluster.provenance)

    def connect(self) -> None:
        """Begin both sessions anew, and forget those before: in a forked child they are the parent's."""
        self._now = None
        self._chance: float | None = None
        self._session = PatientConnection.to(self.url, row_factory=dict_row, cursor_factory=psycopg.RawCursor)
        self._own = PatientConnection.to(self.url)
        self._pipeline, self._clock = StatementPipeline(self._session), StatementPipeline(self._own)

    def disconnect(self) -> None:
        """End both sessions and keep the database: forked children connect by themselves."""
        self._session.close()
        self._own.close()

    def gates(self) -> PostgresGates:
        """Return what gives every actor a session of its own."""
        from job_harness.worlds.wire.postgres_proxy import PostgresGates

        self.let_transactions_stand()
        return PostgresGates(self.url)

    def let_transactions_stand(self) -> None:
        """Let now() stand still in a transaction that says when it began."""
        virtual_clock.let_transactions_stand(self._own)

    def check(self) -> None:
        """Prove that time moves everywhere in the schema as it stands now.

        Raises VirtualClockError with the objects that keep to the machine's time.
        """
        virtual_clock.check(self._own)
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
            self._guarded(lambda: self._clock.run(_clock_at(instant)), "while time moved")
            self._now = instant

    def set_chance(self, fraction: float) -> None:
        """Say what random() answers from here on."""
        if fraction != self._chance:
            told = PreparedQuery(virtual_chance.SET_NEXT, [virtual_chance.parts_of(fraction)])
            self._guarded(lambda: self._clock.run(told), "while chance was set")
            self._chance = fraction

    def run(self, text: bytes, parameters: Sequence[Any] | None = None, *, prepare: bool | None = None) -> list[Row]:
        """Run one statement, or with no parameters several, in transactions of their own.

        Raises EnvironmentUnavailable where PostgreSQL went away, and psycopg's errors for what it
        refused.
        """
        if prepare:
            return self.together(PreparedQuery(text, parameters or ()))[0]
        return self._guarded(lambda: self._run(text, parameters, prepare), text)

    def look(self, text: bytes) -> list[Row]:
        """Read rows again and again: one that is as it was the last time is the same object."""
        return self.together(PreparedQuery(text, kept=True))[0]

    def together(self, *queries: PreparedQuery, now: Instant | None = None) -> list[list[Row]]:
        """Run prepared statements in one round trip and, unless one is open, one transaction; at `now`, where given.

        Raises EnvironmentUnavailable where PostgreSQL went away, and psycopg's errors for what it
        refused.
        """
        moved = [] if now is None or now == self._now else [_clock_at(now)]
        if moved:
            self._now = None  # Where it raises, it is unknown what was done.
        run = partial(self._pipeline.run, *moved, *queries)
        self.revision += 1
        rows = self._guarded(lambda: self._rolled_back(run), queries[0].text)
        self._now = now if moved else self._now
        return rows[len(moved) :]

    def _run(self, text: bytes, parameters: Sequence[Any] | None, prepare: bool | None) -> list[Row]:
        self.revision += 1
        cursor = self._rolled_back(lambda: self._session.execute(text, parameters, prepare=prepare))
        return cursor.fetchall() if cursor.description else []

    def _rolled_back(self, work: Callable[[], T]) -> T:
        """Do something, and end the transaction that it leaves open where it raises."""
        try:
            return work()
        except psycopg.Error:
            if not self._session.closed and self._session.info.transaction_status:
                self._session.execute(b"ROLLBACK", prepare=False)
            raise

    def empty(self, *tables: str, as_new: bool = False) -> None:
        """Delete every row of these tables.

        `as_new`: and leave no room of theirs, so that rows lie as they would in new tables. SQL that sorts rows by less
        than all that tells them apart is answered in the order in which they lie.
        """
        self._guarded(lambda: self._empty(tables, as_new), "while the tables were emptied")

    def _empty(self, tables: Sequence[str], as_new: bool) -> None:
        self.revision += 1
        deletions = [PreparedQuery(f"DELETE FROM {table}".encode()) for table in tables]
        self._pipeline.run(PreparedQuery(virtual_chance.FIRST_UUID), *deletions)
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

    def _guarded(self, work: Callable[[], T], doing: str | bytes) -> T:
        """Do something, `doing` in words, or by the statement that is sent."""
        try:
            return work()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            when = doing if isinstance(doing, str) else f"during {_gist(doing)!r}"
            found = classify_error(error, when=when, cluster=self.cluster, broken=not self.alive)
            if found is error:
                raise
            raise found from error


def _clock_at(instant: Instant) -> PreparedQuery:
    return PreparedQuery(virtual_clock.SET_NOW, [virtual_clock.microseconds_of(timestamp_of(instant))])


def _gist(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())[:60]
