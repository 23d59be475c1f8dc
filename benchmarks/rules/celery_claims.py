"""What the rules about Celery claim, asked of one release with a Redis and workers of its own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import redis
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from celery.schedules import crontab
from celery_app import (
    COUNTS,
    URL,
    ahead,
    bound_without,
    by_default,
    capped,
    doubled,
    for_ever,
    killed_late,
    killed_rejected,
    only_said,
    retried,
    slow_late,
    soft_at_hard,
    soft_below_hard,
    unbound_self,
    waits,
)
from claims import claim, raised, tell

HERE = Path(__file__).resolve().parent
BROKER = redis.Redis.from_url(URL + "/0")


@contextmanager
def worker(*, concurrency: int = 2, fresh: bool = True, **environment: str) -> Iterator[None]:
    """Run a prefork worker, beside those that run; a fresh one begins with nothing."""
    if fresh:
        COUNTS.flushall()
    options = ["-P", "prefork", "-c", str(concurrency), "--without-gossip", "--without-mingle"]
    with process("worker", *options, **environment):
        yield


@contextmanager
def process(program: str, *options: str, **environment: str) -> Iterator[None]:
    """Run one process of Celery."""
    given = {
        **os.environ,
        **environment,
        "PYTHONPATH": f"{HERE}{os.pathsep}{os.environ['PYTHONPATH']}",
        "C_FORCE_ROOT": "1",
    }
    running = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_app", program, *options],
        env=given,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def count(name: str) -> int:
    return int(COUNTS.get(name) or 0)


def until(reached: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait for something, at most this long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        time.sleep(0.05)
    return reached()


def left() -> int:
    """Return how many tasks the broker holds, taken or not."""
    return int(BROKER.llen("celery")) + int(BROKER.hlen("unacked"))


@claim
def acks_late_loses_killed() -> tuple[bool, str]:
    killed_late.delay()
    until(lambda: count("killed_late") == 1)
    until(lambda: left() == 0, 8)
    lost = count("killed_late") == 1 and left() == 0
    killed_rejected.delay()
    again = until(lambda: count("killed_rejected") >= 2)
    return (
        lost and again,
        f"killed: {count('killed_late')} run, {left()} left; with reject {count('killed_rejected')} runs",
    )


@claim
def soft_limit_not_below_hard() -> tuple[bool, str]:
    soft_at_hard.delay()
    soft_below_hard.delay()
    right = until(lambda: count("soft_below_hard.cleaned") == 1)
    until(lambda: count("soft_at_hard.cleaned") == 1, 2)
    cleaned = count("soft_at_hard.cleaned")
    return right and cleaned == 0, f"equal: {cleaned} cleaned up; below: {count('soft_below_hard.cleaned')}"


@claim
def celery_backoff_never_grows() -> tuple[bool, str]:
    told = []
    for task in (capped, doubled):
        task.waited.clear()
        for retries in range(3):
            task.apply(retries=retries)
        told.append(list(task.waited))
    return told == [[600, 600, 600], [600, 1200, 2400]], f"waits {told[0]}, with a maximum of an hour {told[1]}"


@claim
def celery_waits_for_subtask() -> tuple[bool, str]:
    told = waits.delay().get(timeout=20)
    return told == "RuntimeError", f"raises {told or 'nothing'}"


@claim
def celery_retries_forever() -> tuple[bool, str]:
    for_ever.delay()
    by_default.delay()
    until(lambda: count("for_ever") == 7 and count("by_default") == 4)
    return count("for_ever") == 7 and count(
        "by_default"
    ) == 4, f"{count('for_ever')} runs, by default {count('by_default')}"


@claim
def celery_never_retried() -> tuple[bool, str]:
    only_said.delay()
    retried.delay()
    until(lambda: count("retried") == 3)
    return count("only_said") == 1 and count("retried") == 3, f"{count('only_said')} run; autoretry {count('retried')}"


@claim
def expires_before_start() -> tuple[bool, str]:
    sent = ahead.apply_async(countdown=2, expires=1)
    until(lambda: sent.state == "REVOKED", 10)
    return sent.state == "REVOKED" and count("ahead") == 0, f"{sent.state}, {count('ahead')} runs"


@claim
def celery_task_unknown() -> tuple[bool, str]:
    before = count("ahead")
    ahead.app.send_task("celery_app.no_such_task")
    ahead.delay()
    until(lambda: count("ahead") > before and left() == 0)
    ran = count("ahead") - before
    return (ran, left()) == (1, 0), f"{ran} run of the next task, {left()} left of both"


@claim
def celery_queue_unserved() -> tuple[bool, str]:
    before = count("ahead")
    ahead.apply_async(queue="nobody")
    ahead.delay()
    until(lambda: count("ahead") > before)
    time.sleep(0.5)
    ran, waiting = count("ahead") - before, int(BROKER.llen("nobody"))
    return (ran, waiting) == (1, 1), f"{ran} run of the other one, {waiting} waits"


@claim
def celery_bind_mismatch() -> tuple[bool, str]:
    errors = [raised(sent.get) for sent in (bound_without.delay(), unbound_self.delay(1))]
    return errors == ["TypeError", "TypeError"], f"{' and '.join(errors)}"


@claim
def celery_milliseconds() -> tuple[bool, str]:
    ahead.apply_async(countdown=1000, queue="later")
    headers = json.loads(BROKER.lindex("later", 0))["headers"]
    away = (datetime.fromisoformat(headers["eta"]) - datetime.now(UTC)).total_seconds()
    return 900 < away <= 1000, f"countdown=1000 is {round(away, -1):g} s away"


@claim
def celery_sent_before_commit() -> tuple[bool, str]:
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE paid (id)")
        database.execute("INSERT INTO paid VALUES (1)")
        before = count("ahead")
        ahead.delay()
        ran = until(lambda: count("ahead") > before)
        return ran and database.in_transaction, f"{count('ahead') - before} run while the transaction is open"


@claim
def beat_started_twice() -> tuple[bool, str]:
    return True, ""


def senders(beats: int) -> int:
    """Return how many processes send the one entry of a schedule where this many beats run."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for number in range(beats):
            stack.enter_context(process("beat", f"--schedule={folder}/{number}", BEATEN="beaten"))
        until(lambda: len(_origins()) == beats)
        many = len(_origins())
    BROKER.flushdb()
    return many


def _origins() -> set[str]:
    return {json.loads(message)["headers"]["origin"] for message in BROKER.lrange("beaten", 0, -1)}


@claim
def celery_names_mixed() -> tuple[bool, str]:
    mixed = Celery("mixed")
    mixed.conf.update({})
    mixed.config_from_object({"CELERYD_CONCURRENCY": 2, "worker_prefetch_multiplier": 1})
    error = raised(lambda: mixed.conf.worker_concurrency)
    return error == "ImproperlyConfigured", f"raises {error or 'nothing'}"


@claim
def crontab_every_minute() -> tuple[bool, str]:
    many = len(crontab(hour=3).minute)
    return many == 60, f"crontab(hour=3) has {many} minutes"


@claim
def code_cron_invalid() -> tuple[bool, str]:
    error = raised(lambda: crontab(minute=60))
    return bool(error) and not raised(lambda: crontab(minute=59)), f"crontab(minute=60) raises {error or 'nothing'}"


@claim
def celery_setting_unknown() -> tuple[bool, str]:
    sys.path.append(str(HERE.parents[1]))
    from job_harness.review.check.celery_names import PREFIXES, SETTINGS

    had = {name for name, _ in flatten(NAMESPACES) if name.startswith(PREFIXES)}
    wrong = Celery("wrong")
    error = raised(lambda: wrong.conf.update(task_soft_limit=50))
    heeded = wrong.conf.task_soft_time_limit
    missing = sorted(had - SETTINGS)
    return (
        not error and heeded is None and not missing,
        f"taken in silence; {len(had)} settings, unknown to check: {missing}",
    )


@claim
def late_acks_with_prefetch() -> tuple[bool, str]:
    return True, ""


@claim
def visibility_timeout_too_short() -> tuple[bool, str]:
    return True, ""


def held(prefetch: int) -> int:
    """Return how many tasks a worker with one process holds unacknowledged, where six are there."""
    queue = f"held{prefetch}"
    with worker(concurrency=1, PREFETCH=str(prefetch), QUEUE=queue):
        for _ in range(6):
            slow_late.apply_async((1.5,), queue=queue)
        until(lambda: count("slow_late") == 1)
        time.sleep(0.7)
        many = int(BROKER.hlen("unacked"))
    BROKER.flushdb()
    return many


if __name__ == "__main__":
    from claims import CLAIMS

    alone, both = senders(1), senders(2)
    CLAIMS["beat_started_twice"] = lambda: ((alone, both) == (1, 2), f"of two beats {both} send the same entry")
    many, one = held(4), held(1)
    CLAIMS["late_acks_with_prefetch"] = lambda: (many > one, f"holds {many} tasks at 4, {one} at 1")
    with worker(concurrency=1, VISIBILITY="1", QUEUE="visible"):
        slow_late.apply_async((25,), queue="visible")
        until(lambda: count("slow_late") == 1)
        time.sleep(1.5)
        with worker(concurrency=1, fresh=False, VISIBILITY="1", QUEUE="visible"):
            until(lambda: count("slow_late") >= 2, 20)
            twice = count("slow_late")
    BROKER.flushdb()
    CLAIMS["visibility_timeout_too_short"] = lambda: (
        twice >= 2,
        f"{twice} runs at a time of a task of 25 s, timeout 1 s",
    )
    with worker():
        tell()
