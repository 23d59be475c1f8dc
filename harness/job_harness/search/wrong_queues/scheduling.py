"""Wrong queues in time: when a job is due, which one comes first, whose clock decides, and the slots of a schedule."""

from __future__ import annotations

from typing import Final

from job_harness.core.model import SECOND, Instant, JobId, JobView, Status
from job_harness.core.port import JobRequest, Schedule
from job_harness.engines.memory import ClaimRules, EndRules, MemoryQueue, RequestRules, TickRules
from job_harness.engines.memory.queue import StandingSchedule
from job_harness.search.wrong_queues.wrong_queue import Edit, Mistake, Theme

# scheduling -----------------------------------------------------------------------------------------------------------


class StartAfterIgnored(ClaimRules):
    def is_due(self, row: JobView, now: Instant) -> bool:
        return row.status is Status.PENDING


class ScheduleDropped(RequestRules):
    def created(self, request: JobRequest, now: Instant) -> JobView:
        return super().created(request, now)._replace(start_after=now)


class BackoffAdditive(EndRules):
    def delay(self, row: JobView, nth: int) -> int:
        return self.settings.retry_delay + (SECOND << row.attempts)


class BackoffUncapped(EndRules):
    def delay(self, row: JobView, nth: int) -> int:
        return self.settings.retry_delay << (row.attempts - 1)


class RetriedAtOnce(EndRules):
    def delay(self, row: JobView, nth: int) -> int:
        return 0


class PriorityIgnored(ClaimRules):
    def claim_order(self, row: JobView) -> tuple[int, Instant, JobId]:
        return (0, row.created_at, row.id)


class PriorityReversed(ClaimRules):
    def claim_order(self, row: JobView) -> tuple[int, Instant, JobId]:
        return (row.priority, row.created_at, row.id)


class NewestFirst(ClaimRules):
    def claim_order(self, row: JobView) -> tuple[int, Instant, JobId]:
        return (-row.priority, -row.created_at, row.id)


_ORDER: Final = """ORDER BY q."priority" DESC, q."created_on", q."id\""""
_BACKOFF: Final = """q."retry_delay_max", q."retry_count", :jitter::double precision)"""

SCHEDULING: Final = Theme.of(
    "start times, order and backoff kept",
    Mistake(
        name="start-after-ignored",
        sentence="A claim takes jobs before their time.",
        source="celery#5935",
        finds=("claimed_early",),
        rules=(StartAfterIgnored,),
        statements={
            "claim": (Edit("""AND q."start_after" <= coalesce(:now::timestamptz, now())""", ""),),
        },
    ),
    Mistake(
        name="schedule-dropped",
        sentence="The start time of a new job is not stored.",
        source="pg-boss#529",
        finds=("schedule_dropped",),
        rules=(ScheduleDropped,),
        statements={
            "enqueue": (Edit("""coalesce(:start_after::timestamptz, at)""", """coalesce(NULL::timestamptz, at)"""),)
        },
    ),
    Mistake(
        name="backoff-additive",
        sentence="Backoff adds a power of two to the delay instead of multiplying by it.",
        source="pg-boss#672",
        finds=("backoff_out_of_range",),
        rules=(BackoffAdditive,),
        statements={
            "fail": (
                Edit(
                    f"""moment.at + "pgboss".retry_after(q."retry_delay", q."retry_backoff",
                                              {_BACKOFF}""",
                    """moment.at + q."retry_delay" + power(2, q."retry_count" + 1) * INTERVAL '1 second'""",
                ),
            )
        },
    ),
    Mistake(
        name="backoff-uncapped",
        sentence="Backoff doubles without limit.",
        source="procrastinate#1462, procrastinate#1375",
        finds=("backoff_out_of_range",),
        rules=(BackoffUncapped,),
        statements={"fail": (Edit(_BACKOFF, """INTERVAL '1000 days', q."retry_count", :jitter::double precision)"""),)},
    ),
    Mistake(
        name="retried-at-once",
        sentence="A failed job is due again at once: the retry delay is ignored.",
        source="unstract PR#2217",
        finds=("backoff_out_of_range",),
        rules=(RetriedAtOnce,),
        statements={
            "fail": (
                Edit("""THEN moment.at + "pgboss".retry_after(""", """THEN moment.at + 0 * "pgboss".retry_after("""),
            )
        },
    ),
    Mistake(
        name="priority-ignored",
        sentence="A claim takes the oldest job, and ignores priorities.",
        source="pg-boss PR#756",
        finds=("priority_inversion",),
        rules=(PriorityIgnored,),
        statements={"claim": (Edit(_ORDER, """ORDER BY q."created_on", q."id\""""),)},
    ),
    Mistake(
        name="priority-reversed",
        sentence="The lowest priority comes first.",
        source="the sign of ORDER BY",
        finds=("priority_inversion",),
        rules=(PriorityReversed,),
        statements={"claim": (Edit(_ORDER, """ORDER BY q."priority", q."created_on", q."id\""""),)},
    ),
    Mistake(
        name="newest-first",
        sentence="Among jobs of one priority the newest is claimed first.",
        source="river PR#1318: old jobs starve",
        finds=("priority_inversion",),
        rules=(NewestFirst,),
        statements={"claim": (Edit(_ORDER, """ORDER BY q."priority" DESC, q."created_on" DESC, q."id\""""),)},
    ),
)


# clocks ---------------------------------------------------------------------------------------------------------------


class WorkerClock(MemoryQueue):
    def now(self, caller: str) -> Instant:
        return self.clocks.of(caller)


CLOCKS: Final = Theme.of(
    "the store's clock alone",
    Mistake(
        name="worker-clock-lease",
        sentence="Leases and times follow the caller's clock.",
        source="pg-boss PR#843",
        finds=("foreign_clock",),
        queue=WorkerClock,
    ),
)


# cron -----------------------------------------------------------------------------------------------------------------


class NoDedupe(TickRules):
    """pgboss-cron-no-dedupe-11: the slot's key is NULL, and NULLs are distinct."""

    def fill(self, planned: StandingSchedule, slot: Instant) -> None:
        return


class TwoLeaders(TickRules):
    """river-two-leaders: who once was elected goes on."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        slot = planned.schedule.latest(now)
        if instance.endswith("2") and slot > planned.since:
            return [slot]
        return super().slots(planned, instance, now)


class LocalClock(TickRules):
    """pgboss-cron-clock-skew: the slot from the local clock, its age from the store's."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        slot = planned.schedule.latest(self.queue.clocks.of(instance))
        return [slot] if slot > planned.last and now - slot < planned.schedule.period else []


class WindowTooShort(TickRules):
    """pgboss-missed-cron-on-failover: no instance looks back further than to its own last look."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        return [slot for slot in super().slots(planned, instance, now) if now - slot < self.settings.tick_interval]


class ChainBroken(TickRules):
    """bullmq-scheduler-chain-broken: each job makes the next one."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        name = planned.schedule.name
        broken = any(row.error and row.schedule == name for row in self.queue.rows.values())
        return [] if broken else super().slots(planned, instance, now)


class FiresEarly(TickRules):
    """goodjob-cron-fires-early."""

    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        return super().slots(planned, instance, now + self.settings.tick_interval // 2)


class ScheduleOptionsDropped(TickRules):
    """pgboss-schedule-options-dropped."""

    def request_of(self, schedule: Schedule, job: JobId) -> JobRequest:
        return JobRequest(id=job, tool=schedule.job.tool, input=schedule.job.input)


CRON: Final = Theme.of(
    "each slot of a schedule taken once",
    Mistake(
        name="cron-no-dedupe",
        sentence="Every check of a schedule creates the job of its slot, even if there is one already.",
        source="pg-boss#592",
        finds=("slot_doubled",),
        rules=(NoDedupe,),
    ),
    Mistake(
        name="cron-two-leaders",
        sentence="A scheduler that lost its leadership keeps creating jobs beside the new leader.",
        source="river PR#199, river PR#1213",
        finds=("slot_doubled",),
        rules=(TwoLeaders,),
    ),
    Mistake(
        name="cron-local-clock",
        sentence="The slot is computed from the scheduler's clock, but its age from the store's.",
        source="pg-boss PR#843",
        finds=("slot_missed", "slot_early"),
        rules=(LocalClock,),
    ),
    Mistake(
        name="cron-window-too-short",
        sentence="A slot gets its job only shortly after it began, so it is missed during a failover of schedulers.",
        source="pg-boss#914",
        finds=("slot_missed",),
        rules=(WindowTooShort,),
    ),
    Mistake(
        name="cron-chain-broken",
        sentence="The job of a slot creates the job of the next one, so one failure ends the schedule.",
        source="bullmq#3272",
        finds=("slot_missed",),
        rules=(ChainBroken,),
    ),
    Mistake(
        name="cron-fires-early",
        sentence="A timer that fires a little early creates the job of a slot that has not begun.",
        source="good_job PR#1543, solid_queue PR#615",
        finds=("slot_early",),
        rules=(FiresEarly,),
    ),
    Mistake(
        name="schedule-options-dropped",
        sentence="The jobs of a schedule get default options; those of the schedule are ignored.",
        source="pg-boss#529",
        finds=("option_dropped",),
        rules=(ScheduleOptionsDropped,),
    ),
)
