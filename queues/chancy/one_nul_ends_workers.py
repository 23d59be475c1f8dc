"""Chancy 0.26.0: one job whose error has a NUL ends every worker that runs it, with the results of its other jobs.

    pip install "chancy[cli]" "psycopg[binary,pool]"
    DATABASE_URL=postgresql://... python one_nul_ends_workers.py

Time is scaled by 30: `heartbeat_timeout` below is the default of 90 s. Each worker follows one that ended by itself.
"""

import asyncio
import logging
import os
import time

import psycopg
from chancy import Chancy, Queue, Worker, job
from chancy.plugins.leadership import Leadership
from chancy.plugins.recovery import Recovery

STARTED = float(os.environ.setdefault("STARTED", str(time.monotonic())))


def say(text: str) -> None:
    print(f"t+{time.monotonic() - STARTED:.0f}s  {text}", flush=True)


@job(queue="default", max_attempts=1)
def reads_bytes() -> None:
    say("  reads_bytes runs")
    raise ValueError("unexpected byte \x00 in the file")


@job(queue="default", max_attempts=1)
def sends_mail() -> None:
    say("  sends_mail runs, and succeeds")


async def main() -> None:
    logging.disable(logging.CRITICAL)
    plugins = [Leadership(poll_interval=1, timeout=2), Recovery(poll_interval=2)]
    async with Chancy(os.environ["DATABASE_URL"], plugins=plugins) as chancy:
        await chancy.migrate()
        await chancy.declare(Queue("default"))
        await chancy.push(reads_bytes)
        await chancy.push(sends_mail)
        for number in (1, 2, 3, 4):
            say(f"worker {number} starts")
            worker = Worker(chancy, heartbeat_poll_interval=1, heartbeat_timeout=3)
            await worker.start()
            try:
                await asyncio.wait_for(worker.wait_for_shutdown(), 12)
            except (psycopg.Error, TimeoutError) as error:
                say(f"worker {number} ends: {type(error).__name__}")
            await worker.manager.cancel_all()
        async with chancy.pool.connection() as connection:
            found = await connection.execute("SELECT func, state, attempts, max_attempts FROM chancy_jobs ORDER BY id")
            say(str(await found.fetchall()))


if __name__ == "__main__":
    asyncio.run(main())
