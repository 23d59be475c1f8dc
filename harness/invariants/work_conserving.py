"""15: a claim leaves nothing that is due and allowed: permits and serial keys are given back on every path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Fault, Observed, Phase, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.invariants.standing import Standing
from harness.invariants.store_clock import StoreClock


class WorkConserving(Monitor):
    """Looks at what a claim left that nobody else was at the same time at work on."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"claim"}),
        "on_return": frozenset({"claim"}),
        "on_fault": frozenset({"clock", "drift", "crash", "session ends"}),
        "on_phase": frozenset({"heal"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._standing = Standing(rules.settings)
        self._clock = StoreClock()
        self._abandoned = 0
        """How many sessions of dead actors still hold their locks."""
        self._claim: Call | None = None
        """The claim under way."""

    def on_fault(self, event: Fault) -> None:
        if event.name in ("clock", "drift"):
            self._clock.fault(event)
        elif event.name == "session ends":
            self._abandoned -= 1
            self._claim = None
        elif "session_stays" in event.data:
            self._abandoned += 1

    def on_phase(self, event: Phase) -> None:
        self._clock.phase(event)

    def on_call(self, event: Call) -> None:
        self._claim = event

    def on_observed(self, event: Observed) -> None:
        self._standing.observe(event.job, event.after)

    def on_return(self, event: Return) -> None:
        call = self._claim
        if call is None or call.number != event.number:
            return
        self._claim = None
        if not event.answered or not event.outcome.done:
            return
        if (
            event.alone
            and not self._abandoned
            and self._standing.waiting
            and len(event.outcome.value or ()) < call.arguments[1]
        ):
            self._judge(call)

    def _judge(self, call: Call) -> None:
        now = self._clock.read(call.at)
        for left in self._standing.waiting.values():
            if left.start_after <= now and left.agrees and not self._standing.blocked(left):
                self.breach("due_job_left", f"{call.actor} asked for work and was not given it; it is due", job=left.id)
                return


INVARIANT = Invariant(
    id="work_conserving",
    number=15,
    sentence="A claim leaves nothing that is due and allowed: permits and serial keys are given back on every path.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("due_job_left", Guarantee.PROGRESS, "A worker asked for work and a due job was kept from it."),
    ),
    make=WorkConserving,
)
