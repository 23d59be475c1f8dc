"""Threads and clocks of processors: waits are virtual, real work holds time, and the test reads real time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import ctypes
import datetime as datetime_module
import gc
import math
import os
import pickle
import queue
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from decimal import Decimal
from time import monotonic, sleep  # noqa: TID251 - how users write it
from typing import Any

import pytest

from job_harness.core.sim import guest_threads, machine_calls
from job_harness.core.sim.guest_threads import Guest, GuestThreads, sleep_of
from job_harness.core.sim.lifetime import LIFETIME, Lifetime
from job_harness.core.sim.loop import VirtualLoop
from job_harness.errors import Hung, LimitReached, UsageError
from job_harness.search.explored import isolation
from job_harness.subjects.processors import JobHarness, JobResult, ToolJob

SETTING: contextvars.ContextVar[str] = contextvars.ContextVar("SETTING", default="unset")
LOCAL, KEEPS = threading.local(), threading.local()


@pytest.fixture
def jobs() -> Iterator[JobHarness]:
    with JobHarness() as harness:
        yield harness


def done(output: Any = None) -> JobResult:
    return JobResult(success=True, output=output)


def output_of(jobs: JobHarness, processor: Any) -> Any:
    jobs.register("works", processor)
    job = jobs.enqueue("works")
    began = time.perf_counter()
    jobs.run_until_idle()
    assert (job.status, job.error) == ("COMPLETED", None)
    assert time.perf_counter() - began < 45  # It is far less, and any real wait of these is longer.
    return job.output


def waits_for_event() -> object:
    return threading.Event().wait(50)


def waits_for_timer() -> object:
    fired: list[int] = []
    timer = threading.Timer(50, fired.append, (1,))
    timer.start()
    timer.join(60)
    return not fired


def waits_for_queue() -> object:
    items: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: (time.sleep(20), items.put("x"))).start()  # noqa: TID251
    assert items.get(timeout=60) == "x"
    with pytest.raises(queue.Empty):
        items.get(timeout=30)
    return False


def waits_for_simple_queue() -> object:
    items: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: (time.sleep(20), items.put("x"))).start()  # noqa: TID251
    assert items.get(timeout=60) == "x"
    with pytest.raises(queue.Empty):
        items.get(timeout=30)
    return False


def waits_for_pool() -> object:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = pool.submit(time.sleep, 50)  # noqa: TID251
        with pytest.raises(concurrent.futures.TimeoutError):
            slow.result(10)
        slow.result()
    return False


def waits_for_lock() -> object:
    lock, held = threading.Lock(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            time.sleep(50)  # noqa: TID251

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with lock:
        thread.join()
    return False


def waits_for_items_that_others_take() -> object:
    items: queue.SimpleQueue[str] = queue.SimpleQueue()

    def wake() -> None:
        for _ in range(3):
            time.sleep(8)  # noqa: TID251
            for waiter in tuple(machine_calls._WAITING[id(items)]):  # As by `put`, where another thread was quicker.
                waiter.release()

    threading.Thread(target=wake).start()
    with pytest.raises(queue.Empty):
        items.get(timeout=50)
    return False


def waits_behind_others_in_a_pool() -> object:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            pool.submit(time.sleep, 10)  # noqa: TID251
    return False


@pytest.mark.parametrize(
    "wait",
    [
        waits_for_event,
        waits_for_timer,
        waits_for_queue,
        waits_for_simple_queue,
        waits_for_items_that_others_take,
        waits_for_pool,
        waits_behind_others_in_a_pool,
        waits_for_lock,
    ],
)
def test_waits_of_threads_take_virtual_time(jobs: JobHarness, wait: Callable[[], object]) -> None:
    def work(job: ToolJob) -> JobResult:
        began = monotonic()
        assert wait() is False
        return done(monotonic() - began)

    assert output_of(jobs, work) == 50
    assert any("a timeout of such a wait is real" in note for note in jobs.notes()) is (wait is waits_for_lock)


def test_a_coroutine_waits_for_what_is_queued_in_a_pool_and_for_its_end(jobs: JobHarness) -> None:
    async def work(job: ToolJob) -> JobResult:
        began, loop = monotonic(), asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            await asyncio.gather(*(loop.run_in_executor(pool, time.sleep, 10) for _ in range(6)))  # noqa: TID251
            pool.submit(time.sleep, 5)  # noqa: TID251
            later = loop.run_in_executor(pool, time.sleep, 20)  # noqa: TID251
            await asyncio.sleep(1)
            await loop.run_in_executor(pool, time.sleep, 9)  # noqa: TID251
            pool.submit(time.sleep, 20)  # noqa: TID251
        await later
        return done(monotonic() - began)

    assert output_of(jobs, work) == 30 + 5 + 9 + 20


def test_work_of_a_pool_finds_what_its_initializer_has_prepared(jobs: JobHarness) -> None:
    def work(job: ToolJob) -> JobResult:
        with concurrent.futures.ThreadPoolExecutor(1, initializer=SETTING.set, initargs=("prepared",)) as pool:
            return done(pool.submit(SETTING.get).result())

    assert output_of(jobs, work) == "prepared"


def test_what_sleeps_must_be_a_number_and_a_clock_can_be_pickled(jobs: JobHarness) -> None:
    def work(job: ToolJob) -> JobResult:
        for wrong in ("5", Decimal(5), None):
            with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
                time.sleep(wrong)  # type: ignore[arg-type]  # noqa: TID251
        return done(pickle.loads(pickle.dumps(time.sleep)) is time.sleep)  # noqa: TID251

    assert output_of(jobs, work) is True
    assert pickle.loads(pickle.dumps(time.time)) is time.time  # noqa: TID251


def test_a_forked_child_waits_in_real_time_and_is_noted(jobs: JobHarness) -> None:
    def work(job: ToolJob) -> JobResult:
        child = os.fork()
        if not child:
            time.sleep(0.01)  # noqa: TID251
            os._exit(7 if not threading.Event().wait(0.01) else 1)
        return done(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    assert output_of(jobs, work) == 7
    assert any("child process: a fork, whose time is the machine's" in note for note in jobs.notes())


def test_pools_of_processes_and_interpreters_are_known_whoever_imports_them_later(
    jobs: JobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "concurrent.futures.process", raising=False)
    monkeypatch.delattr(concurrent.futures, "ProcessPoolExecutor", raising=False)
    assert concurrent.futures.ProcessPoolExecutor.submit.__wrapped__  # type: ignore[attr-defined]

    class InterpreterPoolExecutor(concurrent.futures.ThreadPoolExecutor):
        """As in Python 3.14."""

    module = types.SimpleNamespace(InterpreterPoolExecutor=InterpreterPoolExecutor)
    monkeypatch.setitem(sys.modules, "concurrent.futures.interpreter", module)
    assert not machine_calls.is_in_this_interpreter(InterpreterPoolExecutor(1))
    assert machine_calls.is_in_this_interpreter(concurrent.futures.ThreadPoolExecutor(1))


def test_the_same_waits_end_within_a_coroutine_timeout(jobs: JobHarness) -> None:
    async def work(job: ToolJob) -> JobResult:
        began = monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.to_thread(time.sleep, 30)  # noqa: TID251 - what users write
        return done(monotonic() - began)

    assert output_of(jobs, work) == 10


def test_a_coroutine_that_blocks_on_sleeping_threads_lets_their_time_pass(jobs: JobHarness) -> None:
    async def blocks(job: ToolJob) -> JobResult:
        start = monotonic()
        thread = threading.Thread(target=sleep, args=(120,))
        thread.start()
        thread.join()
        ends = [monotonic() - start]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            slow, fast = pool.submit(sleep, 60), pool.submit(sleep, 20)
            fast.result(timeout=30)
            ends.append(monotonic() - start)
            slow.result(timeout=90)
        return done([*ends, monotonic() - start])

    assert output_of(jobs, blocks) == pytest.approx([120, 140, 180])


def test_a_thread_that_has_ended_does_not_hold_the_time_of_the_next_that_is_joined(jobs: JobHarness) -> None:
    async def joins(job: ToolJob) -> JobResult:
        start = monotonic()
        threads = [threading.Thread(target=sleep, args=(seconds,)) for seconds in (20, 60)]
        for thread in threads:
            thread.start()
        for thread in threads:  # Both have begun: no new thread gets the identifier of the one that has ended.
            thread.join()
        return done(monotonic() - start)

    assert output_of(jobs, joins) == pytest.approx(60)


def test_a_coroutine_that_waits_for_what_its_own_loop_was_to_do_is_told_so() -> None:
    async def waits(job: ToolJob) -> JobResult:
        answer: concurrent.futures.Future[None] = concurrent.futures.Future()
        asyncio.get_running_loop().call_soon(answer.set_result, None)
        answer.result()
        return done()

    with JobHarness(blocked_after=0.2) as jobs:
        jobs.register("waits", waits)
        jobs.enqueue("waits", {})
        with pytest.raises(Hung, match=r"has kept control for 0.2 s of real time, at .*test_guest_threads\.py") as hung:
            jobs.run_until_idle()
    assert "asyncio.wrap_future(future)" in str(hung.value)


def test_a_thread_of_a_library_that_answers_the_loop_holds_time_while_it_works(jobs: JobHarness) -> None:
    asked: queue.SimpleQueue[tuple[asyncio.Future[str], asyncio.AbstractEventLoop] | None] = queue.SimpleQueue()

    def serve() -> None:
        while (item := asked.get()) is not None:
            machine_calls._ORIGINALS["sleep"](0.05)  # real work
            item[1].call_soon_threadsafe(item[0].set_result, "answer")

    async def work(job: ToolJob) -> JobResult:
        threading.Thread(target=serve, daemon=True).start()
        loop = asyncio.get_running_loop()
        try:
            for _ in range(2):
                answer: asyncio.Future[str] = loop.create_future()
                asked.put((answer, loop))
                async with asyncio.timeout(0.001):
                    await answer
                await asyncio.sleep(100)  # It waits for work meanwhile, and holds nothing.
        finally:
            asked.put(None)
        return done(await answer)

    assert output_of(jobs, work) == "answer"


def test_a_connection_that_idles_holds_no_time_and_one_that_is_asked_does(jobs: JobHarness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            talking, _ = listening.accept()
            with talking:
                while talking.recv(10):
                    time.sleep(0.05)  # noqa: TID251 - a machine elsewhere
                    talking.send(b"answer\n")

        server = threading.Thread(target=serve, daemon=True)
        server.start()

        async def work(job: ToolJob) -> JobResult:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            for _ in range(2):
                writer.write(b"ask\n")
                async with asyncio.timeout(0.001):
                    assert await reader.readline() == b"answer\n"
                await asyncio.sleep(200)
            writer.close()
            return done()

        output_of(jobs, work)
        server.join(5)
    assert not [note for note in jobs.notes() if note.startswith("real time")]


def test_what_may_never_be_said_holds_time_for_half_a_second_and_is_named(jobs: JobHarness) -> None:
    near, far = socket.socketpair()

    async def work(job: ToolJob) -> JobResult:
        reader, writer = await asyncio.open_connection(sock=near)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 60)
        writer.close()
        return done()

    with far:
        output_of(jobs, work)
    (note,) = [note for note in jobs.notes() if note.startswith("real time")]
    assert "has said nothing for 0.5 s of real time, and time moved on" in note


def test_context_variables_of_the_test_are_seen(jobs: JobHarness) -> None:
    SETTING.set("by the test")

    def work(job: ToolJob) -> JobResult:
        return done(SETTING.get())

    async def work_async(job: ToolJob) -> JobResult:
        return done(SETTING.get())

    jobs.register("async", work_async)
    job = jobs.enqueue("async")
    assert output_of(jobs, work) == "by the test" == job.output


def test_thread_locals_of_the_test_are_seen_but_for_what_may_not_leave_its_thread(jobs: JobHarness) -> None:
    LOCAL.value = "by the test"
    KEEPS.connection = sqlite3.connect(":memory:")

    def work(job: ToolJob) -> JobResult:
        seen = [LOCAL.value, hasattr(KEEPS, "connection")]
        LOCAL.value = "by the processor"
        return done(seen)

    assert output_of(jobs, work) == ["by the test", False]
    assert LOCAL.value == "by the processor"
    KEEPS.connection.close()


def test_thread_locals_are_lent_while_a_collection_ends_others(jobs: JobHarness) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself, self.local = self, threading.local()
            self.local.value = self

    LOCAL.value = "by the test"
    begins = gc.get_threshold()
    try:
        gc.set_threshold(1)  # A collection at every allocation
        made = [Cycle() for _ in range(300)]
        del made
        assert output_of(jobs, lambda job: done(LOCAL.value)) == "by the test"
    finally:
        gc.set_threshold(*begins)


def test_lending_thread_locals_runs_no_code_of_theirs(jobs: JobHarness) -> None:
    began: list[str] = []

    class Registry(threading.local):
        def __init__(self, name: str) -> None:
            began.append(name)

    others: list[Registry] = []
    thread = threading.Thread(target=lambda: others.append(Registry("of another thread")))
    thread.start()
    thread.join()
    used = Registry("of the test")
    used.value = "by the test"
    began.clear()

    def work(job: ToolJob) -> JobResult:
        return done([used.value, list(began)])

    assert output_of(jobs, work) == ["by the test", []]
    kept = [each for each in gc.get_referents(used) if type(each) is dict and each]
    assert [len(each) for each in kept] == [1]  # Nothing is left of the thread that it was lent to.


def test_a_thread_local_that_ends_while_it_is_lent_leaves_nothing_behind(jobs: JobHarness) -> None:
    class Frees(sqlite3.Connection):
        def cursor(self, *arguments: Any) -> Any:
            dying.clear()
            return super().cursor(*arguments)

    asks, dying = threading.local(), [threading.local() for _ in range(40)]
    asks.value = connection = sqlite3.connect(":memory:", factory=Frees, check_same_thread=False)
    for local in dying:
        local.value = "of the test"

    def works() -> JobResult:
        seen = [vars(threading.local()) for _ in range(400)]  # Some get the addresses of those that ended.
        return done([not dying, seen.count({}), asks.value is connection])

    assert output_of(jobs, lambda job: works()) == [True, 400, True]
    connection.close()


def test_every_clock_of_the_standard_library_follows_and_is_the_machines_again(jobs: JobHarness) -> None:
    names = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "ctime", "gmtime")
    kept = {name: getattr(time, name) for name in names}
    kept |= {name: getattr(datetime_module.datetime, name) for name in ("now", "utcnow", "today")}

    def read() -> list[Any]:
        clocks = [kept[name]() for name in names]
        today = kept["today"](), datetime_module.date.today(), time.strftime("%Y")  # noqa: DTZ011
        return [*clocks, datetime_module.datetime.now(datetime_module.UTC), *today, time.clock_gettime(0)]  # noqa: TID251

    async def work(job: ToolJob) -> JobResult:
        first = read()
        assert first == read()
        await asyncio.sleep(60)
        assert [before for before, after in zip(first, read(), strict=True) if before == after] == [first[-3], "2026"]
        return done()

    output_of(jobs, work)
    assert read() != read()
    machine_calls.restore()
    assert read() != read()
    machine_calls.replace()


def test_a_garbage_collector_that_is_measured_meets_no_clock_that_is_half_exchanged() -> None:
    """Hypothesis measures it by `perf_counter`, at whatever allocation it begins."""
    held, failed = time.perf_counter, list[TypeError]()
    none_spare: list[list[dict[str, int]]] = []

    def measure(phase: str, info: dict[str, int]) -> None:
        none_spare.append([{} for _ in range(100)])  # To take a spare dict would be no allocation.
        try:
            held()
        except TypeError as error:
            failed.append(error)

    threshold = gc.get_threshold()
    gc.callbacks.append(measure)
    try:
        for allocations in range(1, 9):  # Each falls between other lines.
            gc.set_threshold(allocations)
            machine_calls.restore()
            machine_calls.replace()
            none_spare.clear()
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(measure)
    assert not failed


def test_what_was_made_outside_is_not_ahead_of_the_clock_inside(jobs: JobHarness) -> None:
    made = monotonic()
    assert output_of(jobs, lambda job: done(monotonic() - made)) >= 0


def test_a_wait_for_less_than_a_clock_can_tell_ends(jobs: JobHarness) -> None:
    async def work(job: ToolJob) -> JobResult:
        waits, due = 0, math.nextafter(monotonic(), math.inf)
        while monotonic() < due:
            waits += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), due - monotonic())
        return done(waits)

    assert output_of(jobs, work) == 1


def test_a_busy_wait_ends(jobs: JobHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job_harness.core.sim.guest_threads.READS_AT_ONCE", 1_000)

    def work(job: ToolJob) -> JobResult:
        deadline = monotonic() + 2
        while monotonic() < deadline:
            pass
        return done()

    output_of(jobs, work)


def test_gevent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Monkey:
        @staticmethod
        def is_module_patched(name: str) -> bool:
            return name == "threading"

    monkeypatch.setitem(sys.modules, "gevent.monkey", Monkey)
    with pytest.raises(
        UsageError, match=r"gevent has replaced the threads of this process \(gevent\.monkey\.patch_all"
    ):
        JobHarness()


def test_a_subprocess_timeout_is_real(jobs: JobHarness) -> None:
    def work(job: ToolJob) -> JobResult:
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, "-c", "import time; time.sleep(9)"], timeout=0.1, check=False)
        return done()

    output_of(jobs, work)


# after the end of virtual time --------------------------------------------------------------------------------------


def gets_from_simple_queue(released: queue.SimpleQueue[str]) -> object:
    return released.get()


def waits_on_event(released: queue.SimpleQueue[str]) -> object:
    event = threading.Event()
    really(lambda: (released.get(), event.set()))
    return event.wait() and event.is_set()


def waits_on_condition(released: queue.SimpleQueue[str]) -> object:
    condition = threading.Condition()

    def notify() -> None:
        said = released.get()
        with condition:
            condition.notify()
        released.put(said)

    with condition:
        really(notify)
        condition.wait()
    return released.get(block=False)


def joins_thread(released: queue.SimpleQueue[str]) -> object:
    thread = threading.Thread(target=released.get)
    threads_of_code().adopt(thread, Lifetime("joined"), outlives=True)
    contextvars.Context().run(thread.start)
    thread.join()
    return not thread.is_alive()


def really(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function, daemon=True)
    contextvars.Context().run(thread.start)  # No lifetime: its waits, and the one until it has begun, are real.


def threads_of_code() -> GuestThreads:
    life = LIFETIME.get()
    assert life is not None
    threads: GuestThreads = life.machine
    return threads


class Guests:
    """Threads of processors on a loop of their own."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.threads = self.loop.guests = GuestThreads(self.loop, start_us=0)
        self.life = Lifetime("processor")
        self.life.machine = self.threads

    def start(self, function: Callable[[], object], *, outlives: bool = False) -> threading.Thread:
        thread = threading.Thread(target=function, daemon=True)
        self.threads.adopt(thread, self.life, outlives=outlives)
        thread.start()
        return thread

    def close(self) -> None:
        self.threads.close()
        self.loop.close()


@pytest.mark.parametrize("wait", [gets_from_simple_queue, waits_on_event, waits_on_condition, joins_thread])
def test_a_wait_without_an_end_goes_on_where_virtual_time_ends(wait: Callable[[Any], object]) -> None:
    guests, released, came = Guests(), queue.SimpleQueue[str](), list[object]()
    thread = guests.start(lambda: came.append(wait(released)), outlives=True)
    guests.loop.run_until_complete(asyncio.sleep(1))  # Time moves once it waits.
    guests.close()
    thread.join(0.05)
    assert thread.is_alive()
    assert came == []
    released.put("released")
    thread.join(5)
    assert came in (["released"], [True])


@pytest.mark.parametrize(("by", "seconds"), [("its test", None), ("its worker", None), ("its worker", 5)])
def test_a_thread_ends_where_it_waits_for_what_will_never_come(by: str, seconds: float | None) -> None:
    """Also one that wakes where time ends, and finds its worker dead."""
    guests, came = Guests(), list[object]()
    thread = guests.start(lambda: came.append(queue.Queue[str]().get(timeout=seconds)), outlives=by == "its worker")
    guests.loop.run_until_complete(asyncio.sleep(1))
    if by == "its worker":
        guests.life.severed = True
    guests.close()
    thread.join(5)
    assert (thread.is_alive(), came) == (False, [])


@pytest.mark.parametrize("heard", [False, True])
def test_a_thread_that_waits_for_its_turn_where_time_ends_is_not_left_there(heard: bool) -> None:
    guests, begins = Guests(), threading.Event()
    guests.threads.by_turns = True
    pool = concurrent.futures.ThreadPoolExecutor(1)
    guests.threads.holding(Guest(guests.threads, "at work"), True)  # type: ignore[arg-type]

    guests.life.context().run(pool.submit, begins.set)
    while not (waiting := [each for each in guests.threads._threads.values() if isinstance(each, Guest)]):
        pass
    while not waiting[0].waits or (heard and waiting[0]._timer is None):
        if heard:
            guests.loop.call_soon(guests.loop.stop)
            guests.loop.run_forever()
    guests.close()
    pool.shutdown(wait=False)
    (thread,) = pool._threads
    thread.join(5)
    assert begins.is_set()


def test_a_thread_of_the_default_pool_ends_with_its_loop_or_is_known_to_be_its(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "ENDING_SECONDS", 0.02)
    lock, before = threading.Lock(), threading.enumerate()
    lock.acquire()

    async def waits(job: ToolJob) -> JobResult:
        await asyncio.gather(asyncio.to_thread(queue.Queue[str]().get), asyncio.to_thread(lambda: lock.acquire()))
        return done()

    with JobHarness() as jobs:
        jobs.register("waits", waits)
        jobs.enqueue("waits")
        jobs.advance("1s")
        assert "'asyncio_0', 'asyncio_1'" in isolation.unforkable_threads(before)
    assert isolation.unforkable_threads(before) == ""
    left = [each.name for each in threading.enumerate() if each not in before]
    lock.release()
    assert left == ["asyncio_1"]


# runs without an end ------------------------------------------------------------------------------------------------


def test_a_job_that_enqueues_two_is_named_with_its_chain(jobs: JobHarness) -> None:
    def grow(job: ToolJob) -> JobResult:
        jobs.enqueue("grows")
        jobs.enqueue("grows")
        return done()

    jobs.most_from_one = 100
    jobs.register("grows", grow)
    jobs.enqueue("grows")
    with pytest.raises(
        Hung, match=r"without end: job-1 \(grows\) -> .* -> job-101 \(grows\), 101 jobs come from job-1"
    ):
        jobs.drain()


def test_retries_without_an_end_are_named(jobs: JobHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job_harness.subjects.processors.descent.MOST_ATTEMPTS", 50)
    monkeypatch.setattr("job_harness.subjects.processors.descent.LOOKS_EACH", 10)

    def fail(job: ToolJob) -> JobResult:
        raise ValueError("no card")

    jobs.register("fails", fail)
    jobs.enqueue("fails", max_attempts=10**9)
    with pytest.raises(LimitReached, match=r"still not idle after 50 attempts of one job: job-1 \(fails\) .*no card"):
        jobs.run_until_idle()


def test_a_jump_over_a_running_job_is_the_tests_doing_and_no_anomaly(jobs: JobHarness) -> None:
    async def work(job: ToolJob) -> JobResult:
        await asyncio.sleep(30)
        return done()

    jobs.register("works", work)
    job = jobs.enqueue("works")
    jobs.advance("1s")
    jobs.jump("11m")
    jobs.run_until_idle()
    assert job.status == "COMPLETED"
    assert jobs.problems() == []
    (jump,) = [event for event in jobs.history if getattr(event, "name", "") == "late"]
    assert jump.data == {"for": 660_000_000, "by": "the test"}  # type: ignore[union-attr]


def test_a_lock_whose_holder_works_holds_time(jobs: JobHarness) -> None:
    """However long a busy machine keeps the holder from its processor, or whatever it waits for in the system."""
    lock, has_it = threading.Lock(), threading.Event()

    def holder() -> None:
        with lock:
            has_it.set()
            ctypes.CDLL(None).usleep(700_000)  # A wait in the system, as for a server.

    def processor(job: ToolJob) -> JobResult:
        began = time.time()  # noqa: TID251
        thread = threading.Thread(target=holder)
        thread.start()
        has_it.wait()
        with lock:
            return done(time.time() - began)  # noqa: TID251

    assert output_of(jobs, processor) < 0.001
    assert not [note for note in jobs.notes() if "time moved on" in note]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a thread does")
def test_a_thread_sleeps_where_it_has_computed_nothing_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    while sleep_of(thread.native_id) != sleep_of(thread.native_id):
        pass
    monkeypatch.setattr(guest_threads, "_state", lambda native: "R")
    assert sleep_of(thread.native_id) != sleep_of(thread.native_id)
    lock.release()
    thread.join()
