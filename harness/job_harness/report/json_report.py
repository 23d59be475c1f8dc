"""The report as JSON: what the screens say, and the whole run as a picture needs it.

`docs/contracts/run_json.md` is the contract, `report.schema.json` beside this module its schema: keys are added within
a version, and none is removed. Hides how lanes, leases, executions and gates are read off the events of a history.
Times are microseconds from the start of the run, and whatever JSON cannot hold is written as text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from importlib import resources
from typing import Any, TypeAlias

from job_harness.core.faults import cause_of, events_of
from job_harness.core.history import Call, Effect, Event, Excuse, Fault, History, Observed
from job_harness.core.history.jsonl import event_data
from job_harness.core.invariants import Anomaly, kind_of
from job_harness.core.model import JobId, JobView, Status
from job_harness.core.run.verdict import Run, Trial
from job_harness.core.scenario.document import ScenarioError
from job_harness.core.scenario.replay_token import ReplayToken, encode, target_of
from job_harness.core.scenario.scenario import SCHEDULERS
from job_harness.core.sim import Deviation
from job_harness.errors import UsageError
from job_harness.report.blame import frames_of
from job_harness.report.case import Case, exit_code_of, verdict_of
from job_harness.report.screen import Row, causes_of, changed_settings, late_calls, meeting_of, moment, rows_of, subject
from job_harness.report.summary import replay_of

FORMAT = "job-harness-report"
VERSION = 1
RUN_FORMAT = "job-harness-run"
RUN_VERSION = 1
MOST_EVENTS = 2_000
"""At most this many of a run are written: a livelock has tens of thousands, which look alike."""
EVERYBODY = "*"
"""Whom a fault names that hits all, such as the store's clock."""
_PLACE = re.compile(r"(?P<file>[^:]+\.\w+):(?P<function>[^:]+):(?P<nth>\d+)")
"""A gate that is named by the nearest line of the user's own code."""


def json_report(
    cases: Sequence[Case],
    *,
    seed: int | None = None,
    token: str | None = None,
    changes: Iterable[str] = (),
    planned: int | None = None,
    errors: Iterable[ScenarioError] = (),
    exit_code: int | None = None,
) -> str:
    """Write all cases. Every key is always there; times are microseconds from the start of the run."""
    report = report_data(
        cases, seed=seed, token=token, changes=changes, planned=planned, errors=errors, exit_code=exit_code
    )
    return json.dumps(report, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def report_data(
    cases: Sequence[Case],
    *,
    seed: int | None = None,
    token: str | None = None,
    changes: Iterable[str] = (),
    planned: int | None = None,
    errors: Iterable[ScenarioError] = (),
    exit_code: int | None = None,
) -> dict[str, Any]:
    """Return all cases as data: what `json_report` writes.

    `errors` are the files that are no scenario, `exit_code` is the command's own where that is not the cases' alone.
    """
    changes, errors = list(changes), list(errors)
    planned = len(cases) if planned is None else planned
    verdict = verdict_of(cases, whole=len(cases) >= planned and not errors)
    return {
        "format": FORMAT,
        "version": VERSION,
        "verdict": str(verdict),
        "exit_code": int(exit_code_of(cases) or verdict.exit_code) if exit_code is None else exit_code,
        "planned": planned,
        "seed": seed,
        "changes": changes,
        "cases": [_case(case, seed, token, changes) for case in cases],
        "errors": [{"scenario": error.path, "message": error.message} for error in errors],
    }


def _case(case: Case, seed: int | None, token: str | None, changes: list[str]) -> dict[str, Any]:
    control = case.control
    return {
        "scenario": case.scenario.path,
        "line": case.line,
        "title": case.scenario.title,
        "engine": case.engine,
        "control": None if control is None else {"name": control.name, "finds": control.finds},
        "verdict": str(case.verdict),
        "exit_code": int(case.exit_code),
        "message": case.headline,
        "hint": "" if case.error is None else case.error.hint,
        "replay": replay_of(case, seed=seed, token=token, changes=changes),
        "run": None if case.run is None else run_data(case.run),
    }


def run_data(run: Run, *, lead: str = "") -> dict[str, Any]:
    """Return what the first screen says about a run, and what it leaves out; `lead` is the anomaly that it is about."""
    about = run.led_by(lead)
    until, others = (None, ()) if about is None else (about.event, about.others)
    return {
        "format": RUN_FORMAT,
        "version": RUN_VERSION,
        "engine": run.engine,
        "verdict": str(run.verdict),
        "seed": run.seed,
        "steps": run.steps,
        "ended_at": run.now,
        "anomalies": [_anomaly(anomaly) for anomaly in run.anomalies],
        "failures": list(run.failures),
        "uncovered": list(run.uncovered),
        "token": token_of_run(run),
        "tape": [{"at": item.label, "nth": item.nth, "do": item.option} for item in run.tape],
        "stopped_by": [_trial(trial) for trial in run.trials if trial.stops],
        "not_stopped_by": [_trial(trial) for trial in run.trials if trial.tried and not trial.stops],
        "not_tried": [trial.name for trial in run.trials if not trial.tried],
        "settings": {name: value for name, (value, _) in changed_settings(run.scenario.settings).items()},
        "rows": [_row(row) for row in rows_of(run.history, job=subject(run, lead), others=others, until=until)],
        "told": [*(line.text for line in causes_of(run, lead)), *_meeting(run, lead)],
        "source": [] if run.source is None else [run.source.title, *run.source.lines],
        "frames": [frame.data for frame in frames_of(run, lead)],
        "nearest_pass": _nearest_pass(run),
        **_picture(run, until),
    }


MEETING_STEPS = 40
"""Steps at most of jobs that met."""


def _meeting(run: Run, lead: str) -> list[str]:
    steps = meeting_of(run, lead)
    if not steps:
        return []
    first = "; ".join(f"{job} {place}" for job, place in steps[:MEETING_STEPS])
    more = f"; and {len(steps) - MEETING_STEPS} more" if len(steps) > MEETING_STEPS else ""
    told = [f"Steps, as they came: {first}{more}"]
    return [*told, f"They changed in memory: {'; '.join(run.remembered)}"] if run.remembered else told


def _picture(run: Run, until: int | None) -> dict[str, Any]:
    """Return what a picture of a run needs, of its last events up to the anomaly."""
    stop = len(run.history) if until is None else min(len(run.history), until + 1 + MOST_EVENTS // 10)
    start = max(0, stop - MOST_EVENTS)
    window = list(enumerate(run.history.events[start:stop], start))
    lanes = _lanes(run, window)
    names = [lane["name"] for lane in lanes]
    return {
        "lanes": lanes,
        "gates": _gates(run, window, names),
        "deviations": [_deviation(item, names) for item in run.tape],
        "story": _story(run.history, start=start, stop=stop),
        "jobs": _jobs(window),
        "leases": _leases(window),
        "executions": _executions(window),
        **_sent(run, start, stop),
        "script": _script(run),
        "raised": {str(number): place for number, place in run.raised.items()},
        "processors": {tool: plan.run for tool, plan in run.scenario.processors.items()},
        "effects": _effects(window),
        "events": [plain(event_data(event)) for _, event in window],
        "first_event": start,
        "left_out": len(run.history) - len(window),
    }


def _story(history: History, *, start: int, stop: int) -> list[dict[str, Any]]:
    """List every event that is worth a row, in the words of the first screen."""
    told = []
    for row in rows_of(history, job=None, until=stop - 1, most=stop):
        if row.place >= start:
            job = getattr(history.events[row.place], "job", None)
            text = row.text if job is None else row.text.removesuffix(f" {job}")
            told.append({"event": row.place, "at": row.at, "actor": row.actor, "job": job, "text": text})
    return told


def _nearest_pass(run: Run) -> dict[str, Any] | None:
    """Return what happened in the replay with a change that fixes the anomaly: the first one that played the tape."""
    for trial in run.trials:
        if trial.stops and trial.history is not None:
            story = _story(trial.history, start=0, stop=min(len(trial.history), MOST_EVENTS))
            return {"change": trial.name, "story": story}
    return None


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of what the commands write as reports."""
    text = resources.files("job_harness.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: tuples as lists, other objects and numbers that JSON lacks as text."""
    if value is None or isinstance(value, bool | int | str):
        return value if not isinstance(value, StrEnum) else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return repr(value)


def token_of_run(run: Run) -> str | None:
    """Return the run as a replay token; None where no scenario file could hold what was run."""
    try:
        return encode(ReplayToken(target_of(run.scenario), run.seed, run.tape))
    except UsageError:
        return None


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.name,
        "kind": trial.kind,
        "gone": trial.gone,
        "shows": list(trial.shows),
        "stays": list(trial.stays),
        "unused": trial.unused,
        "runs": trial.runs,
        "seen": trial.seen,
        "seen_without": trial.seen_without,
    }


def _anomaly(anomaly: Anomaly) -> dict[str, Any]:
    kind = kind_of(anomaly.name)
    return {
        "name": anomaly.name,
        "invariant": anomaly.invariant,
        "sentence": kind.sentence,
        "guarantee": str(kind.guarantee),
        "job": anomaly.job,
        "at": anomaly.at,
        "event": anomaly.event,
        "message": anomaly.message,
    }


def _row(row: Row) -> dict[str, Any]:
    return {"at": row.at, "time": moment(row.at), "actor": row.actor, "text": row.text}


# the run as a picture needs it ----------------------------------------------------------------------------------------


Window: TypeAlias = Sequence[tuple[int, Event]]
"""Events, each with its index in the history."""


def _lanes(run: Run, window: Window) -> list[dict[str, Any]]:
    """List who acted, in the order of first appearance; workers also if they did nothing."""
    kinds = {"queue": "upkeep", "maintenance": "maintenance", "operator": "operator"}
    kinds |= dict.fromkeys(SCHEDULERS, "scheduler") | dict.fromkeys(run.scenario.workers, "worker")
    found: dict[str, list[int]] = {name: [] for name in run.scenario.workers}
    called = late_calls(run)
    for index, event in window:
        actor = getattr(event, "actor", EVERYBODY)
        if actor != EVERYBODY:
            found.setdefault(actor, []).append(index)
    return [
        {
            "name": name,
            "title": called.get(name, name),
            "kind": kinds.get(name, "client" if name.startswith("client-") else "process"),
            "first": events[0] if events else None,
            "last": events[-1] if events else None,
        }
        for name, events in found.items()
    ]


def _gates(run: Run, window: Window, names: Sequence[str]) -> list[dict[str, Any]]:
    """List the gates at which actors are known to have stood: where they called, were struck, or deviated."""
    gates: dict[tuple[str, str], dict[str, Any]] = {}

    def gate(actor: str, name: str) -> dict[str, Any]:
        new: dict[str, Any] = {"actor": actor, "name": name, "place": _place(name), "events": [], "deviations": []}
        return gates.setdefault((actor, name), new)

    for index, event in window:
        if isinstance(event, Call):
            gate(event.actor, event.verb if event.job is None else f"{event.verb} {event.job}")["events"].append(index)
        elif (
            isinstance(event, Fault)
            and event.actor != EVERYBODY
            and isinstance(event.data, dict)
            and event.data.get("at")
        ):
            gate(event.actor, str(event.data["at"]))["events"].append(index)
    for index, item in enumerate(run.tape):
        actor, name = _stood(item, names)
        if actor is not None:
            gate(actor, name)["deviations"].append(index)
    return list(gates.values())


def _place(name: str) -> dict[str, Any] | None:
    found = _PLACE.fullmatch(name)
    return None if found is None else {**found.groupdict(), "nth": int(found["nth"])}


def _stood(item: Deviation, names: Sequence[str]) -> tuple[str | None, str]:
    """Say who stood where; None where a choice was no actor's, such as a jitter or the time."""
    named = [name for name in names if item.label.startswith(f"{name} ")]
    actor = max(named, key=len, default=None)
    return actor, item.label if actor is None else item.label[len(actor) + 1 :]


def _deviation(item: Deviation, names: Sequence[str]) -> dict[str, Any]:
    actor, gate = _stood(item, names)
    cause = cause_of(item)
    return {
        "label": item.label,
        "nth": item.nth,
        "option": item.option,
        "actor": actor,
        "gate": gate,
        "words": cause.words,
        "is_fault": cause.is_fault,
    }


def _jobs(window: Window) -> list[dict[str, Any]]:
    tools: dict[JobId, str] = {}
    last: dict[JobId, JobView | None] = {}
    paths: dict[JobId, list[str]] = {}
    for _, event in window:
        if isinstance(event, Observed):
            last[event.job] = event.after
            path = paths.setdefault(event.job, [])
            if event.after is not None:
                tools[event.job] = event.after.tool
                if not path or path[-1] != str(event.after.status):
                    path.append(str(event.after.status))
    return [
        {"id": job, "tool": tools.get(job), "path": paths[job], "last": None if view is None else plain(view._asdict())}
        for job, view in last.items()
    ]


def _leases(window: Window) -> list[dict[str, Any]]:
    """List every claim that stood in a row: since when, until when, how it was extended, and what ended it."""
    leases: list[dict[str, Any]] = []
    standing: dict[JobId, dict[str, Any]] = {}
    for _, event in window:
        if not isinstance(event, Observed):
            continue
        after, held = event.after, standing.get(event.job)
        running = after is not None and after.status is Status.PROCESSING
        if held is not None and (after is None or not running or after.token != held["token"]):
            held |= {"to": event.at, "ended_by": event.verb}
            del standing[event.job]
            held = None
        if not running or after is None:
            continue
        if held is None:
            held = standing[event.job] = _lease(event, after)
            leases.append(held)
        elif after.lease_until != held["until"]:
            held["until"] = after.lease_until
            held["extended"].append({"at": event.at, "until": after.lease_until})
    return leases


def _lease(event: Observed, row: JobView) -> dict[str, Any]:
    return {
        "job": event.job,
        "token": row.token,
        "attempt": row.attempts,
        "worker": row.worker,
        "from": event.at,
        "until": row.lease_until,
        "extended": [],
        "to": None,
        "ended_by": None,
    }


def _executions(window: Window) -> list[dict[str, Any]]:
    """List every run of a processor; one whose worker crashed ends there, and one that went on forever has no end."""
    executions: list[dict[str, Any]] = []
    for _, event in window:
        if isinstance(event, Effect) and event.name == "started":
            about = {"job": event.job, "attempt": event.attempt, "token": event.token, "actor": event.actor}
            executions.append({**about, "from": event.at, "to": None, "end": None})
        elif isinstance(event, Effect) and event.name == "ended":
            mine = (event.job, event.token, event.actor)
            open_ = [item for item in executions if (item["job"], item["token"], item["actor"]) == mine]
            for item in open_[-1:]:
                item |= {"to": event.at, "end": str(event.data)}
        elif isinstance(event, Fault) and event.name in events_of(Excuse.DEATH):
            for item in executions:
                if item["actor"] == event.actor and item["to"] is None:
                    item |= {"to": event.at, "end": event.name}
    return executions


def _sent(run: Run, start: int, stop: int) -> dict[str, Any]:
    """Return the SQL that was sent around these events; each text stands once."""
    texts: dict[str, int] = {}
    statements = [
        {"event": event, "actor": one.actor, "name": one.gate, "sql": texts.setdefault(one.sql, len(texts))}
        for event, one in run.statements
        if start <= event <= stop
    ]
    return {"statements": statements, "sql": list(texts)}


def _script(run: Run) -> list[dict[str, Any]]:
    path = run.scenario.path
    return [
        {"event": event, "place": f"{path}:{step.line}" if path and step.line else "", "text": step.text}
        for event, step in run.script
    ]


def _effects(window: Window) -> list[dict[str, Any]]:
    return [
        {
            "event": index,
            "at": event.at,
            "actor": event.actor,
            "job": event.job,
            "attempt": event.attempt,
            "token": event.token,
            **plain(declared._asdict()),
        }
        for index, event in window
        if isinstance(event, Effect) and (declared := event.declared) is not None
    ]
