"""What the installed but unused plugin adds to the start of pytest: pairs of whole runs, with it and without it.

    python benchmarks/plugin_startup.py [--pairs 20]

Prints the median of the differences within the pairs, in milliseconds. Other plugins are left out of both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WITH = ("-p", "job_harness")
WITHOUT = ("-p", "no:job_harness")


def milliseconds(folder: Path, plugin: tuple[str, ...]) -> float:
    """Time one run of pytest over one empty test."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin]
    begun = time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20, help="pairs of runs")
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        for plugin in (WITH, WITHOUT):
            milliseconds(folder, plugin)  # Fills the disk's and the interpreter's caches.
        differences, bases = [], []
        for number in range(pairs):
            first, second = (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH)
            times = {first: milliseconds(folder, first), second: milliseconds(folder, second)}
            differences.append(times[WITH] - times[WITHOUT])
            bases.append(times[WITHOUT])
    quartiles = statistics.quantiles(differences, n=4)
    print(f"plugin start-up: {statistics.median(differences):+.1f} ms, median of {pairs} pairs (aim: below 10)")
    print(
        f"  middle half {quartiles[0]:+.1f} to {quartiles[2]:+.1f} ms, on a base of {statistics.median(bases):.0f} ms"
    )


if __name__ == "__main__":
    main()
