"""Schedules of the model queue: one job for each slot, whoever ticks, and however often."""

from __future__ import annotations

from harness.adapters.memory.producing import Producing
from harness.adapters.memory.rows import Planned
from harness.history.outcome import DONE, Outcome, done
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.port import JobRequest, Schedule


class Scheduling(Producing):
    """Keeps for each schedule the last slot that has its job, and makes what came since."""

    def schedule(self, schedule: Schedule) -> Outcome:
        """Set a schedule; one that is there goes on with its slots."""
        if schedule.period <= 0:
            return Outcome.refused("the period is not longer than nothing")
        known = self.schedules.get(schedule.name)
        now = self.now("producer")
        kept = known is not None and known.schedule.period == schedule.period
        self.schedules[schedule.name] = (
            known._replace(schedule=schedule)
            if known is not None and kept
            else Planned(schedule, since=schedule.latest(now), last=schedule.latest(now))
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
            for slot in self.slots(planned, instance, now):
                row = self.of_slot(planned, slot, now)
                self.put(row)
                made.append(row.id)
                self.fill(planned, slot)
        return done(made)

    def slots(self, planned: Planned, instance: str, now: Instant) -> list[Instant]:
        """Answer the slots that have begun and have no job."""
        period = planned.schedule.period
        return list(range(planned.last + period, now + 1, period))

    def fill(self, planned: Planned, slot: Instant) -> None:
        """Keep that a slot has its job."""
        name = planned.schedule.name
        self.schedules[name] = self.schedules[name]._replace(last=slot)

    def of_slot(self, planned: Planned, slot: Instant, now: Instant) -> JobView:
        """Answer the row of a slot's job."""
        request = self.asked(planned.schedule, self.free_id(planned, slot))
        return self.created(request, now)._replace(schedule=planned.schedule.name, slot=slot)

    def asked(self, schedule: Schedule, job: JobId) -> JobRequest:
        """Answer what a schedule asks for, under the id of one of its jobs."""
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
        )

    def free_id(self, planned: Planned, slot: Instant) -> JobId:
        """Number the slots of a schedule; an id that is taken gets a dash: nothing but a wrong queue comes to that."""
        job = f"{planned.schedule.name}{(slot - planned.since) // planned.schedule.period}"
        while job in self.rows:
            job += "-"
        return job
