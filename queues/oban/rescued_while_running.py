"""Oban for Python 0.7.0: a job that runs for longer than `rescue_after` is started again beside itself.

    pip install oban                                          # Python 3.12 or newer
    DATABASE_URL=postgresql://... python rescued_while_running.py

Time is scaled by 100: `lifeline` below is the default interval of 60 s and the default `rescue_after` of 300 s. The job
takes 8 s, which stands for 13 minutes. One process, nothing crashes.
"""

import asyncio
import os
import time

from oban import Oban, worker
from oban.schema import install

STARTED = time.monotonic()
running: set[int] = set()


def say(text: str) -> None:
    print(f"t+{time.monotonic() - STARTED:.1f}s  {text}", flush=True)


@worker(queue="default", max_attempts=5)
class Report:
    async def process(self, job):
        running.add(job.attempt)
        say(f"starts attempt {job.attempt} of job {job.id}; attempts that run at once: {sorted(running)}")
        await asyncio.sleep(8)
        running.discard(job.attempt)
        say(f"attempt {job.attempt} is done")


async def main() -> None:
    pool = await Oban.create_pool(os.environ["DATABASE_URL"])
    await install(pool)
    oban = Oban(pool=pool, queues={"default": 10}, lifeline={"interval": 0.6, "rescue_after": 3.0})
    async with oban:
        await Report.enqueue({})
        await asyncio.sleep(24)
    async with pool.connection() as connection:
        rows = await connection.execute("SELECT id, state, attempt, meta FROM oban_jobs")
        say(str(await rows.fetchall()))
    await pool.close()


asyncio.run(main())
