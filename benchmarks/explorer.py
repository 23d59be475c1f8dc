"""How long it takes to find a planted mistake and make it small, and how that compares with Hypothesis drawing alone.

Usage: .venv/bin/python benchmarks/explorer.py [SEEDS]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script runs from a checkout
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from paired import interleave, show

from job_harness.core.port import Engine
from job_harness.engines.memory import MemoryEngine
from job_harness.search.sampling import Sampler
from job_harness.search.state_machine import LifecycleMachine
from job_harness.search.wrong_queues import CATALOGUE

CHOSEN = 6
RUNS = 3000
EXAMPLES = 300
SECONDS = 60


def chosen() -> list[str]:
    """Return some of the wrong queues, spread evenly over the catalogue."""
    names = [name for name, mistake in CATALOGUE.items() if mistake.queue is not None]
    return names[:: max(1, len(names) // CHOSEN)][:CHOSEN]


def explore(name: str, number: int) -> tuple[float, int, int]:
    """Find and shrink; answer seconds, runs until found, and steps on the tape that is left. (-1: not found)."""
    began = time.perf_counter()
    campaign = Sampler(CATALOGUE[name].engine("memory")).explore(seed=number, runs=RUNS)
    took = time.perf_counter() - began
    finding = campaign.finding
    return took, campaign.runs if finding else -1, len(finding.scenario.tape) if finding else 0


def machine_of(engine: Engine) -> type[LifecycleMachine]:
    """Return a machine over an engine."""

    class Machine(LifecycleMachine):
        def make_engine(self) -> Engine:
            return engine

    return Machine


def hypothesis_finds(name: str, number: int) -> tuple[float, bool]:
    """Let Hypothesis draw until something shows; answer seconds and whether it did."""
    machine = machine_of(CATALOGUE[name].engine("memory"))
    quick = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    began = time.perf_counter()
    try:
        run_state_machine_as_test(seed(number)(machine), settings=quick)  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - any failure is a find here; the correct queue has none
        return time.perf_counter() - began, True
    return time.perf_counter() - began, False


def rates() -> None:
    """Compare runs per second on the correct queue."""

    def sampled() -> float:
        began = time.process_time()
        runs = Sampler(MemoryEngine()).explore(seed=1, runs=400).runs
        return runs / (time.process_time() - began)

    show(
        "How many runs of the generic workload per second?",
        interleave({"explorer": sampled}, rounds=5, seconds=20),
        base="explorer",
        unit="runs/s",
    )


def main(seeds: int) -> None:
    rates()
    print(
        "\n\nBoth rows below include making the find small. A search that found nothing counts with the time until it "
        "gave up. The two draw from different workloads, and a few seeds are few: read the ratios as orders of "
        "magnitude."
    )
    began = time.perf_counter()
    for name in chosen():
        rows: dict[str, list[float]] = {"explorer, found and shrunk": [], "LifecycleMachine": []}
        missed = dict.fromkeys(rows, 0)
        tries: list[int] = []
        left: list[int] = []
        for number in range(seeds):
            took, runs, tape = explore(name, number)
            drawn, found = hypothesis_finds(name, number)
            rows["explorer, found and shrunk"].append(took)
            rows["LifecycleMachine"].append(drawn)
            missed["explorer, found and shrunk"] += runs < 0
            missed["LifecycleMachine"] += not found
            if runs >= 0:
                tries.append(runs)
                left.append(tape)
        told = f"Runs until found: {sorted(tries)}; deviations left: {sorted(left)}. Not found: " + ", ".join(
            f"{row} {count} of {seeds}" for row, count in missed.items()
        )
        title = f"How long until `{name}` is found?"
        show(title, rows, base="explorer, found and shrunk", unit="s", note=f"One seed a round. {told}.")
        if time.perf_counter() - began > SECONDS:
            print(f"\nStopped after {SECONDS} s; the other wrong queues were not measured.")
            break


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
