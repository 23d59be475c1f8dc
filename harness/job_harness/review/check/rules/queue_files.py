"""Rules for a queue in a file: what its SQL shows before anything is run.

They go by words, not by a grammar: where a verb calls a function, or is written in another way than
usual, nothing is said of it. A run shows the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from job_harness.review.check.cron import period_seconds
from job_harness.review.check.facts import Cron, Facts, OrderedColumn, Place, TableQueue, TableVerb
from job_harness.review.check.finding import Breach, Related, Rule, Severity
from job_harness.review.check.settings import standings, write_seconds

HELD: Final = ("complete", "fail", "heartbeat", "release")
TELLS_CLAIMS: Final = frozenset({":token", ":attempt"})


def _verbs_with_condition(queue: TableQueue, *verbs: str) -> Iterator[tuple[str, TableVerb]]:
    """List those of these verbs whose condition is in the text."""
    return ((name, queue.verbs[name]) for name in verbs if name in queue.verbs and queue.verbs[name].compared)


def _unfenced(facts: Facts) -> Iterator[Breach]:
    for queue in facts.table_queues:
        for name, verb in _verbs_with_condition(queue, *HELD) if queue.fencing else ():
            if TELLS_CLAIMS & verb.compared or (name == "heartbeat" and ":process" in verb.compared):
                continue  # A process has a row of its own, whose beat says nothing of one job.
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
                    _fence(queue.columns),
                    subject=name,
                )


def _fence(columns: Mapping[str, str]) -> str:
    """Say how to tell the claims of a job apart, by the columns that there are."""
    ways: list[str] = []
    if (token := columns.get("token")) is not None:
        ways.append(f"AND {token} = :token")
    if (attempts := columns.get("attempts")) is not None:
        ways.append(f"AND {attempts} = :attempt, if each claim adds one to {attempts}")
    if not ways:
        return "Let each claim write a new lock_token, and add AND lock_token = :token."
    return f"Add {', or '.join(ways)}."


def _token_left(facts: Facts) -> Iterator[Breach]:
    for queue in facts.table_queues:
        token, status = queue.columns.get("token"), queue.columns.get("status")
        expire = queue.verbs.get("expire")
        if token is None or expire is None or not expire.assigned or token in expire.assigned:
            continue
        for name, verb in _verbs_with_condition(queue, *HELD):
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
        for _, expire in _verbs_with_condition(queue, "expire"):
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
        order = ", ".join(map(str, claim.order))
        yield Breach(
            claim.ordered_at or claim.place,
            f"no index of {claim.table} follows ORDER BY {order}: each claim sorts all waiting jobs",
            f"CREATE INDEX ON {claim.table} ({order}); to keep it small, add a WHERE with the conditions of claim.",
        )


def _follows(claim: TableVerb, columns: tuple[OrderedColumn, ...]) -> bool:
    """Say whether an index has rows in the order that a claim asks for, behind what it compares with a fixed value.

    PostgreSQL reads an index in both directions, and sorts those that are alike in its first
    columns by the others.
    """
    rest = list(columns)
    while rest and rest[0].name in claim.equal and rest[0].name != claim.order[0].name:
        rest.pop(0)
    both = min(len(rest), len(claim.order))
    same = [one.name for one in rest[:both]] == [one.name for one in claim.order[:both]]
    return both > 0 and same and claim.order[0] in (rest[0], rest[0].backwards)


class _NamedDuration(NamedTuple):
    """A length of time in seconds, under the name that its place gives it."""

    name: str
    value: float
    place: Place

    def __str__(self) -> str:
        return write_seconds(self.value)


def _own(queue: TableQueue, name: str) -> _NamedDuration | None:
    """Return a setting that the queue file itself sets."""
    value = queue.settings.get(name)
    return None if value is None else _NamedDuration(name, float(value.value), value.place)  # type: ignore[arg-type]


_IN_CODE: Final = {"job_timeout": "job_timeout", "lease": "expiry", "stuck_timeout": "stuck_timeout"}
"""By setting of a queue file, what code sets that is the same."""


def _in_code(facts: Facts, name: str) -> _NamedDuration | None:
    """Return what the code beside the only queue of a repository sets; None where it says nothing, or two things."""
    if len(facts.table_queues) != 1 or facts.calls or facts.imported or facts.packages:
        return None
    found = [setting for one in standings(facts) if (setting := one.get(_IN_CODE[name])) is not None and setting.place]
    if not found or found[0].place is None or len({setting.value for setting in found}) > 1:
        return None
    return _NamedDuration(found[0].name, found[0].value, found[0].place)


def _short_lease(facts: Facts) -> Iterator[Breach]:
    for queue in facts.table_queues:
        timeout = _own(queue, "job_timeout") or _in_code(facts, "job_timeout")
        if timeout is None or "heartbeat" in queue.verbs:
            continue
        for held in filter(None, (_own(queue, "lease"), _own(queue, "stuck_timeout"))):
            if held.value <= timeout.value:
                yield Breach(
                    held.place,
                    f"{held.name} is {held}, and a job may run for {timeout}: it is taken back while it runs",
                    f"Set {held.name} to more than {timeout}, with room to stop and settle, or send heartbeats.",
                    (Related(timeout.place, f"{timeout.name} is {timeout}"),),
                    subject=held.name,
                )


def _killed(facts: Facts) -> Iterator[Breach]:
    """Which container has the workers is not told: the one that grants the most may."""
    longest = max((one for one in facts.limits if one.kind == "grace"), key=lambda one: one.seconds, default=None)
    for queue in facts.table_queues if longest is not None else ():
        timeout, lease = _own(queue, "job_timeout") or _in_code(facts, "job_timeout"), _own(queue, "lease")
        may_run = timeout or lease
        if may_run is None or longest is None or may_run.value <= longest.seconds or "release" in queue.verbs:
            continue
        until = f"its lease of {lease} has ended" if lease is not None else "its claim has ended"
        yield Breach(
            may_run.place,
            f"{may_run.name} lets a job run for {may_run}, and a deploy kills its worker "
            f"{write_seconds(longest.seconds)} after telling it to stop ({longest.service} at {longest.place}): "
            f"the job starts again only once {until}",
            f"Give running jobs back when the worker is told to stop, in a verb `release`, or set {longest.setting} "
            f"above {may_run}.",
            (Related(longest.place, f"{longest.service}: {write_seconds(longest.seconds)}"),),
            Severity.NOTE if longest.usual or timeout is None else None,
            subject=queue.name,
        )


def _differ(facts: Facts) -> Iterator[Breach]:
    for queue in facts.table_queues:
        for name in _IN_CODE:
            own, deployed = _own(queue, name), _in_code(facts, name)
            if own is not None and deployed is not None and own.value != deployed.value:
                yield _difference(own, deployed)
        expires = _own(queue, "expire_interval")
        crons = [(period, cron) for cron in (*facts.crons, *facts.schedules) if (period := _sweeps(cron)) is not None]
        if expires is not None and crons and len(facts.table_queues) == 1:
            period, cron = min(crons, key=lambda one: one[0])
            if period != expires.value:
                yield _difference(expires, _NamedDuration(f"the schedule of {cron.path}", period, cron.place))


def _difference(own: _NamedDuration, deployed: _NamedDuration) -> Breach:
    return Breach(
        own.place,
        f"{own.name} is {own} in this queue file, and {deployed.name} is {deployed}: runs on the file do not show what "
        "is deployed",
        f"Set {own.name} to {deployed}, or change {deployed.name}.",
        (Related(deployed.place, f"{deployed.name} is {deployed}"),),
        subject=own.name,
    )


_SWEEPS: Final = re.compile(r"expire|stuck|stale|reap|rescue|reclaim|requeue|job-?_?maint|reconcile", re.IGNORECASE)
"""What a cron is called that takes jobs back; one that cleans up may only delete them."""


def _sweeps(cron: Cron) -> float | None:
    """Return the period of a cron that takes jobs back, in seconds; None for any other."""
    return period_seconds(cron.schedule) if _SWEEPS.search(cron.path) else None


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
    Rule(
        "table_lease_within_job",
        Severity.ERROR,
        "In a queue file without heartbeats, a claim lasts longer than a job may run.",
        "A job that uses its allowed time is taken back while it runs; a second worker runs it too.",
        "Raise lease or stuck_timeout above job_timeout, or send heartbeats.",
        "configuration/expiry_leaves_room_to_settle.yaml",
        _short_lease,
    ),
    Rule(
        "table_job_outlives_grace",
        Severity.WARNING,
        "A worker of a queue file gives its jobs back when it is told to stop, or may take as long to stop as a job "
        "may run.",
        "Each deploy kills running jobs: each loses an attempt, and waits until its lease ends.",
        "Write a verb `release`, or raise stop_grace_period, terminationGracePeriodSeconds or kill_timeout.",
        "shutdown/running_job_is_finished.yaml",
        _killed,
    ),
    Rule(
        "table_settings_differ",
        Severity.WARNING,
        "The settings of a queue file are those that the code and the crons beside it set.",
        "A search on the file examines another queue than the one that is deployed.",
        "Write the same numbers in both.",
        "configuration/expiry_leaves_room_to_settle.yaml",
        _differ,
    ),
)
