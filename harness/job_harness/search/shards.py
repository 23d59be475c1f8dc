"""A campaign in parts that share nothing: each does other runs, and together they are the campaign as a whole.

A run is known by its number, which alone decides what is drawn in it. Numbers are dealt out in stretches; so the parts
can be done on as many machines, in any order, and what each saw for the first time says what all did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from job_harness.errors import UsageError

STRETCH = 64
"""How many runs in a row belong to one part."""
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a campaign: the `index`-th (from 1) of `of`."""

    index: int = 1
    of: int = 1

    @classmethod
    def read(cls, text: str) -> Shard:
        """Read `3/8`. Raises UsageError for anything else."""
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        shard = None if found is None else cls(int(found[1]), int(found[2]))
        if shard is None or not 1 <= shard.index <= shard.of <= MOST:
            raise UsageError(
                f"--shard {text}: expected K/N, with K from 1 to N and N at most {MOST}",
                hint="Write --shard 3/8 for the third of eight parts.",
            )
        return shard

    def after(self, number: int, runs: int) -> tuple[int, int]:
        """Return the first run of this part from `number` on, and how many in a row are its own; 0: none is left."""
        block = number // STRETCH
        ahead = (self.index - 1 - block) % self.of
        first = number if ahead == 0 else (block + ahead) * STRETCH
        return first, max(0, min((first // STRETCH + 1) * STRETCH, runs) - first)

    def stretches(self, runs: int) -> Iterator[tuple[int, int]]:
        """Return the stretches of this part of `runs` runs: the number of the first, and how many."""
        first, count = self.after(0, runs)
        while count:
            yield first, count
            first, count = self.after(first + count, runs)


WHOLE = Shard()
"""A campaign in one part."""
