"""What the workload plans for one job: what is sent, and how each of its attempts goes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.model.duration import Duration
from harness.model.settings import Settings
from harness.scenario.span import Span


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


ERRORS = {
    Ending.FAIL: "it failed",
    Ending.FAIL_FINALLY: "it failed for good",
    Ending.RAISE: "RuntimeError: boom",
    Ending.RAISE_NUL: "RuntimeError: boom\x00",
    Ending.RAISE_SURROGATE: "RuntimeError: \ud800",
}


class Payload(StrEnum):
    """An input that tempts a queue to lose, change or choke on it."""

    NUL = "NUL"
    SURROGATE = "surrogate"
    NAN = "NaN"
    LARGE = "large"
    ESCAPES = "escapes"
    BIG_NUMBER = "big number"


PAYLOADS: dict[Payload, Any] = {
    Payload.NUL: {"text": "a\x00b"},
    Payload.SURROGATE: {"text": "\ud800"},
    Payload.NAN: {"score": float("nan")},
    Payload.LARGE: {"text": "x" * 9_000},
    Payload.ESCAPES: {"text": "a\\u0000b '\" \u00e9 \U0001f4a5"},
    Payload.BIG_NUMBER: {"score": 2**70},
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
    """How long after it is sent somebody cancels it."""
    retry_after: Duration | None = None
    """How long after that (or after it was sent) an operator retries it."""
    every: Duration | None = None
    count: int = 1
    scheduled: bool = False
    """The queue makes them by a schedule, one for each of `count` slots."""
    held_back: bool = False
    """Sent only by a step `enqueue NAME`."""

    @property
    def sent(self) -> Any:
        """The input as it is sent."""
        return self.input if self.payload is None else PAYLOADS[self.payload]

    def ending(self, attempt: int) -> Ending:
        """Answer how the attempt with this number (from 1) ends."""
        return self.outcomes[min(attempt, len(self.outcomes)) - 1]

    def duration(self, attempt: int, settings: Settings) -> Duration:
        """Answer how long it takes."""
        return self.takes[min(attempt, len(self.takes)) - 1].resolve(settings)

    def healthy(self, settings: Settings) -> bool:
        """Say whether it succeeds whenever it is run, with a second to spare."""
        return (
            set(self.outcomes) == {Ending.SUCCEED}
            and self.cancel_after is None
            and self.retry_after is None
            and all(span.resolve(settings) + 1_000_000 < settings.job_timeout for span in self.takes)
        )

    def names(self) -> list[str]:
        """List the ids of the jobs that it sends."""
        return [self.name] if self.every is None else [f"{self.name}{n}" for n in range(1, self.count + 1)]
