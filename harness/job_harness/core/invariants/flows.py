"""Several jobs as one thing: what depends on others begins after them, and ends with them; a group has one callback.

A job may begin once all that it depends on is COMPLETED, and has to end where one of them is FAILED
or CANCELLED for good. What became of a dependency is read from its own row; one that is gone counts
as what it was last. No fault excuses anything: a queue that counts down to zero, or hands on by a
message, has to do so in the transaction in which the dependency ends, or make up for it. Whether a
dependent waits too long is asked at rest only. A parent depends on its children, which say so, and
which may come while it waits; a parent that stands for a group is no work of its own, and is
completed without having begun. A group may grow, too: whether it is complete is known where its
size is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from job_harness.core.history import Call, Observed
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
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    PROCESSING,
    JobId,
    JobView,
    Status,
    done_statuses,
)


class DependenciesKept(Monitor):
    """Remembers what each job depends on, and what became of every job."""

    derived: ClassVar[frozenset[str]] = frozenset({"_done"})

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self.derive()
        self._children: dict[JobId, dict[JobId, bool]] = {}
        """By job, those whose parent it is, and whether it was judged by them as it began: one that an operator
        retries while its parent runs came in time."""
        self._needs: dict[JobId, tuple[JobId, ...]] = {}
        """By job that has not ended."""
        self._came_to: dict[JobId, Status | None] = {}

    def derive(self) -> None:
        self._done = done_statuses(self.rules.designs)

    def on_observed(self, event: Observed) -> None:
        job, after = event.job, event.after
        if after is None:
            self._gone(event)
            return
        came_to = self._came_to.get(job)
        self._came_to[job] = after.status
        if after.depends_on and not after.terminal:
            self._needs[job] = after.depends_on
        if after.parent is not None:
            self._children.setdefault(after.parent, {}).setdefault(job, False)
        needs, children = self._needs.get(job, ()), self._children.get(job, {})
        if after.status is PROCESSING and came_to is not PROCESSING:
            self._not_awaited((*needs, *children), "dependency_not_awaited", f"{event.actor} took it", job)
            children.update(dict.fromkeys(children, True))
        elif children and after.status is COMPLETED and came_to is not COMPLETED:
            late = tuple(child for child, judged in children.items() if not judged)
            self._not_awaited(late, "parent_done_early", f"{event.actor} completed it", job)
        if after.terminal:
            if (
                needs
                and after.status is CANCELLED
                and event.verb != "cancel"
                and event.actor not in self.rules.operators
            ):
                self._cancelled(event, needs)
            self._needs.pop(job, None)
            self._children.pop(job, None)

    def _not_awaited(self, needs: tuple[JobId, ...], anomaly: str, what: str, job: JobId) -> None:
        """Judge a job that went on by what it has to wait for."""
        if others := [other for other in needs if self._came_to.get(other) not in self._done]:
            told = ", ".join(f"{other} is {self._came_to.get(other) or 'not there'}" for other in others)
            self.breach(anomaly, f"{what}, and {told}", job=job, others=others)

    def _cancelled(self, event: Observed, needs: tuple[JobId, ...]) -> None:
        """Judge a job that ended with what it depends on, which no caller cancelled."""
        if all(self._came_to.get(other) in (PENDING, PROCESSING, COMPLETED) for other in needs):
            told = ", ".join(f"{other} is {self._came_to[other]}" for other in needs)
            self.breach("dependent_ended_early", f"{event.verb} cancelled it, and {told}", job=event.job, others=needs)

    def _gone(self, event: Observed) -> None:
        self._needs.pop(event.job, None)
        needed = [job for job, needs in self._needs.items() if event.job in needs]
        if needed:
            told = f"{event.verb} deleted it, and {needed[0]} still needs it"
            self.breach("needed_job_deleted", told, job=event.job, others=needed)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for job in self._needs | self._children:
            view, needs = views.get(job), (*self._needs.get(job, ()), *self._children.get(job, ()))
            if view is None or view.status is not PENDING:
                continue
            lost = [other for other in needs if self._came_to.get(other) in {FAILED, CANCELLED} - self._done]
            if lost:
                told = f"{lost[0]} is {self._came_to[lost[0]]}, and it waits on"
                self.breach("failure_not_passed_on", told, job=job, others=lost)
            elif all(self._came_to.get(other) in self._done for other in needs):
                told = f"{', '.join(needs)} {'is' if len(needs) == 1 else 'are'} done, and it waits on"
                self.breach("dependent_forgotten", told, job=job, others=needs)


FLOWS_KEPT = Invariant(
    id="flows_kept",
    sentence="A job begins only after all it depends on has succeeded, and ends with what has failed.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "dependency_not_awaited", Guarantee.FLOWS, "A job began before a job that it depends on had succeeded."
        ),
        AnomalyKind(
            "failure_not_passed_on", Guarantee.FLOWS, "A job waits for one that has failed or was cancelled for good."
        ),
        AnomalyKind(
            "dependent_forgotten", Guarantee.FLOWS, "A job waits on although all that it depends on has succeeded."
        ),
        AnomalyKind(
            "dependent_ended_early",
            Guarantee.FLOWS,
            "A job was cancelled although nothing that it depends on had failed.",
        ),
        AnomalyKind(
            "parent_done_early", Guarantee.FLOWS, "A parent was completed before all of its children were done."
        ),
        AnomalyKind("needed_job_deleted", Guarantee.FLOWS, "A job was deleted while an unfinished one depended on it."),
    ),
    make=DependenciesKept,
    capabilities=("flows",),
    stepwise=DependenciesKept,
    evidence=EvidenceNeeded(either=("depends_on", "parent")),
)


class CallbackOnce(Monitor):
    """Remembers the members of each group, which of them have ended once, and its callbacks."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": frozenset({"enqueue"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._sizes: dict[str, int] = {}
        self._ended: dict[str, dict[JobId, bool]] = {}
        """By group, each of its members, and whether it has ended: one that an operator retries is not waited for."""
        self._callbacks: dict[str, JobId] = {}

    def on_call(self, event: Call) -> None:
        if (request := event.arguments[0]).group is not None:
            self._sizes[request.group] = request.group_size

    def on_observed(self, event: Observed) -> None:
        job, after = event.job, event.after or event.before
        if after is None:
            return
        if after.group is not None:
            members = self._ended.setdefault(after.group, {})
            members[job] = members.get(job, False) or event.after is None or after.terminal
        if (group := after.callback_of) is None:
            return
        first = self._callbacks.setdefault(group, job)
        if event.before is None and first != job:
            self.breach("callback_doubled", f"{first} is a callback of {group} already", job=job, others=(first,))
        began = event.before is None or event.before.status is PENDING
        if began and event.after is not None and after.status is not PENDING and after.status is not CANCELLED:
            self._judge_begun(event, group)

    def _judge_begun(self, event: Observed, group: str) -> None:
        members = self._ended.get(group, {})
        left = [member for member, ended in members.items() if not ended]
        size = self._sizes.get(group, 0)
        if left or len(members) < size:
            few = f"only {len(members)} of the {size} jobs of {group} were there"
            told = f"{', '.join(left)} of {group} had not ended" if left else few
            self.breach("callback_early", f"{event.actor} took it, and {told}", job=event.job, others=left)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for group, members in self._ended.items():
            if group not in self._callbacks and all(members.values()) and len(members) >= self._sizes.get(group, 0):
                last = next(reversed(members))
                told = f"all of {group} have ended, {', '.join(members)}, and it has no callback"
                self.breach("callback_missing", told, job=last, others=members)


GROUPS_KEPT = Invariant(
    id="groups_kept",
    sentence="The callback of a group runs once, after the last job of the group has ended.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("callback_early", Guarantee.FLOWS, "The callback of a group began before all of its jobs ended."),
        AnomalyKind("callback_doubled", Guarantee.FLOWS, "A group has two callbacks."),
        AnomalyKind("callback_missing", Guarantee.FLOWS, "All jobs of a group have ended, and it has no callback."),
    ),
    make=CallbackOnce,
    capabilities=("groups",),
    stepwise=CallbackOnce,
    evidence=EvidenceNeeded(columns=("group", "callback_of")),
)
