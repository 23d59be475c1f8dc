"""What `kernel.py` measures and a search of a test cost here, against another commit: rounds in turn, CPU time.

Usage: .venv/bin/python benchmarks/against.py COMMIT [ROUNDS]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
MOST: Final = 1.05
EXPLORED: Final = "one explored run"
RUNS: Final = 100
TEST: Final = """
from job_harness import JobResult, effect


def test_a_charge(job_harness):
    async def charge(job):
        effect("charged", key=job.id, order=job.input)
        return JobResult(success=True)

    job_harness.register("charge", charge)
    for order in range(3):
        job_harness.enqueue("charge", order)
    job_harness.run_until_idle()
"""


def measure() -> dict[str, float]:
    """Return the microseconds of CPU of each row of `kernel.py`, with the package that is on the path."""
    import kernel

    rates = {
        "an empty step": kernel.empty(kernel.suspending, 100_000),
        "a step of one long run, no monitors": kernel.long_run(()),
        "a step of one long run, all monitors": kernel.long_run(kernel.CATALOGUE),
        "a step of many short runs": kernel.many_runs(),
    }
    return {name: 1e6 / rate for name, rate in rates.items()}


def explore(environment: dict[str, str]) -> float:
    """Return the microseconds of CPU that one more run of an explored test costs."""
    used: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_charge.py").write_text(TEST)
        for runs in (RUNS // 4, RUNS):
            before = getrusage(RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--job-explore={runs}"]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"a test is not explored with {environment['PYTHONPATH']}:\n{done.stdout[-600:]}")
            after = getrusage(RUSAGE_CHILDREN)
            used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (used[1] - used[0]) / (RUNS - RUNS // 4) * 1e6


def rows_of(tree: Path) -> dict[str, float]:
    """Measure the package of a tree, in processes of its own. Raises SystemExit where that cannot run there."""
    path = os.pathsep.join(map(str, (tree / "harness", tree / "reference_impl")))
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, str(Path(__file__)), "--measure"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tree}: today's benchmarks do not run there: {done.stderr.strip().splitlines()[-1]}")
    measured: dict[str, float] = json.loads(done.stdout)
    return {**measured, EXPLORED: explore(environment)}


def main(commit: str, rounds: int) -> None:
    """Measure both in turn, and print the median of the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / commit
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(other), commit], cwd=ROOT, check=True)
        try:
            if not (other / "harness" / "job_harness").is_dir():
                raise SystemExit(f"{commit} has no package job_harness, so today's benchmarks do not run there")
            taken = [(rows_of(other), rows_of(ROOT)) for _ in range(rounds)]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=ROOT, check=True)
    print(f"| median of {rounds} rounds, us of CPU | {commit} | here | ratio | at most {MOST}x |")
    print("| --- | ---: | ---: | ---: | --- |")
    for name in taken[0][0]:
        was, now = (median(each[side][name] for each in taken) for side in (0, 1))
        ratio = median(each[1][name] / each[0][name] for each in taken)
        print(f"| {name} | {was:.2f} | {now:.2f} | {ratio:.3f}x | {'met' if ratio <= MOST else '**missed**'} |")


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
    else:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
