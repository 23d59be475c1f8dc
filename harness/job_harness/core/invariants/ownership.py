"""Ownership: one live claim on a job; no actor writes without holding it, or over what another wrote meanwhile.

A claim is judged by its fencing token: a verb is stale when its token was not the row's at the time
of the call, or not at the time of the change. A claim whose lease ran out may be taken by another,
so `double_claim` needs a lease that still stood on the store's clock. A claim may also extend what
its worker already holds, where the queue takes it for a sign of life. No fault excuses a stale
verb: paused workers, lost replies and crashes are exactly what fencing is for.

A lost update is a change that is wrong on the row as it is, and would have been right on the row as
it was before another actor changed it during the call. That is why a queue that simply does the
wrong thing is not accused of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from job_harness.core.history import Call, Excuse, Fault, Observed, Return
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
from job_harness.core.model import ARROWS_OF_VERB, PROCESSING, Instant, JobId, JobView, QueueState, format_duration

# who took what, in an application -------------------------------------------------------------------------------------


class Takers(Monitor):
    """Knows which process of an application took each job last, and which ones had it before.

    Its steps are no verbs and present no token, so a claim is the change by which a job comes to be
    at work or changes hands, and it is that of the process that wrote it, in the life that it had
    then.
    """

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._lives: dict[str, int] = {}
        """By actor, how often it began anew, with nothing in its memory."""
        self._holder: dict[JobId, tuple[str, int]] = {}
        self._had: dict[JobId, set[tuple[str, int]]] = {}

    def on_fault(self, event: Fault) -> None:
        if event.name in ("raised", "stopped") or self.excuse_of(event) is Excuse.DEATH:
            self._lives[event.actor] = self._lives.get(event.actor, 0) + 1

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        held = before is not None and before.queue_state is QueueState.ACTIVE
        if after is None:
            self._holder.pop(event.job, None)
            self._had.pop(event.job, None)
        elif after.queue_state is QueueState.ACTIVE:
            if before is None or not held or _changes_hands(before, after) or self._renews_over(event, before, after):
                self._takes(event, self._life(event.actor))
        elif before is not None and held:
            self._ends(event, before, after)

    def _renews_over(self, event: Observed, before: JobView, after: JobView) -> bool:
        """Whether another process sets anew a lease that had run out, where the row names no worker.

        Where a claim takes several steps, as in arq, this is the first: the attempt is counted by a
        later one.
        """
        holder = self._holder.get(event.job)
        over = before.lease_until is not None and before.lease_until <= event.clock
        anew = after.lease_until is not None and after.lease_until > event.clock
        return over and anew and after.worker is None and holder is not None and holder[0] != event.actor

    def _life(self, actor: str) -> tuple[str, int]:
        return actor, self._lives.get(actor, 0)

    def _lives_on(self, holder: tuple[str, int]) -> bool:
        return holder == self._life(holder[0])

    def _takes(self, event: Observed, taker: tuple[str, int]) -> None:
        had = self._had.setdefault(event.job, set())
        had.add(self._holder.get(event.job, taker))
        had.discard(taker)
        self._holder[event.job] = taker

    def _ends(self, event: Observed, before: JobView, after: JobView) -> None:
        """See a claim come to its end."""


def _changes_hands(before: JobView, after: JobView) -> bool:
    """Whether a running job was taken anew: that attempts are set back, or a worker is taken out, is no claim."""
    return after.token > before.token or after.worker not in (None, before.worker)


# single_owner ---------------------------------------------------------------------------------------------------------


class SingleOwner(Monitor):
    """Compares what claims answer with what stands in the rows.

    A claim may extend what its worker already holds, where the queue takes it for a sign of life.
    """

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_return": frozenset({"claim"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._owned: dict[JobId, JobView] = {}
        self._tokens: dict[JobId, tuple[int, Instant]] = {}
        """By job, the token of its last claim, and when that was."""

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if after is None and before is not None and before.terminal:
            self._tokens.pop(event.job, None)  # What is sent under its name once it is forgotten is another job.
        if after is None or after.status is not PROCESSING:
            self._owned.pop(event.job, None)
            return
        if (
            event.verb == "claim"
            and before is not None
            and before.status is PROCESSING
            and before.lease_until is not None
            and before.lease_until > event.clock
            and (before.token, before.worker) != (after.token, after.worker)
        ):
            self.breach("double_claim", _taken(after.worker, "claimed", before.worker), job=event.job)
        self._owned[event.job] = after

    def on_return(self, event: Return) -> None:
        if event.verb != "claim" or not event.outcome.done:
            return
        for claim in event.outcome.value or ():
            last, at = self._tokens.get(claim.job, (0, -1))
            same_time = last == claim.token and event.at - at < self.rules.granularity  # A token may be a time.
            if last >= claim.token and not same_time:
                self.breach("token_reused", f"{claim.worker} was given token {claim.token} again", job=claim.job)
            self._tokens[claim.job] = claim.token, event.at
            row = self._owned.get(claim.job)
            if row is not None and row.token != claim.token:
                self.breach("double_claim", _taken(claim.worker, "was given", row.worker), job=claim.job)


def _taken(by: str | None, how: str, holder: str | None) -> str:
    return f"{by} {how} what {'it holds already' if holder == by else f'{holder} holds'}"


class TakesWhatIsHeld(Takers):
    """Accuses a process that takes over a job whose lease stands, and whose holder is alive."""

    def _takes(self, event: Observed, taker: tuple[str, int]) -> None:
        before, holder = event.before, self._holder.get(event.job)
        super()._takes(event, taker)
        if before is None or before.queue_state is not QueueState.ACTIVE or holder is None or holder[0] == taker[0]:
            return
        left = (before.lease_until or 0) - 2 * self.settings.max_skew - event.clock
        if left > 0 and self._lives_on(holder) and not self.rules.is_operated(event):
            told = f"{taker[0]} took it from {holder[0]}, whose lease stands for {format_duration(left)}"
            self.breach("double_claim", told, job=event.job)


SINGLE_OWNER = Invariant(
    id="single_owner",
    sentence="There is at most one live, unexpired claim on a job.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("double_claim", Guarantee.ONE_AT_A_TIME, "A job was claimed while another worker still held it."),
        AnomalyKind(
            "token_reused", Guarantee.FENCING, "Two claims of one job have the same fencing token.", only_risks=True
        ),
    ),
    make=SingleOwner,
    capabilities=("fencing",),
    stepwise=TakesWhatIsHeld,
    evidence=EvidenceNeeded(columns=("lease_until",)),
)


# fenced ---------------------------------------------------------------------------------------------------------------


HOLDERS = frozenset({"complete", "fail", "release", "heartbeat"})
"""Verbs of the worker that holds a claim: they present its token."""
ENDING = HOLDERS - {"heartbeat"}
"""With these it ends its claim itself."""


class Fenced(Monitor):
    """Knows for every open call whether its claim stood when it began."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": HOLDERS, "on_return": HOLDERS}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._rows: dict[JobId, JobView] = {}
        self._open: dict[str, tuple[Call, bool]] = {}
        self._settled_by: dict[JobId, tuple[int, str]] = {}

    def on_call(self, event: Call) -> None:
        if event.verb in HOLDERS and event.job is not None and event.token is not None:
            self._open[event.actor] = (event, self._stands(event.job, event.token))

    def _stands(self, job: JobId, token: int) -> bool:
        row = self._rows.get(job)
        return row is not None and row.status is PROCESSING and row.token == token

    def on_observed(self, event: Observed) -> None:
        if event.verb in HOLDERS and event.actor in self._open:
            call, stood = self._open[event.actor]
            if call.job == event.job and call.token is not None:
                if not stood or not self._stands(event.job, call.token):
                    self._breach(call, "changed the job")
                # Its answer tells nothing more, in either case: only in a change is seen how the job stood before it.
                self._settled_by[event.job] = (call.token, event.verb)
        if event.after is None:
            self._rows.pop(event.job, None)
        else:
            self._rows[event.job] = event.after

    def on_return(self, event: Return) -> None:
        if event.verb not in HOLDERS:
            return
        call, stood = self._open.pop(event.actor, (None, True))
        if call is None or stood or not event.outcome.done or call.job is None or call.token is None:
            return
        if self._settled_by.get(call.job) != (call.token, call.verb):
            self._breach(call, "was told that it is done")

    def _breach(self, call: Call, what: str) -> None:
        row = self._rows.get(call.job) if call.job is not None else None
        now = "the job is gone" if row is None else f"the job is {row.status}, token {row.token}"
        token, verb = self._settled_by.get(call.job or "", (None, ""))
        ended = (
            f"though `{verb}` had ended that attempt"
            if token == call.token and verb in ENDING
            else "that was taken back"
        )
        self.breach(f"stale_{call.verb}", f"{call.actor} {what} with token {call.token} {ended}; {now}", job=call.job)


class StaleEnds(Takers):
    """Accuses only a process that took this very job, lost it to another one, and ends that one's claim.

    It has to be in the same life. A leader takes jobs for others, so the worker that a row names
    may end it, no matter which process wrote that. What fails a job, or lets it wait again, may be
    a reaper in any worker: it is `stale_fail` only while the lease stands whose holder is alive.
    """

    def _ends(self, event: Observed, before: JobView, after: JobView) -> None:
        had = self._life(event.actor) in self._had.get(event.job, ())
        if not had or event.verb in LETS_GO or _names(before.worker, event.actor):
            return
        holder = self._holder[event.job]
        stands = before.lease_until is not None and before.lease_until > event.clock
        if after.queue_state is QueueState.COMPLETED:
            name, did = "stale_complete", "completes"
        elif after.queue_state is not QueueState.CANCELLED and stands and self._lives_on(holder):
            name, did = "stale_fail", "fails"
        else:
            return
        self.breach(name, f"{event.actor} {did} it, though {holder[0]} has taken it over since", job=event.job)


def _names(worker: str | None, process: str) -> bool:
    """Whether the worker of a row is this process, by the whole of its name: `host-w1` and `host-w1.2` are `w1`."""
    return worker is not None and re.search(rf"(?<!\w){re.escape(process)}(?!\w)", worker) is not None


LETS_GO = frozenset({"commit", "end", "rollback", "abort", "sync"})
"""Statements that end a transaction in which nothing was written: what is seen then is another's that waited for it."""


FENCED = Invariant(
    id="fenced",
    sentence="Complete, fail, release and heartbeat change nothing if their claim has ended.",
    kind=Kind.ALWAYS,
    anomalies=tuple(
        AnomalyKind(f"stale_{verb}", Guarantee.FENCING, f"A worker that no longer held its claim could still {verb}.")
        for verb in sorted(HOLDERS)
    ),
    make=Fenced,
    capabilities=("fencing",),
    stepwise=StaleEnds,
)


# no_lost_update -------------------------------------------------------------------------------------------------------


WRITING = HOLDERS | {"expire", "rescue", "cancel", "retry"}


class NoLostUpdate(Monitor):
    """Asks of a change that is wrong now: would it have been right on what stood before another's change?"""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": WRITING, "on_return": WRITING}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._open: dict[str, tuple[str, int | None]] = {}
        """By actor, the verb that it is in the middle of, and the token that it presents."""
        self._stale: dict[str, dict[JobId, tuple[JobView, str]]] = {}
        """By actor and job, how that stood before another changed it during the call, and who that was."""

    def on_call(self, event: Call) -> None:
        self._open[event.actor] = event.verb, event.token
        if self._stale:
            self._stale.pop(event.actor, None)

    def on_return(self, event: Return) -> None:
        self._open.pop(event.actor, None)
        if self._stale:
            self._stale.pop(event.actor, None)

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        for actor, (verb, token) in self._open.items():
            if actor != event.actor:
                if before is not None:
                    stood = before, f"{event.actor}'s {event.verb}"
                    self._stale.setdefault(actor, {}).setdefault(event.job, stood)
            elif self._stale and event.job in self._stale.get(actor, ()):
                stale, whose = self._stale[actor].pop(event.job)
                if not self._stale[actor]:
                    del self._stale[actor]
                if before is None or after is None or event.verb != verb:
                    continue
                right = self._right(before, after, verb, token, event.clock)
                if not right and self._right(stale, after, verb, token, event.clock):
                    self.breach(
                        "lost_update",
                        f"{actor}'s {verb} wrote {after.status} over the {before.status} of {whose}",
                        job=event.job,
                    )

    def _right(self, before: JobView, after: JobView, verb: str, token: int | None, clock: Instant) -> bool:
        """Say whether a verb may make this change of this row."""
        if verb in HOLDERS:
            held = before.status is PROCESSING and before.token == token
            return held and (verb == "heartbeat" or (before.status, after.status) in ARROWS_OF_VERB.get(verb, ()))
        if (before.status, after.status) not in ARROWS_OF_VERB.get(verb, ()):
            return False
        if verb == "expire":
            over = before.started_at is not None and before.started_at + self.rules.timeout_of(before.id) <= clock
            return over or before.lease_until is None or before.lease_until <= clock
        return verb != "rescue" or before.started_at is None or before.started_at + self.settings.stuck_timeout <= clock


NO_LOST_UPDATE = Invariant(
    id="no_lost_update",
    sentence="No verb overwrites a change that another one made after it had begun to read.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("lost_update", Guarantee.UPDATES, "A verb overwrote a change that was made after it had read."),
    ),
    make=NoLostUpdate,
)
