"""A worker of PgQueuer: python pgqueuer_worker.py URL NAME SPANS."""

import asyncio
import json
import sys
from datetime import timedelta

import psycopg
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries
from spans import Spans

URL, NAME, SPANS = sys.argv[1:4]


async def main():
    connection = await psycopg.AsyncConnection.connect(URL, autocommit=True)
    manager = QueueManager(Queries.from_psycopg_connection(connection))
    spans = Spans(SPANS, NAME)

    @manager.entrypoint("work")
    async def work(job):
        with spans.run(str(job.id), "work"):
            await asyncio.sleep(json.loads(job.payload)["ms"] / 1000)

    await manager.run(
        dequeue_timeout=timedelta(seconds=1),
        batch_size=1,
        max_concurrent_tasks=2,
        heartbeat_timeout=timedelta(seconds=3),
    )


asyncio.run(main())
