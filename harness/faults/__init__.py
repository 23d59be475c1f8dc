"""What can be made to go wrong. One file each; every fault offers its options at gates and has a budget."""

from harness.faults.abandoned_session import AbandonedSession
from harness.faults.clock_drift import ClockDrift
from harness.faults.clock_offset import ClockOffset
from harness.faults.crash import Crash
from harness.faults.duplicate import Duplicate
from harness.faults.lateness import Lateness
from harness.faults.lost_message import LostMessage
from harness.faults.pause import Pause
from harness.faults.plan import Circumstances, FaultPlan, Note, brought_faults, interferences
from harness.faults.shutdown import Shutdown

__all__ = [
    "AbandonedSession",
    "Circumstances",
    "ClockDrift",
    "ClockOffset",
    "Crash",
    "Duplicate",
    "FaultPlan",
    "Lateness",
    "LostMessage",
    "Note",
    "Pause",
    "Shutdown",
    "brought_faults",
    "interferences",
]
