"""Mistakes when a worker stops in good order."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import DONE, Outcome
from harness.mistakes.mistake import Mistake
from harness.port import Claim


class ReleaseForgotten(MemoryQueue):
    """Giving back is confirmed, and does nothing."""

    def release(self, claim: Claim) -> Outcome:
        return DONE


MISTAKES: Final = (
    Mistake(
        name="release-forgotten",
        sentence="Giving a job back is confirmed and does nothing: it waits for its lease to run out.",
        source="pgqueuer PR#693",
        finds=("claim_left_behind",),
        queue=ReleaseForgotten,
    ),
)
