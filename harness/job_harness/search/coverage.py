"""What a campaign has met: situations worth having seen, faults by job status and position, and states that were new.

A situation is declared with what a queue must be able to do for it and with the share of runs in
which it shows at least. A campaign that was long enough to expect it many times over and never met
it has looked past something. All is read off histories; nothing here runs anything.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from job_harness.core.faults import CONSEQUENCES, kind_of, lost_by, strike_of
from job_harness.core.faults.kind import FaultSituation
from job_harness.core.history import REFUSED, Call, Event, Excuse, Fault, History, Observed, OutcomeKind, Return
from job_harness.core.history.answers import VerbAnswers
from job_harness.core.model import (
    ARROWS_OF_VERB,
    CANCELLED,
    FAILED,
    PENDING,
    PROCESSING,
    TERMINAL,
    JobId,
    JobView,
    Status,
)
from job_harness.core.port import Capabilities

OBSERVED_EVERY: Final = 4
"""One run in this many is examined: that keeps the cost under a twentieth of a campaign."""
WORD: Final = 1 << 32
GOLDEN: Final = 0x9E3779B1
"""`WORD` times the golden ratio, as an odd number: its multiples spread evenly, whichever of them are picked out."""
LAST = 0.1
"""The share of the observed runs, from the end, in which new states are counted."""
ORDINAL: Final = {status: number for number, status in enumerate((*Status, None))}


def is_observed(number: int) -> bool:
    """Say whether the run with this number is examined.

    It is not simply every fourth run: a portfolio takes turns, and of eight runs that would be the
    same two each time.
    """
    return number * GOLDEN % WORD < WORD // OBSERVED_EVERY


class Cell(NamedTuple):
    """One place at which a fault can strike."""

    status: str
    """Of the job at hand; `-` if there is none."""
    position: str
    fault: str


JOBLESS: Final = 3
"""Of this many observed runs one at least has a job, unless none can have any."""


@dataclass(slots=True)
class Coverage:
    """Grows run by run; two can be put together in the order of their runs."""

    observed: int = 0
    situations: Counter[str] = field(default_factory=Counter)
    """By name, in how many observed runs it occurred."""
    faults: Counter[Cell] = field(default_factory=Counter)
    states: list[frozenset[int]] = field(default_factory=list)
    """The states of each observed run, as numbers."""
    numbers: list[int] = field(default_factory=list)
    """The number of each observed run."""
    answers: VerbAnswers = field(default_factory=VerbAnswers)
    """Of every run, and not only of those that are observed."""

    def observe(self, history: History, *, number: int = 0) -> None:
        """Take the run with this number."""
        spotter = Spotter()
        states: set[int] = set()
        views = spotter.views
        cells = self.faults
        rows: list[int] = []
        """How each job stands, in order: a state, whichever job has which part of it."""
        for event in history.events:
            if isinstance(event, Observed):
                if (known := views.get(event.job)) is not None:
                    del rows[bisect_left(rows, _stand(known))]
                spotter.see(event)
                if event.after is not None:
                    insort(rows, _stand(event.after))
                states.add(hash(tuple(rows)))
                continue
            if isinstance(event, Fault) and event.name not in CONSEQUENCES:
                cells[_cell(event, views)] += 1
            spotter.see(event)
        self.observed += 1
        self.situations.update(spotter.seen)
        self.states.append(frozenset(states))
        self.numbers.append(number)

    @property
    def jobless(self) -> bool:
        """Whether no run had a job, and they are too many for each to have lost what was sent."""
        return len(self.states) >= JOBLESS and not any(self.states)

    def add(self, later: Coverage) -> None:
        """Take over what later runs met."""
        self.observed += later.observed
        self.situations.update(later.situations)
        self.faults.update(later.faults)
        self.states.extend(later.states)
        self.numbers.extend(later.numbers)
        self.answers.add(later.answers)

    def first_seen(self) -> list[tuple[int, list[int]]]:
        """Return for each observed run its number, and the states that it was the first of these to see."""
        known: set[int] = set()
        told = []
        for number, states in zip(self.numbers, self.states, strict=True):
            told.append((number, sorted(states - known)))
            known |= states
        return told

    def novelty(self) -> Novelty:
        """Return how many states there were, and how many of the last runs still showed a new one."""
        new = [len(states) for _, states in self.first_seen()]
        last = max(1, round(len(new) * LAST)) if new else 0
        return Novelty(sum(new), last, sum(map(bool, new[len(new) - last :])))

    def growth(self, parts: int = 20) -> list[tuple[int, int]]:
        """Return how many states were new in each part of the runs: (runs until there, new states)."""
        runs, grown = len(self.states), Counter[int]()
        for number, (_, states) in enumerate(self.first_seen(), 1):
            grown[-(-number * parts // runs) * runs // parts] += len(states)
        return list(grown.items())


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


def _stand(view: JobView) -> int:
    """Number how a job stands so that all processes agree: by its status, its attempts and its lease."""
    return ORDINAL[view.status] * 32 + min(view.attempts, 7) * 4 + (view.lease_until is not None) * 2 + view.agrees


def _cell(fault: Fault, views: dict[JobId, JobView]) -> Cell:
    data = fault.data or {}
    point = data.get("at") if isinstance(data, dict) else None
    view = views.get((point or "").rpartition(" ")[2])
    return Cell("-" if view is None else str(view.status), position_of(point), strike_of(fault))


EXPECTED = 20
"""A situation is missing once this many occurrences were expected: chance explains that once in 10^8 campaigns."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Something worth having been seen at least once."""

    name: str
    share: float
    """At least this share of the runs on a right queue shows it; a quarter of what was measured."""
    capabilities: tuple[str, ...] = ()


SITUATIONS: Final = (
    Situation("a stale holder completes", 0.017),
    Situation("a stale holder fails", 0.045),
    Situation("a stale holder sends a heartbeat", 0.017, ("heartbeat",)),
    Situation("a heartbeat exactly at expiry", 0.0004, ("heartbeat",)),
    Situation("a lease runs out", 0.066),
    Situation("maintenance takes a job back", 0.001, ("maintenance",)),
    Situation("maintenance and a claim coincide", 0.01, ("maintenance",)),
    Situation("a job is deleted", 0.07, ("maintenance",)),
    Situation("a job is cancelled while it runs", 0.058, ("cancel",)),
    Situation("an operator retries a job", 0.066, ("retry",)),
    Situation("a unique key is refused", 0.064, ("unique",)),
    Situation("a job's attempts are used up", 0.18),
    Situation("two workers claim at one instant", 0.16),
    Situation("a batch is claimed", 0.046, ("heartbeat",)),
    Situation("a claim exactly at the due time", 0.12),
    Situation("a lost reply, then a retry", 0.025),
    Situation("a lost request, then a retry", 0.025),
    Situation("a message is delivered twice", 0.04, ("remote",)),
    Situation("a crash before a claim", 0.01),
    Situation("a crash between claim and start", 0.017),
    Situation("a crash while a job runs", 0.036),
    Situation("a crash before a job is settled", 0.0018),
    Situation("a crash after a job was settled", 0.0018),
    Situation("maintenance crashes", 0.0017, ("maintenance",)),
    Situation("a shutdown with a job in hand", 0.02),
    Situation("time runs late", 0.034),
    Situation("a clock is off while a job runs", 0.034),
)


STEPWISE: Final = frozenset(
    {
        "a lease runs out",
        "a job is deleted",
        "a job is cancelled while it runs",
        "a job's attempts are used up",
        "a crash while a job runs",
        "time runs late",
        "a clock is off while a job runs",
    }
)
"""What can be seen of an application too, which has steps of its own and no verbs."""


def declared_situations(capabilities: Capabilities, *, stepwise: bool = False) -> tuple[Situation, ...]:
    """Return the situations that a queue with these capabilities, or an application, can come to."""
    possible = (item for item in SITUATIONS if item.name in STEPWISE or not stepwise)
    return tuple(item for item in possible if not capabilities.missing(item.capabilities))


def missing_situations(seen: Iterable[str], *, capabilities: Capabilities, observed: int) -> tuple[Situation, ...]:
    """Return what never occurred although `observed` runs should have shown it many times over."""
    return overlooked(seen, declared_situations(capabilities), observed=observed)


def overlooked(seen: Iterable[str], declared: Iterable[Situation], *, observed: int) -> tuple[Situation, ...]:
    """Return which of the declared situations never occurred although they were due many times over."""
    known = set(seen)
    return tuple(item for item in declared if item.name not in known and item.share * observed >= EXPECTED)


SETTLING = frozenset({"complete", "fail"})
STALE = {"complete": "completes", "fail": "fails", "heartbeat": "sends a heartbeat"}
CRON = frozenset({"reconcile", "rescue", "purge"})


class Spotter:
    """Goes along a history and names what it meets."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.views: dict[JobId, JobView] = {}
        self._lost: dict[str, tuple[str, str]] = {}
        """By actor, the point at which it lost a message, and which one."""
        self._claims: tuple[int, str] = (-1, "")
        self._cron = -1
        self._claimed = -1
        self._takers: dict[JobId, str] = {}
        """Who made a job PROCESSING last."""

    def see(self, event: Event) -> None:
        """Take the next event; `views` tells the jobs before it."""
        kind = type(event)
        if kind is Call:
            self._call(event)  # type: ignore[arg-type]
        elif kind is Return:
            self._answer(event)  # type: ignore[arg-type]
        elif kind is Observed:
            self._change(event)  # type: ignore[arg-type]
        elif kind is Fault:
            self._fault(event)  # type: ignore[arg-type]

    def _call(self, call: Call) -> None:
        verb = call.verb
        if verb == "claim":
            at, who = self._claims
            if at == call.at and who != call.actor:
                self.seen.add("two workers claim at one instant")
            self._claims = (call.at, call.actor)
        elif verb in CRON:
            self._cron = call.at
            if self._claimed == call.at:
                self.seen.add("maintenance and a claim coincide")
        view = self.views.get(call.job or "")
        if verb in STALE and view is not None:
            if view.status is not PROCESSING or view.token != call.token:
                self.seen.add(f"a stale holder {STALE[verb]}")
            elif verb == "heartbeat" and view.lease_until == call.at:
                self.seen.add("a heartbeat exactly at expiry")
        if (lost := self._lost.get(call.actor)) is not None and lost[0] == _point(call):
            self.seen.add(f"a lost {lost[1]}, then a retry")

    def _answer(self, event: Return) -> None:
        outcome = event.outcome
        if event.verb == "claim" and outcome.kind is OutcomeKind.DONE and len(outcome.value or ()) > 1:
            self.seen.add("a batch is claimed")
        elif event.verb == "enqueue" and outcome.kind is REFUSED:
            self.seen.add("a unique key is refused")

    def _change(self, event: Observed) -> None:
        before, after = event.before, event.after
        if after is None:
            self.views.pop(event.job, None)
            self.seen.add("a job is deleted")
            return
        self.views[event.job] = after
        if after.status is PROCESSING and (before is None or _stand(before) != _stand(after)):
            self._takers[event.job] = event.actor
        if before is None:
            return
        seen, verb = self.seen, event.verb
        if verb == "claim":
            self._claimed = event.at
            if before.status is PROCESSING:  # a queue that takes over what is overdue where it claims
                seen.add("a lease runs out")
            if self._cron == event.at:
                seen.add("maintenance and a claim coincide")
            if before.start_after == event.at and before.start_after > before.created_at:
                seen.add("a claim exactly at the due time")
        elif verb in ("expire", "step expire") or (verb not in ARROWS_OF_VERB and _was_taken_back(before, event)):
            seen.add("a lease runs out")
        elif verb == "rescue" and before.status is PROCESSING:
            seen.add("maintenance takes a job back")
        if before.status is PROCESSING and after.status is CANCELLED:
            seen.add("a job is cancelled while it runs")
        elif before.status in TERMINAL and after.status is PENDING:
            seen.add("an operator retries a job")
        elif before.status is not FAILED and after.status is FAILED and _exhausted(after):
            seen.add("a job's attempts are used up")

    def _fault(self, fault: Fault) -> None:
        data: Any = fault.data or {}
        position = position_of(data.get("at"))
        kind, lost = kind_of(fault), lost_by(fault.name)
        if kind is None:
            return
        if kind.excuses is Excuse.DEATH:
            self._crash(fault.actor, position, after=bool(data.get("after")))
        elif lost:
            self._lost[fault.actor] = (data.get("at", ""), lost)
        elif kind.situation is not None and self._shows(kind.situation, position):
            self.seen.add(kind.situation.name)

    def _shows(self, made: FaultSituation, position: str) -> bool:
        runs = not made.while_running or any(view.status is PROCESSING for view in self.views.values())
        return runs and (not made.at or position in made.at)

    def _crash(self, actor: str, position: str, *, after: bool) -> None:
        if actor == "maintenance":
            self.seen.add("maintenance crashes")
        elif position == "claim" and not after:
            self.seen.add("a crash before a claim")
        elif position == "start" or (position == "claim" and after):
            self.seen.add("a crash between claim and start")
        elif position == "running":
            self.seen.add("a crash while a job runs")
        elif position in SETTLING:
            self.seen.add("a crash after a job was settled" if after else "a crash before a job is settled")
        elif any(view.status is PROCESSING and self._takers.get(job) == actor for job, view in self.views.items()):
            self.seen.add("a crash while a job runs")  # a program of the user's own, at a statement or a call


def _was_taken_back(before: JobView, event: Observed) -> bool:
    """Say whether a step of the user's own took back, or over, a job whose lease had run out: it has no verbs."""
    after, until = event.after, before.lease_until
    if before.status is not PROCESSING or until is None or until > event.clock or after is None:
        return False
    return after.status is not PROCESSING or after.started_at != before.started_at


def _exhausted(view: JobView) -> bool:
    return view.attempts >= view.max_attempts


def position_of(point: str | None) -> str:
    """Return the kind of point that an actor stands at: its name without the job."""
    return (point or "time").partition(" ")[0]


def _point(call: Call) -> str:
    return call.verb if call.job is None else f"{call.verb} {call.job}"
