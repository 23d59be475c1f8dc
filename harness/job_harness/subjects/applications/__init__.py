"""Runs a user's own application: its API, its workers and its maintenance, in as many steps as they take.

Everything that a user's file imports to be searched is here; `docs/applications.md` shows it at
work.
"""

from job_harness.core.model import Settings
from job_harness.engines.two_tables import QueueRow, Tables, TableStore, ToolJob, TwoTables
from job_harness.subjects.applications.engine import ApplicationEngine, as_application
from job_harness.subjects.applications.stage import LeaseLost, Stage, TimedOut, WorkFailed, minutes, poll, sleep, step

__all__ = [
    "ApplicationEngine",
    "LeaseLost",
    "QueueRow",
    "Settings",
    "Stage",
    "TableStore",
    "Tables",
    "TimedOut",
    "ToolJob",
    "TwoTables",
    "WorkFailed",
    "as_application",
    "minutes",
    "poll",
    "sleep",
    "step",
]
