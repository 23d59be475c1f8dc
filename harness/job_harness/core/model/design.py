"""Designs that are right, and differ from what this project takes for granted: each is one word of a contract.

A word is no excuse for an anomaly: monitors and actors take the design as it is, and judge the rest as before. Where a
monitor cannot tell the design from a mistake, `EXCUSED` names what is then not reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Design(StrEnum):
    """What a queue does on purpose."""

    CANCELS_BY_MARK = "cancels by mark"
    """Cancelling a job that runs sets a mark; its worker ends it as CANCELLED once it looks, or completes it before."""
    MOVES_BY_SWEEP = "moves by sweep"
    """A job whose delay is over may be claimed only once the next sweep has moved it."""
    BURIES_BY_SWEEP = "buries by sweep"
    """A claim takes over what is overdue, and a sweep beside it fails what has no attempt left."""
    RETRIES_FOREVER = "retries forever"
    """The number of attempts has no limit."""
    KEEPS_NO_ERROR = "keeps no error"
    """The error of an attempt that is retried is not kept; that of the last one is."""
    KEEPS_ALL_ERRORS = "keeps all errors"
    """A job holds the errors of all its attempts, whatever it came to."""
    RUNS_AGAIN = "runs again"
    """An operator may run again what is COMPLETED, and what a dead worker holds."""


EXCUSED: Final[Mapping[Design, tuple[str, ...]]] = MappingProxyType(
    {
        Design.MOVES_BY_SWEEP: ("due_job_left", "priority_inversion"),
        Design.RETRIES_FOREVER: ("attempt_overrun", "livelock"),
        Design.KEEPS_ALL_ERRORS: ("completed_with_error",),
    }
)
"""By design, anomalies that a run cannot tell from it."""
