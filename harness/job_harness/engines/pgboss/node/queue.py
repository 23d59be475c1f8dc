"""The verbs of the harness, asked of the library in a Node peer. Decides nothing: every rule is pg-boss's.

Schedules are set by pg-boss's own functions, and looked at by two instances of it, each on a clock
of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from job_harness.core.history import Outcome, done
from job_harness.core.model import DAY, HOUR, MINUTE, SECOND, Duration, Instant, JobId, JobView, format_duration
from job_harness.core.port import Capabilities, Claim, JobRequest, Schedule
from job_harness.engines.foreign_queue import AskingQueue, Opened, without_value
from job_harness.engines.pgboss.node.release import CRON_HOURS, CRON_MINUTES, PERIODS, NodeJobTables, Release
from job_harness.engines.pgboss.translation import seconds_of, send_options, tool_of, turns, uuid_of, view_of
from job_harness.worlds.wire.database import Row, instant_of

UNKNOWN_JOB: Final = Outcome.refused("unknown job")
SHORTEST_HEARTBEAT: Final = 10 * SECOND
"""pg-boss takes no shorter one; a shorter lease is an expiry, which nothing extends."""
CHANGING: Final = frozenset({"complete", "fail", "cancel", "retry"})
"""Questions after which another job of a key may be in the place of one."""
LONGEST_RUN: Final = 23 * 3600
"""Seconds: an expiry must stay below a day."""


class PgBossNodeQueue(AskingQueue):
    """A queue under test over the library itself.

    A claim is told apart by the number of its attempt. Where the version fences calls by the
    attempt that was fetched, it is told which one that was, as its own worker does.
    """

    def __init__(self, opened: Opened, *, release: Release) -> None:
        super().__init__(opened)
        self.capabilities: Capabilities = release.capabilities
        self._release = release
        self._keys = release.keys
        self._strictly = opened.strictly
        self._tables: NodeJobTables = opened.schema
        self._jitter = opened.jitter
        self._tools: dict[JobId, str] = {}
        self._workers: dict[tuple[JobId, int], str] = {}
        """Who claimed which attempt: pg-boss does not keep it."""
        self._granted: dict[JobId, int] = {}
        """The last attempt that a resume allowed a job, whatever its limit."""
        self._changed: Instant | None = None
        """Since when the statistics of the queues may be out of date."""

    def _ask(self, question: str, *, ago: Duration = 0, at: Instant | None = None, **arguments: Any) -> Outcome:
        outcome = super()._ask(question, ago=ago, at=at, **arguments)
        if question in CHANGING or (question == "claim" and outcome.done and outcome.value):
            self._changed = self._clocks.store()
        return outcome

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
        sent: dict[str, Any] = {"data": self._keys.data(request), "queue": self._queue_options(options)}
        tool = self._keys.queue(request.tool)
        outcome = self._ask("enqueue", ago=self._strictly, tool=tool, options=options, **sent)
        if not outcome.done:
            return outcome
        self._tools[request.id] = request.tool
        return done(request.id)

    def _queue_options(self, options: dict[str, Any]) -> dict[str, Any]:
        heartbeat = {"heartbeatSeconds": options["heartbeatSeconds"]} if "heartbeatSeconds" in options else {}
        return {"policy": self._release.policy.name, **heartbeat}

    def _options(self, request: JobRequest) -> dict[str, Any]:
        settings = self._settings
        options = send_options(
            request,
            settings,
            id=self._uuid(request.id),
            keys=self._keys,
            keeps_queues=self._tables.keeps_queues,
        )
        if (group := self._keys.group(request)) is not None:
            options["group"] = {"id": group}
        if self._tables.heartbeats and settings.lease >= SHORTEST_HEARTBEAT:
            options["heartbeatSeconds"] = seconds_of(settings.lease)
            options["expireInSeconds"] = LONGEST_RUN
        return options

    def cancel(self, job: JobId) -> Outcome:
        """Cancel what is not finished."""
        return without_value(self._ask_by_id("cancel", job))

    def retry(self, job: JobId) -> Outcome:
        """Resume what was cancelled, retry what failed: one attempt more than it had."""
        before = self.jobs().get(job)
        outcome = self._ask_by_id("retry", job)
        if outcome.done and before is not None:
            self._granted[job] = before.attempts + 1
        return without_value(outcome)

    def _ask_by_id(self, question: str, job: JobId) -> Outcome:
        tool = self._tools.get(job)
        return UNKNOWN_JOB if tool is None else self._ask(question, tool=self._keys.queue(tool), id=self._uuid(job))

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Outcome:
        """Fetch from the queues in such turns that the order of jobs is that of one queue.

        What is fetched together comes in the order in which it was sent: a fetch promises none, and
        may have another one on other pages of the disk.
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

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Fail the attempt that was fetched; pg-boss knows no final failure."""
        self._draw()
        return self._end_claim("fail", claim, message=error)

    def heartbeat(self, claim: Claim) -> Outcome:
        """Touch the attempt that was fetched; versions before 12 have no heartbeat."""
        return self._end_claim("touch", claim)

    def _end_claim(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
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


# schedules ------------------------------------------------------------------------------------------------------------


def cron_text(period: Duration) -> str:
    """Return the cron text of a period. Raises ValueError for one that cron text cannot say."""
    if period in CRON_MINUTES:
        return f"*/{period // MINUTE} * * * *"
    if period in CRON_HOURS:
        return f"0 */{period // HOUR} * * *"
    if period == DAY:
        return "0 0 * * *"
    said = ", ".join(format_duration(said) for said in PERIODS)
    raise ValueError(f"cron text cannot say every {format_duration(period)}; it can say {said}")


@dataclass(frozen=True, slots=True)
class PlannedSchedule:
    """A schedule and the slot that had begun when it was set; slots are numbered from there."""

    schedule: Schedule
    since: Instant

    def slot(self, at: Instant) -> Instant:
        """Return the slot in which a job was made at an instant."""
        return self.schedule.latest(at)

    def name(self, slot: Instant) -> JobId:
        """Return the id of the job of a slot."""
        return f"{self.schedule.name}{(slot - self.since) // self.schedule.period}"


class SchedulePlans:
    """The schedules of one run, those that ended too, and the names of the jobs that they made."""

    def __init__(self) -> None:
        self.standing: dict[str, PlannedSchedule] = {}
        """By name: who stands now."""
        self._known: dict[str, PlannedSchedule] = {}
        self._names: dict[str, tuple[JobId, Instant]] = {}
        """By the UUID of a job."""
        self._uuids: dict[JobId, str] = {}

    def set(self, schedule: Schedule, now: Instant) -> None:
        """Take over a schedule; one of the same period goes on with its slots."""
        known = self.standing.get(schedule.name)
        kept = known is not None and known.schedule.period == schedule.period
        since = known.since if known is not None and kept else schedule.latest(now)
        self.standing[schedule.name] = self._known[schedule.name] = PlannedSchedule(schedule, since)

    def end(self, name: str) -> None:
        """Forget that a schedule stands."""
        self.standing.pop(name, None)

    def identify(self, uuid: str, schedule: str, made_at: Instant) -> tuple[JobId, Instant]:
        """Return the id and the slot of a job that a schedule made; a second job of a slot has a dash."""
        if uuid not in self._names:
            planned = self._known[schedule]
            slot = planned.slot(made_at)
            name = planned.name(slot)
            while name in self._uuids:
                name += "-"
            self._names[uuid] = name, slot
            self._uuids[name] = uuid
        return self._names[uuid]

    def job(self, uuid: str) -> JobId:
        """Return the id of a job that a schedule made, and that was seen."""
        return self._names[uuid][0]

    def uuid(self, job: JobId) -> str | None:
        """Return the UUID of a job that a schedule made; None for any other."""
        return self._uuids.get(job)


class SchedulingQueue(PgBossNodeQueue):
    """A queue with schedules: each is the cron text of a pg-boss queue, which from 11 on may have several, by keys."""

    def __init__(self, opened: Opened, *, release: Release) -> None:
        super().__init__(opened, release=release)
        self._plans = SchedulePlans()

    def schedule(self, schedule: Schedule) -> Outcome:
        """Set a schedule; refused for a period that cron text cannot say, and for a second one of a queue before 11."""
        try:
            cron = cron_text(schedule.period)
        except ValueError as error:
            return Outcome.refused(str(error))
        tool = self._keys.queue(schedule.job.tool)
        others = [other.schedule for name, other in self._plans.standing.items() if name != schedule.name]
        if not self._tables.keyed_schedules and any(self._keys.queue(other.job.tool) == tool for other in others):
            return Outcome.refused(f"the queue {tool!r} has a schedule, and can have one")
        options = self._options(schedule.job)
        del options["id"]
        options.pop("startAfter", None)
        queue = self._queue_options(options)
        if self._tables.keyed_schedules:
            options["key"] = schedule.name
        data = {**self._keys.data(schedule.job), "schedule": schedule.name}
        del data["job"]
        outcome = self._ask("schedule", tool=tool, cron=cron, data=data, options=options, queue=queue)
        if outcome.done:
            self._plans.set(schedule, self._clocks.store())
            self._tools[schedule.name] = schedule.job.tool
            return done()
        return outcome

    def unschedule(self, name: str) -> Outcome:
        """End a schedule."""
        planned = self._plans.standing.get(name)
        if planned is None:
            return Outcome.refused("there is no such schedule")
        key = name if self._tables.keyed_schedules else ""
        outcome = self._ask("unschedule", tool=self._keys.queue(planned.schedule.job.tool), key=key)
        if outcome.done:
            self._plans.end(name)
            return done()
        return outcome

    def tick(self, instance: str) -> Outcome:
        """Let an instance compare clocks, look at all schedules and forward what is due, by its own clock."""
        before = self.jobs()
        self._tables.open_cron_gate()
        own = self._clocks.of(instance)
        for question, ago in (("look", 2 * self._strictly), ("forward", self._strictly)):
            outcome = self._ask(question, ago=ago, at=own, instance=instance)
            if not outcome.done:
                return outcome
        return done([job for job in self.jobs() if job not in before])

    def _identify(self, row: Row) -> JobId:
        if "schedule" not in row["data"]:
            return super()._identify(row)
        job, _ = self._made(row)
        self._tools.setdefault(job, tool_of(row))
        return job

    def _view(self, row: Row, job: JobId) -> JobView:
        if "schedule" not in row["data"]:
            return super()._view(row, job)
        view = super()._view({**row, "data": {**row["data"], "job": job}}, job)
        _, slot = self._made(row)
        return view._replace(schedule=row["data"]["schedule"], slot=slot)

    def _made(self, row: Row) -> tuple[JobId, Instant]:
        made_at = instant_of(row["created_on"])
        assert made_at is not None
        return self._plans.identify(str(row["id"]), row["data"]["schedule"], made_at + self._strictly)

    def _uuid(self, job: JobId) -> str:
        return self._plans.uuid(job) or super()._uuid(job)

    def _claimed(self, told: dict[str, Any]) -> JobId:
        if told["job"] is not None:
            return super()._claimed(told)
        return self._plans.job(told["id"])
