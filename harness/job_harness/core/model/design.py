"""Designs that are right, and differ from what this project takes for granted: each is one word of a contract.

A word is no excuse for an anomaly: monitors and actors take the design as it is, and judge the rest
as before. Where a monitor cannot tell the design from a mistake, `EXCUSED` names what is then not
reported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from job_harness.core.model.lifecycle import COMPLETED, TERMINAL, Status


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
    WAITS_FOR_THE_END = "waits for the end"
    """A job that waits for others may begin once they have ended, however they did."""
    CALLED_IN_PROCESS = "called in process"
    """Verbs are calls of a library: no network repeats or delays one, and a worker that gets no reply gives up."""
    RECORDS_NO_END = "records no end"
    """The table does not tell that a job has ended: it has, once the worker that took it has reported."""
    COUNTS_AT_THE_END = "counts at the end"
    """Attempts are counted when one fails or is taken back, not when a claim begins it."""
    WAITS_OUT_ITS_CLAIM = "waits out its claim"
    """A failed attempt that is not the last one leaves the row as it is: the next begins once the claim has ended."""
    UNIQUE_WHILE_IT_WAITS = "unique while it waits"
    """A unique key keeps other jobs out until its job is claimed, not until that has ended."""
    CHECKS_AFTER_THE_CLAIM = "checks after the claim"
    """A claim may take a job with no attempt left; its worker then fails it, and does not run it."""


EXCUSED: Final[Mapping[Design, tuple[str, ...]]] = MappingProxyType(
    {
        Design.MOVES_BY_SWEEP: ("due_job_left", "priority_inversion"),
        Design.RETRIES_FOREVER: ("attempt_overrun", "livelock"),
        Design.KEEPS_ALL_ERRORS: ("completed_with_error",),
    }
)
"""By design, anomalies that a run cannot tell from it."""


def done_statuses(designs: Collection[Design]) -> frozenset[Status]:
    """Return the statuses of a job for which others wait no longer."""
    return TERMINAL if Design.WAITS_FOR_THE_END in designs else frozenset({COMPLETED})
