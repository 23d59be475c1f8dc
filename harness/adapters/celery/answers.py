"""Runs in a child that has Celery: the harness's questions in Celery's and kombu's own API. Knows no harness."""

from __future__ import annotations

import datetime
from typing import Any

from celery import Celery
from kombu.transport import redis as transport
from kombu.transport import virtual

QUEUE = "celery"


def _next_tag(channel: Any) -> str:
    """Return the tag of the next message: in every run the same ones, since what is restored is sorted by them."""
    CeleryAnswers.tags += 1
    return f"{CeleryAnswers.tags:08d}"


class CeleryRefused(Exception):
    """Nothing happened."""


class CeleryTaskFailed(Exception):
    """What a task raises here."""


class CeleryAnswers:
    """One application on one Redis; a channel for each worker, as each worker's process has one."""

    tags = 0

    async def open(self, url: str, late: bool) -> None:
        """Make the application, and its one task."""
        broker = url.replace("unix://", "redis+socket://")
        self.app = Celery("harness", broker=broker, backend=broker, set_as_current=False)
        self.app.conf.update(
            task_acks_late=late, task_track_started=False, timezone="UTC", worker_hijack_root_logger=False
        )
        self.late = late
        virtual.Channel._next_delivery_tag = _next_tag

        @self.app.task(name="tool", bind=True, shared=False)  # type: ignore[untyped-decorator]
        def tool(task: Any, **kwargs: Any) -> Any:
            raise AssertionError("the harness says what comes of a task")

        self.task = tool
        self.backend = self.app.backend
        self.forgotten: list[Any] = []
        self.channels: dict[str, Any] = {}
        self.held: dict[str, list[Any]] = {}
        self.claimed: dict[int, tuple[Any, Any]] = {}
        self.holding: dict[str, set[int]] = {}
        self.unsettled: set[int] = set()
        """Messages that their worker has not settled yet: it does so once."""

    async def reset(self, visibility: float) -> None:
        """Forget what is known of the run before; the store is emptied by the parent."""
        self.visibility = visibility
        CeleryAnswers.tags = 0
        self.forgotten += self.channels.values()
        for kept in (self.channels, self.held, self.claimed, self.holding, self.unsettled):
            kept.clear()
        self.app.amqp.__dict__.pop("_producer_pool", None)

    def _channel(self, worker: str) -> Any:
        """Return the channel of a worker's process; it ends without a word when the process does."""
        if worker not in self.channels:
            channel = self.app.connection_for_read().channel()
            channel.queue_declare(QUEUE)
            channel.visibility_timeout = self.visibility
            self.channels[worker], self.held[worker], self.holding[worker] = channel, [], set()
        return self.channels[worker]

    async def enqueue(self, now: float, id: str, kwargs: dict[str, Any], eta: float | None, retries: int = 0) -> None:
        """Send a task."""
        self._set(now)
        self._send(id, kwargs, eta, retries)

    def _send(self, id: str, kwargs: dict[str, Any], eta: float | None, retries: int) -> None:
        moment = None if eta is None else datetime.datetime.fromtimestamp(eta, datetime.UTC)
        self.task.apply_async(kwargs=kwargs, task_id=id, eta=moment, retries=retries)

    async def claim(self, now: float, worker: str, limit: int, number: int) -> list[dict[str, Any]]:
        """Take up to `limit` messages that are due; one with an ETA is held until then, unacknowledged.

        A worker that asks for more while it holds a task has died meanwhile: the process that follows knows of nothing.
        """
        self._set(now)
        if self.holding.get(worker):
            self.forgotten.append(self.channels.pop(worker))
        channel = self._channel(worker)
        held = self.held[worker]
        due = [message for message in held if _eta(message) <= now]
        self.held[worker] = [message for message in held if _eta(message) > now]
        while len(due) < limit and (message := channel.basic_get(QUEUE)) is not None:
            (due if _eta(message) <= now else self.held[worker]).append(message)
        self.held[worker] += due[limit:]
        claimed = []
        for message in due[:limit]:
            number += 1
            self.claimed[number] = channel, message
            self.holding[worker].add(number)
            self.unsettled.add(number)
            if not self.late:
                channel.basic_ack(message.delivery_tag)
            headers = message.headers
            told = message.decode()[1]
            claimed.append({**told, "number": number, "tag": message.delivery_tag, "retries": headers["retries"] or 0})
        return claimed

    async def complete(self, now: float, worker: str, number: int, output: Any) -> None:
        """Record the result and acknowledge, as a worker does when a task has returned."""
        self._set(now)
        message = self._ended(worker, number)
        try:
            self.backend.mark_as_done(message.headers["id"], output)
        except Exception as error:  # noqa: BLE001 - as the worker's trace does: what cannot be stored is a failure
            self.backend.mark_as_failure(message.headers["id"], error)
        self._acknowledge(number)

    async def fail(self, now: float, worker: str, number: int, error: str, again: float | None) -> None:
        """Record the failure, or send a retry for `again`, and acknowledge."""
        self._set(now)
        message = self._ended(worker, number)
        if again is None:
            self.backend.mark_as_failure(message.headers["id"], CeleryTaskFailed(error))
        else:
            self._send(message.headers["id"], message.decode()[1], again, (message.headers["retries"] or 0) + 1)
            self.backend.mark_as_retry(message.headers["id"], CeleryTaskFailed(error))
        self._acknowledge(number)

    def _ended(self, worker: str, number: int) -> Any:
        self.holding.get(worker, set()).discard(number)
        if number not in self.unsettled:
            raise CeleryRefused("the message was acknowledged already")
        self.unsettled.discard(number)
        return self.claimed[number][1]

    def _acknowledge(self, number: int) -> None:
        if self.late:
            channel, message = self.claimed[number]
            channel.basic_ack(message.delivery_tag)

    async def expire(self, now: float) -> None:
        """Restore what has been unacknowledged for too long, as the poller of every worker does."""
        self._set(now)
        channel = self._channel("upkeep")
        channel.qos.restore_visible(num=1_000, interval=0)

    @staticmethod
    def _set(now: float) -> None:
        transport.time = lambda: now


def _eta(message: Any) -> float:
    eta = message.headers.get("eta")
    return 0.0 if eta is None else datetime.datetime.fromisoformat(eta).timestamp()


Answers, Refused = CeleryAnswers, CeleryRefused
"""By these names the child's own loop finds who answers, and what says that nothing was done."""
