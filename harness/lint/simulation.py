"""A repository's settings as those of a simulation, each with the place it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.lint.cron import DEFAULT_PERIOD_SECONDS, is_maintenance, maintenance_period
from harness.lint.effective import Standing, standings
from harness.lint.facts import Facts
from harness.lint.place import UNKNOWN
from harness.lint.rules.services import FLAG
from harness.model.duration import LONGEST
from harness.model.settings import Settings

NAMES: Final[Mapping[str, str]] = {
    "job_timeout": "job_timeout",
    "expiry": "lease",
    "stuck_timeout": "stuck_timeout",
    "max_attempts": "max_attempts",
    "retry_delay": "retry_delay",
    "retry_backoff": "retry_backoff",
    "retry_delay_max": "retry_delay_max",
    "polling_interval": "poll_interval",
    "batch_size": "batch_size",
    "heartbeat": "heartbeat_interval",
    "maintenance_interval": "expire_interval",
    "retention": "retention",
}
"""What a repository sets -> the setting of the simulation."""

POSITIVE: Final = frozenset(
    {"job_timeout", "lease", "stuck_timeout", "poll_interval", "cron_period", "expire_interval"}
)


@dataclass(frozen=True, slots=True)
class Simulation:
    """The settings, and for each that the repository sets, the place and the name that it has there."""

    settings: Settings
    origins: Mapping[str, str]


def simulation_of(facts: Facts, *, queue: str = "") -> Simulation:
    """Answer the settings under which a repository's worker runs; what it does not set keeps its default."""
    standing = _of_workers(facts, queue)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, simulated in NAMES.items():
        setting = standing.get(name)
        if setting is None:
            continue
        value = _value(simulated, setting.value)
        if value is not None:
            values[simulated] = value
            at = setting.place if setting.place is not None else setting.source.value
            origins[simulated] = f"{setting.name} at {at}" if setting.place is not None else str(at)
    limit = standing.get("retry_limit")
    if "max_attempts" not in values and limit is not None:
        values["max_attempts"] = int(limit.value) + 1
        origins["max_attempts"] = f"{limit.name} + 1 at {limit.place}" if limit.place else f"1 + {limit.source.value}"
    _cron(facts, values, origins)
    _flag(facts, values, origins)
    return Simulation(Settings().changed(**values), origins)


def _of_workers(facts: Facts, queue: str) -> Standing:
    """Take the service that runs workers, or the first."""
    found = list(standings(facts))
    of_queue = [one for one in found if one.queue == queue] or found
    return next(
        (one for one in of_queue if one.service is not None and FLAG in one.service.values),
        of_queue[0],
    )


def _value(name: str, number: float) -> int | bool | None:
    """Answer a value that a simulation can run under; None where it cannot be one."""
    if name == "retry_backoff":
        return bool(number)
    if name in Settings.duration_names():
        microseconds = round(number * 1_000_000)
        usable = 0 <= microseconds <= LONGEST and not (name in POSITIVE and microseconds == 0)
        return microseconds if usable else None
    return int(number) if 1 <= number <= 1000 else None


def _cron(facts: Facts, values: dict[str, Any], origins: dict[str, str]) -> None:
    period = maintenance_period(facts)
    cron = next((cron for cron in facts.crons if is_maintenance(cron)), None)
    if cron is not None and period != DEFAULT_PERIOD_SECONDS:
        values["cron_period"] = round(period * 1_000_000)
        origins["cron_period"] = f"schedule {cron.schedule} at {cron.place}"


def _flag(facts: Facts, values: dict[str, Any], origins: dict[str, str]) -> None:
    flags = [service.values[FLAG] for service in facts.services if FLAG in service.values]
    if flags and all(flag.value not in ("true", UNKNOWN) for flag in flags):
        values["workers_enabled"] = False
        origins["workers_enabled"] = f"{FLAG} at {flags[0].place}"
