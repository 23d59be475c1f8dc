"""`verify` believes nothing that the system under test says, and waits for nothing without end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL

from job_harness.doors.cli import main
from job_harness.doors.cli.verify_command import _described
from job_harness.errors import EnvironmentUnavailable, HarnessError, UsageError
from job_harness.review.verify import trial
from job_harness.review.verify.trial import (
    JobLook,
    Template,
    TrialResult,
    create_job,
    described_jobs,
    judge_trial,
    read_template,
    watch,
    within_budget,
    workers_off,
)

ANSWERS = {
    "/surrogate": b'{"id": "\\ud800"}',
    "/escapes": b'{"id": "a\\u001b[31m\\n::error::owned"}',
    "/nothing": b'{"id": ""}',
    "/endless": b'{"id": "' + b"x" * 5000 + b'"}',
    "/deep": b"[" * 200_000,
    "/workers": b'{"workers": {"enabled": false, "reason": "' + b"x" * 5000 + b'"}}',
}
OVER = threading.Event()


class Hostile(BaseHTTPRequestHandler):
    """Returns whatever the path asks for."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/garbage":
            self.wfile.write(b"\x00\xff\r\n\r\n")
            return
        self.send_response(200)
        if self.path == "/header":
            self._drip(b"x-a: b\r\n")
        self.end_headers()
        if self.path == "/drip":
            self._drip(b"x")
        self.wfile.write(ANSWERS.get(self.path, b""))

    do_GET = do_POST  # noqa: N815 - the name is the server's

    def _drip(self, drop: bytes) -> None:
        self.flush_headers()
        while not OVER.wait(0.02):
            self.wfile.write(drop)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    OVER.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("path", ["/surrogate", "/escapes", "/nothing", "/endless", "/deep", "/empty"])
def test_an_answer_without_a_usable_id_is_quoted_within_bounds(base: str, path: str) -> None:
    with pytest.raises(UsageError, match="has no id at 'id'") as told:
        create_job(base, Template(path=path))
    assert len(str(told.value)) < 600


@pytest.mark.parametrize("path", ["/drip", "/header"])
def test_an_answer_that_drips_is_given_up(base: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "within_budget", lambda ask, *, what: within_budget(ask, what=what, seconds=0.2))
    with pytest.raises(EnvironmentUnavailable, match=rf"POST .*{path}: no complete response within 0.2 s"):
        create_job(base, Template(path=path))


def test_what_is_no_http_is_told(base: str) -> None:
    with pytest.raises(EnvironmentUnavailable, match=r"no server answers at \S+ \(.+\)"):
        create_job(base, Template(path="/garbage"))


def test_a_reason_is_shown_within_bounds(base: str) -> None:
    told = workers_off(base, Template(health="/workers"))
    assert told is not None
    assert len(told) < 400


@pytest.mark.parametrize(
    "url", ["http://a b:x", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://[", "ftp://a", "", "http://\ud800"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not a URL"):
        create_job(url, Template())


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("body = {start = 2024-01-01}", "body cannot be sent as JSON: .*date"),
        ("body = {start = nan}", "body cannot be sent as JSON"),
        ("headers = {a = 1}", "the header 'a' is 1"),
        ('headers = {a = "b\\r\\nc: d"}', "the header 'a' is"),
        ('headers = {"a b" = "c"}', "the header 'a b' is"),
        ('headers = "x"', "headers is not a table"),
        ('method = "A B"', "'A B' is not an HTTP method"),
        ("path = 1", "path is 1, and must be text"),
        ("tool.job-harness.verify = 3", "is not a table"),
        ("body = " + "[" * 3000 + "]" * 3000, "cannot be"),
        ("a = ", "cannot be read as TOML"),
        ("# " + "x" * 1_000_001, "more than 1000000 bytes"),
    ],
)
def test_a_config_that_cannot_be_sent_is_refused_before_anything_is(tmp_path: Path, toml: str, words: str) -> None:
    (tmp_path / "verify.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(HarnessError, match=words):
        read_template(tmp_path / "verify.toml")


def watched(monkeypatch: pytest.MonkeyPatch, *rows: dict[str, Any] | None) -> TrialResult:
    """Judge what these looks show; the last one is what every later look shows too."""
    looks = [*reversed(rows)]
    monkeypatch.setattr(trial, "_row", lambda *_: looks.pop() if len(looks) > 1 else looks[0])
    monkeypatch.setattr(trial, "LOOK_EVERY_SECONDS", 0.0)
    table = JobLook(SQL("").format(), "tool_job", {"queued": "PENDING", "held": "PROCESSING"})
    seen = watch("", table, "j", start_within=0.01, end_within=0.02)
    return judge_trial("j", seen, table, start_within=0.01, end_within=0.02, workers_off=None)


def test_what_became_of_a_job_is_said_with_the_time_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = {"status": "PENDING", "started": None, "error": None}
    runs = waits | {"status": "PROCESSING", "started": 1}
    retried = watched(monkeypatch, waits, runs | {"status": "PENDING", "error": "boom"})
    assert (retried.problem, retried.cause) == (
        "still PENDING after 0.01 s",
        "it failed and waits for a retry: boom",
    )
    assert watched(monkeypatch, waits, runs).problem == "PROCESSING 0.02 s after it started"
    gone = watched(monkeypatch, waits, runs, None)
    assert gone.problem == "its row was deleted after it was PROCESSING"
    assert watched(monkeypatch, waits, None).problem == "its row was deleted after it was PENDING"
    assert watched(monkeypatch, None).problem == "the job is not in tool_job"
    own = watched(monkeypatch, waits | {"status": "queued"}, runs | {"status": "held"}, runs | {"status": "COMPLETED"})
    assert [seen.status for seen in own.watched.statuses] == ["PENDING", "PROCESSING", "COMPLETED"]
    idle = watched(monkeypatch, waits | {"status": "queued"})
    assert idle.cause == "no worker took it: are workers running, on this database?"


def test_a_table_of_ones_own_is_looked_at_by_what_describes_it() -> None:
    columns = {"id": "job.id", "status": "job.state", "attempts": "job.tries"}
    look = described_jobs("queue.yaml", "(SELECT 7 % 4)", columns=columns, status={"queued": "PENDING"})
    assert look.query.as_string(None) == (
        "SELECT left((job.state)::text, 2000) AS status, NULLIF(job.tries, 0) AS started, "
        "left((NULL)::text, 2000) AS error FROM (SELECT 7 %% 4) AS job WHERE (job.id)::text = %(job)s"
    )
    with pytest.raises(UsageError, match="it shows neither started_at nor attempts"):
        described_jobs("queue.yaml", "jobs", columns={"id": "job.id", "status": "job.state"}, status={})
    with pytest.raises(UsageError, match="it has a row for each change of a job"):
        _described("procrastinate")


def test_a_file_that_holds_something_else_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("tool = 3\n")
    assert read_template(tmp_path / "pyproject.toml") == Template()


def test_a_job_that_nobody_can_watch_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(
        "job_harness.doors.cli.verify_command.create_job", lambda url, template: sent.append(url) or "a"
    )
    asked = ["verify", "http://127.0.0.1:1", "--dsn", "postgresql://127.0.0.1:1/none"]
    assert main(asked) == 4
    assert capsys.readouterr().err.startswith("job-harness: --dsn: ")
    for option, value in (("--poll", "nan"), ("--margin", "inf"), ("--takes", "0"), ("--poll", "-1")):
        assert main([*asked, option, value]) == 2
        assert f"{option} cannot be {value}" in capsys.readouterr().err
    assert not sent
