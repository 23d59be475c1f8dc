"""Real django-tasks-db under test: its own models in a Django in a child, on a PostgreSQL whose clock is ours.

What is here says django-tasks-db in the harness's words and decides nothing: every rule is its own.
`docs` is a section of its README, `django` a page of Django's manual, `src` a module of the
package, with the function.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from job_harness.core.history import Outcome, done
from job_harness.core.model import (
    DAY,
    Duration,
    Instant,
    JobId,
    JobView,
    Json,
    QueueState,
    Settings,
    Status,
    json_problem,
)
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
from job_harness.worlds.peers import newest_python
from job_harness.worlds.wire.database import instant_of, timestamp_of

PACKAGE: Final = "django-tasks-db"
CORE: Final = sys.version_info >= (3, 12)
"""Whether Django 6 runs on this Python, which has the tasks that `django-tasks` brings to older ones."""
BESIDE: Final = ("django>=6,<7",) if CORE else ("django>=5.2,<6", "django-tasks>=0.12")
DRIVER: Final = "psycopg[binary]"
TABLE: Final = "django_tasks_database_dbtaskresult"
A_YEAR: Final[Duration] = 365 * DAY
"""A task that was claimed stays claimed for good; a run ends before a year does."""
WHENEVER: Final[Instant] = -365 * DAY
LAST_YEAR: Final = 9999
"""It writes a task that has no time as due in this year, and takes it at once."""

_ONCE: Final = "a task runs once: nothing retries it (django: topics/tasks, Task results; src: models, set_failed)"
_NO_LEASE: Final = "a task is claimed without a lease, and no other worker takes it over (src: models, claim)"
_LAST: Final = "an outcome is written whatever the row says (src: models, set_successful)"
_FINDINGS: Final = "scenarios/findings/django-tasks-db"
_KILLED: Final = Known(
    frozenset({"job_stuck"}), f"django-tasks-db#5; {_FINDINGS}/a_killed_worker_leaves_its_task_running.yaml"
)
_NUL: Final = Known(frozenset({"outcome_lost", "job_stuck"}), f"{_FINDINGS}/a_nul_ends_the_worker.yaml")


def effective(settings: Settings) -> Settings:
    """One attempt, and no end to it."""
    return settings.changed(max_attempts=1, lease=A_YEAR, heartbeat_interval=0)


CONTRACT: Final = Contract(
    documented={"final_error_retried": Documented(_ONCE, verbs=frozenset({"fail"}))},
    differences={
        **dict.fromkeys(
            (
                "retries/backoff_doubles",
                "retries/backoff_is_capped",
                "retries/comes_to_its_turn",
                "retries/fails_then_succeeds",
                "retries/fails_until_attempts_are_used_up",
                "crashes/before_claiming",
                "expiry/hung_job_is_timed_out",
                "hostile/output_with_nan",
                "clocks/store_clock_is_behind",
                "scheduling/retry_does_not_hold_up_the_queue",
            ),
            _ONCE,
        ),
        "crashes/reply_lost_after_completing": _LAST,
        "zombies/failure_after_completion": _NO_LEASE,
        "zombies/late_complete": _NO_LEASE,
        "zombies/late_fail": _NO_LEASE,
        "zombies/result_after_completion": _NO_LEASE,
    },
    known={
        "crashes/before_completing": _KILLED,
        "crashes/before_failing": _KILLED,
        "crashes/before_starting": _KILLED,
        "crashes/every_attempt_crashes": _KILLED,
        "crashes/while_running": _KILLED,
        "hostile/error_with_lone_surrogate": _NUL,
        "hostile/error_with_nul": _NUL,
        "hostile/job_kills_its_worker": _KILLED,
        "maintenance/overdue_behind_a_long_job": _KILLED,
    },
    effective=effective,
    ignored={
        "lease": _NO_LEASE,
        **dict.fromkeys(("max_attempts", "retry_delay", "retry_backoff", "retry_delay_max"), _ONCE),
    },
    oldest_first=False,
    unseen=OWN_CLOCKS,
)

LOOK: Final = f"""
SELECT id::text, status, priority, args_kwargs, enqueued_at, started_at, finished_at, run_after, worker_ids,
       return_value, traceback
FROM {TABLE} ORDER BY id
""".encode()
_STATES: Final = {
    "READY": (Status.PENDING, QueueState.CREATED),
    "RUNNING": (Status.PROCESSING, QueueState.ACTIVE),
    "SUCCESSFUL": (Status.COMPLETED, QueueState.COMPLETED),
    "FAILED": (Status.FAILED, QueueState.FAILED),
}


def view_of(row: Mapping[str, Any]) -> JobView:
    """Present a row as an observer sees it: it lists every worker that took the task."""
    status, state = _STATES[row["status"]]
    sent = row["args_kwargs"]["kwargs"]
    workers = row["worker_ids"]
    at_once = row["run_after"].year == LAST_YEAR
    return JobView(
        id=sent["job"],
        tool=sent["tool"],
        status=status,
        queue_state=state,
        priority=row["priority"],
        attempts=len(workers),
        max_attempts=1,
        token=len(workers),
        worker=workers[-1] if status is Status.PROCESSING else None,
        output=row["return_value"] if status is Status.COMPLETED else None,
        error=_last_error(row["traceback"]) if status is Status.FAILED else None,
        unique_key=None,
        created_at=instant_of(row["enqueued_at"]) or 0,
        start_after=WHENEVER if at_once else instant_of(row["run_after"]) or 0,
        started_at=instant_of(row["started_at"]),
        lease_until=None,
        completed_at=instant_of(row["finished_at"]),
        expires_at=None,
    )


def _last_error(traceback: str) -> str:
    """Return the text of the error that a traceback ends with."""
    before, _, ours = traceback.rstrip("\n").rpartition("TaskFailed: ")
    return ours if before else traceback.rstrip("\n").rpartition("\n")[2]


class DjangoTasksQueue(AskingQueue):
    """A queue under test over django-tasks-db. There is no lease, so nothing is ever taken back."""

    capabilities = Capabilities(
        priorities=True,
        start_after=True,
        virtual_time=True,
        final_errors=False,
        own_attempts=False,
    )

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self._ids: dict[JobId, str] = {}

    def _stamped(self, now: Instant) -> dict[str, Any]:
        return {"now": timestamp_of(now).isoformat()}

    def jobs(self) -> dict[JobId, JobView]:
        """Read all tasks, oldest first."""
        views = map(view_of, self._database.look(LOOK))
        return {view.id: view for view in views}

    def enqueue(self, request: JobRequest) -> Outcome:
        """Enqueue a task."""
        if refusal := self._unacceptable(request, self._ids):
            return refusal
        outcome = self._ask(
            "enqueue",
            kwargs={"job": request.id, "tool": request.tool, "input": request.input},
            priority=request.priority,
            run_after=None if request.start_after is None else timestamp_of(request.start_after).isoformat(),
        )
        if not outcome.done:
            return outcome
        self._ids[request.id] = outcome.value
        return done(request.id)

    def _claim(self, told: dict[str, Any], worker: str) -> Claim:
        runs = told["runs"]
        return Claim(told["job"], runs, runs, worker, told["tool"], self._clocks.store() + A_YEAR)

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Record a success; what cannot be recorded is a failure."""
        if problem := json_problem(output):
            return Outcome.refused(f"JSON cannot hold it: {problem}")
        return without_value(self._ask("complete", id=self._ids[claim.job], output=output))

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Record a failure, with its traceback."""
        return without_value(self._ask("fail", id=self._ids[claim.job], message=error))

    def expire(self) -> Outcome:
        """Nothing looks for the tasks of workers that died."""
        return done([])


def _empty(opened: Opened) -> None:
    opened.database.empty(TABLE, as_new=True)


def open_engine(version: str = "latest", *, dsn: str | None = None) -> ForeignEngine:
    """Return the engine of a release: `latest`, `0.13`, `0.13.0`. Raises UsageError if it is not a version."""
    number = newest_python(PACKAGE, version)
    return ForeignEngine(
        ForeignRelease(
            package=PACKAGE,
            version=number,
            queue=DjangoTasksQueue,
            capabilities=DjangoTasksQueue.capabilities,
            contract=CONTRACT,
            start=in_python(__file__, PACKAGE, number, DRIVER, *BESIDE),
            empty=_empty,
            gated=False,  # Django's ORM holds the child's only thread while a statement waits at its gate.
        ),
        dsn=dsn,
    )
