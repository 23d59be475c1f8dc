"""What the workload plans for one job: what is sent, who processes it, how each attempt goes and how long it takes.

A length is absolute, or relative to a setting (`Span`), so that it moves with the setting. Values
only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from job_harness.core.model import Duration, Settings, format_duration, parse_duration
from job_harness.core.port import Missed

# how long -------------------------------------------------------------------------------------------------------------


MOST_TIMES = 1_000_000
_RELATIVE = re.compile(r"^([0-9]+(?:\.[0-9]+)?)\s*x?\s*([a-z_]+)$")


@dataclass(frozen=True, slots=True)
class Span:
    """`factor` times a setting, or a fixed duration."""

    fixed: Duration = 0
    factor: float = 0.0
    setting: str | None = None

    def resolve(self, settings: Settings) -> Duration:
        """Return the duration in microseconds under these settings."""
        if self.setting is None:
            return self.fixed
        return round(self.factor * int(getattr(settings, self.setting)))

    def __str__(self) -> str:
        return format_duration(self.fixed) if self.setting is None else f"{self.factor:g} {self.setting}"


def parse_span(text: str) -> Span:
    """Read `30s` or `0.95 lease`.

    Raises ValueError naming what would have been accepted.
    """
    try:
        return Span(fixed=parse_duration(text))
    except ValueError:
        relative = _RELATIVE.match(text.strip())
        if relative is None or relative[2] not in Settings.duration_names():
            names = ", ".join(sorted(Settings.duration_names()))
            raise ValueError(f"{text!r} is neither a duration (30s) nor a multiple of a setting ({names})") from None
        if (factor := float(relative[1])) > MOST_TIMES:
            raise ValueError(f"{text!r} is more than {MOST_TIMES} times a setting, the most accepted") from None
        return Span(factor=factor, setting=relative[2])


# which processor ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessorPlan:
    """`run` is `module:name` or `path.ts#name`; the rest is for TypeScript only."""

    run: str
    root: tuple[str, ...] = ()
    """Where it is looked for, relative to the folder of the scenario file; then where what it imports is."""
    globals: Mapping[str, str] = field(default_factory=dict)
    """JavaScript expressions by the name of the global that each is the value of."""
    stubs: Mapping[str, str] = field(default_factory=dict)
    """Files by the specifier of the module in whose place each is read."""
    fetch: Mapping[str, Any] = field(default_factory=dict)
    """What `fetch` returns, by URL or by method and URL."""
    folder: str = field(default="", compare=False)
    """Where relative paths and modules are looked for: the first `root`, or the folder of the scenario file."""
    further: tuple[str, ...] = field(default=(), compare=False)
    """The folders of the other roots."""
    place: str = field(default="", compare=False)
    """Where it is written, as `file:line`."""


# what an operator does ------------------------------------------------------------------------------------------------


class OperatorAct(NamedTuple):
    """What an operator asks of a job, and how long after what was asked before."""

    verb: str
    after: Duration

    def __str__(self) -> str:
        return f"{self.verb} after {format_duration(self.after)}"


OPERATED: Final = {"cancel": "cancel", "retry": "retry", "send": "inputs"}
"""What can be asked of a job that was sent, and the capability that it takes. `send` is under the same id again, for
queues whose rows tell what was kept."""


def parse_act(text: str) -> OperatorAct:
    """Read `retry after 30m`.

    Raises ValueError naming what would have been accepted.
    """
    verb, after, length = (part.strip() for part in text.partition(" after "))
    if verb not in OPERATED or not after:
        raise ValueError(f"{text!r} is nothing an operator does: write {', '.join(OPERATED)}, as in `retry after 30m`")
    return OperatorAct(verb, parse_duration(length))


# the job --------------------------------------------------------------------------------------------------------------


class Ending(StrEnum):
    """How an attempt of a scripted processor ends."""

    SUCCEED = "succeed"
    FAIL = "fail"
    FAIL_FINALLY = "fail finally"
    RAISE = "raise"
    RAISE_NUL = "raise NUL"
    RAISE_SURROGATE = "raise surrogate"
    RETURN_NAN = "return NaN"
    RETURN_NUL = "return NUL"
    HANG = "hang"
    EXIT = "exit"
    TOO_MANY = "too many requests"
    """It fails, as all do that are answered with 429: a later attempt may succeed."""


ERRORS = {
    Ending.FAIL: "it failed",
    Ending.FAIL_FINALLY: "it failed for good",
    Ending.RAISE: "RuntimeError: boom",
    Ending.RAISE_NUL: "RuntimeError: boom\x00",
    Ending.RAISE_SURROGATE: "RuntimeError: \ud800",
    Ending.TOO_MANY: "429 Too Many Requests",
}


class Payload(StrEnum):
    """An input that tempts a queue to lose, change or choke on it."""

    NUL = "NUL"
    SURROGATE = "surrogate"
    NAN = "NaN"
    LARGE = "large"
    ESCAPES = "escapes"
    BIG_NUMBER = "big number"
    FALSE = "false"
    ZERO = "zero"
    EMPTY_TEXT = "empty text"
    EMPTY_LIST = "empty list"
    EMPTY_OBJECT = "empty object"


PAYLOADS: dict[Payload, Any] = {
    Payload.NUL: {"text": "a\x00b"},
    Payload.SURROGATE: {"text": "\ud800"},
    Payload.NAN: {"score": float("nan")},
    Payload.LARGE: {"text": "x" * 9_000},
    Payload.ESCAPES: {"text": "a\\u0000b '\" \u00e9 \U0001f4a5"},
    Payload.BIG_NUMBER: {"score": 2**70},
    Payload.FALSE: False,
    Payload.ZERO: 0,
    Payload.EMPTY_TEXT: "",
    Payload.EMPTY_LIST: [],
    Payload.EMPTY_OBJECT: {},
}
OUTPUTS: dict[Ending, Any] = {Ending.RETURN_NAN: {"score": float("nan")}, Ending.RETURN_NUL: {"text": "a\x00b"}}


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job, or `count` jobs sent `every` so often."""

    name: str
    tool: str = "tool"
    input: Any = None
    outcomes: tuple[Ending, ...] = (Ending.SUCCEED,)
    """How each attempt ends; the last one repeats."""
    takes: tuple[Span, ...] = (Span(fixed=1_000_000),)
    """How long each attempt takes; the last one repeats."""
    at: Duration = 0
    """When it is sent, from the start of the run."""
    start_after: Duration | None = None
    """How long after it is sent it may first be claimed."""
    priority: int = 0
    max_attempts: int | None = None
    unique_key: str | None = None
    serial_key: str | None = None
    dead_letter: str | None = None
    """The tool that gets its input as a new job once this one is FAILED."""
    payload: Payload | None = None
    """A hostile input in place of `input`."""
    transaction: str | None = None
    """`commit` or `rollback`: it is sent inside a transaction that ends so."""
    open_for: Duration = 0
    """How long that transaction stays open after the job was sent."""
    cancel_after: Duration | None = None
    """How long after it is sent it is cancelled."""
    retry_after: Duration | None = None
    """How long after that (or after it was sent) an operator retries it."""
    then: tuple[OperatorAct, ...] = ()
    """What an operator asks next."""
    every: Duration | None = None
    count: int = 1
    scheduled: bool = False
    """The queue makes them by a schedule, one for each of `count` slots."""
    cron: str | None = None
    """A cron text in the place of `every`: five fields, six (seconds first), or `@daily` and its like."""
    zone: str = "UTC"
    """In which time zone that is meant."""
    missed: Missed = Missed.EACH
    """What becomes of slots that no scheduler looked at in time."""
    lease: Duration | None = None
    """How long a claim of it lasts without a heartbeat; None: as the settings say. So with the next two."""
    timeout: Duration | None = None
    """How long its processor may run."""
    retry_delay: Duration | None = None
    """The wait before its first retry."""
    unique_for: Duration | None = None
    """Its unique key is held for at least so long after it was created."""
    after: str | None = None
    """It is sent only once this other job has ended."""
    depends_on: tuple[str, ...] = ()
    """Jobs that have to be COMPLETED before it begins; it is sent once they were."""
    parent: str | None = None
    """The job that waits for it, where that has not begun; it is sent once that was."""
    group: str | None = None
    """All jobs of one group end in one callback."""
    children: int | None = None
    """How many jobs it is to be split into."""
    held_back: bool = False
    """Sent only by a step `enqueue NAME`."""

    @property
    def sent(self) -> Any:
        """The input as it is sent."""
        return self.input if self.payload is None else PAYLOADS[self.payload]

    def ending(self, attempt: int) -> Ending:
        """Return how the attempt with this number (from 1) ends."""
        return self.outcomes[min(attempt, len(self.outcomes)) - 1]

    def duration(self, attempt: int, settings: Settings) -> Duration:
        """Return how long it takes."""
        return self.takes[min(attempt, len(self.takes)) - 1].resolve(settings)

    def allowed(self, settings: Settings) -> Duration:
        """Return how long its processor may run."""
        return settings.job_timeout if self.timeout is None else self.timeout

    def healthy(self, settings: Settings) -> bool:
        """Say whether it succeeds whenever it is run, with a second to spare."""
        return (
            set(self.outcomes) == {Ending.SUCCEED}
            and self.cancel_after is None
            and not self.depends_on
            and self.retry_after is None
            and not self.then
            and all(span.resolve(settings) + 1_000_000 < self.allowed(settings) for span in self.takes)
        )

    def operated(self) -> Iterator[OperatorAct]:
        """List what an operator asks of it once it was sent."""
        if self.cancel_after is not None:
            yield OperatorAct("cancel", self.cancel_after)
        if self.retry_after is not None:
            yield OperatorAct("retry", self.retry_after)
        yield from self.then

    def names(self) -> list[str]:
        """List the ids of the jobs that it sends."""
        several = self.every is not None or self.cron is not None
        return [f"{self.name}{n}" for n in range(1, self.count + 1)] if several else [self.name]
