"""Requests: a job is what its producer asked for, there if and only if its transaction committed.

A request is compared with the row that first shows for its id. A repeated id is not judged again,
for its first row may be any of the two, unless the first job had ended and was deleted. What JSON
cannot hold must be refused and everything else taken; an answer that was lost says nothing either
way. A job of a transaction counts from the moment at which the producer asks for the commit, not
from the answer: the commit may take effect before it is told. A dead letter is owed for each time a
job became FAILED, and is looked for at rest only, since a queue may write it in a step of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from job_harness.core.history import UNKNOWN, Call, Observed, Return
from job_harness.core.invariants.clocks import TOLERANCE
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
from job_harness.core.model import FAILED, JobId, JobView, canonical, format_duration, json_problem

# options_honoured -----------------------------------------------------------------------------------------------------


OPTIONS = ("tool", "priority", "unique_key", "serial_key", "dead_letter")
MAKING = frozenset({"preset", "tick"})
"""Verbs that make jobs of their own: what those of a schedule are is another invariant's affair."""


class OptionsHonoured(Monitor):
    """Compares new rows with what was asked for."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"enqueue", "schedule"}),
        "on_return": frozenset({"enqueue"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._asked: dict[JobId, Any] = {}
        self._new: dict[int, Any] = {}
        """Enqueues under way of jobs that were never asked for before."""
        self._schedules: dict[str, Any] = {}
        self._ended: set[JobId] = set()
        """What was asked for, and has been deleted since: a request that comes late makes it again."""
        self._known = True
        """Whether every job so far was asked for: the first that was not says it of all that come of it."""

    def on_call(self, event: Call) -> None:
        request = event.arguments[0]
        if event.verb == "schedule":
            self._schedules[request.name] = request.job
        elif request.id not in self._asked:
            self._asked[request.id] = self._new[event.number] = request

    def on_created(self, event: Observed) -> None:
        after = event.after
        if after is None:
            return
        asked = self._asked.get(event.job) if after.schedule is None else self._schedules.get(after.schedule)
        if after.dead_of is not None or after.callback_of is not None:
            return
        if asked is not None:
            self._compare(after, asked)
        elif self._known and after.schedule is None and event.verb not in MAKING and event.job not in self._ended:
            self._known = False
            told = f"{event.verb} made it: no client and no schedule asked for it, and no other job left it behind"
            self.breach("job_from_nowhere", told, job=event.job)

    def on_deleted(self, event: Observed) -> None:
        if event.before is not None and event.before.terminal and self._asked.pop(event.job, None) is not None:
            self._ended.add(event.job)

    def _compare(self, after: JobView, asked: Any) -> None:
        wanted = {name: getattr(asked, name) for name in OPTIONS}
        wanted["max_attempts"] = asked.max_attempts or self.settings.max_attempts
        for name, value in wanted.items():
            if getattr(after, name) != value:
                self.breach("option_dropped", f"asked for {name} {value!r}, got {getattr(after, name)!r}", job=after.id)
        shown = self.rules.inputs_shown or after.input is not None
        if shown and json_problem(asked.input) is None and not _same_input(after.input, asked.input):
            self.breach("option_dropped", f"sent {asked.input!r:.100}, kept {after.input!r:.100}", job=after.id)

    def on_return(self, event: Return) -> None:
        request = self._new.pop(event.number, None)
        if request is None or not event.answered:
            return
        problem = request.problem
        if problem is not None:
            if event.outcome.done:
                self.breach("invalid_input_accepted", f"the queue took it: {problem}", job=event.job)
        elif event.outcome.kind is UNKNOWN:
            if event.outcome.thrown_out:
                return
            self.breach("valid_request_refused", f"enqueue raised: {event.outcome.reason}", job=event.job)
        elif not event.outcome.done and request.unique_key is None and request.transaction is None:
            if request.depends_on or request.parent is not None:
                return  # What it depends on may have failed, or be gone, and its parent may have begun.
            self.breach("valid_request_refused", f"nothing speaks against it: {event.outcome.reason}", job=event.job)


def _same_input(kept: Any, sent: Any) -> bool:
    return kept is sent or (json_problem(kept) is None and canonical(kept) == canonical(sent))


class RowsAsSent(Monitor):
    """Compares a new row with what its request carried beside the name of the job; keys may be written otherwise."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": frozenset({"send"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._asked: dict[JobId, Any] = {}
        self._prioritised = False
        """Whether any request said a priority: then one of 0 was asked for too."""
        self._kept: dict[str, str] = {}
        """By unique key as a row has it, the one that was asked for first."""

    def on_call(self, event: Call) -> None:
        asked = self._asked[event.arguments[0].id] = event.arguments[0]
        self._prioritised = self._prioritised or asked.priority != 0

    def on_created(self, event: Observed) -> None:
        asked, after = self._asked.pop(event.job, None), event.after
        if asked is None or after is None:
            return
        for name in ("priority", "unique_key", "serial_key"):
            wanted, got = getattr(asked, name), getattr(after, name)
            dropped = self._prioritised and got != wanted if name == "priority" else bool(wanted) and got is None
            if dropped:
                self.breach("option_dropped", f"asked for {name} {wanted!r}, got {got!r}", job=event.job)
        if asked.unique_key and after.unique_key is not None:
            first = self._kept.setdefault(after.unique_key, asked.unique_key)
            if _plain(first) != _plain(asked.unique_key):
                told = f"two unique keys are kept as one, {after.unique_key!r:.40}: {_apart(first, asked.unique_key)}"
                self.breach("option_dropped", told, job=event.job)


def _plain(key: str) -> str:
    """Return a key without what some leave out of it on purpose: blanks at its ends, and capitals."""
    return key.strip().casefold()


def _apart(one: str, other: str) -> str:
    """Say from which character on two keys differ."""
    at = next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )
    return f"they differ from character {at + 1} on"


OPTIONS_HONOURED = Invariant(
    id="options_honoured",
    sentence="A job is what its producer or its schedule asked for; every JSON input is accepted, and nothing else. "
    "No other job is made.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("option_dropped", Guarantee.OPTIONS, "A new job differs from what was asked for."),
        AnomalyKind("invalid_input_accepted", Guarantee.OPTIONS, "An input that JSON cannot hold was accepted."),
        AnomalyKind("valid_request_refused", Guarantee.OPTIONS, "A valid job was refused."),
        AnomalyKind("job_from_nowhere", Guarantee.OPTIONS, "A job was made that no client and no schedule asked for."),
    ),
    make=OptionsHonoured,
    stepwise=RowsAsSent,
    evidence=EvidenceNeeded(sent=True),
)


# own_lease_kept -------------------------------------------------------------------------------------------------------


LEASING = frozenset({"claim", "heartbeat"})


class OwnLeaseKept(Monitor):
    """Looks at the leases of jobs that asked for one of their own."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_changed": LEASING}

    def on_changed(self, event: Observed) -> None:
        facts = self.rules.jobs.get(event.job)
        before, after = event.before, event.after
        if facts is None or facts.lease is None or before is None or after is None or after.lease_until is None:
            return
        given = after.lease_until - event.clock
        if after.lease_until != before.lease_until and abs(given - facts.lease) > TOLERANCE:
            told = f"asked for a lease of {format_duration(facts.lease)}, {event.verb} gave {format_duration(given)}"
            self.breach("own_lease_dropped", told, job=event.job)


OWN_LEASE_KEPT = Invariant(
    id="own_lease_kept",
    sentence="A lease that a job asked for applies to every claim and every heartbeat.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("own_lease_dropped", Guarantee.OPTIONS, "A claim lasts longer or shorter than its job asked for."),
    ),
    make=OwnLeaseKept,
    capabilities=("own_leases", "virtual_time"),
)


# enqueue_iff_commit ---------------------------------------------------------------------------------------------------


TRANSACTIONAL = frozenset({"enqueue", "commit", "rollback"})


class EnqueueIffCommit(Monitor):
    """Keeps what each transaction sent, and how far that transaction came."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": TRANSACTIONAL, "on_return": TRANSACTIONAL}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._transaction: dict[JobId, str] = {}
        self._sent: dict[str, dict[JobId, None]] = {}
        """By transaction, the jobs that the queue took."""
        self._ending: dict[str, str] = {}
        """How its producer wants a transaction to end, once it said so."""
        self._committed: dict[str, None] = {}
        self._seen: set[JobId] = set()

    def on_call(self, event: Call) -> None:
        if event.verb == "enqueue":
            request = event.arguments[0]
            if request.transaction is not None:
                self._transaction[request.id] = request.transaction
            else:
                self._transaction.pop(request.id, None)
        else:
            self._ending[event.arguments[0]] = event.verb

    def on_created(self, event: Observed) -> None:
        self._seen.add(event.job)
        transaction = self._transaction.get(event.job)
        if transaction is None:
            return
        match self._ending.get(transaction):
            case "rollback":
                self.breach("rolled_back_job_visible", f"its transaction {transaction} was rolled back", job=event.job)
            case None:
                self.breach("uncommitted_job_visible", f"its transaction {transaction} did not commit", job=event.job)

    def on_return(self, event: Return) -> None:
        if not event.answered or not event.outcome.done or event.job is None:
            return
        if event.verb == "enqueue":
            transaction = self._transaction.get(event.job)
            if transaction is not None:
                self._sent.setdefault(transaction, {})[event.job] = None
        elif event.verb == "commit":
            self._committed[event.job] = None

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for transaction in self._committed:
            for job in self._sent.get(transaction, ()):
                if job not in self._seen:
                    self.breach("committed_job_lost", f"its transaction {transaction} committed", job=job)


ENQUEUE_IFF_COMMIT = Invariant(
    id="enqueue_iff_commit",
    sentence="A job that was sent in a transaction exists if and only if the transaction committed.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "committed_job_lost", Guarantee.AT_LEAST_ONCE, "A transaction committed, but its job does not exist."
        ),
        AnomalyKind(
            "uncommitted_job_visible", Guarantee.ATOMIC_ENQUEUE, "A job is visible before its transaction commits."
        ),
        AnomalyKind(
            "rolled_back_job_visible",
            Guarantee.ATOMIC_ENQUEUE,
            "A job exists although its transaction was rolled back.",
        ),
    ),
    make=EnqueueIffCommit,
    capabilities=("transactions",),
)


# dead_letters_complete ------------------------------------------------------------------------------------------------


class DeadLettersComplete(Monitor):
    """Counts failures and dead letters of each job that has a dead letter tool."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_changed": frozenset({"fail", "expire", "rescue", "reconcile", "claim"})
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._failures: dict[JobId, list[JobView]] = {}
        self._letters: dict[JobId, list[JobView]] = {}

    def on_created(self, event: Observed) -> None:
        after = event.after
        if after is not None and after.dead_of is not None:
            self._letters.setdefault(after.dead_of, []).append(after)

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or after.dead_letter is None or after.status is not FAILED:
            return
        if before.status is not FAILED:
            self._failures.setdefault(event.job, []).append(after)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for job in dict.fromkeys((*self._failures, *self._letters)):
            failures, letters = self._failures.get(job, []), self._letters.get(job, [])
            times = "once" if len(failures) == 1 else f"{len(failures)} times"
            told = f"it ended as FAILED {times} and left {len(letters) or 'no'} dead letter{'s' * (len(letters) > 1)}"
            if len(letters) < len(failures):
                self.breach("dead_letter_missing", told, job=job)
            elif len(letters) > len(failures):
                self.breach("dead_letter_doubled", told, job=job)
            for letter, failed in zip(letters, failures, strict=False):
                if (letter.tool, letter.input) != (failed.dead_letter, failed.input):
                    self.breach(
                        "dead_letter_changed",
                        f"its letter is for {letter.tool!r} with {letter.input!r:.80}, "
                        f"not for {failed.dead_letter!r} with {failed.input!r:.80}",
                        job=job,
                    )


class LettersOfRows(Monitor):
    """Counts what an application buries: every job that failed for good leaves a letter, and no more than one."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._failures: dict[JobId, int] = {}
        self._letters: dict[JobId, int] = {}

    def on_created(self, event: Observed) -> None:
        if event.after is not None and event.after.dead_of is not None:
            self._letters[event.after.dead_of] = self._letters.get(event.after.dead_of, 0) + 1

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is not None and after is not None and after.status is FAILED and before.status is not FAILED:
            self._failures[event.job] = self._failures.get(event.job, 0) + (after.dead_of is None)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for job in dict.fromkeys((*self._failures, *self._letters)):
            failures, letters = self._failures.get(job, 0), self._letters.get(job, 0)
            times = "once" if failures == 1 else f"{failures} times"
            told = f"it ended as FAILED {times} and left {letters or 'no'} dead letter{'s' * (letters > 1)}"
            if failures and not letters:
                self.breach("dead_letter_missing", told, job=job)
            elif letters > failures:
                self.breach("dead_letter_doubled", told, job=job)


DEAD_LETTERS_COMPLETE = Invariant(
    id="dead_letters_complete",
    sentence="A job that failed for good leaves one dead letter, with its input, for the tool that was asked for.",
    kind=Kind.EVENTUALLY,
    anomalies=(
        AnomalyKind(
            "dead_letter_missing", Guarantee.DEAD_LETTERS, "A job failed for good without leaving a dead letter."
        ),
        AnomalyKind(
            "dead_letter_doubled", Guarantee.DEAD_LETTERS, "A job left more dead letters than it had final failures."
        ),
        AnomalyKind("dead_letter_changed", Guarantee.DEAD_LETTERS, "A dead letter differs from its job."),
    ),
    make=DeadLettersComplete,
    capabilities=("dead_letters",),
    stepwise=LettersOfRows,
    evidence=EvidenceNeeded(columns=("dead_of",)),
)
