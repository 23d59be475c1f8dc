"""A worker of procrastinate: python procrastinate_worker.py URL NAME attended|unattended."""

import asyncio
import sys

import procrastinate

URL, NAME, KIND = sys.argv[1:4]
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=URL, min_size=1, max_size=2))


@app.task(name="work", retry=3)
async def work(ms):
    await asyncio.sleep(ms / 1000)


async def attend():
    """Do what the manual gives for stalled jobs, more often."""
    while True:
        await asyncio.sleep(1)
        for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=4):
            await app.job_manager.retry_job(job)


async def main():
    async with app.open_async():
        if KIND == "attended":
            asyncio.get_running_loop().create_task(attend())
        await app.run_worker_async(
            concurrency=1,
            name=NAME,
            fetch_job_polling_interval=0.5,
            update_heartbeat_interval=1,
            stalled_worker_timeout=4,
            install_signal_handlers=False,
        )


asyncio.run(main())
