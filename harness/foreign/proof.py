"""Proves that an engine follows our clock: a due job becomes due, and a lease really expires, both not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from harness.errors import UsageError
from harness.history.outcome import Outcome
from harness.model.duration import HOUR, Duration, Instant
from harness.model.settings import Settings
from harness.port import EngineClocks, JobRequest
from harness.postgres.virtual_clock import VirtualClockError

JOB: Final = "proof"
WORKER: Final = "w1"
MOMENT: Final = 1
"""Comparisons may be strict: what is due at t may be due a microsecond later."""


class _Hand:
    """A clock that the proof moves."""

    def __init__(self) -> None:
        self.now: Instant = 0

    def store(self) -> Instant:
        return self.now

    def of(self, actor: str) -> Instant:
        return self.now


def prove(
    open_queue: Callable[[Settings, EngineClocks, Callable[[], float]], Any],
    *,
    name: str,
    settings: Settings | None = None,
) -> Duration:
    """Send a job for later, claim it when it is due, and let its lease run out, on a queue opened for it.

    Answers how long after its time a job becomes due: 0, or the microsecond of a strict comparison.

    Raises VirtualClockError that names what did not follow.
    """
    clock = _Hand()
    settings = settings or Settings()
    queue = open_queue(settings, clock, lambda: 0.0)

    def expect(what: str, holds: bool, answered: Outcome) -> None:
        if not holds:
            raise VirtualClockError(
                f"{name} does not follow the virtual clock: {what}; it answered {answered}",
                hint="This release reads a clock that is not the harness's: name another release.",
            )

    sent = queue.enqueue(JobRequest(JOB, start_after=HOUR))
    if not sent.done:
        raise UsageError(f"{name} cannot be proven to follow the virtual clock: it took no job: {sent}")
    early = queue.claim(WORKER, 1)
    expect("a job was claimed an hour before it was due", early.done and not early.value, early)
    clock.now = HOUR
    due = queue.claim(WORKER, 1)
    if due.done and not due.value:
        clock.now += MOMENT
        due = queue.claim(WORKER, 1)
    strictly = clock.now - HOUR
    expect("a job was not claimed when it was due", due.done and len(due.value) == 1, due)
    clock.now += settings.lease - MOMENT
    held = queue.expire()
    expect("a lease expired before its time", held.done and not held.value, held)
    clock.now += 2 * MOMENT
    expired = queue.expire()
    expect("a lease did not expire", expired.done and expired.value == [JOB], expired)
    return strictly
