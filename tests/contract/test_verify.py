"""`job-harness verify` against a running reference system: it passes, or names what happened and the first cause."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from tests.contract.test_guide_integration import Setting, child, cluster, served, setting

from job_harness.doors.cli import main
from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.review.verify.trial import Template, create_job, read_template

__all__ = ["cluster", "setting"]

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def config(folder: Path, gate: Path) -> str:
    body = json.dumps({"toolSlug": "gated", "input": {"gate": str(gate)}})
    path = folder / "verify.toml"
    path.write_text(f"headers = {{'x-user-id' = 'anna'}}\nbody = {body.replace(': ', ' = ')}\n", encoding="utf-8")
    return str(path)


def verified(client: httpx.Client, setting: Setting, folder: Path, *arguments: str) -> int:
    dsn = setting.environ["DATABASE_URL"]
    named = ["--dsn", dsn, "--config", config(folder, setting.gate), "--json", str(folder / "verdict.json")]
    return main(["verify", str(client.base_url), *named, *arguments])


@pytest.mark.long
def test_it_passes_where_a_worker_runs(setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting.gate.touch()
    enabled = {**setting.environ, "USE_PGBOSS_WORKERS": "true", "PGBOSS_POLLING_INTERVAL": "1"}
    with (
        served(setting, USE_PGBOSS_WORKERS="true") as client,
        child("work", "--tools", "gated_tool", environ=enabled) as worker,
    ):
        worker.wait_for("worker.started")
        assert verified(client, setting, tmp_path) == 0
    assert "pass: PENDING, PROCESSING, COMPLETED in time" in capsys.readouterr().out
    assert json.loads((tmp_path / "verdict.json").read_text())["verdict"] == "pass"


@pytest.mark.long
def test_without_workers_it_fails_within_seconds_and_names_the_cause(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(setting, "--with-worker") as client:
        assert verified(client, setting, tmp_path, "--poll", "0.2", "--margin", "0.3") == 1
    told = capsys.readouterr().out
    assert "FAIL: still PENDING after 0.5 s" in told
    assert "First cause: USE_PGBOSS_WORKERS is not set" in told


@pytest.mark.long
def test_a_job_that_runs_for_too_long_is_named(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(setting, "--with-worker", USE_PGBOSS_WORKERS="true") as client:
        assert verified(client, setting, tmp_path, "--takes", "0.5") == 1
        setting.gate.touch()
    told = capsys.readouterr().out
    assert "FAIL: PROCESSING 0.5 s after it started" in told
    assert "First cause: the processor still runs" in told


@pytest.mark.long
def test_another_database_is_the_first_thing_to_suspect(
    setting: Setting, cluster: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.contract.test_guide_integration import command

    from job_harness.worlds.postgres import Cluster

    assert isinstance(cluster, Cluster)
    other = cluster.create_database(f"other_{os.getpid()}")
    try:
        assert command("migrate", environ={**setting.environ, "DATABASE_URL": other}).returncode == 0
        with served(setting) as client:
            arguments = ["--dsn", other, "--config", config(tmp_path, setting.gate), "--poll", "0.1", "--margin", "0.1"]
            assert main(["verify", str(client.base_url), *arguments]) == 1
    finally:
        cluster.drop_database(f"other_{os.getpid()}")
    assert "--dsn names another database than the api-server uses" in capsys.readouterr().out


class Odd(BaseHTTPRequestHandler):
    """Returns what the path asks for."""

    def do_POST(self) -> None:
        status, _, body = unquote(self.path).strip("/").partition("/")
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def odd() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Odd)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/403/no", "returned 403: no"),
        ("/200/oops", "has no id at 'id': oops"),
        ('/201/{"job":1}', "has no id at 'id'"),
    ],
)
def test_an_api_that_answers_otherwise_is_quoted(odd: str, path: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        create_job(odd, Template(path=path))


def test_the_id_may_stand_deeper(odd: str) -> None:
    assert create_job(odd, Template(path='/201/{"job":{"id":"a-1"}}', id="job.id")) == "a-1"


def test_nobody_who_answers_is_an_environment_that_is_missing() -> None:
    with pytest.raises(EnvironmentUnavailable, match="no server answers"):
        create_job("http://127.0.0.1:1", Template())


def test_a_config_with_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.job-harness.verify]\nheader = {}\n")
    with pytest.raises(UsageError, match=r"no such key: 'header' \(did you mean 'headers'\?\)"):
        read_template(tmp_path / "pyproject.toml")


def test_a_pyproject_without_the_table_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    assert read_template(tmp_path / "pyproject.toml") == Template()
