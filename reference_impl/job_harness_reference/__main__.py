"""`python -m job_harness_reference migrate | serve | work | maintain`: wires the parts together.

Exit codes: 0 done, 1 failed at work, 2 wrong usage, 4 the environment is not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import psycopg

from job_harness_reference.clock import new_uuid, system_jitter
from job_harness_reference.config import Config, load_config
from job_harness_reference.errors import (
    ConfigurationError,
    MaintenanceError,
    QueueError,
    StoreUnavailableError,
    WorkersDisabledError,
)
from job_harness_reference.maintenance import run_maintenance
from job_harness_reference.queue import JobQueue
from job_harness_reference.registry import Registry
from job_harness_reference.store import Store
from job_harness_reference.store.database import connect, open_database
from job_harness_reference.store.grouped import GroupingStore
from job_harness_reference.store.migrations import migrate
from job_harness_reference.store.wakeup import listen
from job_harness_reference.worker import Worker

if TYPE_CHECKING:
    from job_harness_reference.http_api.server import ApiServer

for _package in ("psycopg_pool", "uvicorn", "fastapi"):  # Looked for, not imported: only `serve` needs all of them.
    if find_spec(_package) is None:
        hint = "Install it with: pip install '.[reference]' in a clone of job-harness."
        print(f"job_harness_reference: the package {_package} is not installed. {hint}", file=sys.stderr)
        raise SystemExit(4)

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_ENVIRONMENT = 4

_CONNECT_SECONDS = 10.0
_WAIT_SECONDS = 1.0
"""How long a request waits for a connection before it is told to come again: while the database is down, none comes."""
_REQUEST_SECONDS = 10
"""How long requests in flight hold up the end of the server."""
_PARTING_SECONDS = 1.0
_SPARE_CONNECTIONS = 2
_MOST_CONNECTIONS = 20

_LACKS_SCHEMA = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)
_NAMES_TAKEN = (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateFunction, psycopg.errors.DuplicateObject)

_log = logging.getLogger("job_harness_reference")

_Command = Callable[[Config, argparse.Namespace], Coroutine[object, object, int]]


class _EnvironmentError(QueueError):
    """The database or the network is not as the command needs it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Wrong usage raises `SystemExit(2)`."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    command: _Command = options.command
    with asyncio.Runner() as runner:
        code = _run(lambda: runner.run(command(load_config(), options)))
        _leave_if_haunted(runner, code)
    return code


def _run(command: Callable[[], int]) -> int:
    try:
        return command()
    except (ConfigurationError, _EnvironmentError) as error:
        return _refuse(error, EXIT_ENVIRONMENT)
    except QueueError as error:
        return _refuse(error, EXIT_FAILED)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _refuse(error: Exception, code: int) -> int:
    print(f"job_harness_reference: {error}", file=sys.stderr, flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m job_harness_reference", description="A job queue on PostgreSQL.")
    levels = ("debug", "info", "warning", "error")
    parser.add_argument("--log-level", choices=levels, default="info", help="how much the log tells")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    migrating = commands.add_parser("migrate", help="bring the database to this version's schema")
    migrating.set_defaults(command=_migrate)

    serving = commands.add_parser("serve", help="answer HTTP requests")
    serving.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    serving.add_argument("--port", type=_port, default=8000, help="the port; 0 takes a free one (8000)")
    serving.add_argument("--with-worker", action="store_true", help="run a worker in the same process")
    serving.set_defaults(command=_serve)

    working = commands.add_parser("work", help="run jobs; needs USE_PGBOSS_WORKERS=true")
    working.set_defaults(command=_work)
    for each in (serving, working):
        each.add_argument(
            "--tools",
            metavar="MODULE",
            default="job_harness_reference.processors",
            help="a module with TOOL_SLUGS and REGISTRATIONS (job_harness_reference.processors)",
        )
        each.add_argument(
            "--poll-only",
            action="store_true",
            help="keep no session: no LISTEN, no SET, nothing prepared, as behind a proxy that pools transactions",
        )

    maintaining = commands.add_parser("maintain", help="run maintenance once and print what it changed")
    maintaining.set_defaults(command=_maintain)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: take one from 0 to 65535")
    return int(text)


async def _migrate(config: Config, _options: argparse.Namespace) -> int:
    dsn = _database_url(config)
    async with _database_errors():
        await _probe(dsn)
        applied = await migrate(dsn)
    versions = ", ".join(str(version) for version in applied)
    print(f"migrated: {versions}" if applied else "the schema is up to date", flush=True)
    return EXIT_DONE


async def _maintain(config: Config, _options: argparse.Namespace) -> int:
    async with _open_store(config) as store:
        try:
            report = await run_maintenance(store, stuck_after=config.stuck_after)
        except MaintenanceError as failed:
            lacking = next((error for error in failed.failures.values() if isinstance(error, _LACKS_SCHEMA)), None)
            if lacking is not None:
                raise lacking from failed
            raise
    print(json.dumps(asdict(report)), flush=True)
    return EXIT_DONE


async def _work(config: Config, options: argparse.Namespace) -> int:
    if config.workers_off_reason is not None:
        raise WorkersDisabledError(config.workers_off_reason)
    registry, slugs = _tools(options.tools)
    async with _open_store(config, own_sessions=not options.poll_only) as store:
        await _register_tools(store, registry)
        worker = _worker(store, registry, slugs, config=config, options=options)
        with _signals(worker.stop):
            await worker.run()
    return EXIT_DONE


async def _serve(config: Config, options: argparse.Namespace) -> int:
    from job_harness_reference.http_api.server import server_of

    registry, slugs = _tools(options.tools)
    with _listening_socket(options.host, options.port) as listener:
        async with _open_store(config, wait_seconds=_WAIT_SECONDS, own_sessions=not options.poll_only) as store:
            await _register_tools(store, registry)
            queue = JobQueue(store, config, new_id=new_uuid, tools=registry.get_registered_tools())
            maintenance = partial(run_maintenance, store, stuck_after=config.stuck_after)
            server = server_of(queue, maintenance, config=config, request_seconds=_REQUEST_SECONDS)
            worker = _worker(store, registry, slugs, config=config, options=options) if options.with_worker else None
            host, port = listener.getsockname()[:2]
            print(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
            await _serve_until_stopped(server, listener, worker=worker, config=config)
    return EXIT_DONE


async def _serve_until_stopped(
    server: ApiServer, listener: socket.socket, *, worker: Worker | None, config: Config
) -> None:
    """Serve, and work beside it where workers are enabled. The end of one ends the other."""
    if config.workers_off_reason is not None:
        _log.warning("%s", config.workers_off_reason)
        worker = None

    def stop() -> None:
        server.should_exit = True
        if worker is not None:
            worker.stop()

    async def serve() -> None:
        try:
            await server.serve(sockets=[listener])
        finally:
            stop()

    async def work(worker: Worker) -> None:
        try:
            await worker.run()
        finally:
            stop()

    with _signals(stop):
        serving = asyncio.create_task(serve(), name="http")
        tasks = [serving] if worker is None else [serving, asyncio.create_task(work(worker), name="worker")]
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _tools(module_name: str) -> tuple[Registry, tuple[str, ...]]:
    """Import the module that lists the tools, register them, and check that every slug has a processor."""
    try:
        module = importlib.import_module(module_name)
        registrations, slugs = tuple(module.REGISTRATIONS), tuple(module.TOOL_SLUGS)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"--tools {module_name} cannot be used ({error}). "
            "Name an importable module with TOOL_SLUGS and REGISTRATIONS, such as job_harness_reference.processors."
        ) from error
    registry = Registry()
    registry.register_all_processors(registrations)
    registry.require_tools(slugs)
    return registry, slugs


def _worker(
    store: Store, registry: Registry, slugs: Sequence[str], *, config: Config, options: argparse.Namespace
) -> Worker:
    return Worker(
        store,
        registry,
        config=config,
        name=f"{socket.gethostname()}-{os.getpid()}",
        jitter=system_jitter,
        tools=slugs,
        wakeups=None if options.poll_only else listen(_database_url(config)),
    )


async def _register_tools(store: Store, registry: Registry) -> None:
    for slug in registry.get_registered_tools():
        await store.register_tool(slug)


def _database_url(config: Config) -> str:
    if not config.database_url:
        raise ConfigurationError(
            "DATABASE_URL is not set: the queue has no database. Set DATABASE_URL=postgresql://user@host:5432/name."
        )
    return config.database_url


@asynccontextmanager
async def _open_store(
    config: Config, *, wait_seconds: float | None = None, own_sessions: bool = True
) -> AsyncIterator[Store]:
    dsn = _database_url(config)
    connections = min(config.pgboss_batch_size + _SPARE_CONNECTIONS, _MOST_CONNECTIONS)
    async with _database_errors():
        await _probe(dsn, own_session=own_sessions)
        async with open_database(
            dsn,
            max_size=connections,
            timeout_seconds=_CONNECT_SECONDS,
            wait_seconds=wait_seconds,
            own_sessions=own_sessions,
        ) as database:
            yield GroupingStore(database)


async def _probe(dsn: str, *, own_session: bool = True) -> None:
    """Connect once: the first failure tells more than a pool's timeout."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            connection = await connect(dsn, own_session=own_session)
    except psycopg.ProgrammingError as error:
        raise _EnvironmentError(
            f"DATABASE_URL cannot be used ({_first_line(error)}). Set DATABASE_URL=postgresql://user@host:5432/name."
        ) from error
    await connection.close()


@asynccontextmanager
async def _database_errors() -> AsyncIterator[None]:
    """Turn the driver's errors into what to do about them."""
    try:
        yield
    except _LACKS_SCHEMA as error:
        raise _EnvironmentError(
            f"The database lacks this version's schema ({_first_line(error)}). "
            "Run python -m job_harness_reference migrate first."
        ) from error
    except _NAMES_TAKEN as error:
        raise _EnvironmentError(
            f"The database holds something else under a name that the schema needs ({_first_line(error)}). "
            "Use a database of its own: CREATE DATABASE jobs."
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise _EnvironmentError(
            f"The database does not allow that to the user of DATABASE_URL ({_first_line(error)}). "
            "Connect as the owner of the database, or have it grant the right: migrate makes tables and a schema."
        ) from error
    except (psycopg.OperationalError, StoreUnavailableError, TimeoutError) as error:
        raise _EnvironmentError(
            f"The database does not answer ({_first_line(error.__cause__ or error)}). "
            "Check that the server runs and that DATABASE_URL names it."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else f"no answer within {_CONNECT_SECONDS:g} s"


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise _EnvironmentError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}). Choose another --host or --port."
        ) from error


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Stop gently at the first SIGTERM or SIGINT, at once at the second."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    seen: list[int] = []

    def receive(number: int) -> None:
        seen.append(number)
        if len(seen) == 1 or task is None:
            _log.info("received %s: stopping", signal.Signals(number).name)
            stop()
        else:
            _log.warning("received %s again: stopping at once", signal.Signals(number).name)
            task.cancel()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, receive, number)
    try:
        yield
    except asyncio.CancelledError:
        if len(seen) < 2:
            raise
        raise _InterruptedError(f"stopped at once by a second {signal.Signals(seen[-1]).name}") from None
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class _InterruptedError(QueueError):
    """A second signal asked for haste; running jobs were released."""


def _leave_if_haunted(runner: asyncio.Runner, code: int) -> None:
    """End the process where a processor ignores its cancellation: it would keep the loop from closing."""
    left = asyncio.all_tasks(runner.get_loop())
    if not left:
        return
    for task in left:
        task.cancel()
    _, stubborn = runner.run(asyncio.wait(left, timeout=_PARTING_SECONDS))
    if stubborn:
        names = ", ".join(sorted(task.get_name() for task in stubborn))
        _log.error("cut off, since they ignored their cancellation: %s", names)
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
