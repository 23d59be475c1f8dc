"""The reference's own backoff arithmetic, the same to the bit as `pgboss.retry_after` and `pgboss.spread`."""

from __future__ import annotations

import math
from datetime import timedelta

_MICROSECOND = timedelta(microseconds=1)
_GOLDEN_FRACTION = 0.6180339887498949
"""Multiples of it spread evenly over [0, 1) however many there are."""
_EXPONENT_CUT = 63
"""Past it any delay of a microsecond or more has outgrown any cap that a timestamp can hold."""


def retry_after(
    retry_delay: timedelta, *, backoff: bool, delay_max: timedelta, failures: int, jitter: float
) -> timedelta:
    """Compute how long a job waits after a failure, to the microsecond below.

    `failures` counts the failures of this attempt budget before this one: 0 at the first. With backoff the
    answer is `retry_delay * 2**failures * (1 + jitter)`, at most `delay_max`; without it exactly
    `retry_delay`. Never overflows.
    """
    if not backoff:
        return retry_delay
    doubled = float(retry_delay // _MICROSECOND) * 2.0 ** min(max(failures, 0), _EXPONENT_CUT)
    stretched = float(math.floor(doubled * (1.0 + jitter)))
    return timedelta(microseconds=int(min(stretched, float(delay_max // _MICROSECOND))))


def spread(jitter: float, k: int) -> float:
    """Give row `k` (from 0) of one statement its own share of the one number drawn for it, in [0, 1)."""
    shifted = jitter + float(k) * _GOLDEN_FRACTION
    return shifted - math.floor(shifted)
