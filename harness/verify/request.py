"""The request that creates a job: a template, filled in and sent. Knows no table."""

from __future__ import annotations

import json
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from harness.errors import EnvironmentUnavailable, UsageError, did_you_mean

SECTION: Final = "tool.job-harness.verify"
ANSWER_SECONDS: Final = 30
LARGEST: Final = 1_000_000
SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Template:
    """How a job is created. The defaults are those of the reference queue's API."""

    path: str = "/api/jobs"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: {"x-session-id": "job-harness-verify"})
    body: Any = field(default_factory=lambda: {"toolSlug": "word-count", "input": {"text": "to be or not to be"}})
    id: str = "id"
    """Where the job's id stands in the answer, as keys with dots between them."""
    health: str = "/healthz"
    """What says whether workers run; empty: nothing does."""


def read_template(path: Path) -> Template:
    """Read a TOML file: its table `[tool.job-harness.verify]`, or else the whole of it.

    Raises UsageError for what is no such file, and for keys that there are not.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as TOML: {error}", hint="docs/verify.md shows one.") from None
    table = data.get("tool", {}).get("job-harness", {}).get("verify")
    if table is None:
        table = {} if "project" in data or "build-system" in data else data
    known = [item.name for item in fields(Template)]
    for key in table:
        if key not in known:
            raise UsageError(
                f"{path}: no such key: {key!r}{did_you_mean(key, known)}", hint=f"There are {', '.join(known)}."
            )
    for key in ("path", "method", "id", "health"):
        if not isinstance(table.get(key, ""), str):
            raise UsageError(f"{path}: {key} is {table[key]!r}, and must be text", hint=f'Write {key} = "...".')
    if not isinstance(table.get("headers", {}), dict):
        raise UsageError(f"{path}: headers is no table", hint='Write headers = {"x-session-id" = "me"}.')
    return replace(Template(), **table)


def create_job(base: str, template: Template) -> str:
    """Send the request; answer the job's id.

    Raises EnvironmentUnavailable where nobody answers, UsageError where the API refuses or answers without an id.
    """
    status, answer = _sent(base, template.path, template.method, template.headers, template.body)
    if not 200 <= status < 300:
        raise UsageError(
            f"{template.method} {template.path} was answered with {status}: {_gist(answer)}",
            hint=f"Adapt the request in [{SECTION}] of a file that you name with --config.",
        )
    found: Any = _json(answer)
    for key in template.id.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise UsageError(
            f"the answer of {template.method} {template.path} has no id at {template.id!r}: {_gist(answer)}",
            hint=f"Say where it stands with id in [{SECTION}].",
        )
    return str(found)


def workers_off(base: str, template: Template) -> str | None:
    """Answer why no worker runs, where the health endpoint says so; None where it says nothing."""
    if not template.health:
        return None
    try:
        _, answer = _sent(base, template.health, "GET", {}, None)
    except (EnvironmentUnavailable, UsageError):
        return None
    told = _json(answer)
    workers = told.get("workers") if isinstance(told, dict) else None
    if not isinstance(workers, dict) or workers.get("enabled") is not False:
        return None
    return str(workers.get("reason") or f"{template.health} says that workers are not enabled")


def _sent(base: str, path: str, method: str, headers: dict[str, str], body: Any) -> tuple[int, bytes]:
    url = base.rstrip("/") + path
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{base!r} is no base URL", hint="Name one such as http://127.0.0.1:8080.")
    data = None if body is None else json.dumps(body).encode()
    given = {**({} if data is None else {"content-type": "application/json"}), **headers}
    request = urllib.request.Request(url, data=data, headers=given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            return response.status, response.read(LARGEST)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(LARGEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise EnvironmentUnavailable(
            f"{method} {url}: nobody answers: {reason}", hint="Start the api-server, or name its base URL."
        ) from None


def _json(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return None


def _gist(answer: bytes) -> str:
    text = " ".join(answer.decode("utf-8", "replace").split())
    return text[:SHOWN] or "nothing"
