"""Letting PostgreSQL's `now()` follow a virtual clock, in a template and all its clones.

The four functions that tell the time are renamed and created anew over a sequence. Whatever is
created afterwards (defaults, triggers, views, functions, with or without a pinned search_path)
resolves the name to the new ones. Keywords and literals are read without a function: they do not
follow, and `check` names them.

The time of the clock moves for all sessions at once, also inside a transaction that is open:
`now()` is constant within a statement, not within a transaction.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from job_harness.errors import EnvironmentUnavailable, UsageError

if TYPE_CHECKING:
    import psycopg

FIRST_USER_OID = 16384
"""Objects below were made by initdb."""

CLOCK_SCHEMA = "job_harness_clock"
"""The schema of the virtual clock, which no reset touches."""

FUNCTIONS = ("now", "transaction_timestamp", "statement_timestamp", "clock_timestamp")
REAL_PREFIX = "job_harness_real_"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# Word boundaries of PostgreSQL's regular expressions; a literal may carry a cast or stand in a call. In quotes, or with
# a schema before it, a keyword is a name: so somebody's own function is called that is named after one.
_SUSPICIOUS = (
    r"""(?<![."])\m(current_timestamp|current_date|current_time|localtimestamp|localtime)\M"""
    rf"""|\m(timeofday|{REAL_PREFIX}[a-z_]+)\M|'\s*(now|today|tomorrow|yesterday)\s*'"""
)

_INSTALL = f"""
CREATE SCHEMA {CLOCK_SCHEMA};
CREATE SEQUENCE {CLOCK_SCHEMA}.microseconds MINVALUE -9223372036854775808 START 0 NO CYCLE;
GRANT USAGE ON SCHEMA {CLOCK_SCHEMA} TO PUBLIC;
GRANT SELECT, UPDATE ON SEQUENCE {CLOCK_SCHEMA}.microseconds TO PUBLIC;
""" + "".join(
    f"""
ALTER FUNCTION pg_catalog.{name}() RENAME TO {REAL_PREFIX}{name};
CREATE FUNCTION pg_catalog.{name}() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN is_called
        THEN 'epoch'::pg_catalog.timestamptz OPERATOR(pg_catalog.+)
             (last_value OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval)
        ELSE pg_catalog.{REAL_PREFIX}{name}() END
    FROM {CLOCK_SCHEMA}.microseconds
$$;
"""
    for name in FUNCTIONS
)

TRANSACTION_SETTING = "job_harness.began"
"""Microseconds since 1970 at which a session's transaction began, where that is set."""

_STANDING = "".join(
    f"""
CREATE OR REPLACE FUNCTION pg_catalog.{name}() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN pg_catalog.current_setting('{TRANSACTION_SETTING}', true) <> ''
        THEN 'epoch'::pg_catalog.timestamptz OPERATOR(pg_catalog.+)
             (pg_catalog.current_setting('{TRANSACTION_SETTING}')::bigint OPERATOR(pg_catalog.*)
              '1 microsecond'::pg_catalog.interval)
        ELSE pg_catalog.clock_timestamp() END
$$;
"""
    for name in ("now", "transaction_timestamp")
)

_OBJECTS = f"""
SELECT 'default of ' || a.attrelid::regclass || '.' || quote_ident(a.attname), pg_get_expr(d.adbin, d.adrelid)
FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE d.oid >= {FIRST_USER_OID}
UNION ALL
SELECT 'view ' || c.oid::regclass, pg_get_viewdef(c.oid)
FROM pg_class c WHERE c.relkind IN ('v', 'm') AND c.oid >= {FIRST_USER_OID}
UNION ALL
SELECT 'function ' || p.oid::regprocedure, pg_get_functiondef(p.oid)
FROM pg_proc p WHERE p.prokind IN ('f', 'p') AND p.oid >= {FIRST_USER_OID}
  AND NOT (p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (%(functions)s))
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
UNION ALL
SELECT 'trigger ' || quote_ident(t.tgname) || ' on ' || t.tgrelid::regclass, pg_get_triggerdef(t.oid)
FROM pg_trigger t WHERE NOT t.tgisinternal AND t.oid >= {FIRST_USER_OID}
UNION ALL
SELECT 'constraint ' || quote_ident(k.conname) || ' on ' || k.conrelid::regclass, pg_get_constraintdef(k.oid)
FROM pg_constraint k WHERE k.contype = 'c' AND k.conrelid <> 0 AND k.oid >= {FIRST_USER_OID}
UNION ALL
SELECT 'policy ' || quote_ident(y.polname) || ' on ' || y.polrelid::regclass,
  concat_ws(' ', pg_get_expr(y.polqual, y.polrelid), pg_get_expr(y.polwithcheck, y.polrelid))
FROM pg_policy y
UNION ALL
SELECT 'rule ' || quote_ident(r.rulename) || ' on ' || r.ev_class::regclass, pg_get_ruledef(r.oid)
FROM pg_rewrite r WHERE r.rulename <> '_RETURN' AND r.oid >= {FIRST_USER_OID}
"""

_PROOF = """
CREATE TEMPORARY TABLE job_harness_proof (
    id int, by_default timestamptz DEFAULT now(), by_trigger timestamptz,
    by_clock timestamptz DEFAULT clock_timestamp()
);
CREATE FUNCTION pg_temp.job_harness_touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN new.by_trigger := transaction_timestamp(); RETURN new; END $$;
CREATE TRIGGER touch BEFORE INSERT ON job_harness_proof
    FOR EACH ROW EXECUTE FUNCTION pg_temp.job_harness_touch();
"""


class VirtualClockError(UsageError):
    """Time in this database does not follow the virtual clock, or not everywhere."""


def install(connection: psycopg.Connection[Any]) -> None:
    """Put the clock into a database, before any schema is installed there; its clones inherit it.

    Until `set_now` the clock tells the machine's time. Needs a superuser on PostgreSQL 13 or newer:
    raises EnvironmentUnavailable if there is none, as on managed databases. Harmless when repeated.
    """
    import psycopg

    if is_installed(connection):
        return
    if connection.info.parameter_status("is_superuser") != "on":
        raise EnvironmentUnavailable(
            f"role {connection.info.user!r} is not a superuser, so now() here cannot be made virtual",
            hint="Use a PostgreSQL that is started for the tests, or a DSN of a superuser.",
        )
    try:
        with connection.transaction():
            connection.execute("SET LOCAL allow_system_table_mods = on")
            connection.execute(_INSTALL.encode())
    except psycopg.Error as error:
        raise EnvironmentUnavailable(
            f"now() of this database cannot be made virtual: {error}",
            hint="PostgreSQL 13 or newer with superuser rights is needed; managed databases withhold them.",
        ) from error


# The clock is one for all sessions, and PostgreSQL's own now() stands still in a transaction.
# A sequence alone cannot give both: a statement that waits for a lock while others move the
# clock would write a time that it could never have written. So a session that knows when its
# transaction began says so, by SET LOCAL, which ends with the transaction, however that ends;
# clock_timestamp() and every session that says nothing follow the sequence.
def let_transactions_stand(connection: psycopg.Connection[Any]) -> None:
    """Let now() tell, in a transaction that has `SET LOCAL` the setting `job_harness.began`, that instant to its end.

    As PostgreSQL's own now() does; elsewhere it follows the clock. The clock must be installed.
    """
    with connection.transaction():
        connection.execute("SET LOCAL allow_system_table_mods = on")
        connection.execute(_STANDING.encode())


def standing_since(moment: datetime) -> str:
    """Return the statement that says when the transaction began."""
    return f"SET LOCAL {TRANSACTION_SETTING} = '{microseconds_of(moment)}'"


def is_installed(connection: psycopg.Connection[Any]) -> bool:
    """Whether this database has the clock."""
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{CLOCK_SCHEMA}.microseconds"]).fetchone()
    return row is not None and bool(row[0])


SET_NOW = f"SELECT setval('{CLOCK_SCHEMA}.microseconds', $1)".encode()
"""Sets the clock to a number of microseconds since 1970."""


def microseconds_of(moment: datetime) -> int:
    """Return what the clock is set to for an aware `moment`."""
    if moment.tzinfo is None:
        raise UsageError(f"{moment!r} has no time zone", hint="Give an aware datetime, as with UTC.")
    return (moment - EPOCH) // _MICROSECOND


def set_now(connection: psycopg.Connection[Any], moment: datetime) -> None:
    """Set the clock to an aware `moment`, for all sessions at once, committed or not."""
    connection.execute(SET_NOW.replace(b"$1", b"%s"), [microseconds_of(moment)])


def advance(connection: psycopg.Connection[Any], delta: timedelta) -> datetime:
    """Move the clock by `delta` and return what it shows then; one that was never set starts from real time."""
    row = connection.execute(
        f"SELECT setval('{CLOCK_SCHEMA}.microseconds', CASE WHEN is_called THEN last_value ELSE "
        f"(extract(epoch FROM pg_catalog.{REAL_PREFIX}clock_timestamp()) * 1000000)::bigint END + %s) "
        f"FROM {CLOCK_SCHEMA}.microseconds",
        [delta // _MICROSECOND],
    ).fetchone()
    assert row is not None, "a sequence always has its one row"
    return EPOCH + int(row[0]) * _MICROSECOND


def release(connection: psycopg.Connection[Any]) -> None:
    """Let the clock tell the machine's time again."""
    connection.execute(f"SELECT setval('{CLOCK_SCHEMA}.microseconds', 0, false)")


def check(connection: psycopg.Connection[Any]) -> None:
    """Prove on this database that time moves, and refuse a schema in which it does not move everywhere.

    Raises VirtualClockError when `now()` does not follow in a default or a trigger, or when an
    object of the schema uses CURRENT_TIMESTAMP and the like, 'now' literals, or was created before
    the clock. Must be called outside a transaction.
    """
    if not is_installed(connection):
        raise VirtualClockError(
            "this database has no virtual clock", hint="Call install() on the template before its schema."
        )
    _prove(connection)
    found = connection.execute(
        f"SELECT o.what, o.text FROM ({_OBJECTS}) AS o(what, text) WHERE o.text ~* %(suspicious)s ORDER BY 1",
        {"functions": list(FUNCTIONS), "suspicious": _SUSPICIOUS},
    ).fetchall()
    if found:
        lines = "\n".join(f"  {what}: {' '.join(str(text).split())[:160]}" for what, text in found)
        raise VirtualClockError(
            f"{len(found)} objects use the machine's time:\n{lines}",
            hint="Write now() instead of CURRENT_TIMESTAMP and its kin, and create the schema after install().",
        )


def _prove(connection: psycopg.Connection[Any]) -> None:
    """Set the clock to two moments and look at a default, a trigger and two columns; then put it back."""
    before = connection.execute(f"SELECT last_value, is_called FROM {CLOCK_SCHEMA}.microseconds").fetchone()
    assert before is not None, "a sequence always has its one row"
    moments = (
        datetime(2001, 2, 3, 4, 5, 6, 789012, tzinfo=UTC),
        datetime(2044, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
    )
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(_PROOF)
            for moment in moments:
                set_now(connection, moment)
                connection.execute("INSERT INTO job_harness_proof (id) VALUES (1)")
            rows = connection.execute(
                "SELECT by_default, by_trigger, by_clock FROM job_harness_proof ORDER BY 1"
            ).fetchall()
    finally:
        connection.execute(f"SELECT setval('{CLOCK_SCHEMA}.microseconds', %s, %s)", list(before))
    for moment, row in zip(moments, rows, strict=True):
        for place, seen in zip(("a default", "a trigger", "clock_timestamp()"), row, strict=True):
            if seen != moment:
                raise VirtualClockError(
                    f"time does not follow the virtual clock in {place}: set {moment}, seen {seen}",
                    hint="Another extension or search_path hides pg_catalog.now(); install the clock first.",
                )
