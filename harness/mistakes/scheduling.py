"""Mistakes in when a job is due and which one comes first."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.mistakes.mistake import Edit, Mistake
from harness.model.duration import SECOND, Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status
from harness.port import JobRequest


class StartAfterIgnored(MemoryQueue):
    def is_due(self, row: JobView, now: Instant) -> bool:
        return row.status is Status.PENDING


class ScheduleDropped(MemoryQueue):
    def created(self, request: JobRequest, now: Instant) -> JobView:
        return super().created(request, now)._replace(start_after=now)


class BackoffAdditive(MemoryQueue):
    def delay(self, row: JobView, nth: int) -> int:
        return self.settings.retry_delay + (SECOND << row.attempts)


class BackoffUncapped(MemoryQueue):
    def delay(self, row: JobView, nth: int) -> int:
        return self.settings.retry_delay << (row.attempts - 1)


class RetriedAtOnce(MemoryQueue):
    def delay(self, row: JobView, nth: int) -> int:
        return 0


class PriorityIgnored(MemoryQueue):
    def claim_order(self, row: JobView) -> tuple[int, Instant, JobId]:
        return (0, row.created_at, row.id)


class PriorityReversed(MemoryQueue):
    def claim_order(self, row: JobView) -> tuple[int, Instant, JobId]:
        return (row.priority, row.created_at, row.id)


class NewestFirst(MemoryQueue):
    def claim_order(self, row: JobView) -> tuple[int, Instant, JobId]:
        return (-row.priority, -row.created_at, row.id)


_ORDER: Final = """ORDER BY q."priority" DESC, q."created_on", q."id\""""
_BACKOFF: Final = """q."retry_delay_max", q."retry_count", :jitter::double precision)"""

MISTAKES: Final = (
    Mistake(
        name="start-after-ignored",
        sentence="A claim takes jobs before their time.",
        source="celery#5935",
        finds=("claimed_early",),
        queue=StartAfterIgnored,
        statements={
            "claim": (Edit("""AND q."start_after" <= coalesce(:now::timestamptz, now())""", ""),),
        },
    ),
    Mistake(
        name="schedule-dropped",
        sentence="The start time that a job was sent with is not written.",
        source="pg-boss#529",
        finds=("schedule_dropped",),
        queue=ScheduleDropped,
        statements={
            "enqueue": (Edit("""coalesce(:start_after::timestamptz, at)""", """coalesce(NULL::timestamptz, at)"""),)
        },
    ),
    Mistake(
        name="backoff-additive",
        sentence="Backoff adds a power of two to the delay instead of multiplying by it.",
        source="pg-boss#672",
        finds=("backoff_out_of_range",),
        queue=BackoffAdditive,
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
        sentence="Backoff doubles without end.",
        source="procrastinate#1462, procrastinate#1375",
        finds=("backoff_out_of_range",),
        queue=BackoffUncapped,
        statements={"fail": (Edit(_BACKOFF, """INTERVAL '1000 days', q."retry_count", :jitter::double precision)"""),)},
    ),
    Mistake(
        name="retried-at-once",
        sentence="A failed job is due again at once, whatever the retry delay.",
        source="unstract PR#2217",
        finds=("backoff_out_of_range",),
        queue=RetriedAtOnce,
        statements={
            "fail": (
                Edit("""THEN moment.at + "pgboss".retry_after(""", """THEN moment.at + 0 * "pgboss".retry_after("""),
            )
        },
    ),
    Mistake(
        name="priority-ignored",
        sentence="A claim takes the oldest job, whatever the priorities.",
        source="pg-boss PR#756",
        finds=("priority_inversion",),
        queue=PriorityIgnored,
        statements={"claim": (Edit(_ORDER, """ORDER BY q."created_on", q."id\""""),)},
    ),
    Mistake(
        name="priority-reversed",
        sentence="The lowest priority comes first.",
        source="the sign of ORDER BY",
        finds=("priority_inversion",),
        queue=PriorityReversed,
        statements={"claim": (Edit(_ORDER, """ORDER BY q."priority", q."created_on", q."id\""""),)},
    ),
    Mistake(
        name="newest-first",
        sentence="Among jobs of one priority the newest is claimed first.",
        source="river PR#1318: what is old starves",
        finds=("priority_inversion",),
        queue=NewestFirst,
        statements={"claim": (Edit(_ORDER, """ORDER BY q."priority" DESC, q."created_on" DESC, q."id\""""),)},
    ),
)
