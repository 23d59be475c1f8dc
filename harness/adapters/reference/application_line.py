"""A memory store that finds the next jobs to claim without looking at all others: what waits stands in line."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime

from harness.model.job import JobId
from reference_impl.models import Claim, ToolJobStatus
from reference_impl.store.memory import MemoryStore
from reference_impl.store.memory_rows import QueueRow, ToolRow


class LineStore(MemoryStore):
    """Claims as the store does, and can be told to hand out nothing but certain jobs."""

    only: Collection[JobId] | None = None
    """The only jobs that may be claimed; None is any."""
    live: Mapping[JobId, object]
    """The jobs that are not terminal: no others are looked at for what waits or is at work."""

    def __init__(self, *, now: Callable[[], datetime], jitter: Callable[[], float]) -> None:
        super().__init__(now=now, jitter=jitter)
        self.live = {}
        self._later: list[tuple[datetime, JobId]] = []
        self._line: list[_Entry] = []
        self._first: list[_Entry] | None = None

    def stand_in_line(self, job: JobId) -> None:
        """Take note of a job that waits from now on."""
        pair = self._pair(job)
        if pair is not None:
            heapq.heappush(self._later, (pair[1].start_after, job))

    async def claim(self, *, worker: str, tools: Sequence[str], limit: int = 1) -> list[Claim]:
        """Claim among the first in line."""
        if self.only is not None:
            return await super().claim(worker=worker, tools=tools, limit=limit)
        self._first = first = self._take(limit)
        try:
            return await super().claim(worker=worker, tools=tools, limit=limit)
        finally:
            self._first = None
            for entry in first:
                if self._stands(entry) is not None:
                    heapq.heappush(self._line, entry)

    def _take(self, limit: int) -> list[_Entry]:
        later, line, now = self._later, self._line, self._now()
        while later and later[0][0] <= now:
            start_after, job = heapq.heappop(later)
            pair = self._pair(job)
            if pair is not None and pair[1].waiting and pair[1].start_after == start_after:
                heapq.heappush(line, (-pair[1].priority, pair[1].created_on, pair[1].id, job, start_after))
        first: list[_Entry] = []
        while line and len(first) < limit:
            entry = heapq.heappop(line)
            if self._stands(entry) is not None and (not first or first[-1] != entry):
                first.append(entry)
        return first

    def _stands(self, entry: _Entry) -> tuple[ToolRow, QueueRow] | None:
        pair = self._pair(entry[3])
        if pair is None or pair[0].status is not ToolJobStatus.PENDING or not pair[1].waiting:
            return None
        return pair if pair[1].start_after == entry[4] else None

    def _pairs(self, *statuses: ToolJobStatus) -> Iterator[tuple[ToolRow, QueueRow]]:
        if len(statuses) != 1 or statuses[0].terminal:
            yield from super()._pairs(*statuses)
            return
        looked_at: Collection[JobId] = self.live
        if statuses[0] is ToolJobStatus.PENDING and self._first is not None:
            looked_at = [entry[3] for entry in self._first]
        elif statuses[0] is ToolJobStatus.PENDING and self.only is not None:
            looked_at = self.only
        for job in looked_at:
            pair = self._pair(job)
            if pair is not None and pair[0].status is statuses[0]:
                yield pair


_Entry = tuple[int, datetime, str, JobId, datetime]
"""How a job stands in line: the highest priority, then the oldest, then by its row; and since when it is due."""
