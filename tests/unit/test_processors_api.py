"""What a test can say about its jobs and do to its worker: assertions, side effects, crashes, duplicates, leaks."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from job_harness.core.invariants.effects import at_most_once, exactly_once
from job_harness.core.sim.choices import Replay
from job_harness.engines.reference.application import GUIDE
from job_harness.errors import Hung, UsageError
from job_harness.search.explored.played import _judge_test
from job_harness.subjects.processors import JobHarness, JobResult, ToolJob, effect, step
from job_harness.subjects.processors.processor import TASK_KINDS
from job_harness.worlds.postgres.host import PREFIX, SOCKET_NAME

DONE = JobResult(success=True)


@pytest.fixture
def jobs() -> Iterator[JobHarness]:
    with JobHarness() as harness:
        yield harness


async def charge(job: ToolJob) -> JobResult:
    await asyncio.sleep(10)
    effect("charged", order=job.input)
    await asyncio.sleep(10)
    effect("mailed", order=job.input)
    return DONE


def charge_plainly(job: ToolJob) -> JobResult:
    time.sleep(10)  # noqa: TID251 - what users write
    effect("charged", order=job.input)
    time.sleep(10)  # noqa: TID251 - what users write
    effect("mailed", order=job.input)
    return DONE


EITHER = pytest.mark.parametrize("processor", [charge, charge_plainly])


# results ------------------------------------------------------------------------------------------------------------


class OwnResult(NamedTuple):
    success: Any
    output: Any = None
    error: str | None = None
    retryable: bool = True


class OnlySuccess:
    success = True


@pytest.mark.parametrize(
    ("answer", "status", "attempts", "error"),
    [
        (OwnResult(True, {"n": 1}), "COMPLETED", 1, None),
        (OnlySuccess(), "COMPLETED", 1, None),
        (OwnResult(False, error="no"), "FAILED", 3, "no"),
        (OwnResult(False, error="never", retryable=False), "FAILED", 1, "never"),
        (OwnResult("yes"), "FAILED", 3, "the processor returned a value of type OwnResult"),
        (SimpleNamespace(success=True, output={1}), "FAILED", 3, "set"),
    ],
)
@pytest.mark.parametrize("awaited", [True, False])
def test_a_class_of_results_of_the_applications_own_is_read(
    jobs: JobHarness, answer: Any, status: str, attempts: int, error: str | None, awaited: bool
) -> None:
    async def later(job: ToolJob) -> Any:
        return answer

    jobs.register("tool", later if awaited else lambda job: answer)
    job = jobs.enqueue("tool", {})
    jobs.drain(with_scheduled=True)
    assert (job.status, job.attempts) == (status, attempts)
    assert (job.error is None) if error is None else error in str(job.error)
    ended = [event.data for event in jobs.history.of_job(job.id) if getattr(event, "name", "") == "ended"]
    told = "failure" if answer.success is not True else "success" if status == "COMPLETED" else "bad output"
    assert set(ended) == {told}


# side effects -------------------------------------------------------------------------------------------------------


@EITHER
def test_declared_side_effects_are_events_of_the_history(jobs: JobHarness, processor: Any) -> None:
    jobs.register("charge", processor)
    job = jobs.enqueue("charge", 7)
    jobs.drain()
    assert job.effects == [("charged", {"order": 7}), ("mailed", {"order": 7})]
    (charged,) = jobs.effects("charged")
    assert (charged.at, charged.job, charged.attempt, charged.data) == (10_000_000, job.id, 1, {"order": 7})
    assert jobs.effects(job="job-1") == jobs.effects()


def test_side_effects_of_threads_and_of_perform_job_are_seen(jobs: JobHarness) -> None:
    async def process(job: ToolJob) -> JobResult:
        await asyncio.to_thread(effect, "on a thread")
        await asyncio.get_running_loop().run_in_executor(None, effect, "on another")
        thread = threading.Thread(target=effect, args=("by hand",))
        thread.start()
        thread.join()
        return DONE

    jobs.register("threads", process)
    job = jobs.enqueue("threads")
    jobs.drain()
    assert [name for name, _ in job.effects] == ["on a thread", "on another", "by hand"]
    jobs.perform_job(process, None)
    jobs.perform_job(charge_plainly, 1)
    assert [each.name for each in jobs.effects()][3:] == ["on a thread", "on another", "by hand", "charged", "mailed"]


def test_a_side_effect_outside_of_any_job_is_none_and_a_wrong_one_is_refused() -> None:
    effect("charged", order=7)
    asyncio.run(step("named"))
    with pytest.raises(UsageError, match="every history says"):
        effect("started")
    with pytest.raises(UsageError, match="not JSON"):
        effect("charged", order=object())


@pytest.mark.parametrize("check", [lambda: True, at_most_once("charged"), True])
def test_what_is_no_function_of_the_harness_is_refused_by_always_at_once(check: Any) -> None:
    with JobHarness() as jobs, pytest.raises(UsageError, match="belongs to the fixture job_invariants"):
        jobs.always(check)


async def never_awaited(harness: JobHarness) -> None:
    raise AssertionError


def never_iterated(harness: JobHarness) -> Iterator[None]:
    yield
    raise AssertionError


async def never_iterated_or_awaited(harness: JobHarness) -> AsyncIterator[None]:
    yield
    raise AssertionError


@pytest.mark.parametrize("never_judged", [never_awaited, never_iterated, never_iterated_or_awaited])
def test_a_check_whose_body_no_call_runs_is_refused_by_always(never_judged: Any) -> None:
    with JobHarness() as jobs:
        with pytest.raises(UsageError, match=f"{never_judged.__name__} is a coroutine function or a gen"):
            jobs.always(never_judged)
        jobs.always(lambda harness: never_judged(harness))
        jobs.register("charge", charge_plainly)
        with pytest.raises(UsageError, match=r"the lambda at .* is a coroutine function"):
            jobs.enqueue("charge", 1)


def test_a_check_that_raises_anything_but_an_assertion_ends_the_run_with_its_line(jobs: JobHarness) -> None:
    asked = []

    def first_output(harness: JobHarness) -> bool:
        asked.append(harness.now)
        return len(asked) < 4 or bool(harness.all_enqueued("charge")[0].nothing)

    jobs.register("charge", charge_plainly)
    jobs.always(first_output)
    jobs.enqueue("charge", 1)
    with pytest.raises(Hung, match=r"always\(\): first_output raised AttributeError: .*'nothing', at .*_api.py:\d+"):
        jobs.run_until_idle()
    assert len(asked) == 4


def two(job: ToolJob, connection: object) -> JobResult:
    return DONE


def test_a_processor_that_cannot_be_called_with_a_job_is_refused_at_once(jobs: JobHarness) -> None:
    for wrong in (two, lambda: DONE):
        with pytest.raises(UsageError, match="cannot be called with one argument"):
            jobs.register("wrong", wrong)  # type: ignore[arg-type]
    jobs.register("right", partial(two, connection=None))
    assert jobs.perform_job("right", 1).success


def test_a_task_of_another_library_is_refused_with_the_function_to_wrap(jobs: JobHarness) -> None:
    def plain(order: int) -> None: ...

    async def coroutine(order: int) -> None: ...

    for kind, function in product(TASK_KINDS, (plain, coroutine)):
        module, _, name = kind.defined.rpartition(".")
        task: Any = type(name, (), {"__module__": module, kind.function: staticmethod(function)})()
        call = f"={'await ' if function is coroutine else ''}{function.__name__}.{kind.function}(**job.input)"
        with pytest.raises(UsageError, match=re.escape(call)):
            jobs.register("charge", task)


def test_a_name_that_there_is_not_is_told_with_the_nearest(jobs: JobHarness) -> None:
    untyped: Any = jobs
    jobs.register("reads", lambda job: job.data)
    job: Any = jobs.enqueue("reads", 7, max_attempts=1)
    jobs.drain()
    assert "'ToolJob' object has no attribute 'data': what was enqueued is in `input`" in job.error
    for use, told in (
        (lambda: untyped.run_till_idle(), "did you mean 'run_until_idle'?"),
        (lambda: job.state, "did you mean 'status'?"),
        (lambda: untyped.enqueue("reads", delay="5m"), "Available: start_after, priority, max_attempts, unique_key."),
    ):
        with pytest.raises((AttributeError, UsageError), match=re.escape(told)):
            use()


def test_an_invariant_of_the_users_own_judges_side_effects() -> None:
    with JobHarness(invariants=[at_most_once("charged", per=("order",))]) as jobs:
        jobs.register("charge", charge)
        job = jobs.enqueue("charge", 7)
        jobs.deliver_twice(job)
        jobs.drain()
        (screen,) = jobs.problems()
        assert "effect_repeated" in screen
        assert "charged(order=7)" in screen


def test_a_key_that_no_side_effect_has_is_named_and_takes_no_two_for_one() -> None:
    with JobHarness(invariants=[at_most_once("charged", per=["ordr"])]) as jobs:
        jobs.register("charge", charge_plainly)
        for order in (7, 8):
            jobs.enqueue("charge", order)
        jobs.drain()
        (screen,) = jobs.problems()
        assert "charged of job-1 has no 'ordr' (did you mean 'order'?): per=['ordr']" in screen
        assert "effect_repeated" not in screen


@pytest.mark.parametrize(
    ("options", "places", "found"),
    [
        ({}, ["before starting"], None),
        ({}, ["marked"], "effect_missing"),
        ({"tool": "charge-once"}, ["marked"], "effect_missing"),
        ({"tool": "charge.once"}, ["marked"], "effect_missing"),
        ({"tool": "welcome"}, ["marked"], None),
        ({"per": ["order"]}, ["marked"], "effect_missing"),
        ({"per": ["order"], "second": True}, [], None),
        ({"second": True}, [], "effect_missing"),
    ],
)
def test_a_charge_that_is_lost_between_its_mark_and_itself_is_missing(
    options: dict[str, Any], places: list[str], found: str | None
) -> None:
    marked = set[int]()

    def mark_and_charge(job: ToolJob) -> JobResult:
        if job.input["order"] not in marked:
            marked.add(job.input["order"])
            effect("marked")
            effect("charged", order=job.input["order"])
        return JobResult(success=True)

    second = options.pop("second", False)
    with JobHarness(invariants=[exactly_once("charged", **options)]) as jobs:
        jobs.register("charge-once", mark_and_charge)
        for place in places:
            jobs.crash_worker(at=place)
        jobs.enqueue("charge-once", {"order": 7})
        jobs.run_until_idle()
        if second:
            jobs.enqueue("charge-once", {"order": 7})
            jobs.run_until_idle()
        jobs.problems()
        assert [anomaly.name for anomaly in jobs.anomalies] == ([found] if found else [])
        assert all(("if it may leave that to job-1" in anomaly.message) is second for anomaly in jobs.anomalies)


@pytest.mark.parametrize(
    ("parts", "found"), [([1], None), ([2], None), ([1, 2], "effect_repeated"), ([], "effect_missing")]
)
def test_the_parts_of_a_piece_of_work_have_a_side_effect_once_between_them(parts: list[int], found: str | None) -> None:
    def charge(job: ToolJob) -> JobResult:
        if job.input in parts:
            effect("charged")
        return DONE

    with JobHarness(invariants=[exactly_once("charged")]) as jobs:
        jobs.register("charge", charge)
        for part in 1, 2:
            jobs.enqueue_part("charge", part, work="charge task-1")
        jobs.run_until_idle()
        jobs.problems()
        assert [anomaly.name for anomaly in jobs.anomalies] == ([found] if found else [])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_attempts": "3"}, "max_attempts is '3'"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"priority": "high"}, "priority is 'high'"),
        ({"priority": 2**31}, "priority is 2147483648"),
    ],
)
def test_a_number_that_no_queue_takes_is_refused(jobs: JobHarness, options: dict[str, Any], told: str) -> None:
    jobs.register("ok", lambda job: DONE)
    with pytest.raises(UsageError, match=f"{told}; give a whole number"):
        jobs.enqueue("ok", None, **options)


@pytest.mark.parametrize("limit", ["concurrency", "tool_concurrency"])
def test_a_limit_that_the_worker_does_not_keep_is_refused(limit: str) -> None:
    with pytest.raises(UsageError, match="cannot limit how many jobs run at once") as refused:
        JobHarness(settings=replace(GUIDE, **{limit: 1}))
    assert "batch_size=1" in str(refused.value.hint)


# what was enqueued --------------------------------------------------------------------------------------------------


def send_three(jobs: JobHarness) -> None:
    jobs.register("remind", lambda job: DONE)
    jobs.register("other", lambda job: DONE)
    jobs.enqueue("remind", {"user": {"id": 7, "name": "Ada"}, "tags": [1, 2]}, start_after="1h")
    jobs.enqueue("remind", {"user": {"id": 8}}, priority=5)
    jobs.enqueue("other", None, unique_key="k")


def test_what_was_enqueued_is_matched_in_part(jobs: JobHarness) -> None:
    send_three(jobs)
    assert jobs.assert_enqueued("remind", input={"user": {"id": 7}}).id == "job-1"
    assert jobs.assert_enqueued("remind", input={"tags": [1, ...]}).id == "job-1"
    assert jobs.assert_enqueued("remind", start_after=timedelta(minutes=59), within="1m").id == "job-1"
    assert jobs.assert_enqueued(start_after=datetime(2026, 1, 1, 1, tzinfo=UTC)).id == "job-1"
    assert jobs.assert_enqueued(unique_key="k", count=1).tool == "other"
    assert [job.input for job in jobs.all_enqueued()][1:] == [{"user": {"id": 8}}, None]
    assert [job.id for job in jobs.all_enqueued("remind")] == ["job-1", "job-2"]
    assert [job.id for job in jobs.all_enqueued(status="PENDING", priority=5)] == ["job-2"]
    jobs.refute_enqueued("remind", input={"user": {"id": 9}})
    jobs.drain()
    assert jobs.assert_enqueued("remind", status="COMPLETED").id == "job-2"


def test_what_was_not_enqueued_is_told_with_its_near_misses(jobs: JobHarness) -> None:
    send_three(jobs)
    with pytest.raises(AssertionError) as caught:
        jobs.assert_enqueued("remind", input={"user": {"id": 9}}, start_after="2h", within="5m")
    assert str(caught.value) == (
        "no job of 'remind' with input {'user': {'id': 9}}, start_after 2h was enqueued\n"
        "  near misses:\n"
        "    job-1 (remind): input.user.id is 7, wanted 9; start_after is 1h earlier than wanted (within 5m)\n"
        "    job-2 (remind): input.user.id is 8, wanted 9; start_after is 2h earlier than wanted (within 5m)\n"
        "  enqueued were: 2 of remind, 1 of other"
    )
    with pytest.raises(AssertionError, match=r"there is no tool 'remnd' \(did you mean 'remind'\?\)"):
        jobs.assert_enqueued("remnd")
    with pytest.raises(AssertionError, match=r"expected 1 enqueued .*, found 2: job-1, job-2"):
        jobs.assert_enqueued("remind", count=1)
    with pytest.raises(AssertionError, match=r"a job of 'other' was enqueued\n.*job-3"):
        jobs.refute_enqueued("other")
    with pytest.raises(AssertionError, match=r"input.user has no 'nam' \(did you mean 'name'\?\)"):
        jobs.assert_enqueued(input={"user": {"nam": "Ada"}})


def test_what_can_never_match_is_an_error_and_no_answer(jobs: JobHarness) -> None:
    send_three(jobs)
    with pytest.raises(UsageError, match=r"a job has no 'inptu' \(did you mean 'input'\?\)"):
        jobs.assert_enqueued("remind", inptu={"user": {"id": 7}})  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="there is no status 'DONE'"):
        jobs.refute_enqueued("remind", status="DONE")
    with pytest.raises(UsageError, match=r"no processor .* 'remnd' \(did you mean 'remind'\?\)"):
        jobs.refute_enqueued("remnd")


@pytest.mark.parametrize("plain", [False, True])
def test_a_job_enqueued_by_a_processor_is_seen(jobs: JobHarness, plain: bool) -> None:
    async def parent(job: ToolJob) -> JobResult:
        jobs.enqueue("child", {"of": job.id}, start_after="1h")
        return DONE

    def plain_parent(job: ToolJob) -> JobResult:
        jobs.enqueue("child", {"of": job.id}, start_after="1h")
        return DONE

    jobs.register("parent", plain_parent if plain else parent)
    jobs.register("child", lambda job: DONE)
    jobs.enqueue("parent")
    jobs.advance(30)
    jobs.assert_enqueued("child", input={"of": "job-1"}, start_after="1h")


def test_drain_may_leave_alone_what_is_enqueued_meanwhile(jobs: JobHarness) -> None:
    async def endless(job: ToolJob) -> JobResult:
        jobs.enqueue("endless")
        return DONE

    jobs.register("endless", endless)
    jobs.enqueue("endless")
    assert jobs.drain(with_recursion=False) == {"completed": 1}
    assert jobs.drain(with_recursion=False, with_scheduled=True) == {"completed": 1}
    assert len(jobs.all_enqueued(status="PENDING")) == 1


# how it ended --------------------------------------------------------------------------------------------------------


async def refuse(job: ToolJob) -> JobResult:
    return JobResult(success=False, error="no luck")


def test_a_path_is_asserted_and_told_where_it_differs(jobs: JobHarness) -> None:
    jobs.register("refuse", refuse)
    job = jobs.enqueue("refuse", max_attempts=1)
    jobs.drain()
    jobs.assert_path(job, ["PENDING", "PROCESSING", "FAILED"])
    with pytest.raises(AssertionError, match=r"did you mean 'COMPLETED'(.|\n)*last error: 'no luck'"):
        jobs.assert_path(job, ["PENDING", "COMPLETE"])


def test_waiting_ends_with_the_job_or_says_what_was_there_instead(jobs: JobHarness) -> None:
    jobs.register("refuse", refuse)
    jobs.register("charge", charge)
    slow, failing = jobs.enqueue("charge", 1), jobs.enqueue("refuse")
    jobs.wait_for(lambda: jobs.effects("charged"))
    assert jobs.now == datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    jobs.wait_for(slow, "COMPLETED", within="1h")
    with pytest.raises(
        AssertionError, match=r"job-2 did not become COMPLETED within 1h(.|\n)*it is FAILED, attempts 3"
    ):
        jobs.wait_for(failing, "COMPLETED", within="1h")
    jobs.wait_for(failing)
    with pytest.raises(AssertionError, match="did not come within 1d"):
        jobs.wait_for(lambda: False)
    with pytest.raises(UsageError, match="one of PENDING"):
        jobs.wait_for(failing, "COMPLETE")


def test_an_operator_cancels_and_retries(jobs: JobHarness) -> None:
    jobs.register("charge", charge)
    job = jobs.enqueue("charge", 1)
    jobs.advance(5)
    assert jobs.cancel(job)
    assert not jobs.cancel(job)
    assert jobs.drain() == {}
    assert jobs.retry(job)
    jobs.run_until_idle()
    assert job.status == "COMPLETED"
    assert jobs.problems() == []


# what goes wrong ----------------------------------------------------------------------------------------------------

CRASHES: dict[str, tuple[list[str], list[str]]] = {
    "before starting": ([], ["charged", "mailed"]),
    "while running": ([], ["charged", "mailed"]),
    "charged": (["charged"], ["charged", "mailed"]),
    "before complete": (["charged", "mailed"], ["charged", "mailed"]),
    "after complete": (["charged", "mailed"], []),
}


@EITHER
@pytest.mark.parametrize("place", CRASHES)
def test_a_worker_dies_where_it_is_told_to_and_the_job_is_delivered_again(
    jobs: JobHarness, place: str, processor: Any
) -> None:
    jobs.register("charge", processor)
    job = jobs.enqueue("charge", 7)
    jobs.crash_worker(at=place, job=job)
    jobs.run_until_idle()
    first, second = CRASHES[place]
    assert [name for name, _ in job.effects] == first + second
    assert (job.status, job.attempts) == ("COMPLETED", 2 if second else 1)
    assert {each.actor for each in jobs.effects()} <= {"worker-1", "worker-2"}
    assert jobs.problems() == []


@EITHER
def test_a_crash_while_a_job_runs_costs_an_attempt_and_runs_no_finally(jobs: JobHarness, processor: Any) -> None:
    log: list[str] = []

    async def careful(job: ToolJob) -> JobResult:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
                await asyncio.sleep(60)
        except BaseException as error:
            log.append(repr(error))
            raise
        finally:
            log.append(f"attempt {job.attempts}")
        return DONE

    jobs.register("careful", careful)
    job = jobs.enqueue("careful", max_attempts=2)
    jobs.advance(30)
    jobs.crash_worker()
    jobs.run_until_idle()
    assert (log, job.status, job.attempts) == (["attempt 2"], "COMPLETED", 2)
    assert jobs.problems() == []


def test_a_point_that_a_processor_names_is_a_place_for_a_crash(jobs: JobHarness) -> None:
    async def process(job: ToolJob) -> JobResult:
        await step("half way")
        effect("done")
        return DONE

    jobs.register("steps", process)
    job = jobs.enqueue("steps")
    jobs.crash_worker(at="half way")
    jobs.wait_for(job)
    assert (job.attempts, len(job.effects)) == (2, 1)


def test_a_fault_that_never_came_is_a_problem_and_a_place_that_is_none_an_error(jobs: JobHarness) -> None:
    jobs.register("charge", charge)
    job = jobs.enqueue("charge", 1)
    jobs.crash_worker(at="chargd")
    later = jobs.enqueue("charge", 2, start_after="1d")
    jobs.deliver_twice(later)
    jobs.drain()
    (problem,) = jobs.problems()
    assert "crash_worker(at='chargd')" in problem
    assert f"deliver_twice({later.id})" in problem
    assert "Known places: before starting, while running," in problem
    with pytest.raises(UsageError, match=r"cannot crash at 'before compleet' .*did you mean 'before complete'"):
        jobs.crash_worker(at="before compleet")
    with pytest.raises(UsageError, match="has ended"):
        jobs.deliver_twice(job)
    with pytest.raises(UsageError, match=r"no job 'job-9'"):
        jobs.crash_worker(at="charged", job="job-9")


@EITHER
def test_a_job_delivered_twice_is_run_twice_and_settled_once(jobs: JobHarness, processor: Any) -> None:
    jobs.register("charge", processor)
    job = jobs.enqueue("charge", 7)
    jobs.deliver_twice(job)
    assert jobs.drain() == {"completed": 1}
    assert [name for name, _ in job.effects] == ["charged", "charged", "mailed", "mailed"]
    assert job.attempts == 1
    assert jobs.problems() == []


# what is left behind and what is not under control ------------------------------------------------------------------


def test_a_task_that_outlives_its_processor_is_named_with_its_line(jobs: JobHarness) -> None:
    async def forget(job: ToolJob) -> JobResult:
        kept.append(asyncio.create_task(asyncio.sleep(10**6), name="cleaner"))
        return DONE

    kept: list[Any] = []
    jobs.register("forgets", forget)
    jobs.enqueue("forgets")
    jobs.drain()
    (problem,) = jobs.problems()
    assert re.search(r"the task 'cleaner' of forgets job-1 still runs: sleep at .*tasks\.py:\d+", problem)


def test_the_threads_of_a_second_delivery_that_is_still_at_work_are_not_left_behind(jobs: JobHarness) -> None:
    begun: list[str] = []

    def with_a_pool(job: ToolJob) -> JobResult:
        begun.append(job.id)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(time.sleep, 0 if len(begun) == 1 else 60).result()  # noqa: TID251 - on virtual time
        return DONE

    jobs.register("tool", with_a_pool)
    jobs.deliver_twice(jobs.enqueue("tool"))
    jobs.run_until_idle()
    at_work = [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
    assert (len(begun), len(at_work), jobs.bench.leaks.left_behind()) == (2, 1, [])
    jobs.advance("2m")
    assert not any(thread.is_alive() for thread in at_work)


def test_a_job_that_a_second_delivery_sends_last_of_all_is_done_at_rest(jobs: JobHarness) -> None:
    begun: list[str] = []

    async def send(job: ToolJob) -> JobResult:
        begun.append(job.id)
        if len(begun) == 2:
            await asyncio.sleep(0.5)
            jobs.enqueue("other", start_after="1m")
        return DONE

    jobs.on_start(lambda: None)
    jobs.register("tool", send)
    jobs.register("other", lambda job: DONE)
    jobs.deliver_twice(jobs.enqueue("tool"))
    jobs.run_until_idle()
    assert len(jobs.all_enqueued()) == 1, "the second delivery is still at work"
    seen = _judge_test(jobs, Replay(()), AssertionError("there is no other job"))
    assert (seen.lost, seen.anomalies) == ("", ())
    assert [job.status for job in jobs.all_enqueued()] == ["COMPLETED", "COMPLETED"]
    assert not seen.all_done, "the test looked too early, so what it says is no finding"


def test_threads_and_processes_left_behind_are_named(jobs: JobHarness) -> None:
    end = threading.Event()

    def spawn(job: ToolJob) -> JobResult:
        threading.Thread(target=end.wait, name="straggler", daemon=True).start()
        children.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        return DONE

    children: list[subprocess.Popen[bytes]] = []
    jobs.register("spawns", spawn)
    jobs.enqueue("spawns")
    jobs.drain()
    (problem,) = jobs.problems()
    end.set()
    with children[0]:
        children[0].kill()
    assert "the thread 'straggler' still runs" in problem
    assert f"the child process {children[0].pid} " in problem
    notes = "\n".join(jobs.notes())
    assert f"thread: 'straggler', whose order among others no seed determines, at {__file__}:" in notes
    assert f"child process: {sys.executable} -c input() at {__file__}:" in notes


def test_a_processor_that_ends_everything_it_began_leaves_nothing(jobs: JobHarness) -> None:
    async def tidy(job: ToolJob) -> JobResult:
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)

        async def produce() -> None:
            for number in range(5):
                await asyncio.sleep(1)
                await queue.put(number)

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            got = [await asyncio.wait_for(queue.get(), 5) for _ in range(5)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        total = await asyncio.to_thread(sum, got)
        return JobResult(success=True, output=await asyncio.get_running_loop().run_in_executor(None, abs, -total))

    jobs.register("tidy", tidy)
    job = jobs.enqueue("tidy")
    jobs.drain()
    assert job.output is None, "the timeout of ten minutes comes before the hour is over"
    with JobHarness() as others:
        assert others.perform_job(tidy, None).output == 10
        assert (others.problems(), others.notes()) == ([], [])


def test_clocks_and_chance_that_a_processor_reads_are_named_once_it_has_run(jobs: JobHarness) -> None:
    async def stamp(job: ToolJob) -> JobResult:
        import random

        return JobResult(success=True, output=[datetime.now(UTC).isoformat(), random.random()])  # noqa: TID251

    jobs.register("stamp", stamp)
    assert jobs.notes() == [], "it has not run"
    jobs.enqueue("stamp")
    jobs.drain()
    assert [note.partition(" at ")[0] for note in jobs.notes()] == ["randomness: random.random"]
    with JobHarness(clocks="real") as real:
        real.register("stamp", stamp)
        real.perform_job("stamp", None)
        told = [note.partition(" at ")[0] for note in real.notes()]
    assert told == ["time: datetime.now", "randomness: random.random"]
    jobs.bench.frozen = True
    assert [note.partition(" at ")[0] for note in jobs.notes()] == ["randomness: random.random"]


def test_real_io_stops_virtual_time_until_it_is_answered_and_is_named(jobs: JobHarness) -> None:
    async def ask(job: ToolJob) -> JobResult:
        reader, writer = await asyncio.open_connection(*job.input)
        async with asyncio.timeout(1):
            answer = await reader.read(5)
        writer.close()
        await writer.wait_closed()
        return JobResult(success=True, output=answer.decode())

    def answer_slowly() -> None:
        with server.accept()[0] as client:
            time.sleep(0.02)  # noqa: TID251 - the network is real here
            client.send(b"hello")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_slowly)
        thread.start()
        result = jobs.perform_job(ask, list(server.getsockname()))
        thread.join()
    assert result.output == "hello"
    assert jobs.now == datetime(2026, 1, 1, tzinfo=UTC)
    assert any(note.startswith("network: a connection to ('127.0.0.1', ") for note in jobs.notes())


def test_a_postgresql_that_is_ours_is_no_network(jobs: JobHarness) -> None:
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(place := f"{folder}/{SOCKET_NAME}")
        server.listen()

        def connect(job: ToolJob) -> JobResult:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(place)
            return JobResult(success=True)

        assert jobs.perform_job(connect, {}).success
    assert jobs.notes() == []


def test_a_child_process_of_asyncio_stops_virtual_time(jobs: JobHarness) -> None:
    async def call(job: ToolJob) -> JobResult:
        made = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('hi')", stdout=subprocess.PIPE)
        async with asyncio.timeout(1):
            told, _ = await made.communicate()
        return JobResult(success=made.returncode == 0, output=told.decode().strip())

    assert jobs.perform_job(call, None).output == "hi"
    assert jobs.problems() == []


def test_a_coroutine_that_blocks_costs_virtual_time_in_which_nobody_acts(jobs: JobHarness) -> None:
    async def block(job: ToolJob) -> JobResult:
        time.sleep(60)  # noqa: ASYNC251, TID251 - the mistake under test
        return DONE

    jobs.register("blocks", block)
    job = jobs.enqueue("blocks")
    jobs.drain()
    assert (job.status, jobs.now) == ("COMPLETED", datetime(2026, 1, 1, 0, 1, tzinfo=UTC))
    assert any(note.startswith("blocking: time.sleep(60) in a coroutine") for note in jobs.notes())


# processors by file -------------------------------------------------------------------------------------------------


def test_a_file_that_nothing_loads_is_refused(jobs: JobHarness, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"names no processor"):
        jobs.register("a", "lib/processor.tss#run")
    with pytest.raises(UsageError, match="there is no file"):
        jobs.register("a", f"{tmp_path}/processor.ts#run")
