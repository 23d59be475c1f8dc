"""The rows of a system as jobs: the guide's two tables by name, or whatever one SELECT shows.

A row is known by the name of the job that was sent: by the id that the response told, or by the
name where the body had it. Must not know: processes, who changed a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import psycopg

from job_harness.core.model import Instant, JobId, JobView, QueueState, Settings, Status
from job_harness.subjects.systems.document import JOB, TOOL_JOB_AND_PGBOSS, SystemFile, SystemFileError, filled
from job_harness.subjects.systems.stores import SystemStores
from job_harness.worlds.wire.database import Row, instant_of

COLUMNS: Final[Mapping[str, str]] = {
    "id": "what tells a row from the others, of any type",
    "name": "the name of the job, as `${job}` put it into what was sent; without it, it is looked for in `input`",
    "status": "its status, one of those under `status`",
    "attempts": "how often it was delivered",
    "max_attempts": "how often it may be delivered",
    "priority": "",
    "worker": "who holds it",
    "input": "",
    "output": "",
    "error": "",
    "created_at": "",
    "start_after": "when it may be claimed",
    "started_at": "",
    "lease_until": "when its claim ends",
    "completed_at": "",
    "expires_at": "when it may be deleted",
    "unique_key": "of two unfinished jobs only one may have it",
    "serial_key": "of two jobs only one may be PROCESSING that has it",
    "dead_of": "the id of the row whose dead letter this is",
    "schedule": "the schedule that made it, as `promises.schedules` calls it",
    "slot": "for which of its slots",
    "tool": "what kind of job it is",
    "depends_on": "an array of the ids of jobs that have to be COMPLETED before it begins",
    "parent": "the id of the job that waits for it, which may be a row that stands for a group of jobs",
    "group": "the group that it belongs to, such as the id of that row",
    "callback_of": "the group whose callback it is: it runs once, after the last job of that group has ended",
}
"""The columns that a SELECT may show, and what they mean."""
NEEDED: Final = ("id", "status")
_TOOL_JOBS: Final = 'SELECT * FROM public."tool_job" ORDER BY "createdAt", "id"'
_OF_BOTH: Final = frozenset(COLUMNS) - {
    "worker",
    "input",
    "unique_key",
    "serial_key",
    "dead_of",
    "schedule",
    "slot",
    "depends_on",
    "parent",
    "group",
    "callback_of",
}
"""What the two tables show."""
_STATES: Final[Mapping[Status, QueueState]] = {
    Status.PROCESSING: QueueState.ACTIVE,
    Status.COMPLETED: QueueState.COMPLETED,
    Status.FAILED: QueueState.FAILED,
    Status.CANCELLED: QueueState.CANCELLED,
}


class JobReader:
    """Reads all jobs of a system in one look."""

    def __init__(
        self,
        file: SystemFile,
        stores: SystemStores,
        settings: Settings,
        *,
        worker: Callable[[str], str] = str,
    ) -> None:
        """Look whether the tables are there; `worker` says what a worker is called that a row names.

        Raises SystemFileError where they are not.
        """
        self._worker = worker
        self._file = file
        self._stores = stores
        self._settings = settings
        self._planned: dict[str, JobId] = {}
        """By what stands in what was sent, the job."""
        self.names: dict[str, JobId] = {}
        """By id of a row, the job's name."""
        self._taken: dict[JobId, int] = {}
        self._shown: dict[JobId, JobView] = {}
        """What the SELECT showed last, and jobs that ended by the deletion of their row."""
        self._look: Callable[[], dict[JobId, JobView]] = self._selected
        if file.jobs == TOOL_JOB_AND_PGBOSS:
            self._look = self._two_tables
            self._queue = self._queue_sql()
        self.look()

    def plan(self, jobs: Iterable[JobId]) -> None:
        """Say which jobs will be sent."""
        for job in jobs:
            send = self._file.send
            named = JOB if send is not None and JOB in send.path else None
            template = self._file.send_sql if send is None else [send.body, *send.headers.values(), named]
            for text in set(_texts(template)):
                if JOB in text:
                    self._planned[filled(text, job) if send is not None else job] = job

    def look(self) -> dict[JobId, JobView]:
        """Return all jobs as they stand. Raises SystemFileError where the SELECT does not work."""
        try:
            return self._look()
        except psycopg.Error as error:
            hint = "The SELECT is run in the migrated database."
            if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
                hint += (
                    " If a process makes this table when it starts, as pg-boss and graphile-worker do, let the command "
                    "`database.migrate` start the library once and stop it again."
                )
            raise SystemFileError(
                f"{self._file.place('jobs')}: PostgreSQL refuses it: {str(error).splitlines()[0]}", hint=hint
            ) from None

    @property
    def columns(self) -> frozenset[str]:
        """What is shown of a job."""
        if self._file.jobs == TOOL_JOB_AND_PGBOSS:
            return _OF_BOTH
        return self._stores.columns

    def id_of(self, job: JobId) -> str | None:
        """Return the id of a job's row, as far as it is known."""
        return next((key for key, name in self.names.items() if name == job), None)

    def name_of(self, key: Any, *, value: Any = None) -> JobId:
        """Return the name of a job by the id of its row, else by what was sent for it, else by that id itself."""
        text = str(key)
        if text not in self.names:
            found = next((self._planned[each] for each in _texts(value) if each in self._planned), None)
            self.learn(text, found if found is not None else text)
        return self.names[text]

    def called(self, text: str) -> JobId:
        """Return the job that a text means, the id of its row or what was sent for it; else the text itself."""
        return self.names.get(text) or self._planned.get(text, text)

    def learn(self, key: str, job: JobId) -> None:
        """Take over which job a row is; a second row of one job has a name of its own."""
        if key in self.names:
            return
        nth = self._taken[job] = self._taken.get(job, 0) + 1
        self.names[key] = _nth_row(job, nth)

    def rows_of(self, job: JobId) -> tuple[JobId, ...]:
        """Return what the rows of a job are called, its first row as itself."""
        return tuple(_nth_row(job, nth) for nth in range(1, self._taken.get(job, 1) + 1))

    # tool_job and pg-boss -------------------------------------------------------------------------------------------

    def _queue_sql(self) -> str:
        columns = self._stores.look(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'pgboss'"
        )
        tables = {row["table_name"] for row in columns}
        if "job" not in tables:
            raise SystemFileError(
                f"{self._file.place('jobs')}: there is no table pgboss.job after the migration",
                hint="Let the migration start pg-boss once, or show your jobs by a SELECT.",
            )
        named = {row["column_name"] for row in columns if row["table_name"] == "job"}
        lease = "expire_in" if "expire_in" in named else "make_interval(secs => expire_seconds)"
        parts = [
            f"""SELECT id, data->>'toolJobId' AS job, state::text AS state, priority, retry_count, start_after,
                created_on, CASE WHEN state = 'active' THEN started_on + {lease} END AS lease_until FROM pgboss.{table}
                WHERE data->>'toolJobId' IS NOT NULL"""
            for table in ("job", "archive")
            if table in tables
        ]
        return f"{' UNION ALL '.join(parts)} ORDER BY created_on, id"

    def _two_tables(self) -> dict[JobId, JobView]:
        rows: dict[str, list[Row]] = {}
        for row in self._stores.look(self._queue):
            rows.setdefault(row["job"], []).append(row)
        views: dict[JobId, JobView] = {}
        for user in self._stores.look(_TOOL_JOBS):
            name = self.name_of(user["id"], value=user["input"])
            views[name] = _tool_job(name, user, _standing(rows.pop(user["id"], [])), self._settings)
        for key, left in rows.items():
            name = self.name_of(key)
            views[name] = _tool_job(name, None, _standing(left), self._settings)
        return views

    # one SELECT -----------------------------------------------------------------------------------------------------

    def _selected(self) -> dict[JobId, JobView]:
        views: dict[JobId, JobView] = {}
        rows: dict[JobId, Row] = {}
        for row in self._stores.rows():
            if wrong := [name for name in row if name not in COLUMNS]:
                raise SystemFileError(
                    f"{self._file.place('jobs')}: unknown column {wrong[0]!r}",
                    hint=f"Its columns may be {', '.join(COLUMNS)}.",
                )
            if missing := [name for name in NEEDED if name not in row]:
                raise SystemFileError(
                    f"{self._file.place('jobs')}: it shows no column {' and no '.join(missing)}",
                    hint=f"It shows {', '.join(row)}. Use AS to name columns.",
                )
            if row["id"] is None:
                raise SystemFileError(
                    f"{self._file.place('jobs')}: it shows a row whose id is NULL",
                    hint="The column `id` must identify the row: show the key of the table.",
                )
            if "max_attempts" not in row and self._file.tells_max_attempts and "max_attempts" not in self._file.given:
                raise SystemFileError(
                    f"{self._file.place('jobs')}: it mentions max_attempts, but shows no such column",
                    hint="Show it by AS max_attempts, or set it under `settings`: else how often a job may be "
                    "delivered is not known.",
                )
            told = row.get("name")
            name = self.name_of(row["id"], value=row.get("input") if told is None else told)
            if name in rows:
                raise SystemFileError(
                    f"{self._file.place('jobs')}: it shows two rows with the id {row['id']!s:.80}",
                    hint="The column `id` must identify the row: show the key of the table, once for each job.",
                )
            rows[name] = row
        for name in sorted(rows, key=lambda job: _waits(rows[job])):  # Once all names are known: a row may name others.
            views[name] = self._view(name, rows[name])
        if self._file.deletes:
            for name, view in self._shown.items():
                if name not in views and view.status in (Status.PROCESSING, Status.COMPLETED):
                    views[name] = _ended(view)
            self._shown = views
        return views

    def _view(self, name: JobId, row: Row) -> JobView:
        status = self._status(row)

        def instant(column: str) -> Instant | None:
            return self._instant(name, row, column)

        def number(column: str, otherwise: int = 0) -> int:
            return self._number(name, row, column) or otherwise

        created = instant("created_at") or 0
        start_after = instant("start_after")
        attempts = number("attempts")
        waits = QueueState.RETRY if attempts else QueueState.CREATED
        return JobView(
            id=name,
            tool=str(row.get("tool") or "tool"),
            status=status,
            queue_state=_STATES.get(status, waits),
            priority=number("priority"),
            attempts=attempts,
            max_attempts=number("max_attempts", self._settings.max_attempts),
            token=attempts,
            worker=None if row.get("worker") is None else self._worker(str(row["worker"])),
            output=row.get("output"),
            error=row.get("error"),
            unique_key=row.get("unique_key"),
            created_at=created,
            start_after=created if start_after is None else start_after,
            started_at=instant("started_at"),
            lease_until=instant("lease_until") if status is Status.PROCESSING else None,
            completed_at=instant("completed_at"),
            expires_at=instant("expires_at"),
            serial_key=row.get("serial_key"),
            dead_of=None if row.get("dead_of") is None else self.called(str(row["dead_of"])),
            schedule=row.get("schedule"),
            slot=instant("slot"),
            parent=None if row.get("parent") is None else self.called(str(row["parent"])),
            group=_text(row.get("group")),
            callback_of=_text(row.get("callback_of")),
            depends_on=tuple(self.called(str(other)) for other in row.get("depends_on") or ()) or None,
        )

    def _status(self, row: Row) -> Status:
        status = self._file.status.get(str(row["status"]))
        if status is None:
            raise SystemFileError(
                f"{self._file.place('jobs')}: the file does not say what the status {row['status']!r} means",
                hint="List under `status` every status that a row may have, such as "
                "{created: PENDING, active: PROCESSING, completed: COMPLETED}.",
            )
        return status

    def _instant(self, job: JobId, row: Row, column: str) -> Instant | None:
        value = row.get(column)
        if value is None:
            return None
        if not isinstance(value, datetime):
            raise SystemFileError(
                f"{self._file.place('jobs')}: {column} of the job {job!r} is {value!r}, and must be a timestamp",
                hint="Convert it: to_timestamp(ms / 1000.0) for milliseconds since 1970.",
            )
        return instant_of(value if value.tzinfo else value.replace(tzinfo=UTC))

    def _number(self, job: JobId, row: Row, column: str) -> int | None:
        value = row.get(column)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise SystemFileError(
                f"{self._file.place('jobs')}: {column} of the job {job!r} is {value!r}, and must be a number",
                hint="Convert it, or leave it out: what is not shown is not judged.",
            )
        return int(value)


def _nth_row(job: JobId, nth: int) -> JobId:
    return job if nth == 1 else f"{job}#{nth}"


def _waits(row: Row) -> tuple[bool, bool]:
    """Sort what others wait for before them: one commit may change both, and what was waited for came first."""
    return bool(row.get("depends_on")), "parent" in row and row["parent"] is None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _ended(view: JobView) -> JobView:
    done = Status.COMPLETED
    return view._replace(status=done, queue_state=_STATES[done], worker=None, lease_until=None)


_WAITING: Final = ("created", "retry")


def _standing(rows: list[Row]) -> Row | None:
    """Return which of a job's rows is shown: at work, else waiting, else ended; of several the newest."""
    for states in (("active",), _WAITING):
        if found := [row for row in rows if row["state"] in states]:
            return found[-1]
    return rows[-1] if rows else None


def _tool_job(name: JobId, user: Row | None, queued: Row | None, settings: Settings) -> JobView:
    def of_user(column: str, otherwise: Any = None) -> Any:
        return otherwise if user is None or user[column] is None else user[column]

    created = instant_of(of_user("createdAt", None if queued is None else queued["created_on"]))
    deliveries = 0 if queued is None else int(queued["retry_count"]) + (queued["state"] not in _WAITING)
    return JobView(
        id=name,
        tool=of_user("toolSlug", "tool"),
        status=None if user is None else Status(of_user("status", "PENDING")),
        queue_state=None if queued is None else QueueState(queued["state"]),
        priority=of_user("priority", 0),
        attempts=of_user("attempts", 0),
        max_attempts=of_user("maxAttempts", settings.max_attempts),
        token=deliveries,
        worker=None,
        output=of_user("output"),
        error=of_user("error"),
        unique_key=None,
        created_at=created or 0,
        start_after=(created or 0) if queued is None else instant_of(queued["start_after"]) or 0,
        started_at=instant_of(of_user("startedAt")),
        lease_until=None if queued is None else instant_of(queued["lease_until"]),
        completed_at=instant_of(of_user("completedAt")),
        expires_at=instant_of(of_user("expiresAt")),
    )


def _texts(value: Any) -> Iterator[str]:
    """Return all texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def instants_of(views: Iterable[JobView], settings: Settings) -> Iterator[Instant]:
    """Return when time alone changes what a statement may see of jobs; comparisons may be strict."""
    for view in views:
        started = view.started_at
        at = [view.start_after, view.lease_until, view.expires_at]
        if started is not None and not view.terminal:
            at += [started + settings.stuck_timeout, started + settings.lease, started + settings.job_timeout]
        for instant in at:
            if instant is not None:
                yield instant
                yield instant + 1
