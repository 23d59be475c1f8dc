"""What a pg-boss process says at the end of a turn, and when it is next to be woken. Knows no process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from harness.foreign.database import ORIGIN
from harness.history.outcome import Outcome, done
from harness.model.duration import MILLISECOND, SECOND, Instant
from harness.model.job import JobId

SUPERVISION: Final = "supervision"
LIMIT: Final = "limit"
"""A timer that is no round: the end of the wait for a handler, for one."""
NEVER: Final = 10**18
_ORIGIN_MS: Final = int(ORIGIN.timestamp()) * (SECOND // MILLISECOND)


class Timer(NamedTuple):
    """A timer that is set in the process; a round has a period, and may be left out while it would find nothing."""

    when: Instant
    period: Instant | None
    round: str
    """`supervision`, `limit`, or the poll of a queue: see `poll_of`."""


class HandlerCall(NamedTuple):
    """pg-boss called its handler with a batch, and waits for its answer."""

    number: int
    queue: str
    jobs: tuple[JobId, ...]


class Turn(NamedTuple):
    """Everything that happened until the process came to rest."""

    outcome: Outcome
    calls: tuple[HandlerCall, ...]
    trouble: tuple[str, ...]
    """What it emitted as errors and warnings."""
    stirred: bool
    """Whether a statement was answered that may have changed a job."""
    timers: tuple[Timer, ...]


def turn_of(reply: Mapping[str, Any]) -> Turn:
    """Read what the child answered."""
    if "raised" in reply:
        outcome = Outcome.unknown(str(reply["raised"]))
    else:
        outcome = Outcome.refused(str(reply["refused"])) if "refused" in reply else done(reply["value"])
    return Turn(
        outcome=outcome,
        calls=tuple(HandlerCall(call["call"], call["queue"], tuple(call["jobs"])) for call in reply["calls"]),
        trouble=tuple(reply["trouble"]),
        stirred=reply["stirred"],
        timers=tuple(
            Timer(instant_of_ms(when), None if period is None else round(period * MILLISECOND), name)
            for when, period, name in reply["timers"]
        ),
    )


def ms_of(instant: Instant) -> float:
    """Answer what the process's clock says at an instant, microseconds as decimals."""
    return _ORIGIN_MS + instant / MILLISECOND


def instant_of_ms(milliseconds: float) -> Instant:
    """Answer the instant at which the process's clock says so."""
    return round((milliseconds - _ORIGIN_MS) * MILLISECOND)


def poll_of(queue: str) -> str:
    """Name the round in which the worker of a queue looks for jobs."""
    return f"poll {queue}"


def next_due(timers: Iterable[Timer], skip: Mapping[str, Instant]) -> Instant | None:
    """Tell when the first timer is due that is not left out: a round is, on its grid, before the instant in `skip`."""
    return min((_due(timer, skip.get(timer.round, 0)) for timer in timers if _counts(timer, skip)), default=None)


def _counts(timer: Timer, skip: Mapping[str, Instant]) -> bool:
    return timer.period is None or skip.get(timer.round, 0) < NEVER


def _due(timer: Timer, skip: Instant) -> Instant:
    if timer.period is None or timer.when >= skip:
        return timer.when
    return timer.when + -(-(skip - timer.when) // timer.period) * timer.period
