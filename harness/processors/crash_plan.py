"""Deaths of the worker that a test has asked for and that are still to come."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UsageError, did_you_mean
from harness.model.job import JobId

VERBS = ("heartbeat", "complete", "fail", "release")
WHILE_RUNNING = "while running"
_MEANT = {
    "before starting": "after claim",
    "before completing": "before complete",
    "after completing": "after complete",
}
PLACES = (
    "before starting",
    WHILE_RUNNING,
    *(f"{side} {verb}" for verb in VERBS for side in ("before", "after")),
)
"""Where a worker can die, beside the points that a processor names."""


@dataclass(frozen=True, slots=True)
class Death:
    """One death to come."""

    place: str
    job: JobId | None
    asked: str
    """The place as the test wrote it."""

    def __str__(self) -> str:
        return f"{self.asked!r}" if self.job is None else f"{self.asked!r} of {self.job}"


class CrashPlan:
    """What is still to come, in the order in which it was asked for."""

    def __init__(self) -> None:
        self.deaths: list[Death] = []

    def add(self, at: str, job: JobId | None) -> None:
        """Ask for a death. Raises UsageError for a place that looks like one of ours and is none."""
        place = _MEANT.get(at, at)
        known = (*PLACES, *_MEANT)
        if at.startswith(("before ", "after ", "while ")) and at not in known and place not in PLACES:
            raise UsageError(
                f"there is no place {at!r} for a crash{did_you_mean(at, known)}",
                hint=f"There are {', '.join(PLACES)}, and the name of a step or an effect.",
            )
        self.deaths.append(Death(place, job, at))

    def take(self, place: str, job: JobId) -> bool:
        """Whether the worker dies here; asked once for each death."""
        for death in self.deaths:
            if death.place == place and death.job in (None, job):
                self.deaths.remove(death)
                return True
        return False

    def waits(self, place: str, job: JobId) -> bool:
        """Whether a death at this place of this job is still to come."""
        return any(death.place == place and death.job in (None, job) for death in self.deaths)
