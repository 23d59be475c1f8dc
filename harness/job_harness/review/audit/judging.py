"""Judges evidence by the monitors that judge a run, and tells the story of each job that broke a guarantee.

Nothing is kept of a job that has ended, so that a source may be larger than memory; the stories of
the jobs that are shown are read a second time. Production never rests. So what must hold at rest is
asked only of what is overdue: a job that stands PROCESSING long after its lease, or PENDING long
after others that were due later were claimed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from job_harness.core.faults import excuses
from job_harness.core.history import Call, Effect, Event, Fault, History, Observed, Phase, Return
from job_harness.core.invariants import ANOMALIES, Anomaly, Invariant, Judge, Kind, Rules, everything, gravity, stepwise
from job_harness.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    Duration,
    Instant,
    JobId,
    JobView,
    QueueState,
    Settings,
    Status,
    format_duration,
    rounded,
)
from job_harness.core.port import Documented
from job_harness.core.run.verdict import Run, Verdict
from job_harness.core.scenario.scenario import Scenario
from job_harness.review.audit.evidence import NEVER, UNKNOWN, UNKNOWN_WRITER, Evidence

STUCK_AFTER: Final[Duration] = HOUR
DUE_WITHIN: Final[Duration] = SECOND
"""Many tables keep times to the second, and a worker's clock is not the database's."""
SHOWN_EACH: Final = 10
"""Of each anomaly, at most this many jobs are named; the rest is counted."""
NAMED: Final = 3
"""Of jobs that a note is about, this many are named."""
MOST_ANOMALIES: Final = 100_000
"""Beyond it nothing is judged: the source, or how it is read, is wrong as a whole."""
STOPPED: Final = f"stopped after {MOST_ANOMALIES} anomalies: nothing after them is judged"
NOT_SHOWN: Final = (Documented("the evidence does not show it"),)
AHEAD: Final[Duration] = 5 * MINUTE
"""How far a time of what has happened may lie after the audit; a time zone is a quarter of an hour off at least."""
_PAST: Final = ("created_at", "started_at", "completed_at")
_OVERDUE: Final = ("job_stuck", "job_never_run")
"""What is said of a job that should have moved long ago."""
_TIMES: Final = ("created_at", "start_after", "started_at", "lease_until", "completed_at", "expires_at")


class Suspect(NamedTuple):
    """One job and the anomaly that it showed."""

    name: str
    job: JobId | None
    at: Instant
    message: str


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One kind of anomaly: how many jobs showed it, and the story of the first."""

    name: str
    jobs: int
    first: Suspect
    others: tuple[Suspect, ...]
    story: Run
    """What the source shows of the first job; its instant 0 is the job's first event."""
    began: Instant
    """When that was, in microseconds since 1970."""
    batch: str = ""
    """The other unfinished jobs that were claimed together with the first."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What one source came to."""

    source: str
    events: int
    jobs: int
    findings: tuple[AuditFinding, ...]
    shows: frozenset[str]
    """The anomalies that it could show."""
    judged: tuple[str, ...]
    """The invariants that were judged."""
    not_judged: tuple[tuple[str, str], ...]
    """The others, each with the reason."""
    notes: tuple[str, ...]
    first: Instant | None
    last: Instant | None
    whole: bool = True
    """Whether nothing is known to be missing from the source."""

    @property
    def verdict(self) -> Verdict:
        """Fail where anything was breached; inconclusive where the source has a gap, or nothing to judge."""
        if self.findings:
            return Verdict.FAIL
        return Verdict.PASS if self.events and self.judged and self.whole else Verdict.INCONCLUSIVE


class Auditor:
    """Judges events as they come. What it may report is what its evidence can show, less `without`."""

    def __init__(
        self, evidence: Evidence, *, without: Collection[str] = (), stuck_after: Duration = STUCK_AFTER
    ) -> None:
        self._evidence = evidence
        self._shows = evidence.shows - set(without)
        self._stuck_after = stuck_after
        self._judge = self._new_judge(Kind.ALWAYS)
        self._open: dict[JobId, JobView] = {}
        self._claimed: dict[tuple[str, int], Instant] = {}
        """By tool and priority, the latest due time of a job that was claimed."""
        self.events = 0
        self.jobs = 0
        self.stopped = False
        """Whether it found so much that it judged no further."""
        self.timeless = 0
        """How many jobs were completed and do not say when that was, or when they were claimed."""
        self._timed = 0
        """How many were completed and say both."""
        self._named: list[Suspect] = []
        """The first of those that do not: where most others say it, their rows contradict themselves."""
        self._latest: tuple[Instant, str, JobId] = (0, "", "")
        """The latest time of what has happened, its column, and the job."""
        self.first: Instant | None = None
        self.last: Instant | None = None

    def _new_judge(self, kind: Kind) -> Judge:
        return Judge(
            _invariants(self._shows, kind, steps=self._evidence.steps),
            Rules(
                Settings(),
                excuses=excuses(),
                takes_back_in_claim=True,
                ends_may_lack_times=True,
                due_within=DUE_WITHIN,
            ),
            accepted={name: NOT_SHOWN for name in ANOMALIES if name not in self._shows},
        )

    def take_all(self) -> None:
        """Judge all that the source shows; ordinary jobs are only counted where it tells them apart."""
        apart = self._evidence.apart()
        if apart is None:
            return self.take(self._evidence.read(None))
        ordinary, others = apart
        if ordinary.jobs:
            self.jobs, self.events, self._timed = ordinary.jobs, ordinary.events, ordinary.completed
            self.first, self.last, self._claimed = ordinary.first, ordinary.last, {**ordinary.claimed}
        return self.take(others)

    def take(self, events: Iterable[Event]) -> None:
        """Judge these, after those before."""
        see, anomalies = self._judge.see, self._judge.anomalies
        for event in events:
            self.events += 1
            if self.first is None or event.at < self.first:
                self.first = event.at
            if self.last is None or event.at > self.last:
                self.last = event.at
            see(event)
            if type(event) is Observed:
                self._observe(event)
            if len(anomalies) >= MOST_ANOMALIES:
                self.stopped = True
                break

    def _observe(self, event: Observed) -> None:
        after = event.after
        before = event.before
        # What stood before the source began counts where it is first met; of a job that had ended nothing is kept.
        self.jobs += before is None or (event.job not in self._open and not before.terminal)
        if after is not None:
            self._look_at_times(before, after, event.at)
        if after is None or (after.terminal and after.agrees):
            self._open.pop(event.job, None)
            self._judge.forget(event.job)
            return
        self._open[event.job] = after
        if event.verb == "claim":
            key = (after.tool, after.priority)
            self._claimed[key] = max(self._claimed.get(key, 0), after.start_after)

    def _look_at_times(self, before: JobView | None, after: JobView, at: Instant) -> None:
        completed = after.status is Status.COMPLETED and (before is None or before.status is not Status.COMPLETED)
        if completed and None in (after.started_at, after.completed_at):
            self.timeless += 1
            if self.timeless <= SHOWN_EACH:
                lacking = "started_at" if after.started_at is None else "completed_at"
                self._named.append(
                    Suspect("completed_before_started", after.id, at, f"it is COMPLETED, and {lacking} is empty")
                )
        self._timed += completed and None not in (after.started_at, after.completed_at)
        for name in _PAST:
            past = getattr(after, name)
            if past is not None and past > self._latest[0]:
                self._latest = past, name, after.id

    def overdue(self, now: Instant) -> dict[JobId, JobView]:
        """Return the unfinished jobs that should have moved long ago, or never will."""
        return {job: view for job, view in self._open.items() if self._evidence.rests or self._late(view, now)}

    def _is_young(self, view: JobView) -> bool:
        """Whether its two rows differ, and may do so: the second may not have been written yet."""
        return not view.agrees and not self._late(view, self._evidence.now())

    def _late(self, view: JobView, now: Instant) -> bool:
        if not view.agrees:
            last = max(at for at in (view.created_at, view.started_at, view.completed_at) if at is not None)
            return UNKNOWN < last < now - self._stuck_after
        if view.status is Status.PROCESSING:
            since = _held_since(view)
            return since is not None and since + self._stuck_after < now
        overtaken = self._claimed.get((view.tool, view.priority), 0)
        return view.start_after != UNKNOWN and view.start_after + self._stuck_after < min(overtaken, now)

    def suspects(self, now: Instant) -> list[Suspect]:
        """Return who showed what so far, each once."""
        return [each for found in self._found(now).values() for each in found]

    def _found(self, now: Instant) -> dict[str, list[Suspect]]:
        late = {} if self.stopped else self.overdue(now)  # What was not read may have ended them.
        found = _suspects([*self._judge.anomalies, *self._unfinished(late, now)])
        if self._contradict:
            found.setdefault("completed_before_started", []).extend(self._named)
        return found

    @property
    def _contradict(self) -> bool:
        """Whether rows lack a time that most have: such a row contradicts itself; where few have it, it is unknown."""
        return self.timeless > 0 and self._timed > self.timeless and "completed_before_started" in self._shows

    def story(self, job: JobId) -> tuple[Run, Instant] | None:
        """Return all that the source shows of a job, as a run, and when that began; None where it shows nothing."""
        events = self._stories({job})[job]
        return (self._run([], events, events[0].at), events[0].at) if events else None

    def finish(self, *, most: int = SHOWN_EACH) -> Audit:
        """Judge what is overdue, and tell the stories."""
        suspects = self._found(self._evidence.now())
        named = sorted(suspects, key=lambda name: (gravity(name), name))
        leads = {found[0].job for found in suspects.values()}
        stories = self._stories(leads) if leads else {}
        return Audit(
            source=self._evidence.name,
            events=self.events,
            jobs=self.jobs,
            findings=tuple(self._finding(suspects, name, stories, most) for name in named),
            shows=self._shows,
            judged=tuple(sorted({ANOMALIES[name][0].id for name in self._shows})),
            not_judged=tuple(sorted(self._evidence.silent.items())),
            notes=(*filter(None, [self._evidence.gap]), *self._evidence.notes, *self._notes()),
            first=self.first,
            last=self.last,
            whole=not self._evidence.gap,
        )

    def _notes(self) -> list[str]:
        notes = [STOPPED] if self.stopped else []
        if self.timeless and not self._contradict and "completed_before_started" in self._shows:
            jobs = f"{self.timeless} job{'' if self.timeless == 1 else 's'}"
            few = ", ".join(str(each.job) for each in self._named[:NAMED]) + ("" if self.timeless <= NAMED else ", ...")
            notes.append(f"not judged for completed_before_started: {jobs} without started_at or completed_at ({few})")
        at, name, job = self._latest
        ahead = 0 if self._evidence.rests else at - self._evidence.now()
        if ahead > AHEAD:
            notes.append(
                f"a clock or a time zone is wrong: {name} of the job {job} is {format_duration(rounded(ahead))} after "
                "the time of this audit"
            )
        young = [] if self._evidence.rests else [job for job, view in self._open.items() if self._is_young(view)]
        if young and "tables_disagree" in self._shows:
            jobs = f"{len(young)} job{'' if len(young) == 1 else 's'}"
            few = ", ".join(young[:NAMED]) + ("" if len(young) <= NAMED else ", ...")
            notes.append(
                f"not judged for tables_disagree and orphan_row: {jobs} whose two rows differ, but changed less than "
                f"{format_duration(self._stuck_after)} ago ({few}); a shorter --stuck-after judges them"
            )
        dateless = sum(view.status is Status.PENDING and view.start_after == UNKNOWN for view in self._open.values())
        if dateless and "job_never_run" in self._shows and not self._evidence.rests:
            jobs = f"{dateless} PENDING job{'' if dateless == 1 else 's'}"
            notes.append(f"not judged for job_never_run: {jobs} without created_at and start_after")
        running = (view for view in self._open.values() if view.status is Status.PROCESSING and view.agrees)
        unknown = 0 if self._evidence.rests else sum(_held_since(view) is None for view in running)
        if unknown and "job_stuck" in self._shows:
            jobs = f"{unknown} PROCESSING job{'' if unknown == 1 else 's'}"
            notes.append(f"not judged for job_stuck: {jobs} without started_at and lease_until")
        return notes

    def _unfinished(self, late: dict[JobId, JobView], now: Instant) -> list[Anomaly]:
        """Judge what must hold at rest of these jobs, as they stand; two rows that disagree explain all else."""
        judge = self._new_judge(Kind.EVENTUALLY)
        for job, view in late.items():
            judge.see(Observed(now, UNKNOWN_WRITER, "enqueue", job, None, view, now))
        judge.rest(late)
        compared = "tables_disagree" in self._shows
        return [
            anomaly
            if self._evidence.rests or anomaly.name not in _OVERDUE or anomaly.job is None
            else anomaly._replace(message=_since_when(late[anomaly.job], now))
            for anomaly in judge.anomalies
            if anomaly.job is None or not compared or late[anomaly.job].agrees is (anomaly.invariant != "tables_agree")
        ]

    def _of_batch(self, name: str, job: JobId | None) -> str:
        """Say which other unfinished jobs were claimed with one whose rows disagree: a queue may settle them as one."""
        view = None if job is None or name != "tables_disagree" else self._open.get(job)
        if view is None or view.lease_until in (None, NEVER):
            return ""
        others = [each for each in self._open.values() if each.lease_until == view.lease_until and each.id != job]
        told = [f"{each.id} ({each.status}, queue {each.queue_state})" for each in others[:SHOWN_EACH]]
        left = (view.lease_until or 0) - self._evidence.now()
        holds = told and left > 0 and view.queue_state is QueueState.ACTIVE
        return "; ".join([*told, *([f"their claims end in {format_duration(rounded(left))}"] if holds else [])])

    def _stories(self, jobs: set[JobId | None]) -> dict[JobId | None, list[Event]]:
        """Return what happened to each of these jobs; for None, to all of them."""
        named = {job for job in jobs if job is not None}
        told: dict[JobId | None, list[Event]] = {job: [] for job in jobs}
        for event in self._evidence.read(named if named == jobs else None):
            for job in {getattr(event, "job", None), None} & told.keys():
                told[job].append(event)
        return told

    def _finding(
        self, suspects: dict[str, list[Suspect]], name: str, stories: dict[JobId | None, list[Event]], most: int
    ) -> AuditFinding:
        first, *others = suspects[name]
        events = stories.get(first.job, [])
        began = events[0].at if events else first.at
        judge = self._new_judge(Kind.ALWAYS)
        for event in events:
            judge.see(event)
        seen = {each.name: each for each in reversed(judge.anomalies) if each.job == first.job}
        for suspect in (each for found in suspects.values() for each in found if each.job == first.job):
            index = max((i for i, event in enumerate(events) if event.at <= suspect.at), default=0)
            plain = Anomaly(
                suspect.name, ANOMALIES[suspect.name][0].id, suspect.at, index, suspect.job, suspect.message
            )
            seen.setdefault(suspect.name, plain)
        told = [seen[name], *(each for other, each in seen.items() if other != name)]
        story = self._run(told, events, began)
        return AuditFinding(
            name, 1 + len(others), first, tuple(others[: most - 1]), story, began, self._of_batch(name, first.job)
        )

    def _told_at(self, anomaly: Anomaly, began: Instant) -> Instant:
        """Return when it showed, since the story began; when it was read is told without parts of a second."""
        since = max(0, anomaly.at - began)
        read = anomaly.name in _OVERDUE and since > MINUTE and not self._evidence.rests
        return since - since % SECOND if read else since

    def _run(self, anomalies: list[Anomaly], events: list[Event], began: Instant) -> Run:
        """Return a job's story as a run that begins with its first event."""
        return Run(
            scenario=Scenario(title=self._evidence.name),
            engine=self._evidence.name,
            history=History([rebased(event, began) for event in events]),
            tape=(),
            elsewhere=True,
            anomalies=tuple(each._replace(at=self._told_at(each, began)) for each in anomalies),
            now=max((event.at for event in events), default=began) - began,
        )


def as_recorded(
    events: Sequence[Event], job: JobId, *, names: frozenset[str], stuck_after: Duration
) -> dict[str, Anomaly]:
    """Return which of these anomalies an audit of a run would find of a job, each at the first time at which it would.

    An audit knows of no fault, so none excuses anything.
    """
    told = [event for event in events if not isinstance(event, Fault | Phase) and getattr(event, "job", None) == job]
    evidence = Evidence("a run", names, {}, lambda _: iter(told), lambda: NEVER, steps=True)
    auditor = Auditor(evidence, stuck_after=stuck_after)
    found: dict[str, Anomaly] = {}
    times = [event.at for event in events]
    for event, end in zip(told, [*(event.at - 1 for event in told[1:]), *times[-1:]], strict=False):
        auditor.take([event])
        for now in {min(event.at + stuck_after + 1, end), end}:
            for each in auditor.suspects(now) if now == times[-1] or auditor.overdue(now) else ():
                index, item = bisect_right(times, now) - 1, ANOMALIES[each.name][0]
                found.setdefault(each.name, Anomaly(each.name, item.id, now, index, job, each.message))
    return {name: each for name, each in found.items() if name in names}


def audited(run: Run) -> Run:
    """Return a run with what an audit of production would find of it, where its scenario asks for that."""
    plan, events = run.scenario.audit, run.history.events
    if plan is None or ANOMALIES[plan.anomaly][0].kind is not Kind.EVENTUALLY:
        return run
    jobs = {plan.job} if plan.job else {event.job for event in events if type(event) is Observed}
    names = frozenset({plan.anomaly})
    found = [as_recorded(events, job, names=names, stuck_after=plan.stuck_after) for job in sorted(jobs)]
    told = [
        each._replace(others=tuple(sorted({*claimed_together(events, each.job or "", each.at)} - {each.job or ""})))
        for by_name in found
        for each in by_name.values()
    ]
    kept = [each for each in run.anomalies if each.name != plan.anomaly or each.job not in {one.job for one in told}]
    return replace(run, anomalies=(*told, *kept))


def claimed_together(events: Iterable[Event], job: JobId, at: Instant) -> dict[JobId, JobView]:
    """Return how a job and those that were claimed with it stood at a time: their claims end when its own does."""
    views: dict[JobId, JobView] = {}
    ends: dict[JobId, Instant] = {}
    for event in events:
        if type(event) is Observed and event.after is not None and event.at <= at:
            views[event.job] = event.after
            if event.after.lease_until not in (None, NEVER):
                ends[event.job] = event.after.lease_until
    end = ends.get(job, UNKNOWN)
    return {each: view for each, view in views.items() if each == job or (end and ends.get(each) == end)}


def _invariants(shows: Collection[str], kind: Kind, *, steps: bool) -> tuple[Invariant, ...]:
    """Return the invariants that have one of these anomalies; runs are judged as those of an application are."""
    wanted = tuple(
        item for item in everything() if item.kind is kind and any(anomaly.name in shows for anomaly in item.anomalies)
    )
    if steps:
        return stepwise(wanted)
    return tuple(
        replace(item, make=item.stepwise)
        if item.id == "lease_outlives_execution" and item.stepwise is not None
        else item
        for item in wanted
    )


def _held_since(view: JobView) -> Instant | None:
    """Return from when on a running job is late: the end of its claim, or the beginning of one without an end."""
    return view.started_at if view.lease_until in (None, NEVER) else view.lease_until


def _since_when(view: JobView, now: Instant) -> str:
    """Say for how long an unfinished job has been late."""
    since = view.start_after if view.status is Status.PENDING else _held_since(view) or now
    ago = format_duration(rounded(now - since))
    if view.status is Status.PENDING:
        return f"it is PENDING and has been due for {ago}, and jobs that were due later were claimed"
    endless = view.lease_until in (None, NEVER)
    return f"it is PROCESSING, and {'was claimed' if endless else 'its claim ended'} {ago} ago"


def _suspects(anomalies: Iterable[Anomaly]) -> dict[str, list[Suspect]]:
    """Return by name who showed it, each job once."""
    found: dict[str, dict[JobId | None, Suspect]] = {}
    for each in anomalies:
        found.setdefault(each.name, {}).setdefault(each.job, Suspect(each.name, each.job, each.at, each.message))
    return {name: list(by_job.values()) for name, by_job in found.items()}


def rebased(event: Event, began: Instant) -> Event:
    """Return an event whose instants are counted from another one."""
    if type(event) is Observed:
        return event._replace(
            at=event.at - began,
            clock=event.clock - began,
            before=_view_from(event.before, began),
            after=_view_from(event.after, began),
        )
    if isinstance(event, Call | Return | Effect):
        return event._replace(at=event.at - began)
    return event


def _view_from(view: JobView | None, began: Instant) -> JobView | None:
    if view is None:
        return None
    times = {name: at - began for name in _TIMES if (at := getattr(view, name)) is not None}
    return view._replace(**times)
