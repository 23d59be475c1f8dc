"""All rules, by id."""

from __future__ import annotations

from typing import Final

from harness.lint.live import rules as live
from harness.lint.rule import Rule
from harness.lint.rules import platform, queue, registry, retries, routes, schema, services, timeouts

CATALOGUE: Final[tuple[Rule, ...]] = (
    *timeouts.RULES,
    *retries.RULES,
    *services.RULES,
    *routes.RULES,
    *registry.RULES,
    *queue.RULES,
    *platform.RULES,
    *schema.RULES,
    *live.RULES,
)

RULES: Final = {rule.id: rule for rule in CATALOGUE}
