"""Tasks that the worker of `celery_claims.py` runs; how often each ran is counted in Redis."""

from __future__ import annotations

import os
import signal
import time
from typing import ClassVar

import redis
from celery import Celery
from celery.exceptions import Retry, SoftTimeLimitExceeded

URL = os.environ["REDIS_URL"]
COUNTS = redis.Redis.from_url(URL + "/9")
app = Celery("claims", broker=URL + "/0", backend=URL + "/1")
app.conf.update(
    broker_transport_options={"visibility_timeout": float(os.environ.get("VISIBILITY", "3600"))},
    worker_prefetch_multiplier=int(os.environ.get("PREFETCH", "1")),
    task_default_queue=os.environ.get("QUEUE", "celery"),
    broker_connection_retry_on_startup=True,
)
if "BEATEN" in os.environ:
    entry = {"task": "celery_app.ahead", "schedule": 1.0, "options": {"queue": os.environ["BEATEN"]}}
    app.conf.beat_schedule = {"ahead": entry}


def ran(name: str) -> int:
    """Count a run; returns how many there were."""
    return int(COUNTS.incr(name))


@app.task(acks_late=True)
def killed_late() -> None:
    if ran("killed_late") == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True, reject_on_worker_lost=True)
def killed_rejected() -> None:
    if ran("killed_rejected") == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True)
def slow_late(seconds: float) -> None:
    ran("slow_late")
    time.sleep(seconds)


class Recorded(app.Task):  # type: ignore[misc, name-defined]
    """A task that notes how long it would wait for its next try."""

    waited: ClassVar[list[float]] = []

    def retry(self, *args: object, countdown: float, **others: object) -> Retry:
        self.waited.append(countdown)
        return Retry()


@app.task(base=Recorded, autoretry_for=(ValueError,), retry_jitter=False, retry_backoff=600)
def capped() -> None:
    raise ValueError


@app.task(base=Recorded, autoretry_for=(ValueError,), retry_jitter=False, retry_backoff=600, retry_backoff_max=3600)
def doubled() -> None:
    raise ValueError


@app.task
def ahead() -> None:
    ran("ahead")


def _limited(name: str) -> None:
    try:
        ran(name)
        time.sleep(4)
    except SoftTimeLimitExceeded:
        ran(name + ".soft")
        time.sleep(0.3)  # what is cleaned up
        ran(name + ".cleaned")


@app.task(soft_time_limit=1, time_limit=1)
def soft_at_hard() -> None:
    _limited("soft_at_hard")


@app.task(soft_time_limit=1, time_limit=3)
def soft_below_hard() -> None:
    _limited("soft_below_hard")


@app.task
def inner() -> int:
    return 1


@app.task
def waits() -> str:
    try:
        inner.delay().get(timeout=2)
    except RuntimeError as error:
        return type(error).__name__
    return ""


@app.task(autoretry_for=(ValueError,), max_retries=None, default_retry_delay=0)
def for_ever() -> None:
    if ran("for_ever") < 7:
        raise ValueError


@app.task(autoretry_for=(ValueError,), default_retry_delay=0)
def by_default() -> None:
    ran("by_default")
    raise ValueError


@app.task(retry_backoff=True, max_retries=5, default_retry_delay=0)
def only_said() -> None:
    ran("only_said")
    raise ValueError


@app.task(autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
def retried() -> None:
    ran("retried")
    raise ValueError


@app.task(bind=True, typing=False)
def bound_without() -> None: ...


@app.task(typing=False)
def unbound_self(self: object, to: int) -> None: ...
