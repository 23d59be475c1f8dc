"""Runs in a child that has Dramatiq: the harness's questions in Dramatiq's own API. Knows no harness."""

from __future__ import annotations

import itertools
import logging
import queue
import signal
from typing import Any

import dramatiq
from dramatiq import common, message, worker
from dramatiq.brokers import redis as brokers
from dramatiq.middleware import Retries

QUEUE = "default"
PREFETCH_DELAYED = 1_000
"""Messages with an ETA that one worker thread's process holds (worker.py, `delay_prefetch`)."""
ALWAYS = brokers.MAINTENANCE_SCALE
GONE_AFTER = 2.0
"""Real seconds after which the thread of a worker counts as lost: what it does here takes milliseconds."""


class DramatiqRefused(Exception):
    """Nothing happened."""


class DramatiqError(Exception):
    """What an actor raises here."""


class DramatiqFinalError(Exception):
    """What an actor raises here that it declares as `throws`."""


class ThreadLost(BaseException):
    """Takes the thread of a worker out of where it waits forever."""


class DramatiqProcess:
    """One process: a broker, and the consumers and the thread of its worker, which run when they are asked to."""

    def __init__(self, url: str, verdicts: dict[str, Any]) -> None:
        """Connect a broker that knows one actor, which ends as `verdicts` says of its message."""
        self.broker = brokers.RedisBroker(url=url, middleware=[Retries()], maintenance_chance=0)
        if loop := _event_loop():
            self.broker.add_middleware(loop)

        async def tool(job: str, **about: Any) -> Any:
            verdict = verdicts[job]
            if isinstance(verdict, Exception):
                raise verdict
            return verdict

        self.actor = dramatiq.actor(tool, broker=self.broker, queue_name=QUEUE, throws=DramatiqFinalError)

    def begin(self, name: str, timeout: int) -> None:
        """Become another process by this name, which knows of nothing."""
        self.name, self.broker.broker_id, self.broker.heartbeat_timeout = name, name, timeout
        self.work: queue.PriorityQueue[Any] = queue.PriorityQueue()
        self.consumers = {name: self._consumer(name) for name in (QUEUE, common.dq_name(QUEUE))}
        self.thread = worker.WorkerThread(
            broker=self.broker, consumers=self.consumers, work_queue=self.work, worker_timeout=0
        )
        self.running: set[str] = set()
        """Messages that its thread runs, by what Redis calls them."""

    def _consumer(self, name: str) -> Any:
        consumer = worker.ConsumerThread(
            broker=self.broker, queue_name=name, prefetch=PREFETCH_DELAYED, work_queue=self.work, worker_timeout=0
        )
        consumer.consumer = self.broker.consume(name, prefetch=PREFETCH_DELAYED, timeout=0)
        return consumer

    def poll(self, name: str, most: int = PREFETCH_DELAYED) -> None:
        """Do what the thread of a consumer does until it finds nothing more."""
        consumer = self.consumers[name]
        consumer.consumer.prefetch = most
        while (found := next(consumer.consumer)) is not None:
            consumer.handle_message(found)
        consumer.handle_delayed_messages()

    def owns(self, number: str) -> bool:
        """Whether Redis has a message as one of this process's."""
        acks = f"{self.broker.namespace}:__acks__.{self.name}.{QUEUE}"
        return bool(self.broker.client.sismember(acks, number))

    def process(self, found: Any) -> bool:
        """Run the actor, and what the middleware and the consumer do after it; whether the thread came back.

        What a thread that does not come back would do, had it been let go, is not done.
        """
        self.lost = False
        signal.signal(signal.SIGALRM, self._lost)
        signal.setitimer(signal.ITIMER_REAL, GONE_AFTER)
        try:
            self.thread.process_message(found)
        except BaseException:
            if not self.lost:
                raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.thread.broker, self.thread.consumers = self.broker, self.consumers
        return not self.lost

    def _lost(self, *_: Any) -> None:
        self.lost = True
        self.thread.broker = self.thread.consumers = None  # Whatever it tries on its way out raises.
        raise ThreadLost


def _message_of(item: Any) -> Any:
    """Return the message in an item of the work queue, a pair before 2.1."""
    return item[1] if isinstance(item, tuple) else item.message


def _event_loop() -> Any:
    """Return what runs actors that are coroutines, started; None in a release without it."""
    try:
        from dramatiq.middleware.asyncio import AsyncIO
    except ImportError:
        return None
    found = AsyncIO()
    if dramatiq.asyncio.get_event_loop_thread() is None:
        found.before_worker_boot(None, None)
    return found


class DramatiqAnswers:
    """The processes on one Redis, by the names of their workers."""

    async def open(self, url: str) -> None:
        """Begin without any process."""
        logging.getLogger("dramatiq").setLevel(logging.CRITICAL + 1)
        self.url = url
        self.idle: list[DramatiqProcess] = []
        self.processes: dict[str, DramatiqProcess] = {}
        self.verdicts: dict[str, Any] = {}
        self.claimed: dict[int, tuple[DramatiqProcess, Any]] = {}

    async def reset(self, silence: int) -> None:
        """Forget what is known of the run before; the store is emptied by the parent."""
        self.silence = silence
        self.idle += self.processes.values()
        self.processes.clear()
        self.verdicts.clear()
        self.claimed.clear()
        self.names = itertools.count(1)
        numbers = itertools.count(1)
        brokers.uuid4 = lambda: f"{next(numbers):08d}"
        common.uniform = lambda least, most: least

    def _process(self, name: str) -> DramatiqProcess:
        if name not in self.processes:
            found = self.idle.pop() if self.idle else DramatiqProcess(self.url, self.verdicts)
            found.begin(f"{name}-{next(self.names)}", self.silence)
            self.processes[name] = found
        return self.processes[name]

    async def enqueue(self, now: int, about: dict[str, Any], delay: int | None, **options: Any) -> None:
        """Send a message."""
        self._set(now)
        process = self._process("producer")
        made = process.actor.message_with_options(kwargs=about, **options).copy(message_id=about["job"])
        process.broker.enqueue(made, delay=delay)

    async def claim(self, now: int, worker: str, limit: int, number: int) -> list[dict[str, Any]]:
        """Take up to `limit` messages that are due; one with an ETA is held until then, unacknowledged.

        A worker that asks for more while it runs a message has died meanwhile: the process that
        follows knows nothing.
        """
        self._set(now)
        if worker in self.processes and self.processes[worker].running:
            self.processes.pop(worker)
        process = self._process(worker)
        process.poll(common.dq_name(QUEUE))
        process.poll(QUEUE, limit)
        claimed = []
        while not process.work.empty():
            number += 1
            found = _message_of(process.work.get())
            process.running.add(found.options["redis_message_id"])
            self.claimed[number] = process, found
            claimed.append({**found.kwargs, "number": number, "message": found.options["redis_message_id"]})
        return claimed

    async def heartbeat(self, now: int, worker: str) -> None:
        """Poll for messages with an ETA, as another thread does while one runs an actor: this shows that it lives."""
        self._set(now)
        self._process(worker).poll(common.dq_name(QUEUE))

    async def complete(self, now: int, number: int, output: Any) -> None:
        """Let the actor return."""
        self._set(now)
        self._apply_verdict(number, output)

    async def fail(self, now: int, number: int, error: str, final: bool, timed_out: bool) -> None:
        """Let the actor raise: what it was given too little time for raises as `asyncio.timeout` does."""
        self._set(now)
        kind = TimeoutError if timed_out else DramatiqFinalError if final else DramatiqError
        self._apply_verdict(number, kind(error))

    def _apply_verdict(self, number: int, verdict: Any) -> None:
        if number not in self.claimed:
            raise DramatiqRefused("the message was settled already")
        process, found = self.claimed.pop(number)
        process.running.discard(found.options["redis_message_id"])
        self.verdicts[found.message_id] = verdict
        owned = process.owns(found.options["redis_message_id"])
        before = self._waiting(process)
        if not process.process(found):
            raise RuntimeError(f"the worker's thread waits forever once its actor raised {type(verdict).__name__}")
        if not owned and self._waiting(process) == before:
            raise DramatiqRefused("the message is another worker's now")

    @staticmethod
    def _waiting(process: DramatiqProcess) -> int:
        """Return how many messages with an ETA there are: a retry is one more."""
        return int(process.broker.client.hlen(f"{process.broker.namespace}:{common.dq_name(QUEUE)}.msgs"))

    async def expire(self, now: int) -> None:
        """Put back what dead workers held, as one command in a thousand of any worker does."""
        self._set(now)
        process = self._process("upkeep")
        process.broker.maintenance_chance = ALWAYS
        for name in process.consumers:
            process.broker.do_qsize(name)
        process.broker.maintenance_chance = 0

    @staticmethod
    def _set(now: int) -> None:
        for module in (common, brokers, message, worker):
            module.current_millis = lambda: now


Answers, Refused = DramatiqAnswers, DramatiqRefused
"""By these names the child's own loop finds who answers, and what says that nothing was done."""
