"""Rows of a user's own table as jobs: what `jobs` shows becomes a `JobView` for each, and tokens become numbers.

A token may be a number, a uuid, a time or a text: all that counts is whether it is another one than
before, so they are numbered in the order in which claims brought them. Knows no statement but that
one, and no verb.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from job_harness.core.model import DAY, TERMINAL, Design, Instant, JobId, JobView, QueueState, Status
from job_harness.engines.queue_file.document import COLUMNS, NEEDED, QueueFile
from job_harness.engines.queue_file.statement import QueueFileError
from job_harness.errors import did_you_mean
from job_harness.worlds.wire.database import instant_of

_ENDED_BY: Final[Mapping[str, Status]] = {
    "complete": Status.COMPLETED,
    "fail": Status.FAILED,
    "expire": Status.FAILED,
    "claim": Status.FAILED,
    "cancel": Status.CANCELLED,
}
"""By the verb that deletes a job's row, what became of the job."""
INSTANTS: Final = ("created_at", "start_after", "started_at", "lease_until", "completed_at", "expires_at")
_STATES: Final[Mapping[Status, QueueState]] = {
    Status.PROCESSING: QueueState.ACTIVE,
    Status.COMPLETED: QueueState.COMPLETED,
    Status.FAILED: QueueState.FAILED,
    Status.CANCELLED: QueueState.CANCELLED,
}
WHENEVER: Final[Instant] = -365 * DAY
"""A job without a time is due whatever the clock says, and a clock may go wrong before the start of a run."""


@dataclass(slots=True)
class Remembered:
    """What the rows alone do not tell: the tokens that claims brought, and for whom."""

    numbers: dict[JobId, dict[Any, int]] = field(default_factory=dict)
    """By job, the number of each token that it had."""
    last: dict[JobId, int] = field(default_factory=dict)
    """By job, the token of its last claim."""
    owners: dict[tuple[JobId, int, str | None], str] = field(default_factory=dict)
    """By job, token and what the row shows as its worker, who claimed it."""
    claimers: set[str] = field(default_factory=set)
    """Who has claimed so far."""
    started: dict[JobId, tuple[int, Instant]] = field(default_factory=dict)
    """By job, the token of its last claim and when that was first seen, where the table does not tell."""
    gone: dict[JobId, JobView] = field(default_factory=dict)
    """Jobs whose row was deleted by what ended them."""
    keys: dict[JobId, Any] = field(default_factory=dict)
    """By job, what verbs are given as `:job`."""
    rows: dict[Any, JobId] = field(default_factory=dict)
    """By key, the job of each row that was ever seen: a job may have one row for each attempt."""
    claimed: dict[tuple[JobId, int], Any] = field(default_factory=dict)
    """By job and token, the key of the row that was claimed."""
    ended: dict[tuple[JobId, int], Status] = field(default_factory=dict)
    """By job and token, what its worker reported, where the table does not keep that."""
    reported: set[tuple[JobId, int]] = field(default_factory=set)
    """The claims, by job and token, whose worker has begun to report how they ended, or has lost them."""
    processes: dict[str, int] = field(default_factory=dict)
    """By worker, the number of its process, if that is not its first."""
    of_process: dict[tuple[JobId, int], int] = field(default_factory=dict)
    """By job and token, the number of the process that had it, if that has ended."""

    def copy(self) -> Remembered:
        """Return a copy that can be kept."""
        numbers = {job: dict(tokens) for job, tokens in self.numbers.items()}
        owners, claimers = dict(self.owners), set(self.claimers)
        return Remembered(
            numbers, dict(self.last), owners, claimers, dict(self.started), dict(self.gone), dict(self.keys),
            dict(self.rows), dict(self.claimed), dict(self.ended),
            set(self.reported), dict(self.processes), dict(self.of_process),
        )  # fmt: skip

    def number(self, job: JobId, token: Any) -> int:
        """Return the number of a token that a claim brought, a new one where it is new."""
        numbers = self.numbers.setdefault(job, {})
        self.last[job] = numbers.setdefault(token, len(numbers) + 1)
        return self.last[job]

    def begin(self, worker: str, job: JobId, token: int, key: Any) -> None:
        """Take note of a claim that a worker was given, of the row with this key; its token may be an earlier one's."""
        self.claimed[job, token] = key
        self.owners.update({owned: worker for owned in self.owners if owned[:2] == (job, token)})
        self.reported.discard((job, token))
        self.of_process.pop((job, token), None)

    def unfinished(self, worker: str) -> bool:
        """Say whether a worker has claimed what it never reported, unless another process of it did."""
        done = self.reported | self.of_process.keys()
        return any(by == worker and (job, token) not in done for (job, token, _), by in self.owners.items())

    def end_process(self, worker: str) -> None:
        """Let a worker be another process from here on."""
        number = self.processes.get(worker, 1)
        self.processes[worker] = number + 1
        for (job, token, _), by in self.owners.items():
            if by == worker:
                self.of_process.setdefault((job, token), number)

    def process(self, worker: str, claim: tuple[JobId, int] | None = None) -> str:
        """Return what a worker's process is called: the one that has a claim, or the one that is at work now."""
        number = self.processes.get(worker, 1)
        number = number if claim is None else self.of_process.get(claim, number)
        return worker if number == 1 else f"{worker}.{number}"

    def token(self, job: JobId, number: int) -> Any:
        """Return the token with this number."""
        return next((token for token, known in self.numbers.get(job, {}).items() if known == number), None)


def instant_shown(value: datetime) -> Instant | None:
    """Return the instant of a time in a row: one without a zone is of UTC, as every session is."""
    return instant_of(value if value.tzinfo else value.replace(tzinfo=UTC))


def columns_of(file: QueueFile, names: Iterable[str]) -> frozenset[str]:
    """Return the columns that `jobs` shows. Raises QueueFileError where one is unknown, twice, or missing."""
    shown = list(names)
    source = file.jobs.source
    for name in shown:
        if name not in COLUMNS:
            near = did_you_mean(name, COLUMNS)
            raise source.error(f"unknown column {name!r}{near}", hint=f"Its columns may be {', '.join(COLUMNS)}.")
        if shown.count(name) > 1:
            raise source.error(f"the column {name!r} is there twice", hint="Give each column a name of its own.")
    if missing := [name for name in NEEDED if name not in shown]:
        told = " and ".join(f"{name} ({COLUMNS[name]})" for name in missing)
        raise source.error(f"it shows no column {told}", hint=f"It shows {', '.join(shown)}. Use AS to name columns.")
    return frozenset(shown)


class RowReader:
    """Turns the rows of one look into views."""

    def __init__(
        self, file: QueueFile, columns: frozenset[str], *, max_attempts: int, clock: Callable[[], Instant]
    ) -> None:
        """Read rows with these columns; `max_attempts` is of a job of which no column says that.

        `clock` tells when what is read was written.
        """
        self.remembered = Remembered()
        self.tools: dict[JobId, str] = {}
        """By job, what it was sent for: of a table with one kind of job no column says that."""
        self.names: dict[str, JobId] = {}
        """By what enqueue was given as `:job`, the job's name."""
        self.keys: dict[str, str] = {}
        """By what enqueue was given as `:unique_key`, if that was another one, the key that was asked for."""
        self.claimer: str | None = None
        """For whom the verb that acts claims."""
        self.verb = ""
        """Which verb acted last."""
        self.shown: Mapping[JobId, JobView] = {}
        """The jobs as they were seen last."""
        self._file = file
        self._columns = columns
        self._most = max_attempts
        self._clock = clock

    def views(self, rows: Iterable[Mapping[str, Any]]) -> dict[JobId, JobView]:
        """Return the jobs, oldest first. Raises QueueFileError where a row cannot be one."""
        found: dict[JobId, JobView] = {}
        keys: dict[JobId, Any] = {}
        for row in rows:
            shown = self._text(row, "id")
            job = self.names.get(shown, shown)
            if job in found:
                raise self._error(f"two rows for the job {job!r}", "Select one row for each job: a join may repeat it.")
            found[job] = self._view(job, row)
            keys[job] = row.get("key", row["id"])
        self.remembered.keys = keys
        self.remembered.rows.update((key, job) for job, key in keys.items())
        self._take_note_of_the_gone(found)
        self.shown = dict(sorted({**self.remembered.gone, **found}.items(), key=lambda item: item[1].created_at))
        return dict(self.shown)

    def note_report(self, job: JobId, token: int, status: Status) -> None:
        """Take note of how an attempt ended, as its worker reports it: the rows of some queues do not say so."""
        self.remembered.ended[job, token] = status
        if (view := self.remembered.gone.get(job)) is not None and view.token == token:
            self.remembered.gone[job] = self._show_ended(view, status)

    def _show_ended(self, view: JobView, status: Status) -> JobView:
        ended = view._replace(completed_at=self._clock(), worker=None, lease_until=None)
        return ended._replace(status=status, queue_state=_STATES[status])

    def _take_note_of_the_gone(self, found: Mapping[JobId, JobView]) -> None:
        """Keep what was deleted by the verb that ended it: to many a queue, a job that is done is one that is gone."""
        gone = self.remembered.gone
        status = _ENDED_BY.get(self.verb)
        for job, view in self.shown.items():
            if job in found or job in gone or status is None:
                continue
            if view.status is Status.PROCESSING or self.verb == "cancel":
                gone[job] = self._show_ended(view, status)
            elif self.verb == "claim" and Design.RECORDS_NO_END in self._file.designs:
                gone[job] = self._show_claimed(view)
        for job in [job for job in gone if job in found]:
            del gone[job]

    def _show_claimed(self, view: JobView) -> JobView:
        """Show a job whose claim deleted its row: only its worker knows of it."""
        attempts = view.attempts + 1
        token = self.remembered.number(view.id, ("taken", attempts))
        return view._replace(
            status=Status.PROCESSING,
            queue_state=QueueState.ACTIVE,
            attempts=attempts,
            token=token,
            worker=self.claimer,
            started_at=self._clock(),
        )

    def _view(self, job: JobId, row: Mapping[str, Any]) -> JobView:
        status = self._status(job, row["status"])
        before = self.shown.get(job)  # What a row does not tell, such as that of a dead letter, is as it was.
        counted, most = (0, self._most) if before is None else (before.attempts, before.max_attempts)
        attempts = counted
        if row["attempts"] is not None:
            attempts = self._counted(job, self._number(job, row, "attempts", 0), status)
        token = self._token(job, row, status)
        if status is Status.PROCESSING:
            status = self.remembered.ended.get((job, token), status)
        instants: dict[str, Any] = {name: self._instant(job, row, name) for name in INSTANTS}
        instants["started_at"] = self._started(job, token, status, instants["started_at"])
        created, start = instants.pop("created_at"), instants.pop("start_after")
        worker = None if status is not Status.PROCESSING else self._worker(job, row, token)
        return JobView(
            id=job,
            tool=row.get("tool") or self.tools.get(job, "tool"),
            status=status,
            queue_state=_STATES.get(status) or (QueueState.RETRY if attempts else QueueState.CREATED),
            priority=self._number(job, row, "priority", 0),
            attempts=attempts,
            max_attempts=self._number(job, row, "max_attempts", most),
            token=token,
            worker=worker,
            output=_json(row.get("output")),
            error=None if row.get("error") is None else str(row["error"]),
            unique_key=self.keys.get(row.get("unique_key") or "", row.get("unique_key")),
            created_at=WHENEVER if created is None else created,
            start_after=WHENEVER if start is None else start,
            input=_json(row.get("input")),
            serial_key=row.get("serial_key"),
            group=row.get("group"),
            callback_of=row.get("callback_of"),
            depends_on=tuple(self._depended(job, row.get("depends_on"))) or None,
            **(dict.fromkeys(instants) if status is Status.PENDING else instants),
        )

    def _depended(self, job: JobId, shown: Any) -> Iterator[JobId]:
        """List the jobs that one waits for, which a row names by their ids or by the keys of their rows."""
        for other in shown if isinstance(shown, list) else [shown]:
            if other is None:  # array_agg of a LEFT JOIN that found nothing
                continue
            known = self.names.get(str(other)) or self.remembered.rows.get(other)
            if known is None:
                raise self._error(
                    f"depends_on of the job {job!r} has {str(other)!r}, which is the id of no job that was sent",
                    "Show there the ids, or the keys, that `jobs` shows of the jobs that it waits for.",
                )
            yield known

    def _counted(self, job: JobId, shown: int, status: Status) -> int:
        """Return how often a job was delivered: one more than is shown while it runs, if that is counted later."""
        if Design.COUNTS_AT_THE_END not in self._file.designs:
            return shown
        before = self.shown.get(job)
        ended = 0 if before is None or status not in TERMINAL else before.attempts
        return max(shown + (status is Status.PROCESSING), ended)

    def _status(self, job: JobId, shown: Any) -> Status:
        known = self._file.status
        if str(shown) in known:
            return known[str(shown)]
        if self._file.lines.get("status"):
            told = f"`status` does not say what {shown!r} means, which the job {job!r} has"
            raise QueueFileError(
                f"{self._file.place('status')}: {told}{did_you_mean(str(shown), known)}",
                hint=f"It has {', '.join(known)}: add {shown}, as PENDING, PROCESSING, COMPLETED, FAILED or CANCELLED.",
            )
        raise self._error(
            f"the job {job!r} has the status {shown!r}, which is none of {', '.join(known)}",
            f"Say what yours mean: status: {{{shown}: PENDING, ...}}.",
        )

    def _token(self, job: JobId, row: Mapping[str, Any], status: Status) -> int:
        shown = row["token"] if "token" in self._columns else row["attempts"]
        remembered = self.remembered
        if status is Status.PROCESSING and shown is not None:
            return remembered.number(job, shown)
        return remembered.last.get(job, 0)

    def _started(self, job: JobId, token: int, status: Status, shown: Instant | None) -> Instant | None:
        """Return when the last claim began, as the row says, or said until it was emptied."""
        started = self.remembered.started
        if "started_at" not in self._columns or (shown is None and status is Status.PROCESSING):
            return self._first_seen(job, token, status)
        if shown is None:
            return started.get(job, (0, None))[1]
        if status is Status.PROCESSING:
            started[job] = token, shown
        return shown

    def _first_seen(self, job: JobId, token: int, status: Status) -> Instant | None:
        started = self.remembered.started
        if status is Status.PENDING:  # The next claim is another one, though a table may show it by the same token.
            started.pop(job, None)
        elif status is Status.PROCESSING and started.get(job, (None, 0))[0] != token:
            started[job] = token, self._clock()
        last, since = started.get(job, (None, None))
        return since if last == token else None

    def _worker(self, job: JobId, row: Mapping[str, Any], token: int) -> str | None:
        """Return who holds a job: a table may have no column for that, or one for `host:4711` or a session."""
        shown = None if row.get("worker") is None else str(row["worker"])
        remembered = self.remembered
        if self.claimer is not None:
            remembered.claimers.add(self.claimer)
            remembered.owners.setdefault((job, token, shown), self.claimer)
        return shown if shown in remembered.claimers else remembered.owners.get((job, token, shown), shown)

    def _text(self, row: Mapping[str, Any], name: str) -> str:
        if row[name] is None:
            raise self._error(f"the column {name} of a row is NULL", "Every job has a name: that of `:job` in enqueue.")
        return str(row[name])

    def _number(self, job: JobId, row: Mapping[str, Any], name: str, otherwise: int) -> int:
        value = row.get(name, otherwise)
        if value is None:
            return otherwise
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise self._error(f"{name} of the job {job!r} is {value!r}, and must be a number", "Select another.")
        return int(value)

    def _instant(self, job: JobId, row: Mapping[str, Any], name: str) -> Instant | None:
        value = row.get(name)
        if value is None:
            return None
        if not isinstance(value, datetime):
            raise self._error(
                f"{name} of the job {job!r} is {value!r}, and must be a timestamp",
                "Convert it: to_timestamp(ms / 1000.0) for milliseconds since 1970.",
            )
        return instant_shown(value)

    def _error(self, message: str, hint: str) -> QueueFileError:
        return self._file.jobs.source.error(message, hint=hint)


def _json(value: Any) -> Any:
    """Read JSON that stands in a column of text; any other text is itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
