"""15: at most one unfinished job for each unique key, and a key that is free again once its job ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView


class UniqueRespected(Monitor):
    """Keeps the unfinished jobs that hold a key."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"enqueue"}),
        "on_return": frozenset({"enqueue"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._holders: dict[tuple[str, str], dict[JobId, None]] = {}
        self._asked: dict[int, tuple[str, str]] = {}
        """Enqueues under way whose key nobody has held since they were called."""

    def on_call(self, event: Call) -> None:
        if event.verb == "enqueue":
            request = event.arguments[0]
            key = (request.tool, request.unique_key)
            if request.unique_key is not None and not self._holders.get(key) and request.problem is None:
                self._asked[event.number] = key

    def on_observed(self, event: Observed) -> None:
        view = event.after or event.before
        if view is None or view.unique_key is None:
            return
        key = (view.tool, view.unique_key)
        holders = self._holders.setdefault(key, {})
        if self._finished(event.after):
            holders.pop(event.job, None)
            return
        holders[event.job] = None
        self._asked = {number: asked for number, asked in self._asked.items() if asked != key}
        if len(holders) > 1:
            self.breach("unique_key_shared", f"{', '.join(holders)} hold the key {view.unique_key!r}", job=event.job)

    def _finished(self, view: JobView | None) -> bool:
        return view is None or view.terminal

    def on_return(self, event: Return) -> None:
        asked = self._asked.pop(event.number, None)
        if asked is not None and not event.outcome.done and event.answered and "exists" not in event.outcome.reason:
            self.breach("unique_key_stuck", f"refused, and nobody holds the key: {event.outcome.reason}", job=event.job)


INVARIANT = Invariant(
    id="unique_respected",
    number=15,
    sentence="There is at most one unfinished job for each unique key, and the key is free once that job ended.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("unique_key_shared", Guarantee.UNIQUENESS, "Two unfinished jobs hold one unique key."),
        AnomalyKind("unique_key_stuck", Guarantee.UNIQUENESS, "A unique key is refused that nobody holds."),
    ),
    make=UniqueRespected,
    capabilities=("unique",),
)
