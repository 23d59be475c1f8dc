"""What an invariant is: a sentence, the anomalies that breach it, the guarantee lost, and a monitor that watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from harness.history.event import Call, Effect, Event, Fault, Observed, Phase, Return
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.settings import Settings


class Kind(StrEnum):
    """When a property is judged."""

    ALWAYS = "always"
    """At every step of every phase."""
    EVENTUALLY = "eventually"
    """At rest, after faults stopped and the system settled."""
    SOMETIMES = "sometimes"
    """At least once in a campaign."""


class Guarantee(StrEnum):
    """What a user can no longer rely on, the gravest first."""

    AT_LEAST_ONCE = "at least once: an accepted job is run to an end"
    TRUTHFUL_RESULT = "a job's status and result tell what happened"
    ONE_AT_A_TIME = "one at a time: no job is run by two workers at once"
    FENCING = "fencing: who lost a claim changes nothing"
    BOUNDED_ATTEMPTS = "bounded attempts: a job is delivered at most maxAttempts times"
    ISOLATION = "isolation: one bad job harms no other"
    CANCELLATION = "a cancelled job stays cancelled"
    UNIQUENESS = "one unfinished job for each unique key"
    SCHEDULE = "no job before its time, and in its order"
    CONSISTENCY = "both tables tell the same"
    REPEATABLE_MAINTENANCE = "maintenance may run late, twice, or twice at once"
    STORE_CLOCK = "the store's clock alone decides"
    RETENTION = "what is alive, or not yet past its time, is not deleted"

    @property
    def rank(self) -> int:
        """The gravest is 0."""
        return list(Guarantee).index(self)


@dataclass(frozen=True, slots=True)
class AnomalyKind:
    """A named breach."""

    name: str
    guarantee: Guarantee
    sentence: str


class Anomaly(NamedTuple):
    """A breach that was observed."""

    name: str
    invariant: str
    at: Instant
    event: int
    """The index of the event in the history at which it showed."""
    job: JobId | None
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What a monitor may know of the run beside its history."""

    settings: Settings
    jobs: Mapping[JobId, JobFacts] = field(default_factory=dict)
    """What the workload declares of a job."""


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What the workload knows of a job that it planned."""

    healthy: bool = False
    """Succeeds whenever it is run: a bystander."""
    start_after: Instant | None = None
    priority: int = 0
    unique_key: str | None = None


class Reporter(Protocol):
    """Takes breaches."""

    def __call__(self, name: str, message: str, *, job: JobId | None = None) -> None: ...


class Monitor:
    """An invariant at work on a history; override what you need to see.

    A monitor subscribes by defining `on_call`, `on_return`, `on_observed`, `on_effect`, `on_fault`, `on_phase` or
    `at_rest`. It never touches the queue.
    """

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        self.rules = rules
        self.settings = rules.settings
        self.breach = breach


EVENT_METHODS: Mapping[type[Any], str] = {
    Call: "on_call",
    Return: "on_return",
    Observed: "on_observed",
    Effect: "on_effect",
    Fault: "on_fault",
    Phase: "on_phase",
}


@dataclass(frozen=True, slots=True)
class Invariant:
    """A property with its id, as in the catalogue."""

    id: str
    number: int
    sentence: str
    kind: Kind
    anomalies: tuple[AnomalyKind, ...]
    make: Callable[[Rules, Reporter], Monitor]
    capabilities: tuple[str, ...] = ()
    """What a queue must be able to do for this to be judged."""

    @property
    def needs(self) -> frozenset[type[Any]]:
        """The kinds of event that the monitor must see; where an engine cannot give them, nothing is judged."""
        monitor = self.make if isinstance(self.make, type) else Monitor
        return frozenset(kind for kind, method in EVENT_METHODS.items() if hasattr(monitor, method))


class Judge:
    """Runs all monitors over a history as it grows."""

    __slots__ = ("_at_rest", "_by_type", "_index", "_now", "anomalies")

    def __init__(self, invariants: tuple[Invariant, ...], rules: Rules) -> None:
        self.anomalies: list[Anomaly] = []
        self._index = -1
        self._now: Instant = 0
        self._by_type: dict[type[Any], list[Callable[[Any], None]]] = {kind: [] for kind in EVENT_METHODS}
        self._at_rest: list[Callable[[Mapping[JobId, JobView]], None]] = []
        for invariant in invariants:
            monitor = invariant.make(rules, self._reporter(invariant))
            for kind, method in EVENT_METHODS.items():
                if (handle := getattr(monitor, method, None)) is not None:
                    self._by_type[kind].append(handle)
            if hasattr(monitor, "at_rest"):
                self._at_rest.append(monitor.at_rest)

    def see(self, event: Event) -> None:
        """Show the next event of the history to everybody who wants it."""
        self._index += 1
        self._now = event.at
        for handle in self._by_type[type(event)]:
            handle(event)

    def rest(self, views: Mapping[JobId, JobView]) -> None:
        """Judge what must hold at rest."""
        for judge in self._at_rest:
            judge(views)

    def _reporter(self, invariant: Invariant) -> Reporter:
        def breach(name: str, message: str, *, job: JobId | None = None) -> None:
            declared = any(kind.name == name for kind in invariant.anomalies)
            assert declared, f"{invariant.id} declares no anomaly {name!r}"
            self.anomalies.append(Anomaly(name, invariant.id, self._now, max(self._index, 0), job, message))

        return breach
