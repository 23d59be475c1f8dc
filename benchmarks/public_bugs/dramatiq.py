"""Bugs of Dramatiq."""

from __future__ import annotations

from typing import Final

from public_bugs.entry import Entry

ISSUES: Final = "https://github.com/Bogdanp/dramatiq/issues"

ENTRIES: Final = (
    Entry(
        bug="dramatiq-sigkill-ignores-max-retries",
        known_as="dramatiq#213",
        url=f"{ISSUES}/213",
        about="counts a retry only if it catches an exception: a message that kills its worker is delivered forever",
        affected="dramatiq-redis@2.2.1",
        anomalies=("attempt_overrun",),
    ),
    Entry(
        bug="dramatiq-async-timeouterror-hang",
        known_as="dramatiq#791",
        url=f"{ISSUES}/791",
        about=(
            "mistakes a TimeoutError raised by an async actor for the timeout of its own wait, and waits "
            "forever; here such a hang ends after two seconds of real time"
        ),
        affected="dramatiq-redis@2.0.0",
        anomalies=("outcome_lost",),
        fixed="dramatiq-redis@2.0.1",
    ),
)
