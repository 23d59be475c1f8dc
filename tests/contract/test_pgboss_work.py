"""pg-boss's own work() loop on a clock of ours: it polls, supervises, times out and dies as it does in production."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.contract.overheard import overheard

from job_harness.core.model.duration import DAY, MINUTE, SECOND
from job_harness.core.model.settings import Settings
from job_harness.engines.pgboss.translation import uuid_of
from job_harness.engines.pgboss.work import SUPERVISION, HandlerCall, WorkProcess, WorkTurn, next_due, poll_of
from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.subjects.processors import JobHarness, JobResult, ToolJob
from job_harness.subjects.processors.pgboss import workplace_of

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

OLD, NEW = "10.4.2", "12.38.0"
QUEUE = "mail"


class Driver:
    """Lets one queue be served, and time pass."""

    def __init__(self, process: WorkProcess, *, batch: int = 1) -> None:
        self.process = process
        self.now = 0
        self.ticks = 0
        self.calls: list[HandlerCall] = []
        self.trouble: list[str] = []
        process.begin()
        self.ask("create", queue=QUEUE, options={})
        self.batch = batch
        self.serve()

    def serve(self) -> None:
        options = {"batchSize": self.batch, "pollingIntervalSeconds": 2}
        self.ask("work", queue=QUEUE, options=options, period=2000)

    def ask(self, question: str, **arguments: Any) -> WorkTurn:
        return self.hear(self.process.ask(question, self.now, **arguments))

    def reply(self, call: HandlerCall, **said: Any) -> WorkTurn:
        return self.hear(self.process.reply(call.number, self.now, **said))

    def hear(self, turn: WorkTurn) -> WorkTurn:
        assert turn.outcome.done, turn.outcome
        self.trouble += turn.trouble
        self.timers = turn.timers
        self.calls += turn.calls
        return turn

    def send(self, job: str, **options: Any) -> None:
        data, about = {"job": job, "input": 1}, {"id": uuid_of(job), "expireInSeconds": 60, **options}
        self.hear(self.process.send(self.now, ago=1, queue=QUEUE, data=data, options=about))

    def advance(self, until: int, *, skip: dict[str, int] | None = None) -> None:
        skip = skip or {}
        while (due := next_due(self.timers, skip)) is not None and due <= until:
            self.now = max(self.now, due)
            self.ticks += 1
            self.hear(self.process.tick(self.now, skip=skip))
        self.now = until

    def row(self, job: str) -> dict[str, Any]:
        return next(row for row in self.process.tables.jobs() if row["data"]["job"] == job)


@pytest.fixture(scope="module")
def processes() -> Iterator[Callable[[str], WorkProcess]]:
    """Return a process by release; one that cannot run here skips the test."""
    opened: dict[str, WorkProcess] = {}
    with ExitStack() as stack:

        def get(version: str) -> WorkProcess:
            if version not in opened:
                try:
                    process = WorkProcess(version)
                    stack.callback(process.close)
                    process.begin()
                except EnvironmentUnavailable as error:
                    pytest.skip(str(error))
                opened[version] = process
            return opened[version]

        yield get


@pytest.fixture(params=[OLD, NEW])
def process(request: pytest.FixtureRequest, processes: Callable[[str], WorkProcess]) -> WorkProcess:
    return processes(request.param)


def test_a_job_is_fetched_at_the_next_poll_and_its_result_is_kept(process: WorkProcess) -> None:
    with overheard() as lines:
        driver = Driver(process)
        driver.advance(SECOND)
        driver.send("a")
        driver.advance(2 * SECOND)
        (call,) = driver.calls
        assert (driver.now, call.queue, call.jobs) == (2 * SECOND, QUEUE, ("a",))
        driver.reply(call, value={"sent": True})
    assert lines >= {"go", "time", "gate", "effect", "idle"}, "it does not speak the peer protocol"
    assert driver.row("a")["state"] == "completed"
    assert driver.row("a")["output"] == {"sent": True}


def test_one_throw_fails_the_whole_batch(process: WorkProcess) -> None:
    driver = Driver(process, batch=3)
    for job in "abc":
        driver.send(job, retryLimit=0)
    driver.advance(2 * SECOND)
    (call,) = driver.calls
    assert sorted(call.jobs) == ["a", "b", "c"]
    driver.reply(call, error={"name": "Error", "message": "boom"})
    assert {driver.row(job)["state"] for job in "abc"} == {"failed"}


def test_a_batch_of_more_than_one_keeps_no_answer(process: WorkProcess) -> None:
    driver = Driver(process, batch=3)
    for job in "ab":
        driver.send(job)
    driver.advance(2 * SECOND)
    (call,) = driver.calls
    driver.reply(call, value={"sent": True})
    assert {(driver.row(job)["state"], driver.row(job)["output"]) for job in "ab"} == {("completed", None)}


def test_rounds_that_would_find_nothing_are_left_out_on_their_grid(process: WorkProcess) -> None:
    driver = Driver(process)
    driver.send("a", startAfter="2030-01-03T00:00:01Z")
    due = 2 * DAY + SECOND
    driver.advance(due + MINUTE, skip={poll_of(QUEUE): due, SUPERVISION: due})
    (call,) = driver.calls
    started = driver.row("a")["started_on"]
    assert started.isoformat() == "2030-01-03T00:00:02+00:00"
    assert driver.ticks < 60  # And none of the 86 400 polls of two days.
    driver.reply(call)


def test_a_handler_that_outlasts_its_job_is_timed_out_at_its_expiry(process: WorkProcess) -> None:
    driver = Driver(process)
    driver.send("a", retryLimit=1, retryDelay=0)
    driver.advance(62 * SECOND - 1)
    assert driver.row("a")["state"] == "active"
    driver.advance(62 * SECOND)
    assert driver.row("a")["state"] == "retry"
    assert "handler execution exceeded" in str(driver.row("a")["output"])


def test_version_10_runs_a_retry_beside_the_handler_that_it_timed_out_and_the_newest_waits_for_it(
    processes: Callable[[str], WorkProcess],
) -> None:
    numbers = {}
    for version in (OLD, NEW):
        driver = Driver(processes(version))
        driver.send("a", retryLimit=1, retryDelay=0)
        driver.advance(5 * MINUTE)
        numbers[version] = len(driver.calls)
    assert numbers == {OLD: 2, NEW: 1}
    assert "this worker fetches nothing until it returns" in driver.trouble[0]


@pytest.mark.long
def test_a_process_that_is_killed_leaves_its_job_active_until_the_supervision_of_the_next_one_finds_it(
    process: WorkProcess,
) -> None:
    driver = Driver(process)
    driver.send("a", retryLimit=1, retryDelay=0)
    driver.advance(2 * SECOND)
    (lost,) = driver.calls
    driver.hear(process.restart(driver.now))
    driver.serve()
    driver.advance(MINUTE)
    assert driver.row("a")["state"] == "active"
    driver.advance(10 * MINUTE)
    assert driver.calls[1].jobs == lost.jobs
    assert driver.row("a")["retry_count"] == 1


def sent(job: ToolJob) -> JobResult:
    return JobResult(success=True, output=job.input)


def test_a_process_that_dies_by_itself_is_named_and_the_next_harness_has_another(
    processes: Callable[[str], WorkProcess],
) -> None:
    process = processes(OLD)
    place = workplace_of(process)
    with JobHarness(workplace=place) as jobs:
        jobs.register(QUEUE, sent)
        jobs.enqueue(QUEUE, 1)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EnvironmentUnavailable, match=r"pg-boss 10\.4\.2: its process was killed by SIGKILL"):
            jobs.drain()
    with JobHarness(workplace=place) as jobs:
        jobs.register(QUEUE, sent)
        job = jobs.enqueue(QUEUE, 1)
        assert jobs.drain() == {"completed": 1}
        assert job.output == 1


def test_a_unique_key_is_kept_where_the_policy_of_the_queues_looks_at_it(
    processes: Callable[[str], WorkProcess],
) -> None:
    with JobHarness(workplace=workplace_of(processes(f"{OLD}/short"))) as jobs:
        jobs.register(QUEUE, sent)
        first = jobs.enqueue(QUEUE, 1, unique_key="k")
        assert jobs.enqueue(QUEUE, 2, unique_key="k").id == first.id
        assert jobs.enqueue(QUEUE, 3).id != first.id
        assert jobs.drain() == {"completed": 2}
        assert jobs.enqueue(QUEUE, 4, unique_key="k").id != first.id
        jobs.drain()
        assert jobs.problems() == []


@pytest.mark.long
def test_a_limit_that_its_worker_does_not_keep_is_refused(processes: Callable[[str], WorkProcess]) -> None:
    with pytest.raises(UsageError, match="cannot limit how many jobs run at once"):
        JobHarness(workplace=workplace_of(processes(OLD)), settings=Settings(concurrency=1))
