"""The reference application under load, while its API, its worker and PostgreSQL are killed; then every job is counted.

What is promised: a job that was acknowledged is there and ends, COMPLETED with its own output; it is run at least once,
and again only where a worker died on it; an idempotency key stands for one unfinished job.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, LiteralString

import httpx
import psycopg

from job_harness.worlds.postgres import provision
from reliability.size import Proof, Size

ROOT: Final = Path(__file__).resolve().parents[2]
CLIENTS: Final = 4
GAP_SECONDS: Final = (1.0, 5.0)
"""Between two kills: jobs are done now and then, whatever the machine is busy with."""
SECONDS_OF_A_KILL: Final = 8.0
"""About so long it takes until jobs flow again and the next one strikes."""
CRON_SECONDS: Final = 2.0
"""How often maintenance is asked for: it takes back the jobs of a worker that is dead."""
LONGEST_SECONDS: Final = 900.0
"""After this the proof gives up: that is a failure, named."""
TOOL: Final = """
import asyncio, os
from job_harness_reference.models import JobResult
TOOL_SLUGS = ("counted",)
async def process_counted(job):
    descriptor = os.open(os.environ["COUNTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{job.input['n']}\\n".encode())
    os.close(descriptor)
    await asyncio.sleep(0.02 + job.input["n"] % 10 * 0.1)
    return JobResult(success=True, output={"n": job.input["n"], "square": job.input["n"] ** 2})
REGISTRATIONS = (lambda registry: registry.register_processor("counted", process_counted),)
"""
SETTINGS: Final = {
    "USE_PGBOSS_WORKERS": "true",
    "CRON_SECRET": "hush",
    "JOB_TIMEOUT_SECONDS": "1",
    "PROCESSOR_CANCEL_GRACE_SECONDS": "0.1",
    "JOB_EXPIRE_IN_SECONDS": "7",
    "JOB_RETRY_DELAY_SECONDS": "1",
    "JOB_RETRY_BACKOFF": "false",
    "JOB_MAX_ATTEMPTS": "60",
    "PGBOSS_POLLING_INTERVAL": "0.2",
    "PGBOSS_BATCH_SIZE": "20",
}
"""A claim whose worker died is taken back after seven seconds, so that the proof ends."""
ABOUT: Final = (
    "The reference application works on PostgreSQL: four clients send jobs over HTTP, each with an idempotency "
    "key, and repeat each request until it is acknowledged. Meanwhile the API, the worker and PostgreSQL are "
    "killed in turn with SIGKILL, at random moments while jobs are running, and restarted. One process of "
    "PostgreSQL is killed, so that it ends every session and recovers from its log; `synchronous_commit` is on."
)


@dataclass(slots=True)
class Service:
    """A process that is started again whenever it is gone."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-m", "job_harness_reference", "--log-level", "error", *self.arguments]
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def kill(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return False
        self.process.kill()
        self.process.wait()
        return True


@dataclass(slots=True)
class Load:
    """What clients were told: by number, the ids that a request for it was acknowledged with."""

    acknowledged: dict[int, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    asked: int = 0


def prove(size: Size, *, seed: int) -> Proof:
    """Send jobs, kill, and wait until all is done."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch, provision() as cluster:
        url = cluster.create_database()
        with psycopg.connect(url, autocommit=True) as connection:
            # The server that tests get does without: what it acknowledges may be lost when it is killed.
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = on")
        (Path(scratch) / "counted_tool.py").write_text(TOOL)
        environment = _environment(url, Path(scratch))
        migrate = [sys.executable, "-m", "job_harness_reference", "migrate"]
        subprocess.run(migrate, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        load, kills, seconds = _under_load(size, url, environment, chance)
        with psycopg.connect(url) as connection:
            rows = connection.execute(_ROWS).fetchall()
        runs = Counter(int(line) for line in Path(environment["COUNTED"]).read_text().split())
    return _judged(load, kills, seconds, rows, runs)


_ROWS: Final = "SELECT id::text, status::text, input::text, output::text, attempts FROM tool_job"


def _environment(url: str, scratch: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOB_", "PGBOSS_", "USE_"))}
    return {
        **kept,
        **SETTINGS,
        "DATABASE_URL": url,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(scratch))),
        "COUNTED": str(scratch / "counted"),
    }


def _under_load(
    size: Size, url: str, environment: dict[str, str], chance: random.Random
) -> tuple[Load, Counter[str], float]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    api = Service(("serve", "--port", str(port), "--tools", "counted_tool"), environment)
    worker = Service(("work", "--tools", "counted_tool"), environment)
    load, kills, began = Load(), Counter[str](), time.monotonic()
    base = f"http://127.0.0.1:{port}"
    try:
        with _clients(load, base, size, began + LONGEST_SECONDS):
            victims = {"API": api.kill, "worker": worker.kill, "PostgreSQL": lambda: _kill_postgres(url, chance)}
            next_kill, next_cron, before = began, began, 0
            while time.monotonic() < began + LONGEST_SECONDS:
                api.keep()
                worker.keep()
                if time.monotonic() > next_cron:
                    _maintain(base)
                    next_cron = time.monotonic() + CRON_SECONDS
                due = kills.total() < size.kills and time.monotonic() > next_kill
                if due and len(load.acknowledged) > before and _running(url):
                    name = list(victims)[kills.total() % len(victims)]
                    kills[name] += victims[name]()
                    before = len(load.acknowledged)
                    next_kill = time.monotonic() + chance.uniform(*GAP_SECONDS)
                if kills.total() >= size.kills and len(load.acknowledged) == size.jobs and not _unended(url):
                    break
                time.sleep(0.1)
    finally:
        api.kill()
        worker.kill()
    return load, kills, time.monotonic() - began


def _maintain(base: str) -> None:
    """Be the cron: call maintenance, whatever is dead just now."""
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(f"{base}/api/cron/job-maintenance", headers={"authorization": "Bearer hush"}, timeout=5)


@contextlib.contextmanager
def _clients(load: Load, base: str, size: Size, until: float) -> Iterator[None]:
    """Ask for each job with a key of its own, again and again until it is acknowledged."""
    numbers = iter(range(size.jobs))
    lock = threading.Lock()
    pace = size.kills * SECONDS_OF_A_KILL * CLIENTS / size.jobs  # So that jobs flow as long as there are kills.

    def client() -> None:
        with httpx.Client(base_url=base, headers={"x-user-id": "anna"}, timeout=5) as http:
            while time.monotonic() < until:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                while time.monotonic() < until and not _asked(http, load, number):
                    time.sleep(0.2)
                time.sleep(pace)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(30)


def _asked(http: httpx.Client, load: Load, number: int) -> bool:
    load.asked += 1
    body = {"toolSlug": "counted", "input": {"n": number}}
    try:
        answer = http.post("/api/jobs", json=body, headers={"idempotency-key": f"n{number}"})
    except httpx.HTTPError:
        return False
    if answer.status_code in (200, 201):
        load.acknowledged[number] = answer.json()["id"]
        return True
    if answer.status_code not in (500, 503):
        load.refused.append(f"{answer.status_code}: {answer.text:.100}")
    return False


def _kill_postgres(url: str, chance: random.Random) -> bool:
    """Kill one of the server's processes: the server then ends every session, and recovers from its log."""
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            pids = [row[0] for row in connection.execute(query).fetchall()]
            if not pids:
                return False
            os.kill(chance.choice(pids), signal.SIGKILL)
    except (psycopg.Error, OSError):
        return False
    return True


def _running(url: str) -> int:
    """Count the jobs that a worker has in hand: a kill strikes only where there are some."""
    return _count(url, "status = 'PROCESSING'", where_unknown=0)


def _unended(url: str) -> int:
    return _count(url, "status IN ('PENDING', 'PROCESSING')", where_unknown=1)


def _count(url: str, condition: LiteralString, *, where_unknown: int) -> int:
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            row = connection.execute("SELECT count(*) FROM tool_job WHERE " + condition).fetchone()
    except psycopg.Error:
        return where_unknown
    return int(row[0]) if row else where_unknown


def _judged(load: Load, kills: Counter[str], seconds: float, rows: list[tuple[Any, ...]], runs: Counter[int]) -> Proof:
    by_id = {row[0]: row for row in rows}
    wrong = [row for row in rows if row[1] != "COMPLETED"]
    for _, status, given, output, _ in rows:
        number = json.loads(given)["n"]
        if status == "COMPLETED" and json.loads(output) != {"n": number, "square": number**2}:
            wrong.append((status, given, output))
    lost = [number for number, id_ in load.acknowledged.items() if id_ not in by_id]
    never_run = [number for number in load.acknowledged if not runs[number]]
    twice = Counter(json.loads(row[2])["n"] for row in rows)
    again = sum(count - 1 for count in twice.values())
    table = (
        ("jobs that were acknowledged", str(len(load.acknowledged))),
        ("requests for them, those without an answer included", str(load.asked)),
        ("acknowledged and not there", str(len(lost))),
        ("not COMPLETED with their own output", str(len(wrong))),
        ("COMPLETED and never run", str(len(never_run))),
        ("runs beyond the first, because a process died on a job", str(runs.total() - len(rows))),
        ("attempts beyond the first", str(sum(row[4] - 1 for row in rows))),
        ("a second job, asked for again after the first had ended", str(again)),
        ("refused with another code than 500 or 503", str(len(load.refused))),
    )
    told = ", ".join(f"{name} {count}" for name, count in kills.items())
    done = len(load.acknowledged) - len(lost) - len(wrong)
    result = (
        f"{kills.total()} kills in {seconds:.0f} s ({told}). "
        f"{done} of {len(load.acknowledged)} jobs were done as promised."
    )
    tried = bool(load.acknowledged) and kills.total() > 0
    held = tried and not (lost or wrong or never_run or load.refused) and seconds < LONGEST_SECONDS
    return Proof("Kills under load", ABOUT, ("what", "count"), table, result, held=held)
