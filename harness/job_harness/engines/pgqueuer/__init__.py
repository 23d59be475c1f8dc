"""Real PgQueuer under test: its own code in a child, on a PostgreSQL whose clock is ours.

What is here says PgQueuer in the harness's words and decides nothing: every rule is PgQueuer's. In
the contract `docs` is a page below docs/ of its repository, with the section; `src` a module of the
package, with the function.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from job_harness.core.faults import DEATHS, SILENCING
from job_harness.core.faults.clocks import CLOCK_DRIFT
from job_harness.core.faults.processes import SHUTDOWN
from job_harness.core.history import Outcome, done
from job_harness.core.model import Duration, JobId, JobView, QueueState, Settings, Status
from job_harness.core.port import Capabilities, Claim, Contract, Documented, JobRequest, Known
from job_harness.engines.foreign_queue import (
    AskingQueue,
    ForeignEngine,
    ForeignRelease,
    Opened,
    emptied,
    in_python,
    without_value,
)
from job_harness.engines.releases import Runnable
from job_harness.worlds.peers import newest_python
from job_harness.worlds.wire.database import instant_of

PACKAGE: Final = "pgqueuer"
DRIVER: Final = "psycopg[binary,pool]"
RELEASES: Final = Runnable(
    PACKAGE, PACKAGE, "1.0.0", "has no retries: a job whose run fails is gone, and this engine asks for another one"
)
TABLES: Final = ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics", "pgqueuer_schedules")


def effective(settings: Settings) -> Settings:
    """A limit is one entrypoint's: that on all of them is kept by each worker for itself alone."""
    limits = [limit for limit in (settings.concurrency, settings.tool_concurrency) if limit]
    return settings.changed(concurrency=0, tool_concurrency=min(limits, default=0))


_NO_TOKENS: Final = "there are no fencing tokens (docs: adr/ADR-0004, Positive consequences)"
_BY_ID: Final = (
    "a late worker settles a job by its id alone, waiting or held"
    f" (src: adapters/persistence/qb, build_log_job_query and build_retry_job_query): {_NO_TOKENS}"
)
_NOT_COUNTED: Final = (
    "attempts count retries that were requested (docs: guides/retry, How it works), and a job that is delivered again"
    " is not told so (docs: adr/ADR-0004, Negative consequences)"
)
_AT_ONCE: Final = (
    "a job whose heartbeat is too old is claimable as any other, with no delay after a crash"
    " (docs: adr/ADR-0005, Decision; guides/concurrency-control, Configuring timeouts)"
)
_NO_FINAL: Final = (
    "its retrying executor retries after any exception"
    " (docs: guides/retry, Automatic retry with DatabaseRetryEntrypointExecutor)"
)
_NOT_TOLD: Final = (
    "an outcome of a job that left the table changes nothing, and the worker is not told"
    " (src: adapters/persistence/qb, build_log_job_query)"
)
_NO_RESULTS: Final = (
    "what a run returns is not looked at: its job is deleted, and logged by its status alone"
    " (docs: guides/retry, Behavior summary; guides/reliability, Audit Trail)"
)

STALES: Final = SILENCING.union(CLOCK_DRIFT.events, SHUTDOWN.events)
"""What makes a job stale: its worker is gone, or its heartbeats are."""

CONTRACT: Final = Contract(
    documented={
        "wrong_result": Documented(_NO_RESULTS, verbs=frozenset({"complete"}), scenario="retries/fails_then_succeeds"),
        "success_without_run": Documented(_NO_RESULTS, verbs=frozenset({"complete"})),
        "error_lost": Documented(
            "a job whose worker died keeps its row as it was picked (docs: guides/reliability, Worker-crash recovery)",
            verbs=frozenset({"expire"}),
            states=frozenset({Status.PROCESSING}),
            scenario="crashes/while_running",
        ),
        "stale_complete": Documented(
            _NO_TOKENS, verbs=frozenset({"complete"}), scenario="cancel/then_its_worker_succeeds"
        ),
        "stale_heartbeat": Documented(_NO_TOKENS, verbs=frozenset({"heartbeat"})),
        "stale_fail": Documented(_NO_TOKENS, verbs=frozenset({"fail"}), scenario="zombies/late_fail"),
        "illegal_transition": Documented(
            _BY_ID,
            verbs=frozenset({"complete", "fail", "heartbeat"}),
            states=frozenset({Status.PENDING}),
            scenario="zombies/late_fail",
        ),
        "terminal_job_revived": Documented(_BY_ID, verbs=frozenset({"complete", "fail", "heartbeat"})),
        "lost_update": Documented(_BY_ID, verbs=frozenset({"complete", "fail", "heartbeat"})),
        "attempt_overrun": Documented(
            _NOT_COUNTED,
            verbs=frozenset({"claim"}),
            states=frozenset({Status.PENDING}),
            scenario="hostile/job_kills_its_worker",
        ),
        "backoff_out_of_range": (
            Documented(
                _AT_ONCE,
                verbs=frozenset({"expire"}),
                states=frozenset({Status.PROCESSING}),
                scenario="crashes/while_running",
            ),
            Documented(_NOT_COUNTED, verbs=frozenset({"fail"}), faults=STALES),
        ),
        "final_error_retried": Documented(
            _NO_FINAL,
            verbs=frozenset({"fail"}),
            states=frozenset({Status.PROCESSING}),
            scenario="uniqueness/key_is_free_after_failure",
        ),
        "livelock": Documented(
            "a job that kills its workers is picked forever, with no dead letter queue for it"
            " (docs: guides/reliability, Poison Jobs)",
            faults=DEATHS,
        ),
        "priority_inversion": Documented(
            "a stale job is picked past a limit, where a fresh one must wait"
            " (docs: design/dequeue-composition, Invariants)",
            verbs=frozenset({"claim"}),
            faults=STALES,
        ),
    },
    differences={
        "cancel/then_its_worker_fails": _NOT_TOLD,
        "cancel/then_its_worker_succeeds": _NOT_TOLD,
        "concurrency/failed_job_gives_its_permit_back": _NO_FINAL,
        "crashes/while_running": _AT_ONCE,
        "maintenance/one_bad_job_does_not_stop_the_rest": _NOT_COUNTED,
        "hostile/job_kills_its_worker": _NOT_COUNTED,
        "uniqueness/key_is_free_after_failure": _NO_FINAL,
        "uniqueness/retry_is_refused_while_another_has_the_key": _NO_FINAL,
        "zombies/failure_after_completion": _NO_TOKENS,
        "zombies/late_fail": _NO_TOKENS,
    },
    known={
        "hostile/error_with_lone_surrogate": Known(
            frozenset({"failed_early", "outcome_lost"}),
            "scenarios/findings/pgqueuer/a_lone_surrogate_loses_the_outcome.yaml",
        ),
    },
    effective=effective,
)


LOOK: Final = b"""
SELECT l.job_id, l.entrypoint, l.priority, l.picks, l.created_at, l.picked_at, l.last_status, l.last_at, l.error,
       q.status::text AS status, q.execute_after, q.heartbeat, q.dedupe_key
FROM (SELECT job_id, min(entrypoint) AS entrypoint, max(priority) AS priority,
             count(*) FILTER (WHERE status = 'picked') AS picks, (array_agg(created ORDER BY id))[1] AS created_at,
             (array_agg(created ORDER BY id DESC) FILTER (WHERE status = 'picked'))[1] AS picked_at,
             (array_agg(status::text ORDER BY id DESC))[1] AS last_status,
             (array_agg(created ORDER BY id DESC))[1] AS last_at,
             (array_agg(traceback->>'exception_message' ORDER BY id DESC)
              FILTER (WHERE traceback IS NOT NULL))[1] AS error
      FROM pgqueuer_log GROUP BY job_id) l
LEFT JOIN pgqueuer q ON q.id = l.job_id
ORDER BY l.job_id
"""
PICKS: Final = b"""
SELECT job_id, count(*) AS picks FROM pgqueuer_log WHERE status = 'picked' AND job_id = ANY($1) GROUP BY job_id
"""
CANCELLED: Final = b"SELECT 1 FROM pgqueuer_log WHERE job_id = $1 AND status = 'canceled'"
STALE: Final = b"SELECT id, heartbeat FROM pgqueuer WHERE status = 'picked' AND heartbeat < now() - $1::interval"
STRICTLY: Final[Duration] = 1
"""PgQueuer compares strictly: what is due at t is first dequeued a microsecond later. On a real server no two
statements share a microsecond, so that what is sent at t is sent one before it."""
_STATES: Final = {
    "queued": (Status.PENDING, QueueState.CREATED),
    "picked": (Status.PROCESSING, QueueState.ACTIVE),
    "successful": (Status.COMPLETED, QueueState.COMPLETED),
    "failed": (Status.FAILED, QueueState.FAILED),
    "exception": (Status.FAILED, QueueState.FAILED),
    "canceled": (Status.CANCELLED, QueueState.CANCELLED),
    "deleted": (Status.CANCELLED, QueueState.CANCELLED),
}


class SentJob(NamedTuple):
    """What the rows do not say about a job."""

    id: JobId
    most: int
    unique_key: str | None
    forgiven: int = 0
    """How often it was picked before an operator requeued it."""


def view_of(row: Mapping[str, Any], known: SentJob, *, lease: Duration, worker: str | None, stale: bool) -> JobView:
    """Return a row, and where it is gone the log of it, as an observer sees it.

    PgQueuer's `attempts` counts retries that were asked for; the view counts how often the job was picked. What is
    `stale` stays picked in the row, and waits in the view: the next one that dequeues may have it.
    """
    status, state = _STATES["queued" if stale else row["status"] or row["last_status"]]
    waits, runs = status is Status.PENDING, status is Status.PROCESSING
    attempts = row["picks"] - known.forgiven
    created = (instant_of(row["created_at"]) or 0) + STRICTLY
    due, heartbeat = instant_of(row["execute_after"]), instant_of(row["heartbeat"])
    return JobView(
        id=known.id,
        tool=row["entrypoint"],
        status=status,
        queue_state=QueueState.RETRY if waits and attempts else state,
        priority=row["priority"],
        attempts=attempts,
        max_attempts=known.most,
        token=row["picks"],
        worker=worker if runs else None,
        output=None,
        error=row["error"] if waits or status is Status.FAILED else None,
        unique_key=known.unique_key,
        created_at=created,
        start_after=created if due is None else due + STRICTLY,
        started_at=None if waits else instant_of(row["picked_at"]),
        lease_until=heartbeat + lease + STRICTLY if runs and heartbeat is not None else None,
        completed_at=None if waits or runs else instant_of(row["last_at"]),
        expires_at=None,
    )


NO_SUCH_ROW: Final = Outcome.refused("PgQueuer has no such job")


class PgQueuerQueue(AskingQueue):
    """A queue under test over PgQueuer 1. A claim is told apart by how often its job was picked."""

    capabilities = Capabilities(
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

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self._numbers: dict[JobId, int] = {}
        self._known: dict[int, SentJob] = {}
        self._tools: dict[str, int] = {}
        """Every tool that had a job, and how many of its jobs may run at once."""
        self._workers: dict[tuple[JobId, int], str] = {}
        self._handles: dict[tuple[JobId, int], int] = {}
        """By what the child knows a job that was picked."""
        self._open: dict[int, datetime] = {}
        """Picked jobs that `expire` found stale, with the heartbeat that was too old: any worker may take them."""

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        views = {}
        for row in self._database.look(LOOK):
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
            key=request.key_for_all_tools,
        )
        if not outcome.done:
            return outcome
        self._tools[request.tool] = self._settings.tool_concurrency
        self._numbers[request.id] = outcome.value
        most = request.max_attempts or self._settings.max_attempts
        self._known[outcome.value] = SentJob(request.id, most, request.unique_key)
        return done(request.id)

    def cancel(self, job: JobId) -> Outcome:
        """Cancel what waits or runs; its worker gets a notification, which this adapter does not wait for.

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
        return done([self._claim_of_pick(job, worker, picks[job["id"]]) for job in outcome.value])

    def _claim_of_pick(self, job: dict[str, Any], worker: str, pick: int) -> Claim:
        name = job["job"]
        self._handles[name, pick] = job["handle"]
        self._workers[name, pick] = worker
        number = self._numbers[name]
        attempt = pick - self._known[number].forgiven
        return Claim(name, attempt, pick, worker, job["tool"], self._clocks.store() + self._settings.lease)

    def heartbeat(self, claim: Claim) -> Outcome:
        """Set the heartbeat of the job, no matter which worker holds it."""
        return without_value(self._ask("heartbeat", id=self._numbers[claim.job]))

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Retry or hold, as the retrying executor decides."""
        settings = self._settings
        retry = {
            "most": self._known[self._numbers[claim.job]].most,
            "delay": settings.retry_delay,
            "longest": settings.retry_delay_max,
            "backoff": settings.retry_backoff,
        }
        return self._end_claim("fail", claim, error=error, retry=retry)

    def _end_claim(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        return without_value(self._ask(question, handle=self._handles[claim.job, claim.token], **arguments))

    # upkeep ---------------------------------------------------------------------------------------------------------

    def expire(self) -> Outcome:
        """Show what is stale as waiting: PgQueuer writes nothing, and the next dequeue takes a stale job over."""
        self._database.set_now(self._clocks.store())
        stale = self._database.run(STALE, [timedelta(microseconds=self._settings.lease)], prepare=True)
        self._open |= {row["id"]: row["heartbeat"] for row in stale if row["id"] in self._known}
        return done([self._known[row["id"]].id for row in stale if row["id"] in self._known])


def open_engine(version: str = "latest", *, dsn: str | None = None) -> ForeignEngine:
    """Return the engine of a release: `latest`, `1`, `1.5.0`.

    Raises UsageError for one before 1.0, and if it is not a version.
    """
    number = RELEASES.checked(newest_python(PACKAGE, version))

    return ForeignEngine(
        ForeignRelease(
            package=PACKAGE,
            version=number,
            queue=PgQueuerQueue,
            capabilities=PgQueuerQueue.capabilities,
            contract=CONTRACT,
            start=in_python(__file__, PACKAGE, number, DRIVER),
            empty=emptied(*TABLES, numbered=("pgqueuer",)),
        ),
        dsn=dsn,
    )
