"""Runs the lease queue under simloop: its own campaign, with hosts that crash and messages that take their time.

Usage: python simloop_runner.py MISTAKE FIRST_SEED SEEDS fixed|drawn
"""

from __future__ import annotations

import asyncio
import sys

import leased
from protocol import report
from simloop import explore, sim


class Around:
    """Chance and hops out of the seeded loop."""

    def below(self, bound: int) -> int:
        return sim.random.randrange(bound)

    async def hop(self) -> None:
        await asyncio.sleep(sim.random.uniform(0.001, 0.050))


def workload(mistake: str, *, drawn: bool):
    """Return the coroutine function of one run."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        store = leased.store_of(mistake, Around(), loop.time, drawn=drawn)
        hosts = {name: loop.net.host(name) for name in ("w1", "w2")}
        boot = {name: host.create_task(leased.worker(store, name)) for name, host in hosts.items()}

        async def chaos() -> None:
            for _ in range(2):
                await asyncio.sleep(sim.random.uniform(0.0, 2 * leased.LEASE))
                name = ("w1", "w2")[sim.random.randrange(2)]
                hosts[name].crash()
                await asyncio.sleep(sim.random.uniform(0.0, leased.LEASE))
                hosts[name].restart()
                boot[name] = hosts[name].create_task(leased.worker(store, name))

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
        found = explore(run, range(int(first), int(first) + int(seeds)))
        return (int(seeds), None) if found is None else (found.seeds_passed + 1, str(found.exception))

    report("simloop", campaign)


if __name__ == "__main__":
    main(*sys.argv[1:])
