"""What lies outside of the right programs: a service that knows keys, rows that outlive a worker, a web server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from job_harness import Invariant, JobHarness, SideEffect, at_most_once, effect


class Outside:
    """A service and a database, in one."""

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {}
        self.done: set[Any] = set()

    def charge(self, key: object) -> None:
        """Charge once for each key, as a payment service with idempotency keys does."""
        if key not in self.done:
            self.done.add(key)
            effect("charged", order=key)

    def put(self, key: object) -> None:
        """Do what a repetition does not change."""
        effect(SideEffect("put", str(key), idempotent=True))


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def job_invariants() -> list[Invariant]:
    return [at_most_once("charged", per=["order"])]


@pytest.fixture
def play(job_harness: JobHarness) -> Callable[..., None]:
    """Run a processor on these inputs; each job ends well."""

    def run(processor: Any, *inputs: Any, **options: Any) -> None:
        job_harness.register("work", processor)
        jobs = [job_harness.enqueue("work", each, **options) for each in inputs or (7,)]
        job_harness.run_until_idle()
        assert [job.status for job in jobs] == ["COMPLETED"] * len(jobs)

    return run


SERVER = """
import http.server

class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "12")
        self.end_headers()
        self.wfile.write(b'{"ok": true}')

    do_PUT = do_GET

    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """A web server, in a process of its own: a forked run would have no thread of this one."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()
