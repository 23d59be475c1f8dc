"""Bugs of graphile-worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from public_bugs import shapes
from public_bugs.entry import Entry

ENTRIES: Final = (
    Entry(
        bug="graphile-localqueue-named-queue",
        known_as="graphile/worker#621",
        url="https://github.com/graphile/worker/issues/621",
        about="takes, in one claim of several jobs, more than one job of a queue that should run one at a time",
        affected="graphile-worker@0.17.2",
        anomalies=("serial_key_shared",),
        fixed="graphile-worker@0.18.0",
    ),
    Entry(
        bug="graphile-batch-complete-never-retried",
        known_as="graphile/worker#636",
        url="https://github.com/graphile/worker/issues/636",
        about="gives up a batch of results if the database aborts their statement: the jobs stay locked",
        affected="graphile-worker@0.18.0/batched --sessions",
        anomalies=("outcome_lost",),
        options=("--leave-out", "raises NUL", "--leave-out", "raises surrogate"),
        seconds=300,
        shape=shapes.ABORT,
    ),
)

UNTRIED: Final[Mapping[str, str]] = {
    "graphile-named-queue-locked-at-max": "its releases (0.13) are older than any that the engine runs",
}
