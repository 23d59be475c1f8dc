"""The job harness: a user's processors under the real worker on virtual time."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from job_harness import effect
from job_harness.core.history.event import Effect
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.model.settings import Settings
from job_harness.errors import UsageError
from job_harness.subjects.processors import AsyncJobHarness, JobHarness, JobResult, NonRetryableError, ToolJob

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def jobs() -> Iterator[JobHarness]:
    with JobHarness() as harness:
        yield harness


def succeed(job: ToolJob) -> JobResult:
    """Found by the name of this module too."""
    return JobResult(success=True, output={"echo": job.input})


async def fail(job: ToolJob) -> JobResult:
    return JobResult(success=False, error=f"attempt {job.attempts} failed")


def fail_until(attempt: int, *, takes: float = 0) -> Any:
    async def processor(job: ToolJob) -> JobResult:
        await asyncio.sleep(takes)
        return JobResult(success=job.attempts >= attempt, error="not yet", output=job.attempts)

    return processor


WRONG_INPUT: dict[str, Callable[[JobHarness], object]] = {
    "limit is 1.5; give a whole number": lambda jobs: jobs.drain(limit=1.5),  # type: ignore[arg-type]
    "limit is '2'; give a whole number": lambda jobs: jobs.drain(limit="2"),  # type: ignore[arg-type]
    "5 is not the name of a tool": lambda jobs: jobs.enqueue(5),  # type: ignore[arg-type]
    r"\[\] is not the name of a tool": lambda jobs: jobs.register([], object),  # type: ignore[arg-type]
    "5 is not a unique key": lambda jobs: jobs.enqueue("echo", unique_key=5),  # type: ignore[arg-type]
    "5 is not a place": lambda jobs: jobs.crash_worker(at=5),  # type: ignore[arg-type]
    "None is not a job": lambda jobs: jobs.cancel(None),  # type: ignore[arg-type]
    r"\{\} is not a job": lambda jobs: jobs.deliver_twice({}),  # type: ignore[arg-type]
    "6 is not a job": lambda jobs: jobs.crash_worker(at="while running", job=6),  # type: ignore[arg-type]
}
WRONG_OPENING: dict[str, dict[str, Any]] = {
    r"settings is \{\}; give a Settings": {"settings": {}},
    "seed is 'x'; give a whole number": {"seed": "x"},
    "workplace is 5; give a class or function that opens one": {"workplace": 5},
    "choices is 5; give Choices": {"choices": 5},
    r"faults is \{\}; give a FaultPlan": {"faults": {}},
    "blocked_after is 0; give real seconds": {"blocked_after": 0},
    "blocked_after is nan; give real seconds": {"blocked_after": math.nan},
    "blocked_after is '30'; give real seconds": {"blocked_after": "30"},
    "start is '2026-01-01'; give a datetime": {"start": "2026-01-01"},
    "give a datetime up to the year 8999": {"start": datetime(9999, 12, 31, tzinfo=UTC)},
    "start .* has no time zone": {"start": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is what is refused
}


def test_what_makes_no_sense_is_refused_in_words() -> None:
    with JobHarness(blocked_after=math.inf) as jobs:
        jobs.register("echo", lambda job: {"success": True})
        for words, call in WRONG_INPUT.items():
            with pytest.raises(UsageError, match=words):
                call(jobs)
    for words, options in WRONG_OPENING.items():
        with pytest.raises(UsageError, match=words):
            JobHarness(**options)


def test_a_job_runs_to_its_result(jobs: JobHarness) -> None:
    jobs.register("echo", succeed)
    job = jobs.enqueue("echo", {"text": "Hello"})
    assert (job.status, job.attempts, job.output) == ("PENDING", 0, None)
    jobs.run_until_idle()
    assert (job.status, job.attempts, job.output, job.error) == ("COMPLETED", 1, {"echo": {"text": "Hello"}}, None)
    assert job.path == ["PENDING", "PROCESSING", "COMPLETED"]
    assert jobs.status(job) == jobs.status(job.id) == "COMPLETED"
    assert jobs.problems() == []


def test_a_worker_dies_at_an_effect_that_a_thread_of_its_processor_has(jobs: JobHarness) -> None:
    went_on = []

    def charge(job: ToolJob) -> None:
        effect("charged", order=job.input)
        went_on.append(job.attempts)

    async def work(job: ToolJob) -> JobResult:
        await asyncio.to_thread(charge, job)
        return JobResult(success=True)

    jobs.register("work", work)
    jobs.crash_worker(at="charged")
    job = jobs.enqueue("work", 7)
    jobs.run_until_idle()
    assert job.path == ["PENDING", "PROCESSING", "PENDING", "PROCESSING", "COMPLETED"]
    assert went_on == [2], "no line after the effect runs in a process that died there"


@pytest.mark.parametrize("awaited", [True, False])
def test_no_line_after_the_effect_at_which_its_worker_dies_runs(jobs: JobHarness, awaited: bool) -> None:
    recorded: list[int] = []

    def charge(job: ToolJob) -> JobResult:
        effect("charged")
        recorded.append(job.attempts)
        return JobResult(success=True)

    async def charge_later(job: ToolJob) -> JobResult:
        return charge(job)

    jobs.register("charge", charge_later if awaited else charge)
    job = jobs.enqueue("charge")
    jobs.crash_worker(at="charged")
    jobs.run_until_idle()
    assert (job.status, recorded, len(jobs.effects("charged"))) == ("COMPLETED", [2], 2)


def test_a_processor_is_found_by_its_name(jobs: JobHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.register("dump", "json:dumps")
    with pytest.raises(UsageError, match=r"there is no module 'no_such_module'"):
        jobs.register("a", "no_such_module:run")
    (tmp_path / "importing_nothing.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"importing importing_nothing failed: .*importing_nothing.py:1\)"):
        jobs.register("a", "importing_nothing:run")
    with pytest.raises(UsageError, match=r"json has no 'dunps' \(did you mean 'dumps'\?\)"):
        jobs.register("a", "json:dunps")
    with pytest.raises(UsageError, match="names no processor"):
        jobs.register("a", "json.dumps")
    with pytest.raises(UsageError, match="cannot be called"):
        jobs.register("a", 5)  # type: ignore[arg-type]


def test_what_an_asynchronous_processor_waits_costs_no_real_time(jobs: JobHarness) -> None:
    jobs.register("slow", fail_until(1, takes=500))
    job = jobs.enqueue("slow", None)
    jobs.run_until_idle()
    assert (job.status, jobs.now) == ("COMPLETED", START + timedelta(seconds=500))


def test_what_a_plain_processor_sleeps_costs_no_real_time(jobs: JobHarness) -> None:
    def slow(job: ToolJob) -> JobResult:
        time.sleep(300)  # noqa: TID251 - what users write
        return JobResult(success=True)

    jobs.register("slow", slow)
    first, second = jobs.enqueue("slow", 1), jobs.enqueue("slow", 2)
    jobs.run_until_idle()
    assert (first.status, second.status) == ("COMPLETED", "COMPLETED")
    assert jobs.now == START + timedelta(seconds=300)
    assert jobs.problems() == []


def test_a_day_of_retries_with_backoff_passes_in_an_instant(jobs: JobHarness) -> None:
    jobs.register("flaky", fail_until(28))
    job = jobs.enqueue("flaky", None, max_attempts=30)
    jobs.run_until_idle()
    assert (job.status, job.attempts, job.output) == ("COMPLETED", 28, 28)
    assert jobs.now > START + timedelta(days=0.9)


def test_a_timeout_is_a_failure_that_says_so() -> None:
    settings = Settings(max_attempts=1, job_timeout=2 * MINUTE, lease=3 * MINUTE)
    with JobHarness(settings=settings) as jobs:
        jobs.register("endless", fail_until(1, takes=121))
        job = jobs.enqueue("endless", None)
        jobs.run_until_idle()
        (problem,) = jobs.problems()
        assert "timed out after 120 s (job_settings: job_timeout)" in problem
        assert job.status == "FAILED"
        assert job.error is not None
        assert "timed out after 120 s" in job.error


def test_a_plain_processor_that_hangs_is_timed_out_and_never_hangs_the_test() -> None:
    go_on: list[bool] = []

    def hang(job: ToolJob) -> JobResult:
        while not go_on:
            pass
        return JobResult(success=True)

    with JobHarness(settings=Settings(max_attempts=1), blocked_after=0.02) as jobs:
        jobs.register("hangs", hang)
        job = jobs.enqueue("hangs", None)
        jobs.run_until_idle()
        go_on.append(True)
        assert "was abandoned" in str(job.error)


def test_a_plain_function_that_hangs_is_the_verdict_once_and_no_second_run_beside_it() -> None:
    ours, theirs = socket.socketpair()

    def receive(job: ToolJob) -> JobResult:
        return JobResult(success=True, output=len(ours.recv(1)))

    with ours, theirs, JobHarness(blocked_after=0.2) as jobs:
        jobs.register("receive", receive)
        job = jobs.enqueue("receive")
        jobs.run_until_idle()
        assert (job.status, job.attempts) == ("FAILED", 3)
        (problem,) = jobs.problems()
        theirs.sendall(b"...")
    title, hangs, hint = problem.splitlines()
    assert title == "a plain function gave no sign of life, and virtual time went on without it:"
    assert hangs.startswith(f"  processor receive job-1 has kept control for 0.2 s of real time, at {__file__}:")
    assert "a wait without a timeout?" in hint


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="stuck_timeout 5m and lease 11m contradict each other"):
        JobHarness(settings=Settings(stuck_timeout=5 * MINUTE))


@pytest.mark.parametrize("leave", [sys.exit, pytest.fail])
def test_perform_job_raises_what_ends_a_plain_function(leave: Callable[[str], None], jobs: JobHarness) -> None:
    with pytest.raises(BaseException, match=r"^enough$") as left:
        jobs.perform_job(lambda job: leave("enough"), None)
    assert left.type in (SystemExit, pytest.fail.Exception)


def test_a_guard_that_a_test_puts_on_sockets_stays(jobs: JobHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def guard(self: socket.socket, address: Any) -> None:
        raise RuntimeError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", guard)
    jobs.register("echo", succeed)
    jobs.enqueue("echo")
    jobs.drain()
    assert socket.socket.connect is guard


def test_a_check_that_comes_late_or_fails_by_pytests_own_word_is_an_anomaly(jobs: JobHarness) -> None:
    jobs.register("echo", succeed)
    jobs.enqueue("echo")
    jobs.drain()
    jobs.always(lambda harness: False)
    jobs.always(lambda harness: pytest.fail("never"))
    first, *_, last = (anomaly.message for anomaly in jobs.anomalies)
    assert first.endswith(": it returned False")
    assert last.endswith(": never")


def test_perform_job_answers_the_result_and_raises_what_the_processor_raises(jobs: JobHarness) -> None:
    def explode(job: ToolJob) -> JobResult:
        raise LookupError("boom")

    async def explode_later(job: ToolJob) -> JobResult:
        await asyncio.sleep(60)
        raise NonRetryableError("boom")

    jobs.register("echo", succeed)
    assert jobs.perform_job("echo", (1, 2)) == JobResult(success=True, output={"echo": [1, 2]})
    assert jobs.perform_job(fail, None).error == "attempt 1 failed"
    texts = ["a\x00b", "\ud800"]
    assert jobs.perform_job(lambda job: JobResult(success=job.input == texts), texts).success
    for value, why in (({1}, "a Python set is not JSON"), (math.nan, "nan is not a JSON number")):
        with pytest.raises(UsageError, match=rf"^the input of 'echo' is no JSON: \$: {why}"):
            jobs.perform_job("echo", value)
    with pytest.raises(LookupError, match="boom"):
        jobs.perform_job(explode, None)
    with pytest.raises(NonRetryableError, match="boom"):
        jobs.perform_job(explode_later, None)
    with pytest.raises(UsageError, match="a value of type int where a JobResult is expected"):
        jobs.perform_job(lambda job: 5, None)  # type: ignore[arg-type, return-value]
    with pytest.raises(UsageError, match=r"did you mean 'echo'\?"):
        jobs.perform_job("ecko", None)


def test_a_dict_with_the_keys_of_a_result_is_one(jobs: JobHarness) -> None:
    answers: dict[str, Any] = {
        "done": {"success": True, "output": [1]},
        "failed": {"success": False, "error": "no funds", "retryable": False},
        "mistyped": {"success": True, "ouput": 1},
        "both": {"success": True, "error": "no funds"},
        "worded": {"success": "yes"},
        "mute": {"output": 1},
        "plain": {"ok": 1},
        "nothing": None,
        "odd": {"success": False, "error": 5},
    }
    jobs.register("tell", lambda job: answers[job.input])
    held = {name: jobs.enqueue("tell", name, max_attempts=1) for name in answers}
    jobs.drain()
    assert (held["done"].status, held["done"].output) == ("COMPLETED", [1])
    assert (held["failed"].error, held["failed"].attempts) == ("no funds", 1)
    ended = [event.data for event in jobs.history if type(event) is Effect and event.name == "ended"]
    assert ended.count("success") == 1
    assert jobs.perform_job("tell", "done") == JobResult(success=True, output=[1])
    refused = "the processor returned a dict "
    assert held["mistyped"].error == refused + "with the key 'ouput': did you mean 'output'?"
    assert held["both"].error == refused + "with success True and an error: it is one or the other"
    assert held["worded"].error == refused + "whose success is a value of type str, neither True nor False"
    assert "the processor returned a dict that does not say whether it succeeded" in (held["plain"].error or "")
    assert "return JobResult(success=True, output={'ok': 1})" in (held["plain"].error or "")
    assert "returned None where a JobResult is expected: return JobResult(success=True)" in (
        held["nothing"].error or ""
    )
    assert held["mute"].error == refused + "whose success is missing, neither True nor False"
    assert held["odd"].error == refused + "whose error is a value of type int, not text"


def test_work_one_takes_one_due_job_and_brings_it_to_its_end(jobs: JobHarness) -> None:
    jobs.register("echo", succeed)
    low, high = jobs.enqueue("echo", 1), jobs.enqueue("echo", 2, priority=5)
    worked = jobs.work_one()
    assert worked is not None
    assert (worked.id, high.status, low.status) == (high.id, "COMPLETED", "PENDING")
    assert jobs.work_one() is not None
    assert jobs.work_one() is None


def test_drain_works_what_is_due_and_counts_outcomes(jobs: JobHarness) -> None:
    jobs.register("echo", succeed)
    jobs.register("fails", fail)
    for _ in range(7):
        jobs.enqueue("echo", None)
    failing = jobs.enqueue("fails", None)
    later = jobs.enqueue("echo", None, start_after="1h")
    assert jobs.drain() == {"completed": 7, "retried": 1}
    assert (failing.status, later.status) == ("PENDING", "PENDING")
    assert jobs.drain() == {"completed": 0, "retried": 0, "failed": 0, "cancelled": 0}
    assert jobs.drain(with_scheduled=True) == {"completed": 1, "retried": 1, "failed": 1}
    assert failing.attempts == 3


def test_drain_makes_at_most_as_many_attempts_as_it_is_told(jobs: JobHarness) -> None:
    jobs.register("echo", succeed)
    for _ in range(5):
        jobs.enqueue("echo", None)
    assert jobs.drain(limit=3) == {"completed": 3}
    assert jobs.drain(limit=3)["completed"] == 2
    with pytest.raises(UsageError, match="at least 1"):
        jobs.drain(limit=0)


def test_processors_may_enqueue_from_either_side(jobs: JobHarness) -> None:
    async def parent(job: ToolJob) -> JobResult:
        jobs.enqueue("child", job.input)
        return JobResult(success=True)

    def child(job: ToolJob) -> JobResult:
        jobs.enqueue("echo", job.input)
        return JobResult(success=True)

    jobs.register("parent", parent)
    jobs.register("child", child)
    jobs.register("echo", succeed)
    jobs.enqueue("parent", "x")
    assert jobs.drain() == {"completed": 3}
    assert jobs.problems() == []


def test_advance_lets_happen_what_is_due_and_jump_lets_nobody_act(jobs: JobHarness) -> None:
    jobs.register("flaky", fail_until(2, takes=30))
    job = jobs.enqueue("flaky", None, start_after=timedelta(minutes=5))
    jobs.advance("4m")
    assert job.status == "PENDING"
    jobs.jump("1h")
    assert job.status == "PENDING"
    jobs.advance(10)
    assert job.status == "PROCESSING"
    jobs.advance(20)
    assert (job.status, job.attempts) == ("PENDING", 1)
    jobs.advance("1h")
    assert job.status == "COMPLETED"
    assert jobs.now == START + timedelta(hours=2, minutes=4, seconds=30)


def test_jobs_are_claimed_on_the_polling_grid() -> None:
    with JobHarness(settings=Settings(poll_interval=10 * SECOND)) as jobs:
        jobs.register("echo", succeed)
        jobs.advance(3)
        job = jobs.enqueue("echo", None)
        jobs.advance(6.9)
        assert job.status == "PENDING"
        jobs.advance(0.1)
        assert job.status == "COMPLETED"


def test_a_job_past_its_retention_is_answered_as_it_last_was(jobs: JobHarness) -> None:
    jobs.register("echo", succeed)
    job = jobs.enqueue("echo", 5)
    jobs.advance("8d")
    assert (job.status, job.output) == ("COMPLETED", {"echo": 5})
    assert jobs.problems() == []


def test_a_unique_key_answers_with_the_job_that_holds_it(jobs: JobHarness) -> None:
    jobs.register("echo", succeed)
    first = jobs.enqueue("echo", 1, unique_key="k")
    assert jobs.enqueue("echo", 2, unique_key="k").id == first.id
    jobs.run_until_idle()
    assert jobs.enqueue("echo", 3, unique_key="k").id != first.id


@pytest.mark.parametrize("duration", ["soon", -1, True, float("nan"), None, timedelta(seconds=-1), "11000d"])
def test_a_length_that_cannot_pass_is_refused(jobs: JobHarness, duration: Any) -> None:
    with pytest.raises(UsageError, match="duration"):
        jobs.advance(duration)


def test_an_unknown_tool_and_an_input_that_is_no_json_are_refused(jobs: JobHarness) -> None:
    jobs.register("my-tool", succeed)
    with pytest.raises(UsageError, match=r"'my-tol' \(did you mean 'my-tool'\?\)"):
        jobs.enqueue("my-tol", None)
    with pytest.raises(
        UsageError,
        match=r"the input of 'my-tool' cannot be stored: \$.score: nan is not a JSON "
        r"number",
    ):
        jobs.enqueue("my-tool", {"score": float("nan")})
    with pytest.raises(UsageError) as refused:
        jobs.enqueue("my-tool", {"text": "a\x00b"})
    assert "run it without the queue: perform_job('my-tool', ...)" in str(refused.value.hint)
    with pytest.raises(UsageError) as refused:
        jobs.enqueue("my-tool", {"set": {1}})
    assert not refused.value.hint
    with pytest.raises(UsageError, match=r"start_after .* has no time zone"):
        jobs.enqueue("my-tool", None, start_after=datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake under test


def test_an_output_that_is_no_json_is_a_recorded_failure(jobs: JobHarness) -> None:
    jobs.register("hostile", lambda job: JobResult(success=True, output={"text": "a\x00b"}))
    jobs.register("echo", succeed)
    job, bystander = jobs.enqueue("hostile", None, max_attempts=1), jobs.enqueue("echo", None)
    jobs.run_until_idle()
    assert (job.status, bystander.status) == ("FAILED", "COMPLETED")
    assert "cannot be stored as JSON" in str(job.error)
    assert jobs.problems() == []


def test_a_failed_job_that_nobody_looked_at_is_named(jobs: JobHarness) -> None:
    jobs.register("fails", fail)
    seen = jobs.enqueue("fails", None, max_attempts=1)
    early = jobs.enqueue("fails", None, max_attempts=1)
    assert early.status == "PENDING"
    jobs.run_until_idle()
    assert seen.error == "attempt 1 failed"
    (problem,) = jobs.problems()
    assert early.id in problem
    assert seen.id not in problem
    assert "attempt 1 failed" in problem


def test_counting_failures_is_looking_at_them(jobs: JobHarness) -> None:
    jobs.register("fails", fail)
    jobs.enqueue("fails", None, max_attempts=1)
    counts = jobs.drain()
    assert len(jobs.problems()) == 1
    assert counts == {"failed": 1}
    assert jobs.problems() == []


def test_a_processor_that_ignores_its_cancellation_is_reported_when_its_retry_overlaps() -> None:
    async def stubborn(job: ToolJob) -> JobResult:
        until = asyncio.get_running_loop().time() + 3600
        while asyncio.get_running_loop().time() < until:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue
        return JobResult(success=True)

    with JobHarness() as jobs:
        jobs.register("stubborn", stubborn)
        job = jobs.enqueue("stubborn", None, max_attempts=2)
        jobs.run_until_idle()
        assert job.status == "FAILED"
        screen, leaks = jobs.problems()
        assert "concurrent_execution" in screen
        assert "one at a time" in screen
        assert "the processor of job-1 was told to stop and still runs" in leaks


def test_a_processor_cannot_move_time(jobs: JobHarness) -> None:
    async def impatient(job: ToolJob) -> JobResult:
        jobs.advance("1h")
        return JobResult(success=True)

    with pytest.raises(UsageError, match=r"await asyncio\.sleep"):
        jobs.perform_job(impatient, None)


def test_a_closed_harness_says_so(jobs: JobHarness) -> None:
    jobs.close()
    jobs.close()
    with pytest.raises(UsageError, match="closed"):
        jobs.advance(1)


def test_the_same_seed_gives_the_same_history() -> None:
    def history(seed: int) -> list[Any]:
        with JobHarness(seed=seed) as jobs:
            jobs.register("flaky", fail_until(3, takes=7))
            for number in range(5):
                jobs.enqueue("flaky", number)
            jobs.run_until_idle()
            return list(jobs.history)

    assert history(1) == history(1)
    assert history(1) != history(2)


def test_the_asynchronous_harness_is_the_same_one_awaited(jobs: JobHarness) -> None:
    async def scene() -> None:
        harness = AsyncJobHarness(jobs)

        async def parent(job: ToolJob) -> JobResult:
            await harness.enqueue("echo", job.input)
            return JobResult(success=True)

        await harness.register("parent", parent)
        await harness.register("echo", succeed)
        await harness.register("flaky", fail_until(2, takes=600 - 1))
        await harness.enqueue("parent", "x")
        assert await harness.drain() == {"completed": 2}
        job = await harness.enqueue("flaky", None)
        worked = await harness.work_one()
        assert worked is not None
        assert (worked.id, await harness.status(job)) == (job.id, "PENDING")
        await harness.advance("1h")
        await harness.jump("1h")
        await harness.run_until_idle()
        assert job.path == ["PENDING", "PROCESSING", "PENDING", "PROCESSING", "COMPLETED"]
        assert (await harness.perform_job("echo", 1)).success

        async def impatient(job: ToolJob) -> JobResult:
            await harness.advance(1)
            return JobResult(success=True)

        with pytest.raises(UsageError, match="a processor cannot move time"):
            await harness.perform_job(impatient, None)

    asyncio.run(scene())


def test_the_plain_harness_refuses_to_run_inside_another_loop(jobs: JobHarness) -> None:
    async def scene() -> None:
        jobs.register("echo", succeed)
        jobs.enqueue("echo", None)
        jobs.run_until_idle()

    with pytest.raises(UsageError, match="Ask for async_job_harness"):
        asyncio.run(scene())


def test_ctrl_c_inside_a_processor_ends_the_test_run_and_is_no_failure_of_the_job(jobs: JobHarness) -> None:
    async def press(job: ToolJob) -> JobResult:
        signal.raise_signal(signal.SIGINT)
        return JobResult(success=True)

    jobs.register("press", press)
    job = jobs.enqueue("press", None)
    with pytest.raises(KeyboardInterrupt):
        jobs.advance("1d")
    assert job.attempts == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_worker_of_a_test_that_is_a_coroutine_dies_where_it_is_told_to(jobs: JobHarness) -> None:
    async def scene() -> None:
        harness = AsyncJobHarness(jobs)
        await harness.register("slow", slow)
        job = await harness.enqueue("slow")
        await harness.crash_worker(at="while running")
        await harness.run_until_idle()
        assert (job.status, job.attempts) == ("COMPLETED", 2)

    async def slow(job: ToolJob) -> JobResult:
        await asyncio.sleep(10)
        return JobResult(success=True)

    asyncio.run(scene())


def test_the_awaited_harness_has_every_method_of_the_plain_one() -> None:
    left_out = {"close", "enqueue_part", "host", "notes", "problems"}
    """The affairs of the plugin, and of tests in other languages."""
    methods = {name for name in dir(JobHarness) if not name.startswith("_") and callable(getattr(JobHarness, name))}
    assert methods - left_out == {name for name in dir(AsyncJobHarness) if not name.startswith("_")} - {
        "now",
        "history",
    }
    assert all(
        getattr(AsyncJobHarness, name).__doc__ == getattr(JobHarness, name).__doc__ for name in methods - left_out
    )


def test_handles_of_one_job_are_equal(jobs: JobHarness) -> None:
    jobs.register("echo", succeed)
    first, second = jobs.enqueue("echo", 1, unique_key="a"), jobs.enqueue("echo", 2)
    assert jobs.enqueue("echo", 1, unique_key="a") == first
    assert jobs.all_enqueued("echo") == [first, second]
    assert len({first, second, jobs.assert_enqueued("echo", input=1)}) == 2
    with JobHarness() as others:
        others.register("echo", succeed)
        assert others.enqueue("echo", 1) != first


def test_an_answer_that_never_comes_lets_time_move_on_to_the_processor_s_own_timeout() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    async def ask(job: ToolJob) -> JobResult:
        _, writer = await asyncio.open_connection(*server.getsockname())
        try:
            writer.write(b"question")
            await asyncio.wait_for(_.readline(), 10)
        finally:
            writer.close()
        return JobResult(success=True)

    with server, JobHarness(settings=Settings(max_attempts=1), blocked_after=1) as jobs:
        jobs.register("ask", ask)
        job = jobs.enqueue("ask")
        jobs.run_until_idle()
        assert (job.status, job.error) == ("FAILED", "TimeoutError")
        assert jobs.now - START < timedelta(seconds=12)
        assert any("has said nothing for 1 s of real time, and time moved on" in note for note in jobs.notes())
        jobs.problems()


def test_a_check_runs_where_plain_code_may_run(jobs: JobHarness) -> None:
    ran: list[bool] = []

    def check(harness: JobHarness) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()  # As Django asks before each of its plain calls.
        ran.append(True)

    async def work(job: ToolJob) -> JobResult:
        await asyncio.sleep(1)
        assert asyncio.get_running_loop().is_running()
        return JobResult(success=True)

    jobs.always(check)
    jobs.register("work", work)
    job = jobs.enqueue("work")
    jobs.run_until_idle()
    assert job.status == "COMPLETED"
    assert len(ran) > 1
