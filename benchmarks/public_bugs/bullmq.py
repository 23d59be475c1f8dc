"""Bugs of BullMQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from public_bugs.entry import Entry

ENTRIES: Final = tuple(
    Entry(
        bug="bullmq-dedup-key-leak",
        known_as="bullmq#3555",
        url="https://github.com/taskforcesh/bullmq/issues/3555",
        about="keeps the count of stalls when a user retries a job: the retried job fails at its first stall",
        affected=release,
        anomalies=("failed_early",),
        seconds=150,
        missed="it takes two stalls, a retry by an operator and one more stall, and few runs have all of these",
    )
    for release in ("bullmq@6.7.0", "bullmq-redis@5.59.0")
)

UNTRIED: Final[Mapping[str, str]] = {
    "bullmq-scheduler-chain-broken": "it takes a crash during a claim, and job schedulers are not part of the engine",
    "bullmq-pg-listen-not-reestablished": "it is in the blocking loop of its worker, which is not part of the engine",
}
