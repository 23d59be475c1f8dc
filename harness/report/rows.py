"""What happened, as few rows: the events that matter for one job, up to the moment at which the anomaly showed."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.faults import told
from harness.history.event import Effect, Fault, History, Observed, Return
from harness.history.outcome import OutcomeKind
from harness.model.duration import Instant
from harness.model.job import JobId
from harness.model.lifecycle import QueueState

MOST = 10


class Row(NamedTuple):
    """One event in words; `place` is its index in the history, `weight` how much it matters."""

    at: Instant
    actor: str
    text: str
    place: int
    weight: int


_VERBS = {
    "enqueue": "sends",
    "claim": "claims",
    "heartbeat": "extends",
    "complete": "completes",
    "fail": "fails",
    "release": "releases",
    "cancel": "cancels",
    "retry": "retries",
    "expire": "takes back",
    "rescue": "takes back",
    "reconcile": "repairs",
    "purge": "deletes",
}


def rows_of(history: History, *, job: JobId | None, until: int | None = None, most: int = MOST) -> list[Row]:
    """Answer at most `most` rows in the order of the history; with no job, of all jobs.

    The last event, faults and changes of the job outlive the rest when there are too many; later ones outlive earlier.
    """
    last = len(history) - 1 if until is None else until
    events = history.events[: last + 1]
    involved = {_actor(event) for event in events if job is None or getattr(event, "job", None) == job}
    rows = [row for index, event in enumerate(events) if (row := _row(event, index, job, involved)) is not None]
    if len(rows) <= most:
        return rows
    final = rows[-1]
    ranked = sorted(rows, key=lambda row: (row is not final, -row.weight, -row.place))
    return sorted(ranked[:most], key=lambda row: row.place)


def _actor(event: Any) -> str:
    actor: str = getattr(event, "actor", "")
    return actor


def _row(event: Any, index: int, job: JobId | None, involved: set[str]) -> Row | None:
    if isinstance(event, Fault):
        if event.actor != "*" and event.actor not in involved:
            return None
        return Row(event.at, event.actor, fault_text(event), index, 3)
    named = getattr(event, "job", None)
    if named is None or (job is not None and named != job):
        return None
    suffix = f" {named}" if job is None else ""
    if isinstance(event, Observed):
        return Row(event.at, event.actor, _change(event) + suffix, index, _weight(event))
    if isinstance(event, Effect) and event.name != "claimed":
        return Row(event.at, event.actor, _effect(event) + suffix, index, 3 if event.name == "started" else 1)
    if isinstance(event, Return) and event.outcome.kind is not OutcomeKind.DONE:
        return Row(event.at, event.actor, f"{event.verb} {event.outcome.kind}{suffix}", index, 2)
    return None


def _weight(event: Observed) -> int:
    """A heartbeat, or a step that leaves status and state as they are, says least."""
    before, after = event.before, event.after
    if event.verb in ("heartbeat", "step heartbeat"):
        return 0
    if after is None or event.verb in _VERBS:
        return 3
    if before is None or before.status is not after.status:
        return 1 if before is None else 3
    if before.queue_state is after.queue_state:
        return 0
    return 1 if after.queue_state in (QueueState.CREATED, QueueState.ACTIVE) else 3


def _change(event: Observed) -> str:
    verb = _VERBS.get(event.verb, event.verb)
    after, before = event.after, event.before
    if after is None:
        return f"{verb}: gone"
    if event.verb == "claim":
        return f"claims, attempt {after.attempts}"
    if event.verb not in _VERBS:
        return _rows_change(event)
    if before is None or event.verb in ("enqueue", "complete", "heartbeat", "cancel"):
        return verb
    error = f": {after.error}" if event.verb == "fail" and after.error else ""
    return f"{verb} -> {after.status}{error}"


def _rows_change(event: Observed) -> str:
    """Say what an application's step made of the two rows."""
    before, after = event.before, event.after
    told = []
    for name, field in (("tool_job", "status"), ("queue", "queue_state")):
        was, now = getattr(before, field, None), getattr(after, field, None)
        if was != now:
            told.append(f"{name}: {'gone' if now is None else now}")
    return ", ".join(told) or event.verb


def _effect(event: Effect) -> str:
    if event.name == "started":
        return f"starts, attempt {event.attempt}"
    if event.name == "ended":
        return f"ends: {event.data}"
    return event.name


def fault_text(event: Fault) -> str:
    """Say what was made to go wrong, or what followed from it."""
    data = event.data if isinstance(event.data, dict) else {}
    if event.name == "session ends":
        return f"THE SESSION of {data.get('whose')} ends"
    if event.name == "raised":
        return f"RAISES {data.get('error', '')}"
    return told(event)
