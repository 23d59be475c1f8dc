"""What the rules about PgQueuer claim, asked of one release on a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
from claims import RELEASE, claim, raised, tell
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

URL = os.environ["DATABASE_URL"]
ONE = RELEASE >= (1, 0)
Act = Callable[[asyncpg.Connection, Queries, PgQueuer], Awaitable[Any]]


def on_database(act: Act) -> Any:
    """Do something with a connection, its queries and a PgQueuer, on an empty queue."""

    async def play() -> Any:
        connection = await asyncpg.connect(URL)
        try:
            await connection.execute("TRUNCATE pgqueuer")
            driver = AsyncpgDriver(connection)
            return await act(connection, Queries(driver), PgQueuer(driver))
        finally:
            await connection.close()

    return asyncio.run(play())


async def worked(pgq: PgQueuer, *, seconds: float = 3, **run: Any) -> str:
    """Let it work for a while; returns what it raised."""
    task = asyncio.create_task(pgq.qm.run(dequeue_timeout=timedelta(seconds=0.1), **run))
    await asyncio.wait({task}, timeout=seconds)
    pgq.qm.shutdown.set()
    done, _ = await asyncio.wait({task}, timeout=5)
    if not done:
        task.cancel()
        return "no end"
    return type(task.exception()).__name__ if task.exception() is not None else ""


async def left(connection: asyncpg.Connection) -> list[str]:
    return [row["status"] for row in await connection.fetch("SELECT status::text FROM pgqueuer ORDER BY id")]


def registering(**options: Any) -> str:
    async def act(_: Any, __: Any, pgq: PgQueuer) -> str:
        async def mail(job: Any) -> None: ...

        return raised(lambda: pgq.entrypoint("mail", **options)(mail))

    return on_database(act)


@claim
def pgqueuer_never_retried() -> tuple[bool, str]:
    runs = []

    async def act(connection: asyncpg.Connection, queries: Queries, pgq: PgQueuer) -> list[str]:
        @pgq.entrypoint("mail")
        async def mail(job: Any) -> None:
            runs.append(1)
            raise ValueError("no")

        await queries.enqueue("mail", b"")
        await worked(pgq)
        return await left(connection)

    rows = on_database(act)
    return len(runs) == 1 and not rows, f"{len(runs)} run, {len(rows)} rows left"


@claim
def pgqueuer_option_refused() -> tuple[bool, str]:
    gone = [registering(**{name: value}) for name, value in OLD.items()]
    typo = registering(concurrency=1)
    wanted = ["TypeError"] * 3 if ONE else [""] * 3
    said = ", ".join(f"{name}: {error or 'taken'}" for name, error in zip(OLD, gone, strict=True))
    return gone == wanted and typo == "TypeError", f"{said}; a typo: {typo}"


OLD = {"retry_timer": timedelta(seconds=9), "requests_per_second": 5.0, "serialized_dispatch": True}


@claim
def pgqueuer_entrypoint_not_async() -> tuple[bool, str]:
    async def act(_: Any, __: Any, pgq: PgQueuer) -> str:
        def mail(job: Any) -> None: ...

        return raised(lambda: pgq.entrypoint("mail")(mail))

    error = on_database(act)
    return error == ("TypeError" if ONE else ""), f"a plain function: {error or 'taken'}"


@claim
def pgqueuer_factory_refused() -> tuple[bool, str]:
    async def main() -> Any:
        return object()

    @contextlib.asynccontextmanager
    async def managed() -> Any:
        yield object()

    if ONE:
        from pgqueuer.adapters.cli.factories import validate_factory_result

        plain, right = (
            raised(lambda: validate_factory_result(main())),
            raised(lambda: validate_factory_result(managed())),
        )
    else:
        from pgqueuer.factories import run_factory

        async def entered(factory: Any) -> None:
            async with run_factory(factory):
                pass

        plain, right = (raised(lambda made=made: asyncio.run(entered(made()))) for made in (main, managed))
    return plain == (
        "TypeError" if ONE else ""
    ) and not right, f"a coroutine: {plain or 'taken'}; managed: {right or 'taken'}"


@claim
def pgqueuer_registered_twice() -> tuple[bool, str]:
    async def act(_: Any, __: Any, pgq: PgQueuer) -> tuple[str, str]:
        async def mail(job: Any) -> None: ...

        pgq.entrypoint("mail")(mail)
        pgq.schedule("sweep", "* * * * *")(mail)
        first = raised(lambda: pgq.entrypoint("mail")(mail))
        return first, raised(lambda: pgq.schedule("sweep", "* * * * *")(mail))

    errors = on_database(act)
    return errors == ("RuntimeError", "RuntimeError"), f"entrypoint: {errors[0]}, schedule: {errors[1]}"


@claim
def pgqueuer_entrypoint_unknown() -> tuple[bool, str]:
    async def act(connection: asyncpg.Connection, queries: Queries, pgq: PgQueuer) -> list[str]:
        @pgq.entrypoint("mail")
        async def mail(job: Any) -> None: ...

        await queries.enqueue(["mail", "mial"], [b"", b""], [0, 0])
        await worked(pgq)
        return await left(connection)

    rows = on_database(act)
    return rows == ["queued"], f"jobs under a name without an entrypoint: {', '.join(rows)}"


@claim
def pgqueuer_payload_refused() -> tuple[bool, str]:
    async def act(connection: asyncpg.Connection, queries: Queries, _: PgQueuer) -> list[str]:
        errors = []
        for payload in ("text", {"a": 1}, b"bytes"):
            try:
                await queries.enqueue("mail", payload)
                errors.append("")
            except Exception as error:  # noqa: BLE001 - what it raises is asked
                errors.append(type(error).__name__)
        return errors

    text, mapping, right = on_database(act)
    return bool(text) and bool(mapping) and not right, f"str: {text}, dict: {mapping}, bytes: {right or 'taken'}"


@claim
def pgqueuer_batch_refused() -> tuple[bool, str]:
    async def act(_: Any, __: Any, pgq: PgQueuer) -> str:
        return await worked(pgq, seconds=1, batch_size=10, max_concurrent_tasks=19)

    async def right(_: Any, __: Any, pgq: PgQueuer) -> str:
        return await worked(pgq, seconds=1, batch_size=10, max_concurrent_tasks=20)

    error, fine = on_database(act), on_database(right)
    return error == "RuntimeError" and not fine, f"19 at a batch of 10: {error or 'taken'}; 20: {fine or 'taken'}"


@claim
def pgqueuer_killed_stays_picked() -> tuple[bool, str]:
    async def act(connection: asyncpg.Connection, queries: Queries, pgq: PgQueuer) -> list[str]:
        @pgq.entrypoint("mail")
        async def mail(job: Any) -> None: ...

        await queries.enqueue("mail", b"")
        await connection.execute(
            "UPDATE pgqueuer SET status = 'picked', heartbeat = now() - interval '1 day', updated = now() - interval "
            "'1 day', "
            "queue_manager_id = gen_random_uuid()"
        )
        await worked(pgq)
        return await left(connection)

    rows = on_database(act)
    return rows == ([] if ONE else ["picked"]), f"after a day: {', '.join(rows) or 'taken up again'}"


@claim
def pgqueuer_duplicate_raises() -> tuple[bool, str]:
    async def act(_: Any, queries: Queries, __: PgQueuer) -> str:
        await queries.enqueue("mail", b"", dedupe_key="k")
        try:
            await queries.enqueue("mail", b"", dedupe_key="k")
        except Exception as error:  # noqa: BLE001 - what it raises is asked
            return type(error).__name__
        return ""

    error = on_database(act)
    return error == "DuplicateJobError", f"the second raises {error or 'nothing'}"


@claim
def code_cron_invalid() -> tuple[bool, str]:
    async def act(_: Any, __: Any, pgq: PgQueuer) -> str:
        async def sweep(schedule: Any) -> None: ...

        return raised(lambda: pgq.schedule("sweep", "* * * *")(sweep))

    error = on_database(act)
    return bool(error), f"four fields: {error or 'taken'}"


async def install() -> None:
    connection = await asyncpg.connect(URL)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


if __name__ == "__main__":
    asyncio.run(install())
    tell()
