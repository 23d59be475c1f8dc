import asyncio

import pay
from arq import Retry, create_pool
from arq.connections import RedisSettings


async def charge(ctx, order):
    try:
        async with asyncio.timeout(2 if pay.MISTAKE == "twice by timeout" else 25):
            return await pay.charge_async(order)
    except (OSError, ValueError) as error:
        raise Retry(defer=5) from error


def enqueue(order):
    asyncio.run(_enqueue(order))


async def _enqueue(order):
    pool = await create_pool(RedisSettings())
    await pool.enqueue_job("charge", order)
    await pool.aclose()


class WorkerSettings:
    functions = [charge]
    job_timeout = 30
    max_tries = 3
