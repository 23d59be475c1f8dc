"""Which faults a run may meet, and how often each: those of this package, and what other packages bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Final, TypeAlias

from harness.errors import UsageError
from harness.extensions import FAULTS, brought
from harness.faults.abandoned_session import AbandonedSession
from harness.faults.budget import Note
from harness.faults.clock_drift import ClockDrift
from harness.faults.clock_offset import ClockOffset
from harness.faults.crash import Crash
from harness.faults.duplicate import Duplicate
from harness.faults.lateness import Lateness
from harness.faults.lost_message import LostMessage
from harness.faults.pause import Pause
from harness.faults.shutdown import Shutdown
from harness.model.duration import Duration
from harness.model.moments import moments
from harness.model.settings import Settings
from harness.sim.clock import Clocks
from harness.sim.kernel import Interference

__all__ = ["Circumstances", "FaultPlan", "Note", "brought_faults", "interferences"]


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """How often each fault may happen in one run; 0 switches it off."""

    crash: int = 0
    pause: int = 0
    lost_message: int = 0
    duplicate: int = 0
    lateness: int = 0
    clock_offset: int = 0
    shutdown: int = 0
    abandoned_session: int = 0
    clock_drift: int = 0
    others: tuple[tuple[str, int], ...] = ()
    """Faults of other packages, by the names of their entry points."""

    @classmethod
    def each(cls, count: int) -> FaultPlan:
        """Allow every fault there is so often."""
        shipped = {item.name: count for item in fields(cls) if item.name != "others"}
        return cls(**shipped, others=tuple((name, count) for name in brought_faults()))

    def counts(self) -> dict[str, int]:
        """Answer how often each fault may happen, by name."""
        shipped = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "others"}
        return shipped | dict(self.others)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a fault may know of the run that it strikes."""

    settings: Settings
    clocks: Clocks
    note: Note
    """Writes into the history what was done."""
    stop: Callable[[str], bool]
    """Asks a process to end in an orderly way; False: there is none of this name, or it cannot."""
    restart_after: Duration | None
    """When a crashed process comes back; None: not by itself."""
    moments: Mapping[str, Duration]
    """Durations that matter under these settings, by name: a second, a lease, just short of a timeout, ..."""
    schedulers: frozenset[str] = frozenset()
    """Who looks at schedules: slots are the store's, whatever a scheduler's own clock says."""


Maker: TypeAlias = Callable[[int, Circumstances], Interference]
"""Builds a fault that may happen so often. The options of another package's fault begin with its name."""

SHIPPED: Final[Mapping[str, Maker]] = {
    "pause": lambda count, met: Pause(count, met.note, moments=met.moments),
    "crash": lambda count, met: Crash(count, met.note, restart_after=met.restart_after),
    "lost_message": lambda count, met: LostMessage(count, met.note),
    "duplicate": lambda count, met: Duplicate(count, met.note),
    "lateness": lambda count, met: Lateness(count, met.note, moments=met.moments),
    "clock_offset": lambda count, met: ClockOffset(
        count,
        met.note,
        clocks=met.clocks,
        skew=met.settings.max_skew,
        schedulers=dict.fromkeys(met.schedulers, met.settings.cron_period),
    ),
    "clock_drift": lambda count, met: ClockDrift(
        count, met.note, clocks=met.clocks, skew=met.settings.max_skew, within=met.settings.job_timeout
    ),
    "shutdown": lambda count, met: Shutdown(count, met.note, stop=met.stop),
    "abandoned_session": lambda count, met: AbandonedSession(
        count, met.note, moments=met.moments, restart_after=met.restart_after
    ),
}
"""In the order in which their options are offered at a gate."""


@cache
def brought_faults() -> Mapping[str, Maker]:
    """Answer the faults of other packages.

    Raises UsageError for one that cannot be called, or has the name of another.
    """
    makers = brought(FAULTS)
    for name, maker in makers.items():
        if not callable(maker):
            raise UsageError(
                f"the entry point {FAULTS}:{name} is no fault but {type(maker).__name__}",
                hint="It must name a callable: how often the fault may happen, and the circumstances, to the fault.",
            )
        if name in SHIPPED:
            raise UsageError(f"the entry point {FAULTS}:{name} has a fault's name", hint="Give it one of its own.")
    return makers


def interferences(
    plan: FaultPlan,
    *,
    settings: Settings,
    clocks: Clocks,
    note: Note,
    stop: Callable[[str], bool],
    restart_after: Duration | None,
    schedulers: frozenset[str] = frozenset(),
) -> list[Interference]:
    """Build the faults of a plan."""
    met = Circumstances(settings, clocks, note, stop, restart_after, moments(settings), schedulers)
    counts = plan.counts()
    makers = {**SHIPPED, **brought_faults()} if plan.others else SHIPPED
    return [maker(counts[name], met) for name, maker in makers.items() if counts.get(name, 0) > 0]
