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
from harness.adapters.memory import MemoryEngine, MemoryQueue
from harness.explore.sampling import run_seed
from harness.faults import FaultPlan
from harness.history.outcome import Outcome, done
from harness.invariants import CATALOGUE as INVARIANTS
from harness.mistakes import CATALOGUE
from harness.model.duration import SECOND
from harness.model.settings import Settings
from harness.port import Engine
from harness.run.session import Limits, Session
from harness.scenario.job_plan import JobPlan, Span
from harness.scenario.scenario import Scenario
from harness.sim.choices import Uniform
from harness.sim.request import Point

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
"""What the rivals' program judges; it judges nothing else, and so nothing else is judged here."""
INVARIANTS_JUDGED = tuple(each for each in INVARIANTS if JUDGED.intersection(kind.name for kind in each.anomalies))


class ReadThenWrite(MemoryQueue):
    """Claim reads what is due, lets others act, and writes."""

    def claim(self, worker: str, limit: int) -> Generator[Any, Any, Outcome]:  # type: ignore[override]
        now = self.now(worker)
        due = sorted((row for job in self.live if self.is_due(row := self.rows[job], now)), key=self.claim_order)
        yield Point("claim read")
        return done([self.take(self.rows[row.id], worker, now) for row in due[:limit]])


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
            invariants=INVARIANTS_JUDGED,
        ).run_for_good()
        if shown := JUDGED & run.found:
            return Campaign(number + 1, time.process_time() - began, min(shown))
    return Campaign(runs, time.process_time() - began, None)
