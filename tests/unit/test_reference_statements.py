"""The spelling of the named statements."""

from __future__ import annotations

import re

import pytest

from job_harness_reference.store.statements import NAMES, Statements, shipped, to_psycopg


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT :a::text, :a_2", "SELECT %(a)s::text, %(a_2)s"),
        ("SELECT ':a', \":a\", 1 -- :a", "SELECT ':a', \":a\", 1 -- :a"),
        ("SELECT 'it''s :a' || :a", "SELECT 'it''s :a' || %(a)s"),
        ("SELECT '00:10:00'::interval, 5 % 2, '%s'", "SELECT '00:10:00'::interval, 5 %% 2, '%%s'"),
        ("SELECT $$ :a $$, :b", "SELECT $$ :a $$, %(b)s"),
    ],
)
def test_parameters_are_found_outside_text_names_comments_and_casts(sql: str, expected: str) -> None:
    assert to_psycopg(sql) == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_that_tells_time_lets_the_caller_tell_it(name: str) -> None:
    sql = re.sub(r"--[^\n]*", "", shipped(name))
    assert "CURRENT_TIMESTAMP" not in sql
    bare = sql.replace("coalesce(:now::timestamptz, now())", "")
    assert "now()" not in bare


def test_expire_and_rescue_end_by_the_same_arrows() -> None:
    ends = {shipped(name).partition("ranked AS MATERIALIZED")[2] for name in ("expire", "rescue_stuck")}
    assert len(ends) == 1
    assert "retry_after" in ends.pop()


def test_the_limit_is_written_as_a_number() -> None:
    statements = Statements()
    text = statements.get("claim", limit=5).text
    assert "LIMIT 5" in text
    assert "limit)s" not in text
    assert statements.get("claim", limit=5) is statements.get("claim", limit=5)
