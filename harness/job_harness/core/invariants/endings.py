"""Endings: what a run came to is what the job says, whatever the run came to.

A COMPLETED job needs a run that succeeded and the output which that run gave; a failure of any kind, with any error
value, needs a recorded outcome, and a success must not be reported as a failure, unless the queue refused its result. A
worker that could not report is excused where a fault kept it from reporting, and
after `ENOUGH_TRIES` unanswered reports; a verb that raises is a lost outcome, but for a deadlock, which is judged under
`isolation`. `reconcile` may complete a job without a worker, for that is how it repairs one whose rows disagree.

Runs are what the application or the worker declares (`started`, `ended`). Where no run is ever
declared, nothing is concluded from their absence. What a process raises and does not catch is the
application's own doing, so it is judged there alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from job_harness.core.history import REFUSED, UNKNOWN, Call, Effect, Excuse, Fault, Observed, Return
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
    COMPLETED,
    FAILED,
    MINUTE,
    PENDING,
    PROCESSING,
    Design,
    Duration,
    Instant,
    JobId,
    JobView,
    format_duration,
    json_problem,
    same_json,
)

# completed_has_result -------------------------------------------------------------------------------------------------


class CompletedHasResult(Monitor):
    """Compares the row with what the completing call said and what its run came to."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"complete"}),
        "on_return": frozenset({"complete"}),
        "on_effect": frozenset({"started", "ended"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._said: dict[str, Call] = {}
        self._runs_seen = False
        """Whether runs are declared at all."""
        self._succeeded: set[JobId] = set()

    def on_call(self, event: Call) -> None:
        if event.verb == "complete":
            self._said[event.actor] = event

    def on_return(self, event: Return) -> None:
        self._said.pop(event.actor, None)

    def on_effect(self, event: Effect) -> None:
        if event.name == "started":
            self._runs_seen = True
        elif event.name == "ended" and event.data == "success":
            self._succeeded.add(event.job)

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if after is None and before is not None and before.terminal:
            self._succeeded.discard(event.job)
        if after is None or after.status is not COMPLETED:
            return
        if before is None or before.status is not COMPLETED:
            self._completed(event, after)

    def _completed(self, event: Observed, after: JobView) -> None:
        job = event.job
        call = self._said.get(event.actor) if event.verb == "complete" else None
        if event.verb != "reconcile" and (call is None or call.job != job):
            self.breach("success_without_run", f"{event.verb} made it COMPLETED; no worker said so", job=job)
        elif self._runs_seen and job not in self._succeeded:
            problem = None if call is None else json_problem(call.arguments[-1])
            why = f"its output should have been refused: {problem}" if problem else "no run of it ever succeeded"
            self.breach("success_without_run", f"it is COMPLETED, and {why}", job=job)
        if call is not None and call.job == job and not _same_result(call.arguments[-1], after.output):
            self.breach("wrong_result", f"it holds {after.output!r}, the worker said {call.arguments[-1]!r}", job=job)
        if after.error is not None:
            self.breach("completed_with_error", f"it is COMPLETED and holds the error {after.error!r}", job=job)
        if after.completed_at is None or after.started_at is None:
            if not self.rules.ends_may_lack_times:
                named = (("completedAt", after.completed_at), ("startedAt", after.started_at))
                told = f"{' and '.join(name for name, at in named if at is None)} missing"
                self.breach("completed_before_started", told, job=job)
        elif after.completed_at + 2 * self.settings.max_skew < after.started_at:
            self.breach("completed_before_started", "completedAt is before startedAt", job=job)


def _same_result(said: Any, kept: Any) -> bool:
    if said is kept or repr(said) == repr(kept):  # a NaN differs from itself
        return True
    if json_problem(said) is None and json_problem(kept) is None:
        return same_json(said, kept)
    return bool(said == kept)


class EndsAfterItBegan(Monitor):
    """Compares the times of what is COMPLETED: what else an application keeps of a run is its own affair."""

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or after.status is not COMPLETED or before.status is COMPLETED:
            return
        if after.started_at is not None and after.completed_at is not None:
            early = after.started_at - after.completed_at
            if early > 2 * self.settings.max_skew:
                told = f"it says that it was completed {format_duration(early)} before it was started"
                self.breach("completed_before_started", told, job=event.job)


COMPLETED_HAS_RESULT = Invariant(
    id="completed_has_result",
    sentence="COMPLETED carries the output of the attempt that completed it, completedAt >= startedAt, and no error.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("success_without_run", Guarantee.TRUTHFUL_RESULT, "A job is COMPLETED and no run of it succeeded."),
        AnomalyKind("wrong_result", Guarantee.TRUTHFUL_RESULT, "A job's result is not the one its worker returned."),
        AnomalyKind("completed_with_error", Guarantee.TRUTHFUL_RESULT, "A COMPLETED job still holds an error."),
        AnomalyKind("completed_before_started", Guarantee.TRUTHFUL_RESULT, "A job was completed before it started."),
    ),
    make=CompletedHasResult,
    stepwise=EndsAfterItBegan,
    evidence=EvidenceNeeded(columns=("started_at", "completed_at")),
)


# failure_is_recorded --------------------------------------------------------------------------------------------------


SETTLING = frozenset({"complete", "fail", "release"})
REPORTED = frozenset({"success", "failure", "timeout", "bad output"})
"""Ends of a run that its worker has to report."""
ENOUGH_TRIES = 2
"""After this many unanswered reports a worker is excused."""
TO_REPORT: Duration = MINUTE
"""So long a worker may take to report, and to report again."""
FAILING = frozenset({"fail", "expire", "rescue"})


class FailureIsRecorded(Monitor):
    """Looks at what settling verbs return, at the error that stays behind, and at runs whose end was not reported."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": SETTLING,
        "on_return": SETTLING,
        "on_effect": frozenset({"ended"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._rows: dict[JobId, JobView] = {}
        self._unreported: dict[JobId, tuple[str, Instant, int]] = {}
        """Whose run has ended and is not settled: by which worker, when, and how many reports went unanswered."""
        self._held_until: dict[str, Instant] = {}
        """Until when a worker is paused."""
        self._reporting: dict[str, JobId | None] = {}
        """By actor, the job that it is just reporting: it may wait for a lock that another holds."""
        self._succeeded: dict[JobId, int] = {}
        """What still runs by its row and succeeded in time, by the token of that run, unless its result was refused."""
        self._failing: dict[JobId, int | None] = {}
        """What still runs by its row and has a failure to report, by token: of a timeout, or of a second delivery."""

    def on_call(self, event: Call) -> None:
        self._reporting[event.actor] = event.job
        if event.verb != "fail" or event.job is None:
            return
        if self._succeeded.get(event.job) == event.token:
            self.breach("success_discarded", f"its run succeeded, and {event.actor} reports a failure", job=event.job)
        self._failing[event.job] = event.token

    def on_effect(self, event: Effect) -> None:
        row = self._rows.get(event.job)
        # Where the claim was taken back before, or another one stands by now, there is nothing left to report.
        holds = row is None or (row.token == event.token and row.status is PROCESSING)
        if event.data in REPORTED and holds:
            # A pause that strikes in plain code takes hold at the next await, and the end is told before that.
            since = max(event.at, self._held_until.get(event.actor, event.at))
            self._unreported[event.job] = (event.actor, since, 0)
            if event.data != "success":
                self._failing[event.job] = event.token
                self._succeeded.pop(event.job, None)
            elif self._failing.get(event.job) != event.token and not self._too_late(event, row):
                self._succeeded[event.job] = event.token

    def _too_late(self, event: Effect, row: JobView | None) -> bool:
        """Whether its worker may call a run timed out that comes to its end only now.

        A worker that was paused finds, in the instant in which it goes on, the end of the run and
        the end of its time.
        """
        if event.at <= self._held_until.get(event.actor, -1):
            return True
        if row is None or row.started_at is None:
            return False
        timed_out = event.at >= row.started_at + self.rules.timeout_of(event.job)
        return timed_out or (row.lease_until is not None and event.at >= row.lease_until)

    def on_fault(self, event: Fault) -> None:
        """Excuse a worker that was kept from reporting; one that could not reach the store has to report afterwards."""
        if self.excuse_of(event) is Excuse.AWAY:
            back = event.at + event.data["for"]
            self._unreported = {
                job: (worker, max(since, back), tries) if event.actor in ("*", worker) else (worker, since, tries)
                for job, (worker, since, tries) in self._unreported.items()
            }
            return
        if event.name != "stopped" and self.excuse_of(event) not in (Excuse.LATE, Excuse.DEATH):
            return
        if isinstance(length := event.data.get("for"), int):
            self._held_until[event.actor] = event.at + length
        for job in [job for job, (worker, _, _) in self._unreported.items() if event.actor in ("*", worker)]:
            del self._unreported[job]
            self._succeeded.pop(job, None)  # It may rightly call the run timed out by the time it goes on.

    def _taken_back(self, event: Observed, worker: str, since: Instant, tries: int) -> None:
        """Judge the loss of a claim whose run had ended: a worker that once got no answer must have asked again.

        It has to ask only as long as its lease holds: after that the queue may refuse it, however
        late it looks.
        """
        if self._reporting.get(worker) == event.job:
            return
        lease = event.before.lease_until if event.before is not None else None
        until = event.at if lease is None else min(event.at, lease)
        enough = 1 if Design.CALLED_IN_PROCESS in self.rules.designs else ENOUGH_TRIES
        if event.verb in ("expire", "rescue") and tries < enough and until - since > TO_REPORT:
            how = "reported it once and got no answer" if tries else "never reported it"
            self.breach("outcome_lost", f"its run ended; {worker} {how}, and {event.actor} took it back", job=event.job)

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        told = self._unreported or self._succeeded or self._failing
        if told and (after is None or after.status is not PROCESSING):
            self._succeeded.pop(event.job, None)
            self._failing.pop(event.job, None)
            report = self._unreported.pop(event.job, None)
            if report is not None:
                self._taken_back(event, *report)
        if after is None:
            self._rows.pop(event.job, None)
            return
        self._rows[event.job] = after
        if event.verb not in FAILING or before is None or before.status is after.status:
            return
        kept = (FAILED,) if Design.KEEPS_NO_ERROR in self.rules.designs else (FAILED, PENDING)
        if after.status in kept and not after.error:
            self.breach("error_lost", f"{event.verb} recorded no error", job=event.job)

    def on_return(self, event: Return) -> None:
        self._reporting.pop(event.actor, None)
        report = self._unreported.get(event.job or "")
        if event.outcome.kind is REFUSED and event.job is not None:
            self._succeeded.pop(event.job, None)
        if event.job is not None and report is not None and report[0] == event.actor:
            if event.outcome.kind is UNKNOWN or not event.answered:
                self._unreported[event.job] = (*report[:2], report[2] + 1)
            else:
                del self._unreported[event.job]
        if not event.answered:
            return
        if event.outcome.kind is UNKNOWN and not event.outcome.thrown_out:
            self.breach("outcome_lost", f"{event.verb} raised: {event.outcome.reason}", job=event.job)
        elif event.verb in ("complete", "fail") and event.outcome.done and event.job is not None:
            row = self._rows.get(event.job)
            if event.verb == "fail" and Design.WAITS_OUT_ITS_CLAIM in self.rules.designs:
                return
            if row is not None and row.status is PROCESSING and row.token == event.token:
                told = f"{event.verb} was answered with done, and the job still is PROCESSING"
                self.breach("outcome_lost", told, job=event.job)


class RunsAreRecorded(Monitor):
    """Compares how a process ended the run that it had of a job with what it wrote about it then.

    A process that was kept from anything since it took the job may write what it knows no better.
    """

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({"started", "ended"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._took: dict[JobId, str] = {}
        """By job, the process that took it."""
        self._kept: set[JobId] = set()
        """Those whose process was kept from something since."""
        self._came_to: dict[JobId, str] = {}
        """By job, how its last run ended."""

    def on_effect(self, event: Effect) -> None:
        plain = event.name == "ended" and (event.data != "success" or event.reply is None)
        self._came_to[event.job] = str(event.data) if plain else ""

    def on_fault(self, event: Fault) -> None:
        # Told to stop, it may have ended before it wrote what it knew: its next life does not.
        if self.excuse_of(event) is not None or event.name in ("raised", "stopped"):
            self._kept.update(job for job, who in self._took.items() if event.actor in ("*", who))

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or before.status is after.status:
            return
        took, how = self._took.pop(event.job, ""), self._came_to.pop(event.job, "")
        kept = event.job in self._kept
        self._kept.discard(event.job)
        if after.status is PROCESSING:
            self._took[event.job] = event.actor
        elif took != event.actor:
            return
        elif after.status is FAILED and how == "failure" and not after.error:
            self.breach("error_lost", f"{event.actor} made it FAILED and left no error", job=event.job)
        elif how == "success" and not kept and after.status in (FAILED, PENDING) and after.attempts >= before.attempts:
            told = f"its run succeeded, and {event.actor} made it {after.status}"
            self.breach("success_discarded", told, job=event.job)


FAILURE_IS_RECORDED = Invariant(
    id="failure_is_recorded",
    sentence="Every failure, with any error value, is recorded as a failure, and no success is.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "outcome_lost",
            Guarantee.AT_LEAST_ONCE,
            "The outcome of an attempt could not be recorded.",
            only_risks=True,
        ),
        AnomalyKind("error_lost", Guarantee.TRUTHFUL_RESULT, "A failed attempt left no error behind."),
        AnomalyKind("success_discarded", Guarantee.TRUTHFUL_RESULT, "A run that succeeded was reported as a failure."),
    ),
    make=FailureIsRecorded,
    stepwise=RunsAreRecorded,
    evidence=EvidenceNeeded(columns=("error",)),
)


# work_finished --------------------------------------------------------------------------------------------------------


class WorkStarted(Monitor):
    """Watches whether a worker that completes what it claimed has started it at all; what it did then is its own."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({"claimed", "started"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._unstarted: dict[JobId, str] = {}
        """Who claimed a job last, until that worker starts it."""

    def on_effect(self, event: Effect) -> None:
        if event.name == "claimed":
            self._unstarted[event.job] = event.actor
        elif self._unstarted.get(event.job) == event.actor:
            del self._unstarted[event.job]

    def on_changed(self, event: Observed) -> None:
        after = event.after
        if event.job not in self._unstarted or after is None or after.status is PROCESSING:
            return
        holder = self._unstarted.pop(event.job)
        if after.status is COMPLETED and event.verb == "complete" and event.actor == holder:
            self.breach("silent_success", f"{event.actor} completed it, and never ran it", job=event.job)


class WorkFinished(Monitor):
    """Compares what the user's row says with how the runs ended."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({"started", "ended"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._ends: dict[JobId, list[str]] = {}
        self._parents: set[JobId] = set()
        """Jobs whose work is done by others."""

    def on_effect(self, event: Effect) -> None:
        ends = self._ends.setdefault(event.job, [])
        if event.name == "ended":
            ends.append(str(event.data))

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if after is None and before is not None and before.terminal:
            self._ends.pop(event.job, None)
        if after is not None and after.parent is not None:
            self._parents.add(after.parent)
        if after is None or after.status is not COMPLETED:
            return
        if before is not None and before.status is COMPLETED:
            return
        ends = self._ends.get(event.job)
        if ends is None:
            known = self.rules.jobs  # What a scheduler of a system sends may do all its work at home.
            elsewhere = known[event.job].split if event.job in known else bool(known)
            if not elsewhere and event.job not in self._parents:
                self._breach(event, "it was never run")
        elif "success" not in ends:
            self._breach(event, f"its runs ended: {', '.join(ends)}" if ends else "its run has not ended")

    def _breach(self, event: Observed, why: str) -> None:
        self.breach("silent_success", f"{event.actor} made it COMPLETED ({event.verb}); {why}", job=event.job)


WORK_FINISHED = Invariant(
    id="work_finished",
    sentence="An application reports a job as COMPLETED only when a run of it succeeded.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "silent_success", Guarantee.TRUTHFUL_RESULT, "A job is reported COMPLETED although its work never finished."
        ),
    ),
    make=WorkStarted,
    stepwise=WorkFinished,
)


# processes_survive ----------------------------------------------------------------------------------------------------


class ProcessesSurvive(Monitor):
    """Hears of every uncaught exception, and of every process that is gone for good."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_fault": frozenset({"raised"})}

    def on_fault(self, event: Fault) -> None:
        if event.name == "raised":
            error, where, at = (event.data.get(key, "") for key in ("error", "where", "at"))
            told = f"raised {error} at {where}, after {at!r}" if where else f"died: {error}"
            self.breach("process_died" if event.data.get("gone") else "unhandled_error", f"{event.actor} {told}")


PROCESSES_SURVIVE = Invariant(
    id="processes_survive",
    sentence="No process of an application dies of an exception that it did not catch, or ends although it should not.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("process_died", Guarantee.AT_LEAST_ONCE, "A process ended by itself, and nothing brings it back."),
        AnomalyKind("unhandled_error", Guarantee.ISOLATION, "A process died of an uncaught exception."),
    ),
    make=Monitor,
    stepwise=ProcessesSurvive,
)
