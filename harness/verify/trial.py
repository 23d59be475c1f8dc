"""One job through a running system, as its user would send it: created by its own API, watched in its own table.

Hides the template of the request (TOML), the looks at the user's table (read-only) and what each outcome most likely
means: PENDING, PROCESSING and COMPLETED in time, or what happened instead and the first cause. Knows no engine.
"""

from __future__ import annotations

import json
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from psycopg.sql import SQL

from harness.errors import EnvironmentUnavailable, ExitCode, UsageError, did_you_mean
from harness.lint.database import JobTable, find_tables, read_only
from harness.postgres.patience import Deadline

# the request ----------------------------------------------------------------------------------------------------------


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
    """Return why no worker runs, where the health endpoint says so; None where it says nothing."""
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


# the looks ------------------------------------------------------------------------------------------------------------


LOOK_EVERY_SECONDS: Final = 0.05
ENDS: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class Seen(NamedTuple):
    """One status, and the seconds after the job's creation at which it was first seen."""

    status: str
    after: float


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen of the job."""

    statuses: tuple[Seen, ...]
    started: bool
    """Whether the row says that it was ever started; a short run may pass between two looks."""
    error: str | None
    in_time: bool
    """Whether it ended before its time was up."""

    @property
    def last(self) -> str | None:
        """The last status."""
        return self.statuses[-1].status if self.statuses else None


def watch(
    dsn: str, job: str, *, start_within: float, end_within: float, told: Callable[[Seen], None] = lambda seen: None
) -> Watched:
    """Look at the job until it ends; it has so many seconds to start, and then so many to end.

    Raises EnvironmentUnavailable without the database, UsageError where it has no `tool_job`.
    """
    with read_only(dsn) as session:
        users = find_tables(session).users
    if users is None:
        raise UsageError(
            "the database has no table tool_job with an id and a status",
            hint="Name the database that the api-server writes to with --dsn.",
        )
    statuses: list[Seen] = []
    whole = Deadline(start_within + end_within)
    deadline = Deadline(start_within)
    row: dict[str, Any] = {}
    while True:
        row = _row(dsn, users, job) or row
        status = row.get("status")
        if status is not None and (not statuses or statuses[-1].status != status):
            statuses.append(Seen(status, whole.seconds - whole.left))
            told(statuses[-1])
            if status == "PROCESSING" and len(statuses) <= len(("PENDING", "PROCESSING")):
                deadline = Deadline(end_within)
        if status in ENDS or deadline.passed:
            return Watched(
                tuple(statuses), row.get("started") is not None, _text(row.get("error")), in_time=status in ENDS
            )
        deadline.pause(LOOK_EVERY_SECONDS)


def _row(dsn: str, users: JobTable, job: str) -> dict[str, Any] | None:
    error = SQL("t.error::text") if "error" in users.defaults else SQL("null::text")
    query = SQL(
        "SELECT t.status::text AS status, {started} AS started, {error} AS error FROM {table} t WHERE {id}"
    ).format(
        started=users.column("t", "started"),
        error=error,
        table=users.full,
        id=SQL("{}::text = %(job)s").format(users.column("t", "id")),
    )
    with read_only(dsn) as session:
        rows = session.rows(query, {"job": job})
    return rows[0] if rows else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


# the judgement --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrialResult:
    """`problem` is empty where all is well; `cause` is the first cause, where one is known."""

    job: str
    watched: Watched
    problem: str = ""
    cause: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """What a command answers."""
        return ExitCode.FAIL if self.problem else ExitCode.PASS

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "verdict": "fail" if self.problem else "pass",
            "job": self.job,
            "statuses": [{"status": seen.status, "seconds": round(seen.after, 3)} for seen in self.watched.statuses],
            "problem": self.problem,
            "cause": self.cause,
        }


def judged(
    job: str, watched: Watched, *, start_within: float, end_within: float, workers_off: str | None
) -> TrialResult:
    """Judge what was seen."""
    seen = [item.status for item in watched.statuses]
    if not seen:
        return TrialResult(
            job,
            watched,
            "the job is not in tool_job",
            "the API acknowledged a job without a row, or --dsn names another database than the api-server uses",
        )
    if not watched.started and watched.last == "PENDING":
        cause = workers_off or (
            "no worker took it: are workers running with USE_PGBOSS_WORKERS=true, on this database, "
            "with the tool registered?"
        )
        return TrialResult(job, watched, f"still PENDING after {start_within:g} s", cause)
    if watched.last in ("FAILED", "CANCELLED"):
        return TrialResult(job, watched, f"the job is {watched.last}", watched.error or "the row has no error")
    if not watched.in_time:
        cause = "it failed and waits for a retry: " + watched.error if watched.error else "the processor still runs"
        return TrialResult(job, watched, f"{watched.last} {end_within:g} s after it started", cause)
    if not watched.started and "PROCESSING" not in seen:
        return TrialResult(
            job, watched, "COMPLETED without ever being PROCESSING", "startedAt is empty: nobody says who ran it"
        )
    return TrialResult(job, watched)
