"""Bugs of procrastinate."""

from __future__ import annotations

from typing import Final

from public_bugs import shapes
from public_bugs.entry import Entry

ISSUES: Final = "https://github.com/procrastinate-org/procrastinate/issues"
COLLIDES: Final = (
    "puts a failed job back to wait while another waits with its queueing lock: the two collide, and "
    "the job stays doing"
)

QUEUEING_LOCK: Final = tuple(
    Entry(
        bug="procrastinate-retry-queueing-lock",
        known_as="procrastinate#1446",
        url=f"{ISSUES}/1446",
        about=COLLIDES,
        affected=release,
        anomalies=("outcome_lost",),
        shape=shapes.SHARED_KEY,
    )
    for release in ("procrastinate@3.8.1", "procrastinate@3.10.0")
)
BACKOFF: Final = Entry(
    bug="procrastinate-backoff-overflow",
    known_as="procrastinate#1462",
    url=f"{ISSUES}/1462",
    about="raises in the retry strategy if an exponential wait ends after the year 9999, and the job fails",
    affected="procrastinate@3.5.1",
    anomalies=("failed_early",),
    fixed="procrastinate@3.8.1",
    shape=shapes.MANY_ATTEMPTS,
)
DOING: Final = Entry(
    bug="procrastinate-doing-forever",
    known_as="procrastinate#307",
    url=f"{ISSUES}/307",
    about=(
        "leaves the job of a killed worker in doing forever, unless the user adds the task that the "
        "manual gives for stalled jobs"
    ),
    affected="procrastinate@3.10.0/unattended",
    anomalies=("job_stuck",),
    shape=shapes.CRASH,
)
ABORT: Final = Entry(
    bug="procrastinate-abort-then-retry",
    known_as="procrastinate#1131",
    url=f"{ISSUES}/1131",
    about=(
        "tries to retry a job that fails after it was asked to abort: the call raises, and the job stays "
        "aborting for good"
    ),
    affected="procrastinate@2.9.1",
    anomalies=("outcome_lost",),
    fixed="procrastinate@2.9.2",
    shape=shapes.CANCELLED,
)
ENTRIES: Final = (*QUEUEING_LOCK, BACKOFF, DOING, ABORT)
