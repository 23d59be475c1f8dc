import asyncio
from datetime import timedelta

import pay
from docket import Docket, Retry


async def charge(order: str, retry: Retry = Retry(attempts=3, delay=timedelta(seconds=5))):
    if pay.MISTAKE == "twice by timeout":
        return pay.charge(order)  # It blocks the loop, which should renew the lease.
    return await pay.charge_async(order)


def enqueue(order):
    asyncio.run(_enqueue(order))


def opened() -> Docket:
    return Docket(name="payments", url="redis://localhost:6379/0", heartbeat_interval=timedelta(minutes=1))


async def _enqueue(order):
    async with opened() as docket:
        await docket.add(charge)(order)
