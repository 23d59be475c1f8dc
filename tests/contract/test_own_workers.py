"""Workers that a client starts itself, as the server sees them: a database on virtual time, and what its rows say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from harness.postgres.provider import DSN_VARIABLE
from harness.serve import Conversation, HarnessService, own_workers

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
        self.reply.append({"idle": message.get("time", message.get("go")), "next": min(self.due, default=None)})

    def _line(self, seconds: float | None) -> dict[str, Any] | None:
        return self.reply.pop(0)

    def ask(self, do: str, **given: Any) -> Any:
        self.service.carry_out({"ask": len(self.answers) + 1, "do": do, "with": given})
        return self.answers[-1].get("value", self.answers[-1].get("refused"))

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
    client.sql("test", SCHEMA)
    client.ask("watch_jobs")
    client.sql("test", "INSERT INTO mail VALUES ('a', 'queued')")
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
    assert [(each["do"], each["actor"]) for each in client.heard if "go" in each] == [("again", "worker")]


def test_a_server_on_a_unix_socket_is_refused_by_name(client: OwnClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.service._own is not None
    database = client.service._own._at
    monkeypatch.setattr(database.cluster, "_tcp_url", "postgresql://postgres@/postgres?host=%2Ftmp&port=5432")
    client.ask("close", judge=False)
    assert "only over its Unix socket" in client.ask("open_workers", queue="pgboss10")["message"]


def test_what_only_a_harness_of_ours_can_do_is_refused_by_name(client: OwnClient) -> None:
    assert "jobs are sent, run and cancelled by the library itself" in client.ask("enqueue", slug="a")["message"]
    client.sql("test", f"{SCHEMA}; INSERT INTO mail VALUES ('a', 'queued')")
    assert client.ask("run_until_idle")["message"] == "no rest, no timer is set any more: a is PENDING"
    assert client.ask("wait_for", job="a", within="1m")["message"] == "a is PENDING: it did not end within 1m"
    client.ask("close", judge=False)
    assert "a blocking command of Redis" in client.ask("open_workers", queue="bullmq")["hint"]
