"""Which job enqueued which, and when a test's run counts as endless: by chain, by family, by attempts, by time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from job_harness.core.model import Instant, JobId, JobView
from job_harness.errors import Hung, LimitReached

LONGEST_CHAIN = 2_000
"""Jobs each of which was enqueued by the one before; a longer chain counts as endless."""
MOST_FROM_ONE = 5_000
"""Jobs that all come from one, by whatever way: a job that enqueues two grows without a long chain."""
MOST_ATTEMPTS = 2_000
"""Attempts of one job; with more of them it counts as endless."""
LONGEST_SECONDS = 10 * 365 * 24 * 3600.0
"""Virtual seconds of one `run_until_idle` or `drain`."""
LOOKS_EACH = 500
"""Instants at rest after which the bounds of a run are looked at."""


class Bounds(Protocol):
    """What a test may raise where its jobs rightly enqueue each other for long."""

    longest_chain: int
    most_from_one: int


class Descent:
    """The jobs that processors enqueued, each with the job that did."""

    def __init__(self, bounds: Bounds, tool_of: Callable[[JobId], str]) -> None:
        self._bounds = bounds
        self._tool_of = tool_of
        self.reasons: dict[JobId, str] = {}
        """Why a job was enqueued, in words that go on after it, where its enqueuer knows."""
        self._begun: dict[JobId, Instant] = {}
        self._parents: dict[JobId, JobId] = {}
        self._depths: dict[JobId, int] = {}
        self._first: dict[JobId, JobId] = {}
        self._from_one: dict[JobId, int] = {}

    @property
    def jobs(self) -> Collection[JobId]:
        """The jobs that processors enqueued."""
        return self._parents.keys()

    def add(self, job: JobId, parent: JobId, *, at: Instant) -> Hung | None:
        """Remember who enqueued a job, and when; return what ends the run where that goes on without end."""
        self._parents[job] = parent
        depth = self._depths[job] = self._depths.get(parent, 1) + 1
        first = self._first[job] = self._first.get(parent, parent)
        begun = self._begun.setdefault(first, at)
        many = self._from_one[first] = self._from_one.get(first, 1) + 1
        if depth > self._bounds.longest_chain:
            how, hint = f"{depth} jobs in one chain", "raise longest_chain"
        elif many > self._bounds.most_from_one:
            how, hint = f"{many} jobs come from {first}", "raise most_from_one"
        else:
            return None
        if at == begun:
            wait = "None of them waits. Let each next one wait (start_after; a countdown or retry_backoff in Celery)."
        else:
            wait = 'Where each rightly enqueues the next one, as a daily job does, let time pass with advance("7d").'
        return Hung(
            f"jobs enqueue each other without end: {self._chain(job)}, {how}{self.reasons.get(parent, '')}",
            hint=f"{wait} Else let the chain end, work on fewer of its jobs (drain(limit=10)), or {hint}.",
        )

    def bounded(
        self, until: Callable[[], bool], *, clock: Callable[[], float], live: Mapping[JobId, JobView]
    ) -> Callable[[], bool]:
        """Return a condition that also raises LimitReached, once a run has no end: see the constants above.

        `clock` is in seconds; `live` holds the jobs that have not ended, as they are whenever it is read.
        """
        end, looks = clock() + LONGEST_SECONDS, 0

        def holds() -> bool:
            nonlocal looks
            looks += 1
            late = clock() > end
            if late or looks % LOOKS_EACH == 0:
                self._refuse_endless(live, late=late)
            return until()

        return holds

    def _refuse_endless(self, live: Mapping[JobId, JobView], *, late: bool) -> None:
        most = max(live.values(), key=lambda view: view.attempts, default=None)
        if most is None:
            return
        told = f"{most.id} ({most.tool}) is {most.status} after {most.attempts} attempts: {most.error or 'no error'}"
        if most.attempts >= MOST_ATTEMPTS:
            raise LimitReached(
                f"still not idle after {MOST_ATTEMPTS} attempts of one job: {told:.300}",
                hint="Give it fewer attempts (max_attempts=), or let time pass step by step, with advance().",
            )
        if late:
            chain = max(live, key=lambda job: self._depths.get(job, 1))
            raise LimitReached(
                f"still not idle within ten years of virtual time: {told:.300}; the longest chain is "
                f"{self._chain(chain)}",
                hint="Let time pass step by step, with advance().",
            )

    def _chain(self, job: JobId) -> str:
        """Name the first jobs of a chain and the last, with their tools."""
        chain = [job]
        while parent := self._parents.get(chain[-1]):
            chain.append(parent)
        names = [f"{each} ({self._tool_of(each)})" for each in reversed(chain)]
        return " -> ".join(names if len(names) <= 6 else [*names[:3], "...", *names[-2:]])
