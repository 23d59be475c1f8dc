"""The reference's own table of states and arrows. Knows no store: stores and tests are held against it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from job_harness_reference.models import QueueState, ToolJobStatus

_PENDING, _PROCESSING = ToolJobStatus.PENDING, ToolJobStatus.PROCESSING
_COMPLETED, _FAILED, _CANCELLED = ToolJobStatus.COMPLETED, ToolJobStatus.FAILED, ToolJobStatus.CANCELLED


class Event(StrEnum):
    """What can happen to a job. An expired lease and a rescue are failures: they take `FAIL` or `EXHAUST`."""

    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL = "fail"
    """The attempt failed and another is left."""
    EXHAUST = "exhaust"
    """The attempt failed and none is left, or the error was declared final."""
    RELEASE = "release"
    CANCEL = "cancel"
    RETRY = "retry"
    """An operator opens a new attempt budget."""


TRANSITIONS: Mapping[tuple[ToolJobStatus, Event], ToolJobStatus] = MappingProxyType(
    {
        (_PENDING, Event.CLAIM): _PROCESSING,
        (_PENDING, Event.CANCEL): _CANCELLED,
        (_PROCESSING, Event.COMPLETE): _COMPLETED,
        (_PROCESSING, Event.FAIL): _PENDING,
        (_PROCESSING, Event.EXHAUST): _FAILED,
        (_PROCESSING, Event.RELEASE): _PENDING,
        (_PROCESSING, Event.CANCEL): _CANCELLED,
        (_FAILED, Event.RETRY): _PENDING,
        (_CANCELLED, Event.RETRY): _PENDING,
    }
)
"""Every arrow there is. What is not here does not happen."""

PARTNERS: Mapping[ToolJobStatus, frozenset[QueueState]] = MappingProxyType(
    {
        _PENDING: frozenset({QueueState.CREATED, QueueState.RETRY}),
        _PROCESSING: frozenset({QueueState.ACTIVE}),
        _COMPLETED: frozenset({QueueState.COMPLETED}),
        _FAILED: frozenset({QueueState.FAILED}),
        _CANCELLED: frozenset({QueueState.CANCELLED}),
    }
)
"""Which queue states a status may stand beside."""


def step(status: ToolJobStatus, event: Event) -> ToolJobStatus | None:
    """Follow the arrow that `event` takes from `status`; `None` if there is none."""
    return TRANSITIONS.get((status, event))


def status_beside(state: QueueState) -> ToolJobStatus:
    """Name the one status that a queue state may stand beside."""
    return next(status for status, states in PARTNERS.items() if state in states)
