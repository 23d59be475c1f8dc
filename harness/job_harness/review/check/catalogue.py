"""All rules, by id."""

from __future__ import annotations

from typing import Final

from job_harness.review.check.finding import Rule
from job_harness.review.check.rules import (
    application,
    bullmq,
    celery,
    crons,
    graphile,
    handlers,
    pgboss,
    pgqueuer,
    procrastinate,
    queue_files,
    services,
)

CATALOGUE: Final[tuple[Rule, ...]] = (
    *application.TIMEOUTS,
    *application.ATTEMPTS,
    *services.SERVICES,
    *services.CRON,
    *application.TOOLS,
    *pgboss.RULES,
    *celery.RULES,
    *crons.RULES,
    *procrastinate.RULES,
    *pgqueuer.RULES,
    *graphile.RULES,
    *bullmq.RULES,
    *handlers.RULES,
    *queue_files.RULES,
    *services.PLATFORM,
    *application.FILES,
    *application.NOW,
)

RULES: Final = {rule.id: rule for rule in CATALOGUE}
