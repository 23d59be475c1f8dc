"""How much of each proof is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """`aborts` and `kills` are counts; `fuzz_seconds` is for all fuzzers together; `seeds` are histories to compare."""

    name: str
    aborts: int
    jobs: int
    kills: int
    fuzz_seconds: float
    seeds: int
    neighbours: int


SIZES: Final = {
    size.name: size
    for size in (
        Size("tiny", aborts=4, jobs=60, kills=3, fuzz_seconds=7, seeds=10, neighbours=2),
        Size("small", aborts=27, jobs=1000, kills=15, fuzz_seconds=120, seeds=40, neighbours=10),
        Size("nightly", aborts=270, jobs=6000, kills=90, fuzz_seconds=3600, seeds=200, neighbours=10),
    )
}


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of one proof: a heading, a table, further remarks, and whether all of it held."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    result: str
    held: bool
