"""What an invariant is: a sentence, the anomalies that breach it, the guarantee lost, and a monitor that watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import StrEnum
from functools import cache, partial
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias

from job_harness.core.history import UNKNOWN, Call, Effect, Event, Excuse, Fault, Observed, Phase, Return
from job_harness.core.invariants.memory import Frozen, freeze_attributes, thaw_attributes
from job_harness.core.model import Design, Duration, Instant, JobId, JobView, Settings, Status
from job_harness.core.port import ALL_SHOWN, Documented, Schedule, ShownFacts

NOTHING: Mapping[str, tuple[Documented, ...]] = MappingProxyType({})


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

    AT_LEAST_ONCE = "at least once: every accepted job is run until it ends"
    UPDATES = "no verb overwrites what another wrote without reading it"
    TRUTHFUL_RESULT = "a job's status and result say what happened"
    ONE_AT_A_TIME = "one at a time: no job is run by two workers at once"
    FENCING = "fencing: a worker that lost its claim changes nothing"
    BOUNDED_ATTEMPTS = "bounded attempts: a job is delivered at most maxAttempts times"
    ISOLATION = "isolation: one bad job does not harm the others"
    WAITING = "concurrent verbs wait for each other, and none is aborted"
    CANCELLATION = "a cancelled job stays cancelled"
    UNIQUENESS = "at most one unfinished job of a tool per unique key"
    ATOMIC_ENQUEUE = "a job exists if and only if its transaction committed"
    CRON = "each slot of a schedule gets exactly one job"
    CONCURRENCY = "no more jobs at once than limits and serial keys allow"
    FLOWS = "a job begins after all that it depends on, and ends with it"
    PROGRESS = "a worker that asks for work gets any job that is due and allowed"
    DEAD_LETTERS = "a job that failed for good is in its dead letter queue exactly once"
    OPTIONS = "a job is what its producer asked for"
    CLAIMS = "a worker is given what it asked for, and nothing that is held back"
    SCHEDULE = "no job runs before its time or out of order"
    CONSISTENCY = "both tables agree"
    REPEATABLE_MAINTENANCE = "maintenance is safe to run late, twice, or concurrently"
    STORE_CLOCK = "only the store's clock decides"
    RETENTION = "no job is deleted before it has ended and its retention is over"
    OWN = "a rule of your own"

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
    endless: bool = False
    """Ends the run, which would not end by itself; told only of a job of which nothing else was."""
    only_risks: bool = False
    """The guarantee is not broken by this alone, only by what may follow: a second worker, one more attempt."""

    @property
    def label(self) -> str:
        """What stands before the guarantee in a report of a run that shows this anomaly."""
        return "Guarantee at risk" if self.only_risks else "Guarantee lost"

    @property
    def cost(self) -> str:
        """What a table says of the guarantee."""
        return f"at risk: {self.guarantee}" if self.only_risks else str(self.guarantee)


class Anomaly(NamedTuple):
    """A breach that was observed."""

    name: str
    invariant: str
    at: Instant
    event: int
    """The index of the event in the history at which it showed."""
    job: JobId | None
    message: str
    others: tuple[JobId, ...] = ()
    """The other jobs that it is about: a screen shows what happened to them too."""


REVIVING_STEPS: Final = frozenset({"step retry", "step resume"})
"""What an operator's step is called who revives a job; no other, such as a worker's `retry later`, may."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a monitor may know of the run beside its history."""

    settings: Settings
    jobs: Mapping[JobId, JobFacts] = field(default_factory=dict)
    """What the workload declares of a job."""
    doublings: int | None = None
    """How often a retry delay is doubled at most; None: as often as there are retries."""
    granularity: Duration = 0
    """Within how long two instants may be one to the queue."""
    longest: Mapping[str, Duration] = field(default_factory=dict)
    """By setting that is lengthened by chance, the longest that may come of it; the setting is the shortest."""
    oldest_first: bool = True
    """Whether age decides among jobs of one priority."""
    excuses: Mapping[str, Excuse] = field(kw_only=True)
    """What the faults of a history explain by themselves, by the names of their events."""
    takes_back_in_claim: bool = False
    """Whether a claim takes back what a dead worker held, and then may do what `expire` may elsewhere."""
    inputs_shown: bool = False
    """Whether a row tells what was sent, so that an empty one says that it was dropped."""
    ends_may_lack_times: bool = False
    """Whether a job may have ended and not say when it began or ended: one that was imported, or cleared."""
    due_within: Duration = 0
    """How long before its start time a job may be claimed: where times are rounded, or written by several clocks."""
    operators: frozenset[str] = frozenset()
    """Actors that stand for an operator, whatever their steps are called: they may bring back what has ended."""
    designs: frozenset[Design] = frozenset()
    """How the queue differs on purpose."""
    slot_due: tuple[Duration, Duration] | None = None
    """How long ago a slot began whose job a look has to make, from and until; None: however long."""
    schedules: tuple[Schedule, ...] = ()
    """The schedules of an application, which no verb sets."""

    def used_up(self, view: JobView) -> str:
        """Say that a waiting job has no attempt left, as the end of a sentence; empty: it has."""
        if not 0 < view.max_attempts <= view.attempts or Design.RETRIES_FOREVER in self.designs:
            return ""
        return f", with {view.attempts} of {view.max_attempts} attempts used up"

    def is_operated(self, event: Observed) -> bool:
        """Say whether an application's operator did it, who may bring back a job that has ended."""
        return event.verb in REVIVING_STEPS or event.actor in self.operators

    def lease_of(self, job: JobId) -> Duration:
        """Return how long a claim of a job lasts without a heartbeat, as was promised."""
        facts = self.jobs.get(job)
        return self.settings.lease if facts is None or facts.lease is None else facts.lease

    def timeout_of(self, job: JobId) -> Duration:
        """Return how long a job may run."""
        facts = self.jobs.get(job)
        return self.settings.job_timeout if facts is None or facts.timeout is None else facts.timeout

    def waits(self, job: JobId, *, attempts: int) -> tuple[Duration, Duration]:
        """Return the shortest and the longest wait that was promised after this many attempts of a job.

        It is what the documentation says, computed here: the formula of a queue under test may be
        what is wrong.
        """
        settings, facts = self.settings, self.jobs.get(job)
        first = settings.retry_delay if facts is None or facts.retry_delay is None else facts.retry_delay
        longest = self.longest.get("retry_delay", first * (1 + settings.retry_backoff))
        if not settings.retry_backoff:
            return first, longest
        doublings = max(attempts - 1, 0) if self.doublings is None else min(max(attempts - 1, 0), self.doublings)
        return min(first << doublings, settings.retry_delay_max), min(longest << doublings, settings.retry_delay_max)


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What the workload knows of a job that it planned."""

    healthy: bool = False
    """Succeeds whenever it is run: a bystander."""
    start_after: Instant | None = None
    priority: int = 0
    unique_key: str | None = None
    lease: Duration | None = None
    """What it asked for itself, where that is not what the settings say; so with the next ones."""
    timeout: Duration | None = None
    retry_delay: Duration | None = None
    unique_for: Duration | None = None
    split: bool = False
    """Its work is done by as many others as it was to be split into, which may be none."""


class Reporter(Protocol):
    """Takes breaches."""

    def __call__(self, name: str, message: str, *, job: JobId | None = None, others: Iterable[JobId] = ()) -> None: ...


GIVEN = frozenset({"rules", "settings", "breach"})
"""What a monitor is given; the rest is its memory."""


class Monitor:
    """An invariant at work on a history; override what you need to see.

    A monitor subscribes by defining `on_call`, `on_return`, `on_observed`, `on_effect`, `on_fault`, `on_phase` or
    `at_rest`; also `healed`, when faults stop, and `without_rest`, where a limit comes instead of a rest. Instead of
    `on_observed`, which sees every change of a job, it may define some of `on_created`, `on_changed` and `on_deleted`;
    instead of `on_return`, `on_unknown`, which sees only calls whose outcome is unknown.
    It never touches the queue.
    """

    only: ClassVar[Mapping[str, frozenset[str]]] = {}
    """By method, the verbs (of an effect or a fault: the names) that it wants to see; without an entry, all."""

    momentary: ClassVar[frozenset[str]] = frozenset()
    """Instants, or dictionaries of them, that no rule asks for any more once the clock has moved on."""

    derived: ClassVar[frozenset[str]] = frozenset()
    """Attributes that follow from the others: no memory of their own. Who has some makes them in `derive`."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        self.rules = rules
        self.settings = rules.settings
        self.breach = breach

    def excuse_of(self, event: Fault) -> Excuse | None:
        """Return what a fault explains by itself; None for what followed from one, or from a process."""
        return self.rules.excuses.get(event.name)

    def snapshot(self) -> Frozen:
        """Return what the monitor remembers as a hashable value."""
        return freeze_attributes(vars(self), leave_out=GIVEN | self.derived if self.derived else GIVEN)

    def restore(self, memory: Frozen) -> None:
        """Remember that again, and nothing else."""
        vars(self).update(thaw_attributes(memory))
        self.derive()

    def derive(self) -> None:
        """Make what is `derived`, after the other attributes were put back."""

    @property
    def idle(self) -> bool:
        """Whether nothing came of what it watches for, so that it has judged nothing; one that cannot tell says no."""
        return False


EVENT_METHODS: Mapping[str, type[Any]] = {
    "on_call": Call,
    "on_return": Return,
    "on_unknown": Return,
    "on_observed": Observed,
    "on_created": Observed,
    "on_changed": Observed,
    "on_deleted": Observed,
    "on_effect": Effect,
    "on_fault": Fault,
    "on_phase": Phase,
}
BESIDE: Mapping[str, str] = {
    "on_created": "on_observed",
    "on_changed": "on_observed",
    "on_deleted": "on_observed",
    "on_unknown": "on_return",
}
"""Methods that see only some events of a kind, each with the one that sees all of them."""
METHOD_OF: Mapping[type[Any], str] = {
    kind: method for method, kind in EVENT_METHODS.items() if kind is not Observed and method not in BESIDE
}
KINDS: tuple[type[Any] | str, ...] = (*METHOD_OF, *BESIDE)


@dataclass(frozen=True, slots=True)
class EvidenceNeeded:
    """What an application has to show before it can be judged by an invariant; each is something its owner can add."""

    columns: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    """Columns of which one is enough."""
    settings: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    """What an operator can ask for: without one, nothing that was confirmed is ever seen."""
    schedules: bool = False
    sent: bool = False
    """Whether a request has to carry more than the name of its job."""
    named: bool = False
    """Whether it is asked only where its owner names it: programs that are right may do otherwise."""

    def missing(self, shown: ShownFacts, invariant: str) -> list[str]:
        """Return what would have to be added, each as its owner would write it."""
        wanted = [f"the column {name}" for name in self.columns if name not in shown.columns]
        if self.either and shown.columns.isdisjoint(self.either):
            wanted.append(f"the column {' or '.join(self.either)}")
        wanted += [f"settings: {name}" for name in self.settings if name not in shown.settings]
        wanted += [f"actions: {name}" for name in self.actions if name not in shown.actions]
        wanted += ["promises: schedules"] if self.schedules and not shown.schedules else []
        wanted += ["${priority}, ${key} or ${serial_key} in send"] if self.sent and not shown.sent else []
        return wanted + ([f"promises: also: [{invariant}]"] if self.named and invariant not in shown.also else [])


@dataclass(frozen=True, slots=True)
class Invariant:
    """A property, known by its id. All but the id is given by keyword."""

    id: str
    _: KW_ONLY
    sentence: str
    kind: Kind
    anomalies: tuple[AnomalyKind, ...]
    make: Callable[[Rules, Reporter], Monitor]
    capabilities: tuple[str, ...] = ()
    """What a queue must be able to do for this to be judged."""
    stepwise: Callable[[Rules, Reporter], Monitor] | None = None
    """The monitor for an application, whose steps are its own and no verbs; None: this says nothing about one."""
    evidence: EvidenceNeeded = EvidenceNeeded()
    """What that monitor needs to see there."""
    tool: str | None = None
    """The only tool of whose jobs it asks something; None: it asks of all."""
    effect: str | None = None
    """The only side effect of which it asks something; None: it asks of more than one."""
    per: tuple[str, ...] = ()
    """The data of that side effect by which it tells one from another."""

    @property
    def needs(self) -> frozenset[type[Any]]:
        """The kinds of event that the monitor must see; where an engine cannot give them, nothing is judged."""
        monitor = self.make if isinstance(self.make, type) else Monitor
        return frozenset(kind for method, kind in EVENT_METHODS.items() if hasattr(monitor, method))


def stepwise(invariants: tuple[Invariant, ...], shown: ShownFacts = ALL_SHOWN) -> tuple[Invariant, ...]:
    """Return those that judge an application that shows this, with the monitors that do.

    They ask nothing of its queue's verbs.
    """
    return tuple(
        replace(item, make=item.stepwise, capabilities=())
        for item in invariants
        if item.stepwise is not None and not item.evidence.missing(shown, item.id)
    )


def unasked(invariants: tuple[Invariant, ...], shown: ShownFacts) -> dict[str, list[str]]:
    """Return the invariants that could judge an application and do not, each with what would have to be added."""
    missing = {item.id: item.evidence.missing(shown, item.id) for item in invariants if item.stepwise is not None}
    return {name: lines for name, lines in missing.items() if lines}


Route: TypeAlias = tuple[tuple[Callable[[Any, Any], None], int], ...]
"""The methods that see an event, each with the place of its monitor in the list of all."""
Routes: TypeAlias = dict["type[Any] | str", dict[str, Route]]
"""By the kind of an event (of a change: by its method), and by its verb or name."""


@cache
def _known_routes(monitors: tuple[type[Monitor], ...]) -> Routes:
    """Return who sees what among these monitors: the same table for every run, filled as runs go.

    It holds functions, not bound methods: those would have to be bound anew in each run, which took
    as long as the monitors of a short run need to judge it.
    """
    return {key: {} for key in KINDS}


def _key_of(event: Any) -> tuple[type[Any] | str, str]:
    """Return the kind of an event (of a change: its method), and its verb or name."""
    kind = type(event)
    if kind is Observed:
        change = "on_created" if event.before is None else "on_deleted" if event.after is None else "on_changed"
        return change, event.verb
    if kind is Return and event.outcome.kind is UNKNOWN:
        return "on_unknown", event.verb
    return kind, event.verb if kind in (Call, Return) else event.name


def _route(monitors: tuple[type[Monitor], ...], method: str, name: str) -> Route:
    return tuple([(watch, index) for index, one in enumerate(monitors) for watch in _watching((one,), method, name)])


@cache
def _watching(monitors: tuple[type[Monitor]], method: str, name: str) -> tuple[Callable[[Any, Any], None], ...]:
    """Return the methods of one monitor that see such an event: runs differ in which monitors they need."""
    (monitor,) = monitors
    wanted = (method, BESIDE.get(method, method))
    return tuple(
        getattr(monitor, one)
        for one in EVENT_METHODS
        if one in wanted and hasattr(monitor, one) and name in monitor.only.get(one, (name,))
    )


@cache
def _hearers(monitors: tuple[type[Monitor], ...], method: str) -> tuple[tuple[Callable[..., None], int], ...]:
    """Return who has a method that is called beside events, and where it stands among all."""
    return tuple([(getattr(one, method), index) for index, one in enumerate(monitors) if hasattr(one, method)])


class Judge:
    """Runs all monitors over a history as it grows. An event costs only those that want it."""

    __slots__ = ("_accepted", "_index", "_invariants", "_now", "_routes", "anomalies", "endless", "monitors")

    def __init__(
        self,
        invariants: tuple[Invariant, ...],
        rules: Rules,
        *,
        accepted: Mapping[str, tuple[Documented, ...]] = NOTHING,
    ) -> None:
        """Judge by these invariants; what the engine's own documentation accepts is passed over."""
        self._accepted = accepted
        self._invariants = invariants
        self.anomalies: list[Anomaly] = []
        self.endless = False
        """Whether it was seen that the run will never rest."""
        self._index = -1
        self._now: Instant = 0
        self.monitors: list[Monitor] = [
            invariant.make(rules, partial(self._breach, invariant)) for invariant in invariants
        ]
        self._routes = _known_routes(tuple(map(type, self.monitors)))

    def see(self, event: Event) -> None:
        """Show the next event of the history to everybody who wants it."""
        self._index += 1
        self._now = event.at
        # `_key_of`, written out: this is called for every event, and a call costs as much as what it looks up.
        seen: Any = event
        kind: Any = type(event)
        name = seen[5] if kind is Effect else seen[1] if kind is Phase else seen[2]
        if kind is Observed:
            kind = "on_created" if seen[4] is None else "on_deleted" if seen[5] is None else "on_changed"
        elif kind is Return and seen[5][0] is UNKNOWN:
            kind = "on_unknown"
        route = self._routes[kind].get(name)
        if route is None:
            route = self._route(kind, name)
        monitors = self.monitors
        for watch, index in route:
            watch(monitors[index], event)

    def watching(self, event: Event) -> Route:
        """Return who wants to see an event: each method, and the place of its monitor among all."""
        key, name = _key_of(event)
        route = self._routes[key].get(name)
        return self._route(key, name) if route is None else route

    def _route(self, key: type[Any] | str, name: str) -> Route:
        method = key if isinstance(key, str) else METHOD_OF[key]
        route = self._routes[key][name] = _route(tuple(map(type, self.monitors)), method, name)
        return route

    def rest(self, views: Mapping[JobId, JobView]) -> None:
        """Judge what must hold at rest."""
        self._tell("at_rest", views)

    def healed(self, views: Mapping[JobId, JobView]) -> None:
        """Tell that faults stop, and what jobs there are."""
        self._tell("healed", views)

    def without_rest(self) -> None:
        """Tell that a limit came instead of a rest."""
        self._tell("without_rest")

    def _tell(self, method: str, *arguments: Mapping[JobId, JobView]) -> None:
        monitors = self.monitors
        for told, index in _hearers(tuple(map(type, monitors)), method):
            told(monitors[index], *arguments)

    def forget(self, job: JobId) -> None:
        """Let the monitors forget a job that has come to its end, as an audit does that must not grow with its source.

        What they keep by job goes; should the job come back to life, they see it as one that they
        have not met.
        """
        for monitor in self.monitors:
            for memory in vars(monitor).values():
                if type(memory) is dict:
                    memory.pop(job, None)

    @property
    def idle(self) -> tuple[Invariant, ...]:
        """The invariants that have judged nothing so far, since what they watch for never came."""
        judged = zip(self._invariants, self.monitors, strict=False)  # none is left once they were dismissed
        return tuple(invariant for invariant, monitor in judged if monitor.idle)

    def dismiss(self) -> None:
        """Let the monitors go; what they reported stays."""
        self.monitors.clear()

    def report(self, name: str, invariant: str, message: str, *, job: JobId | None = None) -> None:
        """Take a breach of a rule that is no monitor's, such as a function of a test."""
        self.anomalies.append(Anomaly(name, invariant, self._now, max(self._index, 0), job, message))

    def _excused(self, name: str, job: JobId | None) -> bool:
        """Whether what is accepted covers this breach: here, no excuse names any circumstances."""
        return True

    def _breach(
        self,
        invariant: Invariant,
        name: str,
        message: str,
        *,
        job: JobId | None = None,
        others: Iterable[JobId] = (),
    ) -> None:
        """Take a breach that a monitor reports."""
        declared = [kind for kind in invariant.anomalies if kind.name == name]
        assert declared, f"{invariant.id} declares no anomaly {name!r}"
        if declared[0].endless:
            self.endless = True
            if any(anomaly.job == job for anomaly in self.anomalies):
                return
        if name in self._accepted and self._excused(name, job):
            return
        beside = tuple(other for other in others if other != job)
        self.anomalies.append(Anomaly(name, invariant.id, self._now, max(self._index, 0), job, message, beside))


class CircumstantialJudge(Judge):
    """Knows the circumstances of a breach too, for engines whose excuses name them. Others do not pay for it."""

    __slots__ = ("_event", "_statuses", "_struck")

    def __init__(
        self, invariants: tuple[Invariant, ...], rules: Rules, *, accepted: Mapping[str, tuple[Documented, ...]]
    ) -> None:
        """Judge as any other."""
        super().__init__(invariants, rules, accepted=accepted)
        self._event: Any = None
        """The one that is being judged; None: none is, the run is at rest."""
        self._statuses: dict[JobId, Status | None] = {}
        """How each job stood before that event."""
        self._struck: set[str] = set()

    def see(self, event: Event) -> None:
        """Show the next event to everybody who wants it, and keep what an excuse may ask for."""
        kind = type(event)
        if kind is Fault:
            self._struck.add(event.name)  # type: ignore[union-attr]
        self._event = event
        super().see(event)
        self._event = None
        if kind is Observed:
            after = event.after  # type: ignore[union-attr]
            self._statuses[event.job] = None if after is None else after.status  # type: ignore[union-attr, index]

    def _excused(self, name: str, job: JobId | None) -> bool:
        event = self._event
        verb = "rest" if event is None else getattr(event, "verb", getattr(event, "name", ""))
        status = self._statuses.get(job or "")
        if type(event) is Observed and event.job == job:
            status = None if event.before is None else event.before.status
        return any(item.covers(verb, status, self._struck) for item in self._accepted[name])


def judge_of(
    invariants: tuple[Invariant, ...], rules: Rules, *, accepted: Mapping[str, tuple[Documented, ...]]
) -> Judge:
    """Return the judge of a run on an engine that accepts this."""
    plain = all(any(item.anywhere for item in items) for items in accepted.values())
    return (Judge if plain else CircumstantialJudge)(invariants, rules, accepted=accepted)
