"""6: no job is taken back, or run by a second worker, while its worker is within its allowed time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Effect, Excuse, Fault, Observed, Return
from harness.history.outcome import OutcomeKind
from harness.invariants.concurrent_runs import ConcurrentRuns
from harness.invariants.holding import Holding, Holdings, beating
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.duration import format_duration
from harness.model.job import JobId

TAKING_BACK = frozenset({"expire", "rescue", "reconcile"})


class LeaseOutlivesExecution(Monitor):
    """Watches who holds, who runs, and who was kept from working by a fault."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_return": frozenset({"complete", "fail"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._holdings = Holdings(rules.settings)
        self._running: dict[JobId, dict[tuple[str, int], Holding | None]] = {}

    def on_fault(self, event: Fault) -> None:
        excuse = self.rules.excuses.get(event.name)
        self._holdings.fault(event, excuse)
        for runs in self._running.values():
            for key in [key for key in runs if excuse is Excuse.DEATH and key[0] == event.actor]:
                del runs[key]
            for holding in runs.values():
                if holding is not None and event.actor in ("*", holding.worker) and excuse is Excuse.LATE:
                    self._holdings.delay(holding, event.data["for"])

    def on_return(self, event: Return) -> None:
        if event.job is not None and event.outcome.kind is OutcomeKind.UNKNOWN:
            self._holdings.unanswered(event.job, event.token)

    def on_observed(self, event: Observed) -> None:
        ended = self._holdings.observe(event)
        if ended is None:
            return
        if event.verb in TAKING_BACK:
            self._taken_back(event, ended)
        ended.close()

    def _taken_back(self, event: Observed, ended: Holding) -> None:
        elapsed = event.clock - (ended.claimed if event.verb == "rescue" else ended.renewed)
        silent = event.verb != "rescue" and beating(self.settings)
        allowed = self.settings.lease if silent else self.settings.job_timeout
        if elapsed < allowed:
            self.breach(
                "taken_back_early",
                f"{event.verb} took it from {ended.worker} after {format_duration(elapsed)}; "
                f"it may {'be silent' if silent else 'run'} for {format_duration(allowed)}",
                job=event.job,
            )
        elif not self._holdings.excused(ended):
            self.breach(
                "healthy_claim_taken_back",
                f"{event.verb} took it from {ended.worker}, to whom nothing had happened",
                job=event.job,
            )

    def on_effect(self, event: Effect) -> None:
        runs = self._running.setdefault(event.job, {})
        key = (event.actor, event.token)
        if event.name == "started":
            mine = self._holdings.start(event.job, event.token)
            for (worker, token), theirs in runs.items():
                if token != event.token and not self._explained(theirs) and not self._explained(mine):
                    self.breach(
                        "concurrent_execution", f"{event.actor} starts it while {worker} still runs it", job=event.job
                    )
            runs[key] = mine
        elif event.name == "ended":
            runs.pop(key, None)

    def _explained(self, holding: Holding | None) -> bool:
        return holding is not None and self._holdings.excused(holding)


INVARIANT = Invariant(
    id="lease_outlives_execution",
    number=6,
    sentence="No job is taken back while its worker is within its allowed time.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("concurrent_execution", Guarantee.ONE_AT_A_TIME, "Two workers run one job at once."),
        AnomalyKind("taken_back_early", Guarantee.ONE_AT_A_TIME, "A job was taken back before its timeout was over."),
        AnomalyKind(
            "healthy_claim_taken_back", Guarantee.ONE_AT_A_TIME, "A job was taken from a worker that did nothing wrong."
        ),
    ),
    make=LeaseOutlivesExecution,
    stepwise=ConcurrentRuns,
)
