"""What production wrote about jobs, as events in the order in which they happened, and what can be judged by them.

A source is read into `Evidence`. No source shows everything: rows show how a job stands, a log
shows who changed it, spans show who ran it. So evidence names the anomalies that it could show, and
says of other invariants why it cannot.

`Chronicle` is how changes of rows become events. It names the verb by its arrow; a worker is taken to act under the
claim that it took last, and nothing is said of a worker that took none. Times are microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from job_harness.core.history import DONE, Call, Event, Observed, Return
from job_harness.core.model import PARTNERS, Instant, JobId, JobView, Status

UNKNOWN_WRITER: Final = "unknown"
"""Who changed a row, where the source does not say."""
NEVER: Final[Instant] = 2**62
"""When a claim ends that has no end of its own."""
UNKNOWN: Final[Instant] = 0
"""When something was that has a time which the source does not say: nothing is judged by it."""
HELD: Final[Mapping[tuple[Status, Status], str]] = {
    (Status.PROCESSING, Status.COMPLETED): "complete",
    (Status.PROCESSING, Status.FAILED): "fail",
    (Status.PROCESSING, Status.PENDING): "fail",
}
"""What a worker does to a job that it holds, by the arrow."""
OTHERS: Final[Mapping[tuple[Status, Status], str]] = {
    (Status.PENDING, Status.PROCESSING): "claim",
    (Status.PENDING, Status.CANCELLED): "cancel",
    (Status.PROCESSING, Status.CANCELLED): "cancel",
    (Status.PENDING, Status.FAILED): "reconcile",
    (Status.FAILED, Status.PENDING): "retry",
    (Status.CANCELLED, Status.PENDING): "retry",
}


class Ordinary(NamedTuple):
    """What jobs come to together that ended as they should, so that none of them is looked at by itself."""

    jobs: int
    events: int
    completed: int
    first: Instant
    last: Instant
    claimed: Mapping[tuple[str, int], Instant]
    """By tool and priority, the latest due time of one."""


@dataclass(slots=True)
class Evidence:
    """What one source shows."""

    name: str
    """Of the source, as reports say it; it holds no password."""
    shows: frozenset[str]
    """The anomalies that it could show."""
    silent: Mapping[str, str]
    """By invariant that it cannot judge, or anomaly of another that does not show in it, why."""
    read: Callable[[Collection[JobId] | None], Iterator[Event]]
    """Reads the events, of all jobs or of these; it can be asked again, and then shows the same."""
    now: Callable[[], Instant]
    """When the source was as it was read; asked after reading."""
    notes: list[str] = field(default_factory=list)
    """What a reader has to know of how it was read."""
    gap: str = ""
    """What is known to be missing from it, in words: where nothing is found beside a gap, that is no pass."""
    steps: bool = False
    """Whether what changed jobs are an application's own steps, and no verbs of a queue."""
    rests: bool = False
    """Whether it ends where nothing was due any more: what is unfinished then would stay so."""

    complete: bool = False
    """Whether it has every change of a job's status."""
    apart: Callable[[], tuple[Ordinary, Iterator[Event]] | None] = lambda: None
    """Returns what its ordinary jobs come to, and the events of all others; None: it does not tell them apart."""
    statuses: Callable[[], frozenset[str]] = frozenset
    """Returns the words for statuses that it has, where it has any."""

    def of_one_job(self) -> Evidence:
        """Return what it shows where only one job is read."""
        compared = self.shows & _OF_SEVERAL
        silent = {**self.silent, **dict.fromkeys(compared, "it needs other jobs too, and --job reads only one")}
        return replace(self, shows=self.shows - compared, silent=silent)


_OF_SEVERAL: Final = frozenset({"unique_key_shared", "job_never_run"})
"""What one job alone does not show."""
_REPORTS: Final = ("complete", "fail", "heartbeat")


class Chronicle:
    """Turns changes of jobs into events; remembers who holds what, and of a job that has ended nothing."""

    def __init__(self) -> None:
        self._claims: dict[JobId, dict[str, int]] = {}
        """By unfinished job and writer, the token of the last claim."""
        self._number = 0
        self.writers: set[str] = set()
        """Who claimed anything."""

    def change(
        self, at: Instant, writer: str, before: JobView | None, after: JobView | None, *, verb: str = ""
    ) -> Iterator[Event]:
        """Tell one change of a job, as far as it shows; a worker's report is a call with the token of its own claim.

        `verb` is given where the arrow alone would say more than the source does.
        """
        job = (after or before or blank("")).id
        verb = verb or self._verb(at, writer, before, after)
        mine = self._claims.get(job, {}).get(writer)
        reports = verb in _REPORTS or (verb == "release" and before is not None and self._holds(at, writer, before))
        token = mine if reports else None
        observed = Observed(at, writer, verb, job, before, after, at)
        if token is None:
            yield observed
        else:
            self._number += 1
            said = (None, None if after is None else after.output) if verb == "complete" else (None, False)
            yield Call(at, writer, verb, job, token, said, self._number)
            yield observed
            yield Return(at, writer, verb, job, token, DONE, self._number, True)
        if verb == "claim" and after is not None and writer != UNKNOWN_WRITER:
            self.writers.add(writer)
            self._claims.setdefault(job, {})[writer] = after.token
        if after is None or after.terminal:
            self._claims.pop(job, None)

    def _verb(self, at: Instant, writer: str, before: JobView | None, after: JobView | None) -> str:
        if before is None:
            return "enqueue"
        if after is None:
            return "purge"
        if before.status is after.status or before.status is None or after.status is None:
            return self._in_place(before, after)
        arrow = (before.status, after.status)
        if arrow == (Status.PROCESSING, Status.PENDING) and after.attempts == before.attempts - 1:
            return "release"  # Also by a cron that takes a job back and does not count that run.
        if arrow in HELD:
            return HELD[arrow] if arrow[1] is Status.COMPLETED or self._holds(at, writer, before) else "expire"
        return OTHERS.get(arrow, "update")

    def _holds(self, at: Instant, writer: str, before: JobView) -> bool:
        """Say whether a failure is a worker's report: anything may take back what is overdue, a former holder too."""
        mine = self._claims.get(before.id, {}).get(writer)
        overdue = before.lease_until is None or before.lease_until <= at
        return mine is not None and (mine == before.token or not overdue)

    def _in_place(self, before: JobView, after: JobView) -> str:
        if after.status is not Status.PROCESSING:
            return "update"
        if (before.token, before.worker, before.started_at) != (after.token, after.worker, after.started_at):
            return "claim"
        return "heartbeat" if before.lease_until != after.lease_until else "update"


def blank(job: JobId, status: Status | None = Status.PENDING, **known: Any) -> JobView:
    """Return a view of which only this much is known."""
    unknown: dict[str, Any] = {
        "tool": "job",
        "queue_state": None if status is None else min(PARTNERS[status]),
        "priority": 0,
        "attempts": 0,
        "max_attempts": 2**62,
        "token": 0,
        "worker": None,
        "output": None,
        "error": None,
        "unique_key": None,
        "created_at": UNKNOWN,
        "start_after": UNKNOWN,
        "started_at": None,
        "lease_until": None,
        "completed_at": None,
        "expires_at": None,
    }
    return JobView(id=job, status=status, **{**unknown, **known})
