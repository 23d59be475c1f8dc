"""Runs the lease queue under frontrun: random schedules over a virtual clock, or all that differ (DPOR).

It has no faults and draws nothing for the program, so that jobs take fixed times and no process crashes.

Usage: python frontrun_runner.py MISTAKE FIRST_SEED SEEDS fixed|drawn [dpor]
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import frontrun
import leased
from protocol import report


class Around:
    """Hops that only yield; chance from a seeded source of the program's own."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    async def hop(self) -> None:
        await asyncio.sleep(0)


class State:
    """What the tasks share."""

    def __init__(self, mistake: str, seed: int, *, drawn: bool) -> None:
        began = time.monotonic()
        self.store = leased.store_of(mistake, Around(seed), lambda: time.monotonic() - began, drawn=drawn)


async def first(state: State) -> None:
    await leased.worker(state.store, "w1")


async def second(state: State) -> None:
    await leased.worker(state.store, "w2")


async def watch(state: State) -> None:
    try:
        await leased.supervisor(state.store)
    except leased.Breach as breach:
        state.store.judge(str(breach))


def main(mistake: str, first_seed: str, seeds: str, durations: str, strategy: str = "random") -> None:
    """Run the campaign and report."""
    started = 0
    breaches: list[str] = []

    def fresh() -> State:
        nonlocal started
        started += 1
        return State(mistake, int(first_seed) + started, drawn=durations == "drawn")

    def holds(state: State) -> bool:
        if state.store.breach:
            breaches.append(state.store.breach)
        return state.store.breach is None

    bounds = (
        {"max_attempts": int(seeds), "max_ops": 300, "seed": int(first_seed)}
        if strategy == "random"
        else {"max_executions": int(seeds)}
    )

    def campaign() -> tuple[int, str | None]:
        asyncio.run(
            frontrun.explore(
                setup=fresh,
                workers=[first, second, watch],
                invariant=holds,
                strategy=strategy,
                clock="virtual",
                **bounds,
            )
        )
        return started, breaches[0] if breaches else None

    report("frontrun", campaign)


if __name__ == "__main__":
    main(*sys.argv[1:])
