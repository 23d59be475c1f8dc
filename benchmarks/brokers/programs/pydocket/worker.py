import asyncio
from datetime import timedelta

from docket import Worker
from jobs import charge, opened
from pay import MISTAKE

SECONDS = {"twice by timeout": 2, "stuck after a kill": 86_400}.get(MISTAKE, 60)


async def main():
    async with opened() as docket:
        docket.register(charge)
        seldom = timedelta(seconds=5)
        async with Worker(
            docket,
            redelivery_timeout=timedelta(seconds=SECONDS),
            minimum_check_interval=seldom,
            scheduling_resolution=seldom,
        ) as worker:
            await worker.run_forever()


asyncio.run(main())
