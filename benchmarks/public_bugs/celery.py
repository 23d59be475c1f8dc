"""Bugs of Celery and kombu."""

from __future__ import annotations

from typing import Final

from public_bugs.entry import Entry

ENTRIES: Final = (
    Entry(
        bug="celery-visibility-redelivery",
        known_as="celery/kombu#337",
        url="https://github.com/celery/kombu/issues/337",
        about=(
            "counts the visibility timeout from the fetch of a message: a task with an ETA or a retry delay "
            "is delivered again while it runs"
        ),
        affected="celery-redis@5.7.0",
        anomalies=("taken_back_early",),
        options=("--steps", "1500"),
        seconds=90,
    ),
)
