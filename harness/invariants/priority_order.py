"""11: among due jobs the claim takes the highest priority first, then the oldest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.invariants.standing import Standing
from harness.model.duration import Instant
from harness.model.job import JobView
from harness.model.lifecycle import Status


class PriorityOrder(Monitor):
    """Keeps the waiting jobs and compares what was taken with what was left."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": frozenset({"claim"}), "on_return": frozenset({"claim"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._standing = Standing(rules.settings)
        self._taken: dict[str, list[tuple[JobView, int]]] = {}
        self._claiming: set[str] = set()
        self._overlapped: set[str] = set()

    def on_call(self, event: Call) -> None:
        if event.verb == "claim":
            if self._claiming:
                self._overlapped.update(self._claiming, (event.actor,))
            self._claiming.add(event.actor)
            self._taken[event.actor] = []

    def on_observed(self, event: Observed) -> None:
        if event.verb == "claim" and event.before is not None and event.before.status is Status.PENDING:
            self._taken.setdefault(event.actor, []).append((event.before, event.clock))
        self._standing.observe(event.job, event.after)

    def on_return(self, event: Return) -> None:
        if event.verb != "claim":
            return
        self._claiming.discard(event.actor)
        taken = self._taken.pop(event.actor, [])
        if event.actor in self._overlapped:
            self._overlapped.discard(event.actor)
            return
        if not taken or not self._standing.waiting:
            return
        last, clock = max(taken, key=lambda entry: _order(entry[0]))
        for left in self._standing.waiting.values():
            if left.start_after <= clock and _order(left) < _order(last) and not self._blocked(left, taken):
                self.breach(
                    "priority_inversion",
                    f"{event.actor} took it (priority {last.priority}) and left {left.id} (priority {left.priority})",
                    job=last.id,
                )
                return

    def _blocked(self, left: JobView, taken: list[tuple[JobView, int]]) -> bool:
        """Say whether limits or serial keys spoke against it when its turn had come."""
        later = {row.id for row, _ in taken if _order(left) < _order(row)}
        return self._standing.blocked(left, [row for row in self._standing.active.values() if row.id not in later])


def _order(row: JobView) -> tuple[int, Instant]:
    return (-row.priority, row.created_at)


INVARIANT = Invariant(
    id="priority_order",
    number=11,
    sentence="Among due jobs of a queue the claim takes the highest priority, then the oldest.",
    kind=Kind.ALWAYS,
    anomalies=(AnomalyKind("priority_inversion", Guarantee.SCHEDULE, "A job overtook one that was before it."),),
    make=PriorityOrder,
    capabilities=("priorities",),
)
