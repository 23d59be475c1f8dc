"""1: only the arrows of the lifecycle table; a terminal job is final except by a declared retry."""

from __future__ import annotations

from harness.history.event import Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor
from harness.model.lifecycle import ARROWS_OF_VERB, TERMINAL, Status

REPAIRS = frozenset({"reconcile"})
"""May move a job whose rows disagree; `tables_agree` judges the result."""

OPERATORS = ("step retry", "step resume")
"""What an operator's step is called who revives a job."""


class LegalTransition(Monitor):
    """Looks at every change of a job."""

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or before.status is None or after.status is None:
            return
        if before.status is after.status:
            if before.status in TERMINAL and (before.output, before.error) != (after.output, after.error):
                self.breach("terminal_job_rewritten", f"{event.verb} changed a {before.status} job", job=event.job)
        elif (before.status, after.status) in ARROWS_OF_VERB.get(event.verb, ()) or event.verb in REPAIRS:
            return
        elif before.status in TERMINAL:
            self._left_terminal(event, before.status, after.status)
        else:
            self.breach("illegal_transition", f"{event.verb} moved {before.status} to {after.status}", job=event.job)

    def _left_terminal(self, event: Observed, before: Status, after: Status) -> None:
        self.breach("terminal_job_revived", f"{event.verb} moved {before} to {after}", job=event.job)


class TerminalIsFinal(LegalTransition):
    """Looks at the statuses alone: how an application gets from one to the other is its own affair."""

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or before.status not in TERMINAL or event.verb.startswith(OPERATORS):
            return
        if before.status is not after.status and after.status is not None:
            self._left_terminal(event, before.status, after.status)
        elif after.status is not None and (before.output, before.error) != (after.output, after.error):
            self.breach("terminal_job_rewritten", f"{event.verb} changed a {before.status} job", job=event.job)


INVARIANT = Invariant(
    id="legal_transition",
    number=1,
    sentence="A job takes only the arrows of its lifecycle; a terminal status is final except by a declared retry.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("illegal_transition", Guarantee.TRUTHFUL_RESULT, "A job took an arrow that does not exist."),
        AnomalyKind("terminal_job_revived", Guarantee.TRUTHFUL_RESULT, "A terminal job became alive again."),
        AnomalyKind("terminal_job_rewritten", Guarantee.TRUTHFUL_RESULT, "The result of a terminal job changed."),
    ),
    make=LegalTransition,
    stepwise=TerminalIsFinal,
)
