"""Writes `benchmarks/results/public_bugs.md`: `make public-bugs`, or one entry at a time.

Usage: .venv/bin/python benchmarks/public_bugs/__main__.py --help
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]  # a script runs from a checkout

from public_bugs import page  # noqa: E402 - the path comes first
from public_bugs.catalogue import ENTRIES, UNTRIED, named  # noqa: E402
from public_bugs.measure import Measured, measure  # noqa: E402
from public_bugs.search import asked  # noqa: E402

PAGE = HERE.parent / "results" / "public_bugs.md"


def main() -> None:
    parser = argparse.ArgumentParser(description="Look for public bugs, and write benchmarks/results/public_bugs.md.")
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="BUG", help="only entries whose bug or release contains this")
    add("--seeds", type=int, default=3, metavar="N", help="searches for each bug (3)")
    add("--page", action="store_true", help="measure nothing: lay the page out anew")
    add("--json", metavar="FILE", help="write what was measured as JSON too")
    given = parser.parse_args()
    measured: list[Measured] = []
    for entry in () if given.page else named(given.only):
        print(f"{entry.bug} in {entry.affected} ...", flush=True)
        item = measure(entry, seeds=given.seeds, ask=asked)
        measured.append(item)
        print("  " + " | ".join(page.row(item)[3:9]), flush=True)
        before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        PAGE.write_text(page.written(ENTRIES, [item], untried=UNTRIED, before=before), encoding="utf-8")
    if given.page:
        before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        PAGE.write_text(page.written(ENTRIES, [], untried=UNTRIED, before=before), encoding="utf-8")
    if given.json:
        Path(given.json).write_text(json.dumps([item.data() for item in measured], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
