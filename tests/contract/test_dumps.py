"""Dumps and exported rows as evidence: they are loaded as data, and what does not fit is left out and said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from job_harness.doors.cli import main

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

MAIL = """
format: 1
jobs: mail
table: mail
columns: {id: job.id, status: job.state, attempts: job.attempts, max_attempts: '3', created_at: job.created_at,
  started_at: job.started_at, completed_at: job.done_at}
status: {queued: PENDING, sending: PROCESSING, sent: COMPLETED}
"""
DUMP = """
SELECT pg_catalog.set_config('search_path', '', false);
CREATE FUNCTION public.evil() RETURNS void LANGUAGE sql AS $$ CREATE TABLE public.owned () $$;
CREATE TABLE public.mail (
    id bigint DEFAULT nextval('public.evil'::regclass) NOT NULL,
    state public."own type" NOT NULL,
    attempts integer DEFAULT 0,
    created_at timestamp with time zone DEFAULT public.evil(),
    started_at timestamp(3) with time zone,
    done_at timestamp with time zone,
    "no""te" character varying(20),
    CONSTRAINT mail_check CHECK ((attempts >= 0))
);
CREATE TABLE public.secrets (
    id bigint
);
COPY public.secrets (id) FROM stdin;
1
\\.
COPY public.mail (id, state, attempts, created_at, started_at, done_at, "no""te") FROM stdin;
1\tsent\t4\t2026-01-01 00:00:00+00\t2026-01-01 00:01:00+00\t2026-01-01 00:02:00+00\t'); DROP TABLE mail; --
2\tsent\tmany\t2026-01-01 00:00:00+00\t2026-01-01 00:01:00+00\t2026-01-01 00:02:00+00\t\\N
3\tsent
4\tsent\t1\t2026-01-01 00:00:00+00\t2026-01-01 00:01:00+00\t2026-01-01 00:02:00+00\tnul \\000
5\tsent\t1\t2026-01-01 00:00:00+00\t2026-01-01 00:01:00+00\t2026-01-01 00:02:00+00\t\u001b[2J
"""
DUMPED = ("mail.yaml", "dump.sql")
LOG = "job_harness_audit"
TOLD = {
    "jobs": "mail",
    "table": "mail",
    "columns": {"id": "evil()", "status": "evil()", "attempts": "1/0"},
    "deletes": False,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mail.yaml").write_text(MAIL)
    return tmp_path


def audited(capsys: pytest.CaptureFixture[str], source: str, file: str, *options: str) -> tuple[int, str]:
    code = main(["audit", source, "--database", file, *options])
    told = capsys.readouterr()
    return code, " ".join((told.out + told.err).split())


def test_a_dump_is_data_and_what_does_not_fit_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dump.sql").write_text(DUMP + "\\.\n", newline="\n")
    code, told = audited(capsys, "mail.yaml", "dump.sql")
    assert code == 1
    assert "attempt_overrun" in told
    assert "fail mail in dump.sql: 2 jobs" in told
    assert "left out because they do not fit their table: 3 rows" in told
    os.utime("dump.sql", (1_790_000_000, 1_790_000_000))
    assert "read as of 2026-09-21 14:13:20 UTC, when the file was last changed" in audited(capsys, *DUMPED)[1]
    assert "last changed" not in audited(capsys, *DUMPED, "--at", "2026-02-01")[1]
    (folder / "dump.sql").write_text(DUMP.replace("\t4\t", "\t1\t") + "6\tse", newline="\n")
    code, told = audited(capsys, "mail.yaml", "dump.sql")
    assert code == 3, "half a dump that shows nothing is no pass"
    assert "the dump ends in the middle of public.mail: what follows is missing" in told
    (folder / "dump.sql").write_bytes(b"PGDMP\x01\x0e")
    assert "pg_restore -f dump.sql" in audited(capsys, "mail.yaml", "dump.sql")[1]
    (folder / "dump.sql").write_text("INSERT INTO public.mail VALUES (1);\n")
    code, told = audited(capsys, "mail.yaml", "dump.sql")
    assert (code, "none of its 0 tables is one that is read here" in told) == (2, True)


def test_the_schema_of_another_version_is_refused_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dump.sql").write_text(DUMP.replace("started_at", "claimed_at") + "\\.\n", newline="\n")
    code, told = audited(capsys, "mail.yaml", "dump.sql")
    assert code == 2
    assert "the database has no such table or column: column job.started_at does not exist" in told


def test_exported_rows_have_the_types_that_all_their_values_have(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["id", "state", "attempts", "created_at", "started_at", "done_at"]
    rows = [["1", "sent", "4", "2026-01-01", "2026-01-01 00:01", "2026-01-01 00:02"], ["2", "queued", "0", "", "", ""]]
    (folder / "rows.csv").write_text("\n".join(",".join(row) for row in (names, *rows, ["half", "a row"])))
    code, told = audited(capsys, "mail.yaml", "rows.csv")
    assert (code, "attempt_overrun" in told) == (1, True)
    assert "left out because they are not rows: 1 lines, such as line 4" in told
    objects = [json.dumps({key: value or None for key, value in zip(names, row, strict=True)}) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join([*objects, '{"id": ', "[" * 100_000, '{"id": 3, "state": "lost"}']))
    code, told = audited(capsys, "mail.yaml", "rows.jsonl")
    assert (code, "`status` does not say what 'lost' means" in told) == (2, True)
    assert audited(capsys, "log", "rows.jsonl")[0] == 2
    assert "is neither a URL of a database nor a file" in audited(capsys, "mail.yaml", "missing.csv")[1]


def logged(at: int, writer: str, before: str | None, after: str | None) -> str:
    def entry(state: str | None, attempts: int) -> str:
        return "\\N" if state is None else json.dumps({"id": "7", "status": state, "attempts": attempts})

    sides = f"{entry(before, at // 2)}\t{entry(after, (at + 1) // 2)}"
    return f"{at}\t2026-01-01 00:00:{at:02}+00\t{at}\t{writer}\t7\t{sides}\n"


def test_a_log_is_read_from_the_dump_of_its_partitions_and_of_a_wrong_target_it_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = "id bigint, at timestamp with time zone, xid xid8, writer text, job text, before jsonb, after jsonb"
    created = "\n".join(f"    {column.strip()}," for column in columns.split(","))
    moves = [("api", None, "queued"), ("w1", "queued", "sending"), ("w2", "sending", "queued")]
    moves += [("w2", "queued", "sending"), ("w1", "sending", "sent")]
    rows = "".join(logged(number, *move) for number, move in enumerate(moves))
    meant = {"queued": "PENDING", "sending": "PROCESSING", "sent": "COMPLETED"}
    told = json.dumps({**TOLD, "status": meant}).replace("'", "''")
    (folder / "dump.sql").write_text(
        f"CREATE TABLE public.{LOG} (\n{created}\n)\nPARTITION BY RANGE (at);\n"
        f"COMMENT ON TABLE public.{LOG} IS '{told}';\nCREATE TABLE public.{LOG}_1 (\n{created}\n);\n"
        f"ALTER TABLE ONLY public.{LOG} ATTACH PARTITION public.{LOG}_1 FOR VALUES FROM (1) TO (2);\n"
        f"COPY public.{LOG}_1 (id, at, xid, writer, job, before, after) FROM stdin;\n{rows}\\.\n",
        newline="\n",
    )
    code, said = audited(capsys, "log", "dump.sql")
    assert (code, "stale_complete" in said) == (1, True)
    right = ["reproduce", "log", "--database", "dump.sql", "--target"]
    assert main([*right, "memory+stale-complete", "--runs", "600", "--save", "found.yaml"]) == 1
    said = capsys.readouterr().out
    assert said.count("PENDING -> PROCESSING") == 2
    assert "not in the run" not in said
    assert main(["run", "found.yaml"]) == 1
    capsys.readouterr()
    (folder / "other.yaml").write_text((Path(__file__).parents[2] / "examples/queues/mail.yaml").read_text())
    assert main([*right, "pgqueuer"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "FAIL this record cannot come from pgqueuer." in said
    assert "the record has the status 'queued', 'sending', 'sent'" not in said, "one of these is a word of PgQueuer's"
    assert (
        "the record has the status 'sending', 'sent', which is not among those of the tables of pgqueuer: canceled,"
        in said
    )
