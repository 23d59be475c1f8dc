"""Who keeps control is named and interrupted, wherever it stands; what only takes long is left alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable

import pytest

import job_harness.core.sim.loop as loop_module
from job_harness.core.model.json_value import DEEPEST, json_problem
from job_harness.core.sim import watchdog
from job_harness.core.sim.loop import VirtualLoop
from job_harness.core.sim.watchdog import Watched, real_seconds
from job_harness.errors import Hung
from job_harness.subjects.processors import JobHarness, JobResult, ToolJob
from job_harness.worlds.patience import Deadline


async def computes() -> None:
    while True:
        pass


async def works_for(seconds: float, *, debugger: str = "") -> str:
    code = "end = now() + seconds\nwhile now() < end: pass\n"
    names = {"now": real_seconds, "seconds": seconds, "__name__": debugger or "work"}
    types.FunctionType(compile(code, "work.py", "exec"), names)()
    return "done"


def ended(work: Callable[[], object], *, on_thread: bool) -> BaseException | object:
    answers: list[BaseException | object] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # noqa: BLE001 - it is what is looked at
            answers.append(error)

    if on_thread:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    return answers[0]


@pytest.mark.parametrize("on_thread", [False, True])
def test_what_keeps_control_is_interrupted_on_every_thread_and_the_loop_is_broken(on_thread: bool) -> None:
    loop = VirtualLoop(busy_seconds=0.1)
    error = ended(lambda: loop.run(computes()), on_thread=on_thread)
    assert isinstance(error, Hung)
    assert "has kept control for 0.1 s of real time, at" in error.message
    assert "test_watchdog.py" in error.message
    again = ended(loop.run_until_idle, on_thread=False)
    loop.lives.end_tasks()
    loop.close()
    assert again is error


@pytest.mark.parametrize(("seconds", "debugger"), [(0.05, ""), (0.3, "pdb")])
def test_what_comes_back_or_stands_in_a_debugger_is_left_alone(seconds: float, debugger: str) -> None:
    loop = VirtualLoop(busy_seconds=0.2 if debugger else 5.0)
    assert loop.run(works_for(seconds, debugger=debugger)) == "done"
    loop.close()


def test_a_process_that_was_suspended_has_kept_nobody_waiting() -> None:
    hung: list[str] = []
    work = Watched(1.0, signs=lambda: 0, on_hung=lambda frame: hung.append("hung") or "hung")  # type: ignore[func-returns-value]
    work.look(100.0)
    work.excuse(3600.0)
    work.look(3700.5)
    assert not hung
    work.look(3701.0)
    assert hung


def test_a_watch_that_has_to_wait_for_a_processor_counts_what_it_wanted_to_wait() -> None:
    assert [watchdog.lateness(passed, 0.25) for passed in (0.25, 0.4, 0.75, 3600.25)] == [0.0, 0.0, 0.5, 3600.0]


def test_a_busy_machine_is_no_hang_and_neither_is_a_breakpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    hung: list[str] = []
    cpu = iter([*(number * 0.1 for number in range(9)), 1.8, 2.8, 3.8, 3.8])
    monkeypatch.setattr(watchdog, "_read_clock", lambda clock: next(cpu))
    work = Watched(1.0, signs=lambda: 0, on_hung=lambda frame: hung.append("hung") or "hung")  # type: ignore[func-returns-value]
    work._time._clock = 1
    monkeypatch.setattr(work, "_interrupt", lambda: None)
    for second in range(9):  # It computes a tenth of each second: others have the processor.
        work.look(float(second))
    assert not hung
    monkeypatch.setitem(sys.modules, "pydevd", types.SimpleNamespace(get_global_debugger=object))
    work.look(9.0)
    work.look(10.0)
    assert not hung, "a debugger is attached"
    monkeypatch.delitem(sys.modules, "pydevd")
    work.look(11.0)
    assert hung, "it computed for a second"
    work._words = ""
    hung.clear()
    work.look(12.0)
    assert hung, "it waited for a second"


def test_who_waits_for_a_child_that_a_busy_machine_lets_wait_is_not_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    by_child = {7: 0.0, 8: 5.0}
    monkeypatch.setattr(watchdog, "_read_clock", lambda clock: 0.0)
    monkeypatch.setattr(watchdog, "children_computed", lambda: dict(by_child))
    spent = watchdog.TimeSpent(threading.get_ident())
    spent.look(0.0)
    by_child[7] = 0.5
    assert spent.look(5.0) == 0.5, "its child had a tenth of a processor"
    by_child[9] = 8.0
    assert spent.look(10.0) == 5.0, "no child costs more than the time that passed"
    del by_child[7]
    assert spent.look(12.0) == 2.0, "it waits, and none computes"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells what children have computed")
def test_what_children_have_computed_is_known_while_they_live() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            deadline = Deadline(30)
            while not (computed := watchdog.children_computed().get(child.pid, 0.0)) and not deadline.passed:
                pass
            assert computed
        finally:
            child.kill()
    assert child.pid not in watchdog.children_computed()


LATE = """
import os, sys, threading
from job_harness.core.sim import watchdog

dog = watchdog.WATCHDOG
dog.has_signal, dog._owner = True, os.getpid()

def end():
    work = watchdog.Watched(1, signs=lambda: 0, on_hung=lambda frame: "")
    work.thread, work._words = threading.get_ident(), "has kept control"
    dog.end(work)

def traced():
    return "traced"

def trace(frame, event, argument):
    return trace

thread = threading.Thread(target=end)
thread.start()
thread.join()
sys.settrace(trace)
print(traced())
"""


def test_an_interruption_that_comes_too_late_is_over_and_code_may_be_traced_after_it() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("traced\n", "")


def test_rounds_are_counted_for_one_processor_and_not_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "LOOKED_AT_AFTER", 500)

    async def gives_way(job: ToolJob) -> JobResult:
        for _ in range(600):
            await asyncio.sleep(0)
        return JobResult(success=True)

    with JobHarness() as jobs:
        jobs.bench.loop.bounds.rounds = 1000
        jobs.register("t", gives_way)
        for _ in range(10):
            jobs.enqueue("t", {})
        assert jobs.drain() == {"completed": 10}  # 6000 callbacks at one instant, and only 600 of each


def test_jobs_that_enqueue_each_other_without_end_are_named_as_a_chain() -> None:
    with JobHarness() as jobs:
        jobs.longest_chain = 20

        async def again(job: ToolJob) -> JobResult:
            jobs.enqueue("odd" if job.tool_slug == "even" else "even")
            return JobResult(success=True)

        jobs.register("even", again)
        jobs.register("odd", again)
        jobs.enqueue("even")
        chain = (
            r"job-1 \(even\) -> job-2 \(odd\) -> job-3 \(even\) -> \.\.\. -> job-20 \(odd\) -> job-21 \(even\), 21 jobs"
        )
        with pytest.raises(Hung, match=chain):
            jobs.run_until_idle()


def test_no_depth_hurts_whoever_asks_what_json_can_hold() -> None:
    value: object = "x"
    for _ in range(DEEPEST):
        value = [value]
    assert json_problem(value) is None
    for _ in range(100_000):
        value = {"in": value}
    assert json_problem(value) == f"nested deeper than {DEEPEST} levels"
    twice = [1]
    assert json_problem([twice, {"and": twice}]) is None


def test_the_thread_that_watches_keeps_nothing_alive_that_has_ended() -> None:
    looked = threading.Event()

    def signs() -> int:
        looked.set()
        return 0

    work = Watched(30, signs=signs, on_hung=lambda frame: "")
    with work.at_work():
        assert looked.wait(30)
    ended = weakref.ref(work)
    del work
    assert ended() is None
