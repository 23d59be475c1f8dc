"""Rules for a queue in a file: what its SQL shows before anything is run.

They go by words, not by a grammar: where a verb calls a function, or is written in another way than usual, nothing is
said of it. A run shows the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.lint.facts import Facts, TableQueue, TableVerb
from harness.lint.finding import Breach, Rule, Severity

HELD: Final = ("complete", "fail", "heartbeat", "release")
TELLS_CLAIMS: Final = frozenset({":token", ":attempt"})


def _said(queue: TableQueue, *verbs: str) -> Iterator[tuple[str, TableVerb]]:
    """List those of these verbs whose condition is in the text."""
    return ((name, queue.verbs[name]) for name in verbs if name in queue.verbs and queue.verbs[name].compared)


def _unfenced(facts: Facts) -> Iterator[Breach]:
    for queue in facts.table_queues:
        for name, verb in _said(queue, *HELD) if queue.fencing else ():
            if TELLS_CLAIMS & verb.compared:
                continue
            if ":worker" in verb.compared:
                yield Breach(
                    verb.place,
                    f"{name} checks only :worker: if a worker lost a job and claims it again, a late call is accepted",
                    "Compare :token or :attempt as well.",
                    severity=Severity.WARNING,
                    subject=name,
                )
            else:
                yield Breach(
                    verb.place,
                    f"the condition of {name} checks no :token, :attempt or :worker: a worker that lost the job may "
                    f"still {name} it",
                    f"Add AND {queue.columns.get('token', 'lock_token')} = :token, or AND attempts = :attempt where "
                    "attempts rise with each claim.",
                    subject=name,
                )


def _token_left(facts: Facts) -> Iterator[Breach]:
    for queue in facts.table_queues:
        token, status = queue.columns.get("token"), queue.columns.get("status")
        expire = queue.verbs.get("expire")
        if token is None or expire is None or not expire.assigned or token in expire.assigned:
            continue
        for name, verb in _said(queue, *HELD):
            if ":token" in verb.compared and status not in verb.compared:
                yield Breach(
                    verb.place,
                    f"expire leaves {token} in the row, and {name} checks only that: until the next claim, the worker "
                    f"that lost the job can {name} it",
                    f"Set {token} = NULL in expire, or check the status in {name}.",
                    subject=name,
                )


def _reaper_by_age(facts: Facts) -> Iterator[Breach]:
    for queue in facts.table_queues:
        for _, expire in _said(queue, "expire"):
            renewing = queue.verbs.get("heartbeat") or queue.verbs.get("claim")
            by = "heartbeat" if "heartbeat" in queue.verbs else "claim"
            if renewing is None or not renewing.assigned or renewing.assigned & expire.compared - {"status"}:
                continue
            written = ", ".join(sorted(renewing.assigned))
            yield Breach(
                expire.place,
                f"expire checks no column that {by} writes ({written}): it takes jobs back from live workers",
                "Check the column to which claim and heartbeat write the end of the lease.",
            )


def _uncounted(facts: Facts) -> Iterator[Breach]:
    for queue in facts.table_queues:
        claim, attempts = queue.verbs.get("claim"), queue.columns.get("attempts")
        if claim is not None and claim.assigned and attempts is not None and attempts not in claim.assigned:
            yield Breach(
                claim.place,
                f"claim does not count {attempts}: a job that kills its worker is delivered forever",
                f"Set {attempts} = {attempts} + 1 in claim, and nowhere else.",
            )


def _unordered(facts: Facts) -> Iterator[Breach]:
    for queue in facts.table_queues:
        claim = queue.verbs.get("claim")
        if claim is None or not claim.order or not queue.indexes:
            continue
        indexes = [columns for table, columns in queue.indexes if table == claim.table]
        if any(_follows(claim, columns) for columns in indexes):
            continue
        yield Breach(
            claim.ordered_at or claim.place,
            f"no index of {claim.table} follows ORDER BY {', '.join(claim.order)}: each claim sorts all waiting jobs",
            f"CREATE INDEX ON {claim.table} ({', '.join(claim.order)}) WHERE the job is due.",
        )


def _follows(claim: TableVerb, columns: tuple[str, ...]) -> bool:
    """Say whether an index has rows in the order that a claim asks for, behind what it compares with a fixed value."""
    rest = list(columns)
    while rest and rest[0] in claim.equal and rest[0] != claim.order[0]:
        rest.pop(0)
    return tuple(rest[: len(claim.order)]) == claim.order or tuple(rest) == claim.order[: len(rest)] != ()


RULES: Final = (
    Rule(
        "table_settles_unfenced",
        Severity.ERROR,
        "In a queue file, complete, fail, heartbeat and release check what distinguishes one claim from the next.",
        "A worker whose lease expired ends the attempt of the worker that has the job now. If only `:worker` is "
        "compared, it ends its own later attempt: a search seldom shows that, because few workers claim a job twice.",
        "Compare a token, or the attempt, in the condition.",
        "zombies/late_complete.yaml",
        _unfenced,
    ),
    Rule(
        "table_token_left",
        Severity.ERROR,
        "In a queue file, a job that was taken back has no token, or its status is checked too.",
        "A worker whose lease expired completes a job that already waits for its next attempt.",
        "Clear the token where the job is taken back.",
        "zombies/late_complete.yaml",
        _token_left,
    ),
    Rule(
        "table_reaper_by_age",
        Severity.ERROR,
        "In a queue file, expire checks the lease that claim and heartbeat write, not the age of the row.",
        "A job is taken back from a live worker, and runs twice at once.",
        "Compare the column that heartbeat sets.",
        "expiry/heartbeats_keep_a_lease.yaml",
        _reaper_by_age,
    ),
    Rule(
        "table_attempts_uncounted",
        Severity.ERROR,
        "In a queue file, a claim counts as an attempt.",
        "A job that kills its worker never fails, and takes one worker after the other with it.",
        "Count attempts in claim.",
        "crashes/every_attempt_crashes.yaml",
        _uncounted,
    ),
    Rule(
        "table_order_without_index",
        Severity.WARNING,
        "In a queue file, an index follows the order in which claim takes jobs.",
        "Each claim sorts all waiting jobs; the longer the queue, the slower every worker.",
        "Create an index on the columns of ORDER BY, in the same order.",
        "scheduling/oldest_first.yaml",
        _unordered,
    ),
)
