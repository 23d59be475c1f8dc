"""An audit of a real PostgreSQL: what a table, its log and other queues' own tables show, and what is refused."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.contract.opened_engines import fresh, opened_engines

from job_harness.core.model.duration import HOUR, SECOND
from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.doors.cli import main
from job_harness.errors import EnvironmentUnavailable
from job_harness.review.audit import database
from job_harness.review.audit.job_table import job_table
from job_harness.review.audit.judging import Auditor
from job_harness.worlds.patience import Deadline
from job_harness.worlds.postgres import Cluster, provision

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SCHEMA = """
CREATE TABLE mail_jobs (
  id bigserial PRIMARY KEY, state text NOT NULL DEFAULT 'queued', attempts int NOT NULL DEFAULT 0, max_attempts int
  NOT NULL DEFAULT 3, worker text, token uuid, run_at timestamptz NOT NULL DEFAULT now(), locked_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, done_at timestamptz, result text, secret text)
"""
TABLE = """
format: 1
jobs: mail
table: mail_jobs
columns:
  {id: job.id, status: job.state, attempts: job.attempts, max_attempts: job.max_attempts, worker: job.worker,
   token: job.token, created_at: job.created_at, start_after: job.run_at, started_at: job.started_at,
   lease_until: job.locked_until, completed_at: job.done_at, output: job.result}
status: {queued: PENDING, running: PROCESSING, done: COMPLETED, failed: FAILED, cancelled: CANCELLED}
"""
CLAIM = """
UPDATE mail_jobs SET state = 'running', attempts = attempts + 1, worker = %(worker)s, token = gen_random_uuid(),
  started_at = clock_timestamp(), locked_until = clock_timestamp() + %(lease)s::interval
WHERE id = (SELECT id FROM mail_jobs WHERE state = 'queued' AND run_at <= clock_timestamp() AND (%(job)s::bigint IS NULL
  OR id = %(job)s) ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, token
"""
COMPLETE = """
UPDATE mail_jobs
SET state = 'done', result = %(result)s, done_at = clock_timestamp(), worker = NULL, locked_until = NULL
WHERE id = %(job)s AND (%(token)s::uuid IS NULL OR (state = 'running' AND token = %(token)s))
"""
FAIL = """
UPDATE mail_jobs SET state = CASE WHEN attempts < max_attempts THEN 'queued' ELSE 'failed' END, worker = NULL,
  locked_until = NULL, done_at = CASE WHEN attempts < max_attempts THEN NULL ELSE clock_timestamp() END
WHERE state = 'running' AND (token = %(token)s OR (%(token)s::uuid IS NULL AND locked_until <= clock_timestamp()))
"""


def reader_of(url: str, *, past_policies: bool = False) -> str:
    """Return where a role connects that may read anything, and nothing else."""
    role, more = ("job_auditor", " BYPASSRLS") if past_policies else ("job_reader", "")
    made = f"IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role} LOGIN{more}; END IF"
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"DO $$ BEGIN {made}; END $$; GRANT pg_read_all_data TO {role}".encode())
    return psycopg.conninfo.make_conninfo(url, user=role)


class Mail:
    """A database with a table of jobs, its log, and sessions that are told apart by their names."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.reader = reader_of(url)
        self.database = conninfo_to_dict(url)["dbname"]
        self.described = str(folder / "mail.yaml")
        Path(self.described).write_text(TABLE)
        self._sessions: dict[str, psycopg.Connection[Any]] = {}

    def run(self, who: str, text: str, **values: Any) -> list[Any]:
        session = self._sessions.get(who)
        if session is None:
            session = self._sessions[who] = psycopg.connect(self.url, autocommit=True, application_name=who)
        cursor = session.execute(text.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def send(self, count: int = 1) -> None:
        self.run("api", "INSERT INTO mail_jobs (secret) SELECT 'hush' FROM generate_series(1, %(count)s)", count=count)

    def claim(self, who: str, *, job: int | None = None, lease: str = "1 minute") -> tuple[int, Any]:
        found = self.run(who, CLAIM, worker=who, job=job, lease=lease)
        return found[0] if found else (0, None)

    def audit(self, *arguments: str) -> tuple[int, dict[str, int], str]:
        """Return the exit code, how many jobs showed each anomaly, and the whole document as text."""
        into = Path(self.described).with_name("out.json")
        code = main(["audit", *arguments, "--database", self.reader, "--json", str(into)])
        text = into.read_text()
        findings = [finding for source in json.loads(text)["sources"] for finding in source["findings"]]
        return code, {finding["anomaly"]: finding["jobs"] for finding in findings}, text

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    try:
        cluster = provision()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")
    with cluster:
        yield cluster


@pytest.fixture
def mail(server: Cluster, tmp_path: Path) -> Iterator[Mail]:
    mail = Mail(server.create_database(), tmp_path)
    mail.run("api", SCHEMA)
    assert main(["audit", "--install", mail.described, "--database", mail.url, "--yes"]) == 0
    yield mail
    mail.close()


def test_the_log_shows_a_zombie_a_double_claim_and_a_stuck_job(mail: Mail, capsys: pytest.CaptureFixture[str]) -> None:
    mail.send(5)
    mail.claim("w1", job=1)
    mail.run("w1", COMPLETE, job=1, token=None, result="right")
    _, stale = mail.claim("w1", job=2, lease="1 microsecond")
    mail.run("cron", FAIL, token=None)
    mail.claim("w2", job=2)
    mail.run("w1", COMPLETE, job=2, token=None, result="zombie")
    mail.run("w2", COMPLETE, job=2, token=None, result="late")
    mail.claim("w1", job=3)
    mail.run("w2", "UPDATE mail_jobs SET worker = 'w2', token = gen_random_uuid(), attempts = 2 WHERE id = 3")
    mail.claim("w1", job=4, lease="-2 hours")
    code, found, text = mail.audit("log")
    assert code == 1
    assert found == {"stale_complete": 1, "terminal_job_rewritten": 1, "double_claim": 1, "job_stuck": 1}
    assert stale is not None
    assert "hush" not in text, "what is not described must not leave the database"
    assert "zombie" not in text, "of a result only a hash leaves the database"
    shown = capsys.readouterr().out
    assert "w1 changed the job with token 1 that was taken" in shown
    assert "Note: 4 writers are told apart by application_name" in shown
    assert main(["audit", "log", "--database", mail.reader, "--job", "2"]) == 1
    assert "takes back -> PENDING" in capsys.readouterr().out


def test_under_one_name_it_is_not_said_who_was_stale(mail: Mail, capsys: pytest.CaptureFixture[str]) -> None:
    mail.send()
    mail.claim("api", job=1)
    mail.run("api", COMPLETE, job=1, token=None, result="x")
    mail.run("api", "DELETE FROM job_harness_audit WHERE writer <> 'api'")
    assert mail.audit("log")[:2] == (0, {})
    assert "Not judged: fenced: all changes were made under one application_name" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [1, 2])
def test_a_right_queue_with_crashes_cancels_and_retries_shows_nothing(mail: Mail, seed: int) -> None:
    drawn = random.Random(seed)
    mail.send(60)
    for _ in range(400):
        who = drawn.choice(["w1", "w2", "w3"])
        match drawn.choice(["claim", "claim", "claim", "crash", "zombie", "expire", "cancel", "retry", "purge"]):
            case "claim":
                job, token = mail.claim(who)
                if job and drawn.random() < 0.7:
                    mail.run(who, COMPLETE, job=job, token=token, result="x")
                elif job:
                    mail.run(who, FAIL, token=token)
            case "crash":
                mail.claim(who, lease="1 microsecond")
            case "zombie":
                job, token = mail.claim(who, lease="1 microsecond")
                mail.run("w2", FAIL, token=None)
                mail.claim("w3", job=job or None, lease="5 milliseconds")
                mail.run(who, COMPLETE, job=job, token=token, result="late")
            case "expire":
                mail.run(drawn.choice(["w1", "w2", "cron"]), FAIL, token=None)
            case "cancel":
                text = (
                    "UPDATE mail_jobs SET state = 'cancelled', done_at = now() WHERE id = %(job)s AND state = 'queued'"
                )
                mail.run("api", text, job=drawn.randrange(1, 61))
            case "retry":
                text = "UPDATE mail_jobs SET state = 'queued', attempts = 0 WHERE id = %(job)s AND state = 'failed'"
                mail.run("admin", text, job=drawn.randrange(1, 61))
            case "purge":
                mail.run("cron", "DELETE FROM mail_jobs WHERE state = 'done' AND id %% 7 = 0")
    assert mail.audit("log")[:2] == (0, {})
    assert mail.audit(mail.described)[:2] == (0, {})


def test_following_a_log_misses_nothing_that_commits_late(mail: Mail) -> None:
    """A transaction that began first commits last: its changes have lower numbers than what was read before."""
    mail.send(2)
    late = psycopg.connect(mail.url, application_name="w1")
    late.execute("SELECT pg_current_xact_id()")
    late.execute("UPDATE mail_jobs SET state = 'done', done_at = now(), started_at = now() WHERE id = 1")
    mail.claim("w2", job=2)
    tail = database.LogTail(None)
    seen: list[str | None] = []
    for finish in (False, True):
        if finish:
            late.commit()
        with database.snapshot(mail.reader) as session:
            seen += [getattr(event, "job", None) for event in tail.events(session)]
    late.close()
    assert seen.count("1") >= 2
    assert seen.count("2") == 2, "its enqueue and its claim, each once"


def test_following_a_log_judges_what_a_second_writer_makes_visible(
    mail: Mail, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mail.send()
    metrics = Path(mail.described).with_name("jobs.prom")
    looks: list[str] = []

    class Pause:
        """Between two looks w2 takes the job of w1, which goes on; the second look is the last."""

        def wait(self, seconds: float) -> None:
            looks.append(metrics.read_text())
            if len(looks) == 2:
                raise KeyboardInterrupt
            mail.claim("w1", lease="1 microsecond")
            mail.run("cron", FAIL, token=None)
            mail.claim("w2")
            mail.run("w1", COMPLETE, job=1, token=None, result="zombie")

    monkeypatch.setattr("job_harness.doors.cli.audit_command.threading.Event", Pause)
    mail.run(
        "api", "INSERT INTO job_harness_audit (job, after) VALUES ('', jsonb_build_object('problem', 'no column'))"
    )
    follow = ["audit", "log", "--follow", "--database", mail.reader]
    assert main([*follow, "--metrics", str(metrics)]) == 130
    told = capsys.readouterr().out
    assert told.count("stale_complete  job 1") == told.count("not judged: 1 change is not in the log") == 1
    assert 'anomaly="stale_complete"' not in looks[0], "one writer alone cannot be stale"
    assert re.search(r'^job_harness_audit_incomplete\{source="the log of mail_jobs.*"\} 1$', looks[0], re.MULTILINE)
    assert 'anomaly="stale_complete",source="the log of mail_jobs' in looks[1]
    assert main([*follow, "--json", "x.json"]) == 2
    assert "--follow prints anomalies as they appear, and does not go with --json" in capsys.readouterr().err
    monkeypatch.setattr("job_harness.review.audit.judging.MOST_ANOMALIES", 1)
    assert main(follow) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("stopped after ")


def test_the_log_is_removed_without_a_trace(mail: Mail) -> None:
    assert main(["audit", "--uninstall", mail.described, "--database", mail.url, "--yes"]) == 0
    left = mail.run("api", "SELECT relname FROM pg_class WHERE relname LIKE 'job_harness%%'")
    left += mail.run("api", "SELECT proname FROM pg_proc WHERE proname LIKE 'job_harness%%'")
    assert left == []
    assert main(["audit", "log", "--database", mail.reader]) == 2


def test_installing_again_keeps_the_log_and_drops_what_is_old(mail: Mail) -> None:
    mail.send()
    day = "PARTITION OF job_harness_audit FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
    mail.run("api", f"CREATE TABLE job_harness_audit_20200101 {day}")
    assert main(["audit", "--install", mail.described, "--database", mail.url, "--yes"]) == 0
    assert mail.run("api", "SELECT count(*) FROM job_harness_audit") == [(1,)]
    assert mail.run("api", "SELECT to_regclass('job_harness_audit_20200101')") == [(None,)]


def test_the_days_of_a_log_are_those_of_utc_whoever_installs_it(mail: Mail) -> None:
    where = [mail.described, "--database", mail.url, "--yes"]
    assert main(["audit", "--uninstall", *where]) == 0
    for zone in ("Etc/GMT+12", "Etc/GMT-14"):  # Whatever the hour, it is another day there.
        mail.run("api", f"ALTER DATABASE {mail.database} SET TimeZone = '{zone}'")
        assert main(["audit", "--install", *where]) == 0
    mail.run("api", "SET TimeZone = 'UTC'")
    days = mail.run("api", "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname ~ '_20.{6}$'")
    assert all(bound.count(" 00:00:00+00") == 2 for _, bound in days)
    name = max(days)[0]
    mail.run("api", f"DROP TABLE {name}")
    shifted = f"FROM ('{name[-8:]} 12:00') TO ('{name[-8:]} 24:00')"
    mail.run("api", f"CREATE TABLE as_once PARTITION OF job_harness_audit FOR VALUES {shifted}")
    assert main(["audit", "--install", *where]) == 0, "a log that was installed when days began elsewhere"


def test_a_row_without_an_id_is_written_and_not_logged(mail: Mail) -> None:
    Path(mail.described).write_text(TABLE.replace("id: job.id", "id: job.secret"))
    assert main(["audit", "--install", mail.described, "--database", mail.url, "--yes"]) == 0
    mail.run("api", "INSERT INTO mail_jobs (secret) VALUES (NULL), ('a')")
    assert mail.run("api", "SELECT job FROM job_harness_audit") == [("a",)]


def test_a_change_that_the_description_does_not_fit_is_written_and_counted(mail: Mail) -> None:
    mail.send(2)
    mail.run("api", "ALTER TABLE mail_jobs RENAME done_at TO finished_at")
    mail.run("w1", "UPDATE mail_jobs SET state = 'cancelled'")
    mail.run("w1", "DELETE FROM mail_jobs WHERE id = 1")
    assert mail.run("api", "SELECT state FROM mail_jobs") == [("cancelled",)]
    code, names, text = mail.audit("log")
    assert (code, names) == (3, {})
    assert "3 changes are not in the log, whose description did not fit the row: " in text


def test_printing_what_installs_changes_nothing(
    server: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mail = Mail(server.create_database(), tmp_path)
    mail.run("api", SCHEMA)
    assert main(["audit", "--install", mail.described, "--keep", "36h", "--database", mail.url]) == 0
    printed = capsys.readouterr().out
    assert "CREATE TRIGGER" in printed
    assert "those that are older than 2 days go" in printed, "36 hours are kept whole"
    assert mail.run("api", "SELECT to_regclass('job_harness_audit')") == [(None,)]
    mail.close()


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (lambda text: text.replace("job.attempts", "job.atempts"), 2, "column job.atempts does not exist"),
        (lambda text: text.replace("table: mail_jobs", "table: male_jobs"), 2, 'relation "male_jobs" does not exist'),
        (lambda text: text.replace("done: COMPLETED, ", ""), 2, "`status` does not say what 'done' means"),
        (lambda text: text.replace("job.run_at", "job.run_at +"), 2, "PostgreSQL refuses an expression"),
        (
            lambda text: text.replace("job.run_at", "job.runs_at"),
            2,
            "mail.yaml: the database has no such table or column",
        ),
        (lambda text: text.replace("job.run_at", "job.runs_at"), 2, "Correct `table` or `columns` in that file"),
        (lambda text: text.replace("job.created_at", "job.id"), 2, "created_at of the job 1 is 1, which is not a time"),
        (lambda text: text.replace("job.attempts", "job.state"), 2, "attempts of the job 1 is 'done', which is no"),
        (lambda text: text.replace("id: job.id", "id: job.state"), 2, "mail.yaml: 2 rows have the id done"),
        (lambda text: text.replace("id: job.id", "id: job.result"), 2, "mail.yaml: the id of a row is NULL"),
    ],
)
def test_a_description_that_does_not_fit_is_told(
    change: Callable[[str], str], code: int, told: str, mail: Mail, capsys: pytest.CaptureFixture[str]
) -> None:
    mail.send(2)
    for job, result in ((1, "x"), (2, None)):
        mail.claim("w1", job=job)
        mail.run("w1", COMPLETE, job=job, token=None, result=result)
    Path(mail.described).write_text(change(TABLE))
    assert main(["audit", mail.described, "--database", mail.reader]) == code
    assert told in capsys.readouterr().err


def test_changes_of_one_moment_are_taken_by_their_columns_those_without_an_order_too(mail: Mail) -> None:
    states = "(VALUES (9, 'queued'), (10, 'running'), (11, 'done')) AS each (number, state)"
    mail.run("api", f"CREATE TABLE told AS SELECT now() AS time, 7 AS mail, '{{}}'::json AS data, each.* FROM {states}")
    described = TABLE.partition("columns:")[0].replace("mail_jobs", "told")
    states = "status: {queued: PENDING, running: PROCESSING, done: COMPLETED}"
    Path(mail.described).write_text(described + "columns: {id: job.mail, status: job.state, at: job.time}\n" + states)
    assert mail.audit(mail.described)[:2] == (0, {})


def test_a_time_without_a_zone_is_in_that_of_the_database(mail: Mail, capsys: pytest.CaptureFixture[str]) -> None:
    name = psycopg.conninfo.conninfo_to_dict(mail.url)["dbname"]
    mail.run("api", f"ALTER DATABASE {name} SET TimeZone = 'America/New_York'")
    times = ("run_at", "locked_until", "created_at", "started_at", "done_at")
    mail.run("api", "".join(f"ALTER TABLE mail_jobs ALTER {time} TYPE timestamp;" for time in times))
    with psycopg.connect(mail.url, autocommit=True) as app:  # A session from before keeps its own time zone.
        app.execute("INSERT INTO mail_jobs DEFAULT VALUES")
        app.execute(CLAIM.encode(), {"worker": "w1", "job": None, "lease": "1 minute"})
    assert mail.audit(mail.described)[:2] == (0, {})
    assert mail.audit("log")[:2] == (0, {})
    assert "Note: times without a time zone are read in America/New_York" in capsys.readouterr().out
    assert mail.audit(mail.described, "--since", "1h")[2].count('"jobs": 1') == 1
    Path(mail.described).write_text(TABLE.replace("table:", "time_zone: UTC\ntable:"))
    assert mail.audit(mail.described)[:2] == (1, {"job_stuck": 1}), "as it is described, its claim ended hours ago"
    assert mail.audit(mail.described, "--since", "1m")[:2] == (1, {"job_stuck": 1}), "what hangs has not changed since"
    for change in ("--uninstall", "--install"):
        assert main(["audit", change, mail.described, "--database", mail.url, "--yes"]) == 0
    mail.run("api", "UPDATE mail_jobs SET result = 'half'")
    assert mail.audit("log")[:2] == (1, {"job_stuck": 1})


def test_a_status_that_is_null_or_unknown_says_what_to_do(mail: Mail, capsys: pytest.CaptureFixture[str]) -> None:
    mail.run("api", "ALTER TABLE mail_jobs ALTER state DROP NOT NULL; INSERT INTO mail_jobs (state) VALUES (NULL)")
    mail.send()
    for source in (mail.described, "log"):
        assert mail.audit(source)[:2] == (0, {})
        assert "Note: not judged: jobs whose status is NULL, such as the job 1" in capsys.readouterr().out
    mail.run("api", "UPDATE mail_jobs SET state = 'odd'")
    for source, again in ((mail.described, False), ("log", True)):
        assert main(["audit", source, "--database", mail.reader]) == 2
        assert ("run `job-harness audit --install`" in capsys.readouterr().err) is again


def test_a_database_has_one_log_which_can_always_be_removed(mail: Mail, capsys: pytest.CaptureFixture[str]) -> None:
    mail.run("api", 'CREATE SCHEMA "it\'s"; CREATE TABLE "it\'s".other (LIKE mail_jobs)')
    other = Path(mail.described).with_name("other.yaml")
    other.write_text(TABLE.replace("table: mail_jobs", "table: '\"it''s\".other'"))
    by = ("--database", mail.url, "--yes")
    assert main(["audit", "--install", str(other), *by]) == 2
    assert "has a log already, of the table mail_jobs" in capsys.readouterr().err
    mail.run(
        "api", "COMMENT ON TABLE job_harness_audit IS '{}'"
    )  # As if both had been installed, which once was let by.
    assert main(["audit", "--install", str(other), *by]) == 0
    assert main(["audit", "--uninstall", mail.described, *by]) == 0
    assert "mail_jobs: its changes are not logged; the log stays" in capsys.readouterr().out
    assert mail.audit("log")[0] == 3
    assert main(["audit", "--uninstall", str(other), *by]) == 0
    left = mail.run("api", "SELECT relname FROM pg_class WHERE relname LIKE 'job_harness%%'")
    left += mail.run("api", "SELECT proname FROM pg_proc WHERE proname LIKE 'job_harness%%'")
    assert left == []


def test_tables_of_another_release_name_the_description_that_may_fit(
    mail: Mail, capsys: pytest.CaptureFixture[str]
) -> None:
    for schema, told in (
        ("jobs", 'relation "pgboss.job" does not exist'),
        ("pgboss", "column job.state does not exist"),
    ):
        mail.run("api", f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.job (id uuid)")
        assert main(["audit", "pgboss", "--database", mail.reader]) == 2
        error = capsys.readouterr().err
        assert f"no such table or column: {told}\n  For another release try pgboss10. For another schema copy " in error
    [copied] = re.findall(r"copy (\S+/pgboss\.yaml), and", error)
    assert "table: pgboss.job" in Path(copied).read_text()


def test_a_role_without_rights_is_told(mail: Mail, capsys: pytest.CaptureFixture[str]) -> None:
    mail.run("api", "DROP ROLE IF EXISTS nobody_here")
    mail.run("api", "CREATE ROLE nobody_here LOGIN")
    url = psycopg.conninfo.make_conninfo(mail.url, user="nobody_here")
    assert main(["audit", mail.described, "--database", url]) == 4
    assert "the role may not read: permission denied for table mail_jobs" in capsys.readouterr().err


@pytest.mark.parametrize("power", ["SUPERUSER", "IN ROLE pg_execute_server_program", "IN ROLE pg_read_server_files"])
def test_a_role_that_may_run_programs_is_refused_before_a_view_is_read(
    power: str, mail: Mail, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mighty = f"mighty_{mail.database}"
    started = tmp_path / "started"
    mail.send()
    mail.run("api", f"CREATE ROLE {mighty} LOGIN {power}")
    mail.run(
        "api",
        f"""
        CREATE FUNCTION hostile(state text) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN COPY (SELECT 1) TO PROGRAM 'cat > {started}'; RETURN state; END $$;
        ALTER TABLE mail_jobs RENAME TO real_jobs;
        CREATE VIEW mail_jobs AS SELECT id, hostile(state) AS state FROM real_jobs;
        GRANT SELECT ON mail_jobs TO {mighty}
        """,
    )
    Path(mail.described).write_text(
        "format: 1\njobs: mail\ntable: mail_jobs\ncolumns: {id: job.id, status: job.state}\nstatus: {queued: PENDING}\n"
    )
    url = psycopg.conninfo.make_conninfo(mail.url, user=mighty)
    assert main(["audit", mail.described, "--database", url]) == 4
    assert f"the role {mighty} may run programs and open files on the server" in capsys.readouterr().err
    assert main(["audit", mail.described, "--database", mail.reader]) == 4
    assert "permission denied to COPY to or from an external program" in capsys.readouterr().err
    assert not started.exists()


def test_rows_that_a_policy_hides_are_no_pass(mail: Mail, capsys: pytest.CaptureFixture[str]) -> None:
    mail.send()
    mail.run("api", "ALTER TABLE mail_jobs ENABLE ROW LEVEL SECURITY")
    assert main(["audit", mail.described, "--database", mail.reader]) == 4
    assert "would be affected by row-level security policy" in capsys.readouterr().err


ENDLESS = """
ALTER TABLE mail_jobs RENAME TO real_jobs;
CREATE VIEW mail_jobs AS SELECT *, pg_sleep(3600)::text AS slept FROM real_jobs
"""


def test_a_query_without_an_end_is_ended(
    mail: Mail, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mail.send()
    mail.run("api", ENDLESS)
    monkeypatch.setattr(database, "STATEMENT_SECONDS", 1)
    assert main(["audit", mail.described, "--database", mail.reader]) == 4
    assert f"{mail.described}: a query did not end within 1 s" in capsys.readouterr().err


@pytest.mark.long
def test_a_query_ends_with_an_audit_that_is_killed(mail: Mail) -> None:
    mail.send()
    mail.run("api", ENDLESS)
    asked = (
        "SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'job-harness audit' AND state = 'active'"
    )

    def until(count: int) -> bool:
        deadline = Deadline(20)
        while (found := mail.run("api", asked)) != [(count,)] and not deadline.passed:
            deadline.pause()
        return found == [(count,)]

    command = [sys.executable, "-m", "job_harness.doors.cli", "audit", mail.described, "--database", mail.reader]
    audit = subprocess.Popen(command)
    try:
        assert until(1), "it asks, and waits"
    finally:
        audit.kill()
        audit.wait()
    assert until(0), "nobody waits for it any more"


# other queues' own tables, made of what each documents ---------------------------------------------------------------


OTHERS: dict[str, tuple[str, dict[str, int]]] = {
    "django-tasks-db": (
        """
        CREATE TABLE django_tasks_database_dbtaskresult (
          id uuid PRIMARY KEY, status text, enqueued_at timestamptz, started_at timestamptz, finished_at timestamptz,
          priority int, task_path text, worker_ids jsonb, run_after timestamptz);
        INSERT INTO django_tasks_database_dbtaskresult
        SELECT gen_random_uuid(), status, now() - interval '1 day', started, ended, 0, 'mail', '["w"]',
          now() - interval '1 day'
        FROM (VALUES ('READY', NULL::timestamptz, NULL::timestamptz), ('RUNNING', now() - interval '5 hours', NULL),
              ('SUCCESSFUL', now() - interval '5 hours', now()), ('FAILED', now(), now()))
          AS row (status, started, ended);
        """,
        {"job_stuck": 1},
    ),
    "oban": (
        """
        CREATE TABLE oban_jobs (
          id bigserial, state text, worker text, priority int DEFAULT 0, attempt int, max_attempts int DEFAULT 3,
          attempted_by text[], inserted_at timestamp DEFAULT now(), scheduled_at timestamp DEFAULT now(),
          attempted_at timestamp DEFAULT now(), completed_at timestamp, discarded_at timestamp, cancelled_at timestamp);
        INSERT INTO oban_jobs (state, worker, attempt, completed_at)
        VALUES ('completed', 'M', 1, now()), ('executing', 'M', 4, NULL), ('retryable', 'M', 1, NULL);
        """,
        {"attempt_overrun": 1},
    ),
    "river": (
        """
        CREATE TABLE river_job (
          id bigserial, state text, kind text DEFAULT 'm', priority int DEFAULT 1, attempt int DEFAULT 1,
          max_attempts int DEFAULT 25, attempted_by text[], created_at timestamptz DEFAULT now() - interval '1 day',
          scheduled_at timestamptz DEFAULT now() - interval '1 day', attempted_at timestamptz,
          finalized_at timestamptz);
        INSERT INTO river_job (state, attempted_at, finalized_at)
        VALUES ('completed', now(), now()), ('running', now() - interval '3 hours', NULL);
        """,
        {"job_stuck": 1},
    ),
    "solid-queue": (
        """
        CREATE TABLE solid_queue_jobs (
          id bigserial, class_name text, priority int DEFAULT 0, scheduled_at timestamp, finished_at timestamp,
          created_at timestamp DEFAULT now() - interval '1 day');
        CREATE TABLE solid_queue_claimed_executions (job_id bigint, process_id bigint, created_at timestamp);
        CREATE TABLE solid_queue_failed_executions (job_id bigint, created_at timestamp);
        INSERT INTO solid_queue_jobs (class_name) VALUES ('Mail');
        INSERT INTO solid_queue_claimed_executions VALUES (1, 7, now() - interval '5 hours');
        """,
        {"job_stuck": 1},
    ),
    "pgboss10": (
        """
        CREATE SCHEMA pgboss;
        CREATE TABLE pgboss.job (
          id uuid DEFAULT gen_random_uuid(), name text DEFAULT 'm', state text, priority int DEFAULT 0, retry_count int,
          retry_limit int DEFAULT 2, created_on timestamptz DEFAULT now(), start_after timestamptz DEFAULT now(),
          started_on timestamptz DEFAULT now(), expire_in interval DEFAULT '15 minutes', completed_on timestamptz,
          output jsonb);
        CREATE TABLE pgboss.archive (LIKE pgboss.job);
        INSERT INTO pgboss.job (state, retry_count, completed_on) VALUES ('completed', 0, now()), ('active', 3, NULL);
        """,
        {"attempt_overrun": 1},
    ),
    "tool_job": (
        """
        CREATE SCHEMA pgboss;
        CREATE TABLE pgboss.job (id uuid, state text, started_on timestamptz, expire_in interval DEFAULT '15 minutes',
          created_on timestamptz DEFAULT now(), data jsonb);
        CREATE TABLE tool_job (
          id text, "toolSlug" text DEFAULT 't', status text, priority int DEFAULT 0, attempts int DEFAULT 0,
          "maxAttempts" int DEFAULT 3, error text, "createdAt" timestamp(3) DEFAULT now() - interval '1 day',
          "startedAt" timestamp(3) DEFAULT now() - interval '5 hours',
          "completedAt" timestamp(3) DEFAULT now() - interval '4 hours', "pgBossJobId" text);
        INSERT INTO pgboss.job SELECT id::uuid, state FROM (VALUES
          ('00000000-0000-0000-0000-000000000001', 'completed'), ('00000000-0000-0000-0000-000000000002', 'failed'))
          AS row (id, state);
        INSERT INTO tool_job (id, status, "pgBossJobId") VALUES
          ('agrees', 'COMPLETED', '00000000-0000-0000-0000-000000000001'),
          ('differs', 'COMPLETED', '00000000-0000-0000-0000-000000000002');
        INSERT INTO pgboss.job (id, state, data) VALUES (gen_random_uuid(), 'completed', '{"toolJobId": "unlinked"}');
        INSERT INTO tool_job (id, status) VALUES ('unlinked', 'COMPLETED');
        INSERT INTO tool_job (id, status, "startedAt", "completedAt") VALUES ('orphan', 'PENDING', NULL, NULL);
        """,
        {"tables_disagree": 1, "orphan_row": 1},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_tables_of_other_queues_are_read(name: str, server: Cluster, tmp_path: Path) -> None:
    rows, expected = OTHERS[name]
    other = Mail(server.create_database(), tmp_path)
    with psycopg.connect(other.url, autocommit=True) as session:
        session.execute(rows.encode())
    assert other.audit(name)[:2] == (1, expected)
    other.close()


def url_of(queue: Any) -> str:
    """Return where the database of a queue on PostgreSQL is."""
    kept = getattr(queue, "_database", None) or queue._session.database
    return str(kept.url)


REAL = {
    "pgboss": ("pgboss10", {"stale_complete": 1}),
    "procrastinate": ("procrastinate-jobs", {"stale_complete": 1}),
}


@pytest.mark.long
@pytest.mark.parametrize("engine", ["pgboss", "procrastinate"])
def test_a_zombie_on_another_queue_s_own_statements_shows_in_its_log(engine: str, tmp_path: Path) -> None:
    """Both queues let the worker that lost its job complete it while another one runs it."""
    table, expected = REAL[engine]
    with opened_engines() as get:
        queue, clocks = fresh(get(engine))
        other = Mail(url_of(queue), tmp_path)
        assert main(["audit", "--install", table, "--database", other.url, "--yes"]) == 0

        def by(who: str) -> None:
            """Let what its own session writes from here on bear this name: the queue's process has one session."""
            other.run("names", f"ALTER TABLE job_harness_audit ALTER writer SET DEFAULT '{who}'")

        for job in ("a", "b"):
            queue.enqueue(JobRequest(job, "mail"))
        by("w1")
        first, second = queue.claim("w1", 2).value
        queue.complete(second, None)
        clocks.advance(Settings().lease + 2 * SECOND)
        by("cron")
        queue.expire()
        clocks.advance(HOUR)
        by("w2")
        assert [claim.job for claim in queue.claim("w2", 2).value] == ["a"]
        by("w1")
        assert queue.complete(first, None).done
        assert other.audit("log")[:2] == (1, expected)
        assert other.audit("procrastinate" if engine == "procrastinate" else table)[:2] == (0, {})
        assert main(["audit", "--uninstall", table, "--database", other.url, "--yes"]) == 0
        other.close()


HEALTHY = {
    "pgboss": ("pgboss10", "pgboss10"),
    "pgboss-node": ("pgboss", "pgboss"),
    "procrastinate": ("procrastinate-jobs", "procrastinate"),
    "bullmq": ("bullmq-jobs", "bullmq"),
    "graphile-worker": ("graphile-worker", "graphile-worker"),
    "pgqueuer": ("pgqueuer-jobs", "pgqueuer"),
}
IN_EVERY_RUN = ("pgboss", "pgboss-node", "procrastinate")


@pytest.mark.parametrize(
    "jobs", [pytest.param(100, id="some"), pytest.param(34_000, id="many", marks=pytest.mark.campaign)]
)
@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=() if name in IN_EVERY_RUN else pytest.mark.campaign) for name in HEALTHY]
)
@pytest.mark.long
def test_healthy_data_with_crashes_cancels_and_retries_shows_nothing(engine: str, jobs: int, tmp_path: Path) -> None:
    drawn = random.Random(1)
    with opened_engines() as get:
        queue, clocks = fresh(get(engine))
        logged, own = HEALTHY[engine]
        other = Mail(url_of(queue), tmp_path)
        assert main(["audit", "--install", logged, "--database", other.url, "--yes"]) == 0
        for start in range(0, jobs, 100):
            for number in range(start, start + 100):
                queue.enqueue(JobRequest(f"j{number}", "mail"))
            for cancelled in range(start, start + 5):
                queue.cancel(f"j{cancelled}")
            for step in range(12):
                who = f"w{step % 3}"
                other.run("names", f"ALTER TABLE job_harness_audit ALTER writer SET DEFAULT '{who}'")
                for claim in queue.claim(who, 40).value:
                    match drawn.choice(["complete", "complete", "fail", "crash"]):
                        case "complete":
                            queue.complete(claim, None)
                        case "fail":
                            queue.fail(claim, "broken", False)
                clocks.advance(clocks.now + Settings().lease + HOUR)
                queue.expire()
        assert other.audit("log", "--stuck-after", "3h")[:2] == (0, {})
        assert other.audit(own, "--stuck-after", "3h")[:2] == (0, {})
        assert main(["audit", "--uninstall", logged, "--database", other.url, "--yes"]) == 0
        other.close()


@pytest.mark.long
def test_a_source_is_read_in_one_moment(mail: Mail) -> None:
    mail.send()
    with database.snapshot(mail.reader) as session:
        evidence = database.rows_evidence(session, job_table(mail.described))
        auditor = Auditor(evidence)
        auditor.take(evidence.read(None))
        mail.send(3)
        assert sum(1 for _ in evidence.read(None)) == 1
        with pytest.raises(EnvironmentUnavailable, match="read-only"), database._explain_errors():
            session._connection.execute("DELETE FROM mail_jobs")


def test_rows_that_can_show_nothing_are_only_counted_and_what_is_found_is_the_same(mail: Mail) -> None:
    draw = random.Random(7)
    for _ in range(400):
        ended = draw.choice(["done", "done", "done", "done", "failed", "cancelled", "queued", "running"])
        at = [None if draw.random() < 0.02 else draw.randint(-3, 40) for _ in range(4)]
        sent, due, began, done = (None if each is None else f"2026-01-01 00:{max(0, each):02}:00+00" for each in at)
        late = draw.random() < 0.7
        mail.run(
            "api",
            "INSERT INTO mail_jobs (state, attempts, created_at, run_at, started_at, done_at) VALUES (%(state)s, "
            "%(attempts)s, COALESCE(%(sent)s::timestamptz, '-infinity'), COALESCE(%(due)s::timestamptz, 'infinity'), "
            "%(began)s, %(done)s)",
            state=ended,
            attempts=draw.choice([0, 1, 1, 1, 3, 4]),
            sent=sent,
            due=sent if late and sent else due,
            began=max(filter(None, (sent, began)), default=None) if late else began,
            done=max(filter(None, (sent, began, done)), default=None) if late else done,
        )
    with database.snapshot(mail.reader) as session:
        evidence = database.rows_evidence(session, job_table(mail.described))
        apart = evidence.apart()
        assert apart is not None
        assert 100 < apart[0].jobs < 300
        whole, quick = Auditor(evidence), Auditor(evidence)
        whole.take(evidence.read(None))
        quick.take_all()
        told = [
            replace(done, findings=tuple((each.name, each.jobs, each.first, each.others) for each in done.findings))  # type: ignore[misc]
            for done in (whole.finish(), quick.finish())
        ]
        assert told[0] == told[1]
        assert {each.name for each in whole.finish().findings} >= {"attempt_overrun", "completed_before_started"}
