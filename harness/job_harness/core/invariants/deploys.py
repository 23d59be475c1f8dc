"""What a deploy may cost: a system that says so gives every job that a deploy interrupts its attempt back.

A process may finish its job within its grace, or give it back. What it still has when it is killed
counts as an attempt once its lease runs out, as does what it gives back as a failure. A run that
fails by itself, or whose time or lease is over by the end of the grace, cost its attempt anyway;
and what any other fault did is no deploy's doing.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

from job_harness.core.history import OF_DEPLOY, Effect, Excuse, Fault, Observed, SideEffect
from job_harness.core.invariants.ownership import Takers
from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Reporter, Rules
from job_harness.core.model import FAILED, PENDING, SECOND, Duration, Instant, JobId, JobView, QueueState

COSTS_ATTEMPT: Final = AnomalyKind(
    "deploy_costs_attempt", Guarantee.OWN, "A deploy cost a job one of its attempts, although it was promised not to."
)


class CutByDeploy(NamedTuple):
    """A job that a process had when a deploy told it to stop."""

    by: str
    attempts: int
    ended: bool
    """Whether the process ended with it."""


class DeployCosts(Takers):
    """Judges the jobs that a deploy interrupts; a subclass says how long the longest grace is."""

    grace: ClassVar[Duration]

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._rows: dict[JobId, JobView] = {}
        self._began: dict[JobId, Instant] = {}
        self._interrupted: dict[JobId, CutByDeploy] = {}
        self._told: frozenset[str] = frozenset()
        """Who was told to stop by a deploy, and has not ended."""

    def on_effect(self, event: Effect) -> None:
        if event.name == "started":
            self._began[event.job] = event.at
        elif event.name == "ended":
            how = event.data.data if isinstance(event.data, SideEffect) else event.data
            if how not in ("success", "given up"):
                self._interrupted.pop(event.job, None)

    def on_fault(self, event: Fault) -> None:
        deploys = isinstance(event.data, dict) and OF_DEPLOY in event.data
        if deploys or (event.name == "stopped" and event.actor in self._told):
            self._interrupt(event)
        elif (excuse := self.excuse_of(event)) is not None or event.name == "raised":
            self._told -= {event.actor}
            for job in [job for job, each in self._interrupted.items() if event.actor in ("*", each.by)]:
                del self._interrupted[job]
            for job, (holder, _) in list(self._holder.items()):
                if event.actor in ("*", holder) and excuse is not Excuse.DEATH:
                    del self._holder[job]
        super().on_fault(event)

    def _interrupt(self, event: Fault) -> None:
        ends = event.name == "stopped" or event.data[OF_DEPLOY]
        self._told = self._told - {event.actor} if ends else self._told | {event.actor}
        for job, row in self._rows.items():
            if self._holder.get(job) == self._life(event.actor) and not self._is_over(row, event.at):
                self._interrupted[job] = CutByDeploy(event.actor, row.attempts, ends)

    def _is_over(self, row: JobView, at: Instant) -> bool:
        """Whether its run would end without a deploy before the grace does."""
        end = at + self.grace + SECOND + 2 * self.settings.max_skew
        begun = self._began.get(row.id, at)
        return begun + self.settings.job_timeout <= end or (row.lease_until is not None and row.lease_until <= end)

    def on_observed(self, event: Observed) -> None:
        super().on_observed(event)
        job, after = event.job, event.after
        if after is None or after.queue_state is not QueueState.ACTIVE:
            self._rows.pop(job, None)
        else:
            self._rows[job] = after
        if event.before is None or event.before.queue_state is not QueueState.ACTIVE:
            self._began.pop(job, None)
        met = self._interrupted.get(job)
        if met is None or event.before is None or event.before == after:
            return
        if after is not None and after.queue_state is QueueState.ACTIVE and after.attempts <= met.attempts:
            return  # A sign of life.
        del self._interrupted[job]
        again = after is not None and after.queue_state is QueueState.ACTIVE
        if after is not None and (again or after.status in (PENDING, FAILED)) and after.attempts >= met.attempts:
            how = "ended in a deploy and still had it" if met.ended else "was told to stop by a deploy"
            message = f"{met.by} {how}, and attempt {met.attempts} of it counts: {event.actor} made it {after.status}"
            self.breach(COSTS_ATTEMPT.name, message, job=job)


def deploys_cost_no_attempt(longest: Duration) -> Invariant:
    """Return the invariant; `longest` is the longest grace that any process has."""

    class PromisedDeploys(DeployCosts):
        grace = longest

    return Invariant(
        id="deploys_cost_no_attempt",
        sentence="A deploy costs no job an attempt.",
        kind=Kind.ALWAYS,
        anomalies=(COSTS_ATTEMPT,),
        make=PromisedDeploys,
    )
