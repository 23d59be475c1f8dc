"""What a module keeps belongs to the loop of each test in turn: a lock, the client of a library."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import pytest

from job_harness.subjects.processors import JobHarness, JobResult, ToolJob

KEPT: dict[str, Any] = {}
"""What a module of the user's would keep."""


@contextlib.contextmanager
def http_server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(b"ok")

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def over_httpx(job: ToolJob) -> JobResult:
    client = KEPT.setdefault("client", httpx.AsyncClient(limits=httpx.Limits(max_connections=1)))
    return JobResult(success=(await client.get(KEPT["url"])).text == "ok")


async def over_aiohttp(job: ToolJob) -> JobResult:
    if "session" not in KEPT:
        KEPT["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
    async with KEPT["session"].get(KEPT["url"]) as reply:
        return JobResult(success=await reply.text() == "ok")


async def locked(job: ToolJob) -> JobResult:
    async with KEPT.setdefault("lock", asyncio.Lock()):
        await asyncio.sleep(1)
    return JobResult(success=True)


async def close(job: ToolJob) -> JobResult:
    if "client" in KEPT:
        await KEPT.pop("client").aclose()
    if "session" in KEPT:
        await KEPT.pop("session").close()
    return JobResult(success=True)


@pytest.mark.parametrize("work", [over_httpx, over_aiohttp, locked])
def test_each_test_of_a_session_may_use_it(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KEPT, "url", "")
    with http_server() as KEPT["url"]:
        for each in (work, work, close):
            with JobHarness() as harness:
                harness.register("work", each)
                jobs = [harness.enqueue("work") for _ in range(3)]
                harness.run_until_idle()
                assert [(job.status, job.attempts, job.error) for job in jobs] == [("COMPLETED", 1, None)] * 3
                assert harness.problems() == []
