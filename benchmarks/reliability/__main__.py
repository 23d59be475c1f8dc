"""Writes `benchmarks/results/reliability.md`: `make reliability`, `make reliability ARGS="--size nightly"`.

Usage: .venv/bin/python benchmarks/reliability/__main__.py --help
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]  # a script runs from a checkout

from tests.fuzz.campaign import fuzz  # noqa: E402
from tests.fuzz.fuzzers import FUZZERS  # noqa: E402

from reliability import aborts, kills, neighbours, page, surroundings  # noqa: E402 - the path comes first
from reliability.size import SIZES, Proof, Size  # noqa: E402

PAGE = HERE.parent / "results" / "reliability.md"


def fuzzed(size: Size, *, seed: int) -> Proof:
    """Fuzz everything that reads input."""
    rows, found, inputs = [], [], 0
    with tempfile.TemporaryDirectory() as scratch:
        for fuzzer in FUZZERS:
            item = fuzz(fuzzer, seed=seed, seconds=size.fuzz_seconds / len(FUZZERS), keep=Path(scratch))
            rows.append((fuzzer.about, str(item.inputs), str(item.distinct), str(len(item.findings))))
            found += item.findings
            inputs += item.inputs
    for finding in found:
        print(f"{finding.fuzzer}: {finding.rule}: {finding.what}", file=sys.stderr)
    about = (
        "Plausible inputs, damaged as texts and as documents. A failure is a traceback, an exit code that is not "
        "documented, more than five seconds of CPU time or a minute for one input, over 200 000 characters of output, "
        "a sign that a terminal or a CI log would obey, a report that cannot be read, or a pass for what was not "
        'judged. `make fuzz ARGS="--seconds 60 --seed 7"` runs it alone.'
    )
    result = f"{inputs} inputs, {len(found) or 'no'} failures."
    columns = ("what reads it", "inputs", "distinct", "failures")
    return Proof("Fuzzed inputs", about, columns, tuple(rows), result, held=bool(inputs) and not found)


PROOFS = {
    "aborts": aborts.prove,
    "kills": kills.prove,
    "fuzz": fuzzed,
    "surroundings": surroundings.prove,
    "neighbours": neighbours.prove,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Prove what is promised under signals, kills and hostile input.")
    add = parser.add_argument
    add("--size", choices=SIZES, default="small", help="how much of each proof (small)")
    add("--seed", type=int, default=0, metavar="N", help="what moments and inputs are drawn from (0)")
    add(
        "--only",
        action="append",
        default=[],
        choices=PROOFS,
        help="one proof, and print it instead of writing the page",
    )
    add("--renew", choices=PROOFS, help="run one proof again, and put it in its place on the page")
    given = parser.parse_args()
    began = time.monotonic()
    proofs = []
    chosen = [given.renew] if given.renew else given.only or list(PROOFS)
    for name, prove in PROOFS.items():
        if name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            proofs.append(prove(SIZES[given.size], seed=given.seed))
            print(f"  {proofs[-1].result}", file=sys.stderr, flush=True)
    options = f"--size {given.size} --seed {given.seed}{f' --renew {given.renew}' if given.renew else ''}"
    command, date = f'make reliability ARGS="{options}"', datetime.datetime.now(datetime.UTC).date().isoformat()
    if given.renew:
        PAGE.write_text(page.renewed(PAGE.read_text(encoding="utf-8"), proofs[0], command=command, date=date))
        return 0 if proofs[0].held else 1
    text = page.written(
        proofs,
        command=command,
        date=date,
        machine=machine(),
        minutes=(time.monotonic() - began) / 60,
    )
    if given.only:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")
    return 0 if all(proof.held for proof in proofs) else 1


def machine() -> str:
    """Say what it ran on: size, and how busy it was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores and {memory:.0f} GiB of {platform.system()} (load {load:.0f})"


if __name__ == "__main__":
    raise SystemExit(main())
