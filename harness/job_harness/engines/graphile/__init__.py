"""Real graphile-worker under test: its own code in a Node child, on a PostgreSQL whose clock is ours.

What is here says graphile-worker in the harness's words and decides nothing: every rule is
graphile-worker's. Each part of the contract names the place where graphile-worker says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from job_harness.core.history import DONE, Outcome, done
from job_harness.core.model import HOUR, Duration, Instant, JobId, JobView, QueueState, Settings, Status
from job_harness.core.port import Capabilities, Claim, Contract, Documented, JobRequest, Known
from job_harness.engines.foreign_queue import (
    AskingQueue,
    ForeignEngine,
    ForeignRelease,
    Opened,
    emptied,
    in_node,
    without_value,
)
from job_harness.engines.releases import Runnable, numbers_of, split_suffix
from job_harness.errors import UsageError
from job_harness.worlds.peers import newest_npm
from job_harness.worlds.wire.database import Row, instant_of, milliseconds_of

PACKAGE: Final = "graphile-worker"
RELEASES: Final = Runnable(PACKAGE, PACKAGE, "0.17.2", "lacks the functions that this engine calls")
NEEDS_NEWER_NODE: Final = (0, 18)
NEWEST_ASKS_FOR: Final = (22, 18)
"""The Node that releases from `NEEDS_NEWER_NODE` on ask for."""
TABLES: Final = ("graphile_worker._private_jobs", "graphile_worker._private_job_queues")


BATCHED: Final = "batched"
"""Its pool reports results together, as with `completeJobBatchDelay` and `failJobBatchDelay`."""
LEASE: Final[Duration] = 4 * HOUR
"""So long a job stays locked after a crash; no setting changes it (docs: error-handling, Instantaneous exit)."""

_NO_RESULTS: Final = "a job that succeeded is deleted, results are not stored (docs: tasks, Task executor function)"
_BACKOFF: Final = "a retry waits exp(least(10, attempt)) seconds, whatever the settings (docs: exponential-backoff)"
_LEASE: Final = (
    "a job is unlocked four hours after a crash, with no setting for it (docs: error-handling, Instantaneous exit)"
)
_CANCEL: Final = (
    "a job that runs cannot be cancelled: completeJobs leaves locked jobs alone (docs: admin-functions, Complete jobs)"
)
_EVERY_ERROR: Final = "every error is retried (docs: error-handling, Task failure)"
_KEY: Final = "unsafe_dedupe keeps the job that holds the key, even if it failed for good (docs: job-key, job_key_mode)"


def effective(settings: Settings) -> Settings:
    """Four hours for every claim."""
    return settings.changed(lease=LEASE, heartbeat_interval=0)


CONTRACT: Final = Contract(
    documented={
        "wrong_result": Documented(_NO_RESULTS, verbs=frozenset({"complete"}), scenario="retries/fails_then_succeeds"),
        "success_without_run": Documented(_NO_RESULTS, verbs=frozenset({"complete"})),
        "error_lost": Documented(
            "a crash throws no error, and an unlocked job keeps none of it (docs: jobs-view, last_error)",
            verbs=frozenset({"expire"}),
            states=frozenset({Status.PROCESSING}),
            scenario="crashes/while_running",
        ),
        "unique_key_stuck": Documented(
            _KEY, verbs=frozenset({"enqueue"}), scenario="uniqueness/key_is_free_after_failure"
        ),
        "backoff_out_of_range": Documented(
            _BACKOFF,
            verbs=frozenset({"expire", "fail"}),
            states=frozenset({Status.PROCESSING}),
            scenario="retries/backoff_doubles",
        ),
        "final_error_retried": Documented(
            _EVERY_ERROR,
            verbs=frozenset({"fail"}),
            states=frozenset({Status.PROCESSING}),
            scenario="uniqueness/key_is_free_after_failure",
        ),
    },
    differences={
        "lifecycle/operator_retries_failed_job": (
            "rescheduling leaves the count of attempts where none is given (docs: admin-functions, Rescheduling jobs)"
        ),
        "retries/backoff_doubles": _BACKOFF,
        "retries/backoff_is_capped": _BACKOFF,
        "retries/comes_to_its_turn": _BACKOFF,
        "retries/fails_then_succeeds": _BACKOFF,
        "retries/final_error_is_not_retried": _EVERY_ERROR,
        "concurrency/serial_key_is_free_after_failure": _EVERY_ERROR,
        "clocks/store_clock_is_behind": _BACKOFF,
        "scheduling/retry_does_not_hold_up_the_queue": _BACKOFF,
        "crashes/while_running": "an unlocked job is due at once (docs: error-handling, Instantaneous exit)",
        "maintenance/overdue_behind_a_long_job": _LEASE,
        "cancel/then_its_worker_dies": _CANCEL,
        "cancel/then_its_worker_fails": _CANCEL,
        "cancel/then_its_worker_succeeds": _CANCEL,
        "uniqueness/key_is_free_after_failure": _KEY,
        "uniqueness/retry_is_refused_while_another_has_the_key": _KEY,
    },
    known={
        "hostile/error_with_lone_surrogate": Known(
            frozenset({"outcome_lost"}),
            "scenarios/findings/graphile-worker/a_nul_loses_the_outcome.yaml",
        ),
    },
    effective=effective,
    ignored={"lease": _LEASE, **dict.fromkeys(("retry_delay", "retry_backoff", "retry_delay_max"), _BACKOFF)},
    oldest_first=False,  # Its priority alone is promised (docs: library/add-job, priority); a retry changes run_at.
)


LOOK: Final = b"""
SELECT j.id::text AS number, t.identifier, q.queue_name, j.payload, j.priority, j.run_at, j.attempts, j.max_attempts,
       j.last_error, j.created_at, j.key, j.locked_at, j.locked_by
FROM graphile_worker._private_jobs j
JOIN graphile_worker._private_tasks t ON t.id = j.task_id
LEFT JOIN graphile_worker._private_job_queues q ON q.id = j.job_queue_id
ORDER BY j.id
"""
STRICTLY: Final[Duration] = 1
"""A lock is too old strictly after four hours, a microsecond later."""
_STATES: Final = {
    Status.PROCESSING: QueueState.ACTIVE,
    Status.FAILED: QueueState.FAILED,
    Status.PENDING: QueueState.CREATED,
}


def view_of(row: Mapping[str, Any], *, worker: str | None, failed_at: Instant) -> JobView:
    """Present a row as an observer sees it. The attempt is counted at the claim; it tells claims apart.

    When it failed for good is not kept; `failed_at` is when that was seen first.
    """
    locked = instant_of(row["locked_at"])
    spent = row["attempts"] >= row["max_attempts"]
    status = Status.PROCESSING if locked is not None else Status.FAILED if spent else Status.PENDING
    waits_again = status is Status.PENDING and row["attempts"]
    return JobView(
        id=row["payload"]["job"],
        tool=row["identifier"],
        status=status,
        queue_state=QueueState.RETRY if waits_again else _STATES[status],
        priority=-row["priority"],
        attempts=row["attempts"],
        max_attempts=row["max_attempts"],
        token=row["attempts"],
        worker=worker if locked is not None else None,
        output=None,
        error=row["last_error"] if status is not Status.PROCESSING else None,
        unique_key=row["key"] and row["key"].removeprefix(f"{row['identifier']} "),
        created_at=instant_of(row["created_at"]) or 0,
        start_after=instant_of(row["run_at"]) or 0,
        started_at=locked,
        lease_until=None if locked is None else locked + LEASE + STRICTLY,
        completed_at=failed_at if status is Status.FAILED else None,
        expires_at=None,
        serial_key=row["queue_name"],
    )


def deleted(view: JobView, status: Status, now: Instant) -> JobView:
    """Present what became of a job whose row was deleted: that is how a job ends here."""
    state = QueueState.CANCELLED if status is Status.CANCELLED else QueueState.COMPLETED
    return view._replace(status=status, queue_state=state, worker=None, error=None, lease_until=None, completed_at=now)


UNKNOWN_JOB: Final = Outcome.refused("unknown job")
NOTHING: Final = Outcome.refused("graphile-worker changed no row")


class GraphileQueue(AskingQueue):
    """A queue under test over graphile-worker. A claim is told apart by the number of its attempt.

    A job that succeeds is deleted; what it was is remembered here, so that an observer sees how it
    ended. Its functions do not say whether they changed anything; the row, before and after, does.
    """

    capabilities = Capabilities(
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

    def __init__(self, opened: Opened, *, batched: bool = False) -> None:
        """Stand before an opened release; `batched`: its workers are not told what became of their reports."""
        super().__init__(opened)
        self._batched = batched
        self._ended_at = opened.ended_at
        """Tells when a job ended that is seen to have ended: no row keeps it."""
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
        return {row["payload"]["job"]: row for row in self._database.look(LOOK)}

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
                self._seen[job] = deleted(seen._replace(started_at=started_at), ended, self._ended_at())
        return {job: self._seen[job] for job in self._numbers}

    def _view(self, job: JobId, row: Row) -> JobView:
        last = self._seen.get(job)
        known = None if last is None or last.status is not Status.FAILED else last.completed_at
        failed_at = self._ended_at() if known is None else known
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
            "jobKey": request.key_for_all_tools,
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
        return self._claims_of(worker, tools=list(self._tools), limit=limit)

    def _claim(self, told: dict[str, Any], worker: str) -> Claim:
        job, attempt = told["job"], told["attempts"]
        self._workers[job, attempt] = worker
        self._started[job] = self._clocks.store()
        return Claim(job, attempt, attempt, worker, told["tool"], self._clocks.store() + self._settings.lease)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Fail the attempt; there is no final failure."""
        return self._end_claim("fail", claim, message=error)

    def release(self, claim: Claim) -> Outcome:
        """A pool returns what its local queue holds, and by that hands out the same attempt again: it is not asked."""
        raise NotImplementedError

    def _end_claim(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        before = self._rows().get(claim.job)
        outcome = self._ask(question, claim=f"{self._numbers[claim.job]}/{claim.attempt}", **arguments)
        if outcome.done and before == self._rows().get(claim.job):
            holds = before is not None and before["locked_at"] is not None and before["attempts"] == claim.attempt
            return DONE if self._batched and holds else NOTHING
        return without_value(outcome)


def open_engine(version: str = "latest", *, dsn: str | None = None) -> ForeignEngine:
    """Return the engine of a release: `latest`, `0.17`, `0.18.0`; after a slash may stand `batched`, from 0.18 on.

    Raises UsageError for a release before 0.17, for an unknown suffix, and if it is not a version.
    """
    asked, suffix = split_suffix(PACKAGE, version, known=BATCHED)
    whole = RELEASES.checked(newest_npm(PACKAGE, asked))
    number = numbers_of(whole)
    if suffix and number < NEEDS_NEWER_NODE:
        raise UsageError(
            f"{PACKAGE} {whole} keeps its batches where this engine cannot reach them",
            hint=f"Name a release from 0.18 on, such as graphile-worker@0.18.0/{BATCHED}.",
        )
    return ForeignEngine(
        ForeignRelease(
            package=PACKAGE,
            version=f"{whole}{suffix}",
            queue=partial(GraphileQueue, batched=bool(suffix)),
            asked={"batched": True} if suffix else {},
            capabilities=GraphileQueue.capabilities,
            contract=CONTRACT,
            start=in_node(__file__, PACKAGE, whole, oldest=NEWEST_ASKS_FOR if number >= NEEDS_NEWER_NODE else (20, 0)),
            empty=emptied(*TABLES, numbered=TABLES, as_new=True),
            proven_under=Settings(lease=LEASE),
            keeps_sessions=False,  # A session remembers which tasks the database knows.
        ),
        dsn=dsn,
    )
