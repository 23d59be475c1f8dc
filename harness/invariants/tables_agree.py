"""9: the two rows agree at rest, and no row of one lacks its partner."""

from __future__ import annotations

from collections.abc import Mapping

from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor
from harness.model.job import JobId, JobView


class TablesAgree(Monitor):
    """Looks once, at rest."""

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for job, view in views.items():
            if view.status is None or view.queue_state is None:
                missing = "tool_job" if view.status is None else "queue"
                self.breach("orphan_row", f"its {missing} row is missing", job=job)
            elif not view.agrees:
                self.breach("tables_disagree", f"tool_job says {view.status}, the queue {view.queue_state}", job=job)


INVARIANT = Invariant(
    id="tables_agree",
    number=9,
    sentence="The two rows of a job agree at rest, and no row of one lacks its partner.",
    kind=Kind.EVENTUALLY,
    anomalies=(
        AnomalyKind("tables_disagree", Guarantee.CONSISTENCY, "The two rows of a job tell different things."),
        AnomalyKind("orphan_row", Guarantee.CONSISTENCY, "One row of a job has no partner."),
    ),
    make=TablesAgree,
    stepwise=TablesAgree,
    capabilities=("maintenance",),
)
