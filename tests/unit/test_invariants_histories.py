"""Every anomaly by a handwritten history that breaches it, beside the nearest one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest

from job_harness.core.faults import excuses
from job_harness.core.history.event import Call, Effect, Event, Fault, Observed, Phase, Return
from job_harness.core.history.outcome import ABORTED, DONE, Outcome, done
from job_harness.core.invariants import (
    ANOMALIES,
    CATALOGUE,
    Anomaly,
    Invariant,
    JobFacts,
    Judge,
    Kind,
    Monitor,
    Rules,
    stepwise,
)
from job_harness.core.invariants.endings import WorkStarted
from job_harness.core.model.design import Design
from job_harness.core.model.duration import DAY, HOUR, MINUTE, SECOND
from job_harness.core.model.job import JobView
from job_harness.core.model.lifecycle import QueueState, Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import Claim, JobRequest, Missed, Schedule
from job_harness.core.scenario.scenario import Scenario
from job_harness.search.coverage import Spotter
from job_harness.search.state_machine import breach

SETTINGS = Settings()
RETRY_AT = MINUTE + SECOND * 60


class AtRest(NamedTuple):
    """Stands at the end of a history whose jobs are judged at rest."""

    views: dict[str, JobView]


class Healed(NamedTuple):
    """Stands where faults stop."""

    views: dict[str, JobView]


Line: TypeAlias = Event | AtRest | Healed

WAITING = JobView(
    id="a",
    tool="tool",
    status=Status.PENDING,
    queue_state=QueueState.CREATED,
    priority=0,
    attempts=0,
    max_attempts=3,
    token=0,
    worker=None,
    output=None,
    error=None,
    unique_key=None,
    created_at=0,
    start_after=0,
    started_at=None,
    lease_until=None,
    completed_at=None,
    expires_at=None,
)
RUNNING = WAITING._replace(
    status=Status.PROCESSING,
    queue_state=QueueState.ACTIVE,
    attempts=1,
    token=1,
    worker="w1",
    started_at=0,
    lease_until=SETTINGS.lease,
)


def ended(status: Status, view: JobView = RUNNING, *, at: int = SECOND, **values: Any) -> JobView:
    return view._replace(
        status=status,
        queue_state=QueueState(status.value.lower()),
        lease_until=None,
        completed_at=at,
        expires_at=at + SETTINGS.retention,
    )._replace(**values)


COMPLETED = ended(Status.COMPLETED, output=1)
FAILED = ended(Status.FAILED, attempts=3, error="it failed")
CANCELLED = ended(Status.CANCELLED)
RETRYING = RUNNING._replace(
    status=Status.PENDING,
    queue_state=QueueState.RETRY,
    worker=None,
    lease_until=None,
    error="it failed",
    start_after=RETRY_AT,
)
AGAIN = RUNNING._replace(token=2, attempts=2, worker="w2")


def saw(verb: str, before: JobView | None, after: JobView | None, *, at: int = MINUTE, actor: str = "w1") -> Observed:
    view = after or before
    assert view is not None
    return Observed(at, actor, verb, view.id, before, after, at)


def asked(verb: str, *arguments: Any, token: int | None = 1, at: int = MINUTE, actor: str = "w1") -> Call:
    return Call(at, actor, verb, "a", token, arguments, 1)


def answered(
    verb: str, outcome: Outcome = DONE, *, token: int | None = 1, at: int = MINUTE, actor: str = "w1", job: str = "a"
) -> Return:
    return Return(at, actor, verb, job, token, outcome, 1, True)


def did(name: str, data: Any = None, *, token: int = 1, at: int = MINUTE, actor: str = "w1") -> Effect:
    return Effect(at, actor, "a", token, token, name, data)


def rest(*views: JobView) -> AtRest:
    return AtRest({view.id: view for view in views})


def going_round(times: int) -> list[Line]:
    put_off = [RETRYING._replace(start_after=number * MINUTE) for number in range(times + 1)]
    return [
        Healed({"a": put_off[0]}),
        *(saw("claim", put_off[at - 1], put_off[at], at=(at - 1) * MINUTE) for at in range(1, times + 1)),
    ]


LONGEST = max(SETTINGS.lease, SETTINGS.job_timeout, SETTINGS.stuck_timeout) // MINUTE


def extending(minutes: int) -> list[Line]:
    """A claim whose lease is extended so often, once a minute; its row shows nothing else."""
    held = RUNNING._replace(started_at=None)
    leases = [held._replace(lease_until=SETTINGS.lease + minute * MINUTE) for minute in range(minutes + 1)]
    return [
        Healed({"a": WAITING}),
        saw("claim", WAITING, leases[0], at=0),
        *(saw("statement", leases[at - 1], leases[at], at=at * MINUTE) for at in range(1, minutes + 1)),
    ]


def claimed(view: JobView, *, at: int = 0) -> Observed:
    """A claim that the row's own times belong to."""
    before = view._replace(
        status=Status.PENDING,
        queue_state=QueueState.CREATED,
        attempts=view.attempts - 1,
        token=view.token - 1,
        worker=None,
        started_at=None,
        lease_until=None,
    )
    return saw("claim", before, view, at=at, actor=view.worker or "w1")


def completing(output: Any, after: JobView) -> list[Line]:
    return [
        claimed(RUNNING),
        did("started"),
        did("ended", "success"),
        asked("complete", None, output),
        saw("complete", RUNNING, after),
    ]


def stale(verb: str, *arguments: Any, token: int) -> list[Line]:
    return [claimed(AGAIN), asked(verb, None, *arguments, token=token), answered(verb, token=token)]


def settled(verb: str, *arguments: Any, after: JobView, token: int) -> list[Line]:
    return [
        claimed(AGAIN),
        asked(verb, None, *arguments, token=token),
        saw(verb, AGAIN, after),
        answered(verb, token=token),
    ]


def enqueuing(key: str, outcome: Outcome, *before: Line) -> list[Line]:
    return [*before, asked("enqueue", JobRequest("b", unique_key=key)), answered("enqueue", outcome, job="b")]


HELD = WAITING._replace(unique_key="k")
OTHER = HELD._replace(id="b")
EARLIER = WAITING._replace(id="b", priority=5)
REFUSED = Outcome.refused("the unique key is held", "a")
RAISED = Outcome.unknown("ValueError: bad row")
DUE_LATER = SETTINGS.lease + MINUTE

SECOND_RUNNING = RUNNING._replace(id="b", worker="w2")
SERIAL = RUNNING._replace(serial_key="s")
SECOND_SERIAL = SERIAL._replace(id="b", worker="w2")
NIGHTLY = Schedule("n", HOUR, JobRequest("n", priority=5))
FIRST = WAITING._replace(id="n1", schedule="n", slot=HOUR, priority=5)
AGAIN_FIRST = FIRST._replace(id="n1-")
OWN = WAITING._replace(id="own")
OWN_RUNNING = RUNNING._replace(id="own", lease_until=HOUR)
MOURNED = FAILED._replace(dead_letter="dead", input=1)
LETTER = WAITING._replace(id="a-dead-3", tool="dead", input=1, dead_of="a")


def scheduling(*after: Line) -> list[Line]:
    return [asked("schedule", NIGHTLY, at=0), answered("schedule", at=0), *after]


def ticking(*within: Line, at: int = HOUR) -> list[Line]:
    return [asked("tick", "s1", at=at), *within, answered("tick", done([]), at=at)]


def in_transaction(*after: Line) -> list[Line]:
    request = JobRequest("a", transaction="t")
    return [asked("enqueue", request), answered("enqueue", done("a")), *after]


def ending(verb: str, *within: Line) -> list[Line]:
    return [asked(verb, "t"), *within, answered(verb, job="t")]


def dying(*letters: JobView) -> list[Line]:
    new = [saw("fail", None, letter) for letter in letters]
    return [saw("fail", RUNNING._replace(dead_letter="dead", input=1), MOURNED), *new, rest(MOURNED)]


def sending(request: JobRequest, outcome: Outcome, *within: Line) -> list[Line]:
    return [asked("enqueue", request), *within, answered("enqueue", outcome)]


def daily(*, at: int = 0, **terms: Any) -> list[Line]:
    """A schedule of 23:00, in UTC unless said otherwise."""
    schedule = Schedule("n", 0, JobRequest("n", priority=5), cron="0 23 * * *", **terms)
    return [asked("schedule", schedule, at=at), answered("schedule", at=at)]


def claim_of(job: str) -> Claim:
    return Claim(job, 1, 1, "w1", "tool", DAY)


def pausing(*after: Line) -> list[Line]:
    return [asked("pause", "tool", actor="op"), *after]


B_WAITS = WAITING._replace(id="b", depends_on=("a",))
B_CANCELLED = CANCELLED._replace(id="b", depends_on=("a",))
AFTER_A = RUNNING._replace(id="b", depends_on=("a",))
NEEDS = saw("enqueue", None, B_WAITS)
"""It waits for the job `a`, of which nothing is known yet."""
A_DONE = saw("complete", RUNNING, COMPLETED)
B_DONE = COMPLETED._replace(id="b")
CHILD = saw("enqueue", None, WAITING._replace(id="c", parent="b"))
CHILD_DONE = saw("complete", RUNNING._replace(id="c", parent="b"), COMPLETED._replace(id="c", parent="b"))
CHILD_AGAIN = saw("retry", FAILED._replace(id="c", parent="b"), WAITING._replace(id="c", parent="b"), actor="client")
B_ENDS = saw("complete", AFTER_A, B_DONE)
MEMBER = saw("enqueue", None, WAITING._replace(group="g"))
MEMBER_DONE = saw("complete", RUNNING._replace(group="g"), COMPLETED._replace(group="g"))
AT_LAST = WAITING._replace(id="l", callback_of="g")
CALLBACK = saw("complete", None, AT_LAST)
CALLBACK_TOO = saw("complete", None, AT_LAST._replace(id="m"))
CALLED = saw("claim", AT_LAST, RUNNING._replace(id="l", callback_of="g"))


STOPPED = Fault(MINUTE, "w1", "stopped", {})
NAN = JobRequest("a", input=float("nan"))
HISTORIES: dict[str, tuple[Sequence[Line], Sequence[Line]]] = {
    "illegal_transition": (
        [saw("claim", WAITING, ended(Status.FAILED))],
        [claimed(RUNNING)],
    ),
    "terminal_job_revived": ([saw("claim", FAILED, RUNNING)], [saw("retry", FAILED, WAITING)]),
    "terminal_job_rewritten": (
        [saw("complete", COMPLETED, COMPLETED._replace(output=2))],
        [saw("complete", RUNNING, COMPLETED)],
    ),
    "attempt_overrun": (
        [claimed(RUNNING._replace(attempts=4, token=4))],
        [claimed(RUNNING._replace(attempts=3, token=3))],
    ),
    "attempt_not_counted": ([saw("claim", WAITING, RUNNING._replace(attempts=0))], [claimed(RUNNING)]),
    "attempts_changed": (
        [saw("expire", RUNNING, RETRYING._replace(attempts=2))],
        [saw("expire", RUNNING, RETRYING)],
    ),
    "failed_early": (
        [saw("fail", RUNNING, ended(Status.FAILED))],
        [asked("fail", None, "no", True), saw("fail", RUNNING, ended(Status.FAILED))],
    ),
    "final_error_retried": (
        [asked("fail", None, "no", True), saw("fail", RUNNING, RETRYING)],
        [asked("fail", None, "no", False), saw("fail", RUNNING, RETRYING)],
    ),
    "double_claim": (
        [saw("claim", RUNNING, AGAIN)],
        [
            claimed(RUNNING),
            saw("claim", RUNNING, RUNNING._replace(lease_until=DUE_LATER)),
            saw("expire", RUNNING, RETRYING),
            saw("claim", RETRYING, AGAIN),
        ],
    ),
    "token_reused": (
        [answered("claim", done([Claim("a", 1, 1, "w1", "tool", 0), Claim("a", 2, 1, "w2", "tool", 0)]))],
        [answered("claim", done([Claim("a", 1, 1, "w1", "tool", 0), Claim("a", 2, 2, "w2", "tool", 0)]))],
    ),
    "stale_complete": (stale("complete", 1, token=1), settled("complete", 1, after=COMPLETED, token=2)),
    "stale_fail": (stale("fail", "no", False, token=1), settled("fail", "no", False, after=RETRYING, token=2)),
    "stale_release": (stale("release", token=1), settled("release", after=WAITING, token=2)),
    "stale_heartbeat": (
        stale("heartbeat", token=1),
        settled("heartbeat", after=AGAIN._replace(lease_until=DUE_LATER), token=2),
    ),
    "concurrent_execution": (
        [
            claimed(RUNNING),
            did("started"),
            saw("expire", RUNNING, RETRYING),
            saw("claim", RETRYING, AGAIN),
            did("started", token=2, actor="w2"),
        ],
        [
            claimed(RUNNING),
            did("started"),
            did("ended", "timeout"),
            saw("fail", RUNNING, RETRYING),
            saw("claim", RETRYING, AGAIN),
            did("started", token=2, actor="w2"),
        ],
    ),
    "taken_back_early": (
        [claimed(RUNNING), saw("expire", RUNNING, RETRYING, at=5 * MINUTE)],
        [claimed(RUNNING), saw("fail", RUNNING, RETRYING, at=5 * MINUTE)],
    ),
    "healthy_claim_taken_back": (
        [claimed(RUNNING), saw("expire", RUNNING, RETRYING, at=DUE_LATER)],
        [
            claimed(RUNNING),
            Fault(0, "w1", "pause", {"for": 2 * SETTINGS.lease}),
            saw("expire", RUNNING, RETRYING, at=DUE_LATER),
        ],
    ),
    "success_without_run": ([saw("expire", RUNNING, COMPLETED)], completing(1, COMPLETED)),
    "wrong_result": (completing(2, COMPLETED), completing(1, COMPLETED)),
    "completed_with_error": (completing(1, COMPLETED._replace(error="it failed")), completing(1, COMPLETED)),
    "completed_before_started": (completing(1, COMPLETED._replace(completed_at=None)), completing(1, COMPLETED)),
    "job_vanished": ([answered("enqueue", done("a")), rest()], [answered("enqueue", done("a")), rest(COMPLETED)]),
    "job_stuck": ([saw("enqueue", None, WAITING), rest(RUNNING)], [saw("enqueue", None, WAITING), rest(FAILED)]),
    "job_never_run": ([saw("enqueue", None, WAITING), rest(WAITING)], [saw("enqueue", None, WAITING), rest(FAILED)]),
    "livelock": (going_round(6), going_round(4)),
    "job_hangs": (extending(LONGEST + 20), extending(LONGEST)),
    "tables_disagree": ([rest(COMPLETED._replace(queue_state=QueueState.ACTIVE))], [rest(COMPLETED)]),
    "orphan_row": ([rest(COMPLETED._replace(queue_state=None))], [rest(COMPLETED)]),
    "claimed_early": (
        [saw("claim", WAITING._replace(start_after=2 * MINUTE), RUNNING)],
        [saw("claim", WAITING._replace(start_after=MINUTE), RUNNING)],
    ),
    "schedule_dropped": (
        [saw("enqueue", None, WAITING._replace(id="later"))],
        [saw("enqueue", None, WAITING._replace(id="later", start_after=DAY))],
    ),
    "backoff_out_of_range": (
        [saw("fail", RUNNING, RETRYING._replace(start_after=MINUTE + 5 * SECOND))],
        [saw("fail", RUNNING, RETRYING)],
    ),
    "priority_inversion": (
        [
            saw("enqueue", None, EARLIER),
            asked("claim"),
            saw("claim", WAITING, RUNNING),
            answered("claim", done([])),
        ],
        [
            saw("enqueue", None, EARLIER._replace(start_after=DAY)),
            asked("claim"),
            saw("claim", WAITING, RUNNING),
            answered("claim", done([])),
        ],
    ),
    "batch_poisoned": ([answered("expire", RAISED)], [answered("expire", done([]))]),
    "bystander_harmed": (
        [rest(FAILED._replace(id="healthy"))],
        [Fault(0, "w1", "crash", {"at": "claim", "after": False}), rest(FAILED._replace(id="healthy"))],
    ),
    "outcome_lost": ([answered("fail", RAISED)], [answered("fail", DONE)]),
    "error_lost": ([saw("fail", RUNNING, RETRYING._replace(error=None))], [saw("fail", RUNNING, RETRYING)]),
    "success_discarded": (
        [did("ended", "success"), asked("fail")],
        [did("ended", "success"), answered("complete", Outcome.refused("too large")), asked("fail")],
    ),
    "maintenance_repeats": (
        [asked("purge"), answered("purge"), asked("purge"), saw("purge", COMPLETED, None, at=MINUTE)],
        [asked("purge"), answered("purge"), asked("purge", at=DAY), saw("purge", COMPLETED, None, at=DAY)],
    ),
    "overdue_claim_left": (
        [saw("claim", WAITING, RUNNING), asked("expire", at=DAY), answered("expire")],
        [saw("claim", WAITING, RUNNING), asked("expire", at=DAY), saw("expire", RUNNING, FAILED), answered("expire")],
    ),
    "unique_key_shared": (
        [saw("enqueue", None, HELD), saw("enqueue", None, OTHER)],
        [
            saw("enqueue", None, HELD),
            saw("cancel", HELD, ended(Status.CANCELLED, HELD)),
            saw("enqueue", None, OTHER),
        ],
    ),
    "unique_key_stuck": (
        enqueuing("k", REFUSED),
        enqueuing("k", REFUSED, saw("enqueue", None, HELD)),
    ),
    "cancel_undone": (
        [saw("cancel", RUNNING, CANCELLED), saw("fail", CANCELLED, RETRYING)],
        [saw("cancel", RUNNING, CANCELLED), saw("retry", CANCELLED, WAITING)],
    ),
    "cancel_ignored": (
        [claimed(RUNNING), answered("cancel")],
        [claimed(RUNNING), saw("cancel", RUNNING, CANCELLED), answered("cancel")],
    ),
    "retry_ignored": (
        [saw("fail", RUNNING, FAILED), asked("retry"), answered("retry")],
        [saw("fail", RUNNING, FAILED), asked("retry"), saw("retry", FAILED, WAITING), answered("retry")],
    ),
    "dependency_not_awaited": ([NEEDS, claimed(AFTER_A)], [NEEDS, A_DONE, claimed(AFTER_A)]),
    "failure_not_passed_on": (
        [NEEDS, saw("fail", RUNNING, FAILED), rest(FAILED, B_WAITS)],
        [NEEDS, saw("fail", RUNNING, FAILED), saw("fail", B_WAITS, B_CANCELLED), rest(FAILED, B_CANCELLED)],
    ),
    "dependent_forgotten": (
        [NEEDS, A_DONE, rest(COMPLETED, B_WAITS)],
        [NEEDS, A_DONE, claimed(AFTER_A), rest(COMPLETED, AFTER_A)],
    ),
    "dependent_ended_early": (
        [NEEDS, claimed(RUNNING), saw("fail", B_WAITS, B_CANCELLED)],
        [NEEDS, saw("fail", RUNNING, FAILED), saw("fail", B_WAITS, B_CANCELLED)],
    ),
    "needed_job_deleted": (
        [NEEDS, A_DONE, saw("purge", COMPLETED, None)],
        [NEEDS, A_DONE, saw("complete", AFTER_A, COMPLETED._replace(id="b")), saw("purge", COMPLETED, None)],
    ),
    "parent_done_early": (
        [saw("enqueue", None, B_WAITS), CHILD, B_ENDS],
        [saw("enqueue", None, B_WAITS), CHILD, A_DONE, CHILD_DONE, claimed(AFTER_A), CHILD_AGAIN, B_ENDS],
    ),
    "callback_early": ([MEMBER, CALLBACK, CALLED], [MEMBER, MEMBER_DONE, CALLBACK, CALLED]),
    "callback_doubled": ([MEMBER_DONE, CALLBACK, CALLBACK_TOO], [MEMBER_DONE, CALLBACK, CALLED]),
    "callback_missing": ([MEMBER, MEMBER_DONE, rest(COMPLETED)], [MEMBER, MEMBER_DONE, CALLBACK, rest(COMPLETED)]),
    "cancelled_job_started": (
        [saw("cancel", RUNNING, CANCELLED), did("started", token=2)],
        [claimed(RUNNING), did("claimed"), saw("cancel", RUNNING, CANCELLED), did("started")],
    ),
    "live_job_deleted": ([saw("purge", RUNNING, None)], [saw("purge", COMPLETED, None, at=8 * DAY)]),
    "deleted_early": ([saw("purge", COMPLETED, None)], [saw("purge", COMPLETED, None, at=8 * DAY)]),
    "concurrency_exceeded": (
        [claimed(RUNNING), claimed(SECOND_RUNNING)],
        [claimed(RUNNING), saw("complete", RUNNING, COMPLETED), claimed(SECOND_RUNNING)],
    ),
    "rate_exceeded": (
        [claimed(RUNNING), saw("complete", RUNNING, COMPLETED), claimed(SECOND_RUNNING)],
        [claimed(RUNNING), claimed(SECOND_RUNNING._replace(started_at=RUNNING.started_at + 5 * MINUTE))],
    ),
    "serial_key_shared": (
        [claimed(SERIAL), claimed(SECOND_SERIAL)],
        [claimed(SERIAL), saw("release", SERIAL, WAITING._replace(serial_key="s")), claimed(SECOND_SERIAL)],
    ),
    "due_job_left": (
        [saw("enqueue", None, WAITING), asked("claim", "w1", 1), answered("claim", done([]))],
        [
            claimed(SECOND_SERIAL),
            saw("enqueue", None, WAITING._replace(serial_key="s")),
            asked("claim", "w1", 1),
            answered("claim", done([])),
        ],
    ),
    "slot_missed": (scheduling(*ticking()), scheduling(*ticking(saw("tick", None, FIRST, at=HOUR)))),
    "slot_doubled": (
        scheduling(*ticking(saw("tick", None, FIRST, at=HOUR), saw("tick", None, AGAIN_FIRST, at=HOUR))),
        scheduling(*ticking(saw("tick", None, FIRST, at=HOUR)), *ticking(at=HOUR + MINUTE)),
    ),
    "slot_early": (
        scheduling(*ticking(saw("tick", None, FIRST, at=HOUR - SECOND), at=HOUR - SECOND)),
        scheduling(
            Fault(HOUR - SECOND, "*", "clock", {"whose": "store", "offset": SECOND}),
            *ticking(Observed(HOUR - SECOND, "s1", "tick", "n1", None, FIRST, HOUR), at=HOUR - SECOND),
        ),
    ),
    "slot_unplanned": (
        [*daily(), *ticking(saw("tick", None, FIRST, at=HOUR, actor="s1"))],
        [*daily(), *ticking(saw("tick", None, FIRST._replace(slot=23 * HOUR), at=DAY, actor="s1"), at=DAY)],
    ),
    "committed_job_lost": (
        [*in_transaction(*ending("commit")), rest()],
        [*in_transaction(*ending("commit", saw("commit", None, WAITING))), rest()],
    ),
    "uncommitted_job_visible": (
        in_transaction(saw("enqueue", None, WAITING)),
        in_transaction(*ending("commit", saw("commit", None, WAITING))),
    ),
    "rolled_back_job_visible": (
        in_transaction(*ending("rollback", saw("rollback", None, WAITING))),
        in_transaction(*ending("rollback")),
    ),
    "option_dropped": (
        sending(JobRequest("a", priority=5), done("a"), saw("enqueue", None, WAITING)),
        sending(JobRequest("a", priority=5), done("a"), saw("enqueue", None, WAITING._replace(priority=5))),
    ),
    "job_from_nowhere": (
        sending(JobRequest("b"), done("b"), saw("fail", None, WAITING)),
        sending(JobRequest("a"), done("a"), saw("enqueue", None, WAITING)),
    ),
    "own_lease_dropped": (
        [saw("claim", OWN, OWN_RUNNING._replace(lease_until=SETTINGS.lease), at=0)],
        [saw("claim", OWN, OWN_RUNNING, at=0)],
    ),
    "claim_over_limit": (
        [asked("claim", "w1", 1), answered("claim", done([claim_of("a"), claim_of("b")]))],
        [asked("claim", "w1", 2), answered("claim", done([claim_of("a"), claim_of("b")]))],
    ),
    "unserved_tool": (
        [asked("claim", "w1", 1, ("other",)), answered("claim", done([claim_of("a")]))],
        [asked("claim", "w1", 1, ("other", "tool")), answered("claim", done([claim_of("a")]))],
    ),
    "paused_job_claimed": (
        [*pausing(answered("pause", job="tool")), asked("claim", "w1", 1), claimed(RUNNING)],
        [*pausing(), asked("claim", "w1", 1), answered("pause", job="tool", actor="op"), claimed(RUNNING)],
    ),
    "invalid_input_accepted": (sending(NAN, done("a")), sending(NAN, Outcome.refused("invalid input"))),
    "valid_request_refused": (
        sending(JobRequest("a", input="x" * 9_000), RAISED),
        [*sending(JobRequest("a"), done("a")), *sending(JobRequest("a"), Outcome.refused("this id exists", "a"))],
    ),
    "dead_letter_missing": (dying(), dying(LETTER)),
    "dead_letter_doubled": (dying(LETTER, LETTER._replace(id="a-dead-4")), dying(LETTER)),
    "dead_letter_changed": (dying(LETTER._replace(input=None)), dying(LETTER)),
    "claim_left_behind": (
        [claimed(RUNNING), STOPPED],
        [claimed(RUNNING), saw("release", RUNNING, WAITING), STOPPED],
    ),
    "lost_update": (
        [
            asked("rescue", at=DAY, actor="cron"),
            saw("complete", RUNNING, COMPLETED, at=DAY),
            saw("rescue", COMPLETED, RETRYING, at=DAY, actor="cron"),
        ],
        [
            asked("rescue", at=DAY, actor="cron"),
            saw("heartbeat", RUNNING, RUNNING, at=DAY),
            saw("rescue", RUNNING, RETRYING, at=DAY, actor="cron"),
        ],
    ),
    "deadlock": (
        [asked("complete"), answered("complete", Outcome.unknown("DeadlockDetected: deadlock detected"))],
        [asked("complete"), answered("complete", Outcome.unknown("OperationalError: the connection broke"))],
    ),
    "foreign_clock": (
        [saw("claim", WAITING, RUNNING, at=3 * SECOND)],
        [claimed(RUNNING)],
    ),
    "silent_success": (
        [did("started"), did("ended", "failure"), saw("step reconcile", RUNNING, COMPLETED)],
        [did("started"), did("ended", "success"), saw("step reconcile", RUNNING, COMPLETED)],
    ),
    "process_died": (
        [Fault(0, "w1", "raised", {"at": "running", "error": "exit code 0", "where": "", "gone": True})],
        [Fault(0, "w1", "stopped", {})],
    ),
    "unhandled_error": (
        [Fault(0, "w1", "raised", {"at": "step fail", "error": "ValueError: no", "where": "jobs.py:7"})],
        [Fault(0, "w1", "crash", {"at": "fail a", "after": False})],
    ),
}

LIMITED = Settings(concurrency=1)
SETTINGS_OF = {"concurrency_exceeded": LIMITED, "rate_exceeded": Settings(rate_limit=1, rate_window=5 * MINUTE)}
FACTS = {
    "healthy": JobFacts(healthy=True),
    "later": JobFacts(start_after=DAY),
    "own": JobFacts(lease=HOUR),
}


def found(anomaly: str, history: Sequence[Line]) -> set[str]:
    return {item.name for item in breaches(anomaly, history)}


def breaches(anomaly: str, history: Sequence[Line]) -> list[Anomaly]:
    invariant = ANOMALIES[anomaly][0]
    judged = stepwise((invariant,)) if invariant.make in (Monitor, WorkStarted) else (invariant,)
    judge = Judge(judged, Rules(SETTINGS_OF.get(anomaly, SETTINGS), FACTS, excuses=excuses()))
    for line in history:
        if isinstance(line, AtRest):
            judge.rest(line.views)
        elif isinstance(line, Healed):
            judge.healed(line.views)
        else:
            judge.see(line)
    return judge.anomalies


@pytest.mark.parametrize("anomaly", HISTORIES)
def test_a_history_with_the_breach_is_named(anomaly: str) -> None:
    assert anomaly in found(anomaly, HISTORIES[anomaly][0])


@pytest.mark.parametrize("anomaly", HISTORIES)
def test_the_nearest_history_without_it_passes(anomaly: str) -> None:
    assert found(anomaly, HISTORIES[anomaly][1]) == set()


@pytest.mark.parametrize(
    ("said", "kept", "same"),
    [
        (True, 1, False),
        ({"n": [True]}, {"n": [1.0]}, False),
        ({"n": 1.0}, {"n": 1}, True),
        ((1, 2**70), [1, 2.0**70], True),
    ],
)
def test_a_result_that_is_true_is_not_kept_as_1_and_1_0_may_be(said: Any, kept: Any, same: bool) -> None:
    assert (found("wrong_result", completing(said, COMPLETED._replace(output=kept))) == set()) is same


def test_a_job_whose_row_lost_its_key_holds_it_no_more() -> None:
    held, running = WAITING._replace(unique_key="k"), RUNNING._replace(unique_key="k", serial_key="s")
    free = running._replace(unique_key=None, serial_key=None)
    other = RUNNING._replace(id="b", unique_key="k", serial_key="s")
    begun = [saw("enqueue", None, held), saw("claim", held, running)]
    second = [saw("enqueue", None, held._replace(id="b")), saw("claim", held._replace(id="b"), other)]
    assert judged_by_all([*begun, *second]) >= {"unique_key_shared", "serial_key_shared"}
    let_go = [*begun, saw("update", running, free), *second]
    assert {"unique_key_shared", "serial_key_shared"}.isdisjoint(judged_by_all(let_go))
    taken = saw("update", held._replace(id="b", unique_key="m"), held._replace(id="b"))
    assert found("unique_key_shared", [begun[0], saw("enqueue", None, taken.before), taken]) == {"unique_key_shared"}


def test_only_an_operator_s_step_brings_back_a_job_of_an_application() -> None:
    applied = stepwise(CATALOGUE)
    assert judged_by_all([saw("step retry", FAILED, WAITING)], applied) == set()
    assert judged_by_all([saw("step retry later", FAILED, WAITING)], applied) == {"terminal_job_revived"}


def test_an_operator_s_step_gives_a_job_of_an_application_new_runs() -> None:
    runs = [did("started", token=number) for number in range(1, 4)]
    retried = [*runs, saw("step retry", FAILED, WAITING), did("started", token=4)]
    assert "attempt_overrun" not in judged_by_all(retried, stepwise(CATALOGUE))
    assert "attempt_overrun" in judged_by_all([*retried, *runs], stepwise(CATALOGUE))


def test_a_named_operator_may_do_so_by_any_step() -> None:
    rules = Rules(SETTINGS, FACTS, operators=frozenset({"op"}), excuses=excuses())
    for actor, told in {"op": [], "w1": ["terminal_job_revived"]}.items():
        judge = Judge(stepwise(CATALOGUE), rules)
        judge.see(saw("update job", FAILED, WAITING, actor=actor))
        assert [item.name for item in judge.anomalies] == told


def test_a_claim_that_a_failure_leaves_to_run_out_is_left_behind_and_taken_back() -> None:
    lines = [claimed(RUNNING), answered("fail"), STOPPED, saw("expire", RUNNING, RETRYING, at=DUE_LATER)]
    told = {"claim_left_behind", "healthy_claim_taken_back"}
    for designs, names in {frozenset[Design](): told, frozenset({Design.WAITS_OUT_ITS_CLAIM}): set[str]()}.items():
        judge = Judge(CATALOGUE, Rules(SETTINGS, FACTS, designs=designs, excuses=excuses()))
        for line in lines:
            judge.see(line)
        assert {item.name for item in judge.anomalies} & told == names


def test_two_claims_at_one_instant_may_have_one_token_where_that_may_be_a_time() -> None:
    first, again = (answered("claim", done([Claim("a", number, 1, "w1", "tool", 0)])) for number in (1, 2))
    for later, told in {0: [], 1: ["token_reused"]}.items():
        judge = Judge(CATALOGUE, Rules(SETTINGS, FACTS, granularity=1, excuses=excuses()))
        judge.see(first)
        judge.see(again._replace(at=first.at + later))
        assert [item.name for item in judge.anomalies if item.name == "token_reused"] == told


LOST = [saw("update job", WAITING, RUNNING), saw("sweep", RUNNING, RETRYING, actor="cron")]
"""A process takes a job, and it is taken back."""
TAKEN_OVER = [*LOST, saw("update job", RETRYING, AGAIN, actor="w2")]
LATER = AGAIN._replace(lease_until=2 * SETTINGS.lease)
RETAKEN = LATER._replace(token=3, worker="w1")
ASSIGNED, OTHER = AGAIN._replace(token=3, worker="host-w1.2"), AGAIN._replace(token=3, worker="host-w12")
RESET, FREED = RUNNING._replace(token=0, attempts=0), RUNNING._replace(worker=None)


@pytest.mark.parametrize(
    ("history", "names"),
    [
        ([*TAKEN_OVER, saw("update job", AGAIN, COMPLETED)], {"stale_complete"}),
        (
            [LOST[0], saw("update job", RUNNING, AGAIN, actor="w2"), saw("update job", AGAIN, COMPLETED)],
            {"stale_complete"},
        ),
        ([*TAKEN_OVER, saw("heartbeat", AGAIN, LATER), saw("update job", LATER, COMPLETED)], {"stale_complete"}),
        ([*TAKEN_OVER, saw("update job", AGAIN, COMPLETED, actor="w2")], set()),
        ([*TAKEN_OVER, saw("update job", AGAIN, COMPLETED, actor="w3")], set()),
        ([*TAKEN_OVER, saw("rollback", AGAIN, COMPLETED)], set()),
        ([*TAKEN_OVER, saw("update job", AGAIN, CANCELLED)], set()),
        ([*TAKEN_OVER, Fault(MINUTE, "w1", "crash", {}), saw("update job", AGAIN, COMPLETED)], set()),
        ([*TAKEN_OVER, saw("update job", AGAIN, RETAKEN), saw("update job", RETAKEN, COMPLETED)], set()),
        ([*TAKEN_OVER, saw("update job", AGAIN, ASSIGNED, actor="w2"), saw("update job", ASSIGNED, COMPLETED)], set()),
        (
            [*TAKEN_OVER, saw("update job", AGAIN, OTHER, actor="w2"), saw("update job", OTHER, COMPLETED)],
            {"stale_complete"},
        ),
        ([LOST[0], saw("retry", RUNNING, RESET, actor="api"), saw("update job", RESET, COMPLETED)], set()),
        ([LOST[0], saw("sweep", RUNNING, FREED, actor="api"), saw("update job", FREED, COMPLETED)], set()),
        ([*TAKEN_OVER, saw("update job", AGAIN, RETRYING)], {"stale_fail"}),
        ([*TAKEN_OVER, saw("update job", AGAIN, RETRYING, at=SETTINGS.lease)], set()),
        ([*TAKEN_OVER, Fault(MINUTE, "w2", "crash", {}), saw("update job", AGAIN, RETRYING)], set()),
    ],
    ids=[
        "completes",
        "completes what was taken from it at once",
        "completes after a heartbeat of the other's claim",
        "completed by its holder",
        "completed by one that never had it",
        "seen as a lock was let go",
        "cancelled",
        "completed in another life",
        "completed after it was taken again",
        "completed by the one to whom it was assigned",
        "completes what was assigned to another",
        "completed after an operator set its attempts back",
        "completed after its worker was taken out of the row",
        "fails",
        "taken back as the lease is over",
        "taken back from a dead process",
    ],
)
def test_a_process_ends_no_claim_of_another_that_has_taken_its_job(history: list[Line], names: set[str]) -> None:
    ends = {"stale_complete", "stale_fail"}
    assert ends & judged_by_all(history, stepwise(CATALOGUE)) == names


RENEWED = FREED._replace(lease_until=3 * SETTINGS.lease)
COUNTED = RENEWED._replace(token=2, attempts=2)


@pytest.mark.parametrize(
    ("at", "actor", "names"),
    [(2 * SETTINGS.lease, "w2", set()), (MINUTE, "w2", {"double_claim"}), (2 * SETTINGS.lease, "w3", {"double_claim"})],
    ids=["by who renewed it once it was over", "while it stood", "by a third one"],
)
def test_a_claim_may_renew_a_lease_that_is_over_before_it_counts_the_attempt(
    at: int, actor: str, names: set[str]
) -> None:
    claim = [saw("psetex", FREED, RENEWED, at=at, actor="w2"), saw("incr", RENEWED, COUNTED, at=at, actor=actor)]
    assert judged_by_all([saw("claim", WAITING, FREED), *claim], stepwise(CATALOGUE)) & {"double_claim"} == names


def judged_by_all(history: Sequence[Line], invariants: tuple[Invariant, ...] = CATALOGUE) -> set[str]:
    judge = Judge(invariants, Rules(SETTINGS, excuses=excuses()))
    for line in history:
        assert not isinstance(line, AtRest | Healed)
        judge.see(line)
    return {item.name for item in judge.anomalies}


@pytest.mark.parametrize(("sent", "names"), [("", {"silent_success"}), ("a", {"silent_success"}), ("b", set())])
def test_a_job_that_no_client_sent_may_do_its_work_without_a_run_that_is_seen(sent: str, names: set[str]) -> None:
    rules = Rules(SETTINGS, {job: JobFacts() for job in sent}, excuses=excuses())
    judge = Judge(stepwise((ANOMALIES["silent_success"][0],)), rules)
    judge.see(saw("update job", RUNNING, COMPLETED))
    assert {item.name for item in judge.anomalies} == names


def life(*end: Line, final: bool, priority: int, lasts: JobView) -> list[Line]:
    """A job that may run once, from when it is sent until its row is deleted, a retention after its end."""
    sent = WAITING._replace(max_attempts=lasts.max_attempts, priority=priority)
    running = RUNNING._replace(max_attempts=lasts.max_attempts, priority=priority)
    request = JobRequest("a", priority=priority, max_attempts=lasts.max_attempts)
    return [
        *(asked("enqueue", request, at=0), saw("enqueue", None, sent, at=0), answered("enqueue", done("a"), at=0)),
        *(asked("claim", "w1", 1, token=None, at=0), saw("claim", sent, running, at=0), did("started", at=0)),
        answered("claim", done([Claim("a", 1, 1, "w1", "tool", SETTINGS.lease)]), token=None, at=0),
        *(did("ended", "failure", at=SECOND), asked("fail", "it failed", final, at=SECOND)),
        *(saw("fail", running, lasts, at=SECOND), answered("fail", at=SECOND)),
        *end,
    ]


def test_what_is_sent_under_the_id_of_a_job_that_ended_and_was_deleted_is_another_job() -> None:
    first = FAILED._replace(attempts=1, max_attempts=2, priority=0)
    over = saw("purge", first, None, at=SETTINGS.retention + MINUTE, actor="maintenance")
    once = life(over, final=True, priority=0, lasts=first)
    second = RETRYING._replace(attempts=1, max_attempts=2, priority=5, start_after=SECOND + MINUTE)
    again = life(final=False, priority=5, lasts=second)
    assert judged_by_all([*once, *again]) == set()
    assert judged_by_all([*once[:-1], *again]) >= {"final_error_retried"}
    spent = FAILED._replace(attempts=1, max_attempts=1)
    twice = [*life(over, final=False, priority=0, lasts=spent), *life(final=False, priority=0, lasts=spent)]
    assert judged_by_all(twice) == set()
    assert judged_by_all(twice, stepwise(CATALOGUE)) == set()
    unrun = saw("complete", RUNNING._replace(max_attempts=1), COMPLETED._replace(max_attempts=1))
    ran = [did("started"), did("ended", "success"), saw("purge", spent, None, at=DAY * 8)]
    ran += [did("started"), asked("complete", None, 1), unrun]
    assert "success_without_run" in judged_by_all(ran)
    assert "silent_success" in judged_by_all(ran, stepwise(CATALOGUE))
    gone_again = [saw("purge", COMPLETED, None), saw("enqueue", None, WAITING), saw("purge", WAITING, None), rest()]
    assert found("job_vanished", gone_again) == {"job_vanished"}
    unclaimed = [saw("purge", CANCELLED, None), saw("enqueue", None, WAITING), saw("cancel", WAITING, CANCELLED)]
    started = found(
        "cancelled_job_started", [claimed(RUNNING), saw("cancel", RUNNING, CANCELLED), *unclaimed, did("started")]
    )
    assert started == {"cancelled_job_started"}


def test_a_cancel_whose_job_is_retried_before_it_is_answered_is_not_ignored() -> None:
    retried = saw("retry", CANCELLED, WAITING, actor="op")
    cancelled = [asked("cancel", "a"), saw("cancel", WAITING, CANCELLED), retried, answered("cancel")]
    assert found("cancel_ignored", cancelled) == set()
    assert found("cancel_ignored", [saw("cancel", WAITING, CANCELLED), asked("cancel", "a"), *cancelled[2:]]) == set()
    ignored = [*cancelled, asked("cancel", "a"), answered("cancel")]
    assert found("cancel_ignored", ignored) == {"cancel_ignored"}


def test_a_refusal_for_the_key_of_another_tool_names_the_job_that_holds_it() -> None:
    history = enqueuing("k", REFUSED, saw("enqueue", None, HELD._replace(tool="mail")))
    (anomaly,) = breaches("unique_key_stuck", history)
    assert anomaly.message.startswith(
        "refused, and no unfinished job of the tool 'tool' holds the key (a, of the tool 'mail', does): "
    )


def test_a_claim_that_its_worker_had_ended_itself_is_not_said_to_be_taken_back() -> None:
    late = [asked("fail", "no", False, token=1), saw("fail", RETRYING, RETRYING._replace(error="late"))]
    ended = [claimed(RUNNING), asked("fail", "no", False, token=1), saw("fail", RUNNING, RETRYING), answered("fail")]
    (own,) = breaches("stale_fail", [*ended, *late])
    assert " with token 1 though `fail` had ended that attempt; " in own.message
    (taken,) = breaches("stale_fail", [claimed(RUNNING), saw("expire", RUNNING, RETRYING, actor="queue"), *late])
    assert " with token 1 that was taken back; " in taken.message


def test_an_end_of_a_run_that_nobody_reported_shows_when_its_claim_is_taken_back() -> None:
    lost = saw("expire", RUNNING, RETRYING, at=DAY, actor="queue")
    unanswered = answered("complete", Outcome.unknown("the request was lost"))._replace(answered=False)
    assert found("outcome_lost", [did("ended", "success"), lost]) == {"outcome_lost"}
    assert found("outcome_lost", [did("ended", "success"), unanswered, lost]) == {"outcome_lost"}
    assert found("outcome_lost", [did("ended", "success"), unanswered, unanswered, lost]) == set()
    assert found("outcome_lost", [did("ended", "success"), Fault(0, "w1", "crash", {}), lost]) == set()


def test_a_worker_that_is_paused_as_its_run_ends_is_excused_for_as_long_as_it_stands_still() -> None:
    lost = saw("expire", RUNNING, RETRYING, at=DAY, actor="queue")
    told = did("ended", "success")
    assert found("outcome_lost", [Fault(0, "w1", "pause", {"for": DAY}), told, lost]) == set()
    assert found("outcome_lost", [Fault(0, "w1", "pause", {"for": MINUTE}), told, lost]) == {"outcome_lost"}
    assert found("outcome_lost", [Fault(0, "w2", "pause", {"for": DAY}), told, lost]) == {"outcome_lost"}


def test_a_claim_that_is_delivered_twice_is_excused_in_both_of_its_runs() -> None:
    history: list[Line] = [
        claimed(RUNNING),
        Fault(MINUTE, "w1", "pause", {"at": "claim", "for": SETTINGS.lease + MINUTE}),
        saw("expire", RUNNING, RETRYING, at=SETTINGS.lease + MINUTE),
        saw("claim", RETRYING, AGAIN),
        did("started"),
        did("started"),
        did("started", token=2, actor="w2"),
    ]
    assert found("concurrent_execution", history) == set()
    assert found("concurrent_execution", [history[0], *history[2:]]) >= {"concurrent_execution"}


def test_a_worker_that_stood_still_after_a_success_may_call_its_run_timed_out() -> None:
    told, late, failed = did("ended", "success"), Fault(0, "w1", "pause", {"for": DAY}), asked("fail", at=DAY)
    assert found("success_discarded", [told, failed]) == {"success_discarded"}
    assert found("success_discarded", [told, late, failed]) == set()
    assert found("success_discarded", [late, told, failed]) == set()
    just_back = Fault(0, "w1", "pause", {"for": MINUTE})
    assert found("success_discarded", [just_back, told, failed]) == set()
    in_time, overdue = (did("ended", "success", at=SETTINGS.job_timeout + late) for late in (-SECOND, 0))
    beating = claimed(RUNNING._replace(lease_until=DAY))
    assert found("success_discarded", [beating, in_time, failed]) == {"success_discarded"}
    assert found("success_discarded", [beating, overdue, failed]) == set()


@pytest.mark.parametrize(("early", "names"), [(2 * SECOND, {"taken_back_early", "lost_update"}), (0, set())])
def test_a_run_whose_time_is_over_may_be_taken_back_whatever_its_heartbeats_say(early: int, names: set[str]) -> None:
    """Beside a lease that heartbeats keep, a queue may bound the whole run; only a worker that was late meets that."""
    at = SETTINGS.job_timeout - early
    beat = saw("heartbeat", RUNNING._replace(lease_until=at), RUNNING._replace(lease_until=DAY), at=at)
    late = Fault(0, "w1", "pause", {"for": 2 * SETTINGS.lease})
    sweep = saw("expire", beat.after, RETRYING, at=at, actor="queue")
    history = [claimed(RUNNING), late, asked("expire", at=at, actor="queue"), beat, sweep]
    assert found("taken_back_early", history) | found("lost_update", history) == names
    punctual = [event for event in history if event is not late]
    assert found("taken_back_early", punctual) == {"taken_back_early"}, "it would have ended by then"


@pytest.mark.parametrize(("missed", "names"), [(-SECOND, {"taken_back_early"}), (0, set())])
def test_a_rescue_may_take_what_missed_its_heartbeats_for_a_lease_as_expire_may(
    missed: int, names: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = replace(SETTINGS, lease=4 * MINUTE, heartbeat_interval=MINUTE)
    monkeypatch.setitem(SETTINGS_OF, "taken_back_early", beats)
    late = Fault(0, "w1", "pause", {"for": 2 * beats.lease})
    sweep = saw("rescue", RUNNING, RETRYING, at=beats.lease + missed, actor="queue")
    assert found("taken_back_early", [claimed(RUNNING), late, sweep]) == names


def test_a_job_whose_time_had_come_stays_due_when_the_clock_of_the_store_is_set_back() -> None:
    back = Fault(MINUTE, "*", "clock", {"whose": "store", "offset": -5 * SECOND})
    due, hour = (
        saw("claim", WAITING._replace(start_after=start), RUNNING, at=MINUTE + SECOND)._replace(clock=56 * SECOND)
        for start in (MINUTE, HOUR)
    )
    assert found("claimed_early", [back, due]) == set()
    assert found("claimed_early", [back, hour]) == {"claimed_early"}
    ahead = [back._replace(data={"whose": "store", "offset": 5 * SECOND}), Phase(MINUTE, "heal")]
    sent_ahead = due._replace(before=WAITING._replace(start_after=MINUTE + 5 * SECOND))
    assert found("claimed_early", [sent_ahead]) == {"claimed_early"}
    assert found("claimed_early", [*ahead, sent_ahead]) == set()


def test_how_many_dead_letters_a_job_left_is_told_in_words() -> None:
    (missing,), (doubled,) = (
        breaches("dead_letter_missing", dying()),
        breaches("dead_letter_doubled", dying(LETTER, LETTER._replace(id="a-dead-4"))),
    )
    assert missing.message == "it ended as FAILED once and left no dead letter"
    assert doubled.message == "it ended as FAILED once and left 2 dead letters"


def test_a_job_that_came_after_the_transaction_of_its_claim_began_is_not_claimed_early() -> None:
    came = saw("claim", WAITING._replace(start_after=5 * MINUTE), RUNNING, at=6 * MINUTE)
    assert found("claimed_early", [came._replace(clock=MINUTE)]) == set()


def test_a_success_is_not_discarded_where_another_delivery_of_the_same_claim_failed() -> None:
    told, raised, failed = did("ended", "success"), did("ended", "failure"), asked("fail")
    assert found("success_discarded", [told, raised, failed]) == set()
    assert found("success_discarded", [raised, told, failed]) == set()
    assert found("success_discarded", [failed, told, failed]) == set()
    assert found("success_discarded", [raised._replace(token=0), told, failed]) == {"success_discarded"}


def test_a_process_that_was_told_to_stop_knows_nothing_of_a_success_in_its_next_life() -> None:
    claimed, told, back = saw("claim", WAITING, RUNNING), did("ended", "success"), saw("claim", RUNNING, RETRYING)
    stopped = Fault(0, "w1", "stopped", {"code": -15})
    for history, names in ([claimed, told, back], ["success_discarded"]), ([claimed, told, stopped, back], []):
        judge = Judge(stepwise((ANOMALIES["success_discarded"][0],)), Rules(SETTINGS, FACTS, excuses=excuses()))
        for line in history:
            judge.see(line)
        assert [each.name for each in judge.anomalies] == names


def test_a_report_that_is_answered_with_done_ends_the_claim_unless_the_database_threw_it_out() -> None:
    running = saw("claim", WAITING, RUNNING)
    for verb in ("complete", "fail"):
        assert found("outcome_lost", [running, answered(verb, DONE)]) == {"outcome_lost"}
        assert found("outcome_lost", [running, answered(verb, Outcome.unknown(f"Error: {ABORTED}"))]) == set()
        assert found("outcome_lost", [running, answered(verb, Outcome.unknown("Error: boom"))]) == {"outcome_lost"}


def test_a_worker_whose_lease_is_over_need_not_report_again() -> None:
    lost = saw("expire", RUNNING, RETRYING, at=DAY, actor="queue")
    unanswered = answered("complete", Outcome.unknown("the request was lost"))._replace(answered=False)
    for ended, names in ((SETTINGS.lease + MINUTE, set()), (SETTINGS.lease - 2 * MINUTE, {"outcome_lost"})):
        told = [did("ended", "success", at=ended), unanswered._replace(at=ended), lost]
        assert found("outcome_lost", told) == names


def test_a_report_that_waits_for_a_lock_was_made() -> None:
    lost = saw("expire", RUNNING, RETRYING, at=DAY, actor="queue")
    assert found("outcome_lost", [did("ended", "success"), asked("complete"), lost]) == set()
    assert found("outcome_lost", [did("ended", "success"), asked("heartbeat"), lost]) == {"outcome_lost"}


def test_a_campaign_counts_a_lease_that_runs_out_where_a_claim_takes_over() -> None:
    for before, met in ((WAITING, False), (RUNNING, True)):
        spotter = Spotter()
        spotter.see(saw("claim", before, AGAIN))
        assert ("a lease runs out" in spotter.seen) is met


@pytest.mark.parametrize(
    ("step", "at", "seen"),
    [
        (RUNNING, SETTINGS.lease - 1, set()),
        (RETRYING, SETTINGS.lease, {"a lease runs out"}),
        (AGAIN._replace(started_at=DUE_LATER), DUE_LATER, {"a lease runs out"}),
        (RUNNING._replace(lease_until=DAY), DUE_LATER, set()),
    ],
)
def test_a_campaign_sees_what_steps_of_a_users_own_program_meet(step: JobView, at: int, seen: set[str]) -> None:
    spotter = Spotter()
    spotter.see(saw("update mail", WAITING, RUNNING, at=0))
    spotter.see(saw("update mail", RUNNING, step, at=at, actor="w2"))
    assert spotter.seen == seen
    for actor in ("w3", "w2", "w1"):
        spotter.see(Fault(at, actor, "crash", {"at": "update mail", "after": False}))
    assert ("a crash while a job runs" in spotter.seen) == (step.status is Status.PROCESSING)


def test_a_claim_that_takes_back_may_do_what_a_sweep_does_elsewhere() -> None:
    dead = saw("claim", RUNNING, FAILED)
    for takes_back, names in ((False, {"illegal_transition"}), (True, set())):
        rules = Rules(SETTINGS, FACTS, excuses=excuses(), takes_back_in_claim=takes_back)
        judge = Judge((ANOMALIES["illegal_transition"][0],), rules)
        judge.see(dead)
        assert {item.name for item in judge.anomalies} == names


def test_the_end_of_a_run_whose_claim_was_lost_says_nothing_of_the_next_claim() -> None:
    again = RUNNING._replace(attempts=2, token=2)
    unheard = saw("claim", RETRYING, again)  # by the same worker, to which the reply was lost
    lost = saw("expire", again, RETRYING, at=DAY, actor="queue")
    assert found("outcome_lost", [unheard, did("ended", "timeout", token=1), lost]) == set()
    assert found("outcome_lost", [unheard, did("ended", "timeout", token=2), lost]) == {"outcome_lost"}
    taken_back = saw("expire", RUNNING, RETRYING, actor="queue")
    assert found("outcome_lost", [taken_back, did("ended", "success", token=1), unheard, lost]) == set()


def test_a_worker_that_stops_need_not_give_back_what_its_lease_ran_out_on() -> None:
    late = Fault(SETTINGS.lease, "w1", "stopped", {})
    beaten = saw("heartbeat", RUNNING, RUNNING._replace(lease_until=2 * SETTINGS.lease), at=MINUTE)
    stood_still = Fault(0, "w1", "pause", {"at": "heartbeat a", "for": SETTINGS.lease})
    assert found("claim_left_behind", [claimed(RUNNING), late]) == set()
    assert found("claim_left_behind", [claimed(RUNNING), beaten, late]) == {"claim_left_behind"}
    assert found("claim_left_behind", [claimed(RUNNING), stood_still, beaten, late]) == set()


@pytest.mark.parametrize(("at", "names"), [(2, set()), (0, {"claim_left_behind"})])
def test_a_worker_that_is_cut_off_need_not_give_back_what_it_held_then(at: int, names: set[str]) -> None:
    cut_off = Fault(at * MINUTE, "w1", "outage", {"at": "claim", "for": HOUR})
    stopped = Fault(3 * MINUTE, "w1", "stopped", {})
    history = sorted([claimed(RUNNING, at=MINUTE), cut_off, stopped], key=lambda event: event.at)
    assert found("claim_left_behind", history) == names


def test_a_job_that_its_worker_completes_unrun_is_no_success() -> None:
    def judged(*history: Line) -> set[str]:
        invariant = ANOMALIES["silent_success"][0]
        judge = Judge((invariant,), Rules(SETTINGS, excuses=excuses()))
        for line in history:
            assert not isinstance(line, AtRest)
            judge.see(line)
        return {item.name for item in judge.anomalies}

    done = saw("complete", RUNNING, COMPLETED)
    assert judged(did("claimed"), done) == {"silent_success"}
    assert judged(did("claimed"), did("started"), done) == set()
    late = [did("claimed"), did("started"), did("ended", "success"), did("claimed", actor="w2", token=2), done]
    assert judged(*late) == set(), "whoever completes it ran it, and is late: that is another breach"


def judged_slots(history: Sequence[Line], due: tuple[int, int] | None = None) -> list[Anomaly]:
    judge = Judge((ANOMALIES["slot_missed"][0],), Rules(SETTINGS, slot_due=due, excuses=excuses()))
    for line in history:
        assert not isinstance(line, AtRest | Healed)
        judge.see(line)
    return list(judge.anomalies)


def slots(history: Sequence[Line], due: tuple[int, int] | None = None) -> list[str]:
    return [item.name for item in judged_slots(history, due)]


@pytest.mark.parametrize(
    ("age", "missed"), [(0, False), (SECOND - 1, False), (SECOND, True), (MINUTE - 1, True), (MINUTE, False)]
)
def test_a_look_owes_a_slot_its_job_while_the_engine_says_that_it_is_due(age: int, missed: bool) -> None:
    assert slots(scheduling(*ticking(at=HOUR + age)), due=(SECOND, MINUTE)) == ["slot_missed"] * missed


@pytest.mark.parametrize(
    ("terms", "made", "told"),
    [
        ({"zone": "Europe/Berlin"}, [22 * HOUR, DAY + 22 * HOUR], []),
        ({"zone": "Europe/Berlin"}, [23 * HOUR, DAY + 22 * HOUR], ["slot_unplanned", "slot_missed"]),
        ({"missed": Missed.LATEST}, [DAY + 23 * HOUR], []),
        ({"missed": Missed.LATEST}, [23 * HOUR, DAY + 23 * HOUR], ["slot_unplanned"]),
    ],
)
def test_a_schedule_that_is_set_again_is_judged_by_its_new_zone_and_policy(
    terms: dict[str, Any], made: list[int], told: list[str]
) -> None:
    jobs = [FIRST._replace(id=f"n{slot}", slot=slot) for slot in made]
    looked = ticking(*(saw("tick", None, job, at=2 * DAY) for job in jobs), at=2 * DAY)
    assert slots([*daily(), *daily(at=HOUR, **terms), *looked]) == told


def test_a_slot_of_a_calendar_is_named_by_its_local_time_and_expression() -> None:
    looked = ticking(saw("tick", None, FIRST._replace(slot=23 * HOUR), at=2 * DAY), at=2 * DAY)
    told = [item.message for item in judged_slots([*daily(zone="Europe/Berlin"), *looked])]
    assert told[:2] == [
        "'0 23 * * *' in Europe/Berlin means no slot at 2030-01-02 00:00+01:00",
        "w1 looked 1d2h after the slot 2030-01-01 23:00+01:00 of n ('0 23 * * *' in Europe/Berlin), and it has no job",
    ]


def test_a_job_that_comes_late_for_a_missed_slot_is_no_second_one() -> None:
    late = saw("tick", None, FIRST, at=HOUR + MINUTE, actor="s1")
    again = saw("tick", None, AGAIN_FIRST, at=HOUR + MINUTE, actor="s1")
    missed = scheduling(*ticking())
    assert slots([*missed, late]) == ["slot_missed"]
    assert slots([*missed, late, again]) == ["slot_missed", "slot_doubled"]


def test_every_anomaly_has_its_history() -> None:
    assert set(HISTORIES) == set(ANOMALIES)


def test_the_catalogue_names_each_invariant_and_each_anomaly_once() -> None:
    assert len({invariant.id for invariant in CATALOGUE}) == len(CATALOGUE)
    assert len(ANOMALIES) == sum(len(invariant.anomalies) for invariant in CATALOGUE)


def test_a_lease_that_is_not_the_setting_is_told_with_both_lengths() -> None:
    judge = Judge((ANOMALIES["foreign_clock"][0],), Rules(SETTINGS, FACTS, excuses=excuses()))
    judge.see(saw("claim", WAITING, RUNNING._replace(started_at=MINUTE, lease_until=2 * MINUTE), at=MINUTE))

    told = [item.message for item in judge.anomalies]
    assert told == ["claim wrote a lease that ends in 1m by the store's clock, and `lease` is 11m"]


def test_attempts_beyond_the_limit_are_told_as_such_where_deliveries_are_not() -> None:
    judge = Judge((ANOMALIES["attempt_overrun"][0],), Rules(SETTINGS, FACTS, excuses=excuses()))
    judge.see(claimed(RUNNING._replace(attempts=4, token=4)))

    told = [item.message for item in judge.anomalies if item.name == "attempt_overrun"]
    assert told == ["a claim made attempts 4 of at most 3"]


@pytest.mark.parametrize(("doublings", "wrong"), [(None, True), (3, True), (2, False)])
def test_a_delay_that_an_engine_doubles_no_more_is_judged_by_the_last_doubling(
    doublings: int | None, wrong: bool
) -> None:
    judge = Judge((ANOMALIES["backoff_out_of_range"][0],), Rules(SETTINGS, doublings=doublings, excuses=excuses()))
    waits = 4 * SETTINGS.retry_delay
    judge.see(saw("fail", RUNNING, RETRYING._replace(attempts=9, start_after=MINUTE + waits)))
    assert bool(judge.anomalies) == wrong


def test_a_retry_whose_start_time_was_not_moved_is_told_as_such() -> None:
    judge = Judge((ANOMALIES["backoff_out_of_range"][0],), Rules(SETTINGS, doublings=0, excuses=excuses()))
    judge.see(saw("fail", RUNNING, RETRYING._replace(start_after=RUNNING.start_after)))

    (anomaly,) = judge.anomalies
    assert "its start time was left where it was, 1m ago: it waits 0s, not " in anomaly.message


def test_a_retry_that_need_not_wait_may_leave_its_start_time_in_the_past() -> None:
    at_once = SETTINGS.changed(retry_delay=0, retry_backoff=False)
    judge = Judge((ANOMALIES["backoff_out_of_range"][0],), Rules(at_once, excuses=excuses()))
    judge.see(saw("fail", RUNNING, RETRYING._replace(start_after=RUNNING.start_after)))
    assert not judge.anomalies


def test_an_invariant_is_known_by_its_id_alone(tmp_path: Path) -> None:
    anomaly = Anomaly("stale_fail", "fenced", at=0, event=0, job="a", message="w1 changed the job")
    told = str(breach(anomaly, Scenario(), replays=True, name="case", engine="mine", directory=tmp_path))
    assert "\ninvariant fenced: Complete, fail, release and heartbeat" in told
    assert told.endswith("case-stale_fail.yaml --engine mine")  # on `memory`, where it ran, it passed


def test_an_invariant_whose_parts_come_in_the_order_of_numbered_ones_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        Invariant("x", 101, "X.", Kind.ALWAYS, (), Monitor)  # type: ignore[misc]


def test_a_monitor_that_asks_for_unknown_outcomes_sees_no_others_and_those_after_what_sees_all() -> None:
    seen: list[str] = []

    class Both(Monitor):
        def on_return(self, event: Return) -> None:
            seen.append(f"return {event.verb} {event.outcome.kind}")

        def on_unknown(self, event: Return) -> None:
            seen.append(f"unknown {event.verb}")

    judge = Judge(
        (Invariant(id="both", sentence="", kind=Kind.ALWAYS, anomalies=(), make=Both),),
        Rules(SETTINGS, {}, excuses=excuses()),
    )
    for outcome in (DONE, Outcome.refused("no"), Outcome.unknown("lost")):
        judge.see(Return(0, "w1", "fail", "a", 1, outcome, 1, True))
    assert seen == ["return fail done", "return fail refused", "return fail unknown", "unknown fail"]


def test_a_claim_is_not_blamed_for_a_job_whose_row_another_verb_waited_for() -> None:
    """A statement that waited for a row keeps it locked until its commit, and SKIP LOCKED passes over it."""
    put_back = saw("fail", RUNNING._replace(id=EARLIER.id), EARLIER, actor="w2")
    took = [asked("claim"), saw("claim", WAITING, RUNNING), answered("claim", done([]))]
    waited, over = asked("expire", actor="queue")._replace(job=None), answered("expire", done([]), actor="queue")
    assert not breaches("priority_inversion", [waited, put_back, *took, over])
    assert not breaches("priority_inversion", [waited, put_back, took[0], over, *took[1:]])
    assert breaches("priority_inversion", [waited, put_back, over, *took])
    assert breaches("priority_inversion", [put_back, waited, *took, over])


def test_a_job_that_is_passed_over_belongs_to_the_story_with_when_it_came() -> None:
    left, waits, taken = EARLIER._replace(priority=0), *(row._replace(created_at=SECOND) for row in (WAITING, RUNNING))
    history = [saw("enqueue", None, left), asked("claim"), saw("claim", waits, taken), answered("claim", done([]))]
    (anomaly,) = breaches("priority_inversion", history)
    assert anomaly.others == (left.id,)
    assert anomaly.message == "w1 took it (priority 0) and left b (priority 0, sent 1s earlier)"


def test_of_a_waiting_job_without_an_attempt_left_that_is_said_and_no_claim_is_blamed_for_passing_it_over() -> None:
    spent = EARLIER._replace(attempts=EARLIER.max_attempts)
    history = [saw("enqueue", None, spent), asked("claim"), saw("claim", WAITING, RUNNING), answered("claim", done([]))]
    assert not breaches("priority_inversion", history)
    (anomaly,) = breaches("job_never_run", [saw("enqueue", None, spent), rest(spent)])
    assert anomaly.message == "at rest it still is PENDING, with 3 of 3 attempts used up"


def test_a_job_that_a_process_had_locked_when_it_died_may_be_passed_over_at_that_instant() -> None:
    """The database lets go of a row, which SKIP LOCKED passes over, only once it sees that the connection is gone."""

    def at(second: int, event: Observed) -> Observed:
        return event._replace(at=second * SECOND, clock=second * SECOND)

    order = ANOMALIES["priority_inversion"][0]
    judged = (replace(order, make=order.stepwise, capabilities=()),)
    sent = [at(0, saw("insert job", None, row)) for row in (WAITING, EARLIER)]
    taken = at(2, saw("update job", WAITING, RUNNING, actor="w2"))
    later = at(3, saw("update job", EARLIER, RUNNING._replace(id=EARLIER.id, priority=5), actor="w2"))

    def found_with(*faults: Fault) -> set[str]:
        return judged_by_all([*sent, *faults, taken, later], judged)

    assert found_with(Fault(2 * SECOND, "w1", "crash", {"at": "commit update job"})) == set()
    assert found_with(Fault(1 * SECOND, "w1", "crash", {"at": "commit update job"})) == {"priority_inversion"}
    assert found_with() == {"priority_inversion"}
