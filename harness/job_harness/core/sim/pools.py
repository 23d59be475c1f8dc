"""What pools and drivers of other people hold for a process that died, and how that becomes free.

A real crash takes a pool with its process, and the next process makes a new one. Here the pool
outlives its worker, as whatever a module holds does. So what the dead had of it goes back, without
a connection: the next one who asks is given a new one. No code of the user's runs for that, only
the library's own.

The same happens at the end of a loop, which is the end of a test: what was opened on it is closed,
and a pool that a module keeps goes on with the loop of the next test.

Leans on names of aiohttp 3, asyncpg 0.29 to 0.32, httpcore 1, psycopg 3.2 and 3.3 with psycopg_pool
3.3, redis 5 to 8 and SQLAlchemy 2. Imports none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol

from job_harness.core.sim.lifetime import LIFETIME, Lifetime

if TYPE_CHECKING:
    from job_harness.core.sim.loop import VirtualLoop


class Reached(Protocol):
    """What the frames of the dead reach."""

    loop: VirtualLoop
    dead: set[int]
    """The ids of the tasks and threads that died."""
    frames: list[FrameType]
    things: list[tuple[Any, str, bool]]
    """What is known to be held, with a name, and whether only the dead reach it."""
    seen: dict[int, Any]
    """Everything that was looked at, by its id."""


Free = Callable[[Any, bool, Reached], str | None]
"""Takes the thing, whether only the dead reach it, and what else they reach. Returns what of it cannot be freed."""


def kinds_of(value: Any) -> list[str]:
    """Name the classes of a value as tables here do: `package.Class`, the nearest first."""
    return [f"{str(base.__module__).partition('.')[0]}.{base.__name__}" for base in type(value).__mro__[:-1]]


# with a pool ----------------------------------------------------------------------------------------------------------


def _free_httpcore(pool: Any, own: bool, found: Reached) -> str | None:
    """Leave the idle connections, which find out themselves that they were closed."""
    pool._requests.clear()
    pool._connections[:] = [each for each in pool._connections if each.is_idle()]
    return None


def _free_aiohttp(connector: Any, own: bool, found: Reached) -> str | None:
    """Give back the places of connections that are closed, and of those that were being opened."""
    for protocol in list(connector._acquired):
        if id(protocol) in found.seen or not (protocol.transport is not None and protocol.is_connected()):
            hosts = (key for key, protocols in connector._acquired_per_host.items() if protocol in protocols)
            protocol.close()
            connector._release_acquired(next(hosts, None), protocol)
    return None


def _free_redis(pool: Any, own: bool, found: Reached) -> str | None:
    """Give back the connections; a pool that blocks without asyncio has a line, with None for each that is not open."""
    line = getattr(pool, "pool", None)
    lent = pool._in_use_connections if line is None else set(pool._connections).difference(line.queue)
    for connection in [each for each in lent if id(each) in found.seen]:
        lent.remove(connection)
        if line is not None:
            pool._connections.remove(connection)
            line.put_nowait(None)
    return None


def _free_connection(connection: Any, own: bool, found: Reached) -> str | None:
    """Close it as the death of its process would: PostgreSQL rolls back what was begun."""
    if connection.pgconn.status != 0 or getattr(connection, "_pool", None) is not None:
        return None
    if not own and connection.pgconn.transaction_status == 0:
        return None  # It idles, and its owner may still want it.
    connection.pgconn.finish()
    return "used this connection" if not own else None


def _free_psycopg_pool(pool: Any, own: bool, found: Reached) -> str | None:
    if pool._closed:
        return None
    out = [each for each, _, _ in found.things if getattr(each, "_pool", None) is pool]
    threads = "Async" not in type(pool).__name__
    if any(id(worker) in found.dead for worker in (*pool._workers, pool._sched_runner)):
        for connection in out:
            connection._pool = None
            connection.pgconn.finish()
        _close_pool(pool)
        if own:
            return "had opened this pool"
        pool._open()  # It is a new process's: its tasks belong to no lifetime, as if it had been opened there.
        return None
    for client in [each for each in pool._waiting if id(each) in found.seen]:
        pool._waiting.remove(client)
    for connection in out:
        connection.pgconn.finish()
        if threads:  # A thread of the pool's would replace it some time later, for which no virtual time waits.
            connection._pool = None
            pool._add_to_pool(pool._connect())
        else:
            found.loop.create_task(pool.putconn(connection))
    return None


def _close_pool(pool: Any) -> None:
    """Let a pool of psycopg's have no connection, no worker and no task that waits."""
    for connection in pool._pool:
        connection._pool = None
        connection.pgconn.finish()
    for line in (pool._pool, pool._waiting, pool._workers):
        line.clear()
    pool._nconns, pool._growing, pool._sched_runner = pool._min_size, False, None
    pool._closed, pool._opened = True, False


def _free_sqlalchemy(pool: Any, own: bool, found: Reached) -> str | None:
    """Count no connection that was being opened; what was checked out is known exactly."""
    for frame in found.frames:
        if frame.f_code.co_name == "_create_connection" and frame.f_locals["self"] is pool:
            pool._dec_overflow()
    return None


POOLS: Final[Mapping[str, Free]] = {
    "aiohttp.BaseConnector": _free_aiohttp,
    "httpcore.AsyncConnectionPool": _free_httpcore,
    "httpcore.ConnectionPool": _free_httpcore,
    "psycopg.AsyncConnection": _free_connection,
    "psycopg.Connection": _free_connection,
    "psycopg_pool.AsyncConnectionPool": _free_psycopg_pool,
    "psycopg_pool.ConnectionPool": _free_psycopg_pool,
    "redis.ConnectionPool": _free_redis,
    "sqlalchemy.QueuePool": _free_sqlalchemy,
}
"""What the frames of the dead may reach."""


# known exactly --------------------------------------------------------------------------------------------------------

_OPENED: Final[weakref.WeakValueDictionary[int, Any]] = weakref.WeakValueDictionary()
"""The connections of libraries that do not find out themselves that theirs is gone, in the order of their first use."""
_NUMBERS: Final = itertools.count()
_OPENER, _USER = "_opener_of_job_harness", "_user_of_job_harness"


def close_lent(thing: Any) -> None:
    """Close what a pool had lent to the dead, where it is known how; it may go back to its pool by that."""
    if "asyncpg.PoolConnectionHolder" in kinds_of(thing) and thing._con is not None:
        thing._con.terminate()


def close_opened(life: Lifetime) -> Iterator[tuple[Any, str]]:
    """Close what this lifetime has opened, and what it has in use; name what is lost with it."""
    for each in list(_OPENED.values()):
        owners = [owner for name in (_OPENER, _USER) if (owner := each.__dict__.get(name)) is not None]
        if any(owner.within(life) for owner in owners):
            close = next(close for kind, close in _CLOSES.items() if kind in kinds_of(each))
            if (told := close(each)) is not None:
                yield each, told


def _close_record(record: Any) -> None:
    """Let SQLAlchemy open a connection anew, and give it back where it is checked out."""
    if hasattr(record.driver_connection, "pgconn"):  # psycopg: under asyncio SQLAlchemy closes it in a greenlet only.
        record.driver_connection.pgconn.finish()
        record.dbapi_connection = None
    else:
        record.invalidate()
    if record.in_use:
        record.checkin()


def _forget_streams(connection: Any) -> None:
    connection._reader = connection._writer = None


_CLOSES: Final[Mapping[str, Callable[[Any], str | None]]] = {
    "psycopg_pool.AsyncConnectionPool": lambda _: None,
    "psycopg_pool.ConnectionPool": lambda _: "had opened this pool, whose threads died with it",
    "redis.AbstractConnection": _forget_streams,
    "sqlalchemy._ConnectionRecord": _close_record,
}
"""What each returns is why something is lost."""

# at the end of a loop -------------------------------------------------------------------------------------------------

ENDED: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
"""The loops on which nothing happens any more: what still belongs to one of them is given the loop that runs."""
_ASYNCPG: Final[dict[int, Any]] = {}
"""Its pools on loops that have not ended, by id: they cannot be referred to weakly."""
_REOPENS: Final = "_reopens_says_job_harness"


def end_pools(loop: VirtualLoop, *, last: bool) -> None:
    """Let pools keep no connection of a loop that ends; with `last`, nor anything else that processors opened."""
    for number, pool in list(_ASYNCPG.items()):
        if pool._loop is loop:
            del _ASYNCPG[number]
            _end_asyncpg(pool)
    for each in list(_OPENED.values()) if last else ():
        end = next((_ENDS[kind] for kind in kinds_of(each) if kind in _ENDS), None)
        if end is not None:
            with contextlib.suppress(Exception):  # Other people's code: what uses it next is told.
                end(each)
    if last:
        _OPENED.clear()


def _end_asyncpg(pool: Any) -> None:
    """Have every place free and without a connection; to keep its least number open, the pool would need the loop."""
    least, pool._minsize = pool._minsize, 0
    for place in pool._holders:
        with contextlib.suppress(Exception):
            place.terminate()
        place._con = place._in_use = place._proxy = place._inactive_callback = None
    if pool._queue is not None:
        pool._queue._queue[:] = pool._holders
    pool._minsize = least


def _end_psycopg_pool(pool: Any) -> None:
    if not pool._closed:
        _close_pool(pool)
        del pool._lock
        pool.__dict__[_REOPENS] = True


_ENDS: Final[Mapping[str, Callable[[Any], object]]] = {
    "psycopg_pool.AsyncConnectionPool": _end_psycopg_pool,
    "redis.AbstractConnection": _forget_streams,
    "sqlalchemy._ConnectionRecord": _close_record,
}

# what libraries tell --------------------------------------------------------------------------------------------------


def hear_libraries(loaded: int = 0) -> int:
    """Let those that are loaded tell what they open, each once; return how many modules are, to be asked with again."""
    if loaded != len(sys.modules):
        for name in list(_HEARS):
            if name in sys.modules:
                _HEARS.pop(name)(sys.modules[name])
    return len(sys.modules)


def _opened(thing: Any) -> None:
    if (life := LIFETIME.get()) is not None and not life.over:
        thing.__dict__[_OPENER] = life
        _OPENED[next(_NUMBERS)] = thing


def _hear_sqlalchemy(pool: Any) -> None:
    def is_lasting(record: Any) -> bool:  # It may be a database in memory, which is no part of the process.
        return isinstance(record._ConnectionRecord__pool, (pool.StaticPool, pool.SingletonThreadPool))

    def connected(connection: Any, record: Any) -> None:
        if not is_lasting(record):
            _opened(record)

    def checked_out(connection: Any, record: Any, fairy: Any) -> None:
        if (life := LIFETIME.get()) is not None and not is_lasting(record):
            record.__dict__[_USER] = life
            _OPENED[next(_NUMBERS)] = record

    def checked_in(connection: Any, record: Any) -> None:
        record.__dict__.pop(_USER, None)

    for name, hear in (("connect", connected), ("checkout", checked_out), ("checkin", checked_in)):
        sys.modules["sqlalchemy.event"].listen(pool.Pool, name, hear)


def _hear_redis(module: Any) -> None:
    _hear_calls(module.AbstractConnection, "__init__")


def _hear_psycopg_pool(module: Any) -> None:
    for kind in (module.ConnectionPool, module.AsyncConnectionPool):
        _hear_calls(kind, "_start_workers")
    _hear_calls(module.AsyncConnectionPool, "_check_open_getconn", _reopen)


def _reopen(pool: Any) -> None:
    if pool.__dict__.pop(_REOPENS, False) and pool._closed:
        pool._open()


def _hear_asyncpg(module: Any) -> None:
    for name in ("_initialize", "_acquire", "close"):
        _hear_calls(module.Pool, name, _give_pool_loop)


def _give_pool_loop(pool: Any) -> None:
    _give_loop(pool)
    _ASYNCPG[id(pool)] = pool


def _hear_aiohttp(module: Any) -> None:
    _hear_calls(module.ClientSession, "_request", _give_session_loop)


def _give_session_loop(session: Any) -> None:
    if session._loop in ENDED and session._connector is not None:
        connector = session._connector
        for each in (session, connector, vars(connector).get("_resolver", session)):
            _give_loop(each)
        connector._cleanup_handle = None
        connector._factory = functools.partial(connector._factory.func, loop=session._loop)


def _give_loop(thing: Any) -> None:
    """Let what belongs to a loop that has ended belong to the one that runs."""
    if thing._loop in ENDED:
        thing._loop = asyncio.get_running_loop()


def _hear_calls(kind: Any, name: str, hear: Callable[[Any], object] = _opened) -> None:
    real = getattr(kind, name)

    @functools.wraps(real)
    def call(thing: Any, *arguments: Any, **options: Any) -> Any:
        hear(thing)
        return real(thing, *arguments, **options)

    setattr(kind, name, call)


_HEARS: Final[dict[str, Callable[[Any], None]]] = {
    "sqlalchemy.pool": _hear_sqlalchemy,
    "redis.asyncio.connection": _hear_redis,
    "psycopg_pool": _hear_psycopg_pool,
    "asyncpg.pool": _hear_asyncpg,
    "aiohttp.client": _hear_aiohttp,
}
"""What lets a library tell, once it is loaded; gone when it does."""
