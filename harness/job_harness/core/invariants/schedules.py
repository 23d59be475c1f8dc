"""Schedules: each slot has its job once a scheduler looked, not before it began, and only one.

A slot is missed only where a look began and ended after the slot did, was answered and done, no
other look was under way, and the contract of the engine says that a look at that age of the slot
has to make the job (`slot_due`). So a scheduler that is down, paused or cut off is excused for as
long as it does not look. The time of a look is what the store's clock showed, for a schedule is the
store's and not the scheduler's. Too early and twice are never excused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from job_harness.core.history import Call, Excuse, Fault, Observed, Phase, Return
from job_harness.core.invariants.clocks import RecordedStoreClock
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
from job_harness.core.model import Duration, Instant, JobId, JobView, format_duration
from job_harness.core.port import Missed, Schedule

SCHEDULING = frozenset({"schedule", "unschedule", "tick"})


class CronExactlyOnce(Monitor):
    """Keeps the schedules that stand and the slots that have their jobs."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": SCHEDULING,
        "on_return": SCHEDULING,
        "on_phase": frozenset({"heal"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._clock = RecordedStoreClock()
        self._open: dict[str, Call] = {}
        self._standing: dict[str, tuple[Schedule, Instant]] = {}
        """Each schedule that stands, and since when."""
        self._judged: dict[str, Instant] = {}
        """By schedule, the last look that was judged."""
        self._jobs: dict[tuple[str, Instant], JobId] = {}
        """The first job of each slot."""
        self._missed: set[tuple[str, Instant]] = set()
        """Slots of which it was told that they have none; what comes for one is late, and no second."""

    def on_fault(self, event: Fault) -> None:
        excuse = self.excuse_of(event)
        if excuse is Excuse.DEATH:
            self._open.pop(event.actor, None)
        elif excuse is Excuse.CLOCK:
            self._clock.fault(event)

    def on_phase(self, event: Phase) -> None:
        self._clock.phase(event)

    def on_call(self, event: Call) -> None:
        self._open[event.actor] = event
        if event.verb == "unschedule":
            self._standing.pop(event.arguments[0], None)

    def on_created(self, event: Observed) -> None:
        view = event.after
        if view is None or view.schedule is None or view.slot is None:
            return
        other = self._jobs.setdefault((view.schedule, view.slot), event.job)
        known = self._standing.get(view.schedule)
        slot = f"the slot {format_duration(view.slot)} of {view.schedule}"
        if known is not None:
            slot = known[0].slot_name(view.slot)
        if other != event.job:
            self.breach("slot_doubled", f"{slot} already has {other}", job=event.job)
        elif view.slot > event.clock:
            early = format_duration(view.slot - event.clock)
            self.breach("slot_early", f"{event.actor} made it {early} before {slot}", job=event.job)
        elif known is not None:
            self._planned(event, known[0], view.slot)

    def _planned(self, event: Observed, schedule: Schedule, slot: Instant) -> None:
        """Judge whether a calendar has this slot, and whether its policy wants a job for it now."""
        if not schedule.cron:
            return
        told = f"{schedule.cron!r} in {schedule.zone}"
        if schedule.following(slot - 1) != slot:
            self.breach("slot_unplanned", f"{told} means no slot at {schedule.local_time(slot)}", job=event.job)
            return
        call = self._open.get(event.actor)
        later = schedule.following(slot)
        if schedule.missed is Missed.LATEST and call is not None and later <= self._clock.read(call.at):
            passed = f"a later slot had begun at {schedule.local_time(later)}, and only the latest one is wanted"
            self.breach("slot_unplanned", f"{told}: {passed}", job=event.job)

    def on_return(self, event: Return) -> None:
        call = self._open.pop(event.actor, None)
        if call is None or not event.answered or not event.outcome.done:
            return
        now = self._clock.read(event.at)
        if event.verb == "schedule":
            schedule = call.arguments[0]
            before, since = self._standing.get(schedule.name, (schedule, now))
            self._standing[schedule.name] = (schedule, since if before.rhythm == schedule.rhythm else now)
        elif event.verb == "tick" and not any(other.verb == "tick" for other in self._open.values()):
            self._judge(event.actor, min(now, self._clock.read(call.at)))

    def _judge(self, instance: str, now: Instant) -> None:
        for name, (schedule, since) in self._standing.items():
            for slot in self._owed(schedule, since, now):
                if slot > since and (name, slot) not in self._jobs.keys() | self._missed and self._is_due(now - slot):
                    late = format_duration(now - slot)
                    which = schedule.slot_name(slot)
                    self.breach("slot_missed", f"{instance} looked {late} after {which}, and it has no job")
                    self._missed.add((name, slot))

    def _owed(self, schedule: Schedule, since: Instant, now: Instant) -> list[Instant]:
        """Return the slots whose jobs a look owes: the latest; of a calendar all, unless only the latest is wanted."""
        if not schedule.cron:
            return [schedule.latest(now)]
        slots = schedule.slots(max(since, self._judged.get(schedule.name, since)), now)
        self._judged[schedule.name] = max(now, self._judged.get(schedule.name, now))
        return slots[-1:] if schedule.missed is Missed.LATEST else slots

    def _is_due(self, age: Duration) -> bool:
        due = self.rules.slot_due
        return due is None or due[0] <= age < due[1]


class SlotsFilled(Monitor):
    """Compares the slots that an application's jobs name with those that it promises.

    When it looks is its own affair, so a slot is missed only where there is no job for it at rest,
    long after it began.
    """

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._schedules = {schedule.name: schedule for schedule in rules.schedules}
        self._jobs: dict[tuple[str, Instant], JobId] = {}
        self._now: Instant = 0

    def on_phase(self, event: Phase) -> None:
        self._now = event.at

    def on_created(self, event: Observed) -> None:
        view = event.after
        if view is None or view.schedule is None or view.slot is None:
            return
        other = self._jobs.setdefault((view.schedule, view.slot), event.job)
        schedule = self._schedules.get(view.schedule)
        slot = f"the slot {format_duration(view.slot)} of {view.schedule}"
        slot = slot if schedule is None else schedule.slot_name(view.slot)
        if other != event.job:
            self.breach("slot_doubled", f"{slot} already has {other}", job=event.job, others=[other])
        elif view.slot > event.clock + 2 * self.settings.max_skew:
            early = format_duration(view.slot - event.clock)
            self.breach("slot_early", f"{event.actor} made it {early} before {slot}", job=event.job)
        elif schedule is not None and schedule.following(view.slot - 1) != view.slot:
            self.breach("slot_unplanned", f"{view.schedule} has no slot at {format_duration(view.slot)}", job=event.job)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        until = self._now - 2 * (self.settings.cron_period + self.settings.max_skew)
        for name, schedule in self._schedules.items():
            made = [slot for whose, slot in self._jobs if whose == name]
            owed = schedule.slots(min(made, default=0), until)
            for slot in owed[-1:] if schedule.missed is Missed.LATEST else owed:
                if slot not in made:
                    late = format_duration(self._now - slot)
                    self.breach("slot_missed", f"{late} after {schedule.slot_name(slot)}, it has no job")
                    break


CRON_EXACTLY_ONCE = Invariant(
    id="cron_exactly_once",
    sentence="Each slot of a schedule gets exactly one job, once a scheduler has looked, and not before the slot "
    "begins.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("slot_missed", Guarantee.CRON, "A scheduler looked, but a slot that had begun has no job."),
        AnomalyKind("slot_doubled", Guarantee.CRON, "A slot of a schedule has two jobs."),
        AnomalyKind("slot_early", Guarantee.CRON, "A slot's job was created before the slot began."),
        AnomalyKind("slot_unplanned", Guarantee.CRON, "A schedule made a job for a time that is not one of its slots."),
    ),
    make=CronExactlyOnce,
    capabilities=("schedules",),
    stepwise=SlotsFilled,
    evidence=EvidenceNeeded(columns=("schedule", "slot"), schedules=True),
)
