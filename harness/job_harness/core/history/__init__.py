"""What was observed: events in order, queries over them, and their JSONL form."""

from job_harness.core.history.event import Call, Effect, Event, Fault, History, Observed, Phase, Return, SideEffect
from job_harness.core.history.outcome import Outcome, OutcomeKind

__all__ = [
    "Call",
    "Effect",
    "Event",
    "Fault",
    "History",
    "Observed",
    "Outcome",
    "OutcomeKind",
    "Phase",
    "Return",
    "SideEffect",
]
