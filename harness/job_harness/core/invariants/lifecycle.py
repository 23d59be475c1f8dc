"""The life of a job: which statuses may follow one another, that each job ends, and that a cancel holds.

What happened is read from the rows alone; no fault excuses an arrow that does not exist or a job that vanished.
`reconcile` may move a job whose two rows disagree, because `tables_agree` judges what it makes of them; an operator's
`retry` and `resume` may revive a job that is terminal, because that is what they are for. A claim that stood before a
cancel may still start after it: the worker could not know. Whether a job that was sent in a transaction counts as
accepted is the affair of `requests`.

"Comes to an end" is judged in two ways. A run that rests is judged at its rest (`NoLostJob`). A run
that never rests is judged by `NoLivelock`: the unfinished jobs come to stand as they stood, again
and again, with nothing gained in between. It counts from the moment at which faults stop, so before
that it costs nothing, and no fault can be the cause.

For an application only what its rows show counts: how it gets from one status to the other is its
own affair.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import ClassVar, NamedTuple

from job_harness.core.history import ACCEPTED, Call, Effect, Observed, Return
from job_harness.core.invariants.property import (
    AnomalyKind,
    EvidenceNeeded,
    Guarantee,
    Invariant,
    Kind,
    Monitor,
    Reporter,
    Rules,
)
from job_harness.core.model import (
    ARROWS_OF_VERB,
    CANCELLED,
    FAILED,
    PENDING,
    PROCESSING,
    TERMINAL,
    Design,
    Duration,
    Instant,
    JobId,
    JobView,
    Status,
    format_duration,
)

# legal_transition -----------------------------------------------------------------------------------------------------


REPAIRS = frozenset({"reconcile"})
"""May move a job whose rows disagree; `tables_agree` judges the result."""

SWEPT = ARROWS_OF_VERB["expire"] | {(PENDING, FAILED)}
"""What a claim that takes back may do to other jobs: one that used up its attempts fails where it is found."""


class LegalTransition(Monitor):
    """Looks at every change of a job."""

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or before.status is None or after.status is None:
            return
        if before.status is after.status:
            if before.status in TERMINAL and (before.output, before.error) != (after.output, after.error):
                self.breach("terminal_job_rewritten", f"{event.verb} changed a {before.status} job", job=event.job)
        elif self._may(event.verb, before.status, after.status):
            return
        elif before.depends_on and (before.status, after.status) == (PENDING, CANCELLED):
            return  # It ended with what it depends on, whatever verb ended that.
        elif before.status in TERMINAL:
            self._left_terminal(event, before.status, after.status)
        else:
            self.breach("illegal_transition", f"{event.verb} moved {before.status} to {after.status}", job=event.job)

    def _may(self, verb: str, before: Status, after: Status) -> bool:
        swept = verb == "claim" and self.rules.takes_back_in_claim and (before, after) in SWEPT
        return swept or (before, after) in ARROWS_OF_VERB.get(verb, ()) or verb in REPAIRS or self._meant(verb, after)

    def _meant(self, verb: str, after: Status) -> bool:
        designs = self.rules.designs
        marked = after is CANCELLED and Design.CANCELS_BY_MARK in designs
        return marked or (verb == "retry" and after is PENDING and Design.RUNS_AGAIN in designs)

    def _left_terminal(self, event: Observed, before: Status, after: Status) -> None:
        self.breach("terminal_job_revived", f"{event.verb} moved {before} to {after}", job=event.job)


class TerminalIsFinal(LegalTransition):
    """Looks at the statuses alone: how an application gets from one to the other is its own affair."""

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or before.status not in TERMINAL or self.rules.is_operated(event):
            return
        if before.status is not after.status and after.status is not None:
            self._left_terminal(event, before.status, after.status)
        elif after.status is not None and (before.output, before.error) != (after.output, after.error):
            self.breach("terminal_job_rewritten", f"{event.verb} changed a {before.status} job", job=event.job)


LEGAL_TRANSITION = Invariant(
    id="legal_transition",
    sentence="A job makes only the transitions of its lifecycle; a terminal status is final, except for an "
    "explicit retry.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("illegal_transition", Guarantee.TRUTHFUL_RESULT, "A job made a transition that does not exist."),
        AnomalyKind("terminal_job_revived", Guarantee.TRUTHFUL_RESULT, "A job that had ended came back to life."),
        AnomalyKind("terminal_job_rewritten", Guarantee.TRUTHFUL_RESULT, "The result of a job that had ended changed."),
    ),
    make=LegalTransition,
    stepwise=TerminalIsFinal,
)


# no_lost_job ----------------------------------------------------------------------------------------------------------


class NoLostJob(Monitor):
    """Remembers what was accepted and what was rightly deleted."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"enqueue", "send"}),
        "on_return": frozenset({"enqueue", "send"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._accepted: dict[JobId, None] = {}
        self._seen: set[JobId] = set()
        self._gone: set[JobId] = set()
        self._uncommitted: set[int] = set()
        """Enqueues in a transaction: whether they count is another invariant's affair."""

    def on_call(self, event: Call) -> None:
        if event.arguments[0].transaction is not None:
            self._uncommitted.add(event.number)

    def on_return(self, event: Return) -> None:
        if (
            event.verb in ("enqueue", "send")
            and event.outcome.done
            and event.job is not None
            and event.outcome.value == event.job
            and event.number not in self._uncommitted
        ):
            self._accepted[event.job] = None

    def on_created(self, event: Observed) -> None:
        self._accepted[event.job] = None
        self._seen.add(event.job)
        self._gone.discard(event.job)

    def on_deleted(self, event: Observed) -> None:
        if event.before is not None and event.before.terminal:
            self._gone.add(event.job)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for job in self._accepted:
            view = views.get(job)
            if view is None:
                if job not in self._gone:
                    told = "it was there, and is no more" if job in self._seen else "it never was there"
                    self.breach("job_vanished", f"it was accepted, and {told}", job=job)
            elif view.status is PENDING:
                after = f", after {view.attempts} attempt{'s' * (view.attempts > 1)}" if view.attempts else ""
                self.breach("job_never_run", f"at rest it still is PENDING{self.rules.used_up(view) or after}", job=job)
            elif not view.terminal:
                self.breach("job_stuck", f"at rest it still is {view.status}", job=job)


NO_LOST_JOB = Invariant(
    id="no_lost_job",
    sentence="Every accepted job reaches a terminal status once faults stop and time passes.",
    kind=Kind.EVENTUALLY,
    anomalies=(
        AnomalyKind("job_vanished", Guarantee.AT_LEAST_ONCE, "An accepted job is not there, and it had not ended."),
        AnomalyKind("job_stuck", Guarantee.AT_LEAST_ONCE, "A job stays PROCESSING although no worker runs it."),
        AnomalyKind("job_never_run", Guarantee.AT_LEAST_ONCE, "A job stays PENDING and is never claimed."),
    ),
    make=NoLostJob,
    stepwise=NoLostJob,
)


# no_livelock ----------------------------------------------------------------------------------------------------------


RECURRENCES = 4
"""So often, at least, the same must come again; and more often than a job may be delivered."""
REMEMBERED = 100_000
"""The monitor counts this many different constellations."""
MOST_BORN = 40
"""Jobs that come of themselves, such as dead letters and follow-ups, in a run that is to end."""
SENDING = frozenset({"enqueue", "send"})
REVIVING = frozenset({"retry", "resume"})
"""Who gives a job a new budget of attempts."""


class Constellation(NamedTuple):
    """The jobs that had not ended at an instant."""

    at: Instant
    views: tuple[JobView, ...]


class NoLivelock(Monitor):
    """Counts how often the unfinished jobs come to stand alike, measured from now, without one of them having ended."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._live: dict[JobId, JobView] | None = None
        """What is not at its end; None until faults stop."""
        self._ended: set[JobId] = set()
        self._first: dict[Hashable, Constellation | None] = {}
        """By how a job came to stand, how all jobs stood then; None once that is counted in `_times`.

        Most jobs never come to stand like this again. Comparing all of them only when one does
        keeps a change cheap where thousands of jobs have not ended.
        """
        self._uncounted = 0
        """How many constellations of `_first` are not counted yet."""
        self._times: dict[Hashable, int] = {}
        """By how a job came to stand, and all others then: how often."""
        self._last: dict[Hashable, Instant] = {}
        self._stands: dict[tuple[JobId, Hashable], tuple[int, JobView]] = {}
        """By job and how it stands, whatever the time: how often, and how it stood then."""
        self._born = 0
        """How many jobs came that no producer sent, and no schedule made."""
        self._youngest: JobId | None = None
        self._held_since: dict[JobId, Instant] = {}
        """By job, when something else than its lease changed last, as far as that was seen."""
        self._hangs: set[JobId] = set()
        """Those of which nothing but the lease has changed for longer than a claim may be held."""
        longest = max(rules.settings.lease, rules.settings.job_timeout, rules.settings.stuck_timeout)
        self._longest: Duration = longest + 2 * rules.settings.max_skew

    def healed(self, views: Mapping[JobId, JobView]) -> None:
        """Begin to watch: faults stop here, with these jobs."""
        self._live = {job: view for job, view in views.items() if not view.terminal}
        self._ended = {job for job, view in views.items() if view.terminal}
        self._anew()

    def _anew(self) -> None:
        self._first.clear()
        self._uncounted = 0
        self._times.clear()
        self._last.clear()
        self._stands.clear()

    def on_created(self, event: Observed) -> None:
        if event.verb not in SENDING and event.after is not None and event.after.schedule is None:
            self._born, self._youngest = self._born + 1, event.job
        if self._live is not None and event.after is not None:
            self._live[event.job] = event.after
            self._anew()

    def on_deleted(self, event: Observed) -> None:
        if self._live is not None:
            self._live.pop(event.job, None)
            self._anew()

    def on_changed(self, event: Observed) -> None:
        live, view = self._live, event.after
        if live is None or view is None:
            return
        job = event.job
        if view.terminal:
            live.pop(job, None)
            if job not in self._ended:
                self._ended.add(job)
                self._anew()
            return
        before, live[job] = live.get(job), view
        if event.verb in REVIVING:
            self._anew()
        elif not self._still_held(before, view, event.clock):
            self._count(job, view, event.clock)

    def _still_held(self, before: JobView | None, view: JobView, now: Instant) -> bool:
        """Whether a claim only moved its lease, and is no older than a claim may be: its job is still at work."""
        if before is None or view.status is not PROCESSING or _claim(before) != _claim(view):
            self._held_since[view.id] = now
            self._hangs.discard(view.id)
            return False
        if now - self._held_since.setdefault(view.id, now) <= self._longest:
            return True
        self._hangs.add(view.id)
        return False

    def _count(self, job: JobId, view: JobView, now: Instant) -> None:
        stand = (job, _stand(view))
        self._stands[stand] = self._stands.get(stand, (0, view))[0] + 1, view
        if len(self._times) + self._uncounted >= REMEMBERED:
            return
        assert self._live is not None
        alone, here = self._relative(view, now), Constellation(now, tuple(self._live.values()))
        if alone not in self._first:
            self._first[alone] = here
            self._uncounted += 1
            return
        if (first := self._first[alone]) is not None:
            self._first[alone] = None
            self._uncounted -= 1
            self._recur(job, first)
        times, before = self._recur(job, here)
        if times > _patience(view):
            self._tell(job, view, times, f", each time {format_duration(now - before)} after the last")

    def _recur(self, job: JobId, here: Constellation) -> tuple[int, Instant]:
        """Count that all stand like this when `job` came to stand anew; return how often, and when last before."""
        now = here.at
        key = (job, tuple([self._relative(other, now) for other in here.views]))
        times = self._times[key] = self._times.get(key, 0) + 1
        before, self._last[key] = self._last.get(key, now), now
        return times, before

    def without_rest(self) -> None:
        """Name the job that loops, or one of those without end, where a run reached its limit instead of a rest."""
        for (job, _), (times, view) in sorted(self._stands.items(), key=lambda item: (-item[1][0], item[0][0])):
            if times > _patience(view):
                self._tell(job, view, times, "")
                return
        if self._born > MOST_BORN:
            told = f"{self._born} jobs have come that no client sent, and there is no end of them; this is the last"
            self.breach("livelock", told, job=self._youngest)

    def _tell(self, job: JobId, view: JobView, times: int, period: str) -> None:
        if job in self._hangs:
            told = f"it has been PROCESSING for more than {format_duration(self._longest)}"
            self.breach("job_hangs", f"{told}: its worker keeps extending the lease, and never ends the job", job=job)
            return
        attempts = f"{view.attempts} attempt" + "s" * (view.attempts != 1)
        self.breach(
            "livelock",
            f"since faults stopped it came to be {view.status} with {attempts} {times} times{period}; it never ends",
            job=job,
        )

    def _relative(self, view: JobView, now: Instant) -> Hashable:
        """Return how a job stands, its times by their distance from now as far as it may matter."""
        running = view.status is PROCESSING
        return (
            view.id,
            _stand(view),
            max(0, view.start_after - now),
            max(0, view.lease_until - now) if view.lease_until is not None else None,
            max(-self._longest, view.started_at - now) if running and view.started_at is not None else None,
        )


def _claim(view: JobView) -> Hashable:
    return (view.status, view.attempts, view.token, view.worker, view.started_at)


def _stand(view: JobView) -> Hashable:
    return (view.status, view.queue_state, min(view.attempts, view.max_attempts + 1))


def _patience(view: JobView) -> int:
    return max(RECURRENCES, view.max_attempts + 1)


NO_LIVELOCK = Invariant(
    id="no_livelock",
    sentence="Every accepted job ends: once faults stop, no job loops forever.",
    kind=Kind.EVENTUALLY,
    anomalies=(
        AnomalyKind("livelock", Guarantee.AT_LEAST_ONCE, "A job changes again and again and never ends.", endless=True),
        AnomalyKind(
            "job_hangs",
            Guarantee.AT_LEAST_ONCE,
            "A job stays PROCESSING: its worker extends the lease and never ends the job.",
            endless=True,
        ),
    ),
    make=NoLivelock,
    stepwise=NoLivelock,
)


# cancel_wins ----------------------------------------------------------------------------------------------------------


class CancelWins(Monitor):
    """Remembers what was cancelled and not retried since."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"cancel"}),
        "on_return": frozenset({"cancel"}),
        "on_effect": frozenset({"claimed", "started"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._cancelled: set[JobId] = set()
        self._status: dict[JobId, Status | None] = {}
        self._claims: dict[JobId, tuple[int, ...]] = {}
        """The tokens of claims that stood in the row: what was rightly claimed before a cancel may start after it."""
        self._open: dict[int, JobId] = {}
        """Cancels that are not answered, by number."""
        self._held: set[int] = set()
        """Those of them during which their job was CANCELLED: it may be retried before they are answered."""

    def on_call(self, event: Call) -> None:
        if event.job is not None:
            self._open[event.number] = event.job
            if self._status.get(event.job) is CANCELLED:
                self._held.add(event.number)

    def on_observed(self, event: Observed) -> None:
        after = event.after
        self._status[event.job] = None if after is None else after.status
        if after is not None and after.status is CANCELLED:
            self._held.update(number for number, job in self._open.items() if job == event.job)
        if after is not None and event.verb == "claim" and after.status is PROCESSING:
            self._claims[event.job] = (*self._claims.get(event.job, ()), after.token)
        if after is None and event.before is not None and event.before.terminal:
            self._claims.pop(event.job, None)
        if after is None or event.verb in ("retry", "resume"):
            self._cancelled.discard(event.job)
        elif event.job in self._cancelled and after.status is not CANCELLED:
            self.breach("cancel_undone", f"{event.verb} made it {after.status} after it was cancelled", job=event.job)
            self._cancelled.discard(event.job)
        elif after.status is CANCELLED:
            self._cancelled.add(event.job)

    def on_return(self, event: Return) -> None:
        if event.verb != "cancel":
            return
        self._open.pop(event.number, None)
        held = event.number in self._held
        self._held.discard(event.number)
        if held or not event.outcome.done or event.job is None or Design.CANCELS_BY_MARK in self.rules.designs:
            return
        status = self._status.get(event.job)
        if status is not None and status is not CANCELLED:
            self.breach("cancel_ignored", f"cancel was answered with done, and the job is {status}", job=event.job)

    def on_effect(self, event: Effect) -> None:
        if (
            event.name == "started"
            and event.job in self._cancelled
            and event.token not in self._claims.get(event.job, ())
        ):
            self.breach("cancelled_job_started", f"{event.actor} starts it after it was cancelled", job=event.job)


class CancelsAreKept(CancelWins):
    """Looks at what an operator was told, and at what others make of a cancelled job afterwards.

    What had begun before the cancel may run on: how a process learns of it is its own affair.
    """

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"cancel"}),
        "on_return": frozenset({"cancel"}),
        "on_effect": frozenset(),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._accepted: set[JobId] = set()
        """Unfinished jobs of which it was said that they will be cancelled."""

    def on_observed(self, event: Observed) -> None:
        if self.rules.is_operated(event):
            self._cancelled.discard(event.job)
        super().on_observed(event)
        if event.job in self._accepted and (event.after is None or event.after.terminal):
            self._accepted.discard(event.job)
            if event.after is not None and event.after.status is not CANCELLED:
                told = f"its cancel was accepted, and {event.actor} made it {event.after.status}"
                self.breach("cancel_ignored", told, job=event.job)

    def on_return(self, event: Return) -> None:
        unfinished = self._status.get(event.job or "") in (PENDING, PROCESSING)
        if event.verb == "cancel" and event.job is not None and event.outcome.reason == ACCEPTED and unfinished:
            self._open.pop(event.number, None)
            if event.number not in self._held:
                self._accepted.add(event.job)
        else:
            super().on_return(event)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for job in self._accepted & views.keys():
            self.breach("cancel_ignored", f"its cancel was accepted, but it is still {views[job].status}", job=job)


CANCEL_WINS = Invariant(
    id="cancel_wins",
    sentence="A cancelled job stays cancelled; no result, retry or taking back undoes it.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("cancel_undone", Guarantee.CANCELLATION, "A cancelled job changed to another status."),
        AnomalyKind("cancel_ignored", Guarantee.CANCELLATION, "A cancel was confirmed but had no effect."),
        AnomalyKind(
            "cancelled_job_started", Guarantee.CANCELLATION, "A job was claimed and started after it was cancelled."
        ),
    ),
    make=CancelWins,
    capabilities=("cancel",),
    stepwise=CancelsAreKept,
    evidence=EvidenceNeeded(actions=("cancel",)),
)


# retry_reopens --------------------------------------------------------------------------------------------------------


class RetryReopens(Monitor):
    """Watches whether a job came back at any time of a retry that was confirmed."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": REVIVING, "on_return": REVIVING}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._ended: dict[JobId, Status] = {}
        self._open: dict[int, JobId] = {}
        """Retries of what had ended, by number, until it comes back."""

    def on_observed(self, event: Observed) -> None:
        after = event.after
        if after is not None and after.terminal and after.status is not None:
            self._ended[event.job] = after.status
            return
        self._ended.pop(event.job, None)
        if self._open:
            self._open = {number: job for number, job in self._open.items() if job != event.job}

    def on_call(self, event: Call) -> None:
        if event.job in self._ended:
            self._open[event.number] = event.job

    def on_return(self, event: Return) -> None:
        job = self._open.pop(event.number, None)
        if job is not None and event.outcome.done and event.answered:
            self.breach("retry_ignored", f"{event.verb} was confirmed, and it still is {self._ended[job]}", job=job)


class RetriesRun(RetryReopens):
    """Also watches whether a job that an operator brought back fails before it has run, once it was seen running."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._ran: set[JobId] = set()
        self._reopened: set[JobId] = set()

    def on_observed(self, event: Observed) -> None:
        super().on_observed(event)
        job, before, after = event.job, event.before, event.after
        if after is None:
            self._reopened.discard(job)
        elif after.status is PROCESSING:
            self._reopened.discard(job)
            self._ran.add(job)
        elif before is not None and before.terminal and not after.terminal and self.rules.is_operated(event):
            self._reopened.add(job)
        elif after.terminal and job in self._reopened:
            self._reopened.discard(job)
            travels = bool(after.depends_on)  # It may end with what it depends on.
            if after.status is FAILED and job in self._ran and not travels and not self.rules.is_operated(event):
                told = f"it was retried, and {event.actor} made it FAILED before it ran again"
                self.breach("retry_ignored", told, job=job)


RETRY_REOPENS = Invariant(
    id="retry_reopens",
    sentence="A retry that was confirmed brings back a job that had ended.",
    kind=Kind.ALWAYS,
    anomalies=(AnomalyKind("retry_ignored", Guarantee.AT_LEAST_ONCE, "A retry was confirmed but had no effect."),),
    make=RetryReopens,
    capabilities=("retry",),
    stepwise=RetriesRun,
    evidence=EvidenceNeeded(actions=("retry",)),
)
