"""How long a claim certainly still stands, told by the event loop's own clock: the store's may be far off."""

from __future__ import annotations

from datetime import timedelta

from job_harness_reference.models import Claim


class Lease:
    """A claim's remaining time. Counted from before the store was asked, so it never promises too much."""

    def __init__(self, claim: Claim, *, asked_at: float, longest: timedelta) -> None:
        """Start at loop time `asked_at`. The length is the row's own where it is shorter than `longest`."""
        self._seconds = _length(claim, longest=longest).total_seconds()
        self.renew(asked_at=asked_at)

    def renew(self, *, asked_at: float) -> None:
        """Count anew from a heartbeat that succeeded."""
        self.asked_at = asked_at
        self.until = asked_at + self._seconds


def _length(claim: Claim, *, longest: timedelta) -> timedelta:
    started = claim.job.started_at
    if started is None:
        return longest
    own = claim.lease_until - started
    return min(own, longest) if own > timedelta(0) else longest
