"""The database that a queue file runs in: its schema put in place, its verbs carried out, its rows seen.

Never the user's own: a new database on a server that is provisioned for it, with a clock that is
ours. Every error that PostgreSQL has with the file's SQL is told with the line of the file. Knows
no actor and no run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import psycopg
from psycopg import pq
from psycopg.rows import dict_row

from job_harness.core.invariants.rows import NoRowPromise, words_of
from job_harness.core.model import Instant
from job_harness.core.port import Sent
from job_harness.engines.queue_file.document import QueueFile
from job_harness.engines.queue_file.rows import INSTANTS, columns_of
from job_harness.engines.queue_file.statement import QueueFileError, SqlSource, Statement, loadable
from job_harness.engines.queue_file.verbs import VerbResult, parameters, stops
from job_harness.errors import EnvironmentUnavailable, did_you_mean
from job_harness.worlds.postgres import Resetter
from job_harness.worlds.postgres.cluster import GUEST
from job_harness.worlds.postgres.virtual_clock import VirtualClockError
from job_harness.worlds.sql import words
from job_harness.worlds.wire.database import ForeignDatabase, extension_hint

PATIENCE_MS: Final = 5_000
"""Milliseconds of real time that a statement may take while no other session is at work."""
_SETTINGS: Final = "SET statement_timeout = {}; SET TimeZone = 'UTC'; SET plan_cache_mode = force_custom_plan"
SESSION_SETTINGS: Final = "SET TimeZone = 'UTC'; SET plan_cache_mode = force_custom_plan"
"""What an actor's own session runs first."""
_TYPES: Final[Mapping[str, int]] = {"timestamptz": 1184, "interval": 1186, "int8": 20, "float8": 701, "bool": 16}


class QueueDatabase:
    """One database, empty but for the schema of a queue file; `columns` are those that `jobs` shows."""

    def __init__(
        self,
        file: QueueFile,
        *,
        dsn: str | None = None,
        schema: Sequence[SqlSource] = (),
        patience_ms: int = PATIENCE_MS,
    ) -> None:
        """Provision it, and make the tables of `schema`; no statement may take longer than `patience_ms`, real time.

        Raises EnvironmentUnavailable where there is no PostgreSQL, QueueFileError with `file:line`
        where the schema does not load or a statement cannot be prepared.
        """
        self.file = file
        self.foreign = ForeignDatabase(dsn)
        self.tells_twice = any("conflict" in words(each.source.text) for each in file.verbs["enqueue"])
        """Whether enqueue puts in no second row for a job: a trial of it may show that it does."""
        self._held: list[Any] = []
        """What is closed with it."""
        self._counted: Mapping[str, int] = {}
        """By table, the changes that PostgreSQL had counted when the verb began that is watched."""
        try:
            self.foreign.let_transactions_stand()
            self.url = self.foreign.guest_url()
            """Where the SQL of the file is carried out, in actors' own sessions too: as a role that is no superuser."""
            self._patience_ms = patience_ms
            self._session = self._connected()
            for source in schema:
                self._load(source)
            self._keep_the_search_path()
            self._session = self._connected()
            self._prove_the_clock()
            self._resetter = Resetter(self.foreign.cluster, self._session.info.dbname, url=self.url)
            self._held.append(self._resetter)
            self._seeds = self._resetter.filled()
            self.tables: tuple[str, ...] = tuple(t for t in self._resetter.tables if t not in self._seeds)
            """What is emptied between runs; a table with rows of the schema's own stays as it is."""
            self.quoted: tuple[str, ...] = tuple(map(_quoted, self.tables))
            """The same, as SQL names them."""
            self._vacuum = f"VACUUM {', '.join(self.quoted)}".encode()
            self._refuse_tables()
            self.columns: frozenset[str] = self._prepared()
            self.origins: Mapping[str, tuple[int, int]] = self._origins()
            """By column of `jobs`, the table (its oid) and the column of that (its number) which it is read from."""
        except BaseException:
            self.close()
            raise

    @property
    def overdue(self) -> str:
        """Say that a statement took too long."""
        return f"it did not end within {self._patience_ms / 1000:g} s"

    @property
    def session(self) -> psycopg.Connection[dict[str, Any]]:
        """The harness's own session."""
        return self._session

    def set_now(self, instant: Instant) -> None:
        """Move the clock."""
        self.foreign.set_now(instant)

    def empty(self) -> None:
        """Delete all rows but those that the schema brought, and the room that they had.

        Where ORDER BY does not tell two rows apart, the one that lies first comes first: they lie
        as in new tables.
        """
        self._resetter.reset(keep=self._seeds)
        self._session.execute(self._vacuum, prepare=False)

    def _connected(self) -> psycopg.Connection[dict[str, Any]]:
        try:
            session = psycopg.Connection[dict[str, Any]].connect(
                self.url, autocommit=True, row_factory=dict_row, cursor_factory=psycopg.RawCursor
            )
        except psycopg.OperationalError as error:
            raise EnvironmentUnavailable(
                f"PostgreSQL does not let in the role that carries out the SQL of a file: {error}",
                hint=f"Let {GUEST} in by pg_hba.conf, or leave JOB_HARNESS_DSN unset and let a PostgreSQL be started.",
            ) from error
        self._held.append(session)
        session.execute(_SETTINGS.format(self._patience_ms).encode())
        return session

    # the schema -----------------------------------------------------------------------------------------------------

    def _load(self, source: SqlSource) -> None:
        try:
            self._session.execute(loadable(source), prepare=False)
        except psycopg.Error as error:
            self.refuse(error, source, lambda position: position, "the schema does not load")
        if self._session.info.transaction_status != pq.TransactionStatus.IDLE:
            self._session.execute(b"ROLLBACK")
            raise source.error("it begins a transaction and leaves it open", hint="Add COMMIT, or leave BEGIN out.")

    def _keep_the_search_path(self) -> None:
        """End the session that loaded the schema, and with it what that set; its search_path is that of all others.

        An empty one is pg_dump's, whose script names each schema: no application has that.
        """
        row = self._session.execute(b"SELECT current_setting('search_path') AS path").fetchone()
        if row is not None and row["path"] not in ("", '""'):
            name = self._session.info.dbname.replace('"', '""')
            self._session.execute(f'ALTER DATABASE "{name}" SET search_path FROM CURRENT'.encode())
        self._session.close()

    def _prove_the_clock(self) -> None:
        """Raises VirtualClockError where the schema keeps to the machine's time."""
        try:
            self.foreign.check()
        except VirtualClockError as error:
            place = self.file.place("schema" if self.file.schema else "connection")
            error.message = f"{place}: schema: {error.message}"
            error.hint = "Write now() instead of functions that return the machine's time."
            raise

    def _refuse_tables(self) -> None:
        if not self.tables and not self._seeds:
            raise self.file.jobs.source.error("the schema has no table", hint="Look at `schema`.")
        names = {name.removeprefix("public.") for name in self.tables}
        if unknown := sorted(self.file.tables - names - set(self.tables)):
            raise self.file.jobs.source.error(
                f"`tables` names {unknown[0]!r}, which the schema does not have{did_you_mean(unknown[0], names)}",
                hint=f"It has {', '.join(sorted(names))}.",
            )

    # proving the statements -----------------------------------------------------------------------------------------

    def _prepared(self) -> frozenset[str]:
        """Let PostgreSQL parse every statement against the schema; return the columns of `jobs`."""
        for statements in self.file.verbs.values():
            for statement in statements:
                self._parse(statement)
        described = self._parse(self.file.jobs)
        columns = columns_of(self.file, [described.fname(n).decode() for n in range(described.nfields)])
        if unseen := sorted(columns - self.file.columns):
            raise self.file.jobs.source.error(
                f"PostgreSQL names a column {unseen[0]!r}, but the SELECT does not: it would not be judged",
                hint=f"Write AS {unseen[0]} behind that column.",
            )
        return columns

    def _parse(self, statement: Statement) -> Any:
        pgconn = self._session.pgconn
        types = [_type_of(name) for name in statement.names]
        prepared = pgconn.prepare(b"", statement.sql, types)
        if prepared.status == pq.ExecStatus.FATAL_ERROR:
            self.refuse(
                psycopg.errors.error_from_result(prepared), statement.source, statement.at, "PostgreSQL refuses it"
            )
        return pgconn.describe_prepared(b"")

    def _origins(self) -> dict[str, tuple[int, int]]:
        described = self._parse(self.file.jobs)
        return {
            described.fname(n).decode(): (described.ftable(n), described.ftablecol(n)) for n in range(described.nfields)
        }

    def refuse(self, error: psycopg.Error, source: SqlSource, at: Callable[[int], int], what: str = "") -> NoReturn:
        """Raise what PostgreSQL said as an error of the file, at PostgreSQL's own position."""
        if not self.foreign.alive or self._session.broken:
            raise EnvironmentUnavailable(
                f"PostgreSQL went away: {' '.join(str(error).split())}", hint="Start it again."
            ) from error
        said = error.diag.message_primary or " ".join(str(error).split())
        position = error.diag.statement_position
        place = at(int(position) - 1) if position else None
        if isinstance(error, psycopg.errors.QueryCanceled):
            said = self.overdue
        raise source.error(f"{what}: {said}" if what else said, at=place, hint=hint_for(error)) from error

    def first_row(self, promise: NoRowPromise) -> str:
        """Return the first row of a SELECT that must return none, in words. Raises QueueFileError where it fails."""
        try:
            return words_of(self._session.execute(promise.sql.encode()).fetchall())
        except psycopg.Error as error:
            told = f"{promise.place}: no_row.{promise.name}: PostgreSQL refuses it: {str(error).splitlines()[0]}"
            raise QueueFileError(told, hint="It is run in the database of the queue, beside its tables.") from error

    # looking and acting ---------------------------------------------------------------------------------------------

    def look(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Read what `jobs` shows, under these values of its parameters.

        Raises QueueFileError where it fails, or takes too long.
        """
        source = self.file.jobs.source
        try:
            given = parameters(self.file.jobs, values, ())
            cursor = self._session.execute(self.file.jobs.sql, given, prepare=True)
        except psycopg.errors.QueryCanceled:
            raise source.error(
                f"{self.overdue}, and is asked after every step",
                hint="Take the sleep or the endless join out of it; there are at most a few jobs.",
            ) from None
        except psycopg.Error as error:
            self.refuse(error, source, self.file.jobs.at)
        try:
            return cursor.fetchall()
        except psycopg.DataError as error:  # PostgreSQL has times that Python has not.
            raise self._beyond(cursor.pgresult, error) from error

    def _beyond(self, result: Any, error: psycopg.DataError) -> QueueFileError:
        """Name the first time in a result that no run can have: infinite, before Christ or after the year 9999."""
        names = [result.fname(n).decode() for n in range(result.nfields)]
        for row in range(result.ntuples):
            shown = {name: (result.get_value(row, n) or b"").decode() for n, name in enumerate(names)}
            for name in INSTANTS:
                if (told := shown.get(name, "")).endswith("infinity") or re.match(r"\d{5,}-|.* BC$", told):
                    hint = f"Show a time that a run can have, or NULL: nullif({name}, '{told}')."
                    if name == "start_after" and told[0].isdigit():
                        hint = (
                            "Nothing bounds the wait that doubles with each attempt: under `settings`, write "
                            "`retry_delay_max: none`, and jobs get fewer attempts."
                        )
                    return self.file.jobs.source.error(f"{name} of the job {shown['id']!r} is {told}", hint=hint)
        return self.file.jobs.source.error(str(error), hint="Show what Python can read.")

    def carry_out(
        self,
        verb: str,
        values: Mapping[str, Any],
        *,
        watch: Callable[[], None] | None = None,
        sent: Callable[[Sent], None] = lambda statement: None,
    ) -> list[VerbResult]:
        """Carry out a verb as one transaction; `watch` is called before it ends, `sent` for each statement.

        Changes are counted from the first statement on that is no SET: SET TRANSACTION comes before
        any query.

        Raises what PostgreSQL raises; nothing is left of the verb then.
        """
        statements = self.file.verbs[verb]
        self._session.execute(b"BEGIN", prepare=False)
        counts = watch is not None
        results: list[VerbResult] = []
        try:
            for number, statement in enumerate(statements):
                sent(Sent("", statement.point, statement.sql.decode()))
                if counts and not statement.point.startswith("set "):
                    self._counted, counts = self._counts(), False
                results.append(self._sent(statement, values, results))
                if stops(verb, results[-1], last=number == len(statements) - 1):
                    break
            if watch is not None:
                watch()
        except BaseException:
            if not self._session.closed:
                self._session.execute(b"ROLLBACK", prepare=False)
            raise
        self._session.execute(b"COMMIT", prepare=False)
        return results

    def _sent(self, statement: Statement, values: Mapping[str, Any], before: Sequence[VerbResult]) -> VerbResult:
        try:
            cursor = self._session.execute(statement.sql, parameters(statement, values, before), prepare=True)
        except psycopg.Error as error:
            error.add_note(statement.place_of(error.diag.column_name))
            raise
        return result_of(cursor)

    def changed_tables(self) -> frozenset[str]:
        """Return the tables that the transaction under way has changed, once it is watched."""
        return frozenset(name for name, count in self._counts().items() if count > self._counted.get(name, 0))

    def _counts(self) -> dict[str, int]:
        """Count rows changed by table, those of a partition as its root's.

        As PostgreSQL does: for up to a second, it adds what was committed before.
        """
        rows = self._session.execute(
            b"SELECT n.nspname || '.' || c.relname AS name, sum(n_tup_ins + n_tup_upd + n_tup_del)::int8 AS count "
            b"FROM pg_stat_xact_user_tables s JOIN pg_class c ON c.oid = coalesce(pg_partition_root(s.relid), s.relid) "
            b"JOIN pg_namespace n ON n.oid = c.relnamespace GROUP BY 1"
        )
        return {str(row["name"]): row["count"] for row in rows.fetchall()}

    def close(self) -> None:
        """End what was started. Never raises."""
        for held in reversed(self._held):
            try:
                held.close()
            except (psycopg.Error, OSError):
                continue
        self._held.clear()
        self.foreign.close()


def hint_for(error: psycopg.Error) -> str:
    """Return what to do about what PostgreSQL said."""
    said = error.diag.message_primary or str(error)
    if "data type of parameter" in said:
        return "Say what it is: :job::text, :input::jsonb."
    if said.startswith("invalid input syntax for type uuid"):
        return "Where the ids of jobs are UUIDs, say so: `ids: uuid`."
    if isinstance(error, psycopg.errors.UndefinedObject) and said.startswith("role "):
        return "Leave owners and rights out: pg_dump --schema-only --no-owner --no-privileges."
    if hint := extension_hint(error):
        return hint
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return (
            "The SQL of a file is carried out by a role that owns its database, and may run no program, open no file "
            "of the server and change no setting of it. Leave that out."
        )
    return error.diag.message_hint or error.diag.message_detail or "These are PostgreSQL's own words; correct the SQL."


def places_of(error: psycopg.Error) -> list[str]:
    """Return where the statement is written that raised this, as was noted when it did."""
    return list(error.__dict__.get("__notes__", ()))


def _quoted(table: str) -> str:
    """Return `schema.name` as SQL names it."""
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in table.split(".", 1))


def _type_of(name: str) -> int:
    """Return the type (its oid) of a parameter, as the driver sends it; 0: PostgreSQL decides."""
    if name in ("now", "start_after"):
        return _TYPES["timestamptz"]
    if name.endswith("_seconds"):
        return _TYPES["float8"]
    if name in ("lease", "job_timeout", "stuck_timeout", "retry_delay", "retry_delay_max", "retention", "delay"):
        return _TYPES["interval"]
    if name in ("limit", "max_attempts", "priority", "attempt"):
        return _TYPES["int8"]
    return _TYPES["bool"] if name in ("final", "retry_backoff") else 0


def result_of(cursor: Any) -> VerbResult:
    """Return what a cursor has to say of its statement."""
    tag = (cursor.statusmessage or "").partition(" ")[0]
    return VerbResult(tag, cursor.rowcount, cursor.fetchall() if cursor.description else None)
