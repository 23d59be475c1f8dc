"""Real procrastinate under test: its own code in a child, on a PostgreSQL whose clock is ours.

What is here says procrastinate in the harness's words and decides nothing: every rule is
procrastinate's. Each part of the contract names the place where procrastinate says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final

from job_harness.core.history import Outcome, done
from job_harness.core.model import DAY, SECOND, Duration, Instant, JobId, JobView, QueueState, Settings, Status
from job_harness.core.port import Capabilities, Claim, Contract, Documented, JobRequest, Known
from job_harness.engines.foreign_queue import (
    OWN_CLOCKS,
    AskingQueue,
    ForeignEngine,
    ForeignRelease,
    Opened,
    emptied,
    in_python,
    without_value,
)
from job_harness.engines.releases import Runnable, numbers_of, split_suffix
from job_harness.worlds.peers import newest_python
from job_harness.worlds.wire.database import instant_of, timestamp_of

PACKAGE: Final = "procrastinate"
UNATTENDED: Final = "unattended"
"""After a slash behind the release: the manual's task for stalled jobs is not run, as after a plain installation."""
DRIVER: Final = "psycopg[binary]"
TABLES: Final = ("procrastinate_events", "procrastinate_periodic_defers", "procrastinate_jobs")
WORKERS: Final = "procrastinate_workers"
WITH_WORKERS: Final = (3, 1)
"""From here on procrastinate has that table."""
RELEASES: Final = Runnable(
    PACKAGE, PACKAGE, "2.7.0", "writes no event where a job is aborted, which is how this engine sees that it ended"
)

NO_CAP: Final[Duration] = 8_000 * 365 * DAY
"""No wait is longer: that is how far its calendar goes."""


def effective(settings: Settings) -> Settings:
    """There is no longest wait; an exponential one is added to the constant one, and grows no faster than a delay."""
    return settings.changed(retry_delay_max=NO_CAP)


_NO_RESULTS: Final = "results and errors are not stored: a job's row has no place for them (source: sql/schema.sql)"
_AT_ONCE: Final = "a stalled job is retried at once (docs: howto/production/retry_stalled_jobs)"
_ONE_HEARTBEAT: Final = "a worker's heartbeat is one for all that it runs (docs: howto/production/retry_stalled_jobs)"
_ONE_WAITING: Final = (
    "a queueing lock allows one job in todo, and several in doing (docs: howto/advanced/queueing_locks)"
)
_BY_CLASS: Final = "a strategy leaves exceptions by their class (docs: howto/advanced/retry, Advanced strategies)"
_WAITS: Final = "a wait is constant, linear or a power, without a cap (docs: howto/advanced/retry, Advanced strategies)"
_ABORT: Final = (
    "a job that runs can only be asked to abort (docs: howto/advanced/cancellation, Mark a running job for abortion)"
)
_FINDINGS: Final = "scenarios/findings/procrastinate"
_ABORTING: Final = f"procrastinate#1131; {_FINDINGS}/a_job_asked_to_abort_that_fails_goes_on_for_good.yaml"
_FOR_EVER: Final = Known(
    frozenset({"attempt_overrun"}), f"{_FINDINGS}/a_job_that_kills_its_worker_is_run_for_ever.yaml"
)

CONTRACT: Final = Contract(
    documented={
        "wrong_result": Documented(_NO_RESULTS, verbs=frozenset({"complete"}), scenario="retries/fails_then_succeeds"),
        "error_lost": Documented(_NO_RESULTS, verbs=frozenset({"expire", "fail"}), scenario="retries/backoff_doubles"),
        "success_without_run": Documented(_NO_RESULTS, verbs=frozenset({"complete"})),
        "backoff_out_of_range": Documented(
            f"{_AT_ONCE}; {_WAITS}",
            verbs=frozenset({"expire", "fail"}),
            states=frozenset({Status.PROCESSING}),
            scenario="retries/backoff_doubles",
        ),
        "unique_key_shared": Documented(
            _ONE_WAITING,
            verbs=frozenset({"enqueue", "fail", "expire", "retry", "claim"}),
            scenario="uniqueness/refused_while_the_first_runs",
        ),
        "stale_heartbeat": Documented(_ONE_HEARTBEAT, verbs=frozenset({"heartbeat"})),
        "final_error_retried": Documented(
            _BY_CLASS,
            verbs=frozenset({"fail"}),
            states=frozenset({Status.PROCESSING}),
            scenario="uniqueness/key_is_free_after_failure",
        ),
    },
    differences={
        "lifecycle/operator_retries_failed_job": (
            "a retry by hand only sets a failed job back to todo (docs: howto/advanced/retry, Retry a Job Manually)"
        ),
        "retries/backoff_doubles": _WAITS,
        "retries/backoff_is_capped": _WAITS,
        "retries/final_error_is_not_retried": _BY_CLASS,
        "crashes/while_running": _AT_ONCE,
        "uniqueness/key_is_free_after_failure": _BY_CLASS,
        "uniqueness/retry_is_refused_while_another_has_the_key": _BY_CLASS,
        "cancel/then_its_worker_dies": _ABORT,
        "cancel/then_its_worker_fails": _ABORT,
        "cancel/then_its_worker_succeeds": _ABORT,
    },
    known={
        "uniqueness/failed_job_waits_beside_its_sibling": Known(
            frozenset({"outcome_lost", "batch_poisoned", "double_claim"}),
            f"procrastinate#1446, procrastinate#1543; {_FINDINGS}/a_retry_that_finds_its_lock_taken.yaml",
        ),
        "zombies/late_fail": Known(
            frozenset({"illegal_transition", "stale_complete", "stale_fail"}),
            f"{_FINDINGS}/a_late_result_is_taken.yaml",
        ),
        "hostile/job_kills_its_worker": _FOR_EVER,
        "maintenance/one_bad_job_does_not_stop_the_rest": _FOR_EVER,
    },
    effective=effective,
    ignored={"retry_delay_max": _WAITS},
    unseen=OWN_CLOCKS,
)

SESSIONS_CONTRACT: Final = replace(
    CONTRACT,
    documented={
        **CONTRACT.documented,
        "foreign_clock": Documented(
            "a lease is its worker's earlier heartbeat (docs: howto/production/retry_stalled_jobs)",
            verbs=frozenset({"claim"}),
            states=frozenset({Status.PENDING}),
        ),
    },
)
"""Where a claim's statements come one by one: the lease of a job that is fetched is older than the fetch."""


SECOND_CONTRACT: Final = replace(
    CONTRACT,
    documented={
        **{anomaly: place for anomaly, place in CONTRACT.documented.items() if anomaly != "stale_heartbeat"},
        "cancel_ignored": Documented(_ABORT, verbs=frozenset({"cancel"}), states=frozenset({Status.PROCESSING})),
    },
    known={
        **CONTRACT.known,
        "cancel/then_its_worker_dies": Known(frozenset({"job_stuck", "overdue_claim_left"}), _ABORTING),
        "cancel/then_its_worker_fails": Known(frozenset({"failed_early"}), _ABORTING),
    },
)
"""Before 3.1, a job that runs is asked to abort, which in procrastinate 2 is a status of its own."""


LOOK: Final = b"""
SELECT j.task_name, j.status::text AS status, j.priority, j.queueing_lock, j.args, j.scheduled_at, j.attempts, %s,
       (SELECT min(at) FROM procrastinate_events e WHERE e.job_id = j.id AND e.type = 'deferred') AS created_at,
       (SELECT max(at) FROM procrastinate_events e WHERE e.job_id = j.id AND e.type = 'started') AS started_at,
       (SELECT max(at) FROM procrastinate_events e
         WHERE e.job_id = j.id AND e.type IN ('succeeded', 'failed', 'cancelled', 'aborted')) AS completed_at
FROM procrastinate_jobs j %s ORDER BY j.id
"""
BY_HEARTBEAT: Final = LOOK % (b"w.last_heartbeat", b"LEFT JOIN procrastinate_workers w ON w.id = j.worker_id")
BY_START: Final = LOOK % (
    b"(SELECT max(at) FROM procrastinate_events e WHERE e.job_id = j.id AND e.type = 'started') AS last_heartbeat",
    b"",
)
"""Where there are no heartbeats, a job stalls so long after it was started."""
_STATES: Final = {
    "todo": (Status.PENDING, QueueState.CREATED),
    "doing": (Status.PROCESSING, QueueState.ACTIVE),
    "aborting": (Status.PROCESSING, QueueState.ACTIVE),
    "succeeded": (Status.COMPLETED, QueueState.COMPLETED),
    "failed": (Status.FAILED, QueueState.FAILED),
    "cancelled": (Status.CANCELLED, QueueState.CANCELLED),
    "aborted": (Status.CANCELLED, QueueState.CANCELLED),
}
WHENEVER: Final[Instant] = -365 * DAY
"""A job without a time is due whatever the clock says, and a clock may go wrong before the start of a run."""
STRICTLY: Final[Duration] = 1
"""A worker is silent for too long strictly after the time, a microsecond later."""


def view_of(row: Mapping[str, Any], *, most: int, lease: Duration, worker: str | None, by_hand: int) -> JobView:
    """Present a row as an observer sees it.

    procrastinate counts an attempt when it ends, and a retry `by_hand` as well; the view counts
    deliveries, when they begin.
    """
    status, state = _STATES[row["status"]]
    running = status is Status.PROCESSING
    number = row["attempts"] + running
    attempts = number - by_hand
    heartbeat = instant_of(row["last_heartbeat"])
    lock = row["queueing_lock"]
    return JobView(
        id=row["args"]["job"],
        tool=row["task_name"],
        status=status,
        queue_state=QueueState.RETRY if status is Status.PENDING and attempts else state,
        priority=row["priority"],
        attempts=attempts,
        max_attempts=most,
        token=number,
        worker=worker if running else None,
        output=None,
        error=None,
        unique_key=None if lock is None else lock.removeprefix(f"{row['task_name']} "),
        created_at=instant_of(row["created_at"]) or 0,
        start_after=WHENEVER if row["scheduled_at"] is None else instant_of(row["scheduled_at"]) or 0,
        started_at=instant_of(row["started_at"]) if status is not Status.PENDING else None,
        lease_until=heartbeat + lease + STRICTLY if running and heartbeat is not None else None,
        completed_at=instant_of(row["completed_at"]) if status not in (Status.PENDING, Status.PROCESSING) else None,
        expires_at=None,
    )


_NUMBER: Final = re.compile(r"job id: (\d+)")
BASE: Final = 2
"""Of the exponential wait."""
UNKNOWN_JOB: Final = Outcome.refused("unknown job")


class ProcrastinateQueue(AskingQueue):
    """A queue under test over procrastinate. A claim is told apart by the attempts of its row."""

    look: ClassVar[bytes] = BY_HEARTBEAT

    capabilities = Capabilities(
        heartbeat=True,
        cancel=True,
        retry=True,
        priorities=True,
        unique=True,
        start_after=True,
        virtual_time=True,
        fencing=True,
        results=False,
    )

    def __init__(self, opened: Opened, *, attended: bool = True) -> None:
        """Attended: whether the manual's task for stalled jobs is run."""
        super().__init__(opened)
        self._attended = attended
        self._numbers: dict[JobId, int] = {}
        self._most: dict[JobId, int] = {}
        self._by_hand: dict[JobId, int] = {}
        """How often an operator retried a job: its row counts that as an attempt, and nothing was delivered."""
        self._granted: dict[JobId, int] = {}
        """The attempt that the last retry by hand allowed, whatever the limit."""
        self._workers: dict[tuple[JobId, int], str] = {}

    def _stamped(self, now: Instant) -> dict[str, Any]:
        return {"now": timestamp_of(now).isoformat()}

    def _stable_reason(self, reason: object) -> str:
        """Name a job as the harness does: its number in the database is another one in every run."""
        names = {str(number): job for job, number in self._numbers.items()}
        return _NUMBER.sub(lambda found: f"job id: {names.get(found[1], found[1])}", str(reason))

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        views = {}
        for row in self._database.look(self.look):
            job = row["args"]["job"]
            worker = self._workers.get((job, row["attempts"] + 1))
            most = max(self._most.get(job, self._settings.max_attempts), self._granted.get(job, 0))
            by_hand = self._by_hand.get(job, 0)
            views[job] = view_of(row, most=most, lease=self._settings.lease, worker=worker, by_hand=by_hand)
        return views

    # producers and operators ----------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Defer a job to the queue of its tool."""
        if refusal := self._unacceptable(request, self._numbers):
            return refusal
        start = None if request.start_after is None else timestamp_of(request.start_after).isoformat()
        outcome = self._ask(
            "enqueue",
            tool=request.tool,
            args={"job": request.id, "input": request.input},
            priority=request.priority,
            queueing_lock=request.key_for_all_tools,
            start_after=start,
        )
        if not outcome.done:
            return outcome
        self._numbers[request.id] = outcome.value
        self._most[request.id] = request.max_attempts or self._settings.max_attempts
        return done(request.id)

    def cancel(self, job: JobId) -> Outcome:
        """Cancel what waits; what runs goes on."""
        return self._ask_by_id("cancel", job)

    def retry(self, job: JobId) -> Outcome:
        """Retry what failed, once: its strategy has used up its attempts. What runs is left to the sweep."""
        before = self.jobs().get(job)
        if before is not None and before.status is not Status.FAILED:
            return Outcome.refused(f"the job is {before.status}")
        outcome = self._ask_by_id("retry", job)
        if outcome.done and before is not None:
            self._by_hand[job] = self._by_hand.get(job, 0) + 1
            self._granted[job] = before.attempts + 1
        return outcome

    def _ask_by_id(self, question: str, job: JobId) -> Outcome:
        number = self._numbers.get(job)
        return UNKNOWN_JOB if number is None else without_value(self._ask(question, id=number))

    # workers --------------------------------------------------------------------------------------------------------

    def _claim(self, job: dict[str, Any], worker: str) -> Claim:
        name, number = job["args"]["job"], job["attempts"] + 1
        self._workers[name, number] = worker
        attempt = number - self._by_hand.get(name, 0)
        return Claim(name, attempt, number, worker, job["tool"], self._clocks.store() + self._settings.lease)

    def heartbeat(self, claim: Claim) -> Outcome:
        """Show that the worker lives: this keeps all its jobs, and it does not learn of any that it lost."""
        return without_value(self._ask("heartbeat", worker=claim.worker))

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Retry or finish as failed, as the retry strategy decides; the error is not kept."""
        most = self._most.get(claim.job, self._settings.max_attempts)
        return self._end_claim("fail", claim, most=most, **self._waits())

    def _waits(self) -> dict[str, int]:
        """Say how long a retry waits, in whole seconds: first the delay, and with backoff ever longer."""
        wait = -(-self._settings.retry_delay // SECOND)
        if not self._settings.retry_backoff:
            return {"wait": wait, "exponential_wait": 0}
        return {"wait": max(0, wait - BASE), "exponential_wait": BASE}

    def _end_claim(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        about: dict[str, Any] = {"worker": claim.worker, "id": self._numbers[claim.job], "attempts": claim.token - 1}
        return without_value(self._ask(question, **about, **arguments))

    # upkeep ---------------------------------------------------------------------------------------------------------

    def expire(self) -> Outcome:
        """Retry the jobs of workers that went silent, as its manual tells its users to do."""
        if not self._attended:
            return done([])
        outcome = self._ask("expire", seconds=self._settings.lease / SECOND)
        names = {number: job for job, number in self._numbers.items()}
        return done([names[number] for number in outcome.value]) if outcome.done else outcome


class SecondProcrastinateQueue(ProcrastinateQueue):
    """The same over procrastinate before 3.1, which has no heartbeats and no retry by hand.

    Where a job that is asked to abort ends otherwise, it writes no event and counts no attempt.
    """

    look = BY_START
    capabilities = replace(ProcrastinateQueue.capabilities, heartbeat=False, retry=False)

    def __init__(self, opened: Opened, *, attended: bool = True) -> None:
        super().__init__(opened, attended=attended)
        self._ended_at = opened.ended_at
        self._unwritten: dict[JobId, Instant] = {}
        """When each job without an event was first seen to have ended."""

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        return {job: self._whole(view) for job, view in super().jobs().items()}

    def _whole(self, view: JobView) -> JobView:
        if not view.terminal or view.completed_at is not None:
            return view
        number = view.token + 1
        ended_at = self._unwritten.setdefault(view.id, self._ended_at())
        return view._replace(attempts=number, token=number, completed_at=ended_at)


def open_engine(version: str = "latest", *, dsn: str | None = None) -> ForeignEngine:
    """Return the engine of a release: `latest`, `3`, `3.8.1`; after a slash may stand `unattended`.

    Raises UsageError for a release that it cannot run, and for an unknown version or suffix.
    """
    asked, suffix = split_suffix(PACKAGE, version, known=UNATTENDED)
    number = RELEASES.checked(newest_python(PACKAGE, asked))
    second = numbers_of(number) < WITH_WORKERS
    queue = SecondProcrastinateQueue if second else ProcrastinateQueue
    workers = () if second else (WORKERS,)
    return ForeignEngine(
        ForeignRelease(
            package=PACKAGE,
            version=f"{number}{suffix}",
            queue=partial(queue, attended=not suffix),
            capabilities=queue.capabilities,
            contract=SECOND_CONTRACT if second else CONTRACT,
            start=in_python(__file__, PACKAGE, number, DRIVER),
            empty=emptied(*TABLES, *workers, numbered=("procrastinate_jobs", *workers)),
            gated=not second,
            with_sessions={"contract": SESSIONS_CONTRACT},
        ),
        dsn=dsn,
    )
