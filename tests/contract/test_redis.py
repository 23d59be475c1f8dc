"""A Redis on a clock of ours: proven at its start, moved at will, gone with the harness; and BullMQ on it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.opened_engines import Get, fresh, opened_engines

from job_harness.core.model.duration import HOUR, MILLISECOND, SECOND
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import Claim, Engine, JobRequest
from job_harness.core.run.session import Session
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.conformance.judge import Level, Mark, conform
from job_harness.errors import EnvironmentUnavailable, ExitCode
from job_harness.extras import install
from job_harness.search.sampling import Sampler
from job_harness.search.targets import open_engine
from job_harness.worlds.redis import RedisError, RedisStore
from job_harness.worlds.redis import server as redis_server
from job_harness.worlds.redis.server import sweep

pytestmark = pytest.mark.slow

BULL, CELERY, DRAMATIQ = "bullmq-redis@6.7.0", "celery-redis@5.7.0", "dramatiq-redis@2.2.1"


@pytest.fixture(scope="module")
def store() -> Iterator[RedisStore]:
    try:
        opened = RedisStore()
    except EnvironmentUnavailable as missing:
        pytest.skip(str(missing))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def engines(store: RedisStore) -> Iterator[Get]:
    with opened_engines() as get:
        yield get


def test_keys_end_when_its_clock_moves_and_not_before_forwards_and_backwards(store: RedisStore) -> None:
    for now in (HOUR, 0, 300_000 * HOUR):
        store.empty()
        store.set_now(now)
        store.ask("SET", "k", "v", "PX", 1_500)
        store.set_now(now + 1_500 * MILLISECOND)
        assert store.ask("GET", "k") == b"v"
        assert store.ask("EVAL", "return redis.call('PTTL', 'k')", 0) == 0
        store.set_now(now + 1_501 * MILLISECOND)
        assert store.ask("GET", "k") is None


def test_its_clock_stands_still_while_real_time_passes(store: RedisStore) -> None:
    store.set_now(SECOND)
    seen = {tuple(store.ask("TIME")) for _ in range(200)}
    assert len(seen) == 1


def test_an_error_reply_is_raised_with_its_words(store: RedisStore) -> None:
    with pytest.raises(RedisError, match=r"^WRONGTYPE "):
        store.ask("EVAL", "redis.call('SET', 'a', 1) return redis.call('LPUSH', 'a', 1)", 0)


def test_a_server_that_dies_is_named_and_leaves_nothing(store: RedisStore) -> None:
    other = RedisStore()
    folder = Path(other.url.removeprefix("unix://")).parent
    os.kill(other._server._process.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentUnavailable, match="Redis went away"):
        other.ask("PING")
    assert not other.alive
    with pytest.raises(EnvironmentUnavailable, match=r"Redis (ended|went away)"):
        other.confirm()
    other.close()
    assert not folder.exists()


def test_what_a_killed_harness_left_is_removed_by_the_next_and_nothing_of_those_that_run(store: RedisStore) -> None:
    program = (
        "from job_harness.worlds.redis import RedisStore; store = RedisStore(); print(store.url, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as killed:
        assert killed.stdout is not None
        folder = Path(killed.stdout.readline().strip().removeprefix("unix://")).parent
        pid = (folder / "held").read_text()
        sweep(folder.parent)
        assert folder.exists()
        killed.kill()
    with (folder / "held").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # The server has ended too.
    sweep(folder.parent)
    assert not folder.exists()
    assert not [left for left in folder.parent.iterdir() if left.name.endswith(f"faketime_shm_{pid}")]
    assert store.ask("PING") == b"PONG"
    assert Path(store.url.removeprefix("unix://")).exists()


@pytest.mark.parametrize(
    ("stopped", "command"),
    [(True, ("PING",)), (False, ("EVAL", "while true do end", 0))],
    ids=["stopped", "a script without end"],
)
def test_a_server_that_does_not_answer_freezes_no_wait(
    store: RedisStore, stopped: bool, command: tuple[str | int, ...]
) -> None:
    other = RedisStore()
    other._client._socket.settimeout(0.2)
    if stopped:
        os.kill(other._server._process.pid, signal.SIGSTOP)
    with pytest.raises(EnvironmentUnavailable, match=f"it did not answer {command[0]}"):
        other.ask(*command)
    with pytest.raises(EnvironmentUnavailable, match="this connection broke before"):
        other.confirm()
    other.close()


@pytest.mark.parametrize(
    ("broken", "mended", "why"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "takes no writes: OOM"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "takes no writes: READONLY"),
        (("FLUSHALL",), ("PING",), "lost its data in the course of the run"),
    ],
    ids=["out of memory", "a replica", "emptied"],
)
def test_what_a_queue_does_on_a_broken_server_is_no_finding(
    engines: Get, broken: tuple[str, ...], mended: tuple[str, ...], why: str
) -> None:
    engine = engines(CELERY)
    opened = Session(Scenario(jobs=(JobPlan("a"),)), engine=engine)
    server = engine._runtime.database  # type: ignore[attr-defined]
    server.ask(*broken)
    try:
        with pytest.raises(EnvironmentUnavailable, match=f"Redis {why}"):
            opened.run()
    finally:
        server.ask(*mended)


def test_an_outage_forgets_the_scripts(engines: Get) -> None:
    server = engines(BULL)._runtime.database  # type: ignore[attr-defined]
    text = "workers: [w1]\njobs: {a: {}}\nsteps:\n  - w1 claims a\n  - the store is away for 1s\n  - run until idle"
    asked: list[tuple[Any, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        ask = server._client.ask
        patch.setattr(server._client, "ask", lambda *words: asked.append(words) or ask(*words))
        run = Session(read_scenario_text(f"format: 1\n{text}"), engine=engines(BULL)).run()
    assert asked.count(("SCRIPT", "FLUSH")) == 1
    assert run.verdict is Verdict.PASS


def test_scripts_that_a_failover_forgets_are_sent_again(engines: Get) -> None:
    for name in (BULL, CELERY, DRAMATIQ):
        queue, clocks = fresh(engines(name))
        forget = engines(name).info.fails_over
        for job in ("a", "b"):
            forget()
            assert queue.enqueue(JobRequest(job)).done
        clocks.now += MILLISECOND
        forget()
        first, second = (queue.claim("w1", 1).value[0] for _ in "ab")
        forget()
        assert queue.complete(first, None).done
        forget()
        assert queue.fail(second, "no", True).done
        forget()
        assert queue.expire().done
        assert queue.jobs()[first.job].status is Status.COMPLETED
        assert queue.jobs()[second.job].status is not Status.PROCESSING


def test_where_it_cannot_be_had_the_engine_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for system, machine in (("linux", "arm64"), ("darwin", "x86_64")):
        monkeypatch.setattr(redis_server.sys, "platform", system)
        monkeypatch.setattr(redis_server.platform, "machine", lambda machine=machine: machine)
        with pytest.raises(EnvironmentUnavailable, match="needs Linux on x86_64") as refused:
            RedisStore()
        assert "docker run --platform linux/amd64" in str(refused.value.hint)
    monkeypatch.undo()
    monkeypatch.setenv(redis_server.FAKETIME, "/nowhere")
    with pytest.raises(EnvironmentUnavailable, match="names /nowhere, which is not a file"):
        RedisStore()
    monkeypatch.undo()
    monkeypatch.setattr(redis_server, "_in_package", lambda package, place: None)
    with pytest.raises(EnvironmentUnavailable, match="libfaketime, which is not installed") as refused:
        RedisStore()
    assert refused.value.hint == f"Install it with: {install('redis')}"


def test_a_server_that_does_not_run_on_our_clock_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    if redis_server.shutil.which("true") is None:
        pytest.skip("there is no program `true`")
    redis_server.faketime()
    monkeypatch.setenv(redis_server.VARIABLE, "/bin/true")
    with pytest.raises(EnvironmentUnavailable, match="/bin/true: it did not answer"):
        RedisStore()


def test_a_url_is_refused_since_its_clock_cannot_be_moved() -> None:
    with pytest.raises(EnvironmentUnavailable, match="the clock of a running Redis cannot be moved"):
        RedisStore("redis://localhost:6379")


def taken_back(engine: Engine) -> tuple[Any, Any, Claim, Claim]:
    """Take back a job from a worker that went silent, once its lease is over and not before, and claim it again."""
    settings = Settings()
    queue, clocks = fresh(engine, settings)
    queue.enqueue(JobRequest("a"))
    (first,) = queue.claim("w1", 1).value
    clocks.now = settings.lease - MILLISECOND
    assert queue.expire().value == []
    clocks.now = settings.lease
    assert queue.expire().value == ["a"]
    (second,) = queue.claim("w2", 1).value
    return queue, clocks, first, second


# BullMQ on it ---------------------------------------------------------------------------------------------------------


def test_bullmq_conforms_on_redis_but_for_what_it_is_known_for(engines: Get) -> None:
    found = conform(engines(BULL), levels=(Level.CORE, Level.UNIQUE))
    failing = {item.case.name for item in found.results if item.mark in (Mark.FAIL, Mark.KNOWN)}
    assert failing == {"uniqueness/retry_is_refused_while_another_has_the_key"}
    assert found.exit_code is ExitCode.PASS
    assert not found.lies


def test_a_day_a_lost_lock_and_a_late_result_take_no_time(engines: Get) -> None:
    settings = Settings()
    queue, clocks = fresh(engines(BULL), settings)
    queue.enqueue(JobRequest("a", start_after=24 * HOUR))
    assert queue.claim("w1", 1).value == []
    clocks.now = 24 * HOUR
    (first,) = queue.claim("w1", 1).value
    clocks.now += settings.lease + MILLISECOND
    assert queue.expire().value == ["a"]
    (second,) = queue.claim("w2", 1).value
    late = queue.complete(first, None)
    assert (late.done, late.reason) == (False, "Lock mismatch for job job-a")
    assert queue.complete(second, "done").done
    assert queue.jobs()["a"].status is Status.COMPLETED


@pytest.mark.campaign
def test_the_generic_workload_finds_a_stalled_job_before_a_higher_priority(engines: Get) -> None:
    finding = Sampler(engines(BULL), looking_for=frozenset({"priority_inversion"})).explore(seed=1, runs=60).finding
    assert finding is not None


# Celery on it ---------------------------------------------------------------------------------------------------------


def test_celery_conforms_on_redis_but_for_what_it_is_known_for(engines: Get) -> None:
    found = conform(engines(CELERY), levels=(Level.CORE, Level.SCHEDULED))
    assert {item.case.name for item in found.results if item.mark in (Mark.FAIL, Mark.KNOWN)} == set()
    assert found.exit_code is ExitCode.PASS
    assert not found.lies


def test_a_late_result_of_a_message_that_was_restored_is_taken(engines: Get) -> None:
    queue, clocks, first, second = taken_back(engines(CELERY))
    assert queue.complete(first, "late").done
    clocks.now += 2 * Settings().lease
    assert queue.expire().value == []
    assert (second.attempt, queue.jobs()["a"].status) == (2, Status.COMPLETED)


def test_a_message_that_was_restored_counts_as_no_retry(engines: Get) -> None:
    queue, clocks, _, claim = taken_back(engines(CELERY))
    waits = []
    while queue.fail(claim, "no", False).done and queue.jobs()["a"].status is Status.PENDING:
        waits.append(queue.jobs()["a"].start_after - clocks.now)
        clocks.now += waits[-1]
        (claim,) = queue.claim("w2", 1).value
    assert waits == [Settings().retry_delay, 2 * Settings().retry_delay]


def test_early_acknowledgement_loses_what_a_dead_worker_held(engines: Get) -> None:
    queue, clocks = fresh(engines(f"{CELERY}/early"))
    queue.enqueue(JobRequest("a"))
    queue.claim("w1", 1)
    clocks.now += 24 * HOUR
    assert queue.expire().value == []
    assert queue.claim("w1", 1).value == []
    assert queue.jobs()["a"].status is Status.PROCESSING


# Dramatiq on it -------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_dramatiq_conforms_on_redis_but_for_what_it_is_known_for(engines: Get) -> None:
    found = conform(engines(DRAMATIQ), levels=(Level.CORE, Level.SCHEDULED))
    assert {item.case.name for item in found.results if item.mark in (Mark.FAIL, Mark.KNOWN)} == set()
    assert found.exit_code is ExitCode.PASS


@pytest.mark.long
def test_a_late_result_of_a_message_that_was_put_back_is_refused(engines: Get) -> None:
    queue, _, first, second = taken_back(engines(DRAMATIQ))
    assert queue.complete(first, None).reason == "the message is another worker's now"
    assert queue.complete(second, None).done
    assert (second.attempt, queue.jobs()["a"].status) == (2, Status.COMPLETED)


@pytest.mark.long
def test_a_copy_that_ended_does_not_stand_for_the_one_that_runs(engines: Get) -> None:
    queue, clocks, first, second = taken_back(engines(DRAMATIQ))
    assert queue.fail(first, "late", False).done  # This sends a retry beside the message that runs.
    clocks.now += 2 * Settings().retry_delay_max
    (third,) = queue.claim("w3", 1).value
    assert queue.fail(third, "no", True).done
    view = queue.jobs()["a"]
    assert (view.status, view.worker, view.token) == (Status.PROCESSING, "w2", second.token)


@pytest.mark.long
def test_an_older_release_is_refused() -> None:
    from job_harness.errors import UsageError

    with pytest.raises(UsageError, match=r"bullmq 5\.10\.0 fails stalled jobs in a way that"):
        open_engine("bullmq-redis@5.10.0")
