"""Hears that work has come, so that a worker need not wait for its next poll. Carries slugs, never payloads.

A wake-up is a hint: it may be lost, doubled or late, and polling makes up for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Final

import psycopg

from job_harness_reference.store.database import connect

CHANNEL: Final = "job_harness_wakeup"


async def _pause(length: timedelta) -> None:
    await asyncio.sleep(length.total_seconds())


async def listen(
    dsn: str,
    *,
    reconnect_after: timedelta = timedelta(seconds=1),
    pause: Callable[[timedelta], Awaitable[None]] = _pause,
) -> AsyncIterator[str | None]:
    """Yield the tool slug of each wake-up, forever; `None` when listening has begun (anew).

    After `None` poll once: something may have been missed. A lost connection is opened again after
    `reconnect_after`. Close the iterator (`aclose`) to stop listening.
    """
    while True:
        try:
            connection = await connect(dsn)
            try:
                await connection.execute(f"LISTEN {CHANNEL}")
                yield None
                async for notice in connection.notifies():
                    yield notice.payload
            finally:
                await connection.close()
        except psycopg.OperationalError:
            await pause(reconnect_after)
