"""What judging costs: kernel steps with a queue, a recorder and all monitors, against steps of empty actors.

Usage: .venv/bin/python benchmarks/kernel.py [ROUNDS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script runs from a checkout
from paired import Aim, interleave, show

from job_harness.core.invariants import CATALOGUE, Invariant
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.run.session import Session
from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.actor import Actor
from job_harness.core.sim.choices import Boring
from job_harness.core.sim.kernel import Kernel
from job_harness.core.sim.request import Point, Sleep, VerbCall
from job_harness.engines.memory import MemoryEngine
from job_harness.search.sampling import Sampler, run_seed

JOBS = 1000
RUNS = 400
ACTORS = 7
EMPTY = "empty actors"
CALLING = "empty actors, empty calls"
WHY = (
    "An empty step only resumes a generator. A step here also runs a verb on rows, writes about two events and shows "
    "them to the monitors; the row without monitors alone is beyond the aim. Short runs also pay for drawing the "
    "workload and for setting up a session every few dozen steps: see [run profile](#run-profile)."
)


class Idle:
    """Executes every call by doing nothing."""

    def begin(self, actor: Actor, call: VerbCall) -> Any:
        return None

    def end(self, actor: Actor, call: VerbCall, result: Any) -> Any:
        return result

    def raised(self, actor: Actor, call: VerbCall, error: Exception) -> Any:
        raise error

    def lost(self, actor: Actor, call: VerbCall) -> Any:
        return None


def suspending() -> Generator[Any, Any, Any]:
    """Suspend, and sleep now and then."""
    while True:
        yield Point("idle")
        yield Sleep(SECOND, "resting")


def calling() -> Generator[Any, Any, Any]:
    """Call, and sleep now and then."""
    while True:
        yield VerbCall("nothing", ())
        yield Sleep(SECOND, "resting")


def empty(factory: Callable[[], Generator[Any, Any, Any]], steps: int) -> float:
    """Return the steps per second of actors that do nothing."""
    kernel = Kernel(Boring(), Idle(), step_limit=steps + ACTORS)
    for number in range(ACTORS):
        kernel.spawn(f"a{number}", factory)
    began = time.process_time()
    while kernel.steps < steps:
        kernel.step()
    return kernel.steps / (time.process_time() - began)


def long_run(invariants: tuple[Invariant, ...]) -> float:
    """Return the steps per second of one run with many jobs, half of which fail once."""
    retried = (Ending.FAIL, Ending.SUCCEED)
    jobs = (JobPlan("a", every=MINUTE, count=JOBS), JobPlan("b", every=MINUTE, count=JOBS, outcomes=retried))
    scenario = Scenario(workers=("w1", "w2", "w3"), jobs=jobs)
    began = time.process_time()
    run = Session(scenario, engine=MemoryEngine(), invariants=invariants).run()
    assert not run.found, run.anomalies
    return run.steps / (time.process_time() - began)


def many_runs() -> float:
    """Return the steps per second of many runs of the generic workload, drawing and set-up included."""
    sampler = Sampler(MemoryEngine())
    began = time.process_time()
    steps = sum(sampler.sample(run_seed(1, number)).steps for number in range(RUNS))
    return steps / (time.process_time() - began)


def main(rounds: int) -> None:
    rows = interleave(
        {
            EMPTY: lambda: empty(suspending, 50_000),
            CALLING: lambda: empty(calling, 50_000),
            "one long run, no monitors": lambda: long_run(()),
            "one long run, all monitors": lambda: long_run(CATALOGUE),
            "many short runs, all monitors": many_runs,
        },
        rounds=rounds,
        seconds=50,
    )
    # The ratio is how many times slower than the base, so rates become costs.
    costs = {name: [1e6 / rate for rate in rates] for name, rates in rows.items()}
    aims = [Aim(name, 3, WHY) for name in ("one long run, all monitors", "many short runs, all monitors")]
    show("What does a kernel step cost with the queue and all monitors?", costs, base=EMPTY, unit="us/step", aims=aims)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
