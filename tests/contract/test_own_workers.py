"""Workers that a client starts itself, as the server sees them: a database on virtual time, and what its rows say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from job_harness.doors.serve import Conversation, HarnessService, own_workers
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.postgres.provider import DSN_VARIABLE

pytestmark = pytest.mark.postgres
START_MS = 1_893_456_000_000.0
TABLE = """
format: 1
jobs: mail
table: public.mail
columns:
  id: job.id
  status: job.state
  attempts: job.attempts
  max_attempts: '3'
  start_after: job.due
  started_at: job.started
  lease_until: job.started + interval '1 minute'
  output: job.result
status: {queued: PENDING, running: PROCESSING, done: COMPLETED, failed: FAILED}
"""
SCHEMA = (
    "CREATE TABLE mail (id text, state text, attempts int DEFAULT 0, started timestamptz, result text, due timestamptz)"
)
UNJUDGED = "nothing was judged: there is no table public.mail in the database of this test"
CLAIM = "UPDATE mail SET state = 'running', attempts = attempts + 1, started = now()"


class OwnClient(Conversation):
    """Speaks without pipes. At each instant that it is told, it does what stands there, and says what is next."""

    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__(-1, -1, say=self.told.append)
        self.answers: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self.due: dict[float, Any] = {}
        self.reply: list[dict[str, Any]] = []
        self.dying: dict[str, list[dict[str, Any]]] = {}
        """Who dies in the next turn, or in that in which this worker begins anew."""
        self.url = ""
        self.now = START_MS
        self.service = HarnessService(self)

    def send(self, message: Any) -> None:
        self.heard.append(message)
        if "answer" in message:
            self.answers.append(message)
            return
        self.now = now = message["now"]
        if "time" in message:
            for at in sorted(at for at in self.due if at <= now):
                self.due.pop(at)(self)
        self.reply += self.dying.pop(message.get("actor", ""), ())
        self.reply.append({"idle": message.get("time", message.get("go")), "next": min(self.due, default=None)})

    def _line(self, seconds: float | None) -> dict[str, Any] | None:
        return self.reply.pop(0)

    def ask(self, do: str, **given: Any) -> Any:
        self.service.carry_out({"ask": len(self.answers) + 1, "do": do, "with": given})
        return self.answers[-1].get("value", self.answers[-1].get("refused"))

    @property
    def begun_anew(self) -> list[str]:
        return [each["actor"] for each in self.heard if each.get("do") == "again"]

    def sql(self, writer: str, text: str) -> Any:
        with psycopg.connect(self.url, application_name=writer, autocommit=True) as session:
            cursor = session.execute(text.encode())
            return cursor.fetchall() if cursor.description else None

    def later(self, seconds: float, writer: str, text: str) -> None:
        self.due[START_MS + seconds * 1000] = lambda client: client.sql(writer, text)

    @property
    def job(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = [job for answer in self.answers for job in answer.get("news", {}).get("jobs", [])]
        return found[-1]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv(DSN_VARIABLE, raising=False)  # That of the other tests listens on its socket only.
    table = tmp_path / "mail.yaml"
    table.write_text(TABLE, encoding="utf-8")
    made = OwnClient()
    opened = made.ask("open_workers", queue=str(table), title="mail")
    if opened.get("kind") == "environment":
        pytest.skip(" ".join(opened["message"].split()))
    made.url = opened["url"]
    assert opened["now"] == START_MS
    yield made
    assert made.service._own is not None
    made.service._own.close()


def test_a_late_worker_that_completes_what_another_one_has_is_found(client: OwnClient) -> None:
    client.sql("test", SCHEMA.replace("id text", "id bigint"))
    client.ask("watch_jobs")
    client.sql("test", "INSERT INTO mail VALUES (7, 'queued')")
    client.later(1, "w1", CLAIM)
    client.later(70, "w2", "UPDATE mail SET state = 'queued'")
    client.later(71, "w2", CLAIM)
    client.later(80, "w1", "UPDATE mail SET state = 'done', result = '\"from w1\"'")
    client.ask("run_until_idle")
    assert client.answers[-1]["news"]["now"] == START_MS + 80_000
    assert client.job["path"] == ["PENDING", "PROCESSING", "PENDING", "PROCESSING", "COMPLETED"]
    assert (client.job["runs"], client.job["output"]) == (2, '"from w1"')
    [screen] = client.ask("close", looked=[])["problems"]
    assert "stale_complete" in screen
    assert "w1 changed the job" in screen


def test_a_failed_job_that_nobody_looked_at_is_named_and_the_next_test_begins_empty(client: OwnClient) -> None:
    client.sql("test", f"{SCHEMA}; INSERT INTO mail VALUES ('a', 'queued')")
    client.later(1, "w1", CLAIM)
    client.later(2, "w1", "UPDATE mail SET state = 'failed', result = 'no such address'")
    client.ask("wait_for", job="a", within="1m")
    assert client.job["error"] == "no such address"
    assert client.ask("close", looked=["a"])["problems"] == []
    url = client.ask("open_workers", queue="pgboss10")["url"]
    with psycopg.connect(url) as session:
        assert session.execute("SELECT to_regclass('mail'), now()::text").fetchone() == (None, "2030-01-01 00:00:00+00")
    assert "there is no table pgboss.job" in client.ask("run_until_idle")["message"]


@pytest.mark.parametrize("ask", ["run_until_idle", "wait_for"])
def test_a_due_job_that_no_worker_takes_is_told_before_a_runner_gives_up(
    client: OwnClient, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_workers, "DUE_TICKS", 20)
    client.sql("test", f"{SCHEMA}; INSERT INTO mail (id, state, due) VALUES ('a', 'queued', now() + interval '1 hour')")

    def poll(client: OwnClient) -> None:
        client.due[client.now + 120_000] = poll

    client.due[START_MS] = poll
    refused = client.ask(ask, **({"job": "a"} if ask == "wait_for" else {}))
    assert refused["kind"] == "limit"
    assert "a job is due, and no worker took it while 40 timers fired" in refused["message"]
    assert 'harness.start("worker"' in refused["hint"]


def test_a_verb_that_takes_long_says_how_far_it_has_come(client: OwnClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_workers, "TELLS_EVERY_SECONDS", 0.0)
    client.due[START_MS + 90_000] = lambda client: None
    client.ask("advance", by="5m")
    assert client.told[0].startswith("job-harness: mail: 0s of virtual time so far, in which 0 timers fired")
    assert client.told[-1].startswith("job-harness: mail: 1m30s of virtual time so far, in which 1 timers fired")


def test_a_worker_that_died_begins_anew_once_its_sessions_are_gone(client: OwnClient) -> None:
    with psycopg.connect(client.url) as dying:
        [port] = dying.execute("SELECT inet_client_port()").fetchone() or [0]
    assert client.ask("worker_died", worker="worker", ports=[port]) is None
    assert client.begun_anew == ["worker"]


def died(worker: str) -> dict[str, Any]:
    return {"effect": "died", "actor": worker, "data": {"ports": []}}


def test_every_worker_that_dies_in_a_turn_or_between_two_begins_anew(client: OwnClient) -> None:
    client.reply = [died("w1"), {"ask": 7, "do": "advance", "with": {"by": "1s"}}]
    ask = client.next_ask()
    client.dying = {"": [died("w2"), died("w3")], "w2": [died("w4")]}
    client.service.carry_out(ask)
    assert client.begun_anew == ["w1", "w2", "w3", "w4"]


def test_a_check_of_the_tests_own_that_does_not_hold_fails_it(client: OwnClient) -> None:
    client.sql("test", SCHEMA)
    client.ask("advance", by="2m")
    assert client.ask("broken", name="never", message="charged twice") is None
    [problem] = client.ask("close", looked=[])["problems"]
    assert problem == "invariant_violated: A check of your own failed.\nHere: t+2m: never: charged twice"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("SELECT 1", []),
        (SCHEMA, []),
        (
            "CREATE SCHEMA jobs; CREATE TABLE jobs.mail (); CREATE TABLE other ()",
            [f"{UNJUDGED}; there is jobs.mail: describe that table in a file, and name it as the queue"],
        ),
        ("CREATE TABLE other ()", [UNJUDGED]),
    ],
)
def test_a_table_that_never_came_is_a_problem_where_the_test_made_others(
    client: OwnClient, made: str, told: list[str]
) -> None:
    client.ask("advance", by="1s")
    client.sql("test", made)
    assert client.ask("close", looked=[])["problems"] == told


def test_a_change_that_the_log_could_not_hold_is_told_where_nothing_else_is_wrong(client: OwnClient) -> None:
    client.sql("test", SCHEMA)
    client.ask("watch_jobs")
    client.sql("test", "ALTER TABLE mail RENAME started TO begun; INSERT INTO mail VALUES ('a', 'queued')")
    client.sql("test", "ALTER TABLE mail RENAME begun TO started")
    closed = client.ask("close", looked=[])
    assert closed["problems"] == []
    [told] = closed["unjudged"]
    assert told.startswith("1 change is not in the log, whose description did not fit the row: ")


def test_a_job_whose_row_is_deleted_as_it_ends_is_waited_for(
    client: OwnClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ask("close", judge=False)
    table = tmp_path / "deleting.yaml"
    table.write_text(f"{TABLE}deleted: COMPLETED\n", encoding="utf-8")
    client.url = client.ask("open_workers", queue=str(table))["url"]
    client.sql("test", f"{SCHEMA}; INSERT INTO mail VALUES ('job-1', 'queued')")
    client.later(1, "w1", CLAIM)
    client.later(2, "w1", "DELETE FROM mail")
    client.due[START_MS + 90_000] = lambda client: None
    for status in (None, "COMPLETED"):
        assert client.ask("wait_for", job="job-1", status=status, within="1m") is None
    assert client.answers[-1]["news"]["now"] == START_MS + 2_000
    refused = client.ask("wait_for", job="job-2", within="1m")
    assert refused["message"] == "wait_for: there is no job 'job-2' in public.mail (did you mean 'job-1'?)"


def test_a_database_that_cannot_be_had_leaves_no_test_open(client: OwnClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ask("close", judge=False)
    assert client.service._own is not None

    def refuse() -> None:
        raise EnvironmentUnavailable("the disk is full")

    monkeypatch.setattr(client.service._own._at, "renew", refuse)
    assert [client.ask("open_workers", queue="pgboss10")["message"] for _ in range(2)] == ["the disk is full"] * 2


def test_a_server_on_a_unix_socket_is_refused_by_name(client: OwnClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.service._own is not None
    database = client.service._own._at
    monkeypatch.setattr(database.cluster, "_tcp_url", "postgresql://postgres@/postgres?host=%2Ftmp&port=5432")
    client.ask("close", judge=False)
    assert "only over its Unix socket" in client.ask("open_workers", queue="pgboss10")["message"]


def test_what_only_a_harness_of_ours_can_do_is_refused_by_name(client: OwnClient) -> None:
    assert "jobs are sent, run and cancelled by the library itself" in client.ask("enqueue", slug="a")["message"]
    client.sql("test", f"{SCHEMA}; INSERT INTO mail VALUES ('a', 'queued')")
    assert client.ask("run_until_idle")["message"] == "still not idle, no timer is set any more: a is PENDING"
    assert client.ask("wait_for", job="a", within="1m")["message"] == "a is PENDING: it did not end within 1m"
    client.ask("close", judge=False)
    assert "a blocking command of Redis" in client.ask("open_workers", queue="bullmq")["hint"]
