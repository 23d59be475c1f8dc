"""Statements sent together are one transaction, and a row that reads as before is the same object."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from job_harness.worlds.postgres import Cluster, provision
from job_harness.worlds.postgres.absence import PatientConnection
from job_harness.worlds.postgres.pipeline import PreparedQuery, StatementPipeline

pytestmark = pytest.mark.postgres

READ = PreparedQuery(b"SELECT id, words, at FROM item ORDER BY id", kept=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with provision() as started:
        yield started


@pytest.fixture
def connection(cluster: Cluster) -> Iterator[PatientConnection]:
    with PatientConnection.to(cluster.create_database()) as connection:
        connection.execute("CREATE TABLE item (id int PRIMARY KEY, words text, at timestamptz)")
        yield connection


def insert(number: int, words: object = None) -> PreparedQuery:
    return PreparedQuery(b"INSERT INTO item VALUES ($1, $2, 'epoch') RETURNING id", [number, words])


def test_each_statement_returns_its_rows_by_column(connection: PatientConnection) -> None:
    told = StatementPipeline(connection).run(insert(1, "one"), PreparedQuery(b"SET jit = off"), insert(2), READ)
    assert told[:3] == [[{"id": 1}], [], [{"id": 2}]]
    assert [(row["id"], row["words"], row["at"].timestamp()) for row in told[3]] == [(1, "one", 0.0), (2, None, 0.0)]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (insert(1), psycopg.errors.UniqueViolation),
        (insert(3, "a\0b"), psycopg.DataError),
        (PreparedQuery(b"SELEC"), psycopg.errors.SyntaxError),
    ],
    ids=["refused", "no value of a column", "no SQL"],
)
def test_one_that_is_refused_leaves_none_behind(
    connection: PatientConnection, wrong: PreparedQuery, error: type[psycopg.Error]
) -> None:
    pipeline = StatementPipeline(connection)
    pipeline.run(insert(1))
    for _ in range(2):
        with pytest.raises(error):
            pipeline.run(insert(2), wrong, READ)
    assert [row["id"] for row in pipeline.run(READ)[0]] == [1]
    assert connection.execute("SELECT count(*) FROM item").fetchone() == (1,)


def test_a_row_is_the_same_object_until_it_reads_otherwise(connection: PatientConnection) -> None:
    pipeline = StatementPipeline(connection)
    *_, before = pipeline.run(insert(1, "one"), insert(2, "two"), READ)
    _, after = pipeline.run(PreparedQuery(b"UPDATE item SET words = $1 WHERE id = 2", ["due"]), READ)
    assert after[0] is before[0]
    assert (before[1]["words"], after[1]["words"]) == ("two", "due")


def test_what_is_prepared_outlives_transactions_of_others(connection: PatientConnection) -> None:
    pipeline = StatementPipeline(connection)
    pipeline.run(insert(1), READ)
    for _ in range(10):  # psycopg would prepare what comes often, and forget all that is prepared at a rollback
        connection.execute("SELECT 1")
    connection.execute("BEGIN")
    pipeline.run(insert(2))
    connection.execute("ROLLBACK")
    assert [row["id"] for row in pipeline.run(READ)[0]] == [1]
