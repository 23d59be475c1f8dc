import asyncio
import random
import time


async def worker(name: int, queue: asyncio.Queue[int], begun: float) -> None:
    while True:
        job = await queue.get()
        await asyncio.sleep(random.random())
        print(f"{asyncio.get_running_loop().time() - begun:.6f} {name} {job}")
        queue.task_done()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        await asyncio.sleep(0.5)
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def main() -> None:
    begun = asyncio.get_running_loop().time()
    queue: asyncio.Queue[int] = asyncio.Queue()
    tasks = [asyncio.create_task(worker(n, queue, begun)) for n in range(4)]
    for job in range(16):
        queue.put_nowait(job)
    await queue.join()
    for task in tasks:
        task.cancel()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for text in (b"a\n", b"b\n"):
        writer.write(text)
        print(await reader.readline(), round(asyncio.get_running_loop().time() - begun, 6))
    t = time.time()
    try:
        await asyncio.wait_for(reader.readline(), 3600)
    except TimeoutError:
        print("timeout", round(time.time() - t, 3))
    print(await asyncio.to_thread(time.sleep, 5), round(time.time() - t, 3))
    process = await asyncio.create_subprocess_exec("sleep", "30")
    print(await process.wait(), round(time.time() - t, 2))
    writer.close()
    await asyncio.sleep(1)
    server.close()
    t = time.time()
    await asyncio.sleep(3600)
    print(f"asyncio asked 3600.000 passed {time.time() - t:.3f}")


asyncio.run(main())
