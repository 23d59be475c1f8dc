"""Leases: a claim lasts as long as its worker may work, and a worker that ends gives back what it holds.

A worker that does nothing wrong must keep its claim. So each claim carries for how long faults have
kept its holder from acting (`Holding.late`): a pause, a late timer, a clock that is off, a wait
within the claiming transaction. Once that is more than the lease has to spare beyond the longest
legal run, the loss of the claim is excused. A crash, a lost request or reply and a duplicate excuse
it at once, for the holder may not know what it holds; so does a cancel, and a report of the run's
end that got no answer. A heartbeat without an answer, for whatever reason, is one interval of
silence. A session that outlives its actor keeps locks that others may wait for: it excuses all.
Nothing else does, least of all load: a queue that takes back a healthy claim has its timeouts
wrong.

An application's claims are not seen; `ConcurrentRuns` judges by the runs that it declares and the
same excuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, assert_never

from job_harness.core.history import Effect, Excuse, Fault, Observed, Return
from job_harness.core.invariants.ownership import Takers
from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from job_harness.core.model import PROCESSING, Design, Duration, Instant, JobId, JobView, QueueState, format_duration

# who holds what, and what excuses its loss ----------------------------------------------------------------------------


def beating(rules: Rules, job: JobId) -> bool:
    """Say whether it is heartbeats that keep a claim: its lease alone is shorter than the processor may run."""
    return 0 < rules.settings.heartbeat_interval < rules.lease_of(job) < rules.timeout_of(job)


class Holding:
    """One claim as it stands."""

    __slots__ = ("claimed", "excuse", "late", "renewed", "started", "token", "worker")

    def __init__(self, worker: str, token: int, claimed: Instant, excuse: Duration) -> None:
        self.worker = worker
        self.token = token
        self.claimed = claimed
        """When it was opened, on the store's clock."""
        self.renewed = claimed
        """When the lease was last opened or extended, on the store's clock."""
        self.started = False
        """Whether its holder has started, or died and never will: it is not looked up again."""
        self.late: Duration = 0
        """How long faults have kept the holder from acting since the claim."""
        self.excuse = excuse
        """How long that has to be to explain the loss of the claim."""

    def close(self) -> None:
        """Forget the times of a claim that no longer stands: they are not asked for again."""
        self.claimed = self.renewed = 0


class Holdings:
    """All claims that stand, by job."""

    __slots__ = ("_beat", "_infinite", "_own", "_skew", "_unheard", "ended", "of")

    momentary: ClassVar[frozenset[str]] = frozenset({"_unheard"})

    def __init__(self, rules: Rules) -> None:
        settings = rules.settings
        self.of: dict[JobId, Holding] = {}
        self.ended: dict[tuple[JobId, int], Holding] = {}
        """Claims that stand no more and were not started yet, by job and token."""
        self._skew: Duration = 2 * settings.max_skew
        self._own: dict[JobId, Duration] = {
            job: self._spare(rules, job)
            for job, facts in rules.jobs.items()
            if facts.lease is not None or facts.timeout is not None
        }
        """What jobs with a lease or a timeout of their own have to spare."""
        self._own[""] = self._spare(rules, "")
        self._beat: Duration = settings.heartbeat_interval
        self._infinite: Duration = max(settings.lease, *self._own.values()) + settings.stuck_timeout
        self._unheard: dict[str, Instant] = {}
        """Which worker was kept from hearing what a claim gave it, and when."""

    def _spare(self, rules: Rules, job: JobId) -> Duration:
        """Return what a lease has to spare beyond the longest legal run, or the longest legal silence."""
        silence = self._beats(rules, job)
        margin = rules.lease_of(job) - (silence or rules.timeout_of(job))
        return max(1, margin - self._skew)

    def _beats(self, rules: Rules, job: JobId) -> Duration:
        return rules.settings.heartbeat_interval if beating(rules, job) else 0

    def excused(self, holding: Holding) -> bool:
        """Say whether faults alone explain that this holder is not done before its lease runs out."""
        return holding.late >= holding.excuse

    def observe(self, event: Observed) -> Holding | None:
        """Take over a change; return the holding that it ended, for the caller to judge and then to close."""
        if self._unheard:
            self._unheard = {actor: at for actor, at in self._unheard.items() if at == event.at}
        after = event.after
        if after is not None and after.status is PROCESSING:
            held = self.of.get(event.job)
            if held is None or held.token != after.token:
                spare = self._own.get(event.job) or self._own[""]
                holding = self.of[event.job] = Holding(after.worker or "?", after.token, event.clock, spare)
                in_transaction = event.at - event.clock
                if in_transaction > self._skew:
                    holding.late = in_transaction
                if self._unheard.get(event.actor) == event.at:
                    holding.late = self._infinite
                return self._end(event.job, held)
            if event.verb == "heartbeat":
                held.renewed = event.clock
            return None
        ended = self._end(event.job, self.of.pop(event.job, None))
        if ended is not None and event.verb == "cancel":
            ended.late = self._infinite
        return ended

    def _end(self, job: JobId, holding: Holding | None) -> Holding | None:
        if holding is not None and not holding.started:
            self.ended[job, holding.token] = holding
        return holding

    def start(self, job: JobId, token: int) -> Holding | None:
        """Return a claim, whether it still stands or not, as its holder starts."""
        holding = self.of.get(job)
        if holding is None or holding.token != token:
            return self.ended.pop((job, token), None)
        holding.started = True
        return holding

    def fault(self, event: Fault, excuse: Excuse | None) -> None:
        """Take over a fault: whom it hits, and for how long."""
        # An excuse here hides a bug there, so each is as small as it can be: a delay counts
        # against what the lease has to spare beyond the longest legal run, and only its sum
        # beyond that excuses the loss of a claim. Silence is told from delay: a lost heartbeat
        # costs one interval, counted when its call ends and not here, or it would count twice. A
        # message about the run itself that was lost excuses without a bound, because the holder
        # may believe anything from then on. A dead holder's session that stays open is the one
        # excuse for everybody: any actor may have to wait for what it has locked.
        match excuse:
            case Excuse.LATE:
                late = event.data["for"]
            case Excuse.CLOCK:
                late = abs(event.data["offset"]) if event.data["whose"] != "store" else 0
            case Excuse.DEATH if event.data.get("session_stays"):
                for holding in self.of.values():  # any actor may have to wait for a lock that stays
                    holding.late = self._infinite
                return
            case Excuse.AWAY:
                late = event.data["for"]
            case Excuse.UNHEARD | Excuse.UNDONE if event.data["at"].startswith("heartbeat"):
                return  # a longer silence, and no more: counted as its call ends
            case Excuse.DEATH | Excuse.UNHEARD | Excuse.UNDONE:
                late = self._infinite
                if event.data["at"] == "claim":
                    self._unheard[event.actor] = event.at
                if excuse is Excuse.DEATH:
                    self._died(event.actor)
            case None:
                return
            case _:
                assert_never(excuse)
        for holding in self.of.values():
            if event.actor in ("*", holding.worker):
                self.delay(holding, late)

    def unanswered(self, verb: str, job: JobId, token: int | None) -> None:
        """Note that a holder got no answer, whatever kept it away.

        After a heartbeat it is silent for one beat longer. After a report of its run's end it does
        not hold the job by choice.
        """
        holding = self.of.get(job)
        if holding is not None and holding.token == token:
            self.delay(holding, self._beat if verb == "heartbeat" else self._infinite)

    def _died(self, worker: str) -> None:
        """Forget what was claimed and never will be started."""
        self.ended = {key: holding for key, holding in self.ended.items() if holding.worker != worker}
        for holding in self.of.values():
            if holding.worker == worker:
                holding.started = True

    def delay(self, holding: Holding, duration: Duration) -> None:
        """Note how long a holder was kept from acting; what excuses it already is not counted on."""
        holding.late += duration
        if holding.late >= holding.excuse:
            holding.late = self._infinite


# an application: runs at once -----------------------------------------------------------------------------------------


class ConcurrentRuns(Monitor):
    """Knows who runs what, and who was held up by a fault for longer than any lease can bear."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({"started", "ended"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._running: dict[JobId, dict[str, int]] = {}
        """By job, which worker runs it, and the number of its claim."""
        self._late: dict[str, Duration] = {}
        margin = self.settings.lease - self.settings.job_timeout
        self._bearable: Duration = max(1, margin - 2 * self.settings.max_skew)

    def on_fault(self, event: Fault) -> None:
        excuse = self.excuse_of(event)
        if excuse is Excuse.DEATH or event.name in ("raised", "stopped"):
            for runs in self._running.values():
                runs.pop(event.actor, None)
        elif excuse in (Excuse.LATE, Excuse.AWAY):
            self._late[event.actor] = self._late.get(event.actor, 0) + int(event.data["for"])
        elif excuse is Excuse.CLOCK:
            self._late["*"] = self._late.get("*", 0) + abs(event.data["offset"])

    def on_effect(self, event: Effect) -> None:
        runs = self._running.setdefault(event.job, {})
        if event.name == "ended":
            runs.pop(event.actor, None)
            return
        for other in runs:
            if other != event.actor and not self._held_up(other) and not self._held_up(event.actor):
                message = f"{event.actor} starts it while {other} still runs it"
                self.breach("concurrent_execution", message, job=event.job)
        runs[event.actor] = event.token

    def _held_up(self, actor: str) -> bool:
        return self._late.get(actor, 0) + self._late.get("*", 0) >= self._bearable


# lease_outlives_execution ---------------------------------------------------------------------------------------------


TAKING_BACK = frozenset({"expire", "rescue", "reconcile"})


def _leaves_its_claim(fail: Return, rules: Rules) -> bool:
    """Whether a failure was reported to a queue that leaves the claim to run out then."""
    return Design.WAITS_OUT_ITS_CLAIM in rules.designs and fail.outcome.done


class LeaseOutlivesExecution(Monitor):
    """Watches who holds, who runs, and who was kept from working by a fault."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_unknown": frozenset({"complete", "fail", "release", "heartbeat"}),
        "on_return": frozenset({"fail"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._holdings = Holdings(rules)
        self._running: dict[JobId, dict[tuple[str, int], Holding | None]] = {}

    def on_fault(self, event: Fault) -> None:
        excuse = self.excuse_of(event)
        self._holdings.fault(event, excuse)
        for runs in self._running.values():
            for key in [key for key in runs if excuse is Excuse.DEATH and key[0] == event.actor]:
                del runs[key]
            for holding in runs.values():
                kept = excuse in (Excuse.LATE, Excuse.AWAY)
                if holding is not None and event.actor in ("*", holding.worker) and kept:
                    self._holdings.delay(holding, event.data["for"])

    def on_unknown(self, event: Return) -> None:
        if event.job is not None:
            self._holdings.unanswered(event.verb, event.job, event.token)

    def on_return(self, event: Return) -> None:
        if _leaves_its_claim(event, self.rules):
            self._holdings.unanswered("fail", event.job or "", event.token)

    def on_observed(self, event: Observed) -> None:
        ended = self._holdings.observe(event)
        if ended is None:
            return
        if event.verb in TAKING_BACK:
            self._taken_back(event, ended)
        ended.close()

    def _taken_back(self, event: Observed, ended: Holding) -> None:
        # A rescue goes by the age of the claim; where the lease is over as well, it is what `expire` may do.
        lease, timeout = self.rules.lease_of(event.job), self.rules.timeout_of(event.job)
        by_age = event.verb == "rescue" and event.clock - ended.renewed < lease
        elapsed = event.clock - (ended.claimed if by_age else ended.renewed)
        silent = not by_age and beating(self.rules, event.job)
        allowed = lease if silent else timeout
        over = event.clock - ended.claimed >= timeout  # a queue may bound the whole run, whatever its heartbeats say
        if elapsed < allowed and not (over and self._holdings.excused(ended)):
            self.breach(
                "taken_back_early",
                f"{event.actor} took it from {ended.worker} after {format_duration(elapsed)}; "
                f"it may {'be silent' if silent else 'run'} for {format_duration(allowed)}",
                job=event.job,
            )
        elif not self._holdings.excused(ended):
            self.breach(
                "healthy_claim_taken_back",
                f"{event.actor} took it from {ended.worker}, to whom nothing had happened",
                job=event.job,
                others=[job for job, runs in self._running.items() if any(key[0] == ended.worker for key in runs)],
            )

    def on_effect(self, event: Effect) -> None:
        runs = self._running.setdefault(event.job, {})
        key = (event.actor, event.token)
        if event.name == "started":
            mine = self._holdings.start(event.job, event.token) or runs.get(key)  # a second delivery of one claim
            for (worker, token), theirs in runs.items():
                if token != event.token and not self._is_explained(theirs) and not self._is_explained(mine):
                    self.breach(
                        "concurrent_execution", f"{event.actor} starts it while {worker} still runs it", job=event.job
                    )
            runs[key] = mine
        elif event.name == "ended":
            runs.pop(key, None)

    def _is_explained(self, holding: Holding | None) -> bool:
        return holding is not None and self._holdings.excused(holding)


LEASE_OUTLIVES_EXECUTION = Invariant(
    id="lease_outlives_execution",
    sentence="No job is taken back while its worker is within its allowed time.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("concurrent_execution", Guarantee.ONE_AT_A_TIME, "Two workers run the same job at once."),
        AnomalyKind(
            "taken_back_early",
            Guarantee.ONE_AT_A_TIME,
            "A job was taken back before its timeout was over.",
            only_risks=True,
        ),
        AnomalyKind(
            "healthy_claim_taken_back",
            Guarantee.ONE_AT_A_TIME,
            "A job was taken from a worker that did nothing wrong.",
            only_risks=True,
        ),
    ),
    make=LeaseOutlivesExecution,
    stepwise=ConcurrentRuns,
)


# shutdown_leaves_nothing_claimed --------------------------------------------------------------------------------------


class ShutdownLeavesNothingClaimed(Monitor):
    """Keeps what each worker holds, except where it could not know that it holds it.

    What a worker's lease ran out on is no longer its to give back: another may have it by then. So
    it is with whatever a worker held that stood still for a lease, and with what it held as it was
    cut off, wherever that began.
    """

    momentary: ClassVar[frozenset[str]] = frozenset({"_unheard"})
    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_return": frozenset({"fail"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._held: dict[JobId, JobView] = {}
        self._unheard: dict[str, int] = {}

    def on_return(self, event: Return) -> None:
        if _leaves_its_claim(event, self.rules):
            self._held.pop(event.job or "", None)

    def on_changed(self, event: Observed) -> None:
        after = event.after
        if after is None or after.status is not PROCESSING:
            self._held.pop(event.job, None)
        elif event.job in self._held or (event.verb == "claim" and self._unheard.get(event.actor) != event.at):
            self._held[event.job] = after

    def on_fault(self, event: Fault) -> None:
        skew = 2 * self.settings.max_skew
        excuse = self.excuse_of(event)
        if excuse is Excuse.LATE and event.data["for"] + skew >= self.settings.lease:
            self._forget(event.actor)
        if excuse in (Excuse.DEATH, Excuse.AWAY, Excuse.UNHEARD):
            if excuse is not Excuse.UNHEARD or event.data["at"] != "claim":
                self._forget(event.actor)
            self._unheard[event.actor] = event.at
        if event.name != "stopped":
            return
        for job, row in self._held.items():
            over = row.lease_until is not None and row.lease_until - skew <= event.at
            if row.worker == event.actor and not over:
                self.breach("claim_left_behind", f"{event.actor} ended in good order and still holds it", job=job)

    def _forget(self, worker: str) -> None:
        for job in [job for job, row in self._held.items() if worker in ("*", row.worker)]:
            del self._held[job]


class ProcessLeavesNothing(Takers):
    """Looks at what a process took and still has as it ends of itself, after it was told to.

    One that is ended by the signal promised no more. Whatever kept it from hearing what it holds,
    or from its store, excuses what it held then.
    """

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._rows: dict[JobId, JobView] = {}
        self._unheard: dict[str, Instant] = {}

    def on_observed(self, event: Observed) -> None:
        super().on_observed(event)
        if event.after is None or event.after.queue_state is not QueueState.ACTIVE:
            self._rows.pop(event.job, None)
            self._holder.pop(event.job, None)
        else:
            self._rows[event.job] = event.after

    def _takes(self, event: Observed, taker: tuple[str, int]) -> None:
        super()._takes(event, taker)
        if self._unheard.get(event.actor) == event.at:
            del self._holder[event.job]

    def on_fault(self, event: Fault) -> None:
        if event.name == "stopped" and not event.data.get("code"):
            for job in [job for job, holder in self._holder.items() if holder == self._life(event.actor)]:
                until = self._rows[job].lease_until
                if until is None or until - 2 * self.settings.max_skew > event.at:
                    self.breach("claim_left_behind", f"{event.actor} ended in good order and still holds it", job=job)
        super().on_fault(event)
        excuse = self.excuse_of(event)
        stalled = excuse is Excuse.LATE and event.data["for"] + 2 * self.settings.max_skew >= self.settings.lease
        if stalled or excuse in (Excuse.AWAY, Excuse.UNHEARD, Excuse.UNDONE):
            self._unheard[event.actor] = event.at
            for job in [job for job, holder in self._holder.items() if event.actor in ("*", holder[0])]:
                del self._holder[job]


SHUTDOWN_LEAVES_NOTHING_CLAIMED = Invariant(
    id="shutdown_leaves_nothing_claimed",
    sentence="A worker that was told to stop leaves no claimed job behind when it ends.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "claim_left_behind",
            Guarantee.PROGRESS,
            "A worker shut down cleanly with a job still claimed.",
            only_risks=True,
        ),
    ),
    make=ShutdownLeavesNothingClaimed,
    capabilities=("release",),
    stepwise=ProcessLeavesNothing,
)
