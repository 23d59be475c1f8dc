"""A whole pytest run with one test on a real PostgreSQL: ours, warm and cold, against its peers.

Rounds are interleaved, ratios are of the same round. Peers refuse root, so as root everything runs as an
unprivileged user. Usage: .venv/bin/python benchmarks/postgres_first_test.py [ROUNDS]
"""

from __future__ import annotations

import sys
import time
from statistics import median

from paired import show
from postgres_suite import suites

LIMIT_SECONDS = 150
COLD = ", no cache"


def main(rounds: int) -> None:
    began = time.perf_counter()
    with suites() as (made, names, skipped):
        variants = [(name, name, False) for name in names]
        variants += [(name + COLD, name, True) for name in names if name.startswith("ours")]
        folders = {name: made.prepare(name, count=1) for name in names}
        for name in names:
            made.seconds(name, folders[name])  # warms the file cache, and ours its cluster
        rows: dict[str, list[float]] = {title: [] for title, _, _ in variants}
        for _ in range(rounds):
            if time.perf_counter() - began > LIMIT_SECONDS:
                print(f"stopped after {LIMIT_SECONDS} s")
                break
            for title, name, cold in variants:
                rows[title].append(made.seconds(name, folders[name], cold=cold))
    base = "ours, embedded" if "ours, embedded" in rows else names[0]
    show("How long does a pytest run with one test take?", rows, base=base, unit="ms", scale=1000)
    took = median(rows[base])
    print(f"\nAim: {base!r} within 1 s, its cache warm. {'Met' if took <= 1 else '**Missed**'} here: {took:.2f} s.")
    for reason in skipped:
        print(f"\nSkipped {reason}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
