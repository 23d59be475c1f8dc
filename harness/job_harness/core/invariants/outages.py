"""What the trouble of a host outside may cost: a system that says so fails no job for good because of a short one.

Judged where the trouble of one host is all that a job ever met: each of its runs was turned away,
or given up while the host held it up. What anything else cost it is not the host's doing, and
troubles of one host add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Final

from job_harness.core.history import Effect, Fault, Observed
from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from job_harness.core.model import FAILED, Duration, JobId, format_duration

COSTS_JOB: Final = AnomalyKind(
    "outage_costs_job", Guarantee.OWN, "A job failed for good in an outage of a host that it was promised to outlast."
)


class OutageCosts(Monitor):
    """Judges the jobs that fail for good; a subclass says which host's trouble has to be outlasted, and how long."""

    longest: ClassVar[Mapping[str, Duration]]

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._lasted = Counter[str]()
        self._runs = Counter[JobId]()
        self._lost = Counter[tuple[JobId, str]]()

    def on_fault(self, event: Fault) -> None:
        if isinstance(event.data, dict) and "host" in event.data:
            self._lasted[event.data["host"]] += event.data["for"]

    def on_effect(self, event: Effect) -> None:
        if event.name == "started":
            self._runs[event.job] += 1
        elif event.name == "ended" and event.identity is not None:
            self._lost[event.job, event.identity] += 1

    def on_observed(self, event: Observed) -> None:
        after, runs = event.after, self._runs[event.job]
        if after is None or after.status is not FAILED or event.before is None or event.before.status is FAILED:
            return
        for host, longest in self.longest.items():
            lasted = self._lasted[host]
            if 0 < lasted <= longest and self._lost[event.job, host] == runs >= max(1, after.attempts):
                told = f"all of its {runs} runs met {host} in trouble, which lasts {format_duration(lasted)}"
                self.breach(COSTS_JOB.name, f"{event.actor} made it FAILED: {told}", job=event.job)


def outages_cost_no_job(rides_out: Mapping[str, Duration]) -> Invariant:
    """Return the invariant; for each host how long its trouble may last."""

    class PromisedOutages(OutageCosts):
        longest = rides_out

    return Invariant(
        id="outages_cost_no_job",
        sentence="An outage of a host that is no longer than `rides_out` fails no job for good.",
        kind=Kind.ALWAYS,
        anomalies=(COSTS_JOB,),
        make=PromisedOutages,
    )
