"""Retry arithmetic: how long a failed job waits."""

from __future__ import annotations

from collections.abc import Callable

from job_harness.core.model.duration import Duration, format_duration
from job_harness.core.model.settings import Settings

GOLDEN = 0.6180339887498949
"""Spreads one drawn number over the rows of a statement."""


def retry_delay(settings: Settings, *, attempts: int, jitter: float) -> Duration:
    """Return the wait after the attempt with this number (the first is 1) failed.

    With backoff `retry_delay * 2^(attempts-1) * (1 + jitter)`, jitter in [0, 1), cut to whole
    microseconds, never above `retry_delay_max`; without it `retry_delay` exactly.
    """
    if not settings.retry_backoff:
        return settings.retry_delay
    doublings = min(max(attempts - 1, 0), 40)
    return min(int(settings.retry_delay * 2.0**doublings * (1 + jitter)), settings.retry_delay_max)


def retry_bounds(settings: Settings, *, attempts: int) -> tuple[Duration, Duration]:
    """Return the shortest and the longest wait that `retry_delay` may give."""
    return (
        retry_delay(settings, attempts=attempts, jitter=0.0),
        retry_delay(settings, attempts=attempts, jitter=1.0),
    )


def moot_backoff(settings: Settings, *, named: Callable[[str], str] = str) -> tuple[str, str] | None:
    """Say that backoff is on and lengthens no wait, and what to set instead; None where it does.

    `named` spells a setting as it was written.
    """
    delay, longest = settings.retry_delay, settings.retry_delay_max
    if not settings.retry_backoff or delay < longest:
        return None
    first, last = format_duration(delay), format_duration(longest)
    what = (
        f"{named('retry_backoff')} is on and lengthens no wait: the first, {named('retry_delay')}, is {first}, "
        f"and the longest, {named('retry_delay_max')}, is {last}"
    )
    repair = f"set {named('retry_delay_max')} to {format_duration(4 * delay)}"
    return what, repair if delay > longest else f"{repair}, or {named('retry_backoff')} to false"


def spread(jitter: float, row: int) -> float:
    """Return the jitter of the row with this number (from 0) in a statement over several rows."""
    return (jitter + row * GOLDEN) % 1.0
