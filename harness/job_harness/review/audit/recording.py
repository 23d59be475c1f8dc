"""What to record, so that an anomaly shows: which columns of rows, which changes, which spans."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

ROWS_SHOW: Final[Mapping[str, frozenset[str]]] = {
    "attempt_overrun": frozenset({"attempts", "max_attempts"}),
    "claimed_early": frozenset({"start_after", "started_at"}),
    "completed_before_started": frozenset({"started_at", "completed_at"}),
    "job_stuck": frozenset({"lease_until"}),
    "job_never_run": frozenset({"created_at", "started_at"}),
    "unique_key_shared": frozenset({"unique_key"}),
    "tables_disagree": frozenset({"partner"}),
    "orphan_row": frozenset({"partner"}),
}
"""What rows show as they stand, and what has to be described for that."""
SHOWN_BY_LOG: Final[Mapping[str, frozenset[str]]] = {
    **ROWS_SHOW,
    "job_stuck": frozenset(),
    "illegal_transition": frozenset(),
    "terminal_job_revived": frozenset(),
    "terminal_job_rewritten": frozenset({"output"}),
    "attempt_not_counted": frozenset({"attempts"}),
    "attempts_changed": frozenset({"attempts"}),
    "double_claim": frozenset({"lease_until"}),
    "stale_complete": frozenset(),
    "stale_fail": frozenset({"lease_until"}),
    "stale_heartbeat": frozenset({"lease_until"}),
    "stale_release": frozenset({"lease_until", "attempts"}),
    "live_job_deleted": frozenset(),
}
SHOWN_BY_SPANS: Final = frozenset({"concurrent_execution", "terminal_job_revived"})
"""What spans of runs show."""
_FENCING: Final = "stale_"
_WRITERS: Final = "a name of its own for each process (application_name)"
_SPANS: Final = "a span for each run, with the job's id and the worker's (service.instance.id)"


def ways(anomaly: str) -> list[str]:
    """Say by which records an anomaly shows, the cheapest first; empty where none shows it by itself."""
    told = [f"rows with {_joined(ROWS_SHOW[anomaly])}"] if anomaly in ROWS_SHOW else []
    if anomaly in SHOWN_BY_LOG:
        writers = f", and {_WRITERS}" if anomaly.startswith(_FENCING) else ""
        told.append(f"a log of changes (audit --install) with {_joined(SHOWN_BY_LOG[anomaly])}{writers}")
    return [*told, _SPANS] if anomaly in SHOWN_BY_SPANS else told


def what_decides(anomaly: str, *, beside_rows: bool = False) -> str:
    """Say what to record next time, so that a search has more to agree with; `beside_rows`, which show it already."""
    log = f"a log of changes (audit --install) with started_at, lease_until, attempts, and {_WRITERS}"
    others = [_SPANS] if anomaly in SHOWN_BY_LOG else [log, _SPANS]
    known = ways(anomaly)[1 if beside_rows and anomaly in ROWS_SHOW else 0 :]
    return "; or ".join(dict.fromkeys([*known, *others]))


def advice(columns: Collection[str], *, table: str, changes: bool) -> Iterator[str]:
    """Say what a table with these columns shows, and what the least is that shows more: columns, a log, spans."""
    has = frozenset(columns)
    shown = {name for name, needed in ROWS_SHOW.items() if needed <= has and not changes}
    yield f"Its rows show: {', '.join(sorted(shown)) or 'nothing that is judged by rows'}."
    lacking: dict[frozenset[str], list[str]] = {}
    for name, needed in ROWS_SHOW.items():
        if name not in shown and not changes and needed - has != {"partner"}:
            lacking.setdefault(needed - has, []).append(name)
    for missing, names in sorted(lacking.items(), key=lambda each: (len(each[0]), sorted(each[0]))):
        yield f"Add {' and '.join(sorted(missing))} to see {', '.join(sorted(names))}."
    logged = sorted(name for name, needed in SHOWN_BY_LOG.items() if needed <= has and name not in shown)
    yield f"A log of its changes (job-harness audit --install {table}) also shows: {', '.join(logged)}."
    yield f"To see {_FENCING}* there, give each process a name of its own (application_name)."
    yield f"For {', '.join(sorted(SHOWN_BY_SPANS - shown - {*logged}))}, record {_SPANS}."


def _joined(columns: Collection[str]) -> str:
    return ", ".join(["id", "status", *sorted(columns)])
