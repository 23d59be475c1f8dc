"""Which event caused an anomaly, and where that was sent or is written: decided here, and shown alike by every door.

Must not know: terminals, pages, how a run was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from job_harness.core.faults import word_strike
from job_harness.core.history import ROW_OF, Effect, Event, Fault, Observed, Return
from job_harness.core.invariants.effects import REPEATED, UNKEYED
from job_harness.core.model import PENDING, PROCESSING, JobId, canonical
from job_harness.core.own_code import CodeLine
from job_harness.core.port import EngineInfo, WrittenSource
from job_harness.core.run.verdict import Run


def with_source(run: Run, info: EngineInfo, *, anomaly: str = "") -> Run:
    """Return a failing run together with the source of the anomaly that leads it, unless another is named."""
    return replace(run, source=_source(run, info, anomaly)) if run.anomalies else run


def _source(run: Run, info: EngineInfo, name: str) -> WrittenSource | None:
    """Find the verb or statement that did it.

    It is the one that changed the job last; where a process called the outside once too often, that
    call; where two workers run it, the one that took it from the first; where it is delivered too
    often, the one that let it wait again after its last attempt; where a claim was never taken
    back, the one that should have; and where none is known, the one at which a fault struck.
    """
    anomaly = run.led_by(name)
    if anomaly is None:
        return None
    happened = run.history.events[: anomaly.event + 1]
    if info.processes is not None and anomaly.name in OF_CALLS and isinstance(call := happened[-1], Effect):
        line = run.lines.get(anomaly.event)
        by = f"{call.actor} at {Path(line.file).name}:{line.line}" if line else call.actor
        return WrittenSource(f"{call.name} by {by}", lines_of(canonical(call.data)))
    for event in reversed(happened):
        if isinstance(event, Effect) and event.name == ROW_OF + anomaly.name:
            by = f"{event.actor} at {event.data['at']}" if event.data["at"] else event.actor
            return WrittenSource(f"{event.data['after']}, sent by {by}", lines_of(event.data["sql"]))
    if anomaly.name in OF_TWO_ROWS and (stood := _last_done(run, happened, anomaly.job, info)) is not None:
        return stood
    sweep = "claim" if info.capabilities.takes_back_in_claim else "expire"
    if anomaly.name in NOT_TAKEN_BACK and info.processes is None and (swept := info.written(sweep, "")):
        return swept
    if anomaly.name in OF_ERRORS and (failed := _raised(run, happened, anomaly.job, info)) is not None:
        return failed
    cause = CAUSES.get(anomaly.name)
    until = cause(happened, anomaly.job) if cause else None
    for index, event in reversed(list(enumerate(happened[:until]))):
        if isinstance(event, Observed | Return) and anomaly.job in (None, event.job):
            if (source := info.written(event.verb, _sent_at(run, index, event))) is not None:
                return source
            break
    return _struck(happened, info)


def _last_done(run: Run, happened: Sequence[Event], job: JobId | None, info: EngineInfo) -> WrittenSource | None:
    """Return what wrote a row of the user's last before its process was struck, or the queue's row parted from it.

    It may be the row of another job of the batch: what becomes of that one parts the rows of all.
    """
    changes = [(at, event) for at, event in enumerate(happened) if type(event) is Observed and event.before is not None]
    faults = [(at, event) for at, event in enumerate(happened) if type(event) is Fault]
    parted = [(at, event) for at, event in changes if event.job == job]
    for end, cause in (faults or parted)[-1:]:
        for at, event in reversed(changes):
            was, now = (None if view is None else view.status for view in (event.before, event.after))
            if at < end and event.actor == cause.actor and was is not now:
                source = info.written(event.verb, _sent_at(run, at, event))
                what = f"{cause.actor} {word_strike(cause)}" if type(cause) is Fault else "the batch went back"
                return source and source._replace(title=f"{source.title} ({event.job}), then {what}")
    return None


def _raised(run: Run, happened: Sequence[Event], job: JobId | None, info: EngineInfo) -> WrittenSource | None:
    """Return the verb that raised last on a job that goes on and on, at the line at which it did."""
    for event in reversed(happened):
        if isinstance(event, Return) and event.job == job:
            if event.number not in run.raised:
                return None
            source = info.written(event.verb, "")
            path, _, line = run.raised[event.number].rpartition(":")
            if source is None or not source.title.startswith(f"{path}:"):
                return source
            begin = int(source.title.removeprefix(f"{path}:").partition(":")[0])
            at = f"{path}:{line}: {event.verb} raises here"
            return WrittenSource(at, source.lines, int(line) - begin)
    return None


def _sent_at(run: Run, index: int, event: Observed | Return) -> str:
    """Return the text of the statement by which an event came about; empty where it is not known."""
    own = (event.actor, event.verb)
    return next((one.sql for at, one in reversed(run.statements) if at <= index and (one.actor, one.gate) == own), "")


def _struck(happened: Sequence[Event], info: EngineInfo) -> WrittenSource | None:
    """Return the statement at which the last fault struck: where nothing that was done is to blame, what was not is."""
    for event in reversed(happened):
        if isinstance(event, Fault) and isinstance(event.data, dict) and "at" in event.data:
            gate = str(event.data.get("statement", event.data["at"]))
            source = info.written(gate, "") or info.written(gate.removeprefix("commit "), "")
            return source and source._replace(title=f"{event.actor} {word_strike(event)} at {source.title}")
    return None


MOST_FRAMES: Final = 3


class CodeFrame(NamedTuple):
    """A line of a user's own code that an anomaly turns on, with what stands around it."""

    at: CodeLine
    what: str
    """What happened there."""
    first: int
    """The number of the first of the lines."""
    lines: tuple[str, ...]

    @property
    def title(self) -> str:
        """The line as an editor opens it, and what happened there."""
        return f"{self.at.relative}: {self.what}"

    @property
    def text(self) -> list[str]:
        """Its lines with their numbers; the one that matters is marked."""
        numbered = enumerate(self.lines, start=self.first)
        return [f"{'>' if at == self.at.line else ' '} {at:>4} | {line}".rstrip() for at, line in numbered]

    @property
    def data(self) -> dict[str, Any]:
        """The same as JSON."""
        file, line, _ = self.at
        written = self.lines[line - self.first] if line - self.first < len(self.lines) else ""
        column = 1 + len(written) - len(written.lstrip())
        about = {"what": self.what, "title": self.title, "text": self.text}
        return {"file": file, "line": line, "column": column, **about}


def frames_of(run: Run, lead: str = "") -> list[CodeFrame]:
    """Return the lines that an anomaly turns on, in the order of time, each once: at most three.

    They are where its last side effect was done, and where the same was done first; where there is
    none, where its jobs were changed last, and by whom before that; and where faults struck.
    """
    anomaly = run.led_by(lead)
    if anomaly is None:
        return []
    jobs = {anomaly.job, *anomaly.others} - {None}
    placed = [(at, run.history.events[at]) for at in sorted(run.lines) if at <= anomaly.event]
    done = [
        (at, event)
        for at, event in placed
        if isinstance(event, Effect | Observed | Return) and (event.job in jobs or not jobs or at == anomaly.event)
    ]
    effects = [(at, event) for at, event in done if isinstance(event, Effect) and event.declared is not None]
    struck = [(at, event) for at, event in placed if isinstance(event, Fault)][-(MOST_FRAMES - 1) :]
    told = {} if effects else _changes(run, done, most=MOST_FRAMES - len(struck))
    for at, event in effects[-1:]:
        same = [(first, each) for first, each in effects[:-1] if (each.name, each.job) == (event.name, event.job)]
        told = {first: f"`{each.name}` by {each.actor}" for first, each in same[:1]}
        told[at] = f"`{event.name}` {'again, ' if same else ''}by {event.actor}"
    told |= {at: f"{event.actor} {word_strike(event)} here" for at, event in struck[-(MOST_FRAMES - len(told)) :]}
    at_line: dict[CodeLine, list[int]] = {}
    for at in sorted(told):
        at_line.setdefault(run.lines[at]._replace(caller=None), []).append(at)
    frames: list[CodeFrame] = []
    room = MOST_FRAMES - len(at_line)
    for line, events in at_line.items():
        caller = run.lines[events[0]].caller
        if room and caller is not None and caller not in at_line:
            frames.append(CodeFrame(caller, f"leads to {Path(line.file).name}:{line.line}", *caller.around()))
            room -= 1
        frames.append(CodeFrame(line, "; ".join(dict.fromkeys(told[at] for at in events)), *line.around()))
    return frames


def _changes(run: Run, done: Sequence[tuple[int, Effect | Observed | Return]], *, most: int) -> dict[int, str]:
    """Say what was done last, and what each other actor had done last before that."""
    last: dict[str, tuple[int, str]] = {}
    for at, event in done:
        known = last.get(event.actor)
        if known is None or type(event) is not Return or run.lines[known[0]][:2] != run.lines[at][:2]:
            last[event.actor] = at, _change(event)
    return dict(sorted(last.values())[-most:])


def _change(event: Effect | Observed | Return) -> str:
    if isinstance(event, Return):
        return f"`{event.verb}` by {event.actor}"
    if isinstance(event, Effect):
        if event.name.startswith(ROW_OF):
            return f"{event.actor} breaks `{event.name.removeprefix(ROW_OF)}`"
        return f"{event.name} by {event.actor}" if event.name == "started" else f"{event.actor} stood here last"
    was, now = (None if view is None else view.status for view in (event.before, event.after))
    return f"{event.actor} changed it" if was is now else f"{event.actor}: {was or 'no job'} -> {now or 'gone'}"


def lines_of(text: str) -> tuple[str, ...]:
    """Return the lines of a statement, as a report shows them."""
    return tuple(filter(None, map(str.strip, text.splitlines())))


OF_TWO_ROWS: Final = frozenset({"tables_disagree", "orphan_row"})
OF_ERRORS: Final = frozenset({"livelock", "attempt_overrun", "outcome_lost"})
OF_CALLS: Final = frozenset({REPEATED.name, UNKEYED.name})
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
