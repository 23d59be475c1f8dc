"""Runs in a child that has Celery: the harness's questions in Celery's and kombu's own API. Knows no harness."""

from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kombu.pools
import redis.retry
from celery import Celery
from kombu.transport import redis as transport
from kombu.transport import virtual
from kombu.utils import functional

QUEUE = "celery"


class CeleryRefused(Exception):
    """Nothing happened."""


class CeleryTaskFailed(Exception):
    """What a task raises here."""


class CeleryProcessEnded(BaseException):
    """Takes the thread of a process that died out of where it tries again."""


class CeleryClock:
    """What time it is, for every process: one of them runs at a time."""

    now = 0.0
    running = threading.local()
    """Which process a thread is."""

    @classmethod
    def install(cls) -> None:
        """Let kombu ask here, and wait for nothing before it tries again: time stands still while it is at work."""
        transport.time = lambda: cls.now
        redis.retry.sleep = functional.sleep = cls._sleep
        virtual.Channel._next_delivery_tag = lambda channel: cls._next_tag()
        make_pool = transport.Channel._get_pool

        def make_and_keep(channel: Any, **options: Any) -> Any:
            pool = make_pool(channel, **options)
            cls.running.process.pools.append(pool)
            return pool

        transport.Channel._get_pool = make_and_keep

    @classmethod
    def _sleep(cls, seconds: float) -> None:
        if cls.running.process.ended:
            raise CeleryProcessEnded

    @classmethod
    def _next_tag(cls) -> str:
        """Return the tag of the next message: in every run the same ones, since what is restored is sorted by them."""
        process = cls.running.process
        process.tags += 1
        return f"{process.order:06d}{process.tags:02d}"


class CeleryMessages:
    """What all processes share: messages that were handed to a worker, by their number."""

    def __init__(self) -> None:
        self.claimed: dict[int, tuple[Any, Any, Any]] = {}
        """Process, channel and message."""
        self.unsettled: set[int] = set()
        """Messages that their worker has not settled yet: it does so once."""
        self.handed_out = 0


class CeleryProcess:
    """One application on one Redis; a channel for each worker, as each worker's process has one."""

    def __init__(self, url: str, late: bool, messages: CeleryMessages) -> None:
        """Make the application, and its one task."""
        broker = url.replace("unix://", "redis+socket://")
        self.app = Celery("harness", broker=broker, backend=broker, set_as_current=False)
        self.app.conf.update(
            task_acks_late=late,
            task_track_started=False,
            timezone="UTC",
            worker_hijack_root_logger=False,
            redis_socket_timeout=None,  # How long a reply takes in real time says nothing.
        )
        self.late = late
        self.messages = messages

        @self.app.task(name="tool", bind=True, shared=False)  # type: ignore[untyped-decorator]
        def tool(task: Any, **kwargs: Any) -> Any:
            raise AssertionError("the harness says what comes of a task")

        self.task = tool
        self.backend = self.app.backend
        self.ended = False
        """Whether it died."""
        self.order = self.tags = 0
        """The number of the request that it carries out, and how many messages that sent."""
        self.pools: list[Any] = []
        """Connections of its channels."""
        self.forgotten: list[Any] = []
        self.channels: dict[str, Any] = {}
        self.held: dict[str, list[Any]] = {}
        self.holding: dict[str, set[int]] = {}

    def run(self, question: str, arguments: dict[str, Any]) -> Any:
        """Carry out a request, on the thread that this process is."""
        CeleryClock.running.process = self
        CeleryClock.now, self.order, self.tags = arguments["now"], arguments.pop("order"), 0
        try:
            return getattr(self, question)(**arguments)
        except CeleryProcessEnded:
            raise CeleryRefused("its process died") from None

    def leave_connections(self) -> None:
        """Close them without a word, and begin the next run without any, as every run does."""
        for pool in self.pools:
            pool.disconnect()
        self.pools.clear()
        for group in (kombu.pools.connections, kombu.pools.producers):
            group.clear()
        self.app._pool = self.app.amqp._producer_pool = None

    def forget(self, visibility: float) -> None:
        """Forget what is known of the run before; the store is emptied by the parent."""
        self.visibility = visibility
        self.forgotten += self.channels.values()
        for kept in (self.channels, self.held, self.holding):
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

    def enqueue(self, now: float, id: str, kwargs: dict[str, Any], eta: float | None, retries: int = 0) -> None:
        """Send a task."""
        self._send(id, kwargs, eta, retries)

    def _send(self, id: str, kwargs: dict[str, Any], eta: float | None, retries: int) -> None:
        moment = None if eta is None else datetime.datetime.fromtimestamp(eta, datetime.UTC)
        self.task.apply_async(kwargs=kwargs, task_id=id, eta=moment, retries=retries)

    def claim(self, now: float, worker: str, limit: int) -> list[dict[str, Any]]:
        """Take up to `limit` messages that are due; one with an ETA is held until then, unacknowledged.

        A worker that asks for more while it holds a task has died meanwhile: the process that
        follows knows of nothing.
        """
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
            self.messages.handed_out = number = self.messages.handed_out + 1
            self.messages.claimed[number] = self, channel, message
            self.holding[worker].add(number)
            self.messages.unsettled.add(number)
            if not self.late:
                channel.basic_ack(message.delivery_tag)
            headers = message.headers
            told = message.decode()[1]
            claimed.append({**told, "number": number, "tag": message.delivery_tag, "retries": headers["retries"] or 0})
        return claimed

    def complete(self, now: float, worker: str, number: int, output: Any) -> None:
        """Record the result and acknowledge, as a worker does when a task has returned."""
        message = self._ended(worker, number)
        try:
            self.backend.mark_as_done(message.headers["id"], output)
        except Exception as error:  # noqa: BLE001 - as the worker's trace does: what cannot be stored is a failure
            self.backend.mark_as_failure(message.headers["id"], error)
        self._acknowledge(number)

    def fail(self, now: float, worker: str, number: int, error: str, again: float | None) -> None:
        """Record the failure, or send a retry for `again`, and acknowledge."""
        message = self._ended(worker, number)
        if again is None:
            self.backend.mark_as_failure(message.headers["id"], CeleryTaskFailed(error))
        else:
            self._send(message.headers["id"], message.decode()[1], again, (message.headers["retries"] or 0) + 1)
            self.backend.mark_as_retry(message.headers["id"], CeleryTaskFailed(error))
        self._acknowledge(number)

    def _ended(self, worker: str, number: int) -> Any:
        self.holding.get(worker, set()).discard(number)
        if number not in self.messages.unsettled:
            raise CeleryRefused("the message was acknowledged already")
        self.messages.unsettled.discard(number)
        return self.messages.claimed[number][2]

    def _acknowledge(self, number: int) -> None:
        if not self.late:
            return
        holder, channel, message = self.messages.claimed[number]
        if holder is not self:  # What the worker sent comes over another connection than its own.
            channel = self.app.connection_for_read().channel()
            self.forgotten.append(channel)
        channel.basic_ack(message.delivery_tag)

    def expire(self, now: float) -> None:
        """Restore what has been unacknowledged for too long, as the poller of every worker does."""
        channel = self._channel("upkeep")
        channel.qos.restore_visible(num=1_000, interval=0)


class CeleryAnswers:
    """One process, and those of actors beside it, each on a thread: its driver waits for replies as ever."""

    async def open(self, url: str, late: bool) -> None:
        """Begin with the harness's own process."""
        CeleryClock.install()
        self.messages = CeleryMessages()
        self.process = CeleryProcess(url, late, self.messages)
        self.others: list[CeleryProcess] = []
        self._thread: ThreadPoolExecutor | None = None

    async def session(self, url: str) -> CeleryAnswers:
        """Return another process, which reaches Redis by itself."""
        other = CeleryAnswers()
        other.messages, other.others = self.messages, self.others
        other.process = CeleryProcess(url, self.process.late, self.messages)
        other.process.visibility = self.process.visibility
        other._thread = ThreadPoolExecutor(1)
        self.others.append(other.process)
        return other

    async def leave(self) -> None:
        """End the process: nothing of what it still tries arrives."""
        assert self._thread is not None
        self.process.ended = True
        self.others.remove(self.process)
        for pool in (*self.process.pools, self.process.backend.client.connection_pool):
            pool.disconnect()
        self._thread.shutdown(wait=False)

    async def reset(self, visibility: float) -> None:
        """Forget what is known of the run before; the store is emptied by the parent."""
        self.messages.claimed.clear()
        self.messages.unsettled.clear()
        self.messages.handed_out = 0
        self.process.forget(visibility)
        for other in self.others:
            other.leave_connections()
            other.forget(visibility)

    async def show(self, milliseconds: float) -> None:
        """Set the clock of all processes, where one of them goes on."""
        CeleryClock.now = milliseconds / 1_000

    def __getattr__(self, question: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return what carries out a request."""

        async def answer(**arguments: Any) -> Any:
            if self._thread is None:
                return self.process.run(question, arguments)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self.process.run, question, arguments)

        return answer


def _eta(message: Any) -> float:
    eta = message.headers.get("eta")
    return 0.0 if eta is None else datetime.datetime.fromisoformat(eta).timestamp()


Answers, Refused = CeleryAnswers, CeleryRefused
"""By these names the child's own loop finds who answers, and what says that nothing was done."""
