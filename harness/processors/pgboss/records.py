"""Writes down what pg-boss did with its rows: it is asked nothing, so what it did is read from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.adapters.pgboss.translation import view_of
from harness.adapters.pgboss.work import WorkProcess
from harness.history.outcome import DONE, Outcome, done
from harness.model.job import JobId, JobView, Json
from harness.model.lifecycle import Status
from harness.port import Claim, JobRequest
from harness.run.observation import Recorder

TEST: Final = "test"
"""The actor that enqueues, cancels and retries."""
SUPERVISION: Final = "supervision"


class Rows:
    """The rows as they were last read, in views."""

    def __init__(self, process: WorkProcess) -> None:
        self._process = process
        self.worker = ""
        """Whose claim a new one is."""
        self._granted: dict[JobId, int] = {}
        self.inputs: dict[JobId, Json] = {}
        self._workers: dict[tuple[JobId, int], str] = {}
        self._views: dict[JobId, JobView] = {}
        self._shown: list[JobId] = []

    def read(self) -> None:
        """Read all rows."""
        self._views = {}
        for row in self._process.tables.jobs():
            job = row["data"]["job"]
            self.inputs[job] = row["data"]["input"]
            worker = None
            if row["state"] == "active":
                worker = self._workers.setdefault((job, row["retry_count"]), self.worker)
            granted, process = self._granted.get(job, 0), self._process
            view = view_of(row, worker=worker, granted=granted, strictly=process.strictly, keys=process.keys)
            self._views[job] = view

    def grant(self, job: JobId, attempt: int) -> None:
        """Know that a resume allows a job this attempt, whatever its limit."""
        self._granted[job] = attempt
        self.read()

    def differing(self, known: Mapping[JobId, JobView]) -> list[JobId]:
        """List the jobs that are not as they were known, gone ones too."""
        views = self._views
        return [job for job in {**known, **views} if known.get(job) != views.get(job)]

    def show(self, *jobs: JobId) -> None:
        """Let the recorder see what became of these, and of no others."""
        self._shown = list(jobs)

    def jobs(self) -> dict[JobId, JobView]:
        """Answer the views."""
        return self._views

    def changed(self) -> list[JobId]:
        """Answer which of them are shown."""
        return self._shown


class RowReader:
    """Turns rows that changed into calls, what was seen, and outcomes."""

    def __init__(self, rows: Rows, recorder: Recorder) -> None:
        self._rows = rows
        self._recorder = recorder

    def enqueued(self, request: JobRequest, outcome: Outcome) -> None:
        """A job was sent."""
        self._told(TEST, "enqueue", outcome, shown=(request.id,), arguments=(request,), job=request.id)

    def operated(self, verb: str, job: JobId, outcome: Outcome) -> None:
        """An operator cancelled or retried a job."""
        self._told(TEST, verb, outcome, shown=(job,), arguments=(job,), job=job)

    def claimed(self, claims: list[Claim]) -> None:
        """A worker fetched a batch."""
        worker = claims[0].worker
        jobs = [claim.job for claim in claims]
        self._told(worker, "claim", done(claims), shown=tuple(jobs), arguments=(worker, len(claims)))
        for claim in claims:
            self._recorder.effect(worker, claim.job, claim.attempt, claim.token, "claimed")

    def settled(self, verb: str, claim: Claim, *rest: Any, outcome: Outcome = DONE) -> None:
        """A worker completed or failed a job of its batch."""
        about: dict[str, Any] = {"job": claim.job, "token": claim.token, "arguments": (claim, *rest)}
        self._told(claim.worker, verb, outcome, shown=(claim.job,), **about)

    def supervised(self, jobs: list[JobId]) -> None:
        """The supervision, or whoever else is not a worker, changed these."""
        for verb, gone in (("expire", False), ("purge", True)):
            shown = tuple(job for job in jobs if (job not in self._rows.jobs()) is gone)
            if shown:
                self._told(SUPERVISION, verb, done(list(shown)), shown=shown)

    def _told(self, actor: str, verb: str, outcome: Outcome, *, shown: tuple[JobId, ...], **about: Any) -> None:
        self._rows.show(*shown)
        self._recorder.told(actor, verb, outcome, **about)


def timed_out(before: JobView, after: JobView | None) -> bool:
    """Whether an attempt ended without an answer of its handler."""
    return before.status is Status.PROCESSING and after is not None and after.status is not Status.PROCESSING
