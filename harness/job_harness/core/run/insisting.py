"""How a careful caller deals with a call whose outcome stays unknown."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from job_harness.core.history import UNKNOWN, Outcome
from job_harness.core.model import SECOND, Duration
from job_harness.core.sim import Sleep, VerbCall

TRIES = 3
"""How often a call is made whose outcome stays unknown."""
RETRY_PAUSE: Duration = SECOND

Steps = Generator[Any, Any, Any]


def insist(call: VerbCall, tries: int = TRIES) -> Steps:
    """Make a call again while its outcome stays unknown; a repeat that is refused was done before."""
    outcome: Outcome = yield call
    for _ in range(tries - 1):
        if outcome.kind is not UNKNOWN:
            break
        yield Sleep(RETRY_PAUSE, f"retrying {call.point}")
        outcome = yield call
    return outcome
