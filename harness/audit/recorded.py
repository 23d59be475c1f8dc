"""A history that this program wrote as evidence: what a run left behind is judged again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from harness.audit.evidence import Evidence
from harness.history.event import Call, Event, Return
from harness.history.jsonl import FORMAT, load_history
from harness.invariants import ANOMALIES
from harness.model.job import JobId

_BY_SETTINGS: Final = frozenset(
    {"not_before", "lease_outlives_execution", "concurrency_limit", "cron_exactly_once", "retention_spares_live"}
    | {"shutdown_leaves_nothing_claimed", "expiry_is_total", "store_clock_decides", "no_livelock", "priority_order"}
    | {"work_conserving", "no_lost_update", "tables_agree"}
)
"""What can be judged only under the settings of the run, which a history does not hold."""
_BY_REQUESTS: Final = frozenset({"options_honoured", "enqueue_iff_commit", "dead_letters_complete"})
"""What can be judged only by what was asked for, of which a history keeps the words alone."""


def is_history(first_line: bytes) -> bool:
    """Say whether a file with this first line is a history."""
    return f'"{FORMAT}"'.encode() in first_line


def recorded_evidence(path: Path) -> Evidence:
    """Return what a history shows. Raises UsageError with the line for what is none."""
    history = load_history(path.read_text(encoding="utf-8").splitlines())

    events = [told for event in history if (told := _as_evidence(event)) is not None]

    def read(jobs: Collection[JobId] | None) -> Iterator[Event]:
        return (event for event in events if jobs is None or getattr(event, "job", None) in jobs)

    last = history.events[-1].at if history.events else 0
    silent = {
        **dict.fromkeys(_BY_SETTINGS, "it needs the settings of the run, which a history does not hold"),
        **dict.fromkeys(_BY_REQUESTS, "it needs what was asked for, of which a history keeps the words alone"),
    }
    shows = frozenset(name for name, (invariant, _) in ANOMALIES.items() if invariant.id not in silent)
    return Evidence(f"the history {path.name}", shows, silent, read, lambda: last)


def _as_evidence(event: Event) -> Event | None:
    """Return an event without what stands in a history as words: requests, and what a claim gave."""
    if isinstance(event, Call | Return) and event.verb == "enqueue":
        return None
    if type(event) is Return and event.verb == "claim":
        return event._replace(outcome=event.outcome._replace(value=None))
    return event
