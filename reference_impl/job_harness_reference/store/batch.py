"""The verbs that settle or create many jobs in one statement: the meaning of one by one, only faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from job_harness_reference.errors import InvalidJsonError
from job_harness_reference.models import Claim, Enqueued, JsonValue, NewJob
from job_harness_reference.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Settlement:
    """The output with which a claim is to be completed."""

    claim: Claim
    output: JsonValue


class BatchStore(Store, Protocol):
    """A store that takes many at once."""

    async def complete_many(self, settlements: Sequence[Settlement]) -> list[bool | InvalidJsonError]:
        """Complete many claims; return, in their order, what `complete` would.

        The error of an output that JSONB cannot hold is returned, not raised: it must not keep its
        neighbours from settling. A claim named twice is settled once, with the first output.
        """

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Create many jobs; return, in their order, what `enqueue` would.

        A value that cannot be stored or a tool without partition is raised before anything is
        written.
        """
