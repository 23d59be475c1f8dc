"""The model queue: both tables in memory, every verb one step, no bug that we know of.

The queue holds the rows and carries out the verbs; six sets of rules decide: what a claim takes,
how an attempt ends, who holds a unique key, what a request becomes, what schedules make, what
upkeep does. Each rule is a small method, so that a wrong queue is one set in which one rule is
another. It knows no scenario, no actor and no store but its own dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from inspect import signature
from itertools import chain, count, islice, takewhile
from typing import ClassVar, Final, NamedTuple, TypeVar

from job_harness.core.history import DONE, Outcome, done
from job_harness.core.model import (
    CANCELLED,
    COMPLETED,
    DAY,
    FAILED,
    PARTNERS,
    PENDING,
    PROCESSING,
    TERMINAL,
    Duration,
    Instant,
    JobId,
    JobView,
    Json,
    QueueState,
    Settings,
    Starts,
    Status,
    json_problem,
    printable,
    retry_delay,
    spread,
)
from job_harness.core.port import (
    COUNTERS,
    Application,
    Capabilities,
    Claim,
    Contract,
    EngineClocks,
    EngineInfo,
    JobRequest,
    Missed,
    Schedule,
)


class StandingSchedule(NamedTuple):
    """A schedule as the queue keeps it."""

    schedule: Schedule
    since: Instant
    last: Instant
    """The last slot that has its job; at first the one that had begun when the schedule was set."""


class ModelSnapshot(NamedTuple):
    """Everything that a queue remembers, as a value: a snapshot."""

    rows: dict[JobId, JobView]
    transactions: dict[str, tuple[JobView, ...]]
    schedules: dict[str, StandingSchedule]
    own: dict[JobId, JobRequest]
    paused: frozenset[str]
    starts: dict[str, tuple[tuple[Instant, JobId], ...]]
    first_token: int
    tokens: dict[JobId, int]


class PresetState:
    """What `preset` sets before the first job."""

    def __init__(self) -> None:
        self.put_off: dict[JobId, JobView] = {}
        """The rows that a preset put off, as long as no verb has changed one: all alike, so one stands for all."""
        self.older: dict[JobId, None] = {}
        """The jobs in `live` that were there before those were put off: they stand in front of them."""
        self.first_token = 0
        """What the tokens of new jobs are counted from."""
        self.tokens: dict[JobId, int] = {}
        """The last token of each job that was deleted: the next of its id counts on, so no old claim settles it."""


class JobRows:
    """Jobs are immutable views in a dictionary, oldest first; a transition puts a new view in place."""

    def __init__(self, settings: Settings, clocks: EngineClocks) -> None:
        self.settings = settings
        self.clocks = clocks
        self.rows: dict[JobId, JobView] = {}
        self.live: dict[JobId, JobView] = {}
        """The rows of jobs that have not ended, without those that are in `preset_state.put_off`."""
        self.preset_state = PresetState()
        self.apart: dict[JobId, None] = {}
        """Jobs whose rows disagree."""
        self.ended: dict[JobId, None] = {}
        """Terminal jobs, in the order in which they ended."""
        self.transactions: dict[str, tuple[JobView, ...]] = {}
        """What open transactions have written, which no other caller sees."""
        self.schedules: dict[str, StandingSchedule] = {}
        self.own: dict[JobId, JobRequest] = {}
        """What jobs asked for that no column of theirs holds: a lease, a delay, a window."""
        self.paused: frozenset[str] = frozenset()
        """The tools whose jobs are held back."""
        self.starts = Starts(settings.rate_limit, settings.rate_window)
        self.dependents: dict[JobId, None] = {}
        """The unfinished jobs that depend on others."""
        self._touched: dict[JobId, None] = {}

    def now(self, caller: str) -> Instant:
        """Read the clock: always the store's."""
        return self.clocks.store()

    def jobs(self) -> dict[JobId, JobView]:
        """Return the rows themselves; callers must not change them."""
        return self.rows

    def changed(self) -> list[JobId]:
        """Return and forget what was touched."""
        if not self._touched:
            return []
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def snapshot(self) -> ModelSnapshot:
        """Return the state as a value."""
        own, paused, starts = dict(self.own), self.paused, dict(self.starts.claims)
        transactions, schedules = dict(self.transactions), dict(self.schedules)
        token, tokens = self.preset_state.first_token, dict(self.preset_state.tokens)
        return ModelSnapshot(dict(self.rows), transactions, schedules, own, paused, starts, token, tokens)

    def restore(self, state: ModelSnapshot) -> None:
        """Go back to a state."""
        self.rows.clear()
        self.live.clear()
        self.preset_state.put_off.clear()
        self.preset_state.older.clear()
        self.apart.clear()
        self.ended.clear()
        self.dependents.clear()
        self.transactions = dict(state.transactions)
        self.schedules = dict(state.schedules)
        self.own = dict(state.own)
        self.paused = state.paused
        self.starts.claims = dict(state.starts)
        self.preset_state.first_token = state.first_token
        self.preset_state.tokens = dict(state.tokens)
        self.rows.update(state.rows)  # A group's callback is there when its members are put in place.
        for row in state.rows.values():
            self.put(row)
        self.ended = dict.fromkeys(sorted(self.ended, key=lambda job: self.rows[job].completed_at or 0))
        self._touched.clear()

    def put(self, row: JobView) -> None:
        """Put a row in place."""
        job, status = row.id, row.status
        self.rows[job] = row
        self._touched[job] = None
        if job in self.preset_state.put_off:
            self.live, self.preset_state.put_off = {row.id: row for row in self.unfinished()}, {}
        if status in TERMINAL:
            self.live.pop(job, None)
            self.ended[job] = None
            if self.preset_state.older:
                self.preset_state.older.pop(job, None)
            if self.dependents:
                self.dependents.pop(job, None)
                self.pass_on(row)
            if row.group is not None:
                self.call_back(row)
        else:
            self.live[job] = row
            if row.depends_on:
                self.dependents[job] = None
            if self.ended:
                self.ended.pop(job, None)
        if status is None or row.queue_state not in PARTNERS[status]:
            self.apart[job] = None
        elif self.apart:
            self.apart.pop(job, None)

    def pass_on(self, row: JobView) -> None:
        """Let what depends on a job that has ended hear of it."""

    def call_back(self, row: JobView) -> None:
        """Make the callback of a group, where this was the last of its jobs to end."""

    def is_completed(self, job: JobId) -> bool:
        """Say whether a job is there and COMPLETED."""
        row = self.rows.get(job)
        return row is not None and row.status is COMPLETED

    def drop(self, job: JobId) -> None:
        """Delete a row."""
        if job in self.preset_state.put_off:
            self.live, self.preset_state.put_off = {row.id: row for row in self.unfinished()}, {}
        self.preset_state.tokens[job] = self.rows.pop(job).token
        self.live.pop(job, None)
        self.ended.pop(job, None)
        self.apart.pop(job, None)
        self.own.pop(job, None)
        self._touched[job] = None

    def unfinished(self) -> Iterable[JobView]:
        """Return the rows of all jobs that have not ended, those that a preset put off where it did so."""
        if not self.preset_state.older:
            return chain(self.preset_state.put_off.values(), self.live.values())
        older = [self.live[job] for job in self.live if job in self.preset_state.older]
        return chain(
            older,
            self.preset_state.put_off.values(),
            (row for row in self.live.values() if row.id not in self.preset_state.older),
        )

    def one_put_off(self) -> Iterable[JobView]:
        """Return the row that stands for those that a preset put off, if there are any.

        A verb would look at each of ten thousand rows, of which a rule says the same: where claims
        did so that was 3 % of all sampling, and 3 % more where maintenance did, and claims after a
        preset that was not the first call.
        """
        return islice(self.preset_state.put_off.values(), 1)

    def fitting(self, rule: Callable[[JobView, Instant], bool], now: Instant) -> list[JobView]:
        """Return the rows of unfinished jobs that a rule applies to."""
        put_off = self.preset_state.put_off and any(rule(row, now) for row in self.one_put_off())
        return [row for row in (self.unfinished() if put_off else self.live.values()) if rule(row, now)]


class QueueRules:
    """Decides for a queue, which holds the rows and carries out the verbs. A wrong queue has wrong rules."""

    def __init__(self, queue: MemoryQueue) -> None:
        self.queue = queue
        self.settings = queue.settings


class ClaimRules(QueueRules):
    """What a claim takes: which jobs are due, in which order, and what limits and serial keys let through."""

    def lease_of(self, row: JobView) -> Duration:
        """Return how long a claim of this job lasts without a heartbeat."""
        own = self.queue.own.get(row.id)
        return self.settings.lease if own is None or own.lease is None else own.lease

    def is_served(self, row: JobView, tools: Sequence[str] | None) -> bool:
        """Say whether a worker of these tools may have a job: its tool is one of them, and not paused."""
        return row.tool not in self.queue.paused and (tools is None or row.tool in tools)

    def due(self, now: Instant) -> list[JobView]:
        """Return what may be claimed, the first to be taken first."""
        due = self.queue.fitting(self.is_due, now)
        if len(due) > 1:
            due.sort(key=self.claim_order)
        return due

    def is_due(self, row: JobView, now: Instant) -> bool:
        """Say whether a job may be claimed."""
        ready = row.status is PENDING and row.start_after <= now
        return ready if row.depends_on is None else ready and self.queue.flows.may_begin(row)

    def claim_order(self, row: JobView) -> tuple[int, Instant, JobId]:
        """The highest priority first, then the oldest."""
        return (-row.priority, row.created_at, row.id)

    def allowed(self, due: list[JobView], limit: int) -> list[JobView]:
        """Return the first jobs that limits and serial keys let through, each counted before the next is looked at."""
        settings = self.settings
        if not due:
            return due
        limited = settings.concurrency or settings.tool_concurrency or settings.rate_limit
        if not limited and all(row.serial_key is None for row in due):
            return due[:limit]
        active = self.active()
        chosen: list[JobView] = []
        for row in due:
            if settings.rate_limit and not self.rate_allows(row, chosen):
                continue
            if len(chosen) < limit and self.has_permit(row, active) and self.key_is_free(row, active):
                chosen.append(row)
                active.append(row)
        return chosen

    def active(self) -> list[JobView]:
        """Return the jobs that count towards limits and hold serial keys."""
        active = [row for row in self.queue.live.values() if self.is_active(row)]
        return (
            [*self.queue.preset_state.put_off.values(), *active]
            if any(map(self.is_active, self.queue.one_put_off()))
            else active
        )

    def is_active(self, row: JobView) -> bool:
        """Say whether a job counts towards limits and holds its serial key."""
        return row.status is PROCESSING

    def has_permit(self, row: JobView, active: list[JobView]) -> bool:
        """Say whether the limits, of all and of its tool, let a job through beside the active ones."""
        limit, tool_limit = self.settings.concurrency, self.settings.tool_concurrency
        if limit and len(active) >= limit:
            return False
        return not tool_limit or sum(other.tool == row.tool for other in active) < tool_limit

    def rate_allows(self, row: JobView, chosen: list[JobView]) -> bool:
        """Say whether the rate of its tool lets a job through beside those that this claim has chosen."""
        more = sum(other.tool == row.tool for other in chosen)
        return self.queue.starts.free_at(row.tool, more) <= self.queue.now("queue")

    def key_is_free(self, row: JobView, active: list[JobView]) -> bool:
        """Say whether no active job has this job's serial key."""
        return row.serial_key is None or all(other.serial_key != row.serial_key for other in active)

    def take(self, row: JobView, worker: str, now: Instant) -> Claim:
        """Claim one job."""
        until = now + self.lease_of(row)
        if self.settings.rate_limit:
            self.queue.starts.add(row.tool, now, row.id)
        taken = row.changed(
            status=PROCESSING,
            queue_state=QueueState.ACTIVE,
            attempts=row.attempts + self.counted(row),
            token=self.raised(row),
            worker=worker,
            started_at=now,
            lease_until=until,
        )
        self.queue.put(taken)
        return Claim(row.id, taken.attempts, taken.token, worker, row.tool, until)

    def counted(self, row: JobView) -> int:
        """What a claim of this job adds to its attempts."""
        return 1

    def raised(self, row: JobView) -> int:
        """Return the fencing token of the next claim."""
        return row.token + 1


class FlowRules(QueueRules):
    """What a job that depends on others waits for, and what becomes of it."""

    def may_begin(self, row: JobView) -> bool:
        """Say whether all that a job depends on is done."""
        return all(map(self.queue.is_completed, row.depends_on))

    def is_needed(self, job: JobId, gone: Collection[JobId]) -> bool:
        """Say whether an unfinished job depends on this one, or a group is not over, `gone` apart."""
        rows = self.queue.rows
        if (row := rows[job]).group is not None:
            return self.callback_id(row) not in rows
        if row.callback_of is not None:
            return any(other.group == row.callback_of and other.id not in gone for other in rows.values())
        return any(job in rows[other].depends_on for other in self.queue.dependents)

    def pass_on(self, row: JobView) -> None:
        """End what waits for a job that has ended and not succeeded, and so on."""
        queue = self.queue
        for job in [job for job in queue.dependents if row.id in queue.rows[job].depends_on]:
            if row.status is not COMPLETED and queue.rows[job].status is PENDING:
                error = f"{row.id}, on which it depends, is {row.status}"
                queue.put(queue.endings.end_row(queue.rows[job], CANCELLED, error=error))

    def late(self, parent: JobId) -> str | None:
        """Say why a job cannot become one that this parent waits for; None: it can."""
        row = self.queue.rows.get(parent)
        if row is not None and row.status is PENDING and row.attempts == 0:
            return None
        return f"{parent}, its parent, is {'gone' if row is None else 'no longer to begin'}"

    def is_called_back(self, row: JobView) -> bool:
        """Say whether a group has ended with this job, and has no callback yet."""
        group, size = row.group, self.queue.own[row.id].group_size
        ended = sum(other.group == group and self.counts(other) for other in self.queue.rows.values())
        return ended >= size and self.callback_id(row) not in self.queue.rows

    def counts(self, row: JobView) -> bool:
        """Say whether a job of a group has ended."""
        return row.status in TERMINAL

    def callback_id(self, row: JobView) -> JobId:
        """Return the id of the callback of a job's group."""
        return f"{row.group}-callback"

    def missing(self, jobs: Iterable[JobId]) -> str | None:
        """Say why a job that depends on these could never begin; None: it may."""
        for job in jobs:
            if job not in self.queue.live and not self.queue.is_completed(job):
                row = self.queue.rows.get(job)
                return f"{job}, on which it depends, is {'gone' if row is None else row.status}"
        return None


class EndRules(QueueRules):
    """How an attempt ends: by its worker's word, or for want of it."""

    def __init__(self, queue: MemoryQueue, jitter: Callable[[], float]) -> None:
        super().__init__(queue)
        self.jitter = jitter
        self.drawn = 0.0
        """The jitter of the statement under way: one number, which its rows share out."""

    def held(self, claim: Claim, verb: str) -> JobView | None:
        """Return the row that a claim still holds, whatever the verb that asks."""
        row = self.queue.rows.get(claim.job)
        if row is None or row.status is not PROCESSING or row.token != claim.token:
            return None
        return row

    def extension(self, row: JobView) -> Duration:
        """Return by how much a heartbeat extends the lease from now on: by its full length."""
        return self.queue.claims.lease_of(row)

    def output_problem(self, output: Json) -> str | None:
        """Return why JSON cannot hold an output, or None."""
        return json_problem(output)

    def completed(self, row: JobView, output: Json) -> JobView:
        """Return the row of a success: the output, and no error of an attempt before."""
        return self.end_row(row, COMPLETED, output=output, error=None)

    def recorded(self, error: str) -> str:
        """Return the error as the store can keep it."""
        return printable(error)

    def failed(self, row: JobView, error: str, *, final: bool = False, nth: int = 0) -> JobView:
        """Return the row after a failed attempt: back to PENDING with a delay, or FAILED."""
        if final or self.exhausted(row):
            return self.end_row(row, FAILED, error=error)
        return self.waiting(row, error, nth)

    def end_attempt(self, row: JobView, verb: str) -> None:
        """Put the row of a failed attempt in place, and the dead letter of a job that failed for good beside it."""
        self.queue.put(row)
        if row.status is FAILED and row.dead_letter is not None:
            for letter in self.dead_letters(row, verb):
                self.queue.put(letter)

    def dead_letters(self, row: JobView, verb: str) -> list[JobView]:
        """Return the one new job that a job which failed for good leaves behind, whatever the verb that failed it."""
        names = (f"{row.id}-dead-{number}" for number in count(row.token))  # One was left by a job of this id before.
        return [self.dead_letter(row, next(name for name in names if name not in self.queue.rows))]

    def dead_letter(self, row: JobView, job: JobId) -> JobView:
        """Return a new job for the dead letter tool, with the input of the job that failed."""
        now = self.queue.now("queue")
        return row.changed(
            id=job,
            tool=row.dead_letter or row.tool,
            status=PENDING,
            queue_state=QueueState.CREATED,
            priority=0,
            attempts=0,
            max_attempts=self.settings.max_attempts,
            token=0,
            error=None,
            unique_key=None,
            created_at=now,
            start_after=now,
            started_at=None,
            completed_at=None,
            expires_at=None,
            serial_key=None,
            dead_letter=None,
            dead_of=row.id,
            schedule=None,
            slot=None,
            depends_on=None,
            parent=None,
            group=None,
            callback_of=None,
        )

    def waiting(self, row: JobView, error: str, nth: int) -> JobView:
        """Return the row that waits for its next attempt."""
        delay = self.delay(row, nth)
        return row.changed(
            status=PENDING,
            queue_state=QueueState.RETRY,
            error=error,
            worker=None,
            lease_until=None,
            start_after=self.queue.now("queue") + delay,
        )

    def exhausted(self, row: JobView) -> bool:
        """Say whether the attempts are used up."""
        return row.attempts >= row.max_attempts

    def delay(self, row: JobView, nth: int) -> int:
        """Return how long a failed job waits."""
        return retry_delay(self.retrying(row), attempts=row.attempts, jitter=spread(self.drawn, nth))

    def retrying(self, row: JobView) -> Settings:
        """Return the settings by which this job is retried."""
        own = self.queue.own.get(row.id)
        if own is None or own.retry_delay is None:
            return self.settings
        return self.settings.changed(retry_delay=own.retry_delay)

    def draw(self) -> None:
        """Draw the jitter of a statement that may delay a retry, needed or not: an SQL statement knows no better."""
        self.drawn = self.jitter() if self.settings.retry_backoff else 0.0

    def end_row(self, row: JobView, status: Status, *, error: str | None, output: Json = None) -> JobView:
        """Return the row in a terminal status."""
        now = self.queue.now("queue")
        return row.changed(
            status=status,
            queue_state=next(iter(PARTNERS[status])),
            output=output,
            error=error,
            worker=None,
            lease_until=None,
            completed_at=now,
            expires_at=now + self.settings.retention,
        )


class KeyRules(QueueRules):
    """Who holds a unique key."""

    def key_taken(self, row: JobView) -> bool:
        """Say whether another job holds the unique key of one that does not count as unfinished."""
        return row.unique_key is not None and self.key_holder(row.tool, row.unique_key) is not None

    def holder(self, request: JobRequest) -> JobId | None:
        """Return the unfinished job that holds the request's unique key, be it of the request's own transaction."""
        tool, key = request.tool, request.unique_key
        if key is None:
            return None
        if request.transaction is not None:
            for row in self.queue.transactions.get(request.transaction, ()):
                if row.unique_key == key and row.tool == tool:
                    return row.id
        return self.key_holder(tool, key) or (
            self.window_holder(tool, key, self.queue.now("producer")) if self.queue.own else None
        )

    def window_taken(self, row: JobView) -> bool:
        """Say whether the window of a job that was sent before covers the unique key of one that is committed now."""
        if row.unique_key is None or not self.queue.own:
            return False
        holder = self.window_holder(row.tool, row.unique_key, self.queue.now("producer"))
        return holder is not None and self.queue.rows[holder].created_at < row.created_at

    def window_holder(self, tool: str, key: str, now: Instant) -> JobId | None:
        """Return the job that holds a unique key for its window, whether it has ended or not."""
        for job, own in self.queue.own.items():
            if own.unique_key != key or own.tool != tool or job not in self.queue.rows:
                continue
            if own.unique_for and self.queue.rows[job].created_at + own.unique_for > now:
                return job
        return None

    def key_holder(self, tool: str, key: str) -> JobId | None:
        """Return the unfinished job that holds a unique key."""
        for job, row in self.queue.live.items():
            if row.unique_key == key and row.tool == tool:
                return job
        return None


class RequestRules(QueueRules):
    """What a new job's row holds, and what open transactions have written."""

    def keep_own(self, request: JobRequest) -> None:
        """Keep what a job asks for that no column of its row holds."""
        if request.lease or request.retry_delay is not None or request.unique_for or request.group is not None:
            self.queue.own[request.id] = replace(request, input=None)

    def input_problem(self, input: Json) -> str | None:
        """Return why JSON cannot hold an input, or None."""
        return json_problem(input)

    def option_problem(self, request: JobRequest) -> str | None:
        """Return why text cannot hold a request's name or one of its keys, or None."""
        texts = (request.tool, request.unique_key, request.serial_key, request.dead_letter)
        return next((problem for text in texts if text is not None and (problem := json_problem(text))), None)

    def created(self, request: JobRequest, now: Instant) -> JobView:
        """Return the row of a new job."""
        preset = self.queue.preset_state
        return JobView(
            id=request.id,
            tool=request.tool,
            status=PENDING,
            queue_state=QueueState.CREATED,
            priority=request.priority,
            attempts=0,
            max_attempts=request.max_attempts or self.settings.max_attempts,
            token=preset.tokens.get(request.id, preset.first_token),
            worker=None,
            output=None,
            error=None,
            unique_key=request.unique_key,
            created_at=now,
            start_after=now if request.start_after is None else request.start_after,
            started_at=None,
            lease_until=None,
            completed_at=None,
            expires_at=None,
            input=request.input,
            serial_key=request.serial_key,
            dead_letter=request.dead_letter,
            depends_on=request.depends_on or None,
            parent=request.parent,
            group=request.group,
        )

    def join(self, transaction: str, row: JobView) -> bool:
        """Write a row that only its transaction sees. False: there is no such transaction."""
        if transaction not in self.queue.transactions:
            return False
        self.queue.transactions[transaction] += (row,)
        return True

    def is_pending(self, job: JobId) -> bool:
        """Say whether an open transaction has written this job."""
        return bool(self.queue.transactions) and any(
            row.id == job for rows in self.queue.transactions.values() for row in rows
        )

    def publish(self, rows: tuple[JobView, ...]) -> None:
        """Put what was committed in place."""
        for row in rows:
            self.queue.put(row)

    def forget(self, rows: tuple[JobView, ...]) -> None:
        """Drop what jobs asked for that were not committed: their ids may be given anew."""
        for row in rows:
            self.queue.own.pop(row.id, None)


class TickRules(QueueRules):
    """Which slots of a schedule get a job, and which job that is."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        """Return the slots that have begun and have no job."""
        if not planned.schedule.cron:
            period = planned.schedule.period
            return list(range(planned.last + period, now + 1, period))
        slots = self.calendar(planned, now)
        return slots[-1:] if planned.schedule.missed is Missed.LATEST else slots

    def calendar_problem(self, schedule: Schedule) -> str | None:
        """Return why a schedule's cron text, or its zone, means nothing; None where it does."""
        from job_harness.core.calendars import calendar_problem  # cronsim and zoneinfo, which most runs do without

        return calendar_problem(schedule.cron, schedule.zone)

    def calendar(self, planned: StandingSchedule, now: Instant) -> list[Instant]:
        """Return what a cron text means since the last slot that has its job, or was passed over."""
        return planned.schedule.slots(planned.last, now)

    def fill(self, planned: StandingSchedule, slot: Instant) -> None:
        """Keep that a slot has its job."""
        name = planned.schedule.name
        self.queue.schedules[name] = self.queue.schedules[name]._replace(last=slot)

    def of_slot(self, planned: StandingSchedule, slot: Instant, now: Instant) -> JobView:
        """Return the row of a slot's job."""
        request = self.request_of(planned.schedule, self.free_id(planned, slot))
        return self.queue.requests.created(request, now).changed(schedule=planned.schedule.name, slot=slot)

    def request_of(self, schedule: Schedule, job: JobId) -> JobRequest:
        """Return what a schedule asks for, under the id of one of its jobs."""
        template = schedule.job
        return JobRequest(
            id=job,
            tool=template.tool,
            input=template.input,
            priority=template.priority,
            max_attempts=template.max_attempts,
            unique_key=template.unique_key,
            serial_key=template.serial_key,
            dead_letter=template.dead_letter,
            lease=template.lease,
            retry_delay=template.retry_delay,
        )

    def free_id(self, planned: StandingSchedule, slot: Instant) -> JobId:
        """Number the slots of a schedule; an id that is taken gets a dash: nothing but a wrong queue comes to that."""
        schedule = planned.schedule
        calendar = bool(schedule.cron)
        number = len(schedule.slots(planned.since, slot)) if calendar else (slot - planned.since) // schedule.period
        job = f"{schedule.name}{number}"
        while job in self.queue.rows:
            job += "-"
        return job


class UpkeepRules(QueueRules):
    """What is taken back, repaired and deleted."""

    def is_overdue(self, row: JobView, now: Instant) -> bool:
        """Say whether a lease ran out."""
        return row.queue_state is QueueState.ACTIVE and row.lease_until is not None and row.lease_until <= now

    def is_stuck(self, row: JobView, now: Instant) -> bool:
        """Say whether a job is stuck."""
        return (
            row.status is PROCESSING
            and row.started_at is not None
            and row.started_at + self.settings.stuck_timeout <= now
        )

    def take_back(self, rows: list[JobView], why: str) -> Outcome:
        """Fail attempts on behalf of workers that did not settle them: the same arrows as a failure."""
        self.queue.endings.draw()
        for nth, row in enumerate(sorted(rows, key=lambda row: row.id)):
            error = why.format(worker=row.worker, attempt=row.attempts, attempts=row.max_attempts)
            self.queue.endings.end_attempt(self.taken_back(row, error, nth), "take back")
        return done([row.id for row in rows])

    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        """Return the row after its claim was taken back."""
        return self.queue.endings.failed(row, why, nth=nth)

    def repair(self, row: JobView) -> None:
        """Repair one job whose rows disagree."""
        if row.status is None:
            self.queue.drop(row.id)
        elif row.queue_state is None or row.status in TERMINAL:
            self.queue.put(row.changed(queue_state=next(iter(PARTNERS[row.status]))))
        else:
            status = next(status for status, states in PARTNERS.items() if row.queue_state in states)
            self.queue.put(row.changed(status=status))

    def is_purgeable(self, row: JobView, now: Instant) -> bool:
        """Say whether a job is past its retention."""
        return row.status in TERMINAL and row.expires_at is not None and row.expires_at <= now


Rules = TypeVar("Rules", bound=QueueRules)


def with_rules(right: type[Rules], wrong: tuple[type[QueueRules], ...]) -> type[Rules]:
    """Return the rules of one kind: the right ones, the wrong ones of this kind, or several of these as one."""
    found = tuple(each for each in wrong if issubclass(each, right))
    return right if not found else found[0] if len(found) == 1 else type(right.__name__, found, {})


@lru_cache(maxsize=4)
def put_off(count: int, max_attempts: int) -> Mapping[JobId, JobView]:
    """Return the rows of `count` jobs that wait for a day that no run comes to; runs share them."""
    day = 100 * 365 * DAY
    row = JobView(
        id="", tool="tool", status=PENDING, queue_state=QueueState.CREATED, priority=0, attempts=0,
        max_attempts=max_attempts, token=0, worker=None, output=None, error=None, unique_key=None, created_at=0,
        start_after=day, started_at=None, lease_until=None, completed_at=None, expires_at=None,
    )  # fmt: skip
    return {job: row.changed(id=job) for job in (f"put-off-{number}" for number in range(1, count + 1))}


OVERDUE: Final = "The lease of worker {worker} ran out in attempt {attempt} of {attempts}."
"""The error of an attempt whose lease ran out."""
STALE: Final = Outcome.refused("the claim was taken back")
NO_TRANSACTION: Final = Outcome.refused("there is no such transaction, or it has ended")


class MemoryQueue(JobRows):
    """Can do everything that the port knows; every verb is one step."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        heartbeat=True,
        release=True,
        cancel=True,
        retry=True,
        priorities=True,
        unique=True,
        start_after=True,
        maintenance=True,
        virtual_time=True,
        snapshot=True,
        fencing=True,
        concurrency_limits=True,
        rate_limits=True,
        serial_keys=True,
        dead_letters=True,
        transactions=True,
        schedules=True,
        inputs=True,
        own_leases=True,
        own_delays=True,
        unique_windows=True,
        worker_tools=True,
        pausing=True,
        calendars=True,
        presets=True,
        wide_values=True,
        big_priorities=True,
        blank_keys=True,
        flows=True,
        parents=True,
        groups=True,
        any_settings=True,
    )
    rules: ClassVar[tuple[type[QueueRules], ...]] = ()
    """What a wrong queue decides otherwise: each takes the place of the right rules that it extends."""

    def __init__(
        self,
        settings: Settings,
        clocks: EngineClocks,
        jitter: Callable[[], float],
        *,
        rules: tuple[type[QueueRules], ...] = (),
    ) -> None:
        """Begin empty; `rules` take the place of the right ones."""
        super().__init__(settings, clocks)
        wrong = (*rules, *self.rules)
        self.claims = with_rules(ClaimRules, wrong)(self)
        self.endings = with_rules(EndRules, wrong)(self, jitter)
        self.flows = with_rules(FlowRules, wrong)(self)
        self.keys = with_rules(KeyRules, wrong)(self)
        self.requests = with_rules(RequestRules, wrong)(self)
        self.ticks = with_rules(TickRules, wrong)(self)
        self.upkeep = with_rules(UpkeepRules, wrong)(self)

    def close(self) -> None:
        """Let go of the rules: they know the queue, and only the garbage collector would free the two."""
        for name in ("claims", "endings", "flows", "keys", "requests", "ticks", "upkeep"):
            self.__dict__.pop(name, None)

    def pass_on(self, row: JobView) -> None:
        """Let what depends on a job that has ended hear of it."""
        self.flows.pass_on(row)

    def call_back(self, row: JobView) -> None:
        """Make the callback of a group, where this was the last of its jobs to end."""
        if self.flows.is_called_back(row):
            request = JobRequest(self.flows.callback_id(row))
            self.put(self.requests.created(request, self.now("queue")).changed(callback_of=row.group))

    def claim(self, worker: str, limit: int, tools: Sequence[str] | None = None) -> Outcome:
        """Take the first due jobs of these tools; the attempt counts from here."""
        now = self.now(worker)
        due = self.claims.due(now)
        if tools is not None or self.paused:
            due = [row for row in due if self.claims.is_served(row, tools)]
        return done([self.claims.take(row, worker, now) for row in self.claims.allowed(due, limit)])

    def pause(self, tool: str) -> Outcome:
        """Hold back the jobs of a tool."""
        self.paused |= {tool}
        return DONE

    def unpause(self, tool: str) -> Outcome:
        """Let go of the jobs of a tool."""
        self.paused -= {tool}
        return DONE

    def heartbeat(self, claim: Claim) -> Outcome:
        """Extend the lease by its full length."""
        row = self.endings.held(claim, "heartbeat")
        if row is None:
            return STALE
        self.put(row.changed(lease_until=self.now(claim.worker) + self.endings.extension(row)))
        return DONE

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Settle as COMPLETED with the output and no error."""
        row = self.endings.held(claim, "complete")
        if row is None:
            return STALE
        if problem := self.endings.output_problem(output):
            return Outcome.refused(f"invalid output: {problem}")
        self.put(self.endings.completed(row, output))
        return DONE

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Settle as a failure."""
        self.endings.draw()
        row = self.endings.held(claim, "fail")
        if row is None:
            return STALE
        self.endings.end_attempt(self.endings.failed(row, self.endings.recorded(error), final=final), "fail")
        return DONE

    def release(self, claim: Claim) -> Outcome:
        """Give the job back unrun: the attempt does not count, the token stays."""
        row = self.endings.held(claim, "release")
        if row is None:
            return STALE
        self.put(
            row.changed(
                status=PENDING,
                queue_state=QueueState.RETRY if row.attempts > 1 else QueueState.CREATED,
                attempts=row.attempts - 1,
                worker=None,
                started_at=None,
                lease_until=None,
                start_after=self.now(claim.worker),
            )
        )
        return DONE

    def enqueue(self, request: JobRequest) -> Outcome:
        """Write both rows, at once or where the transaction of the request commits."""
        if problem := self.requests.input_problem(request.input) or self.requests.option_problem(request):
            return Outcome.refused(f"invalid input: {problem}")
        if request.id in self.rows or self.requests.is_pending(request.id):
            return Outcome.refused("this id exists", request.id)
        if (holder := self.keys.holder(request)) is not None:
            return Outcome.refused("the unique key is held", holder)
        if missing := self.flows.missing(request.depends_on):
            return Outcome.refused(missing)
        if request.parent is not None and (late := self.flows.late(request.parent)):
            return Outcome.refused(late)
        row = self.requests.created(request, self.now("producer"))
        if request.transaction is None:
            self.put(row)
            if request.parent is not None:
                parent = self.rows[request.parent]
                self.put(parent.changed(depends_on=(*(parent.depends_on or ()), row.id)))
        elif not self.requests.join(request.transaction, row):
            return NO_TRANSACTION
        self.requests.keep_own(request)
        return done(request.id)

    def cancel(self, job: JobId) -> Outcome:
        """Cancel what is not terminal."""
        row = self.rows.get(job)
        if row is None or row.status in TERMINAL:
            return Outcome.refused("unknown job" if row is None else f"the job is {row.status}")
        self.put(self.endings.end_row(row, CANCELLED, error=row.error))
        return DONE

    def retry(self, job: JobId) -> Outcome:
        """Open a new attempt budget; the token goes on rising."""
        row = self.rows.get(job)
        if row is None or row.status not in (FAILED, CANCELLED):
            return Outcome.refused("unknown job" if row is None else f"the job is {row.status}")
        if self.keys.key_taken(row):
            return Outcome.refused("the unique key is held")
        if missing := self.flows.missing(row.depends_on or ()):
            return Outcome.refused(missing)
        now = self.now("operator")
        self.put(
            row.changed(
                status=PENDING,
                queue_state=QueueState.CREATED,
                attempts=0,
                output=None,
                error=None,
                start_after=now,
                started_at=None,
                completed_at=None,
                expires_at=None,
            )
        )
        return DONE

    def begin(self, transaction: str) -> Outcome:
        """Open a transaction."""
        if transaction in self.transactions:
            return Outcome.refused("this transaction is open")
        self.transactions[transaction] = ()
        return DONE

    def commit(self, transaction: str) -> Outcome:
        """Show what a transaction wrote; refused, and nothing of it kept, where a unique key was taken meanwhile."""
        rows = self.transactions.pop(transaction, None)
        if rows is None:
            return NO_TRANSACTION
        if any(self.keys.key_taken(row) or self.keys.window_taken(row) for row in rows):
            self.requests.forget(rows)
            return Outcome.refused("the unique key is held")
        self.requests.publish(rows)
        return done([row.id for row in rows])

    def rollback(self, transaction: str) -> Outcome:
        """Forget what a transaction wrote."""
        rows = self.transactions.pop(transaction, None)
        if rows is None:
            return NO_TRANSACTION
        self.requests.forget(rows)
        return DONE

    def schedule(self, schedule: Schedule) -> Outcome:
        """Set a schedule; one that is there goes on with its slots."""
        if schedule.period <= 0 and not schedule.cron:
            return Outcome.refused("the period is not longer than nothing")
        if schedule.cron and (problem := self.ticks.calendar_problem(schedule)):
            return Outcome.refused(problem)
        known = self.schedules.get(schedule.name)
        now = self.now("producer")
        kept = known is not None and known.schedule.rhythm == schedule.rhythm
        self.schedules[schedule.name] = (
            known._replace(schedule=schedule)
            if known is not None and kept
            else StandingSchedule(schedule, since=schedule.latest(now), last=schedule.latest(now))
        )
        return DONE

    def unschedule(self, name: str) -> Outcome:
        """End a schedule."""
        return Outcome.refused("there is no such schedule") if self.schedules.pop(name, None) is None else DONE

    def tick(self, instance: str) -> Outcome:
        """Make the job of every slot that has begun and has none."""
        if not self.schedules:
            return done([])
        now = self.now(instance)
        made: list[JobId] = []
        for planned in list(self.schedules.values()):
            for slot in self.ticks.slots(planned, instance, now):
                row = self.ticks.of_slot(planned, slot, now)
                self.put(row)
                self.requests.keep_own(self.ticks.request_of(planned.schedule, row.id))
                made.append(row.id)
                self.ticks.fill(planned, slot)
        return done(made)

    def expire(self) -> Outcome:
        """Take back every claim whose lease ran out."""
        now = self.now("queue")
        overdue = self.fitting(self.upkeep.is_overdue, now)
        return self.upkeep.take_back(overdue, OVERDUE)

    def rescue(self) -> Outcome:
        """Take back what is PROCESSING for longer than the stuck timeout."""
        now = self.now("cron")
        stuck = self.fitting(self.upkeep.is_stuck, now)
        return self.upkeep.take_back(
            stuck, "Stuck: worker {worker} did not settle attempt {attempt} of {attempts} in time."
        )

    def reconcile(self) -> Outcome:
        """Make both rows agree: the terminal half wins, then the queue's."""
        apart = [self.rows[job] for job in self.apart]
        for row in apart:
            self.upkeep.repair(row)
        return done([row.id for row in apart])

    def purge(self) -> Outcome:
        """Delete terminal jobs past their retention."""
        now = self.now("cron")
        ended = (self.rows[job] for job in self.ended)
        gone = [row.id for row in takewhile(lambda row: self.upkeep.is_purgeable(row, now), ended)]
        gone += [row.id for row in self.fitting(self.upkeep.is_purgeable, now)]
        if self.dependents or any(self.rows[job].group or self.rows[job].callback_of for job in gone):
            gone = [job for job in gone if not self.flows.is_needed(job, gone)]
        for job in gone:
            self.drop(job)
        return done(gone)

    def preset(self, counter: str, value: int) -> Outcome:
        """Set a counter ahead, or fill the queue with jobs that are put off, before the first job."""
        if counter not in COUNTERS:
            return Outcome.refused(f"there is no counter {counter!r}; there are {', '.join(COUNTERS)}")
        if counter == "token":
            self.preset_state.first_token = value
            return DONE
        self.preset_state.put_off = dict(put_off(value, self.settings.max_attempts))
        self.rows.update(self.preset_state.put_off)
        self.preset_state.older = dict.fromkeys(self.live)
        return DONE


class MemoryEngine:
    """The engine `memory`; a wrong queue is another queue class, a wrong worker comes as another application."""

    def __init__(
        self,
        queue: type[MemoryQueue] = MemoryQueue,
        *,
        rules: tuple[type[QueueRules], ...] = (),
        name: str = "memory",
        application: Application | None = None,
        contract: Contract | None = None,
    ) -> None:
        """Open queues of a class with these `rules`; `application` is at work on them, or else the stock actors."""
        self.info = EngineInfo(name, _able(queue), application=application, contract=contract or Contract())
        self._queue = queue
        self._rules = rules

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> MemoryQueue:
        """Return an empty queue."""
        return self._queue(settings, clocks, jitter, rules=self._rules)

    def close(self) -> None:
        """Nothing to give back."""


def _able(queue: type[MemoryQueue]) -> Capabilities:
    """Return what a queue class can do: a `claim` from before workers had tools knows of no pauses."""
    if "tools" in signature(queue.claim).parameters:
        return queue.capabilities
    return replace(queue.capabilities, worker_tools=False, pausing=False)
