"""PostgreSQL in a container, where Docker answers. Imports testcontainers only when asked."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import socket
import warnings
from collections.abc import Mapping
from typing import Any

from harness.errors import EnvironmentUnavailable
from harness.extras import install

DEFAULT_IMAGE = "postgres:17-alpine"
DEFAULT_HOST = "unix:///var/run/docker.sock"
IMAGE_VARIABLE = "JOB_HARNESS_POSTGRES_IMAGE"


def image_name(environ: Mapping[str, str] | None = None) -> str:
    """Name the image to run: JOB_HARNESS_POSTGRES_IMAGE, else a current PostgreSQL."""
    return (os.environ if environ is None else environ).get(IMAGE_VARIABLE) or DEFAULT_IMAGE


def unavailable_reason(*, timeout_seconds: int = 5) -> str:
    """Say why no container can be started, or nothing if Docker answers and has the image or can fetch it."""
    if importlib.util.find_spec("testcontainers") is None:
        return "the package testcontainers is not installed"
    reason = _socket_reason(os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
    if reason:
        return reason
    import docker
    from docker.errors import DockerException

    client = None
    try:
        client = docker.from_env(timeout=timeout_seconds)
        client.ping()
    except DockerException as error:
        return f"Docker does not answer ({_first_line(error)})"
    finally:
        if client is not None:
            client.close()
    return ""


def _socket_reason(host: str) -> str:
    """Say why a Unix socket does not answer. Asking first spares an import and a socket left open on failure."""
    if not host.startswith("unix://"):
        return ""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        try:
            connection.connect(host.removeprefix("unix://"))
        except OSError as error:
            return f"Docker does not answer at {host} ({error.strerror or error})"
    return ""


class Container:
    """One PostgreSQL container."""

    def __init__(self, image: str, *, started: Any) -> None:
        self.image = image
        self._started = started

    @classmethod
    def start(cls, image: str | None = None) -> Container:
        """Start a container and wait until it answers. Raises EnvironmentUnavailable with Docker's words."""
        reason = unavailable_reason()
        if reason:
            raise EnvironmentUnavailable(reason, hint=f"Start Docker, or bring binaries with: {install('embedded')}")
        name = image_name() if image is None else image
        from docker.errors import DockerException

        with warnings.catch_warnings():
            # Its own deprecations are not the caller's to repair.
            warnings.simplefilter("ignore")
            module = _postgres_module()
            started = module.PostgresContainer(
                name, username="postgres", password="postgres", dbname="postgres", driver=None
            )
            try:
                started.start()
            except BaseException as error:
                _remove(started)
                if isinstance(error, (DockerException, OSError, RuntimeError, TimeoutError)):
                    raise EnvironmentUnavailable(
                        f"the image {name} did not start: {_first_line(error)}",
                        hint=f"Pull it, or name another one in {IMAGE_VARIABLE}.",
                    ) from error
                raise
        return cls(name, started=started)

    @property
    def url(self) -> str:
        """The connection string over TCP."""
        return str(self._started.get_connection_url(driver=None)).replace("@localhost:", "@127.0.0.1:")

    def stop(self) -> None:
        """Stop and remove the container with its volume."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._started.stop()


def _postgres_module() -> Any:
    """The module moved between releases of testcontainers."""
    for name in ("testcontainers.community.postgres", "testcontainers.postgres"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise EnvironmentUnavailable(
        "testcontainers has no PostgreSQL module", hint="Install a release that has it, 4.8 or newer."
    )


def _remove(started: Any) -> None:
    try:
        started.stop()
    except Exception:  # noqa: BLE001 - the first error is the one to report
        return


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
