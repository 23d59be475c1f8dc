"""Real Celery under test: its own tasks, messages and acknowledgements in a child, on a Redis whose clock is ours.

What is here says Celery in the harness's words and decides nothing but when a task is retried, as
`autoretry_for` does. `docs` is a page of Celery's manual, with the section; `src` a module of
kombu, with the function.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from job_harness.core.faults import DEATHS
from job_harness.core.history import Outcome, done
from job_harness.core.model import DAY, SECOND, Instant, JobId, JobView, QueueState, Status
from job_harness.core.port import Capabilities, Claim, Contract, Documented, JobRequest, Known
from job_harness.engines.foreign_queue import (
    OWN_CLOCKS,
    AskingQueue,
    ForeignEngine,
    ForeignRelease,
    Opened,
    flush,
    in_python,
    without_value,
)
from job_harness.engines.releases import split_suffix
from job_harness.worlds.peers import newest_python

PACKAGE: Final = "celery"
DRIVER: Final = "redis"
EARLY: Final = "early"
"""After a slash behind the release: messages are acknowledged before their task runs, which is Celery's default."""
ORIGIN: Final = 1_893_456_000
WHENEVER: Final[Instant] = -365 * DAY

_REDELIVERED: Final = (
    "a message that is acknowledged late is delivered again, however often and at once, when its worker is lost"
    " (docs: getting-started/backends-and-brokers/redis, Visibility timeout)"
)
_FETCHED: Final = (
    "the timeout counts from when a message was fetched, which for one with an ETA is before it is due"
    " (docs: getting-started/backends-and-brokers/redis, Visibility timeout)"
)
_HELD: Final = "a worker holds what it fetched until its ETA (docs: userguide/calling, ETA and Countdown)"
_LATE: Final = "scenarios/findings/celery/a_late_result_is_taken.yaml"

CONTRACT: Final = Contract(
    documented={
        "attempt_overrun": Documented(
            _REDELIVERED, verbs=frozenset({"claim"}), scenario="crashes/every_attempt_crashes"
        ),
        "backoff_out_of_range": Documented(
            f"{_REDELIVERED}; that is no retry, and so the next one counts on from fewer",
            verbs=frozenset({"expire", "fail"}),
            states=frozenset({Status.PROCESSING}),
            scenario="crashes/while_running",
        ),
        "error_lost": Documented(_REDELIVERED, verbs=frozenset({"expire"}), scenario="crashes/while_running"),
        "foreign_clock": Documented(_FETCHED, verbs=frozenset({"claim"})),
        "livelock": Documented(_REDELIVERED, faults=DEATHS, scenario="hostile/job_kills_its_worker"),
        "due_job_left": Documented(_HELD, verbs=frozenset({"claim"}), scenario="maintenance/overdue_behind_a_long_job"),
    },
    differences={
        "crashes/before_failing": _REDELIVERED,
        "crashes/every_attempt_crashes": _REDELIVERED,
        "crashes/while_running": _REDELIVERED,
        "hostile/job_kills_its_worker": _REDELIVERED,
        "maintenance/one_bad_job_does_not_stop_the_rest": _REDELIVERED,
        "maintenance/overdue_behind_a_long_job": _HELD,
    },
    known={
        "zombies/failure_after_completion": Known(frozenset({"stale_fail"}), _LATE),
        "zombies/late_complete": Known(frozenset({"stale_complete"}), _LATE),
        "zombies/late_fail": Known(frozenset({"illegal_transition", "stale_fail", "stale_complete"}), _LATE),
        "zombies/result_after_completion": Known(frozenset({"stale_complete"}), _LATE),
    },
    oldest_first=False,  # What is restored is put back at the other end of the list, and what has an ETA is held.
    unseen=OWN_CLOCKS,
)

LOOK: Final = """
local results = {}
for _, key in ipairs(redis.call('KEYS', 'celery-task-meta-*')) do
  table.insert(results, redis.call('GET', key))
end
return {redis.call('LRANGE', 'celery', 0, -1), redis.call('HGETALL', 'unacked'),
        redis.call('ZRANGE', 'unacked_index', 0, -1, 'WITHSCORES'), results}
"""


def seconds_of(instant: Instant) -> float:
    """Return seconds since 1970."""
    return ORIGIN + instant / SECOND


def instant_of(seconds: float) -> Instant:
    """Return an instant from seconds since 1970."""
    return round((seconds - ORIGIN) * SECOND)


class CeleryQueue(AskingQueue):
    """A queue under test over Celery. Redis does not say who holds a message, nor whether a task has started.

    So claims are remembered here, by the tag of the message, which it keeps when it is delivered
    again. To revoke a task is to tell the workers that are there, which is not asked for.
    """

    server = "Redis"
    capabilities = Capabilities(start_after=True, virtual_time=True, fencing=True)

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self._sent: dict[JobId, JobRequest] = {}
        self._at: dict[JobId, tuple[Instant, Instant]] = {}
        """When each job was sent, and from when it may run."""
        self._claims: dict[JobId, list[tuple[str, str, int, Instant]]] = {}
        """Tag, worker, number and time of each delivery."""
        self._retries: dict[int, int] = {}
        """By the number of a delivery, how often its task was retried before: what is restored was not."""
        self._ended_at = opened.ended_at
        self._final: dict[JobId, JobView] = {}
        """Each job that ended, as it did last."""
        self._done_at: dict[JobId, Instant] = {}
        """When each job was first seen to have ended: what Celery writes is the machine's time."""
        self._offered: dict[JobId, tuple[JobRequest, Instant, Instant]] = {}
        """What was to be sent, when, and from when it may run: sent or not, once its sender has died or waits."""
        self._put_back: set[JobId] = set()
        """Jobs that went back into the queue, and that no worker has been seen to claim since."""
        self._order = 0
        self._restored_from: Instant | None = None
        """When the first message is restored that is unacknowledged, and that no worker is seen to run."""

    def _stamped(self, now: Instant) -> Mapping[str, Any]:
        self._order += 1
        return {"now": seconds_of(now), "order": self._order}

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        waiting, unacked, index, results = self._database.ask("EVAL", LOOK, 0)
        queued: dict[str, str | None] = {}
        for raw in waiting:
            message = json.loads(raw)
            queued[message["headers"]["id"]] = message["headers"]["eta"]
        held, put_off = {}, set()
        for tag, raw in zip(unacked[::2], unacked[1::2], strict=True):
            headers = json.loads(raw)[0]["headers"]
            held[headers["id"]] = tag.decode()
            if headers["eta"] is not None:
                put_off.add(headers["id"])
        scores = {tag.decode(): float(score) for tag, score in zip(index[::2], index[1::2], strict=True)}
        outcomes = {outcome["task_id"]: outcome for outcome in map(json.loads, results)}
        for job in {**queued, **held}:
            self._admit(job)
        for job, eta in queued.items():
            if eta is not None:
                self._at[job] = self._at[job][0], instant_of(datetime.fromisoformat(eta).timestamp())
        self._put_back.update(job for job in queued if job not in held)
        views = {
            job: self._view(job, job in queued, held.get(job), scores, outcomes.get(job, {})) for job in self._sent
        }
        at_once = {job: scores[tag] for job, tag in held.items() if tag in scores and job not in put_off}
        abandoned = [at for job, at in at_once.items() if job not in queued and not views[job].lease_until]
        self._restored_from = min(map(instant_of, abandoned)) + self._settings.lease if abandoned else None
        return views

    def next_upkeep(self) -> Instant | None:
        """Say when the poller has to restore a message that its worker took and has not begun to run; None: never.

        One with an ETA is not counted: its worker holds it as a rule.
        """
        return self._restored_from

    def _view(
        self, job: JobId, queued: bool, tag: str | None, scores: Mapping[str, float], outcome: Mapping[str, Any]
    ) -> JobView:
        request, claims = self._sent[job], self._claims[job]
        created_at, start_after = self._at[job]
        state = outcome.get("status")
        if state is None and job in self._final and not queued and tag is None:
            return self._final[job]  # Its result was kept for a day.
        running = bool(claims) and job not in self._put_back and (claims[-1][0] == tag if tag else not queued)
        ended = state in ("SUCCESS", "FAILURE")
        status = Status.PROCESSING if running else Status.PENDING
        if ended:
            status = Status.COMPLETED if state == "SUCCESS" else Status.FAILED
        waits = QueueState.RETRY if claims else QueueState.CREATED
        states = {Status.PROCESSING: QueueState.ACTIVE, Status.PENDING: waits}
        states |= {Status.COMPLETED: QueueState.COMPLETED, Status.FAILED: QueueState.FAILED}
        message: Any = None
        if state in ("FAILURE", "RETRY") and status is not Status.PROCESSING:
            message = (outcome.get("result") or {}).get("exc_message")
        lease = None if tag is None or tag not in scores else instant_of(scores[tag]) + self._settings.lease
        view = JobView(
            id=job,
            tool=request.tool,
            status=status,
            queue_state=states[status],
            priority=0,
            attempts=len(claims),
            max_attempts=request.max_attempts or self._settings.max_attempts,
            token=claims[-1][2] if claims else 0,
            worker=claims[-1][1] if status is Status.PROCESSING else None,
            output=outcome.get("result") if state == "SUCCESS" else None,
            error=message[0] if isinstance(message, list) and message else message,
            unique_key=None,
            created_at=created_at,
            start_after=start_after,
            started_at=claims[-1][3] if claims else None,
            lease_until=lease if status is Status.PROCESSING else None,
            completed_at=self._done_at.setdefault(job, self._ended_at()) if ended else None,
            expires_at=None,
        )
        if ended:
            self._final[job] = view
        return view

    # producers ------------------------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Send a task."""
        if refusal := self._unacceptable(request, self._sent):
            return refusal
        now, after = self._clocks.store(), request.start_after
        eta = None if after is None or after <= now else seconds_of(after)
        kwargs = {"job": request.id, "tool": request.tool, "input": request.input}
        self._offered[request.id] = request, now, WHENEVER if after is None else after
        outcome = self._ask("enqueue", id=request.id, kwargs=kwargs, eta=eta)
        if not outcome.done:
            return outcome
        self._admit(request.id)
        return done(request.id)

    def _admit(self, job: JobId) -> None:
        """Count a job as sent."""
        if job not in self._sent:
            request, sent_at, start_after = self._offered[job]
            self._sent[job], self._claims[job], self._at[job] = request, [], (sent_at, start_after)

    # workers --------------------------------------------------------------------------------------------------------

    def _claim(self, told: dict[str, Any], worker: str) -> Claim:
        job, number, now = told["job"], told["number"], self._clocks.store()
        self._admit(job)
        self._claims[job].append((told["tag"], worker, number, now))
        self._retries[number] = told["retries"]
        self._put_back.discard(job)
        attempt = len(self._claims[job])
        return Claim(job, attempt, number, worker, told["tool"], now + self._settings.lease)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Record the failure, or retry as `autoretry_for` with a backoff does; then acknowledge."""
        most = self._sent[claim.job].max_attempts or self._settings.max_attempts
        again, retries = None, self._retries[claim.token]
        if not final and retries + 1 < most:
            settings, now = self._settings, self._clocks.store()
            wait = settings.retry_delay
            if settings.retry_backoff:
                wait = min(settings.retry_delay << retries, settings.retry_delay_max)
            again = now + wait
        about = {"error": error, "again": None if again is None else seconds_of(again)}
        outcome = self._end_claim("fail", claim, **about)
        if outcome.done and again is not None:
            self._at[claim.job] = self._at[claim.job][0], again
        return outcome

    def _end_claim(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        return without_value(self._ask(question, worker=claim.worker, number=claim.token, **arguments))


def open_engine(version: str = "latest") -> ForeignEngine:
    """Return the engine of a release: `latest`, `5`, `5.7.0`; after a slash may stand `early`.

    Raises UsageError for an unknown version or suffix.
    """
    asked, suffix = split_suffix(f"{PACKAGE}-redis", version, known=EARLY)
    number = newest_python(PACKAGE, asked)
    from job_harness.worlds.redis import RedisStore

    return ForeignEngine(
        ForeignRelease(
            package=f"{PACKAGE}-redis",
            version=f"{number}{suffix}",
            queue=CeleryQueue,
            capabilities=CeleryQueue.capabilities,
            contract=CONTRACT,
            start=in_python(__file__, PACKAGE, number, DRIVER),
            asked={"late": not suffix},
            empty=flush,
            reset=lambda opened: {"visibility": opened.settings.lease / SECOND},
            store=RedisStore,
            fails_over=RedisStore.fail_over,
            next_upkeep=lambda queue: queue.next_upkeep(),
        )
    )
