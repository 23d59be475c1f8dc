"""now() follows the virtual clock wherever it can, and what cannot follow is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.worlds.postgres import Cluster, provision, virtual_clock
from job_harness.worlds.postgres.provider import find_embedded, find_system
from job_harness.worlds.postgres.virtual_clock import VirtualClockError

pytestmark = pytest.mark.postgres

MOMENT = datetime(2031, 5, 6, 7, 8, 9, 123457, tzinfo=UTC)
SCHEMA = """
CREATE TABLE item (id serial PRIMARY KEY, created timestamptz DEFAULT now(), touched timestamptz);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
    $$ BEGIN new.touched := now(); RETURN new; END $$;
CREATE TRIGGER touch BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE job (name text, at timestamptz DEFAULT now() + interval '1 hour') PARTITION BY LIST (name);
CREATE TABLE job_a PARTITION OF job (at DEFAULT clock_timestamp()) FOR VALUES IN ('a');
CREATE TABLE job_b PARTITION OF job FOR VALUES IN ('b');
CREATE VIEW due AS SELECT count(*) AS n FROM item WHERE created <= statement_timestamp();
CREATE FUNCTION moment() RETURNS timestamptz LANGUAGE sql AS $$ SELECT transaction_timestamp() $$;
CREATE INDEX ON item (created);
"""
PROVIDERS = [
    pytest.param(name, marks=pytest.mark.skipif(find()[0] is None, reason=find()[1]))
    for name, find in (("embedded", find_embedded), ("system", find_system))
]

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module", params=PROVIDERS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with provision(provider=request.param, environ={}) as started:
        with psycopg.connect(started.create_database("template"), autocommit=True) as connection:
            virtual_clock.install(connection)
            virtual_clock.install(connection)
            connection.execute(SCHEMA.encode())
            virtual_clock.set_now(connection, MOMENT)
        yield started


@pytest.fixture
def clone(cluster: Cluster) -> Iterator[Connection]:
    with psycopg.connect(cluster.create_database(template="template"), autocommit=True) as connection:
        name = connection.info.dbname
        yield connection
    cluster.drop_database(name)


def row(connection: Connection, query: str) -> tuple[object, ...]:
    found = connection.execute(query.encode()).fetchone()
    assert found is not None
    return found


def test_clones_inherit_the_clock_in_defaults_triggers_partitions_views_and_functions(
    clone: Connection,
) -> None:
    assert row(clone, "INSERT INTO item DEFAULT VALUES RETURNING created, touched") == (MOMENT, MOMENT)
    assert row(clone, "INSERT INTO job (name) VALUES ('b') RETURNING at") == (MOMENT + timedelta(hours=1),)
    assert row(clone, "INSERT INTO job_a (name) VALUES ('a') RETURNING at") == (MOMENT,)
    assert row(clone, "SELECT n, moment() FROM due") == (1, MOMENT)
    names = "now(), transaction_timestamp(), statement_timestamp(), clock_timestamp(), pg_catalog.now()"
    assert row(clone, f"SELECT {names}") == (MOMENT,) * 5
    virtual_clock.check(clone)


def test_the_clock_moves_by_microseconds_and_for_other_sessions(cluster: Cluster, clone: Connection) -> None:
    later = virtual_clock.advance(clone, timedelta(days=400, microseconds=1))
    assert later == MOMENT + timedelta(days=400, microseconds=1)
    with psycopg.connect(cluster.url(clone.info.dbname)) as other:
        assert row(other, "SELECT now()") == (later,)
    for moment in (datetime(1970, 1, 1, tzinfo=UTC), datetime(1905, 1, 1, 0, 0, 0, 7, tzinfo=UTC)):
        virtual_clock.set_now(clone, moment)
        assert row(clone, "SELECT now()") == (moment,)
    with pytest.raises(UsageError, match="no time zone"):
        virtual_clock.set_now(clone, datetime(2030, 1, 1))  # noqa: DTZ001 - the point of the test


def test_a_clock_that_was_never_set_or_is_released_tells_the_machines_time(clone: Connection) -> None:
    virtual_clock.release(clone)
    assert row(clone, "SELECT now() BETWEEN CURRENT_TIMESTAMP - interval '1 minute' AND CURRENT_TIMESTAMP") == (True,)
    virtual_clock.advance(clone, timedelta(days=1))
    assert row(clone, "SELECT round(extract(epoch FROM now() - CURRENT_TIMESTAMP) / 3600)::int") == (24,)


def test_checking_leaves_the_clock_and_the_database_as_they_were(clone: Connection) -> None:
    virtual_clock.check(clone)
    assert row(clone, "SELECT now()") == (MOMENT,)
    virtual_clock.release(clone)
    virtual_clock.check(clone)
    assert row(clone, "SELECT is_called FROM job_harness_clock.microseconds") == (False,)
    assert row(clone, "SELECT to_regclass('job_harness_proof') IS NULL") == (True,)


def test_a_query_by_time_keeps_its_index(clone: Connection) -> None:
    clone.execute("SET enable_seqscan = off")
    plan = clone.execute("EXPLAIN SELECT * FROM item WHERE created <= now()").fetchall()
    assert any("Index Cond" in str(line) for line in plan)


@pytest.mark.parametrize(
    ("ddl", "name"),
    [
        ("CREATE TABLE bad (at timestamptz DEFAULT CURRENT_TIMESTAMP)", "default of bad.at"),
        ("CREATE TABLE bad (at timestamp DEFAULT LOCALTIMESTAMP(3))", "default of bad.at"),
        ("CREATE TABLE bad (at date DEFAULT CURRENT_DATE)", "default of bad.at"),
        ("CREATE VIEW bad AS SELECT CURRENT_TIMESTAMP AS at", "view bad"),
        ("CREATE FUNCTION bad() RETURNS date LANGUAGE sql AS $$ SELECT 'today'::date $$", "function bad()"),
        (
            "CREATE FUNCTION bad() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RETURN 'now'; END $$",
            "function bad()",
        ),
        ("CREATE TABLE bad (at date CHECK (at > localtimestamp))", "constraint bad_at_check on bad"),
    ],
)
def test_what_keeps_to_the_machines_time_is_named_and_refused(clone: Connection, ddl: str, name: str) -> None:
    clone.execute(ddl.encode())
    with pytest.raises(VirtualClockError, match="1 objects use the machine's time") as caught:
        virtual_clock.check(clone)
    assert f"\n  {name}: " in str(caught.value)


def test_a_schema_from_before_the_clock_is_refused(cluster: Cluster) -> None:
    with psycopg.connect(cluster.create_database(), autocommit=True) as connection:
        with pytest.raises(VirtualClockError, match="has no virtual clock"):
            virtual_clock.check(connection)
        connection.execute("CREATE TABLE early (at timestamptz DEFAULT now())")
        virtual_clock.install(connection)
        with pytest.raises(VirtualClockError, match=r"default of early\.at: job_harness_real_now\(\)"):
            virtual_clock.check(connection)


def test_a_clock_that_does_not_reach_a_session_is_noticed(clone: Connection) -> None:
    clone.execute(
        "CREATE SCHEMA shadow; CREATE FUNCTION shadow.now() RETURNS timestamptz LANGUAGE sql "
        "AS $$ SELECT '2000-01-01Z'::timestamptz $$; SET search_path = shadow, pg_catalog, public"
    )
    with pytest.raises(VirtualClockError, match="does not follow the virtual clock in a default"):
        virtual_clock.check(clone)


def test_a_role_without_superuser_rights_is_told(cluster: Cluster, clone: Connection) -> None:
    name = f"plain_{os.getpid()}"
    cluster.admin().execute(f"CREATE ROLE {name} LOGIN".encode())
    url = cluster.url(clone.info.dbname).replace("postgres@", f"{name}@", 1)
    with psycopg.connect(url, autocommit=True) as plain:
        virtual_clock.advance(plain, timedelta(hours=1))
        assert row(plain, "SELECT now()") == (MOMENT + timedelta(hours=1),)
    with (
        psycopg.connect(cluster.url().replace("postgres@", f"{name}@", 1), autocommit=True) as plain,
        pytest.raises(EnvironmentUnavailable, match="is not a superuser"),
    ):
        virtual_clock.install(plain)
