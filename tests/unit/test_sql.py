"""SQL is read by one lexer: what stands in a comment, a text or a quoted name misleads no reader of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import job_harness
from job_harness.review.check.facts import Facts
from job_harness.review.check.readers.schema import forget_functions, read_sql
from job_harness.subjects.processors.sql_statement import Nature, SqlStatement, statement_of
from job_harness.subjects.systems.database import on_virtual_time
from job_harness.worlds.sql import (
    changed_tables,
    code,
    may_be_put_into_one,
    may_stand_in_a_transaction,
    point_of,
    skeleton,
    tokens,
)

NESTED = "/* mail /* v2 */ worker */ "
IN_E_TEXT = r"update jobs set a = E'it\'s -- x', b = 'update mail ' from t"
IN_WITH = "with t as (select id from jobs where note <> '--' limit 1) update jobs set x = 1"


@pytest.mark.parametrize(
    ("sql", "point"),
    [
        ('UPDATE "public"."tool_job" SET x = 1', "update public.tool_job"),
        ("  -- settle\n UPDATE job SET x = 1", "update job"),
        ("SELECT a FROM pgboss.job WHERE b FOR UPDATE SKIP LOCKED", "select pgboss.job for update"),
        ("SELECT 1 FROM only job FOR NO KEY UPDATE", "select job for update"),
        ("UPDATE mail SET a = 1 WHERE id = (SELECT id FROM mail LIMIT 1 FOR UPDATE SKIP LOCKED)", "update mail"),
        ("SELECT * FROM (SELECT 1 FROM job) x", "select job"),
        ("INSERT INTO job VALUES (1)", "insert job"),
        ("delete from job", "delete job"),
        ("LOCK TABLE job IN SHARE MODE", "lock job"),
        ("merge into only a.b using c", "merge a.b"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "with a"),
        ("with recursive a as (select 1) select 1", "with a"),
        ("UPDATE job SET x = 1 WHERE id = (SELECT id FROM job FOR UPDATE SKIP LOCKED)", "update job"),
        ("delete from job where id in (select id from job for no key update)", "delete job"),
        (
            "DELETE FROM %s WHERE id IN (SELECT 1 FROM unnest($1))",
            "delete from %s where id in (select 1 from unnest($1))",
        ),
        ("", "empty statement"),
        ("-- nothing", "empty statement"),
        ("/* for jobs */ LISTEN jobs", "listen jobs"),
        ("SELECT  pg_notify('Jobs', $1) ;", "select pg_notify('jobs', $1)"),
        ("update", "update"),
        ("with", "with"),
        ("select '--x' from jobs for update", "select jobs for update"),
        ("select 'x from y' from jobs where a = ' for update'", "select jobs"),
        (f"{NESTED}update jobs set x=1", "update jobs"),
        (IN_E_TEXT, "update jobs"),
        (IN_WITH, "with t"),
        ('select 1 from "a -- b"', "select a -- b"),
        ("select $x$ from y $x$ from jobs", "select jobs"),
    ],
)
def test_a_statement_is_named_for_tapes_and_scenarios(sql: str, point: str) -> None:
    assert point_of(sql) == point


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        (IN_WITH, ["jobs"]),
        (IN_E_TEXT, ["jobs"]),
        (f'{NESTED}UPDATE ONLY "public".mail SET x = 1', ["public.mail"]),
        ("with a as (delete from b returning *) insert into c select * from a", ["b", "c"]),
        ("select 1 from jobs for no key update", []),
        ("do $x$ begin -- update a\n update b set x = 1; end $x$", ["b"]),
        ("create function f() returns void as $$ update b set x = 1 $$ language sql", []),
        ("insert into jobs values (1) on conflict do update set x = 1", ["jobs"]),
        ("select 'update jobs set', \"insert into x\" from y /* update z */", []),
    ],
)
def test_the_tables_that_a_statement_changes_are_seen_whatever_its_texts_say(sql: str, tables: list[str]) -> None:
    assert list(changed_tables(sql)) == tables


@pytest.mark.parametrize("sql", [f"{NESTED}BEGIN", "-- x\ncommit", "create unique index\nconcurrently a on b (c)"])
def test_what_begins_or_ends_a_transaction_is_seen_behind_a_comment(sql: str) -> None:
    assert not may_stand_in_a_transaction(sql)
    assert not may_be_put_into_one(sql)


def test_what_only_speaks_of_a_transaction_may_stand_in_one() -> None:
    assert may_be_put_into_one("select 1 /* commit */ from a -- begin")
    assert may_be_put_into_one("alter table a add b text default 'concurrently'")
    assert may_be_put_into_one("do $$ begin perform 1; end $$")
    assert may_stand_in_a_transaction("do $$ begin commit; end $$")
    assert not may_be_put_into_one("do $$ begin commit; end $$")


def test_a_text_is_cut_up_without_loss() -> None:
    sql = f'{NESTED}select a$1, $1, :name, x::int[1:2], 1.5, U&\'d\', "q""r", $a$ $$ $a$; -- é\nstraße \'open'
    assert "".join(token.text for token in tokens(sql)) == sql
    assert all(sql.startswith(token.text, token.at) for token in tokens(sql))
    assert [(token.text, token.kind) for token in code(sql) if token.kind not in ("sign", "word")] == [
        ("$1", "parameter"), (":name", "name"), ("::", "cast"), ("1", "number"), ("2", "number"), ("1.5", "number"),
        ("'d'", "text"), ('"q""r"', "quoted"), ("$a$ $$ $a$", "dollar"), (";", "end"),
    ]  # fmt: skip
    assert [token.line for token in code(sql) if token.text == "straße"] == [2]
    assert skeleton(f"select  '--'\n,{NESTED}$$x$$") == "select '' , ''"


def test_a_search_for_side_effects_reads_what_postgresql_reads() -> None:
    assert statement_of(r"update acc set name = E'it\'s', n = n + 1") == SqlStatement("UPDATE", "acc", Nature.ADDS)
    assert statement_of(f"{NESTED}update acc set n = n + 1") == SqlStatement("UPDATE", "acc", Nature.ADDS)
    assert statement_of("update acc set n = /* a /* n + 1 */ */ 1") == SqlStatement("UPDATE", "acc", Nature.SETS)


def test_a_migration_is_read_as_postgresql_reads_it() -> None:
    facts = Facts()
    read_sql("a.sql", f"{NESTED}CREATE TABLE tool_job (a text DEFAULT E'it\\'s', attempts int DEFAULT 3);", facts)
    assert [(column.name, column.default) for column in facts.columns] == [("a", "E'it\\'s'"), ("attempts", "3")]
    read_sql("b.sql", "-- select pgboss.create_queue('no')\nselect pgboss.create_queue('yes');", facts)
    assert [(call.queue, call.place.line) for call in facts.calls] == [("yes", 2)]
    body = "\n-- graphile_worker.add_job('no')\nselect graphile_worker.add_job('yes');"
    read_sql("c.sql", f"create function f() returns void as $${body}$$ language sql", facts)
    forget_functions("/* /* */ drop function f() */", facts)
    assert [(call.queue, call.place.line) for call in facts.added_in_sql["f"]] == [("yes", 3)]


@pytest.mark.parametrize(
    ("sql", "sent"),
    [
        ("select current_timestamp", "select now()"),
        ("select localtimestamp ( 3 ), t.current_date", "select (now()::timestamp::timestamp(3)), t.current_date"),
        (r"select E'it\'s current_date', current_date", r"select E'it\'s current_date', (now()::date)"),
        ("select /* /* */ current_date */ 1, $$current_date 'current_date'$$",
         "select /* /* */ current_date */ 1, $$(now()::date) 'current_date'$$"),
    ],
)  # fmt: skip
def test_only_the_keyword_itself_is_put_on_the_virtual_clock(sql: str, sent: str) -> None:
    assert on_virtual_time(sql) == sent


def test_there_is_one_lexer() -> None:
    """No other module has a pattern for comments, texts or dollar quotes of SQL; the judged has its own, on purpose."""
    root = Path(job_harness.__file__).parent
    reader = re.compile(r"--\[\^|/\\\*\.\*\?|'\(\?:\[\^'|\\\$.{0,12}\\\$\.\*\?")
    hints = ("--[^", "*.*?", "(?:[^", "$.*?")  # a module without any of them is not parsed
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if any(hint in (text := path.read_text(encoding="utf-8")) for hint in hints)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and reader.search(node.value)
    }
    assert found == {"worlds/sql.py"}
