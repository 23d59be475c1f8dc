"""The request that creates a job: a template, filled in and sent. Knows no table."""

from __future__ import annotations

import json
import re
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass, field, fields, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from harness.errors import EnvironmentUnavailable, UsageError, clipped, did_you_mean
from harness.verify.budget import ANSWER_BYTES, ANSWER_SECONDS, shown, within_budget

SECTION: Final = "tool.job-harness.verify"
LONGEST_ID: Final = 500
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What HTTP takes as a method, or as the name of a header."""


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

    Raises UsageError for what is no such file, for keys that there are not, and for values that cannot be sent.
    """
    data = _read(path)
    table: Any = data
    for key in SECTION.split("."):
        table = table.get(key) if isinstance(table, dict) else None
    if table is None:
        table = {} if data.keys() & {"project", "build-system", "tool"} else data
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {SECTION} is no table", hint=f"Write [{SECTION}].")
    known = [item.name for item in fields(Template)]
    for key in table:
        if key not in known:
            raise UsageError(
                f"{path}: no such key: {clipped(key)}{did_you_mean(key, known)}", hint=f"There are {', '.join(known)}."
            )
    for key in ("path", "method", "id", "health"):
        if not isinstance(table.get(key, ""), str):
            raise UsageError(f"{path}: {key} is {clipped(table[key])}, and must be text", hint=f'Write {key} = "...".')
    template = replace(Template(), **table)
    _check_request(path, template)
    return template


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(ANSWER_BYTES + 1)
        if len(content) > ANSWER_BYTES:
            raise ValueError(f"it has more than {ANSWER_BYTES} bytes")
        return tomllib.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as TOML: {error}", hint="docs/verify.md shows one.") from None


def _check_request(path: Path, template: Template) -> None:
    """See that the request can be sent, so that what fails later is the system's."""
    if not _TOKEN.fullmatch(template.method):
        raise UsageError(f"{path}: {clipped(template.method)} is no HTTP method", hint='Write method = "POST".')
    if not isinstance(template.headers, dict):
        raise UsageError(f"{path}: headers is no table", hint='Write headers = {"x-session-id" = "me"}.')
    for name, value in template.headers.items():
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not _TOKEN.fullmatch(name):
            raise UsageError(
                f"{path}: the header {clipped(name)} is {clipped(value)}, and must be printable ASCII text",
                hint='Write headers = {"x-session-id" = "me"}.',
            )
    try:
        json.dumps(template.body, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: body cannot be sent as JSON: {error}", hint="Write dates and times as text, in quotes."
        ) from None


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
    if not _is_id(found):
        raise UsageError(
            f"the answer of {template.method} {template.path} has no id at {template.id!r}: {_gist(answer)}",
            hint=f"Say where it stands with id in [{SECTION}].",
        )
    return str(found)


def _is_id(found: Any) -> bool:
    """Whether it can be one: what no database stores is none."""
    if isinstance(found, bool) or not isinstance(found, str | int):
        return False
    return 0 < len(str(found)) <= LONGEST_ID and str(found).isprintable()


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
    return shown(workers.get("reason") or f"{template.health} says that workers are not enabled")


def _sent(base: str, path: str, method: str, headers: dict[str, str], body: Any) -> tuple[int, bytes]:
    url = base.rstrip("/") + path
    data = None if body is None else json.dumps(body).encode()
    given = {**({} if data is None else {"content-type": "application/json"}), **headers}
    try:
        if not url.startswith(("http://", "https://")) or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("it has to begin with http:// and to be printable ASCII")
        request = urllib.request.Request(url, data=data, headers=given, method=method)
        _ = urlsplit(url).port  # It is looked at only here.
    except ValueError as error:
        raise UsageError(
            f"{clipped(url)} is no URL: {error}", hint="Name a base URL such as http://127.0.0.1:8080."
        ) from None
    what = f"{method} {clipped(url, longest=200)[1:-1]}"
    try:
        return within_budget(lambda: _answer(request), what=what)
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise EnvironmentUnavailable(
            f"{what}: nobody answers: {shown(reason) or type(error).__name__}",
            hint="Start the api-server, or name its base URL.",
        ) from None


def _answer(request: urllib.request.Request) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            return response.status, response.read(ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(ANSWER_BYTES)


def _json(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _gist(answer: bytes) -> str:
    return shown(answer[: ANSWER_BYTES // 100].decode("utf-8", "replace")) or "nothing"
