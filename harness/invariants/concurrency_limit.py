"""15: no more jobs are PROCESSING at once than the limits allow, of one tool and of all."""

from __future__ import annotations

from harness.history.event import Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId
from harness.model.lifecycle import Status


class ConcurrencyLimit(Monitor):
    """Counts what is PROCESSING, by tool."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._active: dict[JobId, str] = {}
        self._limited = bool(rules.settings.concurrency or rules.settings.tool_concurrency)

    def on_deleted(self, event: Observed) -> None:
        self.on_changed(event)

    def on_changed(self, event: Observed) -> None:
        if not self._limited:
            return
        after = event.after
        if after is None or after.status is not Status.PROCESSING:
            self._active.pop(event.job, None)
        elif event.job not in self._active:
            self._active[event.job] = after.tool
            of_tool = sum(tool == after.tool for tool in self._active.values())
            for count, limit, what in (
                (len(self._active), self.settings.concurrency, "jobs"),
                (of_tool, self.settings.tool_concurrency, f"jobs of {after.tool!r}"),
            ):
                if limit and count > limit:
                    self.breach(
                        "concurrency_exceeded",
                        f"with it {count} {what} are PROCESSING, {limit} may be: {', '.join(self._active)}",
                        job=event.job,
                    )


INVARIANT = Invariant(
    id="concurrency_limit",
    number=15,
    sentence="No more jobs are PROCESSING at once than the limits allow, of one tool and of all.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("concurrency_exceeded", Guarantee.CONCURRENCY, "More jobs are PROCESSING than a limit allows."),
    ),
    make=ConcurrencyLimit,
    capabilities=("concurrency_limits",),
)
