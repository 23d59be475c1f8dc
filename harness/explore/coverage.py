"""What a campaign has met: situations, faults by job status and position, and states that were new."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from harness.explore.situations import Spotter, position_of
from harness.faults import strike_of
from harness.history.event import Fault, History, Observed
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status

EVERY = 4
"""Every so many runs one is observed: that keeps the cost under a twentieth of a campaign."""
LAST = 0.1
"""The share of the observed runs, from the end, in which new states are counted."""
ORDINAL: Final = {status: number for number, status in enumerate((*Status, None))}


class Cell(NamedTuple):
    """One place at which a fault can strike."""

    status: str
    """Of the job at hand; `-` where there is none."""
    position: str
    fault: str


@dataclass(slots=True)
class Coverage:
    """Grows run by run; two can be put together in the order of their runs."""

    observed: int = 0
    situations: Counter[str] = field(default_factory=Counter)
    """By name, in how many observed runs it occurred."""
    faults: Counter[Cell] = field(default_factory=Counter)
    states: list[frozenset[int]] = field(default_factory=list)
    """The states of each observed run, as numbers."""

    def observe(self, history: History) -> None:
        """Take one run."""
        spotter = Spotter()
        states: set[int] = set()
        views = spotter.views
        cells = self.faults
        for event in history.events:
            kind = type(event)
            if kind is Fault:
                cells[_cell(event, views)] += 1  # type: ignore[arg-type]
            spotter.see(event)
            if kind is Observed:
                states.add(_state(views))
        self.observed += 1
        self.situations.update(spotter.seen)
        self.states.append(frozenset(states))

    def add(self, later: Coverage) -> None:
        """Take over what later runs met."""
        self.observed += later.observed
        self.situations.update(later.situations)
        self.faults.update(later.faults)
        self.states.extend(later.states)

    def novelty(self) -> Novelty:
        """Answer how many states there were, and how many of the last runs still showed a new one."""
        known: set[int] = set()
        new: list[bool] = []
        for states in self.states:
            new.append(not states <= known)
            known |= states
        last = max(1, round(len(new) * LAST)) if new else 0
        return Novelty(len(known), last, sum(new[len(new) - last :]))


class Novelty(NamedTuple):
    """How much there still was to see at the end."""

    states: int
    """Different states of all jobs together, times and names left out."""
    last: int
    new: int
    """How many of the last runs showed a state that no run before had shown."""

    @property
    def share(self) -> float:
        """The part of the last runs that showed something new."""
        return self.new / self.last if self.last else 0.0


def _state(views: dict[JobId, JobView]) -> int:
    """Number a state so that all processes agree: statuses, attempts and leases, whichever job has them."""
    rows = [
        (ORDINAL[view.status] * 32 + min(view.attempts, 7) * 4 + (view.lease_until is not None) * 2 + view.agrees)
        for view in views.values()
    ]
    rows.sort()
    return hash(tuple(rows))


def _cell(fault: Fault, views: dict[JobId, JobView]) -> Cell:
    data = fault.data or {}
    point = data.get("at") if isinstance(data, dict) else None
    view = views.get((point or "").rpartition(" ")[2])
    return Cell("-" if view is None else str(view.status), position_of(point), strike_of(fault))
