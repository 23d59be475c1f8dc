"""The SQS of a system: connections of processes over HTTP, whose requests are gates; a long poll waits in virtual time.

Must not know: kernels, what a job is.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final

from job_harness.core.model import MILLISECOND, SECOND, Duration, Instant
from job_harness.core.port import Sent
from job_harness.core.printable import printable
from job_harness.core.sim import Clocks, Exchange, Poll
from job_harness.errors import UsageError
from job_harness.subjects.systems.brokers import EPOCH, Row
from job_harness.subjects.systems.document import SystemFileError
from job_harness.subjects.systems.http_wire import HttpReader
from job_harness.subjects.systems.process import SystemProcess
from job_harness.subjects.systems.store_links import StoreLink
from job_harness.subjects.systems.traffic import KnownAnswers, key_of
from job_harness.worlds.sqs.service import SqsAnswer, SqsMessage, SqsRequest, SqsService
from job_harness.worlds.wire.proxy import Timekeeper

_CHUNK: Final = 1 << 16
_LONGEST_TEXT: Final = 300
_FREE: Final = frozenset(
    ("GetQueueUrl", "ListQueues", "GetQueueAttributes", "ListQueueTags", "ListDeadLetterSourceQueues")
)
"""What tells a client nothing of what others did, but for numbers that Amazon calls approximate."""
_NAMES: Final = {
    "ReceiveMessage": "receive",
    "SendMessage": "send",
    "SendMessageBatch": "send batch",
    "DeleteMessage": "delete",
    "DeleteMessageBatch": "delete batch",
    "ChangeMessageVisibility": "change visibility",
    "ChangeMessageVisibilityBatch": "change visibility batch",
}
"""What the gate of a request is called, before the name of its queue; any other by its action."""
COLUMNS: Final = frozenset(
    ("id", "input", "tool", "status", "attempts", "created_at", "start_after", "lease_until", "completed_at")
)


def rows_of(messages: Iterator[SqsMessage]) -> list[Row]:
    """Return messages as rows of a SELECT would be."""
    return [_row(each) for each in messages]


def _row(message: SqsMessage) -> Row:
    body: Any = message.body
    with suppress(ValueError):
        body = json.loads(message.body)
    ended = message.deleted_at is not None
    status = "COMPLETED" if ended else "FAILED" if message.is_dead else "PROCESSING" if message.is_held else "PENDING"
    row = {
        "id": message.id,
        "input": [body, message.id],
        "tool": message.queue,
        "status": status,
        "attempts": message.receives,
        "created_at": _moment(message.sent_at),
        "start_after": _moment(max(message.sent_at, message.delayed_until)),
        "lease_until": _moment(message.visible_at) if status == "PROCESSING" else None,
        "completed_at": None if message.deleted_at is None else _moment(message.deleted_at),
    }
    return row if message.most_receives is None else {**row, "max_attempts": message.most_receives}


def _moment(milliseconds: float) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


class SqsMeeting:
    """Where the connections of one run to SQS meet."""

    def __init__(self, service: SqsService, clocks: Clocks) -> None:
        self.service = service
        self.clocks = clocks
        self.changed: list[str] = []
        """The queues in which something was changed, in that order."""

    def link(self, ours: socket.socket, process: SystemProcess) -> SqsLink:
        """Take a connection of a process."""
        return SqsLink(ours, self, actor=process.name, place=process.program.kind.place)


class SqsLink(StoreLink):
    """One connection of a process to SQS."""

    def __init__(self, ours: socket.socket, meeting: SqsMeeting, *, actor: str, place: str) -> None:
        self.key = key_of(ours)
        self.actor = actor
        self.timekeeper = Timekeeper()
        self.pending: deque[SqsRequest] = deque()
        self.closed = self.wrote = False
        self.done = None
        self._meeting = meeting
        self._place = place
        self._socket = ours
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = HttpReader()
        self._answer = SqsAnswer(200, "", b"")
        self._known = KnownAnswers()

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    def arrive(self) -> None:
        """Take what the process sent. Raises SystemFileError if it is not a request to SQS."""
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:  # Half a record of TLS.
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        while data:
            self._reader.take(data)
            if self._reader.problem:
                raise self._refused(f"its client sends what is not HTTP/1.1: {self._reader.problem}")
            message, data = self._reader.message, self._reader.rest
            if message is not None:
                self._reader = HttpReader()
                with self._naming_actor():
                    self.pending.append(SqsRequest.read(message.path, message.headers, message.body))

    # gates ----------------------------------------------------------------------------------------------------------

    async def carry_out(self) -> None:
        request, service, clocks = self.pending.popleft(), self._meeting.service, self._meeting.clocks
        if request.action in _FREE:
            self._ask(request)
            self._tell(self._answer.as_bytes())
            return
        wait = service.wait_of(request) * SECOND
        until = clocks.now + wait
        point = f"{_NAMES.get(request.action, request.action)} {request.queue}"
        while True:
            exchange = Exchange(point)
            await exchange
            if not exchange.happens:
                self.close()
            if self.closed:  # by this, or by an outage that came while it stood at its gate
                return
            self.timekeeper.before_request(clocks.store())
            self._carry(request.at_once() if wait else request, point)
            # A message that was moved to the dead letters is no answer, but has to be seen now.
            if self.wrote or not wait or not await _News(self._meeting, request.queue, until, point):
                break
        if not exchange.heard:
            self.close()
            return
        self.timekeeper.before_reply()
        self._tell(self._answer.as_bytes())

    def _carry(self, request: SqsRequest, point: str) -> None:
        before = self._meeting.service.changes
        self._ask(request)
        text = printable(f"{request.action} {request.body.decode(errors='backslashreplace')}"[:_LONGEST_TEXT])
        self.wrote = self._meeting.service.changes != before
        if self.wrote:
            self._meeting.changed.append(request.queue)
        told = self._answer.body[:_LONGEST_TEXT].decode(errors="replace") if self.wrote else "nothing"
        self.done = Sent(self.actor, point, text), told

    def _ask(self, request: SqsRequest) -> None:
        with self._naming_actor():
            self._answer = self._meeting.service.answer(request)

    def _tell(self, answer: bytes) -> None:
        try:
            self._socket.sendall(answer)
        except OSError:  # It is gone.
            self.close()

    # what is asked again and again ----------------------------------------------------------------------------------

    def remember(self, asked: SqsRequest, *, change: int, at: Instant) -> None:
        if asked.action == "ReceiveMessage" and not self._meeting.service.wait_of(asked) and not self.closed:
            self._known.keep(asked.body, self._answer.as_bytes(), change=change, at=at)

    def found_nothing(self) -> tuple[int, Instant] | None:
        return None if len(self.pending) != 1 or self.closed else self._known.since(self.pending[0].body)

    def answer_again(self) -> None:
        self._tell(self._known.answer_to(self.pending.popleft().body))

    def close(self) -> None:
        self.closed = True
        self.pending.clear()
        self._socket.close()

    @contextmanager
    def _naming_actor(self) -> Iterator[None]:
        """Say of what is refused whose request it was."""
        try:
            yield
        except UsageError as error:
            raise self._refused(error.message) from None

    def _refused(self, what: str) -> SystemFileError:
        self.close()
        return SystemFileError(
            f"{self._place}: {self.actor} and SQS: {what}", hint="docs/sqs.md says what is supported."
        )


class _News:
    """Stand outside the schedule until there may be messages (True), or the time to wait is over (False)."""

    def __init__(self, meeting: SqsMeeting, queue: str, until: Instant, point: str) -> None:
        self._meeting, self._queue, self._until = meeting, queue, until
        self._seen = len(meeting.changed)
        visible = meeting.service.next_visible(queue)
        self._visible = None if visible is None else meeting.clocks.now + _up(visible * MILLISECOND)
        self._poll = Poll(1, self._due, point=point)

    def _has_news(self) -> bool:
        return self._queue in self._meeting.changed[self._seen :]

    def _due(self) -> Instant | None:
        if self._has_news():
            return self._meeting.clocks.now
        return self._until if self._visible is None else min(self._until, self._visible)

    def __await__(self) -> Generator[Poll, Any, bool]:
        yield self._poll
        return self._has_news() or (self._visible is not None and self._visible <= self._meeting.clocks.now)


def _up(duration: float) -> Duration:
    """Return the next whole duration."""
    return -int(-duration // 1)
