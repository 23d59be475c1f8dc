"""Prints a digest of each seed's history: what a child process, or another Python, is asked to do again."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from job_harness.core.history.jsonl import dump_history
from job_harness.core.model.duration import DAY, HOUR
from job_harness.core.run.session import Session
from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Uniform
from job_harness.engines.memory import MemoryEngine
from job_harness.search.sampling import Sampler
from job_harness.search.targets import open_engine

APPLICATION = Path(__file__).resolve().parents[2] / "scenarios/applications/my_app.py"
LONG = Scenario(
    workers=("w1", "w2", "w3"),
    jobs=(
        JobPlan("a", every=HOUR, count=60, outcomes=(Ending.FAIL, Ending.SUCCEED)),
        JobPlan("b", every=HOUR // 2, count=90, outcomes=(Ending.HANG, Ending.RAISE_SURROGATE, Ending.SUCCEED)),
        JobPlan("c", at=DAY, unique_key="k", cancel_after=HOUR, retry_after=HOUR),
    ),
)


def histories(count: int) -> list[str]:
    """Return the history of each seed, of a fifth of them on an application, and at the end of one long scenario."""
    engine = MemoryEngine()  # Calendars need cronsim, and nothing is installed there.
    engine.info = replace(engine.info, capabilities=replace(engine.info.capabilities, calendars=False))
    sampler = Sampler(engine)
    texts = [dump_history(sampler.sample(seed).history) for seed in range(count)]
    application = open_engine(f"{APPLICATION}:MyApp")
    stepwise = Sampler(application, application.info.settings)
    texts += [dump_history(stepwise.sample(seed).history) for seed in range(count // 5)]
    long = Session(LONG, engine=MemoryEngine(), choices=Uniform(7, rate=0.1)).run()
    return [*texts, dump_history(long.history)]


def carried_histories(count: int) -> list[str]:
    """Return the history of each seed with the reference worker at work on its loop; it needs what is installed."""
    from job_harness.engines.reference import ReferenceEngine

    sampler = Sampler(ReferenceEngine("reference"))
    return [dump_history(sampler.sample(seed).history) for seed in range(count)]


def digests(count: int, kind: str = "plain") -> list[str]:
    """Return one digest for each history."""
    texts = histories(count) if kind == "plain" else carried_histories(count)
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


if __name__ == "__main__":
    print("\n".join(digests(int(sys.argv[1]), *sys.argv[2:])))
