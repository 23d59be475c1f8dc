"""All rules, by id."""

from __future__ import annotations

from typing import Final

from harness.lint.finding import Rule
from harness.lint.rules import application, pgboss, queue_files, queues, services

CATALOGUE: Final[tuple[Rule, ...]] = (
    *application.TIMEOUTS,
    *application.ATTEMPTS,
    *services.SERVICES,
    *services.CRON,
    *application.TOOLS,
    *pgboss.RULES,
    *queues.RULES,
    *queue_files.RULES,
    *services.PLATFORM,
    *application.FILES,
    *application.NOW,
)

RULES: Final = {rule.id: rule for rule in CATALOGUE}
