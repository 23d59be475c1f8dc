"""Unmodified processes are played, run to the same history again, and are refused by name when they misbehave."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import EnvironmentUnavailable, HarnessError
from harness.explore.finding import first_difference
from harness.explore.sampling import Sampler
from harness.foreign.packages import find_node, npm_package
from harness.foreign.peer import children_of
from harness.history.event import Effect
from harness.run.play import play
from harness.run.verdict import Run, Verdict
from harness.scenario.job_plan import JobPlan
from harness.scenario.scenario import Scenario
from harness.sim.choices import Deviation
from harness.systems import SystemEngine

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
def opened() -> Iterator[Callable[[Path], SystemEngine]]:
    engines: list[SystemEngine] = []

    def make(path: Path) -> SystemEngine:
        engine = SystemEngine(str(path))
        engines.append(engine)
        try:
            engine.info.prepare()
        except EnvironmentUnavailable as missing:
            pytest.skip(missing.message)
        return engine

    before = set(children_of())
    yield make
    for engine in engines:
        engine.close()
    assert set(children_of()) <= before, "a process was left behind"


@pytest.mark.postgres
@pytest.mark.slow
def test_python_processes_run_unmodified_and_the_same_twice(
    opened: Callable[[Path], SystemEngine],
) -> None:
    engine = opened(EXAMPLES / "python-app" / "system.yaml")
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    first, second = sampler.sample(2), sampler.sample(2)
    assert {"concurrent_execution", "unhandled_error"} <= first.found
    assert first_difference(first.history.events, second.history.events) is None


@pytest.mark.postgres
@pytest.mark.slow
def test_a_job_may_be_sent_by_a_statement(opened: Callable[[Path], SystemEngine], tmp_path: Path) -> None:
    app = tmp_path / "app"
    shutil.copytree(EXAMPLES / "python-app", app)
    text = (app / "system.yaml").read_text()
    by_request = text[text.index("send:") : text.index("jobs:")]
    by_statement = "send: {sql: 'INSERT INTO mail (recipient) VALUES (${job}) RETURNING id'}\n"
    (app / "system.yaml").write_text(text.replace(by_request, by_statement))
    run = _played(opened(app / "system.yaml"))
    assert run.verdict is Verdict.PASS
    assert [event.name for event in run.history.events if isinstance(event, Effect)] == ["started", "ended"]


NEVER_RUN = (Deviation("api insert tool_job", 1, "lose reply"),)


@pytest.mark.postgres
@pytest.mark.slow
def test_a_lost_reply_leaves_a_job_of_the_guide_without_its_queue_row(
    opened: Callable[[Path], SystemEngine], tmp_path: Path
) -> None:
    engine = opened(guide_app(tmp_path))
    run = _played(engine, tape=NEVER_RUN)
    assert {"job_never_run", "orphan_row"} <= run.found
    told = engine.info.written("insert tool_job")
    assert told == (
        "insert tool_job, sent by api",
        'INSERT INTO "tool_job" ("toolSlug", "input") VALUES ($1, $2) RETURNING "id"',
    )


def _played(engine: SystemEngine, *, tape: tuple[Deviation, ...] = ()) -> Run:
    assert engine.info.settings is not None
    scenario = Scenario(
        title="one job", jobs=(JobPlan("b"),), workers=("w1", "w2"), settings=engine.info.settings, tape=tape
    )
    return play(scenario, engine=engine)


@pytest.mark.postgres
@pytest.mark.campaign
def test_the_guide_app_shows_its_anomalies_and_its_repaired_form_none(
    opened: Callable[[Path], SystemEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = guide_app(tmp_path)
    engine = opened(path)
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    runs = {seed: sampler.sample(seed) for seed in range(14)}
    wanted = {"attempt_overrun", "terminal_job_revived", "tables_disagree", "job_never_run", "orphan_row"}
    assert wanted <= {name for run in runs.values() for name in run.found}
    for run in (runs[0], runs[9]):
        histories = [sampler.sample(seed).history.events for seed in (0, 9) if runs[seed] is run for _ in range(20)]
        assert all(first_difference(run.history.events, events) is None for events in histories)
    monkeypatch.setenv("GUIDE_APP_REPAIRED", "true")
    repaired = opened(path)
    sampler = Sampler(repaired, settings=engine.info.settings)
    runs_of = int(os.environ.get("JOB_HARNESS_SYSTEM_RUNS", "30"))
    found = {seed: run.found for seed in range(runs_of) if (run := sampler.sample(seed)).found}
    assert found == {}


HEALTHY = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        {}
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
"""
MISBEHAVIOURS = {
    "it exits at once": ("raise SystemExit('no such setting: FOO')", r"system.yaml:5: api did not become ready.*FOO"),
    "it never listens": ("import time\nwhile True: time.sleep(60)", r"does not listen at the port that PORT names"),
    "it answers with an error": (HEALTHY.replace("200", "503"), r"answers GET / with 503"),
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
}


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize(("program", "told"), MISBEHAVIOURS.values(), ids=MISBEHAVIOURS)
def test_a_process_that_misbehaves_is_named_and_nothing_is_left(
    program: str, told: str, opened: Callable[[Path], SystemEngine], tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "api.py").write_text(program)
    (tmp_path / "system.yaml").write_text(PREAMBLE.lstrip())
    engine = opened(tmp_path / "system.yaml")
    with pytest.raises(HarnessError, match=f"(?s){told}"):
        _played(engine)


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
def test_a_process_that_prints_forks_ignores_signals_and_breaks_off_in_mid_message_is_run_and_ended(
    opened: Callable[[Path], SystemEngine], tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    rough = HEALTHY.format("").replace(
        "def do_GET", "def log_message(self, *_): pass\n    do_POST = lambda self: self.do_GET()\n    def do_GET"
    )
    (tmp_path / "api.py").write_text(ROUGH + rough)
    (tmp_path / "system.yaml").write_text(PREAMBLE.lstrip())
    run = _played(opened(tmp_path / "system.yaml"), tape=(Deviation("api going on", 1, "stop"),))
    assert [each for each in run.anomalies if each.name == "unhandled_error"] == []


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"jobs": "SELECT id, status FROM nowhere"},
            'system.yaml:7: PostgreSQL refuses it: relation "nowhere" does not',
        ),
        (
            {"promises": "{no_row: {twice: {sql: SELECT 1 FROM elsewhere}}}"},
            "promises.no_row.twice: PostgreSQL refuses",
        ),
    ],
)
def test_a_select_that_postgresql_refuses_is_named_with_its_line(
    more: dict[str, str], told: str, opened: Callable[[Path], SystemEngine], tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "api.py").write_text(HEALTHY)
    lines = [line for line in PREAMBLE.lstrip().splitlines() if line.partition(":")[0] not in more]
    (tmp_path / "system.yaml").write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in more.items())]))
    with pytest.raises(HarnessError, match=told.replace("system.yaml:7", r"system.yaml:\d+")):
        _played(opened(tmp_path / "system.yaml"))


@pytest.mark.postgres
@pytest.mark.slow
def test_what_a_file_promises_is_judged(opened: Callable[[Path], SystemEngine], tmp_path: Path) -> None:
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
    run = _played(opened(path), tape=twice)
    told = {each.name: each.message for each in run.anomalies}
    assert {"effect_repeated", "sending", "sent"} <= set(told)
    assert "never" not in told
    assert told["sending"] == "after 'update mail' of w1: recipient b"
    assert told["sent"] == "at rest: recipient b"


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
