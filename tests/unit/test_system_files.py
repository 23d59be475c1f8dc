"""System files are read with `file:line` for what is wrong; SQL is put on virtual time; HTTP is read whole."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from socket import create_connection, create_server, socket, socketpair
from types import SimpleNamespace

import jsonschema
import pytest
from ruamel.yaml import YAML

from job_harness.core.faults.processes import SHUTDOWN
from job_harness.core.history.event import DIFFER_OF, OF_DEPLOY, Effect, Event, Fault
from job_harness.core.invariants import Judge, Rules
from job_harness.core.invariants.rows import AgreePromise, ShownBy, agree
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.model.settings import Settings
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario, needed_capabilities
from job_harness.core.yaml_files import is_system_file
from job_harness.doors.cli import main
from job_harness.doors.cli.search import print_judges
from job_harness.subjects.systems import SystemEngine, _error_in
from job_harness.subjects.systems.database import on_virtual_time
from job_harness.subjects.systems.document import SystemFileError, filled, json_schema, read_system_file
from job_harness.subjects.systems.http_wire import HttpReader, request
from job_harness.subjects.systems.process import RUN_FAILED, PreloadedProcess, expanded, programs_of, resolved
from job_harness.subjects.systems.promises import differing
from job_harness.subjects.systems.rounds import is_upkeep
from job_harness.subjects.systems.traffic import DatabaseSession
from job_harness.worlds.wire.postgres_messages import BIND, EXECUTE, FLUSH, PARSE, QUERY, SYNC, Batches, Frame

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples").glob("*/system.yaml"))
WHOLE = """\
format: 1
system: mail
database: {schema: schema.sql}
processes:
  worker: {command: python app.py worker, instances: 2}
  api: {command: python app.py api, http: {port_env: PORT}}
cron:
  sweep: {every: 1m, request: GET /sweep, to: api, headers: {authorization: "Bearer ${SECRET:-none}"}}
send: {request: POST /mail, to: api, body: {recipient: "${job}"}, id: $.id}
jobs: SELECT id, status FROM mail
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_examples_are_system_files(path: Path) -> None:
    assert is_system_file(str(path))
    file = read_system_file(str(path))
    assert file.workers is not None or any(kind.takes_requests for kind in file.processes)
    jsonschema.validate(json.loads(json.dumps(YAML(typ="safe", pure=True).load(path))), json_schema())


def test_a_finding_on_a_system_whose_workers_send_heartbeats_can_be_replayed_on_it(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text("")
    (tmp_path / "system.yaml").write_text(WHOLE + "settings: {lease: 1m, heartbeat_interval: 20s}\n")
    info = SystemEngine(str(tmp_path / "system.yaml")).info
    assert info.settings is not None
    assert not info.capabilities.missing(needed_capabilities(Scenario(settings=info.settings)))


@pytest.mark.parametrize(
    ("priority", "needs"),
    [(-(2**15), set()), (2**15, {"wide_values"}), (-(2**31), {"wide_values"}), (2**31, {"big_priorities"})],
)
def test_a_priority_needs_no_wider_column_than_its_number(priority: int, needs: set[str]) -> None:
    asked = needed_capabilities(Scenario(jobs=(JobPlan("a", priority=priority),)))
    assert asked.keys() & {"wide_values", "big_priorities"} == needs


def test_a_coarse_gate_stands_only_around_a_transaction() -> None:
    ours, theirs = socketpair()
    with ours, theirs:
        session = DatabaseSession(create_connection_pair(), ours, pid=1)
        session.coarse = True
        stands = {point: _stands(session, point) for point in ("update t", "commit", "rollback")}
        session.backend.status = b"T"
        amid = {point: _stands(session, point) for point in ("update t", "commit", "rollback")}
        session.close()
    assert stands == {"update t": True, "commit": True, "rollback": True}
    assert amid == {"update t": False, "commit": True, "rollback": True}


@pytest.mark.parametrize(
    ("amid", "ends"),
    [
        (["SELECT 1 FROM t FOR UPDATE", "UPDATE t SET n = 1", "SELECT f()"], ("update t", "COMMIT")),
        (["SELECT pg_advisory_xact_lock(1)", "SELECT finish(7)", "SELECT log(7)"], ("select finish(7)", "COMMIT")),
        (["CALL finish(7)"], ("call finish(7)", "COMMIT")),
        (["SELECT * FROM finish(7)"], ("select finish", "COMMIT")),
        (["SELECT 1 FROM t FOR UPDATE"], ("commit", "COMMIT")),
        (["UPDATE t SET n = 1 RETURNING n"], ("update t", "")),
        (["SELECT 1 FROM t"], ("sync", "")),
    ],
)
def test_what_ends_a_transaction_is_told_as_what_was_written_in_it(amid: list[str], ends: tuple[str, str]) -> None:
    ours, theirs = socketpair()
    with ours, theirs:
        session = DatabaseSession(create_connection_pair(), ours, pid=1)
        session.backend.status = b"T"
        for sql in amid:
            session.counts_as(sql, "app.py:1", ())
        session.backend.status = b"I"
        told = session.counts_as(ends[1], "", ())
        assert told.gate == ends[0]
        assert session.counts_as("COMMIT", "", ())[1:] == ("commit", "COMMIT", "")
        session.close()


def _stands(session: DatabaseSession, point: str) -> bool:
    waiting = session.gate(point).__await__()
    return next(waiting, None) is not None


def create_connection_pair() -> socket:
    """Return the harness's end of a connection over loopback."""
    with create_server(("127.0.0.1", 0)) as listener, create_connection(listener.getsockname()):
        return listener.accept()[0]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("check", "this is a system file: .*\n  Search it: job-harness explore .*Check the code: job-harness check "),
        ("run", ":1: this is a system file, not a scenario: job-harness explore "),
    ],
)
def test_a_command_that_takes_no_system_file_names_the_one_that_does(
    command: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(FILES[0])]) == 2
    assert re.search(told, capsys.readouterr().err)


def test_queue_files_are_no_system_files() -> None:
    assert not is_system_file(str(ROOT / "examples/queues/mail.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("jobs: SELECT", "jbos: SELECT", r":10: unknown key 'jbos'.*did you mean.*jobs"),
        (
            "{every: 1m",
            "{evry: 1m",
            r":8: unknown key 'evry' in cron.sweep .did you mean 'every'.*: every, request",
        ),
        ("jobs: SELECT", "jobs: tool_job + pgbos", r":10: jobs: .*tool_job \+ pgboss"),
        ("SELECT id, status FROM mail", "mail.sql", r":10: jobs: .*mail.sql: cannot be read"),
        ("python app.py worker", "npm run worker", r":5: processes.worker.command: .?npm.? starts other programs"),
        (
            "python app.py worker",
            "tsx worker.ts",
            r":5: .*tsx starts other programs.*\n.*`node --import tsx worker.ts`",
        ),
        ("python app.py worker", "python app.py && true", r":5: .*no shell runs it"),
        ("to: api, body", "to: apt, body", r":9: send: to: no process 'apt' takes requests.*api"),
        ("GET /sweep", "sweep", r":8: cron.sweep.request: 'sweep' is no request"),
        (
            "GET /sweep",
            "GET /sweep, command: python reap.py",
            r":8: cron.sweep: give either a `request`.*or a `command`",
        ),
        (
            "request: GET /sweep, to: api, headers",
            "command: node reap.js, env",
            r":8: cron.sweep.command: 'node reap.js' cannot be repeated: only `python SCRIPT` and",
        ),
        ("${SECRET:-none}", "${SECRET_OF_NOBODY}", r":8: cron.sweep.headers: the variable SECRET_OF_NOBODY is not set"),
        ("{schema: schema.sql}", "{}", r":3: database: give either `migrate`"),
        ("schema.sql", "nowhere.sql", r":3: database.schema: .*nowhere.sql: cannot be read"),
        ("format: 1", "gate: row\nformat: 1", r":1: .*gate.*statement.*transaction"),
        (
            "format: 1",
            "promises: {at_most_once: [{call: POST pay.example.com/charge, per: [order]}]}\nformat: 1",
            r":1: promises.at_most_once.0: `outside` does not name the host 'pay.example.com'",
        ),
        ("format: 1", "promises: {at_most_once: [{call: charge, per: [a]}]}\nformat: 1", r"'charge' is no call"),
        (
            "format: 1",
            "outside: {pay.example.com: {key: $.key}}\nformat: 1",
            r":1: outside.pay.example.com.key: nothing",
        ),
        (
            "format: 1",
            "outside: {pay.example.com: {work: $.a, rides_out: 1s}}\nformat: 1",
            r":1: outside.pay.example.com.rides_out: .* takes 3s at least",
        ),
        ("format: 1", "promises: {no_row: {paid: {sql: DELETE FROM x}}}\nformat: 1", r"no_row.paid: .* is no SELECT"),
        (
            "format: 1",
            "promises: {agree: {paid: {each: DELETE FROM x, with: SELECT 1}}}\nformat: 1",
            r"agree.paid.each: .* is neither a SELECT nor a .lua file",
        ),
        (
            "format: 1",
            "promises: {agree: {paid: {each: {calls: POST a.test/x, key: id}, with: SELECT 1}}}\nformat: 1",
            r"agree.paid.each: `outside` does not name the host 'a.test'",
        ),
        (
            "format: 1",
            "promises: {agree: {paid: {each: SELECT 1, with: shown.lua}}}\nformat: 1",
            r"agree.paid.with: a script runs on Redis: add `stores",
        ),
        (
            "format: 1",
            "promises: {operator: [sweep, wrker]}\nformat: 1",
            r":1: promises.operator.1: 'wrker' is neither a process without `instances` nor a cron entry",
        ),
        (
            "http: {port_env: PORT}",
            "http: {port_env: PORT}, instances: 1",
            "`instances`, worker and api",
        ),
        ("http: {port_env: PORT}", "instances: 1", "`instances`, worker and api: only .*\n  Name .* api_a and api_b"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE mail (id int)")
    path = tmp_path / "system.yaml"
    path.write_text(WHOLE)
    assert read_system_file(str(path)).crons[0].request.headers == {"authorization": "Bearer none"}
    assert old in WHOLE
    path.write_text(WHOLE.replace(old, new))
    with pytest.raises(SystemFileError, match=told):
        read_system_file(str(path))


def test_a_command_of_cron_is_a_process_that_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "schema.sql").write_text("")
    path = tmp_path / "system.yaml"
    path.write_text(re.sub("request: GET /sweep.*", 'command: python cron/reap.py --all, env: {DAYS: "7"}}', WHOLE))
    file = read_system_file(str(path))
    reap = file.processes[-1]
    assert (reap.name, reap.command[0], reap.command[2:]) == ("sweep", "python", ("60", "cron/reap.py", "--all"))
    assert (reap.environment["DAYS"], reap.may_be_a_scheduler, file.crons) == ("7", True, ())

    (tmp_path / "cron").mkdir()
    (tmp_path / "cron/own.py").write_text("print('imported')")
    (tmp_path / "cron/reap.py").write_text(
        "import own, sys\nprint(sys.argv, __name__)\nraise {2: SystemExit('over'), 3: OSError('away')}[len(sys.argv)]\n"
    )
    repeat = runpy.run_path(reap.command[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.syspath_prepend(tmp_path / "cron")
    known = set(sys.modules)
    for words in (["cron/reap.py", "--all"], ["cron/reap.py", "--all", "x"]):
        repeat["once"](words)
        repeat["forget"](known)
    told = capsys.readouterr()
    assert told.out.count("imported\n") == 2
    assert told.out.endswith("['cron/reap.py', '--all', 'x'] __main__\n")
    assert told.err.startswith(f"over\n{RUN_FAILED}\nTraceback")
    with pytest.raises(SystemExit, match="there is no program"):
        repeat["main"](60, ["cron/nowhere.py"])


@pytest.mark.parametrize(
    ("first", "runtime"),
    [
        ("#!/venv/bin/python3.12", "python"),
        ("#!/usr/bin/env python3", "python"),
        ('#!/bin/sh\n\'\'\'exec\' "/a folder/bin/python" "$0" "$@"', "python"),
        ("#!/python/bin/ruby", ""),
        ("#!/usr/bin/env node", ""),
        ("#!/bin/sh\nexec python", ""),
    ],
)
def test_a_script_that_a_package_has_installed_is_a_command_where_python_runs_it(
    first: str, runtime: str, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text("")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/serve"
    script.write_text(f"{first}\n")
    script.chmod(0o755)
    (tmp_path / "system.yaml").write_text(f"python: bin/python\n{WHOLE}")
    file = read_system_file(str(tmp_path / "system.yaml"))
    for command in ("serve", "bin/serve"):
        assert resolved((command, "-p", "1"), file, place="") == ((str(script), "-p", "1"), runtime)


@pytest.mark.parametrize(
    ("command", "node"),
    [("node worker.ts", (22, 18)), ("node worker.js", None), ("node --import tsx worker.ts", None)],
)
def test_typescript_that_nothing_converts_needs_a_node_that_reads_it(
    command: str, node: tuple[int, int] | None, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text("")
    (tmp_path / "system.yaml").write_text(WHOLE.replace("python app.py worker", command))
    assert read_system_file(str(tmp_path / "system.yaml")).node == node


def test_a_command_takes_variables_from_the_environment_of_its_process() -> None:
    words = ("--port=$PORT", "${PORT:-8000}", "${HOST:-localhost}", "$OTHER", "${OTHER}", "5$", "$1")
    filled_in = ("--port=4711", "4711", "localhost", "$OTHER", "${OTHER}", "5$", "$1")
    assert expanded(words, {"PORT": "4711"}) == filled_in


@pytest.mark.parametrize(("env", "named"), [("", ["w1", "w2", "api"]), ("env: {HOSTNAME: box}\n", ["box"] * 3)])
def test_each_instance_finds_its_name_in_its_environment(tmp_path: Path, env: str, named: list[str]) -> None:
    (tmp_path / "schema.sql").write_text("")
    (tmp_path / "system.yaml").write_text(env + WHOLE)
    file = read_system_file(str(tmp_path / "system.yaml"))
    at = SimpleNamespace(environment={}, port=1)
    with create_server(("127.0.0.1", 0)) as outside:
        processes = [
            PreloadedProcess(name, programs_of(file)[kind], at, order=0, outside=outside, hosts=())
            for name, kind in (("w1", "worker"), ("w2", "worker"), ("api", "api"))
        ]
        assert [process.launcher.environment["HOSTNAME"] for process in processes] == named


def test_the_name_of_a_job_is_filled_in_wherever_it_stands() -> None:
    assert filled({"a": ["${job}", 1], "b": "for ${job}"}, "x") == {"a": ["x", 1], "b": "for x"}


@pytest.mark.parametrize(
    ("sql", "anew"),
    [
        ("SELECT CURRENT_TIMESTAMP", "SELECT now()"),
        ("at timestamp(3) DEFAULT CURRENT_TIMESTAMP(3)", "at timestamp(3) DEFAULT (now()::timestamptz(3))"),
        ("WHERE day = current_date", "WHERE day = (now()::date)"),
        ("SELECT localtimestamp", "SELECT (now()::timestamp)"),
        ("SELECT 'CURRENT_TIMESTAMP', \"current_date\", t.current_date -- localtime", None),
        ("/* CURRENT_TIME */ SELECT 1", None),
        ("AS $$ BEGIN NEW.at = CURRENT_TIMESTAMP; END $$", "AS $$ BEGIN NEW.at = now(); END $$"),
    ],
)
def test_the_time_of_the_machine_is_written_as_a_function(sql: str, anew: str | None) -> None:
    assert on_virtual_time(sql) == (sql if anew is None else anew)


@pytest.mark.parametrize(
    ("sql", "upkeep"),
    [
        ("UPDATE boss.version SET at = now()", True),
        ("WITH prior AS (SELECT at FROM boss.version), c AS (UPDATE boss.version SET at = now()) SELECT 1", True),
        (
            "BEGIN; WITH l AS (SELECT 1) INSERT INTO boss.beat VALUES (1) ON CONFLICT (id) DO UPDATE SET at = 1; END",
            True,
        ),
        ('WITH j AS (SELECT id FROM job FOR UPDATE OF job) UPDATE ONLY "boss".version SET at = now()', True),
        ("WITH c AS (UPDATE boss.version SET at = now()) INSERT INTO job SELECT 1", False),
        ("WITH j AS (SELECT at FROM boss.version FOR UPDATE) SELECT 1", False),
    ],
)
def test_an_upkeep_is_known_where_a_with_writes_it_down(sql: str, upkeep: bool) -> None:
    assert is_upkeep(sql, frozenset({"boss.version", "boss.beat"})) is upkeep


def test_http_is_whole_only_once_all_of_it_is_there() -> None:
    data = request("POST", "/mail?x=1", host="h", headers={}, body={"a": "b"})
    reader = HttpReader()
    for at in range(len(data)):
        assert reader.message is None
        reader.take(data[at : at + 1])
    assert reader.message is not None
    assert (reader.message.method, reader.message.path, reader.message.json()) == ("POST", "/mail", {"a": "b"})
    deep = HttpReader()
    deep.take(b"POST /mail HTTP/1.1\r\nhost: h\r\ncontent-length: 99999\r\n\r\n" + b"[" * 99_999)
    assert deep.message is not None
    assert deep.message.json() is None
    chunked = HttpReader(answers="GET")
    chunked.take(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert chunked.message is not None
    assert (chunked.message.status, chunked.message.body) == (200, b"abc")
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    for final in (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 201 Created\r\ncontent-length: 1\r\n\r\na"):
        informed = HttpReader(answers="GET")
        for at in range(len(hints)):
            informed.take(hints[at : at + 1])
            assert (informed.message, informed.problem) == (None, "")
        informed.take(final)
        assert informed.message is not None
        assert (informed.message.status, informed.message.body) in ((204, b""), (201, b"a"))
    for garbled, why in (
        (b"content-length: many", "bad Content-Length"),
        (b"content-length: -3", "bad Content-Length"),
        (b"transfer-encoding: chunked\r\n\r\nzz", "illegal chunk header"),
    ):
        wrong = HttpReader(answers="GET")
        wrong.take(b"HTTP/1.1 200 OK\r\n" + garbled + b"\r\n\r\nabc")
        assert wrong.message is None
        assert why in wrong.problem
    torn = HttpReader(answers="GET")
    torn.take(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
    torn.take(b"")
    assert torn.problem == "it ended in the middle of a message"
    silent = HttpReader(answers="POST")
    silent.take(b"")
    assert silent.problem == "it ended without a message"
    head = HttpReader(answers="HEAD")
    head.take(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    assert (head.message is not None, head.problem) == (True, ""), "what answers HEAD has a length and no body"


def test_a_flush_ends_a_batch_and_what_leans_on_it_stands_in_no_transaction_of_its_own() -> None:
    batches = Batches()
    assert batches.take(Frame(PARSE, b"\0SELECT 1\0\0\0")) is None
    flushed = batches.take(Frame(FLUSH, b""))
    assert flushed is not None
    assert (flushed.statements, flushed.ready, flushed.answers) == ((), False, 1)
    batches.take(Frame(BIND, b"\0\0rest"))
    batches.take(Frame(EXECUTE, b"\0rest"))
    run = batches.take(Frame(SYNC, b""))
    assert run is not None
    assert (run.statements, run.ready, run.leans) == (("SELECT 1",), True, True)


@pytest.mark.parametrize("asked", [False, True])
def test_data_of_a_copy_may_come_before_the_server_asks_for_it(asked: bool) -> None:
    batches = Batches()
    assert batches.take(Frame(QUERY, b"COPY t FROM STDIN\0")) is not None
    if asked:
        batches.copying = QUERY
    assert batches.take(Frame(b"d", b"1")) is None
    data = batches.take(Frame(b"c", b""))
    assert data is not None
    assert (data.ends_copy, batches.empty, batches.copying) == (True, True, b"")


def test_every_statement_of_a_pipeline_is_named() -> None:
    batches = Batches()
    for name, sql in ((b"a", b"SELECT 1"), (b"b", b"SELECT 2")):
        batches.take(Frame(PARSE, name + b"\0" + sql + b"\0\0\0"))
        batches.take(Frame(BIND, b"\0" + name + b"\0rest"))
        batches.take(Frame(EXECUTE, b"\0rest"))
    batch = batches.take(Frame(SYNC, b""))
    assert batch is not None
    assert batch.statements == ("SELECT 1", "SELECT 2")
    assert not batch.leans


def test_what_a_system_file_promises_is_looked_for_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    promise = (
        "outside: {a.test: {}}\npromises: {deploys: cost no attempt, at_most_once: [{call: POST a.test/x, per: [y]}]}\n"
    )
    (tmp_path / "schema.sql").write_text("")
    (tmp_path / "system.yaml").write_text(WHOLE + promise)
    search = ["explore", str(tmp_path / "system.yaml"), "--seed", "1", "--shard", "3/2", "--looking-for"]
    for name in ("effect_repeated", "effect_missing"):
        assert main([*search, name]) == 2
        assert ("no such anomaly" in capsys.readouterr().err) is (name == "effect_missing")
    engine = SystemEngine(str(tmp_path / "system.yaml"))
    print_judges(engine, {"cron: sweep"})
    told = " ".join(capsys.readouterr().out.split())
    assert "And your own promises: effect_repeated, effect_without_key, deploy_costs_attempt." in told
    assert told.endswith(
        "No run reached: promises: deploys (no process was replaced by a deploy: search longer); "
        "the stop of a process (none was told to stop: search longer)."
    )
    [deploys] = [part for part in engine.info.declared if part.name == "promises: deploys"]
    assert deploys.owed, "a search without a deploy is no pass"
    told_to_stop = Fault(0, "w1", SHUTDOWN.event, {"at": "start"})
    assert not deploys.shows(told_to_stop)
    assert deploys.shows(told_to_stop._replace(data={"at": "start", OF_DEPLOY: False}))


IN_C = """its process ended with exit code 1
  Traceback (most recent call last):
    File "/app/worker.py", line 40, in complete
      conn.execute(
      ^^^^^^^^^^^^^
    File "/lib/psycopg/connection.py", line 305, in execute
      raise ex.with_traceback(None)
  psycopg.errors.UntranslatableCharacter: unsupported Unicode escape sequence
  DETAIL:  \\u0000 cannot be converted to text.
  CONTEXT:  JSON data, line 1: {"text":..."""
IN_NODE = """its process ended with exit code 1
  /app/node_modules/pg-pool/index.js:45
  error: unsupported Unicode escape sequence
      at /app/node_modules/pg-pool/index.js:45:11
      at async complete (file:///app/worker.ts:12:3) {
    length: 164,
    detail: 'NUL',
  }"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (IN_C, "psycopg.errors.UntranslatableCharacter: unsupported Unicode escape sequence"),
        (IN_NODE, "error: unsupported Unicode escape sequence"),
        ("its process ended with exit code 1\n  ValueError: no", "ValueError: no"),
        (
            "its process ended with exit code 2\n  ready\n  no such queue",
            "its process ended with exit code 2; it last printed: no such queue",
        ),
        ("its process was killed by SIGKILL", "its process was killed by SIGKILL"),
    ],
)
def test_a_process_that_ended_is_told_with_its_error_whatever_that_is_called(words: str, told: str) -> None:
    assert _error_in(words) == told


def test_a_job_s_name_may_stand_in_the_path_and_the_headers_of_what_creates_it(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE mail (id int)")
    path = tmp_path / "system.yaml"
    text = WHOLE.replace(
        "request: POST /mail, to: api,", 'request: "PUT /mail/${job}", to: api, headers: {KEY: "k-${job}"},'
    )
    path.write_text(text)
    sent = read_system_file(str(path)).send
    assert sent is not None
    asked = sent.about("a b")
    assert (asked.path, asked.headers, asked.body) == ("/mail/a%20b", {"key": "k-a b"}, {"recipient": "a b"})


def test_a_supervised_system_may_name_any_command_and_a_line_for_a_shell(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE mail (id int)")
    path = tmp_path / "system.yaml"
    cron = "sweep: {every: 1m, command: ruby sweep.rb --all}"
    text = WHOLE.replace("python app.py worker", "npm run build && npm run worker").replace(
        "format: 1", "format: 1\nclock: supervisor"
    )
    path.write_text("\n".join(f"  {cron}" if line.startswith("  sweep:") else line for line in text.splitlines()))
    worker, _, sweep = read_system_file(str(path)).processes
    assert worker.command == ("sh", "-c", "npm run build && npm run worker")
    assert sweep.command[:2] == ("sh", "-c")
    assert "sleep 60;" in sweep.command[2]
    assert sweep.command[3:] == ("cron", "ruby", "sweep.rb", "--all")


@pytest.mark.parametrize(
    ("each", "other", "both", "told"),
    [
        ([("1", "paid")], [("1", "paid")], True, {}),
        ([("1", "paid")], [("1", "open")], True, {"1": "1 is paid, and in the other open"}),
        ([("1", "paid")], [], True, {"1": "1 is paid, and in the other nothing"}),
        ([], [("1", "paid")], True, {"1": "1 is nothing, and in the other paid"}),
        ([("1", "paid")], [("1", "paid"), ("2", "open")], False, {}),
        ([], [], True, None),
    ],
)
def test_two_places_agree_by_key(
    each: list[tuple[str, str]], other: list[tuple[str, str]], both: bool, told: dict[str, str] | None
) -> None:
    sides = {
        name: [{"key": key, "value": value} for key, value in pairs] for name, pairs in (("e", each), ("o", other))
    }
    promise = AgreePromise("paid", ShownBy("e", False), ShownBy("o", False), both, None, "system.yaml:3")

    assert differing(promise, lambda side: sides[side.text]) == told


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"value": 1}], "system.yaml:3: promises.agree.paid: a side shows no 'key'"),
        ([{"key": 1, "value": 2}] * 2, "system.yaml:3: promises.agree.paid: a side shows the key '1' twice"),
    ],
)
def test_a_side_that_cannot_be_compared_is_an_error(rows: list[dict[str, int]], told: str) -> None:
    promise = AgreePromise("paid", ShownBy("e", False), ShownBy("o", False), True, None, "system.yaml:3")

    with pytest.raises(SystemFileError) as refused:
        differing(promise, lambda side: rows)
    assert refused.value.message == told


@pytest.mark.parametrize(
    ("healed", "faults", "found"),
    [
        (61, (), True),
        (59, (), False),
        (119, (Fault(30 * SECOND, "w1", "crash", {"at": "x", "after": False}),), False),
        (61, (Fault(70 * SECOND, "w1", "crash", {"at": "x", "after": False}),), True),
        (119, (Fault(0, "w1", "outage", {"at": "x", "for": 30 * SECOND}),), False),
    ],
)
def test_a_key_may_differ_for_so_long_as_is_promised_beside_what_a_fault_took(
    healed: int, faults: tuple[Fault, ...], found: bool
) -> None:
    promise = AgreePromise("soon", ShownBy("e", False), ShownBy("o", False), True, MINUTE, "system.yaml:3")
    judge = Judge((agree(promise, dict),), Rules(Settings(), excuses={}))
    history: list[Event] = [
        Effect(0, "api", "", 0, 0, f"{DIFFER_OF}soon", ["b"]),
        *faults,
        Effect(healed * SECOND, "relay", "", 0, 0, f"{DIFFER_OF}soon", []),
    ]
    for event in sorted(history, key=lambda event: event.at):
        judge.see(event)
    assert [item.name for item in judge.anomalies] == ["soon"] * found


def test_a_switch_that_is_off_and_a_number_of_things_at_once_are_what_may_heal_a_system() -> None:
    file = read_system_file("examples/guide-app/system.yaml")
    changed = file.changes()
    assert set(changed) == {"GUIDE_APP_REPAIRED=true", "PGBOSS_BATCH_SIZE=1"}
    worker, api = changed["PGBOSS_BATCH_SIZE=1"].processes
    assert worker.environment["PGBOSS_BATCH_SIZE"] == "1"
    assert "PGBOSS_BATCH_SIZE" not in api.environment
    assert {kind.environment["GUIDE_APP_REPAIRED"] for kind in changed["GUIDE_APP_REPAIRED=true"].processes} == {"true"}
