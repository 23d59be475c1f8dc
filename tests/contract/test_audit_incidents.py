"""Incidents made on real engines, found by `audit` in what these engines wrote, each with a scenario that replays.

python -m pytest -m campaign tests/contract/test_audit_incidents.py
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.contract.opened_engines import fresh, opened_engines
from tests.contract.test_audit_databases import Mail, reader_of, url_of

from job_harness.core.model.duration import HOUR, SECOND
from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.core.run.play import play
from job_harness.core.scenario.reader import read_scenario
from job_harness.doors.cli import main
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.packages import python_package
from job_harness.worlds.patience import Deadline

pytestmark = [pytest.mark.campaign, pytest.mark.postgres, pytest.mark.slow]

ORPHAN = Path(__file__).parents[2] / "scenarios" / "findings" / "guide" / "an_api_that_dies_leaves_an_orphan.yaml"


def incident(source: str, tmp_path: Path, *options: str) -> dict[str, int]:
    """Audit, play the scenario of each finding, and return how many jobs showed what.

    A scenario passes on the model, and its control shows the anomaly.
    """
    into, folder = tmp_path / "audit.json", tmp_path / "scenarios"
    assert main(["audit", source, "--json", str(into), "--scenarios", str(folder), *options]) == 1
    findings = [finding for each in json.loads(into.read_text())["sources"] for finding in each["findings"]]
    for finding in findings:
        assert finding["scenario"], f"no scenario for {finding['anomaly']}"
        assert main(["run", finding["scenario"]]) == 0
    return {finding["anomaly"]: finding["jobs"] for finding in findings}


class Incident:
    """A queue of an engine, its database, and whose name each change of a row bears."""

    def __init__(self, queue: Any, clocks: Any, tmp_path: Path) -> None:
        self.queue, self.clocks = queue, clocks
        self.other = Mail(url_of(queue), tmp_path)

    def by(self, who: str) -> Any:
        """Let what the queue's own session writes from here on bear this name: the child has one session."""
        self.other.run("names", f"ALTER TABLE job_harness_audit ALTER writer SET DEFAULT '{who}'")
        return self.queue


@contextmanager
def logged(engine: str, table: str, tmp_path: Path) -> Iterator[Incident]:
    with opened_engines() as get, ExitStack() as stack:
        made = Incident(*fresh(get(engine)), tmp_path)
        stack.callback(made.other.close)
        database = ("--database", made.other.url, "--yes")
        assert main(["audit", "--install", table, *database]) == 0
        stack.callback(main, ["audit", "--uninstall", table, *database])
        yield made


def twice_at_work(made: Incident) -> tuple[Any, Any]:
    """Let w1 lose a job to w2 while it still runs it; return both claims."""
    made.by("api").enqueue(JobRequest("a", "mail"))
    (first,) = made.by("w1").claim("w1", 1).value
    made.clocks.advance(Settings().lease + 2 * SECOND)
    made.by("cron").expire()
    made.clocks.advance(HOUR)
    (second,) = made.by("w2").claim("w2", 1).value
    return first, second


def test_a_zombie_completion_on_pg_boss_10(tmp_path: Path) -> None:
    with logged("pgboss@10.4.2", "pgboss10", tmp_path) as made:
        first, _ = twice_at_work(made)
        assert made.by("w1").complete(first, None).done
        assert incident("log", tmp_path, "--database", made.other.reader) == {"stale_complete": 1}


def test_a_job_that_procrastinate_started_twice(tmp_path: Path) -> None:
    with logged("procrastinate@3.10.0", "procrastinate-jobs", tmp_path) as made:
        first, _ = twice_at_work(made)
        assert made.by("w1").complete(first, None).done
        started = made.other.run("api", "SELECT count(*) FROM procrastinate_events WHERE type = 'started'")
        assert started == [(2,)], "procrastinate's own events have both starts"
        assert incident("log", tmp_path, "--database", made.other.reader) == {"stale_complete": 1}


def test_a_task_that_is_running_for_ever_in_django_tasks_db(tmp_path: Path) -> None:
    with opened_engines() as get:
        queue, clocks = fresh(get("django-tasks-db"))
        for job in ("a", "b"):
            queue.enqueue(JobRequest(job, "mail"))
        first, _dead = (queue.claim(worker, 1).value[0] for worker in ("w1", "w2"))
        queue.complete(first, None)
        clocks.advance(3 * HOUR)
        queue.enqueue(JobRequest("c", "mail"))
        assert incident("django-tasks-db", tmp_path, "--database", reader_of(url_of(queue))) == {"job_stuck": 1}


def test_an_orphan_of_an_application_with_two_tables(tmp_path: Path) -> None:
    scenario = read_scenario(ORPHAN)
    with opened_engines() as get:
        engine = get("scenarios/applications/guide.py:Guide@pgboss@10.4.2")
        assert "orphan_row" in play(scenario, engine=engine).found
        url = engine._store._engine.session().database.url
        options = ("--database", reader_of(url), "--stuck-after", "1s")
        assert incident("tool_job", tmp_path, *options) == {"orphan_row": 1}


def test_a_late_result_on_graphile_worker(tmp_path: Path) -> None:
    with logged("graphile-worker@0.17.3", "graphile-worker", tmp_path) as made:
        made.by("api").enqueue(JobRequest("a", "mail"))
        (first,) = made.by("w1").claim("w1", 1).value
        made.clocks.advance(5 * HOUR)
        made.by("cron").expire()
        assert len(made.by("w2").claim("w2", 1).value) == 1
        made.by("w1").complete(first, None)
        assert incident("log", tmp_path, "--database", made.other.reader) == {"stale_complete": 1}


STUCK = {
    "bullmq@6.7.0": ("bullmq-jobs", ("log", "bullmq", "bullmq-jobs")),
    "graphile-worker@0.17.3": ("graphile-worker", ("log", "graphile-worker")),
    "pgboss-node@12.38.0": ("pgboss", ("log", "pgboss")),
    "pgqueuer@1.6.0": ("pgqueuer-jobs", ("log", "pgqueuer")),
    "procrastinate@3.10.0": ("procrastinate-jobs", ("log", "procrastinate")),
}


@pytest.mark.parametrize("engine", STUCK)
def test_a_job_whose_worker_died_is_stuck_in_the_engine_s_own_tables(engine: str, tmp_path: Path) -> None:
    table, sources = STUCK[engine]
    with logged(engine, table, tmp_path) as made:
        for job in ("a", "b"):
            made.by("api").enqueue(JobRequest(job, "mail"))
        first, _dead = made.by("w1").claim("w1", 2).value
        made.queue.complete(first, None)
        made.clocks.advance(6 * HOUR)
        made.by("api").enqueue(JobRequest("c", "mail"))
        reader = reader_of(made.other.url, past_policies=True)
        for source in sources:
            assert incident(source, tmp_path, "--database", reader) == {"job_stuck": 1}, source


# a duplicate in spans -------------------------------------------------------------------------------------------------


OTEL = (
    "redis",
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-instrumentation-celery==0.66b2",
    "opentelemetry-exporter-otlp-proto-common==1.45.2",
)


def test_a_task_that_two_celery_workers_run_at_once(tmp_path: Path) -> None:
    """Its message becomes visible again after 3 s, and it runs for 12: a setting that Celery's docs warn of."""
    pytest.importorskip("opentelemetry.proto", reason="no opentelemetry-proto here: pip install 'job-harness[otel]'")
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server here")
    try:
        packages = python_package("celery", "5.7.0", *OTEL)
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    socket, spans = tmp_path / "redis.sock", tmp_path / "spans"
    spans.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(packages), str(Path(__file__).parent))),
        "BROKER": f"redis+socket://{socket}",
        "SPANS": str(spans),
    }
    celery = [sys.executable, "-m", "celery", "-A", "celery_spans", "worker", "--concurrency", "1", "--without-mingle"]
    with ExitStack() as stack:
        redis = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
        _started(stack, redis, tmp_path)
        _until(socket.exists, "redis-server does not start")
        send = [sys.executable, str(Path(__file__).with_name("celery_spans.py")), "send"]
        subprocess.run(send, env={**environment, "NAME": "api"}, check=True, timeout=60)
        for name in ("w1", "w2"):
            _started(stack, [*celery, "-n", name], tmp_path, env={**environment, "NAME": name})
        _until(lambda: len(list(spans.glob("*.pb"))) >= 3, "no second run of the task within a minute")
    merged = tmp_path / "spans.pb"
    merged.write_bytes(b"".join(file.read_bytes() for file in sorted(spans.glob("*.pb"))))
    found = incident(str(merged), tmp_path)
    assert found["concurrent_execution"] == 1


def _started(stack: ExitStack, command: list[str], folder: Path, **options: Any) -> None:
    log = stack.enter_context((folder / f"{len(list(folder.iterdir()))}.log").open("wb"))
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True, **options)
    stack.callback(process.wait, 30)
    stack.callback(os.killpg, process.pid, signal.SIGKILL)


def _until(holds: Any, otherwise: str, *, seconds: float = 60) -> None:
    deadline, pause = Deadline(seconds), threading.Event()
    while not holds():
        assert not deadline.passed, otherwise
        pause.wait(0.1)
