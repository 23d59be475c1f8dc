"""What only some examples of a state machine have, each by itself: keys, letters, transactions, schedules, limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.explore.workload import ENDINGS, SPANS
from harness.model.duration import SECOND
from harness.model.settings import Settings
from harness.port import Capabilities
from harness.scenario.job_plan import JobPlan, Span

PLAIN: Final = "plain"
FEATURES: Final = {
    "serial keys": "serial_keys",
    "dead letters": "dead_letters",
    "transactions": "transactions",
    "schedules": "schedules",
    "a limit of a tool": "concurrency_limits",
    "a limit of all": "concurrency_limits",
}
"""By name, the capability that it takes."""
DRAWN: Final = (*(PLAIN,) * len(FEATURES), *FEATURES)
"""Half of the examples have none."""
SCHEDULE: Final = "cron"
OPEN: Final = (Span(), Span(fixed=SECOND), SPANS["1x timeout"], SPANS["1x lease"])
"""How long a transaction stays open."""


def allowed(feature: str, capabilities: Capabilities) -> str:
    """Answer the feature, or none where the queue lacks it."""
    return feature if feature != PLAIN and getattr(capabilities, FEATURES[feature]) else PLAIN


def limited(feature: str, settings: Settings) -> Settings:
    """Answer the settings with the limit that the feature is, if it is one."""
    limits = {"a limit of a tool": {"tool_concurrency": 1}, "a limit of all": {"concurrency": 1}}
    return settings.changed(**limits.get(feature, {}))


def scheduled(feature: str, ending: str, settings: Settings) -> Iterator[JobPlan]:
    """Answer the schedule that runs beside the steps, if the feature is one."""
    if feature == "schedules":
        period = 2 * settings.tick_interval
        yield JobPlan(SCHEDULE, outcomes=ENDINGS[ending], every=period, count=2, scheduled=True, max_attempts=2)


def featured(feature: str, plan: JobPlan, which: int, settings: Settings) -> JobPlan:
    """Answer the plan of a job with what the feature adds; `which` picks how, and now and then nothing."""
    if feature == "serial keys" and which % 4:
        return replace(plan, serial_key="s", tool="other" if which % 4 == 1 else plan.tool)
    if feature == "dead letters" and which % 3:
        return replace(plan, dead_letter="dead", input={"of": "a dead letter"})
    if feature == "transactions" and which % 5:
        ends = "commit" if which % 2 else "rollback"
        return replace(plan, transaction=ends, open_for=OPEN[which % len(OPEN)].resolve(settings))
    if feature == "a limit of a tool" and not which % 3:
        return replace(plan, tool="other")
    return plan


def watched(feature: str) -> tuple[str, ...]:
    """Answer the capability that jobs of this feature will ask for."""
    return () if feature == PLAIN else (FEATURES[feature],)
