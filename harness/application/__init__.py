"""Runs a user's own application: its API, its workers and its maintenance, in as many steps as they take.

Everything that a user's file imports to be searched is here; `docs/applications.md` shows it at work.
"""

from harness.application.engine import ApplicationEngine, as_application
from harness.application.stage import LeaseLost, Stage, TimedOut, WorkFailed, minutes, poll, sleep, step
from harness.application.tables import QueueRow, Tables, TableStore, ToolJob, TwoTables
from harness.model.settings import Settings

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
