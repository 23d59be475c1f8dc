"""Which faults a run may meet, and how often each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

__all__ = ["FaultPlan", "Note", "interferences"]


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


def interferences(
    plan: FaultPlan,
    *,
    settings: Settings,
    clocks: Clocks,
    note: Note,
    stop: Callable[[str], bool],
    restart_after: Duration | None,
) -> list[Interference]:
    """Build the faults of a plan."""
    named = moments(settings)
    builders: list[tuple[int, Callable[[int], Interference]]] = [
        (plan.pause, lambda count: Pause(count, note, moments=named)),
        (plan.crash, lambda count: Crash(count, note, restart_after=restart_after)),
        (plan.lost_message, lambda count: LostMessage(count, note)),
        (plan.duplicate, lambda count: Duplicate(count, note)),
        (plan.lateness, lambda count: Lateness(count, note, moments=named)),
        (plan.clock_offset, lambda count: ClockOffset(count, note, clocks=clocks, skew=settings.max_skew)),
        (
            plan.clock_drift,
            lambda count: ClockDrift(count, note, clocks=clocks, skew=settings.max_skew, within=settings.job_timeout),
        ),
        (plan.shutdown, lambda count: Shutdown(count, note, stop=stop)),
        (
            plan.abandoned_session,
            lambda count: AbandonedSession(count, note, moments=named, restart_after=restart_after),
        ),
    ]
    return [build(count) for count, build in builders if count > 0]
