"""What the plugin adds to the start of pytest: where no test uses it, and with one test of `job_harness` of one line.

    python benchmarks/plugin_startup.py [SECONDS]

CPU time of whole processes, a plain test in each round beside them, with bytecode and without any: where it may not be
written, each process compiles what it imports. Other plugins are left out of all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median

from paired import interleave

AIMS = {("unused", True): 0.01, ("one line", True): 0.15, ("one line", False): 0.6}
"""Seconds more than a plain test, by what is run and whether there is bytecode."""
PLAIN = "def test_nothing():\n    pass\n"
ONE_LINE = "def test_one(job_harness):\n    pass\n"


def started(folder: Path, *arguments: str, bytecode: bool) -> float:
    """Return the CPU seconds of one run of pytest."""
    kept = {} if bytecode else {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(folder / "none")}
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**inherited, **kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measures(folder: Path, *, bytecode: bool) -> dict[str, Callable[[], float]]:
    """Return what is run in each round."""
    return {
        "plain": lambda: started(folder, "-p", "no:job_harness", "test_plain.py", bytecode=bytecode),
        "unused": lambda: started(folder, "-p", "job_harness", "test_plain.py", bytecode=bytecode),
        "one line": lambda: started(folder, "-p", "job_harness", "test_one_line.py", bytecode=bytecode),
    }


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_plain.py").write_text(PLAIN)
        (folder / "test_one_line.py").write_text(ONE_LINE)
        for bytecode in (True, False):
            rows = interleave(measures(folder, bytecode=bytecode), rounds=20, seconds=seconds / 2)
            print(f"\n### What does the plugin add to a start {'with' if bytecode else 'without'} bytecode?\n")
            print("| | median | more than plain | aim |\n| --- | ---: | ---: | ---: |")
            for row, values in rows.items():
                more = median(value - base for value, base in zip(values, rows["plain"], strict=True))
                aim = AIMS.get((row, bytecode))
                verdict = "" if aim is None else f"<= {aim:g} s: {'met' if more <= aim else '**missed**'}"
                print(f"| {row} | {median(values):.3f} s | {more:+.3f} s | {verdict} |")
            print(f"\n{len(rows['plain'])} interleaved rounds, CPU seconds of whole processes.")


if __name__ == "__main__":
    main()
