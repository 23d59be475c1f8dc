"""Processes of an application: where they suspend, what they raise, and how they are told to have died."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.history.answers import VerbAnswers, declared_settings
from job_harness.core.history.event import Fault, Observed
from job_harness.core.model.duration import HOUR, MINUTE, SECOND
from job_harness.core.model.job import JobId, JobView
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.run.session import Limits, Session
from job_harness.core.run.verdict import Run, Verdict
from job_harness.core.scenario.job_plan import Ending, JobPlan, Span
from job_harness.core.scenario.scenario import RESTART_AFTER, Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.errors import UsageError
from job_harness.review.audit.evidence import blank
from job_harness.search.sampling import Sampler
from job_harness.subjects.applications import ApplicationEngine, Stage, poll, sleep, step

Process = Callable[[Stage], Any]


class Application:
    """An API that writes both rows at once, and whatever processes a test wants."""

    def __init__(self, **processes: Process) -> None:
        self.processes = processes

    async def send(self, stage: Stage, job: Any) -> None:
        await step("insert", job.id)
        stage.tables.insert_tool_job(job.id)
        stage.tables.send(job.id)

    def actors(self, stage: Stage) -> Mapping[str, Callable[[], Any]]:
        return {name: partial(process, stage) for name, process in self.processes.items()}


async def worker(stage: Stage) -> None:
    tables = stage.tables
    while True:
        await step("fetch")
        for row in tables.fetch("w1"):
            await step("start", row.job)
            tables.update_tool_job(row.job, status="PROCESSING")
            output = await stage.work("w1", row)
            await step("complete", row.job)
            tables.complete(row)
            tables.update_tool_job(row.job, status="COMPLETED", output=output)
        await poll("2s")


def run(
    application: object, *, tape: tuple[Deviation, ...] = (), jobs: tuple[JobPlan, ...] = (JobPlan("a"),), **how: Any
) -> Run:
    engine = ApplicationEngine(lambda: application, name="app")
    scenario = Scenario(jobs=jobs, tape=tape, restart_after=RESTART_AFTER, **how)
    return Session(scenario, engine=engine, limits=Limits(steps=5_000)).run()


async def limited(stage: Stage) -> None:
    """Take one job a minute, and look every ten seconds."""
    tables, again = stage.tables, 0
    while True:
        await poll("10s")
        if stage.now() < again:
            continue
        for row in tables.fetch("w1"):
            again = stage.now() + MINUTE
            await step("start", row.job)
            tables.update_tool_job(row.job, status="PROCESSING")
            output = await stage.work("w1", row)
            await step("complete", row.job)
            tables.complete(row)
            tables.update_tool_job(row.job, status="COMPLETED", output=output)


def test_a_loop_that_waits_for_a_time_of_its_own_while_a_job_is_due_is_asked_again() -> None:
    jobs = tuple(JobPlan(name, at=number * 20 * SECOND) for number, name in enumerate("abcd"))
    done = run(Application(w1=limited), jobs=jobs, workers=("w1",))
    assert (done.found, done.steps < 300) == (set(), True)


async def never(stage: Stage) -> None:
    while True:
        await poll("1s")


def test_a_loop_that_never_takes_a_job_that_is_due_is_soon_asked_seldom() -> None:
    done = run(Application(w1=never), workers=("w1",))
    assert "job_never_run" in done.found
    assert done.steps < 1000, "it is not asked every second for an hour"


class SentTwice(Application):
    """Its API sends a job again, as one whose client asks again."""

    async def send(self, stage: Stage, job: Any) -> None:
        await super().send(stage, job)
        await step("insert again", job.id)
        assert stage.tables.send(job.id, another=True)


def test_a_job_with_two_queue_rows_is_judged_by_the_one_at_work() -> None:
    done = run(SentTwice(w1=worker), workers=("w1",))

    assert done.found == {"terminal_job_revived"}
    assert [str(view.queue_state) for view in views_of(done)] == [
        "created", "active", "active", "created", "active", "active", "completed",
    ]  # fmt: skip


def views_of(done: Run) -> list[JobView]:
    return [event.after for event in done.history if type(event) is Observed and event.after is not None]


def test_a_job_goes_through_both_tables() -> None:
    done = run(Application(w1=worker))

    assert (done.anomalies, done.failures) == ((), ())
    assert done.history.path("a") == ["PENDING", "PROCESSING", "COMPLETED"]
    seen = [event for event in done.history.events if type(event) is Observed]
    assert [event.verb for event in seen] == ["step insert", "step fetch", "step start", "step complete"]


def test_a_process_dies_between_any_two_steps_and_comes_back() -> None:
    done = run(Application(w1=worker), tape=(Deviation("w1 complete a", 1, "crash"),))

    assert done.history.runs("a") == 2
    assert done.history.path("a")[-1] == "COMPLETED"


def test_a_request_that_died_is_not_made_again() -> None:
    done = run(Application(w1=worker), tape=(Deviation("client-a insert a", 1, "crash"),))

    assert done.history.of_job("a") == []


def test_a_generator_is_a_process_too() -> None:
    def process(stage: Stage) -> Iterator[Any]:
        yield sleep("3s")
        yield step("cancel", "a")
        stage.tables.update_tool_job("a", status="CANCELLED")
        stage.tables.cancel("a")

    done = run(Application(operator=process))

    assert done.history.path("a") == ["PENDING", "CANCELLED"]
    assert done.anomalies == ()


def test_a_plain_function_is_one_step() -> None:
    class Plain(Application):
        def send(self, stage: Stage, job: Any) -> None:  # type: ignore[override]
            stage.tables.insert_tool_job(job.id)
            stage.tables.send(job.id)

    done = run(Plain(w1=worker))

    assert done.anomalies == ()
    assert done.history.path("a")[-1] == "COMPLETED"


def test_what_is_no_process_is_told_without_an_address_in_memory() -> None:
    done = run(Application(cron=lambda stage: iter(())))

    told = [anomaly.message for anomaly in done.anomalies if anomaly.name == "unhandled_error"]
    assert "cron returned a tuple_iterator: write an async def or a generator, or return nothing" in told[0]


def test_what_a_process_raises_is_an_anomaly_with_its_line() -> None:
    async def process(stage: Stage) -> None:
        await step("look")
        raise LookupError("no row")

    done = run(Application(w1=worker, cron=process))

    found = [anomaly for anomaly in done.anomalies if anomaly.name == "unhandled_error"]
    assert f"cron raised LookupError: no row at {Path(__file__).name}:" in found[0].message.replace("tests/unit/", "")
    assert "after 'step look'" in found[0].message
    assert done.history.path("a")[-1] == "COMPLETED"


def test_who_raises_is_brought_back_a_few_times_and_then_stays_down() -> None:
    async def process(stage: Stage) -> None:
        raise LookupError("no row")

    done = run(Application(cron=process), jobs=())

    healed = next(event.at for event in done.history.events if getattr(event, "name", "") == "heal")
    raised = [event for event in done.history.events if type(event) is Fault and event.at <= healed]
    assert [event.at for event in raised][:4] == [0, 5 * SECOND, 10 * SECOND, 15 * SECOND]


def test_awaiting_something_foreign_says_what_can_be_awaited() -> None:
    async def process(stage: Stage) -> None:
        await asyncio.sleep(0)

    done = run(Application(cron=process))

    assert "await step(...), sleep(...) or poll(...)" in done.anomalies[0].message


def test_a_process_that_never_rests_is_stopped_by_name() -> None:
    async def process(stage: Stage) -> None:
        while True:
            await step("spin")

    done = run(Application(cron=process))

    assert done.failures == ("still not idle after 5000 steps; next would be: cron spin",)


def test_a_processor_that_kills_its_worker_is_run_again() -> None:
    plan = JobPlan("a", outcomes=(Ending.EXIT, Ending.SUCCEED))

    done = run(Application(w1=worker), jobs=(plan,))

    assert done.history.runs("a") == 2
    assert done.history.path("a")[-1] == "COMPLETED"


def test_nothing_of_a_worker_happens_after_a_processor_killed_it() -> None:
    async def process(stage: Stage) -> None:
        try:
            await worker(stage)
        finally:
            await step("clean up")

    plan = JobPlan("a", outcomes=(Ending.EXIT, Ending.SUCCEED))

    done = run(Application(w1=process), jobs=(plan,))

    assert (done.anomalies, done.failures) == ((), ())
    assert done.history.path("a")[-1] == "COMPLETED"


@pytest.mark.parametrize("place", [step("look"), sleep("1s"), poll("1s")])
def test_a_process_that_suspends_in_a_transaction_is_told_so_and_nothing_of_it_is_seen(place: Any) -> None:
    async def process(stage: Stage) -> None:
        await step("begin")
        with stage.tables.transaction():
            stage.tables.update_tool_job("a", status="PROCESSING")
            await place

    done = run(Application(cron=process))

    (told, *_) = [anomaly.message for anomaly in done.anomalies if anomaly.name == "unhandled_error"]
    assert "cron suspends in a transaction, at '" in told or "at 'a poll'" in told
    assert done.history.path("a") == ["PENDING"]


@pytest.mark.parametrize("awaited", [False, True])
def test_a_heartbeat_that_answers_false_ends_the_run(*, awaited: bool) -> None:
    async def process(stage: Stage) -> None:
        def beat() -> bool:
            return stage.now() < 2 * MINUTE

        async def beat_by_steps() -> bool:
            await step("look at the clock")
            return beat()

        await sleep("1s")
        (row,) = stage.tables.fetch("w1")
        await stage.work("w1", row, every="1m", beat=beat_by_steps if awaited else beat)

    done = run(Application(w1=process), jobs=(JobPlan("a", takes=(Span(fixed=9 * MINUTE),)),))

    assert "LeaseLost" in done.anomalies[0].message


def test_polls_before_anything_is_due_cost_nothing() -> None:
    done = run(Application(w1=worker), jobs=(JobPlan("a", at=60 * MINUTE),))

    assert done.steps < 40


def test_an_application_with_a_state_of_its_own_is_seen_through_its_jobs() -> None:
    class Own(Application):
        def __init__(self) -> None:
            super().__init__()
            self.views: dict[str, Any] = {}

        def jobs(self) -> dict[str, Any]:
            return dict(self.views)

        async def send(self, stage: Stage, job: Any) -> None:
            stage.tables.insert_tool_job(job.id)
            stage.tables.send(job.id)
            self.views[job.id] = stage.tables.jobs()[job.id]

    done = run(Own())

    assert [anomaly.name for anomaly in done.anomalies] == ["job_never_run", "bystander_harmed"]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (object(), "no actors and no send"),
        (type("Half", (), {"actors": lambda self, stage: {}})(), "has no send"),
    ],
)
def test_what_is_no_application_is_told_what_it_lacks(made: object, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ApplicationEngine(lambda: made, name="app.py:make")


def test_actors_that_are_no_functions_are_refused() -> None:
    class Wrong(Application):
        def actors(self, stage: Stage) -> Any:
            return {"w1": "worker"}

    with pytest.raises(UsageError, match="a function that starts it"):
        run(Wrong())


def test_a_safeguard_that_is_not_declared_is_named_with_its_nearest() -> None:
    application = Application()
    application.safeguards = {"fencing": Application}  # type: ignore[attr-defined]
    engine = ApplicationEngine(lambda: application, name="app.py:make")

    assert engine.guarded("fencing").info.name == "app.py:make+fencing"
    with pytest.raises(UsageError, match="did you mean 'fencing'"):
        engine.guarded("fence")


def test_settings_are_those_of_the_application() -> None:
    application = Application()
    application.settings = Settings(lease=5 * MINUTE)  # type: ignore[attr-defined]

    assert ApplicationEngine(lambda: application, name="app").info.settings.lease == 5 * MINUTE


async def cleaner(stage: Stage) -> None:
    while True:
        await poll("1m")
        for job in [job for job in stage.tables.tool_jobs.values() if job.status == "COMPLETED"]:
            await step("delete", job.id)
            stage.tables.delete_tool_job(job.id)
            stage.tables.delete_row(job.id)


@pytest.mark.parametrize("cleans", [False, True])
def test_a_retention_of_its_own_that_deletes_no_job_is_named(cleans: bool) -> None:
    application = Application(w1=worker, **({"cleaner": cleaner} if cleans else {}))
    assert ApplicationEngine(lambda: application, name="app").info.declared == (), "it leaves what is usual"
    application.settings = Settings(retention=HOUR, max_attempts=2)  # type: ignore[attr-defined]
    declared = ApplicationEngine(lambda: application, name="app").info.declared
    answers = VerbAnswers()
    answers.exercise(declared, run(application).history.events)
    left = {part.name: part.owed for part in declared if part.name not in answers.exercised}
    assert left == {"settings: max_attempts": False} | ({} if cleans else {"settings: retention": True})


def test_timeouts_that_no_job_reached_are_named() -> None:
    given = Settings(job_timeout=2 * HOUR, stuck_timeout=HOUR)
    parts = [*declared_settings({"job_timeout", "stuck_timeout"}, given)]
    working = blank(JobId("a"), Status.PROCESSING, attempts=1, started_at=0)

    def ended(verb: str, at: int) -> Observed:
        return Observed(at, "w1", verb, working.id, working, working._replace(status=Status.PENDING), at)

    def reached(event: Observed) -> list[str]:
        return [part.name.removeprefix("settings: ") for part in parts if part.shows(event)]

    assert reached(ended("fail", HOUR - 1)) == reached(ended("claim", HOUR - 1)) == []
    assert reached(ended("reconcile", HOUR)) == ["stuck_timeout"]
    assert reached(ended("fail", 2 * HOUR)) == ["job_timeout", "stuck_timeout"]


async def finds_nothing(stage: Stage) -> None:
    while True:
        await poll("1m")
        for job in [job for job in stage.tables.tool_jobs.values() if job.status == "STUCK"]:
            await step("free", job.id)
            stage.tables.delete_tool_job(job.id)


@pytest.mark.parametrize(("cron", "acts"), [(finds_nothing, False), (cleaner, True)])
def test_a_process_that_did_nothing_in_any_run_is_named_and_the_search_is_no_pass(*, cron: Process, acts: bool) -> None:
    class Workers(Application):
        def actors(self, stage: Stage) -> Mapping[str, Callable[[], Any]]:
            return {"w1": partial(worker, stage), "cron": partial(cron, stage)}

    silent = frozenset({"attempt_overrun"})
    sampler = Sampler(ApplicationEngine(Workers, name="app"), looking_for=silent)
    done = sampler.explore(seed=0, runs=12)
    told = "" if done.trouble is None else done.trouble.message
    assert (done.verdict is Verdict.PASS) is acts
    assert ("process cron: it took no step and changed nothing in any run" in told) is not acts
