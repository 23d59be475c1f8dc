"""The cron and its route: present, well formed, answered, and not open to `Bearer undefined`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from harness.errors import did_you_mean
from harness.lint.cron import is_maintenance, period_seconds, problem_of
from harness.lint.effective import spoken
from harness.lint.facts import Facts, Route
from harness.lint.finding import Related, Severity
from harness.lint.rule import Hit, Rule

LONGEST_PERIOD: Final = 600.0
"""A stuck job should not wait longer than this for maintenance; the guide's cron comes every minute."""

_MAINTENANCE_ROUTE: Final = re.compile(r"^/api/(cron|jobs?)/.*maintenance")


def _schedule(facts: Facts) -> Iterator[Hit]:
    for cron in facts.crons:
        problem = "is empty" if not cron.schedule.strip() else problem_of(cron.schedule)
        if problem is not None:
            yield Hit(
                cron.place,
                f"the schedule {cron.schedule!r} of {cron.path or 'a cron'} {problem}",
                "Write five fields, minute first: `* * * * *` is every minute.",
            )
        elif is_maintenance(cron) and (period_seconds(cron.schedule) or 0) > LONGEST_PERIOD:
            yield Hit(
                cron.place,
                f"maintenance runs every {spoken(period_seconds(cron.schedule) or 0)} ({cron.schedule}): a stuck job "
                "waits that long beside its timeout",
                "Let it run every minute: `* * * * *`.",
                severity=Severity.WARNING,
            )


def _answers(route: Route, path: str) -> bool:
    parts, wanted = route.path.strip("/").split("/"), path.partition("?")[0].strip("/").split("/")
    for index, part in enumerate(parts):
        if part.startswith(("[...", "[[...")):
            return True
        if index >= len(wanted) or (part != wanted[index] and not part.startswith("[")):
            return False
    return len(parts) == len(wanted)


def _route(facts: Facts) -> Iterator[Hit]:
    for cron in facts.crons:
        if not cron.path.startswith("/"):
            continue
        routes = [route for route in facts.routes if _answers(route, cron.path)]
        for route in routes:
            if route.methods and "GET" not in route.methods:
                yield Hit(
                    cron.place,
                    f"the platform requests {cron.path} with GET, and its route has only {', '.join(route.methods)}",
                    "Export GET from the route.",
                    (Related(route.place, f"answers {', '.join(route.methods)}"),),
                )
        if routes or not facts.routes or cron.path in facts.mentions:
            continue
        near = did_you_mean(cron.path, [route.path for route in facts.routes])
        yield Hit(
            cron.place,
            f"no route answers {cron.path}{near}: the cron gets 404, and maintenance never runs",
            "Correct the path, or add the route.",
        )


def _scheduled(facts: Facts) -> Iterator[Hit]:
    for route in facts.routes:
        if _MAINTENANCE_ROUTE.match(route.path) and not any(_answers(route, cron.path) for cron in facts.crons):
            if any(is_maintenance(cron) for cron in facts.crons):
                continue
            yield Hit(
                route.place,
                f"nothing requests {route.path} on a schedule: stuck jobs are never freed",
                f'Add {{"path": "{route.path}", "schedule": "* * * * *"}} to the crons of vercel.json.',
            )


def _bearer(facts: Facts) -> Iterator[Hit]:
    for door in facts.open_doors:
        yield Hit(
            door.place,
            f"where the secret is not set, this accepts {door.key}",
            "Refuse the request where the secret is not set, before comparing.",
        )


RULES: Final = (
    Rule(
        "cron_schedule",
        Severity.ERROR,
        "Every schedule is a cron expression, and maintenance runs at least every ten minutes.",
        "The platform refuses the deployment, or stuck jobs wait for hours.",
        "Write `* * * * *`.",
        "maintenance/cron_is_late.yaml",
        _schedule,
    ),
    Rule(
        "cron_path_unanswered",
        Severity.ERROR,
        "The path of every cron is a route that answers GET.",
        "The cron gets 404 or 405, nobody looks at it, and maintenance never runs.",
        "Make path and route the same.",
        "maintenance/rescues_stuck_job.yaml",
        _route,
    ),
    Rule(
        "cron_missing",
        Severity.ERROR,
        "A maintenance route is requested on a schedule.",
        "Stuck jobs are never freed, and the two tables drift apart.",
        "Add the cron to vercel.json.",
        "maintenance/rescues_stuck_job.yaml",
        _scheduled,
    ),
    Rule(
        "bearer_accepts_undefined",
        Severity.ERROR,
        "A comparison with `Bearer ${secret}` is made only where the secret is set.",
        "Anybody who sends `Authorization: Bearer undefined` runs maintenance where the variable is missing.",
        "Answer 401 or 500 where the secret is unset.",
        "maintenance/running_twice_changes_nothing_more.yaml",
        _bearer,
    ),
)
"""Rules about the cron."""
