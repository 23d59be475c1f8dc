"""How fast time passes: a week of the maintenance cron plus one job a minute, and a day of retries.

Usage: .venv/bin/python benchmarks/virtual_week.py [ROUNDS]
"""

from __future__ import annotations

import sys
import time
from statistics import median

from paired import interleave, show

from job_harness.core.model.duration import DAY, MINUTE, SECOND
from job_harness.core.model.settings import Settings
from job_harness.core.port import Engine
from job_harness.core.run.session import Limits, Session
from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.memory import MemoryEngine
from job_harness.engines.reference import ReferenceEngine
from job_harness.errors import HarnessError

DEFAULTS = Settings()
LIMITS = Limits(steps=5_000_000)


def jobs_a_minute(minutes: int, *, settings: Settings = DEFAULTS) -> Scenario:
    """Send one job a minute; the cron runs beside it."""
    return Scenario(settings=settings, workers=("w1", "w2"), jobs=(JobPlan("j", every=MINUTE, count=minutes),))


def retries(hours: int) -> Scenario:
    """Let a job fail every ten minutes, until its attempts are used up."""
    plan = JobPlan("r", every=10 * MINUTE, count=6 * hours, outcomes=(Ending.FAIL,))
    return Scenario(settings=Settings(max_attempts=5), workers=("w1", "w2"), jobs=(plan,))


def times_faster(scenario: Scenario, engine: Engine) -> float:
    """Return how many virtual seconds pass in one real one."""
    began = time.perf_counter()
    run = Session(scenario, engine=engine, limits=LIMITS).run()
    took = time.perf_counter() - began
    assert not run.found, run.anomalies[:3]
    assert not run.failures, run.failures
    return run.now / SECOND / took


def main(rounds: int) -> None:
    week, day = jobs_a_minute(7 * 24 * 60), retries(24)
    memory = MemoryEngine()
    measures = {
        "memory: a week, one job a minute": lambda: times_faster(week, memory),
        "memory: a day of retries": lambda: times_faster(day, memory),
    }
    base = next(iter(measures))
    rows = interleave(measures, rounds=rounds, seconds=30)
    show("How many times faster than real time, in memory?", rows, base=base, unit="times", note=virtual(rows))
    try:
        postgres = ReferenceEngine("postgres")
    except HarnessError as error:
        print(f"\nPostgreSQL was not measured: {error}")
        return
    try:
        on_postgres(postgres, memory)
    finally:
        postgres.close()


def on_postgres(postgres: Engine, memory: Engine) -> None:
    """Measure the same week once on both; all jobs are read after each step there, so finished ones go soon."""
    week = jobs_a_minute(7 * 24 * 60, settings=Settings(retention=10 * MINUTE))
    measures = {
        "memory: a week, one job a minute": lambda: times_faster(week, memory),
        "postgres: a week, one job a minute": lambda: times_faster(week, postgres),
    }
    rows = interleave(measures, rounds=1, seconds=120)
    note = " Finished jobs are deleted after ten minutes here: the PostgreSQL adapter reads all jobs after each step."
    show("And on PostgreSQL?", rows, base=next(iter(measures)), unit="times", note=virtual(rows) + note)


def virtual(rows: dict[str, list[float]]) -> str:
    """Say the same as the real seconds that the week took."""
    week = 7 * DAY / SECOND
    told = [f"{name}: {week / median(rates):.1f} s" for name, rates in rows.items() if "week" in name]
    return f"In real seconds: {'; '.join(told)}."


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
