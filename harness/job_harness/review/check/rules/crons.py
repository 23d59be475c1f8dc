"""Rules about schedules in code, of whatever queue, each from what its library documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from job_harness.review.check.cron import problem_of
from job_harness.review.check.facts import CELERY, GRAPHILE, Facts, QueueCall
from job_harness.review.check.finding import Breach, Severity, tried_on
from job_harness.review.check.rules.calls import NOW, rule, weight_of

_RANGES: Final = {
    "minute": (0, 59),
    "hour": (0, 23),
    "day_of_month": (1, 31),
    "month_of_year": (1, 12),
    "day_of_week": (0, 7),
}


_FORMS: Final = {"crontab": "Write each field within its range: crontab(minute=0, hour=3) is daily at 3:00."}
"""How a schedule is written that is no text of five fields, by the call that makes it."""


def _celery_range(call: QueueCall) -> str | None:
    for name, (low, high) in _RANGES.items():
        value = call.options.get(name)
        written = str(value.value) if value is not None and isinstance(value.value, (int, str)) else ""
        if re.fullmatch(r"[0-9]{1,4}", written) and not low <= int(written) <= high:
            return f"has {written} as {name}, which is between {low} and {high}"
    return None


def _crons(facts: Facts) -> Iterator[Breach]:
    for call in facts.calls:
        if call.library == CELERY and call.method == "crontab":
            problem: str | None = _celery_range(call)
            place, text = call.place, "crontab(...)"
        elif call.method == "cron" and "schedule" in call.options and call.library != GRAPHILE:
            value = call.options["schedule"]
            if not isinstance(value.value, str):
                continue
            place, text, problem = value.place, repr(value.value), problem_of(value.value, seconds=True)
        else:
            continue
        if problem is not None:
            whose = f" of {call.queue!r}" if call.queue else ""
            yield Breach(
                place,
                f"the schedule {text}{whose} {problem}: {call.library} refuses it, or never runs it",
                _FORMS.get(call.method, "Write five fields, minute first: `*/5 * * * *` is every five minutes."),
                severity=weight_of(call),
                subject=call.queue or text,
            )


RULES: Final = (
    rule(
        "code_cron_invalid",
        Severity.ERROR,
        (
            "A schedule in code is a cron expression (pg-boss, BullMQ, procrastinate, PgQueuer, Celery).",
            "The job is never sent, or the process does not start.",
            "Write five fields, minute first.",
        ),
        _crons,
        scenario="maintenance/cron_is_late.yaml",
        ran=(*tried_on("pg-boss", CELERY, "procrastinate", "pgqueuer"), *NOW),
    ),
)
"""Rules about schedules in code, of whatever queue."""
