"""The verbs of the harness, asked of graphile-worker in a child. Decides nothing: every rule is graphile-worker's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from harness.adapters.graphile.translation import LOOK, deleted, view_of
from harness.foreign.asking_queue import AskingQueue, without_value
from harness.foreign.database import ForeignDatabase, Row, milliseconds_of
from harness.foreign.peer import Responder
from harness.history.outcome import Outcome, done
from harness.model.duration import Instant
from harness.model.job import JobId, JobView, Json
from harness.model.lifecycle import Status
from harness.model.settings import Settings
from harness.port import Capabilities, Claim, Clocks, JobRequest

UNKNOWN_JOB: Final = Outcome.refused("unknown job")
NOTHING: Final = Outcome.refused("graphile-worker changed no row")


class GraphileQueue(AskingQueue):
    """A queue under test over graphile-worker. A claim is told apart by the number of its attempt.

    A job that succeeds is deleted; what it was is remembered here, so that an observer sees how it ended. Its functions
    do not say whether they changed anything; the row, before and after, does.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        cancel=True,
        retry=True,
        priorities=True,
        start_after=True,
        virtual_time=True,
        fencing=True,
        unique=True,
        serial_keys=True,
        results=False,
    )

    def __init__(
        self,
        child: Responder,
        database: ForeignDatabase,
        settings: Settings,
        clocks: Clocks,
        jitter: Callable[[], float],
    ) -> None:
        super().__init__(child, database, settings, clocks)
        self.ended_at: Callable[[], Instant] = clocks.store
        """Answers when a job ended that is seen to have ended: no row keeps it."""
        self._numbers: dict[JobId, str] = {}
        self._tools: dict[str, None] = {}
        self._workers: dict[tuple[JobId, int], str] = {}
        self._seen: dict[JobId, JobView] = {}
        """Every job as it was seen last."""
        self._cancelled: set[JobId] = set()
        self._started: dict[JobId, Instant] = {}
        """When each job was claimed last: a row forgets it once it waits again."""

    # observation ----------------------------------------------------------------------------------------------------

    def _rows(self) -> dict[JobId, Row]:
        return {row["payload"]["job"]: row for row in self._database.run(LOOK, prepare=True)}

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first, deleted ones as they ended."""
        rows = self._rows()
        for job in self._numbers:
            if (row := rows.get(job)) is not None:
                self._seen[job] = self._view(job, row)
            elif not self._seen[job].terminal:
                ended = Status.CANCELLED if job in self._cancelled else Status.COMPLETED
                seen = self._seen[job]
                started_at = self._started.get(job) if seen.started_at is None else seen.started_at
                self._seen[job] = deleted(seen._replace(started_at=started_at), ended, self.ended_at())
        return {job: self._seen[job] for job in self._numbers}

    def _view(self, job: JobId, row: Row) -> JobView:
        last = self._seen.get(job)
        known = None if last is None or last.status is not Status.FAILED else last.completed_at
        failed_at = self.ended_at() if known is None else known
        return view_of(row, worker=self._workers.get((job, row["attempts"])), failed_at=failed_at)

    # producers and operators ----------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Add a job; a key that is held keeps the job that holds it."""
        if refusal := self._unacceptable(request, self._numbers):
            return refusal
        spec = {
            "queueName": request.serial_key or None,
            "runAt": None if request.start_after is None else milliseconds_of(request.start_after),
            "maxAttempts": request.max_attempts or self._settings.max_attempts,
            "priority": -request.priority,
            "jobKey": request.unique_key,
            "jobKeyMode": None if request.unique_key is None else "unsafe_dedupe",
        }
        given = {name: value for name, value in spec.items() if value is not None}
        payload = {"job": request.id, "input": request.input}
        outcome = self._ask("enqueue", tool=request.tool, payload=payload, spec={"runAt": None, **given})
        if not outcome.done:
            return outcome
        if outcome.value["job"] != request.id:
            return Outcome.refused("the key is held", outcome.value["job"])
        self._numbers[request.id] = outcome.value["id"]
        self._tools[request.tool] = None
        self._seen[request.id] = self._view(request.id, self._rows()[request.id])
        return done(request.id)

    def cancel(self, job: JobId) -> Outcome:
        """Delete what waits; what runs goes on, and what failed for good is no longer to be cancelled."""
        if job not in self._numbers:
            return UNKNOWN_JOB
        if self.jobs()[job].terminal:
            return NOTHING
        outcome = self._ask("cancel", id=self._numbers[job])
        if outcome.done:
            self._cancelled.add(job)
        return without_value(outcome)

    def retry(self, job: JobId) -> Outcome:
        """Give what failed for good as many attempts again as the settings allow."""
        if job not in self._numbers:
            return UNKNOWN_JOB
        view = self.jobs()[job]
        if view.status is not Status.FAILED:
            return NOTHING
        most = view.attempts + self._settings.max_attempts
        now = milliseconds_of(self._clocks.store())
        return without_value(self._ask("retry", id=self._numbers[job], most=most, runAt=now))

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Outcome:
        """Claim up to `limit` jobs in one statement, as a pool's local queue does."""
        outcome = self._ask("claim", worker=worker, tools=list(self._tools), limit=limit)
        return done([self._claim(told, worker) for told in outcome.value]) if outcome.done else outcome

    def _claim(self, told: dict[str, Any], worker: str) -> Claim:
        job, attempt = told["job"], told["attempts"]
        self._workers[job, attempt] = worker
        self._started[job] = self._clocks.store()
        return Claim(job, attempt, attempt, worker, told["tool"], self._clocks.store() + self._settings.lease)

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Delete the job; the output is not kept."""
        return self._settle("complete", claim)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Fail the attempt; there is no final failure."""
        return self._settle("fail", claim, message=error)

    def release(self, claim: Claim) -> Outcome:
        """A pool returns what its local queue holds, and by that hands out the same attempt again: it is not asked."""
        raise NotImplementedError

    def _settle(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        before = self._rows().get(claim.job)
        outcome = self._ask(question, claim=f"{self._numbers[claim.job]}/{claim.attempt}", **arguments)
        if outcome.done and before == self._rows().get(claim.job):
            return NOTHING
        return without_value(outcome)

    # upkeep ---------------------------------------------------------------------------------------------------------

    def expire(self) -> Outcome:
        """Unlock what has been locked for four hours."""
        before = self.jobs()
        outcome = self._ask("expire")
        if not outcome.done:
            return outcome
        after = self.jobs()
        return done([job for job, view in before.items() if after.get(job) != view])
