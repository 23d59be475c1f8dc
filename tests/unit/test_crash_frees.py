"""A crash frees what dies with a process: nothing that a dead worker held keeps its successors waiting."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import sys
import sysconfig
import threading
import time
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from job_harness.core.history.event import SideEffect
from job_harness.core.sim import possessions
from job_harness.core.sim.lifetime import Lifetime
from job_harness.core.sim.loop import VirtualLoop
from job_harness.subjects.processors import JobHarness, JobResult, effect
from job_harness.subjects.processors.contract import CheckOutcome, ContractRun

DONE = JobResult(success=True)
SHARED: dict[str, Any] = {}
"""What a module of the user's would hold."""


def crash_and_retry(processor: Any, *, jobs: int = 1, at: str = "held") -> list[str]:
    """Kill the worker once, let everything go on, and return the notes; each job needed its second attempt."""
    with JobHarness(blocked_after=2.0) as harness:
        harness.register("tool", processor)
        handles = [harness.enqueue("tool") for _ in range(jobs)]
        harness.crash_worker(at=at)
        harness.run_until_idle()
        assert [(job.status, job.attempts) for job in handles] == [("COMPLETED", 2)] * jobs, handles[0].error
        assert harness.problems() == []
        return harness.notes()


@pytest.mark.parametrize(
    "make", [asyncio.Lock, asyncio.Condition, lambda: asyncio.BoundedSemaphore(1), lambda: asyncio.Semaphore(2)]
)
def test_an_asyncio_lock_is_free_again_and_so_is_the_line_before_it(make: Callable[[], Any]) -> None:
    lock = make()

    async def processor(job: Any) -> JobResult:
        await lock.acquire()
        effect("held")
        try:
            await asyncio.sleep(5)
        finally:
            lock.release()
        return DONE

    crash_and_retry(processor, jobs=3)
    assert not lock.locked()
    assert getattr(lock, "_value", 1) == getattr(lock, "_bound_value", getattr(lock, "_value", 1))
    assert "_locked" not in vars(asyncio.Lock), "nothing is watched once the loop is closed"


def test_a_connection_that_was_closed_before_the_crash_keeps_no_lock_from_being_freed() -> None:
    lock, kept = asyncio.Lock(), list[asyncio.StreamWriter]()

    async def processor(job: Any) -> JobResult:
        async with lock:
            if not kept:
                server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
                _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                kept.append(writer)
                writer.close()
                await writer.wait_closed()
                server.close()
            effect("held")
            await asyncio.sleep(5)
        return DONE

    crash_and_retry(processor)


def test_an_item_that_was_taken_too_long_ago_to_be_known_keeps_nothing_else_from_being_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(possessions, "MOST_TAKEN", 2)
    loop, early, later = VirtualLoop(), Lifetime("early"), Lifetime("later")
    items, lock = asyncio.Queue[int](), asyncio.Lock()
    for number in range(4):
        items.put_nowait(number)

    async def take(count: int) -> None:
        for _ in range(count):
            items.get_nowait()
        await lock.acquire()
        await asyncio.sleep(100)

    async def main() -> bool:
        tasks = [loop.create_task(take(1), context=early.context())]
        await asyncio.sleep(1)
        tasks.append(loop.create_task(take(3), context=later.context()))
        await asyncio.sleep(1)
        assert early.owned == [lock]
        assert items in later.owned
        loop.lives.sever(early)
        await asyncio.sleep(1)
        return tasks[1].done() or lock in later.owned

    try:
        assert loop.run(main())
    finally:
        loop.lives.end_tasks()
        loop.close()


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock, lambda: threading.BoundedSemaphore(1)])
def test_a_lock_of_threading_is_free_again(make: Callable[[], Any]) -> None:
    lock = make()

    async def coroutine(job: Any) -> JobResult:
        with lock:
            await asyncio.sleep(5)
        return DONE

    def plain(job: Any) -> JobResult:
        lock.acquire()
        try:
            time.sleep(5)  # noqa: TID251 - a plain processor's own, which is virtual
        finally:
            lock.release()
        return DONE

    crash_and_retry(coroutine, at="while running")
    crash_and_retry(plain, at="while running")
    assert lock.acquire(blocking=False)


def test_what_was_acquired_after_the_crash_and_before_the_next_await_is_freed_too() -> None:
    first, second = asyncio.Lock(), asyncio.Lock()

    async def processor(job: Any) -> JobResult:
        async with first:
            effect("held")
        async with second:
            await asyncio.sleep(1)
        return DONE

    crash_and_retry(processor)
    assert not first.locked()
    assert not second.locked()


async def acquire(thing: Any) -> None:
    async with thing:
        await asyncio.sleep(1)


async def wait_for_notice(thing: asyncio.Condition) -> None:
    async with thing:
        await thing.wait()


async def notify(thing: asyncio.Condition) -> None:
    async with thing:
        thing.notify()


async def put(thing: asyncio.Queue[int]) -> None:
    thing.put_nowait(1)


async def get(thing: asyncio.Queue[int]) -> None:
    await thing.get()


async def set_it(thing: asyncio.Event) -> None:
    thing.set()


async def wait_for_it(thing: asyncio.Event) -> None:
    await thing.wait()


LINES: list[tuple[Callable[[], Any], Any, Any]] = [
    (asyncio.Lock, acquire, acquire),
    (lambda: asyncio.Semaphore(1), acquire, acquire),
    (asyncio.Condition, notify, wait_for_notice),
    (asyncio.Event, set_it, wait_for_it),
    (asyncio.Queue, put, get),
]


@pytest.mark.parametrize("early", [True, False], ids=["died before its turn", "died at its turn"])
@pytest.mark.parametrize(("make", "give", "wait"), LINES, ids=["Lock", "Semaphore", "Condition", "Event", "Queue"])
def test_the_turn_of_a_dead_waiter_goes_to_the_next(early: bool, make: Any, give: Any, wait: Any) -> None:
    loop, thing = VirtualLoop(), make()
    loop.watch_lifetimes()
    dead, giver = Lifetime("dead"), give(thing)
    holds_first = give is acquire
    if holds_first:
        loop.create_task(giver)
    loop.advance(0)
    dead.context().run(loop.create_task, wait(thing))
    living = loop.create_task(wait(thing))
    loop.advance(0)
    if early:
        loop.lives.sever(dead)
    else:
        dead.count(lambda _: loop.lives.sever(dead))  # It is woken and will never go on.
    if not holds_first:
        loop.create_task(giver)
    loop.advance(5)
    assert living.done()
    assert not any(getattr(thing, line, None) for line in ("_waiters", "_getters")), "nobody is left in the line"
    loop.lives.end_tasks()
    loop.close()


@contextlib.contextmanager
def http_server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(b"x" * 400_000)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_only_connection_of_an_http_client_is_free_again() -> None:
    async def processor(job: Any) -> JobResult:
        client = SHARED["client"]
        async with client.stream("GET", SHARED["url"]) as response:
            effect("held")
            await response.aread()
        await client.aclose()
        return DONE

    with http_server() as SHARED["url"]:
        SHARED["client"] = httpx.AsyncClient(limits=httpx.Limits(max_connections=1))
        crash_and_retry(processor)


def test_a_lock_that_only_its_thread_can_release_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.RLock()

    def processor(job: Any) -> JobResult:
        with lock:
            time.sleep(1)  # noqa: TID251 - a plain processor's own, which is virtual
        return DONE

    monkeypatch.setitem(possessions._HOLDERS, type(lock), lambda *_: "held a threading.RLock")  # As on later CPythons.
    with JobHarness(blocked_after=0.05) as harness:
        harness.register("tool", processor)
        harness.enqueue("tool")
        harness.advance("500ms")
        harness.crash_worker()
        harness.advance("1m")
        assert harness.notes() == ["inconclusive: worker-1 died and held a threading.RLock"]


def test_what_cannot_be_freed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_insides(*arguments: Any) -> None:
        raise AttributeError("_requests")

    async def processor(job: Any) -> JobResult:
        async with SHARED["client"].stream("GET", SHARED["url"]):
            effect("held")
            await asyncio.sleep(1)
        return DONE

    monkeypatch.setitem(possessions._HOLDERS, "httpcore.AsyncConnectionPool", other_insides)
    with http_server() as SHARED["url"], JobHarness() as harness:
        SHARED["client"] = httpx.AsyncClient(limits=httpx.Limits(max_connections=1))
        harness.register("tool", processor)
        job = harness.enqueue("tool")
        harness.crash_worker(at="held")
        harness.run_until_idle()
        assert job.error == "PoolTimeout"
        assert "worker-1 died and could not be relieved of " in harness.notes()[0]
        assert "_pool (AttributeError: _requests)" in harness.notes()[0]


def test_an_item_that_died_with_its_worker_makes_the_run_inconclusive() -> None:
    connections: asyncio.Queue[str] = asyncio.Queue()
    connections.put_nowait("the only one")

    async def processor(job: Any) -> JobResult:
        connection = await connections.get()
        await asyncio.sleep(1)
        connections.put_nowait(connection)
        return DONE

    with JobHarness() as harness:
        harness.register("tool", processor)
        job = harness.enqueue("tool")
        harness.crash_worker(at="while running")
        harness.run_until_idle()
        assert job.status == "FAILED"
        (note,) = harness.notes()
    assert note.startswith("inconclusive: an attempt of job-1 failed: it waited at ")
    assert "for 'connections' (asyncio.Queue), and worker-1 died with an item of it, taken at " in note
    assert note.count("test_crash_frees.py:") == 2

    connections.put_nowait("the only one")
    finding = ContractRun(processor, examples=[{}]).judge("survives_crash")
    assert finding.outcome is CheckOutcome.INCONCLUSIVE
    assert "'connections' (asyncio.Queue), and delivery 1 died with an item of it" in finding.text


LIBRARY = """
import asyncio

class Pool:
    def __init__(self):
        self.free, self.turns, self.lock = asyncio.Queue(), [], asyncio.Lock()

    async def borrow(self):
        return await self.free.get()

    async def wait_for_turn(self):
        self.turns.append(turn := asyncio.get_running_loop().create_future())
        await turn

    def next_turn(self):
        while self.turns and (turn := self.turns.pop(0)):
            if not turn.done():
                return turn.set_result(None)

    async def connect_first(self):
        async with self.lock:
            await asyncio.sleep(1)

class Connection(asyncio.Protocol):
    lost = False

    def connection_lost(self, error):
        self.lost = True
"""


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that is an installed package's, as far as its code says where it is from."""
    packages = Path(sysconfig.get_path("purelib"))
    module: Any = types.ModuleType("lent_out")
    module.__file__ = str(packages / "lent_out.py")
    monkeypatch.setitem(sys.modules, "lent_out", module)
    exec(compile(LIBRARY, module.__file__, "exec"), vars(module))
    return module


def test_what_a_pool_of_a_library_has_lent_goes_back(library: Any) -> None:
    pool = library.Pool()
    pool.free.put_nowait("the only one")

    async def processor(job: Any) -> JobResult:
        connection = await pool.borrow()
        effect("held")
        await asyncio.sleep(1)
        pool.free.put_nowait(connection)
        return DONE

    assert crash_and_retry(processor) == []


def test_a_turn_that_a_library_would_give_to_the_dead_is_the_next_ones(library: Any) -> None:
    pool = library.Pool()

    async def processor(job: Any) -> JobResult:
        loop = asyncio.get_running_loop()
        if pool.turns:
            loop.call_later(1, pool.next_turn)
        loop.call_later(0.5, effect, "held")
        await pool.wait_for_turn()
        return DONE

    crash_and_retry(processor)


def test_a_library_hears_that_a_connection_of_the_dead_is_gone(library: Any) -> None:
    opened: list[Any] = []
    pairs = [socket.socketpair() for _ in range(2)]

    async def processor(job: Any) -> JobResult:
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(library.Connection, sock=pairs[job.attempts - 1][0])
        opened.append(connection)
        effect("held")
        await asyncio.sleep(1)
        assert (opened[0].lost, connection.lost) == (True, False)
        transport.close()
        return DONE

    crash_and_retry(processor)
    for one, other in pairs:
        one.close()
        other.close()


def test_a_task_that_died_with_its_worker_makes_the_run_inconclusive() -> None:
    async def processor(job: Any) -> JobResult:
        flight = SHARED.setdefault("flight", asyncio.ensure_future(asyncio.sleep(5)))
        effect("held")
        await flight
        return DONE

    SHARED.pop("flight", None)
    with JobHarness() as harness:
        harness.register("tool", processor)
        job = harness.enqueue("tool")
        harness.crash_worker(at="held")
        harness.run_until_idle()
        assert job.status == "FAILED"
        assert any("for 'flight' (asyncio.Task), and worker-1 died while it worked on it" in n for n in harness.notes())


def test_a_lock_of_a_delivery_that_stalls_says_nothing_about_its_twin() -> None:
    lock = asyncio.Lock()

    async def processor(job: Any) -> JobResult:
        async with lock:
            await asyncio.sleep(1)
        return DONE

    contract = ContractRun(processor, examples=[{}], pure=True)
    assert contract.judge("survives_crash").outcome is CheckOutcome.PASSED
    finding = contract.judge("survives_zombie")
    assert finding.outcome is CheckOutcome.INCONCLUSIVE
    assert "for 'lock' (asyncio.Lock), and delivery 1 holds it and stalls" in finding.text


def test_a_lock_that_a_library_holds_for_a_delivery_that_stalls_keeps_no_other_process_waiting(library: Any) -> None:
    pool = library.Pool()

    async def processor(job: Any) -> JobResult:
        await pool.connect_first()
        effect(SideEffect("charged", str(job.id), idempotent=True))
        return DONE

    finding = ContractRun(processor, examples=[{}]).judge("survives_zombie")
    assert finding.outcome is CheckOutcome.PASSED, finding.text


def test_a_plain_function_that_dies_at_an_effect_runs_no_finally_before_the_harness_is_closed() -> None:
    said: list[str] = []

    def processor(job: Any) -> JobResult:
        said.append(f"begins {job.attempts}")
        try:
            effect(SideEffect("held", "1", idempotent=True))
            said.append(f"goes on {job.attempts}")
        finally:
            said.append(f"finally {job.attempts}")
        return DONE

    crash_and_retry(processor)
    assert said == ["begins 1", "begins 2", "goes on 2", "finally 2", "finally 1"]


class Marked:
    """A mark that others see, and which the code that set it takes back."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.said.append("taken back")


def test_a_coroutine_that_dies_at_an_effect_does_nothing_more() -> None:
    said: list[str] = []

    @contextlib.contextmanager
    def row() -> Iterator[None]:
        try:
            yield
        finally:
            said.append("row unlocked")

    @contextlib.asynccontextmanager
    async def session() -> AsyncIterator[None]:
        try:
            yield
        finally:
            said.append("session rolled back")

    def pages() -> Iterator[int]:
        try:
            yield from range(3)
        finally:
            said.append("pages closed")

    async def charge(attempt: int) -> None:
        kept = pages()
        try:
            for _ in pages():
                next(kept)
                with row(), Marked(said): effect(SideEffect("held", "1", idempotent=True))  # fmt: skip  # noqa: E701
        except BaseException as error:
            said.append(f"caught {type(error).__name__}")
            raise
        finally:
            said.append(f"charge ends {attempt}")

    async def processor(job: Any) -> JobResult:
        said.append(f"begins {job.attempts}")
        try:
            async with session(), asyncio.timeout(60), asyncio.TaskGroup():
                with contextlib.suppress(BaseException):
                    await charge(job.attempts)
                said.append("goes on")
        finally:
            said.append(f"finally {job.attempts}")
        return DONE

    tracer = sys.gettrace()
    with JobHarness(blocked_after=2.0) as harness:
        harness.register("tool", processor)
        job = harness.enqueue("tool")
        harness.crash_worker(at="held")
        harness.run_until_idle()
        assert (job.status, job.attempts) == ("COMPLETED", 2)
        whole = [*["taken back", "row unlocked"] * 3, "pages closed", "charge ends 2", "pages closed"]
        assert said == ["begins 1", "begins 2", *whole, "goes on", "session rolled back", "finally 2"]
    assert sys.gettrace() is tracer
