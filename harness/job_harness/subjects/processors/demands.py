"""What a test asks to go wrong, as deviations on the tape of its run: deaths of the worker, repeated deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from job_harness.core.faults.messages import HAND_OUT_TWICE
from job_harness.core.faults.processes import AFTER, BEFORE, CRASH
from job_harness.core.model import JobId
from job_harness.core.run.live import JobPoint
from job_harness.core.sim import Actor, Boring, Choices, Deviation, Kernel, Option, Options, VerbCall
from job_harness.engines.reference.application import BEFORE_STARTING
from job_harness.errors import UsageError, did_you_mean

VERBS: Final = ("heartbeat", "complete", "fail", "release")
WHILE_RUNNING: Final = "while running"
_MEANT: Final = {"before completing": "before complete", "after completing": "after complete"}
PLACES: Final = (
    BEFORE_STARTING,
    WHILE_RUNNING,
    *(f"{side} {verb}" for verb in VERBS for side in ("before", "after")),
)
"""Where a worker can die, beside the points that a processor names."""
_DIES: Final = BEFORE.option(CRASH.id)
_DIES_AFTER: Final = AFTER.option(CRASH.id)


@dataclass(frozen=True, slots=True)
class Death:
    """One death to come."""

    place: str
    job: JobId | None
    asked: str
    """The place as the test wrote it."""

    def __str__(self) -> str:
        return f"{self.asked!r}" if self.job is None else f"{self.asked!r} of {self.job}"


class Demands:
    """Chooses as other choices do, except at a gate for which the test asked for something."""

    def __init__(self, beside: Choices | None = None) -> None:
        """Stand before the choices of a search or a replay; without them, everything else is as usual."""
        self._beside: Choices = Boring() if beside is None else beside
        self.deaths: list[Death] = []
        """Still to come, in the order in which they were asked for."""
        self.twice: set[JobId] = set()
        """Jobs whose next delivery is still to come twice."""
        self.kernel: Kernel | None = None
        """At whose gates the test waits."""
        self._seen: dict[str, int] = {}

    def answer_by(self, choices: Choices) -> None:
        """Let other choices answer beside what the test asks for."""
        self._beside = choices

    @property
    def tape(self) -> list[Deviation]:
        """What was not as usual."""
        return self._beside.tape

    def die(self, at: str, job: JobId | None) -> None:
        """Ask for a death. Raises UsageError for a place that looks like one of ours and is none."""
        place = _MEANT.get(at, at)
        known = (*PLACES, *_MEANT)
        if at.startswith(("before ", "after ", "while ")) and place not in PLACES:
            raise UsageError(
                f"a worker cannot crash at {at!r}{did_you_mean(at, known)}",
                hint=f"Known places: {', '.join(PLACES)}, or the name of an effect or step.",
            )
        self.deaths.append(Death(place, job, at))

    def waits(self, place: str, job: JobId) -> bool:
        """Whether a death at this place of this job is still to come."""
        return bool(self.deaths) and any(death.place == place and death.job in (None, job) for death in self.deaths)

    def gate(self, label: str, options: Options) -> Option | None:
        """Return what the test asked for at this gate, or what is chosen beside it."""
        nth = self._seen[label] = self._seen.get(label, 0) + 1
        answer = self._beside.gate(label, options)
        if not (self.deaths or self.twice) or self.kernel is None or not self.kernel.ready:
            return answer
        wanted = self._wanted(self.kernel.ready[0])
        if wanted is None or wanted == answer:
            return answer
        if answer is not None:
            self.tape.pop()
        self.tape.append(Deviation(label, nth, wanted.words))
        return wanted

    def fail(self, label: str, options: Sequence[Option]) -> Option | None:
        """Return what goes wrong with a call of something outside: the test itself asks for nothing there."""
        return self._beside.gate(label, lambda: options)

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Leave it to the choices beside."""
        return self._beside.pick(label, options)

    def _wanted(self, actor: Actor) -> Option | None:
        request = actor.request
        if isinstance(request, JobPoint):
            if self._take(request.name, request.job):
                return _DIES
            if request.name == BEFORE_STARTING and request.job in self.twice:
                self.twice.discard(request.job)
                return HAND_OUT_TWICE
        elif type(request) is VerbCall and request.job is not None:
            if self._take(f"before {request.verb}", request.job):
                return _DIES
            if self._take(f"after {request.verb}", request.job):
                return _DIES_AFTER
        return None

    def _take(self, place: str, job: JobId) -> bool:
        for death in self.deaths:
            if death.place == place and death.job in (None, job):
                self.deaths.remove(death)
                return True
        return False
