"""States per second of the exhaustive search, and how large the scopes are. Usage: benchmarks/exhaustive.py [ROUNDS]"""

from __future__ import annotations

import statistics
import sys
import time

from job_harness.core.faults import FaultPlan
from job_harness.search.scope.bounds import Scope
from job_harness.search.scope.search import Explorer
from job_harness.search.targets import open_engine

SCOPES = (
    ("memory", Scope(jobs=1)),
    ("memory", Scope(jobs=1, faults=FaultPlan(crash=1))),
    ("memory", Scope()),
    ("memory", Scope(faults=FaultPlan(crash=1), cancels=1)),
    ("memory", Scope(jobs=3, faults=FaultPlan(crash=1))),
    ("reference", Scope(jobs=1, faults=FaultPlan(crash=1))),
)


def measured(target: str, scope: Scope) -> tuple[Explorer, float]:
    """Search once; answer the CPU seconds that it took."""
    explorer = Explorer(open_engine(target), scope)
    started = time.process_time()
    explorer.run()
    return explorer, time.process_time() - started


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print("| engine | scope | states | transitions | depth | CPU seconds | states/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for target, scope in SCOPES:
        runs = [measured(target, scope) for _ in range(rounds)]
        explorer = runs[0][0]
        seconds = statistics.median(taken for _, taken in runs)
        progress = explorer.progress
        ended = "" if explorer.complete else f" (stopped by {explorer.stopped_by})"
        counts = f"{progress.states} | {progress.transitions} | {progress.depth}"
        print(f"| {target} | {scope.sentence()}{ended} | {counts} | {seconds:.2f} | {progress.states / seconds:.0f} |")


if __name__ == "__main__":
    main()
