"""A recorded incident as the goal of a search: what is known of its job must happen to one job of a run, in that order.

The recorded facts are constraints; everything that no source says is free. Knows events and runs,
and nothing of where a record comes from. Times are compared by order: hosts share no clock, and a
run has other settings. Where it has the same claims, what was short in the record is short in the
run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from statistics import median
from typing import Any, Final, NamedTuple

from job_harness.core.faults import FaultKind, FaultPlan, read_option
from job_harness.core.faults.clocks import CLOCK_DRIFT, CLOCK_OFFSET, LATENESS
from job_harness.core.faults.messages import ABORTED_STATEMENT, DELAYED_MESSAGE, DUPLICATE, LOST_MESSAGE
from job_harness.core.faults.outages import OUTAGE
from job_harness.core.faults.processes import CRASH, DEPLOY, PAUSE, SHUTDOWN
from job_harness.core.history import Call, Effect, Event, Observed
from job_harness.core.invariants import gravity
from job_harness.core.model import Duration, Instant, JobId, JobView, QueueState, Settings, Status
from job_harness.core.model.moments import moments
from job_harness.core.port import AdaptedEngine, Capabilities, Engine
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import Ending, JobPlan, Span
from job_harness.core.scenario.scenario import RESTART_AFTER, AuditPlan, Scenario
from job_harness.core.sim import ORDER, Choices
from job_harness.review.audit.judging import as_recorded, claimed_together
from job_harness.search.strategy import PLACES, SEED_STRIDE, UNCLAIMED, OneFaultChoices, RunPolicy
from job_harness.search.workload import JOBS, WORKERS, Drawn

MOST_TRIED: Final = 20_000
"""How often it is tried to fit facts to events: beyond it a longer history would take for ever."""
STEPS: Final = (250, 600, 250, 2_000)
"""Of runs in a row: an incident is short, and many runs of a queue never come to rest."""


LONGEST_MOMENT: Final = "a lease + a retry"
"""How long a fault lasts that is put in the place of another: until others may have taken the job over."""


# what may have gone wrong ---------------------------------------------------------------------------------------------


class IncidentCause(NamedTuple):
    """One thing that may have gone wrong. A run that looks for it has few jobs, and no other fault."""

    words: str
    faults: tuple[FaultKind, ...]
    tells: str
    """What has to be recorded to tell it from the others."""
    work: tuple[tuple[str, Any], ...] = ()
    """How the work of one job comes to it, by the keys of its plan."""

    def in_place_of(self, scenario: Scenario) -> Iterator[Scenario]:
        """Return a run's scenario with each of its faults where another one struck, or in the work of each job."""
        struck = [number for number, each in enumerate(scenario.tape) if read_option(each.option).kind not in ORDER]
        phrases = [phrase for kind in self.faults for phrase in kind.words] if len(struck) == 1 else []
        plain = replace(scenario, tape=tuple(each for place, each in enumerate(scenario.tape) if place not in struck))
        for number, job in enumerate(scenario.jobs):
            changed = replace(job, **{"outcomes": (Ending.SUCCEED,), **dict(self.work)}) if self.work else job
            if changed != job:
                yield replace(plain, jobs=(*scenario.jobs[:number], changed, *scenario.jobs[number + 1 :]))
        for number, phrase in product(struck, phrases):
            option = phrase.option("", phrase.gravest or LONGEST_MOMENT if phrase.timed else "").words
            tape = list(scenario.tape)
            tape[number] = tape[number]._replace(option=option)
            yield replace(scenario, tape=tuple(tape))


PAUSED: Final = IncidentCause("a process that stood still", (PAUSE,), "a sign of life of each process every second")
DIED: Final = IncidentCause("a process that died", (CRASH,), "when each process started and ended, with its exit code")
REPLACED: Final = IncidentCause(
    "a worker that was told to stop", (SHUTDOWN, DEPLOY), "when each process was told to stop"
)
UNHEARD: Final = IncidentCause(
    "a message that was lost, late or doubled",
    (LOST_MESSAGE, DELAYED_MESSAGE, DUPLICATE, ABORTED_STATEMENT),
    "the errors of each process",
)
CUT_OFF: Final = IncidentCause(
    "a store that was out of reach", (OUTAGE,), "the connections of each process to the store"
)
LONG: Final = IncidentCause(
    "work that took long",
    (),
    "a span for each request that the work makes",
    (("takes", (Span(factor=1.1, setting="lease"),)),),
)
FAILED: Final = IncidentCause("work that failed", (), "the error of each attempt", (("outcomes", (Ending.FAIL,)),))
AGAIN: Final = IncidentCause("a job that was sent again", (), "each request that sends a job, with its key")
TIME: Final = IncidentCause(
    "clocks or timers that were wrong", (LATENESS, CLOCK_OFFSET, CLOCK_DRIFT), "the clock of each host"
)
DRAWN: Final = IncidentCause("several of these together", (), "")
CAUSES: Final = (PAUSED, DIED, UNHEARD, FAILED, LONG, AGAIN, CUT_OFF, REPLACED, TIME)
"""In this order, which is that of how rarely each would explain a record by mistake."""


def causes_of(scenario: Scenario) -> list[IncidentCause]:
    """Return by which causes a run comes about."""
    struck = {read_option(deviation.option).kind for deviation in scenario.tape}
    found = [each for each in CAUSES if any(kind.id in struck for kind in each.faults)]
    endings = {ending for job in scenario.jobs for ending in job.outcomes}
    longest = max((span.resolve(scenario.settings) for job in scenario.jobs for span in job.takes), default=0)
    keys = [job.unique_key for job in scenario.jobs if job.unique_key is not None]
    own = {
        DIED: Ending.EXIT in endings,
        FAILED: not endings <= {Ending.SUCCEED, Ending.HANG, Ending.EXIT},
        LONG: Ending.HANG in endings or longest >= scenario.settings.lease,
        AGAIN: len(keys) > len(set(keys)) or any(job.retry_after is not None for job in scenario.jobs),
    }
    return [each for each in CAUSES if each in found or own.get(each, False)]


FIRST_RUNS: Final = 6
"""Of runs in a row that look for one cause, in the first round; each round is twice as long as the one before."""
LIKELY: Final = 4
"""A cause for which there is evidence gets this many times more."""
SHORT: Final = 4
"""What took less than this part of a claim was not held up until the claim ended."""
UNLIKE: Final = 1.5
"""If of two runs of a job one took this much longer than another, something held it up."""
LENGTHS: Final = (0.2, 0.01, 0.6)
"""How long work takes of which nothing is known, as a part of its claim."""
COUNTS: Final = (1, 2, 1, 3)
"""Of jobs, in runs in a row."""


# what is recorded -----------------------------------------------------------------------------------------------------


class Happening(NamedTuple):
    """What happened to a job, in the words that records and runs share."""

    before: Status | None
    after: Status | None
    run: str = ""
    """`begins`, `succeeds` or `fails`, where it is about a run and not about a row."""
    again: bool = False
    """Whether a running job was claimed anew."""

    @property
    def is_worker(self) -> bool:
        """Whether only who works on a job does this."""
        return bool(self.run) or self.again or self.after in (Status.PROCESSING, Status.COMPLETED)

    def __str__(self) -> str:
        if self.run:
            return f"a run {self.run}"
        if self.again:
            return "claimed again"
        return f"{self.before or 'sent,'} {'' if self.before is None else '-> '}{self.after or 'deleted'}"


def happening(event: Event) -> Happening | None:
    """Return what an event is; None where it neither changes a status nor begins or ends a run."""
    if type(event) is Effect:
        if event.name == "started":
            return Happening(None, None, "begins")
        return (
            Happening(None, None, "succeeds" if event.data == "success" else "fails") if event.name == "ended" else None
        )
    if type(event) is not Observed:
        return None
    before, after = (None if view is None else view.status for view in (event.before, event.after))
    if before is Status.PROCESSING and after is None:
        after = Status.COMPLETED  # Some queues end a job by deleting its row.
    if before is not after:
        return Happening(before, after)
    anew = after is Status.PROCESSING and _claim(event.before) != _claim(event.after)
    return Happening(before, after, again=True) if anew else None


def _attempt(event: Event) -> int | None:
    after = event.after if type(event) is Observed else None
    return after.attempts or None if after is not None and after.status is Status.PROCESSING else None


def _claim(view: JobView | None) -> object:
    return None if view is None else (view.token, view.started_at)


class Fact(NamedTuple):
    """One recorded event."""

    at: Instant
    who: str
    """Empty: not recorded."""
    what: Happening
    attempt: int | None = None
    """Which attempt this began; None where that is not recorded, or it began none."""


class Chain(NamedTuple):
    """What one source says of a job, in its order: between sources no clock is shared."""

    facts: tuple[Fact, ...]
    complete: bool = False
    """Whether nothing else happened in between that is of the same kind."""


class Rows(NamedTuple):
    """What the two tables say of a job at one time."""

    status: Status | None
    queue_state: QueueState | None

    def __str__(self) -> str:
        return f"{self.status or 'no row'}, queue {self.queue_state or 'no row'}"


class Disagreement(NamedTuple):
    """How the two rows of a job stood when they were recorded, and those of the jobs that were claimed with it."""

    own: Rows
    batch: Mapping[JobId, Rows]
    """By job, its own among them."""
    lasted: Duration
    """For how long they had stood so."""
    since_claim: Duration | None = None
    """How long ago the job had been claimed."""

    def stand_ins(self, events: Sequence[Event], job: JobId, at: Instant) -> Iterator[tuple[JobId, Rows, list[JobId]]]:
        """Return each other job of a run that was claimed with this one, and the recorded ones that stood as it did."""
        for each, view in claimed_together(events, job, at).items():
            rows = Rows(view.status, view.queue_state)
            if each != job and (alike := [one for one, its in self.batch.items() if its == rows]):
                yield each, rows, alike

    def shows(self, events: Sequence[Event], job: JobId, *, within: Duration | None = None) -> bool:
        """Whether a job of a run stood so for as long, and then each of its batch as one of that of the record.

        It has to come to it `within` this time from its claim on.
        """
        own = [event for event in events if type(event) is Observed and event.job == job]
        for event, end in zip(own, [*(later.at for later in own[1:]), events[-1].at + 1], strict=True):
            if event.after is None or Rows(event.after.status, event.after.queue_state) != self.own:
                continue
            if within is not None and event.at - (event.after.started_at or event.at) > within:
                continue
            first = event.at + self.lasted
            times = [first, *(each.at for each in events if first < each.at)]
            for now in (each for each in times if each < end):
                batch = claimed_together(events, job, now).values()
                if {Rows(view.status, view.queue_state) for view in batch} == {*self.batch.values()}:
                    return True
        return False


class Fitted(NamedTuple):
    """How far a run agrees with the record."""

    places: tuple[tuple[int, ...], ...]
    """By chain, and by fact in it from the first one on, the index of its event in the run."""
    job: JobId

    @property
    def facts(self) -> int:
        """How many recorded events are events of the run."""
        return sum(map(len, self.places))


NOTHING: Final = Fitted((), "")


def facts_of(events: Iterable[Event], *, until: Instant, complete: bool, unknown: str) -> Chain:
    """Return what a source says of one job until then. Of spans only runs: the rows told beside them are inferred."""
    known = [(event, what) for event in events if (what := happening(event)) is not None]
    runs = any(what.run for _, what in known)
    told = [
        Fact(event.at, "" if (who := str(getattr(event, "actor", ""))) == unknown else who, what, _attempt(event))
        for event, what in known
        if bool(what.run) is runs and event.at <= until
    ]
    alone = (fact for place, fact in enumerate(told) if place == 0 or fact != told[place - 1])
    return Chain(tuple(alone), complete)


def life_at(story: Sequence[Event], at: Instant) -> list[Event]:
    """Return what happened to the job that had its id at this time, where several had it one after the other."""
    sent = [place for place, event in enumerate(story) if type(event) is Observed and event.before is None]
    first = max((place for place in sent if story[place].at <= at), default=0)
    return [*story[first : min((place for place in sent if place > first), default=len(story))]]


def changes_lost(story: Iterable[Event]) -> int:
    """Count the changes between which some are missing: then what is told is not all that happened in between."""
    last, count = None, 0
    for event in story:
        if type(event) is Observed:
            count += last is not None and event.before is not None and event.before.status is not last
            last = None if event.after is None else event.after.status
    return count


def fit(chains: Iterable[Chain], run: Run, job: JobId) -> Fitted:
    """Fit what sources say to the events of a job."""
    return Fitted(tuple(_fit_chain(chain, run, job) for chain in chains), job)


def _fit_chain(chain: Chain, run: Run, job: JobId) -> tuple[int, ...]:
    """Fit facts to events in the same order, where each recorded worker is one actor of the run."""
    facts = chain.facts
    runs = any(fact.what.run for fact in facts)
    events = [(*each, _attempt(run.history.events[each[0]])) for each in _happenings(run, job, of_runs=runs)]
    told_by = {fact.who for fact in facts if fact.what.before is None and not runs}
    senders = {*_senders(run)}
    best: list[int] = []
    tried = 0

    def extend(fact: int, event: int, chosen: list[int], names: dict[str, str]) -> bool:
        nonlocal best, tried
        tried += 1
        if len(chosen) > len(best):
            best = list(chosen)
        if fact == len(facts):
            return True
        if tried > MOST_TRIED:
            return False
        wanted = facts[fact]
        left: Iterable[int] = range(event, len(events))
        # A row tells which attempt a claim began, and not what the status was before: then the attempt is what counts.
        known = None if chain.complete else wanted.attempt
        if known is not None:
            left = sorted(left, key=lambda index: events[index][3] != known)
        for index in left:
            place, actor, what, attempt = events[index]
            fits = what == wanted.what or (known is not None and attempt == known)
            if not fits or not _may_be(wanted, actor, names):
                continue
            if wanted.who and wanted.who in told_by and not what.is_worker and actor not in senders:
                continue  # Who sends jobs did this, and no queue or worker.
            if chain.complete and fact and index != event:
                return False
            now = {**names, wanted.who: actor} if wanted.who and what.is_worker else names
            if extend(fact + 1, index + 1, [*chosen, place], now):
                return True
        return False

    extend(0, 0, [], {})
    return tuple(best)


def _senders(run: Run) -> Iterator[str]:
    """Return who sends jobs; one whose job the queue refused may have changed another."""
    for event in run.history.events:
        if (type(event) is Observed and event.before is None) or (type(event) is Call and event.verb == "enqueue"):
            yield event.actor


def _happenings(run: Run, job: JobId, *, of_runs: bool) -> Iterator[tuple[int, str, Happening]]:
    """Return what happened to a job, with its place in the history and who did it: its runs alone, or its row alone."""
    for place, event in enumerate(run.history.events):
        if (type(event) is Observed or type(event) is Effect) and event.job == job:
            what = happening(event)
            if what is not None and bool(what.run) is of_runs:
                yield place, event.actor, what


def _may_be(fact: Fact, actor: str, names: dict[str, str]) -> bool:
    if not fact.who or not fact.what.is_worker:
        return True
    return names[fact.who] == actor if fact.who in names else actor not in names.values()


@dataclass(frozen=True, slots=True)
class Incident:
    """What is known of what went wrong."""

    anomalies: frozenset[str]
    """Any of these, on the job that the facts are about."""
    chains: tuple[Chain, ...]
    """What each source says, that which shows the anomaly first."""
    happened: frozenset[Happening] = frozenset()
    """All that is recorded, what came after the anomaly too."""
    max_attempts: int | None = None
    lease: Duration | None = None
    """How long a claim lasted, where the record says so."""
    usual: Duration | None = None
    """How long a run takes that nothing went wrong with: of other jobs of its kind."""
    own: tuple[Duration, ...] = ()
    """How long the runs of its job took, each to its end, the shortest first."""
    likely: tuple[IncidentCause, ...] = ()
    unlikely: tuple[IncidentCause, ...] = ()
    disagreement: Disagreement | None = None
    """Where its two rows contradict each other."""

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All that is recorded of it."""
        return tuple(fact for chain in self.chains for fact in chain.facts)

    @classmethod
    def of(
        cls,
        anomalies: Collection[str],
        chains: Sequence[Chain],
        events: Sequence[Event],
        *,
        others: Iterable[Event],
        disagreement: Disagreement | None = None,
    ) -> Incident:
        """Read it off what sources say of its job, their events, and the events of other jobs."""
        others = list(others)
        own, taken = durations(events)
        likely, unlikely = _evidence(chains, [*events, *others], own, taken)
        last = next((event.after for event in reversed(events) if type(event) is Observed), None)
        if last is not None and last.status is Status.PROCESSING:
            likely = (DIED, *likely)  # Its last run never ended: one that stood still would go on.
        if last is not None and not any(fact.what.is_worker for chain in chains for fact in chain.facts):
            likely = (DIED, UNHEARD, *likely)  # Its sender, or who was to hand it on, did not come to it.
        if disagreement is not None and any(each.status is Status.PROCESSING for each in disagreement.batch.values()):
            likely = (DIED, PAUSED, LONG, *likely)  # The batch waits for that one.
        views = [event.after for event in events if type(event) is Observed and event.after is not None]
        most = {view.max_attempts for view in views if view.max_attempts < 2**31}
        leases = [
            view.lease_until - view.started_at
            for view in views
            if view.lease_until is not None and view.started_at is not None and view.lease_until < 2**62
        ]
        return cls(
            frozenset(anomalies),
            tuple(chains),
            frozenset(what for event in events if (what := happening(event)) is not None),
            max_attempts=most.pop() if len(most) == 1 else None,
            lease=max(leases) if leases and max(leases) > 0 else None,
            usual=usual_duration(others),
            own=own,
            likely=likely,
            unlikely=unlikely,
            disagreement=disagreement,
        )


def durations(events: Iterable[Event]) -> tuple[tuple[Duration, ...], Duration | None]:
    """Return how long the runs of a job took, the shortest first, and after which time it was taken from the first."""
    began: dict[str, Instant] = {}
    first: Instant | None = None
    found: list[Duration] = []
    taken: Duration | None = None
    for event in events:
        if not isinstance(event, Observed | Effect):
            continue
        what = happening(event)
        if what is not None and (what.after is Status.PROCESSING or what.run == "begins"):
            if taken is None and first is not None and event.actor not in began:
                taken = event.at - first
            first = event.at if first is None else first
            began.setdefault(event.actor, event.at)
        elif event.actor in began and (what is None or what.is_worker):
            found.append(event.at - began.pop(event.actor))
    return tuple(sorted(found)), taken


def _evidence(
    chains: Sequence[Chain], events: Sequence[Event], own: tuple[Duration, ...], taken: Duration | None
) -> tuple[tuple[IncidentCause, ...], tuple[IncidentCause, ...]]:
    """Return the causes for which a record speaks, and those against which it does."""
    likely: list[IncidentCause] = []
    unlikely: list[IncidentCause] = []
    if len(own) > 1 and own[-1] >= UNLIKE * own[0]:
        likely.append(PAUSED)
        unlikely.append(LONG)
    elif len(own) > 1 and taken is not None and own[0] >= taken:
        likely.append(LONG)
        unlikely.append(PAUSED)
    if any(shows_failure(event) for event in events):
        likely.append(FAILED)
    if any(_shows_another_request(chain) for chain in chains):
        likely.append(AGAIN)
    return tuple(likely), tuple(unlikely)


def _shows_another_request(chain: Chain) -> bool:
    """Whether the one who sent the job changed it later."""
    senders = {fact.who for fact in chain.facts if fact.who and fact.what.before is None and not fact.what.run}
    changes = (fact for fact in chain.facts if fact.what.before is not None and not fact.what.is_worker)
    return any(fact.who in senders for fact in changes)


def shows_failure(event: Event) -> bool:
    """Whether the work of a job failed, or its row has an error."""
    what = happening(event)
    view = event.after if type(event) is Observed else None
    failed = what is not None and (what.run == "fails" or what.after is Status.FAILED)
    return failed or (view is not None and view.error is not None and view.status is not Status.CANCELLED)


def usual_duration(events: Iterable[Event]) -> Duration | None:
    """Return how long jobs take that ran once; None where none is known."""
    jobs: dict[JobId, list[Event]] = {}
    for event in events:
        if isinstance(event, Observed | Effect):
            jobs.setdefault(event.job, []).append(event)
    found = [own[0] for own, taken in map(durations, jobs.values()) if len(own) == 1 and taken is None]
    return round(median(found)) if found else None


@dataclass(slots=True)
class IncidentGoal:
    """What a search for an incident draws and looks for; keeps the run that came nearest."""

    incident: Incident
    lease: Duration
    """How long the target's claims last, where the record does not say so."""
    stuck_after: Duration
    """As the audit that found the incident was told."""
    limits: tuple[int, ...] = STEPS
    capabilities: Capabilities = field(default_factory=Capabilities)
    kept: frozenset[IncidentCause] | None = None
    """While a run is made smaller, the causes that it may have: it is to get no other."""
    nearest: Fitted = NOTHING
    nearest_run: Run | None = None
    shown: int = 0
    """Runs that showed the anomaly, whether they agreed with the record or not."""
    seen: set[Happening] = field(default_factory=set)
    """All that ever happened to a job."""

    def steps(self, number: int) -> int:
        """Return how many steps a run may take."""
        return self.limits[number % len(self.limits)]

    @property
    def causes(self) -> tuple[IncidentCause, ...]:
        """Return what may have gone wrong, the likely first; what the record speaks against is left to chance."""
        likely, unlikely = self.incident.likely, self.incident.unlikely
        possible = [each for each in (*likely, *CAUSES) if each not in unlikely and self._can_meet(each)]
        return (*dict.fromkeys(possible), DRAWN)

    def _can_meet(self, cause: IncidentCause) -> bool:
        """Whether it can come about in a run of the target."""
        return self.capabilities.unique if cause is AGAIN else not cause.faults or bool(self._faults(cause))

    def _faults(self, cause: IncidentCause) -> list[FaultKind]:
        return [each for each in cause.faults if not self.capabilities.missing(each.needs)]

    @property
    def first_round(self) -> dict[IncidentCause, range]:
        """Return by cause the numbers of the runs that look for it in the first round."""
        runs: dict[IncidentCause, range] = {}
        start = 0
        for each in self.causes:
            runs[each] = range(start, start + FIRST_RUNS * (LIKELY if each in self.incident.likely else 1))
            start = runs[each].stop
        return runs

    def cause(self, number: int) -> IncidentCause:
        """Return for which cause a run looks: each has some runs in a row, and in each round twice as many."""
        runs = self.first_round
        length, longer = runs[DRAWN].stop, 1
        while number >= length * longer:
            number, longer = number - length * longer, 2 * longer
        return next(each for each, turn in runs.items() if number // longer in turn)

    def plan_run(self, drawn: Drawn, policy: RunPolicy, *, settings: Settings, seed: int) -> tuple[Drawn, Choices]:
        """Return what a run is to do: what may show its cause, with what is recorded in the place of what was drawn."""
        number, incident = seed % SEED_STRIDE, self.incident
        cause = self.cause(number)
        workers = WORKERS[: max(2, len({fact.who for fact in incident.facts if fact.who and fact.what.is_worker}))]
        if incident.max_attempts is not None and incident.max_attempts >= 1:
            settings = settings.changed(max_attempts=incident.max_attempts)
        audit = AuditPlan(min(incident.anomalies), self.stuck_after)
        if cause is DRAWN:
            first, *rest = drawn.scenario.jobs
            scenario = replace(drawn.scenario, jobs=(self._plan(first), *rest), audit=audit)
            if number % 2:
                scenario = replace(scenario, settings=settings, workers=workers)
            return replace(drawn, scenario=scenario), policy.choices
        jobs = self._jobs(cause, number, settings)
        scenario = Scenario(settings=settings, workers=workers, jobs=jobs, restart_after=RESTART_AFTER, audit=audit)
        lengths = frozenset(name for name, length in moments(settings).items() if length >= self._lease)
        ids = frozenset(each.id for each in cause.faults)
        places = PLACES if any(fact.what.is_worker for fact in incident.facts) else UNCLAIMED
        choices = OneFaultChoices(seed, ids, jobs=frozenset(JOBS), lengths=lengths, places=places)
        return Drawn(scenario, FaultPlan.of(*self._faults(cause))), choices

    @property
    def _lease(self) -> Duration:
        return self.incident.lease or self.lease

    def _jobs(self, cause: IncidentCause, number: int, settings: Settings) -> tuple[JobPlan, ...]:
        """Return the jobs of a run that looks for a cause; the first is that of the incident."""
        known = self.incident.own[0] if self.incident.own and LONG in self.incident.unlikely else self.incident.usual
        part = LENGTHS[number % len(LENGTHS)]
        if known is not None and number % 3 != 1:
            part = min(max(known / self._lease, 0.01), 0.9)
        plain = Span(factor=round(part, 2), setting="lease")
        long = Span(factor=(1.1, 2.0)[number % 2], setting="lease")
        batch = {*incident.disagreement.batch.values()} if (incident := self.incident).disagreement else ()
        count = max(COUNTS[number % len(COUNTS)], 2 if cause is AGAIN else 1, min(len(batch), max(COUNTS)))
        jobs = [JobPlan(name, takes=(long if cause is LONG else plain,)) for name in JOBS[:count]]
        if cause is FAILED:
            failing = number % count if self._succeeds else 0
            outcomes = ((Ending.FAIL,), (Ending.FAIL, Ending.SUCCEED))[number // 2 % 2]
            jobs[failing] = replace(jobs[failing], outcomes=outcomes)
        if cause is DIED and number % 2 and not self._succeeds:
            jobs[0] = replace(jobs[0], outcomes=(Ending.EXIT,))  # No record tells it from a worker that is killed.
        if cause is AGAIN:
            length = plain.resolve(settings)
            at = (length // 2, length // 10, 2 * length)[number % 3]
            jobs = [replace(job, unique_key="k", at=at * place) for place, job in enumerate(jobs)]
        return tuple(jobs)

    def _plan(self, plan: JobPlan) -> JobPlan:
        happened = self.incident.happened
        asked = {
            "cancel_after": any(what.after is Status.CANCELLED for what in happened),
            "retry_after": any(what.before in (Status.FAILED, Status.CANCELLED) for what in happened),
        }
        plan = replace(plan, **{name: None for name, recorded in asked.items() if not recorded})  # type: ignore[arg-type]
        return replace(plan, outcomes=(Ending.SUCCEED,)) if self._succeeds else plan

    @property
    def _succeeds(self) -> bool:
        """Whether the work of the job succeeded whenever it is known how it ended."""
        happened = self.incident.happened
        failed = any(what.after is Status.FAILED or what.run == "fails" for what in happened)
        return not failed and any(what.after is Status.COMPLETED or what.run == "succeeds" for what in happened)

    def _contradicts(self, run: Run, job: JobId) -> bool:
        """Whether the work of this job ends otherwise than recorded, or something went wrong that did not."""
        causes = {*causes_of(replace(run.scenario, tape=run.tape))}
        if not causes.isdisjoint(self.incident.unlikely) or (self.kept is not None and not causes <= self.kept):
            return True
        planned = {outcome for plan in run.scenario.jobs if plan.name == job for outcome in plan.outcomes}
        return self._succeeds and not planned <= {Ending.SUCCEED}

    def keep(self, run: Run) -> FaultPlan:
        """Let no run agree from now on that has other causes than this one; return their faults."""
        self.kept = frozenset(causes_of(replace(run.scenario, tape=run.tape)))
        return FaultPlan.of(*(kind for each in self.kept for kind in each.faults))

    def shown_by(self, run: Run) -> list[str]:
        """Return by which anomalies a run agrees with the record, its own first; learn from it what can happen."""
        self.seen.update(what for event in run.history.events if (what := happening(event)) is not None)
        names = sorted(run.found, key=lambda name: (name not in self.incident.anomalies, gravity(name), name))
        return [name for name in names if self.agrees(run, name)]

    def agrees(self, run: Run, anomaly: str) -> bool:
        """Whether a run shows this anomaly, and what is recorded happened to its job."""
        jobs = {each.job for each in run.anomalies if each.name == anomaly and each.job is not None}
        jobs = {job for job in jobs if self._shows(run, anomaly, job)}
        self.shown += bool(jobs)
        jobs = {job for job in jobs if self.stands(run, job)}
        for job in sorted(job for job in jobs if not self._contradicts(run, job)):
            fitted = fit(self.incident.chains, run, job)
            if fitted.facts > self.nearest.facts or self.nearest_run is None:
                self.nearest, self.nearest_run = fitted, run
            if fitted.facts == len(self.incident.facts) and self._keeps_time(run, fitted):
                return True
        return False

    def stands(self, run: Run, job: JobId) -> bool:
        """Whether the two rows of a job stood as recorded, where they contradicted each other."""
        stood, lease = self.incident.disagreement, self._common_lease
        if stood is None:
            return True
        since = stood.since_claim
        within = None if lease is None or since is None or since >= lease // SHORT else lease // SHORT
        return stood.shows(run.history.events, job, within=within)

    @property
    def _common_lease(self) -> Duration | None:
        """Return how long claims last where they last as long in the record as in a run; otherwise None."""
        lease = self.incident.lease
        return None if lease is None or abs(lease - self.lease) > self.lease // 10 else lease

    def _keeps_time(self, run: Run, fitted: Fitted) -> bool:
        """Whether what took much less than a claim in the record does so in the run, if both have the same claims."""
        lease = self._common_lease
        if lease is None:
            return True
        for chain, places in zip(self.incident.chains, fitted.places, strict=True):
            events = [run.history.events[place] for place in places]
            for (one, two), (begin, end) in zip(pairwise(chain.facts), pairwise(events), strict=True):
                if two.at - one.at < lease // SHORT and end.at - begin.at > max(lease // SHORT, 2 * (two.at - one.at)):
                    return False
        return True

    def _shows(self, run: Run, anomaly: str, job: JobId) -> bool:
        """Whether a job shows what was recorded, or else another anomaly while an audit would find that."""
        names = self.incident.anomalies
        if anomaly in names:
            return True
        return bool(as_recorded(run.history.events, job, names=names, stuck_after=self.stuck_after))

    def never_seen(self) -> Iterator[Fact]:
        """Return the recorded events that are like nothing that happened in any run, each kind once."""
        kinds: set[Happening] = set()
        for fact in self.incident.facts:
            if fact.what not in self.seen and fact.what not in kinds:
                kinds.add(fact.what)
                yield fact


def reporting(engine: Engine, names: Collection[str]) -> Engine:
    """Return an engine of which these anomalies are reported also where it documents them: they happened."""
    contract = engine.info.contract
    documented = {name: told for name, told in contract.documented.items() if name not in names}
    if documented == dict(contract.documented):
        return engine
    return AdaptedEngine(engine, replace(engine.info, contract=replace(contract, documented=documented)))
