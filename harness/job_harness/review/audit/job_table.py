"""A table of jobs, described in YAML: which expression tells what of a row, and what its statuses mean.

The tables of the queues that are known by name are described in the same way, in `tables/`. A row
becomes a `JobView`; what is not described is unknown. A table whose rows have a time `at` has a row
for each change and is read as a log.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError

from job_harness.core.calendars import zone_problem
from job_harness.core.model import PARTNERS, SECOND, Instant, JobView, QueueState, Status
from job_harness.core.scenario.document import Problem, ScenarioError, YamlDocument, read_document
from job_harness.core.scenario.reader import problems_of
from job_harness.core.scenario.schema import NoNulls, Text, described
from job_harness.core.yaml_files import LARGEST
from job_harness.errors import UsageError, did_you_mean
from job_harness.review.audit.evidence import NEVER, UNKNOWN, blank

COLUMNS: Final[Mapping[str, str]] = {
    "id": "the job's id",
    "status": "its status, one of those under `status`",
    "at": "in a table with one row for each change: when the change was made",
    "tool": "which kind of job it is",
    "priority": "higher is first",
    "attempts": "how often it was delivered, including the current delivery",
    "max_attempts": "how often it may be delivered",
    "token": "what distinguishes one claim from the next; without it, attempts and started_at do",
    "worker": "who holds it",
    "created_at": "when it was sent",
    "start_after": "the earliest time at which it may be claimed",
    "started_at": "when it was last claimed",
    "lease_until": "when its claim ends",
    "completed_at": "when it ended",
    "unique_key": "a key that only one unfinished job of its kind may have",
    "output": "its result; only a hash of it leaves the database",
    "error": "its error; only a hash of it leaves the database",
    "partner": "the status in the queue's own table, where the user's table has another: PENDING, PROCESSING, ...",
}
"""What a description may say of a row, each as an SQL expression over `job`."""
NEEDED: Final = ("id", "status")
TIMES: Final = ("at", "created_at", "start_after", "started_at", "lease_until", "completed_at")
NUMBERS: Final = ("priority", "attempts", "max_attempts")
TEXTS: Final = ("tool", "worker", "unique_key")
ENDLESS: Final = ("start_after", "lease_until")
"""What may lie at infinity: a job that is never due, a claim without an end. Any other such time is unknown."""
HASHED: Final = ("output", "error")
NEITHER: Final = "ignored"
"""What a status means that says nothing of the job's life."""
_HINT: Final = "docs/audit.md shows a whole description."


class DescribedTablePart(NoNulls):
    """A description of a table, format 1."""

    nullable: ClassVar[frozenset[str]] = frozenset()

    format: Literal[1]
    jobs: Annotated[Text, Field(min_length=1, max_length=100)]
    """What reports call it."""
    table: Annotated[Text, Field(min_length=1)]
    """Where the rows are, with its schema: what a trigger is put on."""
    rows: Annotated[Text, Field(min_length=1)] | None = None
    """What to read instead of the table: a SELECT in brackets, such as one that joins it with another."""
    columns: dict[str, Text]
    status: dict[str, Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED", "ignored"]]
    time_zone: Annotated[Text, Field(min_length=1)] | None = None
    """What times without a time zone are in; unless it is given, the TimeZone of the database, as for `now()`."""
    deleted: Literal["COMPLETED"] | None = None
    """What the queue means by deleting the row of a job that runs; one that waits is cancelled so."""


@dataclass(frozen=True, slots=True)
class DescribedTable:
    """A table of jobs that is described."""

    name: str
    table: str
    rows: str
    columns: Mapping[str, str]
    status: Mapping[str, Status | None]
    path: str = ""
    """The file that describes it; empty for one that is known by name."""
    deletes: bool = False
    """Whether the queue ends a job by deleting its row."""
    time_zone: str | None = None
    """What times are in that have no time zone; None: the database's own."""
    logged: bool = False
    """Whether it is read from a log, which keeps the description that it was installed with."""
    without: Mapping[str, str] = field(default_factory=dict)
    """The anomalies that its file expects, each with the reason."""

    @property
    def changes(self) -> bool:
        """Whether it has one row for each change."""
        return "at" in self.columns

    def entry(self) -> str:
        """Return the SQL expression of a JSON object that holds what is described of the row `job`."""
        fields = ", ".join(f"'{name}', {_sql_of(name, sql)}" for name, sql in self.columns.items())
        return f"jsonb_build_object({fields})"

    def deletion_of(self, status: Status | None) -> Status | None:
        """Return how a job of this status has ended whose row is deleted; None where that says nothing."""
        ends = {Status.PROCESSING: Status.COMPLETED, Status.PENDING: Status.CANCELLED}
        return ends.get(status) if self.deletes and status is not None else None

    def ended(self, view: JobView, at: Instant) -> JobView | None:
        """Return a job whose row was deleted as it ended then; None where that says nothing."""
        status = self.deletion_of(view.status)
        if status is None:
            return None
        state = blank("", status).queue_state
        return view._replace(status=status, queue_state=state, worker=None, lease_until=None, completed_at=at)

    def view(self, entry: Mapping[str, Any], reading: Reading, *, token: int | None = None) -> JobView | None:
        """Return a row as a view; None where its status is NULL or says nothing of the job's life.

        Raises UsageError for an unknown status, and for a value that is no time or no number.
        """
        shown, job, called = entry["status"], entry["id"], self.path or self.name
        if shown is None:
            reading.say("status", f"not judged: jobs whose status is NULL, such as the job {job}")
            return None
        try:
            status = self.status[str(shown)]
        except KeyError:
            raise self._unknown_status(str(shown), job) from None
        if status is None:
            return None
        known = {name: value for name, value in entry.items() if value is not None and name not in _OTHERWISE}
        for name in _KEPT_TIMES:
            if name in known:
                at = reading.instant(known.pop(name), f"{called}: {name} of the job {job}")
                if at is not None and (at != NEVER or name in ENDLESS):
                    known[name] = at
        for name in NUMBERS:
            if name in known:
                known[name] = _number(known[name], f"{called}: {name} of the job {job}")
        for name in TEXTS:
            if name in known:
                known[name] = str(known[name])
        known.setdefault("start_after", known.get("created_at", UNKNOWN))
        if token is not None:
            known["token"] = token
        if "partner" in entry:
            partner = entry["partner"]
            known["queue_state"] = None if partner is None else _state_of(str(partner))
        return blank(str(job), status, **known)

    def _unknown_status(self, shown: str, job: Any) -> UsageError:
        again = "run `job-harness audit --install` for it with --yes again: the log uses the installed description. "
        return UsageError(
            f"{self.path or self.name}: `status` does not say what {shown!r} means, the status of the job {job}"
            f"{did_you_mean(shown, self.status)}",
            hint=f"Add it to `status` of the description, as one of {', '.join(Status)} or {NEITHER}"
            f"{f', and {again}' if self.logged else '. '}{_HINT}",
        )


_KEPT_TIMES: Final = tuple(name for name in TIMES if name != "at")
_OTHERWISE: Final = frozenset({"id", "status", "at", "partner", "token"})


def _state_of(partner: str) -> QueueState:
    try:
        return QueueState.RETRY if partner == QueueState.RETRY else min(PARTNERS[Status(partner)])
    except ValueError:
        raise UsageError(
            f"`partner` is {partner!r}, which is not a status",
            hint=f"Its expression gives {', '.join(Status)}, {QueueState.RETRY} (PENDING after a failure) or NULL.",
        ) from None


def _sql_of(name: str, sql: str) -> str:
    if name in HASHED:
        return f"md5(({sql})::text)"
    return f"({sql})::text" if name == "id" else f"({sql})"


def _number(value: Any, what: str) -> int:
    if isinstance(value, int | float) and value == int(value):
        return int(value)
    raise UsageError(
        f"{what} is {value!r}, which is not a whole number", hint="Name another column, or convert it: ::int"
    )


class Reading:
    """How the values of one source are read; what a reader of the report has to know of it goes into `notes`, once."""

    def __init__(self, zone: str = "UTC", notes: list[str] | None = None, *, chosen: bool = False) -> None:
        self._zone = zone
        """What a time is in that has no time zone."""
        self._found: ZoneInfo | None = None
        self._notes = [] if notes is None else notes
        self._said: set[str] = {"zone"} if chosen else set()

    def say(self, subject: str, note: str) -> None:
        """Note it, unless something was noted of this subject."""
        if subject not in self._said:
            self._said.add(subject)
            self._notes.append(note)

    def instant(self, text: Any, what: str) -> Instant | None:
        """Return a time as PostgreSQL writes it in JSON; NEVER for one after the year 9999, None for -infinity."""
        if isinstance(text, str) and (text == "infinity" or _FAR.match(text)):
            return NEVER
        if text == "-infinity":
            return None
        try:
            read = datetime.fromisoformat(text)
        except (ValueError, TypeError):
            raise UsageError(
                f"{what} is {text!r}, which is not a time",
                hint="Convert it: to_timestamp(job.column / 1000.0) for milliseconds since 1970, or ::timestamptz.",
            ) from None
        if read.tzinfo is None:
            read = read.replace(tzinfo=self._found or self._find_zone(what))
        return instant_of(read)

    def _find_zone(self, what: str) -> ZoneInfo:
        if problem := zone_problem(self._zone):
            raise UsageError(f"{what} has no time zone, and {problem}", hint="Add `time_zone: UTC`, or another zone.")
        self.say(
            "zone",
            f"times without a time zone are read in {self._zone}, the database's TimeZone; set `time_zone` for another",
        )
        self._found = ZoneInfo(self._zone)
        return self._found


_FAR: Final = re.compile(r"[0-9]{5,}-")


def instant_of(read: datetime) -> Instant:
    """Return a time in microseconds since 1970."""
    since = read - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


# reading a description ------------------------------------------------------------------------------------------------


@cache
def known_tables() -> tuple[str, ...]:
    """Return the names of the tables that need no description."""
    files = resources.files("job_harness.review.audit").joinpath("tables").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def description_of(name: str) -> Path:
    """Return the file that describes a table which is known by this name: to be copied where its tables have others."""
    return Path(str(resources.files("job_harness.review.audit").joinpath("tables", f"{name}.yaml")))


def job_table(name: str) -> DescribedTable:
    """Return a table that is known by this name, or that this file describes.

    Raises UsageError for an unknown name, and ScenarioError with `file:line` for what is wrong with
    a file.
    """
    if name in known_tables():
        return read_table(description_of(name).read_bytes(), f"{name}.yaml", path="")
    file = Path(name)
    if not file.is_file():
        near = did_you_mean(name, known_tables())
        raise UsageError(
            f"{name}: no such file, and no known table has that name{near}",
            hint=f"Known are {', '.join(known_tables())}. {_HINT}",
        )
    with file.open("rb") as opened:
        return read_table(opened.read(LARGEST + 1), name, path=name)


def read_table(raw: bytes, called: str, *, path: str) -> DescribedTable:
    """Read a description.

    Raises ScenarioError with `file:line` for what is wrong with it, and UsageError for a file of
    another kind.
    """
    document = read_document(raw, called)
    if not isinstance(document.data, dict):
        raise ScenarioError(
            called, [Problem(1, f"expected a mapping that starts with `format: 1`, not {described(document.data)}")]
        )
    if not {"table", "columns"} & document.data.keys():  # Naming each key of a file of another kind would mislead.
        kind = "this is a queue file" if "claim" in document.data else "this describes no table"
        raise UsageError(f"{called}:1: {kind}: it has no `table` and no `columns`", hint=_HINT)
    try:
        part = DescribedTablePart.model_validate(document.data)
    except ValidationError as error:
        raise ScenarioError(called, problems_of(error, document, DescribedTablePart)) from None
    if problems := [*_problems(part, document)]:
        raise ScenarioError(called, problems)
    return DescribedTable(
        part.jobs,
        part.table,
        part.rows or part.table,
        part.columns,
        {name: None if meaning == NEITHER else Status(meaning) for name, meaning in part.status.items()},
        path,
        deletes=part.deleted is not None,
        time_zone=part.time_zone,
    )


def shown_table(
    name: str, select: str, *, columns: Collection[str], key: str, status: Mapping[str, Status], path: str
) -> DescribedTable:
    """Return what a SELECT shows that calls its columns as descriptions do; `key` is unique for each row."""
    shown = {column: f"job.{column}" for column in COLUMNS if column in columns and column not in ("at", "partner")}
    return DescribedTable(name, "", f"({select})", {**shown, "id": f"job.{key}"}, status, path)


def _problems(part: DescribedTablePart, document: YamlDocument) -> list[Problem]:
    found = [
        Problem(document.line(("columns", name)), f"unknown column {name!r}{did_you_mean(name, COLUMNS)}")
        for name in part.columns
        if name not in COLUMNS
    ]
    if part.time_zone is not None and (problem := zone_problem(part.time_zone)):
        found.append(Problem(document.line(("time_zone",)), problem))
    missing = [name for name in NEEDED if name not in part.columns]
    found += [Problem(document.line(("columns",)), f"`columns` lacks {name}: {COLUMNS[name]}") for name in missing]
    return found
