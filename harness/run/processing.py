"""What a worker asks of a real processor in a scenario. Who runs it, and in which language, is another's work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from harness.model.duration import Duration, Instant
from harness.model.job import Json
from harness.port import Claim


@dataclass(frozen=True, slots=True)
class Ended:
    """How a processor ended: with an output, or with an error that may be final."""

    success: bool
    output: Any = None
    error: str = ""
    final: bool = False


class ProcessorAttempt(Protocol):
    """One attempt of a real processor. It stands still unless it is moved: a crashed worker's is never moved again."""

    @property
    def ended(self) -> Ended | None:
        """How it ended; None while it is at work."""
        ...

    def move(self, passed: Duration) -> Duration | None:
        """Let this much time pass for it; answer how long until it next does something, None for never."""
        ...

    def abandon(self) -> None:
        """Ask it to stop: its time is up, and its lease may be another's."""
        ...


class RealProcessors(Protocol):
    """The real processors of one scenario."""

    def begin(self, claim: Claim, *, input: Json, max_attempts: int, now: Instant) -> ProcessorAttempt:
        """Start the processor of the claim's tool."""
        ...

    def close(self) -> None:
        """End whatever still runs. Never raises."""
        ...
