"""Bugs of Chancy."""

from __future__ import annotations

from typing import Final

from public_bugs import shapes
from public_bugs.entry import Entry

ENTRIES: Final = (
    Entry(
        bug="chancy-repush-resets-running",
        known_as="chancy#51",
        url="https://github.com/TkTech/chancy/issues/51",
        about="puts a running job back to wait if it is pushed again under its key: the job runs twice at once",
        affected="chancy@0.24.1",
        anomalies=("illegal_transition",),
        fixed="chancy@0.25.0",
        options=("--steps", "200"),
        seconds=100,
        shape=shapes.SHARED_KEY,
    ),
)
