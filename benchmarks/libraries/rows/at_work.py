"""What the rows of the table share: a job is run to its end in virtual time, with a bound in real time."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Generator
from typing import Any

from benchmarks.libraries.tables import stall_seconds

from job_harness import JobHarness, JobResult

SLOW_SECONDS = 0.2
"""Real seconds that a slow answer takes: virtual time has to wait for it."""


def done(output: Any = None) -> JobResult:
    """Return a success."""
    return JobResult(success=True, output=output)


def output_of(harness: JobHarness, processor: Any, *, warm: bool = False) -> Any:
    """Run a job, once before where an import is not to be counted; return its output.

    Fails where it did not succeed at once, or took more real time than a stall takes.
    """
    slug = processor.__name__.replace("_", "-")
    harness.register(slug, processor)
    for _ in range(2 if warm else 1):
        job = harness.enqueue(slug)
        began = time.perf_counter()
        harness.run_until_idle()
        passed = time.perf_counter() - began
    assert (job.status, job.attempts, job.error) == ("COMPLETED", 1, None)
    assert passed < stall_seconds(), f"it took {passed:.1f} s of real time"
    return job.output


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(SLOW_SECONDS)
        body = b'{"ok": true}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815 - its name says which method it answers

    def log_message(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def http_server() -> Generator[str]:
    """Serve on a port of this machine, with connections that stay open; yield the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
