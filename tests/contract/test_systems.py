"""Unmodified processes are played, run to the same history again, and are refused by name when they misbehave."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.contract.opened_systems import Opened, open_systems, play_jobs

from job_harness.core.history.event import Call, Effect, Fault, Observed
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.port import WrittenSource
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.errors import EnvironmentUnavailable, ExitCode, HarnessError
from job_harness.report.blame import frames_of, with_source
from job_harness.report.screen import first_screen, screen_text
from job_harness.search.finding import first_difference
from job_harness.search.sampling import Sampler
from job_harness.subjects.systems import SystemEngine, process
from job_harness.subjects.systems.database import SystemDatabase
from job_harness.worlds.packages import find_node, npm_package, python_package
from job_harness.worlds.patience import Deadline
from job_harness.worlds.peers.peer import children_of
from job_harness.worlds.wire.postgres_messages import Frame
from job_harness.worlds.wire.postgres_proxy import PasswordEndpoint

EXAMPLES = Path(__file__).parents[2] / "examples"
PREAMBLE = """
format: 1
system: a system that misbehaves
database: {schema: schema.sql}
processes:
  api: {command: python api.py, http: {port_env: PORT}}
send: {request: POST /, to: api, body: {name: "${job}"}}
jobs: SELECT id, name, status FROM job
ready_seconds: 30
"""
BY_SQL = PREAMBLE.replace(
    'request: POST /, to: api, body: {name: "${job}"}', "sql: 'INSERT INTO job (name) VALUES (${job}) RETURNING id'"
)
SCHEMA = "CREATE TABLE job (id int, name text, status text, at timestamptz DEFAULT CURRENT_TIMESTAMP)"


def guide_app(folder: Path) -> Path:
    """Copy the example, with its packages as `npm install` puts them. Skips where they are not available."""
    try:
        find_node((22, 18))
        packages = npm_package("pg-boss", "10.4.2") / "node_modules"
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    app = folder / "guide-app"
    shutil.copytree(EXAMPLES / "guide-app", app, ignore=shutil.ignore_patterns("node_modules", ".job-harness"))
    shutil.copytree(packages, app / "node_modules", symlinks=True)
    (app / "node_modules" / "@repo").mkdir()
    for name in ("api", "database"):
        (app / "node_modules" / "@repo" / name).symlink_to(app / "packages" / name)
    return app / "system.yaml"


@pytest.fixture
def opened() -> Iterator[Opened]:
    with open_systems() as make:
        yield make


NESTED = "/* mail /* v2 */ worker */"
"""PostgreSQL's comments may stand in comments."""


@pytest.mark.postgres
@pytest.mark.slow
def test_python_processes_run_unmodified_and_the_same_twice(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    never = 3600  # A request that a busy server leaves waiting must be known to wait, not be given time.
    monkeypatch.setattr("job_harness.subjects.systems.traffic.ACCEPTED_SECONDS", never)
    app = Path(shutil.copytree(EXAMPLES / "python-app", tmp_path / "app"))
    text = (
        (app / "app.py")
        .read_text()
        .replace("UPDATE mail SET status = 'sending'", f"{NESTED} UPDATE mail SET status = 'sending'")
    )
    (app / "app.py").write_text(text)
    engine = opened(app / "system.yaml")
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    first, second = sampler.sample(2), sampler.sample(2)
    line = _line_of("INSERT INTO mail", app / "app.py")
    assert engine.info.written("insert mail", "").title == f"insert mail, sent by api at app.py:{line}"
    assert "concurrent_execution" in first.found
    source = with_source(first, engine.info, anomaly="concurrent_execution").source
    assert source is not None
    assert any(NESTED in line for line in source.lines)
    assert re.fullmatch(r"update mail, sent at app.py:\d+", source.title), "one of four statements on this table"
    assert first_difference(first.history.events, second.history.events) is None


@pytest.mark.postgres
@pytest.mark.slow
def test_a_job_may_be_sent_by_a_statement(opened: Opened, tmp_path: Path) -> None:
    app = tmp_path / "app"
    shutil.copytree(EXAMPLES / "python-app", app)
    text = (app / "system.yaml").read_text()
    by_request = text[text.index("send:") : text.index("jobs:")]
    by_statement = "send: {sql: 'INSERT INTO mail (recipient) VALUES (${job}) RETURNING id'}\n"
    (app / "system.yaml").write_text(text.replace(by_request, by_statement))
    run = play_jobs(opened(app / "system.yaml"))
    assert run.verdict is Verdict.PASS
    assert [event.name for event in run.history.events if isinstance(event, Effect)] == ["started", "ended"]


NEVER_RUN = (Deviation("api insert tool_job", 1, "lose reply"),)


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.slow
def test_a_lost_reply_leaves_a_job_of_the_guide_without_its_queue_row(opened: Opened, tmp_path: Path) -> None:
    path = guide_app(tmp_path)
    promise = "promises: {at_most_once: [{call: POST my-tool.example.com/convert, per: [text]}]}\n"
    path.write_text(path.read_text() + promise)
    engine = opened(path)
    run = play_jobs(engine, tape=NEVER_RUN)
    assert {"job_never_run", "orphan_row"} <= run.found
    in_file = EXAMPLES / "guide-app" / "packages" / "api" / "modules" / "jobs" / "lib" / "create-job.ts"
    told = engine.info.written("insert tool_job", "")
    assert told == WrittenSource(
        f"insert tool_job, sent by api at create-job.ts:{_line_of('db.query(INSERT', in_file)}",
        ('INSERT INTO "tool_job" ("toolSlug", "input") VALUES ($1, $2) RETURNING "id"',),
    )
    asks = EXAMPLES / "guide-app/packages/api/modules/my-tool/lib/processor.ts"
    [call] = play_jobs(engine).lines.values()
    assert call.file.endswith("guide-app/packages/api/modules/my-tool/lib/processor.ts")
    assert call.line == _line_of("await fetch(", asks)


def _line_of(text: str, path: Path) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


class Example(NamedTuple):
    """An example: its system file, the variable that repairs it, and what some seeds show of it as it is written."""

    path: Callable[[Path], Path]
    repaired: str
    shows: dict[int, set[str]]


SHOWN = {
    "guide-app": Example(
        guide_app,
        "GUIDE_APP_REPAIRED",
        {
            0: {"attempt_overrun", "terminal_job_revived"},
            6: {"tables_disagree"},
            8: {"job_never_run", "orphan_row"},
        },
    ),
    "python-app": Example(
        lambda folder: EXAMPLES / "python-app" / "system.yaml",
        "MAIL_APP_REPAIRED",
        {
            2: {"concurrent_execution"},
            11: {"job_stuck", "job_never_run", "bystander_harmed"},
            13: {"unhandled_error"},
            20: {"stale_complete"},
        },
    ),
}
RUNS = int(os.environ.get("JOB_HARNESS_SYSTEM_RUNS", "30"))


@pytest.mark.postgres
@pytest.mark.campaign
@pytest.mark.parametrize("example", SHOWN.values(), ids=SHOWN)
def test_an_example_shows_its_anomalies_each_time_anew(example: Example, opened: Opened, tmp_path: Path) -> None:
    engine = opened(example.path(tmp_path))
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    for seed, wanted in example.shows.items():
        first, second = sampler.sample(seed), sampler.sample(seed)
        assert wanted <= first.found
        assert first_difference(first.history.events, second.history.events) is None


@pytest.mark.postgres
@pytest.mark.campaign
@pytest.mark.parametrize("example", SHOWN.values(), ids=SHOWN)
def test_the_repaired_form_of_an_example_shows_none(
    example: Example, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(example.repaired, "true")
    engine = opened(example.path(tmp_path))
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    assert {seed: found for seed in range(RUNS) if (found := sampler.sample(seed).found)} == {}


@pytest.mark.postgres
def test_what_a_statement_wrote_is_not_told_of_the_next_as_well() -> None:
    try:
        database = SystemDatabase()
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    try:
        database.renew()
        database.send("CREATE TABLE t (id int)", "b")
        assert database.wrote()
        said = {}
        for told in (True, None):
            database.rows("INSERT INTO t VALUES (1) RETURNING id")
            said[told] = (database.wrote(told=told), database.wrote(), database.wrote(told=False))
    finally:
        database.close()
    assert said == {True: (True, False, False), None: (True, False, False)}


IN_ONE_TRANSACTION = """
import os, time, psycopg
db = psycopg.connect(os.environ["DATABASE_URL"])
while True:
    for (id,) in db.execute(
        "SELECT id FROM job WHERE status = 'PENDING' AND at <= now() ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED"
    ).fetchall():
        time.sleep(1)
        db.execute("UPDATE job SET status = 'COMPLETED' WHERE id = %s", [id])
    db.commit()
    list(db.notifies(timeout=2))
"""


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.slow
def test_a_worker_is_not_idle_amid_a_transaction_nor_before_a_job_is_due_by_the_clock_of_the_store(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(
        "CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING', at timestamptz DEFAULT now())"
    )
    (tmp_path / "worker.py").write_text(IN_ONE_TRANSACTION)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace(
            "  api: {command: python api.py, http: {port_env: PORT}}", "  worker: {command: python worker.py}"
        )
        .replace("name, status FROM", "name, status, at AS start_after FROM")
        .lstrip()
    )
    engine = opened(tmp_path / "system.yaml")
    assert engine.info.contract is not None
    assert set(engine.info.contract.unseen) == {"silent_success", "bystander_harmed", "attempt_overrun"}
    plain = play_jobs(engine, jobs="abcd")
    behind = play_jobs(engine, jobs="b", tape=(Deviation("time", 1, "store clock behind 5s"),))
    assert (plain.anomalies, behind.anomalies) == ((), ())


TWO_LOOPS = """
import os, threading, time, psycopg
def poll(kind):
    db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    while True:
        db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING' AND at <= now() AND kind = %s", [kind])
        time.sleep(2)
threading.Thread(target=poll, args=["one"], daemon=True).start()
poll("two")
"""


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.slow
def test_of_two_loops_that_are_alike_each_looks_by_itself(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(
        "CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING', at timestamptz DEFAULT now() + "
        "interval '9s', kind text GENERATED ALWAYS AS (CASE WHEN name = 'a' THEN 'one' ELSE 'two' END) STORED)"
    )
    (tmp_path / "worker.py").write_text(TWO_LOOPS)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace("api: {command: python api.py, http: {port_env: PORT}}", "worker: {command: python worker.py}")
        .replace("name, status FROM", "name, status, at AS start_after FROM")
        .lstrip()
    )
    engine = opened(tmp_path / "system.yaml")
    ended = [
        event.at // SECOND
        for job in "ab"
        for event in play_jobs(engine, jobs=job).history.events
        if isinstance(event, Observed) and event.verb == "update job"
    ]
    assert ended == [10, 10]


BEATS = """
import os, threading, time, psycopg
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
while True:
    db.execute("UPDATE beat SET at = now()")
    with open("beats", "a") as beats:
        beats.write(".")
    db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING'")
    idle = threading.Timer(7, lambda: None)  # As a pool sets one each time that a connection is given back to it.
    idle.daemon = True
    idle.start()
    time.sleep(5)
"""


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.slow
def test_an_upkeep_that_sets_a_timer_which_does_nothing_is_left_out_all_the_same(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(
        "CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING', at timestamptz DEFAULT now());"
        "CREATE TABLE beat (at timestamptz); INSERT INTO beat VALUES (now())"
    )
    (tmp_path / "worker.py").write_text(BEATS)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace("api: {command: python api.py, http: {port_env: PORT}}", "worker: {command: python worker.py}")
        .replace("ready_seconds", "upkeep: [beat]\nready_seconds")
        .lstrip()
    )
    assert play_jobs(opened(tmp_path / "system.yaml")).verdict is Verdict.PASS
    assert (tmp_path / "beats").stat().st_size < 300


UNEVEN = """
import os, random, time, psycopg
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
while True:
    with open("laps", "a") as laps:
        laps.write(".")
    db.execute("SELECT count(*) FROM job WHERE name = ''")
    wait = random.uniform(0.1, 1.9)  # As a poller that adds chance to its interval, beside a look at a fixed time.
    time.sleep(wait)
    db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING' AND at <= now()")
    time.sleep(2 - wait)
"""


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.slow
def test_a_loop_whose_rounds_wait_for_different_times_is_left_out_once_each_of_them_has_looked(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(
        "CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING', at timestamptz DEFAULT now() + "
        "interval '10 minutes')"
    )
    (tmp_path / "worker.py").write_text(UNEVEN)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace("python api.py, http: {port_env: PORT}}", "python worker.py, instances: 1}")
        .replace("name, status FROM", "name, status, at AS start_after FROM")
        .lstrip()
    )
    run = play_jobs(opened(tmp_path / "system.yaml"))
    assert run.verdict is Verdict.PASS
    assert [e.at // MINUTE for e in run.history.events if isinstance(e, Observed) and e.verb == "update job"] == [10]
    # And not at each of its 300 rounds of either kind.
    assert (tmp_path / "laps").stat().st_size < 60


DELETES = """
import os, time, psycopg
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
while True:
    db.execute("UPDATE job SET status = {} WHERE status = 'PENDING'")
    db.execute("DELETE FROM job")
    time.sleep(2)
"""


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "found"),
    [pytest.param("'PROCESSING'", set(), marks=pytest.mark.long), ("status", {"job_vanished"})],
)
def test_a_queue_may_end_a_job_that_runs_by_deleting_its_row(
    status: str, found: set[str], opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "worker.py").write_text(DELETES.format(status))
    (tmp_path / "jobs.sql").write_text("-- All of them.\nSELECT id, name, status FROM job;\n")
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace("api: {command: python api.py, http: {port_env: PORT}}", "worker: {command: python worker.py}")
        .replace("SELECT id, name, status FROM job", "jobs.sql\ndeleted: COMPLETED")
        .lstrip()
    )
    assert play_jobs(opened(tmp_path / "system.yaml"), jobs="ab").found == found


WAITS_FOR_ITS_TURN = """
import os, time, psycopg
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
db.execute("SELECT pg_advisory_lock(1)")
while True:
    db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING'")
    time.sleep(2)
"""


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.slow
def test_a_process_whose_start_waits_for_a_lock_goes_on_once_the_one_that_keeps_it_is_gone(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "worker.py").write_text(WAITS_FOR_ITS_TURN)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace(
            "api: {command: python api.py, http: {port_env: PORT}}", "worker: {command: python worker.py, instances: 2}"
        ).lstrip()
    )
    engine = opened(tmp_path / "system.yaml")
    crash = (Deviation("w1 update job", 1, "crash"),)
    runs = [play_jobs(engine), play_jobs(engine, tape=crash)]
    writers = [
        [event.actor for event in run.history.events if isinstance(event, Observed) and event.verb == "update job"]
        for run in runs
    ]
    assert [run.verdict for run in runs] == [Verdict.PASS, Verdict.PASS]
    assert writers == [["w1"], ["w2"]]


LETS_GO = """
import os, psycopg
keeps = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
keeps.execute("SELECT pg_advisory_lock(1)")
"""


@pytest.mark.postgres
@pytest.mark.slow
def test_two_processes_whose_start_waits_for_one_lock_go_on_once_a_request_lets_it_go(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "worker.py").write_text(WAITS_FOR_ITS_TURN.replace("advisory_lock", "advisory_xact_lock_shared"))
    inserts = TAKES.replace("(id, name, status) VALUES (7, %s, 'PENDING')", "(name) VALUES (%s)")
    lets_go = 'keeps.execute("SELECT pg_advisory_unlock(1)")\n        with psycopg'
    (tmp_path / "api.py").write_text(LETS_GO + inserts.replace("with psycopg", lets_go))
    (tmp_path / "system.yaml").write_text(
        PREAMBLE.replace("python api.py", "python api.py $PORT")
        .replace("send:", "  worker: {command: python worker.py, instances: 2}\nsend:")
        .lstrip()
    )
    assert play_jobs(opened(tmp_path / "system.yaml")).verdict is Verdict.PASS


ENDS = """
import os, time, psycopg
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
while True:
    db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING'")
    time.sleep(2)
"""
EVERY_THIRD_MINUTE = """
import os, time, psycopg
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
done = None
while True:
    every, minute = db.execute("SELECT 3").fetchone()[0], int(time.time()) // 60
    if minute % every == 0 and minute != done:
        db.execute("INSERT INTO job (name) VALUES ('by itself')")
        done = minute
    time.sleep(20)
"""


@pytest.mark.postgres
@pytest.mark.slow
def test_a_scheduler_that_polls_sends_by_its_own_clock_and_a_run_comes_to_rest_although_it_never_stops(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "worker.py").write_text(ENDS)
    (tmp_path / "beat.py").write_text(EVERY_THIRD_MINUTE)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace(
            "api: {command: python api.py, http: {port_env: PORT}}",
            "{worker: {command: python worker.py, instances: 1}, beat: {command: python beat.py}}",
        )
        .replace(
            "ready_seconds", "settings: {lease: 1s, job_timeout: 1s, stuck_timeout: 1s, retry_delay: 1s}\nready_seconds"
        )
        .lstrip()
    )
    run = play_jobs(opened(tmp_path / "system.yaml"))
    came = [event.at // MINUTE for event in run.history.events if type(event) is Observed and event.before is None]
    assert (run.verdict, came[:4]) == (Verdict.PASS, [0, 0, 3, 6])


BY_A_CHILD = """
import os, subprocess, sys, time, psycopg
ENDS = "UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING'"
PROGRAM = "import os, sys, psycopg; psycopg.connect(os.environ['DATABASE_URL'], autocommit=True).execute(sys.argv[1])"
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
while True:
    if db.execute("SELECT 1 FROM job WHERE status = 'PENDING'").fetchone():
        subprocess.run([sys.executable, "-c", PROGRAM, ENDS], check=True, capture_output=True, timeout=60)
    time.sleep(2)
"""


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.long
def test_a_statement_of_a_child_is_a_gate_and_its_parent_waits_for_it(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "worker.py").write_text(BY_A_CHILD)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace(
            "api: {command: python api.py, http: {port_env: PORT}}", "worker: {command: python worker.py}"
        ).lstrip()
    )
    run = play_jobs(opened(tmp_path / "system.yaml"))
    assert run.verdict is Verdict.PASS
    assert ("worker", "update job") in [
        (event.actor, event.verb) for event in run.history.events if isinstance(event, Observed)
    ]


COMPUTES_FIRST = """
import hashlib, os, time, psycopg
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
hashlib.pbkdf2_hmac("sha256", b"a long work", b"", 600_000)
while True:
    db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING'")
    time.sleep(2)
"""


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.long
def test_a_worker_that_computes_once_it_is_connected_is_not_at_rest(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The greeting comes during the look at the connections that follows two looks at sleeping threads.

    So it does where it takes two looks of 0.04 s.
    """
    preload = tmp_path / "preload" / "sitecustomize.py"
    preload.parent.mkdir()
    looks, greeting = "def _sockets():\n", PasswordEndpoint._greeting
    text = (process.PYTHON_PRELOAD / preload.name).read_text()
    assert looks in text
    preload.write_text(text.replace(looks, f'{looks}    _real["sleep"](0.04)\n'))

    def late(endpoint: PasswordEndpoint, server: socket.socket) -> list[Frame]:
        Deadline(0.08).pause(0.08)
        return greeting(endpoint, server)

    monkeypatch.setattr(process, "PYTHON_PRELOAD", preload.parent)
    monkeypatch.setattr(PasswordEndpoint, "_greeting", late)
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "worker.py").write_text(COMPUTES_FIRST)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace(
            "  api: {command: python api.py, http: {port_env: PORT}}", "  worker: {command: python worker.py}"
        ).lstrip()
    )
    assert play_jobs(opened(tmp_path / "system.yaml")).verdict is Verdict.PASS


LOOKS_FIRST = """
import os, time, psycopg
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        with psycopg.connect(os.environ["DATABASE_URL"]) as db:
            db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PROCESSING'")
        time.sleep(10)
        self.send_response(200)
        self.end_headers()

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
WRITES_MEANWHILE = """
import os, time, psycopg
time.sleep(65)
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    db.execute("UPDATE job SET status = 'PROCESSING'")
time.sleep(10**9)
"""


FAILS_THEN_COMPLETES = """
import os, time, psycopg
time.sleep(65)
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    db.execute("UPDATE job SET status = 'FAILED'")
time.sleep(120)
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING'")
time.sleep(10**9)
"""


@pytest.mark.postgres
@pytest.mark.slow
def test_a_cron_asks_again_where_another_process_wrote_after_it_had_looked(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "api.py").write_text(LOOKS_FIRST)
    (tmp_path / "worker.py").write_text(WRITES_MEANWHILE)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace("processes:", "processes:\n  worker: {command: python worker.py}")
        .replace("ready_seconds:", "cron:\n  finish: {every: 1m, request: POST /, to: api}\nready_seconds:")
        .lstrip()
    )
    run = play_jobs(opened(tmp_path / "system.yaml"))
    asked = [event.at // SECOND for event in run.history.events if isinstance(event, Call) and event.verb == "cron"]
    assert (run.anomalies, asked) == ((), [0, 60, 120])


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize(("operators", "told"), [("[]", [("terminal_job_revived", "api")]), ("[finish]", [])])
def test_what_an_operator_s_cron_asks_for_is_its_own_doing_and_may_bring_back_a_job(
    operators: str, told: list[tuple[str, str]], opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    brought_back = "SET status = 'PENDING' WHERE status = 'FAILED'"
    (tmp_path / "api.py").write_text(
        LOOKS_FIRST.replace("SET status = 'COMPLETED' WHERE status = 'PROCESSING'", brought_back)
    )
    (tmp_path / "worker.py").write_text(FAILS_THEN_COMPLETES)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace("processes:", "processes:\n  worker: {command: python worker.py}")
        .replace(
            "ready_seconds:",
            f"cron:\n  finish: {{every: 1m, request: POST /, to: api}}\n"
            f"promises: {{operator: {operators}}}\nready_seconds:",
        )
        .lstrip()
    )
    run = play_jobs(opened(tmp_path / "system.yaml"))
    revived = [event.actor for event in run.history.events if isinstance(event, Observed) and _revives(event)]
    assert revived == (["finish"] if "finish" in operators else ["api"])
    assert [(each.name, revived[0]) for each in run.anomalies] == told


def _revives(event: Observed) -> bool:
    before, after = event.before, event.after
    return before is not None and after is not None and before.terminal and after.status is not before.status


REAPS = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    db.execute("UPDATE job SET status = CASE status WHEN 'PENDING' THEN 'PROCESSING' ELSE 'COMPLETED' END, at = now()")
"""


@pytest.mark.postgres
@pytest.mark.slow
def test_a_command_of_cron_runs_every_so_often(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(
        "CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING', at timestamptz)"
    )
    (tmp_path / "reap.py").write_text(REAPS)
    (tmp_path / "idle.py").write_text("import time\ntime.sleep(10**9)")
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace("api: {command: python api.py, http: {port_env: PORT}}", "idle: {command: python idle.py}")
        .replace("ready_seconds:", "cron:\n  reap: {every: 5m, command: python reap.py}\nready_seconds:")
        .lstrip()
    )
    run = play_jobs(opened(tmp_path / "system.yaml"))
    changes = [(event.actor, event.at // SECOND) for event in run.history.events if isinstance(event, Observed)]
    assert (run.anomalies, changes) == ((), [("client-b", 0), ("reap", 300), ("reap", 600)])


TASKS = """
import asyncio, os
import asyncpg, psycopg

async def starts(pool):
    while True:
        async with pool.acquire() as db, db.transaction():
            await db.execute("UPDATE job SET status = 'PROCESSING' WHERE status = 'PENDING'")
        await asyncio.sleep(2)

async def ends():
    db = await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"], autocommit=True)
    while True:
        await db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PROCESSING'")
        await asyncio.sleep(2)

async def main():
    await asyncio.gather(starts(await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1)), ends())

asyncio.run(main())
"""


@pytest.mark.postgres
@pytest.mark.long
def test_a_statement_has_the_line_whose_task_waits_for_its_answer(opened: Opened, tmp_path: Path) -> None:
    try:
        (tmp_path / "site-packages").symlink_to(python_package("asyncpg", "0.31.0"))
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "worker.py").write_text(TASKS)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace(
            "  api: {command: python api.py, http: {port_env: PORT}}",
            f"  worker: {{command: python worker.py, env: {{PYTHONPATH: {tmp_path}/site-packages}}}}",
        ).lstrip()
    )
    engine = opened(tmp_path / "system.yaml")
    assert play_jobs(engine).verdict is Verdict.PASS
    started, ended = (
        _line_of(f"SET status = '{status}'", tmp_path / "worker.py") for status in ("PROCESSING", "COMPLETED")
    )
    told = engine.info.written("update job", "")
    assert {line.partition(": ")[0] for line in told.lines} == {
        f"worker at worker.py:{started}",
        f"worker at worker.py:{ended}",
    }


NOTIFIES = """
CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING');
CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('jobs', ''); RETURN NEW; END$$;
CREATE TRIGGER notifies AFTER INSERT ON job FOR EACH ROW EXECUTE FUNCTION notify()
"""
IS_NOTIFIED = """
import os, psycopg
hears, works = (psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) for _ in "ab")
hears.execute("LISTEN jobs")
for _ in hears.notifies():
    works.execute("UPDATE job SET status = 'PROCESSING' WHERE status = 'PENDING'")
    works.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PROCESSING'")
"""


TICKS_AND_POLLS = """
import asyncio, os, psycopg

async def ticks():
    while True:
        await asyncio.sleep(0.1)

async def polls():
    db = await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"], autocommit=True)
    while True:
        for old, new in (("PROCESSING", "COMPLETED"), ("PENDING", "PROCESSING")):
            await db.execute("UPDATE job SET status = %s WHERE status = %s", (new, old))
        await asyncio.sleep(5)

async def answers(reads, writes):
    await reads.readuntil(b"\\r\\n\\r\\n")
    writes.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}")
    writes.close()

async def main():
    await asyncio.start_server(answers, port=int(os.environ["PORT"]))
    await asyncio.gather(ticks(), polls())

asyncio.run(main())
"""


@pytest.mark.postgres
@pytest.mark.slow
def test_a_loop_that_ticks_leaves_out_no_poll_of_another_task(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "api.py").write_text(TICKS_AND_POLLS)
    (tmp_path / "system.yaml").write_text(BY_SQL.lstrip())
    run = play_jobs(opened(tmp_path / "system.yaml"), jobs="abc")
    assert (run.verdict, run.anomalies) == (Verdict.PASS, ())


@pytest.mark.postgres
@pytest.mark.slow
def test_a_worker_that_only_waits_for_notifications_hears_them_also_while_it_is_at_work(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(NOTIFIES)
    (tmp_path / "worker.py").write_text(IS_NOTIFIED)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace(
            "api: {command: python api.py, http: {port_env: PORT}}", "worker: {command: python worker.py}"
        ).lstrip()
    )
    assert play_jobs(opened(tmp_path / "system.yaml"), jobs="abc").verdict is Verdict.PASS


WORKS = """
import os, time, psycopg
rounds = 0
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
while True:
    {}
    db.execute("UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING'")
    time.sleep(2)
"""
ONE_WORKER = BY_SQL.replace(
    "{command: python api.py, http: {port_env: PORT}}",
    "{command: python api.py, http: {port_env: PORT}}\n  worker: {command: python worker.py}",
).lstrip()
DIES_LATER = "rounds += 1\n    if rounds > 2: raise ValueError('boom')"
ENDS_LATER = "rounds += 1\n    if rounds > 2: raise SystemExit(0)"
UNDISTURBED = {
    "it holds": ("", "", ""),
    "a worker dies": (
        DIES_LATER,
        "",
        r"system.yaml:6: worker ended in a run in which nothing goes wrong: ValueError: boom",
    ),
    "a worker ends": (ENDS_LATER, "", r"system.yaml:6: worker ended .*exit code 0"),
    "a worker ends as it may": (ENDS_LATER, "python worker.py, ends: true", ""),
    "no worker takes it": (
        "time.sleep(9**9)",
        "",
        r"system.yaml:\d+: the job that was sent is still PENDING, after .*",
    ),
    "a cron is answered with 500": (
        "",
        "cron: {sweep: {every: 1m, request: GET /sweep, to: api}}",
        "cron.sweep: .* 500",
    ),
    "a cron command fails": (
        "",
        "cron: {reap: {every: 1m, command: python reap.py}}",
        "(?s)cron.reap: its command fails.*no such",
    ),
    "a cron command fails in silence": (
        "",
        "cron: {reap: {every: 1m, command: python hush.py}}",
        "(?s)cron.reap: its command fails.*it printed nothing",
    ),
}


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "more", "told"),
    [
        pytest.param(
            *given, id=name, marks=() if name in ("a worker dies", "a cron is answered with 500") else pytest.mark.long
        )
        for name, given in UNDISTURBED.items()
    ],
)
def test_what_fails_in_a_run_in_which_nothing_goes_wrong_is_an_error_and_no_finding(
    does: str, more: str, told: str, opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "worker.py").write_text(WORKS.format(does))
    (tmp_path / "api.py").write_text(HEALTHY.format("if self.path == '/sweep': self.send_error(500); return"))
    (tmp_path / "reap.py").write_text("raise SystemExit('no such table')")
    (tmp_path / "hush.py").write_text("raise SystemExit(1)")
    text = (
        ONE_WORKER + more + "\n"
        if more.startswith("cron")
        else ONE_WORKER.replace("python worker.py", more or "python worker.py")
    )
    (tmp_path / "system.yaml").write_text(text)
    engine = opened(tmp_path / "system.yaml")
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    if not told:
        assert sampler.explore(seed=0, runs=0).trouble is None
        return
    with pytest.raises(HarnessError, match=told) as refused:
        sampler.explore(seed=0, runs=1)
    assert refused.value.exit_code is ExitCode.USAGE


BY_TSX = """
import pg from "pg";
const db = new pg.Client({ connectionString: process.env.DATABASE_URL });
await db.connect();
async function round(): Promise<void> {
  await db.query("UPDATE job SET status = 'COMPLETED' WHERE status = 'PENDING'");
  setTimeout(round, 2000);
}
await round();
"""


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.long
def test_a_worker_that_tsx_loads_in_a_thread_is_not_ready_before_it_runs(opened: Opened, tmp_path: Path) -> None:
    try:
        (tmp_path / "node_modules").symlink_to(npm_package("tsx", "4.20.6", "pg@8.16.3") / "node_modules")
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "schema.sql").write_text("CREATE TABLE job (id serial, name text, status text DEFAULT 'PENDING')")
    (tmp_path / "worker.ts").write_text(BY_TSX)
    (tmp_path / "system.yaml").write_text(
        BY_SQL.replace(
            "api: {command: python api.py, http: {port_env: PORT}}", "worker: {command: node --import tsx worker.ts}"
        ).lstrip()
    )
    assert play_jobs(opened(tmp_path / "system.yaml")).verdict is Verdict.PASS


LOSES = """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"id": 7}).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
"""


@pytest.mark.postgres
@pytest.mark.slow
def test_a_job_that_was_accepted_and_is_in_no_row_has_vanished(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "api.py").write_text(LOSES)
    (tmp_path / "system.yaml").write_text(PREAMBLE.replace('"}}', '"}, id: $.id}').lstrip())
    assert play_jobs(opened(tmp_path / "system.yaml")).found == {"job_vanished"}


TAKES = """
import json, os, sys, psycopg
from http.server import BaseHTTPRequestHandler, HTTPServer
class Api(BaseHTTPRequestHandler):
    def do_POST(self):
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["name"]
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
            db.execute("INSERT INTO job (id, name, status) VALUES (7, %s, 'PENDING')", (name,))
        self.reply(201, b'{"key": 7}')
    def do_GET(self):
        self.reply(*((200, b"") if self.path == "/" else (404, b"no such route")))
    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Api).serve_forever()
"""


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("POST /,", "GET /jobs,", "system.yaml:6: send: api answers GET /jobs with 404 no such route"),
        ("send:", "cron: {reap: {every: 1m, request: GET /reap, to: api}}\nsend:", "cron.reap: api .* with 404"),
        ('"}}', '"}, id: $.id}', "send: id: the response has nothing at \\$.id: .*key.*7"),
        ("id, name,", "id,", "send: `jobs` shows the job that was sent as '7', not by the name"),
        ("id, name,", "NULL AS id, name,", "system.yaml:7: it shows a row whose id is NULL"),
        ("id, name,", "id, name, 1.5 AS start_after,", "start_after of the job '.*' is Decimal.*must be a timestamp"),
    ],
)
def test_requests_and_rows_by_which_nothing_could_be_judged_are_refused_before_the_first_run(
    old: str, new: str, told: str, opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "api.py").write_text(TAKES)
    (tmp_path / "system.yaml").write_text(PREAMBLE.replace("api.py", "api.py $PORT").replace(old, new).lstrip())
    with pytest.raises(HarnessError, match=told):
        play_jobs(opened(tmp_path / "system.yaml"))


@pytest.mark.postgres
@pytest.mark.slow
def test_a_process_id_in_the_name_of_a_worker_is_shown_as_the_process_and_the_same_in_each_run(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA.replace("name text", "name text, held text"))
    claims = TAKES.replace("(id, name,", "(held, id, name,").replace("VALUES (", "VALUES ('host-' || %s, ")
    (tmp_path / "api.py").write_text(claims.replace("(name,)", "(os.getpid(), name)"))
    system = PREAMBLE.replace("api.py", "api.py $PORT").replace("id, name,", "id, name, held AS worker,")
    (tmp_path / "system.yaml").write_text(system.lstrip())
    events = play_jobs(opened(tmp_path / "system.yaml")).history.events
    assert [event.after.worker for event in events if type(event) is Observed and event.after] == ["host-api"]


HEALTHY = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        {}
        self.send_response(200)
        self.end_headers()
    do_POST = do_GET
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
"""
MISBEHAVIOURS = {
    "it exits at once": (
        "raise SystemExit('no such setting: FOO\\n\\nSet it.')",
        r"system.yaml:5: api did not become ready(?!.*it last said).*FOO",
    ),
    "it never listens": ("import time\nwhile True: time.sleep(60)", r"does not listen on the port that PORT names"),
    "it answers with an error": (HEALTHY.replace("200", "503"), r"answers GET / with 503"),
    "it answers with no HTTP": (
        HEALTHY.format("self.wfile.write(b'HTTP/1.1 200 OK\\r\\ncontent-length: many\\r\\n\\r\\n'); return"),
        r"system.yaml:5: api sends what is not HTTP/1.1: bad Content-Length",
    ),
    "it calls a host that is not named": (
        HEALTHY.format("import urllib.request; urllib.request.urlopen('https://elsewhere.example.com/')"),
        r"api: it connects to elsewhere.example.com:443, which `outside` does not name",
    ),
    "it opens a second database": (
        "import os, psycopg\npsycopg.connect(os.environ['DATABASE_URL'].replace('/app', '/other'))",
        r"it opens the database 'other', and there is one, 'app'|database \"other\" does not exist",
    ),
    "it sets the machine's clock": (
        HEALTHY.format("import time; time.clock_settime(time.CLOCK_REALTIME, 0)"),
        r"system.yaml:5: api: it sets the machine's clock",
    ),
    "it is no Python": ("this is no program", r"api did not become ready.*SyntaxError"),
    "it never comes to rest": ("while True: pass", r"system.yaml:5: api did not come to rest within 2 real seconds"),
    "a table is not there": (
        "import os, psycopg\npsycopg.connect(os.environ['DATABASE_URL']).execute('SELECT * FROM mail')",
        r'system.yaml:5: api did not become ready.*relation "mail" does not exist',
    ),
}


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "told"),
    [
        pytest.param(*given, id=name, marks=pytest.mark.long if "while True: pass" in given[0] else ())
        for name, given in MISBEHAVIOURS.items()
    ],
)
def test_a_process_that_misbehaves_is_named_and_nothing_is_left(
    program: str, told: str, opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "api.py").write_text(program)
    seconds = "2" if "while True: pass" in program else "30"
    (tmp_path / "system.yaml").write_text(PREAMBLE.lstrip().replace("ready_seconds: 30", f"ready_seconds: {seconds}"))
    engine = opened(tmp_path / "system.yaml")
    with pytest.raises(HarnessError, match=f"(?s){told}") as refused:
        play_jobs(engine)
    assert refused.value.exit_code in (ExitCode.USAGE, ExitCode.ENVIRONMENT)


@pytest.mark.postgres
@pytest.mark.slow
def test_where_no_job_is_accepted_the_last_words_of_its_process_are_shown(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    raises = HEALTHY.format("if self.command == 'POST': raise ValueError('no such queue')")
    (tmp_path / "api.py").write_text(raises.replace("200", "404"))  # To be ready, it needs no page at /.
    (tmp_path / "system.yaml").write_text(PREAMBLE.lstrip())
    with pytest.raises(HarnessError, match=r"(?s)no job is accepted.*api printed last:.*ValueError: no such queue"):
        Sampler(opened(tmp_path / "system.yaml")).explore(seed=0, runs=1)


DAEMON = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    for descriptor in range(3):
        os.close(descriptor)
    os.execvpe("sleep", ["sleep", "{}"], {})
os.wait()
"""


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("environment", ["os.environ", "{}"])
def test_a_daemon_ends_with_the_run_whose_process_started_it(environment: str, opened: Opened, tmp_path: Path) -> None:
    """Without its environment, too."""
    seconds = str(86_400 + os.getpid())
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "api.py").write_text(DAEMON.format(seconds, environment) + HEALTHY.format(""))
    (tmp_path / "system.yaml").write_text(PREAMBLE.lstrip())
    play_jobs(opened(tmp_path / "system.yaml"))
    assert sleepers(seconds) == []


MIGRATES = """
import os, subprocess, psycopg
subprocess.Popen(["env", "-i", "setsid", "sleep", "{}"], stdin=-3, stdout=-3, stderr=-3)
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("{}")
"""


@pytest.mark.postgres
@pytest.mark.slow
def test_a_daemon_ends_with_the_migration_that_started_it(opened: Opened, tmp_path: Path) -> None:
    seconds = str(172_800 + os.getpid())
    (tmp_path / "migrate.py").write_text(MIGRATES.format(seconds, SCHEMA))
    (tmp_path / "api.py").write_text(HEALTHY.format(""))
    text = PREAMBLE.lstrip().replace("{schema: schema.sql}", "{migrate: python migrate.py}")
    (tmp_path / "system.yaml").write_text(text)
    play_jobs(opened(tmp_path / "system.yaml"))
    assert sleepers(seconds) == []


def sleepers(seconds: str) -> list[str]:
    """Return the processes that sleep for this number of seconds."""
    return [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.parent.exists() and path.read_bytes().split(b"\0")[:2] == [b"sleep", seconds.encode()]
    ]


ROUGH = """
import os, signal, socket, struct, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("x" * 5_000_000)
if os.fork() == 0:
    while True:
        time.sleep(60)
where = (os.environ["PGHOST"], int(os.environ["PGPORT"]))
for torn in (b"", b"\\0\\0", struct.pack("!II", 80877103, 8)):
    with socket.create_connection(where) as half:
        half.sendall(torn)
import psycopg
db = psycopg.connect(os.environ["DATABASE_URL"])
os.write(db.fileno(), b"Q" + struct.pack("!I", 400) + b"SELECT ")
db.close()
"""


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.long
def test_a_process_that_prints_forks_ignores_signals_and_breaks_off_in_mid_message_is_run_and_ended(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    rough = HEALTHY.format("").replace(
        "    do_POST = do_GET",
        "    def log_message(self, *_): pass\n"
        "    def do_POST(self):\n"
        "        psycopg.connect(os.environ['DATABASE_URL']).execute('INSERT INTO job (id) VALUES (1)')\n"
        "        self.do_GET()",
    )
    (tmp_path / "api.py").write_text(ROUGH + rough)
    (tmp_path / "system.yaml").write_text(PREAMBLE.lstrip())
    run = play_jobs(opened(tmp_path / "system.yaml"), tape=(Deviation("api insert job", 1, "deploy"),))
    assert [event.name for event in run.history if isinstance(event, Fault)] == ["stop", "crash"], "it had to be killed"
    assert [each for each in run.anomalies if each.name == "unhandled_error"] == []


@pytest.mark.postgres
@pytest.mark.slow
def test_a_process_is_sent_one_sigterm_since_a_second_one_means_at_once_to_many(opened: Opened, tmp_path: Path) -> None:
    app = Path(shutil.copytree(EXAMPLES / "python-app", tmp_path / "app"))
    text = (app / "app.py").read_text()
    notes = "lambda *_: stopping.append(True)"
    assert notes in text
    (app / "app.py").write_text(text.replace(notes, "lambda *_: os._exit(9) if stopping else stopping.append(True)"))
    tape = (Deviation("w1 update mail", 1, "stop"), Deviation("w1 update mail", 3, "deploy"))
    run = play_jobs(opened(app / "system.yaml"), tape=tape)
    told = [(each.name, each.data) for each in run.history if isinstance(each, Fault) and each.actor == "w1"]
    assert [name for name, _ in told] == ["stop", "stop", "stopped"]
    assert told[-1] == ("stopped", {}), "it ended with code 0"
    assert run.verdict is Verdict.PASS


@pytest.mark.postgres
@pytest.mark.slow
def test_each_row_of_a_job_that_was_sent_twice_has_attempts_of_its_own(opened: Opened, tmp_path: Path) -> None:
    app = Path(shutil.copytree(EXAMPLES / "python-app", tmp_path / "app"))
    text = (app / "system.yaml").read_text()
    by_request = text[text.index("send:") : text.index("jobs:")]
    twice = "send: {sql: 'INSERT INTO mail (recipient) VALUES (${job}), (${job})'}\n"
    (app / "system.yaml").write_text(text.replace(by_request, twice))
    engine = opened(app / "system.yaml")
    assert engine.info.settings is not None
    job = JobPlan("b", outcomes=(Ending.FAIL,))
    run = play(Scenario("sent twice", jobs=(job,), workers=("w1",), settings=engine.info.settings), engine=engine)
    begun = [(each.job, each.attempt) for each in run.history if isinstance(each, Effect) and each.name == "started"]
    assert sorted(begun) == [(row, attempt) for row in ("b", "b#2") for attempt in (1, 2, 3)]
    assert run.verdict is Verdict.PASS


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"jobs": "SELECT id, status FROM nowhere"},
            'system.yaml:7: PostgreSQL refuses it: relation "nowhere" does not (?s:.*)`database.migrate` start the lib',
        ),
        (
            {"jobs": "SELECT 1 AS id, status FROM (VALUES ('PENDING', 3)) AS job (status, max_attempts)"},
            "system.yaml:7: it mentions max_attempts, but shows no such column",
        ),
        (
            {"promises": "{no_row: {twice: {sql: SELECT 1 FROM elsewhere}}}"},
            "promises.no_row.twice: PostgreSQL refuses",
        ),
        (
            {"send": "{sql: 'INSERT INTO tusk (name) VALUES (${job})'}"},
            r'send: PostgreSQL refuses it: relation "tusk" does not',
        ),
        (
            {"send": "{sql: 'INSERT INTO job (id, status) SELECT 1, ${job} WHERE false'}"},
            "send: `jobs` does not show the job that it inserts",
        ),
    ],
)
def test_a_statement_of_the_file_that_does_not_work_is_named_with_its_line(
    more: dict[str, str], told: str, opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "api.py").write_text(HEALTHY)
    lines = [line for line in PREAMBLE.lstrip().splitlines() if line.partition(":")[0] not in more]
    (tmp_path / "system.yaml").write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in more.items())]))
    with pytest.raises(HarnessError, match=told.replace("system.yaml:7", r"system.yaml:\d+")):
        play_jobs(opened(tmp_path / "system.yaml"))


@pytest.mark.postgres
@pytest.mark.slow
def test_what_a_file_promises_is_judged(opened: Opened, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "python-app", tmp_path / "app")
    path = tmp_path / "app" / "system.yaml"
    path.write_text(
        path.read_text()
        + """promises:
  at_most_once: [{call: POST mail.example.com/send, per: [to]}]
  no_row:
    sending: {sql: "SELECT recipient FROM mail WHERE status = 'sending'", when: always}
    sent: {sql: "SELECT recipient FROM mail WHERE status = 'sent'"}
    never: {sql: "SELECT 1 WHERE false", when: always}
"""
    )
    twice = (Deviation("w1 commit update mail", 2, "lose request"),)
    engine = opened(path)
    run = play_jobs(engine, tape=twice)
    told = {each.name: each.message for each in run.anomalies}
    assert {"effect_repeated", "sending", "sent"} <= set(told)
    assert "never" not in told
    app = tmp_path / "app" / "app.py"
    claims, settles = _line_of("execute(CLAIM", app), _line_of("UPDATE mail SET status = %s", app) - 1
    assert told["sending"] == f"after 'update mail' of w1 at app.py:{claims}: recipient b"
    assert told["sent"] == f"at rest, since 'update mail' of w1 at app.py:{settles}: recipient b"
    text = screen_text(first_screen(run, lead="sent"))
    assert f"breaks sent at app.py:{settles}: recip" in text
    called = _line_of("urlopen", app)
    assert [str(frame.at) for frame in frames_of(run, "effect_repeated")] == [f"{app}:{called}"]
    assert str(frames_of(run, "sent")[-1].at) == f"{app}:{settles}"
    screen = screen_text(first_screen(with_source(run, engine.info, anomaly="effect_repeated"), lead="effect_repeated"))
    assert f'Source: POST mail.example.com/send by w1 at app.py:{called}\n  {{"to":"b"}}\n' in screen


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "repeated"), [pytest.param("recipient", False, marks=pytest.mark.long), ("str(time.time())", True)]
)
def test_a_retry_with_the_same_idempotency_key_repeats_nothing(
    key: str, repeated: bool, opened: Opened, tmp_path: Path
) -> None:
    shutil.copytree(EXAMPLES / "python-app", tmp_path / "app")
    path, app = tmp_path / "app" / "system.yaml", tmp_path / "app" / "app.py"
    app.write_text(app.read_text().replace('method="POST")', f'method="POST", headers={{"Idempotency-Key": {key}}})'))
    promise = "promises: {at_most_once: [{call: POST mail.example.com/send, per: [to]}]}\n"
    app.write_text(app.read_text().replace("return json.load(response)", 'assert json.load(response)["id"] == "m-b"'))
    addressed = path.read_text().replace('"${job}"', '"${job}@example.com"')  # It is sent as more than its name.
    path.write_text(
        addressed.replace("{work: $.to}", "{work: $.to, key: header idempotency-key, answer: {id: 'm-${job}'}}")
        + promise
    )
    engine = opened(path)
    assert engine.info.settings is not None
    plan = JobPlan("b", outcomes=(Ending.FAIL, Ending.SUCCEED))
    run = play(Scenario(title="a retry", jobs=(plan,), workers=("w1",), settings=engine.info.settings), engine=engine)
    sent = [event.identity for event in run.history.events if isinstance(event, Effect) and event.declared]
    assert len(sent) == 2
    assert run.found == ({"effect_repeated"} if repeated else set())
    if repeated:
        assert "ends: failure (500 it f" in screen_text(first_screen(run))


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("file", "told"),
    [
        (
            PREAMBLE.replace("{schema: schema.sql}", "{migrate: python wait.py}").replace("30", "1"),
            "did not end within 1 real seconds",
        ),
        (PREAMBLE.replace("{schema: schema.sql}", "{migrate: python fail.py}"), "exit code 3.*no such host"),
        (PREAMBLE.replace("schema.sql", "wrong.sql"), "the schema is refused: syntax error"),
        (PREAMBLE.replace("schema.sql", "machine.sql"), "default of job.at: 'now'"),
    ],
)
def test_a_migration_that_fails_is_named(file: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "wait.py").write_text("import threading\nthreading.Event().wait()")
    (tmp_path / "fail.py").write_text("print('no such host')\nraise SystemExit(3)")
    (tmp_path / "wrong.sql").write_text("CREATE TABEL job ()")
    (tmp_path / "machine.sql").write_text("CREATE TABLE job (at text DEFAULT 'now')")
    (tmp_path / "system.yaml").write_text(file.lstrip())
    before = set(children_of())
    engine = SystemEngine(str(tmp_path / "system.yaml"))
    try:
        with pytest.raises(HarnessError, match=f"(?s){told}"):
            engine.info.prepare()
    finally:
        engine.close()
    assert set(children_of()) <= before
