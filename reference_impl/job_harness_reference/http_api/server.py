"""The HTTP face under uvicorn. A module of its own, so that only who serves imports a web framework."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from job_harness_reference.config import Config
from job_harness_reference.http_api.application import RunMaintenance, create_app
from job_harness_reference.queue import JobQueue


class ApiServer(uvicorn.Server):
    """Leaves the signals to its caller, who has a worker to stop as well."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def server_of(queue: JobQueue, maintenance: RunMaintenance, *, config: Config, request_seconds: int) -> ApiServer:
    """Make the server; requests in flight hold up its end for `request_seconds` at most."""
    application = create_app(queue=queue, maintenance=maintenance, config=config)
    return ApiServer(uvicorn.Config(application, log_config=None, timeout_graceful_shutdown=request_seconds))
