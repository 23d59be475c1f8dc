"""`job-harness init --queue`: a draft that works on the table as it is, from a schema or from a database."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from job_harness.doors.cli import main
from job_harness.engines.conformance.judge import Level, Mark, conform
from job_harness.engines.queue_file import QueueFileEngine
from job_harness.errors import EnvironmentUnavailable, ExitCode
from job_harness.worlds.postgres import Cluster, provision

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples" / "queues"
SCHEMAS = {
    "a table with everything": (EXAMPLES / "mail.sql").read_text(encoding="utf-8"),
    "a key that the sender gives": "CREATE TABLE task (id uuid PRIMARY KEY, "
    "state text CHECK (state IN ('new', 'claimed', "
    "'success', 'failure')) NOT NULL, tries int NOT NULL DEFAULT 0, max_attempt int, leased_by text, "
    "claimed_at timestamptz, kind text NOT NULL)",
    "an enum, and a name within the payload": "CREATE TYPE s AS ENUM ('PENDING', 'RUNNING', 'DONE', 'DEAD'); "
    "CREATE TABLE \"Job\" (id serial PRIMARY KEY, status s NOT NULL DEFAULT 'PENDING', attempts int DEFAULT 0, "
    "data jsonb, lock_version int NOT NULL DEFAULT 0, locked_until timestamptz, last_error text, "
    "created_at timestamptz DEFAULT CURRENT_TIMESTAMP); CREATE TABLE account (id int PRIMARY KEY, status text)",
    "heartbeats without a lease": "CREATE TABLE job (id bigserial PRIMARY KEY, payload jsonb NOT NULL, status text "
    "DEFAULT 'ready', attempts int DEFAULT 0, claimed_at timestamptz, heartbeat_at timestamptz, claim_token uuid)",
    "names to quote": 'CREATE SCHEMA "My App"; CREATE TABLE "My App"."Jobs" (id bigserial PRIMARY KEY, status text NOT '
    "NULL DEFAULT 'queued', attempts int NOT NULL DEFAULT 0, payload jsonb, locked_until timestamptz)",
    "columns to fill, and a table in partitions": "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY, "
    "at timestamptz DEFAULT now(), status text NOT NULL, attempts int NOT NULL DEFAULT 0, payload jsonb, "
    "locked_until timestamptz, tags text[] NOT NULL, every interval NOT NULL, PRIMARY KEY (id, at)) "
    "PARTITION BY RANGE (at); CREATE TABLE p PARTITION OF jobs DEFAULT",
}


@pytest.fixture(scope="module")
def server() -> Cluster:
    try:
        return provision()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_draft_conforms_as_it_is(
    name: str, tmp_path: Path, server: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOB_HARNESS_DSN", server.url())
    monkeypatch.chdir(tmp_path)
    Path("schema.sql").write_text(SCHEMAS[name], encoding="utf-8")
    assert main(["init", "--queue", "schema.sql"]) == ExitCode.PASS
    assert "job-harness explore queue.yaml" in capsys.readouterr().out
    assert main(["init", "--queue", "schema.sql"]) == ExitCode.USAGE  # nothing is overwritten
    drafted = Path("queue.yaml").read_text(encoding="utf-8")
    assert ("\nheartbeat: |" in drafted) == ("locked_until" in SCHEMAS[name] or "heartbeat_at" in SCHEMAS[name])
    unused = drafted.partition("Used by no statement here: ")[2].partition(".")[0]
    assert not {"heartbeat_at", "max_attempt", "leased_by"} & set(unused.split(", "))
    engine = QueueFileEngine("queue.yaml", dsn=server.url())
    try:
        marks = [result.mark for result in conform(engine, levels=[Level.CORE]).results]
    finally:
        engine.close()
    assert not {Mark.FAIL, Mark.OPEN} & set(marks)
    assert marks.count(Mark.PASS) >= 1
    assert main(["explore", "queue.yaml", "--no-sessions", "--runs", "2", "--quiet"]) == ExitCode.PASS
    assert "queue.yaml is a draft: its statements are not those of your code." in capsys.readouterr().out


def test_a_draft_of_a_database_reads_it_and_keeps_its_password_out(
    tmp_path: Path, server: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", server.create_database())
    monkeypatch.setenv("JOB_HARNESS_DSN", server.url())
    with psycopg.connect(server.create_database()) as live:
        live.execute(SCHEMAS["a table with everything"].encode())
        live.commit()
        url = live.info.dsn + " password=secret"
        assert main(["init", str(tmp_path), "--queue", url]) == ExitCode.PASS
    text = (tmp_path / "queue.yaml").read_text(encoding="utf-8")
    assert "connection: env:DATABASE_URL\n" in text
    assert "secret" not in text


def test_a_schema_that_does_not_load_is_told_with_its_line(
    tmp_path: Path, server: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOB_HARNESS_DSN", server.url())
    path = tmp_path / "schema.sql"
    path.write_text("CREATE TABLE a (id int);\nCREATE TABLE b (id nit);\n")
    assert main(["init", str(tmp_path), "--queue", str(path)]) == ExitCode.USAGE
    assert f'{path}:2: schema: it does not load: type "nit" does not exist' in capsys.readouterr().err
    path.write_text("CREATE TABLE a (id int);\n")
    assert main(["init", str(tmp_path), "--queue", str(path)]) == ExitCode.USAGE
    assert "no table here has a column status or state" in capsys.readouterr().err
    assert not (tmp_path / "queue.yaml").exists()
