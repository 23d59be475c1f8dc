"""The contract sees what a crash or a redelivery does twice, of processors that declare nothing; it invents nothing."""

from __future__ import annotations

import contextlib
import importlib
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.contract.node_at_hand import needs_node, written
from tests.contract.node_at_hand import processor as typescript_processor
from tests.contract.repetition_cases import (
    EXAMPLE,
    HARMLESS,
    TYPESCRIPT,
    Case,
    Expected,
    processor,
    python_cases,
    start_mailer,
)

from job_harness.subjects.processors import JobResult, ToolJob, TypeScriptProcessor
from job_harness.subjects.processors.contract import CheckOutcome, ContractFinding, ContractRun

SELDOM = {
    "a timestamp in the body",
    "the attempt's number in the body",
    "a file written anew",
    "ON CONFLICT",
}
"""Cases that differ little from others."""
OFTEN = {"charge, then record", "the attempt's number in the idempotency key", "a stable idempotency key"}
"""Cases that are judged through every client, in every run; others through httpx alone, but for a campaign."""
CHECKS = ("survives_crash", "same_input_twice", "survives_zombie")
IN_NODE = {"charge, then record": CHECKS[:1], "what may be asked for any number of times": CHECKS[1:2]}
"""Cases in every run, and what judges them: each try is a Node process. A campaign has all cases and checks."""


def marks(client: str, name: str) -> list[pytest.MarkDecorator]:
    return [] if name in OFTEN or (client == "httpx" and name not in SELDOM) else [pytest.mark.campaign]


PYTHON = [
    pytest.param(client, case, id=f"{client}-{name}", marks=marks(client, name))
    for client, name, case in python_cases()
]
TYPESCRIPT_CASES = [pytest.param(TYPESCRIPT[name], checks, id=name) for name, checks in IN_NODE.items()] + [
    pytest.param(case, CHECKS[:2], id=f"all-{name}", marks=pytest.mark.campaign) for name, case in TYPESCRIPT.items()
]


@pytest.fixture(scope="module", autouse=True)
def mailer() -> Iterator[None]:
    server = start_mailer()
    yield
    server.shutdown()
    server.server_close()


def hold_to(case: Case, subject: Any, *, isolated: bool = True, checks: tuple[str, ...] = CHECKS) -> None:
    contract = ContractRun(subject, examples=[EXAMPLE], isolated=isolated)
    assert contract.judge("declared_input_succeeds").outcome is CheckOutcome.PASSED, str(contract.report())
    findings: dict[str, ContractFinding] = {}
    for check in checks:
        findings[check] = contract.judge(check)
        if case.expected is Expected.FOUND and findings[check].outcome is CheckOutcome.FAILED:
            break  # Nothing more is asked of it.
    outcomes = {finding.outcome for finding in findings.values()}
    told = "\n".join(f"{check}: {finding.outcome}\n{finding.text}" for check, finding in findings.items())
    match case.expected:
        case Expected.FOUND:
            assert CheckOutcome.FAILED in outcomes, told
        case Expected.UNDECIDED:
            assert CheckOutcome.FAILED not in outcomes, told
            assert CheckOutcome.INCONCLUSIVE in outcomes, told
        case Expected.SILENT:
            assert CheckOutcome.FAILED not in outcomes, told
            assert {findings[check].outcome for check in checks[:2]} == {CheckOutcome.PASSED}, told
    assert case.words in told


@pytest.mark.parametrize(("client", "case"), PYTHON)
def test_a_repetition_is_judged_in_python(
    client: str, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(client)
    monkeypatch.chdir(tmp_path)
    hold_to(case, processor(case.body, client), isolated=case not in HARMLESS.values())


@needs_node
@pytest.mark.slow
@pytest.mark.parametrize(("case", "checks"), TYPESCRIPT_CASES)
def test_a_repetition_is_judged_in_typescript(case: Case, checks: tuple[str, ...], tmp_path: Path) -> None:
    marks: list[int] = []
    target = TypeScriptProcessor(
        typescript_processor(tmp_path, case.body),
        globals={"recorded": lambda: bool(marks), "record": lambda: marks.append(1)},
        fetch=lambda url, request: {"status": 404 if request["method"] == "GET" else 201, "json": {}},
    )
    hold_to(case, target, checks=checks)


def test_what_a_library_of_stubs_answers_is_seen() -> None:
    respx, responses = pytest.importorskip("respx"), pytest.importorskip("responses")
    import httpx
    import requests

    def pay(job: ToolJob) -> JobResult:
        with respx.mock, responses.mock:
            respx.post("https://api.pay.test/charges").respond(201, json={})
            responses.mock.add("POST", "https://api.mail.test/send", json={}, status=202)
            httpx.post("https://api.pay.test/charges", json=job.input)
            requests.post("https://api.mail.test/send", json=job.input, timeout=5)
        return JobResult(success=True)

    told = ContractRun(pay, examples=[EXAMPLE]).judge("same_input_twice").text
    assert "POST https://api.pay.test/charges happened 2 times" in told
    assert "POST https://api.mail.test/send happened 2 times" in told


REDIS = """
class Redis:
    def execute_command(self, *words, **options): ...

class Pipeline(Redis):
    def __init__(self):
        self.command_stack = [(("SET", "seen", 1), {}), (("LPUSH", "mails", "a"), {})]

    def execute_command(self, *words, **options): ...
    def immediate_execute_command(self, *words, **options): ...
    def execute(self): ...
"""
REDIS_CLUSTER = """
from types import SimpleNamespace

class RedisCluster:
    def execute_command(self, *words, **options): ...

class ClusterPipeline(RedisCluster):
    def __init__(self):
        command = SimpleNamespace(args=("XADD", "orders", "*", "id", 7))
        self._execution_strategy = SimpleNamespace(_command_queue=[command])

    def execute(self): ...
"""
SQLALCHEMY = """
from types import SimpleNamespace

class Engine:
    heard = {}

class Connection:
    dialect = SimpleNamespace(driver="mysqldb")

    def __init__(self, *, autocommit):
        self._is_autocommit_isolation = lambda: autocommit

    def execute(self, sql):
        Engine.heard["after_cursor_execute"](self, SimpleNamespace(rowcount=1), sql, (), None, False)

    def close(self):
        Engine.heard["rollback"](self)
"""
LIBRARIES = {
    "redis/__init__.py": "from redis import asyncio, client, cluster",
    "redis/asyncio/__init__.py": "from redis.asyncio import client, cluster",
    "sqlalchemy/__init__.py": "from sqlalchemy import engine, event",
    "sqlalchemy/event.py": "def listen(owner, name, hear): owner.heard[name] = hear",
    "sqlalchemy/engine.py": SQLALCHEMY,
    **{f"redis/{each}client.py": REDIS for each in ("", "asyncio/")},
    **{f"redis/{each}cluster.py": REDIS_CLUSTER for each in ("", "asyncio/")},
}
"""As much of these as is watched; the real ones are not installed here."""


def test_a_pipeline_a_connection_that_commits_by_itself_and_a_request_of_urllib_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, source in LIBRARIES.items():
        written(tmp_path / Path(name).parent, source, name=Path(name).name)
    monkeypatch.syspath_prepend(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Takes)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"

    def pay(job: ToolJob) -> JobResult:
        client, cluster, engine = (
            importlib.import_module(name) for name in ("redis.client", "redis.cluster", "sqlalchemy.engine")
        )
        client.Pipeline().execute()
        cluster.ClusterPipeline().execute()
        for table, autocommit in (("drafts", False), ("payments", True)):
            database = engine.Connection(autocommit=autocommit)
            database.execute(f"INSERT INTO {table} VALUES (7)")
            database.close()
        urllib.request.urlopen(f"{url}/charges", data=b"{}").close()
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}/refused", data=b"{}")
        return JobResult(success=True)

    try:
        told = ContractRun(pay, examples=[EXAMPLE]).judge("same_input_twice").text
    finally:
        server.shutdown()
        server.server_close()
    for deed in ("LPUSH mails", "XADD orders", "INSERT payments", f"POST {url}/charges"):
        assert f"{deed} happened 2 times" in told, told
    assert "drafts" not in told
    assert "refused" not in told


@pytest.mark.postgres
@pytest.mark.parametrize(("verb", "commits"), [("INSERT", True), ("INSERT", False), ("COPY", True)])
def test_rows_of_postgres_count_once_they_are_committed(reference_dsn: str, verb: str, commits: bool) -> None:
    import psycopg

    def reset() -> None:
        with psycopg.connect(reference_dsn, autocommit=True) as database:
            database.execute("CREATE TABLE IF NOT EXISTS payments (order_id int); TRUNCATE payments")

    def pay(job: ToolJob) -> JobResult:
        with psycopg.connect(reference_dsn) as database, database.transaction():
            if verb == "INSERT":
                database.execute("INSERT INTO payments (order_id) VALUES (%s)", [job.input["order"]])
            else:
                with database.cursor().copy("COPY payments FROM STDIN") as copy:
                    copy.write_row([job.input["order"]])
            if not commits:
                raise psycopg.Rollback
        return JobResult(success=True)

    contract = ContractRun(pay, examples=[EXAMPLE], reset=reset)
    finding = contract.judge("same_input_twice")
    assert (finding.outcome is CheckOutcome.FAILED) is commits, finding
    assert (f"{verb} payments happened 2 times" in finding.text) is commits


@pytest.mark.postgres
@pytest.mark.slow
def test_a_death_in_the_middle_of_a_copy_ends(reference_dsn: str) -> None:
    import psycopg

    async def export(job: ToolJob) -> JobResult:
        async with (
            await psycopg.AsyncConnection.connect(reference_dsn) as database,
            database.cursor() as cursor,
            cursor.copy("COPY (SELECT generate_series(1, 3)) TO STDOUT") as copy,
        ):
            return JobResult(success=True, output=len([row async for row in copy]))

    finding = ContractRun(export, examples=[EXAMPLE]).judge("survives_crash")
    assert finding.outcome is CheckOutcome.INCONCLUSIVE, finding.text
    assert "no side effect was seen" in finding.text


@asynccontextmanager
async def psycopg_statements(dsn: str) -> AsyncIterator[Any]:
    import psycopg

    async with await psycopg.AsyncConnection.connect(dsn) as database:

        async def run(sql: str, value: Any) -> int:
            return (await database.execute(sql.replace("?", "%s"), [value])).rowcount

        yield run


@asynccontextmanager
async def asyncpg_statements(dsn: str) -> AsyncIterator[Any]:
    asyncpg = pytest.importorskip("asyncpg")
    database = await asyncpg.connect(dsn)
    try:
        async with database.transaction():

            async def run(sql: str, value: Any) -> int:
                return int((await database.execute(sql.replace("?", "$1"), value)).split()[-1])

            yield run
    finally:
        await database.close()


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("statements", [psycopg_statements, asyncpg_statements])
def test_a_server_that_commits_for_the_dead_or_makes_a_twin_wait_is_no_fault_of_the_processor(
    reference_dsn: str, statements: Any
) -> None:
    import psycopg

    if statements is asyncpg_statements:
        pytest.importorskip("asyncpg")

    def reset() -> None:
        with psycopg.connect(reference_dsn, autocommit=True) as database:
            database.execute("DROP TABLE IF EXISTS done, orders")
            database.execute("CREATE TABLE done (job text PRIMARY KEY); CREATE TABLE orders (id int, total int)")
            database.execute("INSERT INTO orders VALUES (7, 0)")

    async def in_one(job: ToolJob) -> JobResult:
        async with statements(reference_dsn) as run:
            if await run("INSERT INTO done VALUES (?) ON CONFLICT DO NOTHING", job.id):
                await run("UPDATE orders SET total = total + 10 WHERE id = ?", job.input["order"])
        return JobResult(success=True)

    async def in_two(job: ToolJob) -> JobResult:
        async with statements(reference_dsn) as run:
            fresh = await run("INSERT INTO done VALUES (?) ON CONFLICT DO NOTHING", job.id)
        if fresh:
            async with statements(reference_dsn) as run:
                await run("UPDATE orders SET total = total + 10 WHERE id = ?", job.input["order"])
        return JobResult(success=True)

    right = ContractRun(in_one, examples=[EXAMPLE], reset=reset)
    for check in ("survives_crash", "survives_zombie"):
        assert right.judge(check).outcome is CheckOutcome.PASSED, right.judge(check).text
    assert "its open transaction was aborted" in right.judge("survives_zombie").text
    wrong = ContractRun(in_two, examples=[EXAMPLE], reset=reset).judge("survives_crash")
    assert "it returned success and UPDATE orders never happened" in wrong.text


PG = """
class Client {
  async query(text) { return { rowCount: /^INSERT/.test(text) ? 1 : null, rows: [] }; }
}
module.exports = { Client };
"""
NODEMAILER = "module.exports = { createTransport: () => ({ sendMail: async () => ({}) }) };"
PACKAGES = """
import pg from "pg";
import nodemailer from "nodemailer";
import http from "node:http";

const sent = (port: number) => new Promise<void>((resolve) => {
  const request = http.request({ port, path: "/charges", method: "POST", agent: false }, (response) => {
    response.resume();
    response.on("end", () => resolve());
  });
  request.end();
});

export const run = async (job: any) => {
  const client = new pg.Client();
  await client.query("BEGIN");
  await client.query("INSERT INTO drafts (order_id) VALUES (7)");
  await client.query("ROLLBACK");
  await client.query("BEGIN");
  await client.query("INSERT INTO payments (order_id) VALUES (7)");
  await client.query("COMMIT");
  await nodemailer.createTransport({}).sendMail({ to: "ada@example.com", subject: "Paid" });
  await sent(job.input.port);
  return { success: true };
};
"""


class Takes(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(409 if self.path == "/refused" else 201)
        self.end_headers()

    def log_message(self, *about: Any) -> None: ...


@needs_node
@pytest.mark.slow
def test_packages_of_node_are_seen_where_they_are_loaded(tmp_path: Path) -> None:
    for name, source in (("pg", PG), ("nodemailer", NODEMAILER)):
        written(tmp_path / "node_modules" / name, source, name="index.js")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Takes)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        port = server.server_address[1]
        contract = ContractRun(written(tmp_path, PACKAGES) + "#run", examples=[{"port": port}])
        told = contract.judge("same_input_twice").text
    finally:
        server.shutdown()
        server.server_close()
    assert "INSERT payments happened 2 times" in told, str(contract.report())
    assert "mail to ada@example.com happened 2 times" in told
    assert f"POST http://localhost:{port}/charges happened 2 times" in told
    assert "drafts" not in told
