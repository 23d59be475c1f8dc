"""What a verb of a queue file is given, and what its answer means: the same whether it is one step or many.

Knows no connection: it plans the values of a verb's parameters, and reads what PostgreSQL said.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

import psycopg

from job_harness.core.history import DONE, Outcome, done
from job_harness.core.model import (
    SECOND,
    TERMINAL,
    Design,
    JobId,
    JobView,
    Json,
    Settings,
    Status,
    json_problem,
    printable,
    retry_delay,
)
from job_harness.core.port import Claim, EngineClocks, JobRequest
from job_harness.engines.queue_file.document import DURATIONS, QueueFile
from job_harness.engines.queue_file.rows import RowReader
from job_harness.engines.queue_file.statement import MisdescribedQueue, SqlSource, Statement
from job_harness.worlds.wire.database import timestamp_of

STALE: Final = Outcome.refused("it changed no row")
_NAMES: Final = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")


class VerbResult(NamedTuple):
    """What one statement came to."""

    tag: str
    """PostgreSQL's word for what it did: `UPDATE`, `SELECT`."""
    changed: int
    """How many rows it changed or returned."""
    rows: Sequence[Mapping[str, Any]] | None
    """What it returned; None: it returns nothing."""

    @property
    def in_vain(self) -> bool:
        """Whether it changed no row, or returned nothing but false; a SELECT also where that is NULL."""
        if not self.rows:
            return self.rows is not None or self.changed == 0
        return all(value is False or (value is None and self.tag not in WRITING) for value in self._alone)

    @property
    def counted_none(self) -> bool:
        """Whether it is a SELECT that returned 0, as a function does that tells how many rows it changed."""
        values = list(self._alone)
        return self.tag == "SELECT" and len(values) == 1 and type(values[0]) is int and values[0] == 0

    @property
    def _alone(self) -> Iterator[Any]:
        """The value of each row; of one with several columns, the whole row."""
        return (next(iter(row.values())) if len(row) == 1 else row for row in self.rows or ())


REPORTS: Final = ("complete", "fail", "release")
WRITING: Final = ("INSERT", "UPDATE", "DELETE", "MERGE")


@dataclass(frozen=True, slots=True)
class Planned:
    """A verb that is about to be asked."""

    values: Mapping[str, Any]
    after: Callable[[Sequence[VerbResult]], Outcome]
    """Reads the results; of a verb that stopped on the way, the results so far."""
    chance: float | None = None
    """What random() answers; None: no statement asks."""


class TableVerbs:
    """The verbs of one run."""

    def __init__(
        self,
        file: QueueFile,
        *,
        settings: Settings,
        clocks: EngineClocks,
        jitter: Callable[[], float],
        reader: RowReader,
        look: Callable[[], Mapping[JobId, JobView]],
        tells_twice: bool,
    ) -> None:
        """Plan for a file; `look` returns the jobs as they are now.

        `tells_twice`: the SQL itself sees to it that a job is not sent twice; else the harness does not send it again.
        """
        self._file = file
        self._settings = settings
        self._clocks = clocks
        self._jitter = jitter
        self._reader = reader
        self._look = look
        self._plans: Mapping[str, Callable[..., Planned | Outcome]] = {
            "enqueue": self._enqueue,
            "claim": self._claim,
            "heartbeat": self._heartbeat,
            "complete": self._complete,
            "fail": self._fail,
            "release": self._release,
            "cancel": self._operated,
            "retry": self._operated,
            "expire": self._expire,
            "purge": self._purge,
        }
        self._tells_twice = tells_twice
        self._owners: dict[str, str] = {}
        """By unique key, the tool that used it first."""
        self._queues: dict[str, str] = {}
        """By tool, the queue that its jobs are sent to."""
        sources = [*file.schema, *(s.source for verb in file.verbs.values() for s in verb)]
        self._chance = any("random(" in source.text.lower() for source in sources)

    def plan(self, verb: str, arguments: tuple[Any, ...], *, caller: str = "") -> Planned | Outcome:
        """Plan a verb on behalf of an actor, or return what needs no statement."""
        plan: Callable[..., Planned | Outcome] = self._plans.get(verb, self._nothing)
        if verb in REPORTS:
            self._reader.remembered.reported.add((arguments[0].job, arguments[0].token))
        planned = plan(*arguments)
        if isinstance(planned, Outcome):
            return planned
        worker = caller or planned.values.get("worker", "")
        now = self._clocks.of(worker) if worker else self._clocks.store()
        values = {**self.standing(), **planned.values, "now": timestamp_of(now)}
        return Planned(values, planned.after, self._jitter() if self._chance else None)

    def standing(self) -> dict[str, Any]:
        """Return the parameters that are the same for every statement of a run."""
        settings = self._settings
        values: dict[str, Any] = {"max_attempts": settings.max_attempts, "retry_backoff": settings.retry_backoff}
        for name in DURATIONS:
            values.update(_length(name, getattr(settings, name)))
        return values

    def _nothing(self, *arguments: Any) -> Outcome:
        """There is one table, and nothing for maintenance to do in it but to purge."""
        return done([])

    # producers and operators ----------------------------------------------------------------------------------------

    def _enqueue(self, request: JobRequest) -> Planned | Outcome:
        if problem := request.problem:
            return Outcome.refused(f"no database can hold it: {problem}")
        if not self._tells_twice and request.id in self._look():
            return Outcome.refused("this id exists", request.id)
        self._reader.tools[request.id] = request.tool
        start = self._clocks.store() if request.start_after is None else request.start_after
        values = {
            "job": self._name(request.id),
            "queue": self._queue(request.tool),
            "tool": request.tool,
            "input": json.dumps(request.input),
            "priority": request.priority,
            "max_attempts": request.max_attempts or self._settings.max_attempts,
            "start_after": timestamp_of(start),
            "unique_key": self._key(request),
            "serial_key": request.serial_key,
            "depends_on": list(map(self._name, request.depends_on)),
            "group": request.group,
            "group_size": request.group_size,
        }

        def after(results: Sequence[VerbResult]) -> Outcome:
            if _refused(results):
                return self.not_sent(request)
            self._look()
            return done(request.id)

        return Planned(values, after)

    def not_sent(self, request: JobRequest) -> Outcome:
        """Return the answer where a constraint or a conflict kept a job out: it is there, or its key is taken."""
        known = self._look()
        if request.id in known:
            return Outcome.refused("this id exists", request.id)
        holders = [
            view.id
            for view in known.values()
            if request.unique_key is not None and view.unique_key == request.unique_key and view.status not in TERMINAL
        ]
        return Outcome.refused("enqueue put in no row", holders[0] if holders else None)

    def _name(self, job: JobId) -> Any:
        """Return what a new job is called in the table."""
        number = uuid.uuid5(_NAMES, job)
        made = {"text": job, "uuid": number, "integer": number.int % (1 << 31)}[self._file.ids]
        self._reader.names[str(made)] = job
        return made

    def _key(self, request: JobRequest) -> str | None:
        """Return what a unique key is called in the table: another one for a second tool, as many queues know none."""
        key = request.unique_key
        if key is None or self._owners.setdefault(key, request.tool) == request.tool:
            return key
        made = f"{key} of {request.tool}"
        self._reader.keys[made] = key
        return made

    def _queue(self, tool: str) -> str | None:
        """Return the queue of a tool's jobs: one after the other, as tools come."""
        names = self._file.queues
        return self._queues.setdefault(tool, names[len(self._queues) % len(names)]) if names else None

    def _next_queue(self) -> str | None:
        """Return which queue a worker that serves all asks first: that of the job that one queue would give it."""
        if not self._file.queues:
            return None
        now = self._clocks.store()
        due = [view for view in self._look().values() if view.status is Status.PENDING and view.start_after <= now]
        overdue = [view for view in self._look().values() if view.lease_until is not None and view.lease_until <= now]
        first = min([*due, *overdue], key=lambda view: (-view.priority, view.created_at), default=None)
        return self._file.queues[0] if first is None else self._queue(first.tool)

    def _operated(self, job: JobId) -> Planned | Outcome:
        if job not in self._look():
            return Outcome.refused("unknown job")
        return Planned({"job": self._reader.remembered.keys[job]}, outcome_of_statements)

    # workers --------------------------------------------------------------------------------------------------------

    def _claim(self, worker: str, limit: int) -> Planned:
        source = self._file.verbs["claim"][-1].source

        def after(results: Sequence[VerbResult]) -> Outcome:
            if results[-1].in_vain:
                return done([])
            rows = results[-1].rows
            if rows is None and results[-1].changed > 0:
                raise source.error(
                    "it returns no row for the job that it took",
                    hint="End it with RETURNING id, or with token.",
                    kind=MisdescribedQueue,
                )
            taken = [self._read_claim(row, worker, source) for row in rows or ()]
            return done([claim for claim in taken if claim is not None])

        remembered = self._reader.remembered
        if self._file.asks("process") and self._look() and remembered.unfinished(worker):
            remembered.end_process(worker)  # A worker reports all that it holds before it claims again.
        values = {"worker": worker, "process": remembered.process(worker), "queue": self._next_queue(), "limit": limit}
        return Planned(values, after)

    def _read_claim(self, row: Mapping[str, Any], worker: str, source: SqlSource) -> Claim | None:
        remembered, views = self._reader.remembered, self._look()
        name = next((name for name in ("job", "key", "id") if name in row), next(iter(row)) if len(row) == 1 else None)
        if name is None:
            raise source.error(
                f"it returns {', '.join(row)}, but does not say which of them is the job",
                hint="Call that column job, key or id.",
                kind=MisdescribedQueue,
            )
        if row[name] is None:  # a function that returns a row returns one of NULLs where it took nothing
            return None
        job = remembered.rows.get(row[name])
        if job is None or job not in views:
            raise source.error(
                f"it returned {row[name]!r} as {name}, but `jobs` shows no such job",
                hint="Return what `jobs` shows as key, or as id if it shows no key. ORDER BY id in `jobs` goes by "
                "what it shows as id: to order by the table's own column, write it with the table's name, as q.id.",
                kind=MisdescribedQueue,
            )
        view = views[job]
        token = remembered.number(job, row["token"]) if row.get("token") is not None else view.token
        remembered.begin(worker, job, token, row[name])
        until = view.lease_until if view.lease_until is not None else self._clocks.store() + self._settings.lease
        return Claim(job, view.attempts, token, worker, view.tool, until)

    def _held(self, claim: Claim, after: Callable[[Sequence[VerbResult]], Outcome], **values: Any) -> Planned:
        remembered = self._reader.remembered
        return Planned(
            {
                "job": remembered.claimed.get((claim.job, claim.token), remembered.keys.get(claim.job)),
                "token": remembered.token(claim.job, claim.token),
                "worker": claim.worker,
                "process": remembered.process(claim.worker, (claim.job, claim.token)),
                "attempt": claim.attempt,
                **values,
            },
            after,
        )

    def _after_report(self, claim: Claim, status: Status) -> Callable[[Sequence[VerbResult]], Outcome]:
        """Return what takes the results of a report, which may be all that tells how a job ended."""

        def after(results: Sequence[VerbResult]) -> Outcome:
            self._reader.note_report(claim.job, claim.token, status)
            return DONE

        return after if Design.RECORDS_NO_END in self._file.designs else outcome_of_statements

    def _heartbeat(self, claim: Claim) -> Planned:
        def after(results: Sequence[VerbResult]) -> Outcome:
            outcome = outcome_of_statements(results)
            if outcome is STALE:  # Its worker lets go of it.
                self._reader.remembered.reported.add((claim.job, claim.token))
            return outcome

        return self._held(claim, after)

    def _release(self, claim: Claim) -> Planned:
        return self._held(claim, outcome_of_statements)

    def _complete(self, claim: Claim, output: Json) -> Planned | Outcome:
        if problem := json_problem(output):
            return Outcome.refused(f"invalid output: {problem}")
        return self._held(claim, self._after_report(claim, Status.COMPLETED), output=json.dumps(output))

    def _fail(self, claim: Claim, error: str, final: bool) -> Planned:
        values: dict[str, Any] = {"error": printable(error), "final": final}
        if self._file.asks("delay", "fail"):
            jitter = 0.0 if "retry_delay" in self._file.longest else self._jitter()
            wait = retry_delay(self._settings, attempts=claim.attempt, jitter=jitter)
            values.update(_length("delay", wait))
        return self._held(claim, self._after_report(claim, Status.FAILED), **values)

    # upkeep ---------------------------------------------------------------------------------------------------------

    def _expire(self) -> Planned | Outcome:
        return self._kept_up("expire")

    def _purge(self) -> Planned | Outcome:
        return self._kept_up("purge")

    def _kept_up(self, verb: str) -> Planned | Outcome:
        return Planned({}, lambda results: done([])) if verb in self._file.verbs else done([])


def _length(name: str, duration: int) -> dict[str, Any]:
    return {name: timedelta(microseconds=duration), f"{name}_seconds": duration / SECOND}


def _refused(results: Sequence[VerbResult]) -> bool:
    return bool(results) and (results[-1].in_vain or results[-1].counted_none)


def outcome_of_statements(results: Sequence[VerbResult]) -> Outcome:
    """Return what a verb comes to of which its last statement says whether it did something."""
    return STALE if _refused(results) else DONE


def raised(error: psycopg.Error) -> str | None:
    """Return what a function of the user's own said by RAISE: it refuses, and its transaction leaves nothing behind.

    None for what PostgreSQL itself has to say. The name is that of PL/pgSQL's source in PostgreSQL
    13 to 18.
    """
    said = error.diag.message_primary
    return said if error.diag.source_function == "exec_stmt_raise" else None


def stops(verb: str, result: VerbResult, *, last: bool) -> bool:
    """Say whether a verb ends with this statement: nothing was found, or nothing was changed, as your code would see.

    A sweep goes on, and so does a verb whose statement returns nothing by its nature.
    """
    if last or verb in ("expire", "purge"):
        return last
    if result.tag in WRITING:
        return verb != "claim" and result.changed == 0
    return result.tag == "SELECT" and result.in_vain


def parameters(statement: Statement, values: Mapping[str, Any], before: Sequence[VerbResult]) -> list[Any]:
    """Return the values of a statement's parameters; `row_x` and `rows_x` are what the statement before returned."""
    rows = before[-1].rows or () if before else ()
    found = []
    for name in statement.names:
        if name in values:
            found.append(values[name])
        elif name.startswith("rows_"):
            found.append([row.get(name.removeprefix("rows_")) for row in rows])
        else:
            found.append(rows[0].get(name.removeprefix("row_")) if rows else None)
    return found
