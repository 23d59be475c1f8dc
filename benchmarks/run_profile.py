"""Where one generic run spends its time: drawing, opening the session, binding monitors, the kernel, events, dispatch.

Usage: .venv/bin/python benchmarks/run_profile.py [SECONDS]

The stack is sampled once for each millisecond of CPU, which disturbs the run little; a profiler that hooks every call
would charge most to code with many small calls. A sample counts for the innermost part of its stack that stands in
`PARTS`. The shares are of one process and one machine; the page is for what is large and what is small.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType

from paired import interleave, show

from job_harness.core.run.session import Session
from job_harness.engines.memory import MemoryEngine
from job_harness.search.sampling import Sampler, run_seed

EVERY = 0.001
WHY = (
    "CPU time, in one process. No part is half of a run: if monitors cost nothing and everything else stayed "
    "as it is, there would still not be twice as many runs a second. Within each part the profile is flat "
    "too: the largest function is the loop that calls the monitors, with about a tenth of the run. With their "
    "methods bound once a run that loop makes long runs 3 % faster and short ones 6 % slower. The collector of "
    "garbage rests during a run anyway."
)
PARTS: tuple[tuple[str, str, str], ...] = (
    ("draw the workload and the strategy", "search/workload.py", ""),
    ("draw the workload and the strategy", "search/sampling.py", "policy_of"),
    ("make the monitors", "invariants/property.py", "__init__"),
    ("find who sees an event", "invariants/property.py", "_route"),
    ("open the session", "run/session.py", "__init__"),
    ("open the session", "run/session.py", "expose"),
    ("judge each event", "invariants/property.py", "see"),
    ("judge at rest", "invariants/property.py", "_tell"),
    ("compare and record rows", "run/observation.py", "observe"),
    ("record calls, returns, effects", "run/observation.py", ""),
    ("choose at gates", "sim/choices.py", ""),
    ("choose at gates", "search/strategy.py", ""),
    ("offer faults and orders", "sim/kernel.py", "_options"),
    ("plan time", "sim/kernel.py", "next_wake"),
    ("plan time", "sim/kernel.py", "move_to"),
    ("the queue's verbs", "memory/queue.py", ""),
    ("workers, clients, crons", "run/worker.py", ""),
    ("workers, clients, crons", "run/stock.py", ""),
    ("workers, clients, crons", "run/context.py", ""),
    ("start, heal, settle, close", "run/session.py", ""),
    ("step actors", "sim/kernel.py", ""),
    ("count coverage, repeat runs, the rest", "", ""),
)
"""What a frame is part of: by the end of its file, and its function where that is named. The first that fits counts."""


def part_of(frame: FrameType | None) -> str:
    """Return the part of a run that a stack is in: of its innermost frame that belongs to one."""
    while frame is not None:
        code = frame.f_code
        if "/job_harness/" in code.co_filename:
            for part, file, function in PARTS[:-1]:
                if code.co_filename.endswith(file) and function in ("", code.co_name):
                    return part
        frame = frame.f_back
    return PARTS[-1][0]


def profile(seconds: float) -> tuple[Counter[str], int, int, float]:
    """Sample generic runs on the model queue; return the samples by part, and how many runs and steps they were."""
    samples: Counter[str] = Counter()
    Sampler(MemoryEngine()).explore(seed=1, runs=100)  # what is made once is made now
    signal.signal(signal.SIGPROF, lambda signum, frame: samples.update((part_of(frame),)))
    runs = steps = 0
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    while time.process_time() - began < seconds:
        campaign = Sampler(MemoryEngine()).explore(seed=runs + 2, runs=200)
        runs += campaign.runs
        steps += campaign.steps
    signal.setitimer(signal.ITIMER_PROF, 0)
    return samples, runs, steps, time.process_time() - began


def bounds(rounds: int, runs: int = 200) -> None:
    """Compare a generic run with what is left of it without one of its parts: no more can be saved there."""
    sampler = Sampler(MemoryEngine())

    def cost(one: Callable[[int], object]) -> Callable[[], float]:
        def measured() -> float:
            began = time.process_time()
            for number in range(runs):
                one(run_seed(1, number))
            return (time.process_time() - began) / runs

        return measured

    def unjudged(seed: int) -> None:
        session = sampler.session(seed)
        session.recorder.show(lambda event: None)
        session.run_for_good()

    def opened(seed: int) -> Session:
        return sampler.session(seed)

    whole = cost(sampler.sample)

    def uncollected() -> float:
        gc.disable()
        try:
            return whole()
        finally:
            gc.enable()

    rows = {
        "a generic run": whole,
        "the collector off between runs too": uncollected,
        "no event judged": cost(unjudged),
        "drawn and opened, not run": cost(opened),
    }
    title = "What is left of a generic run without one of its parts?"
    show(title, interleave(rows, rounds=rounds, seconds=60), base="a generic run", unit="us", scale=1e6, note=WHY)


def main(seconds: float) -> None:
    samples, runs, steps, took = profile(seconds)
    total = sum(samples.values())
    run = took / runs * 1e6
    print(f"\n### Where does a generic run of {steps / runs:.0f} steps spend its time?\n")
    print("| | share | microseconds a run |\n| --- | ---: | ---: |")
    for part, count in samples.most_common():
        print(f"| {part} | {count / total:.0%} | {count / total * run:.0f} |")
    print(f"| all | 100% | {run:.0f} |")
    print(f"\n{runs} runs in {took:.0f} s of CPU, {total} samples of the stack. Each counts for its innermost part.")
    bounds(max(3, int(seconds)))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
