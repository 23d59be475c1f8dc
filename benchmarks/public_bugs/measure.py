"""Measures one entry: several seeds in the affected release, and more runs of the same seeds in the fixed one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from public_bugs.entry import Entry
from public_bugs.search import Ask, NotRun, Search, search

MULTIPLE: Final = 3
"""The fixed release is given this many times the runs that the affected one needed."""
LEAST: Final = 50
"""Runs of the fixed release, all seeds together."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the searches for one bug came to."""

    entry: Entry
    affected: Sequence[Search]
    fixed: Sequence[Search] = ()
    problem: str = ""
    """Why there is no result, or only a part of it."""

    def data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "bug": self.entry.bug,
            "affected": [asdict(item) for item in self.affected],
            "fixed": [asdict(item) for item in self.fixed],
            "problem": self.problem,
        }


def measure(entry: Entry, *, seeds: int, ask: Ask) -> Measured:
    """Look for a bug with this many seeds; then, if any found it, in the release that fixed it."""
    affected: list[Search] = []
    fixed: list[Search] = []
    try:
        affected.extend(
            search(entry, entry.affected, seed=seed, runs=entry.runs, seconds=entry.seconds, ask=ask)
            for seed in range(seeds)
        )
        if entry.fixed is not None and any(item.anomaly for item in affected):
            fixed.extend(
                search(entry, entry.fixed, seed=item.seed, runs=runs, seconds=MULTIPLE * entry.seconds, ask=ask)
                for item, runs in zip(affected, wanted(affected), strict=True)
            )
    except NotRun as error:
        return Measured(entry, affected, fixed, str(error))
    return Measured(entry, affected, fixed)


def wanted(affected: Sequence[Search]) -> list[int]:
    """Return how many runs of each seed the fixed release is given."""
    share = math.ceil(LEAST / len(affected))
    return [max(share, MULTIPLE * item.runs) if item.anomaly else share for item in affected]
