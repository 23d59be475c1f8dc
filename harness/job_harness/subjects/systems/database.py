"""The database of a system: migrated once, cloned for each run, with a clock and chance of ours.

What the user's own migration and processes send comes over the wire, so CURRENT_TIMESTAMP and its
kin, which no function stands behind, are written anew there (`on_virtual_time`);
`virtual_clock.check` proves that nothing is left. Must not know: processes, jobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import psycopg
import psycopg.sql
from psycopg.rows import dict_row

from job_harness.core.model import Duration, Instant
from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.systems.document import ASKED, JOB, UNPLANNED
from job_harness.worlds.postgres import Cluster, provision, virtual_chance, virtual_clock
from job_harness.worlds.postgres.absence import PatientConnection
from job_harness.worlds.postgres.gating import SessionPool
from job_harness.worlds.sql import substitute
from job_harness.worlds.wire.database import timestamp_of
from job_harness.worlds.wire.postgres_proxy import Backends
from job_harness.worlds.wire.replica import Replica

# SQL on virtual time --------------------------------------------------------------------------------------------------


_KEYWORD: Final = re.compile(
    r"(?P<word>current_timestamp|current_date|current_time|localtimestamp|localtime)\b(?:\s*\(\s*(?P<digits>\d)\s*\))?",
    re.IGNORECASE,
)
_CASTS: Final = {
    "current_timestamp": ("now()", "timestamptz"),
    "current_date": ("now()::date", ""),
    "current_time": ("now()::timetz", "timetz"),
    "localtimestamp": ("now()::timestamp", "timestamp"),
    "localtime": ("now()::time", "time"),
}
"""By keyword, what means the same and is a function; and of what type a precision makes it."""


def on_virtual_time(sql: str) -> str:
    """Write CURRENT_TIMESTAMP and its kin as calls of now(), which follows a virtual clock.

    Text in quotes and comments stays; bodies in dollar quotes are code, and are written anew too.
    """
    return sql if _HINT.search(sql) is None else substitute(sql, _KEYWORD, _written_anew)


_HINT: Final = re.compile(r"current_(?:time|date)|localtime", re.IGNORECASE)


def _written_anew(found: re.Match[str]) -> str:
    call, kind = _CASTS[found["word"].lower()]
    return f"({call}::{kind}({found['digits']}))" if found["digits"] and kind else f"({call})" if "::" in call else call


# chance --------------------------------------------------------------------------------------------------------------


_CHANCE: Final = f"""
CREATE SCHEMA job_harness_chance;
CREATE SEQUENCE job_harness_chance.drawn;
GRANT USAGE ON SCHEMA job_harness_chance TO PUBLIC;
GRANT SELECT, UPDATE, USAGE ON SEQUENCE job_harness_chance.drawn TO PUBLIC;
CREATE FUNCTION job_harness_chance.draw() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.md5('job harness ' OPERATOR(pg_catalog.||)
        pg_catalog.nextval('job_harness_chance.drawn')::pg_catalog.text)
$$;
ALTER FUNCTION pg_catalog.random() RENAME TO job_harness_real_random;
CREATE FUNCTION pg_catalog.random() RETURNS double precision LANGUAGE sql VOLATILE AS $$
    SELECT ('x' OPERATOR(pg_catalog.||) pg_catalog.left(job_harness_chance.draw(), 8))::pg_catalog.bit(32)::bigint
        OPERATOR(pg_catalog./) 4294967296::double precision
$$;
{virtual_chance.uuids_from("job_harness_chance.draw()")}"""


class SystemDatabase:
    """A template that the migration made, and one clone of it at a time."""

    RUN: Final = "job_harness_run"

    def __init__(self, dsn: str | None = None, *, tcp: bool = False, replica: str = "") -> None:
        """Provision a PostgreSQL with an empty database, whose clock stands at the instant 0; `tcp`: over loopback too.

        `replica`: the variable in which processes find a replica, where there is one.

        Raises EnvironmentUnavailable if there is none, or where its clock cannot be made virtual.
        """
        self.cluster: Cluster = provision(dsn, tcp=tcp)
        self._own: psycopg.Connection[dict[str, Any]] | None = None
        self._now: Instant | None = None
        self.replica = Replica(replica) if replica else None
        self._next = ""
        """The number that the next transaction that writes will have."""
        try:
            self.template_url = self.cluster.create_database()
            self.template = str(psycopg.conninfo.conninfo_to_dict(self.template_url)["dbname"])
            self.name = f"{self.template}_run"
            self.pool = SessionPool(self.cluster.url())
            self.backends = Backends()
            self._install()
        except BaseException:
            self.cluster.stop()
            raise

    def _install(self) -> None:
        with PatientConnection.to(self.template_url) as own:
            virtual_clock.install(own)
            virtual_clock.let_transactions_stand(own)
            virtual_clock.set_now(own, timestamp_of(0))
            with own.transaction():
                own.execute(b"SET LOCAL allow_system_table_mods = on")
                own.execute(_CHANCE.encode())

    def prove(self) -> None:
        """Prove that all that the migration made follows the clock. Raises VirtualClockError with what does not."""
        with PatientConnection.to(self.template_url) as own:
            virtual_clock.check(own)
            virtual_clock.set_now(own, timestamp_of(0))

    # one run --------------------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Put a fresh clone of the template in place of the run before."""
        self.leave()
        self.backends.clear()
        self.cluster.recreate_database(self.name, template=self.template)
        self._own = PatientConnection.to(self.cluster.url(self.name), row_factory=dict_row)
        self._now = 0

    @property
    def replica_may_lag(self) -> bool:
        """Whether it has a replica, and that is up to date."""
        return self.replica is not None and not self.replica.lags(self._now or 0)

    def let_replica_lag(self, length: Duration) -> None:
        """Let the replica show for so long what is committed now."""
        assert self.replica is not None
        assert self._now is not None
        self.replica.fall_behind(self.cluster.url(self.name), until=self._now + length)

    def leave(self) -> None:
        """End our own sessions with the clone."""
        if self.replica is not None:
            self.replica.catch_up()
        if self._own is not None:
            self._own.close()
            self._own = None

    def set_now(self, instant: Instant) -> None:
        """Move the clock."""
        if instant != self._now:
            assert self._own is not None
            virtual_clock.set_now(self._own, timestamp_of(instant))
            self._now = instant

    def wrote(self, *, told: bool | None = None) -> bool:
        """Whether a transaction has written, or locked a row to write it, since this was last asked.

        Where the session has `told` already, what it wrote must not count for the next statement as
        well.
        """
        if told is False:
            return False
        found = self.rows("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next")[0]["next"]
        before, self._next = self._next, found
        return told or bool(before != found)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Run a SELECT of ours. Raises psycopg's errors for what PostgreSQL refuses."""
        assert self._own is not None
        return self._own.execute(sql.encode()).fetchall()

    def columns(self, sql: str) -> list[str]:
        """Return the names of what a SELECT of ours shows. Raises psycopg's errors for what PostgreSQL refuses."""
        assert self._own is not None
        return [column.name for column in self._own.execute(sql.encode()).description or ()]

    def send(self, sql: str, job: str, **asked: Any) -> Any:
        """Run the statement that inserts a job, with its name in place of `${job}`; return its first column.

        What it asks for stands in place of the others. None: it returns none. Raises psycopg's
        errors for what PostgreSQL refuses.
        """
        assert self._own is not None
        text, asked = on_virtual_time(sql), {**UNPLANNED, **asked}
        for variable, value in {JOB: job, **{word: asked.get(name) for word, name in ASKED.items()}}.items():
            text = text.replace(variable, psycopg.sql.Literal(value).as_string(self._own))
        cursor = self._own.execute(text.encode())
        row = cursor.fetchone() if cursor.description else None
        return None if row is None else next(iter(row.values()))

    def confirm(self) -> None:
        """Look whether the server is there as it was. Raises EnvironmentUnavailable where it is not."""
        if self._own is not None:
            self._own.confirm(tail=self.cluster.log_tail)  # type: ignore[attr-defined]

    def close(self) -> None:
        """End the sessions and what was provided for them. Never raises."""
        try:
            self.leave()
            self.backends.clear()
            self.pool.close()
            self.cluster.stop()
        except (psycopg.Error, OSError, EnvironmentUnavailable):
            return  # It is gone already, and its supervisor sees to the rest.


def keywords() -> Iterator[str]:
    """List the keywords that are written anew."""
    yield from _CASTS
