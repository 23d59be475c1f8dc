"""The verbs of the harness, asked of BullMQ in a Node peer. Decides nothing: every rule is BullMQ's.

What differs between its two stores is how its jobs are seen; see `LOOK` of each. Each part of the
contract names the place where BullMQ says so: `docs` is a page of its manual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from job_harness.core.faults import SILENCING
from job_harness.core.history import Outcome, done
from job_harness.core.model import DAY, MILLISECOND, Duration, Instant, JobId, JobView, QueueState, Settings, Status
from job_harness.core.port import Capabilities, Claim, Contract, Documented, JobRequest, Known
from job_harness.engines.foreign_queue import OWN_CLOCKS, AskingQueue, Opened, without_value
from job_harness.worlds.wire.database import instant_at

NO_RETRY: Final = (0, 0)
UNKNOWN_JOB: Final = Outcome.refused("unknown job")
LOWEST: Final = 1_000_000
"""BullMQ's priority of a job that has 0 here: there 1 goes first, 2 097 152 last, and none before all."""
STALLS: Final = 1
"""How often a stalled job goes back to wait, by default (`maxStalledCount`)."""
TOO_OFTEN: Final = "job stalled more than allowable limit"
"""The error of a job that stalled too often (docs: guide/jobs/stalled)."""
STRICTLY: Final[Duration] = MILLISECOND
"""A lock is lost strictly after its time, in whole milliseconds."""
WHENEVER: Final[Instant] = -365 * DAY
"""A job that waits is due whatever the clock says."""

_STALLED: Final = "a stalled job is moved back to wait at once (docs: guide/jobs/stalled)"
_STALLS: Final = "a job that stalls is no failed attempt; it fails once it stalls twice (docs: guide/jobs/stalled)"
_REMOVE: Final = "a job that runs is locked and cannot be removed (docs: guide/jobs/removing-job, Locked jobs)"
_ONE_LIMIT: Final = "a global concurrency is one for all jobs of a queue (docs: guide/queues/global-concurrency)"


def effective(settings: Settings) -> Settings:
    """A limit of the queue is one for all names of jobs."""
    limits = [limit for limit in (settings.concurrency, settings.tool_concurrency) if limit]
    return settings.changed(concurrency=min(limits, default=0), tool_concurrency=0)


DOCUMENTED: Final[Mapping[str, str | Documented | tuple[Documented, ...]]] = {
    "backoff_out_of_range": (
        Documented(
            _STALLED,
            verbs=frozenset({"expire"}),
            states=frozenset({Status.PROCESSING}),
            scenario="crashes/while_running",
        ),
        Documented(_STALLS, verbs=frozenset({"fail"}), faults=SILENCING),
    ),
    "error_lost": Documented(
        "a job that stalled keeps the error of the attempt before (docs: guide/jobs/stalled)",
        verbs=frozenset({"expire"}),
        scenario="crashes/while_running",
    ),
    "illegal_transition": Documented(
        "the worker that takes a job which stalled twice fails it (docs: guide/jobs/stalled)",
        verbs=frozenset({"claim"}),
        states=frozenset({Status.PENDING}),
        scenario="crashes/every_attempt_crashes",
    ),
}
DIFFERENCES: Final = {
    "crashes/before_failing": _STALLS,
    "crashes/every_attempt_crashes": _STALLS,
    "crashes/while_running": _STALLED,
    "hostile/job_kills_its_worker": _STALLS,
    "maintenance/one_bad_job_does_not_stop_the_rest": _STALLS,
    "concurrency/full_tool_does_not_hide_others": _ONE_LIMIT,
    "cancel/then_its_worker_dies": _REMOVE,
    "cancel/then_its_worker_fails": _REMOVE,
    "cancel/then_its_worker_succeeds": _REMOVE,
}

_STATES: Final = {
    "active": (Status.PROCESSING, QueueState.ACTIVE),
    "completed": (Status.COMPLETED, QueueState.COMPLETED),
    "failed": (Status.FAILED, QueueState.FAILED),
}

Row: TypeAlias = Mapping[str, Any]
Look: TypeAlias = Callable[[], Sequence[Row]]


class BullQueue(AskingQueue):
    """A queue under test over BullMQ. Every claim has a token of its own, as a worker's loop gives it one.

    A removed job is deleted; what it was is remembered here, so that an observer sees how it ended.
    """

    capabilities = Capabilities(
        heartbeat=True,
        release=True,
        cancel=True,
        retry=True,
        priorities=True,
        unique=True,
        start_after=True,
        virtual_time=True,
        fencing=True,
        concurrency_limits=True,
    )

    _stalled_interval = 0
    """Milliseconds within which a second check for stalled jobs does not look: it is made whenever it is asked for."""

    def __init__(self, opened: Opened, *, look: Look) -> None:
        super().__init__(opened)
        self._look = look
        self._ended_at = opened.ended_at
        self._most: dict[JobId, int] = {}
        """How many attempts each job may have, oldest first."""
        self._seen: dict[JobId, JobView] = {}
        self._asked: dict[JobId, Instant] = {}
        """From when each job was to run, or was to be retried without a delay; in the past, BullMQ does not keep it."""
        self._before: dict[JobId, tuple[int, int]] = {}
        """Attempts that were made and stalls that there had been when an operator last retried each job."""
        self._tokens = 0

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first, removed ones as they ended."""
        rows = {row["data"]["job"]: row for row in self._look()}
        for job, most in self._most.items():
            row, seen = rows.get(job), self._seen.get(job)
            if row is not None:
                self._seen[job] = self._view(job, row, most=most)
            elif seen is not None and not seen.terminal:
                self._seen[job] = removed(seen, self._ended_at())
        return {job: self._seen[job] for job in self._most if job in self._seen}

    def _view(self, job: JobId, row: Row, *, most: int) -> JobView:
        seen = self._seen.get(job)
        token = 0 if seen is None else seen.token
        before = self._before.get(job, NO_RETRY)
        return view_of(row, most=most, asked=self._asked.get(job, WHENEVER), before=before, token=token)

    # producers and operators ----------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Add a job; for a key that is held, return the job that holds it."""
        if refusal := self._unacceptable(request, self._most):
            return refusal
        data = {"job": request.id, "input": request.input}
        outcome = self._ask("enqueue", tool=request.tool, data=data, options=self._options(request))
        if not outcome.done:
            return outcome
        if outcome.value["id"] != name_of(request.id):
            return Outcome.refused("the key is held", job_of(outcome.value["id"]))
        self._most[request.id] = request.max_attempts or self._settings.max_attempts
        if request.start_after is not None:
            self._asked[request.id] = request.start_after
        return done(request.id)

    def _options(self, request: JobRequest) -> dict[str, Any]:
        attempts = request.max_attempts or self._settings.max_attempts
        options: dict[str, Any] = {
            "jobId": name_of(request.id),
            "attempts": attempts,
            "backoff": self._backoff(attempts),
            "priority": LOWEST - request.priority,
        }
        if request.start_after is not None:
            due = -(-request.start_after // MILLISECOND)
            options["delay"] = max(0, due - self._clocks.store() // MILLISECOND)
        if request.unique_key is not None:
            options["deduplication"] = {"id": f"{request.tool} {request.unique_key}"}
        return options

    def _backoff(self, attempts: int) -> dict[str, Any]:
        """Return a built-in strategy; one of a worker's own where the last wait would be longer than the longest."""
        settings = self._settings
        delay = {"delay": settings.retry_delay // MILLISECOND}
        if not settings.retry_backoff:
            return {"type": "fixed", **delay}
        if settings.retry_delay << max(0, attempts - 2) <= settings.retry_delay_max:
            return {"type": "exponential", **delay}
        return {"type": "capped", "longest": settings.retry_delay_max // MILLISECOND, **delay}

    def cancel(self, job: JobId) -> Outcome:
        """Remove what waits; what runs is locked, and what has ended is no longer to be cancelled."""
        if job not in self._most:
            return UNKNOWN_JOB
        if self.jobs()[job].terminal:
            return Outcome.refused("the job has ended")
        return without_value(self._ask("cancel", id=name_of(job)))

    def retry(self, job: JobId) -> Outcome:
        """Retry what failed, with its attempts reset."""
        if job not in self._most:
            return UNKNOWN_JOB
        view = self.jobs()[job]
        if view.status is not Status.FAILED:
            return Outcome.refused(f"the job is {view.status}")
        outcome = self._ask("retry", id=name_of(job))
        if outcome.done:
            self._before[job] = outcome.value["made"], outcome.value["stalled"]
        return without_value(outcome)

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Outcome:
        """Get the next job as often as asked, each with a token of its own, and without blocking."""
        tokens = [f"{worker}/{self._tokens + number}" for number in range(1, limit + 1)]
        self._tokens += limit
        outcome = self._ask("claim", tokens=tokens, worker=self._worker_options())
        return done([self._claim(job, worker) for job in outcome.value]) if outcome.done else outcome

    def _claim(self, told: Row, worker: str) -> Claim:
        number = int(told["token"].rpartition("/")[2])
        lease_until = self._clocks.store() + self._settings.lease
        attempt = told["made"] + told["stalled"] - sum(self._before.get(told["job"], NO_RETRY)) + 1
        return Claim(told["job"], attempt, number, worker, told["tool"], lease_until)

    def _worker_options(self) -> dict[str, Any]:
        """Return the options of a worker."""
        return {
            "lockDuration": self._settings.lease // MILLISECOND,
            "stalledInterval": self._stalled_interval,
            "maxStalledCount": STALLS,
        }

    def heartbeat(self, claim: Claim) -> Outcome:
        """Extend the lock."""
        return self._end_claim("extend", claim, milliseconds=self._settings.lease // MILLISECOND)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Move to failed, or to delayed for the next attempt, as its own `Job` decides."""
        outcome = self._end_claim("fail", claim, message=error, final=final)
        if outcome.done and self._settings.retry_delay < MILLISECOND:  # It waits again at once, and has no time.
            self._asked[claim.job] = self._clocks.store()
        return outcome

    def release(self, claim: Claim) -> Outcome:
        """Move back to wait: the attempt has started, and is none that was made."""
        return self._end_claim("release", claim)

    def _end_claim(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        return without_value(self._ask(question, token=f"{claim.worker}/{claim.token}", **arguments))

    # upkeep ---------------------------------------------------------------------------------------------------------

    def expire(self) -> Outcome:
        """Check for stalled jobs: what was active at the last check and has lost its lock goes back to wait.

        Its workers check all the time, and the harness asks only where a lock is lost: the check
        before is made up for.
        """
        before = self.jobs()
        for _ in range(2):  # What the first check marks, the second takes back.
            self._before_check()
            outcome = self._ask("expire", worker=self._worker_options())
            if not outcome.done:
                return outcome
        after = self.jobs()
        return done([job for job, view in before.items() if after.get(job) != view])

    def _before_check(self) -> None:
        """Let a check for stalled jobs look at once, where the store keeps it from that."""


def name_of(job: JobId) -> str:
    """Return the id of a job there, where neither a number nor a colon may be one."""
    return f"job-{job.replace('%', '%25').replace(':', '%3A')}"


def job_of(name: str) -> JobId:
    """Return the id of a job here."""
    return name.removeprefix("job-").replace("%3A", ":").replace("%25", "%")


def view_of(row: Row, *, most: int, asked: Instant, before: tuple[int, int], token: int) -> JobView:
    """Present a row as an observer sees it.

    BullMQ counts attempts when they end, and stalls apart; the view counts deliveries, when they begin. So a stall
    allows one more. What was made and stalled `before` an operator's retry counts no more. A job that stalled too often
    is failed at a claim that delivers it to no worker. What has no time of its own is due when it was `asked` for.
    `token` is that of the last claim.
    """
    status, state = _STATES.get(row["state"], (Status.PENDING, QueueState.CREATED))
    running = status is Status.PROCESSING
    made, stalled = row["made"] - before[0], row["stalled"] - before[1]
    unrun = status is Status.FAILED and row["error"] == TOO_OFTEN
    attempts = made + stalled + running - unrun
    allowed = (
        attempts if stalled > STALLS and status is Status.FAILED else max(1, most - before[0]) + min(stalled, STALLS)
    )
    worker, _, number = (row["token"] or "").rpartition("/")
    due = asked if row["due"] is None else instant_at(row["due"])
    return JobView(
        id=row["data"]["job"],
        tool=row["name"],
        status=status,
        queue_state=QueueState.RETRY if status is Status.PENDING and attempts else state,
        priority=LOWEST - row["priority"],
        attempts=attempts,
        max_attempts=allowed,
        token=int(number) if number else token,
        worker=worker if running and worker else None,
        output=row["output"] if status is Status.COMPLETED else None,
        error=row["error"] if status in (Status.PENDING, Status.FAILED) else None,
        unique_key=row["key"] and row["key"].removeprefix(f"{row['name']} "),
        created_at=instant_at(row["added"]),
        start_after=due,
        started_at=None if row["started_at"] is None else instant_at(row["started_at"]),
        lease_until=instant_at(row["locked_until"]) + STRICTLY if running and row["locked_until"] is not None else None,
        completed_at=None if row["ended_at"] is None else instant_at(row["ended_at"]),
        expires_at=None,
    )


def removed(view: JobView, now: Instant) -> JobView:
    """Present what became of a job that was removed: that is how it is cancelled here."""
    return view._replace(
        status=Status.CANCELLED, queue_state=QueueState.CANCELLED, worker=None, lease_until=None, completed_at=now
    )


def contract(known: Mapping[str, Known], **more: Any) -> Contract:
    """Return the contract of both stores, with what is known of one."""
    return Contract(
        documented=DOCUMENTED,
        differences=DIFFERENCES,
        known=known,
        effective=effective,
        unseen=OWN_CLOCKS,
        oldest_first=False,  # What stalls has another place in line on each store, and guide/jobs/fifo is silent on it.
        **more,
    )
