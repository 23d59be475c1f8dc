"""A PostgreSQL that answers, from any provider: databases are made and dropped here.

Knows SQL for databases as wholes; what is inside them is the business of `resetter` and
`virtual_clock`.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, LiteralString, Self
from urllib.parse import quote, unquote

from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.worlds.patience import Deadline

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

GENERATED_PREFIX = "job_harness_"
LOCK_SPACE = 0x6A6F62
"""The class of the advisory locks that mark a generated database as in use ("job")."""

CONNECT_SECONDS = "10"

GUEST = "job_harness_guest"
"""The role that carries out SQL of a user's file: it owns its database, and is nothing else on the server."""
_GUEST_SINCE = 15
"""The release from which on a superuser can grant what gating and resetting set for their sessions."""
_MAKE_GUEST: LiteralString = """
SELECT pg_advisory_xact_lock({space}, hashtext({role_name}));
DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {password};
GRANT SET ON PARAMETER deadlock_timeout, lc_messages, log_lock_waits, log_min_messages TO {role};
GRANT SET ON PARAMETER session_replication_role TO {role};
ALTER DATABASE {database} OWNER TO {role};
"""

_ABANDONED = """
SELECT datname FROM pg_database WHERE datname ~ %s AND pg_has_role(datdba, 'USAGE') AND NOT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = %s
    AND objid = (hashtext(datname::text)::bigint & 4294967295)::oid
)
"""

GONE_SECONDS = 0.5
"""How long sessions that were just closed may take to vanish; usually it is a few milliseconds."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A provider that was tried or looked at, and did not answer."""

    provider: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The provider that answered, in words that a run prints.

    `details` are short facts in display order (version, folder, privilege); `passed_over` are the providers
    before it, in the order in which they were tried.
    """

    provider: str
    reason: str
    details: tuple[tuple[str, str], ...] = ()
    passed_over: tuple[PassedOver, ...] = ()

    def __str__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.details)
        line = self.short + (f" ({facts})" if facts else "")
        skipped = ", ".join(f"{item.provider} ({item.reason})" for item in self.passed_over)
        return f"{line}; not used: {skipped}" if skipped else line

    @property
    def short(self) -> str:
        """The provider and why it was taken, without its details."""
        return f"PostgreSQL from {self.provider}: {self.reason}"


class Cluster:
    """A running PostgreSQL. Use it as a context manager, or let it end with the process.

    `provenance` says where it came from and why; callers print it.
    """

    def __init__(
        self,
        url: str,
        *,
        provenance: Provenance,
        end: Callable[[], None] | None = None,
        tcp_url: str | None = None,
        major_version: int | None = None,
        log_tail: Callable[[], str] | None = None,
    ) -> None:
        """Take over a server at `url`; `end` stops it, and None means that it is not ours to stop."""
        self.provenance = provenance
        self._url = url
        self._tcp_url = tcp_url
        self._end = end
        self._owner = os.getpid()
        self._stopped = False
        self._admin: psycopg.Connection[tuple[object, ...]] | None = None
        self._made: dict[str, str | None] = {}
        self._major_version = major_version
        self._log_tail = log_tail
        atexit.register(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_ours(self) -> bool:
        """Whether the server ends with this object. A server given by DSN goes on."""
        return self._end is not None

    @property
    def major_version(self) -> int:
        """The server's major version."""
        if self._major_version is None:
            self._major_version = self.admin().info.server_version // 10000
        return self._major_version

    def url(self, database: str | None = None, *, tcp: bool = False) -> str:
        """Give the connection string of `database` (default: the one that administers).

        `tcp=True` gives the one over loopback, for programs that cannot use a Unix socket; UsageError if the
        cluster was not provisioned with it.
        """
        base = self._tcp_url if tcp else self._url
        if base is None:
            raise UsageError(
                "this PostgreSQL listens on its Unix socket only",
                hint="Provision it with tcp=True.",
            )
        return base if database is None else _with_database(base, database)

    def log_tail(self) -> str:
        """The end of the server's log, where we have it."""
        return self._log_tail() if self._log_tail is not None else ""

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection in autocommit mode to the administrative database, opened once per process."""
        import psycopg

        self._refuse_stranger()
        if self._admin is None or self._admin.closed:
            try:
                self._admin = psycopg.connect(_bounded(self._url), autocommit=True)
            except psycopg.Error as error:
                raise self._lost(error) from error
        return self._admin

    def create_database(self, name: str | None = None, *, template: str | None = None) -> str:
        """Create a database and return its connection string; without `name`, under a name that is free.

        `template` names a database to clone, which must have no connections. UsageError if the name exists.
        """
        import psycopg
        from psycopg import sql

        name = GENERATED_PREFIX + secrets.token_hex(8) if name is None else name
        if name.startswith(GENERATED_PREFIX):  # also on a server of our own: others may be its guests by DSN, and sweep
            self._claim(name)
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            if self._wait_until_unused(template):
                # PostgreSQL itself would wait for five seconds before it says the same.
                raise self._in_use(template)
            if self.major_version >= 15:
                # WAL_LOG, the default, writes each page through the log: twice the time for a small database.
                statement += sql.SQL(" STRATEGY FILE_COPY")
        try:
            self._run(statement)
        except psycopg.errors.DuplicateDatabase:
            raise UsageError(f"database {name!r} exists already", hint="Choose another name, or none.") from None
        except psycopg.errors.InvalidCatalogName:
            raise UsageError(f"template database {template!r} does not exist", hint="Create it first.") from None
        except psycopg.errors.ObjectInUse as error:
            raise self._in_use(template) from error
        self._made[name] = template
        return self.url(name)

    def guest_url(self, name: str) -> str:
        """Give a database to a role that may run no program and open no file of the server; return where that connects.

        The role is shared by all who use the server, and so is its password: it follows from the
        one of this session. Before PostgreSQL 15 it would lack rights that are needed, and the
        connection string is the usual one.
        """
        from psycopg import sql
        from psycopg.conninfo import make_conninfo

        if self.major_version < _GUEST_SINCE:
            return self.url(name)
        password = hashlib.sha256(f"{GUEST} {self.admin().info.password}".encode()).hexdigest()
        values = {"space": LOCK_SPACE, "role_name": GUEST, "password": password}
        names = {"role": sql.Identifier(GUEST), "database": sql.Identifier(name)}
        self._run(sql.SQL(_MAKE_GUEST).format(**names, **{key: sql.Literal(value) for key, value in values.items()}))
        return make_conninfo(self.url(name), user=GUEST, password=password)

    def drop_database(self, name: str) -> int:
        """Drop a database if it exists; return how many sessions had to be ended for it.

        Sessions that were just closed get a moment to vanish: DROP right after close() sleeps for
        0.1 s.
        """
        from psycopg import sql

        left = self._wait_until_unused(name)
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._made.pop(name, None)
        if name.startswith(GENERATED_PREFIX):
            self._run("SELECT pg_advisory_unlock(%s, hashtext(%s))", [LOCK_SPACE, name])
        return left

    def recreate_database(self, name: str, *, template: str) -> int:
        """Replace a database by a fresh clone of `template`; return how many sessions were ended."""
        left = self.drop_database(name)
        self.create_database(name, template=template)
        return left

    def template_of(self, name: str) -> str | None:
        """The template that a database of this cluster was cloned from, if it was."""
        return self._made.get(name)

    def stop(self) -> None:
        """End what this object started: its server, or its databases on a server that it was given.

        Harmless when repeated, at exit, and in a forked child, which owns nothing.
        """
        if self._stopped or os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        try:
            if not self.is_ours:
                self._drop_own_databases()
        finally:
            self._stopped = True
            if self._admin is not None:
                self._admin.close()
            if self._end is not None:
                self._end()

    def sweep(self) -> list[str]:
        """Drop generated databases whose owner is gone without having dropped them; return their names.

        Only those that this role may drop. An owner holds an advisory lock as long as its
        administrative session lives. To take it says nothing of owners whose session is with
        another database, since each database has locks of its own; `pg_locks` shows all of them.
        """
        pattern = f"^{GENERATED_PREFIX}[0-9a-f]{{16}}(_[a-z]+)?$"  # with what is named after one, such as its clone
        rows = self._run(_ABANDONED, [pattern, LOCK_SPACE]).fetchall()
        dropped = []
        for name in (str(row[0]) for row in rows):
            if name not in self._made and self._claim(name):
                self.drop_database(name)
                dropped.append(name)
        return dropped

    def _claim(self, name: str) -> bool:
        row = self._run("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [LOCK_SPACE, name]).fetchone()
        return row is not None and bool(row[0])

    def _drop_own_databases(self) -> None:
        import psycopg

        try:
            for name in list(self._made):
                self.drop_database(name)
        except (psycopg.Error, EnvironmentUnavailable):
            return  # The server is gone: so is our claim on it, and the next run sweeps.

    def _wait_until_unused(self, name: str) -> int:
        deadline = Deadline(GONE_SECONDS)
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
        while True:
            row = self._run(query, [name]).fetchone()
            left = int(str(row[0])) if row is not None else 0
            if left == 0 or deadline.passed:
                return left
            deadline.pause()

    def _run(
        self, statement: LiteralString | sql.SQL | sql.Composed, values: Sequence[object] = ()
    ) -> psycopg.Cursor[tuple[object, ...]]:
        import psycopg

        try:
            return self.admin().execute(statement, values or None)
        except psycopg.errors.DiskFull as error:
            raise EnvironmentUnavailable(
                f"PostgreSQL has no room left: {error}",
                hint="Drop databases that are no longer used, or set TMPDIR to a larger folder.",
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise EnvironmentUnavailable(
                f"this PostgreSQL role may not do that: {error}",
                hint="Give it CREATEDB, or leave JOB_HARNESS_DSN unset and let a PostgreSQL be started.",
            ) from error
        except psycopg.OperationalError as error:
            # A session outlives its killed server for a moment and misses the files that went with it.
            gone = (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.UndefinedFile)
            if isinstance(error, gone) or (self._admin is not None and self._admin.closed):
                raise self._lost(error) from error
            raise

    def _in_use(self, template: str | None) -> UsageError:
        return UsageError(f"template database {template!r} is in use", hint="Close the connections to it first.")

    def _lost(self, error: Exception) -> EnvironmentUnavailable:
        tail = self.log_tail()
        return EnvironmentUnavailable(
            f"PostgreSQL does not answer any more: {error}" + (f"\n{tail}" if tail else ""),
            hint="It was stopped or killed while in use; provision a new one.",
        )

    def _refuse_stranger(self) -> None:
        if self._stopped:
            raise UsageError("this PostgreSQL was stopped", hint="Provision a new one.")
        if os.getpid() != self._owner:
            raise UsageError(
                "this PostgreSQL belongs to the process that forked this one",
                hint="Hand its url() to the child, and provision(dsn=...) there.",
            )


def _bounded(url: str) -> str:
    """Give up on a server that accepts and never speaks, after 10 s unless the connection string says otherwise."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    given = conninfo_to_dict(url)
    given.setdefault("connect_timeout", os.environ.get("PGCONNECT_TIMEOUT", CONNECT_SECONDS))
    return make_conninfo("", **given)


_URL = re.compile(r"\w+://(?P<authority>([^@/]*@)?[^/?]*)(/[^?]*)?(\?(?P<parameters>.*))?", re.DOTALL)
"""A connection string as libpq reads it: a password may hold `?`, `#` and brackets, which `urlsplit` takes for more."""


def _with_database(url: str, database: str) -> str:
    """Put another database into a connection string, of either form that libpq knows, whatever names the one in it."""
    if (found := _URL.fullmatch(url)) is not None:
        parameters = (found["parameters"] or "").split("&")
        others = [each for each in parameters if each and unquote(each.partition("=")[0]) != "dbname"]
        return f"postgresql://{found['authority']}/{quote(database)}{'?' * bool(others)}{'&'.join(others)}"
    from psycopg.conninfo import make_conninfo

    return make_conninfo(url, dbname=database)
