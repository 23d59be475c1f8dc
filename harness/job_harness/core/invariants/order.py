"""Order and progress: what a claim takes comes first, and what it leaves is not due or not allowed.

A claim is compared with the jobs that wait when it returns. It is not blamed for a job that it
could not see (which began to wait after the claim began), that another verb under way may have in
hand (a lock that it rightly skips), that limits or serial keys keep back, or that a dead actor's
session still locks. Hence overlapping claims are passed over rather than guessed at: the generic
workload has enough claims that stand alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from job_harness.core.history import Call, Excuse, Fault, Observed, Phase, Return
from job_harness.core.invariants.clocks import RecordedStoreClock
from job_harness.core.invariants.limits import Standing
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
from job_harness.core.model import PENDING, PROCESSING, Duration, Instant, JobId, JobView, format_duration
from job_harness.core.port import Claim

# priority_order -------------------------------------------------------------------------------------------------------


LOCKING = frozenset({"claim", "cancel", "reconcile"})
"""What may have a waiting job in hand, so that a claim at the same time rightly passes over it."""
HOLDING = frozenset({"complete", "expire", "fail", "heartbeat", "release", "retry"})
"""What may have a job in hand that began to wait meanwhile: PostgreSQL locks the row for a statement that had to wait
for it, even where the row no longer fits its WHERE, and keeps it locked until the transaction ends."""
PAUSING = frozenset({"pause", "unpause"})


def tools_of(arguments: Any) -> Sequence[str] | None:
    """Return the tools that a claim asks for; None: it takes a job of any."""
    return arguments[2] if len(arguments) > 2 else None


class ClaimUnderWay(NamedTuple):
    """A claim that has no answer yet."""

    taken: list[tuple[JobView, int]]
    """What it took, as that stood before, and the store's clock then."""
    unseen: set[JobId]
    """What began to wait after it began, or what another verb may have had in hand."""
    tools: Sequence[str] | None
    """Which tools its worker serves; None: all."""


class PriorityOrder(Monitor):
    """Keeps the waiting jobs and compares what was taken with what was left.

    A claim is not blamed for a job that it could not see, or that another verb under way had in
    hand.
    """

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": LOCKING | HOLDING | PAUSING,
        "on_return": LOCKING | HOLDING | PAUSING,
    }
    derived: ClassVar[frozenset[str]] = frozenset({"_line"})

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._standing = Standing(rules.settings)
        self._claims: dict[str, ClaimUnderWay] = {}
        """By actor."""
        self._held: dict[str, set[JobId]] = {}
        """By actor, what its verb under way may have in hand."""
        self._locking: set[str] = set()
        self._overlapped: set[str] = set()
        self._line: list[tuple[tuple[int, Instant], JobId]] = []
        """What waits, in its order; an entry counts only while the job waits so."""
        self._abandoned = 0
        """How many sessions of dead actors still hold their locks."""

    def derive(self) -> None:
        """Put what waits in line."""
        self._line = sorted((self._order(row), job) for job, row in self._standing.waiting.items())

    def on_call(self, event: Call) -> None:
        if event.verb in PAUSING:
            self._standing.hear(event)
            return
        if event.verb in HOLDING:
            self._held[event.actor] = set() if event.job is None else {event.job}
            for claim in self._claims.values():
                claim.unseen.update(self._held[event.actor])
            return
        if self._locking:
            self._overlapped.update(self._locking, (event.actor,))
        self._locking.add(event.actor)
        if event.verb == "claim":
            self._claims[event.actor] = ClaimUnderWay([], set().union(*self._held.values()), tools_of(event.arguments))

    def on_fault(self, event: Fault) -> None:
        if event.name == "session ends":
            self._abandoned -= 1
        elif self.excuse_of(event) is Excuse.DEATH and "session_stays" in event.data:
            self._abandoned += 1
            self._overlapped.update(self._locking)

    def on_observed(self, event: Observed) -> None:
        if event.verb == "claim" and event.before is not None and event.before.status is PENDING:
            if event.actor not in self._claims:
                self._claims[event.actor] = ClaimUnderWay([], set(), None)
            self._claims[event.actor].taken.append((event.before, event.clock))
        self._standing.observe(event.job, event.after)
        if event.after is not None and event.after.status is PENDING:
            heapq.heappush(self._line, (self._order(event.after), event.job))
            for claim in self._claims.values():
                claim.unseen.add(event.job)
            for actor, held in self._held.items():
                if actor != event.actor:
                    held.add(event.job)

    def on_return(self, event: Return) -> None:
        if event.verb in PAUSING:
            self._standing.hear(event)
            return
        if event.verb in HOLDING:
            self._held.pop(event.actor, None)
            return
        self._locking.discard(event.actor)
        overlapped = event.actor in self._overlapped
        self._overlapped.discard(event.actor)
        if event.verb != "claim":
            return
        claim = self._claims.pop(event.actor, None)
        if overlapped or claim is None or not claim.taken or not self._standing.waiting or self._abandoned:
            return
        taken, unseen, tools = claim
        last, clock = max(taken, key=lambda entry: self._order(entry[0]))
        if not self._anyone_before(self._order(last)):
            return
        for left in self._standing.waiting.values():
            # That a job without an attempt left is not claimed is another invariant's affair.
            if left.id in unseen or self.rules.used_up(left):
                continue
            first = left.start_after + self.rules.granularity <= clock and self._order(left) < self._order(last)
            if first and not self._blocked(left, taken, tools, clock):
                age = last.created_at - left.created_at
                older = f", sent {format_duration(age)} earlier" if left.priority == last.priority else ""
                self.breach(
                    "priority_inversion",
                    f"{event.actor} took it (priority {last.priority}) and left {left.id} "
                    f"(priority {left.priority}{older})",
                    job=last.id,
                    others=[left.id],
                )
                return

    def _anyone_before(self, order: tuple[int, Instant]) -> bool:
        """Say whether a job that waits comes before this in line, due or not."""
        while self._line:
            first, job = self._line[0]
            row = self._standing.waiting.get(job)
            if row is not None and self._order(row) == first:
                return first < order
            heapq.heappop(self._line)
        return False

    def _order(self, row: JobView) -> tuple[int, Instant]:
        return (-row.priority, row.created_at if self.rules.oldest_first else 0)

    def _blocked(
        self, left: JobView, taken: list[tuple[JobView, int]], tools: Sequence[str] | None, now: Instant
    ) -> bool:
        """Say whether limits, serial keys, a pause or its tool spoke against it when its turn had come."""
        later = {row.id for row, _ in taken if self._order(left) < self._order(row)}
        active = [row for row in self._standing.active.values() if row.id not in later]
        return self._standing.blocked(left, active, now=now, tools=tools)


class Overtaking(NamedTuple):
    """A job that was taken while a more urgent one waited, unless another process had that one in hand."""

    at: Instant
    actor: str
    taken: JobView


class TakenInOrder(Monitor):
    """Looks for jobs that an application's process takes while a more urgent one has been waiting.

    When its transaction began is not known, nor who has locked what. So it is blamed only once the
    one that was left is taken, by a process that nothing had held up, at a later instant: no
    process had that job in hand before.
    """

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._standing = Standing(rules.settings)
        self._since: dict[JobId, Instant] = {}
        self._late: dict[str, Duration] = {}
        """By process, how long it was held up since it last took anything."""
        self._left: dict[JobId, Overtaking] = {}
        self._upset: Instant = -1
        """When a process last died or was cut off: at that very instant, what it had locked may be locked still."""

    def on_fault(self, event: Fault) -> None:
        excuse = self.excuse_of(event)
        if excuse in (Excuse.LATE, Excuse.AWAY):
            self._late[event.actor] = self._late.get(event.actor, 0) + int(event.data["for"])
        elif excuse is not None:
            self._left.clear()
            self._upset = event.at

    def on_observed(self, event: Observed) -> None:
        before, after, job = event.before, event.after, event.job
        taken = before is not None and before.status is PENDING and after is not None and after.status is PROCESSING
        waits = after is not None and after.status is PENDING
        self._standing.observe(job, after)
        late = self._late.pop(event.actor, 0) + self._late.get("*", 0) if taken else 0
        overtaking = self._left.pop(job, None)
        if overtaking is not None and taken and event.at > overtaking.at and not late:
            first = overtaking.taken
            told = f"{overtaking.actor} took it (priority {first.priority}) and left {job}"
            self.breach("priority_inversion", told, job=first.id, others=[job])
        if taken and before is not None and event.at - late > self._upset:
            self._look(event, before, event.at - late)
        if not waits:
            self._since.pop(job, None)
        elif job not in self._since or before != after:
            self._since[job] = event.at

    def _look(self, event: Observed, row: JobView, since: Instant) -> None:
        active = [other for other in self._standing.active.values() if other.id != row.id]
        for left in self._standing.waiting.values():
            urgent = left.priority > row.priority and left.tool == row.tool
            seen = self._since.get(left.id, since) < since and left.start_after < event.clock - (event.at - since)
            if urgent and seen and not self._standing.blocked(left, active, now=event.clock):
                self._left.setdefault(left.id, Overtaking(event.at, event.actor, row))


PRIORITY_ORDER = Invariant(
    id="priority_order",
    sentence="A claim takes the due job with the highest priority, and among those the oldest.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("priority_inversion", Guarantee.SCHEDULE, "A job was claimed ahead of one that should go first."),
    ),
    make=PriorityOrder,
    capabilities=("priorities",),
    stepwise=TakenInOrder,
    evidence=EvidenceNeeded(columns=("priority", "start_after"), named=True),
)


# work_conserving ------------------------------------------------------------------------------------------------------


class WorkConserving(Monitor):
    """Looks at what a claim left although no other actor was working on it at the same time."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"claim"}) | PAUSING,
        "on_return": frozenset({"claim"}) | PAUSING,
        "on_phase": frozenset({"heal"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._standing = Standing(rules.settings)
        self._clock = RecordedStoreClock()
        self._abandoned = 0
        """How many sessions of dead actors still hold their locks."""
        self._claim: Call | None = None
        """The claim under way."""

    def on_fault(self, event: Fault) -> None:
        if self.excuse_of(event) is Excuse.CLOCK:
            self._clock.fault(event)
        elif event.name == "session ends":
            self._abandoned -= 1
            self._claim = None
        elif self.excuse_of(event) is Excuse.DEATH and "session_stays" in event.data:
            self._abandoned += 1

    def on_phase(self, event: Phase) -> None:
        self._clock.phase(event)

    def on_call(self, event: Call) -> None:
        if event.verb == "claim":
            self._claim = event
        else:
            self._standing.hear(event)

    def on_observed(self, event: Observed) -> None:
        self._standing.observe(event.job, event.after)

    def on_return(self, event: Return) -> None:
        if event.verb != "claim":
            self._standing.hear(event)
            return
        call = self._claim
        if call is None or call.number != event.number:
            return
        self._claim = None
        if not event.answered or not event.outcome.done:
            return
        if (
            event.alone
            and not self._abandoned
            and self._standing.waiting
            and len(event.outcome.value or ()) < call.arguments[1]
        ):
            self._judge(call)

    def _judge(self, call: Call) -> None:
        now = self._clock.read(call.at)
        tools = tools_of(call.arguments)
        for left in self._standing.waiting.values():
            due = left.start_after + self.rules.granularity <= now
            if due and left.agrees and not self._standing.blocked(left, now=now, tools=tools):
                told = f"{call.actor} asked for work and was not given it; it is due{self.rules.used_up(left)}"
                self.breach("due_job_left", told, job=left.id)
                return


WORK_CONSERVING = Invariant(
    id="work_conserving",
    sentence="A claim leaves out no job that is due and allowed: permits and serial keys are returned on every path.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("due_job_left", Guarantee.PROGRESS, "A worker asked for work and did not get a job that was due."),
    ),
    make=WorkConserving,
)


# claims_as_asked ------------------------------------------------------------------------------------------------------


NOTHING_ASKED: Final[tuple[int, Sequence[str] | None, frozenset[str]]] = (0, None, frozenset())


class ClaimsAsAsked(Monitor):
    """Compares what a claim gives with how much, and of which tools, its worker asked for."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"claim"}) | PAUSING,
        "on_return": frozenset({"claim"}) | PAUSING,
        "on_changed": frozenset({"claim"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._paused: frozenset[str] = frozenset()
        """The tools that are paused for sure: from a `pause` that was answered with done, to the call of `unpause`."""
        self._asked: dict[str, tuple[int, Sequence[str] | None, frozenset[str]]] = {}
        """By the actor whose claim is under way: how many jobs, of which tools, and what was paused when it began."""

    def on_call(self, event: Call) -> None:
        if event.verb == "claim":
            self._asked[event.actor] = event.arguments[1], tools_of(event.arguments), self._paused
        elif event.verb == "unpause":
            self._paused -= {event.arguments[0]}

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or before.status is not PENDING:
            return
        asked = self._asked.get(event.actor)
        if asked is not None and after.status is PROCESSING and after.tool in asked[2] & self._paused:
            self.breach("paused_job_claimed", f"{event.actor} claimed it, and {after.tool!r} is paused", job=event.job)

    def on_return(self, event: Return) -> None:
        if event.verb == "pause" and event.outcome.done and event.job is not None:
            self._paused |= {event.job}
        if event.verb != "claim":
            return
        limit, tools = self._asked.pop(event.actor, NOTHING_ASKED)[:2]
        given: Sequence[Claim] = event.outcome.value or () if event.outcome.done else ()
        if limit and len(given) > limit:
            told = f"{event.actor} asked for {limit} and was given {', '.join(claim.job for claim in given)}"
            self.breach("claim_over_limit", told, job=given[-1].job)
        for claim in given:
            if tools is not None and claim.tool not in tools:
                told = f"{event.actor} serves {', '.join(tools)}, and was given a job of {claim.tool!r}"
                self.breach("unserved_tool", told, job=claim.job)


CLAIMS_AS_ASKED = Invariant(
    id="claims_as_asked",
    sentence="A claim gives no more jobs than asked for, none of a tool that the worker does not serve or that is "
    "paused.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("claim_over_limit", Guarantee.CLAIMS, "A claim gave more jobs than its worker asked for."),
        AnomalyKind("unserved_tool", Guarantee.CLAIMS, "A worker was given a job of a tool that it does not serve."),
        AnomalyKind("paused_job_claimed", Guarantee.CLAIMS, "A job was claimed although its tool was paused."),
    ),
    make=ClaimsAsAsked,
)
