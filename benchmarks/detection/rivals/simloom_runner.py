"""Runs the lease queue under simloom: its own campaign, with hosts that crash and messages that take their time.

Usage: python simloom_runner.py MISTAKE FIRST_SEED SEEDS fixed|drawn
"""

from __future__ import annotations

import asyncio
import sys

import leased
import simloom
from protocol import report


class Around:
    """Chance and hops out of the tape."""

    def below(self, bound: int) -> int:
        return simloom.draw("below", bound)

    async def hop(self) -> None:
        await asyncio.sleep(0.001 + simloom.draw("hop", 50) / 1000)


def workload(mistake: str, *, drawn: bool):
    """Return the coroutine function of one run."""

    async def run(world: simloom.World) -> None:
        store = leased.store_of(mistake, Around(), asyncio.get_running_loop().time, drawn=drawn)
        hosts = [world.host(name) for name in ("w1", "w2")]
        for host in hosts:
            host.spawn(lambda host=host: leased.worker(store, host.name))

        async def chaos() -> None:
            for _ in range(2):
                await asyncio.sleep(simloom.draw("crash at", 100) / 100 * 2 * leased.LEASE)
                host = hosts[simloom.draw("victim", 2)]
                host.crash()
                await asyncio.sleep(simloom.draw("restart after", 100) / 100 * leased.LEASE)
                host.restart()

        disturbing = asyncio.create_task(chaos())
        await leased.supervisor(store)
        await disturbing

    return run


def main(mistake: str, first: str, seeds: str, durations: str) -> None:
    """Run the campaign and report."""
    run = workload(mistake, drawn=durations == "drawn")

    def campaign() -> tuple[int, str | None]:
        found = simloom.explore(run, runs=int(seeds), start_seed=int(first))
        return found.runs, found.failures[0].message if found.failures else None

    report("simloom", campaign)


if __name__ == "__main__":
    main(*sys.argv[1:])
