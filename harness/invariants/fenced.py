"""5: complete, fail, release and heartbeat from a claim that was taken back change nothing. All four."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status

VERBS = frozenset({"complete", "fail", "release", "heartbeat"})


class Fenced(Monitor):
    """Knows for every open call whether its claim stood when it began."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": VERBS, "on_return": VERBS}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._rows: dict[JobId, JobView] = {}
        self._open: dict[str, tuple[Call, bool]] = {}
        self._settled_by: dict[JobId, tuple[int, str]] = {}

    def on_call(self, event: Call) -> None:
        if event.verb in VERBS and event.job is not None and event.token is not None:
            self._open[event.actor] = (event, self._stands(event.job, event.token))

    def _stands(self, job: JobId, token: int) -> bool:
        row = self._rows.get(job)
        return row is not None and row.status is Status.PROCESSING and row.token == token

    def on_observed(self, event: Observed) -> None:
        if event.verb in VERBS and event.actor in self._open:
            call, stood = self._open[event.actor]
            if call.job == event.job and call.token is not None:
                if not stood or not self._stands(event.job, call.token):
                    self._breach(call, "changed the job")
                else:
                    self._settled_by[event.job] = (call.token, event.verb)
        if event.after is None:
            self._rows.pop(event.job, None)
        else:
            self._rows[event.job] = event.after

    def on_return(self, event: Return) -> None:
        if event.verb not in VERBS:
            return
        call, stood = self._open.pop(event.actor, (None, True))
        if call is None or stood or not event.outcome.done or call.job is None or call.token is None:
            return
        if self._settled_by.get(call.job) != (call.token, call.verb):
            self._breach(call, "was told that it is done")

    def _breach(self, call: Call, what: str) -> None:
        row = self._rows.get(call.job) if call.job is not None else None
        now = "the job is gone" if row is None else f"the job is {row.status}, token {row.token}"
        self.breach(
            f"stale_{call.verb}",
            f"{call.actor} {what} with token {call.token} that was taken back; {now}",
            job=call.job,
        )


INVARIANT = Invariant(
    id="fenced",
    number=5,
    sentence="Complete, fail, release and heartbeat from a claim that was taken back change nothing.",
    kind=Kind.ALWAYS,
    anomalies=tuple(
        AnomalyKind(f"stale_{verb}", Guarantee.FENCING, f"A worker whose claim was taken back could still {verb}.")
        for verb in sorted(VERBS)
    ),
    make=Fenced,
    capabilities=("fencing",),
)
