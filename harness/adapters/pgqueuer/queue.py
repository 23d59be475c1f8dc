"""The verbs of the harness, asked of PgQueuer in a child. Decides nothing: every rule is PgQueuer's."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from harness.adapters.pgqueuer.translation import CANCELLED, LOOK, PICKS, STALE, STRICTLY, Known, view_of
from harness.foreign.asking_queue import AskingQueue, without_value
from harness.foreign.database import ForeignDatabase
from harness.foreign.peer import Responder
from harness.history.outcome import Outcome, done
from harness.model.job import JobId, JobView, Json
from harness.model.settings import Settings
from harness.port import Capabilities, Claim, Clocks, JobRequest

NO_SUCH_ROW: Final = Outcome.refused("PgQueuer has no such job")


class PgQueuerQueue(AskingQueue):
    """A queue under test over PgQueuer 1. A claim is told apart by how often its job was picked."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        heartbeat=True,
        cancel=True,
        retry=True,
        priorities=True,
        unique=True,
        start_after=True,
        virtual_time=True,
        fencing=True,
        concurrency_limits=True,
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
        self._numbers: dict[JobId, int] = {}
        self._known: dict[int, Known] = {}
        self._tools: dict[str, int] = {}
        """Every tool that had a job, and how many of its jobs may run at once."""
        self._workers: dict[tuple[JobId, int], str] = {}
        self._handles: dict[tuple[JobId, int], int] = {}
        """By what the child knows a job that was picked."""
        self._open: dict[int, datetime] = {}
        """Picked jobs that `expire` found stale, with the heartbeat that was too old: anybody may have them."""

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        views = {}
        for row in self._database.run(LOOK, prepare=True):
            known = self._known.get(row["job_id"])
            if known is not None:
                worker = self._workers.get((known.id, row["picks"]))
                stale = row["status"] == "picked" and self._open.get(row["job_id"]) == row["heartbeat"]
                views[known.id] = view_of(row, known, lease=self._settings.lease, worker=worker, stale=stale)
        return views

    # producers and operators ----------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Enqueue a job for the entrypoint of its tool."""
        if refusal := self._unacceptable(request, self._numbers):
            return refusal
        outcome = self._ask(
            "enqueue",
            ago=STRICTLY,
            tool=request.tool,
            payload=json.dumps({"job": request.id, "input": request.input}),
            priority=request.priority,
            wait=None if request.start_after is None else request.start_after - self._clocks.store(),
            key=_key(request),
        )
        if not outcome.done:
            return outcome
        self._tools[request.tool] = self._settings.tool_concurrency
        self._numbers[request.id] = outcome.value
        most = request.max_attempts or self._settings.max_attempts
        self._known[outcome.value] = Known(request.id, most, request.unique_key)
        return done(request.id)

    def cancel(self, job: JobId) -> Outcome:
        """Cancel what waits or runs, whose worker is told by a notification that nobody awaits.

        What is held as failed has ended here; PgQueuer would delete it.
        """
        number = self._numbers.get(job)
        live = b"SELECT id FROM pgqueuer WHERE id = $1 AND status <> 'failed'"
        if number is None or not self._database.run(live, [number]):
            return NO_SUCH_ROW
        outcome = self._ask("cancel", id=number)
        if outcome.done and not self._database.run(CANCELLED, [number], prepare=True):
            return NO_SUCH_ROW  # It left the table meanwhile; PgQueuer does not tell.
        return without_value(outcome)

    def retry(self, job: JobId) -> Outcome:
        """Requeue what is held as failed: its attempts begin anew."""
        number = self._numbers.get(job)
        held = b"SELECT id FROM pgqueuer WHERE id = $1 AND status = 'failed'"
        if number is None or not self._database.run(held, [number]):
            return NO_SUCH_ROW
        picks = self.jobs()[job].token
        outcome = self._ask("retry", id=number)
        if outcome.done:
            self._known[number] = self._known[number]._replace(forgiven=picks)
        return without_value(outcome)

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Outcome:
        """Dequeue: queued jobs that are due, and picked ones whose heartbeat is too old."""
        if not self._tools:
            return done([])
        outcome = self._ask("claim", worker=worker, tools=self._tools, limit=limit, stale=self._settings.lease)
        if not outcome.done or not outcome.value:
            return outcome
        picked = self._database.run(PICKS, [[job["id"] for job in outcome.value]], prepare=True)
        picks = {row["job_id"]: row["picks"] for row in picked}
        return done([self._claim(job, worker, picks[job["id"]]) for job in outcome.value])

    def _claim(self, job: dict[str, Any], worker: str, pick: int) -> Claim:
        name = job["job"]
        self._handles[name, pick] = job["handle"]
        self._workers[name, pick] = worker
        number = self._numbers[name]
        attempt = pick - self._known[number].forgiven
        return Claim(name, attempt, pick, worker, job["tool"], self._clocks.store() + self._settings.lease)

    def heartbeat(self, claim: Claim) -> Outcome:
        """Set the heartbeat of the job, whoever holds it."""
        return without_value(self._ask("heartbeat", id=self._numbers[claim.job]))

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Log as successful; the output is not kept."""
        return self._settle("complete", claim)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Retry or hold, as the retrying executor decides."""
        settings = self._settings
        retry = {
            "most": self._known[self._numbers[claim.job]].most,
            "delay": settings.retry_delay,
            "longest": settings.retry_delay_max,
            "backoff": settings.retry_backoff,
        }
        return self._settle("fail", claim, error=error, retry=retry)

    def _settle(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        return without_value(self._ask(question, handle=self._handles[claim.job, claim.token], **arguments))

    # upkeep ---------------------------------------------------------------------------------------------------------

    def expire(self) -> Outcome:
        """Show what is stale as waiting, as it is: PgQueuer writes nothing, whoever dequeues takes a stale job over."""
        self._database.set_now(self._clocks.store())
        stale = self._database.run(STALE, [timedelta(microseconds=self._settings.lease)], prepare=True)
        self._open |= {row["id"]: row["heartbeat"] for row in stale if row["id"] in self._known}
        return done([self._known[row["id"]].id for row in stale if row["id"] in self._known])


def _key(request: JobRequest) -> str | None:
    """PgQueuer's key is one for all entrypoints: it is given the tool's with its name."""
    return None if request.unique_key is None else f"{request.tool} {request.unique_key}"
