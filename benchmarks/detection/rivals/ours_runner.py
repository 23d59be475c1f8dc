"""Runs the lease queue under job-harness as a user has it: all invariants, and the whole history.

Usage: python ours_runner.py MISTAKE FIRST_SEED SEEDS fixed|drawn
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a script runs from a checkout

from protocol import report

from detection import ours


def main(mistake: str, first: str, seeds: str, durations: str) -> None:
    """Run the campaign and report."""

    def campaign() -> tuple[int, str | None]:
        told = ours.campaign(mistake, seed=int(first), runs=int(seeds), drawn=durations == "drawn")
        return told.runs, told.found

    report("job-harness", campaign)


if __name__ == "__main__":
    main(*sys.argv[1:])
