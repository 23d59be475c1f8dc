"""A history that this program wrote as evidence: what a run left behind is judged again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from harness.audit.evidence import Evidence
from harness.history.event import Event
from harness.history.jsonl import FORMAT, load_history
from harness.invariants import ANOMALIES
from harness.model.job import JobId

_BY_SETTINGS: Final = frozenset(
    {"not_before", "lease_outlives_execution", "concurrency_limit", "cron_exactly_once", "retention_spares_live"}
    | {"shutdown_leaves_nothing_claimed", "expiry_is_total", "store_clock_decides", "no_livelock", "priority_order"}
    | {"work_conserving", "no_lost_update", "tables_agree"}
)
"""What can be judged only under the settings of the run, which a history does not hold."""


def is_history(first_line: bytes) -> bool:
    """Say whether a file with this first line is a history."""
    return f'"{FORMAT}"'.encode() in first_line


def recorded_evidence(path: Path) -> Evidence:
    """Return what a history shows. Raises UsageError with the line for what is none."""
    history = load_history(path.read_text(encoding="utf-8").splitlines())

    def read(jobs: Collection[JobId] | None) -> Iterator[Event]:
        return (event for event in history if jobs is None or getattr(event, "job", None) in jobs)

    last = history.events[-1].at if history.events else 0
    why = "it needs the settings of the run, which a history does not hold: run the scenario again"
    shows = frozenset(name for name, (invariant, _) in ANOMALIES.items() if invariant.id not in _BY_SETTINGS)
    return Evidence(f"the history {path.name}", shows, dict.fromkeys(sorted(_BY_SETTINGS), why), read, lambda: last)
