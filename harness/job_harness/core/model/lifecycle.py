"""The lifecycle of a job as one table; tests walk every pair."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """What a user sees of a job."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class QueueState(StrEnum):
    """What the queue keeps of a job."""

    CREATED = "created"
    RETRY = "retry"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL_RETRYABLY = "fail, attempts left"
    FAIL_FINALLY = "fail, none left or declared final"
    RELEASE = "release"
    CANCEL = "cancel"
    RETRY = "retry"


PENDING: Final = Status.PENDING
PROCESSING: Final = Status.PROCESSING
COMPLETED: Final = Status.COMPLETED
FAILED: Final = Status.FAILED
CANCELLED: Final = Status.CANCELLED
"""The statuses by themselves, for code that runs at every event: up to Python 3.11 an enumeration looks its members up
in Python's slow way, which costs ten times what the comparison itself does."""

TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

TRANSITIONS: Final[dict[tuple[Status, Event], Status]] = {
    (Status.PENDING, Event.CLAIM): Status.PROCESSING,
    (Status.PENDING, Event.CANCEL): Status.CANCELLED,
    (Status.PROCESSING, Event.COMPLETE): Status.COMPLETED,
    (Status.PROCESSING, Event.FAIL_RETRYABLY): Status.PENDING,
    (Status.PROCESSING, Event.FAIL_FINALLY): Status.FAILED,
    (Status.PROCESSING, Event.RELEASE): Status.PENDING,
    (Status.PROCESSING, Event.CANCEL): Status.CANCELLED,
    (Status.FAILED, Event.RETRY): Status.PENDING,
    (Status.CANCELLED, Event.RETRY): Status.PENDING,
}

EVENTS_OF_VERB: Final[dict[str, tuple[Event, ...]]] = {
    "claim": (Event.CLAIM,),
    "complete": (Event.COMPLETE,),
    "fail": (Event.FAIL_RETRYABLY, Event.FAIL_FINALLY),
    "release": (Event.RELEASE,),
    "cancel": (Event.CANCEL,),
    "expire": (Event.FAIL_RETRYABLY, Event.FAIL_FINALLY),
    "rescue": (Event.FAIL_RETRYABLY, Event.FAIL_FINALLY),
    "retry": (Event.RETRY,),
    "resume": (Event.RETRY,),
}
"""A rescue takes the same arrows as a failure."""

PARTNERS: Final[dict[Status, frozenset[QueueState]]] = {
    Status.PENDING: frozenset({QueueState.CREATED, QueueState.RETRY}),
    Status.PROCESSING: frozenset({QueueState.ACTIVE}),
    Status.COMPLETED: frozenset({QueueState.COMPLETED}),
    Status.FAILED: frozenset({QueueState.FAILED}),
    Status.CANCELLED: frozenset({QueueState.CANCELLED}),
}
"""The queue states that a status may stand beside at rest."""


def step(status: Status, event: Event) -> Status | None:
    """Return the status that follows, or None where the arrow does not exist."""
    return TRANSITIONS.get((status, event))


def _arrows() -> dict[str, frozenset[tuple[Status, Status]]]:
    return {
        verb: frozenset((a, b) for (a, event), b in TRANSITIONS.items() if event in events)
        for verb, events in EVENTS_OF_VERB.items()
    }


ARROWS_OF_VERB: Final = _arrows()
"""For each verb of the port the (before, after) pairs that it may cause."""
