"""Wrong queues whose jobs depend on others: they do not wait, wait for ever, or lose what is needed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from job_harness.core.model import CANCELLED, COMPLETED, FAILED, JobId, JobView
from job_harness.engines.memory import FlowRules
from job_harness.search.wrong_queues.wrong_queue import Mistake, Theme


class FirstDependencyOnly(FlowRules):
    def may_begin(self, row: JobView) -> bool:
        return self.queue.is_completed(row.depends_on[0])


class EndedIsDone(FlowRules):
    def pass_on(self, row: JobView) -> None:
        rows = self.queue.rows
        for job in [job for job in self.queue.dependents if row.id in rows[job].depends_on]:
            others = tuple(other for other in rows[job].depends_on if other != row.id)
            self.queue.put(rows[job].changed(depends_on=others or None))


class FailureKept(FlowRules):
    def pass_on(self, row: JobView) -> None:
        return None


class OnceFailedIsFailed(FlowRules):
    """It takes any earlier failure of a job for its end."""

    def pass_on(self, row: JobView) -> None:
        super().pass_on(row.changed(status=FAILED) if row.attempts > 1 else row)


class NeededPruned(FlowRules):
    def is_needed(self, job: JobId, gone: Collection[JobId]) -> bool:
        return False


class ReleasedOnce(FlowRules):
    """It looks whether all is done only as the first of them ends: the last one releases nothing."""

    def may_begin(self, row: JobView) -> bool:
        done = [self.queue.rows[job].completed_at for job in row.depends_on if self.queue.is_completed(job)]
        return super().may_begin(row) and len(set(done)) == 1


class ChildrenComeLate(FlowRules):
    def late(self, parent: JobId) -> str | None:
        row = self.queue.rows.get(parent)
        return super().late(parent) if row is None or row.terminal else None


class SuccessesCounted(FlowRules):
    def counts(self, row: JobView) -> bool:
        return row.status is COMPLETED


class CancelledNotCounted(FlowRules):
    def counts(self, row: JobView) -> bool:
        return super().counts(row) and row.status is not CANCELLED


class CalledBackOfFirst(FlowRules):
    def is_called_back(self, row: JobView) -> bool:
        return self.callback_id(row) not in self.queue.rows


class CalledBackAgain(FlowRules):
    """It knows no callback that it has made: a job that an operator retries ends its group a second time."""

    def callback_id(self, row: JobView) -> JobId:
        return f"{row.group}-callback-{row.id}-{row.token}"


FLOWS: Final = Theme.of(
    "jobs that depend on others",
    Mistake(
        name="first-dependency-only",
        sentence="A job waits for the first of the jobs that it depends on, and not for the others.",
        source="a column for one parent where a flow has several",
        finds=("dependency_not_awaited",),
        rules=(FirstDependencyOnly,),
    ),
    Mistake(
        name="ended-is-done",
        sentence="A job begins once all that it depends on has ended, also where one of them failed.",
        source="NOT EXISTS (unfinished) where all have to have succeeded",
        finds=("dependency_not_awaited",),
        rules=(EndedIsDone,),
    ),
    Mistake(
        name="failure-kept",
        sentence="A job that failed for good leaves the jobs that depend on it waiting.",
        source="a parent that hears only of children that succeed",
        finds=("failure_not_passed_on", "job_never_run"),
        rules=(FailureKept,),
    ),
    Mistake(
        name="once-failed-is-failed",
        sentence="A job that succeeds after a retry ends the jobs that depend on it as if it had failed.",
        source="a list of failed children that a later success does not clear",
        finds=("dependent_ended_early",),
        rules=(OnceFailedIsFailed,),
    ),
    Mistake(
        name="needed-pruned",
        sentence="Retention deletes a completed job that an unfinished one depends on.",
        source="removeOnComplete beside a parent that reads its children",
        finds=("needed_job_deleted",),
        rules=(NeededPruned,),
    ),
    Mistake(
        name="released-once",
        sentence="A job that depends on several is looked at only when the first of them ends.",
        source="a counter that is read before it is counted down",
        finds=("dependent_forgotten", "job_never_run"),
        rules=(ReleasedOnce,),
    ),
    Mistake(
        name="children-come-late",
        sentence="A parent that is already running gets another child, and is completed without it.",
        source="a batch that takes jobs after its last one began",
        finds=("parent_done_early",),
        rules=(ChildrenComeLate,),
    ),
    Mistake(
        name="successes-counted",
        sentence="A group in which one job failed for good has no callback.",
        source="a counter of successes",
        finds=("callback_missing",),
        rules=(SuccessesCounted,),
    ),
    Mistake(
        name="cancelled-not-counted",
        sentence="A group in which one job was cancelled has no callback.",
        source="a cancel that does not go through what ends jobs",
        finds=("callback_missing",),
        rules=(CancelledNotCounted,),
    ),
    Mistake(
        name="called-back-of-first",
        sentence="The callback of a group comes after the first of its jobs.",
        source="a counter that is set once the jobs are sent",
        finds=("callback_early",),
        rules=(CalledBackOfFirst,),
    ),
    Mistake(
        name="called-back-again",
        sentence="A job of a group that is retried after the callback brings a second one.",
        source="a callback that is sent whenever a counter is zero",
        finds=("callback_doubled",),
        rules=(CalledBackAgain,),
    ),
)
