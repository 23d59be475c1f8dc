"""Who holds which job, since when, and whether something happened to him that excuses the loss of a lease."""

from __future__ import annotations

from typing import ClassVar, assert_never

from harness.history.event import Excuse, Fault, Observed
from harness.model.duration import Duration, Instant
from harness.model.job import JobId
from harness.model.lifecycle import Status
from harness.model.settings import Settings


def beating(settings: Settings) -> bool:
    """Say whether it is heartbeats that keep a claim: its lease alone is shorter than the processor may run."""
    return 0 < settings.heartbeat_interval < settings.lease < settings.job_timeout


class Holding:
    """One claim as it stands."""

    __slots__ = ("claimed", "late", "renewed", "started", "token", "worker")

    def __init__(self, worker: str, token: int, claimed: Instant) -> None:
        self.worker = worker
        self.token = token
        self.claimed = claimed
        """When it was opened, on the store's clock."""
        self.renewed = claimed
        """When the lease was last opened or extended, on the store's clock."""
        self.started = False
        """Whether its holder has started, or died and never will: he is not looked up again."""
        self.late: Duration = 0
        """How long faults have kept the holder from acting since the claim."""

    def close(self) -> None:
        """Forget the times of a claim that stands no more: nobody asks for them again."""
        self.claimed = self.renewed = 0


class Holdings:
    """All claims that stand, by job."""

    __slots__ = ("_excuse", "_infinite", "_skew", "_unheard", "ended", "of")

    momentary: ClassVar[frozenset[str]] = frozenset({"_unheard"})

    def __init__(self, settings: Settings) -> None:
        self.of: dict[JobId, Holding] = {}
        self.ended: dict[tuple[JobId, int], Holding] = {}
        """Claims that stand no more and were not started yet, by job and token."""
        self._skew: Duration = 2 * settings.max_skew
        margin = settings.lease - (settings.heartbeat_interval if beating(settings) else settings.job_timeout)
        self._excuse: Duration = max(1, margin - 2 * settings.max_skew)
        self._infinite: Duration = settings.lease + settings.stuck_timeout
        self._unheard: dict[str, Instant] = {}
        """Who was kept from hearing what a claim gave him, and when."""

    def excused(self, holding: Holding) -> bool:
        """Say whether faults alone explain that this holder is not done before his lease."""
        return holding.late >= self._excuse

    def observe(self, event: Observed) -> Holding | None:
        """Take over a change; answer the holding that it ended, for the caller to judge and then to close."""
        for actor in [actor for actor, at in self._unheard.items() if at != event.at]:
            del self._unheard[actor]
        after = event.after
        if after is not None and after.status is Status.PROCESSING:
            held = self.of.get(event.job)
            if held is None or held.token != after.token:
                holding = self.of[event.job] = Holding(after.worker or "?", after.token, event.clock)
                in_transaction = event.at - event.clock
                if in_transaction > self._skew:
                    holding.late = in_transaction
                if self._unheard.get(event.actor) == event.at:
                    holding.late = self._infinite
                return self._end(event.job, held)
            if event.verb == "heartbeat":
                held.renewed = event.clock
            return None
        ended = self._end(event.job, self.of.pop(event.job, None))
        if ended is not None and event.verb == "cancel":
            ended.late = self._infinite
        return ended

    def _end(self, job: JobId, holding: Holding | None) -> Holding | None:
        if holding is not None and not holding.started:
            self.ended[job, holding.token] = holding
        return holding

    def start(self, job: JobId, token: int) -> Holding | None:
        """Answer a claim, whether it still stands or not, as its holder starts."""
        holding = self.of.get(job)
        if holding is None or holding.token != token:
            return self.ended.pop((job, token), None)
        holding.started = True
        return holding

    def fault(self, event: Fault, excuse: Excuse | None) -> None:
        """Take over a fault: whom it hits, and for how long."""
        match excuse:
            case Excuse.LATE:
                late = event.data["for"]
            case Excuse.CLOCK:
                late = abs(event.data["offset"]) if event.data["whose"] != "store" else 0
            case Excuse.DEATH if event.data.get("session_stays"):
                for holding in self.of.values():  # anybody may have to wait for a lock that stays
                    holding.late = self._infinite
                return
            case Excuse.DEATH | Excuse.UNHEARD:
                late = self._infinite
                if event.data["at"] == "claim":
                    self._unheard[event.actor] = event.at
                if excuse is Excuse.DEATH:
                    self._died(event.actor)
            case None:
                return
            case _:
                assert_never(excuse)
        for holding in self.of.values():
            if event.actor in ("*", holding.worker):
                self.delay(holding, late)

    def unanswered(self, job: JobId, token: int | None) -> None:
        """Take over that a holder reported the end of his run and got no answer: that he holds it is not his doing."""
        holding = self.of.get(job)
        if holding is not None and holding.token == token:
            holding.late = self._infinite

    def _died(self, worker: str) -> None:
        """Forget what was claimed and never will be started."""
        self.ended = {key: holding for key, holding in self.ended.items() if holding.worker != worker}
        for holding in self.of.values():
            if holding.worker == worker:
                holding.started = True

    def delay(self, holding: Holding, duration: Duration) -> None:
        """Take over how long a holder was kept from acting; what excuses him already is not counted on."""
        holding.late += duration
        if holding.late >= self._excuse:
            holding.late = self._infinite
