"""A call that is made to fail raises what its library raises by itself, and has its effect, or none."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.error import URLError

import aiohttp
import httpx
import pytest
import requests
import urllib3

from job_harness.core.faults.messages import IS_REFUSED, LOSES_REPLY
from job_harness.core.sim.choices import Option
from job_harness.core.sim.lifetime import LIFETIME, Lifetime
from job_harness.subjects.processors.delivery import Delivery
from job_harness.subjects.processors.observed import watch
from job_harness.subjects.processors.observed.account import Observations, Stands


class Served(HTTPServer):
    """A service that counts its requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.served = 0
        self.url = f"http://127.0.0.1:{self.server_port}/charges"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Served)
        self.server.served += 1
        self.send_response(201)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Served]:
    watch()
    with Served() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def by_httpx(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.post(url)


async def by_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(url):
        pass


def by_urllib(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, method="POST"), timeout=5).close()


def by_requests(url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.post(url, timeout=5)


def by_urllib3(url: str) -> None:
    with urllib3.PoolManager(retries=False) as pool:
        pool.request("POST", url)


CALLS: dict[str, tuple[Callable[[str], Any], type[BaseException], type[BaseException]]] = {
    "httpx": (lambda url: asyncio.run(by_httpx(url)), httpx.ConnectError, httpx.ReadTimeout),
    "aiohttp": (lambda url: asyncio.run(by_aiohttp(url)), aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError),
    "requests": (by_requests, requests.exceptions.ConnectionError, requests.exceptions.ReadTimeout),
    "urllib3": (by_urllib3, urllib3.exceptions.NewConnectionError, urllib3.exceptions.ReadTimeoutError),
    "urllib": (by_urllib, URLError, TimeoutError),
}


@pytest.mark.parametrize("happens", [IS_REFUSED, LOSES_REPLY], ids=str)
@pytest.mark.parametrize("library", CALLS)
def test_a_call_fails_by_its_librarys_own_error(service: Served, library: str, happens: Option) -> None:
    call, refused, unanswered = CALLS[library]
    life = Lifetime("job-1")
    asked: list[str] = []

    def fail(place: str, options: Any) -> Option | None:
        asked.append(place)
        return happens if happens in options else None

    delivery = Delivery("job-1", life=life, record=lambda name, data: None)
    delivery.fail = fail
    delivery.observed = observed = Observations(life, rest=lambda: None)
    context = contextvars.copy_context()
    context.run(LIFETIME.set, life)
    with pytest.raises(refused if happens == IS_REFUSED else unanswered):
        context.run(call, service.url)
    assert service.served == (happens == LOSES_REPLY)
    assert set(asked) == {"POST http://127.0.0.1/charges"}
    sent = [effect.stands for effect in observed.effects if effect.kind == "http"]
    assert sent == [Stands.GONE if happens == IS_REFUSED else Stands.DONE]
