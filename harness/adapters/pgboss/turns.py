"""From which queue to fetch next: pg-boss orders the jobs of a queue, and a worker here takes from all queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from harness.foreign.database import instant_of
from harness.model.duration import Duration, Instant

WAITING: Final = frozenset({"created", "retry"})


def turns(
    rows: Iterable[Mapping[str, Any]], queues: Sequence[str], *, now: Instant, strictly: Duration, limit: int
) -> list[tuple[str, int]]:
    """Return queues in turn, each with the most to fetch, so that together they give what one queue would.

    `strictly`: how long after its time a job can be fetched. Where a fetch gives less than was expected, what is
    missing may come from any queue: each has a last turn for that.
    """
    if len(queues) < 2:
        return [(queue, limit) for queue in queues]
    due = [row for row in rows if row["state"] in WAITING and (instant_of(row["start_after"]) or 0) + strictly <= now]
    due.sort(key=lambda row: (-row["priority"], row["created_on"], row["id"]))
    order = [(name, len(list(run))) for name, run in groupby(row["name"] for row in due[:limit])]
    return [*order, *((queue, limit) for queue in queues)]
