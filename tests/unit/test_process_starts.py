"""What a worker's process does when it starts: in each of its lives, with threads that take turns and die with it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep  # noqa: TID251 - how users write it
from typing import Any

import pytest

from job_harness.core.history.event import Effect
from job_harness.core.run.session import as_on_tape
from job_harness.core.sim.choices import Deviation, Replay
from job_harness.errors import UsageError
from job_harness.subjects.processors import JobHarness, JobResult, dbos, effect
from job_harness.subjects.processors.dbos import dbos_process


def done(job: Any) -> JobResult:
    return JobResult(success=True)


def play(start: Callable[[], object], processor: Any = done, *, at: str | None = None, **options: Any) -> JobHarness:
    """Run one job, whose worker dies at a place."""
    with JobHarness() as harness:
        harness.on_start(start, **options)
        harness.register("works", processor)
        job = harness.enqueue("works")
        if at is not None:
            harness.crash_worker(at=at)
        harness.run_until_idle()
        assert job.status == "COMPLETED"
        assert harness.problems() == []
        return harness


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_each_life_of_a_worker_starts_as_a_process_does(kind: str) -> None:
    def start() -> None:
        sleep(5)
        effect("launched")

    async def start_later() -> None:
        await asyncio.sleep(5)
        effect("launched")

    harness = play(start if kind == "function" else start_later, at="before complete")
    events = harness.history.events
    launched = [event for event in events if type(event) is Effect and event.name == "launched"]
    assert [(event.actor, event.job) for event in launched] == [("worker-1", "start-1"), ("worker-2", "start-2")]
    claim = next(event for event in events if getattr(event, "verb", "") == "claim")
    assert events.index(claim) > events.index(launched[0]), "it claimed a job before it had started"


def test_a_start_that_dies_half_way_is_made_again() -> None:
    lives: list[str] = []

    def start() -> None:
        lives.append("begins")
        effect("half")
        lives.append("ends")

    play(start, at="half")
    assert lives == ["begins", "begins", "ends"]


def test_a_thread_that_the_start_began_is_no_leak_and_dies_with_its_worker() -> None:
    beats: list[int] = []

    def start() -> None:
        life = len(beats)
        beats.append(0)

        def beat() -> None:
            while True:
                sleep(60)
                beats[life] += 1

        threading.Thread(target=beat, daemon=True).start()

    def works(job: Any) -> JobResult:
        sleep(310)
        return JobResult(success=True)

    play(start, works, at="before complete")
    assert beats[0] == 5, "the thread of a dead worker went on"
    assert beats[1] >= 5


def test_no_thread_of_a_process_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = set(threading.enumerate()), threading.Thread.run
    busy = threading.Lock()
    busy.acquire()

    def run(thread: threading.Thread) -> None:
        real(thread)
        busy.acquire(timeout=0.03)  # On a busy machine, that is how long the last few instructions may take.

    monkeypatch.setattr(threading.Thread, "run", run)

    def start() -> None:
        def serve() -> None:
            with contextlib.closing(asyncio.new_event_loop()) as loop:
                loop.run_forever()

        def poll() -> None:
            while True:
                sleep(1)

        for target in (serve, poll, threading.Event().wait):
            threading.Thread(target=target, daemon=True).start()
        ThreadPoolExecutor(2).submit(sleep, 1)

    play(start, at="before complete")
    assert set(threading.enumerate()) - before == set()


def test_a_pool_that_the_start_made_may_go_on_when_a_job_has_ended() -> None:
    pools: list[ThreadPoolExecutor] = []

    def works(job: Any) -> JobResult:
        pools[-1].submit(sleep, 60)
        return JobResult(success=True)

    play(lambda: pools.append(ThreadPoolExecutor(4)), works)


def test_threads_of_a_process_take_turns_so_that_two_runs_are_alike() -> None:
    def once() -> list[str]:
        said: list[str] = []

        def start() -> None:
            def talk(name: str) -> None:
                for _ in range(3):
                    said.append(name)
                    sum(range(20_000))
                    said.append(name)
                    sleep(10)

            for name in "abcd":
                threading.Thread(target=talk, args=(name,), daemon=True).start()

        def works(job: Any) -> JobResult:
            sleep(60)
            return JobResult(success=True)

        play(start, works)
        return said

    said = once()
    assert said == once()
    assert all(one == other for one, other in zip(said[::2], said[1::2], strict=True)), "two threads worked at once"


def test_a_thread_that_polls_may_look_more_seldom_until_something_happens() -> None:
    def rounds(**options: Any) -> tuple[int, float]:
        asked, found = [0], [0.0]
        inbox: list[float] = []

        def start() -> None:
            def poll() -> None:
                while True:
                    asked[0] += 1
                    if inbox and not found[0]:
                        found[0] = monotonic() - inbox[0]
                    sleep(1)

            threading.Thread(target=poll, daemon=True).start()

        def works(job: Any) -> JobResult:
            sleep(500.5)
            inbox.append(monotonic())
            sleep(60)
            return JobResult(success=True)

        play(start, works, **options)
        return asked[0], found[0]

    often, seldom = rounds(), rounds(polls_late_by="1m")
    assert often[0] > 500
    assert seldom[0] < 150
    assert abs(often[1] - seldom[1]) < 0.01, "it looked late although something had happened"


def test_a_poll_that_finds_nothing_for_weeks_goes_on() -> None:
    asked = [0]

    def start() -> None:
        def poll() -> None:
            while True:
                asked[0] += 1
                sleep(1)

        threading.Thread(target=poll, daemon=True).start()

    with JobHarness() as harness:
        harness.on_start(start, polls_late_by="1m")
        harness.advance("2d")
        assert 2 * 24 * 60 <= asked[0] < 2 * 24 * 60 + 100
        harness.advance("1m")
        assert asked[0] >= 2 * 24 * 60 + 1


def test_an_event_loop_in_a_thread_of_the_process_follows_virtual_time() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    def start() -> None:
        ready = threading.Event()

        def run() -> None:
            with contextlib.closing(asyncio.new_event_loop()) as loop:
                loops.append(loop)
                loop.call_soon(ready.set)
                loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        ready.wait()

    async def nap() -> str:
        await asyncio.sleep(3600)
        return "rested"

    def works(job: Any) -> JobResult:
        return JobResult(success=True, output=asyncio.run_coroutine_threadsafe(nap(), loops[-1]).result())

    with JobHarness() as harness:
        harness.on_start(start)
        harness.register("works", works)
        job = harness.enqueue("works", max_attempts=1)
        began = time.perf_counter()
        harness.advance("9m")
        assert job.status == "PROCESSING"
        harness.run_until_idle()
        assert time.perf_counter() - began < 600  # an hour of real time otherwise
        assert job.status == "FAILED", "it outlasts its time limit of ten minutes"


def test_what_a_start_raises_ends_the_run() -> None:
    def start() -> None:
        raise ConnectionError("no database")

    with JobHarness() as harness:
        harness.on_start(start)
        harness.register("works", done)
        harness.enqueue("works")
        with pytest.raises(ConnectionError, match="no database"):
            harness.run_until_idle()


def test_a_start_is_set_once_and_in_time() -> None:
    with JobHarness() as harness:
        harness.on_start(lambda: None)
        with pytest.raises(UsageError, match="on_start is set already"):
            harness.on_start(lambda: None)
    with JobHarness() as harness:
        harness.advance("1m")
        with pytest.raises(UsageError, match="the worker is at work"):
            harness.on_start(lambda: None)


def test_a_stale_attempt_that_starts_late_is_not_taken_for_the_one_after_it() -> None:
    pause = Replay((Deviation("worker-1 claim", 2, "pause a lease + a retry"),))
    with JobHarness(choices=pause, faults=as_on_tape()) as harness:
        harness.on_start(lambda: sleep(0.00003))

        def works(job: Any) -> JobResult:
            sleep(60)
            return JobResult(success=True)

        harness.register("works", works)
        job = harness.enqueue("works")
        harness.run_until_idle()
        assert tuple(harness.tape) == tuple(pause.tape), "the worker was not paused there"
        assert (job.status, harness.anomalies) == ("COMPLETED", ())


def test_a_life_of_dbos_begins_without_the_instance_of_the_dead_one_and_ends_with_its_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[object] = []
    module, internal = types.ModuleType("dbos"), types.ModuleType("dbos._dbos")
    registry = types.SimpleNamespace(dbos="of the worker that died")

    class Library:
        def __init__(self, config: object) -> None:
            seen.append("made")

        @staticmethod
        def migrate(url: str) -> None:
            seen.append("migrated")
            Path(url.removeprefix("sqlite:///")).write_bytes(b"its tables")

        @staticmethod
        def launch() -> None:
            seen.append("launched")

    parts = {
        "_dbos_global_instance": "of the worker that died",
        "_get_or_create_dbos_registry": lambda: registry,
        "SystemDatabase": types.SimpleNamespace(create=None),
    }
    vars(internal).update(parts)
    vars(module).update({"DBOS": Library, "_dbos": internal})
    monkeypatch.setitem(sys.modules, "dbos", module)

    def before() -> None:
        seen.append((vars(internal)["_dbos_global_instance"], registry.dbos))

    dbos._migrated.cache_clear()
    process = dbos_process({"system_database_url": f"sqlite:///{tmp_path}/first"}, before=before)
    dbos_process({"system_database_url": f"sqlite:///{tmp_path}/second"})
    assert (tmp_path / "second").read_bytes() == b"its tables"
    process()
    assert seen == ["migrated", (None, None), "made", "launched"], "one file is migrated, and each run has a copy of it"
    dbos_process({"system_database_url": f"sqlite:///{tmp_path}/first"})
    assert seen.pop() == "migrated", "a file that is there is not replaced"
    vars(internal)["_dbos_global_instance"] = "of this run"
    engine = types.SimpleNamespace(dispose=lambda: seen.append("closed"))
    process._databases.append(types.SimpleNamespace(engine=engine))
    with JobHarness() as harness:
        harness.on_start(process)
    assert (seen.pop(), vars(internal)["_dbos_global_instance"], process._databases) == ("closed", None, [])
    dbos._migrated.cache_clear()
