"""Runs the lease queue under detangle: its default portfolio, with hosts that crash and messages that take their time.

Usage: python detangle_runner.py MISTAKE FIRST_SEED SEEDS fixed|drawn
"""

from __future__ import annotations

import asyncio
import sys

import detangle
import leased
from protocol import report


class Around:
    """Chance and hops out of its decisions."""

    def below(self, bound: int) -> int:
        return detangle.randint(0, bound - 1)

    async def hop(self) -> None:
        await asyncio.sleep(detangle.uniform(0.001, 0.050))


def workload(mistake: str, *, drawn: bool):
    """Return the coroutine function of one run."""

    async def run() -> None:
        store = leased.store_of(mistake, Around(), detangle.now, drawn=drawn)
        net = detangle.network()

        def boot(name: str) -> None:
            detangle.spawn(leased.worker(store, name), host=name, name=name)

        async def chaos() -> None:
            for _ in range(2):
                await asyncio.sleep(detangle.uniform(0.0, 2 * leased.LEASE))
                name = detangle.choice(("w1", "w2"))
                net.crash(name)
                await asyncio.sleep(detangle.uniform(0.0, leased.LEASE))
                net.restart(name)
                boot(name)

        for name in ("w1", "w2"):
            boot(name)
        disturbing = asyncio.create_task(chaos())
        try:
            await leased.supervisor(store)
            await disturbing
        finally:
            disturbing.cancel()

    return run


def main(mistake: str, first: str, seeds: str, durations: str) -> None:
    """Run the campaign and report."""
    run = workload(mistake, drawn=durations == "drawn")

    def campaign() -> tuple[int, str | None]:
        try:
            told = detangle.explore(run, runs=int(seeds), seed=int(first), shrink=False, database=False)
        except detangle.BugFound as found:
            return found.report.runs, str(found.report.failure.exception)
        return told.runs, None

    report("detangle", campaign)


if __name__ == "__main__":
    main(*sys.argv[1:])
