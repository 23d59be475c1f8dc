"""Which event caused an anomaly, and where that was sent or is written: decided here, and shown alike by every door.

Must not know: terminals, pages, how a run was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from job_harness.core.history.event import ROW_OF, Effect, Event, Observed, Return
from job_harness.core.model.job import JobId
from job_harness.core.model.lifecycle import PENDING, PROCESSING
from job_harness.core.port import EngineInfo, WrittenSource
from job_harness.core.run.verdict import Run


def with_source(run: Run, info: EngineInfo, *, anomaly: str = "") -> Run:
    """Return a failing run together with the source of the anomaly that leads it, unless another is named."""
    return replace(run, source=_source(run, info, anomaly)) if run.anomalies else run


def _source(run: Run, info: EngineInfo, name: str) -> WrittenSource | None:
    """Find the verb or statement that did it.

    It is the one that changed the job last; where two workers run it, the one that took it from the first; where it is
    delivered too often, the one that let it wait again after its last attempt; and where a claim was never taken back,
    the one that should have.
    """
    anomaly = run.led_by(name)
    if anomaly is None:
        return None
    happened = run.history.events[: anomaly.event + 1]
    for event in reversed(happened):
        if isinstance(event, Effect) and event.name == ROW_OF + anomaly.name:
            by = f"{event.actor} at {event.data['at']}" if event.data["at"] else event.actor
            return WrittenSource(f"{event.data['after']}, sent by {by}", lines_of(event.data["sql"]))
    sweep = "claim" if info.capabilities.takes_back_in_claim else "expire"
    if anomaly.name in NOT_TAKEN_BACK and info.processes is None and (swept := info.written(sweep, "")):
        return swept
    cause = CAUSES.get(anomaly.name)
    until = cause(happened, anomaly.job) if cause else None
    for index, event in reversed(list(enumerate(happened[:until]))):
        if isinstance(event, Observed | Return) and anomaly.job in (None, event.job):
            sent = (
                one.sql
                for at, one in reversed(run.statements)
                if at <= index and (one.actor, one.gate) == (event.actor, event.verb)
            )
            return info.written(event.verb, next(sent, ""))
    return None


def lines_of(text: str) -> tuple[str, ...]:
    """Return the lines of a statement, as a report shows them."""
    return tuple(filter(None, map(str.strip, text.splitlines())))


NOT_TAKEN_BACK: Final = frozenset({"job_stuck", "overdue_claim_left"})


def taken_back(events: Sequence[Event], job: JobId | None) -> int | None:
    """Return where a job was taken from the worker that had started it before the last event; as a length."""
    for index in range(len(events) - 2, -1, -1):
        event = events[index]
        if isinstance(event, Effect) and event.name == "started" and event.job == job:
            return None
        if isinstance(event, Observed) and event.job == job and event.before is not None and event.after is not None:
            was, now = event.before.status, event.after.status
            if was is PROCESSING and now is not PROCESSING:
                return index + 1
    return None


def let_go_on(events: Sequence[Event], job: JobId | None) -> int | None:
    """Return where a job that had used up its attempts came to wait before the claim that is last; as a length."""
    for index in range(len(events) - 1, -1, -1):
        event = events[index]
        if isinstance(event, Observed) and event.job == job and event.before is not None:
            was, now = event.before, event.after
            if was.status is not PENDING:
                waits = now is not None and now.status is PENDING and was.attempts >= was.max_attempts
                return index + 1 if waits else None
    return None


CAUSES: Final = {"concurrent_execution": taken_back, "attempt_overrun": let_go_on}
"""By anomaly, how to find the change that led to it, where that is not the last one."""
