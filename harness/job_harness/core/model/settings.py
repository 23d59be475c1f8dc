"""The settings that a queue, its workers and its maintenance run under."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from job_harness.core.model.duration import DAY, HOUR, MINUTE, SECOND, Duration


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations are microseconds. The defaults are those of the guide, with its two contradictions repaired."""

    max_attempts: int = 3
    """Deliveries in total."""
    job_timeout: Duration = 10 * MINUTE
    """A processor is stopped after this."""
    lease: Duration = 11 * MINUTE
    """Queue expiry: the queue takes an active job back after this without a heartbeat."""
    stuck_timeout: Duration = 30 * MINUTE
    """Maintenance takes a PROCESSING job back after this."""
    retry_delay: Duration = 60 * SECOND
    retry_backoff: bool = True
    retry_delay_max: Duration = HOUR
    poll_interval: Duration = 2 * SECOND
    batch_size: int = 1
    """Jobs taken with one claim and run one after the other."""
    concurrency: int = 0
    """At most this many jobs may be PROCESSING at once; 0: no limit."""
    tool_concurrency: int = 0
    """At most this many jobs of one tool may be PROCESSING at once; 0: no limit."""
    rate_limit: int = 0
    """At most this many jobs of one tool may be claimed within any `rate_window`; 0: no limit."""
    rate_window: Duration = MINUTE
    heartbeat_interval: Duration = 0
    """A worker extends every lease it holds this often; 0: never."""
    cron_period: Duration = MINUTE
    expire_interval: Duration = MINUTE
    """How often the queue looks for leases that ran out."""
    tick_interval: Duration = 30 * SECOND
    """How often each scheduler looks for slots of schedules that have begun."""
    retention: Duration = 7 * DAY
    """Terminal jobs are kept this long."""
    max_skew: Duration = 5 * SECOND
    """Clocks may differ by this much, and every invariant still holds."""
    workers_enabled: bool = True

    def changed(self, **values: Any) -> Settings:
        """Return a copy with some settings replaced, as `dataclasses.replace` does it, in half the time."""
        if not values:
            return self
        copy = object.__new__(Settings)
        for name, read, write in _SLOTS:
            write(copy, values.pop(name) if name in values else read(self))
        if values:
            raise TypeError(f"there is no setting {', '.join(values)}")
        return copy

    def limits(self) -> dict[str, bool]:
        """Tell which limits are set, by the capabilities that keep them."""
        at_once = bool(self.concurrency or self.tool_concurrency)
        return {"concurrency_limits": at_once, "rate_limits": bool(self.rate_limit)}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """List the settings by name."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def duration_names(cls) -> frozenset[str]:
        """List the settings that are durations."""
        return frozenset(field.name for field in fields(cls) if field.type == "Duration")


_SLOTS: Final = tuple([(name, vars(Settings)[name].__get__, vars(Settings)[name].__set__) for name in Settings.names()])
"""By setting, how it is read and written: a frozen dataclass writes each of its fields by a slower way."""
