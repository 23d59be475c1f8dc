"""4: at most one live, unexpired claim on a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status


class SingleOwner(Monitor):
    """Compares what claims answer with what stands in the rows.

    A claim may extend what its worker already holds, where the queue takes it for a sign of life.
    """

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_return": frozenset({"claim"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._owned: dict[JobId, JobView] = {}
        self._tokens: dict[JobId, int] = {}

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if after is None or after.status is not Status.PROCESSING:
            self._owned.pop(event.job, None)
            return
        if (
            event.verb == "claim"
            and before is not None
            and before.status is Status.PROCESSING
            and before.lease_until is not None
            and before.lease_until > event.clock
            and (before.token, before.worker) != (after.token, after.worker)
        ):
            self.breach("double_claim", f"{after.worker} claimed what {before.worker} holds", job=event.job)
        self._owned[event.job] = after

    def on_return(self, event: Return) -> None:
        if event.verb != "claim" or not event.outcome.done:
            return
        for claim in event.outcome.value or ():
            if self._tokens.get(claim.job, 0) >= claim.token:
                self.breach("token_reused", f"{claim.worker} was given token {claim.token} again", job=claim.job)
            self._tokens[claim.job] = claim.token
            row = self._owned.get(claim.job)
            if row is not None and row.token != claim.token:
                self.breach("double_claim", f"{claim.worker} was given what {row.worker} holds", job=claim.job)


INVARIANT = Invariant(
    id="single_owner",
    number=4,
    sentence="There is at most one live, unexpired claim on a job.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("double_claim", Guarantee.ONE_AT_A_TIME, "A job was claimed while another claim on it stood."),
        AnomalyKind("token_reused", Guarantee.FENCING, "Two claims of a job carry the same fencing token."),
    ),
    make=SingleOwner,
    capabilities=("fencing",),
)
