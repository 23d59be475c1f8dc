"""The instants on which actors meet: durations named relative to the settings, boundaries included."""

from __future__ import annotations

from job_harness.core.model.duration import SECOND, Duration
from job_harness.core.model.retry import retry_bounds
from job_harness.core.model.settings import Settings


def moments(settings: Settings) -> dict[str, Duration]:
    """Return the named durations, each positive, the shortest name for each length."""
    backoff = retry_bounds(settings, attempts=1)[1]
    named = {
        "1s": SECOND,
        "3s": 3 * SECOND,
        "a poll": settings.poll_interval,
        "half a timeout": settings.job_timeout // 2,
        "a timeout": settings.job_timeout,
        "a timeout + 1s": settings.job_timeout + SECOND,
        "a lease - 1s": settings.lease - SECOND,
        "a lease": settings.lease,
        "a lease + 1s": settings.lease + SECOND,
        "a lease + a cron": settings.lease + settings.cron_period + SECOND,
        "a lease + a retry": settings.lease + settings.expire_interval + backoff + settings.poll_interval,
        "stuck": settings.stuck_timeout,
        "stuck + a cron": settings.stuck_timeout + settings.cron_period + SECOND,
        "a backoff": backoff,
        "a cron": settings.cron_period,
    }
    return {name: duration for name, duration in named.items() if duration > 0}
