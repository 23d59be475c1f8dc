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
        about="counts a retry where an exception is caught: a message whose worker is killed is delivered for ever",
        affected="dramatiq-redis@2.2.1",
        anomalies=("attempt_overrun",),
    ),
    Entry(
        bug="dramatiq-async-timeouterror-hang",
        known_as="dramatiq#791",
        url=f"{ISSUES}/791",
        about=(
            "takes a TimeoutError that an async actor raises for its own wait's, and waits on for ever; such a hang "
            "is given two seconds of real time here"
        ),
        affected="dramatiq-redis@2.0.0",
        anomalies=("outcome_lost",),
        fixed="dramatiq-redis@2.0.1",
    ),
)
