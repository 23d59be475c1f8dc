"""The guide's own integration test: API and worker as processes of their own on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from job_harness.worlds.postgres import Cluster, provision
from job_harness_reference.__main__ import main
from job_harness_reference.store.migrations import migrate

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]
USER = {"x-user-id": "anna"}
PATIENCE_SECONDS = 30.0

GATED_TOOL = """
import asyncio, pathlib
from job_harness_reference.models import JobResult

TOOL_SLUGS = ("gated",)

async def process_gated(job):
    while not pathlib.Path(job.input["gate"]).exists():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            if not job.input.get("stubborn"):
                raise
    return JobResult(success=True, output={"text": "done"})

REGISTRATIONS = (lambda registry: registry.register_processor("gated", process_gated),)
"""


class Setting(NamedTuple):
    """A migrated database and a tool that runs until a file exists."""

    environ: dict[str, str]
    gate: Path


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with provision() as cluster:
        yield cluster


@pytest.fixture
def setting(cluster: Cluster, tmp_path: Path) -> Iterator[Setting]:
    name = f"guide_{os.getpid()}"
    url = cluster.create_database(name)
    (tmp_path / "gated_tool.py").write_text(GATED_TOOL, encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("JOB_", "PGBOSS_", "USE_"))}
    environ = {**kept, "DATABASE_URL": url, "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    environ.pop("CRON_SECRET", None)
    asyncio.run(migrate(url))
    yield Setting(environ, tmp_path / "gate")
    cluster.drop_database(name)


def command(*arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "job_harness_reference", *arguments],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


class Child:
    """A running command, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self.lines.append(line.rstrip())
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def wait_for(self, words: str) -> str:
        """Wait for a line with these words."""

        def heard() -> bool:
            return self._ended or any(words in line for line in self.lines)

        with self._said:
            self._said.wait_for(heard, timeout=PATIENCE_SECONDS)
            found = next((line for line in self.lines if words in line), None)
        assert found is not None, f"never said {words!r}:\n" + "\n".join(self.lines)
        return found

    def end(self) -> None:
        """Kill what still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def child(*arguments: str, environ: dict[str, str]) -> Iterator[Child]:
    """Start a command; it is killed at the end, whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "job_harness_reference", *arguments],
        env=environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Child(process)
    try:
        yield running
    finally:
        running.end()


@contextlib.contextmanager
def served(setting: Setting, *arguments: str, **environ: str) -> Iterator[httpx.Client]:
    """Start the API with the gated tool and answer with a client of it."""
    command_line = ("serve", "--port", "0", "--tools", "gated_tool", *arguments)
    with child(*command_line, environ={**setting.environ, **environ}) as server:
        address = server.wait_for("serving on ").split("serving on ")[1]
        with httpx.Client(base_url=address, headers=USER, timeout=PATIENCE_SECONDS) as client:
            yield client


def create(client: httpx.Client, setting: Setting) -> str:
    answer = client.post("/api/jobs", json={"toolSlug": "gated", "input": {"gate": str(setting.gate)}})
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "PENDING"
    return str(answer.json()["id"])


def await_status(client: httpx.Client, job_id: str, status: str, *, within_seconds: float) -> dict[str, Any]:
    """Ask for the job until it has the status."""
    job: dict[str, Any] = {}
    pause = threading.Event()
    for _ in range(int(within_seconds / 0.02)):
        job = client.get(f"/api/jobs/{job_id}").json()
        if job["status"] == status:
            return job
        pause.wait(0.02)
    raise AssertionError(f"not {status} within {within_seconds:g} s: {job}")


@pytest.mark.parametrize("how", [(), ("--poll-only",)], ids=["listening", "polling"])
def test_a_job_is_seen_pending_processing_and_completed_within_the_polling_interval(
    setting: Setting, how: tuple[str, ...]
) -> None:
    enabled = {**setting.environ, "USE_PGBOSS_WORKERS": "true", "PGBOSS_POLLING_INTERVAL": "1"}
    with (
        served(setting, USE_PGBOSS_WORKERS="true") as client,
        child("work", "--tools", "gated_tool", *how, environ=enabled) as worker,
    ):
        worker.wait_for("worker.started")
        assert client.get("/healthz").json()["status"] == "ok"

        job_id = create(client, setting)
        await_status(client, job_id, "PROCESSING", within_seconds=1 + 4)
        setting.gate.touch()
        job = await_status(client, job_id, "COMPLETED", within_seconds=5)

        assert (job["output"], job["error"], job["attempts"]) == ({"text": "done"}, None, 1)
        worker.wait_for("job.completed")


def test_without_the_variable_the_job_stays_pending_and_everybody_says_why(setting: Setting) -> None:
    with served(setting, "--with-worker") as client:
        job_id = create(client, setting)

        refused = command("work", "--tools", "gated_tool", environ=setting.environ)
        health = client.get("/healthz").json()

        assert refused.returncode == 4
        assert "USE_PGBOSS_WORKERS is not set" in refused.stderr
        assert "Set USE_PGBOSS_WORKERS=true" in refused.stderr
        assert health["status"] == "degraded"
        assert health["workers"]["enabled"] is False
        assert "jobs are queued and stay PENDING" in health["workers"]["reason"]
        assert client.get(f"/api/jobs/{job_id}").json()["status"] == "PENDING"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_gives_its_job_back_and_the_next_one_finishes_it(
    setting: Setting, number: signal.Signals
) -> None:
    environ = {**setting.environ, "USE_PGBOSS_WORKERS": "true", "WORKER_SHUTDOWN_GRACE_SECONDS": "0.1"}
    with served(setting) as client:
        job_id = create(client, setting)
        with child("work", "--tools", "gated_tool", environ=environ) as first:
            await_status(client, job_id, "PROCESSING", within_seconds=10)
            first.process.send_signal(number)
            first.wait_for("job.released")
            assert first.process.wait(PATIENCE_SECONDS) == 0
        job = client.get(f"/api/jobs/{job_id}").json()
        assert (job["status"], job["attempts"]) == ("PENDING", 0)

        setting.gate.touch()
        with child("work", "--tools", "gated_tool", environ=environ):
            assert await_status(client, job_id, "COMPLETED", within_seconds=10)["attempts"] == 1


def test_a_processor_that_ignores_its_cancellation_does_not_keep_the_process(setting: Setting) -> None:
    quick = {"WORKER_SHUTDOWN_GRACE_SECONDS": "0.1", "PROCESSOR_CANCEL_GRACE_SECONDS": "0.1"}
    environ = {**setting.environ, "USE_PGBOSS_WORKERS": "true", **quick}
    with served(setting) as client, child("work", "--tools", "gated_tool", environ=environ) as worker:
        body = {"toolSlug": "gated", "input": {"gate": str(setting.gate), "stubborn": True}}
        job_id = client.post("/api/jobs", json=body).json()["id"]
        await_status(client, job_id, "PROCESSING", within_seconds=10)
        worker.process.send_signal(signal.SIGTERM)

        worker.wait_for("cut off, since they ignored their cancellation: processor gated")
        assert worker.process.wait(PATIENCE_SECONDS) == 0


def test_one_process_serves_and_works(setting: Setting) -> None:
    setting.gate.touch()
    with served(setting, "--with-worker", USE_PGBOSS_WORKERS="true", CRON_SECRET="hush") as client:
        job_id = create(client, setting)
        await_status(client, job_id, "COMPLETED", within_seconds=5)

        path = "/api/cron/job-maintenance"
        assert client.get(path).status_code == 401
        answer = client.get(path, headers={"authorization": "Bearer hush"})
        assert answer.status_code == 200
        assert set(answer.json()) == {"reconciled", "rescued", "expired", "deleted"}


def _no_url(environ: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in environ.items() if key != "DATABASE_URL"}


def _nobody_there(environ: dict[str, str]) -> dict[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return {**environ, "DATABASE_URL": f"postgresql://127.0.0.1:{port}/nowhere"}


def _no_address(environ: dict[str, str]) -> dict[str, str]:
    return {**environ, "DATABASE_URL": "nonsense"}


def _contradiction(environ: dict[str, str]) -> dict[str, str]:
    return {**environ, "JOB_EXPIRE_IN_SECONDS": "600"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_no_url, "DATABASE_URL is not set"),
        (_nobody_there, "The database does not answer"),
        (_no_address, "DATABASE_URL cannot be used"),
        (_contradiction, "Set JOB_EXPIRE_IN_SECONDS=660"),
    ],
)
def test_a_wrong_environment_is_told_from_a_failure(
    change: Callable[[dict[str, str]], dict[str, str]],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ = change(dict(os.environ))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for key, value in environ.items():
        monkeypatch.setenv(key, value)

    assert main(["maintain"]) == 4
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def test_a_database_that_is_not_as_it_must_be_is_told_in_words(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"bare_{os.getpid()}"
    url = cluster.create_database(name)
    monkeypatch.setenv("USE_PGBOSS_WORKERS", "true")

    def told(verb: str, *, user: str | None = None) -> str:
        monkeypatch.setenv("DATABASE_URL", make_conninfo(url, **({"user": user} if user else {})))
        assert main([verb]) == 4
        return capsys.readouterr().err

    try:
        with psycopg.connect(url, autocommit=True) as hand:
            for verb in ("work", "maintain"):
                assert "Run python -m job_harness_reference migrate first" in told(verb)
            hand.execute(f"CREATE ROLE {name} LOGIN")
            assert "does not allow that to the user of DATABASE_URL (permission denied" in told("migrate", user=name)
            hand.execute(f'DROP ROLE {name}; CREATE TABLE "user" (id text)')
            assert 'under a name that the schema needs (relation "user" already exists)' in told("migrate")
            hand.execute('DROP TABLE "user"')
        assert main(["migrate"]) == 0
        assert capsys.readouterr().out.startswith("migrated: ")
    finally:
        cluster.drop_database(name)


def test_a_port_that_is_taken_is_named(setting: Setting) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = command("serve", "--port", str(port), environ=setting.environ)

    assert ended.returncode == 4
    assert f"127.0.0.1:{port} cannot be listened on" in ended.stderr


def test_wrong_usage_and_unusable_tools_are_refused(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {**setting.environ, "USE_PGBOSS_WORKERS": "true"}

    for wrong, told in ((["wrok"], "'wrok'"), (["serve", "--port", "http"], "'http' is not a port: take one from")):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
        assert told in capsys.readouterr().err
    ended = command("work", "--tools", "no.such.module", environ=environ)
    assert ended.returncode == 4
    assert "--tools no.such.module cannot be used" in ended.stderr


def test_maintenance_prints_what_it_changed(setting: Setting) -> None:
    ended = command("maintain", environ=setting.environ)

    assert ended.returncode == 0
    assert ended.stdout.strip() == '{"reconciled": [], "rescued": [], "expired": [], "deleted": []}'
