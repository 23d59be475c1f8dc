"""The rivals' lease queue in our terms: the model queue with the same mistake, two workers, two jobs, two crashes.

Our worker stops a processor in time, so that jobs do not outlive their lease; where lengths are drawn, it is a stalled
worker that does.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import cache
from typing import Any

from detection.rivals.installed import Campaign
from job_harness.core.faults import FaultPlan
from job_harness.core.history.outcome import Outcome, done
from job_harness.core.model.duration import SECOND
from job_harness.core.model.settings import Settings
from job_harness.core.port import Engine
from job_harness.core.run.session import Limits, Session
from job_harness.core.scenario.job_plan import JobPlan, Span
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Uniform
from job_harness.core.sim.request import Point
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.search.sampling import run_seed
from job_harness.search.wrong_queues import CATALOGUE

LEASE = 2 * SECOND
SETTINGS = Settings(
    lease=LEASE,
    job_timeout=LEASE * 9 // 10,
    stuck_timeout=100 * LEASE,
    retry_delay=0,
    retry_backoff=False,
    poll_interval=SECOND // 2,
    expire_interval=SECOND,
    max_attempts=3,
)
LIMITS = Limits(steps=20_000)
LENGTHS = ("0.5", "1", "2")
JUDGED = frozenset({"stale_complete", "double_claim", "attempt_overrun", "taken_back_early", "job_stuck"})
"""What the rivals' program judges; only these count as a find, though all else is judged as well."""


class ReadThenWrite(MemoryQueue):
    """Claim reads what is due, lets others act, and writes."""

    def claim(self, worker: str, limit: int) -> Generator[Any, Any, Outcome]:  # type: ignore[override]
        now = self.now(worker)
        due = sorted(
            (row for job in self.live if self.claims.is_due(row := self.rows[job], now)), key=self.claims.claim_order
        )
        yield Point("claim read")
        return done([self.claims.take(self.rows[row.id], worker, now) for row in due[:limit]])


def engine_of(mistake: str) -> Engine:
    """Return the model queue with the mistake of this name."""
    if mistake == "none":
        return MemoryEngine()
    if mistake == "claim-read-then-write":
        return MemoryEngine(ReadThenWrite, name="memory+claim-read-then-write")
    return CATALOGUE[mistake].engine("memory")


@cache
def scenario_of(lengths: tuple[str, ...]) -> Scenario:
    """Return two workers and a job of each length, in leases; the same runs have the same."""
    jobs = tuple(
        JobPlan(name, takes=(Span(factor=float(length), setting="lease"),))
        for name, length in zip("ab", lengths, strict=True)
    )
    return Scenario(settings=SETTINGS, workers=("w1", "w2"), jobs=jobs, restart_after=SECOND)


def campaign(mistake: str, *, seed: int, runs: int, drawn: bool) -> Campaign:
    """Sample until something shows."""
    engine = engine_of(mistake)
    faults = FaultPlan(crash=2, pause=2 if drawn else 0)
    began = time.process_time()
    for number in range(runs):
        choices = Uniform(run_seed(seed, number))
        lengths = tuple(choices.pick(f"length of {name}", LENGTHS) if drawn else LENGTHS[0] for name in "ab")
        run = Session(
            scenario_of(lengths),
            engine=engine,
            choices=choices,
            faults=faults,
            limits=LIMITS,
        ).run_for_good()
        if shown := JUDGED & run.found:
            return Campaign(number + 1, time.process_time() - began, min(shown))
    return Campaign(runs, time.process_time() - began, None)
