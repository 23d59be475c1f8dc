"""Processors that say nothing about their side effects, and what the contract has to make of each.

One table for both languages, written before the rule that judges it. A case is FOUND where a crash or a redelivery does
something twice and nothing explains it, SILENT where nothing is wrong, and UNDECIDED where only the author can tell.
The network is a fake, as in a user's test: everything else (SQLite, files, SMTP) is real.
"""

from __future__ import annotations

import asyncio
import json
import os
import smtplib
import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple
from unittest.mock import patch

from job_harness.subjects.processors import JobResult, ToolJob

API = "https://api.pay.test"
DONE = JobResult(success=True)
EXAMPLE = {"order": 7, "amount": 100}


class Expected(StrEnum):
    """What the contract has to say."""

    FOUND = "found"
    SILENT = "silent"
    UNDECIDED = "undecided"


class Case(NamedTuple):
    """A processor, and what has to come of it."""

    expected: Expected
    words: str
    """What a finding names: the call that is repeated, as a person knows it."""
    body: Any


# the network ----------------------------------------------------------------------------------------------------------

Call = Callable[..., Awaitable[dict[str, Any]]]
"""`await call(method, url, json=..., data=..., headers=...)` returns the answer's JSON."""


class Remote:
    """A service somewhere else: it takes every charge, or remembers what was charged for which order."""

    def __init__(self) -> None:
        self.remembers = False
        self.charges: list[Any] = []

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if method == "GET":
            return (200, {"found": True}) if self.remembers and self.charges else (404, {})
        if path.startswith("/charges"):
            self.charges.append(body)
        return 201, {"id": len(self.charges), "access_token": "t"}


remote = Remote()


def by_httpx() -> Call:
    import httpx

    def answer(request: httpx.Request) -> httpx.Response:
        status, found = remote.answer(request.method, request.url.path, request.content)
        return httpx.Response(status, json=found)

    async def call(method: str, url: str, **about: Any) -> dict[str, Any]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            answered = await client.request(method, url, **about)
            return answered.json()  # type: ignore[no-any-return]

    return call


def by_requests() -> Call:
    import requests
    from requests.adapters import BaseAdapter

    class Fake(BaseAdapter):
        def send(self, request: Any, **about: Any) -> requests.Response:
            response = requests.Response()
            body = request.body or b""
            path = request.path_url.partition("?")[0]
            response.status_code, found = remote.answer(request.method, path, body)
            response.raw, response.url, response.request = BytesIO(json.dumps(found).encode()), request.url, request
            return response

        def close(self) -> None: ...

    async def call(method: str, url: str, **about: Any) -> dict[str, Any]:
        with requests.Session() as session:
            session.mount("https://", Fake())
            return session.request(method, url, **about).json()  # type: ignore[no-any-return]

    return call


class _Mailer(StreamRequestHandler):
    """Takes mail, as little as SMTP allows."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        reading = False
        while line := self.rfile.readline():
            verb = line.strip().upper()[:4]
            if reading and line.strip() != b".":
                continue
            reading = verb == b"DATA" and not reading
            self.wfile.write(b"354 go on\r\n" if reading else b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


_ports: dict[str, int] = {}


def start_mailer() -> ThreadingTCPServer:
    """Start what takes mail. To be shut down."""
    server = ThreadingTCPServer(("127.0.0.1", 0), _Mailer)
    server.daemon_threads = True
    server.handle_error = lambda *about: None  # type: ignore[method-assign]  # a client that was killed
    _ports["smtp"] = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


class _Answer:
    """What aiohttp's callers use of a response."""

    def __init__(self, status: int, found: dict[str, Any]) -> None:
        self.status = status
        self._found = found

    async def json(self) -> dict[str, Any]:
        return self._found

    async def __aenter__(self) -> _Answer:
        return self

    async def __aexit__(self, *about: Any) -> None: ...


def by_aiohttp() -> Call:
    import aiohttp

    async def answer(session: Any, method: str, url: Any, **about: Any) -> _Answer:
        body = json.dumps(about.get("json")).encode()
        return _Answer(*remote.answer(method, str(url).removeprefix(API).partition("?")[0], body))

    async def call(method: str, url: str, **about: Any) -> dict[str, Any]:
        with patch.object(aiohttp.ClientSession, "_request", answer):  # as the libraries of stubs do it
            async with aiohttp.ClientSession() as session, session.request(method, url, **about) as answered:
                return await answered.json()  # type: ignore[no-any-return]

    return call


CLIENTS: dict[str, Callable[[], Call]] = {"httpx": by_httpx, "requests": by_requests, "aiohttp": by_aiohttp}


def processor(body: Any, client: str) -> Any:
    """Make a processor of a case, a coroutine or (requests) a plain function, that talks through this client."""
    if client == "requests":

        def run(job: ToolJob) -> JobResult:
            return _to_the_end(body(job, by_requests()))

        return run

    async def run_async(job: ToolJob) -> JobResult:
        return await body(job, CLIENTS[client]())  # type: ignore[no-any-return]

    return run_async


def _to_the_end(work: Coroutine[Any, Any, JobResult]) -> JobResult:
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    raise AssertionError("a plain processor never waits")


# charges --------------------------------------------------------------------------------------------------------------

recorded: set[str] = set()
"""What the processor's own database holds; the contract knows nothing of it."""


def charging(about: Callable[[ToolJob], dict[str, Any]]) -> Any:
    """Make a processor that charges, and then records that it did."""

    async def charge(job: ToolJob, call: Call) -> JobResult:
        if job.id not in recorded:
            await call("POST", f"{API}/charges", **about(job))
            recorded.add(job.id)
        return DONE

    return charge


def _now() -> str:
    return datetime.now(UTC).isoformat()  # noqa: TID251 - what users write


def _uuid() -> str:
    return str(uuid.uuid4())  # noqa: TID251 - what users write


def _keyed(key: str) -> dict[str, Any]:
    return {"json": EXAMPLE, "headers": {"Idempotency-Key": key}}


CHARGES: dict[str, Case] = {
    "charge, then record": Case(
        Expected.FOUND, "POST https://api.pay.test/charges", charging(lambda job: {"json": EXAMPLE})
    ),
    "a new uuid in the body": Case(
        Expected.FOUND, "/charges", charging(lambda job: {"json": {**EXAMPLE, "ref": _uuid()}})
    ),
    "a timestamp in the body": Case(
        Expected.FOUND, "/charges", charging(lambda job: {"json": {**EXAMPLE, "at": _now()}})
    ),
    "the attempt's number in the body": Case(
        Expected.FOUND, "/charges", charging(lambda job: {"json": {**EXAMPLE, "attempt": job.attempts}})
    ),
    "a new uuid as idempotency key": Case(Expected.FOUND, "Idempotency-Key", charging(lambda job: _keyed(_uuid()))),
    "a timestamp as idempotency key": Case(Expected.FOUND, "Idempotency-Key", charging(lambda job: _keyed(_now()))),
    "the attempt's number in the idempotency key": Case(
        Expected.FOUND, "Idempotency-Key", charging(lambda job: _keyed(f"{job.id}-{job.attempts}"))
    ),
    "a stable idempotency key": Case(Expected.SILENT, "", charging(lambda job: _keyed(job.id))),
    "a stable idempotency key in the body": Case(
        Expected.SILENT, "", charging(lambda job: {"json": {**EXAMPLE, "idempotency_key": job.id}})
    ),
}


async def check_before_charge(job: ToolJob, call: Call) -> JobResult:
    remote.remembers = True
    found = await call("GET", f"{API}/charges?order={job.input['order']}")
    if not found.get("found"):
        await call("POST", f"{API}/charges", json=EXAMPLE)
    return DONE


async def check_before_charge_on_a_stub(job: ToolJob, call: Call) -> JobResult:
    found = await call("GET", f"{API}/charges/{job.input['order']}")
    if not found.get("found"):
        await call("POST", f"{API}/charges", json=EXAMPLE)
    return DONE


CHARGES["check before the charge"] = Case(Expected.SILENT, "", check_before_charge)
CHARGES["check before the charge, on a stub that forgets"] = Case(
    Expected.UNDECIDED, "POST https://api.pay.test/charges", check_before_charge_on_a_stub
)


# what may be asked for any number of times ----------------------------------------------------------------------------


def asking(*calls: tuple[str, str, dict[str, Any]]) -> Any:
    """Make a processor that makes these calls, each time it runs."""

    async def ask(job: ToolJob, call: Call) -> JobResult:
        for method, url, about in calls:
            await call(method, url, **about)
        return DONE

    return ask


SENTRY = "https://o450.ingest.sentry.io/api/42/envelope/"
HARMLESS: dict[str, Case] = {
    "token POST": Case(
        Expected.SILENT,
        "",
        asking(("POST", f"{API}/oauth/token", {"data": {"grant_type": "client_credentials", "client_id": "me"}})),
    ),
    "GraphQL query": Case(
        Expected.SILENT, "", asking(("POST", f"{API}/graphql", {"json": {"query": "query { order(id: 7) { total } }"}}))
    ),
    "GraphQL mutation": Case(
        Expected.FOUND,
        "mutation pay",
        asking(("POST", f"{API}/graphql", {"json": {"query": "mutation pay { pay(id: 7) }"}})),
    ),
    "search POST": Case(
        Expected.SILENT, "", asking(("POST", f"{API}/orders/_search", {"json": {"query": {"match": {"order": 7}}}}))
    ),
    "OpenTelemetry": Case(
        Expected.SILENT, "", asking(("POST", "https://collector.test/v1/traces", {"json": {"resourceSpans": []}}))
    ),
    "Sentry": Case(Expected.SILENT, "", asking(("POST", SENTRY, {"json": {}}))),
    "S3 PUT": Case(
        Expected.SILENT, "", asking(("PUT", "https://bucket.s3.amazonaws.com/reports/7.csv", {"json": ["a", "b"]}))
    ),
}


# files ----------------------------------------------------------------------------------------------------------------


async def file_appended(job: ToolJob, call: Call) -> JobResult:
    if job.id not in recorded:
        with open("ledger.csv", "a", encoding="utf-8") as ledger:  # noqa: ASYNC230 - what users write
            ledger.write(f"{job.input['order']},100\n")
        await asyncio.sleep(1)
        recorded.add(job.id)
    return DONE


async def lock_file_left(job: ToolJob, call: Call) -> JobResult:
    os.close(os.open("order-7.lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        await asyncio.sleep(1)
    finally:
        os.unlink("order-7.lock")
    return DONE


async def temporary_file_and_rename(job: ToolJob, call: Call) -> JobResult:
    with tempfile.NamedTemporaryFile("w", dir=".", delete=False, encoding="utf-8") as file:
        file.write("a,b\n")
    await asyncio.sleep(1)
    os.replace(file.name, "report-7.csv")
    return DONE


async def file_written_anew(job: ToolJob, call: Call) -> JobResult:
    Path("report-7.csv").write_text("a,b\n", encoding="utf-8")  # noqa: ASYNC240 - what users write
    await asyncio.sleep(1)
    return DONE


async def mail_sent(job: ToolJob, call: Call) -> JobResult:
    def send() -> None:
        with smtplib.SMTP("127.0.0.1", _ports["smtp"]) as server:
            server.sendmail("me@here.test", ["ada@example.com"], f"Subject: Order {job.input['order']}\n\nPaid.\n")

    if job.id not in recorded:
        await asyncio.to_thread(send)
        recorded.add(job.id)
    return DONE


OUTSIDE: dict[str, Case] = {
    "a file appended": Case(Expected.FOUND, "ledger.csv", file_appended),
    "a lock file left": Case(Expected.FOUND, "order-7.lock", lock_file_left),
    "a mail sent": Case(Expected.FOUND, "ada@example.com", mail_sent),
    "temporary file and rename": Case(Expected.SILENT, "", temporary_file_and_rename),
    "a file written anew": Case(Expected.SILENT, "", file_written_anew),
}


# rows -----------------------------------------------------------------------------------------------------------------

TABLES = """
CREATE TABLE IF NOT EXISTS payments (id INTEGER PRIMARY KEY, order_id INTEGER, amount INTEGER);
CREATE TABLE IF NOT EXISTS done (job TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY, message TEXT);
CREATE TABLE IF NOT EXISTS job_attempts (job TEXT, attempt INTEGER, started_at TEXT);
CREATE TABLE IF NOT EXISTS totals (order_id INTEGER PRIMARY KEY, total INTEGER);
"""
INSERT = "INSERT INTO payments (order_id, amount) VALUES (?, ?)"
ROW = (7, 100)


def in_sqlite(work: Callable[[ToolJob, sqlite3.Connection], Coroutine[Any, Any, None]]) -> Any:
    """Make a processor that works in a database of its own, which the tries of one job share."""

    async def run(job: ToolJob, call: Call) -> JobResult:
        database = sqlite3.connect("app.db", timeout=0)
        try:
            database.executescript(TABLES)
            await work(job, database)
        finally:
            database.close()
        return DONE

    return run


@in_sqlite
async def row_inserted(job: ToolJob, database: sqlite3.Connection) -> None:
    if job.id not in recorded:
        with database:
            database.execute(INSERT, ROW)
        await asyncio.sleep(1)
        recorded.add(job.id)


@in_sqlite
async def total_raised(job: ToolJob, database: sqlite3.Connection) -> None:
    if job.id not in recorded:
        with database:
            database.execute("INSERT OR IGNORE INTO totals VALUES (7, 0)")
            database.execute("UPDATE totals SET total = total + 100 WHERE order_id = 7")
        await asyncio.sleep(1)
        recorded.add(job.id)


@in_sqlite
async def audit_row_per_attempt(job: ToolJob, database: sqlite3.Connection) -> None:
    with database:
        database.execute("INSERT INTO job_attempts VALUES (?, ?, ?)", (job.id, job.attempts, _now()))
    await asyncio.sleep(1)


@in_sqlite
async def outbox_in_one_transaction(job: ToolJob, database: sqlite3.Connection) -> None:
    with database:
        taken = database.execute("INSERT OR IGNORE INTO done VALUES (?)", (job.id,)).rowcount
        if taken:
            database.execute(INSERT, ROW)
            await asyncio.sleep(1)
            database.execute("INSERT INTO outbox (message) VALUES (?)", ("paid",))
    await asyncio.sleep(1)


@in_sqlite
async def rolled_back_insert(job: ToolJob, database: sqlite3.Connection) -> None:
    database.execute(INSERT, ROW)
    database.rollback()
    await asyncio.sleep(1)


@in_sqlite
async def delete_then_insert(job: ToolJob, database: sqlite3.Connection) -> None:
    with database:
        database.execute("DELETE FROM payments WHERE order_id = ?", (7,))
        database.execute(INSERT, ROW)
    await asyncio.sleep(1)


@in_sqlite
async def on_conflict(job: ToolJob, database: sqlite3.Connection) -> None:
    with database:
        database.execute(
            "INSERT INTO totals VALUES (?, ?) ON CONFLICT (order_id) DO UPDATE SET total = excluded.total", ROW
        )
    await asyncio.sleep(1)


@in_sqlite
async def select_before_insert(job: ToolJob, database: sqlite3.Connection) -> None:
    if database.execute("SELECT 1 FROM payments WHERE order_id = ?", (7,)).fetchone() is None:
        with database:
            database.execute(INSERT, ROW)
    await asyncio.sleep(1)


ROWS: dict[str, Case] = {
    "a row inserted": Case(Expected.FOUND, "INSERT payments", row_inserted),
    "a total raised": Case(Expected.FOUND, "UPDATE totals", total_raised),
    "an audit row per attempt": Case(Expected.SILENT, "", audit_row_per_attempt),
    "an outbox in one transaction": Case(Expected.SILENT, "", outbox_in_one_transaction),
    "a rolled-back insert": Case(Expected.SILENT, "", rolled_back_insert),
    "delete, then insert": Case(Expected.SILENT, "", delete_then_insert),
    "ON CONFLICT": Case(Expected.SILENT, "", on_conflict),
    "select before insert": Case(Expected.SILENT, "", select_before_insert),
}


def python_cases() -> list[tuple[str, str, Case]]:
    """List every case with the client that it talks through, as (client, name, case)."""
    found = [(client, name, case) for client in CLIENTS for name, case in CHARGES.items()]
    found += [("httpx", name, case) for name, case in {**HARMLESS, **OUTSIDE, **ROWS}.items()]
    return found


# TypeScript -----------------------------------------------------------------------------------------------------------

_TS_CHARGE = """
if (!(await recorded())) {{
  const r = await fetch("https://api.pay.test/charges", {{ method: "POST", {about} }});
  await r.json();
  await record();
}}
return {{ success: true }};
"""
_TS_SILENT = """
const post = (url: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(url, { method: "POST", body: JSON.stringify(body), headers });
await post("https://api.pay.test/oauth/token", { grant_type: "client_credentials" });
await post("https://api.pay.test/graphql", { query: "query { order(id: 7) { total } }" });
await post("https://api.pay.test/orders/_search", { query: { match: { order: 7 } } });
await post("https://collector.test/v1/traces", { resourceSpans: [] });
await post("https://o450.ingest.sentry.io/api/42/envelope/", {});
await post("https://api.pay.test/charges", { order: 7 }, { "Idempotency-Key": job.id });
await fetch("https://bucket.s3.amazonaws.com/reports/7.csv", { method: "PUT", body: "a,b" });
return { success: true };
"""
_TS_LOOKUP = """
const found = await fetch("https://api.pay.test/charges/7");
if (found.status === 404) await fetch("https://api.pay.test/charges", { method: "POST", body: "{}" });
return { success: true };
"""
_TS_APPEND = """
const fs = await import("node:fs/promises");
if (!(await recorded())) { await fs.appendFile("ledger.csv", "7,100\\n"); await record(); }
return { success: true };
"""


def _ts_charge(about: str) -> str:
    return _TS_CHARGE.format(about=about)


TYPESCRIPT: dict[str, Case] = {
    "charge, then record": Case(
        Expected.FOUND, "POST https://api.pay.test/charges", _ts_charge("body: JSON.stringify({ order: 7 })")
    ),
    "a new uuid in the body": Case(
        Expected.FOUND, "/charges", _ts_charge("body: JSON.stringify({ order: 7, ref: crypto.randomUUID() })")
    ),
    "a timestamp in the body": Case(
        Expected.FOUND, "/charges", _ts_charge("body: JSON.stringify({ order: 7, at: new Date().toISOString() })")
    ),
    "the attempt's number in the body": Case(
        Expected.FOUND, "/charges", _ts_charge("body: JSON.stringify({ order: 7, attempt: job.attempts })")
    ),
    "a new uuid as idempotency key": Case(
        Expected.FOUND, "Idempotency-Key", _ts_charge('headers: { "Idempotency-Key": crypto.randomUUID() }')
    ),
    "the attempt's number in the idempotency key": Case(
        Expected.FOUND, "Idempotency-Key", _ts_charge('headers: { "Idempotency-Key": `${job.id}-${job.attempts}` }')
    ),
    "a file appended": Case(Expected.FOUND, "ledger.csv", _TS_APPEND),
    "what may be asked for any number of times": Case(Expected.SILENT, "", _TS_SILENT),
    "check before the charge, on a stub that forgets": Case(
        Expected.UNDECIDED, "POST https://api.pay.test/charges", _TS_LOOKUP
    ),
}
