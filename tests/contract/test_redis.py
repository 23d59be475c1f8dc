"""A Redis on a clock of ours: proven at its start, moved at will, gone with the harness; and BullMQ on it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.conformance import Level, conform
from harness.conformance.judge import Mark
from harness.errors import EnvironmentUnavailable, ExitCode
from harness.explore.sampling import Sampler
from harness.model.duration import HOUR, MILLISECOND, SECOND
from harness.model.lifecycle import Status
from harness.model.settings import Settings
from harness.port import JobRequest
from harness.redis import RedisError, RedisStore
from harness.redis import server as redis_server
from harness.wiring import open_engine
from tests.contract.opened_engines import Get, fresh, opened_engines

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


def test_a_stopped_server_freezes_no_wait(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    other = RedisStore()
    pid = other._server._process.pid
    other._client._socket.settimeout(0.2)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EnvironmentUnavailable, match="it did not answer PING"):
        other.ask("PING")
    other.close()


def test_where_it_cannot_be_had_the_engine_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server.platform, "machine", lambda: "arm64")
    with pytest.raises(EnvironmentUnavailable, match="needs Linux on x86_64") as refused:
        RedisStore()
    assert "docker run --platform linux/amd64" in str(refused.value.hint)
    monkeypatch.undo()
    monkeypatch.setattr(redis_server, "_in_package", lambda package, place: None)
    with pytest.raises(EnvironmentUnavailable, match="libfaketime, which is not installed") as refused:
        RedisStore()
    assert refused.value.hint == "Install it with: pip install 'job-harness[redis]'"


def test_a_server_that_does_not_run_on_our_clock_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    if redis_server.shutil.which("true") is None:
        pytest.skip("there is no program `true`")
    redis_server.faketime()
    monkeypatch.setenv(redis_server.VARIABLE, "/bin/true")
    with pytest.raises(EnvironmentUnavailable, match="/bin/true: it did not answer"):
        RedisStore()


def test_a_url_is_refused_since_its_clock_cannot_be_moved() -> None:
    with pytest.raises(EnvironmentUnavailable, match="the clock of a Redis that runs already cannot be moved"):
        RedisStore("redis://localhost:6379")


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


def test_what_a_dead_worker_held_is_restored_after_the_visibility_timeout_and_not_before(engines: Get) -> None:
    settings = Settings()
    queue, clocks = fresh(engines(CELERY), settings)
    queue.enqueue(JobRequest("a"))
    (first,) = queue.claim("w1", 1).value
    clocks.now = settings.lease - MILLISECOND
    assert queue.expire().value == []
    clocks.now = settings.lease
    assert queue.expire().value == ["a"]
    (second,) = queue.claim("w2", 1).value
    assert queue.complete(first, "late").done
    clocks.now += 2 * settings.lease
    assert queue.expire().value == []
    assert (second.attempt, queue.jobs()["a"].status) == (2, Status.COMPLETED)


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
def test_what_a_silent_process_held_is_put_back_and_its_late_result_is_refused(engines: Get) -> None:
    settings = Settings()
    queue, clocks = fresh(engines(DRAMATIQ), settings)
    queue.enqueue(JobRequest("a"))
    (first,) = queue.claim("w1", 1).value
    clocks.now = settings.lease - MILLISECOND
    assert queue.expire().value == []
    clocks.now = settings.lease
    assert queue.expire().value == ["a"]
    (second,) = queue.claim("w2", 1).value
    assert queue.complete(first, None).reason == "the message is another worker's now"
    assert queue.complete(second, None).done
    assert (second.attempt, queue.jobs()["a"].status) == (2, Status.COMPLETED)


@pytest.mark.long
def test_an_older_release_is_refused() -> None:
    from harness.errors import UsageError

    with pytest.raises(UsageError, match=r"bullmq 5\.10\.0 fails stalled jobs in another way"):
        open_engine("bullmq-redis@5.10.0")
