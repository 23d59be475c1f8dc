"""Time: whose clock decides, and when a job may run.

Times that a verb writes are compared with the store's clock at the moment of the change
(`Observed.clock`: for a transaction, when its first statement ran), never with true time. So a
store whose clock is wrong is no breach: all that matters is that no other clock decides. A store
may round, hence `TOLERANCE` and `ROUNDING`; no fault excuses more. A retry delay may lie anywhere
between the shortest and the longest that the settings and the engine's contract (`doublings`)
allow, since the jitter is the queue's own choice.

`RecordedStoreClock` reconstructs the store's clock from the faults of a history, for monitors that judge at an event
which carries no reading of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from job_harness.core.history import Excuse, Fault, Observed, Phase
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
from job_harness.core.model import PENDING, PROCESSING, SECOND, Duration, Instant, JobView, format_duration
from job_harness.core.sim import STORE, Drift

# the store's clock, reconstructed -------------------------------------------------------------------------------------


class RecordedStoreClock:
    """Follows the faults that hit the store's clock."""

    __slots__ = ("_drift", "_offset")

    def __init__(self) -> None:
        self._offset: Duration = 0
        self._drift: Drift | None = None

    def fault(self, event: Fault) -> None:
        """Take over that a clock is wrong: at once, or ever more within a time."""
        data = event.data
        if data["whose"] != STORE:
            return
        start = self.read(event.at) - event.at
        self._offset = data["offset"]
        self._drift = Drift(event.at, start, data["offset"], data["within"]) if "within" in data else None

    def phase(self, event: Phase) -> None:
        """Take over that the system healed, and with it the clock."""
        if event.name == "heal":
            self._offset, self._drift = 0, None

    def read(self, at: Instant) -> Instant:
        """Return what it showed at a true instant."""
        return at + (self._offset if self._drift is None else self._drift.at(at))


# store_clock_decides --------------------------------------------------------------------------------------------------


TOLERANCE = 1_000
"""Microseconds: a store may round."""


class StoreClockDecides(Monitor):
    """Compares timestamps that a verb wrote with the store's clock at that moment."""

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None:
            return
        if event.verb == "claim" and after.status is PROCESSING and after.token != before.token:
            self._compare(event, "startedAt", after.started_at, event.clock)
            self._of_lease(event, after.lease_until)
        elif event.verb == "heartbeat" and after.lease_until != before.lease_until:
            self._of_lease(event, after.lease_until)
        elif after.terminal and not before.terminal:
            self._compare(event, "completedAt", after.completed_at, event.clock)

    def _of_lease(self, event: Observed, until: Instant | None) -> None:
        """Compare the end of a lease; one that a job asked for itself is another invariant's affair."""
        facts = self.rules.jobs.get(event.job)
        lease = self.settings.lease
        longest = self.rules.longest.get("lease", lease)
        if until is None or (facts is not None and facts.lease):
            return
        if lease - TOLERANCE <= until - event.clock <= longest + TOLERANCE:
            return
        told = f"{event.verb} wrote a lease that ends in {format_duration(until - event.clock)} by the store's clock"
        self.breach("foreign_clock", f"{told}, and `lease` is {_between(lease, longest)}", job=event.job)

    def _compare(self, event: Observed, what: str, written: int | None, expected: int) -> None:
        if written is not None and abs(written - expected) > TOLERANCE:
            self.breach(
                "foreign_clock",
                f"{event.verb} wrote {what} {format_duration(written - expected)} off the store's clock",
                job=event.job,
            )


class WrittenByTheStore(StoreClockDecides):
    """Compares when a job began and ended; a process that was late, or waited, wrote what was so a while before."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._late: dict[str, Duration] = {}
        self._set = False
        """Whether the store's own clock was ever off: what it showed then may be written later."""

    def on_fault(self, event: Fault) -> None:
        excuse = self.excuse_of(event)
        if excuse in (Excuse.LATE, Excuse.AWAY):
            self._late[event.actor] = self._late.get(event.actor, 0) + int(event.data["for"])
        self._set = self._set or (excuse is Excuse.CLOCK and event.data["whose"] == STORE)

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or self._set:
            return
        if after.status is PROCESSING and before.status is PENDING:
            self._compare(event, "startedAt", after.started_at, event.clock)
        elif after.terminal and not before.terminal:
            self._compare(event, "completedAt", after.completed_at, event.clock)

    def _compare(self, event: Observed, what: str, written: int | None, expected: int) -> None:
        late = self._late.get(event.actor, 0) + self._late.get("*", 0)
        if written is not None and not expected - late - TOLERANCE <= written <= expected + TOLERANCE:
            super()._compare(event, what, written, expected)


STORE_CLOCK_DECIDES = Invariant(
    id="store_clock_decides",
    sentence="All of this holds when clocks are wrong by up to the declared skew: only the store's clock decides.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "foreign_clock",
            Guarantee.STORE_CLOCK,
            "A time in a row is not what the store's clock and the settings give.",
        ),
    ),
    make=StoreClockDecides,
    capabilities=("virtual_time",),
    stepwise=WrittenByTheStore,
    evidence=EvidenceNeeded(columns=("started_at", "completed_at"), named=True),
)


# not_before -----------------------------------------------------------------------------------------------------------


RETRYING = frozenset({"fail", "expire", "rescue"})
ROUNDING = SECOND


class NotBefore(Monitor):
    """Compares claims with the row's own `start_after`, and delays with the settings.

    A job whose time had come stays due when the store's clock is set back, and for a claim whose
    transaction began before: many queues look once, and then the job is ready, or it has no start
    time and only shows when it came.
    """

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_changed": RETRYING | {"claim"},
        "on_phase": frozenset({"heal"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._clock = RecordedStoreClock()
        self._shown: Instant = 0
        """What the store's clock showed when it was last set back."""

    def on_fault(self, event: Fault) -> None:
        if self.excuse_of(event) is not Excuse.CLOCK:
            return
        shown = self._clock.read(event.at)
        self._clock.fault(event)
        self._set_back(shown, event.at)

    def on_phase(self, event: Phase) -> None:
        shown = self._clock.read(event.at)
        self._clock.phase(event)
        self._set_back(shown, event.at)

    def _set_back(self, shown: Instant, at: Instant) -> None:
        if self._clock.read(at) < shown:
            self._shown = max(self._shown, shown)

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None:
            return
        if event.verb == "claim" and before.status is PENDING and after.status is PROCESSING:
            self._claimed(event, before, self.rules.due_within)
        elif event.verb in RETRYING and before.status is PROCESSING and after.status is PENDING:
            self._retried(event)

    def _claimed(self, event: Observed, before: JobView, within: Duration) -> None:
        come = max(event.clock + within, self._clock.read(event.at), self._shown)
        if before.start_after > come:
            early = format_duration(before.start_after - event.clock)
            self.breach("claimed_early", f"{event.actor} claimed it {early} before its time", job=event.job)

    def on_created(self, event: Observed) -> None:
        facts = self.rules.jobs.get(event.job)
        if facts is None or facts.start_after is None or event.after is None:
            return
        if event.after.start_after < facts.start_after:
            self.breach(
                "schedule_dropped", "it was sent with a start time, and the row has an earlier one", job=event.job
            )

    def _retried(self, event: Observed) -> None:
        assert event.after is not None
        shortest, longest = self.rules.waits(event.job, attempts=event.after.attempts)
        wait = event.after.start_after - event.clock
        if not shortest - ROUNDING <= max(wait, 0) <= longest + ROUNDING:
            self.breach(
                "backoff_out_of_range",
                f"after attempt {event.after.attempts} {_waits(event, wait)}, not {_between(shortest, longest)}",
                job=event.job,
            )


def _waits(event: Observed, wait: Duration) -> str:
    """Say how long a retry waits; a start time in the past was left there, or set there."""
    assert event.before is not None
    assert event.after is not None
    if wait >= 0:
        return f"it waits {format_duration(wait)}"
    ago = format_duration(-wait)
    if event.after.start_after == event.before.start_after:
        return f"its start time was left where it was, {ago} ago: it waits 0s"
    return f"its start time is {ago} ago: it waits 0s"


def _between(shortest: Duration, longest: Duration) -> str:
    bounds = dict.fromkeys((format_duration(shortest), format_duration(longest)))
    return " to ".join(bounds)


class TakenEarly(NotBefore):
    """Looks at what begins to run; by whose clock it was taken is the affair of another invariant."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_phase": frozenset({"heal"})}

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or before.status is not PENDING or after.status is not PROCESSING:
            return
        if not self.rules.is_operated(event):
            self._claimed(event, before, self.rules.due_within + 2 * self.settings.max_skew)


NOT_BEFORE = Invariant(
    id="not_before",
    sentence="A job is never claimed before its start time; retry delays and backoff are kept, finite and monotone.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("claimed_early", Guarantee.SCHEDULE, "A job was claimed before its time."),
        AnomalyKind("schedule_dropped", Guarantee.SCHEDULE, "A job lost its start time on the way in."),
        AnomalyKind("backoff_out_of_range", Guarantee.SCHEDULE, "A retry waits shorter or longer than configured."),
    ),
    make=NotBefore,
    stepwise=TakenEarly,
    evidence=EvidenceNeeded(columns=("start_after",)),
)
