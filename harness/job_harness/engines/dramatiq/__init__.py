"""Real Dramatiq under test: its own broker, middleware and worker in a child, on a Redis whose clock is ours.

What is here says Dramatiq in the harness's words and decides nothing. `docs` is a page of
Dramatiq's manual; `src` a module of it, with the function.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from job_harness.core.history import Outcome, done
from job_harness.core.model import DAY, MILLISECOND, Instant, JobId, JobView, Json, QueueState, Status
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
from job_harness.engines.releases import Runnable
from job_harness.worlds.peers import newest_python
from job_harness.worlds.wire.database import instant_at, milliseconds_of

PACKAGE: Final = "dramatiq"
DRIVER: Final = "redis"
RELEASES: Final = Runnable(
    f"{PACKAGE}-redis", PACKAGE, "2.0.0", "fetches in a thread that this engine cannot call step by step"
)
TIMED_OUT: Final = "timed out"
"""The error of an attempt that was given too little time."""
WHENEVER: Final[Instant] = -365 * DAY

_NO_RESULTS: Final = "what an actor returns is discarded without the middleware Results (docs: guide, Message Results)"
_NO_ERRORS: Final = "a message keeps no error: a rejected one is kept as it was sent (src: brokers/redis/dispatch.lua)"
_AT_ONCE: Final = "what a dead process held is put back in its queue at once (src: brokers/redis/dispatch.lua)"
_BACKOFF: Final = (
    "a wait grows from min_backoff by up to twice, and one beyond max_backoff is half to all of it"
    " (src: common.compute_backoff)"
)
_ONE_HEARTBEAT: Final = "a process's heartbeat is one for all that it holds (src: brokers/redis/dispatch.lua)"
_HELD: Final = "a process holds a delayed message until its ETA (src: worker.ConsumerThread.handle_delayed_messages)"

_FINDINGS: Final = "scenarios/findings/dramatiq"
_LATE: Final = f"{_FINDINGS}/a_late_failure_is_taken.yaml"
_FOR_EVER: Final = Known(frozenset({"attempt_overrun"}), f"{_FINDINGS}/a_killed_worker_counts_no_retry.yaml")

_LATELY: Final = frozenset(
    {"illegal_transition", "terminal_job_revived", "stale_fail", "stale_complete", "attempt_overrun"}
)

CONTRACT: Final = Contract(
    documented={
        "wrong_result": Documented(_NO_RESULTS, verbs=frozenset({"complete"}), scenario="retries/fails_then_succeeds"),
        "success_without_run": Documented(_NO_RESULTS, verbs=frozenset({"complete"})),
        "error_lost": Documented(_NO_ERRORS, verbs=frozenset({"expire", "fail"}), scenario="retries/backoff_doubles"),
        "backoff_out_of_range": Documented(
            f"{_AT_ONCE}; {_BACKOFF}",
            verbs=frozenset({"expire", "fail"}),
            states=frozenset({Status.PROCESSING}),
            scenario="retries/backoff_is_capped",
        ),
        "stale_heartbeat": Documented(_ONE_HEARTBEAT, verbs=frozenset({"heartbeat"})),
        "due_job_left": Documented(_HELD, verbs=frozenset({"claim"}), scenario="maintenance/overdue_behind_a_long_job"),
    },
    differences={
        "retries/backoff_is_capped": _BACKOFF,
        "crashes/while_running": _AT_ONCE,
        "maintenance/overdue_behind_a_long_job": _HELD,
    },
    known={
        "hostile/job_kills_its_worker": _FOR_EVER,
        "maintenance/one_bad_job_does_not_stop_the_rest": _FOR_EVER,
        "zombies/failure_after_completion": Known(_LATELY, _LATE),
        "zombies/late_fail": Known(_LATELY, _LATE),
    },
    oldest_first=False,  # What is put back or was delayed goes to the end of the list.
    unseen=OWN_CLOCKS,
)

LOOK: Final = """
local acks, beats = {}, redis.call('ZRANGE', 'dramatiq:__heartbeats__', 0, -1, 'WITHSCORES')
for _, key in ipairs(redis.call('KEYS', 'dramatiq:__acks__.*')) do
  table.insert(acks, {key, redis.call('SMEMBERS', key)})
end
return {redis.call('LRANGE', 'dramatiq:default', 0, -1), redis.call('HGETALL', 'dramatiq:default.msgs'),
        redis.call('HGETALL', 'dramatiq:default.DQ.msgs'), redis.call('HVALS', 'dramatiq:default.XQ.msgs'), acks, beats}
"""


class TakenMessage(NamedTuple):
    """A message that a worker took."""

    message: str
    """What Redis calls it: a retry is another one."""
    worker: str
    number: int
    at: Instant


class MessagePlace(NamedTuple):
    """Where a message of a job is."""

    state: QueueState
    message: str = ""
    holder: str = ""
    """The process that has it."""
    eta: int | None = None


class DramatiqQueue(AskingQueue):
    """A queue under test over Dramatiq. Redis does not say which worker runs a message, nor keeps one that ended.

    So deliveries are remembered here. A job is where the first of its messages is, of several: a
    retry is a copy.
    """

    server = "Redis"
    capabilities = Capabilities(heartbeat=True, start_after=True, virtual_time=True, fencing=True, results=False)

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self._sent: dict[JobId, JobRequest] = {}
        self._at: dict[JobId, tuple[Instant, Instant]] = {}
        """When each job was sent, and from when it may run."""
        self._taken: dict[JobId, list[TakenMessage]] = {}
        self._ended_at = opened.ended_at
        self._done_at: dict[JobId, Instant] = {}
        """When each job was first seen to have ended, since it last ran."""
        self._number = 0

    def _stamped(self, now: Instant) -> Mapping[str, Any]:
        return {"now": milliseconds_of(now)}

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        waiting, messages, delayed, dead, acks, beats = self._database.ask("EVAL", LOOK, 0)
        waits = {raw.decode() for raw in waiting}
        holders = {name.decode(): _process_of(key) for key, names in acks for name in names}
        seen = {name.decode(): int(float(score)) for name, score in zip(beats[::2], beats[1::2], strict=True)}
        places: dict[JobId, list[MessagePlace]] = {job: [] for job in self._sent}
        for number, message in _messages(messages):
            running = number in holders and number not in waits
            state = QueueState.ACTIVE if running else QueueState.CREATED
            places[message["message_id"]].append(MessagePlace(state, number, holders.get(number, "")))
        for number, message in _messages(delayed):
            places[message["message_id"]].append(MessagePlace(QueueState.RETRY, number, eta=message["options"]["eta"]))
        for raw in dead:
            places[json.loads(raw)["message_id"]].append(MessagePlace(QueueState.FAILED))
        return {job: self._view(job, _first(there), seen) for job, there in places.items()}

    def _view(self, job: JobId, place: MessagePlace, seen: Mapping[str, int]) -> JobView:
        request, taken = self._sent[job], self._taken[job]
        created_at, start_after = self._at[job]
        runs = [delivery for delivery in taken if delivery.message == place.message]
        status, state = Status.PENDING, QueueState.RETRY if taken else QueueState.CREATED
        if place.state is QueueState.ACTIVE and runs:
            status, state = Status.PROCESSING, QueueState.ACTIVE
        elif place.state in (QueueState.COMPLETED, QueueState.FAILED):
            status = Status.COMPLETED if place.state is QueueState.COMPLETED else Status.FAILED
            state = place.state
        running, ended = status is Status.PROCESSING, status in (Status.COMPLETED, Status.FAILED)
        if not ended:
            self._done_at.pop(job, None)
        lease = instant_at(seen[place.holder]) + self._settings.lease if running and place.holder in seen else None
        return JobView(
            id=job,
            tool=request.tool,
            status=status,
            queue_state=state,
            priority=0,
            attempts=len(taken),
            max_attempts=request.max_attempts or self._settings.max_attempts,
            token=runs[-1].number if running else taken[-1].number if taken else 0,
            worker=runs[-1].worker if running else None,
            output=None,
            error=None,
            unique_key=None,
            created_at=created_at,
            start_after=start_after if place.eta is None or not taken else instant_at(place.eta),
            started_at=taken[-1].at if taken else None,
            lease_until=lease,
            completed_at=self._done_at.setdefault(job, self._ended_at()) if ended else None,
            expires_at=None,
        )

    # producers ------------------------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Send a message, with the options of its retries."""
        if refusal := self._unacceptable(request, self._sent):
            return refusal
        now, after, settings = self._clocks.store(), request.start_after, self._settings
        delay = None if after is None or after <= now else -(-(after - now) // MILLISECOND)
        wait = settings.retry_delay // MILLISECOND
        longest = settings.retry_delay_max // MILLISECOND if settings.retry_backoff else wait
        options: dict[str, Any] = {
            "max_retries": (request.max_attempts or settings.max_attempts) - 1,
            "min_backoff": wait,
            "max_backoff": max(wait, longest),
        }
        about = {"job": request.id, "tool": request.tool, "input": request.input}
        outcome = self._ask("enqueue", about=about, delay=delay, **options)
        if not outcome.done:
            return outcome
        self._sent[request.id], self._taken[request.id] = request, []
        self._at[request.id] = now, WHENEVER if after is None else after
        return done(request.id)

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Outcome:
        """Take messages that are due."""
        return self._claims_of(worker, limit=limit, number=self._number)

    def _claim(self, told: dict[str, Any], worker: str) -> Claim:
        job, self._number = told["job"], told["number"]
        now = self._clocks.store()
        self._taken[job].append(TakenMessage(told["message"], worker, self._number, now))
        return Claim(job, len(self._taken[job]), self._number, worker, told["tool"], now + self._settings.lease)

    def heartbeat(self, claim: Claim) -> Outcome:
        """Show that the worker's process lives: this keeps all that it holds."""
        return without_value(self._ask("heartbeat", worker=claim.worker))

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Let the actor return; what it returns is not kept without the middleware for results."""
        return without_value(self._ask("complete", number=claim.token, output=None))

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Let the actor raise: its middleware sends a retry, or rejects the message."""
        about: dict[str, Any] = {"error": error, "final": final, "timed_out": error == TIMED_OUT}
        return without_value(self._ask("fail", number=claim.token, **about))


def _messages(pairs: Sequence[bytes]) -> list[tuple[str, dict[str, Any]]]:
    return [(name.decode(), json.loads(raw)) for name, raw in zip(pairs[::2], pairs[1::2], strict=True)]


def _process_of(key: bytes) -> str:
    """Return whose acknowledgements a key has: `dramatiq:__acks__.PROCESS.QUEUE`."""
    return key.decode().partition("__acks__.")[2].removesuffix(".DQ").removesuffix(".default")


_ORDER: Final = (QueueState.ACTIVE, QueueState.CREATED, QueueState.RETRY, QueueState.FAILED)


def _first(places: Sequence[MessagePlace]) -> MessagePlace:
    """Return the place that counts; none is left of a message that was acknowledged."""
    return min(places, key=lambda place: _ORDER.index(place.state), default=MessagePlace(QueueState.COMPLETED))


def open_engine(version: str = "latest") -> ForeignEngine:
    """Return the engine of a release: `latest`, `2`, `2.0.1`.

    Raises UsageError for one before 2, and for an unknown version.
    """
    number = RELEASES.checked(newest_python(PACKAGE, version))
    from job_harness.worlds.redis import RedisStore

    return ForeignEngine(
        ForeignRelease(
            package=f"{PACKAGE}-redis",
            version=number,
            queue=DramatiqQueue,
            capabilities=DramatiqQueue.capabilities,
            contract=CONTRACT,
            start=in_python(__file__, PACKAGE, number, DRIVER),
            empty=flush,
            reset=lambda opened: {"silence": opened.settings.lease // MILLISECOND},
            store=RedisStore,
            fails_over=RedisStore.fail_over,
            gated=False,
        )
    )
