"""Real Chancy under test: its own application, worker and plugins in a child, on a PostgreSQL whose clock is ours.

What is here says Chancy in the harness's words and decides nothing: its plugins for retries and
recovery are on, and each worker writes its updates at once. `src` is a module of Chancy, with the
function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from job_harness.core.faults import DEATHS, SILENCING
from job_harness.core.history import Outcome, done
from job_harness.core.model import DAY, SECOND, Duration, Instant, JobId, JobView, Json, QueueState, Settings, Status
from job_harness.core.port import Capabilities, Claim, Contract, Documented, JobRequest, Known
from job_harness.engines.foreign_queue import (
    OWN_CLOCKS,
    AskingQueue,
    ForeignEngine,
    ForeignRelease,
    Opened,
    in_python,
    without_value,
)
from job_harness.engines.releases import Runnable
from job_harness.worlds.peers import newest_python
from job_harness.worlds.wire.database import instant_of, timestamp_of

PACKAGE: Final = "chancy"
DRIVER: Final = "psycopg[binary,pool]"
RELEASES: Final = Runnable(
    PACKAGE, PACKAGE, "0.22.0", "starts plugins of its own beside those that this engine asks for, which no clock holds"
)
WHENEVER: Final[Instant] = -365 * DAY
STRICTLY: Final[Duration] = 1
"""A worker is silent for too long strictly after the time, a microsecond later."""

_NO_RESULTS: Final = "what a job returns is stored nowhere (src: executors/base.Executor.on_job_completed)"
_AT_ONCE: Final = "what a lost worker ran is pending at once, and may run once more (src: plugins/recovery.Recovery)"
_ONE_MORE: Final = "what a lost worker ran gets one attempt more (src: plugins/recovery.Recovery)"
_NOT_COUNTED: Final = "what a lost worker ran counts as no attempt (src: executors/base.Executor.on_job_completed)"
_ONE_HEARTBEAT: Final = "a worker's heartbeat is one for all that it runs (src: worker.Worker.announce_worker)"
_BY_RETRY: Final = "whether a failure is final is not asked (src: plugins/retry.RetryPlugin)"

_FINDINGS: Final = "scenarios/findings/chancy"
_LATE: Final = f"{_FINDINGS}/a_late_result_is_taken.yaml"


def effective(settings: Settings) -> Settings:
    """A worker counts as lost after whole seconds."""
    return settings.changed(lease=-(-settings.lease // SECOND) * SECOND)


_LATELY: Final = frozenset(
    {"illegal_transition", "terminal_job_revived", "stale_fail", "stale_complete", "backoff_out_of_range"}
)

CONTRACT: Final = Contract(
    documented={
        "wrong_result": Documented(_NO_RESULTS, verbs=frozenset({"complete"}), scenario="retries/fails_then_succeeds"),
        "success_without_run": Documented(_NO_RESULTS, verbs=frozenset({"complete"})),
        "error_lost": Documented(_AT_ONCE, verbs=frozenset({"expire"})),
        "backoff_out_of_range": (
            Documented(_AT_ONCE, verbs=frozenset({"expire"})),
            Documented(_NOT_COUNTED, verbs=frozenset({"fail"}), faults=SILENCING),
        ),
        "attempt_overrun": Documented(
            _ONE_MORE, verbs=frozenset({"claim"}), states=frozenset({Status.PENDING}), scenario="crashes/while_running"
        ),
        "stale_heartbeat": Documented(_ONE_HEARTBEAT, verbs=frozenset({"heartbeat"})),
        "final_error_retried": Documented(_BY_RETRY, verbs=frozenset({"fail"})),
        "livelock": Documented(_AT_ONCE, faults=DEATHS, scenario="hostile/job_kills_its_worker"),
    },
    differences={
        "crashes/while_running": _AT_ONCE,
        "hostile/job_kills_its_worker": _AT_ONCE,
        "maintenance/one_bad_job_does_not_stop_the_rest": _AT_ONCE,
    },
    known={
        "hostile/error_with_lone_surrogate": Known(
            frozenset({"outcome_lost"}), "scenarios/hostile/error_with_lone_surrogate.yaml"
        ),
        "uniqueness/failed_job_waits_beside_its_sibling": Known(
            frozenset({"illegal_transition"}), f"{_FINDINGS}/a_second_push_restarts_what_runs.yaml"
        ),
        "zombies/failure_after_completion": Known(_LATELY, _LATE),
        "zombies/late_fail": Known(_LATELY, _LATE),
    },
    effective=effective,
    unseen=OWN_CLOCKS,
)

LOOK: Final = b"""
SELECT replace(id::text, '-', '') AS id, state, priority, taken_by, created_at, started_at, completed_at,
       scheduled_at, unique_key, errors, kwargs,
       (SELECT last_seen FROM chancy_workers AS w WHERE w.worker_id = taken_by) AS last_seen
FROM chancy_jobs ORDER BY id
"""
_STATES: Final = {
    "pending": (Status.PENDING, QueueState.CREATED),
    "retrying": (Status.PENDING, QueueState.RETRY),
    "running": (Status.PROCESSING, QueueState.ACTIVE),
    "succeeded": (Status.COMPLETED, QueueState.COMPLETED),
    "failed": (Status.FAILED, QueueState.FAILED),
}
_WITH_ERROR: Final = (Status.PENDING, Status.FAILED)
"""What a job that succeeded keeps of earlier attempts is their record."""


class ChancyQueue(AskingQueue):
    """A queue under test over Chancy. A job counts an attempt when it ends; deliveries are counted here.

    To cancel a job is to notify the workers that are there, which is not asked for.
    """

    capabilities = Capabilities(
        heartbeat=True,
        priorities=True,
        unique=True,
        start_after=True,
        virtual_time=True,
        fencing=True,
        results=False,
        final_errors=False,
    )

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self._ids: dict[str, JobId] = {}
        self._sent: dict[JobId, JobRequest] = {}
        self._taken: dict[JobId, list[tuple[str, int]]] = {}
        """Worker and number of each delivery."""
        self._number = 0

    def _stamped(self, now: Instant) -> Mapping[str, Any]:
        return {"now": timestamp_of(now).isoformat()}

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        rows = self._database.look(LOOK)
        return {row["kwargs"]["job"]: self._view(row["kwargs"]["job"], row) for row in rows}

    def _view(self, job: JobId, row: Mapping[str, Any]) -> JobView:
        request, taken = self._sent[job], self._taken[job]
        status, state = _STATES[row["state"]]
        running = status is Status.PROCESSING and bool(taken)
        seen = instant_of(row["last_seen"] or row["started_at"])  # a worker that is silent for too long has no row
        after = instant_of(row["scheduled_at"]) or 0
        never = not taken and request.start_after is None
        key = row["unique_key"]
        return JobView(
            id=job,
            tool=request.tool,
            status=status,
            queue_state=QueueState.RETRY if status is Status.PENDING and taken else state,
            priority=row["priority"],
            attempts=len(taken),
            max_attempts=request.max_attempts or self._settings.max_attempts,
            token=taken[-1][1] if taken else 0,
            worker=taken[-1][0] if running else None,
            output=None,
            error=row["errors"][-1]["traceback"].strip() if row["errors"] and status in _WITH_ERROR else None,
            unique_key=None if key is None else key.removeprefix(f"{request.tool} "),
            created_at=instant_of(row["created_at"]) or 0,
            start_after=WHENEVER if never else after,
            started_at=instant_of(row["started_at"]) if status is not Status.PENDING else None,
            lease_until=seen + self._settings.lease + STRICTLY if running and seen is not None else None,
            completed_at=instant_of(row["completed_at"])
            if state in (QueueState.COMPLETED, QueueState.FAILED)
            else None,
            expires_at=None,
        )

    def enqueue(self, request: JobRequest) -> Outcome:
        """Push a job; for a key that is held, return the job that holds it."""
        if refusal := self._unacceptable(request, self._sent):
            return refusal
        settings = self._settings
        waits = {
            "backoff": settings.retry_delay / SECOND,
            "backoff_factor": 2 if settings.retry_backoff else 1,
            "backoff_limit": (settings.retry_delay_max if settings.retry_backoff else settings.retry_delay) / SECOND,
            "backoff_jitter": [0, 0],
        }
        outcome = self._ask(
            "enqueue",
            after=None if request.start_after is None else timestamp_of(request.start_after).isoformat(),
            kwargs={"job": request.id, "tool": request.tool, "input": request.input},
            priority=request.priority,
            max_attempts=request.max_attempts or settings.max_attempts,
            unique_key=None if request.unique_key is None else f"{request.tool} {request.unique_key}",
            meta={"retry_settings": waits},
        )
        if not outcome.done:
            return outcome
        if outcome.value in self._ids:
            return Outcome.refused("the key is held", self._ids[outcome.value])
        self._ids[outcome.value] = request.id
        self._sent[request.id], self._taken[request.id] = request, []
        return done(request.id)

    def claim(self, worker: str, limit: int) -> Outcome:
        """Fetch jobs."""
        return self._claims_of(worker, limit=limit, number=self._number)

    def _claim(self, told: dict[str, Any], worker: str) -> Claim:
        job, self._number = told["job"], told["number"]
        self._taken[job].append((worker, self._number))
        return Claim(
            job, len(self._taken[job]), self._number, worker, told["tool"], self._clocks.store() + self._settings.lease
        )

    def heartbeat(self, claim: Claim) -> Outcome:
        """Show that the worker lives: this keeps all its jobs, and it does not learn of any that it lost."""
        return without_value(self._ask("heartbeat", worker=claim.worker))

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Write that the job succeeded; its result is not kept."""
        return without_value(self._ask("complete", worker=claim.worker, number=claim.token))

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Write the failure, or that it is retried, as its plugin decides."""
        return without_value(self._ask("fail", worker=claim.worker, number=claim.token, error=error))


def open_engine(version: str = "latest", *, dsn: str | None = None) -> ForeignEngine:
    """Return the engine of a release: `latest`, `0.25`, `0.25.0`.

    Raises UsageError for one before 0.22, and for an unknown version.
    """
    number = RELEASES.checked(newest_python(PACKAGE, version))
    return ForeignEngine(
        ForeignRelease(
            package=PACKAGE,
            version=number,
            queue=ChancyQueue,
            capabilities=ChancyQueue.capabilities,
            contract=CONTRACT,
            start=in_python(__file__, PACKAGE, number, DRIVER),
            empty=lambda opened: opened.database.empty("chancy_jobs", "chancy_workers"),
            reset=lambda opened: {"silence": effective(opened.settings).lease // SECOND},
            gated=False,
        ),
        dsn=dsn,
    )
