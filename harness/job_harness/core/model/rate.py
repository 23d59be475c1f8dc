"""How many jobs of a tool may be claimed in a while: what a rate limit counts."""

from __future__ import annotations

from bisect import insort

from job_harness.core.model.duration import LONGEST, Duration, Instant
from job_harness.core.model.job import JobId


class Starts:
    """The last claims of each tool's jobs, as many as a rate limit allows within its window.

    Every claim counts, also one that was given back or that ended at once.
    """

    __slots__ = ("_limit", "_window", "claims")

    def __init__(self, limit: int, window: Duration) -> None:
        self._limit = limit
        self._window = window
        self.claims: dict[str, tuple[tuple[Instant, JobId], ...]] = {}
        """By tool, the earliest first."""

    def add(self, tool: str, at: Instant, job: JobId) -> None:
        """Count a claim."""
        kept = [*self.claims.get(tool, ())]
        insort(kept, (at, job))
        self.claims[tool] = tuple(kept[-self._limit :])

    def free_at(self, tool: str, more: int = 0) -> Instant:
        """Tell from when on a job of a tool may be claimed, after `more` that are claimed now."""
        needed = self._limit - more
        if needed <= 0:
            return LONGEST
        kept = self.claims.get(tool, ())
        return kept[-needed][0] + self._window if needed <= len(kept) else 0
