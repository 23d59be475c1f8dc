"""The two protocols that everything meets at, a queue under test and an application on it, and what an engine is.

A verb may be a plain method (one step), a generator (preempted, crashed or delayed at every `yield point(...)`) or an
`async def` (at every await that suspends). Each ends in an `Outcome`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from enum import StrEnum
from inspect import getattr_static
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from job_harness.core.history import Outcome
from job_harness.core.history.answers import DeclaredPart
from job_harness.core.model import (
    EXCUSED,
    Design,
    Duration,
    Instant,
    JobId,
    JobView,
    Json,
    Settings,
    Status,
    format_duration,
    json_problem,
)
from job_harness.errors import UsageError, did_you_mean


class Claim(NamedTuple):
    """A worker's right to settle one attempt of one job."""

    job: JobId
    attempt: int
    token: int
    worker: str
    tool: str
    lease_until: Instant


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a producer asks for. `start_after` is an instant of the producer's clock; None is at once."""

    id: JobId
    tool: str = "tool"
    input: Json = None
    priority: int = 0
    max_attempts: int | None = None
    start_after: Instant | None = None
    unique_key: str | None = None
    serial_key: str | None = None
    """At most one job with this key is PROCESSING, whatever its tool."""
    dead_letter: str | None = None
    """The tool that gets the input as a new job once this one is FAILED."""
    transaction: str | None = None
    """An open transaction: the job is there once that commits, and never if it does not."""
    lease: Duration | None = None
    """How long a claim of it lasts without a heartbeat; None: as long as the settings say. So with the next one."""
    retry_delay: Duration | None = None
    """The wait before its first retry, from which backoff goes on."""
    unique_for: Duration | None = None
    """Its unique key is held for at least so long after it was created, also once it has ended."""
    depends_on: tuple[JobId, ...] = ()
    """Jobs that were sent before, and have to be COMPLETED before it begins: once one of them has failed for good or is
    cancelled, so is it."""
    parent: JobId | None = None
    """A job that was sent before, has not begun, and waits for this one too."""
    group: str | None = None
    """Jobs with one group end in one callback, a job of the tool `tool`, after the last of them has ended."""
    group_size: int = 0
    """How many jobs its group has."""
    children: int | None = None
    """How many jobs it is to be split into, where the queue does that."""
    work: str | None = None
    """The piece of work that it is a part of, where that may take several jobs, as a Celery task does that retries."""

    def __repr__(self) -> str:
        """Write it as histories hold it: what was added later is left out where it asks for nothing."""
        told = [
            item.name for item in fields(self) if item.name not in _LATER or getattr(self, item.name) != item.default
        ]
        return f"JobRequest({', '.join(f'{name}={getattr(self, name)!r}' for name in told)})"

    @property
    def problem(self) -> str | None:
        """Why no store can hold it: an input that is no JSON, a name or a key that is no text; None: it can."""
        if problem := json_problem(self.input):
            return problem
        for name in ("tool", "unique_key", "serial_key", "dead_letter"):
            text = getattr(self, name)
            if text is not None and (problem := json_problem(text)):
                return f"{name}: {problem}"
        return None

    @property
    def key_for_all_tools(self) -> str | None:
        """Its unique key with the tool's name before it, for a library whose keys are shared by all tools."""
        return None if self.unique_key is None else f"{self.tool} {self.unique_key}"


_LATER: Final = frozenset(
    {"lease", "retry_delay", "unique_for", "work", "depends_on", "parent", "group", "group_size", "children"}
)
"""What requests could not ask for in the first release."""


class Missed(StrEnum):
    """What a look owes to slots that began since the one before, where that is more than one."""

    EACH = "each"
    """A job for each of them."""
    LATEST = "latest"
    """A job for the last of them; the others get none."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job for each slot. Slots are the multiples of `period` on the store's clock after the schedule was set.

    With a cron text, they are what that means in its time zone: five fields, six (seconds first),
    or `@daily` and its like. `period` is 0 then.
    """

    name: str
    period: Duration
    job: JobRequest
    """What each of its jobs asks for; their ids are the schedule's name and the number of the slot, from 1."""
    cron: str = ""
    zone: str = "UTC"
    missed: Missed = Missed.EACH

    def __repr__(self) -> str:
        """Write it as histories hold it."""
        calendar = f", cron={self.cron!r}, zone={self.zone!r}, missed={str(self.missed)!r}" if self.cron else ""
        return f"Schedule(name={self.name!r}, period={self.period!r}, job={self.job!r}{calendar})"

    @property
    def rhythm(self) -> tuple[Duration, str, str]:
        """What says when its slots are: one that is set again with the same keeps them."""
        return self.period, self.cron, self.zone

    def slot_name(self, slot: Instant) -> str:
        """Name a slot in a sentence: by its local time, and the cron text that means it, where there is one."""
        if not self.cron:
            return f"the slot {format_duration(slot)} of {self.name}"
        return f"the slot {self.local_time(slot)} of {self.name} ({self.cron!r} in {self.zone})"

    def local_time(self, at: Instant) -> str:
        """Write an instant as the clocks of its time zone show it: a cron text is about those."""
        from job_harness.core.calendars import local_time  # cronsim and zoneinfo, which most runs do without

        return local_time(self.zone, at)

    def latest(self, now: Instant) -> Instant:
        """Return the slot that began last; with a cron text the present, where no slot that counts began before."""
        return now if self.cron else now - now % self.period

    def following(self, after: Instant) -> Instant:
        """Return the first slot that begins after an instant."""
        if not self.cron:
            return self.latest(after) + self.period
        from job_harness.core.calendars import following_slot  # cronsim and zoneinfo, which most runs do without

        return following_slot(self.cron, self.zone, after)

    def slots(self, after: Instant, until: Instant) -> list[Instant]:
        """Return the slots that begin after one instant and not after the other, at most `MOST_SLOTS`, the last ones.

        A schedule that no scheduler looked at for years is not worth more.
        """
        if not self.cron:
            first = self.latest(after) + self.period
            return list(range(first, until + 1, self.period))
        found: deque[Instant] = deque(maxlen=MOST_SLOTS)
        slot = self.following(after)
        while slot <= until:
            found.append(slot)
            slot = self.following(slot)
        return list(found)


MOST_SLOTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a queue can do, as data. The harness skips, by name, what it cannot."""

    heartbeat: bool = False
    release: bool = False
    cancel: bool = False
    retry: bool = False
    priorities: bool = False
    unique: bool = False
    start_after: bool = False
    maintenance: bool = False
    """Two tables: reconcile, rescue and purge."""
    virtual_time: bool = False
    snapshot: bool = False
    fencing: bool = False
    concurrency_limits: bool = False
    rate_limits: bool = False
    serial_keys: bool = False
    dead_letters: bool = False
    transactions: bool = False
    schedules: bool = False
    inputs: bool = False
    """`JobView.input` tells what was sent."""
    results: bool = True
    """`JobView.output` and `error` tell how a job ended. A queue has this unless it says no, as the last two."""
    sessions: bool = False
    """Every actor has a database session of its own, so that lock waits and abandoned locks are real: `Sessions`."""
    takes_back_in_claim: bool = False
    """No `expire`: a claim takes, or fails for good, what a dead worker held, so idle workers ask when a lease ends."""
    final_errors: bool = True
    """A worker can say that another attempt is of no use; a queue that cannot be told so says no."""
    own_attempts: bool = True
    """A request's own `max_attempts` is kept; where a queue has one limit for all, it says no."""
    remote: bool = True
    """A request may reach it twice or late, and a worker that gets no reply repeats it; not so calls in a process."""
    own_leases: bool = False
    """A request's own `lease` is kept, and its worker keeps the job's own timeout."""
    own_delays: bool = False
    """A request's own `retry_delay` is kept."""
    unique_windows: bool = False
    """A request's own `unique_for` is kept."""
    worker_tools: bool = False
    """`claim` takes a third argument: the tools that the worker serves, all if there is none."""
    pausing: bool = False
    """Jobs of a tool can be held back and let go: `Pausing`."""
    calendars: bool = False
    """A schedule may have a cron text, a time zone and a policy for missed slots."""
    presets: bool = False
    """Its counters can be set ahead before the first job, the one of its waiting jobs included: `Presets`."""
    wide_values: bool = False
    """Priorities of 32 bits and names and keys of 300 characters are kept as they are, case and blanks included."""
    big_priorities: bool = False
    """Priorities of 64 bits are kept as they are."""
    blank_keys: bool = False
    """A unique key that is empty, or all blanks, is a key as any other."""
    flows: bool = False
    """A request's own `depends_on` is kept."""
    parents: bool = False
    """A request's own `parent` is kept."""
    groups: bool = False
    """A request's own `group` is kept, and each group has its callback."""
    splits: bool = False
    """A request is split into as many `children` as it asks for."""
    signals: bool = False
    """Its workers are processes that a signal tells to stop, and that a deploy replaces."""
    replica: bool = False
    """Its processes read from a replica of their database, which may lag."""
    any_settings: bool = False
    """It keeps whatever settings it is given: batches of any size, leases that only heartbeats keep, no wait at all."""

    def missing(self, needed: Iterable[str]) -> tuple[str, ...]:
        """List what is needed and not there."""
        return tuple(name for name in needed if not getattr(self, name))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """List the capabilities by name."""
        return tuple(item.name for item in fields(cls))


Reply: TypeAlias = Outcome | Awaitable[Outcome] | Generator[Any, Any, Outcome]


class QueueUnderTest(Protocol):
    """The verbs of a job queue. `now` is always the store's clock, never the caller's."""

    @property
    def capabilities(self) -> Capabilities:
        """What this queue can do."""

    def enqueue(self, request: JobRequest) -> Reply:
        """Accept a job: done with its id, or refused with the id of the unfinished job that holds the unique key."""

    def claim(self, worker: str, limit: int) -> Reply:
        """Take up to `limit` due jobs: done with a list of `Claim`, empty where none is due.

        With the capability `worker_tools` it is given the tools that the worker serves, where those
        are not all.
        """

    def heartbeat(self, claim: Claim) -> Reply:
        """Extend a lease; refused where the claim was taken back."""

    def complete(self, claim: Claim, output: Json) -> Reply:
        """Settle as a success; refused where the claim was taken back or JSON cannot hold the output."""

    def fail(self, claim: Claim, error: str, final: bool) -> Reply:
        """Settle as a failure; refused where the claim was taken back."""

    def release(self, claim: Claim) -> Reply:
        """Give the job back unrun, the attempt uncounted."""

    def cancel(self, job: JobId) -> Reply:
        """Cancel a job that is not terminal."""

    def retry(self, job: JobId) -> Reply:
        """Open a new attempt budget for a terminal job."""

    def expire(self) -> Reply:
        """Take back every claim whose lease ran out."""

    def reconcile(self) -> Reply:
        """Make both rows of every job agree."""

    def rescue(self) -> Reply:
        """Take back what is PROCESSING for longer than the stuck timeout."""

    def purge(self) -> Reply:
        """Delete terminal jobs past their retention."""

    def jobs(self) -> Mapping[JobId, JobView]:
        """Return all current jobs, oldest first."""

    def changed(self) -> Iterable[JobId] | None:
        """Return the jobs touched since the last call, or None where the engine does not know."""

    def close(self) -> None:
        """Give everything back. Never raises."""


class Transactional(Protocol):
    """By the capability `transactions`. A request names the transaction that it belongs to."""

    def begin(self, transaction: str) -> Reply:
        """Open a transaction under a name of the producer's."""

    def commit(self, transaction: str) -> Reply:
        """Make its jobs visible, all at once; refused, and all of them gone, where one of them cannot be."""

    def rollback(self, transaction: str) -> Reply:
        """Forget its jobs."""


class Scheduling(Protocol):
    """By the capability `schedules`. Two schedulers tick the same queue."""

    def schedule(self, schedule: Schedule) -> Reply:
        """Set a schedule; setting it again changes what its next jobs ask for."""

    def unschedule(self, name: str) -> Reply:
        """End a schedule; its jobs stay."""

    def tick(self, instance: str) -> Reply:
        """Make the job of every slot that has begun and has none: done with their ids."""


class Pausing(Protocol):
    """By the capability `pausing`. What runs when its tool is paused runs on, and may be retried afterwards."""

    def pause(self, tool: str) -> Reply:
        """Hold back the jobs of a tool: no claim gives one, until `unpause`."""

    def unpause(self, tool: str) -> Reply:
        """Let go of the jobs of a tool, those that came meanwhile included."""


COUNTERS: Final = ("token", "put_off")
"""What can be set before the first job."""


class Presets(Protocol):
    """By the capability `presets`."""

    def preset(self, counter: str, value: int) -> Reply:
        """Set one of `COUNTERS` before the first job.

        `token` is what the tokens of new jobs are counted from. `put_off` is how many jobs wait already, of the tool
        `tool`, older than all others, for a day that no run comes to: `changed()` says nothing of them.
        """


class Sessions(Protocol):
    """What a queue answers beside its verbs where every actor has a database session of its own."""

    def on_behalf(self, actor: str) -> QueueUnderTest:
        """Return the queue as this actor's session reaches it."""

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's session from it; return what drops the session, and with it the locks."""

    def made_at(self) -> Instant:
        """Return the store's clock at the first statement of the transaction that ended last."""

    def leftovers(self) -> Iterable[str]:
        """Say, one sentence each, what actors left open in their sessions."""


class OwnUpkeep(Protocol):
    """What a queue answers beside its verbs where `expire` does more than take back leases."""

    def next_upkeep(self) -> Instant | None:
        """Tell when `expire` next has something to do beside leases: None, nothing."""


class EngineClocks(Protocol):
    """What an engine may know of time: the store's clock, and, for queues that wrongly use it, a caller's."""

    def store(self) -> Instant: ...

    def of(self, actor: str) -> Instant: ...


class Engine(Protocol):
    """Opens queues. One engine serves many runs, one after the other."""

    @property
    def info(self) -> EngineInfo:
        """All that an engine declares beyond its verbs."""

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> QueueUnderTest:
        """Return an empty queue under these settings."""

    def close(self) -> None:
        """Give everything back. Never raises."""


class Known(NamedTuple):
    """What a scenario shows on an engine, and where that is told: found, recorded, and not excused."""

    anomalies: frozenset[str]
    """It shows these and no others."""
    place: str


@dataclass(frozen=True, slots=True)
class Documented:
    """An anomaly that an engine documents as its behaviour, and the circumstances in which it does.

    All circumstances that are named must hold; outside of them the anomaly is reported like any
    other. A documented late result excuses no result that is taken twice while every worker was on
    time.
    """

    place: str
    """Where it is documented."""
    _: KW_ONLY
    verbs: frozenset[str] = frozenset()
    """The verbs in which it shows, or `rest` for what is judged at rest; empty: any."""
    states: frozenset[Status] = frozenset()
    """The statuses that its job had just before; empty: any."""
    faults: frozenset[str] = frozenset()
    """What went wrong before, one of these, by the name in the history: `crash`, `pause`, `lose reply`; empty: nothing
    need have. In a complete search, anything that went wrong on any path so far counts."""
    scenario: str = ""
    """The file of a scenario that shows it."""

    def covers(self, verb: str, status: Status | None, faults: Collection[str]) -> bool:
        """Say whether the circumstances are those that the engine documents."""
        return (
            (not self.verbs or verb in self.verbs)
            and (not self.states or status in self.states)
            and (not self.faults or not self.faults.isdisjoint(faults))
        )

    @property
    def anywhere(self) -> bool:
        """Whether it names no circumstances."""
        return not (self.verbs or self.states or self.faults)


@dataclass(frozen=True, slots=True)
class Contract:
    """Where an engine says that it differs from this project: what is documented is no anomaly."""

    documented: Mapping[str, str | Documented | tuple[Documented, ...]] = field(default_factory=dict)
    """Anomalies that it documents as its behaviour; they are not reported.

    A `Documented` names the circumstances too, several name alternatives; a text names only the
    place, and then the anomaly is never reported.
    """
    differences: Mapping[str, str] = field(default_factory=dict)
    """Scenarios (`theme/name`) that expect something else than it documents, each with the place where it does.

    It excuses what a scenario expects, and no anomaly. `theme/name [control]` is a control that
    finds nothing there.
    """
    known: Mapping[str, Known] = field(default_factory=dict)
    """Scenarios that are known to break a promise there, each with the anomalies and the place where that is told."""
    effective: Callable[[Settings], Settings] = lambda settings: settings
    """Returns the settings as it can keep them: what it has no way to set is what it does instead."""
    fixed: frozenset[str] = frozenset()
    """Settings that it has no way to take: a scenario that sets one of them otherwise is not judged there."""
    fixed_where: Mapping[str, str] = field(default_factory=dict)
    """Of what is fixed, where that is written and what to do to change it."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Settings that change nothing there, each with what it does instead and the place where that is told.

    A scenario that sets one is judged all the same, under what is `effective`; who asks for one by
    name is refused.
    """
    intended: Mapping[str, str] = field(default_factory=dict)
    """Of what is documented, what the user's own file says is meant to be so, each with the reason."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """What cannot be judged there, each with the reason: anomalies that a run cannot show, whatever its queue does."""
    file: str = ""
    """The user's own file in which `without` names what is intended; empty: there is none."""
    notes: tuple[str, ...] = ()
    """What that file describes otherwise than the user's code may do it."""
    doubts: Mapping[str, str] = field(default_factory=dict)
    """By anomaly, why it may be that file and not the queue that shows it."""
    doublings: int | None = None
    """How often it doubles a retry delay at most; None: as often as there are retries, up to the longest delay."""
    granularity: Duration = 0
    """Within how long two instants may be one to it: it leaves a job that is due only now, or a token is a time."""
    longest: Mapping[str, Duration] = field(default_factory=dict)
    """By setting that it lengthens by chance, the longest that may come of it; the setting is the shortest."""
    oldest_first: bool = True
    """Whether it says that of two due jobs of one priority the older one is taken first."""
    operators: frozenset[str] = frozenset()
    """Actors of an application that stand for an operator: what has ended they may bring back."""
    period: Callable[[Duration], Duration] = lambda period: period
    """Returns the period of a schedule as it can keep it."""
    designs: frozenset[Design] = frozenset()
    """How it differs on purpose: monitors and actors take each as it is."""
    alive_for: Duration | None = None
    """For how long a scheduler's look counts as a sign of life: none is left out for longer; None: a look is none."""
    slot_due: tuple[Duration, Duration] | None = None
    """A look makes the job of a slot that began so long ago, from the first to before the second; None: of any."""
    schedules: tuple[Schedule, ...] = ()
    """What an application makes jobs by, of its own accord."""

    @property
    def excuses(self) -> Mapping[str, tuple[Documented, ...]]:
        """By anomaly, what is documented of it."""
        by_design = {
            name: (Documented(f"design: {design}"),) for design in self.designs for name in EXCUSED.get(design, ())
        }
        return by_design | {
            name: (Documented(told),) if isinstance(told, str) else (told,) if isinstance(told, Documented) else told
            for name, told in self.documented.items()
        }

    @property
    def never_reported(self) -> frozenset[str]:
        """The anomalies that it documents in any circumstances."""
        return frozenset(name for name, told in self.excuses.items() if any(item.anywhere for item in told))

    def held(self, settings: Settings) -> Settings:
        """Return the settings with what is fixed as it is."""
        return self.effective(settings) if self.fixed else settings

    def refuse(self, changes: Mapping[str, Any]) -> None:
        """Raise UsageError where these changes, by setting, would not be made: what is fixed or ignored."""
        own = self.effective(Settings()) if changes else None
        for name, value in changes.items():
            if value == getattr(own, name):
                continue
            if name in self.fixed:
                raise UsageError(f"--set {name}: {self.fixed_where.get(name, f'the target fixes {name}')}")
            if name in self.ignored:
                raise UsageError(
                    f"--set {name}: it changes nothing on this engine: {self.ignored[name]}",
                    hint="Leave it out, or name an engine that has this setting, such as memory.",
                )


class Application(Protocol):
    """The processes at work on a queue."""

    def clients(self, world: Any) -> Mapping[str, Callable[[], Generator[Any, Any, None]]]:
        """Return a factory for each client by name: who asks from outside, and is no process that may crash."""

    def actors(self, world: Any) -> Mapping[str, Callable[[], Generator[Any, Any, None]]]:
        """Return a factory for each actor by name; the harness calls it again after a crash.

        A process of coroutines is a `job_harness.core.sim.carrier.CarriedProcess`: see
        `ActorServices.carrier`.
        """


@dataclass(frozen=True, slots=True)
class ShownFacts:
    """What an application shows of itself: by what it can be judged."""

    columns: frozenset[str] = frozenset()
    """What is seen of a job."""
    settings: frozenset[str] = frozenset()
    """Those that it says to keep to."""
    actions: frozenset[str] = frozenset()
    """What an operator can ask for."""
    schedules: bool = False
    """Whether it says when its slots begin."""
    sent: bool = False
    """Whether its requests ask for more than a job."""
    also: frozenset[str] = frozenset()
    """Invariants that programs which are right may break, and that it keeps."""


ALL_SHOWN: Final = ShownFacts(frozenset(JobView._fields) - {"dead_of"}, frozenset(Settings.names()))
"""What an application shows whose rows are whole views, under the settings of the harness; dead letters are extra."""


def _all_shown() -> ShownFacts:
    return ALL_SHOWN


def _nothing_to_prepare() -> None:
    return None


def _from_nowhere() -> str:
    return ""


class Sent(NamedTuple):
    """One statement that an actor sent, or a command of another store."""

    actor: str
    """Who sent it; empty: the actor that called the verb."""
    gate: str
    """As gates name it: `update tool_job`."""
    sql: str
    """Its text, without the values of its parameters."""
    place: str = ""
    """From which line of the user's own code, as `app.py:47`; empty where that is not known."""


class WrittenSource(NamedTuple):
    """Where that is written which caused an anomaly."""

    title: str
    """`file:line`, or the statement and from where it was sent."""
    lines: tuple[str, ...] = ()
    """The text that stands there."""
    matters: int = 0
    """The line of it, from 0, that an excerpt shows."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """All that an engine may have beyond its verbs, declared in one value: see docs/contracts/engine_info.md.

    Nothing else about an engine or its queues is ever looked for. What is not declared is not
    there.
    """

    name: str
    """What reports call it, with its version: `pgboss@10.4.2`."""
    capabilities: Capabilities
    """What its queues can do."""
    contract: Contract = Contract()
    """Where it says that it differs from this project; one that says nothing promises everything."""
    settings: Settings | None = None
    """What it runs under unless the user says otherwise."""
    application: Application | None = None
    """Who works on its queues in the place of the stock actors, unless a session names others."""
    stepped: Application | None = None
    """Who is at work in the place of `application` where actors are set back, step by step: generators throughout."""
    processes: Callable[[Any], Application] | None = None
    """Returns the `Application` that an opened queue brings along: its own processes, which no verb of ours drives."""
    shows: Callable[[], ShownFacts] = _all_shown
    """Tells what those show of their jobs: they are judged by no more than that."""
    declared: tuple[DeclaredPart, ...] = ()
    """What the target says of itself and a search has to come to."""
    next_upkeep: Callable[[Any], Instant | None] | None = None
    """Tells when `expire` next has something to do on this queue beside leases; None: nothing. See `OwnUpkeep`."""
    prepare: Callable[[], None] = _nothing_to_prepare
    """Installs and starts now what the first run would; raises EnvironmentUnavailable where that is impossible."""
    provenance: Callable[[], str] = _from_nowhere
    """Says where the server came from and why; empty while there is none, or where it needs none."""
    confirm: Callable[[], None] = _nothing_to_prepare
    """Looks, at the end of each run, whether what it stands on (a server, a peer) is there as when the run began.

    Raises EnvironmentUnavailable where it is not: then nothing that the run showed is held against
    the queue.
    """
    fails_over: Callable[[], None] = _nothing_to_prepare
    """Leaves the server as an outage of the store does that loses no data: a restart, or a failover to a replica."""
    safeguards: Mapping[str, Callable[[], Engine]] = field(default_factory=dict)
    """By name, opens the same engine with one safeguard more, on the same server: that one is closed last."""
    written: Callable[[str, str], WrittenSource | None] = lambda gate, sql: None
    """Returns how a verb, or a statement that was sent at a gate, is written; its text may be empty, if not known."""
    sessions: Callable[[], Engine] | None = None
    """Opens the same engine with a database session for every actor (`--sessions`); None: it has no such mode."""
    statements: Callable[[Any], Sequence[Sent]] | None = None
    """Returns, of this queue, the SQL that was sent since it was last asked; None: what is sent is not seen."""
    promises: tuple[Any, ...] = ()
    """Invariants of its own (`core.invariants.Invariant`), judged in every run beside those of the catalogue."""
    undisturbed: Callable[[Any], None] | None = None
    """Judges a run (`core.run.verdict.Run`) in which nothing goes wrong and one job is sent, before a search.

    Raises a HarnessError where nothing could be judged in any other run; None: there is nothing to
    look at.
    """
    zones: tuple[str, ...] = ()
    """Time zones that its statements name: in some runs jobs are sent shortly before their clocks are changed."""
    makes_values: bool = False
    """Its queues are in another process, which makes the values that JSON cannot say: see `conformance.outcomes`."""

    def __post_init__(self) -> None:
        """Raises UsageError for a value of the wrong type."""
        for field_name, (kinds, words) in _KINDS.items():
            value = getattr(self, field_name)
            if not isinstance(value, kinds):
                raise UsageError(
                    f"EngineInfo.{field_name} is {value!r:.80}, and has to be {words}",
                    hint="See docs/contracts/engine_info.md for what each field says.",
                )


_KINDS: Final[Mapping[str, tuple[Any, str]]] = {
    "name": (str, "text"),
    "capabilities": (Capabilities, "a Capabilities"),
    "contract": (Contract, "a Contract"),
    "settings": (Settings | None, "a Settings or None"),
    "processes": (Callable | None, "a function of the queue, or None"),
    "shows": (Callable, "a function without arguments"),
    "next_upkeep": (Callable | None, "a function of the queue, or None"),
    "prepare": (Callable, "a function without arguments"),
    "provenance": (Callable, "a function without arguments"),
    "confirm": (Callable, "a function without arguments"),
    "fails_over": (Callable, "a function without arguments"),
    "safeguards": (Mapping, "a mapping from names to functions without arguments"),
    "written": (Callable, "a function of a verb's name"),
    "sessions": (Callable | None, "a function without arguments, or None"),
    "statements": (Callable | None, "a function of the queue, or None"),
    "promises": (tuple, "a tuple of Invariants"),
    "undisturbed": (Callable | None, "a function of a run, or None"),
    "zones": (tuple, "a tuple of names"),
    "makes_values": (bool, "True or False"),
}


class AdaptedEngine:
    """An engine of which something else is said than it says itself."""

    def __init__(self, engine: Any, info: EngineInfo) -> None:
        """Open what `engine` opens, under this info."""
        self.info = info
        self.open: Callable[..., QueueUnderTest] = engine.open
        self.close: Callable[[], None] = engine.close


def as_stepped(engine: Engine) -> Engine:
    """Return an engine as an exhaustive search steps it: with actors that can be set back at work on its queues."""
    info = engine.info
    return engine if info.stepped is None else AdaptedEngine(engine, replace(info, application=info.stepped))


def without_anomalies(engine: Engine, names: Iterable[str], *, why: str) -> Engine:
    """Return an engine of which these anomalies are not reported, as if it documented them; `why` is the place."""
    info = engine.info
    documented = {**info.contract.documented, **dict.fromkeys(names, why)}
    if documented == dict(info.contract.documented):
        return engine
    return AdaptedEngine(engine, replace(info, contract=replace(info.contract, documented=documented)))


_ALWAYS: Final = ("enqueue", "claim", "complete", "fail", "expire", "jobs")
_BY_CAPABILITY: Final[Mapping[str, tuple[str, ...]]] = {
    "heartbeat": ("heartbeat",),
    "release": ("release",),
    "cancel": ("cancel",),
    "retry": ("retry",),
    "maintenance": ("reconcile", "rescue", "purge"),
    "transactions": ("begin", "commit", "rollback"),
    "pausing": ("pause", "unpause"),
    "presets": ("preset",),
    "schedules": ("schedule", "unschedule", "tick"),
    "sessions": ("on_behalf", "sever", "made_at", "leftovers"),
}
"""By capability, the methods that a queue which declares it has."""
_OPENED: Final = ("changed", "close")
"""What the queue of an engine has besides; a queue that a target makes may leave it out."""


class IncompleteQueue(UsageError):
    """A queue lacks a method that it needs, so nothing can be run on it."""


def refuse_incomplete(queue: object, capabilities: Capabilities, *, made_by: str, opened: bool = False) -> None:
    """Raise IncompleteQueue with the name of its class if a queue lacks a method that it, or a capability, needs."""
    needed = dict.fromkeys((*_ALWAYS, *(_OPENED if opened else ())), "every queue")
    by_session = opened and capabilities.sessions  # then `on_behalf` of an actor returns what has the verbs
    if by_session:
        needed = dict.fromkeys(("jobs", *_OPENED), "every queue")
    for capability, verbs in _BY_CAPABILITY.items():
        if getattr(capabilities, capability) and (not by_session or capability == "sessions"):
            needed.update(dict.fromkeys(verbs, f"its capability {capability}"))
    missing = [verb for verb in needed if not callable(getattr(queue, verb, None))]
    if missing:
        own = [verb for verb in dir(queue) if not verb.startswith("_") and verb not in needed]
        told = ", ".join(f"{verb}, which {needed[verb]} needs{did_you_mean(verb, own)}" for verb in missing)
        raise IncompleteQueue(
            f"{made_by} returned {type(queue).__name__}, which lacks {told}",
            hint="Each verb returns an Outcome; jobs() returns a mapping of JobView; changed() and close() may do "
            "nothing. See docs/write_an_adapter.md.",
        )


def as_engine(found: Any) -> Engine:
    """Return what another package made as an engine. Raises UsageError if it is none, or whatever `info` raises."""
    if missing := [name for name in ("info", "open", "close") if not _has(found, name)]:
        raise UsageError(
            f"{type(found).__name__} has no {' and no '.join(missing)}",
            hint="An engine has info, open and close; see docs/write_an_adapter.md.",
        )
    if not isinstance(found.info, EngineInfo):
        raise UsageError(
            f"{type(found).__name__}.info is {found.info!r:.80}, which is not an EngineInfo",
            hint="Write info = EngineInfo(name, capabilities), from job_harness.core.port.",
        )
    engine: Engine = found
    return engine


def _has(found: Any, name: str) -> bool:
    """Whether an attribute is there, even one that is a property and raises: `hasattr` would take that for absence."""
    return getattr_static(found, name, None) is not None or hasattr(found, name)
