"""The event loop of uvloop: native timers, threads and a child process."""

import asyncio
import random
import time

import uvloop


async def worker(number: int, begun: float) -> None:
    for step in range(3):
        await asyncio.sleep(random.random())
        print(number, step, round(asyncio.get_running_loop().time() - begun, 4))


async def main() -> None:
    begun = asyncio.get_running_loop().time()
    await asyncio.gather(*[worker(number, begun) for number in range(4)])
    t = time.time()
    await asyncio.to_thread(time.sleep, 3600)
    print(f"uvloop, thread asked 3600.000 passed {time.time() - t:.3f}")
    t = time.time()
    process = await asyncio.create_subprocess_exec("sleep", "5")
    await process.wait()
    print(f"uvloop, child asked 5.000 passed {time.time() - t:.3f}")


uvloop.run(main())
