"""Tables of jobs in a live PostgreSQL as evidence: rows as they stand, rows that tell changes, and a log of our own.

Everything is read in one read-only snapshot with limits on statements and locks, through a cursor,
so that a table may be larger than memory. The log is written by a trigger that a `LogPlan` makes:
it keeps what a description says of a row before and after each change, the writer
(`application_name`) and `clock_timestamp()`; of results and errors, hashes.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from job_harness.core.history import Event
from job_harness.core.model import DAY, SECOND, TERMINAL, Duration, Instant, JobId, JobView, Status
from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.review.audit.evidence import NEVER, UNKNOWN, UNKNOWN_WRITER, Chronicle, Evidence, Ordinary, blank
from job_harness.review.audit.job_table import (
    NUMBERS,
    TIMES,
    DescribedTable,
    Reading,
    description_of,
    job_table,
    known_tables,
)
from job_harness.review.audit.recording import ROWS_SHOW, SHOWN_BY_LOG

LOG: Final = "job_harness_audit"
"""The table that the trigger writes; its triggers and its function have the same name."""
UNLOGGED: Final = "problem"
"""The only key of an entry of the log that stands for a change which the description did not fit; no column is so."""
LOGGED: Final = f"NOT COALESCE(after ? '{UNLOGGED}', false)"
"""The condition on entries of the log that do hold a change."""
INSTALL_AGAIN: Final = "install the log again with a description that fits: job-harness audit --install FILE --yes"
"""What helps where changes were not logged."""
STATEMENT_SECONDS: Final = 300
CONNECT_SECONDS: Final = 10
AT_ONCE: Final = 5_000
"""Rows that are fetched at a time."""
LOOKS_AHEAD: Final = 2 * AT_ONCE
"""How many entries of a log may lie between a row that is deleted and the same row that is written anew."""

_OF_CHANGES: Final[Mapping[str, frozenset[str]]] = {
    "illegal_transition": frozenset(),
    "terminal_job_revived": frozenset(),
    "double_claim": frozenset(),
    "job_stuck": frozenset(),
}
"""What rows show that tell changes."""
_WITHOUT_ORDER: Final = frozenset({"json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle"})
"""Types of PostgreSQL whose values cannot be sorted."""
_UNFINISHED: Final = (Status.PENDING, Status.PROCESSING)
_FENCING: Final = frozenset({"stale_complete", "stale_fail", "stale_heartbeat", "stale_release"})
_SILENT: Final[Mapping[str, str]] = {
    "legal_transition": "a row shows its present state, not its earlier ones",
    "single_owner": "each attempt overwrites the row of the previous one",
    "fenced": "a row does not say which worker changed it",
    "lease_outlives_execution": "rows do not say when a worker began or ended its run: audit spans instead",
    "attempts_bounded": "a change does not say how often the job was delivered",
    "failed_only_when_exhausted": "no column says if an error was final: a job may correctly fail with attempts left",
    "completed_with_error": "a queue may keep the error of an earlier attempt",
    "not_before": "a change does not say when the job was due",
    "unique_respected": "a change does not say which key the job has",
    "tables_agree": "only one table is read",
}
"""Why an invariant, or one of its anomalies, is not judged, where no column is missing."""


# one snapshot ---------------------------------------------------------------------------------------------------------


@contextmanager
def snapshot(dsn: str, *, ours: bool = False) -> Iterator[Snapshot]:
    """Open a session that cannot change anything and sees one moment.

    What a view or a description holds is carried out by the server: a role that may run programs
    there is refused, except in a database of `ours`, and one from which a policy hides rows is told
    so. A query ends with this process, from PostgreSQL 14 on even if it is killed.

    Raises EnvironmentUnavailable where the database does not answer, refuses, or goes away.
    """
    with (
        _explain_errors(),
        psycopg.connect(
            dsn, connect_timeout=CONNECT_SECONDS, application_name="job-harness audit", prepare_threshold=None
        ) as connection,
    ):
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction(force_rollback=True):
            if not ours and connection.execute(_POWERS).fetchone() is not None:
                raise EnvironmentUnavailable(
                    f"--database: the role {connection.info.user} may run programs and open files on the server, and "
                    "what is audited may hold a view that does",
                    hint="Audit as a role that only reads: CREATE ROLE reader LOGIN PASSWORD '...'; "
                    "GRANT pg_read_all_data TO reader;",
                )
            connection.execute("SET LOCAL row_security = off")
            connection.execute(_END_WITH_US)
            connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            connection.execute("SET LOCAL lock_timeout = '2s'")
            yield Snapshot(connection)


_POWERS: Final = """
SELECT FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(session_user, oid, 'MEMBER') AND (
    rolsuper OR rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
) LIMIT 1
"""
_END_WITH_US: Final = """
SELECT pg_catalog.set_config(name, '2s', true) FROM pg_catalog.pg_settings
WHERE name = 'client_connection_check_interval'
"""
_UNFIT: Final = (
    psycopg.errors.SyntaxError,
    psycopg.errors.DataError,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.CannotCoerce,
    psycopg.errors.DatatypeMismatch,
)
_UNREACHABLE: Final = ("08", "28", "3D", "57P")
"""How the codes of errors begin with which a server refuses a connection, or ends it."""


@contextmanager
def _explain_errors(table: DescribedTable | None = None) -> Iterator[None]:
    """Say in our own words what PostgreSQL says of a query, which is made of this description."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName) as error:
        called = f"{table.path}: " if table is not None and table.path else ""
        raise UsageError(
            f"{called}the database has no such table or column: {_words(error)}", hint=_where_else(table)
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise EnvironmentUnavailable(
            f"the role may not read: {_words(error)}",
            hint="Give it SELECT on the tables of jobs, and BYPASSRLS where they have row security.",
        ) from None
    except _UNFIT as error:
        raise UsageError(
            f"PostgreSQL refuses an expression of the description: {_words(error)}", hint="docs/audit.md shows one."
        ) from None
    except psycopg.errors.RaiseException as error:
        raise UsageError(error.diag.message_primary or _words(error), hint=error.diag.message_hint or "") from None
    except psycopg.errors.QueryCanceled:
        raise EnvironmentUnavailable(
            f"{'--database' if table is None else table.path or table.name}: a query did not end within "
            f"{STATEMENT_SECONDS} s",
            hint="Look at the view or the expression that it reads, or ask for less with --since.",
        ) from None
    except psycopg.Error as error:
        if (error.sqlstate or "08").startswith(_UNREACHABLE):
            raise EnvironmentUnavailable(
                f"--database: {_words(error)}",
                hint="Give the URL of a running PostgreSQL, with a role that may read.",
            ) from None
        raise EnvironmentUnavailable(f"PostgreSQL refuses: {_words(error)}") from None


def _where_else(table: DescribedTable | None) -> str:
    """Say what may fit where a description does not."""
    if table is not None and table.path:
        wrong = "`table` or `columns`" if table.table else "the SELECT of `jobs`"
        return f"Correct {wrong} in that file, or name the database that has them with --database."
    if table is None:
        return ""
    known = {name: job_table(name) for name in known_tables()}
    mine = next((name for name, each in known.items() if each == table), None)
    same = [name for name, each in known.items() if each.table == table.table and name != mine]
    another = f"For another release try {' or '.join(same)}. " if same else ""
    copied = f"For another schema copy {description_of(mine)}, and change the tables in it. " if mine else ""
    return f"{another}{copied}docs/audit.md shows a whole description."


def _words(error: psycopg.Error) -> str:
    """Return what PostgreSQL says, without the statement, of which its text shows a part."""
    said, hint = error.diag.message_primary, error.diag.message_hint
    text = str(error) if said is None else f"{said} ({hint})" if hint else said
    return " ".join(text.split()) or type(error).__name__


class Snapshot:
    """One moment of a database, which can be read more than once."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._cursors = 0
        info = connection.info
        server = "" if not info.host or info.host.startswith("/") else f" on {info.host}:{info.port}"
        self.place = f"the database {info.dbname}{server}"
        self.now: Instant = self.value("SELECT (extract(epoch FROM now()) * 1000000)::bigint")

    def value(self, text: str) -> Any:
        """Return the one value of a query."""
        row = self._connection.execute(text.encode()).fetchone()
        return None if row is None else row[0]

    def reading(self, table: DescribedTable, notes: list[str]) -> Reading:
        """Read times without a time zone in the table's own from here on, or else in the database's."""
        if table.time_zone is not None:
            self._connection.execute("SELECT set_config('TimeZone', %s, true)", (table.time_zone,))
        return Reading(self.value("SELECT current_setting('TimeZone')"), notes, chosen=table.time_zone is not None)

    def types(self, table: DescribedTable, shown: str = "*") -> dict[str, str]:
        """Return the type of each column of the rows of a table; of one that is not PostgreSQL's own, no name."""
        with _explain_errors(table):
            description = self._connection.execute(
                f"SELECT {shown} FROM {table.rows} AS job LIMIT 0".encode()
            ).description
        known = self._connection.adapters.types
        kinds = {column.name: known.get(column.type_code) for column in description or ()}
        return {name: "" if kind is None else kind.name for name, kind in kinds.items()}

    def few(self, text: str, values: Mapping[str, Any], *, of: DescribedTable) -> list[tuple[Any, ...]]:
        """Read the rows of a query that has few; the server may share its work between processes."""
        with _explain_errors(of):
            return self._connection.execute(text.encode(), values).fetchall()

    def rows(
        self, text: str, values: Mapping[str, Any], *, of: DescribedTable | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Read rows through a cursor; the query's parameters are `%(name)s`, and what it reads is described so."""
        self._cursors += 1
        with _explain_errors(of), self._connection.cursor(name=f"audit_{self._cursors}") as cursor:
            cursor.itersize = AT_ONCE
            cursor.execute(text.encode(), values)
            yield from cursor


def latest(session: Snapshot, table: DescribedTable | None) -> Instant:
    """Return the latest time of what has happened, in a table or, for None, in the log."""
    if table is None:
        times, rows = ["job.at"], LOG
    else:
        names = ("at", "created_at", "started_at", "completed_at")
        times, rows = [f"({table.columns[name]})" for name in names if name in table.columns], table.rows
    told = ", ".join(f"({time})::timestamptz" for time in times)
    query = f"SELECT max(extract(epoch FROM GREATEST({told})) * 1000000)::bigint FROM {rows} AS job"
    return int(session.value(query) or session.now) if times else session.now


def _statuses(session: Snapshot, table: DescribedTable) -> frozenset[str]:
    """Return the words for statuses that are in a table, or in the log."""
    shown = [f"({_literal(table.columns['status'])})::text"]
    if table.logged:
        shown = [f"({side} ->> 'status')" for side in ("before", "after")]
    each = (f"SELECT DISTINCT {what} FROM {_literal(table.rows)} AS job" for what in shown)
    return frozenset(status for (status,) in session.rows(" UNION ".join(each), {}, of=table) if status is not None)


# rows as they stand, and rows that tell changes -----------------------------------------------------------------------


def rows_evidence(
    session: Snapshot, table: DescribedTable, *, since: Instant | None = None, until: Instant | None = None
) -> Evidence:
    """Return what a table shows. With `since`, only jobs that changed after that, and those that have not ended.

    `until` is when the rows were written, where that is not the moment of the snapshot.
    """
    described = frozenset(table.columns)
    kinds = _OF_CHANGES if table.changes else ROWS_SHOW
    reader = _changes if table.changes else _standing
    shows = frozenset(name for name, needed in kinds.items() if needed <= described)
    if not table.changes and "started_at" in described:
        shows |= {"job_stuck"}
    expected = shows & table.without.keys()
    shows -= expected
    notes = [] if table.changes else ["rows show the present state of each job, and nothing that has been overwritten"]
    reading = session.reading(table, notes)
    return Evidence(
        name=f"{table.name} in {session.place}",
        shows=shows,
        silent={**_silent(kinds, shows, described), **_expected(table, expected, shows)},
        read=lambda jobs: reader(session, table, reading, since, jobs),
        now=lambda: session.now,
        notes=notes,
        apart=lambda: _apart(session, table, reading, since, session.now if until is None else until),
        statuses=lambda: _statuses(session, table),
    )


def _silent(kinds: Mapping[str, frozenset[str]], shows: frozenset[str], described: frozenset[str]) -> dict[str, str]:
    """Say of each invariant that is not judged, and of each anomaly of another that does not show, why."""
    from job_harness.core.invariants import ANOMALIES

    judged = {ANOMALIES[name][0].id for name in shows}
    told = {name: why for name, why in _SILENT.items() if name not in judged}
    for name in kinds.keys() - shows:
        lacking = sorted(kinds[name] - described)
        invariant = ANOMALIES[name][0].id
        if lacking and lacking != ["partner"]:
            why = f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not described"
            told[name if invariant in judged else invariant] = why
    return told


def _expected(table: DescribedTable, expected: frozenset[str], shows: frozenset[str]) -> dict[str, str]:
    """Say of each of these anomalies, or of its invariant if no other of it is judged, why the file rules it out."""
    from job_harness.core.invariants import ANOMALIES

    judged = {ANOMALIES[name][0].id for name in shows}
    invariants = {name: ANOMALIES[name][0].id for name in sorted(expected)}
    return {
        name if invariant in judged else invariant: f"{table.path} expects {name}: {table.without[name]}"
        for name, invariant in invariants.items()
    }


def _wanted(table: DescribedTable, since: Instant | None, jobs: Collection[JobId] | None) -> tuple[str, dict[str, Any]]:
    """Return the condition on rows, of all jobs or of these, and its parameters."""
    wanted: list[str] = []
    values: dict[str, Any] = {}
    if jobs is not None:
        wanted.append(f"({_literal(table.columns['id'])})::text = ANY(%(jobs)s)")
        values["jobs"] = sorted(jobs)
    if since is not None:
        times = [name for name in ("at", "completed_at", "started_at", "created_at") if name in table.columns]
        if not times:
            raise UsageError(
                f"--since: {table.path or table.name} describes no time by which to filter jobs",
                hint="Describe created_at, started_at or completed_at, or leave --since out.",
            )
        latest = ", ".join(f"({_literal(table.columns[name])})" for name in times)
        recent = f"GREATEST({latest}) >= to_timestamp(%(since)s)"
        values["since"] = since / 1_000_000
        if not table.changes:  # A job that hangs has not changed for long: it is what an audit is there to find.
            recent = f"({recent} OR ({_literal(table.columns['status'])})::text = ANY(%(unfinished)s))"
            values["unfinished"] = [name for name, status in table.status.items() if status in _UNFINISHED]
        wanted.append(recent)
    return f" WHERE {' AND '.join(wanted)}" if wanted else "", values


def _query(table: DescribedTable, since: Instant | None, jobs: Collection[JobId] | None) -> tuple[str, dict[str, Any]]:
    """Return the query of all entries, or of these jobs."""
    where, values = _wanted(table, since, jobs)
    return f"SELECT {_literal(table.entry())} FROM {_literal(table.rows)} AS job{where}", values


def _oldest_first(session: Snapshot, table: DescribedTable) -> str:
    """Return the order of rows that tell changes: by their time, and those of one time by their columns."""
    types, within = session.types(table), "job"
    if not _WITHOUT_ORDER.isdisjoint(types.values()):  # Whole rows cannot be compared beyond such a column.
        columns = {sql.Identifier("job", name).as_string(None): kind for name, kind in types.items()}
        within = ", ".join(f"{name}::text" if kind in _WITHOUT_ORDER else name for name, kind in columns.items())
    return _literal(f" ORDER BY ({table.columns['at']}), {within}")


def _refuse_shared_ids(session: Snapshot, table: DescribedTable, since: Instant | None) -> None:
    """Refuse an id that is none: two rows under one would be judged as one job."""
    where, values = _wanted(table, since, None)
    text = (
        f"SELECT ({_literal(table.columns['id'])})::text, count(*) FROM {_literal(table.rows)} AS job{where} "
        f"GROUP BY 1 HAVING count(*) > 1 OR ({_literal(table.columns['id'])})::text IS NULL LIMIT 1"
    )
    for job, count in session.rows(text, values, of=table):
        told = "the id of a row is NULL" if job is None else f"{count} rows have the id {job}"
        raise UsageError(
            f"{table.path or table.name}: {told}",
            hint="`id` must be unique for each job: for a key of two columns write job.tenant || '/' || job.number.",
        )


def _literal(text: str) -> str:
    """Write SQL that holds no parameters for a driver that looks for them."""
    return text.replace("%", "%%")


def _apart(
    session: Snapshot, table: DescribedTable, reading: Reading, since: Instant | None, until: Instant
) -> tuple[Ordinary, Iterator[Event]] | None:
    """Let the database count the jobs that can show nothing, so that only the others are read."""
    plain = _plain(session, table)
    if not plain:
        return None
    _refuse_shared_ids(session, table, since)
    where, values = _wanted(table, since, None)
    values |= {"ended": [word for word, status in table.status.items() if status in TERMINAL], "until": until / SECOND}
    values["completed"] = [word for word, status in table.status.items() if status is Status.COMPLETED]
    of = {name: f"({_literal(told)})" for name, told in table.columns.items()}
    due = f"COALESCE({of.get('start_after', 'NULL')}, {of['created_at']})"
    ends = f"min({of['created_at']})", f"max({of['completed_at']})", f"max({due})"
    times = ", ".join(f"(extract(epoch FROM {each}::timestamptz) * 1000000)::bigint" for each in ends)
    rows = f"FROM {_literal(table.rows)} AS job{where}{' AND' if where else ' WHERE'} "
    groups = session.few(
        f"SELECT COALESCE({of.get('tool', 'NULL')}::text, 'job'), COALESCE({of.get('priority', 'NULL')}, 0), count(*), "
        f"count(*) FILTER (WHERE {of['status']}::text = ANY(%(completed)s)), {times} {rows}{plain} GROUP BY 1, 2",
        values,
        of=table,
    )
    entry = f"SELECT {_literal(table.entry())} {rows}"
    for (one,) in session.few(f"{entry}{plain} LIMIT 1", values, of=table):
        table.view(one, reading)  # How such rows are read is noted all the same.
    jobs = sum(group[2] for group in groups)
    ordinary = Ordinary(
        jobs=jobs,
        events=jobs * _EVENTS_OF_A_LIFE,
        completed=sum(group[3] for group in groups),
        first=min((group[4] for group in groups), default=UNKNOWN),
        last=max((group[5] for group in groups), default=UNKNOWN),
        claimed={(group[0], group[1]): group[6] for group in groups},
    )
    return ordinary, _lives(session.rows(f"{entry}({plain}) IS NOT TRUE", values, of=table), table, reading)


_EVENTS_OF_A_LIFE: Final = 3
"""Sent, claimed, ended: what `life_of` reports for a plain row."""


def _plain(session: Snapshot, table: DescribedTable) -> str:
    """Return the condition on rows that can show nothing: the job ended, and all that is described is in order.

    Empty: a column is missing, or of a type of which that cannot be said.
    """
    if table.changes or not {"created_at", "started_at", "completed_at"} <= table.columns.keys():
        return ""
    types = session.types(table, ", ".join(f'({told}) AS "{name}"' for name, told in table.columns.items()))
    known = {**dict.fromkeys(TIMES, ("timestamptz", "timestamp")), **dict.fromkeys(NUMBERS, ("int2", "int4", "int8"))}
    if any(types[name] not in kinds for name, kinds in known.items() if name in types):
        return ""
    of = {name: f"({_literal(told)})" for name, told in table.columns.items()}
    means = {word: status for word, status in table.status.items() if status is not None}
    arrows = " ".join(f"WHEN {_literal(sql.Literal(word).as_string(None))} THEN '{means[word]}'" for word in means)
    conditions = {
        "status": f"{of['status']}::text = ANY(%(ended)s)",
        "created_at": f"{of['created_at']} > 'epoch' AND {of['created_at']} <= {of['started_at']}",
        "started_at": f"{of['started_at']} <= {of['completed_at']}",
        "completed_at": f"{of['completed_at']}::timestamptz <= to_timestamp(%(until)s)",
        "start_after": f"COALESCE({of.get('start_after')} BETWEEN 'epoch' AND {of['started_at']}, true)",
        "attempts": f"{of.get('attempts')} BETWEEN 0 AND {of.get('max_attempts', str(2**31))}",
        "partner": f"{of.get('partner')}::text = CASE {of['status']}::text {arrows} END",
    }
    return " AND ".join(told for name, told in conditions.items() if name in of)


def _standing(
    session: Snapshot, table: DescribedTable, reading: Reading, since: Instant | None, jobs: Collection[JobId] | None
) -> Iterator[Event]:
    """Tell of each row how the job came to stand so, as far as its own times say."""
    if jobs is None:
        _refuse_shared_ids(session, table, since)
    yield from _lives(session.rows(*_query(table, since, jobs), of=table), table, reading)


def _lives(rows: Iterator[tuple[Any, ...]], table: DescribedTable, reading: Reading) -> Iterator[Event]:
    chronicle = Chronicle()
    for (entry,) in rows:
        view = table.view(entry, reading)
        if view is not None:
            yield from life_of(view, chronicle, worker=view.worker or UNKNOWN_WRITER)


def life_of(view: JobView, chronicle: Chronicle, *, worker: str) -> Iterator[Event]:
    """Tell how a job came to stand as it does: sent, claimed for its last attempt, ended.

    A row says nothing of what it was before. So one that has ended holds its unique key no more: it
    may have been the key of another job before or since. And one that failed or was cancelled may
    have been given its start time afterwards, for a retry.
    """
    if view.terminal:
        view = view._replace(unique_key=None)
    since = _first_known(view)
    if view.started_at is None and view.status is Status.PROCESSING:
        yield from chronicle.change(since, worker, None, view)
        return
    claimed = view.started_at is not None and view.status is not Status.PENDING
    before = max(0, view.attempts - 1) if claimed else view.attempts
    if view.status is None or (view.status is Status.PENDING and not claimed):
        yield from chronicle.change(since, UNKNOWN_WRITER, None, view._replace(token=before))
        return
    # How many of the deliveries before the last one were too many does not show: all are said of the last.
    sent = _when_sent(view, attempts=min(before, view.max_attempts) if claimed else before)
    yield from chronicle.change(since, UNKNOWN_WRITER, None, sent)
    if claimed and view.started_at is not None:
        active = blank("", Status.PROCESSING).queue_state
        running = view._replace(
            status=Status.PROCESSING,
            queue_state=active,
            attempts=before + 1,
            token=before + 1,
            completed_at=None,
            output=None,
        )
        if view.status is Status.PROCESSING:
            running = running._replace(queue_state=view.queue_state)
        yield from chronicle.change(view.started_at, worker, sent, running)
        sent = running
    if view.status is not Status.PROCESSING:
        at = view.completed_at if view.completed_at is not None else view.started_at or since
        ended = view._replace(attempts=sent.attempts, token=sent.token)
        verb = "update" if view.status is Status.FAILED else ""  # By its worker, or by what took it back: no row says.
        yield from chronicle.change(at, UNKNOWN_WRITER, sent, ended, verb=verb)


def _first_known(view: JobView) -> Instant:
    """Return when a job was sent; where that is unknown, the first time of it that is known."""
    known = (view.start_after, view.started_at, view.completed_at, view.lease_until)
    return view.created_at or min((at for at in known if at and at != NEVER), default=UNKNOWN)


def _when_sent(view: JobView, *, attempts: int) -> JobView:
    """Return how a job stood before it was claimed for its last attempt."""
    due = view.start_after
    if view.started_at is not None and view.status in (Status.FAILED, Status.CANCELLED):
        due = min(due, view.started_at)
    return view._replace(
        start_after=due,
        status=Status.PENDING,
        queue_state=blank("").queue_state,
        attempts=attempts,
        token=attempts,
        worker=None,
        started_at=None,
        lease_until=None,
        completed_at=None,
        output=None,
    )


def _changes(
    session: Snapshot, table: DescribedTable, reading: Reading, since: Instant | None, jobs: Collection[JobId] | None
) -> Iterator[Event]:
    """Tell what rows tell, one change each; a claim stands until one of them ends it."""
    chronicle = Chronicle()
    known: dict[JobId, JobView] = {}
    text, values = _query(table, since, jobs)
    for (entry,) in session.rows(text + _oldest_first(session, table), values, of=table):
        after = table.view(entry, reading)
        at = None if entry.get("at") is None else reading.instant(entry["at"], f"at of the job {entry['id']}")
        if after is None or at is None:
            continue
        before, writer = known.get(after.id), after.worker or UNKNOWN_WRITER
        claims = after.status is Status.PROCESSING
        after = after._replace(
            created_at=at if before is None else before.created_at,
            start_after=at if before is None else before.start_after,
            token=(0 if before is None else before.token) + claims,
            attempts=(0 if before is None else before.attempts) + claims,
            started_at=at if claims else None,
            lease_until=(after.lease_until or NEVER) if claims else None,
            worker=writer if claims else None,
            completed_at=at if after.terminal else None,
        )
        known[after.id] = after
        yield from chronicle.change(at, writer, before, after)


# the log --------------------------------------------------------------------------------------------------------------


def log_evidence(session: Snapshot, *, since: Instant | None = None) -> Evidence:
    """Return what the log shows. Raises UsageError where none was installed."""
    table = _logged_table(session)
    shows = frozenset(name for name, needed in SHOWN_BY_LOG.items() if needed <= frozenset(table.columns))
    notes: list[str] = []
    writers = session.value(f"SELECT count(DISTINCT writer) FROM {LOG}")
    silent = _silent(SHOWN_BY_LOG, shows, frozenset(table.columns))
    reading = session.reading(table, notes)
    if table.deletes:
        shows -= {"live_job_deleted"}
        silent["retention_spares_live"] = "this queue ends a job by deleting its row"
    elif Status.COMPLETED not in table.status.values():
        shows -= {"live_job_deleted"}
        silent["retention_spares_live"] = "no status means COMPLETED: if a deleted row does, write `deleted: COMPLETED`"
    if writers < 2:
        shows -= _FENCING
        silent["fenced"] = "all changes were made under one application_name: give each process its own"
    elif writers:
        notes.append(f"{writers} writers are told apart by application_name")
    gap = _unlogged(session)
    if gap:
        notes.append(INSTALL_AGAIN)
    return Evidence(
        name=f"the log of {table.table} in {session.place}",
        shows=shows,
        silent=silent,
        read=lambda jobs: _LogReader(table, reading).events(session, since, jobs),
        now=lambda: session.now,
        notes=notes,
        gap=gap,
        complete=not gap,
        statuses=lambda: _statuses(session, table),
    )


def _unlogged(session: Snapshot) -> str:
    """Say how many changes are not in the log, and why the first of them is not."""
    count = session.value(f"SELECT count(*) FROM {LOG} WHERE after ? '{UNLOGGED}'")
    why = session.value(f"SELECT after ->> '{UNLOGGED}' FROM {LOG} WHERE after ? '{UNLOGGED}' ORDER BY id LIMIT 1")
    changes = f"{count} change{' is' if count == 1 else 's are'}"
    return f"{changes} not in the log, whose description did not fit the row: {why}" if count else ""


def _logged_table(session: Snapshot) -> DescribedTable:
    comment = session.value(f"SELECT obj_description(to_regclass('{LOG}'))")
    if comment is None:
        raise UsageError(
            f"{session.place} has no log of changes",
            hint="Print the SQL that creates one: job-harness audit --install TABLE. docs/audit.md says what it costs.",
        )
    told = json.loads(comment)
    meanings = {name: None if meaning is None else Status(meaning) for name, meaning in told["status"].items()}
    return DescribedTable(
        told["jobs"],
        told["table"],
        LOG,
        told["columns"],
        meanings,
        deletes=bool(told.get("deletes")),
        time_zone=told.get("time_zone"),
        logged=True,
    )


def _rejoined(entries: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Take a row that one transaction deletes and writes anew for one that it changes: pg-boss 10 fails jobs so.

    All else stays in its order: a key is free again once the row that held it was deleted.
    """
    window: deque[list[tuple[Any, ...]]] = deque()
    gone: dict[tuple[JobId, Any], list[tuple[Any, ...]]] = {}
    for entry in entries:
        job, xid, at, writer, before, after = entry
        place = [entry]
        if after is None:
            gone[job, xid] = place
        elif before is None and (deleted := gone.pop((job, xid), None)):
            place = [(job, xid, at, writer, deleted.pop()[4], after)]
        window.append(place)
        if len(window) > LOOKS_AHEAD:
            for told in window.popleft():
                gone.pop((told[0], told[1]), None)
                yield told
    for place in window:
        yield from place


class _LogReader:
    """Numbers the claims of each unfinished job: any token will do that differs from the one before."""

    def __init__(self, table: DescribedTable, reading: Reading) -> None:
        self._table = table
        self._reading = reading
        self._chronicle = Chronicle()
        self._claims: dict[JobId, tuple[Any, int, Instant]] = {}
        """By unfinished job, what told its last claim, the number of that, and when it was made."""
        self._aside: dict[JobId, JobView] = {}
        """By job whose status says nothing just now, how it stood before."""

    def events(
        self,
        session: Snapshot,
        since: Instant | None,
        jobs: Collection[JobId] | None,
        *,
        between: tuple[int, int] | None = None,
    ) -> Iterator[Event]:
        wanted, values = [LOGGED], dict[str, Any]()
        if between is not None:
            wanted.append("xid >= %(from)s::text::xid8 AND xid < %(until)s::text::xid8")
            values["from"], values["until"] = between
        if since is not None:
            wanted.append("at >= to_timestamp(%(since)s)")
            values["since"] = since / 1_000_000
        if jobs is not None:
            wanted.append("job = ANY(%(jobs)s)")
            values["jobs"] = sorted(jobs)
        query = (
            f"SELECT job, xid::text, (extract(epoch FROM at) * 1000000)::bigint, writer, before, after FROM {LOG} "
            f"WHERE {' AND '.join(wanted)} ORDER BY id"
        )
        for _, _, at, writer, before, after in _rejoined(session.rows(query, values)):
            yield from self._change(at, writer or UNKNOWN_WRITER, before, after)

    def _change(self, at: Instant, writer: str, before: Any, after: Any) -> Iterator[Event]:
        job = str((before or after)["id"])
        was = None if before is None else self._aside.pop(job, None) or self._view(before, at)
        now = None if after is None else self._view(after, at)
        if after is not None and now is None:
            if was is not None:
                self._aside[job] = was
            return
        if was is not None and now is not None and was == now:
            return
        if was is not None and now is None and self._table.deletes:
            now = self._table.ended(was, at)
        yield from self._chronicle.change(at, writer, was, now)
        if now is None or now.terminal:
            self._claims.pop((now or was or blank("")).id, None)

    def _view(self, entry: dict[str, Any], at: Instant) -> JobView | None:
        job = str(entry["id"])
        raw = entry.get("token", (entry.get("attempts"), entry.get("started_at"), entry.get("worker")))
        last, number, since = self._claims.get(job, (None, 0, at))
        meaning = self._table.status.get(str(entry["status"]))
        if meaning is Status.PROCESSING and raw != last:
            number, since = number + 1, at
            self._claims[job] = raw, number, since
        view = self._table.view(entry, self._reading, token=number)
        if view is None or ("attempts" in entry and "started_at" in entry):
            return view
        running = view.status is Status.PROCESSING
        started = view.started_at if "started_at" in entry else since if running else None
        return view._replace(attempts=view.attempts if "attempts" in entry else number, started_at=started)


class LogTail:
    """Reads what a log gets, in the order of its numbers, and nothing twice.

    A transaction that began before may write a lower number later, so only what was written by
    transactions that are older than all that are still open is read; the next time goes on there.
    """

    def __init__(self, since: Instant | None) -> None:
        self._since = since
        self._from = 0
        self._reader: _LogReader | None = None

    def events(self, session: Snapshot) -> Iterator[Event]:
        """Read what is new."""
        until = int(session.value("SELECT pg_snapshot_xmin(pg_current_snapshot())::text"))
        if self._reader is None:
            table = _logged_table(session)
            self._reader = _LogReader(table, session.reading(table, []))
        yield from self._reader.events(session, self._since, None, between=(self._from, until))
        self._from = until


@dataclass(frozen=True, slots=True)
class LogPlan:
    """What is installed: on which table, what is kept of each row, and for how long."""

    table: DescribedTable
    keep: Duration = 14 * DAY

    def install_sql(self) -> str:
        """Return SQL that makes the log and its trigger, or brings them up to date: it may be run again."""
        told = {
            "jobs": self.table.name,
            "table": self.table.table,
            "columns": dict(self.table.columns),
            "status": {name: None if status is None else str(status) for name, status in self.table.status.items()},
            "deletes": self.table.deletes,
            "time_zone": self.table.time_zone,
        }
        days = max(1, -(-self.keep // DAY))
        return _INSTALL.format(
            log=LOG,
            unlogged=UNLOGGED,
            table=self.table.table,
            named=self.table.table.replace("'", "''"),
            entry=self.table.entry(),
            comment=json.dumps(told, ensure_ascii=True).replace("'", "''"),
            days=days,
        )

    @staticmethod
    def uninstall_sql(table: str) -> str:
        """Return SQL that removes the trigger from a table, and the log unless another table has its trigger."""
        return _UNINSTALL.format(log=LOG, table=table)


_INSTALL: Final = """\
BEGIN;
-- A log is of one table: its description, which says what the rows mean, is the comment on the log.
DO $$
DECLARE
  other text := obj_description(to_regclass('{log}'))::jsonb ->> 'table';
BEGIN
  IF to_regclass(other) IS DISTINCT FROM to_regclass('{named}') AND other IS NOT NULL THEN
    RAISE EXCEPTION 'this database has a log already, of the table %: a database has one, of one table', other
      USING HINT = 'Remove that first, with what it holds: job-harness audit --uninstall, with the description of '
        || other || ', and --yes.';
  END IF;
END
$$;
CREATE TABLE IF NOT EXISTS {log} (
  id bigint GENERATED ALWAYS AS IDENTITY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  writer text NOT NULL DEFAULT current_setting('application_name'),
  job text NOT NULL,
  before jsonb,
  after jsonb
) PARTITION BY RANGE (at);
CREATE INDEX IF NOT EXISTS {log}_job ON {log} (job);
CREATE TABLE IF NOT EXISTS {log}_rest PARTITION OF {log} DEFAULT;
COMMENT ON TABLE {log} IS '{comment}';
-- A partition for each of the next days; those that are older than {days} days go. Run this again within a week.
-- The days are those of UTC, whatever the time zone of who runs this: else they would overlap.
SET LOCAL TimeZone = 'UTC';
DO $$
DECLARE
  day date;
  old text;
BEGIN
  FOR day IN SELECT generate_series(current_date, current_date + 8, interval '1 day')::date LOOP
    IF to_regclass('{log}_' || to_char(day, 'YYYYMMDD')) IS NULL
       AND NOT EXISTS (SELECT FROM {log}_rest WHERE at >= day AND at < day + 1) THEN
      BEGIN
        EXECUTE format('CREATE TABLE %I PARTITION OF {log} FOR VALUES FROM (%L) TO (%L)',
                       '{log}_' || to_char(day, 'YYYYMMDD'), day, day + 1);
      EXCEPTION WHEN invalid_object_definition THEN
        NULL;  -- A partition from before, of another time zone, has a part of this day; {log}_rest takes the other.
      END;
    END IF;
  END LOOP;
  FOR old IN SELECT relname FROM pg_class WHERE relname ~ '^{log}_[0-9]{{8}}$'
             AND right(relname, 8) < to_char(current_date - {days}, 'YYYYMMDD') LOOP
    EXECUTE format('DROP TABLE %I', old);
  END LOOP;
  DELETE FROM {log}_rest WHERE at < current_date - {days};
END
$$;
CREATE OR REPLACE FUNCTION {log}_entry(job {table}) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT {entry}
$$;
CREATE OR REPLACE FUNCTION {log}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  before jsonb;
  after jsonb;
BEGIN
  -- A description that does not fit the row, such as after a migration, must not refuse what the application writes.
  BEGIN
    before := CASE WHEN TG_OP <> 'INSERT' THEN {log}_entry(OLD) END;
    after := CASE WHEN TG_OP <> 'DELETE' THEN {log}_entry(NEW) END;
  EXCEPTION WHEN OTHERS THEN
    INSERT INTO {log} (job, after) VALUES ('', jsonb_build_object('{unlogged}', SQLERRM));
    RETURN NULL;
  END;
  -- A row without an id is no job; to refuse it here would refuse what the application writes.
  IF before IS DISTINCT FROM after AND COALESCE(after, before) ->> 'id' IS NOT NULL THEN
    INSERT INTO {log} (job, before, after) VALUES (COALESCE(after, before) ->> 'id', before, after);
  END IF;
  RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS {log} ON {table};
CREATE TRIGGER {log} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {log}();
COMMIT;
"""


_UNINSTALL: Final = """\
BEGIN;
DROP TRIGGER IF EXISTS {log} ON {table};
DROP FUNCTION IF EXISTS {log}_entry({table});
DO $$
DECLARE
  entry regprocedure;
BEGIN
  IF EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('{log}()')) THEN
    RAISE NOTICE 'the log stays: another table has its trigger';
    RETURN;
  END IF;
  DROP FUNCTION IF EXISTS {log}();
  FOR entry IN SELECT oid::regprocedure FROM pg_proc
               WHERE proname = '{log}_entry' AND pg_function_is_visible(oid) LOOP
    EXECUTE format('DROP FUNCTION %s', entry);
  END LOOP;
  DROP TABLE IF EXISTS {log};
END
$$;
COMMIT;
"""


def run_sql(dsn: str, text: str) -> bool:
    """Run what was printed; say whether a log is there now.

    Raises EnvironmentUnavailable and UsageError with what PostgreSQL says.
    """
    with _explain_errors(), psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '5s'")
        connection.execute(text.encode())
        return connection.execute(f"SELECT to_regclass('{LOG}') IS NOT NULL".encode()).fetchone() == (True,)
