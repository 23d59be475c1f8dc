"""Schedules of pg-boss: set by its own functions, and looked at by two instances of it, each on a clock of its own."""

from __future__ import annotations

from typing import Any

from harness.adapters.foreign_queue import Opened
from harness.adapters.pgboss.node.queue import PgBossNodeQueue
from harness.adapters.pgboss.node.recurrence import Plans, cron_text
from harness.adapters.pgboss.node.release import Release
from harness.adapters.pgboss.translation import tool_of
from harness.foreign.database import Row, instant_of
from harness.foreign.node_child import milliseconds_of
from harness.history.outcome import Outcome, done
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.port import Schedule


class SchedulingQueue(PgBossNodeQueue):
    """A queue with schedules: each is the cron text of a pg-boss queue, which from 11 on may have several, by keys."""

    def __init__(self, opened: Opened, *, release: Release) -> None:
        super().__init__(opened, release=release)
        self._plans = Plans()

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
        own = milliseconds_of(self._clocks.of(instance))
        for question, ago in (("look", 2 * self._strictly), ("forward", self._strictly)):
            outcome = self._ask(question, ago=ago, instance=instance, now=own)
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
        return self._plans.named(str(row["id"]), row["data"]["schedule"], made_at + self._strictly)

    def _uuid(self, job: JobId) -> str:
        return self._plans.uuid(job) or super()._uuid(job)

    def _claimed(self, told: dict[str, Any]) -> JobId:
        if told["job"] is not None:
            return super()._claimed(told)
        return self._plans.job(told["id"])
