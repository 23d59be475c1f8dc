"""The verbs of the harness, asked of the library in a Node child. Decides nothing: every rule is pg-boss's."""

from __future__ import annotations

from typing import Any, Final

from harness.adapters.foreign_queue import AskingQueue, Opened, without_value
from harness.adapters.pgboss.node.release import Release
from harness.adapters.pgboss.node.rows import Tables
from harness.adapters.pgboss.translation import KEPT_WAITING, seconds_of, send_time, turns, uuid_of, view_of
from harness.foreign.database import Row
from harness.foreign.node_child import milliseconds_of
from harness.history.outcome import Outcome, done
from harness.model.duration import SECOND, Instant
from harness.model.job import JobId, JobView, Json
from harness.model.json_value import json_problem
from harness.port import Capabilities, Claim, JobRequest

UNKNOWN_JOB: Final = Outcome.refused("unknown job")
SHORTEST_HEARTBEAT: Final = 10 * SECOND
"""pg-boss takes no shorter one; a shorter lease is an expiry, which nothing extends."""
CHANGING: Final = frozenset({"complete", "fail", "cancel", "retry"})
"""Questions after which another job of a key may be in the place of one."""
LONGEST_RUN: Final = 23 * 3600
"""Seconds: an expiry must stay below a day."""


class PgBossNodeQueue(AskingQueue):
    """A queue under test over the library itself.

    A claim is told apart by the number of its attempt. Where the version fences calls by the attempt that was fetched,
    it is told which one that was, as its own worker does.
    """

    def __init__(self, opened: Opened, *, release: Release) -> None:
        super().__init__(opened)
        self.capabilities: Capabilities = release.capabilities
        self._release = release
        self._keys = release.keys
        self._strictly = opened.strictly
        self._tables: Tables = opened.schema
        self._jitter = opened.jitter
        self._tools: dict[JobId, str] = {}
        self._workers: dict[tuple[JobId, int], str] = {}
        """Who claimed which attempt: pg-boss does not keep it."""
        self._granted: dict[JobId, int] = {}
        """The last attempt that a resume allowed a job, whatever its limit."""
        self._changed: Instant | None = None
        """Since when the statistics of the queues may be out of date."""

    def _ask(self, question: str, *, ago: int = 0, **arguments: Any) -> Outcome:
        outcome = super()._ask(question, ago=ago, **arguments)
        if question in CHANGING or (question == "claim" and outcome.done and outcome.value):
            self._changed = self._clocks.store()
        return outcome

    def _stamped(self, now: Instant) -> dict[str, Any]:
        return {"now": milliseconds_of(now)}

    def _draw(self) -> None:
        if self._settings.retry_backoff:
            self._database.set_chance(self._jitter())

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        views = {}
        for row in self._tables.jobs():
            job = self._identify(row)
            views[job] = self._view(row, job)
        return views

    def _identify(self, row: Row) -> JobId:
        job: JobId = row["data"]["job"]
        return job

    def _view(self, row: Row, job: JobId) -> JobView:
        worker = self._workers.get((job, row["retry_count"] + 1))
        granted = self._granted.get(job, 0)
        return view_of(row, worker=worker, granted=granted, strictly=self._strictly, keys=self._keys)

    def _uuid(self, job: JobId) -> str:
        return uuid_of(job)

    # producers and operators ----------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Send a job to the queue of its tool, created first where it is new."""
        if refusal := self._unacceptable(request, self._tools):
            return refusal
        options = self._options(request)
        sent = {"data": self._keys.data(request), "options": options, "queue": self._queue_options(options)}
        outcome = self._ask("enqueue", ago=self._strictly, tool=self._keys.queue(request.tool), **sent)
        if not outcome.done:
            return outcome
        self._tools[request.id] = request.tool
        return done(request.id)

    def _queue_options(self, options: dict[str, Any]) -> dict[str, Any]:
        heartbeat = {"heartbeatSeconds": options["heartbeatSeconds"]} if "heartbeatSeconds" in options else {}
        return {"policy": self._release.policy.name, **heartbeat}

    def _options(self, request: JobRequest) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {
            "id": self._uuid(request.id),
            "priority": request.priority,
            "retryLimit": (request.max_attempts or settings.max_attempts) - 1,
            "retryDelay": seconds_of(settings.retry_delay),
            "retryBackoff": settings.retry_backoff,
            "expireInSeconds": seconds_of(settings.lease),
            "retentionSeconds": KEPT_WAITING,
        }
        if (key := self._keys.singleton(request, own=options["id"])) is not None:
            options["singletonKey"] = key
        if (group := self._keys.group(request)) is not None:
            options["group"] = {"id": group}
        if request.start_after is not None:
            options["startAfter"] = send_time(request.start_after)
        if not self._tables.keeps_queues:
            options["deleteAfterSeconds"] = seconds_of(settings.retention)
            if settings.retry_backoff:
                options["retryDelayMax"] = seconds_of(settings.retry_delay_max)
        if self._tables.heartbeats and settings.lease >= SHORTEST_HEARTBEAT:
            options["heartbeatSeconds"] = seconds_of(settings.lease)
            options["expireInSeconds"] = LONGEST_RUN
        return options

    def cancel(self, job: JobId) -> Outcome:
        """Cancel what is not finished."""
        return without_value(self._named("cancel", job))

    def retry(self, job: JobId) -> Outcome:
        """Resume what was cancelled, retry what failed: one attempt more than it had."""
        before = self.jobs().get(job)
        outcome = self._named("retry", job)
        if outcome.done and before is not None:
            self._granted[job] = before.attempts + 1
        return without_value(outcome)

    def _named(self, question: str, job: JobId) -> Outcome:
        tool = self._tools.get(job)
        return UNKNOWN_JOB if tool is None else self._ask(question, tool=self._keys.queue(tool), id=self._uuid(job))

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Outcome:
        """Fetch from the queues in such turns that the order of jobs is that of one queue.

        What is fetched together comes in the order in which it was sent: a fetch promises none, and may have another
        one on other pages of the disk.
        """
        queues = list(dict.fromkeys(self._keys.queue(tool) for tool in self._tools.values()))
        rows = self._tables.jobs() if len(queues) > 1 else []
        order = turns(rows, queues, now=self._clocks.store(), strictly=self._strictly, limit=limit)
        options = {"groupConcurrency": 1} if self._keys.groups else {}
        outcome = self._ask("claim", turns=order, limit=limit, options=options)
        if not outcome.done:
            return outcome
        claims = [self._claim(job, worker) for job in outcome.value]
        sent = {job: number for number, job in enumerate(self._tools)}
        return done(sorted(claims, key=lambda claim: sent[claim.job]))

    def _claim(self, told: dict[str, Any], worker: str) -> Claim:
        job, attempt = self._claimed(told), told["retryCount"] + 1
        self._workers[job, attempt] = worker
        return Claim(job, attempt, attempt, worker, self._tools[job], self._clocks.store() + self._settings.lease)

    def _claimed(self, told: dict[str, Any]) -> JobId:
        job: JobId = told["job"]
        return job

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Complete the attempt that was fetched."""
        if problem := json_problem(output):
            return Outcome.refused(f"JSON cannot hold it: {problem}")
        return self._settle("complete", claim, output=output)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Fail the attempt that was fetched; pg-boss knows no final failure."""
        self._draw()
        return self._settle("fail", claim, message=error)

    def heartbeat(self, claim: Claim) -> Outcome:
        """Touch the attempt that was fetched; versions before 12 have no heartbeat."""
        return self._settle("touch", claim)

    def _settle(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        attempt = {"id": self._uuid(claim.job), "retryCount": claim.attempt - 1}
        return without_value(self._ask(question, tool=self._keys.queue(claim.tool), attempt=attempt, **arguments))

    # upkeep ---------------------------------------------------------------------------------------------------------

    def expire(self) -> Outcome:
        """Maintain, as its own timer would: fail what is overdue, delete what was kept for long enough."""
        self._draw()
        before = self.jobs()
        self._tables.open_gates()
        outcome = self._ask("expire")
        if not outcome.done:
            return outcome
        after = self.jobs()
        changed = [job for job, view in before.items() if after.get(job) != view]
        self._changed = self._clocks.store() if changed else None
        return done(changed)

    def next_upkeep(self) -> Instant | None:
        """Tell since when upkeep has something to do beside leases: to see anew which keys are to be passed over."""
        return self._changed if self._release.refreshes else None
