"""What the rules about procrastinate claim, asked of one release on a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import procrastinate
from claims import claim, raised, tell
from procrastinate import RetryStrategy, jobs
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.periodic import PeriodicDeferrer

URL = os.environ["DATABASE_URL"]
CONNECTOR = getattr(procrastinate, "PsycopgConnector", None) or procrastinate.AiopgConnector


def made() -> procrastinate.App:
    return procrastinate.App(connector=CONNECTOR(conninfo=URL))


@contextlib.contextmanager
def emptied() -> Iterator[None]:
    """Begin without jobs."""
    import psycopg

    with psycopg.connect(URL) as connection:
        connection.execute("TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers CASCADE")
    yield


def states() -> list[str]:
    """Return what every job is, in the order of their making."""
    import psycopg

    with psycopg.connect(URL) as connection:
        rows = connection.execute("SELECT status::text FROM procrastinate_jobs ORDER BY id").fetchall()
    return [row[0] for row in rows]


def played(app: procrastinate.App, act: Callable[[], Any], **worker: Any) -> list[str]:
    """Open an app, do something, let a worker run until nothing is left to do; returns what every job is then."""

    async def play() -> None:
        async with app.open_async():
            await act()
            if worker.pop("work", True):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(
                        app.run_worker_async(wait=False, install_signal_handlers=False, **worker), 20
                    )

    with emptied():
        asyncio.run(play())
        return states()


async def taken(app: procrastinate.App) -> None:
    """Take a job as a worker does that is killed then."""
    manager = app.job_manager
    if hasattr(manager, "register_worker"):
        worker = await manager.register_worker()
        await manager.fetch_job(queues=None, worker_id=getattr(worker, "worker_id", worker))
    else:
        await manager.fetch_job(queues=None)


@claim
def queue_unserved() -> tuple[bool, str]:
    app = made()

    @app.task(queue="slow")
    def render() -> None: ...

    told = played(app, render.defer_async, queues=["default", "fast"])
    return told == ["todo"], f"a job of an unserved queue: {told[0]}"


@claim
def periodic_below_task() -> tuple[bool, str]:
    app = made()

    def wrong() -> None:
        @app.task
        @app.periodic(cron="0 * * * *")
        def sweep(timestamp: int) -> None: ...

    error = raised(wrong)
    return error == "AttributeError", f"raises {error or 'nothing'}"


def ticks(app: procrastinate.App, many: int) -> Callable[[], Any]:
    """Defer what is periodic at this many ticks."""
    registry = app.periodic_registry

    async def defer() -> None:
        deferrer = PeriodicDeferrer(registry=registry)
        for task in registry.periodic_tasks.values():
            await deferrer.defer_jobs(jobs_to_defer=[(task, 1_700_000_000 + 60 * tick) for tick in range(many)])

    return defer


@claim
def periodic_without_timestamp() -> tuple[bool, str]:
    app = made()

    @app.periodic(cron="0 * * * *")
    @app.task
    def sweep() -> None: ...

    told = played(app, ticks(app, 1))
    return told == ["failed"], f"the run {told[0]}"


@claim
def periodic_without_lock() -> tuple[bool, str]:
    many = []
    for options in ({}, {"queueing_lock": "sweep"}):
        app = made()

        @app.periodic(cron="* * * * *")
        @app.task(**options)
        def sweep(timestamp: int) -> None: ...

        many.append(len(played(app, ticks(app, 5), work=False)))
    return many == [5, 1], f"5 ticks unworked: {many[0]} jobs, with queueing_lock {many[1]}"


@claim
def retry_at_once() -> tuple[bool, str]:
    app = made()
    runs = []

    @app.task(retry=True)
    def sync() -> None:
        runs.append(1)
        if len(runs) < 20:
            raise ValueError

    told = played(app, sync.defer_async)
    return told == ["succeeded"] and len(runs) == 20, f"{len(runs)} runs at once"


@claim
def backoff_explodes() -> tuple[bool, str]:
    strategy = RetryStrategy(max_attempts=10, exponential_wait=60)
    if hasattr(strategy, "get_retry_decision"):
        job = jobs.Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t", attempts=4)
        decision = strategy.get_retry_decision(exception=ValueError(), job=job)
        waits = (decision.retry_at - procrastinate.utils.utcnow()).total_seconds()
    else:
        waits = strategy.get_schedule_in(exception=ValueError(), attempts=4)
    return abs(waits - 60**5) < 60, f"waits {waits:.0f} s after the 5th try, 60^5 = {60**5}"


@claim
def stalled_never_retried() -> tuple[bool, str]:
    app = made()

    @app.task
    def mail() -> None: ...

    async def act() -> None:
        await mail.defer_async()
        await taken(app)

    told = played(app, act)
    return told == ["doing"], f"a job of a killed worker stays {told[0]}"


@claim
def lock_of_a_dead_worker() -> tuple[bool, str]:
    app = made()

    @app.task
    def mail() -> None: ...

    async def act() -> None:
        await mail.configure(lock="k").defer_async()
        await taken(app)
        await mail.configure(lock="k").defer_async()
        await mail.configure(lock="other").defer_async()

    told = played(app, act)
    return told == ["doing", "todo", "succeeded"], f"killed, same lock, other lock: {', '.join(told)}"


@claim
def already_enqueued_raises() -> tuple[bool, str]:
    app = made()
    caught = []

    @app.task(queueing_lock="m")
    def mail() -> None: ...

    async def act() -> None:
        await mail.defer_async()
        try:
            await mail.defer_async()
        except AlreadyEnqueued as error:
            caught.append(type(error).__name__)

    played(app, act, work=False)
    return caught == ["AlreadyEnqueued"], f"the second raises {caught[0] if caught else 'nothing'}"


@claim
def periodic_twice() -> tuple[bool, str]:
    def twice(**second: str) -> str:
        app = made()

        def register() -> None:
            @app.periodic(cron="0 9 * * *")
            @app.periodic(cron="0 18 * * *", **second)
            @app.task
            def sweep(timestamp: int) -> None: ...

        return raised(register)

    same, other = twice(), twice(periodic_id="evening")
    return (
        same == "TaskAlreadyRegistered" and not other,
        f"raises {same or 'nothing'}, with another id {other or 'nothing'}",
    )


@claim
def task_named_twice() -> tuple[bool, str]:
    app = made()

    def register() -> None:
        @app.task(name="m")
        def mail() -> None: ...

        @app.task(name="m")
        def sms() -> None: ...

    error = raised(register)
    return error == "TaskAlreadyRegistered", f"raises {error or 'nothing'}"


@claim
def code_cron_invalid() -> tuple[bool, str]:
    app = made()

    @app.periodic(cron="61 * * * *")
    @app.task
    def sweep(timestamp: int) -> None: ...

    error = raised(lambda: PeriodicDeferrer(registry=app.periodic_registry).get_next_tick(at=1_700_000_000))
    return bool(error), f"the worker raises {error or 'nothing'}"


async def install() -> None:
    app = made()
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


if __name__ == "__main__":
    asyncio.run(install())
    tell()
