"""How far a queue conforms: levels of cases, each level a few themes of scenarios."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """A level of conformance, the first to be reached first."""

    CORE = "core"
    """Jobs are accepted, claimed once, finished, retried and cancelled."""
    RELIABLE = "reliable"
    """Crashes, lost messages, stalls, hostile values and wrong clocks lose and double nothing."""
    SCHEDULED = "scheduled"
    """Start times and priorities are kept."""
    UNIQUE = "unique"
    """Unique keys, serial keys and limits are kept, and given back."""
    BATCHES = "batches"
    """Several jobs in one claim, several in one transaction."""
    CRON = "cron"
    """Schedules, and the maintenance of two tables."""

    @property
    def themes(self) -> tuple[str, ...]:
        """The folders of scenarios that belong to it."""
        return _THEMES[self]


_THEMES: dict[Level, tuple[str, ...]] = {
    Level.CORE: ("lifecycle", "retries", "cancel"),
    Level.RELIABLE: ("crashes", "expiry", "zombies", "hostile", "clocks", "shutdown", "dead_letters"),
    Level.SCHEDULED: ("scheduling",),
    Level.UNIQUE: ("uniqueness", "concurrency"),
    Level.BATCHES: ("configuration", "transactions"),
    Level.CRON: ("maintenance", "tables", "schedules"),
}
