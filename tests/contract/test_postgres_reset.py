"""A reset gives back the database that the resetter found, whatever a test did to it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from job_harness.errors import UsageError
from job_harness.worlds.postgres import Cluster, KeptDatabase, Reset, Resetter, provision

pytestmark = pytest.mark.postgres

SCHEMA = """
CREATE SCHEMA "other Schema";
CREATE TABLE parent (id serial PRIMARY KEY, next_id int);
CREATE TABLE child (id bigserial PRIMARY KEY, parent_id int NOT NULL REFERENCES parent);
ALTER TABLE parent ADD FOREIGN KEY (next_id) REFERENCES child (id);
CREATE TABLE "other Schema"."Odd ""name"" x" (id int GENERATED ALWAYS AS IDENTITY, note text);
CREATE TABLE job (id int, name text, PRIMARY KEY (id, name)) PARTITION BY LIST (name);
CREATE TABLE job_a PARTITION OF job FOR VALUES IN ('a');
CREATE TABLE audit (what text);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO audit VALUES (tg_op); RETURN NULL; END $$;
CREATE TRIGGER remember AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION remember();
CREATE TABLE version (number int);
INSERT INTO version VALUES (12);
CREATE SEQUENCE tickets START 100;
SELECT nextval('tickets');
CREATE MATERIALIZED VIEW numbers AS SELECT number FROM version;
CREATE MATERIALIZED VIEW children AS SELECT count(*) AS n FROM child;
CREATE UNIQUE INDEX ON children (n);
CREATE MATERIALIZED VIEW twice AS SELECT n * 2 AS n FROM children;
CREATE MATERIALIZED VIEW never AS SELECT 1 WITH NO DATA;
"""
WRITES = """
INSERT INTO parent DEFAULT VALUES;
INSERT INTO child (parent_id) SELECT id FROM parent;
UPDATE parent SET next_id = (SELECT max(id) FROM child);
INSERT INTO "other Schema"."Odd ""name"" x" (note) VALUES ('x');
INSERT INTO job VALUES (1, 'a');
SELECT nextval('tickets');
"""
COUNT = """
SELECT (SELECT count(*) FROM parent) + (SELECT count(*) FROM child) + (SELECT count(*) FROM job)
     + (SELECT count(*) FROM audit) + (SELECT count(*) FROM "other Schema"."Odd ""name"" x")
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with provision(environ={}) as started:
        with psycopg.connect(started.create_database("template"), autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
        yield started


@pytest.fixture(scope="module")
def shared(cluster: Cluster) -> Iterator[tuple[str, Resetter]]:
    url = cluster.create_database("shared", template="template")
    with Resetter(cluster, "shared", keep=["version"]) as resetter:
        yield url, resetter


@pytest.fixture
def connection(shared: tuple[str, Resetter]) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(shared[0], autocommit=True) as opened:
        yield opened


@pytest.fixture
def resetter(shared: tuple[str, Resetter]) -> Resetter:
    shared[1].reset()
    return shared[1]


Connection = psycopg.Connection[tuple[object, ...]]


def one(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_rows_are_gone_whatever_refers_to_them_and_no_trigger_fires(resetter: Resetter, connection: Connection) -> None:
    for _ in range(3):
        connection.execute(WRITES.encode())
        assert resetter.reset() == Reset("deleted")
        assert one(connection, COUNT) == 0


def test_sequences_return_to_where_they_stood(resetter: Resetter, connection: Connection) -> None:
    connection.execute(WRITES.encode())
    resetter.reset()
    assert one(connection, "INSERT INTO parent DEFAULT VALUES RETURNING id") == 1
    assert one(connection, "SELECT nextval('tickets')") == 101


def test_materialized_views_hold_what_they_held(cluster: Cluster, resetter: Resetter, connection: Connection) -> None:
    def read() -> list[object]:
        held = "SELECT array_agg(n) FROM (SELECT n FROM children UNION ALL SELECT n FROM twice) AS v"
        return [one(connection, held), one(connection, "SELECT relispopulated FROM pg_class WHERE relname = 'never'")]

    connection.execute(WRITES.encode())
    refresh = (
        "REFRESH MATERIALIZED VIEW CONCURRENTLY children; REFRESH MATERIALIZED VIEW {}; REFRESH MATERIALIZED VIEW {}"
    )
    for statement in refresh.format("twice", "never").split(";"):
        connection.execute(statement.encode())
    assert read() == [[1, 2], True]
    kept = KeptDatabase(cluster, "shared", template="template")
    assert resetter.reset() == Reset("deleted")
    assert read() == [[0, 0], False]
    kept.restore()
    assert read() == [[1, 2], True]
    kept.close()
    resetter.reset()
    assert one(connection, "SELECT number FROM numbers") == 12


def test_kept_tables_keep_rows_and_sequences(resetter: Resetter, connection: Connection) -> None:
    connection.execute(WRITES.encode())
    odd = 'other Schema.Odd "name" x'
    assert resetter.reset(keep=[odd]) == Reset("deleted")
    assert one(connection, 'SELECT count(*) FROM "other Schema"."Odd ""name"" x"') == 1
    insert = 'INSERT INTO "other Schema"."Odd ""name"" x" (note) VALUES (\'y\') RETURNING id'
    assert one(connection, insert) == 2
    assert one(connection, "SELECT number FROM version") == 12
    resetter.reset()
    assert one(connection, COUNT) == 0


def test_what_to_keep_is_checked(resetter: Resetter) -> None:
    with pytest.raises(UsageError, match="no table 'parnet' to keep \\(did you mean 'parent'"):
        resetter.reset(keep=["parnet"])
    with pytest.raises(UsageError, match=r"public\.child cannot be kept while public\.parent"):
        resetter.reset(keep=["child"])
    assert resetter.reset(keep=["child", "parent"]) == Reset("deleted")


def test_seed_rows_are_named(cluster: Cluster) -> None:
    with Resetter(cluster, "template") as resetter:
        assert resetter.filled() == ("public.version",)
        assert "public.job" in resetter.tables
        assert "public.job_a" not in resetter.tables


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE more (n int)",
        "DROP TABLE audit",
        "ALTER TABLE child ADD COLUMN more int",
        "ALTER TABLE child ALTER COLUMN id DROP DEFAULT",
        "CREATE INDEX ON child (parent_id)",
        "CREATE TABLE job_b PARTITION OF job FOR VALUES IN ('b')",
        "ALTER TABLE child DISABLE TRIGGER remember",
        "CREATE OR REPLACE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER SEQUENCE tickets INCREMENT 5",
        "GRANT SELECT ON parent TO PUBLIC",
        "DROP SCHEMA public CASCADE",
    ],
)
def test_ddl_is_noticed_and_the_template_cloned(
    cluster: Cluster, resetter: Resetter, connection: Connection, ddl: str
) -> None:
    connection.execute(WRITES.encode())
    connection.execute(ddl.encode())
    connection.close()
    assert resetter.reset() == Reset("cloned")
    with psycopg.connect(cluster.url("shared")) as again:
        assert one(again, COUNT) == 0
        assert one(again, "SELECT number FROM version") == 12
    assert resetter.reset() == Reset("deleted")


@pytest.mark.parametrize(
    "harmless",
    [
        "CREATE TEMPORARY TABLE passing (id serial PRIMARY KEY, note text)",
        "TRUNCATE parent, child RESTART IDENTITY CASCADE",
        "ANALYZE",
        "VACUUM FULL parent",
    ],
)
def test_what_only_looks_like_ddl_costs_no_clone(resetter: Resetter, connection: Connection, harmless: str) -> None:
    connection.execute(WRITES.encode())
    connection.execute(harmless.encode())
    assert resetter.reset() == Reset("deleted")
    assert one(connection, COUNT) == 0
    assert resetter.reset() == Reset("deleted")


def test_sessions_left_open_are_ended_for_a_clone_and_counted(resetter: Resetter, connection: Connection) -> None:
    connection.execute("CREATE TABLE more (n int)")
    assert resetter.reset() == Reset("cloned", ended_sessions=1)


def test_a_transaction_left_open_is_named(
    resetter: Resetter, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job_harness.worlds.postgres.resetter.LOCK_SECONDS", 0.05)
    resetter.close()
    connection.execute("BEGIN")
    connection.execute("INSERT INTO version VALUES (13)")
    connection.execute("LOCK TABLE parent")
    with pytest.raises(UsageError, match=r"rows are locked .* session \d+ \(idle in transaction\): LOCK"):
        resetter.reset()
    connection.execute("ROLLBACK")
    assert resetter.reset() == Reset("deleted")


def test_ddl_without_a_template_is_refused(cluster: Cluster) -> None:
    with (
        psycopg.connect(cluster.create_database("single"), autocommit=True) as connection,
        Resetter(cluster, "single") as resetter,
    ):
        assert resetter.reset() == Reset("deleted")
        connection.execute("CREATE TABLE more (n int)")
        with pytest.raises(UsageError, match="which has no template"):
            resetter.reset()


def test_a_session_that_the_test_ended_is_opened_again(resetter: Resetter, connection: Connection) -> None:
    connection.execute(WRITES.encode())
    connection.execute(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert resetter.reset() == Reset("deleted")
    assert one(connection, COUNT) == 0


def test_a_role_without_superuser_rights_resets_in_the_order_of_references(cluster: Cluster) -> None:
    cluster.admin().execute("CREATE ROLE plain LOGIN CREATEDB")
    url = cluster.url().replace("postgres@", "plain@", 1)
    with provision(url, environ={}) as guest:
        mine = guest.create_database("mine")
        with psycopg.connect(mine, autocommit=True) as connection:
            connection.execute("CREATE TABLE parent (id serial PRIMARY KEY)")
            connection.execute("CREATE TABLE child (id serial, parent_id int NOT NULL REFERENCES parent)")
            with Resetter(guest, "mine") as resetter:
                connection.execute("INSERT INTO parent DEFAULT VALUES; INSERT INTO child (parent_id) VALUES (1)")
                assert resetter.reset() == Reset("deleted")
                assert one(connection, "INSERT INTO parent DEFAULT VALUES RETURNING id") == 1
            connection.execute("ALTER TABLE parent ADD child_id int; ALTER TABLE child ADD PRIMARY KEY (id)")
            connection.execute("ALTER TABLE parent ADD FOREIGN KEY (child_id) REFERENCES child")
            with Resetter(guest, "mine") as resetter:
                connection.execute("INSERT INTO child (parent_id) VALUES (1)")
                assert resetter.reset() == Reset("deleted")
                assert one(connection, "SELECT count(*) FROM parent") == 0


@pytest.mark.parametrize(
    "resists",
    [
        (
            "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            "CREATE TRIGGER stay BEFORE DELETE ON soft FOR EACH ROW EXECUTE FUNCTION stay()"
        ),
        "CREATE RULE stay AS ON DELETE TO soft DO INSTEAD UPDATE soft SET gone = true",
        (
            "ALTER TABLE soft ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
            "CREATE POLICY own ON soft USING (false) WITH CHECK (true)"
        ),
    ],
    ids=["a trigger", "a rule", "row security"],
)
def test_rows_that_no_delete_takes_away_are_gone_after_a_reset_all_the_same(cluster: Cluster, resists: str) -> None:
    cluster.admin().execute("DO $$ BEGIN CREATE ROLE softly LOGIN CREATEDB; EXCEPTION WHEN OTHERS THEN NULL; END $$")
    with provision(cluster.url().replace("postgres@", "softly@", 1), environ={}) as guest:
        soft = guest.create_database()
        name = conninfo_to_dict(soft)["dbname"]
        assert isinstance(name, str)
        with psycopg.connect(soft, autocommit=True) as own:
            own.execute(f"CREATE TABLE soft (gone boolean); {resists}".encode())
            with Resetter(guest, name) as resetter:
                own.execute("INSERT INTO soft VALUES (false)")
                assert resetter.reset() == Reset("deleted")
        with psycopg.connect(cluster.url(name), autocommit=True) as all_seeing:
            assert one(all_seeing, "SELECT count(*) FROM soft") == 0


@pytest.mark.long
def test_many_resets_vacuum_once(resetter: Resetter, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job_harness.worlds.postgres.resetter.VACUUM_EVERY", 3)
    for _ in range(7):
        connection.execute(WRITES.encode())
        assert resetter.reset() == Reset("deleted")
