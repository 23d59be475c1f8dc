"""Systems whose time a supervisor owns: any program is played unmodified, and runs to the same history again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.opened_systems import Opened, open_systems, play_jobs

from job_harness.core.history.event import Fault
from job_harness.core.run.play import play
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.errors import EnvironmentUnavailable, HarnessError
from job_harness.search.finding import first_difference
from job_harness.search.sampling import Sampler
from job_harness.subjects.systems import SystemEngine
from job_harness.subjects.systems.document import read_system_file
from job_harness.subjects.systems.process import programs_of
from job_harness.worlds.clock import ClockedTree
from job_harness.worlds.packages import npm_package

PROGRAMS = Path(__file__).parent / "supervised"
EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def opened() -> Iterator[Opened]:
    with open_systems(lambda: ClockedTree(options=("--own-net",)).close()) as make:
        yield make


def supervised_mail(folder: Path) -> Path:
    app = Path(shutil.copytree(EXAMPLES / "python-app", folder / "app"))
    file = app / "system.yaml"
    file.write_text(file.read_text().replace("system: mail service", "system: mail service\nclock: supervisor"))
    return file


def finds_and_repeats(engine: SystemEngine, anomaly: str, *, seeds: Iterable[int]) -> None:
    """Search until an anomaly is met, and play that run again by its tape, to the same history."""
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    run = next((run for run in map(sampler.sample, seeds) if anomaly in run.found), None)
    assert run is not None, f"{anomaly} was not met with the seeds {list(seeds)}"
    for _ in range(2):
        again = play(replace(run.scenario, tape=run.tape), engine=engine, seed=run.seed)
        assert first_difference(run.history.events, again.history.events) is None
        assert anomaly in again.found


@pytest.mark.long
def test_python_processes_have_nothing_loaded_and_run_to_the_same_history(opened: Opened, tmp_path: Path) -> None:
    file = supervised_mail(tmp_path)
    app = file.parent / "app.py"
    bare = "assert 'job_harness' not in repr(sys.modules.get('sitecustomize')) and 'job_harness' not in repr(sys.path)"
    app.write_text(app.read_text().replace("import psycopg\n", f"import psycopg\n\n{bare}\n"))
    finds_and_repeats(opened(file), "concurrent_execution", seeds=range(6))


@pytest.mark.long
def test_a_process_that_is_told_to_stop_gets_the_signal(opened: Opened, tmp_path: Path) -> None:
    run = play_jobs(opened(supervised_mail(tmp_path)), tape=(Deviation("w1 timer a sleep", 1, "stop"),))
    told = [event.name for event in run.history if type(event) is Fault and event.actor == "w1"]
    assert told == ["stop", "stopped"]


LINES = {
    "app.py": ["row = db.execute", "row = db.execute", "with urllib.request.urlopen", "db.execute"],
    "worker.mjs": ["const { rows } = await pool.query", "await fetch", "await pool.query"],
}


@pytest.mark.long
@pytest.mark.parametrize(("program", "lines"), LINES.items())
def test_where_that_is_asked_for_a_program_says_from_which_line_it_sends_what(
    program: str, lines: list[str], opened: Opened, tmp_path: Path
) -> None:
    file = supervised_mail(tmp_path)
    promise = "promises: {at_most_once: [{call: POST mail.example.com/send, per: [to]}]}"
    file.write_text(file.read_text().replace("clock: supervisor", f"clock: supervisor\nlines: true\n{promise}"))
    if program != "app.py":
        (file.parent / program).write_text(IN_NODE)
        by_npm(file.parent)
        file.write_text(file.read_text().replace("python app.py worker", f"node {program}"))
    engine = opened(file)
    run = play_jobs(engine)
    text = (file.parent / program).read_text().splitlines()
    sent = [text[line.line - 1].strip() for line in run.lines.values() if line.file == str(file.parent / program)]
    assert [re.sub(r"\(.*", "", line) for line in sent] == lines
    assert re.search(
        rf"w[12] at {re.escape(program)}:\d+: UPDATE mail SET status = 'sending'",
        str(engine.info.written("update mail", "")),
    )
    assert first_difference(run.history.events, play_jobs(engine).history.events) is None


# It reads the clock a little more often in each run than in the one before.
IN_NODE = """
import { appendFileSync, readFileSync } from "node:fs";
import pg from "pg";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const claim = `UPDATE mail SET status = 'sending', attempts = attempts + 1, locked_at = now()
  WHERE id = (SELECT id FROM mail WHERE status = 'queued' LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING *`;
for (;;) {
  const { rows } = await pool.query(claim);
  for (const { id, recipient } of rows) {
    for (const _ of readFileSync("reads", { flag: "a+" })) performance.now();
    appendFileSync("reads", "twenty times, please");
    const body = JSON.stringify({ to: recipient });
    await fetch("https://mail.example.com/send", { method: "POST", body });
    await pool.query("UPDATE mail SET status = 'sent', done_at = now() WHERE id = $1", [id]);
  }
  await new Promise((resolve) => setTimeout(resolve, 2_000));
}
"""


# workers in other languages -------------------------------------------------------------------------------------------


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def tried(*command: str, folder: Path, **environment: str) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{command[0]}: {done.stderr.decode()[-200:]}")


def in_ruby(folder: Path) -> str:
    need("ruby")
    tried("ruby", "-e", "require 'pg'", folder=folder)
    return "ruby worker.rb"


def in_php(folder: Path) -> str:
    need("php")
    tried("php", "-r", "exit(function_exists('pg_connect') ? 0 : 1);", folder=folder)
    return "php worker.php"


def in_shell(folder: Path) -> str:
    need("psql", "curl")
    return "sh worker.sh"


def in_go(folder: Path) -> str:
    need("go")
    packages = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
    tried("go", "build", "-o", "worker", "worker.go", folder=folder, **packages)
    return "./worker"


def in_java(folder: Path) -> str:
    need("java", "javac")
    driver = Path("/usr/share/java/postgresql.jar")
    if not driver.exists():
        pytest.skip(f"{driver} is not installed")
    tried("javac", "Worker.java", folder=folder)
    return f"java -XX:TieredStopAtLevel=1 -cp .:{driver} Worker"


def by_npm(folder: Path) -> str:
    need("npm")
    try:
        (folder / "node_modules").symlink_to(npm_package("pg", "8.16.3") / "node_modules")
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    return "npm run --silent worker"


@pytest.mark.parametrize(
    ("prepare", "anomaly", "seed"),
    [
        pytest.param(in_php, "concurrent_execution", 2, id="php"),
        pytest.param(in_ruby, "concurrent_execution", 2, id="ruby"),
        pytest.param(in_shell, "silent_success", 11, id="shell", marks=pytest.mark.long),
        pytest.param(in_go, "stale_fail", 29, id="go", marks=pytest.mark.long),
        pytest.param(in_java, "unhandled_error", 8, id="java", marks=pytest.mark.long),
        pytest.param(by_npm, "unhandled_error", 2, id="npm run", marks=pytest.mark.long),
    ],
)
def test_a_worker_in_any_language_shows_its_anomaly_again_by_its_tape(
    opened: Opened, tmp_path: Path, prepare: Callable[[Path], str], anomaly: str, seed: int
) -> None:
    folder = Path(shutil.copytree(PROGRAMS, tmp_path / "app"))
    file = folder / "system.yaml"
    file.write_text(file.read_text().replace("COMMAND", prepare(folder)))
    finds_and_repeats(opened(file), anomaly, seeds=[seed])


def test_npm_leaves_its_logs_alone_in_which_others_write_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("npm")
    log = tmp_path / ".npm/_logs/2026-01-01T00_00_00_000Z-debug-0.log"
    log.parent.mkdir(parents=True)
    log.touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = Path(shutil.copytree(PROGRAMS, tmp_path / "app"))
    file = folder / "system.yaml"
    file.write_text(file.read_text().replace("COMMAND", "npm run"))
    program = programs_of(read_system_file(str(file)))["worker"]
    done = subprocess.run(program.command, cwd=folder, env=program.environment, capture_output=True, check=True)
    assert b"node worker.mjs" in done.stdout
    assert list(log.parent.iterdir()) == [log]


BOTH = """
import os, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
import psycopg

def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)

def work():
    db = connect()
    while True:
        db.execute("UPDATE mail SET status = 'sent', error = %s WHERE status = 'queued'", [os.environ["HOSTNAME"]])
        time.sleep(2)

class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_PUT(self):
        with connect() as db:
            took = f"{self.headers['asked-for']} taken by {os.environ['HOSTNAME']}"
            db.execute("INSERT INTO mail (recipient, took) VALUES (%s, %s)", [self.path[6:], took])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass

threading.Thread(target=work, daemon=True).start()
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
"""


def test_requests_go_to_several_processes_in_turn_each_of_which_is_api_and_worker(
    opened: Opened, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(PROGRAMS, tmp_path / "app"))
    (folder / "both.py").write_text(BOTH)
    schema = (folder / "schema.sql").read_text().replace("error text", "error text, took text")
    (folder / "schema.sql").write_text(schema)
    file = folder / "system.yaml"
    sql = next(line for line in file.read_text().splitlines() if line.startswith("send:"))
    asked = 'send: {request: "PUT /mail/${job}", to: worker, headers: {asked-for: "${job}"}}'
    text = file.read_text().replace(sql, asked)
    text = text.replace('"COMMAND", instances', "python both.py, http: {port_env: PORT}, instances")
    file.write_text(text)
    engine = opened(file)
    assert engine.info.settings is not None
    jobs = (JobPlan("a"), JobPlan("b"), JobPlan("c"))
    play(Scenario(jobs=jobs, workers=("w1", "w2"), settings=engine.info.settings), engine=engine, seed=1)
    took = {row["recipient"]: row["took"] for row in engine._look("SELECT recipient, took FROM mail")}
    assert {name: told.split(" ")[0] for name, told in took.items()} == {"a": "a", "b": "b", "c": "c"}
    assert sorted(told.rpartition(" ")[2] for told in took.values()) == ["w1", "w1", "w2"]


# programs that do not let themselves be controlled --------------------------------------------------------------------


def test_a_world_that_is_given_up_in_a_run_is_named_and_leaves_nothing(opened: Opened, tmp_path: Path) -> None:
    engine = opened(supervised_mail(tmp_path))
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    sampler.sample(0)
    assert engine._world is not None
    engine._world.tree._process.kill()
    for seed in (1, 2):
        with pytest.raises(EnvironmentUnavailable, match="the clock's supervisor ended with code -9"):
            sampler.sample(seed)
    engine.close()


MARK = "987654"
"""How long what must not stay behind would sleep."""
DAEMON = f"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sleep", ["sleep", "{MARK}"], {{}})
    os._exit(0)
os.wait()
sys.exit("the daemon runs")
"""
HOSTILE = {
    "computes": ("while True: pass", "w1.*(computes without a call|did not come to rest)"),
    "forks for ever": ("import os\nwhile True: os.fork()", "w1: more than 1024 processes at once"),
    "prints gigabytes": (
        "while True: print('x' * 100_000, flush=True)",
        "w1.*(computes without a call|did not come to rest)",
    ),
    "leaves a daemon": (DAEMON, "the daemon runs"),
    "wants to be traced": (
        "import ctypes, sys\nsys.exit(f'traced: {ctypes.CDLL(None).ptrace(0, 0, 0, 0)}')",
        "traced: -1",
    ),
    "needs a terminal": ("open('/dev/tty')", "No such device or address: ./dev/tty"),
    "looks up a stranger": (
        "import socket, time\ntry: socket.getaddrinfo('api.example.org', 443)\nexcept OSError: pass\ntime.sleep(9)",
        "it connects to api.example.org, which `outside` does not name",
    ),
}


@pytest.mark.parametrize(("program", "words"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_program_does_is_named_within_bounds_and_nothing_of_it_is_left(
    opened: Opened, tmp_path: Path, program: str, words: str
) -> None:
    folder = Path(shutil.copytree(PROGRAMS, tmp_path / "app"))
    (folder / "hostile.py").write_text(program)
    file = folder / "system.yaml"
    patience = f"ready_seconds: {1 if 'did not come to rest' in words else 8}"
    text = file.read_text().replace("COMMAND", "python hostile.py").replace("outside:", f"{patience}\noutside:")
    file.write_text(text)
    engine = opened(file)
    assert engine.info.settings is not None
    with pytest.raises(HarnessError, match=words):
        Sampler(engine, settings=engine.info.settings).sample(0)
    engine.close()
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if MARK.encode() in _read(path)]
    assert left == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
