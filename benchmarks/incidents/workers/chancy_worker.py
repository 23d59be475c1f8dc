"""A worker of Chancy: python chancy_worker.py URL NAME."""

import asyncio
import sys

from chancy import Chancy, Queue, Worker
from chancy.plugins.leadership import Leadership
from chancy.plugins.recovery import Recovery
from chancy.plugins.retry import RetryPlugin

sys.modules["jobs"] = sys.modules["__main__"]


async def work(*, ms):
    await asyncio.sleep(ms / 1000)


async def main():
    url, name = sys.argv[1:3]
    plugins = [Leadership(poll_interval=1, timeout=4), Recovery(poll_interval=1), RetryPlugin()]
    async with Chancy(url, plugins=plugins, no_default_plugins=True) as chancy:
        await chancy.migrate()
        queue = Queue("default", concurrency=1, polling_interval=1, executor=Chancy.Executor.Async)
        await chancy.declare(queue)
        async with Worker(
            chancy,
            worker_id=name,
            heartbeat_poll_interval=1,
            heartbeat_timeout=4,
            queue_change_poll_interval=1,
            register_signal_handlers=False,
        ):
            await asyncio.sleep(10_000)


if __name__ == "__main__":
    asyncio.run(main())
