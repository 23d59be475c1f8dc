"""One job through a running system, as its user would send it: created by its own API, watched in its own table.

Hides the template of the request (TOML), the looks at the user's table (read-only), the limit on
each question to a system that may never answer, and what each outcome most likely means: PENDING,
PROCESSING and COMPLETED in time, or what happened instead and the first cause. Knows no engine.
"""

from __future__ import annotations

import json
import re
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from psycopg.sql import SQL, Composed

from job_harness.errors import EnvironmentUnavailable, ExitCode, UsageError, available, clipped, did_you_mean
from job_harness.review.check.database import LIMIT_SECONDS, JobTable, TooSlow, find_tables, read_only
from job_harness.worlds.patience import Deadline

if TYPE_CHECKING:
    import httpx

# how long one question may take ---------------------------------------------------------------------------------------


ANSWER_SECONDS: Final = 30.0
"""For one question, from its first byte to the last byte of the answer."""
ANSWER_BYTES: Final = 1_000_000
"""Of one answer; what comes after is not read."""
SHOWN: Final = 300
"""Characters of what the system says that are shown."""

Answer = TypeVar("Answer")


def within_budget(ask: Callable[[], Answer], *, what: str, seconds: float = ANSWER_SECONDS) -> Answer:
    """Return what `ask` returns, or raise what it raises.

    A limit on each read of a socket is none on the whole: an answer may drip forever. So the
    question is asked on a thread that may be left behind.

    Raises EnvironmentUnavailable where it takes longer; `what` is what was asked.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - it is raised again by the caller
            errors.append(error)

    asking = threading.Thread(target=run, name=f"verify: {what}", daemon=True)
    asking.start()
    asking.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise EnvironmentUnavailable(
            f"{what}: no complete response within {seconds:g} s", hint="Check what it is doing, and look at its log."
        )
    return answers[0]


def write_short(value: object, *, longest: int = SHOWN) -> str:
    """Return a value of the system's as one line of bounded length."""
    text = " ".join(str(value)[: 20 * longest].split())
    return text if len(text) <= longest else f"{text[:longest]}..."


# the request ----------------------------------------------------------------------------------------------------------


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

    Raises UsageError if the file does not exist, for unknown keys, and for values that cannot be
    sent.
    """
    data = _read(path)
    table: Any = data
    for key in SECTION.split("."):
        table = table.get(key) if isinstance(table, dict) else None
    if table is None:
        table = {} if data.keys() & {"project", "build-system", "tool"} else data
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {SECTION} is not a table", hint=f"Write [{SECTION}].")
    known = [item.name for item in fields(Template)]
    for key in table:
        if key not in known:
            raise UsageError(f"{path}: no such key: {clipped(key)}{did_you_mean(key, known)}", hint=available(known))
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
        raise UsageError(f"{path}: {clipped(template.method)} is not an HTTP method", hint='Write method = "POST".')
    if not isinstance(template.headers, dict):
        raise UsageError(f"{path}: headers is not a table", hint='Write headers = {"x-session-id" = "me"}.')
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


def check_url(base: str, template: Template) -> None:
    """Make the request, and do not send it. Raises UsageError where the URL is none."""
    _request(base, template.path, template.method, template.headers, template.body)


def create_job(base: str, template: Template) -> str:
    """Send the request; return the job's id.

    Raises EnvironmentUnavailable where no server answers, UsageError where the API refuses or
    answers without an id.
    """
    status, answer = _sent(base, template.path, template.method, template.headers, template.body)
    if not 200 <= status < 300:
        raise UsageError(
            f"{template.method} {template.path} returned {status}: {_gist(answer)}",
            hint=f"Adapt the request in [{SECTION}] of a file that you name with --config.",
        )
    found: Any = _json(answer)
    for key in template.id.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if not _is_id(found):
        raise UsageError(
            f"the response to {template.method} {template.path} has no id at {template.id!r}: {_gist(answer)}",
            hint=f"Say where it is, with id in [{SECTION}].",
        )
    return str(found)


def _is_id(found: Any) -> bool:
    """Whether it can be one: what no database stores is none."""
    if isinstance(found, bool) or not isinstance(found, str | int):
        return False
    return 0 < len(str(found)) <= LONGEST_ID and str(found).isprintable()


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
    return write_short(workers.get("reason") or f"{template.health} says that workers are not enabled")


def _request(base: str, path: str, method: str, headers: dict[str, str], body: Any) -> httpx.Request:
    import httpx

    url = base.rstrip("/") + path
    data = None if body is None else json.dumps(body).encode()
    given = {**({} if data is None else {"content-type": "application/json"}), **headers}
    try:
        if not url.startswith(("http://", "https://")) or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("it has to begin with http:// and to be printable ASCII")
        _ = urlsplit(url).port  # It is looked at only here.
        return httpx.Request(method, url, headers=given, content=data)
    except (ValueError, httpx.InvalidURL) as error:
        raise UsageError(
            f"{clipped(url)} is not a URL: {error}", hint="Name a base URL such as http://127.0.0.1:8080."
        ) from None


def _sent(base: str, path: str, method: str, headers: dict[str, str], body: Any) -> tuple[int, bytes]:
    import httpx

    request, url = _request(base, path, method, headers, body), base.rstrip("/") + path
    what = f"{method} {clipped(url, longest=200)[1:-1]}"
    try:
        return within_budget(lambda: _answer(request), what=what)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        refused = isinstance(error, httpx.ConnectError) and "refused" in str(error)
        why = "connection refused" if refused else write_short(error) or type(error).__name__
        raise EnvironmentUnavailable(
            f"{what}: no server answers at {clipped(base)[1:-1]} ({why})",
            hint="Start the api-server, or name its base URL.",
        ) from None


def _answer(request: httpx.Request) -> tuple[int, bytes]:
    import httpx

    with httpx.Client(timeout=ANSWER_SECONDS, follow_redirects=True) as client:
        response = client.send(request, stream=True)
        try:
            content = bytearray()
            for part in response.iter_bytes():
                content += part
                if len(content) >= ANSWER_BYTES:
                    break
            return response.status_code, bytes(content[:ANSWER_BYTES])
        finally:
            response.close()


def _json(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _gist(answer: bytes) -> str:
    return write_short(answer[: ANSWER_BYTES // 100].decode("utf-8", "replace")) or "nothing"


# the looks ------------------------------------------------------------------------------------------------------------


LOOK_EVERY_SECONDS: Final = 0.05
_MOST: Final = SQL("2000")
"""Characters that are read of what the system wrote."""
ENDS: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class Seen(NamedTuple):
    """One status, and the seconds after the job's creation at which it was first seen."""

    status: str
    after: float


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """What was seen of the job."""

    statuses: tuple[Seen, ...]
    started: bool
    """Whether the row says that it was ever started; a short run may pass between two looks."""
    error: str | None
    in_time: bool
    """Whether it ended before its time was up."""
    gone: bool = False
    """Whether its row was there, and was not any more at the last look."""

    @property
    def last(self) -> str | None:
        """The last status."""
        return self.statuses[-1].status if self.statuses else None


@dataclass(frozen=True, slots=True)
class JobLook:
    """How the row of one job is read."""

    query: Composed
    """Returns status, started (null: it never was) and error of the row with the id `%(job)s`."""
    table: str
    """What reports call the table."""
    status: Mapping[str, str] = field(default_factory=dict)
    """What its statuses mean, where they are called otherwise."""
    no_worker: str = "no worker took it: are workers running, on this database?"


def watched_table(dsn: str) -> JobLook:
    """Say how `tool_job` shows how a job goes.

    Raises EnvironmentUnavailable without the database, UsageError where it has no such table.
    """
    users = within_budget(lambda: _users(dsn), what="the database")
    if users is None:
        raise UsageError(
            "the database has no table tool_job with an id and a status",
            hint="Name the database of the reference application with --dsn. For a table of your own, name the file "
            "that describes it: --jobs queue.yaml.",
        )
    error = SQL("left(t.error::text, {most})").format(most=_MOST) if "error" in users.defaults else SQL("null::text")
    query = SQL(
        "SELECT left(t.status::text, {most}) AS status, {started} AS started, {error} AS error "
        "FROM {table} t WHERE {id}"
    ).format(
        started=users.column("t", "started"),
        error=error,
        table=users.full,
        id=SQL("{}::text = %(job)s").format(users.column("t", "id")),
        most=_MOST,
    )
    return JobLook(
        query,
        "tool_job",
        no_worker="no worker took it: are workers running with USE_PGBOSS_WORKERS=true, on this database, with the "
        "tool registered?",
    )


def described_jobs(called: str, rows: str, *, columns: Mapping[str, str], status: Mapping[str, str]) -> JobLook:
    """Say how a table of the user's own shows how a job goes: `columns` are SQL over a row `job` of `rows`.

    Raises UsageError where nothing would tell that a job was started: a short run may pass between
    two looks.
    """
    started = columns.get("started_at") or (f"NULLIF({columns['attempts']}, 0)" if "attempts" in columns else "")
    if not started:
        raise UsageError(
            f"{called}: it shows neither started_at nor attempts, so a short run could not be told from none",
            hint="Add one of these columns.",
        )
    error, job = columns.get("error", "NULL"), columns["id"]
    shows = (
        f"left(({columns['status']})::text, 2000) AS status, {started} AS started, left(({error})::text, 2000) AS error"
    )
    text: Any = f"SELECT {shows} FROM {rows} AS job WHERE ({job})::text = ".replace("%", "%%") + "%(job)s"
    return JobLook(SQL(text).format(), called, status)


def check_look(dsn: str, jobs: JobLook) -> None:
    """Look for a job that is not there: one that cannot be watched is not sent.

    Raises EnvironmentUnavailable where the database does not answer, or refuses the query.
    """
    _row(dsn, jobs, "")


def watch(
    dsn: str,
    jobs: JobLook,
    job: str,
    *,
    start_within: float,
    end_within: float,
    told: Callable[[Seen], None] = lambda seen: None,
) -> WatchedJob:
    """Look at the job until it ends; it has this many seconds to start, and then as many to end.

    Raises EnvironmentUnavailable without the database.
    """
    statuses: list[Seen] = []
    whole = Deadline(start_within + end_within)
    deadline = Deadline(start_within)
    row: dict[str, Any] = {}
    while True:
        found = _row(dsn, jobs, job)
        row = found or row
        status = _text(row.get("status"))
        status = jobs.status.get(status, status) if status is not None else None
        if status is not None and (not statuses or statuses[-1].status != status):
            statuses.append(Seen(status, whole.seconds - whole.left))
            told(statuses[-1])
            if status == "PROCESSING" and len(statuses) <= len(("PENDING", "PROCESSING")):
                deadline = Deadline(end_within)
        if status in ENDS or deadline.passed:
            return WatchedJob(
                tuple(statuses),
                row.get("started") is not None,
                _text(row.get("error")),
                in_time=status in ENDS,
                gone=bool(row) and not found,
            )
        deadline.pause(LOOK_EVERY_SECONDS)


def _users(dsn: str) -> JobTable | None:
    with read_only(dsn, option="--dsn") as session:
        return find_tables(session).users


def _row(dsn: str, jobs: JobLook, job: str) -> dict[str, Any] | None:
    def look() -> list[dict[str, Any]]:
        with read_only(dsn, option="--dsn") as session:
            return session.rows(jobs.query, {"job": job})

    try:
        rows = within_budget(look, what="the database")
    except TooSlow:
        raise EnvironmentUnavailable(
            f"the database took more than {LIMIT_SECONDS} s to show the job {job}",
            hint=f"Is {jobs.table} locked, or without an index on its id?",
        ) from None
    return rows[0] if rows else None


def _text(value: Any) -> str | None:
    return None if value is None else write_short(value)


# the judgement --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrialResult:
    """`problem` is empty where all is well; `cause` is the first cause, where one is known."""

    job: str
    watched: WatchedJob
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


def judge_trial(
    job: str,
    watched: WatchedJob,
    jobs: JobLook,
    *,
    start_within: float,
    end_within: float,
    workers_off: str | None,
) -> TrialResult:
    """Judge what was seen."""
    seen = [item.status for item in watched.statuses]
    if not seen:
        return TrialResult(
            job,
            watched,
            f"the job is not in {jobs.table}",
            "the API acknowledged a job without a row, or --dsn names another database than the api-server uses",
        )
    if watched.gone and not watched.in_time:
        cause = "something deletes jobs before they have ended, or as they end: verify looks for a row that stays"
        return TrialResult(job, watched, f"its row was deleted after it was {watched.last}", cause)
    if not watched.started and watched.last == "PENDING":
        return TrialResult(job, watched, f"still PENDING after {start_within:g} s", workers_off or jobs.no_worker)
    if watched.last in ("FAILED", "CANCELLED"):
        return TrialResult(job, watched, f"the job is {watched.last}", watched.error or "the row has no error")
    if not watched.in_time:
        cause = "it failed and waits for a retry: " + watched.error if watched.error else "the processor still runs"
        if "PROCESSING" not in seen:  # A run may have begun and failed between two looks.
            return TrialResult(job, watched, f"still {watched.last} after {start_within:g} s", cause)
        return TrialResult(job, watched, f"{watched.last} {end_within:g} s after it started", cause)
    if not watched.started and "PROCESSING" not in seen:
        return TrialResult(
            job, watched, "COMPLETED without ever being PROCESSING", "its row says that it was never started"
        )
    return TrialResult(job, watched)
