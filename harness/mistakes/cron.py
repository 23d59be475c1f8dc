"""Mistakes with schedules: slots missed, doubled or early, and what their jobs forget."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.adapters.memory.queue import StandingSchedule
from harness.mistakes.mistake import Mistake
from harness.model.duration import Instant
from harness.model.job import JobId
from harness.port import JobRequest, Schedule


class NoDedupe(MemoryQueue):
    """pgboss-cron-no-dedupe-11: the slot's key is NULL, and NULLs are distinct."""

    def fill(self, planned: StandingSchedule, slot: Instant) -> None:
        return


class TwoLeaders(MemoryQueue):
    """river-two-leaders: who once was elected goes on."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        slot = planned.schedule.latest(now)
        if instance.endswith("2") and slot > planned.since:
            return [slot]
        return super().slots(planned, instance, now)


class LocalClock(MemoryQueue):
    """pgboss-cron-clock-skew: the slot from the local clock, its age from the store's."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        slot = planned.schedule.latest(self.clocks.of(instance))
        return [slot] if slot > planned.last and now - slot < planned.schedule.period else []


class WindowTooShort(MemoryQueue):
    """pgboss-missed-cron-on-failover: nobody looks back further than to his own last look."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        return [slot for slot in super().slots(planned, instance, now) if now - slot < self.settings.tick_interval]


class ChainBroken(MemoryQueue):
    """bullmq-scheduler-chain-broken: each job makes the next one."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        name = planned.schedule.name
        broken = any(row.error and row.schedule == name for row in self.rows.values())
        return [] if broken else super().slots(planned, instance, now)


class FiresEarly(MemoryQueue):
    """goodjob-cron-fires-early."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        return super().slots(planned, instance, now + self.settings.tick_interval // 2)


class ScheduleOptionsDropped(MemoryQueue):
    """pgboss-schedule-options-dropped."""

    def asked(self, schedule: Schedule, job: JobId) -> JobRequest:
        return JobRequest(id=job, tool=schedule.job.tool, input=schedule.job.input)


MISTAKES: Final = (
    Mistake(
        name="cron-no-dedupe",
        sentence="Every look at a schedule makes the job of its slot, whether there is one or not.",
        source="pg-boss#592",
        finds=("slot_doubled",),
        queue=NoDedupe,
    ),
    Mistake(
        name="cron-two-leaders",
        sentence="A scheduler that lost its leadership goes on making jobs beside the new leader.",
        source="river PR#199, river PR#1213",
        finds=("slot_doubled",),
        queue=TwoLeaders,
    ),
    Mistake(
        name="cron-local-clock",
        sentence="The slot comes from the scheduler's clock and its age from the store's.",
        source="pg-boss PR#843",
        finds=("slot_missed", "slot_early"),
        queue=LocalClock,
    ),
    Mistake(
        name="cron-window-too-short",
        sentence="A slot is made only shortly after it began, so that it is missed where a scheduler fails over.",
        source="pg-boss#914",
        finds=("slot_missed",),
        queue=WindowTooShort,
    ),
    Mistake(
        name="cron-chain-broken",
        sentence="The job of a slot makes the job of the next, so that one failure ends the schedule.",
        source="bullmq#3272",
        finds=("slot_missed",),
        queue=ChainBroken,
    ),
    Mistake(
        name="cron-fires-early",
        sentence="A timer that fires a little early makes the job of a slot that has not begun.",
        source="good_job PR#1543, solid_queue PR#615",
        finds=("slot_early",),
        queue=FiresEarly,
    ),
    Mistake(
        name="schedule-options-dropped",
        sentence="The jobs of a schedule have the defaults, whatever the schedule was set with.",
        source="pg-boss#529",
        finds=("option_dropped",),
        queue=ScheduleOptionsDropped,
    ),
)
