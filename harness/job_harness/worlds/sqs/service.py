"""Amazon SQS, simulated by moto (Apache-2.0) in this process: a request in, an answer out, on a clock of ours.

It is moto's SQS and not Amazon's; docs/sqs.md has what was compared. Of what it draws (ids, receipt
handles) every run draws the same. Leans on moto's own `_messages`, `_old_receipt_handles`,
`unix_time` and `sqs_backends`; checked on moto 5.2.5. Must not know: connections, processes, jobs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.extras import install

EXTRA: Final = "sqs"
ACCOUNT: Final = "123456789012"
_TARGET: Final = "AmazonSQS."
_ORIGIN: Final = 1_893_456_000_000
"""Milliseconds since 1970 at the instant 0, as everywhere."""
_MOST: Final = {"WaitTimeSeconds": 20, "DelaySeconds": 900, "VisibilityTimeout": 43_200}
"""What Amazon takes at most, which moto does not look at everywhere; it looks at the other limits."""
_REQUEST_ID: Final = "00000000-0000-0000-0000-000000000000"


class SqsRequest(NamedTuple):
    """What a client asked."""

    action: str
    arguments: Mapping[str, Any]
    path: str
    headers: Mapping[str, str]
    """In lower case."""
    body: bytes

    @classmethod
    def read(cls, path: str, headers: Mapping[str, str], body: bytes) -> SqsRequest:
        """Read a request in JSON, or in the older form of a query.

        Raises UsageError where it is neither, or has a number that Amazon does not take.
        """
        target = headers.get("x-amz-target", "")
        try:
            arguments = dict(json.loads(body or b"{}") if target else parse_qsl(body.decode()))
        except (ValueError, TypeError):
            raise UsageError(f"a request to SQS is neither JSON nor a query: {body[:80]!r}") from None
        action = target.removeprefix(_TARGET) if target else str(arguments.get("Action", ""))
        if not action or "." in action:
            raise UsageError(f"a request to SQS names no action: {target or body[:80]!r}")
        for name, most in _MOST.items():
            told = arguments.get(name)
            if told is not None and not (str(told).isdecimal() and int(told) <= most):
                raise UsageError(f"{action} has {name} {told!r:.40}: Amazon takes whole numbers from 0 to {most}")
        return cls(action, arguments, path, headers, body)

    @property
    def queue(self) -> str:
        """The name of the queue that it is about; empty where it is about none."""
        told = self.arguments.get("QueueUrl") or self.arguments.get("QueueName") or self.path
        return str(told).rstrip("/").rpartition("/")[2]

    @property
    def longest_wait(self) -> int | None:
        """For how many seconds it may wait for messages; None: it leaves that to the queue, or does not wait."""
        told = self.arguments.get("WaitTimeSeconds")
        return None if told is None else int(told)

    def at_once(self) -> SqsRequest:
        """Return the same, but that it does not wait."""
        if self.headers.get("x-amz-target"):
            return self._replace(body=json.dumps({**self.arguments, "WaitTimeSeconds": 0}).encode())
        return self._replace(body=self.body + b"&WaitTimeSeconds=0")


class SqsAnswer(NamedTuple):
    """What is answered."""

    status: int
    kind: str
    body: bytes

    def as_bytes(self) -> bytes:
        """Return it as it goes over a connection that stays open."""
        reason = "OK" if self.status < 400 else "Bad Request"
        head = f"HTTP/1.1 {self.status} {reason}\r\ncontent-type: {self.kind}\r\nx-amzn-requestid: {_REQUEST_ID}\r\n"
        return f"{head}content-length: {len(self.body)}\r\n\r\n".encode() + self.body


@dataclass(frozen=True, slots=True)
class SqsQueues:
    """The queues that are there when a run begins."""

    region: str
    attributes: Mapping[str, Mapping[str, str]]
    """By the name of a queue, in the order in which they are made, its attributes as CreateQueue takes them."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names by which it is reached."""
        return f"sqs.{self.region}.amazonaws.com", f"{self.region}.queue.amazonaws.com"

    @property
    def environment(self) -> dict[str, str]:
        """What processes find in theirs."""
        return {
            "AWS_ACCESS_KEY_ID": "job-harness",
            "AWS_SECRET_ACCESS_KEY": "job-harness",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL_SQS": f"http://{self.hosts[0]}",  # TLS at the same name, for what does not look at this.
        }

    @property
    def limits_receives(self) -> bool:
        """Whether there are queues, and each but those for dead letters has a limit."""
        limited = ["RedrivePolicy" in each for name, each in self.attributes.items() if name not in self._for_the_dead]
        return bool(limited) and all(limited)

    @property
    def keeps_order(self) -> bool:
        """Whether all that are there at the start are FIFO queues."""
        return bool(self.attributes) and all(name.endswith(".fifo") for name in self.attributes)

    @property
    def _for_the_dead(self) -> frozenset[str]:
        policies = (json.loads(each.get("RedrivePolicy", "{}")) for each in self.attributes.values())
        return frozenset(str(policy.get("deadLetterTargetArn", "")).rpartition(":")[2] for policy in policies)


@dataclass(slots=True)
class SqsMessage:
    """A message from when it is sent to the end of the run."""

    id: str
    body: str
    queue: str
    """The queue to which it was sent."""
    sent_at: float
    """Milliseconds since 1970, as all times here."""
    receives: int = 0
    visible_at: float = 0
    """Until then no other process receives it."""
    is_held: bool = False
    """Whether it was handed to one who received it, and not handed back since; time alone does not change that."""
    delayed_until: float = -1
    deleted_at: float | None = None
    is_dead: bool = False
    """Whether it lies in a queue for dead letters."""
    most_receives: int | None = None


class SqsService:
    """One SQS, from one run to the next."""

    def __init__(self, queues: SqsQueues) -> None:
        """Load moto. Raises EnvironmentUnavailable where it is not installed."""
        try:
            models: Any = import_module("moto.sqs.models")
            chance: Any = import_module("moto.moto_api._internal").mock_random
            client: Any = import_module("werkzeug.test").Client(import_module("moto.server").create_backend_app("sqs"))
            self._unknown: type[Exception] = import_module("botocore.model").OperationNotFoundError
        except ImportError as error:
            raise EnvironmentUnavailable(
                f"`stores: {{sqs: ...}}` needs moto: {error}", hint=f"Install it with: {install(EXTRA)}"
            ) from error
        self.queues = queues
        self.changes = 0
        """Rises with each message that is sent, received, handed back, moved or deleted."""
        self._known: dict[str, SqsMessage] = {}
        self._now: float = _ORIGIN
        self._models, self._chance, self._client = models, chance, client
        models.sqs_backends.clear()
        self._accounts: dict[str, Any] = {ACCOUNT: models.sqs_backends[ACCOUNT]}
        """What moto keeps for us."""
        self.renew()

    @property
    def provenance(self) -> str:
        """Where it came from."""
        return f"SQS by moto {metadata.version('moto')}, in this process, on its clock"

    def renew(self) -> None:
        """Be as before the first run."""
        for backend in self._accounts[ACCOUNT].values():
            backend.queues.clear()
        self._known.clear()
        self._now = _ORIGIN
        self._chance.seed("job-harness")
        self._take_over()
        backend = self._backend()
        for name, attributes in self.queues.attributes.items():
            backend.create_queue(name, **attributes)

    def _take_over(self) -> None:
        """Let moto, which is one for this whole process, be on our clock and have our queues."""
        self._models.unix_time = lambda dt=None: self._now / 1000
        self._models.unix_time_millis = lambda dt=None: self._now
        self._models.sqs_backends.clear()
        self._models.sqs_backends.update(self._accounts)

    def _backend(self) -> Any:
        return self._accounts[ACCOUNT][self.queues.region]

    def set_now(self, milliseconds: float) -> None:
        """Move its clock to so much after its start."""
        self._now = _ORIGIN + milliseconds

    def answer(self, request: SqsRequest) -> SqsAnswer:
        """Return the answer to a request, at once.

        Raises UsageError for an action that moto does not have, and for arguments at which moto
        fails.
        """
        self._take_over()
        self._end_handles()
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        host = f"http://{request.headers.get('host') or self.queues.hosts[0]}"
        try:
            told = self._client.post(request.path, base_url=host, headers=headers, data=request.body)
        except (self._unknown, NotImplementedError):
            raise UsageError(f"moto's SQS has no {request.action}") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"moto's SQS does not understand this {request.action}: {error}") from None
        self._take_note(request)
        return SqsAnswer(told.status_code, str(told.headers.get("content-type", "")), told.data)

    def _end_handles(self) -> None:
        """Forget the receipt handles of messages of FIFO queues that can be seen again: Amazon refuses them."""
        fifo = (queue for queue in self._backend().queues.values() if queue.fifo_queue)
        for message in (each for queue in fifo for each in queue._messages if each.visible_at < self._now):
            message.receipt_handle, message._old_receipt_handles = None, []

    def wait_of(self, request: SqsRequest) -> int:
        """Return for how many seconds a request waits where there are no messages."""
        if request.action != "ReceiveMessage":
            return 0
        queue = self._backend().queues.get(request.queue)
        wait = request.longest_wait
        return int(queue.receive_message_wait_time_seconds if queue and wait is None else wait or 0)

    def next_visible(self, queue: str) -> float | None:
        """Tell in how many milliseconds the next message of a queue can be seen again; None: time brings none."""
        found = self._backend().queues.get(queue)
        ends = _ends([found] if found else [])
        return min((at + 1 - self._now for at in ends if at >= self._now), default=None)

    def next_change(self, after: float) -> float | None:
        """Tell when, so much after the start, the next message of any queue can be seen again, after a moment."""
        ends = (at + 1 - _ORIGIN for at in _ends(self._backend().queues.values()))
        return min((at for at in ends if at > after), default=None)

    # what becomes of messages ---------------------------------------------------------------------------------------

    def messages(self) -> Iterator[SqsMessage]:
        """List those of the run, also such that were deleted."""
        self._look()
        return iter(self._known.values())

    def _take_note(self, request: SqsRequest) -> None:
        for message in self._look():
            self.changes += 1
            if request.action in ("DeleteMessage", "DeleteMessageBatch"):
                message.deleted_at = self._now
            else:  # Purged, or older than its queue keeps messages.
                del self._known[message.id]

    def _look(self) -> list[SqsMessage]:
        """Take note of the messages that there are; return those that are gone."""
        known, queues, there = self._known, self._backend().queues, set()
        for_the_dead = {id(queue.dead_letter_queue) for queue in queues.values() if queue.dead_letter_queue}
        for name, queue in queues.items():
            for each in queue._messages:
                there.add(each.id)
                noted = known.setdefault(each.id, SqsMessage(each.id, each.body, name, each.sent_timestamp))
                state = each.visible_at, each.approximate_receive_count, id(queue) in for_the_dead, each.delayed_until
                if state != (noted.visible_at, noted.receives, noted.is_dead, noted.delayed_until):
                    self.changes += 1
                    noted.visible_at, noted.receives, noted.is_dead, noted.delayed_until = state
                    noted.is_held = each.visible_at > self._now
                noted.most_receives = (queue.redrive_policy or {}).get("maxReceiveCount", noted.most_receives)
        return [each for key, each in known.items() if key not in there and each.deleted_at is None]


def _ends(queues: Iterable[Any]) -> Iterator[float]:
    """Return until when each message of some queues cannot be seen."""
    return (max(each.visible_at, each.delayed_until) for queue in queues for each in queue._messages)
