"""HTTP clients: an answer that takes real time holds virtual time, and a connection kept alive does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from benchmarks.libraries.rows.at_work import done, http_server, output_of

from job_harness import JobHarness, ToolJob


@pytest.fixture
def address() -> Iterator[str]:
    with http_server() as address:
        yield address


def test_aiohttp(job_harness: JobHarness, address: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def fetch(job: ToolJob):
        began = time.monotonic()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            for path in ("/", "/slow", "/slow"):
                async with session.get(address + path) as response:
                    assert (await response.json()) == {"ok": True}
            await asyncio.sleep(60)
            async with session.post(address + "/", json={}) as response:
                assert response.status == 200
            await asyncio.sleep(300)
        return done(time.monotonic() - began)

    assert output_of(job_harness, fetch) == pytest.approx(360, abs=0.2)


def test_httpx(job_harness: JobHarness, address: str) -> None:
    httpx = pytest.importorskip("httpx")

    async def fetch(job: ToolJob):
        began = time.monotonic()
        async with httpx.AsyncClient(timeout=httpx.Timeout(5, pool=1)) as client:
            for path in ("/", "/slow"):
                assert (await client.get(address + path)).json() == {"ok": True}
            await asyncio.sleep(60)
            assert (await client.post(address + "/", json={})).status_code == 200
            await asyncio.sleep(300)
        return done(time.monotonic() - began)

    assert output_of(job_harness, fetch, warm=True) == 360

    def fetch_plainly(job: ToolJob):
        began = time.monotonic()
        with httpx.Client(timeout=5) as client:
            assert client.get(address + "/slow").json() == {"ok": True}
            time.sleep(360)
            assert client.get(address).json() == {"ok": True}
        return done(time.monotonic() - began)

    assert output_of(job_harness, fetch_plainly, warm=True) == 360


def test_requests(job_harness: JobHarness, address: str) -> None:
    requests = pytest.importorskip("requests")

    def fetch(job: ToolJob):
        began = time.monotonic()
        with requests.Session() as session:
            assert session.get(address + "/slow", timeout=5).json() == {"ok": True}
            time.sleep(360)
            assert session.post(address, json={}, timeout=5).ok
        return done(time.monotonic() - began)

    assert output_of(job_harness, fetch, warm=True) == 360


def test_streams(job_harness: JobHarness, address: str) -> None:
    async def ask(job: ToolJob):
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        for _ in range(2):
            writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(1):
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(150)
        writer.close()
        return done(time.monotonic() - began)

    assert output_of(job_harness, ask) == 300


def test_websockets(job_harness: JobHarness) -> None:
    client = pytest.importorskip("websockets.asyncio.client")
    server = pytest.importorskip("websockets.sync.server")
    import threading

    with server.serve(lambda socket: [socket.send(each) for each in socket], "127.0.0.1", 0) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        port = served.socket.getsockname()[1]

        async def talk(job: ToolJob):
            began = time.monotonic()
            async with client.connect(f"ws://127.0.0.1:{port}", ping_interval=20, ping_timeout=20) as socket:
                await socket.send("hello")
                assert await socket.recv() == "hello"
                await asyncio.sleep(300)  # 15 pings, each of which is answered
                await socket.send("again")
                assert await socket.recv() == "again"
            return done(time.monotonic() - began)

        output = output_of(job_harness, talk, warm=True)
        served.shutdown()
        thread.join()
    assert output == 300
